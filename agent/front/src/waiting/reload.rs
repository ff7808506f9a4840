//! What is asked of the one who loads configurations, and what became of it.

use std::rc::Rc;

use countersign_base::config::Config;
use countersign_core::wire::PendingRequest;
use tokio::sync::oneshot;

/// A reload that the operator asked for, and where its outcome goes.
#[derive(Debug)]
pub enum Reload {
    /// Of `agent.toml`, for this uid.
    FromFile(u32, oneshot::Sender<Result<Loaded, String>>),
    /// Of a configuration that an approver agreed to load over the one with this hash; a summary,
    /// or what is wrong.
    Approved(Rc<Config>, String, oneshot::Sender<Result<String, String>>),
}

/// What became of a configuration that is sound.
#[derive(Debug)]
pub enum Loaded {
    /// With its summary.
    InForce(String),
    /// It loosens something: an approver has to agree first.
    Waits(PendingRequest),
}
