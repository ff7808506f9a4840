//! Keeps a copy of a software token's files during a login. SoftHSM rewrites the files in place at
//! C_Login and at C_SetPIN, and a process that is killed then leaves them cut short. The copy stays
//! whole.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use countersign_base::messages::settings::TokenSettings;
use countersign_base::system::confine;
use pkcs11_profiles::{ModuleTier, Profile};

use super::directory::VaultDirectory;

const FINISHED_TOKEN_COPY: &str = "token.copy";
const UNFINISHED_TOKEN_COPY: &str = "token.copy.tmp";
const DISCARDED: &str = "token.copy.old";

/// The copy of the token that is logged in to. There is none if the token is not a directory of
/// files.
#[derive(Debug)]
pub(super) struct TokenCopy {
    directory: PathBuf,
    token: Option<PathBuf>,
}

impl TokenCopy {
    /// Puts the token's files back if there is a copy: then the last process did not come to its
    /// end. Call this before the module is loaded.
    pub(super) fn restore(
        directory: &VaultDirectory,
        settings: &TokenSettings,
        profile: &Profile,
        serial: &str,
    ) -> io::Result<Self> {
        let this = Self {
            directory: directory.path().to_owned(),
            token: directory_of(settings, profile, serial),
        };
        let (whole, Some(token)) = (this.directory.join(FINISHED_TOKEN_COPY), &this.token) else {
            return Ok(this);
        };
        if whole.exists() {
            tracing::warn!(
                token = settings.name,
                "the vault's last process was cut off: its token is put back"
            );
            replace_files(&whole, token)?;
            this.discard()?;
        }
        Ok(this)
    }

    /// Makes the copy, if the token needs one. Call this right before C_Login.
    pub(super) fn make(&self) -> io::Result<()> {
        let Some(token) = &self.token else { return Ok(()) };
        let unfinished = self.directory.join(UNFINISHED_TOKEN_COPY);
        clear(&unfinished)?;
        DirBuilder::new().mode(0o700).create(&unfinished)?;
        copy_files(token, &unfinished)?;
        fs::rename(&unfinished, self.directory.join(FINISHED_TOKEN_COPY))?;
        File::open(&self.directory)?.sync_all()
    }

    /// Removes the copy, once the token's files are whole.
    pub(super) fn discard(&self) -> io::Result<()> {
        if self.token.is_none() {
            return Ok(());
        }
        clear(&self.directory.join(DISCARDED))?;
        match fs::rename(self.directory.join(FINISHED_TOKEN_COPY), self.directory.join(DISCARDED)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            renamed => renamed?,
        }
        File::open(&self.directory)?.sync_all()?;
        clear(&self.directory.join(DISCARDED))
    }
}

fn clear(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// SoftHSM's directory of a token: its name is a UUID that ends with the token's serial.
fn directory_of(settings: &TokenSettings, profile: &Profile, serial: &str) -> Option<PathBuf> {
    if profile.tier != ModuleTier::Software || serial.is_empty() {
        return None;
    }
    let candidates = confine::token_files(profile, settings).write;
    let entries =
        candidates.iter().filter_map(|directory| fs::read_dir(directory).ok()).flatten().flatten();
    let mut directories =
        entries.map(|entry| entry.path()).filter(|path| path.join("token.object").is_file());
    directories.find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().replace('-', "");
        name.ends_with(serial)
    })
}

fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let copy = to.join(entry.file_name());
            fs::copy(entry.path(), &copy)?;
            File::open(&copy)?.sync_all()?;
        }
    }
    File::open(to)?.sync_all()
}

/// Makes `to` hold the files of `from` and no others. Each file is whole at any moment. After a
/// kill this can be done again, with the same result.
fn replace_files(from: &Path, to: &Path) -> io::Result<()> {
    const UNFINISHED_FILE: &str = ".countersign.tmp";
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        let unfinished = to.join(UNFINISHED_FILE);
        fs::copy(from.join(&name), &unfinished)?;
        File::open(&unfinished)?.sync_all()?;
        fs::rename(&unfinished, to.join(&name))?;
    }
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        if entry.file_type()?.is_file() && !from.join(entry.file_name()).exists() {
            fs::remove_file(entry.path())?;
        }
    }
    File::open(to)?.sync_all()
}
