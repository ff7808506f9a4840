//! Files the agent believes: owned by root or by the agent's own user, and so is everything on the way to them.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// Who may read the file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exposure {
    /// Anyone: configuration, modules, profiles.
    Public,
    /// Its owner alone: mode 0600 or stricter.
    Secret,
}

/// Why a file is not believed. The texts name the offending path.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("{0} can be read or written by others: set its mode to 0600")]
    Exposed(PathBuf),
    #[error("{0} is not a regular file")]
    Irregular(PathBuf),
    #[error("{0} belongs to neither root nor the agent's user")]
    Owner(PathBuf),
    #[error("{0} is not an absolute path")]
    Relative(PathBuf),
    #[error("{path} cannot be opened")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{0} can be changed by others")]
    Writable(PathBuf),
}

impl TrustError {
    /// The same without the path, for a file whose place must not be told.
    pub const fn without_path(&self) -> &'static str {
        match self {
            Self::Exposed(_) => "it can be read or written by others: set its mode to 0600",
            Self::Irregular(_) => "it is not a regular file",
            Self::Owner(_) => "it, or a directory above it, belongs to neither root nor the agent's user",
            Self::Relative(_) => "its path is not absolute",
            Self::Unreadable { .. } => "it cannot be opened, or is a symbolic link",
            Self::Writable(_) => "a directory above it can be changed by others",
        }
    }
}

/// Opens a file for reading after checking it and every directory above it.
///
/// A symbolic link as the last component is refused for [`Exposure::Secret`]; elsewhere links are followed where both the
/// link and what it leads to are in trusted directories.
pub fn open(path: &Path, exposure: Exposure) -> Result<File, TrustError> {
    if !path.is_absolute() {
        return Err(TrustError::Relative(path.to_owned()));
    }
    check_directories(path)?;
    let follow = if exposure == Exposure::Secret { OFlags::NOFOLLOW } else { OFlags::empty() };
    // NONBLOCK: opening a FIFO that someone left there must not hang.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | follow;
    let file: File =
        rustix::fs::open(path, flags, Mode::empty()).map_err(|error| unreadable(path, error.into()))?.into();
    let metadata = file.metadata().map_err(|error| unreadable(path, error))?;
    if !metadata.is_file() {
        return Err(TrustError::Irregular(path.to_owned()));
    }
    check_owner(path, metadata.uid())?;
    match exposure {
        Exposure::Secret if metadata.mode() & 0o077 != 0 => Err(TrustError::Exposed(path.to_owned())),
        Exposure::Public if metadata.mode() & 0o022 != 0 => Err(TrustError::Writable(path.to_owned())),
        _ => Ok(file),
    }
}

/// Checks the directories as they are written and as they are after every link has been followed.
fn check_directories(path: &Path) -> Result<(), TrustError> {
    let real = path.canonicalize().map_err(|error| unreadable(path, error))?;
    for chain in [path, real.as_path()] {
        for directory in chain.ancestors().skip(1) {
            check_directory(directory)?;
        }
    }
    Ok(())
}

fn check_directory(directory: &Path) -> Result<(), TrustError> {
    let metadata = directory.symlink_metadata().map_err(|error| unreadable(directory, error))?;
    check_owner(directory, metadata.uid())?;
    // A link's mode means nothing; in a sticky directory (/tmp) others cannot replace what is ours.
    let sticky = metadata.mode() & 0o1000 != 0;
    if !metadata.is_symlink() && metadata.mode() & 0o022 != 0 && !sticky {
        return Err(TrustError::Writable(directory.to_owned()));
    }
    Ok(())
}

fn check_owner(path: &Path, owner: u32) -> Result<(), TrustError> {
    if owner == 0 || owner == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    Err(TrustError::Owner(path.to_owned()))
}

fn unreadable(path: &Path, source: io::Error) -> TrustError {
    TrustError::Unreadable { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn file_with_mode(directory: &Path, mode: u32) -> PathBuf {
        let path = directory.join(format!("file-{mode:o}"));
        fs::write(&path, "1234\n").expect("writable");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("own file");
        path
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
        assert!(matches!(open(&link, Exposure::Secret), Err(TrustError::Unreadable { .. })));
        assert!(open(&link, Exposure::Public).is_ok());
        let fifo = directory.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::from(0o600), 0).expect("made");
        assert!(matches!(open(&fifo, Exposure::Secret), Err(TrustError::Irregular(_))));
        assert!(matches!(open(directory.path(), Exposure::Secret), Err(TrustError::Irregular(_))));
        assert!(matches!(open(Path::new("pin"), Exposure::Secret), Err(TrustError::Relative(_))));
    }

    #[test]
    fn a_directory_on_the_way_that_others_can_change() {
        let directory = tempfile::tempdir().expect("a directory");
        let open_to_all = directory.path().join("open");
        fs::create_dir(&open_to_all).expect("made");
        fs::set_permissions(&open_to_all, Permissions::from_mode(0o777)).expect("own directory");
        let path = file_with_mode(&open_to_all, 0o600);
        assert!(matches!(open(&path, Exposure::Secret), Err(TrustError::Writable(_))));
        let link = directory.path().join("way");
        symlink(&open_to_all, &link).expect("linked");
        let through = link.join(path.file_name().expect("has a name"));
        assert!(matches!(open(&through, Exposure::Secret), Err(TrustError::Writable(_))));
    }

    #[test]
    fn a_foreign_owner() {
        if !rustix::process::geteuid().is_root() {
            return; // only root can give a file away
        }
        let directory = tempfile::tempdir().expect("a directory");
        let path = file_with_mode(directory.path(), 0o600);
        std::os::unix::fs::chown(&path, Some(65534), None).expect("root can");
        assert!(matches!(open(&path, Exposure::Secret), Err(TrustError::Owner(_))));
    }
}
