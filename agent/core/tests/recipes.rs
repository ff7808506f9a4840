//! Tests that every recipe is short and pure, and has two data files beside it.
#![allow(clippy::disallowed_methods)] // a test reads the sources that it judges

use std::path::{Path, PathBuf};

use countersign_core::exchange::ALL;

const EXCHANGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/exchange");

/// The modules outside the crate that a recipe may name. None of them has a key, a clock,
/// randomness, a file or a socket.
const TAKEN: &[&str] =
    &["percent_encoding", "sha2", "std::borrow::Cow", "std::fmt", "std::sync::LazyLock"];

/// The modules of the crate that a recipe may name, beside everything in `super`.
const OWN: &[&str] = &[
    "algorithm",
    "calendar",
    "decimal",
    "draft",
    "exchange",
    "json",
    "key",
    "refusal",
    "request",
    "scope",
    "stamp",
];

/// A recipe and the files of its own folder, without their tests.
fn sources(name: &str) -> Vec<(PathBuf, String)> {
    let folder = std::fs::read_dir(Path::new(EXCHANGES).join(name)).into_iter().flatten();
    let files = folder.map(|entry| entry.expect("readable").path());
    let files = std::iter::once(Path::new(EXCHANGES).join(format!("{name}.rs"))).chain(files);
    let text = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a source");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
        (path, code)
    };
    files.map(text).collect()
}

#[test]
fn a_recipe_is_a_file_with_two_of_data_and_its_page() {
    for exchange in ALL {
        let facts = exchange.facts();
        for data in ["scopes", "params"] {
            let path = Path::new(EXCHANGES).join(format!("{}.{data}", facts.name));
            assert!(path.is_file(), "{} is missing", path.display());
        }
        let (_, recipe) = &sources(facts.name)[0];
        let cites = recipe
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .any(|line| line.contains("<https://"));
        assert!(
            cites && facts.documentation.starts_with("https://"),
            "{} cites no page",
            facts.name
        );
    }
}

/// Keys stay on tokens; time and randomness are arguments. So a recipe names nothing that could
/// bring them.
#[test]
fn no_recipe_touches_a_key_a_clock_or_randomness() {
    for (path, code) in ALL.iter().flat_map(|exchange| sources(exchange.facts().name)) {
        let code = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect::<Vec<_>>()
            .join("\n");
        let code = code.replace("::<", "<");
        let roots = code.split(|byte: char| !byte.is_alphanumeric() && !matches!(byte, ':' | '_'));
        for path_of in roots.filter(|word| word.contains("::")) {
            let own = path_of
                .strip_prefix("crate::")
                .map(|rest| rest.split("::").next().unwrap_or_default());
            let root = path_of.split("::").next().unwrap_or_default();
            let foreign = root.starts_with(|first: char| first.is_ascii_lowercase())
                && !LOCAL.contains(&root);
            let taken = TAKEN.iter().any(|taken| path_of.starts_with(taken))
                || own.is_some_and(|own| OWN.contains(&own));
            assert!(taken || !foreign, "{} names {path_of}", path.display());
        }
        for word in ["unsafe", "secrecy", "ExposeSecret", "env!", "thread_local", "static mut"] {
            assert!(!code.contains(word), "{} has {word}", path.display());
        }
    }
}

/// Modules that stand beside a recipe or in its folder.
const LOCAL: &[&str] = &["jwt", "payload", "super", "symbol_worth", "text", "u64", "ws_api"];

/// The lines of `draft` and `session` count: the bytes to sign, and the login.
#[test]
fn half_of_the_recipes_are_shorter_than_fifty_lines() {
    let length = |code: &str, name: &str| {
        let start = code.lines().position(|line| line.starts_with(&format!("    fn {name}(")));
        start.map_or(0, |start| {
            code.lines().skip(start).take_while(|line| *line != "    }").count() + 1
        })
    };
    let recipes = ALL.iter().map(|exchange| {
        let (_, code) = sources(exchange.facts().name).remove(0);
        assert!(length(&code, "draft") > 5, "{}: its draft is not found", exchange.facts().name);
        length(&code, "draft") + length(&code, "session")
    });
    let mut lengths: Vec<_> = recipes.collect();
    lengths.sort_unstable();
    let (median, longest) = (lengths[lengths.len() / 2], lengths[lengths.len() - 1]);
    assert!(median < 50 && longest < 100, "median {median}, longest {longest}");
}
