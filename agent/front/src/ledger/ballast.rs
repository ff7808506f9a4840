//! Sets room aside on the disk. When the disk is full this room is freed, so that refusals, a lock
//! and the end of the run can still be recorded.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::storage::{Space, Storage};

/// The file that holds the room, below the state directory. It may be emptied or removed at any
/// time.
pub fn ballast_file(state_dir: &Path) -> PathBuf {
    state_dir.join("ballast")
}

#[derive(Debug)]
pub(super) struct Ballast {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    size: u64,
    held: bool,
}

impl Ballast {
    /// Continues with the file of an earlier run, if there is one. Sets aside at most `most` bytes;
    /// 0 means none.
    pub(super) fn open(storage: Arc<dyn Storage>, state_dir: &Path, most: u64) -> Self {
        let size = storage.space(state_dir).map_or(most, |space| most.min(space.ballast()));
        let path = ballast_file(state_dir);
        let mut ballast = Self { storage, path, size, held: size == 0 };
        ballast.held |= ballast.length().is_some_and(|length| length >= size);
        ballast
    }

    /// The free space that has to be there, if there is less; `None` if there is enough. Room that
    /// was freed needs twice its size to be set aside again, so that the first records do not use
    /// up the rest at once.
    pub(super) fn missing(&self, space: Space) -> Option<u64> {
        let wanted = if self.held { self.size } else { 2 * self.size };
        (space.free < wanted).then_some(wanted)
    }

    /// Frees the room; false if there is none to free.
    pub(super) fn throw_off(&mut self) -> bool {
        if self.size == 0 || !self.held {
            return false;
        }
        self.held = false;
        // The empty file stays: even on a full disk it can be renamed to make another file.
        self.storage.truncate(&self.path, 0).is_ok()
    }

    /// Sets the room aside.
    pub(super) fn take_on(&mut self) -> io::Result<()> {
        if self.held {
            return Ok(());
        }
        let filled = self.fill();
        if filled.is_err() {
            let _ = self.storage.truncate(&self.path, 0); // best effort
        }
        self.held = filled.is_ok();
        filled
    }

    /// Writes bytes that a compressing file system cannot shrink.
    fn fill(&self) -> io::Result<()> {
        let mut file = match self.length() {
            Some(_) => self.storage.append(&self.path)?,
            None => self.storage.create(&self.path)?,
        };
        let mut noise = Noise(self.size | 1);
        let mut left = self.size.saturating_sub(file.length()?);
        while left > 0 {
            let mut chunk = noise.chunk();
            chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len()));
            file.write(&chunk)?;
            left -= chunk.len() as u64;
        }
        file.sync()
    }

    fn length(&self) -> Option<u64> {
        let name = self.path.file_name()?.to_str()?;
        let files = self.storage.list(self.path.parent()?).ok()?;
        files.into_iter().find(|file| file.0 == name).map(|file| file.1)
    }
}

/// Numbers without a pattern (xorshift64).
struct Noise(u64);

impl Noise {
    fn chunk(&mut self) -> Vec<u8> {
        const WORDS_AT_ONCE: usize = 8 * 1024;
        let mut bytes = Vec::with_capacity(WORDS_AT_ONCE * 8);
        for _ in 0..WORDS_AT_ONCE {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            bytes.extend_from_slice(&self.0.to_le_bytes());
        }
        bytes
    }
}
