//! The service manager's end of `sd_notify`.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

/// The receiving end of `sd_notify`.
#[derive(Debug)]
pub(crate) struct ServiceManager {
    socket: UnixDatagram,
    directory: tempfile::TempDir,
}

impl ServiceManager {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = UnixDatagram::bind(directory.path().join("notify")).expect("binds");
        Self { socket, directory }
    }

    /// The variables in a service's environment; the service manager would kill it after
    /// `watchdog`.
    pub(crate) fn environment(&self, watchdog: Option<Duration>) -> Vec<(String, String)> {
        let path = self.directory.path().join("notify").to_str().expect("UTF-8").to_owned();
        let limit =
            watchdog.map(|limit| ("WATCHDOG_USEC".to_owned(), limit.as_micros().to_string()));
        [("NOTIFY_SOCKET".to_owned(), path)].into_iter().chain(limit).collect()
    }

    /// The next message; `None` if none arrives in time.
    pub(crate) fn message(&self, patience: Duration) -> Option<String> {
        let mut message = [0; 4096];
        self.socket.set_read_timeout(Some(patience)).expect("a time limit");
        let length = self.socket.recv(&mut message).ok()?;
        Some(String::from_utf8(message[..length].to_vec()).expect("text"))
    }

    /// The messages up to the first that has this line.
    pub(crate) fn until(&self, line: &str) -> Vec<String> {
        let mut messages = Vec::new();
        let start = Instant::now();
        while !messages
            .last()
            .is_some_and(|message: &String| message.lines().any(|found| found == line))
        {
            assert!(start.elapsed() < Duration::from_secs(15), "{line} did not come: {messages:?}");
            messages.extend(self.message(Duration::from_millis(100)));
        }
        messages
    }

    /// The number of signs of life that arrive during this time.
    pub(crate) fn signs_of_life(&self, time: Duration) -> usize {
        let (start, mut count) = (Instant::now(), 0);
        while let Some(left) = time.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
            count += usize::from(self.message(left).is_some_and(|message| message == "WATCHDOG=1"));
        }
        count
    }
}
