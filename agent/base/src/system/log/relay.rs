//! What stands between the agent's processes and the real standard error: a pipe that none of them
//! waits for, and one thread of the first process, which may wait for ever.
//!
//! The pipe's end that is written to has an open file description of its own, so that only it is
//! non-blocking: the operator's terminal is shared with other programs. Modules that print to
//! standard error are kept from blocking by it as well.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use super::{LAST_WORDS, lines, notice};
use crate::system::sys;

/// What may pile up behind a reader that is slow.
const ROOM: usize = 1024 * 1024;

static RELAY: OnceLock<Relay> = OnceLock::new();

/// Of this process, where it has one.
#[derive(Debug)]
struct Relay {
    source: OwnedFd,
    sink: OwnedFd,
    begun: AtomicBool,
    /// True from before something is read until it is written.
    busy: AtomicBool,
}

/// Makes standard error of this process, and of what it starts, a pipe that never blocks. Without
/// [`begin`] nothing leaves it.
pub fn install() -> std::io::Result<()> {
    let sink = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3)?;
    let (source, entry) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&entry, true)?;
    // The usual size does as well, where a user has too many pipes.
    let _ = fcntl_setpipe_size(&entry, ROOM);
    let relay = Relay { source, sink, begun: AtomicBool::new(false), busy: AtomicBool::new(false) };
    if RELAY.set(relay).is_ok() {
        rustix::stdio::dup2_stderr(&entry)?;
        settle_before_a_panic_ends_it();
    }
    Ok(())
}

/// Starts the thread that writes to the real standard error, where [`install`] was called. Not
/// before a process has given up what it must give up alone.
pub fn begin() {
    let Some(relay) = RELAY.get() else { return };
    if !relay.begun.swap(true, Ordering::SeqCst) {
        // Without the thread the log is lost, and nothing else.
        let _ = std::thread::Builder::new().name(THREAD.to_owned()).spawn(|| relay.carry());
    }
}

const THREAD: &str = "log";

/// Waits until what was written has left, but not long: nobody may be reading.
pub fn settle() {
    let Some(relay) = RELAY.get() else { return };
    begin();
    let end = Instant::now() + LAST_WORDS;
    while relay.holds_something() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The process ends with a panic, and what it says would stay in the pipe.
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
        // In this order: what is taken out of the pipe is on its way from before that.
        !matches!(rustix::io::ioctl_fionread(&self.source), Ok(0))
            || self.busy.load(Ordering::SeqCst)
    }

    fn carry(&self) {
        // A terminal that lets no program of its background write would stop the whole process.
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

/// The real standard error, and what it did not take.
struct Sink<'fd, Device> {
    device: &'fd Device,
    lost: u64,
    /// It ends within a line.
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

    /// On an error, what was left.
    fn write<'text>(&mut self, text: &'text [u8]) -> Result<(), &'text [u8]> {
        let mut rest = text;
        while !rest.is_empty() {
            match rustix::io::write(self.device, rest) {
                Ok(0) => return Err(rest),
                Ok(written) => {
                    self.torn = rest[written - 1] != b'\n';
                    rest = &rest[written..];
                }
                // Somebody else has made it non-blocking.
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
