//! What an exchange is to the rules: a recipe, its endpoint table, its hosts, and what its signatures bind.

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
pub mod mexc;
pub mod okx;
pub mod parameters;
pub mod phemex;
pub mod scheme;
pub mod table;
pub mod text;
pub mod upbit;
pub mod whitebit;
pub mod woo;
pub mod worth;

use serde::{Deserialize, Serialize};

use crate::algorithm::Algorithm;
use crate::draft::{Draft, SessionDraft};
use crate::key::{Environment, Key, NonceUnit};
use crate::refusal::{Code, Refusal};
use crate::request::Request;
use crate::scope::{Scope, Scopes};
use classify::Order;
use login::Login;
pub use scheme::{Binding, Scheme};
use table::Table;
pub use worth::{Flags, Mark, OrderFacts, Unit, Whole};

/// Every exchange; to add one: two data files, one recipe, one line here.
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

/// The exchange of that name, as `key add --exchange` takes it.
pub fn named(name: &str) -> Option<&'static dyn Exchange> {
    #[cfg(test)]
    if name == "fake" {
        return Some(&fake::Fake);
    }
    ALL.iter().copied().find(|exchange| exchange.facts().name == name)
}

/// The hosts that serve one group of paths in one environment; the first is the default.
#[derive(Clone, Copy, Debug)]
pub struct Hosts {
    pub environment: Environment,
    pub path_prefix: &'static str,
    pub hosts: &'static [&'static str],
}

/// What a signature depends on beside the request, by the names that exchanges have for it. Where an exchange takes it in a
/// header, a parameter of this name is not what its sender thinks, or is a way around that header.
const SET_EVERYWHERE: &[&str] = &["expires", "nonce", "recvWindow", "recv_window", "sign", "signature", "timestamp"];

/// A parameter that bounds how long the exchange accepts the request.
#[derive(Clone, Copy, Debug)]
pub struct ReceiveWindow {
    pub name: &'static str,
    pub default_ms: u64,
}

/// Everything about an exchange that is data.
#[derive(Debug)]
pub struct Facts {
    pub name: &'static str,
    /// The page the recipe follows.
    pub documentation: &'static str,
    /// The first is what `key add` takes when none is named.
    pub algorithms: &'static [Algorithm],
    pub secret: SecretFormat,
    pub passphrase: Passphrase,
    /// Parameters that name an instrument in another way than the one that is judged, or an order of whatever instrument.
    pub other_symbols: &'static [Mark],
    pub nonce: Nonce,
    /// How its signatures are made and what they cover; the first that fits a path and a key counts.
    pub schemes: &'static [Scheme],
    pub hosts: &'static [Hosts],
    /// Parameters the agent sets, beyond those that it sets everywhere; a client that sends one is refused.
    pub managed: &'static [&'static str],
    /// Names that the agent sets everywhere else, and that some endpoint here takes as its own.
    pub taken: &'static [&'static str],
    pub receive_window: Option<ReceiveWindow>,
    /// What limits know of its orders.
    pub orders: OrderFacts,
    /// What a session lets the client do without further signatures, whichever way it was opened.
    pub session_grants: &'static [Scope],
}

impl Facts {
    /// What most exchanges have; a recipe names what it has otherwise.
    pub const PLAIN: Self = Self {
        name: "",
        documentation: "",
        algorithms: &[Algorithm::HmacSha256],
        secret: SecretFormat::Ascii,
        passphrase: Passphrase::None,
        other_symbols: &[],
        nonce: Nonce::None,
        schemes: &[Scheme::FULL],
        hosts: &[],
        managed: &[],
        taken: &[],
        receive_window: None,
        orders: OrderFacts::UNKNOWN,
        session_grants: &[Scope::Read],
    };

    /// Every name that a client may not send.
    pub fn set_by_agent(&self) -> impl Iterator<Item = &'static str> + '_ {
        let window = |name: &str| self.receive_window.is_some_and(|window| window.name == name);
        let everywhere = SET_EVERYWHERE.iter().filter(move |name| !self.taken.contains(name) && !window(name));
        self.managed.iter().chain(everywhere).copied()
    }

    /// How a request for this path is signed by a key of this algorithm.
    pub fn scheme(&self, algorithm: Algorithm, path: &str) -> &'static Scheme {
        scheme::of(self.schemes, algorithm, path)
    }
}

/// What makes two signatures of one exchange differ where time alone does not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Nonce {
    /// A number that only grows, in this unit where enrolment chose none; the ledger keeps it.
    Increasing(NonceUnit),
    None,
    /// [`Stamp::random`], written as its recipe wants.
    Random,
    /// [`Stamp::uuid`].
    Uuid,
}

/// What the exchange wants beside the signature that only its owner knows.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Passphrase {
    /// Goes out as the MAC of what was typed, base64, under the key itself: computed once, at enrolment. What the token keeps
    /// as passphrase is that MAC.
    Mac,
    None,
    Plain,
}

impl Passphrase {
    pub const fn is_needed(self) -> bool {
        !matches!(self, Self::None)
    }
}

/// How the exchange writes its HMAC secrets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SecretFormat {
    Ascii,
    Base64,
}

/// Time, nonce and randomness of one signature.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    pub now_ms: u64,
    /// Only for exchanges with an increasing nonce.
    pub nonce: u64,
    pub random: [u8; 16],
    /// Used where the request asks for none.
    pub receive_window_ms: Option<u64>,
}

impl Stamp {
    /// Seconds since the epoch.
    pub const fn seconds(&self) -> u64 {
        self.now_ms / 1000
    }

    /// A random UUID.
    pub fn uuid(&self) -> String {
        text::uuid(self.random)
    }
}

/// One exchange. Pure: the same arguments always give the same bytes.
pub trait Exchange: Sync {
    fn facts(&self) -> &'static Facts;

    fn table(&self) -> &'static Table;

    /// Builds the exact bytes to sign. `host` comes from the closed list of [`Facts::hosts`].
    fn draft(&self, request: &Request, key: &Key, host: &str, stamp: &Stamp) -> Result<Draft, Refusal>;

    /// What this login by this kind of key lets the client do without further signatures.
    fn session_grants(&self, _algorithm: Algorithm, _login: &Login) -> &'static [Scope] {
        self.facts().session_grants
    }

    /// Builds a WebSocket login. An argument of the login that is not used has to be refused.
    fn session(&self, key: &Key, login: &Login, stamp: &Stamp) -> Result<SessionDraft, Refusal> {
        let (_, _, _) = (key, login, stamp);
        Err(Refusal::new(Code::RequestUnknownEndpoint, "this exchange has no session login that the agent can build"))
    }

    /// In what an order's size counts, where the exchange has more units than the base asset (for a contract: contracts).
    fn unit(&self, _order: &Order<'_>) -> Unit {
        Unit::Base
    }

    /// The order's size in the quote asset, where it is said apart from the other.
    fn cost<'a>(&self, order: &'a Order<'_>) -> Option<&'a str> {
        order.quote.as_deref()
    }

    /// The asset that an order's price counts in.
    ///
    /// `Err` says why its worth cannot be known; a client with a notional limit is then refused.
    fn quote_asset<'a>(&self, order: &'a Order<'_>) -> Result<&'a str, &'static str>;
}

impl dyn Exchange + '_ {
    /// The host to use: the one asked for if it is on the closed list, else the first that serves the path.
    pub fn host(&self, request: &Request, environment: Environment) -> Result<&'static str, Refusal> {
        let groups = self.facts().hosts.iter();
        let mut serving = groups
            .filter(|group| group.environment == environment && request.path.as_str().starts_with(group.path_prefix));
        let Some(group) = serving.next() else {
            let message = format!("no host of {} serves {} in {environment}", self.facts().name, request.path);
            return Err(Refusal::new(Code::RequestUnknownEndpoint, message));
        };
        match &request.host {
            None => Ok(group.hosts[0]),
            Some(asked) => group.hosts.iter().copied().find(|host| host == asked).ok_or_else(|| {
                Refusal::malformed(format!("host is not one of {} for this path", group.hosts.join(", ")))
            }),
        }
    }

    /// The scopes a session login needs: `session`, and whatever more than reading can be done in it without another
    /// signature.
    pub fn session_scopes(&self, grants: &[Scope]) -> Scopes {
        let more = grants.iter().copied().filter(|scope| *scope != Scope::Read);
        more.collect::<Scopes>().with(Scope::Session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_defaults_exist() {
        for (index, exchange) in ALL.iter().enumerate() {
            let facts = exchange.facts();
            assert!(ALL[..index].iter().all(|other| other.facts().name != facts.name), "{}", facts.name);
            assert!(!facts.algorithms.is_empty() && facts.hosts.iter().all(|group| !group.hosts.is_empty()));
        }
    }
}
