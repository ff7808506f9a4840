//! Finds the agent's sockets.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

const SYSTEM_SOCKET: &str = "/run/countersign/agent.sock";
const ADMIN_NAME: &str = "admin.sock";

/// The agent socket and the operator's socket.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sockets {
    pub agent: PathBuf,
    pub admin: PathBuf,
}

impl Sockets {
    /// `$COUNTERSIGN_SOCK`, else the user's own agent, else the system's; the operator's socket is
    /// `$COUNTERSIGN_ADMIN_SOCK`, else `admin.sock` beside it.
    pub fn discover() -> Self {
        Self::resolve(
            |name| std::env::var_os(name).filter(|value| !value.is_empty()),
            |path| path.exists(),
        )
    }

    /// The sockets of the agent whose agent socket was named. Its admin socket is `admin.sock`
    /// beside that. If only the named socket exists, it is used as both.
    pub fn at(named: PathBuf) -> Self {
        let beside = beside(&named);
        let admin = if beside.exists() || !named.exists() { beside } else { named.clone() };
        Self { agent: named, admin }
    }

    fn resolve(
        environment: impl Fn(&str) -> Option<OsString>,
        exists: impl Fn(&Path) -> bool,
    ) -> Self {
        let agent = environment("COUNTERSIGN_SOCK").map(PathBuf::from).unwrap_or_else(|| {
            let own = environment("XDG_RUNTIME_DIR")
                .map(|runtime| Path::new(&runtime).join("countersign/agent.sock"));
            match own {
                // If neither socket exists, the error names the one of the user's own agent.
                Some(own) if exists(&own) || !exists(Path::new(SYSTEM_SOCKET)) => own,
                _ => PathBuf::from(SYSTEM_SOCKET),
            }
        });
        let admin =
            environment("COUNTERSIGN_ADMIN_SOCK").map_or_else(|| beside(&agent), PathBuf::from);
        Self { agent, admin }
    }
}

fn beside(agent: &Path) -> PathBuf {
    agent.with_file_name(ADMIN_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_found_in_the_documented_order() {
        let user = "/run/user/1/countersign/agent.sock";
        type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str], (&'a str, &'a str));
        let cases: &[Case<'_>] = &[
            (&[], &[], (SYSTEM_SOCKET, "/run/countersign/admin.sock")),
            (
                &[("COUNTERSIGN_SOCK", "/a/b.sock"), ("XDG_RUNTIME_DIR", "/x")],
                &[],
                ("/a/b.sock", "/a/admin.sock"),
            ),
            (&[("COUNTERSIGN_ADMIN_SOCK", "/c")], &[], (SYSTEM_SOCKET, "/c")),
            (
                &[("XDG_RUNTIME_DIR", "/run/user/1")],
                &[],
                (user, "/run/user/1/countersign/admin.sock"),
            ),
            (
                &[("XDG_RUNTIME_DIR", "/run/user/1")],
                &[SYSTEM_SOCKET],
                (SYSTEM_SOCKET, "/run/countersign/admin.sock"),
            ),
            (
                &[("XDG_RUNTIME_DIR", "/run/user/1")],
                &[SYSTEM_SOCKET, user],
                (user, "/run/user/1/countersign/admin.sock"),
            ),
        ];
        for (variables, present, (agent, admin)) in cases {
            let value = |name: &str| {
                variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
            };
            let found =
                Sockets::resolve(value, |path| present.iter().any(|one| Path::new(one) == path));
            assert_eq!(
                found,
                Sockets { agent: agent.into(), admin: admin.into() },
                "{variables:?} {present:?}"
            );
        }
    }
}
