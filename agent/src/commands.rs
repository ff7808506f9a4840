//! The commands that a person runs.

pub mod check;
pub mod profiles;
pub mod vault;
pub mod vault_difference;
