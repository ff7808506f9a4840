//! `countersign vault`: the agent's program does the work; the approval comes from a real
//! ssh-agent.

mod fake;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use fake::program::Program;

/// A real ssh-agent with one key. Its public half is in `approver.pub`.
struct SshAgent(Child);

impl SshAgent {
    fn start(home: &Path) -> Self {
        let key = home.join("approver");
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "alice", "-f"])
            .arg(&key)
            .status();
        assert!(made.expect("ssh-keygen").success());
        let mut agent = Command::new("ssh-agent");
        agent.arg("-D").arg("-a").arg(home.join("ssh.sock")).stdout(Stdio::piped());
        let mut agent = agent.spawn().expect("ssh-agent");
        let mut line = String::new();
        BufReader::new(agent.stdout.as_mut().expect("a pipe"))
            .read_line(&mut line)
            .expect("it says where it is");
        let added = Command::new("ssh-add")
            .arg("-q")
            .arg(&key)
            .env("SSH_AUTH_SOCK", home.join("ssh.sock"))
            .status();
        assert!(added.expect("ssh-add").success());
        Self(agent)
    }
}

impl Drop for SshAgent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_vault_is_shown_and_changed_with_an_approval() {
    let program = Program::new(None);
    let shown = program.run(&["vault", "show", "vault"]);
    assert_eq!(shown.exit, 0, "{shown:?}");
    assert!(
        shown.out.contains("yk (YubiKey 1), yk-spare (YubiKey 2)")
            && shown.out.contains("one touch"),
        "{shown:?}"
    );
    program.run(&["vault", "show", "vault", "--json"]).json();
    let drilled = program.run(&["vault", "drill", "vault", "yk-spare"]);
    assert_eq!(drilled.out, "yk-spare opens the vault vault; nothing was signed\n", "{drilled:?}");
    // Without an ssh-agent nothing is approved, and the agent's program is not told to go on.
    let alone = program.run(&["vault", "reseal", "vault"]);
    assert_eq!(alone.exit, 4, "{alone:?}");

    let _agent = SshAgent::start(program.home());
    let mut command = program.command(&["vault", "remove", "vault", "yk"]);
    let output =
        command.env("SSH_AUTH_SOCK", program.home().join("ssh.sock")).output().expect("it runs");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    assert!(
        err.contains("opens it then  yk-spare (YubiKey 2)") && err.contains("Touch 1 of 2"),
        "{err}"
    );
    assert!(out.contains("yk-spare (YubiKey 2)"), "{out}");
    let refused = program.run(&["vault", "rotate", "none"]);
    assert!(refused.exit == 5 && refused.err.contains("no vault"), "{refused:?}");
    assert!(refused.err.starts_with("touch yk: it blinks\n"), "{refused:?}");
    let json = program.run(&["vault", "rotate", "none", "--json"]);
    assert_eq!((json.exit, json.error_code().as_str()), (5, "token.unavailable"));
    assert!(
        json.out.contains("has no vault of that name")
            || json.err.contains("has no vault of that name"),
        "{json:?}"
    );
}
