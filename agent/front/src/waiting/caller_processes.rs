//! Finds the names of a caller's process and its ancestors.

/// Names of a process and of the processes that started it, as far as they can be read. The process
/// may be gone, and another one may have its pid.
pub(crate) fn caller_processes(pid: Option<u32>) -> Vec<String> {
    const MOST_PROCESSES: usize = 8;
    let parent = |process: &Option<(String, u32)>| {
        process.as_ref().and_then(|(_, parent)| process_of(*parent))
    };
    std::iter::successors(Some(pid.and_then(process_of)), |process| {
        process.is_some().then(|| parent(process))
    })
    .flatten()
    .take(MOST_PROCESSES)
    .map(|(name, _)| name)
    .collect()
}

/// Name and parent of a process, from proc_pid_stat(5). The name is in parentheses and may itself
/// contain parentheses.
fn process_of(pid: u32) -> Option<(String, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (before, after) = stat.rsplit_once(')')?;
    let name = before.split_once('(')?.1;
    let parent = after.split_whitespace().nth(1)?.parse().ok().filter(|parent| *parent > 0)?;
    let printable = name.chars().map(|letter| if letter.is_ascii_graphic() { letter } else { '?' });
    Some((printable.collect(), parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_begins_with_the_process_itself() {
        let names = caller_processes(Some(std::process::id()));
        assert!(names.len() > 1, "{names:?}");
        assert_eq!(caller_processes(None), Vec::<String>::new());
        assert_eq!(caller_processes(Some(u32::MAX)), Vec::<String>::new());
    }
}
