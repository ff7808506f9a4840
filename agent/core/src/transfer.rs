//! A transfer: the part of a request that moves money to some place.

use serde::{Deserialize, Serialize};

use crate::decimal::Amount;

/// Money that one signature would move. A field that the request does not say is absent, and then
/// nothing limits it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Transfer {
    /// `METHOD PATH` of the endpoint that would move it; not always the one that was asked for.
    pub endpoint: String,
    pub asset: Option<String>,
    /// Absent if the amount is not a plain decimal.
    pub amount: Option<Amount>,
    pub network: Option<String>,
    pub address: Option<String>,
    pub memo: Option<String>,
    /// The operator's own account or wallet that the money is taken from.
    pub from: Option<String>,
    /// The account, user or saved name that the money goes to, if that is not an address.
    pub to: Option<String>,
}

impl Transfer {
    /// The transfer of an endpoint whose parameters the exchange does not sign: anything, anywhere.
    pub(crate) fn unlimited(endpoint: String) -> Self {
        Self {
            endpoint,
            asset: None,
            amount: None,
            network: None,
            address: None,
            memo: None,
            from: None,
            to: None,
        }
    }

    /// True if both move the same money to the same place, whichever endpoint moves it.
    pub(crate) fn same_movement(&self, other: &Self) -> bool {
        (&self.asset, &self.amount, &self.network, &self.address)
            == (&other.asset, &other.amount, &other.network, &other.address)
            && (&self.memo, &self.from, &self.to) == (&other.memo, &other.from, &other.to)
    }

    /// One line for people: `0.5 BTC to bc1q… on BTC`.
    pub fn summary(&self) -> String {
        let say = |text: &Option<String>, missing: &str| {
            text.clone().unwrap_or_else(|| missing.to_owned())
        };
        let amount = self
            .amount
            .map_or_else(|| "an unstated amount".to_owned(), |amount| amount.to_string());
        let place = self.address.clone().or_else(|| self.to.clone());
        let network =
            self.network.as_deref().map(|network| format!(" on {network}")).unwrap_or_default();
        let memo = self.memo.as_deref().map(|memo| format!(", memo {memo}")).unwrap_or_default();
        format!(
            "{amount} {} to {}{network}{memo}",
            say(&self.asset, "of an unstated asset"),
            say(&place, "an unstated place")
        )
    }
}
