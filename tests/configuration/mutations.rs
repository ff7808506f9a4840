//! A good file that was changed at random is read or refused; it never ends the agent.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::agent_toml::parse;

const SAMPLE: &str = include_str!("../../docs/agent.toml.sample");

#[derive(Clone, Debug)]
enum Mutation {
    Delete(Index, usize),
    Insert(Index, String),
    RepeatLine(Index),
    SwapValues(Index, Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    const PIECES: &[&str] = &[
        "\"",
        "'",
        "\"\"\"",
        "[",
        "]",
        "[[",
        "{",
        "}",
        "=",
        ".",
        ",",
        "#",
        "\n",
        "\r",
        "\0",
        "\u{feff}",
        "é",
        "👩‍🚀",
        "\t",
        "1e3",
        "-0",
        "0x",
        "9223372036854775808",
        "inf",
        "nan",
        "1979-05-27",
        "true",
        "pin = ",
        "secret = ",
        "token.",
        "\"\\u0000\"",
        "\"\\uD800\"",
        "{ a = { b = { c = [ 1 ] } } }",
        "\u{202e}",
    ];
    prop_oneof![
        (any::<Index>(), 1..40_usize).prop_map(|(at, length)| Mutation::Delete(at, length)),
        (any::<Index>(), select(PIECES))
            .prop_map(|(at, piece)| Mutation::Insert(at, piece.to_owned())),
        (any::<Index>(), ".{0,8}").prop_map(|(at, text)| Mutation::Insert(at, text)),
        any::<Index>().prop_map(Mutation::RepeatLine),
        (any::<Index>(), any::<Index>()).prop_map(|(one, other)| Mutation::SwapValues(one, other)),
    ]
}

fn apply(text: &str, mutation: &Mutation) -> String {
    let characters: Vec<char> = text.chars().collect();
    let lines: Vec<&str> = text.lines().collect();
    match mutation {
        _ if characters.is_empty() || lines.is_empty() => String::new(),
        Mutation::Delete(at, length) => {
            let at = at.index(characters.len());
            characters[..at].iter().chain(characters[at..].iter().skip(*length)).collect()
        }
        Mutation::Insert(at, piece) => {
            let at = at.index(characters.len());
            characters[..at]
                .iter()
                .copied()
                .chain(piece.chars())
                .chain(characters[at..].iter().copied())
                .collect()
        }
        Mutation::RepeatLine(at) => {
            let at = at.index(lines.len());
            let repeated: Vec<&str> = lines[..=at].iter().chain(&lines[at..]).copied().collect();
            repeated.join("\n")
        }
        Mutation::SwapValues(one, other) => {
            swap_values(&lines, one.index(lines.len()), other.index(lines.len()))
        }
    }
}

fn swap_values(lines: &[&str], one: usize, other: usize) -> String {
    let split = |at: usize| lines[at].split_once('=').unwrap_or((lines[at], ""));
    let mut swapped: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    swapped[one] = format!("{}={}", split(one).0, split(other).1);
    swapped[other] = format!("{}={}", split(other).0, split(one).1);
    swapped.join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_mutation_of_a_good_file_panics(mutations in vec(mutation(), 1..6)) {
        let text =
            mutations.iter().fold(SAMPLE.to_owned(), |text, mutation| apply(&text, mutation));
        check_refusal(&text)?;
    }

    #[test]
    fn no_text_panics(text in "(\\PC|[\\[\\]{}=\"'.#,\n\r\t \u{0}]){0,200}") {
        check_refusal(&text)?;
    }
}

/// Checks that a refusal can be shown in every form, and that every form names a place.
fn check_refusal(text: &str) -> Result<(), TestCaseError> {
    let Err(error) = parse(text) else { return Ok(()) };
    let findings = error.findings();
    prop_assert!(!findings.is_empty());
    prop_assert!(findings.iter().all(|finding| finding.line >= 1 && finding.column >= 1));
    prop_assert!(error.to_string().contains("agent.toml:"), "{}", error);
    prop_assert!(!error.in_colour().is_empty());
    Ok(())
}
