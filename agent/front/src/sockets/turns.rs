//! Whose turn it is: the front's one thread goes round by client, one message each, the operator
//! first.
//!
//! A message is begun at once while nobody waits and the thread has looked at its sockets a moment
//! ago. All others wait in the line of their client. Turns are given out in rounds, and between two
//! rounds the thread looks at all sockets: so a client waits for as many messages as there are
//! other clients, however many connections these have. A request that waits for its token holds no
//! turn.

mod line;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use line::{Line, State, Waiter};

/// Whom a message's work is counted for.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Party {
    Client(String),
    Operator,
    /// A caller that is no client.
    Uid(Option<u32>),
}

/// Bytes under way on all connections of a client beyond which nothing more is begun for it.
const MOST_HELD: usize = 4 << 20;
/// For how long the thread begins messages before it looks at its sockets again.
const ROUND: Duration = Duration::from_micros(250);
/// How many turns a round has at most. Those for which no time is left keep their places in line.
const MOST_CALLED: usize = 32;

thread_local! {
    /// When the thread last looked at its sockets.
    static LOOKED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// To be called by the runtime whenever its thread has waited for its sockets.
pub fn looked_at_sockets() {
    LOOKED.set(Some(Instant::now()));
}

fn is_time_left() -> bool {
    LOOKED.get().is_some_and(|looked| looked.elapsed() < ROUND)
}

/// The lines of all clients.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    lines: RefCell<HashMap<Party, Weak<Line>>>,
    /// Lines in which somebody waits, by their numbers in the round; the operator's stands apart.
    round: RefCell<BTreeMap<u64, Rc<Line>>>,
    operators: RefCell<Option<Rc<Line>>>,
    /// The last turn was the operator's: who reads the journal keeps nobody else from working.
    was_operators: Cell<bool>,
    /// A task gives out turns.
    calling: Cell<bool>,
    /// Nobody has had a turn in this round: one gets through, whatever else took its time.
    fresh: Cell<bool>,
    last_number: Cell<u64>,
}

impl Turns {
    /// A place in the party's line for one connection.
    pub(crate) fn seat(self: &Rc<Self>, party: &Party) -> Seat {
        let mut lines = self.lines.borrow_mut();
        let line = lines.get(party).and_then(Weak::upgrade).unwrap_or_else(|| {
            lines.retain(|_, line| line.strong_count() > 0);
            let line = Rc::new(Line::new(*party == Party::Operator));
            lines.insert(party.clone(), Rc::downgrade(&line));
            line
        });
        Seat { turns: Rc::clone(self), line, held: Cell::new(0) }
    }

    fn nobody_waits(&self) -> bool {
        self.round.borrow().is_empty() && self.operators.borrow().is_none()
    }

    fn number(&self) -> u64 {
        self.last_number.set(self.last_number.get() + 1);
        self.last_number.get()
    }

    /// Puts a line where one may be called into the round: at its end, or at `number`.
    fn join(self: &Rc<Self>, line: &Rc<Line>, number: Option<u64>) {
        if !line.may_be_called(MOST_HELD) {
            return;
        }
        if line.is_operators {
            self.operators.replace(Some(Rc::clone(line)));
        } else {
            let mut round = self.round.borrow_mut();
            let number = match (line.number.get(), number) {
                (Some(now), Some(earlier)) if earlier < now => {
                    round.remove(&now);
                    earlier
                }
                (Some(_), _) => return,
                (None, number) => number.unwrap_or_else(|| self.number()),
            };
            line.number.set(Some(number));
            round.insert(number, Rc::clone(line));
        }
        if !self.calling.replace(true) {
            tokio::task::spawn_local(Rc::clone(self).call());
        }
    }

    /// Gives out turns until nobody waits. The runtime wakes a task that yields once every other
    /// task had its turn and the thread has looked at the sockets.
    async fn call(self: Rc<Self>) {
        while !self.nobody_waits() {
            tokio::task::yield_now().await;
            looked_at_sockets();
            self.fresh.set(true);
            let mut after_operator = self.was_operators.get();
            for _ in 0..MOST_CALLED {
                let Some(line) = self.next_line(after_operator) else { break };
                after_operator = line.is_operators;
                line.call(MOST_HELD);
                self.join(&line, None);
            }
        }
        self.calling.set(false);
    }

    /// The operator's line, but where it had the last turn.
    fn next_line(&self, after_operator: bool) -> Option<Rc<Line>> {
        if !after_operator && let Some(line) = self.operators.take() {
            return Some(line);
        }
        let next = self.round.borrow_mut().pop_first();
        next.map(|(_, line)| line).or_else(|| self.operators.take())
    }
}

/// One connection's place among those of its client.
#[derive(Debug)]
pub(crate) struct Seat {
    turns: Rc<Turns>,
    line: Rc<Line>,
    /// What the connection holds of the bytes that its client may have under way.
    held: Cell<usize>,
}

impl Seat {
    /// True where a message may be begun without waiting. `begins`: its bytes are not counted yet.
    pub(crate) fn may_begin_at_once(&self, begins: bool) -> bool {
        self.turns.nobody_waits() && (!begins || self.line.held.get() < MOST_HELD) && is_time_left()
    }

    /// Takes a place at the end of the line.
    pub(crate) fn wait(&self, begins: bool) -> Ticket {
        let waiter = Rc::new(Waiter::new(self.turns.number(), begins));
        self.line.push(&waiter);
        self.turns.join(&self.line, None);
        Ticket { turns: Rc::clone(&self.turns), line: Rc::clone(&self.line), waiter }
    }

    /// Waits for a turn for what has begun already.
    pub(crate) async fn turn(&self) {
        if !self.may_begin_at_once(false) {
            self.wait(false).called().await;
        }
    }

    /// True while its client has all under way that it may have.
    pub(crate) fn is_share_taken(&self) -> bool {
        self.line.held.get() >= MOST_HELD
    }

    /// What the connection holds from now on.
    pub(crate) fn holds(&self, bytes: usize) {
        let before = self.held.replace(bytes);
        if before == bytes {
            return;
        }
        self.line.held.set(self.line.held.get() - before + bytes);
        if bytes < before {
            self.turns.join(&self.line, None);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.holds(0);
    }
}

/// A place in a line; given up on drop.
#[derive(Debug)]
pub(crate) struct Ticket {
    turns: Rc<Turns>,
    line: Rc<Line>,
    waiter: Rc<Waiter>,
}

impl Ticket {
    /// Waits for the turn, which lasts until the caller's next wait.
    pub(crate) async fn called(&self) {
        poll_fn(|context| self.poll_called(context)).await;
    }

    fn poll_called(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.waiter.state() == State::Called {
            let has_room = !self.waiter.begins || self.line.held.get() < MOST_HELD;
            let is_first = has_room && self.turns.fresh.take();
            if is_first {
                // answers that were passed on before take nothing from the round
                looked_at_sockets();
            }
            if is_first || (has_room && is_time_left()) {
                self.turns.was_operators.set(self.line.is_operators);
                return Poll::Ready(());
            }
            // No time was left: its line is where it was.
            self.line.push(&self.waiter);
            self.turns.join(&self.line, self.waiter.called_at.get());
        }
        self.waiter.wakes(context.waker());
        Poll::Pending
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.line.leave(&self.waiter);
    }
}

#[cfg(test)]
mod turns_tests;
