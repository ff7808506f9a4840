//! The rules of countersign: parse a request, classify it, decide, draft the bytes to sign.
//!
//! Nothing here does IO, reads a clock, draws randomness or holds a key: those come in as arguments or through
//! [`ports`]. Start reading at `signer`.
#![forbid(unsafe_code)]

pub mod algorithm;
pub mod scope;
