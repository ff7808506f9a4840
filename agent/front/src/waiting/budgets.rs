//! What each client may still ask for: its rate, its budget of other messages, its share of the
//! places before a token.

use std::cell::RefCell;

use countersign_core::policy::Client;
use countersign_core::policy::rate::Rates;
use countersign_core::refusal::Refusal;

use super::shares::{Place, Shares};
use crate::sockets::peer::Peer;

#[derive(Debug, Default)]
pub struct Budgets {
    pub(crate) rates: RefCell<Rates>,
    shares: Shares,
}

impl Budgets {
    /// A place for a request that is judged. Where it had to be waited for, so has another turn.
    pub(crate) async fn place(&self, peer: &Peer, client: &str) -> Place {
        if let Some(place) = self.shares.free_place(client) {
            return place;
        }
        let place = self.shares.place(client).await;
        peer.turn().await;
        place
    }

    /// Takes a message that `rate` does not count.
    pub(crate) fn take_unjudged(&self, client: &Client, since_boot_ms: u64) -> Result<(), Refusal> {
        self.rates.borrow_mut().take_unjudged(client, since_boot_ms)
    }

    /// Clients that were removed need no share any more.
    pub(crate) fn forget_shares(&self) {
        self.shares.forget();
    }
}
