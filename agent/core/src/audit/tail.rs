//! Reads a journal on from a record, also while the agent writes.

use std::io::{self, BufReader, Read};

use super::{Entry, Line, SegmentFile, SegmentName, Segments, index_of, read_line};
use crate::chain::Head;

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

    /// The number of the last record that was read, or passed over.
    pub fn last(&self) -> u64 {
        self.after
    }

    /// The next records, at most `limit`; none where nothing new was written. Lines that are no
    /// records are passed over: to judge the journal is the business of [`super::verify`].
    pub fn read(&mut self, segments: &impl Segments, limit: usize) -> io::Result<Vec<Entry>> {
        let (mut entries, mut line) = (Vec::new(), Vec::new());
        while entries.len() < limit {
            // Listed before reading: a segment that is not the newest here is complete.
            let files = segments.list()?;
            let Some((name, offset)) = self.locate(segments, &files)? else { break };
            let mut reader = BufReader::new(segments.open(name, offset)?);
            while entries.len() < limit && read_line(&mut reader, &mut line)? == Line::Whole {
                self.place = Some((
                    name,
                    self.place.map_or(offset, |place| place.1) + line.len() as u64 + 1,
                ));
                let entry = Entry::parse(std::mem::take(&mut line))
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
                self.place = Some((next, 0));
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
        self.place = match self.place {
            // Retention removed what was being read.
            Some((name, _)) if oldest.is_some_and(|oldest| oldest > name) => {
                oldest.map(|oldest| (oldest, 0))
            }
            Some(place) => Some(place),
            None if files.is_empty() => None,
            None => {
                let next = self.after.saturating_add(1);
                let file = files[index_of(segments, files, next)?];
                Some((file.name, offset_before(segments, file, next)?))
            }
        };
        Ok(self.place)
    }
}

/// So near to a record it is looked for line by line.
const NEAR: u64 = 64 * 1024;

/// The start of a line of a segment that holds record `seq`: of that record, or of one not far
/// before it. Halves the segment until it is found, since a segment is long and many may follow a
/// journal.
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

/// Where the first record starts of which the whole line stands between two bytes of a segment, and
/// its number.
fn record_behind(
    segments: &impl Segments,
    name: SegmentName,
    start: u64,
    end: u64,
) -> io::Result<Option<(u64, u64)>> {
    let mut reader = BufReader::new(segments.open(name, start)?.take(end - start));
    let (mut line, mut offset) = (Vec::new(), start);
    // Most of the time the first one is the end of a line, which is no record.
    while read_line(&mut reader, &mut line)? == Line::Whole {
        match Head::parse(&line) {
            Ok(head) if offset > start => return Ok(Some((offset, head.seq))),
            _ => offset += line.len() as u64 + 1,
        }
    }
    Ok(None)
}
