//! A token that locks its PIN after ten wrong tries. The agent spends one of them on a wrong PIN,
//! and no more.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::process::Signal;

use crate::harness::agent::{self, Agent, Launch};
use crate::harness::shim::Shim;
use crate::harness::softhsm::SoftHsm;
use crate::harness::timing::repetitions;

const PIN: &str = "right-pin-1";
const OFFICER_PIN: &str = "officer-pin-1";

/// A kryoptic token in a directory of its own, behind the shim. The agent has it beside a SoftHSM
/// token.
struct Locking {
    agent: Agent,
    shim: Shim,
    module: PathBuf,
    directory: tempfile::TempDir,
}

impl Locking {
    fn new() -> Self {
        let module = PathBuf::from(
            std::env::var_os("COUNTERSIGN_KRYOPTIC").expect("make test-kryoptic builds it"),
        );
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name).display().to_string();
        let slots =
            format!("[[slots]]\nslot = 1\ndbtype = \"sqlite\"\ndbargs = \"{}\"\n", at("token.sql"));
        fs::write(at("kryoptic.conf"), slots).expect("written");
        let shim = Shim::of(&module);
        let rest = format!(
            "\n[token.locking]\nprofile = \"kryoptic\"\nmodule = \"{}\"\nlabel = \"locking\"\npin \
             = {{ file = \"{}\" }}\n\
             environment = {{ KRYOPTIC_CONF = \"{}\" }}\n",
            shim.module().display(),
            at("pin"),
            at("kryoptic.conf"),
        );
        let tool = |words: &[&str]| {
            let made = Self::tool_of(&module, directory.path(), words);
            assert!(made.status.success(), "{made:?}");
        };
        tool(&["--init-token", "--slot-index", "0", "--label", "locking", "--so-pin", OFFICER_PIN]);
        tool(&[
            "--init-pin",
            "--login",
            "--login-type",
            "so",
            "--so-pin",
            OFFICER_PIN,
            "--pin",
            PIN,
        ]);
        write_pin(&directory.path().join("pin"), PIN);
        let agent = Agent::start_with(SoftHsm::new(), Launch::default(), agent::BOT, &rest);
        Self { agent, shim, module, directory }
    }

    /// Runs OpenSC's pkcs11-tool on this token.
    fn tool(&self, words: &[&str]) -> Output {
        Self::tool_of(&self.module, self.directory.path(), words)
    }

    fn tool_of(module: &Path, directory: &Path, words: &[&str]) -> Output {
        let mut tool = Command::new("pkcs11-tool");
        let tool =
            tool.env("KRYOPTIC_CONF", directory.join("kryoptic.conf")).arg("--module").arg(module);
        tool.args(words).output().expect("pkcs11-tool runs")
    }

    fn someone_tries(&self, pin: &str) -> bool {
        self.tool(&["--token-label", "locking", "--login", "--pin", pin, "--list-objects"])
            .status
            .success()
    }

    fn logins(&self) -> usize {
        self.shim.calls("C_Login")
    }

    fn restart_and_wait_for(&mut self, what: &str) {
        self.agent.stop(Signal::TERM);
        self.agent.begin();
        self.wait_for(what);
    }

    /// Waits until `status` has this as the token's state, or in its last error.
    fn wait_for(&self, what: &str) {
        self.agent.wait_until("the agent listens", |agent| {
            countersign::Admin::open(&agent.sockets()).is_ok()
        });
        self.agent.wait_until(what, |agent| {
            let status = agent.admin().status().expect("a status");
            let token = status
                .tokens
                .into_iter()
                .find(|token| token.name == "locking")
                .expect("in agent.toml");
            token.state == what || token.last_error.is_some_and(|error| error.contains(what))
        });
    }
}

fn write_pin(path: &Path, pin: &str) {
    use std::os::unix::fs::OpenOptionsExt;
    // A new file, as an editor leaves it.
    let _ = fs::remove_file(path);
    let file = fs::File::options().create_new(true).write(true).mode(0o600).open(path);
    std::io::Write::write_all(&mut file.expect("a file"), pin.as_bytes()).expect("written");
}

#[test]
#[ignore = "make test-kryoptic builds the module"]
fn a_token_that_locks_is_never_locked_by_the_agent_and_says_how_to_unlock_it() {
    let mut token = Locking::new();
    let pin = token.directory.path().join("pin");
    assert_eq!(token.logins(), 1);

    write_pin(&pin, "wrong-pin-1");
    for _ in 0..repetitions(12, 100) {
        token.restart_and_wait_for("pin-reset locking");
    }
    assert_eq!(token.logins(), 2, "a wrong PIN costs one try, however often the agent starts");
    for _ in 0..8 {
        assert!(!token.someone_tries("wrong-pin-2"));
    }
    assert!(
        token.someone_tries(PIN),
        "one of ten is left: eight were spent here, one by the agent"
    );

    write_pin(&pin, PIN);
    token.restart_and_wait_for("healthy");
    for _ in 0..9 {
        assert!(!token.someone_tries("wrong-pin-2"));
    }
    let logins = token.logins();
    token.restart_and_wait_for(
        "one wrong PIN from locking itself; log in once with the right PIN by another tool",
    );
    assert_eq!(token.logins(), logins, "the last try is nobody's but a person's");
    assert!(token.someone_tries(PIN));
    token.agent.signal(Signal::HUP);
    token.wait_for("healthy");

    for _ in 0..10 {
        assert!(!token.someone_tries("wrong-pin-2"));
    }
    assert!(!token.someone_tries(PIN), "locked");
    let logins = token.logins();
    token.restart_and_wait_for(
        "the token has locked the PIN; a person with the security officer's PIN must set this PIN",
    );
    assert_eq!(token.logins(), logins);
    let set = token.tool(&[
        "--init-pin",
        "--login",
        "--login-type",
        "so",
        "--so-pin",
        OFFICER_PIN,
        "--pin",
        PIN,
    ]);
    assert!(set.status.success(), "{set:?}");
    token.agent.signal(Signal::HUP);
    token.wait_for("healthy");
    eprintln!("{} logins in all", token.logins());
}
