//! Each client's share of the places before a token host, so that one that floods makes itself wait
//! and nobody else.
//!
//! A request that comes while others are under way waits for them, in the front and in the host. So
//! a client that is alone may have as many under way as make it fast, and clients that share the
//! agent only as many as the others hardly feel.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Enough for any honest depth of pipelining; a place more only makes the client's own answers wait
/// longer.
const ALONE: usize = 256;
/// Of all clients together, where several ask.
const TOGETHER: usize = 16;
const FEWEST: usize = 2;
/// For so long after its last request a client counts as one that asks.
const RECENT: Duration = Duration::from_secs(1);

/// The places of all clients.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    shares: RefCell<BTreeMap<String, Rc<Share>>>,
    each: Rc<Cell<usize>>,
    counted: Cell<Option<Instant>>,
}

#[derive(Debug)]
struct Share {
    places: Arc<Semaphore>,
    /// How many places there are, taken or free.
    size: Cell<usize>,
    asked: Cell<Instant>,
}

/// One request's place; the next in line gets it when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    permit: Option<OwnedSemaphorePermit>,
    share: Rc<Share>,
    each: Rc<Cell<usize>>,
}

impl Shares {
    /// Waits for a place among the client's own.
    pub(crate) async fn place(&self, client: &str) -> Place {
        let share = self.asked(client, Instant::now());
        let permit = Arc::clone(&share.places).acquire_owned().await.ok(); // never closed
        Place { permit, share, each: Rc::clone(&self.each) }
    }

    /// A place among the client's own, where one is free.
    pub(crate) fn free_place(&self, client: &str) -> Option<Place> {
        let share = self.asked(client, Instant::now());
        let permit = Some(Arc::clone(&share.places).try_acquire_owned().ok()?);
        Some(Place { permit, share, each: Rc::clone(&self.each) })
    }

    /// Clients that were removed need no share any more.
    pub(crate) fn forget(&self) {
        self.shares.borrow_mut().clear();
    }

    /// The client's share, of the size it may have now.
    fn asked(&self, client: &str, now: Instant) -> Rc<Share> {
        let known = self.shares.borrow().get(client).map(Rc::clone);
        let was_asking =
            known.as_ref().is_some_and(|share| now - share.asked.replace(now) < RECENT);
        let share = known.unwrap_or_else(|| self.add(client, now));
        if !was_asking || self.counted.get().is_none_or(|counted| now - counted >= RECENT / 10) {
            self.count(now);
        }
        share.resize(self.each.get());
        share
    }

    fn add(&self, client: &str, now: Instant) -> Rc<Share> {
        let share = Rc::new(Share {
            places: Arc::new(Semaphore::new(0)),
            size: Cell::new(0),
            asked: Cell::new(now),
        });
        self.shares.borrow_mut().insert(client.to_owned(), Rc::clone(&share));
        share
    }

    fn count(&self, now: Instant) {
        self.counted.set(Some(now));
        let asking =
            self.shares.borrow().values().filter(|share| now - share.asked.get() < RECENT).count();
        self.each.set(if asking <= 1 { ALONE } else { (TOGETHER / asking).max(FEWEST) });
    }
}

impl Share {
    /// Places that are taken are taken back when they become free.
    fn resize(&self, size: usize) {
        let now = self.size.get();
        if size > now {
            self.places.add_permits(size - now);
            self.size.set(size);
        } else {
            self.size.set(now - self.places.forget_permits(now - size));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else { return };
        if self.share.size.get() > self.each.get() {
            permit.forget();
            self.share.size.set(self.share.size.get() - 1);
        } else {
            drop(permit);
            self.share.resize(self.each.get());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn take(shares: &Shares, client: &str) -> Option<Place> {
        match pin!(shares.place(client)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(place) => Some(place),
            Poll::Pending => None,
        }
    }

    fn take_all(shares: &Shares, client: &str) -> Vec<Place> {
        std::iter::from_fn(|| take(shares, client)).collect()
    }

    #[test]
    fn a_client_that_has_all_its_places_waits_and_another_does_not() {
        let shares = Shares::default();
        let mut held = take_all(&shares, "flood");
        assert_eq!(held.len(), ALONE);
        assert!(take(&shares, "quiet").is_some());
        held.pop();
        assert!(take(&shares, "flood").is_none(), "it is not alone any more");
        held.truncate(TOGETHER / 2 - 1);
        assert!(take(&shares, "flood").is_some());
        held.push(take(&shares, "flood").expect("the last"));
        assert!(take(&shares, "flood").is_none());
    }

    #[test]
    fn who_is_alone_again_has_all_places_again() {
        let shares = Shares::default();
        let now = Instant::now();
        let _quiet = shares.asked("quiet", now);
        assert_eq!(shares.asked("flood", now).size.get(), TOGETHER / 2);
        assert_eq!(shares.asked("flood", now + RECENT).size.get(), ALONE);
        assert_eq!(shares.asked("quiet", now + RECENT).size.get(), TOGETHER / 2);
    }

    #[test]
    fn among_many_each_has_some() {
        let shares = Shares::default();
        let clients: Vec<_> = (0..100).map(|number| number.to_string()).collect();
        let first: Vec<_> =
            clients.iter().map(|client| take(&shares, client).expect("a place")).collect();
        assert_eq!(first.len(), 100);
        assert_eq!(take_all(&shares, "7").len(), FEWEST - 1);
    }
}
