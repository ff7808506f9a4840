//! The agent's id. It is made once and is part of everything that approvers sign, so that an
//! approval is good for one agent only.

use std::io::{self, Write};
use std::path::Path;

use uuid::Uuid;

const AGENT_ID_FILE: &str = "agent-id";

/// Reads the id, or makes it at the first start. A file without a valid id is an error, because a
/// new id would surprise the approvers.
pub fn of(state_dir: &Path) -> io::Result<String> {
    let path = state_dir.join(AGENT_ID_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => Uuid::try_parse(text.trim()).map(|id| id.to_string()).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{} holds no id", path.display()))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(state_dir, &path),
        Err(error) => Err(error),
    }
}

fn make(state_dir: &Path, path: &Path) -> io::Result<String> {
    let id = Uuid::new_v4().to_string();
    let whole = state_dir.join(format!("{AGENT_ID_FILE}.new"));
    let mut file = std::fs::File::create(&whole)?;
    writeln!(file, "{id}")?;
    file.sync_all()?;
    std::fs::rename(&whole, path)?;
    std::fs::File::open(state_dir)?.sync_all()?;
    Ok(id)
}
