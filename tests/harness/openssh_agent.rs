//! OpenSSH's own ssh-keygen, ssh-add and ssh-agent, which load a FIDO key in software as their
//! provider.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use countersign::ssh_agent::{ApproverError, SshAgent};
use countersign_core::wire::admin::PendingListReply;

/// An ssh-agent of the test's own, and a FIDO key that a finger touches or not.
pub(crate) struct OpenSsh {
    agent: Child,
    directory: tempfile::TempDir,
}

impl OpenSsh {
    pub(crate) fn start() -> Self {
        let directory =
            tempfile::Builder::new().prefix("countersign-ssh").tempdir().expect("a directory");
        // Cargo puts the libraries a test depends on beside the test.
        let built = std::env::current_exe().expect("a test").with_file_name("libsk_provider.so");
        fs::copy(built, directory.path().join("provider.so")).expect("built with the tests");
        let provider = directory.path().join("provider.so").canonicalize().expect("there");
        let mut agent = Command::new("ssh-agent");
        // It may load this library and no other.
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

    pub(crate) fn finger(&self, on_it: bool) {
        fs::write(self.directory.path().join("finger"), if on_it { "present" } else { "" })
            .expect("written");
    }

    /// Makes a key and hands it to the ssh-agent. Returns the public key for `agent.toml`.
    pub(crate) fn key(&self, name: &str, kind: &str, options: &[&str]) -> String {
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

    /// Signs as `countersign approve` does.
    pub(crate) fn sign(
        &self,
        approver: &str,
        shown: &PendingListReply,
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
