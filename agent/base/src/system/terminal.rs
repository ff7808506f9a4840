//! Asks a person at a terminal. Echo is off while a secret is typed, and is always switched on
//! again.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{
    LocalModes, OptionalActions, QueueSelector, Termios, tcflush, tcgetattr, tcsetattr,
};
use zeroize::Zeroize;

use super::sys::LockedMemory;

/// A paste is over when no byte has come for this long.
const PASTE_PAUSE: Duration = Duration::from_millis(100);

/// Says if the terminal shows the typed answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Echo {
    Off,
    On,
}

/// Why a question got no answer.
#[derive(Debug, thiserror::Error)]
pub enum TerminalError {
    #[error("the terminal was closed before an answer came")]
    Closed,
    #[error("the question was cancelled")]
    Cancelled,
    #[error("it is not complete: nothing more came for {} s", .0.as_secs())]
    Incomplete(Duration),
    #[error("it does not end there: more lines came with it")]
    More,
    #[error("the terminal cannot be used")]
    Terminal(#[from] io::Error),
    #[error("the answer is too long")]
    TooLong,
}

impl From<rustix::io::Errno> for TerminalError {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Terminal(error.into())
    }
}

/// A terminal, and descriptors that cancel a question: the wait for its answer ends when one of
/// them becomes readable or hangs up.
#[derive(Debug)]
pub struct Terminal<'fd> {
    device: BorrowedFd<'fd>,
    cancel: Vec<BorrowedFd<'fd>>,
}

impl<'fd> Terminal<'fd> {
    pub fn new(device: BorrowedFd<'fd>, cancel: Vec<BorrowedFd<'fd>>) -> Self {
        Self { device, cancel }
    }

    /// Shows `text`. If the terminal's output is held, this waits for it as a question waits for
    /// its answer.
    pub fn show(&self, text: &str) -> Result<(), TerminalError> {
        // A terminal that is ready takes one byte at once. A longer text could block, and nothing
        // would end that wait.
        for byte in text.as_bytes().chunks(1) {
            self.wait(PollFlags::OUT, None)?;
            rustix::io::retry_on_intr(|| rustix::io::write(self.device, byte))?;
        }
        Ok(())
    }

    /// Asks, and appends one line to `answer`, without its newline.
    pub fn ask(
        &self,
        question: &str,
        echo: Echo,
        answer: &mut LockedMemory,
    ) -> Result<(), TerminalError> {
        let quiet = (echo == Echo::Off).then(|| EchoOff::start(self.device)).transpose()?;
        self.show(question)?;
        let result = self.read_line(answer, None);
        if quiet.is_some() {
            drop(quiet);
            self.show("\n")?;
        }
        result
    }

    /// Asks for a text of one or several lines, until `is_whole` is true for the text so far. Each
    /// line after the first must come within `patience`. Each line keeps its newline. An empty line
    /// inside a paste is left out, because a line end of two characters makes an extra line. Text
    /// after the end is refused.
    pub fn ask_lines(
        &self,
        question: &str,
        answer: &mut LockedMemory,
        patience: Duration,
        is_whole: impl Fn(&[u8]) -> bool,
    ) -> Result<(), TerminalError> {
        let quiet = EchoOff::start(self.device)?;
        self.show(question)?;
        let result = self.read_lines(answer, patience, is_whole);
        let more = quiet.by_the_byte().is_ok() && self.forget_the_rest();
        drop(quiet);
        self.show("\n")?;
        result.and(if more { Err(TerminalError::More) } else { Ok(()) })
    }

    /// Discards everything that was pasted after the last answer.
    pub fn forget(&self) {
        if let Ok(quiet) = EchoOff::start(self.device) {
            let _ = quiet.by_the_byte();
            self.forget_the_rest();
        }
    }

    fn read_lines(
        &self,
        answer: &mut LockedMemory,
        patience: Duration,
        is_whole: impl Fn(&[u8]) -> bool,
    ) -> Result<(), TerminalError> {
        let mut limit = None;
        loop {
            let start = answer.as_bytes().len();
            self.read_line(answer, limit)?;
            let is_empty = start > 0 && answer.as_bytes().len() == start;
            if is_empty && self.wait(PollFlags::IN, Some(PASTE_PAUSE))? {
                continue;
            }
            if !answer.append(b"\n") {
                return Err(TerminalError::TooLong);
            }
            if is_whole(answer.as_bytes()) {
                return Ok(());
            }
            limit = Some(patience);
        }
    }

    /// Discards the rest of a paste. A shell would take it for commands, and would keep a secret in
    /// its history. True if it was more than blanks.
    fn forget_the_rest(&self) -> bool {
        let (mut rest, mut more) = ([0; 512], false);
        while matches!(self.wait(PollFlags::IN, Some(PASTE_PAUSE)), Ok(true)) {
            let read = rustix::io::retry_on_intr(|| rustix::io::read(self.device, &mut rest));
            more |= !rest[..*read.as_ref().unwrap_or(&0)].trim_ascii().is_empty();
            rest.zeroize();
            if !matches!(read, Ok(1..)) {
                break;
            }
        }
        more
    }

    /// Reads one line: a terminal in its usual mode gives at most one line to a read.
    fn read_line(
        &self,
        line: &mut LockedMemory,
        limit: Option<Duration>,
    ) -> Result<(), TerminalError> {
        let start = line.as_bytes().len();
        loop {
            if let (false, Some(limit)) = (self.wait(PollFlags::IN, limit)?, limit) {
                return Err(TerminalError::Incomplete(limit));
            }
            if line.spare().is_empty() {
                return Err(TerminalError::TooLong);
            }
            let read =
                rustix::io::retry_on_intr(|| rustix::io::read(self.device, &mut *line.spare()))?;
            if read == 0 && line.as_bytes().len() > start {
                return Ok(()); // ended by a person instead of by a newline
            }
            if read == 0 {
                return Err(TerminalError::Closed);
            }
            line.advance(read);
            if let Some(without_newline) = line.as_bytes().strip_suffix(b"\n") {
                let length = without_newline.len();
                line.truncate(length);
                return Ok(());
            }
        }
    }

    /// Waits until the terminal is ready for `what`; false if it was not ready within `limit`.
    fn wait(&self, what: PollFlags, limit: Option<Duration>) -> Result<bool, TerminalError> {
        let mut descriptors = vec![PollFd::from_borrowed_fd(self.device, what)];
        descriptors
            .extend(self.cancel.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        rustix::io::retry_on_intr(|| poll(&mut descriptors, limit.as_ref()))?;
        if descriptors[1..].iter().any(|descriptor| !descriptor.revents().is_empty()) {
            return Err(TerminalError::Cancelled);
        }
        Ok(!descriptors[0].revents().is_empty())
    }
}

/// Keeps echo off as long as this value lives.
struct EchoOff<'fd> {
    device: BorrowedFd<'fd>,
    before: Termios,
}

impl<'fd> EchoOff<'fd> {
    fn start(device: BorrowedFd<'fd>) -> Result<Self, TerminalError> {
        let before = tcgetattr(device)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ECHONL);
        quiet.local_modes.insert(LocalModes::ICANON);
        // Characters that were typed before the question are not its answer.
        tcflush(device, QueueSelector::IFlush)?;
        tcsetattr(device, OptionalActions::Now, &quiet)?;
        Ok(Self { device, before })
    }
}

impl EchoOff<'_> {
    /// Makes typed characters readable before their line has ended.
    fn by_the_byte(&self) -> Result<(), TerminalError> {
        let mut modes = tcgetattr(self.device)?;
        modes.local_modes.remove(LocalModes::ICANON);
        Ok(tcsetattr(self.device, OptionalActions::Now, &modes)?)
    }
}

impl Drop for EchoOff<'_> {
    fn drop(&mut self) {
        // If the terminal is gone, there is nothing to restore. `Now` does not wait for a terminal
        // whose output is held, as draining it would.
        let _ = tcsetattr(self.device, OptionalActions::Now, &self.before);
    }
}

/// True if `descriptor` is a terminal.
pub fn is_terminal(descriptor: impl AsFd) -> bool {
    rustix::termios::isatty(descriptor)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::OwnedFd;
    use std::thread;
    use std::time::Duration;

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    use super::*;

    fn pseudo_terminal() -> (File, OwnedFd) {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo terminal");
        grantpt(&person).expect("granted");
        unlockpt(&person).expect("unlocked");
        let name = ptsname(&person, Vec::new()).expect("has a name");
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
        let device = rustix::fs::open(name, flags, rustix::fs::Mode::empty()).expect("opens");
        (person.into(), device)
    }

    fn echoes(device: &OwnedFd) -> bool {
        tcgetattr(device).expect("a terminal").local_modes.contains(LocalModes::ECHO)
    }

    fn wait_for_question(person: &mut File, device: &OwnedFd) {
        let mut shown = [0; 8];
        person.read_exact(&mut shown).expect("readable");
        assert_eq!(&shown, b"secret: ");
        assert!(!echoes(device));
    }

    #[test]
    fn a_secret_is_read_unseen_and_echo_comes_back() {
        let (mut person, device) = pseudo_terminal();
        let seen = thread::scope(|scope| {
            let asked = scope.spawn(|| {
                let mut answer = LockedMemory::with_capacity(1).expect("memory");
                let terminal = Terminal::new(device.as_fd(), Vec::new());
                terminal.ask("secret: ", Echo::Off, &mut answer).expect("answered");
                assert_eq!(answer.as_bytes(), b"hunter2");
            });
            wait_for_question(&mut person, &device);
            person.write_all(b"hunter2\n").expect("typed");
            asked.join().expect("asked");
            let mut seen = [0; 2];
            person.read_exact(&mut seen).expect("readable");
            seen
        });
        assert_eq!(&seen, b"\r\n");
        assert!(echoes(&device));
    }

    #[test]
    fn nothing_of_a_paste_is_left_for_the_shell() {
        let (mut person, device) = pseudo_terminal();
        let terminal = Terminal::new(device.as_fd(), Vec::new());
        person.write_all(b"{\n  \"privateKey\": \"918273645\",\n").expect("typed");
        let mut answer = LockedMemory::with_capacity(64).expect("memory");
        terminal.ask("name: ", Echo::On, &mut answer).expect("answered");
        assert_eq!(answer.as_bytes(), b"{");
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(30));
                person.write_all(b"}\n918273645").expect("typed");
            });
            terminal.forget();
        });
        assert!(echoes(&device));
        let mut modes = tcgetattr(&device).expect("a terminal");
        modes.local_modes.remove(LocalModes::ICANON);
        tcsetattr(&device, OptionalActions::Now, &modes).expect("set");
        assert!(
            !terminal.wait(PollFlags::IN, Some(PASTE_PAUSE)).expect("waits"),
            "something is left"
        );
    }

    #[test]
    fn a_paste_is_read_to_its_end_whatever_its_line_ends_are() {
        let whole = |entered: &[u8]| {
            entered.ends_with(b"end\n")
                || entered.ends_with(b"\n\n")
                || !entered.starts_with(b"begin")
        };
        for (pasted, read, refused) in [
            (&["begin\n1\nend\n"][..], "begin\n1\nend\n", false),
            (&["begin\r\n1\r\nend\r\n"], "begin\n1\nend\n", false),
            (&["begin\r\r1\r\rend\r\r"], "begin\n1\nend\n", false),
            (&["beg", "in\n", "\n1\nen", "d\n"], "begin\n1\nend\n", false),
            (&["begin\n1\n", "\n"], "begin\n1\n\n", false),
            (&["line\n"], "line\n", false),
            (&["line\r\n \r\n"], "line\n", false),
            (&["line\nanother\n"], "line\n", true),
            (&["line\nanother"], "line\n", true),
            (&["begin\nend\nbegin\n"], "begin\nend\n", true),
        ] {
            let (mut person, device) = pseudo_terminal();
            thread::scope(|scope| {
                let asked = scope.spawn(|| {
                    let mut answer = LockedMemory::with_capacity(4096).expect("memory");
                    let terminal = Terminal::new(device.as_fd(), Vec::new());
                    let result =
                        terminal.ask_lines("secret: ", &mut answer, Duration::from_secs(5), whole);
                    (result.map_err(|error| error.to_string()), answer.as_bytes().to_vec())
                });
                wait_for_question(&mut person, &device);
                for piece in pasted {
                    person.write_all(piece.as_bytes()).expect("typed");
                    thread::sleep(Duration::from_millis(30));
                }
                let (result, answer) = asked.join().expect("asked");
                assert_eq!(
                    (result.is_err(), answer),
                    (refused, read.as_bytes().to_vec()),
                    "{pasted:?}: {result:?}"
                );
            });
        }
    }

    #[test]
    fn echo_comes_back_when_the_question_is_cancelled() {
        let (mut person, device) = pseudo_terminal();
        let (cancel, other_end) = std::os::unix::net::UnixStream::pair().expect("a pair");
        thread::scope(|scope| {
            let asked = scope.spawn(|| {
                let mut answer = LockedMemory::with_capacity(1).expect("memory");
                let terminal = Terminal::new(device.as_fd(), vec![cancel.as_fd()]);
                terminal.ask("secret: ", Echo::Off, &mut answer)
            });
            wait_for_question(&mut person, &device);
            thread::sleep(Duration::from_millis(20));
            drop(other_end);
            assert!(matches!(asked.join().expect("asked"), Err(TerminalError::Cancelled)));
        });
        assert!(echoes(&device));
    }
}
