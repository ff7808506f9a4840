//! Carries log lines from the agent's processes to the real standard error: through a pipe that no
//! process waits for, and a thread of the first process, which may wait for ever.
//!
//! Only the writing end of the pipe is non-blocking, because it has an open file description of its
//! own. The operator's terminal stays as it is: other programs share it. A module that prints to
//! standard error writes to the pipe too, so it does not block either.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use super::{LAST_WORDS, lines, notice};
use crate::system::sys;

/// Most bytes that can wait in the pipe for a slow reader.
const RELAY_ROOM: usize = 1024 * 1024;

static RELAY: OnceLock<Relay> = OnceLock::new();

/// The relay of this process, if it has one.
#[derive(Debug)]
struct Relay {
    source: OwnedFd,
    sink: OwnedFd,
    begun: AtomicBool,
    /// True while bytes are between the pipe and the sink. It is set before they are read.
    busy: AtomicBool,
}

/// Makes standard error of this process and its children a pipe that never blocks. Nothing leaves
/// the pipe before [`begin`].
pub fn install() -> std::io::Result<()> {
    let sink = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3)?;
    let (source, entry) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&entry, true)?;
    // If a user has too many pipes, the usual size is good enough.
    let _ = fcntl_setpipe_size(&entry, RELAY_ROOM);
    let relay = Relay { source, sink, begun: AtomicBool::new(false), busy: AtomicBool::new(false) };
    if RELAY.set(relay).is_ok() {
        rustix::stdio::dup2_stderr(&entry)?;
        settle_before_a_panic_ends_it();
    }
    Ok(())
}

/// Starts the thread that writes to the real standard error, if [`install`] was called. Call this
/// after the limits that a process must set while it has one thread.
pub fn begin() {
    let Some(relay) = RELAY.get() else { return };
    if !relay.begun.swap(true, Ordering::SeqCst) {
        // If the thread cannot be started, only the log is lost.
        let _ = std::thread::Builder::new().name(THREAD.to_owned()).spawn(|| relay.carry());
    }
}

const THREAD: &str = "log";

/// Waits until all lines have left the pipe, but at most [`LAST_WORDS`]: perhaps nobody reads them.
pub fn settle() {
    let Some(relay) = RELAY.get() else { return };
    begin();
    let end = Instant::now() + LAST_WORDS;
    while relay.holds_something() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Makes a panic wait for the relay. The process ends with a panic, and its message would stay in
/// the pipe.
fn settle_before_a_panic_ends_it() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        if std::thread::current().name() != Some(THREAD) {
            settle();
        }
    }));
}

impl Relay {
    fn holds_something(&self) -> bool {
        // The order matters: `busy` is set before bytes are taken out of the pipe.
        !matches!(rustix::io::ioctl_fionread(&self.source), Ok(0))
            || self.busy.load(Ordering::SeqCst)
    }

    fn carry(&self) {
        // Without this, a terminal that lets no background program write would stop the whole
        // process.
        sys::write_from_the_background();
        let mut sink = Sink { device: &self.sink, lost: 0, torn: false };
        let mut text = [0; 16 * 1024];
        loop {
            let waited = poll(&mut [PollFd::new(&self.source, PollFlags::IN)], None);
            if !matches!(waited, Ok(_) | Err(Errno::INTR)) {
                return;
            }
            self.busy.store(true, Ordering::SeqCst);
            match rustix::io::read(&self.source, &mut text) {
                Ok(0) => return,
                Ok(length) => sink.take(&text[..length]),
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
            self.busy.store(false, Ordering::SeqCst);
        }
    }
}

/// The real standard error, and the number of lines that it did not take.
struct Sink<'fd, Device> {
    device: &'fd Device,
    lost: u64,
    /// True if the last written byte is inside a line.
    torn: bool,
}

impl<Device: AsFd> Sink<'_, Device> {
    fn take(&mut self, text: &[u8]) {
        if self.lost > 0 {
            let end_of_line = if self.torn { "\n" } else { "" };
            match self.write(format!("{end_of_line}{}", notice(self.lost)).as_bytes()) {
                Ok(()) => self.lost = 0,
                Err(_) => return self.lost += lines(text),
            }
        }
        if let Err(left) = self.write(text) {
            self.lost += lines(left);
        }
    }

    /// Writes all of the text. After an error it returns the part that was not written.
    fn write<'text>(&mut self, text: &'text [u8]) -> Result<(), &'text [u8]> {
        let mut rest = text;
        while !rest.is_empty() {
            match rustix::io::write(self.device, rest) {
                Ok(0) => return Err(rest),
                Ok(written) => {
                    self.torn = rest[written - 1] != b'\n';
                    rest = &rest[written..];
                }
                // Another program has made it non-blocking.
                Err(Errno::AGAIN) if self.wait().is_ok() => {}
                Err(Errno::INTR) => {}
                Err(_) => return Err(rest),
            }
        }
        Ok(())
    }

    fn wait(&self) -> rustix::io::Result<usize> {
        rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(self.device, PollFlags::OUT)], None))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::*;

    #[test]
    fn a_sink_that_works_again_is_told_what_it_missed() {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let mut full = Sink {
            device: &File::options().write(true).open("/dev/full").expect("Linux"),
            lost: 0,
            torn: true,
        };
        full.take(b"one\ntwo\n");
        full.take(b"three\n");
        let mut sink = Sink { device: &writer, lost: full.lost, torn: full.torn };
        sink.take(b"four\n");
        sink.take(b"five\n");
        drop(writer);
        let mut text = String::new();
        (&reader).read_to_string(&mut text).expect("text");
        let says = "\ncountersign-agent: 3 lines of this log could not be written and are \
                    lost\nfour\nfive\n";
        assert_eq!(text, says);
    }

    #[test]
    fn a_sink_that_somebody_made_non_blocking_is_waited_for() {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        rustix::io::ioctl_fionbio(&writer, true).expect("set");
        let text = "0123456789abcde\n".repeat(40_000);
        let reading = std::thread::spawn(move || std::io::read_to_string(reader).expect("text"));
        let mut sink = Sink { device: &writer, lost: 0, torn: false };
        sink.take(text.as_bytes());
        assert_eq!(sink.lost, 0);
        drop(writer);
        assert_eq!(reading.join().expect("read"), text);
    }

    /// Runs itself once more, as a process that ends with a panic.
    #[test]
    fn what_a_panic_says_leaves_before_the_process_ends() {
        const CHILD: &str = "COUNTERSIGN_TEST_PANICS";
        if std::env::var_os(CHILD).is_some() {
            install().expect("installed");
            let report = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                report(panic);
                std::process::abort(); // as in a release
            }));
            panic!("the last words");
        }
        let name = "system::log::relay::tests::what_a_panic_says_leaves_before_the_process_ends";
        let mut child = std::process::Command::new(std::env::current_exe().expect("a test"));
        child.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(CHILD, "1");
        let output = child.output().expect("runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("the last words"), "{said}");
    }
}
