//! Looks for the tokens themselves. Each in a process of its own: a module is another's code, may
//! hang, and cannot be unloaded.

use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use countersign_base::messages::settings::TokenSettings;
use countersign_base::messages::token_host::HostError;
use countersign_token::token::pkcs11::Token;
use countersign_token::yubikey::{Facts, YubiKey};
use serde::{Deserialize, Serialize};

/// Searching takes a second where the token is not there; a module may take its time to load.
const PATIENCE: Duration = Duration::from_secs(20);
const LONGEST_SETTINGS: u64 = 64 * 1024;
const LONGEST_ANSWER: u64 = 64 * 1024;

/// What a token says of itself to who has no PIN.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Found {
    pub(super) model: String,
    pub(super) serial: String,
}

/// Looks for one token; in words, why it was not found.
pub(super) fn find(settings: &TokenSettings) -> Result<Found, String> {
    let mut child = start(settings).map_err(|error| format!("cannot look for it: {error}"))?;
    let answer = answer(&mut child, settings);
    // What has not ended by itself hangs in its module.
    let _ = child.kill();
    let _ = child.wait();
    answer
}

fn start(settings: &TokenSettings) -> io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.arg("look").env_clear().envs(settings.environment.iter().cloned());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()
}

fn answer(child: &mut Child, settings: &TokenSettings) -> Result<Found, String> {
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("cannot ask who looks for it".to_owned());
    };
    serde_json::to_writer(&mut input, settings)
        .map_err(|error| format!("cannot say what to look for: {error}"))?;
    drop(input);
    let (answer, received) = channel();
    thread::spawn(move || {
        let mut text = Vec::new();
        let _ = output.take(LONGEST_ANSWER).read_to_end(&mut text);
        let _ = answer.send(text);
    });
    let text = received.recv_timeout(PATIENCE);
    let text =
        text.map_err(|_| format!("its module has not answered for {} s", PATIENCE.as_secs()))?;
    serde_json::from_slice(&text)
        .unwrap_or_else(|_| Err("its module ended the process that loaded it".to_owned()))
}

/// The process that looks: settings on the standard input, the answer on the standard output. Takes
/// no PIN and no touch.
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

fn look_for(settings: &TokenSettings) -> Result<Found, String> {
    let profile = settings.checked_profile().map_err(in_words)?;
    if settings.is_yubikey() {
        let yubikey = YubiKey::new(settings.yubikey_serial().map_err(in_words)?);
        let Facts { serial, firmware: [major, minor, patch] } =
            yubikey.facts().map_err(|error| error.to_string())?;
        return Ok(Found {
            model: format!("YubiKey {major}.{minor}.{patch}"),
            serial: serial.to_string(),
        });
    }
    let token = Token::find(settings, profile).map_err(in_words)?;
    let facts = token.facts();
    Ok(Found { model: facts.model.clone(), serial: facts.serial.clone() })
}

fn in_words(error: HostError) -> String {
    super::with_causes(&error)
}
