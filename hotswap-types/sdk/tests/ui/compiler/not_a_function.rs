fn main() {
    fn is_function<F: hotswap_sdk::host::Function>() {}
    is_function::<fn(&str) -> String>();
}
