//! The directory of a vault. It holds the sealed PIN, and the files are written so that a kill at
//! any point leaves one that can be opened.
//!
//! `sealed` holds the PIN that the token has. While the PIN is being changed, there is also
//! `sealed.new`, which holds the new PIN and the old one. The token has one of the two, so one
//! touch is enough to open it.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::sealed::{NotOpened, Sealed};
use crate::token::pin_attempts::SourceIdentity;

const VAULTS_DIRECTORY: &str = "vault";
const CURRENT: &str = "sealed";
const NEXT: &str = "sealed.new";
const UNFINISHED_SEALED_FILE: &str = "sealed.tmp";
/// File with the configuration for which the vault was sealed. Its hash is in the sealed file.
const CONFIG: &str = "agent.toml";

/// The directory of one vault.
#[derive(Clone, Debug)]
pub struct VaultDirectory {
    directory: PathBuf,
}

/// A sealed file that was read.
#[derive(Debug)]
pub struct SealedFile {
    pub sealed: Sealed,
    /// True if the PIN is being changed: the token may still have the previous one.
    pub is_next: bool,
}

/// Why a vault could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    #[error("there is none yet: countersign vault init {0}")]
    Absent(String),
    #[error("{} is not used: {reason}", .path.display())]
    Damaged { path: PathBuf, reason: NotOpened },
    #[error("{}", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl VaultDirectory {
    pub fn of(state_dir: &Path, token: &str) -> Self {
        Self { directory: state_dir.join(VAULTS_DIRECTORY).join(token) }
    }

    pub fn path(&self) -> &Path {
        &self.directory
    }

    pub fn make(&self) -> io::Result<()> {
        DirBuilder::new().mode(0o700).recursive(true).create(&self.directory)
    }

    pub fn exists(&self) -> bool {
        self.directory.join(CURRENT).exists() || self.directory.join(NEXT).exists()
    }

    /// The file to open: `sealed.new` if there is one, because it holds both PINs.
    pub fn read(&self) -> Result<SealedFile, Unread> {
        for (name, is_next) in [(NEXT, true), (CURRENT, false)] {
            let path = self.directory.join(name);
            match fs::read(&path) {
                Ok(text) => {
                    let damaged = |reason| Unread::Damaged { path: path.clone(), reason };
                    return Ok(SealedFile {
                        sealed: Sealed::parse(&text).map_err(damaged)?,
                        is_next,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(Unread::Io { path, source }),
            }
        }
        let token = self.directory.file_name().unwrap_or_default();
        Err(Unread::Absent(token.to_string_lossy().into_owned()))
    }

    /// Writes the file that holds the new PIN and the old one. It is on the disk when this returns.
    pub fn write_next(&self, sealed: &Sealed) -> io::Result<()> {
        let unfinished = self.directory.join(UNFINISHED_SEALED_FILE);
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(&sealed.to_bytes())?;
        file.sync_all()?;
        self.rename(UNFINISHED_SEALED_FILE, NEXT)
    }

    /// Makes `sealed.new` the current file, once the token has the new PIN.
    pub fn promote(&self) -> io::Result<()> {
        self.rename(NEXT, CURRENT)
    }

    /// Keeps the configuration for which the vault was sealed, so that the next change can show the
    /// differences.
    pub fn keep_config(&self, text: &str) -> io::Result<()> {
        let path = self.directory.join(CONFIG);
        let new = path.with_extension("new");
        let mut file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(new, path)
    }

    pub fn kept_config(&self) -> Option<String> {
        fs::read_to_string(self.directory.join(CONFIG)).ok()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.directory.join(from), self.directory.join(to))?;
        File::open(&self.directory)?.sync_all()
    }

    /// Names the PIN of a file in the record of attempts. `previous` means the second PIN in the
    /// file.
    pub fn identity(&self, is_next: bool, previous: bool) -> io::Result<SourceIdentity> {
        let path = self.directory.join(if is_next { NEXT } else { CURRENT });
        let identity = SourceIdentity::of_file(&path, &File::open(&path)?)?;
        Ok(match identity {
            SourceIdentity::File { device, inode, size, modified_s, modified_ns, .. }
                if previous =>
            {
                let path = self.directory.join("previous");
                SourceIdentity::File { path, device, inode, size, modified_s, modified_ns }
            }
            identity => identity,
        })
    }
}
