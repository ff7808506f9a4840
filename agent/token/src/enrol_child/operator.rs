//! Reads the values that the operator enters: typed unseen at a terminal, or JSON from a pipe. No
//! part of a secret is ever echoed or quoted.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use countersign_base::messages::enrol_child::EnrolError;
use countersign_base::system::sys::LockedMemory;
use countersign_base::system::terminal::{self, Echo, Terminal, TerminalError};
use countersign_core::algorithm::Algorithm;
use rustix::event::{PollFd, PollFlags, poll};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::pem;

/// Longest input from a pipe, in bytes.
const LONGEST_INPUT: usize = 64 * 1024;
const LONGEST_CREDENTIAL: usize = 512;
/// Longest wait for the next line of a paste.
const NEXT_LINE: Duration = Duration::from_secs(10);

/// An API key as the exchange gave it.
pub struct ApiCredentials {
    pub api_key: Zeroizing<String>,
    pub secret: LockedMemory,
    pub passphrase: Option<Zeroizing<String>>,
}

impl std::fmt::Debug for ApiCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiCredentials([redacted])")
    }
}

/// The values that the operator must enter.
#[derive(Clone, Copy, Debug)]
pub struct CredentialsWanted<'a> {
    pub name: &'a str,
    pub exchange: &'a str,
    /// The secret must be a key for one of these algorithms.
    pub algorithms: &'a [Algorithm],
    pub needs_passphrase: bool,
}

/// The operator's terminal or pipe, and descriptors that cancel the wait for it.
#[derive(Debug)]
pub struct Operator<'fd> {
    pub input: BorrowedFd<'fd>,
    pub cancel: Vec<BorrowedFd<'fd>>,
}

impl Operator<'_> {
    /// The operator's terminal, if `input` is a terminal.
    pub fn terminal(&self) -> Option<Terminal<'_>> {
        terminal::is_terminal(self.input).then(|| Terminal::new(self.input, self.cancel.clone()))
    }

    /// Asks for all wanted values at the terminal, or reads them from the pipe.
    pub fn credentials(&self, wanted: CredentialsWanted<'_>) -> Result<ApiCredentials, EnrolError> {
        let credentials = match self.terminal() {
            Some(terminal) => ask(&terminal, wanted)?,
            None => self.read_json(wanted.exchange)?,
        };
        check_text("the API key", &credentials.api_key)?;
        match (&credentials.passphrase, wanted.needs_passphrase) {
            (Some(passphrase), true) => check_text("the passphrase", passphrase)?,
            (None, false) => {}
            (None, true) => return Err(input(format!("{} needs a passphrase", wanted.exchange))),
            (Some(_), false) => {
                return Err(input(format!("{} has no passphrase", wanted.exchange)));
            }
        }
        Ok(credentials)
    }

    fn read_json(&self, exchange: &str) -> Result<ApiCredentials, EnrolError> {
        let mut bytes = LockedMemory::with_capacity(LONGEST_INPUT + 1).map_err(no_memory)?;
        loop {
            self.wait()?;
            let read =
                rustix::io::retry_on_intr(|| rustix::io::read(self.input, &mut *bytes.spare()));
            match read.map_err(|error| input(format!("the input cannot be read: {error}")))? {
                0 => break,
                read => bytes.advance(read),
            }
            if bytes.as_bytes().len() > LONGEST_INPUT {
                return Err(input(format!("more than {LONGEST_INPUT} bytes")));
            }
        }
        parse(bytes.as_bytes(), exchange)
    }

    fn wait(&self) -> Result<(), EnrolError> {
        let mut descriptors = vec![PollFd::from_borrowed_fd(self.input, PollFlags::IN)];
        descriptors
            .extend(self.cancel.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
        rustix::io::retry_on_intr(|| poll(&mut descriptors, None))
            .map_err(|error| input(error.to_string()))?;
        let cancelled = descriptors[1..].iter().any(|descriptor| !descriptor.revents().is_empty());
        if cancelled { Err(EnrolError::Cancelled) } else { Ok(()) }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entered {
    api_key: Zeroizing<String>,
    secret: Zeroizing<String>,
    passphrase: Option<Zeroizing<String>>,
}

/// The file that Coinbase's portal gives out, `cdp_api_key.json`. Other fields in it are not needed
/// here.
#[derive(Deserialize)]
struct PortalFile {
    /// The key's name, if it has one. Requests are signed under this name.
    name: Option<Zeroizing<String>>,
    id: Option<Zeroizing<String>>,
    #[serde(rename = "privateKey")]
    private_key: Zeroizing<String>,
}

impl PortalFile {
    /// A key without a name has an id, which is used instead.
    fn into_entered(self, exchange: &str) -> Result<Entered, EnrolError> {
        if exchange != PORTAL_OF {
            return Err(input(format!(
                "it is a file of {PORTAL_OF}'s portal, and the key is to be one for {exchange}"
            )));
        }
        let absent = || input("the portal's file has neither \"name\" nor \"id\"".to_owned());
        let api_key = self.name.or(self.id).ok_or_else(absent)?;
        Ok(Entered { api_key, secret: self.private_key, passphrase: None })
    }
}

const PORTAL_OF: &str = "coinbase";

fn parse(bytes: &[u8], exchange: &str) -> Result<ApiCredentials, EnrolError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.trim_ascii_start().starts_with(b"-----BEGIN") {
        return Err(input(
            "it is a private key alone, which does not say its API key: the input is \
             {\"api_key\",\"secret\"} as JSON, with \
             the whole PEM text as the secret"
                .to_owned(),
        ));
    }
    let entered = match serde_json::from_slice::<PortalFile>(bytes) {
        Ok(file) => file.into_entered(exchange)?,
        Err(_) => serde_json::from_slice::<Entered>(bytes).map_err(|error| {
            // The parser's own text may quote a value.
            let place = format!("line {} column {}", error.line(), error.column());
            input(format!(
                "expected {{\"api_key\",\"secret\",\"passphrase\"}} as JSON, or the file \
                 cdp_api_key.json of {PORTAL_OF}'s \
                 portal, stopped at {place}"
            ))
        })?,
    };
    let mut secret = LockedMemory::with_capacity(entered.secret.len()).map_err(no_memory)?;
    if !secret.append(entered.secret.as_bytes()) {
        return Err(input("the secret is too long".to_owned()));
    }
    Ok(ApiCredentials { api_key: entered.api_key, secret, passphrase: entered.passphrase })
}

fn ask(
    terminal: &Terminal<'_>,
    wanted: CredentialsWanted<'_>,
) -> Result<ApiCredentials, EnrolError> {
    let CredentialsWanted { name, exchange, algorithms, .. } = wanted;
    let api_key = ask_text(terminal, &format!("API key of {name} ({exchange}): "), Echo::On)?;
    if api_key.starts_with('{') {
        terminal.forget();
        return Err(input(
            "it is JSON: enter a file with --stdin < FILE, and the API key alone here".to_owned(),
        ));
    }
    let mut secret = LockedMemory::with_capacity(LONGEST_INPUT).map_err(no_memory)?;
    match terminal.ask_lines(&question(algorithms), &mut secret, NEXT_LINE, is_whole) {
        // The person ended the input, so this is all of the secret.
        Err(TerminalError::Closed) if !secret.as_bytes().is_empty() => {}
        // The missing end does not matter: an encrypted key is refused later.
        Err(TerminalError::Incomplete(_)) if pem::is_encrypted(secret.as_bytes()) => {}
        asked => asked.map_err(unanswered)?,
    }
    if !pem::is_meant(secret.as_bytes()) {
        let length = secret.as_bytes().len().saturating_sub(1); // one line, without its end
        secret.truncate(length);
    }
    let passphrase = match wanted.needs_passphrase {
        true => Some(ask_text(terminal, "Passphrase (not shown): ", Echo::Off)?),
        false => None,
    };
    Ok(ApiCredentials { api_key, secret, passphrase })
}

/// A secret of one line is whole at the end of that line. A key in PEM is whole at its last line.
fn is_whole(entered: &[u8]) -> bool {
    !pem::is_meant(entered) || pem::is_whole(entered)
}

fn question(algorithms: &[Algorithm]) -> String {
    let has = |wanted: fn(&Algorithm) -> bool| algorithms.iter().any(wanted);
    let private_key = "Private key, from -----BEGIN to -----END (not shown):\n";
    match algorithms.first() {
        Some(first) if first.is_hmac() && has(|other| !other.is_hmac()) => {
            "A private key may be entered instead, in PEM from -----BEGIN to -----END.\nAPI secret \
             (not shown): "
                .to_owned()
        }
        Some(first) if first.is_hmac() => "API secret (not shown): ".to_owned(),
        _ if has(|other| *other == Algorithm::Ed25519) => {
            format!("An Ed25519 key may be one line of base64 as well.\n{private_key}")
        }
        _ => private_key.to_owned(),
    }
}

fn ask_text(
    terminal: &Terminal<'_>,
    question: &str,
    echo: Echo,
) -> Result<Zeroizing<String>, EnrolError> {
    let mut answer = LockedMemory::with_capacity(LONGEST_CREDENTIAL).map_err(no_memory)?;
    terminal.ask(question, echo, &mut answer).map_err(unanswered)?;
    let text = std::str::from_utf8(answer.as_bytes())
        .map_err(|_| input("an answer is not text".to_owned()))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Checks an API key or a passphrase. Both go into a header unchanged.
pub(crate) fn check_text(what: &str, text: &str) -> Result<(), EnrolError> {
    if text.is_empty() {
        return Err(input(format!("{what} is empty")));
    }
    if text.len() > LONGEST_CREDENTIAL {
        return Err(input(format!("{what} is longer than {LONGEST_CREDENTIAL} bytes")));
    }
    if text.starts_with(' ')
        || text.ends_with(' ')
        || !text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
    {
        return Err(input(format!(
            "{what} has a space at its end, or a character that is not printable ASCII"
        )));
    }
    Ok(())
}

fn unanswered(error: TerminalError) -> EnrolError {
    match error {
        TerminalError::Cancelled | TerminalError::Closed => EnrolError::Cancelled,
        other => input(other.to_string()),
    }
}

fn no_memory(error: std::io::Error) -> EnrolError {
    input(format!("no memory could be locked for it: {error}"))
}

fn input(reason: String) -> EnrolError {
    EnrolError::Input(reason)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::AsFd;

    use super::*;

    const WANTED: CredentialsWanted<'_> = CredentialsWanted {
        name: "k",
        exchange: "okx",
        algorithms: &[Algorithm::HmacSha256],
        needs_passphrase: true,
    };

    fn enter(json: &str, wanted: CredentialsWanted<'_>) -> Result<ApiCredentials, EnrolError> {
        let (reader, writer) = rustix::pipe::pipe().expect("made");
        let mut writer = File::from(writer);
        rustix::pipe::fcntl_setpipe_size(&writer, 1 << 20).expect("grows");
        writer.write_all(json.as_bytes()).expect("fits");
        drop(writer);
        Operator { input: reader.as_fd(), cancel: Vec::new() }.credentials(wanted)
    }

    #[test]
    fn json_from_a_pipe() {
        let entered =
            enter(r#"{"api_key":"id","secret":"s3cr\u0065t","passphrase":"open sesame"}"#, WANTED);
        let entered = entered.expect("well formed");
        assert_eq!(*entered.api_key, "id");
        assert_eq!(entered.secret.as_bytes(), b"s3cret");
        assert_eq!(entered.passphrase.as_deref().map(String::as_str), Some("open sesame"));
        assert_eq!(format!("{entered:?}"), "ApiCredentials([redacted])");
    }

    #[test]
    fn what_is_not_exactly_that_is_refused_without_quoting_it() {
        for json in [
            "",
            "[]",
            r#"{"api_key":"id","secret":918273645,"passphrase":"p"}"#,
            r#"{"api_key":"id","secret":"918273645","passphrase":"p","918273645":1}"#,
            r#"{"api_key":"id","secret":"918273645","secret":"918273645","passphrase":"p"}"#,
            r#"{"api_key":"id","secret":"918273645","passphrase":"p"} 918273645"#,
            r#"{"api_key":"id","secret":"918273645"}"#,
            r#"{"api_key":"","secret":"918273645","passphrase":"p"}"#,
            r#"{"api_key":"918273645\n","secret":"918273645","passphrase":"p"}"#,
            r#"{"api_key":"id","secret":"918273645","passphrase":"918273645 "}"#,
            &format!(
                r#"{{"api_key":"id","secret":"{}","passphrase":"p"}}"#,
                "918273645".repeat(8000)
            ),
        ] {
            let error = enter(json, WANTED).expect_err(json);
            assert!(matches!(error, EnrolError::Input(_)), "{error}");
            assert!(!error.to_string().contains("918273645"), "{error}");
        }
    }

    #[test]
    fn the_file_of_coinbases_portal_is_taken_as_it_is() {
        let wanted = CredentialsWanted { exchange: "coinbase", needs_passphrase: false, ..WANTED };
        let pem = "-----BEGIN EC PRIVATE KEY-----\nMHc\n-----END EC PRIVATE KEY-----\n";
        let named = serde_json::json!({
            "name": "organizations/o/apiKeys/k", "privateKey": pem, "principalType": "USER",
            "scopes": [], "enabled": true,
        });
        for (json, api_key, secret) in [
            (named.to_string(), "organizations/o/apiKeys/k", pem),
            (format!("\u{feff}{named:#}"), "organizations/o/apiKeys/k", pem),
            (r#"{"id":"0-1-2","privateKey":"c2VlZA=="}"#.to_owned(), "0-1-2", "c2VlZA=="),
            (r#"{"id":"0-1-2","name":"n","privateKey":"c2VlZA=="}"#.to_owned(), "n", "c2VlZA=="),
        ] {
            let entered = enter(&json, wanted).expect(&json);
            assert_eq!(
                (entered.api_key.as_str(), entered.secret.as_bytes()),
                (api_key, secret.as_bytes())
            );
        }
        for (json, wanted, says) in [
            (
                r#"{"id":"0","privateKey":"918273645"}"#,
                CredentialsWanted { exchange: "binance", ..wanted },
                "coinbase's portal",
            ),
            (r#"{"privateKey":"918273645"}"#, wanted, "neither"),
            (r#"{"id":"0","id":"1","privateKey":"918273645"}"#, wanted, "stopped at"),
            (pem, wanted, "a private key alone"),
        ] {
            let error = enter(json, wanted).expect_err(json).to_string();
            assert!(error.contains(says) && !error.contains("918273645"), "{error}");
        }
    }

    #[test]
    fn a_passphrase_where_there_is_none_is_refused() {
        let wanted = CredentialsWanted { needs_passphrase: false, ..WANTED };
        assert!(enter(r#"{"api_key":"id","secret":"s","passphrase":"p"}"#, wanted).is_err());
        assert!(enter(r#"{"api_key":"id","secret":"s","passphrase":null}"#, wanted).is_ok());
        assert!(enter(r#"{"api_key":"id","secret":"s"}"#, wanted).is_ok());
    }
}
