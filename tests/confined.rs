//! No process of the agent can do or see more than its work needs.

mod attempts;
mod secrets;
mod spawner;
