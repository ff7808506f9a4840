//! Makes the answers that several handlers give.

use countersign_core::refusal::Refusal;
use countersign_core::wire::admin::DoneReply;
use countersign_core::wire::{self, ErrorReply, VERSION};
use serde::Serialize;

use crate::sockets::frame::Answer;

/// Checks a payload that holds only its version.
pub(crate) fn plain(payload: &[u8]) -> Result<(), Refusal> {
    let request: wire::PlainRequest = wire::parse(payload)?;
    wire::check_version(request.v)
}

pub(crate) fn reply<T: Serialize>(name: &str, outcome: Result<T, Refusal>) -> Answer {
    match outcome {
        Ok(reply) => json(name, &reply),
        Err(refusal) => json(name, &ErrorReply::new(&refusal, None)),
    }
}

pub(crate) fn json<T: Serialize>(name: &str, payload: &T) -> Answer {
    Answer::json(name, payload)
}

/// An answer to the operator of one sentence.
pub(crate) fn done(sentence: impl Into<String>) -> DoneReply {
    DoneReply { v: VERSION, done: sentence.into(), public_key: None, key: None, pending: None }
}
