//! Gives out turns: the front's one thread takes one message of each client in rounds, the operator
//! first.
//!
//! A message is begun at once if nobody waits and the thread looked at its sockets a moment ago.
//! All other messages wait in the line of their client. Turns are given out in rounds, and between
//! two rounds the thread looks at all sockets. So a client waits for one message of each other
//! client, even if these have many connections. A request that waits for its token holds no turn.

mod line;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use line::{ClientLine, Waiter, WaiterState};

/// The party that the work of a message is counted for.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Party {
    Client(String),
    Operator,
    /// A caller that is not a client.
    Uid(Option<u32>),
}

/// Most bytes under way on all connections of a client. Beyond that nothing more is begun for it.
const MOST_HELD: usize = 4 << 20;
/// Time for which the thread begins messages before it looks at its sockets again.
const ROUND: Duration = Duration::from_micros(250);
/// Most turns in a round. Messages for which no time is left keep their places in line.
const MOST_CALLED: usize = 32;

thread_local! {
    /// The last time that the thread looked at its sockets.
    static LOOKED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The runtime calls this each time its thread has waited for its sockets.
pub fn looked_at_sockets() {
    LOOKED.set(Some(Instant::now()));
}

fn is_time_left() -> bool {
    LOOKED.get().is_some_and(|looked| looked.elapsed() < ROUND)
}

/// The lines of all clients.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    lines: RefCell<HashMap<Party, Weak<ClientLine>>>,
    /// Lines in which a message waits, by their numbers in the round. The operator's line is kept
    /// apart.
    round: RefCell<BTreeMap<u64, Rc<ClientLine>>>,
    operators: RefCell<Option<Rc<ClientLine>>>,
    /// True if the last turn was the operator's. So an operator that reads the journal does not
    /// keep others from working.
    was_operators: Cell<bool>,
    /// True while a task gives out turns.
    calling: Cell<bool>,
    /// True while nobody has had a turn in this round. Then one message is begun even if other work
    /// took all the time.
    fresh: Cell<bool>,
    last_number: Cell<u64>,
}

impl Turns {
    /// A place in the party's line for one connection.
    pub(crate) fn seat(self: &Rc<Self>, party: &Party) -> Seat {
        let mut lines = self.lines.borrow_mut();
        let line = lines.get(party).and_then(Weak::upgrade).unwrap_or_else(|| {
            lines.retain(|_, line| line.strong_count() > 0);
            let line = Rc::new(ClientLine::new(*party == Party::Operator));
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

    /// Puts a line into the round, at its end or at `number`, if one of its messages may be called.
    fn join(self: &Rc<Self>, line: &Rc<ClientLine>, number: Option<u64>) {
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

    /// Gives out turns until nobody waits. After this task yields, the runtime runs it again once
    /// every other task had its turn and the thread has looked at the sockets.
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

    /// The operator's line is next, unless it had the last turn.
    fn next_line(&self, after_operator: bool) -> Option<Rc<ClientLine>> {
        if !after_operator && let Some(line) = self.operators.take() {
            return Some(line);
        }
        let next = self.round.borrow_mut().pop_first();
        next.map(|(_, line)| line).or_else(|| self.operators.take())
    }
}

/// One connection's place in the line of its client.
#[derive(Debug)]
pub(crate) struct Seat {
    turns: Rc<Turns>,
    line: Rc<ClientLine>,
    /// Bytes that this connection holds of those that its client may have under way.
    held: Cell<usize>,
}

impl Seat {
    /// True if a message may be begun without waiting. `begins` is true if its bytes are not
    /// counted yet.
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

    /// Waits for a turn of a request that has begun already.
    pub(crate) async fn turn(&self) {
        if !self.may_begin_at_once(false) {
            self.wait(false).called().await;
        }
    }

    /// True while its client has as many bytes under way as it may have.
    pub(crate) fn is_share_taken(&self) -> bool {
        self.line.held.get() >= MOST_HELD
    }

    /// Sets the number of bytes that the connection holds.
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

/// A waiting message's place in a line. It is given up on drop.
#[derive(Debug)]
pub(crate) struct Ticket {
    turns: Rc<Turns>,
    line: Rc<ClientLine>,
    waiter: Rc<Waiter>,
}

impl Ticket {
    /// Waits for the turn, which lasts until the caller's next wait.
    pub(crate) async fn called(&self) {
        poll_fn(|context| self.poll_called(context)).await;
    }

    fn poll_called(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.waiter.state() == WaiterState::Called {
            let has_room = !self.waiter.begins || self.line.held.get() < MOST_HELD;
            let is_first = has_room && self.turns.fresh.take();
            if is_first {
                // time that earlier answers took is not taken from this round
                looked_at_sockets();
            }
            if is_first || (has_room && is_time_left()) {
                self.turns.was_operators.set(self.line.is_operators);
                return Poll::Ready(());
            }
            // No time was left: the line gets back its place in the round.
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
