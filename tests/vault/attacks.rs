//! A front in an attacker's hands: it speaks the protocol of vault hosts, writes every file of its
//! uid, and starts what it likes. docs/threat-model.md says what it gets and what not, each
//! sentence beside the name of its test. `documents/claims.rs` checks the two against each other.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use countersign_base::messages::frame::{self, Frames};
use countersign_base::messages::vault_host::{SignedRequest, VaultReply, VaultRequest};
use countersign_core::approval::{Statement, Subject};
use countersign_core::wire::admin::PendingEntry;

use super::leaks::Leak;
use crate::harness::agent::SECRET;
use crate::harness::other_users::{assert_cannot_be_looked_into, without_rights};
use crate::harness::person::Person;
use crate::harness::process_memory::{holds, memory};
use crate::harness::softhsm::AGENT;
use crate::harness::vault_agent::{ADDRESS, KRAKEN_SECRET, OKX_SECRET, SPARE, VaultAgent, binance};

/// The answer of a vault host to the attacker.
#[derive(Debug)]
pub(super) enum Said {
    Ended,
    Refused(String),
    Signed(Box<SignedRequest>),
}

pub(super) struct Attack {
    pub(super) victim: VaultAgent,
    /// A statement that alice signed. The attacker has it and her signature, and the front has not
    /// used them.
    pub(super) statement: Statement,
    pub(super) sshsig: String,
}

impl Attack {
    pub(super) fn new() -> Self {
        let victim = VaultAgent::with_keys();
        victim.wait_until_closed();
        victim.fingers(false);
        victim.desk.card.set_timeout(Duration::from_millis(400));
        let mut client = victim.agent.client();
        let (key, path, params) = binance("0.5");
        let id = victim.ask(&mut client, key, path, &params).expect("asked");
        let entry: PendingEntry =
            victim.agent.admin().pending().expect("answered").pending.remove(0);
        assert_eq!(entry.id, id);
        let sshsig = victim.alice.approve(&entry.statement, 1);
        victim.agent.admin().deny(&id).expect("denied");
        Self { victim, statement: entry.statement, sshsig }
    }

    pub(super) fn request(&self, statement: &Statement, sshsigs: &[&str]) -> VaultRequest {
        VaultRequest {
            token: "vault".to_owned(),
            statement: String::from_utf8(statement.bytes()).expect("text"),
            sshsigs: sshsigs.iter().map(|sshsig| (*sshsig).to_owned()).collect(),
            nonce: 7,
        }
    }

    /// Starts a vault host as the spawner would, with this environment, and asks.
    pub(super) fn ask(&self, request: &VaultRequest, environment: &[(&str, &str)]) -> Said {
        let (mut ours, theirs) = UnixStream::pair().expect("a pair");
        let program = [without_rights(), vec![AGENT.to_owned()]].concat();
        let mut command = self.victim.desk.rig.command(&program[0]);
        command.args(&program[1..]);
        command.args(["vault-host", "--config"]).arg(self.victim.agent.config_file());
        command
            .env_clear()
            .env("PATH", "/usr/bin:/usr/sbin:/bin:/sbin")
            .envs(environment.iter().copied());
        let log = fs::File::create(self.victim.agent.path().join("attack.log")).expect("a log");
        let child =
            command.stdin(std::os::fd::OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(log);
        let mut child = child.spawn().expect("it runs");
        drop(command);
        frame::send(&mut ours, request).expect("it listens");
        let mut frames = Frames::default();
        let said = loop {
            match frames.receive::<VaultReply>(&mut ours) {
                Ok(VaultReply::Touch { .. }) => {}
                Ok(VaultReply::Signed(signed)) => break Said::Signed(signed),
                Ok(VaultReply::Refused(reason) | VaultReply::TouchTooLate(reason)) => {
                    break Said::Refused(reason);
                }
                Err(_) => break Said::Ended,
            }
        };
        child.wait().expect("ended");
        said
    }

    /// Checks that the request is refused without a login, and that nobody is asked to touch.
    fn refused(&self, request: &VaultRequest, why: &str) {
        let before = (self.victim.desk.card.status().blinks, self.victim.shim.calls("C_Login"));
        let Said::Refused(reason) = self.ask(request, &[]) else { panic!("{why}: not refused") };
        assert!(reason.contains(why), "{why}: {reason}");
        let after = (self.victim.desk.card.status().blinks, self.victim.shim.calls("C_Login"));
        assert_eq!(before, after, "{why}: touch and login");
    }

    fn changed(&self, change: impl FnOnce(&mut Statement)) -> VaultRequest {
        let mut statement = self.statement.clone();
        change(&mut statement);
        self.request(&statement, &[&self.sshsig])
    }
}

fn params(statement: &mut Statement, from: &str, to: &str) {
    let Subject::Request { params, .. } = &mut statement.subject else { panic!("no request") };
    assert!(params.contains(from));
    *params = params.replace(from, to);
}

#[test]
fn without_a_touch_a_front_gets_nothing() {
    let attack = Attack::new();
    let original = attack.request(&attack.statement, &[&attack.sshsig]);
    // Other transfers: the summary says something else, or the approval does not fit.
    attack.refused(
        &attack.changed(|statement| params(statement, ADDRESS, "bc1qmallory")),
        "moves something else",
    );
    attack.refused(
        &attack.changed(|statement| {
            params(statement, "\"0.5\"", "\"0.6\"");
            let Subject::Request { transfers, .. } = &mut statement.subject else {
                panic!("no request")
            };
            transfers[0].amount = countersign_core::decimal::Amount::parse("0.6").ok();
        }),
        "does not approve it",
    );
    attack.refused(&attack.changed(|statement| statement.expires_ms += 1), "does not approve it");
    attack.refused(&attack.changed(|statement| statement.expires_ms = u64::MAX), "expired");
    attack.refused(&attack.changed(|statement| statement.agent.push('x')), "another agent");
    attack.refused(
        &attack.changed(|statement| statement.policy_sha256 = "00".repeat(32)),
        "another configuration",
    );
    attack
        .refused(&attack.changed(|statement| statement.subject = Subject::Unlock), "no statement");
    attack.refused(&attack.request(&attack.statement, &[]), "the approval of 1 person");
    let mallory = Person::new("mallory", 66);
    attack.refused(
        &attack.request(&attack.statement, &[&mallory.approve(&attack.statement, 1)]),
        "not made with the key of an approver",
    );
    attack.refused(
        &attack.request(&attack.statement, &[&attack.victim.alice.approve(&attack.statement, 0)]),
        "without a touch",
    );
    let other_token = VaultRequest {
        token: "hsm".to_owned(),
        ..attack.request(&attack.statement, &[&attack.sshsig])
    };
    attack.refused(&other_token, "no vault named");
    let text =
        VaultRequest { statement: "{}".to_owned(), ..attack.request(&attack.statement, &[]) };
    attack.refused(&text, "no statement");
    // The right request, but nobody touches: there is no login.
    let logins = attack.victim.shim.calls("C_Login");
    assert!(matches!(
        attack.ask(&original, &[]),
        Said::Refused(reason) if reason.contains("nobody touched")
    ));
    assert_eq!(attack.victim.shim.calls("C_Login"), logins);
}

#[test]
fn files_that_a_front_writes_open_nothing() {
    let attack = Attack::new();
    let (directory, config) = (attack.victim.directory(), attack.victim.agent.config_file());
    let original = attack.request(&attack.statement, &[&attack.sshsig]);
    let sealed = fs::read_to_string(directory.join("sealed")).expect("readable");
    let text = fs::read_to_string(&config).expect("readable");
    // Another policy, another approver, a module of its own.
    for (from, to) in
        [("per_day = \"2\"", "per_day = \"9\""), ("[approver.alice]", "[approver.mallory]")]
    {
        fs::write(&config, text.replace(from, to)).expect("written");
        attack.refused(&original, "not the one for which the vault was sealed");
    }
    let leak = Leak::compiled();
    let module = attack.victim.agent.state_dir().join("module.so");
    fs::copy(leak.library(), &module).expect("copied");
    let own = text
        .replace(&attack.victim.shim.module().display().to_string(), &module.display().to_string());
    assert_ne!(own, text);
    fs::write(&config, own).expect("written");
    attack.refused(&original, "not the one for which the vault was sealed");
    assert_eq!(leak.loads(), 0, "a module of its own is not even loaded");
    fs::write(&config, &text).expect("written");
    // Other recipients, and terms that name the attacker's policy: nothing opens, even with a
    // touch.
    attack.victim.fingers(true);
    for (from, to) in [
        (format!("\"serial\":{SPARE}"), format!("\"serial\":{}", SPARE + 1)),
        ("\"name\":\"yk\",".to_owned(), "\"name\":\"mine\",".to_owned()),
        ("\"name\":\"alice\"".to_owned(), "\"name\":\"malle\"".to_owned()),
    ] {
        assert!(sealed.contains(&from), "{from}");
        fs::write(directory.join("sealed"), sealed.replace(&from, &to)).expect("written");
        let logins = attack.victim.shim.calls("C_Login");
        let Said::Refused(reason) = attack.ask(&original, &[]) else { panic!("{from}: it opened") };
        assert!(reason.contains("did not open"), "{from}: {reason}");
        assert_eq!(attack.victim.shim.calls("C_Login"), logins);
    }
    fs::write(directory.join("sealed"), sealed).expect("written");
    assert!(matches!(attack.ask(&original, &[]), Said::Signed(_)), "as it was, with a touch");
}

#[test]
fn one_touch_is_one_signature_and_old_copies_are_worth_nothing() {
    let attack = Attack::new();
    let directory = attack.victim.directory();
    let original = attack.request(&attack.statement, &[&attack.sshsig]);
    let (sealed, spent) =
        (fs::read(directory.join("sealed")).expect("readable"), fs::read(directory.join("spent")));
    attack.victim.fingers(true);
    let Said::Signed(signed) = attack.ask(&original, &[]) else { panic!("approved and touched") };
    assert!(signed.body.expect("a form").contains(ADDRESS));
    // The same request again, while a finger lies on the card.
    attack.refused(&original, "used before");
    let renamed = {
        let mut statement = attack.statement.clone();
        statement.request_id.push('x');
        attack.request(&statement, &[&attack.sshsig])
    };
    attack.refused(&renamed, "does not approve it");
    // The attacker puts back the older record of spent approvals. The vault notices.
    match spent {
        Ok(before) => fs::write(directory.join("spent"), before).expect("written"),
        Err(_) => fs::remove_file(directory.join("spent")).expect("removed"),
    }
    let logins = attack.victim.shim.calls("C_Login");
    let Said::Refused(reason) = attack.ask(&original, &[]) else { panic!("signed twice") };
    assert!(reason.contains("older than the vault"), "{reason}");
    assert_eq!(attack.victim.shim.calls("C_Login"), logins);
    // The attacker puts back the older sealed file too. Its PIN is no longer the token's.
    let signatures = attack.victim.shim.calls("C_Sign");
    fs::write(directory.join("sealed"), sealed).expect("written");
    assert!(matches!(attack.ask(&original, &[]), Said::Refused(_)));
    assert_eq!(attack.victim.shim.calls("C_Sign"), signatures, "nothing was signed");
}

/// By design, as docs/threat-model.md says: old copies of a software token's files open with the
/// PIN they had.
#[test]
fn old_copies_of_a_software_token_and_its_sealed_file_sign_again_with_a_touch() {
    let attack = Attack::new();
    let (directory, tokens) = (attack.victim.directory(), attack.victim.vault.tokens());
    let original = attack.request(&attack.statement, &[&attack.sshsig]);
    let copy = attack.victim.agent.path().join("copy");
    let copied = |from: &Path, to: &Path| {
        let _ = fs::remove_dir_all(to);
        assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp").success());
    };
    copied(&directory, &copy);
    copied(&tokens, &copy.with_extension("tokens"));
    attack.victim.fingers(true);
    assert!(matches!(attack.ask(&original, &[]), Said::Signed(_)));
    copied(&copy, &directory);
    copied(&copy.with_extension("tokens"), &tokens);
    assert!(
        matches!(attack.ask(&original, &[]), Said::Signed(_)),
        "within the approval's two minutes, with a touch"
    );
}

pub(super) fn logs_in(victim: &VaultAgent, pin: &str) -> bool {
    victim.vault.pkcs11_tool_with(pin, &["--list-objects"]).status.success()
}

/// By design, as docs/threat-model.md says: one stolen touch gives the PIN, until the PIN is
/// changed.
#[test]
fn a_stolen_touch_is_worth_the_pin_until_it_is_another_one() {
    let victim = VaultAgent::with_keys();
    victim.wait_until_closed();
    let pin = victim.stolen_pin("vault");
    assert!(logs_in(&victim, &pin), "the PIN, and with it a second login");
    let (key, path, params) = binance("0.1");
    victim.withdraw(key, path, &params).expect("signed");
    victim.wait_until_closed();
    assert!(!logs_in(&victim, &pin), "the vault's next use ended it");
    let pin = victim.stolen_pin("vault");
    assert!(victim.command(&["rotate", "vault"]).status.success());
    assert!(!logs_in(&victim, &pin), "as does the operator's rotation");
}

/// By design, as docs/threat-model.md says: on a token whose PIN cannot be set, until it is changed
/// by hand.
#[test]
fn a_stolen_touch_on_a_token_that_does_not_rotate_is_worth_the_pin_for_ever() {
    let directory = tempfile::tempdir().expect("a directory");
    let profile = directory.path().join("fixed.toml");
    let text = include_str!("../../pkcs11-profiles/softhsm.toml")
        .replace("name = \"softhsm\"", "name = \"fixed\"");
    fs::write(&profile, text.replace("pin_rotation = \"setpin\"", "pin_rotation = \"none\""))
        .expect("written");
    let victim = VaultAgent::of_profile(profile.to_str().expect("UTF-8"));
    let shown = String::from_utf8(victim.command(&["show", "vault"]).stdout).expect("text");
    assert!(shown.contains("one touch reveals the PIN until it is changed by hand"), "{shown}");
    victim.fingers(true);
    victim.add("binance-wd", "binance", SECRET, None).expect("enrolled");
    let pin = victim.stolen_pin("vault");
    let (key, path, params) = binance("0.1");
    victim.withdraw(key, path, &params).expect("signed");
    victim.wait_until_closed();
    assert!(logs_in(&victim, &pin));
}

/// The processes that live on after a withdrawal are the front, the spawner and the hosts of other
/// tokens.
#[test]
fn no_process_that_stays_holds_what_was_used() {
    let victim = VaultAgent::with_keys();
    victim.wait_until_closed();
    let used = victim.stolen_pin("vault");
    let (key, path, params) = binance("0.1");
    victim.withdraw(key, path, &params).expect("signed");
    victim.wait_until_closed();
    let next = victim.stolen_pin("vault"); // the one that is valid now
    assert_ne!(used, next);
    let kraken = data_encoding::BASE64.decode(KRAKEN_SECRET.as_bytes()).expect("base64");
    let secrets = [
        ("the PIN that opened the vault", used.as_bytes()),
        ("the next PIN", next.as_bytes()),
        ("Binance's secret", SECRET.as_bytes()),
        ("OKX's secret", OKX_SECRET.as_bytes()),
        ("Kraken's secret", &kraken),
        ("Kraken's secret in base64", KRAKEN_SECRET.as_bytes()),
    ];
    let processes = [
        vec![victim.agent.pid() as i32],
        victim.agent.spawner().into_iter().collect(),
        victim.agent.children(),
    ];
    let processes = processes.concat();
    assert!(processes.len() >= 4, "{processes:?}");
    let mut seen = false;
    for pid in processes {
        let memory = memory(pid as u32);
        seen |= holds(&memory, b"binance-wd");
        for (what, bytes) in secrets {
            assert!(!holds(&memory, bytes), "process {pid} holds {what}");
        }
    }
    assert!(seen, "the scan sees what the front holds");
}

#[test]
fn a_vault_host_cannot_be_looked_into_and_leaves_no_core() {
    let attack = Attack::new();
    let before = Instant::now();
    // The vault host waits for a touch meanwhile. Its own uid cannot look into it, and it leaves no
    // core.
    attack.victim.desk.card.set_timeout(Duration::from_secs(3));
    let request = attack.request(&attack.statement, &[&attack.sshsig]);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| attack.ask(&request, &[]));
        assert!(attack.victim.desk.card.wait_blink(Duration::from_secs(10)), "it waits");
        let hosts = attack.victim.vault_hosts();
        assert!(!hosts.is_empty());
        for pid in hosts {
            let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("readable");
            let core =
                limits.lines().find(|line| line.starts_with("Max core file size")).expect("there");
            assert!(core.split_whitespace().filter(|word| *word == "0").count() == 2, "{core}");
            assert_cannot_be_looked_into(pid);
        }
        assert!(matches!(asking.join().expect("no panic"), Said::Refused(_)));
    });
    assert!(before.elapsed() < Duration::from_secs(30));
}
