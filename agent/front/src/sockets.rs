//! Accepts connections, reads messages from them, gives each message its turn, and sends the
//! answers.

pub mod activation;
mod closer;
pub mod connection;
pub mod descriptor;
pub mod frame;
pub mod in_flight;
pub mod listener;
pub mod peer;
mod runtime_registration;
pub mod server;
pub mod socket;
pub mod spare_buffers;
pub mod stream;
pub mod turns;
