//! `pending`, `approve`, `deny`: what waits for a person.

use clap::Args;
use countersign::core::json::Value;
use countersign::core::wire::admin::{DoneReply, PendingReply};
use countersign::{Admin, Error, Sockets};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, plain};

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// The id that `countersign pending` shows
    id: String,
}

pub(crate) fn pending(sockets: &Sockets, output: &Output) -> Result<Exit, Failure> {
    let reply = Admin::open(sockets)?.pending().map_err(no_approver)?;
    output.show(&reply, || describe(&reply))
}

pub(crate) fn approve(arguments: &Arguments, sockets: &Sockets, output: &Output) -> Result<Exit, Failure> {
    show_done(Admin::open(sockets)?.approve(&arguments.id), output)
}

pub(crate) fn deny(arguments: &Arguments, sockets: &Sockets, output: &Output) -> Result<Exit, Failure> {
    show_done(Admin::open(sockets)?.deny(&arguments.id), output)
}

fn show_done(reply: Result<DoneReply, Error>, output: &Output) -> Result<Exit, Failure> {
    let reply = reply.map_err(no_approver)?;
    output.show(&reply, || plain(&reply.done))
}

/// An agent that does not serve approvals is no fault of the connection.
fn no_approver(error: Error) -> Failure {
    match error {
        Error::Unsupported { .. } => Failure::NoApprover,
        error => Failure::Agent(error),
    }
}

fn describe(reply: &PendingReply) -> String {
    if reply.pending.is_empty() {
        return "nothing waits for approval".to_owned();
    }
    let one = |pending: &Value| {
        let members = pending.members().unwrap_or_default().iter();
        let lines = members.map(|(name, value)| format!("{}: {}", plain(name), plain(&text_of(value))));
        lines.collect::<Vec<_>>().join("\n")
    };
    reply.pending.iter().map(one).collect::<Vec<_>>().join("\n\n")
}

fn text_of(value: &Value) -> String {
    value.scalar().map_or_else(|| value.to_json(), str::to_owned)
}
