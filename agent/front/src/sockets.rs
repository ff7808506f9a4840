//! From a listening socket to one message, whose turn it is, and back to the peer.

pub mod activation;
mod closer;
pub mod connection;
pub mod descriptor;
pub mod frame;
pub mod in_flight;
pub mod listener;
pub mod peer;
mod registered;
pub mod server;
pub mod socket;
pub mod spare;
pub mod stream;
pub mod turns;
