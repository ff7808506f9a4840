//! A copy of a software token's files for as long as it is logged in to: SoftHSM rewrites them in
//! place at C_Login and at C_SetPIN, and a process that is killed there leaves them cut short.
//! Whatever is left, the copy is whole.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use countersign_base::messages::settings::TokenSettings;
use countersign_base::system::confine;
use pkcs11_profiles::{Profile, Tier};

use super::place::Place;

const WHOLE: &str = "token.copy";
const UNFINISHED: &str = "token.copy.tmp";
const DISCARDED: &str = "token.copy.old";

/// The copy that a login is made under; none where the token is no directory of files.
#[derive(Debug)]
pub(super) struct TokenCopy {
    place: PathBuf,
    token: Option<PathBuf>,
}

impl TokenCopy {
    /// Puts the token back where the last process left its copy, that is, did not come to its end.
    /// To be called before the module is loaded.
    pub(super) fn restore(
        place: &Place,
        settings: &TokenSettings,
        profile: &Profile,
        serial: &str,
    ) -> io::Result<Self> {
        let this = Self {
            place: place.directory().to_owned(),
            token: directory_of(settings, profile, serial),
        };
        let (whole, Some(token)) = (this.place.join(WHOLE), &this.token) else { return Ok(this) };
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

    /// Makes the copy, if it takes one. Right before C_Login.
    pub(super) fn make(&self) -> io::Result<()> {
        let Some(token) = &self.token else { return Ok(()) };
        let unfinished = self.place.join(UNFINISHED);
        clear(&unfinished)?;
        DirBuilder::new().mode(0o700).create(&unfinished)?;
        copy_files(token, &unfinished)?;
        fs::rename(&unfinished, self.place.join(WHOLE))?;
        File::open(&self.place)?.sync_all()
    }

    /// The token is whole: the copy goes.
    pub(super) fn discard(&self) -> io::Result<()> {
        if self.token.is_none() {
            return Ok(());
        }
        clear(&self.place.join(DISCARDED))?;
        match fs::rename(self.place.join(WHOLE), self.place.join(DISCARDED)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            renamed => renamed?,
        }
        File::open(&self.place)?.sync_all()?;
        clear(&self.place.join(DISCARDED))
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
    if profile.tier != Tier::Software || serial.is_empty() {
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

/// Makes `to` hold the files of `from` and no others, each whole at any moment; done again after a
/// kill it ends the same.
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
