//! A good configuration means what it says, and a bad one is refused in plain words.

mod agent_toml;
mod check_command;
mod mutations;
