//! Tests of the order of the steps, and of requests for which a step fails.

mod waiting_requests;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::draft::Finished;
use crate::exchange::fake::key;
use crate::key::KeyName;
use crate::policy::SpendLimit;
use crate::ports::{Drafted, TokenError};
use crate::request::Method;

/// Every port in one. It writes down each call.
#[derive(Default)]
struct World {
    steps: RefCell<Vec<String>>,
    broken_ledger: Cell<Option<&'static str>>,
    broken_token: Cell<bool>,
    absent_token: Cell<bool>,
    clock_was_set: Cell<bool>,
    crowded: Cell<bool>,
    locked: Cell<bool>,
    /// The operator locks while the token signs.
    locks_meanwhile: Cell<bool>,
    late: Cell<bool>,
    /// Number of the next signatures that take longer than any window.
    slow: Cell<u64>,
    took_ms: Cell<u64>,
    touch: Cell<bool>,
    /// Milliseconds that a vault waits for the touch before it stamps; `None` if the token is not a
    /// vault.
    vault: Cell<Option<u64>>,
    rekeyed: Cell<bool>,
    used: Cell<u32>,
}

impl World {
    fn step(&self, name: &'static str) -> Result<(), Refusal> {
        self.steps.borrow_mut().push(name.to_owned());
        if self.broken_ledger.get() == Some(name) {
            return Err(Refusal::new(Code::LedgerUnavailable, "the disk is gone"));
        }
        Ok(())
    }
}

impl World {
    /// The request as a vault would draft it at this moment.
    fn drafted(&self) -> Drafted {
        let finished = Finished {
            method: Method::Post,
            url: "https://fake.example/order".to_owned(),
            headers: Vec::new(),
            body: None,
            signature: "by the vault".to_owned(),
            timestamp_ms: self.now_ms(),
        };
        let message = format!("{} by the vault", self.now_ms()).into_bytes();
        Drafted { message, finished, stamped_since_boot_ms: self.since_boot_ms() }
    }
}

impl Clock for World {
    fn now_ms(&self) -> u64 {
        1_700_000_000_000 + if self.late.get() { 120_000 } else { self.took_ms.get() }
    }
    fn since_boot_ms(&self) -> u64 {
        5_000 + self.took_ms.get()
    }
    fn doubt(&self) -> Option<String> {
        self.clock_was_set.get().then(|| "it was set ahead".to_owned())
    }
    fn request_id(&self) -> String {
        "id-1".to_owned()
    }
    fn random(&self) -> [u8; 16] {
        [7; 16]
    }
}

impl Token for World {
    fn ready(&self, _: &Key) -> Result<(), TokenError> {
        if self.absent_token.get() {
            Err(TokenError::Unavailable("its host is gone".to_owned()))
        } else {
            Ok(())
        }
    }

    async fn sign(
        &self,
        grant: Grant,
        key: &Key,
        _: Algorithm,
        message: &[u8],
    ) -> Result<Signed, TokenError> {
        assert_eq!(grant.key(), &key.name);
        self.steps.borrow_mut().push("token".to_owned());
        if self.broken_token.get() {
            return Err(TokenError::Unavailable("unplugged".to_owned()));
        }
        if self.locks_meanwhile.get() {
            self.locked.set(true);
        }
        let drafted = self.vault.get().map(|touched_after_ms| {
            self.took_ms.set(self.took_ms.get() + touched_after_ms);
            Box::new(self.drafted())
        });
        if self.slow.get() > 0 {
            self.slow.set(self.slow.get() - 1);
            self.took_ms.set(self.took_ms.get() + 100_000);
        }
        let signature = Signature { bytes: message[..2].to_vec(), passphrase: None, drafted };
        Ok(Signed { signature, spent: grant.spend() })
    }

    fn takes_touch(&self, _: &Key) -> bool {
        self.touch.get()
    }
}

impl Ledger for World {
    fn intend<'a>(
        &self,
        intent: SigningIntent<'a>,
        durability: Durability,
    ) -> Result<Begun<'a>, Refusal> {
        assert!(matches!(intent.asked, Asked::Request { .. }));
        self.used.set(self.used.get() + intent.spends.len() as u32);
        if self.used.get() > 1 {
            return Err(Refusal::new(Code::PolicyLimit, "the day is spent"));
        }
        match durability {
            Durability::Synced => self.step("intent synced")?,
            Durability::WithSignature => {
                self.step("count")?;
                return Ok(Begun::unrecorded(intent));
            }
            Durability::Written => self.step("intent")?,
        }
        Ok(Begun::recorded(intent.request_id, intent.key))
    }
    fn nonce(&self, _: &Key) -> Result<u64, Refusal> {
        self.step("nonce").map(|()| 1)
    }
    fn signed(&self, _: &Begun<'_>, message: &[u8]) -> Result<RecordId, Refusal> {
        assert!(
            message.starts_with(self.now_ms().to_string().as_bytes()),
            "stamped when it was signed"
        );
        self.step("signed").map(|()| RecordId { seq: 1, hash: "00".to_owned() })
    }
    fn thrown_away(&self, _: &Begun<'_>, message: &[u8]) -> Result<(), Refusal> {
        let stamped_ms: u64 =
            str::from_utf8(&message[..13]).expect("a stamp").parse().expect("a stamp");
        let wait_ms = if self.locks_meanwhile.get() { 0 } else { 100_000 };
        assert_eq!(stamped_ms + wait_ms, self.now_ms());
        self.step("thrown away")
    }
    fn failed(&self, _: &Begun<'_>, _: &Refusal, returned: &[Spend]) -> Result<(), Refusal> {
        self.used.set(self.used.get() - returned.len() as u32);
        self.step("failed")
    }
    fn refused(&self, refused: &RefusedRequest<'_>) -> Result<(), Refusal> {
        assert_eq!(refused.request_id, "id-1");
        self.step("refused")
    }
    async fn may_ask(&self) -> Result<(), Refusal> {
        self.step("may ask")
    }
    async fn written(&self) -> Result<(), Refusal> {
        self.step("written")
    }
}

impl Approvals for World {
    fn place(&self, _: &Key) -> Result<WaitingPlace, Refusal> {
        if self.crowded.get() {
            return Err(Refusal::new(Code::PolicyRate, "another one waits"));
        }
        Ok(WaitingPlace(Box::new("a place")))
    }
}

impl KeyLookup for World {
    fn key(&self, name: &str) -> Result<Rc<Key>, Refusal> {
        assert_eq!(name, "fake-key");
        let known = key(Scope::ALL);
        let api_key = if self.rekeyed.get() { "another".to_owned() } else { known.api_key.clone() };
        Ok(Rc::new(Key { api_key, ..known }))
    }
}

/// None of these ports waits, so one poll is the whole life of a request.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a port waited"),
    }
}

fn sign(world: &World, locked: bool, payload: &str) -> (Result<SignReply, Code>, Vec<String>) {
    let amount = crate::decimal::Amount::parse("1000").ok();
    let client = Client {
        name: "bot".to_owned(),
        uid: 1,
        keys: [KeyName::parse("fake-key").expect("name")].into(),
        scopes: [Scope::Read, Scope::Trade, Scope::Transfer].into_iter().collect(),
        symbols: None,
        max_quantity: Default::default(),
        limits: [("USDT".to_owned(), SpendLimit { per_request: None, per_day: amount })].into(),
        rate: None,
        unbound: Default::default(),
    };
    let transfers = [("BTC".to_owned(), Default::default())].into();
    let policy = Policy { clients: vec![client.clone()], transfers, ..Policy::default() };
    let caller = Caller { client: "bot".to_owned(), uid: 1, pid: None };
    let rates = RefCell::default();
    let signer = Signer {
        clock: world,
        ledger: world,
        token: world,
        policy: &policy,
        rates: &rates,
        locked: &world.locked,
        client: &client,
        caller: &caller,
        approvals: world,
        agent_id: "agent-1",
    };
    world.locked.set(locked);
    let answered = now(signer.sign(world, payload.as_bytes()));
    assert_eq!(answered.request_id, "id-1");
    let finished = |progress| match progress {
        Progress::Finished(reply) => reply,
        Progress::Waiting(_) => panic!("nothing of this needs approval"),
    };
    (answered.outcome.map(finished).map_err(|refusal| refusal.code), world.steps.take())
}

const ORDER: &str = r#"{"v":1,"key":"fake-key","method":"POST","path":"/order",
    "params":{"symbol":"B","side":"BUY","type":"LIMIT","quantity":"1","price":"2"}}"#;

#[test]
fn what_a_token_signs_after_lock_is_thrown_away() {
    let world = World { locks_meanwhile: Cell::new(true), ..World::default() };
    let (reply, steps) = sign(&world, false, ORDER);
    assert_eq!(reply.map(|_| ()), Err(Code::AgentLocked));
    assert!(steps.contains(&"thrown away".to_owned()), "{steps:?}");
}

#[test]
fn a_request_is_counted_before_the_token_is_asked_and_written_before_the_reply() {
    let (reply, steps) = sign(&World::default(), false, ORDER);
    let reply = reply.expect("allowed");
    assert_eq!(steps, ["count", "may ask", "token", "signed", "written"]);
    assert_eq!(reply.headers, [("Signature".to_owned(), "3137".to_owned())]);
    assert_eq!((reply.scope, reply.record.seq), (Scope::Trade, 1));
}

#[test]
fn moving_money_waits_for_the_disk() {
    let moving = r#"{"v":1,"key":"fake-key","method":"POST","path":"/move","params":{"asset":"BTC",
        "amount":"1"}}"#;
    let (reply, steps) = sign(&World::default(), false, moving);
    assert!(reply.is_ok());
    assert_eq!(steps, ["intent synced", "may ask", "token", "signed", "written"]);
}

/// The agent refuses before anything is counted. Policy denies the other requests whatever the
/// clock says.
#[test]
fn while_the_clock_is_in_doubt_nothing_moves_money() {
    for (method, path, params, expected) in [
        ("POST", "/move", r#"{"asset":"BTC","amount":"1"}"#, Some(Code::ClockUntrusted)),
        ("GET", "/account", r#"{"asset":"BTC","amount":"1"}"#, Some(Code::ClockUntrusted)),
        (
            "POST",
            "/withdraw",
            r#"{"coin":"BTC","amount":"1","address":"a"}"#,
            Some(Code::PolicyScope),
        ),
        ("GET", "/account", "{}", None),
    ] {
        let world = World::default();
        world.clock_was_set.set(true);
        let payload = format!(
            r#"{{"v":1,"key":"fake-key","method":"{method}","path":"{path}","params":{params}}}"#
        );
        let (reply, steps) = sign(&world, false, &payload);
        assert_eq!(reply.err(), expected, "{payload}");
        assert_eq!(steps == ["refused", "written"], expected.is_some(), "{payload}: {steps:?}");
    }
    let world = World::default();
    world.clock_was_set.set(true);
    assert!(sign(&world, false, ORDER).0.is_ok(), "limits of orders hold by the time that passed");
}

#[test]
fn a_refusal_is_recorded_and_the_token_is_not_asked() {
    let cases = [
        ("not json", false, Code::RequestMalformed),
        (r#"{"v":1,"key":"other","method":"GET","path":"/account"}"#, false, Code::KeyUnknown),
        (
            r#"{"v":1,"key":"fake-key","method":"GET","path":"/none"}"#,
            false,
            Code::RequestUnknownEndpoint,
        ),
        (
            r#"{"v":1,"key":"fake-key","method":"GET","path":"/account","params":{"timestamp":1}}"#,
            false,
            Code::RequestForbiddenParameter,
        ),
        (
            r#"{"v":1,"key":"fake-key","method":"GET","path":"/account",
                "params":{"recvWindow":10001}}"#,
            false,
            Code::RequestForbiddenParameter,
        ),
        (
            r#"{"v":1,"key":"fake-key","method":"GET","path":"/account","host":"evil.example"}"#,
            false,
            Code::RequestMalformed,
        ),
        (ORDER, true, Code::AgentLocked),
    ];
    for (payload, locked, code) in cases {
        let (reply, steps) = sign(&World::default(), locked, payload);
        assert_eq!(reply.err(), Some(code), "{payload}");
        assert_eq!(steps, ["refused", "written"], "{payload}");
    }
}

#[test]
fn a_spent_limit_leaves_no_intent() {
    let world = World::default();
    assert!(sign(&world, false, ORDER).0.is_ok());
    let (reply, steps) = sign(&world, false, ORDER);
    assert_eq!(reply.err(), Some(Code::PolicyLimit));
    assert_eq!(steps, ["refused", "written"]);
}

#[test]
fn a_token_that_fails_is_recorded_as_such() {
    let world = World::default();
    world.broken_token.set(true);
    let (reply, steps) = sign(&world, false, ORDER);
    assert_eq!(reply.err(), Some(Code::TokenUnavailable));
    assert_eq!(steps, ["count", "may ask", "token", "failed", "written"]);
}

#[test]
fn what_comes_too_late_for_the_exchange_is_thrown_away() {
    for touch in [true, false] {
        let world = World::default();
        world.touch.set(touch);
        world.slow.set(1);
        let (reply, steps) = sign(&world, false, ORDER);
        assert_eq!(reply.err(), Some(Code::TokenTooLate));
        assert_eq!(steps, ["count", "may ask", "token", "thrown away", "failed", "written"]);
    }
}

/// A vault stamps after the touch. Only the time after the stamp counts, however long the touch
/// took.
#[test]
fn what_a_vault_signs_too_late_after_its_stamp_is_thrown_away() {
    for (slow, expected) in [(0, None), (1, Some(Code::TokenTooLate))] {
        let world =
            World { touch: Cell::new(true), vault: Cell::new(Some(100_000)), ..World::default() };
        world.slow.set(slow);
        let (reply, steps) = sign(&world, false, ORDER);
        assert_eq!(reply.as_ref().err(), expected.as_ref());
        assert_eq!(reply.is_ok_and(|reply| reply.signature == "by the vault"), expected.is_none());
        assert_eq!(steps.contains(&"thrown away".to_owned()), expected.is_some(), "{steps:?}");
    }
}

#[test]
fn a_token_that_cannot_be_asked_costs_nothing_of_a_limit() {
    let world = World::default();
    world.absent_token.set(true);
    let (reply, steps) = sign(&world, false, ORDER);
    assert_eq!(reply.err(), Some(Code::TokenUnavailable));
    assert_eq!(steps, ["refused", "written"]);
}

#[test]
fn without_a_ledger_nothing_is_signed_and_nothing_released() {
    let steps = [
        ("count", false),
        ("may ask", false),
        ("signed", true),
        ("written", true),
        ("refused", false),
    ];
    for (step, token_asked) in steps {
        let world = World::default();
        world.broken_ledger.set(Some(step));
        let payload = if step == "refused" { "not json" } else { ORDER };
        let (reply, steps) = sign(&world, false, payload);
        assert_eq!(reply.err(), Some(Code::LedgerUnavailable), "{step}");
        assert_eq!(steps.contains(&"token".to_owned()), token_asked, "{step}");
    }
}
