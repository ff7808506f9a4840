//! The calls of the agent's processes to the operating system.

pub mod clock;
pub mod confine;
pub mod full_disk;
pub mod log;
pub mod random;
pub mod sys;
pub mod terminal;
