//! All of an exchange that is data: its hosts, how its signatures are made, and what limits know of
//! its orders.

use serde::{Deserialize, Serialize};

use super::order_facts::{Mark, OrderFacts};
use super::scheme::{self, Scheme};
use crate::algorithm::Algorithm;
use crate::key::{Environment, NonceUnit};
use crate::scope::Scope;

/// The hosts that serve one group of paths in one environment; the first is the default.
#[derive(Clone, Copy, Debug)]
pub struct Hosts {
    pub environment: Environment,
    pub path_prefix: &'static str,
    pub hosts: &'static [&'static str],
}

/// What a signature depends on beside the request, by the names that exchanges have for it. Where
/// an exchange takes it in a header, a parameter of this name is not what its sender thinks, or is
/// a way around that header.
const SET_EVERYWHERE: &[&str] =
    &["expires", "nonce", "recvWindow", "recv_window", "sign", "signature", "timestamp"];

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
    /// Parameters that name an instrument in another way than the one that is judged, or an order
    /// of whatever instrument.
    pub other_symbols: &'static [Mark],
    pub nonce: Nonce,
    /// How its signatures are made and what they cover; the first that fits a path and a key
    /// counts.
    pub schemes: &'static [Scheme],
    pub hosts: &'static [Hosts],
    /// Parameters the agent sets, beyond those that it sets everywhere; a client that sends one is
    /// refused.
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
        let everywhere =
            SET_EVERYWHERE.iter().filter(move |name| !self.taken.contains(name) && !window(name));
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
    /// [`crate::stamp::Stamp::random`], written as its recipe wants.
    Random,
    /// [`crate::stamp::Stamp::uuid`].
    Uuid,
}

/// What the exchange wants beside the signature that only its owner knows.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Passphrase {
    /// Goes out as the MAC of what was typed, base64, under the key itself: computed once, at
    /// enrolment. What the token keeps as passphrase is that MAC.
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
