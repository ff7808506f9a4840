//! The vault: HMAC keys that cannot be used without a touch.
//!
//! The keys are on a PKCS#11 token of their own. Its PIN is random, and nobody knows it. It is
//! sealed to PIV keys that compute nothing without a touch ([`sealed`]). The vault host, a process
//! for one signature, has the PIN unsealed, logs in once, signs once and logs out. It then sets
//! another PIN if the token allows that ([`open`]). `docs/decisions/0015-vault.md` gives the
//! reasons.

pub mod directory;
pub mod open;
pub mod sealed;
pub mod spent_approvals;
mod token_copy;
pub mod unseal;
