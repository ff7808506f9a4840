//! The memory of a process, in which a test looks for secrets.

use std::fs;
use std::io::{Read, Seek, SeekFrom};

/// All readable memory of a process.
pub(crate) fn memory(pid: u32) -> Vec<u8> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
    let mut file = fs::File::open(format!("/proc/{pid}/mem")).expect("memory");
    let mut all = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (start, end) =
            line.split_once(' ').expect("a range").0.split_once('-').expect("two ends");
        let address = |hex: &str| u64::from_str_radix(hex, 16).expect("hex");
        let mut region = vec![0; (address(end) - address(start)) as usize];
        // Some regions of the kernel's cannot be read.
        if file.seek(SeekFrom::Start(address(start))).is_ok()
            && file.read_exact(&mut region).is_ok()
        {
            all.extend_from_slice(&region);
        }
    }
    all
}

pub(crate) fn holds(memory: &[u8], wanted: &[u8]) -> bool {
    memchr::memmem::find(memory, wanted).is_some()
}
