//! `pending`, `approve`, `deny`: requests that wait for a person.

pub(super) mod pending_text;

use std::io::{IsTerminal, stderr};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::Args;
use countersign::core::approval::{Statement, Subject, Unlike, review};
use countersign::core::refusal::Code;
use countersign::core::wire::admin::{ApproverEntry, PendingListReply};
use countersign::known_agents::{self, Acquaintance, StrangeAgent};
use countersign::ssh_agent::{ApproverError, Candidate, SshAgent};
use countersign::{Admin, Error, Sockets};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::moment::Moment;
use crate::output::{Output, columns_of_stderr, plain, say};

#[derive(Args, Debug)]
pub(crate) struct ApprovalArguments {
    /// The id that `countersign pending` shows
    id: String,
}

#[derive(Args, Debug)]
pub(crate) struct ApproveArguments {
    /// The id that `countersign pending` shows
    id: String,
    /// The id of the agent that must be asking; by default the one known for this socket
    #[arg(long, value_name = "AGENT-ID")]
    agent: Option<String>,
    /// The approver whose key signs, if the ssh-agent holds keys of several
    #[arg(long, value_name = "NAME")]
    approver: Option<String>,
}

pub(crate) fn pending(sockets: &Sockets, output: &Output) -> Result<Exit, Failure> {
    let reply = Admin::open(sockets)?.pending()?;
    output.show(&reply, || describe(&reply, output))
}

/// Shows the request, has the approver's own ssh-agent sign it, and hands the signature in.
pub(crate) fn approve(
    arguments: &ApproveArguments,
    sockets: &Sockets,
    output: &Output,
) -> Result<Exit, Failure> {
    let mut admin = Admin::open(sockets)?;
    let mut reply = admin.pending()?;
    if reply.unlisted.contains(&arguments.id) {
        reply = admin.pending_request(&arguments.id)?;
    }
    let asked = ApprovalQuestion::find(&reply, &arguments.id, output)?;
    check_listed(&asked, &arguments.id)?;
    review(asked.statement).map_err(Failure::Statement)?;
    check_agent(asked.statement, arguments.agent.as_deref(), sockets)?;
    say(&asked.description);
    let mut ssh_agent = SshAgent::open()?;
    let candidate = ssh_agent.candidate(&eligible(&reply, &asked, arguments)?)?;
    let signature = touch(ssh_agent, candidate, asked.statement)?;
    let done = admin.approve(&arguments.id, &signature)?;
    output.show(&done, || plain(&done.done))
}

/// The request, or the change of the agent, that this approver is asked about.
struct ApprovalQuestion<'a> {
    is_change: bool,
    statement: &'a Statement,
    approved_by: &'a [String],
    description: String,
}

impl<'a> ApprovalQuestion<'a> {
    fn find(reply: &'a PendingListReply, id: &str, output: &Output) -> Result<Self, Failure> {
        if let Some(entry) = reply.pending.iter().find(|entry| entry.id == id) {
            let description = pending_text::describe(entry, output, columns_of_stderr());
            let (statement, approved_by) = (&entry.statement, &*entry.approved_by);
            return Ok(Self { is_change: false, statement, approved_by, description });
        }
        let change = reply.changes.iter().find(|change| change.id == id);
        let change = change.ok_or_else(|| Failure::NotPending(id.to_owned()))?;
        let description = pending_text::describe_change(change, output, columns_of_stderr());
        Ok(Self { is_change: true, statement: &change.statement, approved_by: &[], description })
    }
}

/// Checks that the statement to be signed has the id and the kind that the list shows. The program
/// at the socket may have listed one request and sent the statement of another.
fn check_listed(asked: &ApprovalQuestion<'_>, id: &str) -> Result<(), Failure> {
    let belongs = match &asked.statement.subject {
        Subject::Request { .. } | Subject::Session { .. } => !asked.is_change,
        Subject::Configuration { .. } | Subject::Unlock => asked.is_change,
        Subject::Vault { .. } => false,
    };
    if belongs && asked.statement.request_id == id {
        Ok(())
    } else {
        Err(Failure::Statement(Unlike::Listed))
    }
}

pub(crate) fn deny(
    arguments: &ApprovalArguments,
    sockets: &Sockets,
    output: &Output,
) -> Result<Exit, Failure> {
    let done = Admin::open(sockets)?.deny(&arguments.id).map_err(|error| match error {
        // The request is well-formed, so this refusal means that nothing with this id waits.
        Error::Refused(refused) if refused.known_code() == Some(Code::RequestMalformed) => {
            Failure::NotPending(arguments.id.clone())
        }
        error => error.into(),
    })?;
    output.show(&done, || plain(&done.done))
}

/// The keys of the approvers who have not approved it yet.
fn eligible(
    reply: &PendingListReply,
    asked: &ApprovalQuestion<'_>,
    arguments: &ApproveArguments,
) -> Result<Vec<ApproverEntry>, Failure> {
    let wanted = |name: &String| arguments.approver.as_ref().is_none_or(|wanted| wanted == name);
    let agreed: Vec<_> =
        reply.approvers.iter().filter(|one| asked.approved_by.contains(&one.name)).collect();
    let has_agreed =
        |one: &ApproverEntry| agreed.iter().any(|other| other.person() == one.person());
    let left = reply.approvers.iter().filter(|approver| wanted(&approver.name));
    let left: Vec<_> = left.filter(|approver| !has_agreed(approver)).cloned().collect();
    if left.is_empty() {
        let named = arguments.approver.as_deref().unwrap_or("nobody");
        return Err(Failure::Usage(format!("{named} is not an approver, or has approved already")));
    }
    Ok(left)
}

fn check_agent(
    statement: &Statement,
    expected: Option<&str>,
    sockets: &Sockets,
) -> Result<(), Failure> {
    let found = statement.agent.as_str();
    if let Some(expected) = expected {
        let differ =
            || StrangeAgent::NotThat { found: found.to_owned(), expected: expected.to_owned() };
        return if found == expected { Ok(()) } else { Err(differ().into()) };
    }
    let file = known_agents::file()?;
    if known_agents::check(&file, &sockets.admin, found)? == Acquaintance::New {
        say(&format!("the agent {found} is new to you; its id is written to {}\n", file.display()));
    }
    Ok(())
}

/// Waits for the touch in a thread of its own, so that the time left can be shown.
fn touch(
    mut ssh_agent: SshAgent,
    candidate: Candidate,
    statement: &Statement,
) -> Result<String, Failure> {
    say(&format!(
        "Touch the security key of {} when it blinks: 1 touch.\n",
        plain(&candidate.describe())
    ));
    let (sender, receiver) = mpsc::channel();
    let signed = statement.clone();
    thread::spawn(move || {
        // If the time is up, nobody listens any more.
        let _ = sender.send(ssh_agent.approve(&candidate, &signed));
    });
    let countdown = stderr().is_terminal();
    loop {
        match receiver.recv_timeout(Duration::from_secs(1)) {
            Ok(outcome) => {
                if countdown {
                    say("\r\x1b[K");
                }
                return Ok(outcome?);
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => return Err(ApproverError::NoAgent.into()),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        let left = statement.expires_ms.saturating_sub(Moment::now().unix_ms()) / 1_000;
        if left == 0 {
            return Err(Failure::TouchTooLate);
        }
        if countdown {
            say(&format!("\r\x1b[K{left} s left"));
        }
    }
}

fn describe(reply: &PendingListReply, output: &Output) -> String {
    if reply.pending.is_empty() && reply.changes.is_empty() && reply.unlisted.is_empty() {
        return "nothing waits for approval".to_owned();
    }
    let columns = output.columns();
    let requests = reply.pending.iter().map(|entry| pending_text::describe(entry, output, columns));
    let changes =
        reply.changes.iter().map(|change| pending_text::describe_change(change, output, columns));
    let unlisted = reply.unlisted.iter().map(|id| {
        format!(
            "{} waits too, and is too large for this list: countersign approve shows it\n",
            plain(id)
        )
    });
    requests.chain(changes).chain(unlisted).collect::<Vec<_>>().join("\n")
}
