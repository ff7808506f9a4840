//! Makes a SoftHSM token for trials, in a directory of its own, with random PINs. Nobody keeps the
//! security officer's PIN.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use countersign_base::system::{random, sys};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::Error;
use cryptoki::session::UserType;
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use data_encoding::HEXLOWER;
use pkcs11_profiles::Profile;
use serde::Serialize;
use zeroize::Zeroizing;

/// Number of random bytes in a PIN. In hex it has twice as many characters.
const PIN_LENGTH: usize = 24;
/// Length of C_InitToken's label field, in bytes.
const LONGEST_LABEL: usize = 32;

/// The new token, and the paths of its files.
#[derive(Debug, Serialize)]
pub struct NewToken {
    pub v: u8,
    pub profile: &'static str,
    pub module: PathBuf,
    pub label: String,
    pub serial: String,
    /// For `environment = { SOFTHSM2_CONF = … }`.
    pub configuration: PathBuf,
    /// For `pin = { file = … }`.
    pub pin_file: PathBuf,
}

/// Why no token was made. Files that were there before are not changed.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error("{0} holds a token already")]
    Exists(PathBuf),
    #[error("{path} cannot be written")]
    File { path: PathBuf, source: io::Error },
    #[error("the label must be 1 to {LONGEST_LABEL} bytes of letters, digits, '-', '_' and '.'")]
    Label,
    #[error("SoftHSM is not installed (Debian: apt-get install softhsm2); looked for {0:?}")]
    NotInstalled(Vec<PathBuf>),
    #[error("the process could not be prepared")]
    Process(#[source] io::Error),
    #[error(
        "{0} must be an absolute path without `#`, `=` or line breaks, which SoftHSM's \
         configuration cannot hold"
    )]
    Relative(PathBuf),
    #[error("SoftHSM could not make the token")]
    Token(#[from] Error),
    #[error("SoftHSM has no free slot, or lost the token it made")]
    Vanished,
}

/// Makes the token `label` in `directory`, which is created if it is missing.
///
/// It replaces this process's environment and loads SoftHSM into it, so it is meant for a process
/// that does nothing else.
pub fn init_token(directory: &Path, label: &str) -> Result<NewToken, InitError> {
    if label.len() > LONGEST_LABEL || !countersign_base::messages::settings::is_plain_name(label) {
        return Err(InitError::Label);
    }
    let profile = Profile::named("softhsm").ok_or(InitError::Vanished)?;
    let candidates = profile.library_paths();
    let module = candidates
        .iter()
        .find(|path| path.exists())
        .ok_or_else(|| InitError::NotInstalled(candidates.to_vec()))?;
    let configuration = write_configuration(directory)?;
    let pin = random_pin()?;
    let pin_file = directory.join("user.pin");
    write_private(&pin_file, pin.as_bytes())?;
    let text = configuration.to_str().ok_or_else(|| InitError::Relative(configuration.clone()))?;
    sys::replace_environment(&[("SOFTHSM2_CONF".to_owned(), text.to_owned())])
        .map_err(InitError::Process)?;
    let context = Pkcs11::new(module)?;
    context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
    let serial = make_token(&context, label, &pin)?;
    context.finalize()?;
    let module = module.clone();
    let label = label.to_owned();
    Ok(NewToken { v: 1, profile: "softhsm", module, label, serial, configuration, pin_file })
}

fn make_token(context: &Pkcs11, label: &str, pin: &str) -> Result<String, InitError> {
    let free = context.get_slots_with_token()?.into_iter().find(|slot| is_free(context, *slot));
    let so_pin = AuthPin::from(random_pin()?.as_str());
    context.init_token(free.ok_or(InitError::Vanished)?, &so_pin, label)?;
    // SoftHSM gives a token another slot number once it is initialised.
    for slot in context.get_slots_with_token()? {
        let info = context.get_token_info(slot)?;
        if info.token_initialized() && info.label() == label {
            let session = context.open_rw_session(slot)?;
            session.login(UserType::So, Some(&so_pin))?;
            session.init_pin(&AuthPin::from(pin))?;
            session.logout()?;
            return Ok(info.serial_number().to_owned());
        }
    }
    Err(InitError::Vanished)
}

fn is_free(context: &Pkcs11, slot: Slot) -> bool {
    context.get_token_info(slot).is_ok_and(|info| !info.token_initialized())
}

fn write_configuration(directory: &Path) -> Result<PathBuf, InitError> {
    // SoftHSM takes the rest of the line as the path. A `#` begins a comment, and a second `=` ends
    // the path.
    let plain = directory
        .to_str()
        .filter(|text| !text.contains(|held: char| matches!(held, '#' | '=') || held.is_control()));
    let Some(text) = plain.filter(|_| directory.is_absolute()) else {
        return Err(InitError::Relative(directory.to_owned()));
    };
    let configuration = directory.join("softhsm2.conf");
    if configuration.exists() {
        return Err(InitError::Exists(directory.to_owned()));
    }
    let tokens = directory.join("tokens");
    let failed = |source| InitError::File { path: tokens.clone(), source };
    DirBuilder::new().mode(0o700).recursive(true).create(&tokens).map_err(failed)?;
    fs::read_dir(&tokens)
        .map_err(failed)?
        .next()
        .map_or(Ok(()), |_| Err(InitError::Exists(tokens.clone())))?;
    let content = format!(
        "directories.tokendir = {text}/tokens\nobjectstore.backend = file\nlog.level = \
         ERROR\nslots.removable = false\n"
    );
    write_private(&configuration, content.as_bytes())?;
    Ok(configuration)
}

fn write_private(path: &Path, content: &[u8]) -> Result<(), InitError> {
    let failed = |source| InitError::File { path: path.to_owned(), source };
    let mut file: File =
        File::options().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(failed)
}

fn random_pin() -> Result<Zeroizing<String>, InitError> {
    let mut bytes = Zeroizing::new([0; PIN_LENGTH]);
    random::fill(&mut *bytes).map_err(InitError::Process)?;
    Ok(Zeroizing::new(HEXLOWER.encode(&*bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_the_configuration_would_hold_otherwise_is_refused_before_anything_is_made() {
        let base = std::env::temp_dir().join(format!("countersign-softhsm-{}", std::process::id()));
        for name in ["plain", "with blank", "it's $HOME", "ü 币", "a;b&c"] {
            let directory = base.join(name);
            let written =
                write_configuration(&directory).unwrap_or_else(|error| panic!("{name:?}: {error}"));
            let text = fs::read_to_string(written).expect("readable");
            // The path is read here as SoftHSM reads it.
            let line = text.lines().next().and_then(|line| line.split('#').next()).expect("a line");
            let path = line.split('=').nth(1).map(str::trim);
            assert_eq!(path, directory.join("tokens").to_str(), "{name:?}");
        }
        for name in ["a#b", "a=b", "a\nb", "a\rb", "a\tb"] {
            let directory = base.join(name);
            assert!(
                matches!(write_configuration(&directory), Err(InitError::Relative(_))),
                "{name:?}"
            );
            assert!(!directory.exists(), "{name:?}");
        }
        assert!(matches!(write_configuration(Path::new("relative")), Err(InitError::Relative(_))));
        fs::remove_dir_all(base).expect("own directory");
    }
}
