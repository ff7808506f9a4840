//! The list of supported exchanges. [`recipe`] and [`facts`] define what an exchange must provide.

pub mod backpack;
pub mod binance;
pub mod bitfinex;
pub mod bitflyer;
pub mod bitget;
pub mod bitmex;
pub mod bitso;
pub mod bitstamp;
pub mod bitvavo;
pub mod bybit;
pub mod classify;
pub mod coinbase;
pub mod coinbaseexchange;
pub mod coinex;
pub mod cryptocom;
pub mod deribit;
pub mod facts;
#[cfg(test)]
pub(crate) mod fake;
pub mod gate;
pub mod gemini;
pub mod htx;
pub mod jwt;
pub mod kraken;
pub mod krakenfutures;
pub mod kucoin;
pub mod login;
pub mod login_token;
pub mod mexc;
pub mod okx;
pub mod order;
pub mod order_facts;
pub mod parameters;
pub mod phemex;
pub mod recipe;
pub mod scheme;
pub mod table;
pub mod text;
pub mod upbit;
pub mod whitebit;
pub mod woo;
pub mod worth;

pub use facts::{Facts, Nonce, PassphraseKind, SecretFormat};
pub use order_facts::{Mark, Whole};
pub use recipe::Exchange;
pub use scheme::{Binding, Scheme};

/// All supported exchanges. A new one needs a recipe, two data files, and a line here.
pub static ALL: &[&dyn Exchange] = &[
    &backpack::Backpack,
    &binance::Binance,
    &bitfinex::Bitfinex,
    &bitflyer::Bitflyer,
    &bitget::Bitget,
    &bitmex::Bitmex,
    &bitso::Bitso,
    &bitstamp::Bitstamp,
    &bitvavo::Bitvavo,
    &bybit::Bybit,
    &coinbase::Coinbase,
    &coinbaseexchange::CoinbaseExchange,
    &coinex::Coinex,
    &cryptocom::Cryptocom,
    &deribit::Deribit,
    &gate::Gate,
    &gemini::Gemini,
    &htx::Htx,
    &kraken::Kraken,
    &krakenfutures::KrakenFutures,
    &kucoin::Kucoin,
    &mexc::Mexc,
    &okx::Okx,
    &phemex::Phemex,
    &upbit::Upbit,
    &whitebit::Whitebit,
    &woo::Woo,
];

/// Finds an exchange by the name that `key add --exchange` takes.
pub fn named(name: &str) -> Option<&'static dyn Exchange> {
    #[cfg(test)]
    if name == "fake" {
        return Some(&fake::Fake);
    }
    ALL.iter().copied().find(|exchange| exchange.facts().name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_defaults_exist() {
        for (index, exchange) in ALL.iter().enumerate() {
            let facts = exchange.facts();
            assert!(
                ALL[..index].iter().all(|other| other.facts().name != facts.name),
                "{}",
                facts.name
            );
            assert!(
                !facts.algorithms.is_empty()
                    && facts.hosts.iter().all(|group| !group.hosts.is_empty())
            );
        }
    }
}
