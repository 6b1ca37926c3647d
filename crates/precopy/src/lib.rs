//! The pre-copy engine.

#![no_std]
