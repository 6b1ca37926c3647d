//! Makes the message types out of `proto/`. protox reads the files itself, so no protoc is needed.

use std::error::Error;

const PROTO: &str = "../../proto";
/// Imports all others.
const ENVELOPE: &str = "../../proto/sealift/control/v1/envelope.proto";
/// A file's header, not a message of the channel.
const SAVED: &str = "../../proto/sealift/saved/v1/saved.proto";
/// Messages with tokens, guest memory's digests, or bytes of the guest's or QEMU's.
const SECRET: [&str; 7] = [
    "LaneToken",
    "ReturnPath",
    "Shares",
    "Confirmation",
    "Drained",
    "Prepared",
    "Verification",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={PROTO}/sealift/control/v1");
    println!("cargo::rerun-if-changed={PROTO}/sealift/saved/v1");
    let files = protox::compile([SAVED], [PROTO])?;
    prost_build::Config::new()
        // It holds an admission, and that is the channel's.
        .extern_path(".sealift.control.v1", "crate::control::wire")
        .compile_fds(files)?;
    let files = protox::compile([ENVELOPE], [PROTO])?;
    prost_build::Config::new()
        // Byte fields become Vec<u8>, lists Vec<T>: both are alloc's. No maps, hence no std.
        // Their Debug is written by hand, in src/control/redacted.rs: it must not print what they carry.
        .skip_debug(SECRET.map(|name| format!(".sealift.control.v1.{name}")))
        .compile_fds(files)?;
    Ok(())
}
