//! Simulates a disk in memory. It fails on command, and at a power cut it loses data that was not
//! synced.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::storage::{Appender, Space, Storage, Syncer};

/// The part of the unsynced data that a power cut takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Loss {
    /// Every byte and name.
    All,
    /// Half of the bytes after the last sync; names are kept.
    Half,
    /// Nothing: the kernel had just written it all.
    Nothing,
    /// The length is kept and the bytes are zeros.
    Zeros,
}

impl Loss {
    pub(super) const ALL: [Self; 4] = [Self::All, Self::Half, Self::Nothing, Self::Zeros];
}

#[derive(Clone, Debug, Default)]
pub(super) struct SimulatedDisk(Arc<Mutex<Inner>>);

#[derive(Clone, Debug, Default)]
struct Inner {
    files: Vec<FileData>,
    names: BTreeMap<PathBuf, usize>,
    synced_names: BTreeMap<PathBuf, usize>,
    locked: bool,
    operations: u64,
    /// Number of the first operation that fails; all later ones fail too. A write that fails leaves
    /// half of its bytes.
    fails_after: Option<u64>,
    error: Option<io::ErrorKind>,
    /// Most bytes of all files together, if that is bounded.
    capacity: Option<u64>,
    /// Bytes that other programs use.
    of_others: u64,
    /// While a test holds this lock, reads of a file from its beginning wait.
    reading: Arc<Mutex<()>>,
}

#[derive(Clone, Debug, Default)]
struct FileData {
    bytes: Vec<u8>,
    synced: usize,
}

impl SimulatedDisk {
    /// Lets `operations` more changes succeed.
    pub(super) fn fail_after(&self, operations: u64) {
        let mut inner = self.inner();
        inner.fails_after = Some(inner.operations + operations);
    }

    pub(super) fn fail_with(&self, error: io::ErrorKind) {
        self.inner().error = Some(error);
        self.fail_after(0);
    }

    /// Every change succeeds again.
    pub(super) fn works_again(&self) {
        let mut inner = self.inner();
        (inner.fails_after, inner.error) = (None, None);
    }

    /// The lock that makes reads of a file from its beginning wait.
    pub(super) fn reading(&self) -> Arc<Mutex<()>> {
        Arc::clone(&self.inner().reading)
    }

    /// Bounds the bytes of all files together. The bytes that they do not use are free.
    pub(super) fn set_capacity(&self, bytes: u64) {
        self.inner().capacity = Some(bytes);
    }

    /// Other programs take all free bytes except this number.
    pub(super) fn leave_free(&self, bytes: u64) {
        let mut inner = self.inner();
        let free = inner.capacity.unwrap_or_default().saturating_sub(inner.used());
        inner.of_others += free.saturating_sub(bytes);
    }

    /// Other programs free all the bytes that they took.
    pub(super) fn others_go(&self) {
        self.inner().of_others = 0;
    }

    /// The number of changes that were made.
    pub(super) fn operations(&self) -> u64 {
        self.inner().operations
    }

    /// The bytes of all files together.
    pub(super) fn used(&self) -> u64 {
        self.inner().used()
    }

    /// The disk as the next boot finds it.
    pub(super) fn after_power_cut(&self, loss: Loss) -> Self {
        let mut inner = self.inner().clone();
        for file in &mut inner.files {
            let unsynced = file.bytes.len() - file.synced;
            match loss {
                Loss::All => file.bytes.truncate(file.synced),
                Loss::Half => file.bytes.truncate(file.synced + unsynced / 2),
                Loss::Nothing => {}
                Loss::Zeros => file.bytes[file.synced..].fill(0),
            }
            file.synced = file.bytes.len();
        }
        if loss == Loss::All {
            inner.names = inner.synced_names.clone();
        }
        inner.restarted()
    }

    /// The disk as a new process finds it when the old one was killed.
    pub(super) fn after_kill(&self) -> Self {
        self.inner().clone().restarted()
    }

    /// The bytes of a file.
    pub(super) fn bytes(&self, path: &Path) -> Vec<u8> {
        let inner = self.inner();
        inner.files[inner.names[path]].bytes.clone()
    }

    /// Replaces the bytes of a file and syncs them.
    pub(super) fn replace(&self, path: &Path, bytes: Vec<u8>) {
        let mut inner = self.inner();
        let index = inner.names[path];
        inner.files[index] = FileData { synced: bytes.len(), bytes };
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no test panics while it holds the disk")
    }

    fn change(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let mut inner = self.inner();
        inner.may_change()?;
        Ok(inner)
    }
}

impl Inner {
    fn restarted(mut self) -> SimulatedDisk {
        (self.locked, self.fails_after, self.error) = (false, None, None);
        self.synced_names = self.names.clone();
        SimulatedDisk(Arc::new(Mutex::new(self)))
    }

    fn may_change(&mut self) -> io::Result<()> {
        if self.fails_after.is_some_and(|limit| self.operations >= limit) {
            return Err(self.error.unwrap_or(io::ErrorKind::Other).into());
        }
        self.operations += 1;
        Ok(())
    }

    fn used(&self) -> u64 {
        let own: u64 = self.names.values().map(|index| self.files[*index].bytes.len() as u64).sum();
        own + self.of_others
    }

    /// The number of `bytes` that there is room for.
    fn room_for(&self, bytes: usize) -> usize {
        let free = self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used()));
        bytes.min(usize::try_from(free).unwrap_or(usize::MAX))
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Storage for SimulatedDisk {
    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.change()?;
        let names = inner.names.clone();
        inner.synced_names.retain(|path, _| path.parent() != Some(dir));
        inner.synced_names.extend(names.into_iter().filter(|(path, _)| path.parent() == Some(dir)));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        let inner = self.inner();
        let here = inner.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        let entry = |(path, index): (&PathBuf, &usize)| {
            let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
            (name, inner.files[*index].bytes.len() as u64)
        };
        Ok(here.map(entry).collect())
    }

    fn open(&self, path: &Path, offset: u64) -> io::Result<Box<dyn Read>> {
        if offset == 0 {
            let reading = Arc::clone(&self.inner().reading);
            drop(reading.lock());
        }
        let inner = self.inner();
        let bytes = &inner.files[inner.find(path)?].bytes;
        Ok(Box::new(Cursor::new(bytes.get(offset as usize..).unwrap_or_default().to_vec())))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Appender>> {
        let mut inner = self.change()?;
        if inner.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let index = inner.files.len();
        inner.files.push(FileData::default());
        inner.names.insert(path.to_owned(), index);
        Ok(Box::new(Handle { disk: self.clone(), index }))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn Appender>> {
        let index = self.inner().find(path)?;
        Ok(Box::new(Handle { disk: self.clone(), index }))
    }

    fn rewrite(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.change()?;
        let index = inner.find(path)?;
        let file = &mut inner.files[index];
        let offset = offset as usize;
        file.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
        file.synced = file.bytes.len();
        Ok(())
    }

    fn truncate(&self, path: &Path, length: u64) -> io::Result<()> {
        let mut inner = self.change()?;
        let index = inner.find(path)?;
        let file = &mut inner.files[index];
        file.bytes.truncate(length as usize);
        file.synced = file.bytes.len();
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.change()?;
        let index = inner.find(from)?;
        inner.names.remove(from);
        inner.names.insert(to.to_owned(), index);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner().find(path)?;
        self.change()?.names.remove(path);
        Ok(())
    }

    fn lock(&self, _path: &Path) -> io::Result<Box<dyn Debug + Send>> {
        let mut inner = self.inner();
        if std::mem::replace(&mut inner.locked, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Unlock(self.clone())))
    }

    fn space(&self, _dir: &Path) -> io::Result<Space> {
        let inner = self.inner();
        let Some(total) = inner.capacity else {
            return Ok(Space { free: 1 << 40, total: 1 << 41 });
        };
        Ok(Space { free: total.saturating_sub(inner.used()), total })
    }
}

#[derive(Debug)]
struct Unlock(SimulatedDisk);

impl Drop for Unlock {
    fn drop(&mut self) {
        self.0.inner().locked = false;
    }
}

#[derive(Clone, Debug)]
struct Handle {
    disk: SimulatedDisk,
    index: usize,
}

impl Appender for Handle {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.disk.inner();
        let allowed = inner.may_change();
        let room = inner.room_for(bytes.len());
        let written = if allowed.is_ok() { &bytes[..room] } else { &bytes[..bytes.len() / 2] };
        inner.files[self.index].bytes.extend_from_slice(written);
        allowed?;
        if room < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.inner().files[self.index].bytes.len() as u64)
    }

    fn syncer(&self) -> io::Result<Box<dyn Syncer>> {
        Ok(Box::new(self.clone()))
    }
}

impl Syncer for Handle {
    fn sync(&self) -> io::Result<()> {
        let mut inner = self.disk.change()?;
        let file = &mut inner.files[self.index];
        file.synced = file.bytes.len();
        Ok(())
    }
}
