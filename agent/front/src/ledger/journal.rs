//! Appends lines to the newest segment: through one buffer, with one write, synced soon afterwards.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use countersign_base::system::full_disk::is_full;
use countersign_core::audit::{SegmentName, Segments as _};
use countersign_core::chain::{Chain, Link};
use countersign_core::record::{Record, Rotated};

use super::group_sync::{DELAY, GroupSync, SyncFailure};
use super::segment::{NewestSegment, SegmentDir};
use super::state::LedgerState;
use super::storage::{Appender, Space};
use super::{Options, Retention, recovery};

/// The end of the journal, where records are written. If a write or sync fails for lack of room, it
/// can be tried again and goes on after the last byte that arrived. After any other error the
/// journal cannot be used any more.
#[derive(Debug)]
pub(super) struct Journal {
    pub(super) segments: SegmentDir,
    /// The segment that is being written. `length` is its length with the buffer, `begun_ms` the
    /// time when it was begun.
    pub(super) name: SegmentName,
    pub(super) length: u64,
    pub(super) begun_ms: u64,
    pub(super) file: Box<dyn Appender>,
    pub(super) chain: Chain,
    buffer: Vec<u8>,
    /// A write failed: a part of the buffer may have arrived.
    torn: bool,
    /// A sync failed: bytes written since the last good sync may have been lost on their way to the
    /// disk.
    unsynced: bool,
    /// A segment was begun, and its name may not be on the disk yet.
    unnamed: bool,
    /// The number of bytes of the segment that are known to be on the disk.
    synced: u64,
    /// No new segment is begun before this one is that long: there was no room for a new one.
    next_rotation: u64,
    /// The moment of the first write that is not synced.
    unsynced_since: Option<Instant>,
    group_sync: Option<GroupSync>,
}

impl Journal {
    pub(super) fn new(
        segments: SegmentDir,
        end: NewestSegment,
        background_sync: bool,
    ) -> io::Result<Self> {
        let NewestSegment { name, length, begun_ms, file, chain } = end;
        let group_sync =
            background_sync.then(|| GroupSync::start(file.syncer()?, length)).transpose()?;
        Ok(Self {
            segments,
            name,
            length,
            begun_ms,
            file,
            chain,
            buffer: Vec::with_capacity(64 * 1024),
            torn: false,
            unsynced: false,
            unnamed: false,
            synced: length,
            next_rotation: 0,
            unsynced_since: None,
            group_sync,
        })
    }

    /// Goes on in a new segment if this one is full or old.
    pub(super) fn rotate_where_due(
        &mut self,
        time_ms: u64,
        state: &mut LedgerState,
        options: &Options,
    ) -> io::Result<()> {
        let old = state.time_ms(time_ms) >= self.begun_ms.saturating_add(options.segment_age_ms);
        if (old || self.length >= options.segment_bytes) && self.length >= self.next_rotation {
            self.rotate(time_ms, state, options)?;
        }
        Ok(())
    }

    /// Bytes that were appended and not written.
    pub(super) fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// Puts a record at the end of the buffer. Only this function changes the state, and it does so
    /// as a restart will do it from the record.
    pub(super) fn put(
        &mut self,
        time_ms: u64,
        record: &Record<'_>,
        state: &mut LedgerState,
    ) -> io::Result<Link> {
        let before = self.buffer.len();
        let link = self.chain.write(&mut self.buffer, time_ms, record)?;
        self.length += (self.buffer.len() - before) as u64;
        state.apply(time_ms, record);
        Ok(link)
    }

    /// Hands the buffer to the kernel in one write.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.torn || self.unsynced || self.unnamed {
            self.mend()?;
        }
        if self.buffer.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.file.write(&self.buffer) {
            self.torn = true;
            return Err(error);
        }
        self.buffer.clear();
        self.unsynced_since.get_or_insert_with(Instant::now);
        if let Some(group_sync) = &self.group_sync {
            group_sync.written(self.length);
        }
        Ok(())
    }

    /// Returns when all appended records are on the disk.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        if let Err(error) = self.file.sync() {
            self.unsynced = true;
            return Err(error);
        }
        if let Some(SyncFailure { reason, full }) = self.sync_failure() {
            // The kernel tells of lost bytes only once: it told the thread and not the sync above.
            self.unsynced = true;
            let kind = if full { io::ErrorKind::StorageFull } else { io::ErrorKind::Other };
            return Err(io::Error::new(kind, reason));
        }
        self.synced = self.length;
        self.unsynced_since = None;
        Ok(())
    }

    /// Takes note that the thread failed to sync for lack of room: the bytes have to be written
    /// again.
    pub(super) fn sync_failed(&mut self) {
        self.unsynced = true;
    }

    /// Repairs the state that failed operations have left.
    fn mend(&mut self) -> io::Result<()> {
        if self.torn {
            self.take_up()?;
            self.torn = false;
        }
        if self.unnamed {
            self.segments.sync_names()?;
            self.unnamed = false;
        }
        if self.unsynced {
            self.write_again()?;
            self.group_sync.iter().for_each(GroupSync::forget_failure);
            self.unsynced = false;
        }
        Ok(())
    }

    /// Removes from the buffer the bytes that have arrived in the file.
    fn take_up(&mut self) -> io::Result<()> {
        let written = self.written();
        let arrived =
            self.file.length()?.checked_sub(written).and_then(|more| usize::try_from(more).ok());
        let arrived =
            arrived.filter(|more| *more <= self.buffer.len()).ok_or_else(not_as_written)?;
        if self.read(written, arrived)? != self.buffer[..arrived] {
            return Err(not_as_written());
        }
        self.buffer.drain(..arrived);
        Ok(())
    }

    /// Writes again, in their places, the bytes that no sync is known to cover: after a failed sync
    /// the kernel may treat them as written. The file has the same contents wherever this is
    /// interrupted.
    fn write_again(&mut self) -> io::Result<()> {
        let synced = self.group_sync.as_ref().map_or(0, GroupSync::synced).max(self.synced);
        let length =
            usize::try_from(self.written().saturating_sub(synced)).map_err(|_| not_as_written())?;
        let bytes = self.read(synced, length)?;
        self.segments.storage.rewrite(&self.segments.path(self.name), synced, &bytes)?;
        self.synced = synced + bytes.len() as u64;
        Ok(())
    }

    /// The number of bytes of the segment that were handed to the kernel.
    fn written(&self) -> u64 {
        self.length - self.buffer.len() as u64
    }

    fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(length);
        let file = self.segments.storage.open(&self.segments.path(self.name), offset)?;
        file.take(length as u64).read_to_end(&mut bytes)?;
        if bytes.len() == length { Ok(bytes) } else { Err(not_as_written()) }
    }

    /// Reads the journal as a start does, and compares it with the records written so far. The
    /// thread does this if there is one, since a segment is long. `None` until it is done.
    pub(super) fn verify(&self) -> Option<Result<(), String>> {
        let (segments, name, length, chain) =
            (self.segments.clone(), self.name, self.length, self.chain);
        let check = move || match recovery::end_at(&segments, name, length) {
            Ok(found) if found == chain => Ok(()),
            Ok(_) => Err(not_as_written().to_string()),
            Err(error) => Err(error.to_string()),
        };
        match &self.group_sync {
            Some(group_sync) => group_sync.verify(check),
            None => Some(check()),
        }
    }

    /// True while the thread verifies. Nothing that it reads may be removed until it is done.
    pub(super) fn verifies(&self) -> bool {
        self.group_sync.as_ref().is_some_and(GroupSync::verifies)
    }

    /// The time until a sync is due. `None` if nothing waits for one, or if the thread does it.
    pub(super) fn sync_due(&self) -> Option<Duration> {
        let since = self.unsynced_since.filter(|_| self.group_sync.is_none())?;
        Some(DELAY.saturating_sub(since.elapsed()))
    }

    pub(super) fn sync_failure(&self) -> Option<SyncFailure> {
        self.group_sync.as_ref().and_then(GroupSync::failure)
    }

    /// Goes on in a new segment. If there is no room for one, the old segment grows.
    fn rotate(
        &mut self,
        time_ms: u64,
        state: &mut LedgerState,
        options: &Options,
    ) -> io::Result<()> {
        self.sync()?;
        if let Some(group_sync) = &self.group_sync {
            // After this, bytes of the old segment that a sync of the thread loses could not be
            // written again. So its sync has to end first.
            group_sync.settle();
            self.sync()?;
        }
        let (previous, next) = (self.name, self.name.next());
        let (file, length) =
            match self.segments.create(next, Some(previous), &mut self.chain, time_ms, state) {
                Err(error) if is_full(&error) => {
                    self.next_rotation = self.length + options.segment_bytes / 16;
                    return Ok(());
                }
                created => created?,
            };
        if let Some(group_sync) = &mut self.group_sync {
            group_sync.follow(file.syncer()?, length);
        }
        (self.file, self.name, self.length, self.begun_ms) =
            (file, next, length, state.time_ms(time_ms));
        (self.synced, self.next_rotation) = (length, 0);
        self.unnamed = true;
        self.mend()?;
        self.remove_old(time_ms, state, options.retention)
    }

    /// Removes segments that retention no longer keeps: this is recorded and synced first. The
    /// newest segment carries all that is still needed.
    pub(super) fn remove_old(
        &mut self,
        time_ms: u64,
        state: &mut LedgerState,
        retention: Retention,
    ) -> io::Result<()> {
        let removed = self.outlived(state.time_ms(time_ms), retention)?;
        if removed.is_empty() {
            return Ok(());
        }
        let names = removed.iter().map(SegmentName::to_string).collect();
        let record =
            Record::Rotated(Rotated { segment: self.name.to_string().into(), removed: names });
        self.put(time_ms, &record, state)?;
        self.sync()?;
        // The oldest goes first, so that a crash in between leaves no gap.
        removed
            .into_iter()
            .try_for_each(|name| self.segments.storage.remove(&self.segments.path(name)))
    }

    /// The oldest segments that are too old, or that together are too large for the retention or
    /// for their disk.
    fn outlived(&self, now_ms: u64, retention: Retention) -> io::Result<Vec<SegmentName>> {
        let space = self.segments.storage.space(&self.segments.dir).ok();
        let files = self.segments.list()?;
        let mut total: u64 = files.iter().map(|file| file.length).sum();
        let (mut outlived, mut freed) = (Vec::new(), 0);
        for pair in files.windows(2) {
            // A segment ends when the next one begins. If the next one cannot be read, the segment
            // is kept.
            let ended_ms =
                self.segments.first_head(pair[1].name)?.map_or(u64::MAX, |head| head.time_ms);
            let too_old = ended_ms.saturating_add(retention.age_ms) <= now_ms;
            let most = space
                .map_or(u64::MAX, |space| Space { free: space.free + freed, ..space }.journal());
            if !too_old && total <= retention.bytes.min(most) {
                break;
            }
            total -= pair[0].length;
            freed += pair[0].length;
            outlived.push(pair[0].name);
        }
        Ok(outlived)
    }
}

fn not_as_written() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the journal is not what was written")
}
