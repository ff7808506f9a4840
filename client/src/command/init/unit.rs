//! The systemd unit of a first set-up.

use std::path::Path;

use super::paths::InstallPaths;
use crate::agent_program;
use crate::failure::Failure;

const SYSTEM_UNIT: &str =
    include_str!("../../../../packaging/systemd/system/countersign-agent.service");
const USER: &str = include_str!("../../../../packaging/systemd/user/countersign-agent.service");

/// The text of the unit, for the machine or for a user: the packaged unit with the paths of this
/// machine.
pub(super) fn text(paths: &InstallPaths) -> Result<String, Failure> {
    let program = agent_program::find()?;
    let start = format!("ExecStart={} run --config {}", word(&program)?, word(&paths.config)?);
    let template = if paths.is_system() { SYSTEM_UNIT } else { USER };
    Ok(written(template, &start, paths.has_runtime_directory()))
}

fn written(template: &str, start: &str, runtime_directory: bool) -> String {
    let mut text = "# Written by countersign init.\n".to_owned();
    for line in template.lines() {
        let line = if line.starts_with("ExecStart=") { start } else { line };
        let is_of_directory = line.trim_start_matches("# ").starts_with("RuntimeDirectory");
        if runtime_directory || !is_of_directory {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// One word of a command line in a unit,
/// <https://www.freedesktop.org/software/systemd/man/latest/systemd.service.html>.
fn word(path: &Path) -> Result<String, Failure> {
    let text =
        path.to_str().filter(|text| !text.chars().any(char::is_control)).ok_or_else(|| {
            Failure::Usage(format!("the path {} cannot stand in a systemd unit", path.display()))
        })?;
    let escaped = text.chars().fold(String::new(), |mut escaped, character| {
        match character {
            '"' | '\\' => escaped.extend(['\\', character]),
            '%' | '$' => escaped.extend([character, character]),
            other => escaped.push(other),
        }
        escaped
    });
    Ok(format!("\"{escaped}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_the_packaged_one_but_for_its_start() {
        for template in [SYSTEM_UNIT, USER] {
            let text = written(template, "ExecStart=\"/x\" run", true);
            let differ: Vec<_> = text
                .lines()
                .skip(1)
                .zip(template.lines())
                .filter(|(ours, theirs)| ours != theirs)
                .collect();
            let [("ExecStart=\"/x\" run", theirs)] = differ[..] else { panic!("{differ:?}") };
            assert!(
                theirs.starts_with("ExecStart=/usr/bin/countersign-agent run --config "),
                "{theirs}"
            );
            assert!(
                text.contains("RuntimeDirectory=")
                    && !written(template, "", false).contains("RuntimeDirectory")
            );
        }
    }

    #[test]
    fn paths_are_one_word_of_a_unit() {
        assert_eq!(
            word(Path::new("/a b/50%/$x/\"q\"")).expect("a word"),
            r#""/a b/50%%/$$x/\"q\"""#
        );
        assert!(word(Path::new("/a\nb")).is_err());
    }
}
