//! Keeps buffers that connections use in turn, so that an idle connection has none.

use std::cell::RefCell;

/// Most buffers that are kept. Usually one is read into and one is written from. More are in use
/// only for peers that do not read.
const MOST_SPARE_BUFFERS: usize = 4;
const LARGEST_SPARE_BUFFER: usize = 32 * 1024;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer, with the capacity that its last user needed.
pub(crate) fn take() -> Vec<u8> {
    SPARE.with_borrow_mut(|spare| spare.pop().unwrap_or_default())
}

/// Keeps a buffer for the next user, or frees it.
pub(crate) fn give(mut buffer: Vec<u8>) {
    buffer.clear();
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < MOST_SPARE_BUFFERS
            && (1..=LARGEST_SPARE_BUFFER).contains(&buffer.capacity())
        {
            spare.push(buffer);
        }
    });
}
