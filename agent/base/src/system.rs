//! What every process of the agent asks of the system.

pub mod clock;
pub mod confine;
pub mod full_disk;
pub mod log;
pub mod random;
pub mod sys;
pub mod terminal;
