//! The timing of requests, and how often a scenario is repeated.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The number of times that a scenario is repeated: `long` if `COUNTERSIGN_SOAK` is set.
pub(crate) fn repetitions(short: usize, long: usize) -> usize {
    if std::env::var_os("COUNTERSIGN_SOAK").is_some() { long } else { short }
}

pub(crate) fn percentile_99(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted[sorted.len() * 99 / 100]
}

pub(crate) fn timed(times: usize, mut act: impl FnMut()) -> Vec<Duration> {
    (0..times)
        .map(|_| {
            thread::sleep(Duration::from_millis(1));
            let start = Instant::now();
            act();
            start.elapsed()
        })
        .collect()
}

/// Ends the load when it is dropped, also if an assertion fails.
pub(crate) struct StopAtEnd<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
