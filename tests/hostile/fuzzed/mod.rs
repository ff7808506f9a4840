//! Checks of every parser that reads an attacker's input, on inputs that nobody thought of.
//!
//! Each module has `check`, which takes any bytes and panics if a rule does not hold, and `seeds`,
//! good inputs to start from. `cargo test` runs them for seconds (`bounded`), `make fuzz` for as
//! long as wanted. An input that once broke a rule stays in `cases/MODULE/`. The folder has a
//! mod.rs because the fuzz targets include it from elsewhere.

#[cfg(test)]
mod bounded;
pub mod config_text;
pub mod frames;
pub mod host_frames;
pub mod journal;
pub mod json;
pub mod params;
pub mod paths;
pub mod payloads;

use std::path::Path;

const TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests");

/// The wanted files in a directory below `tests/`, in the order of their names. A directory that
/// does not exist has none.
fn files(directory: &str, wanted: impl Fn(&Path) -> bool) -> Vec<Vec<u8>> {
    let Ok(entries) = std::fs::read_dir(Path::new(TESTS).join(directory)) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.retain(|path| wanted(path));
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("readable")).collect()
}

/// The requests of every vector, attacks included, as JSON.
fn requests() -> Vec<serde_json::Value> {
    let lines =
        files("vectors", |path| path.extension().is_some_and(|extension| extension == "jsonl"))
            .concat();
    let lines = std::str::from_utf8(&lines).expect("vectors are text").lines();
    let requests = lines.map(|line| {
        serde_json::from_str::<serde_json::Value>(line).expect("JSON")["request"].take()
    });
    let requests: Vec<_> = requests.filter(|request| request["path"].is_string()).collect();
    assert!(requests.len() > 40, "the vectors are there");
    requests
}
