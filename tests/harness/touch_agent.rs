//! An agent with a YubiKey beside its HSM, and a key that is made in the YubiKey.

use std::fs;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use countersign::Error;
use countersign_core::algorithm::Algorithm;
use countersign_core::scope::Scope;
use countersign_core::wire::SignReply;
use countersign_core::wire::admin::{DoneReply, NewKey, Register};
use countersign_token::token::public_key::PublicKey;
use virtual_yubikey::Firmware;

use super::agent::{Agent, Launch, call};
use super::softhsm::SoftHsm;
use super::yubikey_desk::{Desk, LONG, PIN, SERIAL};

pub(crate) const BOT: &str =
    "keys = [\"hot\", \"cold\"]\nscopes = [\"read\", \"trade\", \"withdraw\"]\n";

/// Dropped in this order: the agent ends before its readers.
pub(crate) struct TouchAgent {
    pub(crate) agent: Agent,
    pub(crate) desk: Desk,
    /// The public key of `cold`, if that key was made.
    pub(crate) public_key: Option<PublicKey>,
}

impl TouchAgent {
    pub(crate) fn start(firmware: Firmware, rest: &str) -> Self {
        Self::with(Desk::new(firmware), PIN, rest)
    }

    pub(crate) fn with(desk: Desk, pin: &str, rest: &str) -> Self {
        let launch = Launch { wrapper: inside(&desk), ..Launch::default() };
        write_pin(&desk, pin);
        let agent = Agent::start_with(
            SoftHsm::new(),
            launch,
            BOT,
            &format!("{}\n{rest}", token(&desk, "")),
        );
        Self { agent, desk, public_key: None }
    }

    /// A key named `cold`, made in the YubiKey and active.
    pub(crate) fn with_cold_key(firmware: Firmware, algorithm: Algorithm, rest: &str) -> Self {
        let mut this = Self::start(firmware, rest);
        let made =
            this.generate(algorithm, &[Scope::Read, Scope::Withdraw], None, false).expect("made");
        this.public_key = Some(public_key_of(algorithm, &made));
        this.activate();
        this
    }

    pub(crate) fn generate(
        &self,
        algorithm: Algorithm,
        scopes: &[Scope],
        slot: Option<&str>,
        overwrite: bool,
    ) -> Result<DoneReply, Error> {
        let new =
            NewKey { slot: slot.map(str::to_owned), overwrite, ..cold_key(algorithm, scopes) };
        let nobody = fs::File::open("/dev/null").expect("a device");
        self.agent.admin().add(&Register::Generate(new), nobody.as_fd())
    }

    /// Makes an RSA key of this size.
    pub(crate) fn generate_rsa(&self, bits: u32) -> Result<DoneReply, Error> {
        let new = cold_key(Algorithm::RsaPkcs1v15Sha256, &[Scope::Read, Scope::Withdraw]);
        let nobody = fs::File::open("/dev/null").expect("a device");
        self.agent
            .admin()
            .add(&Register::Generate(NewKey { rsa_bits: Some(bits), ..new }), nobody.as_fd())
    }

    pub(crate) fn activate(&self) {
        let activate =
            Register::Activate { v: 1, name: "cold".to_owned(), api_key: "theid".to_owned() };
        self.agent.admin().register(&activate).expect("active");
    }

    /// Sends one request with the cold key. The test has to touch.
    pub(crate) fn ask(&self) -> Result<SignReply, Error> {
        self.agent.client().sign(&call("cold", "GET", "/api/v3/account", "{}"))
    }

    /// Checks that the key that was made has signed the request as it is sent.
    pub(crate) fn verify(&self, reply: &SignReply) {
        let public_key = self.public_key.as_ref().expect("`cold` was made");
        let query = reply.url.split_once('?').expect("a query").1;
        let (message, signature) = query.split_once("&signature=").expect("a signature at the end");
        let signature = signature.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=");
        let signature = data_encoding::BASE64.decode(signature.as_bytes()).expect("Base64");
        assert!(public_key.verifies(message.as_bytes(), &signature), "{}", reply.url);
    }

    /// The signatures of requests that no person approved, as the journal has them.
    pub(crate) fn signed_on_record(&self) -> usize {
        self.agent.journal().matches("\"kind\":\"signed\"").count()
    }

    /// Sends a request, touches once, and returns the signed request.
    pub(crate) fn touched(&self) -> SignReply {
        let (before, on_record) = (self.desk.card.status(), self.signed_on_record());
        let reply = std::thread::scope(|scope| {
            let asking = scope.spawn(|| self.ask());
            assert!(self.desk.card.wait_blink(LONG), "it blinks; log:\n{}", self.agent.log());
            assert!(self.desk.card.press());
            asking
                .join()
                .expect("no panic")
                .unwrap_or_else(|error| panic!("{error}; log:\n{}", self.agent.log()))
        });
        let after = self.desk.card.status();
        assert_eq!(after.blinks - before.blinks, 1, "one blink");
        assert_eq!(after.counts.signatures - before.counts.signatures, 1, "one signature");
        assert_eq!(self.signed_on_record() - on_record, 1, "one record of a signature");
        self.verify(&reply);
        reply
    }

    pub(crate) fn state(&self, token: &str) -> String {
        let status = self.agent.admin().status().expect("answered");
        status.tokens.iter().find(|entry| entry.name == token).expect("configured").state.clone()
    }
}

/// The command that starts a program in the namespaces of the desk.
pub(crate) fn inside(desk: &Desk) -> Vec<String> {
    let target = format!("--target={}", desk.rig.pid());
    ["nsenter", "--mount", "--net", "--wd=.", &target, "--"].map(str::to_owned).to_vec()
}

pub(crate) fn cold_key(algorithm: Algorithm, scopes: &[Scope]) -> NewKey {
    let new = NewKey::plain("cold", "binance", "yk", scopes.iter().copied().collect());
    NewKey { algorithm: Some(algorithm), ..new }
}

pub(crate) fn public_key_of(algorithm: Algorithm, made: &DoneReply) -> PublicKey {
    let pem = made.public_key.as_ref().expect("a made key has a public key");
    PublicKey::from_der(algorithm, &der(pem)).expect("of this algorithm")
}

pub(crate) fn der(pem: &str) -> Vec<u8> {
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    data_encoding::BASE64.decode(base64.as_bytes()).expect("PEM")
}

pub(crate) fn write_pin(desk: &Desk, pin: &str) {
    let options = &mut fs::File::options();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(pin_file(desk));
    file.expect("made").write_all(pin.as_bytes()).expect("written");
}

fn pin_file(desk: &Desk) -> PathBuf {
    desk.directory.path().join("yk.pin")
}

fn token(desk: &Desk, more: &str) -> String {
    token_with(desk, &format!("{{ file = \"{}\" }}", pin_file(desk).display()), more)
}

pub(crate) fn token_with(desk: &Desk, pin: &str, more: &str) -> String {
    format!(
        "[token.yk]\nprofile = \"yubikey-piv\"\nserial = {SERIAL}\npin = {pin}\nattestation_root = \
         \"{}\"\n{more}",
        desk.card.authority().display()
    )
}
