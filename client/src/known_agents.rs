//! The agents an approver knows, by socket: an approval is signed for one agent, and for that one
//! only.
//!
//! The file is `countersign/known_agents` in the user's configuration directory, a line for each
//! socket: its path, a blank, the agent's id. As ssh does with hosts, an agent seen for the first
//! time is taken down, and a changed one is refused.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const LONGEST_ID: usize = 128;

/// What is known of an agent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Acquaintance {
    /// It was not known, and is from now on.
    New,
    Known,
}

/// Why an agent is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum StrangeAgent {
    #[error("the agent at {} is {found}, but {} knows {known} \
             there", socket.display(), file.display())]
    Changed { socket: PathBuf, found: String, known: String, file: PathBuf },
    #[error("the agent's id {found:?} is none: it would be taken down as something else")]
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

/// Where the file is.
pub fn file() -> Result<PathBuf, StrangeAgent> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let configuration = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
    Ok(configuration.ok_or(StrangeAgent::Homeless)?.join("countersign/known_agents"))
}

/// Compares the id that a request names with the one known for its socket, and takes it down where
/// there is none.
pub fn check(file: &Path, socket: &Path, found: &str) -> Result<Acquaintance, StrangeAgent> {
    // It comes from whoever speaks at the socket, and is written into a file of lines and onto a
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
        // Nobody writes a line about another agent's socket.
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
