//! Keeps the line of one client: its messages that wait for a turn, in the order in which they
//! came.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::Waker;

#[derive(Debug)]
pub(super) struct ClientLine {
    pub(super) is_operators: bool,
    /// Waiters by number. If a waiter's request is under way (`going_on`), its bytes are counted
    /// already. The bytes of a message that begins are not counted yet.
    going_on: RefCell<BTreeMap<u64, Rc<Waiter>>>,
    beginning: RefCell<BTreeMap<u64, Rc<Waiter>>>,
    /// Bytes that all connections of the client hold.
    pub(super) held: Cell<usize>,
    /// Its number in the round; `None` if it is not in the round.
    pub(super) number: Cell<Option<u64>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum WaiterState {
    Called,
    Waiting,
}

/// One message or request that waits for a turn.
#[derive(Debug)]
pub(super) struct Waiter {
    number: u64,
    pub(super) begins: bool,
    /// The number that its line had in the round when this was called.
    pub(super) called_at: Cell<Option<u64>>,
    state: Cell<WaiterState>,
    waker: RefCell<Option<Waker>>,
}

impl ClientLine {
    pub(super) fn new(is_operators: bool) -> Self {
        Self {
            is_operators,
            going_on: RefCell::default(),
            beginning: RefCell::default(),
            held: Cell::new(0),
            number: Cell::new(None),
        }
    }

    /// True if a waiter may be called now. No message begins while `most` bytes are held.
    pub(super) fn may_be_called(&self, most: usize) -> bool {
        !self.going_on.borrow().is_empty()
            || (self.held.get() < most && !self.beginning.borrow().is_empty())
    }

    /// Calls the next waiter. The line must have been taken out of the round.
    pub(super) fn call(&self, most: usize) {
        let number = self.number.take();
        let next = self.next(most);
        if let Some(waiter) = next {
            waiter.state.set(WaiterState::Called);
            waiter.called_at.set(number);
            waiter.waker.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Takes out the waiter that came first. If the client holds `most` bytes, only a waiter whose
    /// request is under way is taken: it frees bytes.
    fn next(&self, most: usize) -> Option<Rc<Waiter>> {
        let (mut going_on, mut beginning) =
            (self.going_on.borrow_mut(), self.beginning.borrow_mut());
        let came =
            |waiters: &BTreeMap<u64, _>| waiters.first_key_value().map(|(number, _)| *number);
        let begins = self.held.get() < most
            && came(&beginning)
                .is_some_and(|begins| came(&going_on).is_none_or(|goes_on| begins < goes_on));
        let next = if begins { beginning.pop_first() } else { going_on.pop_first() };
        next.map(|(_, waiter)| waiter)
    }

    pub(super) fn push(&self, waiter: &Rc<Waiter>) {
        waiter.state.set(WaiterState::Waiting);
        self.waiters(waiter).borrow_mut().insert(waiter.number, Rc::clone(waiter));
    }

    pub(super) fn leave(&self, waiter: &Waiter) {
        if waiter.state.get() == WaiterState::Waiting {
            self.waiters(waiter).borrow_mut().remove(&waiter.number);
        }
    }

    fn waiters(&self, waiter: &Waiter) -> &RefCell<BTreeMap<u64, Rc<Waiter>>> {
        if waiter.begins { &self.beginning } else { &self.going_on }
    }
}

impl Waiter {
    pub(super) fn new(number: u64, begins: bool) -> Self {
        Self {
            number,
            begins,
            called_at: Cell::new(None),
            state: Cell::new(WaiterState::Waiting),
            waker: RefCell::default(),
        }
    }

    pub(super) fn state(&self) -> WaiterState {
        self.state.get()
    }

    /// Sets the task to wake when this is called.
    pub(super) fn wakes(&self, waker: &Waker) {
        let mut own = self.waker.borrow_mut();
        match &mut *own {
            Some(known) => known.clone_from(waker),
            None => *own = Some(waker.clone()),
        }
    }
}
