//! Opens a journal at the start: verifies its chain, repairs a torn end, refuses any other damage,
//! rebuilds the state.

use std::io::{self, BufReader, Read};

use countersign_core::audit::{JournalLine, SegmentFile, SegmentName, Segments as _, read_line};
use countersign_core::chain::{Chain, Hash, Head};
use countersign_core::record::Record;

use super::LedgerError;
use super::segment::{NewestSegment, SegmentDir};
use super::state::LedgerState;

/// A journal that records can be appended to.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) end: NewestSegment,
    pub(super) state: LedgerState,
    pub(super) segments: usize,
    pub(super) torn: Option<Torn>,
}

/// Repair of an unfinished last line. A crash cut the write short, before anything left the agent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Torn {
    /// Only the newline was missing, and it was written.
    Completed,
    /// This number of bytes was removed.
    Cut(u64),
}

pub(super) fn recover(segments: &SegmentDir, now_ms: u64) -> Result<Recovered, LedgerError> {
    let reading = |error| LedgerError::io("read the journal", error);
    segments.remove_unfinished().map_err(reading)?;
    let files = segments.list().map_err(reading)?;
    let Some(newest) = files.last() else { return begin(segments, now_ms) };
    check_links(segments, &files)?;
    let mut scan = Scan::of(segments, newest.name);
    let begun_ms = scan.header()?;
    let unfinished = scan.records()?;
    let torn = unfinished.map(|bytes| scan.repair(&bytes)).transpose()?;
    let file = segments.storage.append(&segments.path(newest.name)).map_err(reading)?;
    let Scan { name, done: length, chain, state, .. } = scan;
    Ok(Recovered {
        end: NewestSegment { name, length, begun_ms, file, chain },
        state,
        segments: files.len(),
        torn,
    })
}

/// Verifies the journal as a start does, and changes nothing. `newest` must be the newest segment;
/// it is read as far as `length`, since more may be written meanwhile. Returns the chain at that
/// place.
pub(super) fn end_at(
    segments: &SegmentDir,
    newest: SegmentName,
    length: u64,
) -> Result<Chain, LedgerError> {
    let files = segments.list().map_err(|error| LedgerError::io("read the journal", error))?;
    check_links(segments, &files)?;
    let mut scan = Scan { most: length, ..Scan::of(segments, newest) };
    if files.last().is_none_or(|file| file.name != newest) {
        return Err(scan.damaged("it is not the newest segment"));
    }
    scan.header()?;
    match scan.records()? {
        None if scan.done == length => Ok(scan.chain),
        None => Err(scan.damaged("it is shorter than it was written")),
        Some(_) => Err(scan.damaged("its last line is unfinished")),
    }
}

fn begin(segments: &SegmentDir, now_ms: u64) -> Result<Recovered, LedgerError> {
    let (mut chain, mut state, name) = (Chain::GENESIS, LedgerState::default(), SegmentName::FIRST);
    let created = segments.create(name, None, &mut chain, now_ms, &mut state);
    let beginning = |error| LedgerError::io("begin the journal", error);
    let (file, length) = created.map_err(beginning)?;
    segments.sync_names().map_err(beginning)?;
    Ok(Recovered {
        end: NewestSegment { name, length, begun_ms: now_ms, file, chain },
        state,
        segments: 1,
        torn: None,
    })
}

/// Checks that each segment names the last line of the one before it, and that none is missing
/// between them.
fn check_links(segments: &SegmentDir, files: &[SegmentFile]) -> Result<(), LedgerError> {
    let reading = |error| LedgerError::io("read the journal", error);
    let first = files.first().filter(|file| file.name == SegmentName::FIRST);
    if let Some(file) = first
        && segments
            .first_head(file.name)
            .map_err(reading)?
            .is_none_or(|head| head.prev != Hash::GENESIS)
    {
        return Err(LedgerError::damaged(
            segments,
            file.name,
            1,
            "it is not the beginning of a journal",
        ));
    }
    for pair in files.windows(2) {
        let [before, after] = [pair[0], pair[1]];
        if before.name.next() != after.name {
            return Err(LedgerError::damaged(
                segments,
                after.name,
                1,
                "the segment before it is missing",
            ));
        }
        let last = segments.last_hash(before).map_err(reading)?;
        let head = segments.first_head(after.name).map_err(reading)?;
        if last.is_none() || head.map(|head| head.prev) != last {
            let reason = format!("it does not name the last line of {}", before.name);
            return Err(LedgerError::damaged(segments, after.name, 1, reason));
        }
    }
    Ok(())
}

/// Reads the newest segment from its beginning.
struct Scan<'a> {
    segments: &'a SegmentDir,
    name: SegmentName,
    line: u64,
    /// Number of bytes of the whole, sound lines so far.
    done: u64,
    /// Most bytes that are read.
    most: u64,
    chain: Chain,
    state: LedgerState,
}

impl<'a> Scan<'a> {
    fn of(segments: &'a SegmentDir, name: SegmentName) -> Self {
        Self {
            segments,
            name,
            line: 0,
            done: 0,
            most: u64::MAX,
            chain: Chain::GENESIS,
            state: LedgerState::default(),
        }
    }
}

impl Scan<'_> {
    /// Starts with the state in the header. Returns the time at which the segment was begun.
    fn header(&mut self) -> Result<u64, LedgerError> {
        let mut bytes = Vec::new();
        self.line = 1;
        let mut reader = self.reader()?;
        if self.read(&mut reader, &mut bytes)? != JournalLine::Whole {
            // A segment gets its name only when its header is on the disk.
            return Err(self.damaged("its first line is not whole"));
        }
        let head = Head::parse(&bytes).map_err(|error| self.damaged(error.to_string()))?;
        let text = self.text(&bytes)?;
        let Ok(Some(Record::Segment(header))) = Record::parse(&head.kind, text) else {
            return Err(self.damaged("it does not start with the header of a segment"));
        };
        self.chain = head.chain_before();
        self.chain.check(&bytes).map_err(|error| self.damaged(error.to_string()))?;
        self.state = LedgerState::from_carried(header.carried);
        self.done = bytes.len() as u64 + 1;
        Ok(self.state.time_ms(head.time_ms))
    }

    /// Applies the records after the header to the state. Returns the bytes of an unfinished last
    /// line.
    fn records(&mut self) -> Result<Option<Vec<u8>>, LedgerError> {
        let mut bytes = Vec::new();
        let mut reader = self.reader()?;
        loop {
            self.line += 1;
            match self.read(&mut reader, &mut bytes)? {
                JournalLine::End => return Ok(None),
                JournalLine::Unfinished => return Ok(Some(bytes)),
                JournalLine::Whole => self.record(&bytes)?,
            }
        }
    }

    fn record(&mut self, bytes: &[u8]) -> Result<(), LedgerError> {
        let head = self.chain.check(bytes).map_err(|error| self.damaged(error.to_string()))?;
        let text = self.text(bytes)?;
        if LedgerState::concerns(&head.kind) {
            let record =
                Record::parse(&head.kind, text).map_err(|error| self.damaged(error.to_string()))?;
            record.iter().for_each(|record| self.state.apply(head.time_ms, record));
        } else {
            self.state.see(head.time_ms);
        }
        self.done += bytes.len() as u64 + 1;
        Ok(())
    }

    /// Keeps a last line that lacks only its newline. Cuts off any other unfinished line.
    fn repair(&mut self, bytes: &[u8]) -> Result<Torn, LedgerError> {
        let repairing = |error| LedgerError::io("repair the end of the journal", error);
        let path = self.segments.path(self.name);
        if { self.chain }.check(bytes).is_ok() {
            self.record(bytes)?;
            let mut file = self.segments.storage.append(&path).map_err(repairing)?;
            file.write(b"\n").and_then(|()| file.sync()).map_err(repairing)?;
            return Ok(Torn::Completed);
        }
        self.segments.storage.truncate(&path, self.done).map_err(repairing)?;
        Ok(Torn::Cut(bytes.len() as u64))
    }

    fn reader(&self) -> Result<BufReader<io::Take<Box<dyn io::Read>>>, LedgerError> {
        let opened = self.segments.open(self.name, self.done);
        opened
            .map(|reader| BufReader::with_capacity(1 << 16, reader.take(self.most - self.done)))
            .map_err(|error| LedgerError::io("read the journal", error))
    }

    fn read(
        &self,
        reader: &mut impl io::BufRead,
        bytes: &mut Vec<u8>,
    ) -> Result<JournalLine, LedgerError> {
        read_line(reader, bytes).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => self.damaged(error.to_string()),
            _ => LedgerError::io("read the journal", error),
        })
    }

    fn text<'a>(&self, bytes: &'a [u8]) -> Result<&'a str, LedgerError> {
        std::str::from_utf8(bytes).map_err(|error| self.damaged(error.to_string()))
    }

    fn damaged(&self, reason: impl Into<String>) -> LedgerError {
        LedgerError::damaged(self.segments, self.name, self.line, reason)
    }
}
