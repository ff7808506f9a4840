//! A library of the attacker's that leaks the data of the process that loads it. The tests show
//! which processes load it, and what the data is worth.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use countersign_token::vault::sealed::Sealed;

use super::attacks::{Attack, Said, logs_in};
use crate::harness::process_memory;
use crate::harness::vault_agent::{Making, VaultAgent, binance, is_vault_host};
use crate::harness::yubikey_desk::{PIN, SERIAL};

/// The beginning of the virtual YubiKey's answer to an agreement, before the 32 agreed bytes.
const AGREED: &[u8] = b"\x7c\x22\x82\x20";

/// The library, and the data that it wrote down.
pub(super) struct Leak {
    directory: tempfile::TempDir,
}

impl Leak {
    pub(super) fn compiled() -> Self {
        let leak = Self { directory: tempfile::tempdir().expect("a directory") };
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/leak.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", source]);
        compiler
            .arg(format!("-DLEAKED=\"{}\"", leak.file().display()))
            .arg("-o")
            .arg(leak.library());
        assert!(compiler.status().expect("a C compiler").success());
        leak
    }

    pub(super) fn library(&self) -> PathBuf {
        self.directory.path().join("leak.so")
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("leaked")
    }

    fn leaked(&self) -> Vec<u8> {
        fs::read(self.file()).unwrap_or_default()
    }

    fn holds(&self, wanted: &[u8]) -> bool {
        process_memory::holds(&self.leaked(), wanted)
    }

    /// The number of processes that have loaded it.
    pub(super) fn loads(&self) -> usize {
        let leaked = self.leaked();
        memchr::memmem::find_iter(&leaked, b"\nloaded ").count()
    }

    /// The secret of the last agreement with the card.
    fn agreed(&self) -> Option<[u8; 32]> {
        let leaked = self.leaked();
        let at = memchr::memmem::rfind(&leaked, AGREED)? + AGREED.len();
        leaked.get(at..)?.first_chunk().copied()
    }

    fn is_in(&self, pid: i32) -> bool {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("it runs");
        maps.contains(self.library().to_str().expect("UTF-8"))
    }

    fn preloaded(&self) -> (String, String) {
        ("LD_PRELOAD".to_owned(), self.library().to_str().expect("UTF-8").to_owned())
    }
}

#[test]
fn a_library_in_the_agents_environment_is_in_no_process_that_it_starts() {
    let leak = Leak::compiled();
    let victim =
        VaultAgent::made(Making { environment: vec![leak.preloaded()], ..Making::default() })
            .with_keys_added();
    victim.wait_until_closed();
    victim.fingers(false);
    let mut client = victim.agent.client();
    let (key, path, params) = binance("0.1");
    let id = victim.ask(&mut client, key, path, &params).expect("asked");
    victim.approve(&id).expect("approved");
    assert!(
        victim.desk.card.wait_blink(Duration::from_secs(10)),
        "it blinks: {}",
        victim.agent.log()
    );
    assert!(leak.is_in(victim.agent.pid() as i32), "the front has it, so the attack is one");
    let started = [victim.agent.spawner().into_iter().collect(), victim.agent.children()].concat();
    assert!(started.iter().any(|pid| is_vault_host(*pid)) && started.len() >= 5, "{started:?}");
    for pid in started {
        assert!(!leak.is_in(pid), "process {pid}");
    }
    assert!(victim.desk.card.press());
    VaultAgent::outcome(&mut client, &id).expect("signed");
    assert!(!leak.holds(PIN.as_bytes()) && leak.agreed().is_none(), "nothing has leaked");
}

/// By design, as docs/threat-model.md says. It shows also that the test above would notice a leak.
#[test]
fn who_loads_a_library_into_a_vault_host_needs_a_touch_as_well() {
    let (attack, leak) = (Attack::new(), Leak::compiled());
    let victim = &attack.victim;
    let request = attack.request(&attack.statement, &[&attack.sshsig]);
    let (variable, library) = leak.preloaded();
    let preload = [(variable.as_str(), library.as_str())];
    let sealed = Sealed::parse(&fs::read(victim.directory().join("sealed")).expect("readable"))
        .expect("whole");
    let logins = victim.shim.calls("C_Login");
    // Without a touch it leaks the PIN of the YubiKey, which this uid can read in its file anyway.
    assert!(matches!(
        attack.ask(&request, &preload),
        Said::Refused(reason) if reason.contains("nobody touched")
    ));
    assert!(leak.loads() > 0 && leak.holds(PIN.as_bytes()), "it got in, and leaks");
    assert_eq!(
        (leak.agreed(), victim.shim.calls("C_Login")),
        (None, logins),
        "nothing is agreed on without a touch"
    );
    // With a touch it leaks the secret that opens this vault, until its PIN is changed.
    victim.fingers(true);
    assert!(matches!(attack.ask(&request, &preload), Said::Signed(_)));
    let opened = sealed.open(SERIAL, &leak.agreed().expect("it leaks")).expect("the leak opens it");
    let pin = String::from_utf8(opened.pin.as_bytes().to_vec()).expect("hex");
    assert!(!logs_in(victim, &pin), "the PIN is another one by now");
    assert!(logs_in(victim, &victim.stolen_pin("vault")), "the login itself works");
}
