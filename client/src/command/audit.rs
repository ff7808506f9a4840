//! `audit`: verify the journal's chain, follow it, show one record.

mod directory;
mod record;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use countersign::core::audit::{self, VerifyReport};
use countersign::core::json::Value;
use countersign::core::wire::VERSION;
use countersign::core::wire::admin::EventsReply;
use countersign::{Admin, Sockets};
use serde::Serialize;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, plain};
use directory::JournalDirectory;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Verify the chain from the files themselves; the agent need not run
    Verify(VerifyArguments),
    /// The newest records
    Tail(TailArguments),
    /// One record, whole
    Show(ShowArguments),
}

#[derive(Args, Debug)]
pub(crate) struct VerifyArguments {
    /// The agent's state_dir, or the journal's directory; without it a running agent is asked
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Start with the segment that holds this record
    #[arg(long, value_name = "SEQ")]
    from: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct TailArguments {
    /// How many records
    #[arg(short = 'n', long, default_value_t = 20)]
    lines: u64,
    /// Go on as records are written; with --json one object for each batch, one a line
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
struct VerifyReply<'a> {
    v: u32,
    sound: bool,
    directory: &'a Path,
    #[serde(flatten)]
    report: &'a VerifyReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<NotSound>,
}

/// The same members as every error has.
#[derive(Serialize)]
struct NotSound {
    code: &'static str,
    message: String,
}

#[derive(Serialize)]
struct ShowReply<'a> {
    v: u32,
    record: &'a Value,
    /// Known only where the line itself was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
}

/// How long one question for news stays open.
const WAIT: Duration = Duration::from_secs(25);

pub(crate) fn run(command: &Command, sockets: &Sockets, output: &Output) -> Result<Exit, Failure> {
    match command {
        Command::Verify(arguments) => verify(arguments, sockets, output),
        Command::Tail(arguments) => tail(arguments, sockets, output),
        Command::Show(arguments) => show(arguments, sockets, output),
    }
}

fn verify(arguments: &VerifyArguments, sockets: &Sockets, output: &Output) -> Result<Exit, Failure> {
    let directory = match &arguments.state_dir {
        Some(state_dir) => state_dir.clone(),
        None => journal_of_agent(sockets)?,
    };
    let journal = JournalDirectory::open(&directory)?;
    let mut progress = Progress::new();
    let report = audit::verify(&journal, arguments.from, &mut |done, total| progress.show(done, total));
    progress.clear();
    let report = report.map_err(|error| journal.unreadable(&error))?;
    let sound = report.problems.is_empty();
    let error = report.problems.first().map(|first| NotSound {
        code: "ledger.unavailable",
        message: format!("{} line {}: {}", first.segment, first.line, first.what),
    });
    let reply = VerifyReply { v: VERSION, sound, directory: journal.path(), report: &report, error };
    output.show(&reply, || describe_verification(&report, journal.path()))?;
    Ok(if sound { Exit::Done } else { Exit::Unavailable })
}

fn journal_of_agent(sockets: &Sockets) -> Result<PathBuf, Failure> {
    let status = Admin::open(sockets).and_then(|mut admin| admin.status());
    match status {
        Ok(status) => status.ledger.map(|ledger| PathBuf::from(ledger.directory)).ok_or_else(no_directory),
        Err(error) if error.is_not_reachable() => Err(no_directory()),
        Err(error) => Err(error.into()),
    }
}

fn no_directory() -> Failure {
    Failure::Usage("no running agent says where its journal is: name its state_dir with --state-dir".to_owned())
}

fn describe_verification(report: &VerifyReport, directory: &Path) -> String {
    let range = match (report.first_seq, report.last_seq) {
        (Some(first), Some(last)) => format!(", {first} to {last}"),
        _ => String::new(),
    };
    let (records, segments) = (report.records, report.segments);
    let what =
        format!("{records} records{range} in {segments} segments of {}", plain(&directory.display().to_string()));
    if !report.problems.is_empty() {
        let lines = report
            .problems
            .iter()
            .map(|problem| format!("  {} line {}: {}\n", plain(&problem.segment), problem.line, plain(&problem.what)));
        return format!("NOT SOUND: {what}\n{}", lines.collect::<String>());
    }
    let mut text = format!("sound: {what}\n");
    if report.first_seq.is_some_and(|first| first > 1) {
        text.push_str("older segments are gone: what they held cannot be verified\n");
    }
    if let Some(hash) = report.last_hash {
        text.push_str(&format!("last hash {hash}\n"));
    }
    if report.unfinished_bytes > 0 {
        text.push_str(&format!("{} bytes of an unfinished record at the end\n", report.unfinished_bytes));
    }
    text
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
    show_records(&collected, output)?;
    if !arguments.follow {
        return Ok(Exit::Done);
    }
    loop {
        let batch = admin.events(after, WAIT)?;
        after = after.max(batch.last);
        if !batch.records.is_empty() {
            show_records(&batch, output)?;
        }
    }
}

fn show_records(reply: &EventsReply, output: &Output) -> Result<Exit, Failure> {
    output.show(reply, || reply.records.iter().map(|record| record::line(record, output)).collect())
}

fn show(arguments: &ShowArguments, sockets: &Sockets, output: &Output) -> Result<Exit, Failure> {
    let unknown = Failure::RecordUnknown(arguments.seq);
    let (record, hash) = match &arguments.state_dir {
        Some(state_dir) => {
            let journal = JournalDirectory::open(state_dir)?;
            let entry = audit::show(&journal, arguments.seq).map_err(|error| journal.unreadable(&error))?;
            let entry = entry.ok_or(unknown)?;
            let record = Value::parse(&entry.line).map_err(|refusal| Failure::Journal(refusal.message))?;
            (record, Some(entry.hash.to_string()))
        }
        None => {
            let before = arguments.seq.checked_sub(1).ok_or(Failure::RecordUnknown(arguments.seq))?;
            let records = Admin::open(sockets)?.events(before, Duration::ZERO)?.records;
            (records.into_iter().find(|record| record::seq(record) == Some(arguments.seq)).ok_or(unknown)?, None)
        }
    };
    output.show(&ShowReply { v: VERSION, record: &record, hash: hash.clone() }, || {
        record::whole(&record, hash.as_deref(), output)
    })
}

/// How far a verification is, on standard error where that is a terminal.
struct Progress {
    terminal: bool,
    percent: Option<u64>,
}

impl Progress {
    fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), percent: None }
    }

    fn show(&mut self, done: u64, total: u64) {
        let percent = (done * 100).checked_div(total).unwrap_or(100);
        if self.terminal && self.percent != Some(percent) {
            self.percent = Some(percent);
            // Progress that cannot be shown is no reason to stop.
            let _ = write!(io::stderr(), "\rverifying {percent} %");
        }
    }

    fn clear(&self) {
        if self.percent.is_some() {
            let _ = write!(io::stderr(), "\r               \r");
        }
    }
}
