#[hot_lib_reloader::hot_module(dylib = "lib", lib_dir = "target/debug")]
mod hot_lib {
    hot_functions_from_file!("lib/src/lib.rs");
}

fn main() {
    loop {
        hot_lib::step();
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
