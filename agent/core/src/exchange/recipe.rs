//! What an exchange is to the rules: its facts, its endpoint table, and how the bytes of its
//! signatures are built.

use super::facts::Facts;
use super::login::Login;
use super::order::Order;
use super::order_facts::Unit;
use super::table::Table;
use crate::algorithm::Algorithm;
use crate::draft::{Draft, SessionDraft};
use crate::key::{Environment, Key};
use crate::refusal::{Code, Refusal};
use crate::request::Request;
use crate::scope::{Scope, Scopes};
use crate::stamp::Stamp;

/// One exchange. Pure: the same arguments always give the same bytes.
pub trait Exchange: Sync {
    fn facts(&self) -> &'static Facts;

    fn table(&self) -> &'static Table;

    /// Builds the exact bytes to sign. `host` comes from the closed list of [`Facts::hosts`].
    fn draft(
        &self,
        request: &Request,
        key: &Key,
        host: &str,
        stamp: &Stamp,
    ) -> Result<Draft, Refusal>;

    /// What this login by this kind of key lets the client do without further signatures.
    fn session_grants(&self, _algorithm: Algorithm, _login: &Login) -> &'static [Scope] {
        self.facts().session_grants
    }

    /// Builds a WebSocket login. An argument of the login that is not used has to be refused.
    fn session(&self, key: &Key, login: &Login, stamp: &Stamp) -> Result<SessionDraft, Refusal> {
        let (_, _, _) = (key, login, stamp);
        Err(Refusal::new(
            Code::RequestUnknownEndpoint,
            "this exchange has no session login that the agent can build",
        ))
    }

    /// In what an order's size counts, where the exchange has more units than the base asset (for a
    /// contract: contracts).
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
    /// The host to use: the one asked for if it is on the closed list, else the first that serves
    /// the path.
    pub fn host(
        &self,
        request: &Request,
        environment: Environment,
    ) -> Result<&'static str, Refusal> {
        let groups = self.facts().hosts.iter();
        let mut serving = groups.filter(|group| {
            group.environment == environment && request.path.as_str().starts_with(group.path_prefix)
        });
        let Some(group) = serving.next() else {
            let message = format!(
                "no host of {} serves {} in {environment}",
                self.facts().name,
                request.path
            );
            return Err(Refusal::new(Code::RequestUnknownEndpoint, message));
        };
        match &request.host {
            None => Ok(group.hosts[0]),
            Some(asked) => {
                group.hosts.iter().copied().find(|host| host == asked).ok_or_else(|| {
                    Refusal::malformed(format!(
                        "host is not one of {} for this path",
                        group.hosts.join(", ")
                    ))
                })
            }
        }
    }

    /// The scopes a session login needs: `session`, and whatever more than reading can be done in
    /// it without another signature.
    pub fn session_scopes(&self, grants: &[Scope]) -> Scopes {
        let more = grants.iter().copied().filter(|scope| *scope != Scope::Read);
        more.collect::<Scopes>().with(Scope::Session)
    }
}
