//! Gives each client a share of the places before a token host, so that a client that floods makes
//! only itself wait.
//!
//! A request that comes while others are under way waits for them, in the front and in the host. So
//! a client that is alone may have as many requests under way as make it fast. Clients that share
//! the agent may have only as many as hardly delay the others.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places of a client that is alone: enough for any honest pipelining. More would only make the
/// client's own answers wait longer.
const ALONE: usize = 256;
/// Places of all clients together, if several ask.
const TOGETHER: usize = 16;
const FEWEST: usize = 2;
/// A client counts as asking for this long after its last request.
const RECENT: Duration = Duration::from_secs(1);

/// The places of all clients.
#[derive(Debug, Default)]
pub(crate) struct TokenPlaces {
    shares: RefCell<BTreeMap<String, Rc<ClientShare>>>,
    each: Rc<Cell<usize>>,
    counted: Cell<Option<Instant>>,
}

#[derive(Debug)]
struct ClientShare {
    places: Arc<Semaphore>,
    /// The number of places, taken or free.
    size: Cell<usize>,
    asked: Cell<Instant>,
}

/// One request's place. The next request in line gets it when this is dropped.
#[derive(Debug)]
pub(crate) struct TokenPlace {
    permit: Option<OwnedSemaphorePermit>,
    share: Rc<ClientShare>,
    each: Rc<Cell<usize>>,
}

impl TokenPlaces {
    /// Waits for one of the client's places.
    pub(crate) async fn place(&self, client: &str) -> TokenPlace {
        let share = self.asked(client, Instant::now());
        let permit = Arc::clone(&share.places).acquire_owned().await.ok(); // never closed
        TokenPlace { permit, share, each: Rc::clone(&self.each) }
    }

    /// Takes one of the client's places, if one is free.
    pub(crate) fn free_place(&self, client: &str) -> Option<TokenPlace> {
        let share = self.asked(client, Instant::now());
        let permit = Some(Arc::clone(&share.places).try_acquire_owned().ok()?);
        Some(TokenPlace { permit, share, each: Rc::clone(&self.each) })
    }

    /// Forgets all shares, since removed clients need none. The others get new ones.
    pub(crate) fn forget(&self) {
        self.shares.borrow_mut().clear();
    }

    /// The client's share, with the size that it may have now.
    fn asked(&self, client: &str, now: Instant) -> Rc<ClientShare> {
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

    fn add(&self, client: &str, now: Instant) -> Rc<ClientShare> {
        let share = Rc::new(ClientShare {
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

impl ClientShare {
    /// Changes the number of places. A place that is in use is removed only when it becomes free.
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

impl Drop for TokenPlace {
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

    fn take(shares: &TokenPlaces, client: &str) -> Option<TokenPlace> {
        match pin!(shares.place(client)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(place) => Some(place),
            Poll::Pending => None,
        }
    }

    fn take_all(shares: &TokenPlaces, client: &str) -> Vec<TokenPlace> {
        std::iter::from_fn(|| take(shares, client)).collect()
    }

    #[test]
    fn a_client_that_has_all_its_places_waits_and_another_does_not() {
        let shares = TokenPlaces::default();
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
        let shares = TokenPlaces::default();
        let now = Instant::now();
        let _quiet = shares.asked("quiet", now);
        assert_eq!(shares.asked("flood", now).size.get(), TOGETHER / 2);
        assert_eq!(shares.asked("flood", now + RECENT).size.get(), ALONE);
        assert_eq!(shares.asked("quiet", now + RECENT).size.get(), TOGETHER / 2);
    }

    #[test]
    fn among_many_each_has_some() {
        let shares = TokenPlaces::default();
        let clients: Vec<_> = (0..100).map(|number| number.to_string()).collect();
        let first: Vec<_> =
            clients.iter().map(|client| take(&shares, client).expect("a place")).collect();
        assert_eq!(first.len(), 100);
        assert_eq!(take_all(&shares, "7").len(), FEWEST - 1);
    }
}
