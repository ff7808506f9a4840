//! What the agent's own processes tell each other.

pub mod confinement;
pub mod yubikey;
