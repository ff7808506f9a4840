//! `policy`: checks a configuration, and explains the decision about a request.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use countersign::core::wire::VERSION;
use countersign::core::wire::admin::{ExplainReply, ExplainRequest, Neighbour};
use countersign::{Admin, Sockets};
use serde::Serialize;

use super::parameters::RequestArguments;
use crate::agent_program;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, plain, plain_lines};
use crate::table::facts;

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Check an agent.toml as the agent would: syntax and permissions; tokens are left alone
    /// (countersign-agent check looks for them)
    Check(CheckArguments),
    /// Show the rule that decides about a request, and what its signature would open; nothing is
    /// signed
    Explain(ExplainArguments),
}

#[derive(Args, Debug)]
pub(crate) struct CheckArguments {
    file: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct ExplainArguments {
    /// The client's name in agent.toml
    #[arg(long)]
    client: String,
    #[command(flatten)]
    request: RequestArguments,
    /// List the endpoints that an ordinary signature of this exchange may also open
    #[arg(long)]
    all: bool,
}

#[derive(Serialize)]
struct Checked {
    v: u32,
    sound: bool,
    output: String,
}

pub(crate) fn run(
    command: PolicyCommand,
    sockets: &Sockets,
    output: &Output,
) -> Result<Exit, Failure> {
    match command {
        PolicyCommand::Check(arguments) => check(&arguments, output),
        PolicyCommand::Explain(arguments) => explain(arguments, sockets, output),
    }
}

/// Passes on the words and the exit code of the agent's program. The file may be meant for another
/// machine, so no token is looked for.
fn check(arguments: &CheckArguments, output: &Output) -> Result<Exit, Failure> {
    let words: [&OsStr; 4] = [
        "check".as_ref(),
        "--config".as_ref(),
        arguments.file.as_os_str(),
        "--without-tokens".as_ref(),
    ];
    let ended = agent_program::run(words)?;
    let message = agent_program::words(&ended);
    if !ended.status.success() {
        return Err(Failure::AgentProgram { exit: agent_program::exit_code(&ended), message });
    }
    output.show(&Checked { v: VERSION, sound: true, output: message.clone() }, || {
        plain_lines(&message)
    })
}

fn explain(
    arguments: ExplainArguments,
    sockets: &Sockets,
    output: &Output,
) -> Result<Exit, Failure> {
    let ExplainArguments { client, request, all } = arguments;
    let params = request.params()?;
    let RequestArguments { key, method, path, host, place, .. } = request;
    let call =
        ExplainRequest { v: VERSION, client, key, method, path, params, params_in: place, host };
    let reply = Admin::open(sockets)?.explain(&call)?;
    output.show(&reply, || describe(&reply, all))
}

fn describe(reply: &ExplainReply, all: bool) -> String {
    let decision = match reply.decision.as_str() {
        "allow" => "allowed",
        "ask" => "needs a person's approval",
        "deny" => "denied",
        other => other,
    };
    let mut text = format!("{} by {}\n", plain(decision), plain(&reply.rule));
    if let Some(message) = &reply.message {
        let code = reply.code.map(|code| format!("{code}: ")).unwrap_or_default();
        text.push_str(&format!("  {code}{}\n", plain(message)));
    }
    if let Some(scope) = reply.scope {
        text.push('\n');
        text.push_str(&facts(&[
            ("scope", scope.to_string()),
            ("effective scopes", reply.effective_scopes.to_string()),
        ]));
    }
    let unsigned = reply
        .unsigned
        .iter()
        .map(|part| format!("{part}: the sender of the request may change it"));
    text.push_str(&section("Not signed", unsigned));
    text.push_str(&section(
        "The same signature would also open",
        reply.neighbours.iter().map(endpoint),
    ));
    let transfers =
        reply.transfers.iter().map(|one| format!("{} ({})", one.summary(), one.endpoint));
    text.push_str(&section("Money it would move", transfers));
    let spends = reply
        .spends
        .iter()
        .map(|spend| format!("{} of {} in {}", spend.amount, spend.cap, spend.window));
    text.push_str(&section("Counted against limits", spends));
    text.push_str(&residual(&reply.residual, all));
    text
}

fn residual(residual: &[Neighbour], all: bool) -> String {
    const TITLE: &str = "An ordinary signature of this exchange may also open";
    if all || residual.is_empty() {
        return section(TITLE, residual.iter().map(endpoint));
    }
    format!("\n{TITLE} {} more endpoints; --all lists them\n", residual.len())
}

fn endpoint(neighbour: &Neighbour) -> String {
    format!("{:<8}  {} {}", neighbour.scope.name(), neighbour.method, neighbour.path)
}

fn section(title: &str, lines: impl Iterator<Item = String>) -> String {
    let lines: String = lines.map(|line| format!("  {}\n", plain(&line))).collect();
    if lines.is_empty() { lines } else { format!("\n{title}:\n{lines}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_says_rule_reason_and_consequences() {
        let reply = r#"{"v":1,"decision":"deny","rule":"[client.bot] scopes",
            "code":"policy.effective_scope",
            "message":"would also open withdraw","scope":"read","effective_scopes":["read",
            "withdraw"],"unsigned":["path"],
            "neighbours":[{"method":"POST","path":"/w","scope":"withdraw"}],
            "transfers":[{"endpoint":"POST /w","asset":"BTC","amount":"1","network":null,
            "address":"bc1q","memo":null,"from":null,"to":null}],
            "residual":[{"method":"POST","path":"/x","scope":"account"}],
            "spends":[{"window":"transfer/BTC","amount":"1","cap":"2"}]}"#;
        let reply: ExplainReply = serde_json::from_str(reply).expect("parses");
        let folded = describe(&reply, false);
        for says in [
            "denied by [client.bot] scopes",
            "policy.effective_scope: would also open withdraw",
            "effective scopes  read, withdraw",
            "path: the sender of the request may change it",
            "withdraw  POST /w",
            "1 BTC to bc1q (POST /w)",
            "1 of 2 in transfer/BTC",
            "1 more endpoints; --all",
        ] {
            assert!(folded.contains(says), "{says:?} is missing in\n{folded}");
        }
        assert!(!folded.contains("/x") && describe(&reply, true).contains("account   POST /x"));
    }
}
