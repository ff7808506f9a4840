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

/// The measurements, if a bar is missed.
///
/// The median of three counts: a machine that is shared with others is now and then slow for as
/// long as one measurement takes. An agent that is slow by itself is slow in all of them. The
/// second and the third are made only if the first misses the bar.
pub(crate) fn missed<T>(measure: impl Fn() -> T, is_within: impl Fn(&T) -> bool) -> Option<[T; 3]> {
    let first = measure();
    if is_within(&first) {
        return None;
    }
    let (second, third) = (measure(), measure());
    let is_missed = !(is_within(&second) && is_within(&third));
    is_missed.then_some([first, second, third])
}

/// Ends the load when it is dropped, also if an assertion fails.
pub(crate) struct StopAtEnd<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
