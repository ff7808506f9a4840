//! `key`: enrol, list, show, remove.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use clap::{Args, Subcommand};
use countersign::core::algorithm::Algorithm;
use countersign::core::key::{Environment, NonceUnit};
use countersign::core::scope::{Scope, Scopes};
use countersign::core::wire::VERSION;
use countersign::core::wire::admin::{self, Register};
use countersign::{Admin, Sockets};
use serde::de::value::{Error as ValueError, StrDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer};

use super::either_socket::operator_or_client;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::moment::Moment;
use crate::output::Output;

mod key_text;

pub(crate) use key_text::custody;

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Put an exchange key's secret on a token; the secret is typed on the terminal, never an
    /// argument
    Add(AddArguments),
    /// Make a key pair on a token; its secret never leaves the token
    Generate(GenerateArguments),
    /// Name the id that the exchange gave for a generated public key
    Activate(ActivateArguments),
    /// The keys this user may use, or all for the operator
    List,
    /// One key
    Show(NameArgument),
    /// Destroy a key on its token
    Remove(RemoveArguments),
}

#[derive(Args, Debug)]
pub(crate) struct NameArgument {
    /// The operator's name for the key
    name: String,
}

/// The properties of a new key, which may be added or generated.
#[derive(Args, Debug)]
struct NewKeyArguments {
    /// The operator's name for the key: a-z, 0-9, '.', '_', '-'
    name: String,
    /// The exchange, such as binance
    #[arg(long)]
    exchange: String,
    /// The token's name in agent.toml
    #[arg(long)]
    token: String,
    /// The scopes of the key, such as: read trade
    #[arg(
        long = "scope",
        value_name = "SCOPE",
        num_args = 1..,
        value_delimiter = ',',
        value_parser = scope,
    )]
    scopes: Vec<Scope>,
    /// production or testnet
    #[arg(long, default_value = "production", value_parser = named::<Environment>)]
    environment: Environment,
    /// The day on which the exchange's key expires, such as 2027-01-31
    #[arg(long, value_name = "DAY", value_parser = day)]
    expires: Option<Moment>,
    /// The unit of the nonces used with this key so far: nanoseconds, microseconds or milliseconds
    #[arg(long, value_name = "UNIT", value_parser = named::<NonceUnit>)]
    nonce_unit: Option<NonceUnit>,
}

#[derive(Args, Debug)]
pub(crate) struct AddArguments {
    #[command(flatten)]
    key: NewKeyArguments,
    /// The algorithm, if the exchange takes several and the secret does not show which it is
    #[arg(long, value_parser = named::<Algorithm>)]
    algorithm: Option<Algorithm>,
    /// Read {"api_key", "secret", "passphrase"} as JSON from standard input, or the
    /// cdp_api_key.json of Coinbase's portal
    #[arg(long)]
    stdin: bool,
}

#[derive(Args, Debug)]
pub(crate) struct GenerateArguments {
    #[command(flatten)]
    key: NewKeyArguments,
    /// ed25519, ecdsa-p256-sha256 or rsa-pkcs1v15-sha256
    #[arg(long, value_parser = named::<Algorithm>)]
    algorithm: Algorithm,
    /// 2048, 3072 or 4096, for RSA
    #[arg(long, value_name = "BITS")]
    rsa_bits: Option<u32>,
    /// The slot of a YubiKey, such as 9a; by default the first free one
    #[arg(long)]
    slot: Option<String>,
    /// Destroy the key that is in the slot
    #[arg(long, requires = "slot")]
    overwrite: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ActivateArguments {
    /// The operator's name for the key
    name: String,
    /// The id the exchange shows for the public key
    #[arg(long, value_name = "ID")]
    api_key: String,
}

#[derive(Args, Debug)]
pub(crate) struct RemoveArguments {
    /// The operator's name for the key
    name: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(crate) fn run(
    command: KeyCommand,
    sockets: &Sockets,
    output: &Output,
) -> Result<Exit, Failure> {
    match command {
        KeyCommand::Add(arguments) => add(arguments, sockets, output),
        KeyCommand::Generate(arguments) => {
            change(&arguments.wire().map(Register::Generate)?, sockets, output)
        }
        KeyCommand::Activate(ActivateArguments { name, api_key }) => {
            change(&Register::Activate { v: VERSION, name, api_key }, sockets, output)
        }
        KeyCommand::List => {
            let reply = operator_or_client(sockets)?.keys()?;
            output.show(&reply, || key_text::list(&reply.keys, output))
        }
        KeyCommand::Show(NameArgument { name }) => key_text::show(&name, sockets, output),
        KeyCommand::Remove(arguments) => remove(arguments, sockets, output),
    }
}

fn add(arguments: AddArguments, sockets: &Sockets, output: &Output) -> Result<Exit, Failure> {
    let from_stdin = arguments.stdin;
    let change = Register::Add(arguments.key.wire(arguments.algorithm)?);
    let reply = if from_stdin {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            let message = "--stdin is for a pipe or file; without it the secret is asked for on \
                           the terminal, unseen";
            return Err(Failure::Usage(message.to_owned()));
        }
        Admin::open(sockets)?.add(&change, stdin.as_fd())?
    } else {
        let terminal = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/tty")
            .map_err(Failure::Terminal)?;
        Admin::open(sockets)?.add(&change, terminal.as_fd())?
    };
    output.show(&reply, || key_text::done(&reply, output))
}

/// The token may ask for its PIN or a management key, and may take minutes.
fn change(change: &Register, sockets: &Sockets, output: &Output) -> Result<Exit, Failure> {
    let mut admin = Admin::open(sockets)?;
    let reply = match OpenOptions::new().read(true).write(true).open("/dev/tty") {
        Ok(terminal) => admin.add(change, terminal.as_fd())?,
        // Without a terminal nobody can be asked, and many changes ask nobody.
        Err(_) => admin.add(change, io::stdin().as_fd())?,
    };
    output.show(&reply, || key_text::done(&reply, output))
}

fn remove(arguments: RemoveArguments, sockets: &Sockets, output: &Output) -> Result<Exit, Failure> {
    let RemoveArguments { name, yes } = arguments;
    if !yes {
        confirm(
            &format!(
                "Destroy the key {name:?} on its token? This cannot be undone. Type its name: "
            ),
            &name,
        )?;
    }
    change(&Register::Remove { v: VERSION, name }, sockets, output)
}

/// Fails unless a person at the terminal types `expected`.
fn confirm(question: &str, expected: &str) -> Result<(), Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::Usage("nobody can be asked here: add --yes".to_owned()));
    }
    let mut answer = String::new();
    let asked =
        io::stderr().write_all(question.as_bytes()).and_then(|()| stdin.read_line(&mut answer));
    match asked {
        Ok(_) if answer.trim() == expected => Ok(()),
        Ok(_) => Err(Failure::Usage("not confirmed, nothing was removed".to_owned())),
        Err(error) => Err(Failure::Terminal(error)),
    }
}

impl GenerateArguments {
    fn wire(self) -> Result<admin::NewKey, Failure> {
        let Self { key, algorithm, rsa_bits, slot, overwrite } = self;
        Ok(admin::NewKey { rsa_bits, slot, overwrite, ..key.wire(Some(algorithm))? })
    }
}

impl NewKeyArguments {
    fn wire(self, algorithm: Option<Algorithm>) -> Result<admin::NewKey, Failure> {
        let scopes = self.scopes()?;
        Ok(admin::NewKey {
            v: VERSION,
            name: self.name,
            exchange: self.exchange,
            token: self.token,
            scopes,
            algorithm,
            environment: self.environment,
            expires_ms: self.expires.map(Moment::unix_ms),
            nonce_unit: self.nonce_unit,
            rsa_bits: None,
            slot: None,
            overwrite: false,
        })
    }

    fn scopes(&self) -> Result<Scopes, Failure> {
        if self.scopes.is_empty() {
            return Err(Failure::Usage(format!(
                "a key needs at least one --scope; choose as few as the exchange key itself \
                 has:\n{}",
                key_text::all_scopes()
            )));
        }
        Ok(self.scopes.iter().copied().collect())
    }
}

fn scope(text: &str) -> Result<Scope, String> {
    let known = || Scope::ALL.map(Scope::name).join(", ");
    Scope::from_name(text).ok_or_else(|| format!("the scopes are {}", known()))
}

/// Parses a value by its name in the protocol. The error lists the names.
fn named<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let deserializer: StrDeserializer<'_, ValueError> = text.into_deserializer();
    T::deserialize(deserializer).map_err(|error| error.to_string())
}

fn day(text: &str) -> Result<Moment, String> {
    Moment::parse_day(text).ok_or_else(|| "write a day as 2027-01-31".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Harness {
        #[command(subcommand)]
        command: KeyCommand,
    }

    fn payload(arguments: &str) -> Result<String, String> {
        let words = std::iter::once("key").chain(arguments.split(' '));
        let harness = Harness::try_parse_from(words).map_err(|error| error.to_string())?;
        let change = match harness.command {
            KeyCommand::Add(AddArguments { key, algorithm, .. }) => {
                key.wire(algorithm).map(Register::Add)
            }
            KeyCommand::Generate(arguments) => arguments.wire().map(Register::Generate),
            other => panic!("{other:?}"),
        };
        change
            .map(|change| serde_json::to_string(&change).expect("serialises"))
            .map_err(|failure| failure.message())
    }

    #[test]
    fn arguments_become_payloads() {
        assert_eq!(
            payload(
                "add mm --exchange binance --token hsm --scope trade read --expires 2030-01-01"
            )
            .as_deref(),
            Ok(concat!(
                r#"{"operation":"add","v":1,"name":"mm","exchange":"binance","token":"hsm","#,
                r#""scopes":["read","trade"],"algorithm":null,"environment":"production","#,
                r#""expires_ms":1893456000000,"nonce_unit":null}"#,
            ))
        );
        assert_eq!(
            payload(
                "generate k --exchange binance --token yk --scope withdraw --algorithm ed25519 \
                 --environment testnet"
            )
            .as_deref(),
            Ok(concat!(
                r#"{"operation":"generate","v":1,"name":"k","exchange":"binance","token":"yk","#,
                r#""scopes":["withdraw"],"algorithm":"ed25519","environment":"testnet","#,
                r#""expires_ms":null,"nonce_unit":null}"#,
            ))
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_what_is_right() {
        for (arguments, says) in [
            ("add mm --exchange binance --token hsm", "withdraw"),
            ("add mm --exchange binance --token hsm --scope all", "the scopes are read, trade"),
            ("add mm --exchange binance --token hsm --scope read --algorithm md5", "hmac-sha256"),
            ("add mm --exchange binance --token hsm --scope read --environment moon", "testnet"),
            ("add mm --exchange binance --token hsm --scope read --expires soon", "2027-01-31"),
            ("generate k --exchange binance --token yk --scope read", "--algorithm"),
        ] {
            let error = payload(arguments).expect_err(arguments);
            assert!(error.contains(says), "{arguments}: {error}");
        }
    }

    #[test]
    fn a_secret_is_no_argument() {
        for option in ["--secret", "--passphrase", "--api-key", "--pin"] {
            let arguments =
                format!("add mm --exchange binance --token hsm --scope read {option} x");
            assert!(
                payload(&arguments).expect_err(option).contains("unexpected argument"),
                "{option}"
            );
        }
    }
}
