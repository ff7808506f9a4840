//! Waits for a person to approve the request.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use clap::Args;
use countersign::core::wire::PendingReply;
use countersign::{AgentClient, Error};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::moment::Moment;
use crate::output::{Output, plain, say};

/// Time between two displays of the time left.
const STEP: Duration = Duration::from_secs(1);
/// One call waits this long if no terminal shows the time left.
const QUIET_STEP: Duration = Duration::from_secs(20);

#[derive(Args, Debug)]
pub(crate) struct WaitArguments {
    /// Do not wait for a person's approval; the agent cancels a request that nobody waits for
    #[arg(long)]
    no_wait: bool,
}

/// Shows the answer: at once, or after persons have approved the request.
pub(crate) fn show<R: DeserializeOwned + Serialize>(
    client: &mut AgentClient,
    answer: Result<R, Error>,
    arguments: &WaitArguments,
    output: &Output,
    text: impl FnOnce(&R) -> String,
) -> Result<Exit, Failure> {
    let waits = match answer {
        Err(Error::Waits(waits)) => waits,
        answer => {
            let reply = answer?;
            return output.show(&reply, || text(&reply));
        }
    };
    if arguments.no_wait {
        return output.show(&waits, || format!("waits for approval: {}", waits.pending.id));
    }
    let reply: R = wait(client, *waits)?;
    output.show(&reply, || text(&reply))
}

fn wait<R: DeserializeOwned>(client: &mut AgentClient, waits: PendingReply) -> Result<R, Failure> {
    let countdown = stderr().is_terminal();
    say(&format!(
        "waits for approval; an approver runs: countersign approve {}\n",
        plain(&waits.pending.id)
    ));
    let mut blinks = false;
    let outcome = client.outcome(waits, if countdown { STEP } else { QUIET_STEP }, |waits| {
        let blinked = std::mem::replace(&mut blinks, waits.touch.is_some());
        if countdown {
            say(&format!("\r\x1b[K{}", progress(waits)));
        } else if blinks && !blinked {
            // Without a line that is drawn anew, the token to touch is named once.
            say(&format!("{}\n", progress(waits)));
        }
    });
    if countdown {
        say("\r\x1b[K");
    }
    Ok(outcome?)
}

fn progress(waits: &PendingReply) -> String {
    let pending = &waits.pending;
    if let Some(touch) = &waits.touch {
        let left = touch.until_ms.saturating_sub(Moment::now().unix_ms()) / 1_000;
        let (progress, token, why) =
            (plain(&waits.progress), plain(&touch.token), plain(&touch.why));
        return format!(
            "{progress}: the token {token} blinks for {why}; {left} s left to touch it"
        );
    }
    let left = pending.expires_ms.saturating_sub(Moment::now().unix_ms()) / 1_000;
    format!(
        "{}: {} of {} approvals, {left} s left",
        plain(&waits.progress),
        pending.approvals,
        pending.approvals_needed
    )
}
