//! Approvals by OpenSSH's own ssh-keygen, ssh-add and ssh-agent, which load a FIDO key in software
//! as their provider.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use countersign_core::wire::admin::PendingReply;

use super::*;

/// An ssh-agent of this test's own; its FIDO key has a finger on it, or not.
struct OpenSsh {
    agent: Child,
    directory: tempfile::TempDir,
}

impl OpenSsh {
    fn start() -> Self {
        let directory =
            tempfile::Builder::new().prefix("countersign-ssh").tempdir().expect("a directory");
        // Cargo puts the libraries a test depends on beside the test.
        let built = std::env::current_exe().expect("a test").with_file_name("libsk_provider.so");
        fs::copy(built, directory.path().join("provider.so")).expect("built with the tests");
        let provider = directory.path().join("provider.so").canonicalize().expect("there");
        let mut agent = Command::new("ssh-agent");
        // Of all libraries, it may load this one.
        agent.arg("-D").arg("-P").arg(&provider).arg("-a").arg(directory.path().join("agent.sock"));
        let said = fs::File::create(directory.path().join("log")).expect("a log");
        let agent = agent
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .expect("ssh-agent is there");
        let this = Self { agent, directory };
        let begun = std::time::Instant::now();
        while !this.socket().exists() {
            assert!(begun.elapsed() < Duration::from_secs(10), "ssh-agent does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        this
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("agent.sock")
    }

    fn finger(&self, on_it: bool) {
        fs::write(self.directory.path().join("finger"), if on_it { "present" } else { "" })
            .expect("written");
    }

    /// Makes a key and hands it to the ssh-agent; what goes into `agent.toml`.
    fn key(&self, name: &str, kind: &str, options: &[&str]) -> String {
        let (provider, file) =
            (self.directory.path().join("provider.so"), self.directory.path().join(name));
        self.finger(true);
        let mut keygen = Command::new("ssh-keygen");
        keygen
            .args(["-q", "-N", "", "-C", name, "-t", kind])
            .args(options)
            .arg("-w")
            .arg(&provider)
            .arg("-f")
            .arg(&file);
        self.succeeds(&mut keygen);
        let mut add = Command::new("ssh-add");
        self.succeeds(
            add.arg("-q").arg("-S").arg(&provider).arg(&file).env("SSH_AUTH_SOCK", self.socket()),
        );
        self.finger(false);
        let public = fs::read_to_string(file.with_extension("pub")).expect("made");
        public.trim_end().to_owned()
    }

    fn succeeds(&self, command: &mut Command) {
        let output = command.stdin(Stdio::null()).output().expect("OpenSSH is there");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        assert!(output.status.success(), "{command:?}: {said}{log}");
    }

    /// As `countersign approve` does it.
    fn sign(
        &self,
        approver: &str,
        shown: &PendingReply,
        id: &str,
    ) -> Result<String, ApproverError> {
        let mut ssh_agent = SshAgent::at(&self.socket()).expect("it listens");
        let approvers: Vec<_> =
            shown.approvers.iter().filter(|entry| entry.name == approver).cloned().collect();
        let candidate = ssh_agent.candidate(&approvers).expect("it holds the key");
        let entry = shown.pending.iter().find(|entry| entry.id == id).expect("it waits");
        ssh_agent.approve(&candidate, &entry.statement)
    }
}

impl Drop for OpenSsh {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

#[test]
fn keys_of_opensshs_own_agent_approve_by_touch_and_by_nothing_else() {
    let openssh = OpenSsh::start();
    let (alice, bob) =
        (openssh.key("alice", "ed25519-sk", &[]), openssh.key("bob", "ecdsa-sk", &[]));
    let careless = openssh.key("careless", "ed25519-sk", &["-O", "no-touch-required"]);
    let approvers = [("alice", alice), ("bob", bob), ("careless", careless)];
    let agent = agent_on(SoftHsm::new(), Launch::default(), &approvers, "");
    let (mut client, mut admin) = (agent.client(), agent.admin());
    let pending = ask(&mut client, "1.5");
    let shown = admin.pending().expect("answered");
    assert_eq!(
        (shown.pending[0].tier, shown.pending[0].rung),
        (Tier::Software, 3),
        "policy, not hardware"
    );

    // Nobody touches it.
    let untouched = openssh.sign("alice", &shown, &pending.id).expect_err("no finger");
    assert!(matches!(untouched, ApproverError::NotSigned { .. }), "{untouched}");
    // A key that signs without a touch does, and approves nothing.
    let without_touch =
        openssh.sign("careless", &shown, &pending.id).expect("signed without a finger");
    let refused = admin.approve(&pending.id, &without_touch).expect_err("no approval").to_string();
    assert!(refused.contains("without a touch"), "{refused}");
    assert_eq!(agent.journal().matches("\"kind\":\"approval\"").count(), 0);

    // Two persons touch theirs; the counters of both are zero.
    openssh.finger(true);
    for approver in ["alice", "bob"] {
        let sshsig = openssh.sign(approver, &shown, &pending.id).expect("touched");
        admin.approve(&pending.id, &sshsig).expect("approved");
    }
    let reply = result(&mut client, &pending.id).expect("signed");
    assert_eq!(reply.scope, Scope::Withdraw);
    let segments = SegmentDir::new(Arc::new(Disk), &agent.state_dir());
    let report = audit::verify(&segments, None, &mut |_, _| {}).expect("read");
    assert_eq!(report.problems, []);
}
