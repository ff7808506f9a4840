//! One PKCS#11 token: its module, its PIN and the attempts with it, its objects.

pub mod attempt;
pub mod fault;
pub mod kept_pin;
pub mod mechanism;
pub mod objects;
pub mod pin;
pub mod pin_attempts;
pub mod pkcs11;
pub mod pkcs11_calls;
pub mod public_key;
pub mod softhsm_init;
pub mod untouched;
