//! The rules of countersign: parse a request, classify it, decide, draft the bytes to sign.
//!
//! The core does no IO, reads no clock, draws no randomness and holds no secret: all of these come
//! in as arguments or through [`ports`]. Start reading at `signer`.
#![forbid(unsafe_code)]

pub mod algorithm;
pub mod approval;
pub mod attestation;
pub mod audit;
pub mod calendar;
pub mod chain;
pub mod decimal;
pub mod draft;
pub mod exchange;
pub mod explain;
pub mod instrument;
pub mod json;
pub mod key;
pub mod legible;
pub mod policy;
pub mod ports;
pub mod record;
pub mod refusal;
pub mod request;
pub mod scope;
pub mod shell;
pub mod signer;
pub mod stamp;
pub mod transfer;
pub mod vault;
pub mod wire;
