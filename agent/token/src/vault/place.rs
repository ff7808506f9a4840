//! Where a vault lies: its sealed PIN, written so that a kill at any point leaves a file that
//! opens.
//!
//! `sealed` holds the PIN the token has. While the PIN is being changed `sealed.new` lies beside
//! it, with the new PIN and the old one in it: whichever of the two the token has by then, one
//! touch opens it.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::sealed::{NotOpened, Sealed};
use crate::token::pin_attempts::SourceIdentity;

const DIRECTORY: &str = "vault";
const CURRENT: &str = "sealed";
const NEXT: &str = "sealed.new";
const UNFINISHED: &str = "sealed.tmp";
/// The configuration that the vault was sealed for; its hash is inside.
const CONFIG: &str = "agent.toml";

/// The directory of one vault.
#[derive(Clone, Debug)]
pub struct Place {
    directory: PathBuf,
}

/// A sealed file that was read.
#[derive(Debug)]
pub struct Found {
    pub sealed: Sealed,
    /// The PIN is being changed: the token may have the one before.
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

impl Place {
    pub fn of(state_dir: &Path, token: &str) -> Self {
        Self { directory: state_dir.join(DIRECTORY).join(token) }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn make(&self) -> io::Result<()> {
        DirBuilder::new().mode(0o700).recursive(true).create(&self.directory)
    }

    pub fn exists(&self) -> bool {
        self.directory.join(CURRENT).exists() || self.directory.join(NEXT).exists()
    }

    /// The file to open: the next one where there is one, since it opens both ways.
    pub fn read(&self) -> Result<Found, Unread> {
        for (name, is_next) in [(NEXT, true), (CURRENT, false)] {
            let path = self.directory.join(name);
            match fs::read(&path) {
                Ok(text) => {
                    let damaged = |reason| Unread::Damaged { path: path.clone(), reason };
                    return Ok(Found { sealed: Sealed::parse(&text).map_err(damaged)?, is_next });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(Unread::Io { path, source }),
            }
        }
        let token = self.directory.file_name().unwrap_or_default();
        Err(Unread::Absent(token.to_string_lossy().into_owned()))
    }

    /// Writes what opens with the new PIN and the old one; on the disk when this returns.
    pub fn write_next(&self, sealed: &Sealed) -> io::Result<()> {
        let unfinished = self.directory.join(UNFINISHED);
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(&sealed.to_bytes())?;
        file.sync_all()?;
        self.rename(UNFINISHED, NEXT)
    }

    /// The token has the new PIN.
    pub fn promote(&self) -> io::Result<()> {
        self.rename(NEXT, CURRENT)
    }

    /// Keeps the configuration that it was sealed for, to show at the next change what differs.
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

    /// Names the PIN of a file in the record of attempts: `previous` is the second one in it.
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
