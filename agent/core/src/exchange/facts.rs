//! The facts about an exchange that are data: its hosts, how it signs, and how limits count its
//! orders.

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

/// Names that exchanges use for the values that a signature depends on beside the request. The
/// agent sets these values. If an exchange reads one from a header, a parameter with the same name
/// is either ignored or overrides the header. So a client may not send these names, but for
/// [`Facts::taken`].
const SET_EVERYWHERE: &[&str] =
    &["expires", "nonce", "recvWindow", "recv_window", "sign", "signature", "timestamp"];

/// A parameter that bounds how long the exchange accepts the request.
#[derive(Clone, Copy, Debug)]
pub struct WindowParameter {
    pub name: &'static str,
    pub default_ms: u64,
}

/// Everything about an exchange that is data.
#[derive(Debug)]
pub struct Facts {
    pub name: &'static str,
    /// The page the recipe follows.
    pub documentation: &'static str,
    /// The algorithms of its keys. `key add` uses the first if none is named.
    pub algorithms: &'static [Algorithm],
    pub secret: SecretFormat,
    pub passphrase: PassphraseKind,
    /// Parameters that name an instrument in a way that no rule reads, or an order on any
    /// instrument. A client with limits on orders may not send them.
    pub other_symbols: &'static [Mark],
    pub nonce: Nonce,
    /// The ways in which it signs, and what each covers. The first that fits a path and a key is
    /// used.
    pub schemes: &'static [Scheme],
    pub hosts: &'static [Hosts],
    /// Parameters that the agent sets on this exchange, in addition to those it sets on all. A
    /// client that sends one is refused.
    pub managed: &'static [&'static str],
    /// Names that the agent sets on other exchanges, but that some endpoint here uses for a
    /// parameter of its own. A client may send them.
    pub taken: &'static [&'static str],
    pub receive_window: Option<WindowParameter>,
    /// The facts that limits need about its orders.
    pub orders: OrderFacts,
    /// The scopes that any session gives the client without further signatures.
    /// `Exchange::session_grants` may differ for one kind of login.
    pub session_grants: &'static [Scope],
}

impl Facts {
    /// The facts that hold for most exchanges. A recipe states only the facts that differ.
    pub const PLAIN: Self = Self {
        name: "",
        documentation: "",
        algorithms: &[Algorithm::HmacSha256],
        secret: SecretFormat::Ascii,
        passphrase: PassphraseKind::None,
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

    /// The scheme by which a key of this algorithm signs a request for this path.
    pub fn scheme(&self, algorithm: Algorithm, path: &str) -> &'static Scheme {
        scheme::of(self.schemes, algorithm, path)
    }
}

/// The value that makes two signatures differ, on an exchange where the time alone does not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Nonce {
    /// A number that only grows; the ledger keeps it. This is its unit, unless enrolment chose
    /// another.
    Increasing(NonceUnit),
    None,
    /// [`crate::stamp::Stamp::random`], written in the form that the recipe needs.
    Random,
    /// [`crate::stamp::Stamp::uuid`].
    Uuid,
}

/// The passphrase that an exchange may want beside the signature, and the form in which it is sent.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PassphraseKind {
    /// The agent sends a MAC of the typed passphrase in base64, made with the key itself. It is
    /// computed once, at enrolment. The token keeps this MAC as the passphrase.
    Mac,
    None,
    Plain,
}

impl PassphraseKind {
    pub const fn is_needed(self) -> bool {
        !matches!(self, Self::None)
    }
}

/// The encoding in which the exchange gives out its HMAC secrets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SecretFormat {
    Ascii,
    Base64,
}
