//! Files the agent believes: owned by root or by the agent's own user, and so is everything on the way to them.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};

/// Who may read the file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exposure {
    /// Anyone: configuration, modules, profiles.
    Public,
    /// Its owner alone: mode 0600 or stricter.
    Secret,
}

/// What a path has to lead to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Directory,
    File(Exposure),
}

/// Why a file is not believed. The texts name the offending path and, where there is one, the command that mends it.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("{} can be read or written by others; mend it with: chmod 0600 {}", .0.display(), quoted(.0))]
    Exposed(PathBuf),
    #[error("{} is not a {}", path.display(), expected.word())]
    Irregular { path: PathBuf, expected: Kind },
    #[error("{} is a symbolic link, and a secret is read from a file only", .0.display())]
    Link(PathBuf),
    #[error(
        "{} belongs to uid {owner}, neither root nor the agent's user; mend it with: chown root {}",
        path.display(), quoted(path)
    )]
    Owner { path: PathBuf, owner: u32 },
    #[error("{} is not an absolute path", .0.display())]
    Relative(PathBuf),
    #[error("{} leads through more than {MOST_LINKS} symbolic links", .0.display())]
    TooManyLinks(PathBuf),
    #[error("{} cannot be opened", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} can be changed by others; mend it with: chmod go-w {}", .0.display(), quoted(.0))]
    Writable(PathBuf),
}

impl TrustError {
    /// The same without the path, for a file whose place must not be told.
    pub const fn without_path(&self) -> &'static str {
        match self {
            Self::Exposed(_) => "it can be read or written by others: set its mode to 0600",
            Self::Irregular { .. } => "it is not a regular file",
            Self::Link(_) => "it is a symbolic link",
            Self::Owner { .. } => "it, or a directory above it, belongs to neither root nor the agent's user",
            Self::Relative(_) => "its path is not absolute",
            Self::TooManyLinks(_) => "its path leads through too many symbolic links",
            Self::Unreadable { .. } => "it cannot be opened",
            Self::Writable(_) => "a directory above it can be changed by others",
        }
    }
}

/// Opens a file for reading after checking it and every directory above it; what is read is what was checked.
///
/// A symbolic link as the last component is refused for [`Exposure::Secret`]; elsewhere links are followed where both
/// the link and what it leads to are trusted.
pub fn open(path: &Path, exposure: Exposure) -> Result<File, TrustError> {
    walk(path, Kind::File(exposure)).map(File::from)
}

/// Says whether a path is trusted, without reading what it leads to.
pub fn check(path: &Path, kind: Kind) -> Result<(), TrustError> {
    walk(path, kind).map(drop)
}

const MOST_LINKS: u32 = 40; // as the kernel's own walk

/// Walks from `/` one component at a time, each opened relative to the directory that was just checked.
///
/// Nothing can be swapped in between: only root and the agent's user can change a directory that passed, and a
/// descriptor stays with what it was opened on.
fn walk(path: &Path, kind: Kind) -> Result<OwnedFd, TrustError> {
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
            if ahead.is_empty() && kind == Kind::File(Exposure::Secret) {
                return Err(TrustError::Link(here));
            }
            links += 1;
            if links > MOST_LINKS {
                return Err(TrustError::TooManyLinks(path.to_owned()));
            }
            // In a sticky directory the link could be anyone's.
            check_owner(&here, &found)?;
            follow(&mut way, &name, &here, &mut ahead)?;
        } else if ahead.is_empty() && kind != Kind::Directory {
            return open_file(&way, &name, here, kind);
        } else {
            way.down(&name, here)?;
        }
    }
    match kind {
        Kind::Directory => Ok(way.into_directory()),
        Kind::File(_) => Err(TrustError::Irregular { path: path.to_owned(), expected: kind }),
    }
}

/// Puts the link's target before what is still ahead.
fn follow(way: &mut Way, name: &OsStr, here: &Path, ahead: &mut VecDeque<OsString>) -> Result<(), TrustError> {
    let target = rustix::fs::readlinkat(way.directory(), name, Vec::new()).map_err(|error| unreadable(here, error))?;
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
    let named = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    named.map(|part| part.as_os_str().to_owned()).collect()
}

fn open_file(way: &Way, name: &OsStr, path: PathBuf, kind: Kind) -> Result<OwnedFd, TrustError> {
    // NONBLOCK: opening a FIFO that someone left there must not hang.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let file =
        rustix::fs::openat(way.directory(), name, flags, Mode::empty()).map_err(|error| unreadable(&path, error))?;
    let found = rustix::fs::fstat(&file).map_err(|error| unreadable(&path, error))?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(TrustError::Irregular { path, expected: kind });
    }
    check_owner(&path, &found)?;
    match kind {
        Kind::File(Exposure::Secret) if found.st_mode & 0o077 != 0 => Err(TrustError::Exposed(path)),
        _ if is_writable_by_others(&found) => Err(TrustError::Writable(path)),
        _ => Ok(file),
    }
}

/// The directories from `/` to where the walk stands, each of them checked.
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
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(|error| unreadable(path, error))?;
    let found = rustix::fs::fstat(&directory).map_err(|error| unreadable(path, error))?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
        return Err(TrustError::Irregular { path: path.to_owned(), expected: Kind::Directory });
    }
    check_owner(path, &found)?;
    // In a sticky directory of root's (/tmp) others cannot replace what is ours, and all below must be ours or root's.
    let sticky = found.st_mode & 0o1000 != 0 && found.st_uid == 0;
    if is_writable_by_others(&found) && !sticky {
        return Err(TrustError::Writable(path.to_owned()));
    }
    Ok(directory)
}

/// An access control list that lets others write shows here too: its mask stands in the group's bits.
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

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::File(_) => "regular file",
        }
    }
}

/// The path as a shell takes it.
fn quoted(path: &Path) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+@,:".contains(byte);
    let text = path.to_string_lossy();
    match path.as_os_str().as_bytes().iter().all(plain) {
        true => text.into_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    const NOBODY: u32 = 65534;

    fn file_with_mode(directory: &Path, mode: u32) -> PathBuf {
        let path = directory.join(format!("file-{mode:o}"));
        fs::write(&path, "1234\n").expect("writable");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("own file");
        path
    }

    fn directory_with_mode(parent: &Path, mode: u32) -> PathBuf {
        let path = parent.join(format!("directory-{mode:o}"));
        fs::create_dir(&path).expect("made");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("own directory");
        path
    }

    /// Only root can give a file away: elsewhere what needs it cannot be tried.
    fn give_away(path: &Path) -> bool {
        rustix::process::geteuid().is_root() && chown(path, Some(NOBODY), None).is_ok()
    }

    #[test]
    fn modes() {
        let directory = tempfile::tempdir().expect("a directory");
        for (mode, secret, public) in [
            (0o600, true, true),
            (0o400, true, true),
            (0o640, false, true),
            (0o604, false, true),
            (0o644, false, true),
            (0o622, false, false),
            (0o660, false, false),
            (0o602, false, false),
        ] {
            let path = file_with_mode(directory.path(), mode);
            assert_eq!(open(&path, Exposure::Secret).is_ok(), secret, "{mode:o}");
            assert_eq!(open(&path, Exposure::Public).is_ok(), public, "{mode:o}");
        }
    }

    #[test]
    fn links_fifos_directories_and_relative_paths() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = file_with_mode(directory.path(), 0o600);
        let link = directory.path().join("link");
        symlink(&path, &link).expect("linked");
        assert!(matches!(open(&link, Exposure::Secret), Err(TrustError::Link(_))));
        assert!(open(&link, Exposure::Public).is_ok());
        let fifo = directory.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::from(0o600), 0).expect("made");
        assert!(matches!(open(&fifo, Exposure::Secret), Err(TrustError::Irregular { .. })));
        assert!(matches!(open(directory.path(), Exposure::Secret), Err(TrustError::Irregular { .. })));
        assert!(matches!(open(Path::new("/"), Exposure::Public), Err(TrustError::Irregular { .. })));
        assert!(matches!(open(Path::new("pin"), Exposure::Secret), Err(TrustError::Relative(_))));
        assert!(matches!(open(&path.join("below"), Exposure::Public), Err(TrustError::Irregular { .. })));
        assert!(matches!(open(&directory.path().join("none"), Exposure::Public), Err(TrustError::Unreadable { .. })));
    }

    #[test]
    fn a_directory_on_the_way_that_others_can_change() {
        let directory = tempfile::tempdir().expect("a directory");
        for mode in [0o777, 0o770, 0o722] {
            let exposed = directory_with_mode(directory.path(), mode);
            let path = file_with_mode(&exposed, 0o600);
            let refused = open(&path, Exposure::Secret).expect_err("refused");
            assert!(matches!(&refused, TrustError::Writable(named) if *named == exposed), "{refused}");
            let link = directory.path().join(format!("way-{mode:o}"));
            symlink(&exposed, &link).expect("linked");
            let through = link.join(path.file_name().expect("has a name"));
            let refused = open(&through, Exposure::Public).expect_err("refused");
            assert!(matches!(&refused, TrustError::Writable(named) if *named == exposed), "{refused}");
        }
    }

    #[test]
    fn a_trusted_place_reached_by_a_link_in_an_untrusted_one_is_not_trusted() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = file_with_mode(directory.path(), 0o600);
        let exposed = directory_with_mode(directory.path(), 0o777);
        symlink(&path, exposed.join("second")).expect("linked");
        let first = directory.path().join("first");
        symlink(exposed.join("second"), &first).expect("linked");
        assert!(matches!(open(&first, Exposure::Public), Err(TrustError::Writable(named)) if named == exposed));
    }

    #[test]
    fn links_are_followed_up_down_and_not_for_ever() {
        let directory = tempfile::tempdir().expect("a directory");
        let inner = directory_with_mode(directory.path(), 0o755);
        let path = file_with_mode(directory.path(), 0o644);
        symlink(Path::new("..").join(path.file_name().expect("has a name")), inner.join("up")).expect("linked");
        let mut text = String::new();
        let mut file = open(&inner.join("up"), Exposure::Public).expect("trusted");
        io::Read::read_to_string(&mut file, &mut text).expect("reads");
        assert_eq!(text, "1234\n");
        let beyond_root = format!("/../../{}/../{}", inner.display(), "file-644");
        assert!(open(Path::new(&beyond_root), Exposure::Public).is_ok());
        symlink("loop", inner.join("loop")).expect("linked");
        assert!(matches!(open(&inner.join("loop"), Exposure::Public), Err(TrustError::TooManyLinks(_))));
    }

    #[test]
    fn a_sticky_directory_is_trusted_only_if_it_is_roots() {
        let directory = tempfile::tempdir().expect("a directory");
        let sticky = directory_with_mode(directory.path(), 0o1777);
        let path = file_with_mode(&sticky, 0o600);
        assert_eq!(open(&path, Exposure::Secret).is_ok(), rustix::process::geteuid().is_root());
        if give_away(&sticky) {
            assert!(matches!(open(&path, Exposure::Secret), Err(TrustError::Owner { .. })));
        }
    }

    #[test]
    fn a_foreign_owner_of_the_file_the_link_or_a_directory() {
        let directory = tempfile::tempdir().expect("a directory");
        let inner = directory_with_mode(directory.path(), 0o755);
        let path = file_with_mode(&inner, 0o600);
        let link = directory.path().join("link");
        symlink(&path, &link).expect("linked");
        open(&link, Exposure::Public).expect("all ours");
        if !rustix::process::geteuid().is_root() {
            return;
        }
        std::os::unix::fs::lchown(&link, Some(NOBODY), None).expect("root can");
        assert!(
            matches!(open(&link, Exposure::Public), Err(TrustError::Owner { path, owner: NOBODY }) if path == link)
        );
        chown(&inner, Some(NOBODY), None).expect("root can");
        assert!(matches!(open(&path, Exposure::Secret), Err(TrustError::Owner { path, .. }) if path == inner));
        chown(&inner, Some(0), None).expect("root can");
        chown(&path, Some(NOBODY), None).expect("root can");
        assert!(matches!(open(&path, Exposure::Secret), Err(TrustError::Owner { path: named, .. }) if named == path));
    }

    #[test]
    fn directories_are_checked_for_themselves() {
        let directory = tempfile::tempdir().expect("a directory");
        check(directory.path(), Kind::Directory).expect("trusted");
        let exposed = directory_with_mode(directory.path(), 0o777);
        assert!(matches!(check(&exposed, Kind::Directory), Err(TrustError::Writable(_))));
        let file = file_with_mode(directory.path(), 0o644);
        assert!(matches!(check(&file, Kind::Directory), Err(TrustError::Irregular { .. })));
        check(Path::new("/"), Kind::Directory).expect("trusted");
    }

    #[test]
    fn what_is_wrong_is_said_with_the_command_that_mends_it() {
        let writable = TrustError::Writable("/srv/a b's".into()).to_string();
        assert_eq!(writable, r"/srv/a b's can be changed by others; mend it with: chmod go-w '/srv/a b'\''s'");
        let owner = TrustError::Owner { path: "/srv/x".into(), owner: 7 }.to_string();
        assert!(owner.ends_with("chown root /srv/x") && owner.contains("uid 7"), "{owner}");
    }
}
