//! The parts of the program that are in no other crate: the commands that a person runs, and the
//! two processes that are not the front and do not touch a token. `main` and the tests use them.

pub mod commands;
pub mod configuration_child;
pub mod spawner;
