//! Memory for a PIN or secret. It is locked in RAM, kept out of core dumps and forks, and wiped
//! when dropped.

use std::io;
use std::ptr::NonNull;

use rustix::mm::{self, Advice, MapFlags, ProtFlags};
use zeroize::Zeroize;

/// A fixed number of bytes in pages of their own; the filled part grows by
/// [`LockedMemory::advance`] and never moves.
pub struct LockedMemory {
    start: NonNull<u8>,
    capacity: usize,
    filled: usize,
}

// SAFETY: the pages belong to this value alone; nothing in it is bound to the thread that made it.
unsafe impl Send for LockedMemory {}

impl LockedMemory {
    /// Fails if the process may not lock that much memory (RLIMIT_MEMLOCK).
    pub fn with_capacity(bytes: usize) -> io::Result<Self> {
        let page = rustix::param::page_size();
        let capacity = bytes.max(1).next_multiple_of(page);
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice overlaps nothing.
        let address = unsafe {
            mm::mmap_anonymous(
                std::ptr::null_mut(),
                capacity,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )?
        };
        let start = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let memory = Self { start, capacity, filled: 0 };
        // SAFETY: both calls name exactly the pages mapped above; neither advice changes what a
        // live process reads.
        unsafe {
            mm::mlock(address, capacity)?;
            mm::madvise(address, capacity, Advice::LinuxDontDump)?;
            mm::madvise(address, capacity, Advice::LinuxWipeOnFork)?;
        }
        Ok(memory)
    }

    /// The bytes filled so far.
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: the mapping is readable, `filled` never exceeds it, and fresh anonymous pages are
        // zero.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.filled) }
    }

    /// The bytes not filled yet, to read into.
    pub fn spare(&mut self) -> &mut [u8] {
        // SAFETY: the range lies inside the mapping, which `self` owns and lends out mutably here.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.start.as_ptr().add(self.filled),
                self.capacity - self.filled,
            )
        }
    }

    /// Counts `bytes` bytes of [`LockedMemory::spare`] as filled, at most all of them.
    pub fn advance(&mut self, bytes: usize) {
        self.filled = self.capacity.min(self.filled + bytes);
    }

    /// Drops and wipes everything from `length` on.
    pub fn truncate(&mut self, length: usize) {
        self.filled = self.filled.min(length);
        self.spare().zeroize();
    }

    /// Appends the bytes, or returns false if they do not fit.
    #[must_use]
    pub fn append(&mut self, bytes: &[u8]) -> bool {
        let Some(target) = self.spare().get_mut(..bytes.len()) else { return false };
        target.copy_from_slice(bytes);
        self.filled += bytes.len();
        true
    }
}

impl Drop for LockedMemory {
    fn drop(&mut self) {
        self.truncate(0);
        // SAFETY: the mapping was made by `with_capacity`, and no borrow of it can outlive `self`.
        // A failure leaves wiped pages mapped, which nobody can be told about here.
        let _ = unsafe { mm::munmap(self.start.as_ptr().cast(), self.capacity) };
    }
}

impl std::fmt::Debug for LockedMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LockedMemory([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_truncates_and_wipes() {
        let mut memory = LockedMemory::with_capacity(10).expect("one page can be locked");
        assert!(memory.append(b"1234\n"));
        memory.truncate(4);
        assert_eq!(memory.as_bytes(), b"1234");
        assert_eq!(memory.spare()[0], 0, "what was cut off is wiped");
        let capacity = memory.spare().len();
        assert!(!memory.append(&vec![1; capacity + 1]));
        assert_eq!(format!("{memory:?}"), "LockedMemory([redacted])");
    }

    #[test]
    fn is_locked_and_left_out_of_dumps() {
        let memory = LockedMemory::with_capacity(1).expect("one page can be locked");
        let address = format!("{:x}-", memory.start.as_ptr() as usize);
        let maps = std::fs::read_to_string("/proc/self/smaps").expect("readable");
        let entry = maps.split(&address).nth(1).expect("the page starts a mapping of its own");
        let flags = entry.lines().find(|line| line.starts_with("VmFlags")).expect("has flags");
        for flag in [" lo", " dd", " wf"] {
            assert!(flags.contains(flag), "{flag} in {flags}");
        }
    }
}
