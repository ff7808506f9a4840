//! Reads a PIN from its source directly into locked memory.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use countersign_base::messages::settings::{PinSource, TokenSettings, is_plain_name};
use countersign_base::system::sys::{self, LockedMemory};
use countersign_base::system::terminal::{Echo, Terminal, TerminalError};
use countersign_base::trusted_path::{self, Exposure, TrustError};
use pinentry::PassphraseInput;
use rustix::fs::{FileType, Mode, OFlags};
use secrecy::ExposeSecret;

use super::pin_attempts::SourceIdentity;

pub(crate) const LONGEST_ENTERED_PIN: usize = 1024;
const PINENTRY: &str = "/usr/bin/pinentry";

/// Why no PIN could be read. The texts hold neither the PIN nor its place.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    #[error("the systemd credential is not there: {0}")]
    Credential(&'static str),
    #[error("descriptor {0} is neither a file nor a pipe with a PIN in it")]
    Descriptor(i32),
    #[error("it is empty")]
    Empty,
    #[error("the file is not used: {}", .0.without_path())]
    File(#[source] TrustError),
    #[error("no memory could be locked for it")]
    Memory(#[source] std::io::Error),
    #[error("nobody could be asked: no pinentry and no terminal")]
    NobodyToAsk,
    #[error("it was not entered")]
    NotEntered(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("it could not be read")]
    Read(#[source] std::io::Error),
    #[error("it is sealed: only a touch opens it")]
    Sealed,
    #[error("it is longer than {LONGEST_ENTERED_PIN} bytes")]
    TooLong,
}

impl From<rustix::io::Errno> for PinError {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Read(error.into())
    }
}

/// A PIN and its source.
#[derive(Debug)]
pub struct Pin {
    pub bytes: LockedMemory,
    pub source: SourceIdentity,
}

/// A source that has been opened, so that a source that cannot be used is refused before a person
/// is asked.
#[derive(Debug)]
pub enum OpenSource {
    File(OwnedFd, SourceIdentity),
    Prompt,
}

impl OpenSource {
    pub fn open(settings: &TokenSettings) -> Result<Self, PinError> {
        match &settings.pin {
            PinSource::Credential(name) => {
                open_credential(name, settings.credentials_directory.as_deref())
            }
            PinSource::Fd(number) => {
                let descriptor = sys::duplicate_descriptor(*number)
                    .map_err(|_| PinError::Descriptor(*number))?;
                Ok(Self::File(descriptor, SourceIdentity::Fd { number: *number }))
            }
            PinSource::File(path) => {
                let file = trusted_path::open(path, Exposure::Secret).map_err(PinError::File)?;
                let source = SourceIdentity::of_file(path, &file).map_err(PinError::Read)?;
                Ok(Self::File(file.into(), source))
            }
            PinSource::Prompt => Ok(Self::Prompt),
            PinSource::Sealed(_) => Err(PinError::Sealed),
        }
    }

    pub fn identity(&self) -> SourceIdentity {
        match self {
            Self::File(_, source) => source.clone(),
            Self::Prompt => SourceIdentity::Prompt,
        }
    }

    /// Reads the PIN. `operator` is the terminal at which to ask, if the caller has one.
    pub fn read(self, token: &str, operator: Option<&Terminal<'_>>) -> Result<Pin, PinError> {
        let source = self.identity();
        let mut bytes =
            LockedMemory::with_capacity(LONGEST_ENTERED_PIN + 2).map_err(PinError::Memory)?;
        match self {
            Self::File(descriptor, _) => read_descriptor(&descriptor, &source, &mut bytes)?,
            Self::Prompt => ask(token, operator, &mut bytes)?,
        }
        if let Some(without_newline) = bytes.as_bytes().strip_suffix(b"\n") {
            let length = without_newline.len();
            bytes.truncate(length);
        }
        match bytes.as_bytes().len() {
            0 => Err(PinError::Empty),
            1..=LONGEST_ENTERED_PIN => Ok(Pin { bytes, source }),
            _ => Err(PinError::TooLong),
        }
    }
}

fn open_credential(name: &str, directory: Option<&Path>) -> Result<OpenSource, PinError> {
    if !is_plain_name(name) {
        return Err(PinError::Credential("its name is not a plain file name"));
    }
    let from_environment = || std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let Some(directory) = directory.map(Path::to_owned).or_else(from_environment) else {
        return Err(PinError::Credential("the agent was not started by systemd with credentials"));
    };
    // systemd sets the owner, mode and ACL of this file. They are not checked here: the mode bits
    // only show the ACL's mask.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::open(directory.join(name), flags, Mode::empty())
        .map_err(|_| PinError::Credential("systemd gave none of that name"))?;
    Ok(OpenSource::File(file, SourceIdentity::Credential { name: name.to_owned() }))
}

/// Reads a file from its start, so that a host that is started again finds all of it. A pipe is
/// read as it comes.
fn read_descriptor(
    from: &OwnedFd,
    source: &SourceIdentity,
    into: &mut LockedMemory,
) -> Result<(), PinError> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(from)?.st_mode);
    let seekable = match (kind, source) {
        (FileType::RegularFile, _) => true,
        (FileType::Fifo, SourceIdentity::Fd { .. }) => false,
        (_, SourceIdentity::Fd { number }) => return Err(PinError::Descriptor(*number)),
        _ => return Err(PinError::Credential("it is not a regular file")),
    };
    loop {
        let offset = into.as_bytes().len() as u64;
        if into.spare().is_empty() {
            return Err(PinError::TooLong);
        }
        let read = rustix::io::retry_on_intr(|| match seekable {
            true => rustix::io::pread(from, &mut *into.spare(), offset),
            false => rustix::io::read(from, &mut *into.spare()),
        })?;
        if read == 0 {
            return Ok(());
        }
        into.advance(read);
    }
}

fn ask(
    token: &str,
    operator: Option<&Terminal<'_>>,
    into: &mut LockedMemory,
) -> Result<(), PinError> {
    let question = format!("PIN of token {token}: ");
    if let Some(terminal) = operator {
        return terminal.ask(&question, Echo::Off, into).map_err(not_entered);
    }
    let own_terminal = File::options().read(true).write(true).open("/dev/tty").ok();
    let has_display =
        ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    if own_terminal.is_none() && !has_display {
        return Err(PinError::NobodyToAsk);
    }
    if let Some(result) = ask_with_pinentry(&question, own_terminal.as_ref(), into) {
        return result;
    }
    let device = own_terminal.ok_or(PinError::NobodyToAsk)?;
    // From here on a request to end cancels the question, which switches echo on again.
    let signals = sys::termination_signals().map_err(PinError::Read)?;
    Terminal::new(device.as_fd(), vec![signals.as_fd()])
        .ask(&question, Echo::Off, into)
        .map_err(not_entered)
}

fn ask_with_pinentry(
    question: &str,
    terminal: Option<&File>,
    into: &mut LockedMemory,
) -> Option<Result<(), PinError>> {
    let mut dialog = PassphraseInput::with_binary(PINENTRY)?;
    let terminal_name =
        terminal.and_then(|device| rustix::termios::ttyname(device, Vec::new()).ok());
    let terminal_name = terminal_name.and_then(|name| name.into_string().ok());
    let terminal_type = std::env::var("TERM").unwrap_or_else(|_| "vt100".to_owned());
    let mut options = pinentry::unix::Options::builder().tty_type(&terminal_type);
    if let Some(name) = &terminal_name {
        options = options.tty_name(name);
    }
    let entered = dialog
        .with_description(question)
        .with_prompt("PIN:")
        .with_unix_options(options.build())
        .interact();
    Some(match entered {
        Ok(pin) if into.append(pin.expose_secret().as_bytes()) => Ok(()),
        Ok(_) => Err(PinError::TooLong),
        Err(error) => Err(PinError::NotEntered(error.to_string().into())),
    })
}

fn not_entered(error: TerminalError) -> PinError {
    PinError::NotEntered(Box::new(error))
}

#[cfg(test)]
pub(crate) mod pin_tests;
