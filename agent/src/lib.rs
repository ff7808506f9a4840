//! The program's own parts, which its `main` and its tests put to use: the commands of a person,
//! and the two processes that are neither the front nor touch a token.

pub mod commands;
pub mod configuration_child;
pub mod spawner;
