//! The machine, which the tests of this binary share: one that times something waits until it has
//! it alone.

use std::cell::RefCell;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

static MACHINE: RwLock<()> = RwLock::new(());

thread_local! {
    /// Of the test that runs in this thread.
    static SHARE: RefCell<Option<RwLockReadGuard<'static, ()>>> = const { RefCell::new(None) };
}

/// Keeps others from timing anything until this thread ends. Whatever starts a process, or works
/// for long, asks for it.
///
/// Not for a thread of a test that has the machine alone.
pub(crate) fn share() {
    SHARE.with_borrow_mut(|share| {
        share.get_or_insert_with(|| MACHINE.read().unwrap_or_else(PoisonError::into_inner));
    });
}

/// Until this is dropped no other test is under way.
#[must_use]
pub(crate) struct Alone(Option<RwLockWriteGuard<'static, ()>>);

/// Waits until every other test has ended, or waits for the same.
pub(crate) fn alone() -> Alone {
    SHARE.take(); // two that kept theirs would wait for each other
    Alone(Some(MACHINE.write().unwrap_or_else(PoisonError::into_inner)))
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.0.take();
        if !std::thread::panicking() {
            share();
        }
    }
}
