//! Opens the files that the agent trusts: root or the agent's own user owns the file and every
//! directory above it.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use countersign_core::shell;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};

/// The users who may read the file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exposure {
    /// Anyone: configuration, modules, profiles.
    Public,
    /// Its owner alone: mode 0600 or stricter.
    Secret,
}

/// The kind of file to which a path must lead.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PathKind {
    Directory,
    File(Exposure),
}

/// Why a file is not trusted. The texts name the path at fault and, if there is one, the command
/// that mends it.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("{} can be read or written by others; mend it with: chmod 0600 \
             {}", .0.display(), shell::path(.0))]
    Exposed(PathBuf),
    #[error("{} is not a {}", path.display(), expected.word())]
    Irregular { path: PathBuf, expected: PathKind },
    #[error("{} is a symbolic link, and a secret is read from a file only", .0.display())]
    Link(PathBuf),
    #[error(
        "{} belongs to uid {owner}, neither root nor the agent's user; mend it with: chown root {}",
        path.display(), shell::path(path)
    )]
    Owner { path: PathBuf, owner: u32 },
    #[error("{} is not an absolute path", .0.display())]
    Relative(PathBuf),
    #[error("{} leads through more than {MOST_LINKS} symbolic links", .0.display())]
    TooManyLinks(PathBuf),
    #[error("{} cannot be opened", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} can be changed by others; mend it with: chmod go-w \
             {}", .0.display(), shell::path(.0))]
    Writable(PathBuf),
}

impl TrustError {
    /// The reason without the path, for a file whose place must not be told.
    pub const fn without_path(&self) -> &'static str {
        match self {
            Self::Exposed(_) => "it can be read or written by others: set its mode to 0600",
            Self::Irregular { .. } => "it is not a regular file",
            Self::Link(_) => "it is a symbolic link",
            Self::Owner { .. } => {
                "it, or a directory above it, belongs to neither root nor the agent's user"
            }
            Self::Relative(_) => "its path is not absolute",
            Self::TooManyLinks(_) => "its path leads through too many symbolic links",
            Self::Unreadable { .. } => "it cannot be opened",
            Self::Writable(_) => "a directory above it can be changed by others",
        }
    }
}

/// Checks a file and every directory above it, and opens it for reading. The opened file is the one
/// that was checked.
///
/// A symbolic link as the last component is refused for [`Exposure::Secret`]. Any other link is
/// followed if both the link and its target are trusted.
pub fn open(path: &Path, exposure: Exposure) -> Result<File, TrustError> {
    walk(path, PathKind::File(exposure)).map(File::from)
}

/// Checks that a path is trusted, without reading the file.
pub fn check(path: &Path, kind: PathKind) -> Result<(), TrustError> {
    walk(path, kind).map(drop)
}

const MOST_LINKS: u32 = 40; // as the kernel's own walk

/// Walks from `/` one component at a time, each opened relative to the directory that was just
/// checked.
///
/// Nothing can be swapped in between. Only root and the agent's user can change a directory that
/// passed the check, and a descriptor stays with the file on which it was opened.
fn walk(path: &Path, kind: PathKind) -> Result<OwnedFd, TrustError> {
    if !path.is_absolute() {
        return Err(TrustError::Relative(path.to_owned()));
    }
    let mut way = Way::from_root()?;
    let mut ahead = components(path);
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            way.up();
            continue;
        }
        let here = way.path.join(&name);
        let found = rustix::fs::statat(way.directory(), &name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| unreadable(&here, error))?;
        if FileType::from_raw_mode(found.st_mode) == FileType::Symlink {
            if ahead.is_empty() && kind == PathKind::File(Exposure::Secret) {
                return Err(TrustError::Link(here));
            }
            links += 1;
            if links > MOST_LINKS {
                return Err(TrustError::TooManyLinks(path.to_owned()));
            }
            // In a sticky directory the link could be anyone's.
            check_owner(&here, &found)?;
            follow(&mut way, &name, &here, &mut ahead)?;
        } else if ahead.is_empty() && kind != PathKind::Directory {
            return open_file(&way, &name, here, kind);
        } else {
            way.down(&name, here)?;
        }
    }
    match kind {
        PathKind::Directory => Ok(way.into_directory()),
        PathKind::File(_) => Err(TrustError::Irregular { path: path.to_owned(), expected: kind }),
    }
}

/// Puts the link's target in front of the components that the walk has not reached yet.
fn follow(
    way: &mut Way,
    name: &OsStr,
    here: &Path,
    ahead: &mut VecDeque<OsString>,
) -> Result<(), TrustError> {
    let target = rustix::fs::readlinkat(way.directory(), name, Vec::new())
        .map_err(|error| unreadable(here, error))?;
    let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
    if target.is_absolute() {
        way.back_to_root();
    }
    for component in components(&target).into_iter().rev() {
        ahead.push_front(component);
    }
    Ok(())
}

fn components(path: &Path) -> VecDeque<OsString> {
    let named = path
        .components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    named.map(|part| part.as_os_str().to_owned()).collect()
}

fn open_file(
    way: &Way,
    name: &OsStr,
    path: PathBuf,
    kind: PathKind,
) -> Result<OwnedFd, TrustError> {
    // NONBLOCK: opening a FIFO that someone left there must not hang.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(way.directory(), name, flags, Mode::empty())
        .map_err(|error| unreadable(&path, error))?;
    let found = rustix::fs::fstat(&file).map_err(|error| unreadable(&path, error))?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(TrustError::Irregular { path, expected: kind });
    }
    check_owner(&path, &found)?;
    match kind {
        PathKind::File(Exposure::Secret) if found.st_mode & 0o077 != 0 => {
            Err(TrustError::Exposed(path))
        }
        _ if is_writable_by_others(&found) => Err(TrustError::Writable(path)),
        _ => Ok(file),
    }
}

/// The directories from `/` to the place that the walk has reached, each of them checked.
struct Way {
    directories: Vec<OwnedFd>,
    root: OwnedFd,
    path: PathBuf,
}

impl Way {
    fn from_root() -> Result<Self, TrustError> {
        let root = PathBuf::from("/");
        let opened = open_directory(CWD, root.as_os_str(), &root)?;
        Ok(Self { directories: Vec::new(), root: opened, path: root })
    }

    fn directory(&self) -> &OwnedFd {
        self.directories.last().unwrap_or(&self.root)
    }

    fn down(&mut self, name: &OsStr, path: PathBuf) -> Result<(), TrustError> {
        let directory = open_directory(self.directory(), name, &path)?;
        self.directories.push(directory);
        self.path = path;
        Ok(())
    }

    /// The parent of `/` is `/`.
    fn up(&mut self) {
        self.directories.pop();
        self.path.pop();
    }

    fn back_to_root(&mut self) {
        self.directories.clear();
        self.path = PathBuf::from("/");
    }

    fn into_directory(mut self) -> OwnedFd {
        self.directories.pop().unwrap_or(self.root)
    }
}

fn open_directory(parent: impl AsFd, name: &OsStr, path: &Path) -> Result<OwnedFd, TrustError> {
    // PATH: a directory may be passed through without the right to list it.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty())
        .map_err(|error| unreadable(path, error))?;
    let found = rustix::fs::fstat(&directory).map_err(|error| unreadable(path, error))?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
        return Err(TrustError::Irregular { path: path.to_owned(), expected: PathKind::Directory });
    }
    check_owner(path, &found)?;
    // In a sticky directory of root's (/tmp) others cannot replace our files, and everything below
    // must belong to us or to root.
    let sticky = found.st_mode & 0o1000 != 0 && found.st_uid == 0;
    if is_writable_by_others(&found) && !sticky {
        return Err(TrustError::Writable(path.to_owned()));
    }
    Ok(directory)
}

/// An access control list that lets others write is seen here too: its mask is in the group's bits.
const fn is_writable_by_others(found: &Stat) -> bool {
    found.st_mode & 0o022 != 0
}

fn check_owner(path: &Path, found: &Stat) -> Result<(), TrustError> {
    let owner = found.st_uid;
    if owner == 0 || owner == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    Err(TrustError::Owner { path: path.to_owned(), owner })
}

fn unreadable(path: &Path, error: rustix::io::Errno) -> TrustError {
    TrustError::Unreadable { path: path.to_owned(), source: error.into() }
}

impl PathKind {
    const fn word(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::File(_) => "regular file",
        }
    }
}

#[cfg(test)]
mod trusted_path_tests;
