//! Makes the message types out of `proto/`. protox reads the files itself, so no protoc is needed.

use std::error::Error;

const PROTO: &str = "../../proto";
/// Imports all others.
const ENVELOPE: &str = "../../proto/sealift/control/v1/envelope.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={PROTO}/sealift/control/v1");
    let files = protox::compile([ENVELOPE], [PROTO])?;
    prost_build::Config::new()
        // Byte fields become Vec<u8>, lists Vec<T>: both are alloc's. No maps, hence no std.
        .compile_fds(files)?;
    Ok(())
}
