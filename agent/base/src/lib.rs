//! Everything that all processes of the agent need: the configuration, the messages between them,
//! and the calls to the system.

pub mod agent_id;
pub mod config;
pub mod messages;
pub mod system;
pub mod trusted_path;
