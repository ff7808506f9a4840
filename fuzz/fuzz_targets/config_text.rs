//! The text of agent.toml.
#![no_main]
countersign_fuzz::fuzz!(config_text);
