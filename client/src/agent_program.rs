//! Runs `countersign-agent` for the work that only it can do: check a configuration, find modules,
//! make a token.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::exit::Exit;
use crate::failure::Failure;

const NAME: &str = "countersign-agent";

/// The path of the agent's program: beside this program, else on PATH.
pub(crate) fn find() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().ok();
    let beside = own.as_deref().and_then(Path::parent).map(|directory| directory.join(NAME));
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&on_path).filter(|directory| directory.is_absolute());
    let mut candidates = beside.into_iter().chain(on_path.map(|directory| directory.join(NAME)));
    candidates.find(|candidate| candidate.is_file()).ok_or(Failure::AgentProgramAbsent)
}

/// The agent's program, ready for its arguments. Its standard input is empty.
pub(crate) fn command() -> Result<Command, Failure> {
    let mut command = Command::new(find()?);
    command.stdin(Stdio::null());
    Ok(command)
}

/// Runs the program to its end and returns its output.
pub(crate) fn finish(mut command: Command) -> Result<Output, Failure> {
    command.output().map_err(|error| Failure::AgentProgram {
        exit: Exit::NotReachable as u8,
        message: format!("could not run {}: {error}", command.get_program().display()),
    })
}

pub(crate) fn run<S: AsRef<OsStr>>(
    arguments: impl IntoIterator<Item = S>,
) -> Result<Output, Failure> {
    let mut command = command()?;
    command.args(arguments);
    finish(command)
}

/// Returns the program's standard output. If the program fails, the failure has its exit code and
/// its words.
pub(crate) fn run_for_json<S: AsRef<OsStr>>(
    arguments: impl IntoIterator<Item = S>,
) -> Result<String, Failure> {
    let output = run(arguments)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Failure::AgentProgram { exit: exit_code(&output), message: words(&output) })
}

/// The program's exit code. A program that a signal ended counts as failed.
pub(crate) fn exit_code(output: &Output) -> u8 {
    output.status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(Exit::Unavailable as u8)
}

/// The program's output as text, standard output first.
pub(crate) fn words(output: &Output) -> String {
    let text = [&output.stdout, &output.stderr]
        .map(|bytes| String::from_utf8_lossy(bytes).trim_end().to_owned());
    let text: Vec<&str> = text.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
    if text.is_empty() {
        format!("{NAME} said nothing and ended with {}", output.status)
    } else {
        text.join("\n")
    }
}
