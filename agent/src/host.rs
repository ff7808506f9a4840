//! The token host: a process of its own for each token, which loads one PKCS#11 module and signs.
//!
//! [`supervisor`] is the front's side of it; the process itself starts at [`process`].

pub mod attempt;
mod breaker;
pub mod catalogue;
pub(crate) mod code;
pub mod fault;
pub mod frame;
pub mod handle;
mod keeper;
pub mod kept_pin;
mod link;
pub mod login;
pub mod mechanism;
pub mod objects;
pub(crate) mod outstanding;
pub mod pin;
pub mod pin_try;
pub mod pkcs11;
pub mod process;
pub mod protocol;
mod pulse;
pub mod self_test;
mod session;
pub mod settings;
pub mod signer;
pub mod softhsm_init;
pub mod status;
pub mod supervisor;
pub mod vault;
mod workers;
pub mod yubikey;
pub(crate) mod yubikey_host;
pub mod yubikey_keys;
