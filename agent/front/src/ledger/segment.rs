//! Makes, names and links the segments of the journal, which are files.

use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use countersign_core::audit::{JournalLine, SegmentFile, SegmentName, Segments, read_line};
use countersign_core::chain::{Chain, Hash, Head};
use countersign_core::record::{PreviousSegment, Record, SegmentHeader};

use super::state::LedgerState;
use super::storage::{Appender, Storage};

/// End of the name of a segment that is not complete yet. The next start removes such a file.
const UNFINISHED_SEGMENT: &str = ".new";

/// The directory of one journal.
#[derive(Clone, Debug)]
pub struct SegmentDir {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) dir: PathBuf,
}

impl SegmentDir {
    /// The journal below a state directory.
    pub fn new(storage: Arc<dyn Storage>, state_dir: &Path) -> Self {
        Self { storage, dir: state_dir.join("journal") }
    }

    pub(super) fn path(&self, name: SegmentName) -> PathBuf {
        self.dir.join(name.to_string())
    }

    /// Removes segments that a crash left half made.
    pub(super) fn remove_unfinished(&self) -> io::Result<()> {
        for (name, _) in self.storage.list(&self.dir)? {
            if name.ends_with(UNFINISHED_SEGMENT) {
                self.storage.remove(&self.dir.join(name))?;
            }
        }
        Ok(())
    }

    /// Makes a segment whose first line carries `state`. If that fails, nothing of it is left and
    /// `chain` is as it was.
    ///
    /// The line is on the disk when this returns. The name is on the disk once [`Self::sync_names`]
    /// has returned.
    pub(super) fn create(
        &self,
        name: SegmentName,
        previous: Option<SegmentName>,
        chain: &mut Chain,
        time_ms: u64,
        state: &mut LedgerState,
    ) -> io::Result<(Box<dyn Appender>, u64)> {
        let last_hash = chain.last_hash();
        let previous = previous.map(|segment| PreviousSegment {
            segment: segment.to_string(),
            last_hash: last_hash.to_string(),
        });
        let header =
            SegmentHeader { segment: name.to_string().into(), previous, carried: state.carry() };
        let (mut line, mut after) = (Vec::new(), *chain);
        after.write(&mut line, time_ms, &Record::Segment(Box::new(header)))?;
        let temporary = self.dir.join(format!("{name}{UNFINISHED_SEGMENT}"));
        let file = self.place(&temporary, &self.path(name), &line).inspect_err(|_| {
            // If this fails, the next start removes the file.
            let _ = self.storage.remove(&temporary);
        })?;
        *chain = after;
        Ok((file, line.len() as u64))
    }

    fn place(&self, temporary: &Path, path: &Path, line: &[u8]) -> io::Result<Box<dyn Appender>> {
        let mut file = match self.storage.create(temporary) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.storage.remove(temporary)?;
                self.storage.create(temporary)?
            }
            created => created?,
        };
        file.write(line)?;
        file.sync()?;
        self.storage.rename(temporary, path)?;
        Ok(file)
    }

    /// Returns when the names of all segments are on the disk.
    pub(super) fn sync_names(&self) -> io::Result<()> {
        self.storage.sync_dir(&self.dir)
    }

    /// The head of the first line; `None` if that line is not whole.
    pub(super) fn first_head(&self, name: SegmentName) -> io::Result<Option<Head<'static>>> {
        let mut line = Vec::new();
        let mut reader = BufReader::new(self.storage.open(&self.path(name), 0)?);
        let whole = read_line(&mut reader, &mut line)? == JournalLine::Whole;
        let head = whole.then(|| Head::parse(&line).ok()).flatten();
        Ok(head.map(|head| Head {
            seq: head.seq,
            time_ms: head.time_ms,
            kind: head.kind.into_owned().into(),
            prev: head.prev,
        }))
    }

    /// The hash of the last line; `None` if that line is not whole.
    pub(super) fn last_hash(&self, file: SegmentFile) -> io::Result<Option<Hash>> {
        let mut span = 64 * 1024;
        loop {
            let offset = file.length.saturating_sub(span);
            let mut bytes = Vec::new();
            self.storage
                .open(&self.path(file.name), offset)?
                .take(file.length - offset)
                .read_to_end(&mut bytes)?;
            let Some(lines) = bytes.strip_suffix(b"\n") else { return Ok(None) };
            if let Some(start) = lines.iter().rposition(|byte| *byte == b'\n') {
                return Ok(Some(Hash::of(&lines[start + 1..])));
            }
            if offset == 0 {
                return Ok(Some(Hash::of(lines)));
            }
            span *= 4;
        }
    }
}

impl Segments for SegmentDir {
    fn list(&self) -> io::Result<Vec<SegmentFile>> {
        let files = self.storage.list(&self.dir)?.into_iter();
        let mut segments: Vec<_> = files
            .filter_map(|(name, length)| {
                Some(SegmentFile { name: SegmentName::parse(&name)?, length })
            })
            .collect();
        segments.sort_by_key(|segment| segment.name);
        Ok(segments)
    }

    fn open(&self, name: SegmentName, offset: u64) -> io::Result<Box<dyn Read>> {
        self.storage.open(&self.path(name), offset)
    }
}

/// The newest segment, from which a new or recovered journal goes on.
#[derive(Debug)]
pub(super) struct NewestSegment {
    pub(super) name: SegmentName,
    pub(super) length: u64,
    pub(super) begun_ms: u64,
    pub(super) file: Box<dyn Appender>,
    pub(super) chain: Chain,
}
