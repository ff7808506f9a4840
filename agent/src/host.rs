//! The token host: a process of its own for each token, which loads one PKCS#11 module and signs.

pub mod frame;
pub mod pin;
pub mod pin_try;
pub mod protocol;
pub mod settings;
