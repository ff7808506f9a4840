//! Measures all subjects in turns, pinned and not pinned, and repeats a turn if something else took
//! the CPU.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::calibration::{Calibration, DISTURBED};
use crate::process::{self, Process};
use crate::ratio::{Point, Series};

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
    pub(crate) const SHORT: Self = Self { rounds: 5, turn: Duration::from_millis(90), again: 2 };
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
    pub(crate) rounds: Vec<Round>,
}

/// The turn that counts in a round.
#[derive(Debug)]
pub(crate) struct Round {
    p50_us: f64,
    per_second: f64,
    /// It was disturbed in all its repetitions.
    disturbed: bool,
}

struct Turn {
    latencies: Histogram<u64>,
    time: Duration,
    cpu_ns: Vec<(&'static str, u64)>,
    /// The larger of two numbers: the slowdown that calibration saw before or after the turn; and
    /// one plus the share of the CPUs that other processes took
    /// during the turn.
    slowdown: f64,
}

const PINNED_TO: usize = 0;
/// The kernel counts the time of all CPUs in steps of this length.
const TICK_NS: u64 = 10_000_000;

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
            rounds: Vec::new(),
        }
    }

    fn add(&mut self, turn: Turn) {
        self.rounds.push(Round {
            p50_us: microseconds(&turn.latencies, 0.5),
            per_second: turn.latencies.len() as f64 / turn.time.as_secs_f64(),
            disturbed: turn.slowdown > DISTURBED,
        });
        self.latencies += turn.latencies;
        self.time += turn.time;
        for (role, spent) in turn.cpu_ns {
            *self.cpu_ns.entry(role).or_default() += spent;
        }
    }

    pub(crate) fn microseconds(&self, quantile: f64) -> f64 {
        microseconds(&self.latencies, quantile)
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.time.as_secs_f64()
    }

    /// Microseconds of CPU for one request, by role.
    pub(crate) fn cpu_per_request(&self) -> BTreeMap<&'static str, f64> {
        let requests = self.latencies.len().max(1) as f64;
        self.cpu_ns.iter().map(|(role, spent)| (*role, *spent as f64 / 1000.0 / requests)).collect()
    }

    /// Rounds whose turn stayed disturbed.
    pub(crate) fn disturbed(&self) -> usize {
        self.rounds.iter().filter(|round| round.disturbed).count()
    }

    pub(crate) fn p50s(&self) -> Series {
        self.series(|round| round.p50_us)
    }

    pub(crate) fn rates(&self) -> Series {
        self.series(|round| round.per_second)
    }

    fn series(&self, value: fn(&Round) -> f64) -> Series {
        let point = |round: &Round| Point { value: value(round), disturbed: round.disturbed };
        Series::new(self.rounds.iter().map(point))
    }
}

fn microseconds(latencies: &Histogram<u64>, quantile: f64) -> f64 {
    latencies.value_at_quantile(quantile) as f64 / 1000.0
}
