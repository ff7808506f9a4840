//! The processes that touch a token, and the library that they share.
//!
//! [`token_host`], [`enrol_child`], [`vault_host`] and [`keeper`] are processes. [`login`],
//! [`vault`], [`yubikey`] and [`token`] are the library below them.

pub mod enrol_child;
pub mod keeper;
pub mod login;
pub mod token;
pub mod token_host;
pub mod vault;
pub mod vault_host;
pub mod yubikey;
