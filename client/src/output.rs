//! Writes results to standard output, as text or as one JSON object, and reports errors.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

pub(crate) use countersign::core::legible::plain;
use countersign::core::wire;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::moment::Moment;

/// The form of the results: text or JSON.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
    terminal: bool,
    now: Moment,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, terminal: io::stdout().is_terminal(), now: Moment::now() }
    }

    /// Columns of the terminal that shows the results; `None` if no terminal does.
    pub(crate) fn columns(&self) -> Option<usize> {
        columns(&io::stdout())
    }

    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// True if nobody will ever read the output.
    pub(crate) fn reader_is_gone(&self) -> bool {
        let (stdout, at_once) = (io::stdout(), Timespec { tv_sec: 0, tv_nsec: 0 });
        let mut end = [PollFd::new(&stdout, PollFlags::empty())];
        matches!(poll(&mut end, Some(&at_once)), Ok(1..))
            && end[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
    }

    /// Writes `reply` as JSON, or the text for people that `text` returns.
    pub(crate) fn show(
        &self,
        reply: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<Exit, Failure> {
        let mut line = if self.json {
            serde_json::to_string(reply).map_err(|error| Failure::Output(error.into()))?
        } else {
            text()
        };
        if !line.ends_with('\n') {
            line.push('\n');
        }
        let mut out = io::stdout().lock();
        out.write_all(line.as_bytes()).and_then(|()| out.flush()).map_err(Failure::Output)?;
        Ok(Exit::Done)
    }

    /// A time for people: exact, and on a terminal also how long ago.
    pub(crate) fn time(&self, unix_ms: u64) -> String {
        let moment = Moment::from_unix_ms(unix_ms);
        if self.terminal {
            format!("{moment} ({})", moment.relative_to(self.now))
        } else {
            moment.to_string()
        }
    }

    pub(crate) fn optional_time(&self, unix_ms: Option<u64>) -> String {
        unix_ms.map_or_else(|| "never".to_owned(), |unix_ms| self.time(unix_ms))
    }

    /// Reports a failure and returns the exit code.
    pub(crate) fn fail(&self, failure: &Failure) -> ExitCode {
        let exit = failure.exit();
        if self.json {
            // If standard output is gone, nothing can be said. The exit code remains.
            let _ = self.show(&FailureReport::of(failure), String::new);
        } else if exit != 0 {
            say(&describe(failure));
        }
        ExitCode::from(exit)
    }
}

/// A failure as `--json` shows it.
#[derive(Serialize)]
struct FailureReport<'a> {
    v: u32,
    error: ReportBody<'a>,
}

#[derive(Serialize)]
struct ReportBody<'a> {
    code: &'a str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl<'a> FailureReport<'a> {
    fn of(failure: &'a Failure) -> Self {
        let error = ReportBody {
            code: failure.code(),
            message: failure.message(),
            request_id: failure.request_id(),
            next: failure.next(),
        };
        Self { v: wire::VERSION, error }
    }
}

fn describe(failure: &Failure) -> String {
    let code = match failure {
        Failure::Agent(countersign::Error::Refused(refused)) => {
            format!("{}: ", plain(&refused.code))
        }
        _ => String::new(),
    };
    let mut text = format!("countersign: {code}{}\n", plain_lines(&failure.message()));
    if let Some(request_id) = failure.request_id() {
        text.push_str(&format!("  request: {}\n", plain(request_id)));
    }
    if let Some(next) = failure.next() {
        text.push_str(&format!("  next: {}\n", plain(&next)));
    }
    text
}

/// Writes for the person on standard error: standard output holds the result.
///
/// If standard error is gone, or is not read for a second, the text is dropped. The result still
/// tells, and a request that waits for approval is not held up.
pub(crate) fn say(text: &str) {
    let second = Timespec { tv_sec: 1, tv_nsec: 0 };
    for part in text.as_bytes().chunks(AT_ONCE) {
        let mut stderr = io::stderr().lock();
        let ready = rustix::io::retry_on_intr(|| {
            poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], Some(&second))
        });
        if !matches!(ready, Ok(1..)) || stderr.write_all(part).is_err() {
            return;
        }
    }
}

/// Columns of the terminal that [`say`] writes to; `None` if it is no terminal.
pub(crate) fn columns_of_stderr() -> Option<usize> {
    columns(&io::stderr())
}

/// Columns of the terminal behind `stream`; `None` if it is no terminal.
fn columns(stream: &(impl AsFd + IsTerminal)) -> Option<usize> {
    const USUAL: usize = 80;
    let known = |size: rustix::termios::Winsize| {
        Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
    };
    let size = || rustix::termios::tcgetwinsize(stream).ok().and_then(known);
    stream.is_terminal().then(|| size().unwrap_or(USUAL))
}

/// Bytes that a stream takes without waiting once it is ready to be written to.
const AT_ONCE: usize = 512;

/// [`plain`] text that keeps its lines.
pub(crate) fn plain_lines(text: &str) -> String {
    text.lines().map(plain).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_nothing_that_is_shown() {
        assert_eq!(plain("a\u{1b}[2Jb\r\n"), "a\\u{1b}[2Jb\\r\\n");
        assert_eq!(plain("bc1\u{202e}q"), "bc1\\u{202e}q");
        assert_eq!(plain("Zürich 1 000"), "Zürich 1 000");
        assert_eq!(plain_lines("a\nb\u{7}"), "a\nb\\u{7}");
    }
}
