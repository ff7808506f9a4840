//! Carries a request to load a configuration to the task that does it, and the outcome back.

use std::rc::Rc;

use countersign_base::config::Config;
use countersign_core::wire::PendingRequest;
use tokio::sync::oneshot;

/// A request to load a configuration, with the sender for its outcome.
#[derive(Debug)]
pub enum Reload {
    /// Load `agent.toml`, for this uid.
    FromFile(u32, oneshot::Sender<Result<Loaded, String>>),
    /// Load a configuration that an approver agreed to load over the one with this hash. The
    /// outcome is a sentence about it, or an error.
    Approved(Rc<Config>, String, oneshot::Sender<Result<String, String>>),
}

/// The outcome for a sound configuration.
#[derive(Debug)]
pub enum Loaded {
    /// It is in force; this is its summary.
    InForce(String),
    /// It loosens something, so an approver has to agree first.
    Waits(PendingRequest),
}
