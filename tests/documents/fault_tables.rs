//! The messages and codes that the tables of faults in docs/operations.md quote are those of the
//! agent.

use std::fs;
use std::path::Path;

use countersign_core::refusal::Code;

const PAGE: &str = include_str!("../../docs/operations.md");

/// The rows of the tables of faults.
fn rows() -> impl Iterator<Item = &'static str> {
    let (_, behind) = PAGE.split_once("## When something fails\n").expect("the section");
    let section = behind.split_once("\n## ").map_or(behind, |(section, _)| section);
    section.lines().filter(|line| line.starts_with('|'))
}

/// The pieces that stand between two of a mark.
fn between(row: &str, mark: char) -> impl Iterator<Item = &str> {
    row.split(mark).skip(1).step_by(2)
}

/// Every source file below a directory of the repository as one text, without the breaks inside
/// strings.
fn source(directory: &str) -> String {
    let mut text = String::new();
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(directory)];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text += &fs::read_to_string(path).expect("text");
            }
        }
    }
    let mut pieces = text.split("\\\n");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |joined, piece| joined + piece.trim_start())
}

/// A message that a token supplies in part is quoted by the scenario that looks for it.
#[test]
fn every_message_of_the_tables_of_faults_is_one_that_the_agent_says() {
    let said = [
        "agent/src",
        "agent/base/src",
        "agent/core/src",
        "agent/front/src",
        "agent/token/src",
        "client/src",
        "tests/hosts",
    ]
    .map(source)
    .concat();
    let messages: Vec<_> = rows().flat_map(|row| between(row, '"')).collect();
    assert!(messages.len() > 15, "{messages:?}");
    for message in messages {
        let parts = message.split('…').map(str::trim).filter(|part| !part.is_empty());
        parts.for_each(|part| assert!(said.contains(part), "nothing says {message:?}"));
    }
}

#[test]
fn every_code_of_the_tables_of_faults_is_one_of_the_protocol() {
    let families = ["agent.", "approval.", "clock.", "ledger.", "policy.", "request.", "token."];
    let is_code = |word: &&str| {
        families.iter().any(|family| word.starts_with(family)) && !word.contains(['*', ' ', '/'])
    };
    let is_file = |word: &&str| ["agent.toml", "token.object"].contains(word);
    let codes: Vec<_> = rows()
        .flat_map(|row| between(row, '`'))
        .filter(|word| is_code(word) && !is_file(word))
        .collect();
    assert!(codes.len() > 15, "{codes:?}");
    for code in codes {
        assert!(serde_json::from_value::<Code>(code.into()).is_ok(), "{code} is no code");
    }
}
