//! Buffers that serve one connection after the other, so that an idle one costs none.

use std::cell::RefCell;

/// One to read into and one to write from are all that is in use, but for peers that do not read.
const KEPT: usize = 4;
const LARGEST: usize = 32 * 1024;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer, with room for as much as its last user needed.
pub(crate) fn take() -> Vec<u8> {
    SPARE.with_borrow_mut(|spare| spare.pop().unwrap_or_default())
}

/// Keeps a buffer for the next user, or frees it.
pub(crate) fn give(mut buffer: Vec<u8>) {
    buffer.clear();
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < KEPT && (1..=LARGEST).contains(&buffer.capacity()) {
            spare.push(buffer);
        }
    });
}
