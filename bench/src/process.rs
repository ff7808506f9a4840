//! Reads the times and the memory of processes from the kernel, and pins processes to a CPU.

use std::fs;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

/// A process that takes part in a measurement.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) role: &'static str,
    pub(crate) pid: u32,
}

impl Process {
    pub(crate) fn this() -> Self {
        Self { role: "driver", pid: std::process::id() }
    }

    /// Time on a CPU of all its threads so far, in nanoseconds; threads that have ended are not
    /// counted.
    pub(crate) fn cpu_ns(&self) -> u64 {
        let spent = |thread: u32| {
            let text =
                fs::read_to_string(format!("/proc/{}/task/{thread}/schedstat", self.pid)).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        };
        threads(self.pid).into_iter().filter_map(spent).sum()
    }

    /// Resident memory in KiB.
    pub(crate) fn rss_kib(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
    }

    /// The processes that its children started and that still run. The agent's front has its token
    /// hosts started by a spawner.
    pub(crate) fn grandchildren(&self, role: &'static str) -> Vec<Self> {
        self.children(role).iter().flat_map(|child| child.children(role)).collect()
    }

    /// The processes that it started and that still run.
    pub(crate) fn children(&self, role: &'static str) -> Vec<Self> {
        let of_thread =
            |thread| fs::read_to_string(format!("/proc/{}/task/{thread}/children", self.pid)).ok();
        let text: String = threads(self.pid).into_iter().filter_map(of_thread).collect();
        text.split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .map(|pid| Self { role, pid })
            .collect()
    }

    /// Lets all its threads run on one CPU, or on every CPU if `cpu` is `None`.
    pub(crate) fn pin(&self, cpu: Option<usize>) {
        let mut set = CpuSet::new();
        let all = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .max(CPUS.with(|cpus| cpus.get()));
        CPUS.with(|cpus| cpus.set(all));
        match cpu {
            Some(cpu) => set.set(cpu),
            None => (0..all).for_each(|cpu| set.set(cpu)),
        }
        for thread in threads(self.pid) {
            // A thread that has just ended needs no CPU.
            let _ = sched_setaffinity(Pid::from_raw(thread as i32), &set);
        }
    }
}

/// Time that all CPUs together have not been idle so far, in nanoseconds; counted in hundredths of
/// a second.
pub(crate) fn busy_ns() -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().and_then(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    // user nice system idle iowait irq softirq steal
    let columns =
        line.split_whitespace().take(8).enumerate().filter(|(column, _)| !matches!(column, 3 | 4));
    columns.filter_map(|(_, ticks)| ticks.parse::<u64>().ok()).sum::<u64>() * 10_000_000
}

thread_local! {
    /// The number of CPUs that was seen before this process itself was pinned.
    static CPUS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

fn threads(pid: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}
