//! Subjects that work inside one child process. The driver tells the child how long to work, and
//! the child answers with its latencies.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use countersign_token::token::pkcs11::Pkcs11Token;
use countersign_token::token_host::signer::SigningSession;
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use hdrhistogram::Histogram;

use crate::measure::{Subject, histogram};
use crate::process::Process;
use crate::softhsm;

/// A child that takes a line of milliseconds and answers with a line of `nanoseconds:count`.
#[derive(Debug)]
pub(crate) struct Worker {
    name: String,
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Other processes that serve the child.
    servers: Vec<Process>,
}

impl Worker {
    pub(crate) fn start(
        name: &str,
        mut command: Command,
        server: Option<Process>,
    ) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context(name.to_owned())?;
        let (orders, answers) =
            (child.stdin.take().context("piped")?, child.stdout.take().context("piped")?);
        let mut worker = Self {
            name: name.to_owned(),
            child,
            orders,
            answers: BufReader::new(answers),
            servers: server.into_iter().collect(),
        };
        worker.work(Duration::from_millis(20))?;
        // Helpers that a server started for this worker.
        let helpers: Vec<_> =
            worker.servers.iter().flat_map(|server| server.children("helper")).collect();
        worker.servers.extend(helpers);
        Ok(worker)
    }

    fn order(&mut self, time: Duration) -> anyhow::Result<()> {
        Ok(writeln!(self.orders, "{}", time.as_millis())?)
    }

    fn answer(&mut self) -> anyhow::Result<Histogram<u64>> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        ensure!(!line.is_empty(), "{} has ended", self.name);
        let mut latencies = histogram();
        for pair in line.split_whitespace() {
            let (nanoseconds, count) = pair.split_once(':').context("no pair")?;
            latencies.saturating_record_n(nanoseconds.parse()?, count.parse()?);
        }
        Ok(latencies)
    }
}

/// Two workers that work at the same time, so that each has a busy CPU beside it.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) name: &'static str,
    pub(crate) workers: [Worker; 2],
}

impl Subject for Pair {
    fn name(&self) -> &str {
        self.name
    }

    fn processes(&self) -> Vec<Process> {
        self.workers.iter().flat_map(Worker::processes).collect()
    }

    fn work(&mut self, time: Duration) -> anyhow::Result<Histogram<u64>> {
        self.workers.iter_mut().try_for_each(|worker| worker.order(time))?;
        let mut latencies = histogram();
        for worker in &mut self.workers {
            latencies += worker.answer()?;
        }
        Ok(latencies)
    }
}

impl Subject for Worker {
    fn name(&self) -> &str {
        &self.name
    }

    fn processes(&self) -> Vec<Process> {
        let mut processes = self.servers.clone();
        processes.push(Process { role: "worker", pid: self.child.id() });
        processes
    }

    fn work(&mut self, time: Duration) -> anyhow::Result<Histogram<u64>> {
        self.order(time)?;
        self.answer()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Signs with a cached handle, with the same calls that a token host makes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TokenWorker {
    #[arg(long)]
    pub(crate) module: PathBuf,
    #[arg(long)]
    pub(crate) label: String,
    #[arg(long)]
    pub(crate) pin_file: PathBuf,
    #[arg(long)]
    pub(crate) key: TokenKey,
}

/// The key to sign with; an HMAC key signs 200 bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum TokenKey {
    /// HMAC-SHA256 with an object of the token
    Object,
    /// HMAC-SHA256 with a working copy of it in the session
    Copy,
    /// ECDSA with a P-256 key of the token, over a hash
    P256,
    /// HMAC-SHA256 with an object of the token, verified: C_VerifyInit and C_Verify
    ///
    /// Over a socket these are two calls and one MAC, as with C_SignInit and C_Sign. Those two
    /// cannot be used: the binding's own sign makes three calls, and the agent's direct calls do
    /// not reach a module that gives every caller function pointers of its own, as p11-kit's client
    /// does.
    Verified,
}

impl TokenKey {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Copy => "copy",
            Self::P256 => "p256",
            Self::Verified => "verified",
        }
    }
}

/// A key on a token, and a session in which it is used.
pub(crate) struct KeyInUse {
    kind: TokenKey,
    key: ObjectHandle,
    signer: SigningSession,
    message: Vec<u8>,
    /// Absent if the key signs.
    verified: Option<Vec<u8>>,
    /// Keeps the login and the working copy.
    keeper: Session,
}

impl TokenWorker {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let mut key = self.key_in_use()?;
        answer_orders(|| key.use_once())
    }

    /// Logs in, and finds or makes the key.
    pub(crate) fn key_in_use(self) -> anyhow::Result<KeyInUse> {
        let kind = self.key;
        let pin = AuthPin::from(fs::read_to_string(&self.pin_file)?.trim_end().to_owned());
        let settings = softhsm::settings(self.module, self.label, self.pin_file);
        let token = Arc::new(Pkcs11Token::find(&settings, settings.checked_profile()?)?);
        let keeper = token.open_session().map_err(|fault| fault.error)?;
        keeper.login(UserType::User, Some(&pin))?;
        let writing = token.open_writing_session().map_err(|fault| fault.error)?;
        let key = find_or_make(&keeper, &writing, kind)?;
        let signer = SigningSession::open(token).map_err(|fault| fault.error)?;
        let message = vec![7; if kind == TokenKey::P256 { 32 } else { 200 }];
        let verified = match kind {
            TokenKey::Verified => Some(keeper.sign(&Mechanism::Sha256Hmac, key, &message)?),
            _ => None,
        };
        Ok(KeyInUse { kind, key, signer, message, verified, keeper })
    }
}

impl KeyInUse {
    /// Signs or verifies once.
    pub(crate) fn use_once(&mut self) -> anyhow::Result<()> {
        let Self { key, message, .. } = self;
        if let Some(mac) = &self.verified {
            return Ok(self.keeper.verify(&Mechanism::Sha256Hmac, *key, message, mac)?);
        }
        let mechanism = match self.kind {
            TokenKey::P256 => MechanismType::ECDSA,
            _ => MechanismType::SHA256_HMAC,
        };
        self.signer.sign_raw(mechanism, *key, message).map_err(|fault| fault.error)?;
        Ok(())
    }
}

/// Reads lines of milliseconds from the standard input, and works that long for each.
fn answer_orders(mut act: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    for line in std::io::stdin().lines() {
        let until = Instant::now() + Duration::from_millis(line?.trim().parse()?);
        let mut latencies: BTreeMap<u64, u64> = BTreeMap::new();
        let mut before = Instant::now();
        while before < until {
            act()?;
            let after = Instant::now();
            *latencies.entry((after - before).as_nanos() as u64).or_default() += 1;
            before = after;
        }
        let line: Vec<_> =
            latencies.iter().map(|(nanoseconds, count)| format!("{nanoseconds}:{count}")).collect();
        println!("{}", line.join(" "));
    }
    Ok(())
}

fn find_or_make(
    session: &Session,
    writing: &Session,
    key: TokenKey,
) -> anyhow::Result<ObjectHandle> {
    let (class, id) = match key {
        TokenKey::P256 => (ObjectClass::PRIVATE_KEY, b"bench-p256".to_vec()),
        _ => (ObjectClass::SECRET_KEY, b"bench-hmac".to_vec()),
    };
    let template = [Attribute::Class(class), Attribute::Token(true), Attribute::Id(id.clone())];
    let object = match session.find_objects(&template)?.first() {
        Some(object) => *object,
        None if key == TokenKey::P256 => make_p256(writing, id)?,
        None => writing.create_object(&[
            Attribute::Class(class),
            Attribute::KeyType(KeyType::GENERIC_SECRET),
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
            Attribute::Verify(true),
            Attribute::Id(id),
            Attribute::Value(vec![9; 64]),
        ])?,
    };
    if key == TokenKey::Copy {
        return Ok(session.copy_object(object, &[Attribute::Token(false)])?);
    }
    Ok(object)
}

fn make_p256(session: &Session, id: Vec<u8>) -> anyhow::Result<ObjectHandle> {
    const PRIME256V1: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    let public = [
        Attribute::Token(true),
        Attribute::Verify(true),
        Attribute::EcParams(PRIME256V1.to_vec()),
        Attribute::Id(id.clone()),
        Attribute::Label(b"bench-p256".to_vec()),
    ];
    let private = [
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Sign(true),
        Attribute::Id(id),
        Attribute::Label(b"bench-p256".to_vec()),
    ];
    Ok(session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)?.1)
}
