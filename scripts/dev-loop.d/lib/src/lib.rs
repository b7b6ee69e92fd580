#[unsafe(no_mangle)]
pub fn step() {
    println!("says: edit 0");
}
