//! The user an agent runs as.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

use crate::agent_program;
use crate::failure::Failure;

/// A user of this machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Account {
    /// None if the machine has no name for this user, as in many containers.
    pub(super) name: Option<String>,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Account {
    /// The user who runs this program.
    pub(super) fn own() -> Self {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let named = look_up(&uid.to_string()).filter(|account| account.uid == uid);
        Self { name: named.and_then(|account| account.name), uid, gid }
    }

    pub(super) fn existing(name: &str) -> Option<Self> {
        look_up(name)
    }

    /// The account of that name. A missing one is made as a system user.
    pub(super) fn system(name: &str) -> Result<Self, Failure> {
        if let Some(account) = Self::existing(name) {
            return Ok(account);
        }
        let options =
            ["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"];
        let made = Command::new("useradd")
            .args(options)
            .args(["--shell", "/usr/sbin/nologin", name])
            .output();
        let reason = match made {
            Ok(made) if made.status.success() => "it is not there after useradd".to_owned(),
            Ok(made) => String::from_utf8_lossy(&made.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        look_up(name).ok_or_else(|| Failure::Configuration {
            message: format!("could not make the user {name}: {reason}"),
            next: format!(
                "make it yourself (useradd {} {name}) and run this again",
                options.join(" ")
            ),
        })
    }

    /// Runs the agent's program as this user, so that this user owns the files it makes.
    pub(super) fn run_agent_program<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Output, Failure> {
        let mut command = agent_program::command()?;
        command.args(arguments);
        if rustix::process::geteuid().as_raw() != self.uid {
            command.uid(self.uid).gid(self.gid);
        }
        agent_program::finish(command)
    }
}

/// Looks a user up with getent, which may know more users than /etc/passwd.
fn look_up(name_or_uid: &str) -> Option<Account> {
    let found = Command::new("getent")
        .args(["passwd", "--", name_or_uid])
        .stdin(Stdio::null())
        .output()
        .ok()?;
    parse(std::str::from_utf8(&found.stdout).ok()?)
}

fn parse(line: &str) -> Option<Account> {
    let mut fields = line.trim_end().split(':');
    let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
    let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(Account { name: Some(name), uid, gid })
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => f.write_str(name),
            None => write!(f, "uid {}", self.uid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_read_as_getent_writes_them() {
        let account = Account { name: Some("bot".to_owned()), uid: 1001, gid: 1002 };
        assert_eq!(parse("bot:x:1001:1002:Bot:/home/bot:/bin/sh\n"), Some(account));
        for line in ["", "bot", "bot:x", "bot:x:y:1", ":x:1:1"] {
            assert_eq!(parse(line), None, "{line}");
        }
        assert_eq!(Account::own().uid, rustix::process::geteuid().as_raw());
    }
}
