//! The processes of a running agent, as the kernel lists them.

use std::fs;

use super::agent::Agent;

pub(crate) fn children_of(process: i32) -> Vec<i32> {
    let children =
        fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    children.split_whitespace().map(|pid| pid.parse().expect("a pid")).collect()
}

/// The token host of this agent.
pub(crate) fn host_of(agent: &Agent) -> i32 {
    *agent.children().first().expect("a host")
}

/// True if a process that is not a child of the test has ended. The machine's first process may be
/// slow to reap it.
pub(crate) fn is_gone(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.is_empty() || status.contains(") Z ")
}
