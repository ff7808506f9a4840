//! The machine, which the tests of this binary share. A test that measures times waits until it has
//! the machine alone.

use std::cell::RefCell;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

static MACHINE: RwLock<()> = RwLock::new(());

thread_local! {
    /// The share of the test that runs in this thread.
    static SHARE: RefCell<Option<RwLockReadGuard<'static, ()>>> = const { RefCell::new(None) };
}

/// Keeps other tests from measuring times until this thread ends. Each helper that starts a process
/// or works for long calls it.
///
/// A test that has the machine alone must not call it from its threads.
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
    SHARE.take(); // two tests that kept their shares would wait for each other
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
