//! The token host: a process of its own for each token, which loads one PKCS#11 module and signs.

mod breaker;
pub mod frame;
pub mod handle;
mod link;
mod outstanding;
pub mod pin;
pub mod pin_try;
pub mod protocol;
mod session;
pub mod settings;
pub mod status;
pub mod supervisor;
