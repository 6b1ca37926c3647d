//! The way out and the way in, joined by real TCP connections; the door and the control channel, by real TLS.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the tests share functions, and these are tests as well"
)]

mod broken;
mod carried;
mod closing;
mod control;
mod direct;
mod door;
mod ends;
mod epochs;
mod guest;
mod hand_made;
mod hosts;
mod interrupted;
mod named;
mod placed;
mod window;
