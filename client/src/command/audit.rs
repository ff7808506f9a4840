//! `audit`: verify the journal's chain, follow it, show one record.

mod directory;
mod record;
mod verification;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use countersign::core::audit;
use countersign::core::json::Value;
use countersign::core::wire::VERSION;
use countersign::core::wire::admin::EventsReply;
use countersign::{Admin, Sockets};
use serde::Serialize;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use directory::JournalDirectory;

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Verify the chain from the files themselves; the agent need not run
    Verify(verification::VerifyArguments),
    /// The newest records
    Tail(TailArguments),
    /// One record, whole
    Show(ShowArguments),
}

#[derive(Args, Debug)]
pub(crate) struct TailArguments {
    /// Number of records
    #[arg(short = 'n', long, default_value_t = 20)]
    lines: u64,
    /// Go on as records are written; with --json, one JSON object a line for each batch
    #[arg(short, long)]
    follow: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ShowArguments {
    /// The record's number
    seq: u64,
    /// Read it from the files instead of asking the agent
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

#[derive(Serialize)]
struct ShowReply<'a> {
    v: u32,
    record: &'a Value,
    /// Known only if the line was read from the files.
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
}

/// Longest wait of one call for new records. A reader that has gone is noticed after it.
const WAIT: Duration = Duration::from_secs(5);

pub(crate) fn run(
    command: &AuditCommand,
    sockets: &Sockets,
    output: &Output,
) -> Result<Exit, Failure> {
    match command {
        AuditCommand::Verify(arguments) => verification::verify(arguments, sockets, output),
        AuditCommand::Tail(arguments) => tail(arguments, sockets, output),
        AuditCommand::Show(arguments) => show(arguments, sockets, output),
    }
}

fn tail(arguments: &TailArguments, sockets: &Sockets, output: &Output) -> Result<Exit, Failure> {
    let mut admin = Admin::open(sockets)?;
    let newest = admin.status()?.ledger.and_then(|ledger| ledger.last).map_or(0, |last| last.seq);
    let mut after = newest.saturating_sub(arguments.lines);
    let mut collected = EventsReply { v: VERSION, records: Vec::new(), last: after };
    while after < newest {
        let batch = admin.events(after, Duration::ZERO)?;
        if batch.last <= after {
            break;
        }
        after = batch.last;
        collected.last = after;
        collected.records.extend(batch.records);
    }
    // Records that came since the status was read push the oldest out.
    let lines = usize::try_from(arguments.lines).unwrap_or(usize::MAX);
    collected.records.drain(..collected.records.len().saturating_sub(lines));
    show_records(&collected, output)?;
    if !arguments.follow {
        return Ok(Exit::Done);
    }
    while !output.reader_is_gone() {
        let batch = admin.events(after, WAIT)?;
        after = after.max(batch.last);
        if !batch.records.is_empty() {
            show_records(&batch, output)?;
        }
    }
    Ok(Exit::Done)
}

fn show_records(reply: &EventsReply, output: &Output) -> Result<Exit, Failure> {
    output.show(reply, || reply.records.iter().map(|record| record::line(record, output)).collect())
}

fn show(arguments: &ShowArguments, sockets: &Sockets, output: &Output) -> Result<Exit, Failure> {
    let unknown = Failure::RecordUnknown(arguments.seq);
    let (record, hash) = match &arguments.state_dir {
        Some(state_dir) => {
            let journal = JournalDirectory::open(state_dir)?;
            let entry =
                audit::show(&journal, arguments.seq).map_err(|error| journal.unreadable(&error))?;
            let entry = entry.ok_or(unknown)?;
            let record = Value::parse_own(&entry.line)
                .map_err(|refusal| Failure::Journal(refusal.message))?;
            (record, Some(entry.hash.to_string()))
        }
        None => {
            let before =
                arguments.seq.checked_sub(1).ok_or(Failure::RecordUnknown(arguments.seq))?;
            let records = Admin::open(sockets)?.events(before, Duration::ZERO)?.records;
            (
                records
                    .into_iter()
                    .find(|record| record::seq(record) == Some(arguments.seq))
                    .ok_or(unknown)?,
                None,
            )
        }
    };
    output.show(&ShowReply { v: VERSION, record: &record, hash: hash.clone() }, || {
        record::whole(&record, hash.as_deref(), output)
    })
}
