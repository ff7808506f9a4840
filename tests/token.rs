//! Token host and enrol child against a real SoftHSM, as processes, over real sockets.

mod enrolment;
mod host_process;
mod pin;
pub(crate) mod running;
mod signing;
mod terminal;
