//! Reads the records of a journal after a given one, also while the agent writes.

use std::io::{self, BufReader, Read};

use super::{JournalEntry, JournalLine, SegmentFile, SegmentName, Segments, index_of, read_line};
use crate::chain::Head;

/// A position in a journal. The records after it are read next.
#[derive(Clone, Debug)]
pub struct Tail {
    after: u64,
    /// The segment being read, and the number of its bytes that are done.
    position: Option<(SegmentName, u64)>,
}

impl Tail {
    /// Starts after the record with number `seq`; 0 reads all records.
    pub const fn after(seq: u64) -> Self {
        Self { after: seq, position: None }
    }

    /// The number of the last record that was read, or at first the number given to
    /// [`Self::after`].
    pub fn last(&self) -> u64 {
        self.after
    }

    /// The next records, at most `limit`; none if nothing new was written. It skips lines that are
    /// not records: [`super::verify`] judges the journal.
    pub fn read(
        &mut self,
        segments: &impl Segments,
        limit: usize,
    ) -> io::Result<Vec<JournalEntry>> {
        let (mut entries, mut line) = (Vec::new(), Vec::new());
        while entries.len() < limit {
            // The segments are listed before the reading, so that a segment which is not the newest
            // here is complete.
            let files = segments.list()?;
            let Some((name, offset)) = self.locate(segments, &files)? else { break };
            let mut reader = BufReader::new(segments.open(name, offset)?);
            while entries.len() < limit && read_line(&mut reader, &mut line)? == JournalLine::Whole
            {
                self.position = Some((
                    name,
                    self.position.map_or(offset, |position| position.1) + line.len() as u64 + 1,
                ));
                let entry = JournalEntry::parse(std::mem::take(&mut line))
                    .ok()
                    .filter(|entry| entry.seq > self.after);
                self.after = entry.as_ref().map_or(self.after, |entry| entry.seq);
                entries.extend(entry);
            }
            if entries.len() < limit {
                let Some(next) = files.iter().map(|file| file.name).find(|other| *other > name)
                else {
                    break;
                };
                self.position = Some((next, 0));
            }
        }
        Ok(entries)
    }

    fn locate(
        &mut self,
        segments: &impl Segments,
        files: &[SegmentFile],
    ) -> io::Result<Option<(SegmentName, u64)>> {
        let oldest = files.first().map(|file| file.name);
        self.position = match self.position {
            // Retention removed the segment that was being read.
            Some((name, _)) if oldest.is_some_and(|oldest| oldest > name) => {
                oldest.map(|oldest| (oldest, 0))
            }
            Some(position) => Some(position),
            None if files.is_empty() => None,
            None => {
                let next = self.after.saturating_add(1);
                let file = files[index_of(segments, files, next)?];
                Some((file.name, offset_before(segments, file, next)?))
            }
        };
        Ok(self.position)
    }
}

/// Longest part of a segment, in bytes, that is searched line by line.
const NEAR: u64 = 64 * 1024;

/// The offset of a line in the segment that holds record `seq`: the line of that record, or one not
/// far before it. The search halves the segment again and again, because a segment is long and many
/// readers may follow a journal.
fn offset_before(segments: &impl Segments, file: SegmentFile, seq: u64) -> io::Result<u64> {
    let (mut start, mut end) = (0, file.length);
    while end - start > NEAR {
        let middle = start + (end - start) / 2;
        match record_behind(segments, file.name, middle, end)? {
            Some((offset, number)) if number <= seq => start = offset,
            _ => end = middle,
        }
    }
    Ok(start)
}

/// The offset and the number of the first record whose whole line is between the bytes `start` and
/// `end` of a segment.
fn record_behind(
    segments: &impl Segments,
    name: SegmentName,
    start: u64,
    end: u64,
) -> io::Result<Option<(u64, u64)>> {
    let mut reader = BufReader::new(segments.open(name, start)?.take(end - start));
    let (mut line, mut offset) = (Vec::new(), start);
    // The first line is mostly the end of a line that began before `start`, which is not a record.
    while read_line(&mut reader, &mut line)? == JournalLine::Whole {
        match Head::parse(&line) {
            Ok(head) if offset > start => return Ok(Some((offset, head.seq))),
            _ => offset += line.len() as u64 + 1,
        }
    }
    Ok(None)
}
