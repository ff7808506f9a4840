//! Everything that all processes of the agent stand on: the configuration, the messages between
//! them, and the system.

pub mod agent_id;
pub mod config;
pub mod messages;
pub mod system;
pub mod trusted_path;
