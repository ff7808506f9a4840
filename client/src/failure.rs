//! The failures of commands, each with advice for the next step.

use std::io;
use std::path::PathBuf;

use countersign::Error;
use countersign::core::approval::Unlike;
use countersign::core::refusal::Code;
use countersign::known_agents::StrangeAgent;
use countersign::ssh_agent::ApproverError;

use crate::exit::Exit;

/// A command that was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Agent(#[from] Error),
    /// The program `countersign-agent` failed: its exit code and its words.
    #[error("{message}")]
    AgentProgram { exit: u8, message: String },
    #[error("countersign-agent is neither beside this program nor on PATH")]
    AgentProgramAbsent,
    #[error("{message}")]
    Configuration { message: String, next: String },
    #[error(transparent)]
    Approver(#[from] ApproverError),
    #[error("no request {0} waits for approval")]
    NotPending(String),
    #[error("it was not approved: the agent stays locked")]
    NotUnlocked,
    #[error(transparent)]
    Statement(Unlike),
    #[error(transparent)]
    StrangeAgent(#[from] StrangeAgent),
    #[error("the security key was not touched in time")]
    TouchTooLate,
    /// The journal does not verify, or cannot be read.
    #[error("{0}")]
    Journal(String),
    #[error("could not write to standard output")]
    Output(#[source] io::Error),
    #[error("no record {0} in the journal")]
    RecordUnknown(u64),
    #[error("there is no terminal to ask on")]
    Terminal(#[source] io::Error),
    /// Found on the command line or in a file it names, before anything was sent.
    #[error("{0}")]
    Usage(String),
    #[error("could not write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Failure {
    pub(crate) fn exit(&self) -> u8 {
        let exit = match self {
            Self::Agent(error) => error.into(),
            Self::AgentProgram { exit, .. } => return *exit,
            Self::AgentProgramAbsent => Exit::NotReachable,
            Self::Configuration { .. } => Exit::Configuration,
            Self::Journal(_) | Self::Write { .. } => Exit::Unavailable,
            Self::Approver(_) | Self::NotPending(_) | Self::NotUnlocked | Self::TouchTooLate => {
                Exit::Approval
            }
            Self::Statement(_) | Self::StrangeAgent(_) => Exit::Refused,
            // The reader has closed the output, which is no failure.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            Self::Output(_) => Exit::Unavailable,
            Self::RecordUnknown(_) | Self::Terminal(_) | Self::Usage(_) => Exit::Usage,
        };
        exit as u8
    }

    /// A stable code for programs. If the agent refused, it is the agent's code.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Agent(Error::Refused(refused)) => &refused.code,
            Self::Agent(Error::TooLong { .. }) | Self::Terminal(_) | Self::Usage(_) => "usage",
            Self::Agent(Error::TimedOut { .. }) => "agent.timeout",
            Self::Agent(Error::Answer { .. } | Error::Frame { .. } | Error::Unsupported { .. }) => {
                "agent.protocol"
            }
            Self::Agent(_) | Self::AgentProgramAbsent => "agent.not_reachable",
            Self::AgentProgram { exit, .. } if *exit == Exit::Unavailable as u8 => {
                "token.unavailable"
            }
            Self::AgentProgram { .. } | Self::Configuration { .. } => "configuration",
            Self::Journal(_) => "ledger.unavailable",
            Self::Approver(_) => "approval.approver",
            Self::NotPending(_) => "approval.unknown",
            Self::NotUnlocked => "approval.denied",
            Self::Statement(_) => "approval.statement",
            Self::StrangeAgent(_) => "approval.agent",
            Self::TouchTooLate => "approval.expired",
            Self::Output(_) | Self::Write { .. } => "output",
            Self::RecordUnknown(_) => "record.unknown",
        }
    }

    /// The message without its code, followed by its causes.
    pub(crate) fn message(&self) -> String {
        if let Self::Agent(Error::Refused(refused)) = self {
            return refused.message.clone();
        }
        let mut message = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            message.push_str(&format!(": {error}"));
            cause = error.source();
        }
        message
    }

    pub(crate) fn request_id(&self) -> Option<&str> {
        match self {
            Self::Agent(Error::Refused(refused)) => refused.request_id.as_deref(),
            _ => None,
        }
    }

    /// Advice for the next step, if there is any.
    pub(crate) fn next(&self) -> Option<String> {
        match self {
            Self::Agent(Error::Refused(refused)) => {
                refused.known_code().map(|code| next_after(code).to_owned())
            }
            Self::Agent(error) => next_after_error(error),
            Self::AgentProgramAbsent => Some(
                "install countersign-agent beside countersign, or on \
                                              PATH"
                    .to_owned(),
            ),
            Self::Configuration { next, .. } => Some(next.clone()),
            Self::Journal(_) => Some(
                "keep the journal's directory as it is; do not edit or remove \
                      segments"
                    .to_owned(),
            ),
            Self::RecordUnknown(_) => Some(
                "countersign audit tail shows the newest \
                                            records"
                    .to_owned(),
            ),
            Self::Terminal(_) => Some("pass JSON on standard input with --stdin".to_owned()),
            Self::Approver(error) => next_after_approver(error).map(str::to_owned),
            Self::NotPending(_) => Some(
                "countersign pending shows what waits; a request that ended is in countersign \
                 audit tail"
                    .to_owned(),
            ),
            Self::StrangeAgent(error) => next_after_stranger(error),
            Self::TouchTooLate => Some(
                "have the client ask again, and touch while the key \
                                        blinks"
                    .to_owned(),
            ),
            Self::NotUnlocked => Some(
                "run countersign unlock again, and have an approver run countersign \
                      approve"
                    .to_owned(),
            ),
            Self::AgentProgram { .. }
            | Self::Output(_)
            | Self::Statement(_)
            | Self::Usage(_)
            | Self::Write { .. } => None,
        }
    }
}

fn next_after_approver(error: &ApproverError) -> Option<&'static str> {
    Some(match error {
        ApproverError::NoAgent | ApproverError::Unreachable { .. } => {
            "start an ssh-agent on this machine (eval \"$(ssh-agent)\") and add the approver's key \
             with ssh-add; forward the \
             admin socket to where the key is, never the ssh-agent to the server"
        }
        ApproverError::NoKey(_) => {
            "add the approver's key with ssh-add, or ssh-add -K for a resident one; ssh-add -l \
             lists"
        }
        ApproverError::NotSigned { .. } => {
            "run the command again and touch the key while it blinks"
        }
        ApproverError::Protocol(_) | ApproverError::Form(_) => return None,
    })
}

fn next_after_stranger(error: &StrangeAgent) -> Option<String> {
    match error {
        StrangeAgent::Changed { file, .. } => Some(format!(
            "do not approve it until you know why: another agent answers there, or its state \
             directory is new; then remove \
             its line from {}",
            file.display()
        )),
        StrangeAgent::Homeless => Some("name the agent with --agent".to_owned()),
        StrangeAgent::File { .. } | StrangeAgent::NoId { .. } | StrangeAgent::NotThat { .. } => {
            None
        }
    }
}

fn next_after_error(error: &Error) -> Option<String> {
    Some(match error {
        Error::Absent { .. } => "start the agent (systemctl --user start countersign-agent, \
                                 systemctl start \
             countersign-agent, or countersign-agent run --config FILE), or name its socket with \
             --socket or \
             $COUNTERSIGN_SOCK; countersign init sets a first one up"
            .to_owned(),
        Error::Closed { .. } => "the agent's log says why; it serves only the users that \
                                 [client.*] names"
            .to_owned(),
        Error::Forbidden { .. } => {
            "clients are the users that [client.*] in agent.toml names; the \
                                    admin socket is \
             for the agent's own user and root only: become that user"
                .to_owned()
        }
        Error::Unsupported { extension, .. } => format!(
            "{extension} may be served on the other socket only (--admin-socket), by a newer \
             agent, or this is \
             another program's ssh-agent"
        ),
        Error::Answer { .. } | Error::Frame { .. } => {
            "compare countersign --version with countersign-agent --version".to_owned()
        }
        Error::TimedOut { .. } => "countersign status shows the state of the tokens".to_owned(),
        Error::Io { .. } | Error::Refused(_) | Error::TooLong { .. } | Error::Waits(_) => {
            return None;
        }
    })
}

fn next_after(code: Code) -> &'static str {
    match code {
        Code::AgentLocked => "countersign unlock",
        Code::ApprovalCancelled | Code::ApprovalDenied | Code::ApprovalExpired => {
            "ask again, and have an approver run countersign approve while it waits"
        }
        Code::ApprovalRequired => {
            "approvers stand in [approver.NAME] of agent.toml, with the key that touches for them"
        }
        Code::ClientUnknown => "name this user in a [client.*] of agent.toml and reload the agent",
        Code::ClockUntrusted => {
            "set the machine's clock right; countersign status says when it is trusted again"
        }
        Code::Internal => "the agent's log says more; report it",
        Code::KeyUnknown => {
            "countersign key list; a client's keys stand in its [client.*] of agent.toml"
        }
        Code::LedgerUnavailable => "countersign audit verify, then restart the agent",
        Code::PolicyDestination
        | Code::PolicyEffectiveScope
        | Code::PolicyLimit
        | Code::PolicyScope
        | Code::RequestUnknownEndpoint => {
            "the operator sees which rule decided with countersign policy explain"
        }
        Code::PolicyRate => {
            "slow down: ask less often, and for less at once; the client's rate stands in \
             agent.toml"
        }
        Code::RequestAmbiguous => "send each parameter once",
        Code::RequestForbiddenParameter => "leave the parameter out: the agent sets it",
        Code::RequestMalformed => "the message names what is wrong: put the request right",
        Code::TokenTooLate => "ask again, or for a longer receive window",
        Code::TokenTimeout | Code::TokenUnavailable => {
            "countersign status shows the state of the tokens"
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// An agent that does not answer is waited for as long as its answer may take, which is too
    /// long for a test of the program.
    #[test]
    fn an_agent_that_does_not_answer_in_time_has_a_code_of_its_own() {
        let silent = Error::TimedOut { socket: "/a.sock".into(), deadline: Duration::from_secs(1) };
        let failure = Failure::from(silent);
        assert_eq!((failure.code(), failure.exit()), ("agent.timeout", 5));
    }

    #[test]
    fn every_code_is_in_the_documentation() {
        let source = include_str!("failure.rs");
        let code = source
            .split("fn code(")
            .nth(1)
            .and_then(|rest| rest.split("\n    }\n").next())
            .expect("it is there");
        let codes: Vec<&str> =
            code.split("=> \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(codes.len() > 10, "{codes:?}");
        let documented = include_str!("../../docs/protocol.md");
        for code in codes {
            let stands =
                |line: &str| line.starts_with("| `") && line.contains(&format!("`{code}`"));
            // Codes with the same beginning share a line: `approval.denied`, `.expired`.
            let short = code.split_once('.').map(|(_, end)| format!(", `.{end}`"));
            let shortened =
                |line: &str| short.as_ref().is_some_and(|short| line.contains(short.as_str()));
            assert!(documented.lines().any(|line| stands(line) || shortened(line)), "{code}");
        }
    }
}
