//! The figures as a table for people and as JSON for programs.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::fs;

use serde::Serialize;

use crate::Beside;
use crate::agent::Memory;
use crate::bars::{Bar, bars};
use crate::measure::Figure;
use crate::micro::Step;
use crate::ratio::Ratio;

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    v: u32,
    machine: String,
    rows: Vec<Row>,
    steps: Vec<Step>,
    /// Absent if only some rows were asked for.
    memory: Option<Memory>,
    bars: Vec<Bar>,
    /// Rows of builds beside the agent, by the agent's.
    beside: Vec<Comparison>,
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
    turns: usize,
    disturbed_turns: usize,
}

impl Report {
    pub(crate) fn new(
        figures: Vec<Figure>,
        steps: Vec<Step>,
        memory: Option<Memory>,
        beside: &[Beside],
        left_out: Vec<&'static str>,
    ) -> Self {
        let cpu_info = read("/proc/cpuinfo");
        let bars = bars(&figures, &steps, memory.as_ref(), has_sha(&cpu_info));
        let rows = figures.iter().map(Row::of).collect();
        let beside = comparisons(&figures, beside);
        Self { v: 1, machine: machine(&cpu_info), rows, steps, memory, bars, beside, left_out }
    }
}

/// A row of a build beside the agent by the same row of the agent.
#[derive(Debug, Serialize)]
struct Comparison {
    name: String,
    pinned: bool,
    p50: Ratio,
    per_second: Ratio,
}

fn comparisons(figures: &[Figure], beside: &[Beside]) -> Vec<Comparison> {
    let compare = |other: &Figure| {
        let name = beside.iter().find_map(|build| build.agent_row(&other.name))?;
        let same = |agent: &&Figure| agent.name == name && agent.pinned == other.pinned;
        let agent = figures.iter().find(same)?;
        Some(Comparison {
            name: other.name.clone(),
            pinned: other.pinned,
            p50: other.p50s().by(&agent.p50s()),
            per_second: other.rates().by(&agent.rates()),
        })
    };
    figures.iter().filter_map(compare).collect()
}

impl Display for Comparison {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { name, pinned, p50, per_second } = self;
        let cpu = cpu(*pinned);
        write!(f, "{name}, {cpu} CPU, by the agent's: p50 {:.2} ({p50}), ", p50.median)?;
        write!(f, "requests/s {:.2} ({per_second})", per_second.median)
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
            turns: figure.rounds.len(),
            disturbed_turns: figure.disturbed(),
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
        self.beside.iter().try_for_each(|row| writeln!(f, "{row}"))?;
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
        write!(
            f,
            "| {} | {} | {:.1} | {:.1} | {:.0} | ",
            self.name,
            cpu(self.pinned),
            self.p50_us,
            self.p99_us,
            self.per_second
        )?;
        let cpu: Vec<_> = self
            .cpu_us_per_request
            .iter()
            .map(|(role, spent)| format!("{role} {spent:.1}"))
            .collect();
        write!(f, "{} | {} of {} |", cpu.join(", "), self.disturbed_turns, self.turns)
    }
}

const fn cpu(pinned: bool) -> &'static str {
    if pinned { "one" } else { "any" }
}

/// Processor, number of CPUs, kernel, and the load average of the machine.
fn machine(cpu_info: &str) -> String {
    let model = cpu_info
        .lines()
        .find_map(|line| line.strip_prefix("model name\t: "))
        .unwrap_or("unknown processor");
    let cpus = cpu_info.matches("processor\t:").count();
    let sha = if has_sha(cpu_info) { "with" } else { "without" };
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("?");
    format!(
        "{model}, {cpus} CPUs, {sha} instructions for SHA-256, Linux {}, load average {load}",
        read("/proc/sys/kernel/osrelease").trim()
    )
}

/// A processor names such instructions among its flags (x86) or features (ARM).
fn has_sha(cpu_info: &str) -> bool {
    cpu_info.split_whitespace().any(|flag| matches!(flag, "sha_ni" | "sha2"))
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_for_sha_256_are_a_word_of_their_own() {
        assert!(has_sha("flags\t\t: aes sha_ni xsaves"));
        assert!(has_sha("Features\t: fp asimd sha2"));
        assert!(!has_sha("Features\t: sha1 sha512\nflags\t: sse2"));
    }
}
