//! The vault: HMAC keys that cannot be used without a touch.
//!
//! The keys lie on a PKCS#11 token of their own. Its PIN is random, known to nobody, and sealed to
//! PIV keys that agree on nothing without a touch ([`sealed`]). A process that lives for one
//! signature has it unsealed, logs in once, signs once, logs out, and sets another PIN where the
//! token can ([`open`]). `docs/decisions/0015-vault.md` says why it is so.

pub mod open;
pub mod place;
pub mod sealed;
pub mod spent;
mod token_copy;
pub mod unseal;
