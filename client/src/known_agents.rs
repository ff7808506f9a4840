//! The agents that an approver knows, by socket. An approval is signed for one agent only.
//!
//! The file is `countersign/known_agents` in the user's configuration directory. Each line has the
//! path of a socket, a blank and the agent's id. An agent that is seen for the first time is
//! written down. A changed agent is refused, as ssh refuses a changed host.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const LONGEST_ID: usize = 128;

/// An agent that was known already, or is new.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Acquaintance {
    /// The agent was not known. It is written down now.
    New,
    Known,
}

/// The reasons not to trust an agent.
#[derive(Debug, thiserror::Error)]
pub enum StrangeAgent {
    #[error("the agent at {} is {found}, but {} knows {known} \
             there", socket.display(), file.display())]
    Changed { socket: PathBuf, found: String, known: String, file: PathBuf },
    #[error("the agent gave {found:?} as its id, which no agent can have")]
    NoId { found: String },
    #[error("the request is for the agent {found}, not {expected}")]
    NotThat { found: String, expected: String },
    #[error("could not read or write {}", file.display())]
    File {
        file: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("neither XDG_CONFIG_HOME nor HOME says where known agents are kept")]
    Homeless,
}

/// The path of the file.
pub fn file() -> Result<PathBuf, StrangeAgent> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let configuration = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
    Ok(configuration.ok_or(StrangeAgent::Homeless)?.join("countersign/known_agents"))
}

/// Compares the id that a request names with the id known for its socket. If none is known, the id
/// is written down.
pub fn check(file: &Path, socket: &Path, found: &str) -> Result<Acquaintance, StrangeAgent> {
    // The id comes from the program at the socket. It is written to a file of lines and to a
    // terminal.
    if found.is_empty()
        || found.len() > LONGEST_ID
        || !found.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err(StrangeAgent::NoId { found: found.chars().take(LONGEST_ID).collect() });
    }
    let failed = |source| StrangeAgent::File { file: file.to_owned(), source };
    let known = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(failed(error)),
    };
    let named = socket.display().to_string();
    let line = |line: &str| {
        line.rsplit_once(' ').filter(|(path, _)| *path == named).map(|(_, id)| id.to_owned())
    };
    match known.lines().find_map(line) {
        Some(id) if id == found => Ok(Acquaintance::Known),
        Some(known) => Err(StrangeAgent::Changed {
            socket: socket.to_owned(),
            found: found.to_owned(),
            known,
            file: file.to_owned(),
        }),
        None => take_down(file, &named, found).map(|()| Acquaintance::New).map_err(failed),
    }
}

fn take_down(file: &Path, socket: &str, id: &str) -> io::Result<()> {
    if let Some(directory) = file.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let mut lines = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(file)?;
    lines.write_all(format!("{socket} {id}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_agent_is_taken_down_and_a_changed_one_refused() {
        let directory =
            std::env::temp_dir().join(format!("countersign-known-{}", std::process::id()));
        let file = directory.join("a/known_agents");
        let (one, other) = (Path::new("/run/a b/admin.sock"), Path::new("/run/c/admin.sock"));
        assert_eq!(check(&file, one, "id-1").expect("new"), Acquaintance::New);
        assert_eq!(check(&file, one, "id-1").expect("known"), Acquaintance::Known);
        assert_eq!(check(&file, other, "id-2").expect("new"), Acquaintance::New);
        let changed = check(&file, one, "id-2").expect_err("changed");
        assert!(matches!(changed, StrangeAgent::Changed { .. }), "{changed}");
        assert_eq!(check(&file, one, "id-1").expect("still known"), Acquaintance::Known);
        // No id can add a line about another agent's socket.
        for found in
            ["", "id 3", "id-3\n/run/d/admin.sock id-4", "id-\u{1b}[2J", "ïd", &"x".repeat(129)]
        {
            let none = check(&file, Path::new("/run/e/admin.sock"), found).expect_err("no id");
            assert!(matches!(none, StrangeAgent::NoId { .. }), "{none}");
        }
        assert_eq!(fs::read_to_string(&file).expect("written").lines().count(), 2);
        fs::remove_dir_all(directory).expect("removed");
    }
}
