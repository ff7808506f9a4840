//! Looks for the tokens themselves, each in a process of its own: a module is foreign code, may
//! hang, and cannot be unloaded.

use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use countersign_base::messages::settings::TokenSettings;
use countersign_base::messages::token_host::HostError;
use countersign_token::token::pkcs11::Pkcs11Token;
use countersign_token::yubikey::{YubiKey, YubiKeyFacts};
use serde::{Deserialize, Serialize};

/// Longest wait for an answer. The search takes a second if the token is not there, and some
/// modules load slowly.
const TOKEN_SEARCH_DEADLINE: Duration = Duration::from_secs(20);
const LONGEST_SETTINGS: u64 = 64 * 1024;
const LONGEST_SEARCH_RESULT: u64 = 64 * 1024;

/// A token's description of itself, which needs no PIN.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct FoundToken {
    pub(super) model: String,
    pub(super) serial: String,
}

/// Looks for one token. The error says in words why it was not found.
pub(super) fn find(settings: &TokenSettings) -> Result<FoundToken, String> {
    let mut child = start(settings).map_err(|error| format!("cannot look for it: {error}"))?;
    let answer = answer(&mut child, settings);
    // A process that has not ended by itself hangs in its module.
    let _ = child.kill();
    let _ = child.wait();
    answer
}

fn start(settings: &TokenSettings) -> io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.arg("look").env_clear().envs(settings.environment.iter().cloned());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()
}

fn answer(child: &mut Child, settings: &TokenSettings) -> Result<FoundToken, String> {
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("the process that looks for it cannot be asked".to_owned());
    };
    serde_json::to_writer(&mut input, settings)
        .map_err(|error| format!("the process that looks for it cannot be told: {error}"))?;
    drop(input);
    let (answer, received) = channel();
    thread::spawn(move || {
        let mut text = Vec::new();
        let _ = output.take(LONGEST_SEARCH_RESULT).read_to_end(&mut text);
        let _ = answer.send(text);
    });
    let text = received.recv_timeout(TOKEN_SEARCH_DEADLINE);
    let text = text.map_err(|_| {
        format!("its module has not answered for {} s", TOKEN_SEARCH_DEADLINE.as_secs())
    })?;
    serde_json::from_slice(&text)
        .unwrap_or_else(|_| Err("its module ended the process that loaded it".to_owned()))
}

/// The work of the process that looks for a token. It reads the settings from the standard input,
/// and writes the answer to the standard output. It takes no PIN and no touch.
pub fn look() -> ExitCode {
    let mut settings = Vec::new();
    let answer = match io::stdin().lock().take(LONGEST_SETTINGS).read_to_end(&mut settings) {
        Ok(_) => serde_json::from_slice(&settings)
            .map_err(|error| error.to_string())
            .and_then(|it| look_for(&it)),
        Err(error) => Err(error.to_string()),
    };
    let Ok(text) = serde_json::to_vec(&answer) else { return ExitCode::FAILURE };
    match io::stdout().lock().write_all(&text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn look_for(settings: &TokenSettings) -> Result<FoundToken, String> {
    let profile = settings.checked_profile().map_err(in_words)?;
    if settings.is_yubikey() {
        let yubikey = YubiKey::new(settings.yubikey_serial().map_err(in_words)?);
        let YubiKeyFacts { serial, firmware: [major, minor, patch] } =
            yubikey.facts().map_err(|error| error.to_string())?;
        return Ok(FoundToken {
            model: format!("YubiKey {major}.{minor}.{patch}"),
            serial: serial.to_string(),
        });
    }
    let token = Pkcs11Token::find(settings, profile).map_err(in_words)?;
    let facts = token.facts();
    Ok(FoundToken { model: facts.model.clone(), serial: facts.serial.clone() })
}

fn in_words(error: HostError) -> String {
    super::with_causes(&error)
}
