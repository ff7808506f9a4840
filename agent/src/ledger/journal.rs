//! Appends lines to the newest segment: one buffer, one write, and syncs that nothing unsynced outlives for long.

use std::io;
use std::time::{Duration, Instant};

use countersign_core::audit::{SegmentName, Segments as _};
use countersign_core::chain::{Chain, Link};
use countersign_core::record::{Record, Rotated};

use super::group_sync::{DELAY, GroupSync};
use super::segment::SegmentDir;
use super::state::State;
use super::storage::Appender;
use super::{Options, Retention};

/// The journal's end. After an error it is of no more use: what of the buffer was written is not known.
#[derive(Debug)]
pub(super) struct Journal {
    pub(super) segments: SegmentDir,
    /// The segment being written, how long it is with the buffer, and when it was begun.
    pub(super) name: SegmentName,
    pub(super) length: u64,
    pub(super) begun_ms: u64,
    pub(super) file: Box<dyn Appender>,
    pub(super) chain: Chain,
    buffer: Vec<u8>,
    /// When the first write that is not synced was made.
    unsynced_since: Option<Instant>,
    group_sync: Option<GroupSync>,
}

/// What a new journal, or one just recovered, goes on with.
#[derive(Debug)]
pub(super) struct End {
    pub(super) name: SegmentName,
    pub(super) length: u64,
    pub(super) begun_ms: u64,
    pub(super) file: Box<dyn Appender>,
    pub(super) chain: Chain,
}

impl Journal {
    pub(super) fn new(segments: SegmentDir, end: End, background_sync: bool) -> io::Result<Self> {
        let End { name, length, begun_ms, file, chain } = end;
        let group_sync = background_sync.then(|| GroupSync::start(file.syncer()?)).transpose()?;
        let buffer = Vec::with_capacity(64 * 1024);
        Ok(Self { segments, name, length, begun_ms, file, chain, buffer, unsynced_since: None, group_sync })
    }

    /// Puts a record at the end of the buffer, in a new segment where the old one is full or old.
    pub(super) fn append(
        &mut self,
        time_ms: u64,
        record: &Record<'_>,
        state: &mut State,
        options: &Options,
    ) -> io::Result<Link> {
        let old = state.time_ms(time_ms) >= self.begun_ms.saturating_add(options.segment_age_ms);
        if old || self.length >= options.segment_bytes {
            self.rotate(time_ms, state, options)?;
        }
        self.put(time_ms, record, state)
    }

    /// Whatever changes the state is applied here and nowhere else, as a restart will apply it.
    fn put(&mut self, time_ms: u64, record: &Record<'_>, state: &mut State) -> io::Result<Link> {
        let before = self.buffer.len();
        let link = self.chain.write(&mut self.buffer, time_ms, record)?;
        self.length += (self.buffer.len() - before) as u64;
        state.apply(time_ms, record);
        Ok(link)
    }

    /// Hands the buffer to the kernel in one write.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.file.write(&self.buffer)?;
        self.buffer.clear();
        self.unsynced_since.get_or_insert_with(Instant::now);
        self.group_sync.iter().for_each(GroupSync::written);
        Ok(())
    }

    /// Returns when all that was appended is on the disk.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.file.sync()?;
        self.unsynced_since = None;
        Ok(())
    }

    /// How long until a sync is due; `None` where nothing waits for one, or the thread does it.
    pub(super) fn sync_due(&self) -> Option<Duration> {
        let since = self.unsynced_since.filter(|_| self.group_sync.is_none())?;
        Some(DELAY.saturating_sub(since.elapsed()))
    }

    pub(super) fn sync_failure(&self) -> Option<String> {
        self.group_sync.as_ref().and_then(GroupSync::failure)
    }

    fn rotate(&mut self, time_ms: u64, state: &mut State, options: &Options) -> io::Result<()> {
        self.sync()?;
        let (previous, next) = (self.name, self.name.next());
        let (file, length) = self.segments.create(next, Some(previous), &mut self.chain, time_ms, state)?;
        if let Some(group_sync) = &self.group_sync {
            group_sync.follow(file.syncer()?);
        }
        (self.file, self.name, self.length, self.begun_ms) = (file, next, length, state.time_ms(time_ms));
        self.remove_old(time_ms, state, options.retention)
    }

    /// Retention: recorded and synced first, then removed. The newest segment carries all that is still needed.
    pub(super) fn remove_old(&mut self, time_ms: u64, state: &mut State, retention: Retention) -> io::Result<()> {
        let removed = self.outlived(state.time_ms(time_ms), retention)?;
        if removed.is_empty() {
            return Ok(());
        }
        let names = removed.iter().map(SegmentName::to_string).collect();
        let record = Record::Rotated(Rotated { segment: self.name.to_string().into(), removed: names });
        self.put(time_ms, &record, state)?;
        self.sync()?;
        // Oldest first: a crash in between leaves no gap.
        removed.into_iter().try_for_each(|name| self.segments.storage.remove(&self.segments.path(name)))
    }

    /// The oldest segments, as far as they are too old or too much.
    fn outlived(&self, now_ms: u64, retention: Retention) -> io::Result<Vec<SegmentName>> {
        let files = self.segments.list()?;
        let mut total: u64 = files.iter().map(|file| file.length).sum();
        let mut outlived = Vec::new();
        for pair in files.windows(2) {
            // A segment ends when the next one begins; one that cannot be read is kept.
            let ended_ms = self.segments.first_head(pair[1].name)?.map_or(u64::MAX, |head| head.time_ms);
            let too_old = ended_ms.saturating_add(retention.age_ms) <= now_ms;
            if !too_old && total <= retention.bytes {
                break;
            }
            total -= pair[0].length;
            outlived.push(pair[0].name);
        }
        Ok(outlived)
    }
}
