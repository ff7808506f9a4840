//! The figures as a table for people and as JSON for programs.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::fs;

use serde::Serialize;

use crate::agent::Memory;
use crate::bars::{Bar, bars};
use crate::measure::Figure;
use crate::micro::Step;

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    v: u32,
    machine: String,
    rows: Vec<Row>,
    steps: Vec<Step>,
    /// Absent if only some rows were asked for.
    memory: Option<Memory>,
    bars: Vec<Bar>,
    /// Peers that were not measured, because this machine does not have them.
    left_out: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    pinned: bool,
    requests: u64,
    p50_us: f64,
    p99_us: f64,
    per_second: f64,
    cpu_us_per_request: BTreeMap<&'static str, f64>,
    turns: u32,
    disturbed_turns: u32,
}

impl Report {
    pub(crate) fn new(
        figures: Vec<Figure>,
        steps: Vec<Step>,
        memory: Option<Memory>,
        left_out: Vec<&'static str>,
    ) -> Self {
        let bars = bars(&figures, &steps, memory.as_ref());
        let rows = figures.iter().map(Row::of).collect();
        Self { v: 1, machine: machine(), rows, steps, memory, bars, left_out }
    }
}

impl Row {
    fn of(figure: &Figure) -> Self {
        Self {
            name: figure.name.clone(),
            pinned: figure.pinned,
            requests: figure.latencies.len(),
            p50_us: figure.microseconds(0.5),
            p99_us: figure.microseconds(0.99),
            per_second: figure.per_second(),
            cpu_us_per_request: figure.cpu_per_request(),
            turns: figure.turns,
            disturbed_turns: figure.disturbed,
        }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.machine)?;
        writeln!(
            f,
            "| what | CPU | p50 µs | p99 µs | requests/s | µs of CPU per request | disturbed |"
        )?;
        writeln!(f, "|---|---|---:|---:|---:|---|---:|")?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{row}"))?;
        writeln!(f)?;
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))?;
        self.memory.iter().try_for_each(|memory| writeln!(f, "\n{memory}\n"))?;
        self.bars.iter().try_for_each(|bar| writeln!(f, "{bar}"))?;
        self.left_out.iter().try_for_each(|peer| writeln!(f, "LEFT OUT, not installed: {peer}"))
    }
}

impl Display for Memory {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            front_kib,
            host_kib,
            idle_connections,
            front_with_idle_kib,
            requests,
            growth_kib,
        } = self;
        write!(
            f,
            "resident: front {front_kib} KiB, token host {host_kib} KiB; front with \
             {idle_connections} idle connections \
             {front_with_idle_kib} KiB; grew {growth_kib} KiB over {requests} requests"
        )
    }
}

impl Display for Row {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let pinned = if self.pinned { "one" } else { "any" };
        write!(
            f,
            "| {} | {pinned} | {:.1} | {:.1} | {:.0} | ",
            self.name, self.p50_us, self.p99_us, self.per_second
        )?;
        let cpu: Vec<_> = self
            .cpu_us_per_request
            .iter()
            .map(|(role, spent)| format!("{role} {spent:.1}"))
            .collect();
        write!(f, "{} | {} of {} |", cpu.join(", "), self.disturbed_turns, self.turns)
    }
}

/// Processor, number of CPUs, kernel, and the load average of the machine.
fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpu_info = read("/proc/cpuinfo");
    let model = cpu_info
        .lines()
        .find_map(|line| line.strip_prefix("model name\t: "))
        .unwrap_or("unknown processor");
    let cpus = cpu_info.matches("processor\t:").count();
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("?");
    format!(
        "{model}, {cpus} CPUs, Linux {}, load average {load}",
        read("/proc/sys/kernel/osrelease").trim()
    )
}
