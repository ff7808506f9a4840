//! A person at a pseudo terminal, who types one answer to the first question for a PIN. Pinentry
//! asks it, or the agent itself.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

pub(crate) struct Typist {
    terminal: PathBuf,
    /// Keeps the terminal open: it would hang up whenever no process has it open.
    kept: OwnedFd,
    typing: JoinHandle<File>,
}

impl Typist {
    pub(crate) fn of(pin: &str) -> Self {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("a pseudo terminal");
        grantpt(&person).expect("granted");
        unlockpt(&person).expect("unlocked");
        let terminal =
            ptsname(&person, Vec::new()).expect("has a name").into_string().expect("UTF-8").into();
        let kept = rustix::fs::open(
            &terminal,
            OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let (mut person, pin) = (File::from(person), format!("{}\r", pin.trim_end()));
        let typing = std::thread::spawn(move || {
            let (mut shown, mut part) = (Vec::new(), [0; 4096]);
            while memchr::memmem::find(&shown, b"PIN").is_none() {
                let length = person.read(&mut part).expect("a question");
                shown.extend_from_slice(&part[..length]);
            }
            // a dialog discards the input from before it was drawn
            std::thread::sleep(Duration::from_millis(200));
            person.write_all(pin.as_bytes()).expect("typed");
            person
        });
        Self { terminal, kept: kept.expect("opens"), typing }
    }

    pub(crate) fn terminal(&self) -> &Path {
        &self.terminal
    }

    pub(crate) fn device(&self) -> BorrowedFd<'_> {
        self.kept.as_fd()
    }

    pub(crate) fn was_asked(&self) -> bool {
        self.typing.is_finished()
    }
}
