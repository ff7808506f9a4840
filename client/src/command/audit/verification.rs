//! `audit verify`: checks the journal's chain from the files themselves.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use countersign::core::audit::{self, JournalProblem, VerifyReport};
use countersign::core::chain::Hash;
use countersign::core::wire::{LedgerEntry, RecordId, VERSION};
use countersign::{Admin, Sockets};
use serde::Serialize;

use super::directory::JournalDirectory;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, plain};

#[derive(Args, Debug)]
pub(crate) struct VerifyArguments {
    /// The agent's state_dir, or the journal's directory; by default the running agent names it
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Start with the segment that holds this record
    #[arg(long, value_name = "SEQ")]
    from: Option<u64>,
    /// A record that must be there unchanged, as the answer to a signed request named it
    #[arg(long, value_name = "SEQ:HASH", value_parser = record_id)]
    record: Vec<RecordId>,
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

pub(super) fn verify(
    arguments: &VerifyArguments,
    sockets: &Sockets,
    output: &Output,
) -> Result<Exit, Failure> {
    let mut expected = arguments.record.clone();
    let directory = match &arguments.state_dir {
        Some(state_dir) => state_dir.clone(),
        None => {
            let ledger = journal_of_agent(sockets)?;
            // Files that are cut off after a record look whole, but the agent knows the last
            // record.
            expected.extend(ledger.last);
            PathBuf::from(ledger.directory)
        }
    };
    let journal = JournalDirectory::open(&directory)?;
    let mut progress = VerificationProgress::new();
    let report =
        audit::verify(&journal, arguments.from, &mut |done, total| progress.show(done, total));
    progress.clear();
    let mut report = report.map_err(|error| journal.unreadable(&error))?;
    for record in &expected {
        report.problems.extend(missing(&journal, record)?);
    }
    show_verification(&report, journal.path(), output)
}

fn show_verification(
    report: &VerifyReport,
    directory: &Path,
    output: &Output,
) -> Result<Exit, Failure> {
    let sound = report.problems.is_empty();
    let error = report
        .problems
        .first()
        .map(|first| NotSound { code: "ledger.unavailable", message: describe_problem(first) });
    let reply = VerifyReply { v: VERSION, sound, directory, report, error };
    output.show(&reply, || describe_verification(report, directory))?;
    Ok(if sound { Exit::Done } else { Exit::Unavailable })
}

/// The problem, if the journal does not hold exactly this record.
fn missing(
    journal: &JournalDirectory,
    record: &RecordId,
) -> Result<Option<JournalProblem>, Failure> {
    let found = audit::show(journal, record.seq).map_err(|error| journal.unreadable(&error))?;
    let what = match found {
        Some(entry) if entry.hash.to_string() == record.hash => return Ok(None),
        Some(entry) => {
            format!("record {} has the hash {}, not {}", record.seq, entry.hash, record.hash)
        }
        None => format!("record {} is missing", record.seq),
    };
    Ok(Some(JournalProblem { segment: String::new(), line: 0, what }))
}

fn record_id(text: &str) -> Result<RecordId, String> {
    let (seq, hash) = text.split_once(':').ok_or("write SEQ:HASH")?;
    let seq = seq.parse().map_err(|_| "SEQ is a number")?;
    Hash::parse(hash).ok_or("HASH is 64 lower-case hex digits")?;
    Ok(RecordId { seq, hash: hash.to_owned() })
}

fn journal_of_agent(sockets: &Sockets) -> Result<LedgerEntry, Failure> {
    match Admin::open(sockets).and_then(|mut admin| admin.status()) {
        Ok(status) => status.ledger.ok_or_else(no_directory),
        Err(error) if error.is_not_reachable() => Err(no_directory()),
        Err(error) => Err(error.into()),
    }
}

fn no_directory() -> Failure {
    Failure::Usage(
        "no running agent says where its journal is: name its state_dir with --state-dir"
            .to_owned(),
    )
}

fn describe_verification(report: &VerifyReport, directory: &Path) -> String {
    let range = match (report.first_seq, report.last_seq) {
        (Some(first), Some(last)) => format!(", {first} to {last}"),
        _ => String::new(),
    };
    let (records, segments) = (report.records, report.segments);
    let what = format!(
        "{records} records{range} in {segments} segments of {}",
        plain(&directory.display().to_string())
    );
    if !report.problems.is_empty() {
        let lines = report.problems.iter().map(|problem| {
            format!(
                "  {} line {}: {}\n",
                plain(&problem.segment),
                problem.line,
                plain(&problem.what)
            )
        });
        return format!("NOT SOUND: {what}\n{}", lines.collect::<String>());
    }
    let mut text = format!("sound: {what}\n");
    if report.first_seq.is_some_and(|first| first > 1) {
        text.push_str("older segments are gone: their records cannot be verified\n");
    }
    if let Some(hash) = report.last_hash {
        text.push_str(&format!("last hash {hash}\n"));
    }
    if report.unfinished_bytes > 0 {
        text.push_str(&format!(
            "{} bytes of an unfinished record at the end\n",
            report.unfinished_bytes
        ));
    }
    text
}

fn describe_problem(problem: &JournalProblem) -> String {
    match (problem.segment.as_str(), problem.line) {
        ("", _) => problem.what.clone(),
        (segment, 0) => format!("{segment}: {}", problem.what),
        (segment, line) => format!("{segment} line {line}: {}", problem.what),
    }
}

/// Shows the progress of a verification on standard error, if that is a terminal.
struct VerificationProgress {
    terminal: bool,
    percent: Option<u64>,
}

impl VerificationProgress {
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
