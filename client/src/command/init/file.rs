//! Writes one file, whole or not at all. Replaces another file only if asked to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::failure::Failure;

/// The choice for another file of the same name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Existing {
    Keep,
    /// Keep the other file beside the new one, with `.old` added to its name.
    Replace,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub(super) enum FileWritten {
    /// The file was written now, or was there with the same text.
    Done,
    /// A file with another text was there and was kept.
    KeptOther,
}

/// Makes a directory and the missing ones above it, each with `mode`.
pub(super) fn make_directory(path: &Path, mode: u32) -> Result<(), Failure> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|source| Failure::Write { path: path.to_owned(), source })
}

pub(super) fn write(
    path: &Path,
    text: &str,
    mode: u32,
    existing: Existing,
) -> Result<FileWritten, Failure> {
    if fs::read(path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(FileWritten::Done);
    }
    put(path, text, mode, existing)
        .map_err(|source| Failure::Write { path: path.to_owned(), source })
}

fn put(path: &Path, text: &str, mode: u32, existing: Existing) -> io::Result<FileWritten> {
    let new = beside(path, &format!("new-{}", std::process::id()));
    let placed = fill(&new, text, mode).and_then(|()| place(&new, path, existing));
    if !matches!(placed, Ok(FileWritten::Done)) {
        // The new file is of no use now. The caller gets the reason, so a failure here is ignored.
        let _ = fs::remove_file(&new);
    }
    placed
}

fn fill(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    // The umask cuts the mode of a new file.
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    file.sync_all()
}

fn place(new: &Path, path: &Path, existing: Existing) -> io::Result<FileWritten> {
    if existing == Existing::Replace && path.exists() {
        fs::rename(path, beside(path, "old"))?;
    }
    match renameat_with(CWD, new, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        Err(rustix::io::Errno::EXIST) => return Ok(FileWritten::KeptOther),
        Err(error) => return Err(error.into()),
    }
    let directory =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()?;
    Ok(FileWritten::Done)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{ending}"));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_never_lost() {
        let directory =
            std::env::temp_dir().join(format!("countersign-file-{}", std::process::id()));
        make_directory(&directory, 0o700).expect("new");
        let path = directory.join("agent.toml");
        let text = |path: &Path| fs::read_to_string(path).expect("there");
        assert_eq!(write(&path, "a", 0o600, Existing::Keep).expect("written"), FileWritten::Done);
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(write(&path, "a", 0o600, Existing::Keep).expect("the same"), FileWritten::Done);
        assert_eq!(write(&path, "b", 0o600, Existing::Keep).expect("kept"), FileWritten::KeptOther);
        assert_eq!(text(&path), "a");
        assert_eq!(
            write(&path, "b", 0o644, Existing::Replace).expect("replaced"),
            FileWritten::Done
        );
        assert_eq!(
            (text(&path), text(&directory.join("agent.toml.old"))),
            ("b".to_owned(), "a".to_owned())
        );
        assert_eq!(fs::read_dir(&directory).expect("there").count(), 2, "nothing is left over");
        fs::remove_dir_all(&directory).expect("removed");
    }
}
