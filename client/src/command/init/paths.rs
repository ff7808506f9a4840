//! The places of an agent's files: for one user, for the machine, or all in one directory.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use countersign::core::shell;

use super::account::Account;
use super::file::make_directory;
use crate::failure::Failure;

pub(super) const SYSTEM_USER: &str = "countersign";
pub(super) const UNIT: &str = "countersign-agent.service";

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum InstallKind {
    Directory,
    System,
    User,
}

/// One agent's places.
#[derive(Clone, Debug)]
pub(super) struct InstallPaths {
    kind: InstallKind,
    pub(super) config: PathBuf,
    pub(super) state: PathBuf,
    pub(super) run: PathBuf,
    pub(super) unit: PathBuf,
    /// The user that runs the agent. The machine's agent may have no user yet: then
    /// [`InstallPaths::prepare`] makes and returns it.
    pub(super) owner: Account,
}

impl InstallPaths {
    pub(super) fn choose(system: bool, directory: Option<&Path>) -> Result<Self, Failure> {
        match directory {
            _ if system => Self::of_system(),
            Some(directory) => {
                let directory = std::path::absolute(directory)
                    .map_err(|source| Failure::Write { path: directory.to_owned(), source })?;
                Ok(Self::in_directory(&directory))
            }
            None => Self::of_user(|name| {
                std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
            }),
        }
    }

    fn in_directory(directory: &Path) -> Self {
        Self {
            kind: InstallKind::Directory,
            config: directory.join("agent.toml"),
            state: directory.join("state"),
            run: directory.join("run"),
            unit: directory.join(UNIT),
            owner: Account::own(),
        }
    }

    fn of_system() -> Result<Self, Failure> {
        let own = Account::own();
        if own.uid != 0 {
            return Err(Failure::Usage(
                "--system is for root; without it, init sets up a trial for this user".to_owned(),
            ));
        }
        Ok(Self {
            kind: InstallKind::System,
            config: PathBuf::from("/etc/countersign/agent.toml"),
            state: PathBuf::from("/var/lib/countersign"),
            run: PathBuf::from("/run/countersign"),
            unit: Path::new("/etc/systemd/system").join(UNIT),
            owner: Account::existing(SYSTEM_USER).unwrap_or(own),
        })
    }

    /// The XDG base directories, <https://specifications.freedesktop.org/basedir-spec/latest/>.
    fn of_user(environment: impl Fn(&str) -> Option<PathBuf>) -> Result<Self, Failure> {
        let home = environment("HOME").ok_or_else(|| {
            Failure::Usage("$HOME is not set: name a directory with --dir".to_owned())
        })?;
        let base = |name: &str, usual: &str| {
            environment(name).filter(|path| path.is_absolute()).unwrap_or_else(|| home.join(usual))
        };
        let config = base("XDG_CONFIG_HOME", ".config");
        let state = base("XDG_STATE_HOME", ".local/state").join("countersign");
        let runtime = environment("XDG_RUNTIME_DIR").filter(|path| path.is_absolute());
        Ok(Self {
            kind: InstallKind::User,
            config: config.join("countersign/agent.toml"),
            run: runtime.map_or_else(|| state.join("run"), |runtime| runtime.join("countersign")),
            state,
            unit: config.join("systemd/user").join(UNIT),
            owner: Account::own(),
        })
    }

    pub(super) fn is_system(&self) -> bool {
        self.kind == InstallKind::System
    }

    /// True if systemd makes and removes the directory of the sockets.
    pub(super) fn has_runtime_directory(&self) -> bool {
        match self.kind {
            InstallKind::System => true,
            InstallKind::User => !self.run.starts_with(&self.state),
            InstallKind::Directory => false,
        }
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.run.join("agent.sock")
    }

    pub(super) fn admin_socket(&self) -> PathBuf {
        self.run.join("admin.sock")
    }

    pub(super) fn config_mode(&self) -> u32 {
        if self.is_system() { 0o644 } else { 0o600 }
    }

    /// Makes the directories, and the user of the machine's agent. Returns the user that runs the
    /// agent.
    pub(super) fn prepare(&self) -> Result<Account, Failure> {
        let owner =
            if self.is_system() { Account::system(SYSTEM_USER)? } else { self.owner.clone() };
        for file in [&self.config, &self.unit] {
            let directory = file.parent().unwrap_or(Path::new("/"));
            make_directory(directory, if self.is_system() { 0o755 } else { 0o700 })?;
        }
        make_directory(&self.state, 0o700)?;
        // systemd makes /run/countersign at each start. A user's directory may be needed before
        // systemd knows the unit.
        if !self.is_system() {
            make_directory(&self.run, 0o700)?;
        }
        self.hand_over(&owner)?;
        Ok(owner)
    }

    fn hand_over(&self, owner: &Account) -> Result<(), Failure> {
        let failed = |source| Failure::Write { path: self.state.clone(), source };
        let now = std::fs::symlink_metadata(&self.state).map_err(failed)?.uid();
        if now == owner.uid {
            return Ok(());
        }
        if !self.is_system() || now != 0 {
            return Err(Failure::Configuration {
                message: format!("{} belongs to uid {now}, not to {owner}", self.state.display()),
                next: "find out whose it is; change its owner or remove it, and run this again"
                    .to_owned(),
            });
        }
        chown(&self.state, Some(owner.uid), Some(owner.gid)).map_err(failed)
    }

    /// The operator's next steps, in order.
    ///
    /// `token` is the token that was set up. `key` is a key that the first client may use already.
    pub(super) fn next_steps(&self, token: Option<&str>, key: Option<&str>) -> Vec<String> {
        let (start, reload) = match self.kind {
            InstallKind::System => (
                "systemctl daemon-reload && systemctl enable --now countersign-agent".to_owned(),
                "systemctl reload countersign-agent",
            ),
            InstallKind::User if self.has_runtime_directory() => (
                "systemctl --user daemon-reload && systemctl --user enable --now countersign-agent"
                    .to_owned(),
                "systemctl --user reload countersign-agent",
            ),
            _ => (
                format!("countersign-agent run --config {} &", shell::path(&self.config)),
                "kill -HUP its process",
            ),
        };
        let (token, name) = (token.unwrap_or("TOKEN"), key.unwrap_or("NAME"));
        let mut steps = Vec::new();
        if !self.has_runtime_directory() {
            steps.push(format!("export COUNTERSIGN_SOCK={}", shell::path(&self.socket())));
        }
        steps.push(start);
        steps.push(format!(
            "countersign key add {name} --exchange EXCHANGE --token {token} --scope \
                           read --scope trade"
        ));
        if key.is_none() {
            steps.push(format!(
                "name the key in a [client.*] of {}, then {reload}",
                self.config.display()
            ));
        }
        steps.push(format!("countersign sign --key {name} GET PATH"));
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_xdg_directories() {
        let with = |variables: &'static [(&str, &str)]| {
            InstallPaths::of_user(move |name| {
                variables
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| PathBuf::from(value))
            })
        };
        let usual =
            with(&[("HOME", "/home/a"), ("XDG_RUNTIME_DIR", "/run/user/1")]).expect("has a home");
        assert_eq!(usual.config, Path::new("/home/a/.config/countersign/agent.toml"));
        assert_eq!(usual.state, Path::new("/home/a/.local/state/countersign"));
        assert_eq!(usual.socket(), Path::new("/run/user/1/countersign/agent.sock"));
        assert!(usual.has_runtime_directory());
        let moved =
            with(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/c"), ("XDG_STATE_HOME", "relative")])
                .expect("has a home");
        assert_eq!(moved.unit, Path::new("/c/systemd/user/countersign-agent.service"));
        assert_eq!(moved.socket(), Path::new("/h/.local/state/countersign/run/agent.sock"));
        assert!(moved.next_steps(None, None)[0].starts_with("export COUNTERSIGN_SOCK="));
        assert!(with(&[]).is_err());
    }
}
