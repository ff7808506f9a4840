//! Measures all subjects in turns, pinned and not pinned, and repeats a turn if something else took
//! the CPU.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::process::{self, Process};

/// Something that can be asked to work for a while.
pub(crate) trait Subject {
    fn name(&self) -> &str;

    /// Every process that takes part, without the driver. The driver asks before each turn,
    /// because peers start helpers in between.
    fn processes(&self) -> Vec<Process>;

    /// Works for `time`, and gives the latencies in nanoseconds.
    fn work(&mut self, time: Duration) -> anyhow::Result<Histogram<u64>>;
}

/// The number and the length of the turns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    rounds: u32,
    turn: Duration,
    /// Most times that a disturbed turn is repeated.
    again: u32,
}

impl Plan {
    pub(crate) const SHORT: Self = Self { rounds: 5, turn: Duration::from_millis(120), again: 2 };
    pub(crate) const LONG: Self = Self { rounds: 12, turn: Duration::from_millis(600), again: 3 };
}

/// The measurements of one subject, pinned to one CPU or not.
#[derive(Debug)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) pinned: bool,
    pub(crate) latencies: Histogram<u64>,
    pub(crate) time: Duration,
    /// Nanoseconds of CPU by role.
    pub(crate) cpu_ns: BTreeMap<&'static str, u64>,
    pub(crate) turns: u32,
    /// Turns that were disturbed in all their repetitions.
    pub(crate) disturbed: u32,
}

struct Turn {
    latencies: Histogram<u64>,
    time: Duration,
    cpu_ns: Vec<(&'static str, u64)>,
    /// The larger of two numbers: the time of the calibration loops around the turn, divided by
    /// that of the fastest loop; and one plus the share of the CPUs that other processes took
    /// during the turn.
    slowdown: f64,
}

const PINNED_TO: usize = 0;
/// The kernel counts the time of all CPUs in steps of this length.
const TICK_NS: u64 = 10_000_000;
/// A turn with a larger slowdown is disturbed: the CPU was not ours alone.
const DISTURBED: f64 = 1.15;

/// A new histogram of nanoseconds: three digits, up to a minute.
pub(crate) fn histogram() -> Histogram<u64> {
    // Fails for other bounds only.
    #[allow(clippy::expect_used)]
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("valid bounds")
}

pub(crate) fn rounds(plan: Plan, subjects: &mut [Box<dyn Subject>]) -> anyhow::Result<Vec<Figure>> {
    let mut calibration = Calibration::new();
    let mut figures: Vec<Figure> = Vec::new();
    for round in 0..plan.rounds {
        eprintln!("round {} of {}", round + 1, plan.rounds);
        for (place, subject) in subjects.iter_mut().enumerate() {
            for pinned in [true, false] {
                let turn = best_turn(plan, subject.as_mut(), pinned, &mut calibration)?;
                let place = 2 * place + usize::from(!pinned);
                if round == 0 {
                    figures.insert(place, Figure::new(subject.name(), pinned));
                }
                figures[place].add(turn);
            }
        }
    }
    Ok(figures)
}

/// The first undisturbed turn, or the least disturbed one.
fn best_turn(
    plan: Plan,
    subject: &mut dyn Subject,
    pinned: bool,
    calibration: &mut Calibration,
) -> anyhow::Result<Turn> {
    let mut best = turn(plan.turn, subject, pinned, calibration)?;
    for _ in 0..plan.again {
        if best.slowdown <= DISTURBED {
            break;
        }
        let next = turn(plan.turn, subject, pinned, calibration)?;
        if next.slowdown < best.slowdown {
            best = next;
        }
    }
    Ok(best)
}

fn turn(
    time: Duration,
    subject: &mut dyn Subject,
    pinned: bool,
    calibration: &mut Calibration,
) -> anyhow::Result<Turn> {
    let mut processes = subject.processes();
    processes.push(Process::this());
    processes.iter().for_each(|process| process.pin(pinned.then_some(PINNED_TO)));
    let slow_before = calibration.run();
    let before: Vec<u64> = processes.iter().map(Process::cpu_ns).collect();
    let (start, busy_before) = (Instant::now(), process::busy_ns());
    let latencies = subject.work(time)?;
    let (time, busy) = (start.elapsed(), process::busy_ns() - busy_before);
    let spent = processes
        .iter()
        .zip(before)
        .map(|(process, before)| (process.role, process.cpu_ns() - before));
    let cpu_ns: Vec<_> = spent.collect();
    let ours: u64 = cpu_ns.iter().map(|(_, spent)| spent).sum();
    let others = busy.saturating_sub(ours + TICK_NS) as f64 / time.as_nanos() as f64;
    let slowdown = slow_before.max(calibration.run()).max(1.0 + others);
    Ok(Turn { latencies, time, cpu_ns, slowdown })
}

impl Figure {
    fn new(name: &str, pinned: bool) -> Self {
        Self {
            name: name.to_owned(),
            pinned,
            latencies: histogram(),
            time: Duration::ZERO,
            cpu_ns: BTreeMap::new(),
            turns: 0,
            disturbed: 0,
        }
    }

    fn add(&mut self, turn: Turn) {
        self.latencies += turn.latencies;
        self.time += turn.time;
        for (role, spent) in turn.cpu_ns {
            *self.cpu_ns.entry(role).or_default() += spent;
        }
        self.turns += 1;
        self.disturbed += u32::from(turn.slowdown > DISTURBED);
    }

    pub(crate) fn microseconds(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1000.0
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.time.as_secs_f64()
    }

    /// Microseconds of CPU for one request, by role.
    pub(crate) fn cpu_per_request(&self) -> BTreeMap<&'static str, f64> {
        let requests = self.latencies.len().max(1) as f64;
        self.cpu_ns.iter().map(|(role, spent)| (*role, *spent as f64 / 1000.0 / requests)).collect()
    }
}

/// A loop that always takes the same time on a CPU that is ours alone.
struct Calibration {
    fastest: Duration,
}

impl Calibration {
    fn new() -> Self {
        let mut calibration = Self { fastest: Duration::MAX };
        for _ in 0..100 {
            calibration.run();
        }
        calibration
    }

    /// Runs the loop, and gives its time divided by the fastest time so far.
    fn run(&mut self) -> f64 {
        let start = Instant::now();
        let mut state = 1_u64;
        for step in 0..1_500_000_u64 {
            state = black_box(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step));
        }
        let took = start.elapsed();
        self.fastest = self.fastest.min(took);
        took.as_secs_f64() / self.fastest.as_secs_f64()
    }
}
