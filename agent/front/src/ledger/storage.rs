//! Names the file operations that the ledger uses, so that tests can put a simulated disk behind
//! them.

use std::fmt::Debug;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags};

/// A file system. A power cut may take everything that was not synced. The file's `sync` keeps its
/// bytes; `sync_dir` of its directory keeps its name.
pub trait Storage: Debug + Send + Sync {
    /// Makes a directory for the owner only. It is no error if the directory exists.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Names and lengths of the files in a directory, sorted by name.
    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>>;
    /// Opens a file for reading from the byte at `offset`.
    fn open(&self, path: &Path, offset: u64) -> io::Result<Box<dyn Read>>;
    /// Makes a new file that only the owner can read and write. It is an error if the file exists.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Appender>>;
    /// Opens a file for writing at its end.
    fn append(&self, path: &Path) -> io::Result<Box<dyn Appender>>;
    /// Writes over the bytes at `offset`, and syncs the new ones.
    fn rewrite(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Shortens a file and syncs the change.
    fn truncate(&self, path: &Path, length: u64) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Takes a lock that ends when the value is dropped. [`io::ErrorKind::WouldBlock`] if another
    /// process holds the lock.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Debug + Send>>;
    fn space(&self, dir: &Path) -> io::Result<Space>;
}

/// A file that only grows.
pub trait Appender: Syncer {
    /// Writes all of `bytes`. If that fails, [`Self::length`] tells how many arrived.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    fn length(&self) -> io::Result<u64>;
    /// A second handle, for another thread that syncs.
    fn syncer(&self) -> io::Result<Box<dyn Syncer>>;
}

pub trait Syncer: Debug + Send + Sync {
    /// Returns when all written bytes are on the disk (fdatasync).
    fn sync(&self) -> io::Result<()>;
}

/// Room on the disk for an unprivileged process, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Space {
    pub free: u64,
    pub total: u64,
}

impl Space {
    /// True if the operator should be warned. The agent stops signing when the disk is full, so
    /// this is true long before.
    pub const fn is_low(self) -> bool {
        self.free < 256 * MEBIBYTE || self.free < self.total / 20
    }

    /// If less than this is free, the clients that write most have to wait.
    pub const fn floor(self) -> u64 {
        smaller(256 * MEBIBYTE, self.total / 16)
    }

    pub const fn is_below_floor(self) -> bool {
        self.free < self.floor()
    }

    /// Most bytes that may be set aside: enough for days of refusals, and only a small part of a
    /// small disk.
    pub const fn ballast(self) -> u64 {
        smaller(4 * MEBIBYTE, self.total / 32)
    }

    /// Longest segment in bytes. It is short enough that retention finds a segment to remove on a
    /// small disk.
    pub const fn segment(self) -> u64 {
        let least = 64 * 1024;
        if self.total / 128 < least { least } else { self.total / 128 }
    }

    /// Longest journal in bytes: as long as the space that it leaves free. Even if other programs
    /// fill the disk it is 1 GiB, or a quarter of a small disk.
    pub const fn journal(self) -> u64 {
        let least = smaller(1024 * MEBIBYTE, self.total / 4);
        if self.free < least { least } else { self.free }
    }
}

const MEBIBYTE: u64 = 1024 * 1024;

const fn smaller(one: u64, other: u64) -> u64 {
    if one < other { one } else { other }
}

/// The real file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Storage for Disk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            files.push((entry.file_name().to_string_lossy().into_owned(), entry.metadata()?.len()));
        }
        files.sort();
        Ok(files)
    }

    fn open(&self, path: &Path, offset: u64) -> io::Result<Box<dyn Read>> {
        let mut file = plain().read(true).open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Appender>> {
        Ok(Box::new(plain().append(true).create_new(true).open(path)?))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn Appender>> {
        Ok(Box::new(plain().append(true).open(path)?))
    }

    fn rewrite(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let file = plain().write(true).open(path)?;
        file.write_all_at(bytes, offset)?;
        file.sync_data()
    }

    fn truncate(&self, path: &Path, length: u64) -> io::Result<()> {
        let file = plain().write(true).open(path)?;
        file.set_len(length)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Debug + Send>> {
        let file = plain().append(true).create(true).open(path)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(file))
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let found = rustix::fs::statvfs(dir)?;
        Ok(Space { free: found.f_bavail * found.f_frsize, total: found.f_blocks * found.f_frsize })
    }
}

/// Options for files of the owner only. They never follow a symbolic link.
fn plain() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600).custom_flags(OFlags::NOFOLLOW.bits() as i32);
    options
}

impl Appender for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn syncer(&self) -> io::Result<Box<dyn Syncer>> {
        Ok(Box::new(self.try_clone()?))
    }
}

impl Syncer for File {
    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_are_for_the_owner_only_and_links_are_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("made/file");
        Disk.create_dir(&dir.path().join("made")).expect("made");
        Disk.create(&path).expect("made").write(b"x").expect("written");
        let mode =
            |path: &Path| std::fs::metadata(path).expect("is there").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&dir.path().join("made"))), (0o600, 0o700));
        assert!(Disk.create(&path).is_err(), "never over a file that is there");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("linked");
        assert!(Disk.append(&link).is_err() && Disk.open(&link, 0).is_err());
    }

    #[test]
    fn a_lock_is_held_once_and_ends_with_its_holder() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("lock");
        let held = Disk.lock(&path).expect("free");
        assert_eq!(Disk.lock(&path).expect_err("held").kind(), io::ErrorKind::WouldBlock);
        drop(held);
        assert!(Disk.lock(&path).is_ok());
    }

    #[test]
    fn low_space_is_five_percent_or_256_mebibytes() {
        let (mebibyte, gibibyte) = (1 << 20, 1 << 30);
        for (free, total, low) in [
            (255 * mebibyte, gibibyte, true),
            (257 * mebibyte, gibibyte, false),
            (4 * gibibyte, 100 * gibibyte, true),
            (6 * gibibyte, 100 * gibibyte, false),
        ] {
            assert_eq!(Space { free, total }.is_low(), low, "{free} of {total}");
        }
    }
}
