//! What every process of the agent asks of the system.

pub mod clock;
