//! The line of one client: those of its connections that wait for a turn, in the order in which
//! they came.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::Waker;

#[derive(Debug)]
pub(super) struct Line {
    pub(super) is_operators: bool,
    /// By number: those whose bytes are counted already, and those whose are not.
    going_on: RefCell<BTreeMap<u64, Rc<Waiter>>>,
    beginning: RefCell<BTreeMap<u64, Rc<Waiter>>>,
    /// Bytes of all its connections.
    pub(super) held: Cell<usize>,
    /// In the round; `None` where it is in none.
    pub(super) number: Cell<Option<u64>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    Called,
    Waiting,
}

/// One that waits.
#[derive(Debug)]
pub(super) struct Waiter {
    number: u64,
    pub(super) begins: bool,
    /// The number its line had in the round when it was called.
    pub(super) called_at: Cell<Option<u64>>,
    state: Cell<State>,
    waker: RefCell<Option<Waker>>,
}

impl Line {
    pub(super) fn new(is_operators: bool) -> Self {
        Self {
            is_operators,
            going_on: RefCell::default(),
            beginning: RefCell::default(),
            held: Cell::new(0),
            number: Cell::new(None),
        }
    }

    /// True where somebody waits who may go on now; nobody begins while `most` bytes are held.
    pub(super) fn may_be_called(&self, most: usize) -> bool {
        !self.going_on.borrow().is_empty()
            || (self.held.get() < most && !self.beginning.borrow().is_empty())
    }

    /// Calls the next, in the round of which the line is taken out.
    pub(super) fn call(&self, most: usize) {
        let number = self.number.take();
        let next = self.next(most);
        if let Some(waiter) = next {
            waiter.state.set(State::Called);
            waiter.called_at.set(number);
            waiter.waker.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Takes out the first that came. While `most` bytes are held, none of those who begin: the
    /// others give bytes back.
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
        waiter.state.set(State::Waiting);
        self.waiters(waiter).borrow_mut().insert(waiter.number, Rc::clone(waiter));
    }

    pub(super) fn leave(&self, waiter: &Waiter) {
        if waiter.state.get() == State::Waiting {
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
            state: Cell::new(State::Waiting),
            waker: RefCell::default(),
        }
    }

    pub(super) fn state(&self) -> State {
        self.state.get()
    }

    /// Whom to wake when it is called.
    pub(super) fn wakes(&self, waker: &Waker) {
        let mut own = self.waker.borrow_mut();
        match &mut *own {
            Some(known) => known.clone_from(waker),
            None => *own = Some(waker.clone()),
        }
    }
}
