//! Makes code of the `.proto` file.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let service = protox::compile(["postage.proto"], ["."])?;
    tonic_prost_build::compile_fds(service)?;
    Ok(())
}
