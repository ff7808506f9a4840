//! Writes to the log, which is standard error. It may be full, gone or blocked, and no process
//! waits or ends because of it.
//!
//! A line that cannot be written is lost and counted. The count is written before the next line
//! that can be written. In the front and its children, standard error is a pipe that never blocks,
//! and a relay carries the lines from there to the real standard error.

mod relay;

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fd::BorrowedFd;
use rustix::io::Errno;

pub use relay::{begin, install, settle};

/// Most bytes that are written to a pipe whole or not at all (PIPE_BUF).
const WHOLE_WRITE: usize = 4096;

/// Longest time that a process waits for its last words to be written.
pub const LAST_WORDS: Duration = Duration::from_millis(500);

/// Number of lines of this process that were lost. It is locked for each text, so that the parts of
/// a long text stay together.
static LOST: Mutex<u64> = Mutex::new(0);

/// The writer for log lines. Writing never fails.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lines;

impl Write for Lines {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        put(rustix::stdio::stderr(), text, &mut |_| false);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Says why the process ends. A text of any length is written if somebody reads standard error. If
/// nobody does, this gives up after [`LAST_WORDS`].
pub fn say(text: &str) {
    begin();
    let end = Instant::now() + LAST_WORDS;
    put(rustix::stdio::stderr(), text.as_bytes(), &mut |error| {
        let again = error == Errno::AGAIN && Instant::now() < end;
        if again {
            std::thread::sleep(Duration::from_millis(1));
        }
        again
    });
}

fn put(log: BorrowedFd<'_>, text: &[u8], again: &mut dyn FnMut(Errno) -> bool) {
    let mut lost = LOST.lock().unwrap_or_else(PoisonError::into_inner);
    if *lost > 0 {
        match write_whole(log, notice(*lost).as_bytes(), again) {
            Ok(()) => *lost = 0,
            Err(_) => return *lost += lines(text),
        }
    }
    let mut rest = text;
    while !rest.is_empty() {
        let (part, further) = rest.split_at(rest.len().min(WHOLE_WRITE));
        if write_whole(log, part, again).is_err() {
            return *lost += lines(rest);
        }
        rest = further;
    }
}

/// Writes one part, at most [`WHOLE_WRITE`] bytes; `again` says whether to try once more after an
/// error.
fn write_whole(
    log: BorrowedFd<'_>,
    part: &[u8],
    again: &mut dyn FnMut(Errno) -> bool,
) -> Result<(), Errno> {
    let mut rest = part;
    while !rest.is_empty() {
        match rustix::io::write(log, rest) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => rest = &rest[written..],
            Err(Errno::INTR) => {}
            Err(error) if again(error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn lines(text: &[u8]) -> u64 {
    text.split_inclusive(|byte| *byte == b'\n').count() as u64
}

fn notice(lost: u64) -> String {
    let (lines, are) = if lost == 1 { ("line", "is") } else { ("lines", "are") };
    format!("countersign-agent: {lost} {lines} of this log could not be written and {are} lost\n")
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_pipe_that_is_full_loses_lines_and_says_how_many_once_it_is_read() {
        let (reader, writer) = io::pipe().expect("a pipe");
        rustix::io::ioctl_fionbio(&writer, true).expect("set");
        let line = [[b'x'; WHOLE_WRITE - 1].as_slice(), b"\n"].concat();
        let mut written = 0;
        while rustix::io::write(&writer, &line).is_ok() {
            written += line.len();
        }
        let never = &mut |_| false;
        put(writer.as_fd(), b"one\n", never);
        put(writer.as_fd(), b"two\nthree\n", never);
        let mut room = vec![0; written];
        (&reader).read_exact(&mut room).expect("what is there");
        put(writer.as_fd(), b"four\n", never);
        drop(writer);
        let mut rest = String::new();
        (&reader).read_to_string(&mut rest).expect("text");
        assert_eq!(
            rest,
            "countersign-agent: 3 lines of this log could not be written and are lost\nfour\n"
        );
    }

    #[test]
    fn a_text_longer_than_a_pipe_gets_out_where_somebody_reads() {
        let (reader, writer) = io::pipe().expect("a pipe");
        rustix::io::ioctl_fionbio(&writer, true).expect("set");
        let text = "a line of a long error\n".repeat(20_000);
        let reading = std::thread::spawn(move || io::read_to_string(reader).expect("text"));
        put(writer.as_fd(), text.as_bytes(), &mut |error| error == Errno::AGAIN);
        drop(writer);
        assert_eq!(reading.join().expect("read"), text);
    }
}
