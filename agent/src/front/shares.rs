//! Each client's share of the places before a token host, so that one that floods makes itself wait and nobody else.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::host::outstanding;

/// The places of all clients.
#[derive(Debug)]
pub(super) struct Shares {
    each: Cell<usize>,
    places: RefCell<HashMap<String, Arc<Semaphore>>>,
}

/// Enough for any honest depth of pipelining; a place more only makes the client's own answers wait longer.
const MOST: usize = 256;
const FEWEST: usize = 16;

impl Shares {
    pub(super) fn new(clients: usize) -> Self {
        let shares = Self { each: Cell::new(MOST), places: RefCell::default() };
        shares.divide(clients);
        shares
    }

    /// Divides the places anew; requests under way keep the place they have.
    pub(super) fn divide(&self, clients: usize) {
        self.each.set((outstanding::MOST / clients.max(1)).clamp(FEWEST, MOST));
        self.places.borrow_mut().clear();
    }

    /// Waits for a place among the client's own.
    pub(super) async fn place(&self, client: &str) -> Option<OwnedSemaphorePermit> {
        let places = self.of(client);
        places.acquire_owned().await.ok() // never closed
    }

    fn of(&self, client: &str) -> Arc<Semaphore> {
        let mut places = self.places.borrow_mut();
        if let Some(places) = places.get(client) {
            return Arc::clone(places);
        }
        let new = Arc::new(Semaphore::new(self.each.get()));
        places.insert(client.to_owned(), Arc::clone(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn a_client_that_has_all_its_places_waits_and_another_does_not() {
        let shares = Shares::new(8);
        let take = |client: &str| match pin!(shares.place(client)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(place) => place,
            Poll::Pending => None,
        };
        let mut held: Vec<_> = (0..outstanding::MOST / 8).map(|_| take("flood").expect("a place")).collect();
        assert!(take("flood").is_none());
        assert!(take("quiet").is_some());
        held.pop();
        assert!(take("flood").is_some());
    }
}
