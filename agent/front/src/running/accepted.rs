//! Keeps the last accepted configuration beside the journal, so that a looser one does not come
//! into force by a restart either.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use countersign_base::config::{self, Config, ConfigError, SystemFacts, loosened};

use crate::ledger::keys::{KeyFileError, KeyFiles};
use crate::ledger::storage::Disk;

const ACCEPTED_FILE: &str = "accepted.toml";
/// The first line, before a hash of the text and of the certificates and profiles it leads to. The
/// hash is made as [`countersign_core::policy::Policy::sha256`] is.
const HEAD: &str = "# accepted, sha256 ";

/// The configurations that a start has found.
#[derive(Debug)]
pub struct AtStart {
    pub in_force: Config,
    /// `agent.toml` and the sentences that say what it loosens, if it is looser and nobody has
    /// approved it yet.
    pub waiting: Option<(Config, Vec<String>)>,
}

/// Why `agent.toml` cannot be compared with the accepted configuration, although there should be
/// one.
#[derive(Debug, thiserror::Error)]
pub enum NotAccepted {
    #[error("{path} cannot be read", path = .0.display())]
    Io(PathBuf, #[source] io::Error),
    #[error(
        "{path} is not what was accepted: {reason}. Put agent.toml, and the certificates and \
         profiles it names, back to what they were; if \
         that cannot be done, remove {path}: the agent then takes agent.toml as it is, without an \
         approver's signature",
        path = .0.display(), reason = .1
    )]
    Changed(PathBuf, String),
    #[error(transparent)]
    Keys(#[from] KeyFileError),
}

/// Compares `agent.toml` with the configuration that was accepted last. The first start accepts
/// `agent.toml` as it is.
pub fn at_start(
    loaded: Config,
    config_file: &Path,
    facts: &SystemFacts,
) -> Result<AtStart, NotAccepted> {
    let path = loaded.agent.state_dir.join(ACCEPTED_FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(AtStart { in_force: loaded, waiting: None });
        }
        Err(error) => return Err(NotAccepted::Io(path, error)),
    };
    let changed = |reason: &str| NotAccepted::Changed(path.clone(), reason.to_owned());
    let (head, text) = text.split_once('\n').ok_or_else(|| changed("it is cut short"))?;
    let sha256 = head.strip_prefix(HEAD).ok_or_else(|| changed("it has another first line"))?;
    if sha256 == loaded.policy.sha256 {
        return Ok(AtStart { in_force: loaded, waiting: None });
    }
    let before = config::parse(text, config_file, facts);
    let before = before.map_err(|error: ConfigError| {
        changed(&format!("it is no configuration any more: {error}"))
    })?;
    if sha256 != before.policy.sha256 {
        return Err(changed("its text, or a certificate or profile it leads to, is another"));
    }
    let loosens = match before.policy.approvers.is_empty() {
        true => Vec::new(),
        false => loosened(&before, &loaded, &tokens_in_use(&before.agent.state_dir)?),
    };
    Ok(match loosens.is_empty() {
        true => AtStart { in_force: loaded, waiting: None },
        false => AtStart { in_force: before, waiting: Some((loaded, loosens)) },
    })
}

fn tokens_in_use(state_dir: &Path) -> Result<BTreeSet<String>, KeyFileError> {
    let files = KeyFiles::open(Arc::new(Disk), state_dir)?.load_all()?;
    Ok(files.into_iter().map(|file| file.token).collect())
}

/// Keeps a configuration as accepted. It is on the disk when this returns.
pub fn keep(config: &Config) -> io::Result<()> {
    let directory = &config.agent.state_dir;
    let (path, new) =
        (directory.join(ACCEPTED_FILE), directory.join(format!("{ACCEPTED_FILE}.new")));
    let text = format!("{HEAD}{}\n{}", config.policy.sha256, config.text);
    // If the file is the same already, a full disk does not matter.
    if fs::read(&path).is_ok_and(|kept| kept == text.as_bytes()) {
        return Ok(());
    }
    if let Err(error) = write(&new, &text) {
        let _ = fs::remove_file(&new); // frees the room that half of it takes
        return Err(error);
    }
    fs::rename(&new, &path)?;
    File::open(directory)?.sync_all()
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
