//! A SoftHSM token for one test, with a directory of its own and random PINs. It is deleted when it
//! is dropped.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use countersign_base::messages::confinement::Demand;
use countersign_base::messages::settings::{PinSource, TokenSettings};
use serde::Deserialize;

use super::machine;

/// The program under test.
pub(crate) const AGENT: &str = env!("CARGO_BIN_EXE_countersign-agent");

/// The output of `init-token`.
#[derive(Debug, Deserialize)]
struct Made {
    module: PathBuf,
    label: String,
    configuration: PathBuf,
    pin_file: PathBuf,
}

/// One token with its own SoftHSM configuration: no two tests, and no two test processes, share a
/// directory.
#[derive(Debug)]
pub(crate) struct SoftHsm {
    directory: tempfile::TempDir,
    made: Made,
}

impl SoftHsm {
    pub(crate) fn new() -> Self {
        machine::share();
        let directory =
            tempfile::Builder::new().prefix("countersign-token").tempdir().expect("a directory");
        let label = format!("t{}", std::process::id());
        let output = Command::new(AGENT)
            .args(["init-token", "--label", &label, "--dir"])
            .arg(directory.path().join("hsm"))
            .output()
            .expect("the agent runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let made = serde_json::from_slice(&output.stdout).expect("JSON");
        Self { directory, made }
    }

    /// A token that an operator initialized. The test knows the PIN of its security officer.
    pub(crate) fn of_operator(so_pin: &str, pin: &str) -> Self {
        let mut this = Self::new();
        let label = format!("o{}", std::process::id());
        let output = Command::new("softhsm2-util")
            .env("SOFTHSM2_CONF", this.configuration())
            .args(["--init-token", "--free", "--label", &label, "--so-pin", so_pin, "--pin", pin])
            .output()
            .expect("softhsm2-util runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        this.made.label = label;
        this.made.pin_file = this.another_pin_file(pin);
        this
    }

    /// The settings a front would send for this token, under the name `hsm`.
    pub(crate) fn settings(&self) -> TokenSettings {
        TokenSettings {
            name: "hsm".to_owned(),
            profile: "softhsm".to_owned(),
            module: None,
            label: Some(self.made.label.clone()),
            serial: None,
            attestation_root: None,
            pin: PinSource::File(self.made.pin_file.clone()),
            credentials_directory: None,
            environment: vec![(
                "SOFTHSM2_CONF".to_owned(),
                self.configuration().display().to_string(),
            )],
            state_dir: self.state_dir(),
            allow_software_tokens: true,
            confinement: Demand::Required,
        }
    }

    pub(crate) fn configuration(&self) -> &Path {
        &self.made.configuration
    }

    pub(crate) fn label(&self) -> &str {
        &self.made.label
    }

    pub(crate) fn module(&self) -> &Path {
        &self.made.module
    }

    pub(crate) fn pin_file(&self) -> &Path {
        &self.made.pin_file
    }

    pub(crate) fn pin(&self) -> String {
        fs::read_to_string(self.pin_file()).expect("readable")
    }

    /// The directory in which SoftHSM keeps its tokens.
    pub(crate) fn tokens(&self) -> PathBuf {
        self.configuration().with_file_name("tokens")
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// A PIN file beside the right one.
    pub(crate) fn another_pin_file(&self, pin: &str) -> PathBuf {
        self.another_file("another.pin", pin)
    }

    /// A file of the operator's beside the token.
    pub(crate) fn another_file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, text).expect("writable");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("own file");
        path
    }

    /// Runs OpenSC's tool on this token, logged in. It judges the token by code that is not ours.
    pub(crate) fn pkcs11_tool(&self, arguments: &[&str]) -> std::process::Output {
        self.pkcs11_tool_with(&self.pin(), arguments)
    }

    /// Runs OpenSC's tool as the security officer.
    pub(crate) fn officer_tool(&self, so_pin: &str, arguments: &[&str]) -> std::process::Output {
        let login = ["--login", "--login-type", "so", "--so-pin", so_pin];
        Command::new("pkcs11-tool")
            .env("SOFTHSM2_CONF", self.configuration())
            .arg("--module")
            .arg(self.module())
            .args(["--token-label", self.label()])
            .args(login)
            .args(arguments)
            .output()
            .expect("pkcs11-tool runs")
    }

    pub(crate) fn pkcs11_tool_with(&self, pin: &str, arguments: &[&str]) -> std::process::Output {
        Command::new("pkcs11-tool")
            .env("SOFTHSM2_CONF", self.configuration())
            .env("TOKEN_PIN", pin)
            .arg("--module")
            .arg(self.module())
            .args(["--token-label", self.label(), "--login", "--pin", "env:TOKEN_PIN"])
            .args(arguments)
            .output()
            .expect("pkcs11-tool runs")
    }
}
