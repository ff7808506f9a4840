//! Reads a journal: verifies its chain, follows its end, finds one record. The port [`Segments`]
//! gives it the bytes.
//!
//! Everything here also works beside a running agent: the last line of the newest segment may be
//! unfinished.

mod tail;

use std::io::{self, BufRead, BufReader, Read};

use serde::Serialize;

use crate::chain::{Chain, ChainError, Hash, Head, MAX_LINE};
use crate::record::Record;
pub use tail::Tail;

/// The name of a segment: its number, from 1. `000001.jsonl`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SegmentName(u32);

impl SegmentName {
    pub const FIRST: Self = Self(1);

    pub fn parse(name: &str) -> Option<Self> {
        let digits = name.strip_suffix(".jsonl")?;
        let number =
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
        let segment = Self(number);
        (number > 0 && segment.to_string() == name).then_some(segment)
    }

    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl std::fmt::Display for SegmentName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:06}.jsonl", self.0)
    }
}

/// One segment as it was found, with its length at that time in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SegmentFile {
    pub name: SegmentName,
    pub length: u64,
}

/// The port that gives the segments of one journal.
pub trait Segments {
    /// All segments, oldest first.
    fn list(&self) -> io::Result<Vec<SegmentFile>>;
    /// Opens a segment for reading from the byte at `offset`.
    fn open(&self, name: SegmentName, offset: u64) -> io::Result<Box<dyn Read>>;
}

/// A line as it was read.
#[derive(Debug, Eq, PartialEq)]
pub enum JournalLine {
    /// Without its newline.
    Whole,
    /// The end of the file came before a newline.
    Unfinished,
    End,
}

/// Reads the next line into `line`; an error if it is longer than [`MAX_LINE`].
pub fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<JournalLine> {
    line.clear();
    let limit = MAX_LINE as u64 + 1;
    let read = reader.take(limit).read_until(b'\n', line)? as u64;
    match line.pop_if(|last| *last == b'\n') {
        Some(_) => Ok(JournalLine::Whole),
        None if read == 0 => Ok(JournalLine::End),
        None if read == limit => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "a line is longer than any record"))
        }
        None => Ok(JournalLine::Unfinished),
    }
}

/// The findings of `audit verify`.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct VerifyReport {
    pub segments: usize,
    pub records: u64,
    pub first_seq: Option<u64>,
    pub last_seq: Option<u64>,
    /// The hash that the first record names as that of the line before it. It is 64 zeros if the
    /// journal is whole from its beginning.
    pub anchor: Option<Hash>,
    pub last_hash: Option<Hash>,
    /// Bytes of an unfinished record at the end. The agent is writing it, or stopped while writing
    /// it.
    pub unfinished_bytes: usize,
    /// Empty if the journal is sound; at most [`MAX_PROBLEMS`].
    pub problems: Vec<JournalProblem>,
}

/// One place at which the journal is wrong.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct JournalProblem {
    pub segment: String,
    /// From 1; 0 if the whole segment is meant.
    pub line: u64,
    pub what: String,
}

/// Most problems listed. The rest of a ruined journal would say nothing new.
pub const MAX_PROBLEMS: usize = 100;

/// Verifies the chain in constant memory, from the segment that holds record `from` on.
///
/// It calls `progress` with the bytes done and the bytes in all, after each few hundred records and
/// at the end.
pub fn verify(
    segments: &impl Segments,
    from: Option<u64>,
    progress: &mut dyn FnMut(u64, u64),
) -> io::Result<VerifyReport> {
    let files = segments.list()?;
    let start = from.map_or(Ok(0), |seq| index_of(segments, &files, seq))?;
    let files = &files[start..];
    let total = files.iter().map(|file| file.length).sum();
    let mut walk = Walk { report: VerifyReport::default(), chain: None, done: 0, total, progress };
    for (index, file) in files.iter().enumerate() {
        let previous = index.checked_sub(1).map(|before| files[before].name);
        if previous.is_some_and(|previous| previous.next() != file.name) {
            walk.problem(file.name, 0, "a segment before this one is missing".to_owned());
        }
        walk.segment(segments, *file, index + 1 == files.len())?;
    }
    (walk.progress)(walk.done.min(total), total);
    Ok(walk.report)
}

struct Walk<'a> {
    report: VerifyReport,
    /// `None` before the first record. That record is believed about the line before it.
    chain: Option<Chain>,
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl Walk<'_> {
    fn segment(
        &mut self,
        segments: &impl Segments,
        file: SegmentFile,
        newest: bool,
    ) -> io::Result<()> {
        let reader = match segments.open(file.name, 0) {
            Ok(reader) => reader,
            // Retention removed the segment after it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.chain.is_none() => {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.report.segments += 1;
        let mut reader = BufReader::with_capacity(1 << 16, reader.take(file.length));
        let (mut bytes, mut line) = (Vec::new(), 0);
        loop {
            line += 1;
            match read_line(&mut reader, &mut bytes)? {
                JournalLine::End => return Ok(()),
                JournalLine::Whole => self.line(file.name, line, &bytes),
                JournalLine::Unfinished if newest => self.report.unfinished_bytes = bytes.len(),
                JournalLine::Unfinished => {
                    self.problem(file.name, line, "its last line is unfinished".to_owned())
                }
            }
            self.done += bytes.len() as u64 + 1;
            if line % 256 == 0 {
                (self.progress)(self.done.min(self.total), self.total);
            }
        }
    }

    fn line(&mut self, segment: SegmentName, line: u64, bytes: &[u8]) {
        let head = match Head::parse(bytes) {
            Ok(head) => head,
            Err(error) => return self.problem(segment, line, error.to_string()),
        };
        let mut chain = *self.chain.get_or_insert(head.chain_before());
        self.report.anchor.get_or_insert(head.prev);
        if let Err(error) = chain.check(bytes) {
            self.problem(segment, line, error.to_string());
            // Go on from this line: one break is one problem, not one for each line after it.
            chain = Chain::after(crate::chain::Link { seq: head.seq, hash: Hash::of(bytes) });
        }
        if let Err(error) = body(&head, bytes) {
            self.problem(segment, line, error);
        }
        if line == 1 && head.kind != "segment" {
            self.problem(
                segment,
                line,
                "a segment starts with a record of kind segment".to_owned(),
            );
        }
        self.chain = Some(chain);
        self.report.records += 1;
        self.report.first_seq.get_or_insert(head.seq);
        self.report.last_seq = Some(head.seq);
        self.report.last_hash = Some(chain.last_hash());
    }

    fn problem(&mut self, segment: SegmentName, line: u64, what: String) {
        if self.report.problems.len() < MAX_PROBLEMS {
            self.report.problems.push(JournalProblem { segment: segment.to_string(), line, what });
        }
    }
}

fn body(head: &Head<'_>, line: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(line).map_err(|error| error.to_string())?;
    let record = Record::parse(&head.kind, text);
    match record.map_err(|error| format!("it is no record of kind {}: {error}", head.kind))? {
        Some(Record::Approval(approval)) => approval.verify().map_err(|reason| {
            format!("the approval of {} does not hold: {reason}", approval.request_id)
        }),
        _ => Ok(()),
    }
}

/// The index of the file that holds record `seq`: the last one that starts at or before it.
fn index_of(segments: &impl Segments, files: &[SegmentFile], seq: u64) -> io::Result<usize> {
    for (index, file) in files.iter().enumerate().skip(1).rev() {
        if first_seq(segments, file.name)?.is_some_and(|first| first <= seq) {
            return Ok(index);
        }
    }
    Ok(0)
}

fn first_seq(segments: &impl Segments, name: SegmentName) -> io::Result<Option<u64>> {
    let mut line = Vec::new();
    let whole =
        read_line(&mut BufReader::new(segments.open(name, 0)?), &mut line)? == JournalLine::Whole;
    Ok(whole.then(|| Head::parse(&line).ok()).flatten().map(|head| head.seq))
}

/// One record as it stands in the journal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JournalEntry {
    pub seq: u64,
    pub time_ms: u64,
    pub kind: String,
    pub hash: Hash,
    /// The whole line, without its newline.
    pub line: String,
}

impl JournalEntry {
    fn parse(line: Vec<u8>) -> Result<Self, ChainError> {
        let Head { seq, time_ms, kind, .. } = Head::parse(&line)?;
        let (kind, hash) = (kind.into_owned(), Hash::of(&line));
        // `Head::parse` has checked that the line is UTF-8.
        Ok(Self { seq, time_ms, kind, hash, line: String::from_utf8_lossy(&line).into_owned() })
    }

    /// The record; `None` if this version does not know its kind.
    pub fn record(&self) -> Option<Record<'_>> {
        Record::parse(&self.kind, &self.line).ok().flatten()
    }
}

/// The record with this number.
pub fn show(segments: &impl Segments, seq: u64) -> io::Result<Option<JournalEntry>> {
    let Some(before) = seq.checked_sub(1) else { return Ok(None) };
    let entries = Tail::after(before).read(segments, 1)?;
    Ok(entries.into_iter().find(|entry| entry.seq == seq))
}

#[cfg(test)]
mod audit_tests;
