//! Each row of the threat model and each row of the error codes names the tests that show it.
//!
//! The names stand in marks: comments in the source of the page. A mark names a test that exists
//! once and that `make test` runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const THREAT_MODEL: &str = include_str!("../../docs/threat-model.md");
const PROTOCOL: &str = include_str!("../../docs/protocol.md");

const MARK: &str = "<!-- test: ";
const END_OF_MARK: &str = " -->";
/// The directories of the repository that hold tests.
const ROOMS: [&str; 5] = ["agent", "bench", "client", "pkcs11-profiles", "tests"];
const HOW_TO_MARK: &str = "end the last cell of the row with <!-- test: NAME -->, where NAME is \
                           the function of a test that shows what the row says";

/// The files in which a test of each name stands.
type Tests = BTreeMap<String, Vec<PathBuf>>;

#[test]
fn every_row_of_the_threat_model_names_the_tests_that_show_it() {
    let tests = tests_of_the_repository();
    let rows = rows(THREAT_MODEL);
    assert!(rows.len() > 40, "{}", rows.len());
    let mut faults: Vec<_> =
        rows.into_iter().filter(|row| marks_of(last_cell(row)).is_empty()).map(unmarked).collect();
    faults.extend(faults_of_marks(THREAT_MODEL, &tests));
    assert!(faults.is_empty(), "docs/threat-model.md:\n{}", faults.join("\n"));
}

#[test]
fn every_row_of_the_error_codes_names_the_tests_that_get_the_code() {
    let tests = tests_of_the_repository();
    let (_, section) = PROTOCOL.split_once("## Error codes\n").expect("the section");
    let section = section.split("\n## ").next().expect("its text");
    let rows = rows(section);
    assert!(rows.len() > 30, "{}", rows.len());
    let codes = |row: &str| first_cell(row).split(", ").count();
    let mut faults: Vec<_> = rows
        .into_iter()
        .filter(|row| marks_of(last_cell(row)).len() < codes(row))
        .map(unmarked)
        .collect();
    faults.extend(faults_of_marks(PROTOCOL, &tests));
    assert!(faults.is_empty(), "docs/protocol.md:\n{}", faults.join("\n"));
}

#[test]
fn a_row_without_a_test_and_a_mark_that_names_none_are_found() {
    let page = "| code | exit |\n|---|---|\n| `a` | 3 |\n| `b` | 4 <!-- test: one --> |\n\
                | `c` | 5 <!-- test: two --> <!-- test: none --> |\n";
    let rows = rows(page);
    let marks: Vec<_> = rows.iter().map(|row| marks_of(last_cell(row))).collect();
    assert_eq!(marks, [vec![], vec!["one"], vec!["two", "none"]]);
    assert!(unmarked(rows[0]).starts_with("the row `a` names too few tests: end the last cell"));
    let files = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
    let tests = [("one", files(&["x.rs"])), ("two", files(&["x.rs", "y.rs"]))];
    let tests = tests.map(|(name, files)| (name.to_owned(), files)).into();
    let faults = faults_of_marks(page, &tests);
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults[0].starts_with("the row `c` names two, and tests of this name stand in x.rs"));
    assert!(faults[1].starts_with("the row `c` names none, and no test has this name"));
}

/// The rows of all tables of a text, without their heads.
fn rows(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().collect();
    let tables = lines.chunk_by(|one, other| one.starts_with('|') == other.starts_with('|'));
    tables
        .filter(|lines| lines[0].starts_with('|'))
        .flat_map(|lines| &lines[2..])
        .copied()
        .collect()
}

fn first_cell(line: &str) -> &str {
    line.trim_start_matches("| ").split(" | ").next().unwrap_or(line)
}

fn last_cell(row: &str) -> &str {
    row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or(row)
}

/// The names in the marks at the end of a text.
fn marks_of(text: &str) -> Vec<&str> {
    let (mut names, mut rest) = (Vec::new(), text);
    while let Some((before, name)) =
        rest.strip_suffix(END_OF_MARK).and_then(|rest| rest.rsplit_once(MARK))
    {
        names.push(name);
        rest = before.trim_end();
    }
    names.reverse();
    names
}

fn unmarked(row: &str) -> String {
    format!("the row {} names too few tests: {HOW_TO_MARK}", first_cell(row))
}

/// Looks at every mark of a page, in rows and elsewhere.
fn faults_of_marks(page: &str, tests: &Tests) -> Vec<String> {
    let mut faults = Vec::new();
    for line in page.lines() {
        let names = line.split(MARK).skip(1).map(|rest| rest.split(END_OF_MARK).next());
        for name in names.map(|name| name.expect("a text has a first part")) {
            let place = if line.starts_with('|') {
                format!("the row {}", first_cell(line))
            } else {
                "a sentence".to_owned()
            };
            let files = tests.get(name).map_or(&[][..], Vec::as_slice);
            match files {
                [_] => {}
                [] => faults.push(format!(
                    "{place} names {name}, and no test has this name: {HOW_TO_MARK}"
                )),
                [first, second, ..] => faults.push(format!(
                    "{place} names {name}, and tests of this name stand in {} and {}: give one of \
                     them a name of its own",
                    first.display(),
                    second.display()
                )),
            }
        }
    }
    faults
}

/// Every test that is not ignored, in Rust and Python.
fn tests_of_the_repository() -> Tests {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut tests = Tests::new();
    let mut directories: Vec<_> = ROOMS.iter().map(|room| root.join(room)).collect();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("readable") {
            let entry = entry.expect("readable");
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            let kind = entry.file_type().expect("known");
            if kind.is_dir() && name != "target" && !name.starts_with('.') {
                directories.push(path);
            } else if kind.is_file() {
                let names = match name.rsplit_once('.') {
                    Some((_, "rs")) => names_in_rust(&fs::read_to_string(&path).expect("text")),
                    Some((_, "py")) => names_in_python(&fs::read_to_string(&path).expect("text")),
                    _ => continue,
                };
                let file = path.strip_prefix(&root).expect("below the root").to_owned();
                for name in names {
                    tests.entry(name).or_default().push(file.clone());
                }
            }
        }
    }
    assert!(tests.len() > 900, "{}", tests.len());
    tests
}

/// The functions behind `#[test]` and its like. The attribute stands on a line of its own.
fn names_in_rust(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if line != "#[test]" && !line.starts_with("#[tokio::test") {
            continue;
        }
        let mut ignored = false;
        for line in lines.by_ref() {
            ignored |= line.starts_with("#[ignore");
            let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
            if let Some(function) = function {
                let name = function.split(['(', '<']).next().expect("a name");
                names.extend((!ignored).then(|| name.to_owned()));
                break;
            }
        }
    }
    names
}

fn names_in_python(text: &str) -> Vec<String> {
    let methods = text.lines().filter_map(|line| line.trim().strip_prefix("def "));
    let tests = methods.filter(|method| method.starts_with("test_") && method.contains("(self"));
    tests.filter_map(|test| Some(test.split_once('(')?.0.to_owned())).collect()
}
