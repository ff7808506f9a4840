//! The messages between the agent's own processes.

pub mod confinement;
pub mod enrol_child;
pub mod frame;
pub mod settings;
pub mod spawner;
pub mod token_host;
pub mod vault_host;
pub mod yubikey;
