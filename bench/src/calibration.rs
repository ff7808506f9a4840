//! Sees whether the CPU is ours alone, by two loops that then always take the same time.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// A turn with a larger slowdown is disturbed: the CPU was not ours alone.
///
/// Found on a virtual Ice Lake Xeon with 2 CPUs, with both loops at real-time priority. Mostly the
/// eight chains took less than 1.1 times their fastest time. For seconds at a time they took 1.5 to
/// 1.85 times it, and only few runs lay between. In those seconds the single chain took 1.1 times
/// its fastest time, so by itself it cannot tell. A busy loop on the other CPU of that machine made
/// no difference to either, and neither did a loop of pauses there. So the two CPUs are not
/// siblings, and the siblings that were busy belonged to other guests.
pub(crate) const DISTURBED: f64 = 1.15;

/// The number of steps that each loop takes; a loop takes about a millisecond.
const STEPS: u64 = 500_000;
/// The chains fill the multiplier, which the two hyperthreads of a core share.
const CHAINS: usize = 8;

/// The fastest times so far.
pub(crate) struct Calibration {
    one_chain: Duration,
    eight_chains: Duration,
}

impl Calibration {
    pub(crate) fn new() -> Self {
        let mut calibration = Self { one_chain: Duration::MAX, eight_chains: Duration::MAX };
        for _ in 0..100 {
            calibration.run();
        }
        calibration
    }

    /// Runs both loops, and gives the larger of their times, each divided by its fastest time.
    pub(crate) fn run(&mut self) -> f64 {
        slowdown(one_chain, &mut self.one_chain).max(slowdown(eight_chains, &mut self.eight_chains))
    }
}

fn slowdown(work: fn(), fastest: &mut Duration) -> f64 {
    let start = Instant::now();
    work();
    let took = start.elapsed();
    *fastest = took.min(*fastest);
    took.as_secs_f64() / fastest.as_secs_f64()
}

/// Each step waits for the one before. This loop is slow if another program has the CPU itself.
fn one_chain() {
    let mut state = 1;
    for number in 0..STEPS {
        state = black_box(step(state, number));
    }
}

/// The chains do not wait for one another. This loop is also slow if the CPU's sibling works.
fn eight_chains() {
    let mut states: [u64; CHAINS] = black_box(std::array::from_fn(|chain| chain as u64));
    for number in 0..STEPS {
        for state in &mut states {
            *state = step(*state, number);
        }
    }
    black_box(states);
}

const fn step(state: u64, number: u64) -> u64 {
    state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_time_is_the_measure() {
        let mut fastest = Duration::MAX;
        assert_eq!(slowdown(eight_chains, &mut fastest), 1.0);
        assert!(fastest < Duration::from_secs(1));
        fastest = Duration::from_nanos(1);
        assert!(slowdown(eight_chains, &mut fastest) > DISTURBED);
        assert_eq!(fastest, Duration::from_nanos(1));
    }
}
