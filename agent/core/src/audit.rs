//! Reads a journal: verifies its chain, follows its end, finds one record. Where the bytes come from is a port.
//!
//! Everything here also works beside a running agent: the last line of the newest segment may be unfinished.

use std::io::{self, BufRead, BufReader, Read};

use serde::Serialize;

use crate::chain::{Chain, ChainError, Hash, Head, MAX_LINE};
use crate::record::Record;

/// The name of a segment: its number, from 1. `000001.jsonl`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SegmentName(u32);

impl SegmentName {
    pub const FIRST: Self = Self(1);

    pub fn parse(name: &str) -> Option<Self> {
        let digits = name.strip_suffix(".jsonl")?;
        let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
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

/// One segment as it was found, and how long it was then.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SegmentFile {
    pub name: SegmentName,
    pub length: u64,
}

/// Where the segments of one journal are.
pub trait Segments {
    /// All segments, oldest first.
    fn list(&self) -> io::Result<Vec<SegmentFile>>;
    /// Opens one for reading from the byte at `offset`.
    fn open(&self, name: SegmentName, offset: u64) -> io::Result<Box<dyn Read>>;
}

/// A line as it was read.
#[derive(Debug, Eq, PartialEq)]
pub enum Line {
    /// Without its newline.
    Whole,
    /// The end of the file came before a newline.
    Unfinished,
    End,
}

/// Reads the next line into `line`; an error where it is longer than [`MAX_LINE`].
pub fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Line> {
    line.clear();
    let limit = MAX_LINE as u64 + 1;
    let read = reader.take(limit).read_until(b'\n', line)? as u64;
    match line.pop_if(|last| *last == b'\n') {
        Some(_) => Ok(Line::Whole),
        None if read == 0 => Ok(Line::End),
        None if read == limit => Err(io::Error::new(io::ErrorKind::InvalidData, "a line is longer than any record")),
        None => Ok(Line::Unfinished),
    }
}

/// What `audit verify` found.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct VerifyReport {
    pub segments: usize,
    pub records: u64,
    pub first_seq: Option<u64>,
    pub last_seq: Option<u64>,
    /// What the first record names as the line before it: 64 zeros where the journal is whole from its beginning.
    pub anchor: Option<Hash>,
    pub last_hash: Option<Hash>,
    /// Bytes of a record that is being written, or was when the agent stopped.
    pub unfinished_bytes: usize,
    /// Empty where the journal is sound; at most [`MAX_PROBLEMS`].
    pub problems: Vec<Problem>,
}

/// One place where the journal is not what it should be.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Problem {
    pub segment: String,
    /// From 1; 0 where the whole segment is meant.
    pub line: u64,
    pub what: String,
}

/// So many problems are listed; the rest of a ruined journal says nothing more.
pub const MAX_PROBLEMS: usize = 100;

/// Verifies the chain, from the segment that holds record `from` on, in constant memory.
///
/// `progress` is called with the bytes done and the bytes in all, after each few hundred records and at the end.
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
    /// `None` before the first record: it is taken at its word for what came before.
    chain: Option<Chain>,
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl Walk<'_> {
    fn segment(&mut self, segments: &impl Segments, file: SegmentFile, newest: bool) -> io::Result<()> {
        let reader = match segments.open(file.name, 0) {
            Ok(reader) => reader,
            // Retention removed it since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.chain.is_none() => return Ok(()),
            Err(error) => return Err(error),
        };
        self.report.segments += 1;
        let mut reader = BufReader::with_capacity(1 << 16, reader.take(file.length));
        let (mut bytes, mut line) = (Vec::new(), 0);
        loop {
            line += 1;
            match read_line(&mut reader, &mut bytes)? {
                Line::End => return Ok(()),
                Line::Whole => self.line(file.name, line, &bytes),
                Line::Unfinished if newest => self.report.unfinished_bytes = bytes.len(),
                Line::Unfinished => self.problem(file.name, line, "its last line is unfinished".to_owned()),
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
            self.problem(segment, line, "a segment starts with a record of kind segment".to_owned());
        }
        self.chain = Some(chain);
        self.report.records += 1;
        self.report.first_seq.get_or_insert(head.seq);
        self.report.last_seq = Some(head.seq);
        self.report.last_hash = Some(chain.last_hash());
    }

    fn problem(&mut self, segment: SegmentName, line: u64, what: String) {
        if self.report.problems.len() < MAX_PROBLEMS {
            self.report.problems.push(Problem { segment: segment.to_string(), line, what });
        }
    }
}

fn body(head: &Head<'_>, line: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(line).map_err(|error| error.to_string())?;
    Record::parse(&head.kind, text).map(drop).map_err(|error| format!("it is no record of kind {}: {error}", head.kind))
}

/// Which of `files` holds record `seq`: the last that starts at or before it.
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
    let whole = read_line(&mut BufReader::new(segments.open(name, 0)?), &mut line)? == Line::Whole;
    Ok(whole.then(|| Head::parse(&line).ok()).flatten().map(|head| head.seq))
}

/// One record as it stands in the journal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    pub seq: u64,
    pub time_ms: u64,
    pub kind: String,
    pub hash: Hash,
    /// The whole line, without its newline.
    pub line: String,
}

impl Entry {
    fn parse(line: Vec<u8>) -> Result<Self, ChainError> {
        let Head { seq, time_ms, kind, .. } = Head::parse(&line)?;
        let (kind, hash) = (kind.into_owned(), Hash::of(&line));
        // A line that has a head is UTF-8.
        Ok(Self { seq, time_ms, kind, hash, line: String::from_utf8_lossy(&line).into_owned() })
    }

    /// The record, where this version knows its kind.
    pub fn record(&self) -> Option<Record<'_>> {
        Record::parse(&self.kind, &self.line).ok().flatten()
    }
}

/// A place in a journal from which records are read on, also while the agent writes.
#[derive(Clone, Debug)]
pub struct Tail {
    after: u64,
    /// The segment being read, and how many of its bytes are done.
    place: Option<(SegmentName, u64)>,
}

impl Tail {
    /// Reads the records after number `seq`; 0 for all there are.
    pub const fn after(seq: u64) -> Self {
        Self { after: seq, place: None }
    }

    /// The next records, at most `limit`; none where nothing new was written. Lines that are no records are passed over:
    /// to judge the journal is the business of [`verify`].
    pub fn read(&mut self, segments: &impl Segments, limit: usize) -> io::Result<Vec<Entry>> {
        let (mut entries, mut line) = (Vec::new(), Vec::new());
        while entries.len() < limit {
            // Listed before reading: a segment that is not the newest here is complete.
            let files = segments.list()?;
            let Some((name, offset)) = self.locate(segments, &files)? else { break };
            let mut reader = BufReader::new(segments.open(name, offset)?);
            while entries.len() < limit && read_line(&mut reader, &mut line)? == Line::Whole {
                self.place = Some((name, self.place.map_or(offset, |place| place.1) + line.len() as u64 + 1));
                let entry = Entry::parse(std::mem::take(&mut line)).ok().filter(|entry| entry.seq > self.after);
                self.after = entry.as_ref().map_or(self.after, |entry| entry.seq);
                entries.extend(entry);
            }
            if entries.len() < limit {
                let Some(next) = files.iter().map(|file| file.name).find(|other| *other > name) else { break };
                self.place = Some((next, 0));
            }
        }
        Ok(entries)
    }

    fn locate(&mut self, segments: &impl Segments, files: &[SegmentFile]) -> io::Result<Option<(SegmentName, u64)>> {
        let oldest = files.first().map(|file| file.name);
        self.place = match self.place {
            // Retention removed what was being read.
            Some((name, _)) if oldest.is_some_and(|oldest| oldest > name) => oldest.map(|oldest| (oldest, 0)),
            Some(place) => Some(place),
            None if files.is_empty() => None,
            None => Some((files[index_of(segments, files, self.after.saturating_add(1))?].name, 0)),
        };
        Ok(self.place)
    }
}

/// The record with this number.
pub fn show(segments: &impl Segments, seq: u64) -> io::Result<Option<Entry>> {
    let Some(before) = seq.checked_sub(1) else { return Ok(None) };
    let entries = Tail::after(before).read(segments, 1)?;
    Ok(entries.into_iter().find(|entry| entry.seq == seq))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use super::*;
    use crate::record::samples;

    #[derive(Default)]
    struct Memory(RefCell<BTreeMap<SegmentName, Vec<u8>>>);

    impl Segments for Memory {
        fn list(&self) -> io::Result<Vec<SegmentFile>> {
            let file =
                |(name, bytes): (&SegmentName, &Vec<u8>)| SegmentFile { name: *name, length: bytes.len() as u64 };
            Ok(self.0.borrow().iter().map(file).collect())
        }

        fn open(&self, name: SegmentName, offset: u64) -> io::Result<Box<dyn Read>> {
            let bytes = self.0.borrow().get(&name).cloned().ok_or(io::ErrorKind::NotFound)?;
            Ok(Box::new(io::Cursor::new(bytes.get(offset as usize..).unwrap_or_default().to_vec())))
        }
    }

    /// Three segments, each a header and all the samples.
    fn journal() -> (Memory, Chain) {
        let (memory, mut chain) = (Memory::default(), Chain::GENESIS);
        let header = samples::all().into_iter().find(|record| matches!(record, Record::Segment(_))).expect("a sample");
        for number in 1..=3 {
            let mut bytes = Vec::new();
            for record in std::iter::once(&header).chain(&samples::all()) {
                chain.write(&mut bytes, 1, record).expect("serialises");
            }
            memory.0.borrow_mut().insert(SegmentName(number), bytes);
        }
        (memory, chain)
    }

    type Damage = fn(&mut BTreeMap<SegmentName, Vec<u8>>);

    fn verified(memory: &Memory, from: Option<u64>) -> VerifyReport {
        verify(memory, from, &mut |done, total| assert!(done <= total)).expect("reads")
    }

    #[test]
    fn a_sound_journal_has_no_problems() {
        let (memory, chain) = journal();
        let report = verified(&memory, None);
        assert_eq!((report.problems, report.records, report.segments), (vec![], 54, 3));
        assert_eq!((report.last_hash, report.anchor), (Some(chain.last_hash()), Some(Hash::GENESIS)));
        let late = verified(&memory, Some(40));
        assert_eq!((late.first_seq, late.last_seq, late.segments), (Some(37), Some(54), 1));
    }

    #[test]
    fn every_break_is_named_with_its_place() {
        let cases: [(&str, Damage, (&str, u64)); 4] = [
            ("a changed text", |all| replace(all, 2, "rebalance", "REBALANCE"), ("000002.jsonl", 5)),
            ("a broken line", |all| replace(all, 1, "\"seq\":3,", "\"seq\":x,"), ("000001.jsonl", 3)),
            ("a missing segment", |all| drop(all.remove(&SegmentName(2))), ("000003.jsonl", 0)),
            (
                "an unfinished old segment",
                |all| all.get_mut(&SegmentName(1)).expect("a segment").truncate(1_000),
                ("000001.jsonl", 4),
            ),
        ];
        for (name, damage, (segment, line)) in cases {
            let (memory, _) = journal();
            damage(&mut memory.0.borrow_mut());
            let problems = verified(&memory, None).problems;
            let first = problems.first().unwrap_or_else(|| panic!("{name}: nothing found"));
            assert_eq!((first.segment.as_str(), first.line), (segment, line), "{name}: {}", first.what);
            assert!(problems.len() <= 2, "{name}: {problems:?}");
        }
    }

    fn replace(all: &mut BTreeMap<SegmentName, Vec<u8>>, segment: u32, from: &str, to: &str) {
        let bytes = all.get_mut(&SegmentName(segment)).expect("a segment");
        *bytes = String::from_utf8_lossy(bytes).replace(from, to).into_bytes();
    }

    #[test]
    fn an_unfinished_last_line_is_in_progress() {
        let (memory, _) = journal();
        memory.0.borrow_mut().entry(SegmentName(3)).or_default().extend_from_slice(b"{\"seq\":55,");
        let report = verified(&memory, None);
        assert_eq!((report.problems, report.unfinished_bytes, report.records), (vec![], 10, 54));
    }

    #[test]
    fn tail_follows_over_segments_and_waits_for_whole_lines() {
        let (memory, mut chain) = journal();
        let mut tail = Tail::after(30);
        let mut seen: Vec<u64> = Vec::new();
        while let entries @ [_, ..] = tail.read(&memory, 5).expect("reads").as_slice() {
            seen.extend(entries.iter().map(|entry| entry.seq));
        }
        assert_eq!(seen, (31..=54).collect::<Vec<_>>());
        let mut bytes = Vec::new();
        chain.write(&mut bytes, 1, &samples::all()[0]).expect("serialises");
        let (head, rest) = bytes.split_at(20);
        memory.0.borrow_mut().entry(SegmentName(3)).or_default().extend_from_slice(head);
        assert_eq!(tail.read(&memory, 5).expect("reads"), vec![]);
        memory.0.borrow_mut().entry(SegmentName(3)).or_default().extend_from_slice(rest);
        let last = tail.read(&memory, 5).expect("reads");
        assert_eq!(last.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [55]);
        assert_eq!(last[0].record(), Some(samples::all().remove(0)));
    }

    #[test]
    fn show_finds_one_record() {
        let (memory, _) = journal();
        assert_eq!(show(&memory, 20).expect("reads").map(|entry| entry.seq), Some(20));
        for seq in [0, 55] {
            assert_eq!(show(&memory, seq).expect("reads"), None);
        }
    }

    #[test]
    fn segment_names_have_one_form() {
        assert_eq!(SegmentName::parse("000007.jsonl"), Some(SegmentName(7)));
        assert_eq!(SegmentName::parse("1000000.jsonl"), Some(SegmentName(1_000_000)));
        for name in ["7.jsonl", "000000.jsonl", "+00007.jsonl", "000007.jsonl.new", "x.jsonl", "0000007.jsonl"] {
            assert_eq!(SegmentName::parse(name), None, "{name}");
        }
    }
}
