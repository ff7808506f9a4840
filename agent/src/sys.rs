//! The system calls that no safe library offers: the one module where `unsafe` is allowed, each use with its reason.
#![allow(unsafe_code)]

mod peer;

pub use peer::peer_pidfd;
