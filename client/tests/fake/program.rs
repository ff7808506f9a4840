//! Runs the command line beside a stand-in for the agent's program.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use countersign::core::json::Value;

use super::Directory;

/// The exit code and the output of one run of the program.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) exit: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Standard output as one JSON object of version 1.
    pub(crate) fn json(&self) -> Value {
        let value = Value::parse(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        assert_eq!(value.member("v").and_then(Value::scalar), Some("1"), "{self:?}");
        value
    }

    pub(crate) fn error_code(&self) -> String {
        let json = self.json();
        let code =
            json.member("error").and_then(|error| error.member("code")).and_then(Value::scalar);
        code.unwrap_or_else(|| panic!("no error code: {self:?}")).to_owned()
    }
}

/// The program, with a home and sockets of its own.
#[derive(Debug)]
pub(crate) struct Program {
    program: PathBuf,
    home: PathBuf,
    socket: Option<PathBuf>,
    _directory: Directory,
}

impl Program {
    pub(crate) fn new(socket: Option<PathBuf>) -> Self {
        let directory = Directory::new();
        let program = directory.path().join("countersign");
        // A link, not a copy: while another thread forks, a program that was just written may be
        // busy.
        std::fs::hard_link(env!("CARGO_BIN_EXE_countersign"), &program)
            .or_else(|_| std::fs::copy(env!("CARGO_BIN_EXE_countersign"), &program).map(drop))
            .expect("the program");
        let agent = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake/countersign-agent");
        std::os::unix::fs::symlink(agent, directory.path().join("countersign-agent"))
            .expect("its stand-in");
        let home = directory.path().join("home");
        std::fs::create_dir(&home).expect("a home");
        Self { program, home, socket, _directory: directory }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.program
    }

    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        self.run_with(words, "")
    }

    /// Runs it with `input` on standard input; it has no terminal.
    pub(crate) fn run_with(&self, words: &[&str], input: &str) -> Ran {
        finish(self.command(words), input)
    }

    /// Runs it on a terminal on which `input` is typed. The words need no quotes.
    pub(crate) fn run_on_terminal(&self, words: &[&str], input: &str) -> Ran {
        let line = format!("{} {}", self.program.display(), words.join(" "));
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        finish(self.equipped(command), input)
    }

    /// The program with everything piped, not yet started.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("setsid");
        command.arg("--wait").arg(&self.program).args(words);
        self.equipped(command)
    }

    fn equipped(&self, mut command: Command) -> Command {
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", &self.home);
        if let Some(socket) = &self.socket {
            command.env("COUNTERSIGN_SOCK", socket);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

fn finish(mut command: Command, input: &str) -> Ran {
    let mut child = command.spawn().expect("starts");
    // A program that reads nothing may be gone already.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().expect("ends");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ran { exit: status.code().expect("no signal"), out: text(stdout), err: text(stderr) }
}
