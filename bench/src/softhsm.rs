//! SoftHSM tokens for the subjects, each in a directory of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use countersign_base::messages::settings::{PinSource, TokenSettings};
use serde::Deserialize;

/// The output of `countersign-agent init-token`.
#[derive(Debug, Deserialize)]
pub(crate) struct SoftHsm {
    pub(crate) module: PathBuf,
    pub(crate) label: String,
    pub(crate) configuration: PathBuf,
    pub(crate) pin_file: PathBuf,
}

impl SoftHsm {
    pub(crate) fn new(agent: &Path, directory: &Path, label: &str) -> anyhow::Result<Self> {
        let mut command = Command::new(agent);
        command.args(["init-token", "--label", label, "--dir"]).arg(directory.join(label));
        let output = command.output().context("init-token does not run")?;
        ensure!(output.status.success(), "init-token: {}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    pub(crate) fn environment(&self) -> String {
        self.configuration.display().to_string()
    }
}

/// Settings with which the agent's own code finds a token. The environment stays as it is.
pub(crate) fn settings(module: PathBuf, label: String, pin_file: PathBuf) -> TokenSettings {
    TokenSettings {
        name: "bench".to_owned(),
        profile: "softhsm".to_owned(),
        module: Some(module),
        label: Some(label),
        serial: None,
        attestation_root: None,
        pin: PinSource::File(pin_file),
        credentials_directory: None,
        environment: Vec::new(),
        state_dir: PathBuf::new(),
        allow_software_tokens: true,
        confinement: Default::default(),
    }
}
