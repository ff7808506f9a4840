//! Keeps the budgets of each client: its rate, its budget of other messages, its share of the
//! places before a token.

use std::cell::RefCell;

use countersign_core::policy::Client;
use countersign_core::policy::rate::Rates;
use countersign_core::refusal::Refusal;

use super::token_places::{TokenPlace, TokenPlaces};
use crate::sockets::peer::Peer;

#[derive(Debug, Default)]
pub struct Budgets {
    pub(crate) rates: RefCell<Rates>,
    token_places: TokenPlaces,
}

impl Budgets {
    /// Waits for a place for a request that policy judges. If it had to wait for the place, it also
    /// waits for another turn.
    pub(crate) async fn place(&self, peer: &Peer, client: &str) -> TokenPlace {
        if let Some(place) = self.token_places.free_place(client) {
            return place;
        }
        let place = self.token_places.place(client).await;
        peer.turn().await;
        place
    }

    /// Counts a message that `rate` does not count.
    pub(crate) fn take_unjudged(&self, client: &Client, since_boot_ms: u64) -> Result<(), Refusal> {
        self.rates.borrow_mut().take_unjudged(client, since_boot_ms)
    }

    /// Forgets all shares, because a reload may have removed clients. Each client gets a new share
    /// with its next request.
    pub(crate) fn forget_shares(&self) {
        self.token_places.forget();
    }
}
