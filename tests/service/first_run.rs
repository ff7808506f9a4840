//! `make demo` and `make test` on a new machine show soon, and every few seconds, how far they are.
//! The test replaces the tools that take minutes by stand-ins that take some seconds and print
//! nothing.

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::harness::machine;

const FIRST_LINE: Duration = Duration::from_secs(5);
const SIGN: Duration = Duration::from_secs(10);

/// Tools of this machine. The test's machine lacks all others.
const TOOLS: &[&str] = &[
    "bash", "basename", "cat", "date", "dirname", "env", "flock", "head", "kill", "make", "mkdir",
    "mktemp", "printf", "realpath", "rm", "sed", "sh", "sleep", "tail",
];

/// Takes longer than a person may wait without a sign.
const SLOW: &str = "#!/bin/sh\nsleep 11\n";

const CARGO: &str = r#"#!/bin/sh
case $1 in fmt | fetch) exit 0 ;; esac
sleep 11
while [ $# -gt 0 ]; do
    if [ "$1" = --root ]; then
        mkdir -p "$2/bin"
        printf '#!/bin/sh\necho cargo-deny 0.20.2\n' >"$2/bin/cargo-deny"
    fi
    shift
done
[ ! -d "$CARGO_TARGET_DIR/tools/bin" ] || chmod +x "$CARGO_TARGET_DIR/tools/bin/cargo-deny"
"#;

const PYTHON: &str = r#"#!/bin/sh
case $1 in -c) exit 1 ;; scripts/*) exit 0 ;; esac
sleep 11
for last; do :; done
mkdir -p "$last/bin"
printf '#!/bin/sh\n[ "$1" = -c ] || sleep 11\n' >"$last/bin/python"
chmod +x "$last/bin/python"
"#;

struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        let directory =
            tempfile::Builder::new().prefix("countersign-first").tempdir().expect("a directory");
        let bin = directory.path().join("bin");
        fs::create_dir(&bin).expect("made");
        for tool in TOOLS {
            let there = ["/usr/bin", "/bin"]
                .map(|place| Path::new(place).join(tool))
                .into_iter()
                .find(|path| path.exists());
            symlink(there.unwrap_or_else(|| panic!("{tool} is missing")), bin.join(tool))
                .expect("linked");
        }
        let sudo = "#!/bin/sh\n[ \"$1\" = --validate ] || exec \"$@\"\n";
        for (name, text) in [
            ("apt-get", SLOW),
            ("cargo", CARGO),
            ("chmod", "#!/bin/sh\nexec /bin/chmod \"$@\"\n"),
            ("python3", PYTHON),
            ("sudo", sudo),
        ] {
            let path = bin.join(name);
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("own file");
        }
        Self(directory)
    }

    fn make(&self, target: &str) -> Command {
        let root: PathBuf =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the project").to_owned();
        let mut make = Command::new(self.0.path().join("bin/make"));
        make.arg(target).current_dir(root).env_clear().env("PATH", self.0.path().join("bin"));
        make.env("CARGO_TARGET_DIR", self.0.path().join("target"))
            .env("HOME", self.0.path())
            .stdin(Stdio::null());
        make
    }
}

/// A pipe or a terminal: the end that is read, and the end to which a command writes.
fn output(terminal: bool) -> (OwnedFd, OwnedFd) {
    if !terminal {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        return (reader.into(), writer.into());
    }
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
        .expect("a pseudo terminal");
    grantpt(&person).expect("granted");
    unlockpt(&person).expect("unlocked");
    let name = ptsname(&person, Vec::new()).expect("has a name");
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    (person, rustix::fs::open(name, flags, rustix::fs::Mode::empty()).expect("opens"))
}

/// Runs a target to its end. Returns the time of the first sign, the longest time without one, and
/// the whole output.
fn watch(target: &str, terminal: bool) -> (Duration, Duration, String) {
    let machine = Machine::new();
    let (reader, writer) = output(terminal);
    let mut make = machine.make(target);
    make.stdout(writer.try_clone().expect("copied")).stderr(writer);
    let (mut reader, mut last) = (fs::File::from(reader), Instant::now());
    let mut child = make.spawn().expect("make runs");
    drop(make); // or this end of a pipe would stay open
    let (mut first, mut longest, mut said, mut part) =
        (None, Duration::ZERO, Vec::new(), [0; 4096]);
    // A terminal that no process has open answers with an error.
    while let Ok(length @ 1..) = reader.read(&mut part) {
        let silence = last.elapsed();
        first.get_or_insert(silence);
        longest = longest.max(silence);
        last = Instant::now();
        said.extend_from_slice(&part[..length]);
    }
    child.wait().expect("ends");
    let longest = longest.max(last.elapsed());
    (first.unwrap_or(Duration::MAX), longest, String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn whoever_waits_is_told_for_what_and_that_it_goes_on() {
    machine::share();
    let cases = [
        (
            "demo",
            false,
            &["Installing from Debian: build-essential", "about five minutes on 2 cores"][..],
        ),
        ("demo", true, &["Installing from Debian: build-essential", "Building: "]),
        (
            "lint",
            false,
            &["Looking for lints", "Building the documentation", "Building cargo-deny"],
        ),
        ("test-rust", true, &["Building the tests", "Testing in Rust"]),
        ("test-python", false, &["Making the environment", "Installing ccxt", "Testing in Python"]),
        ("test-conformance", false, &["Comparing 20 requests"]),
        ("test-demo", false, &["Walking through the demo"]),
    ];
    thread::scope(|scope| {
        for (target, terminal, says) in cases {
            scope.spawn(move || {
                let (first, longest, said) = watch(target, terminal);
                assert!(first < FIRST_LINE, "{target}: nothing for {first:?}\n{said}");
                assert!(longest < SIGN, "{target}: silent for {longest:?}\n{said}");
                assert!(said.contains("0:08 min so far"), "{target}\n{said}");
                for text in says {
                    assert!(said.contains(text), "{target}: {text}\n{said}");
                }
            });
        }
    });
}
