//! The trait that every exchange implements: its facts, its endpoint table, and the bytes to sign.

use super::facts::Facts;
use super::login::SessionLogin;
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

/// One exchange. Its functions are pure: the same arguments always give the same bytes.
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

    /// The scopes that this login, with this kind of key, gives the client without further
    /// signatures.
    fn session_grants(&self, _algorithm: Algorithm, _login: &SessionLogin) -> &'static [Scope] {
        self.facts().session_grants
    }

    /// Builds a WebSocket login. The recipe must refuse every argument of the login that it does
    /// not use.
    fn session(
        &self,
        key: &Key,
        login: &SessionLogin,
        stamp: &Stamp,
    ) -> Result<SessionDraft, Refusal> {
        let (_, _, _) = (key, login, stamp);
        Err(Refusal::new(
            Code::RequestUnknownEndpoint,
            "this exchange has no session login that the agent can build",
        ))
    }

    /// The unit of an order's size. Unless the recipe says otherwise it is the base asset (for a
    /// contract: contracts).
    fn unit(&self, _order: &Order<'_>) -> Unit {
        Unit::Base
    }

    /// The order's size in the quote asset, if a parameter of its own gives it.
    fn cost<'a>(&self, order: &'a Order<'_>) -> Option<&'a str> {
        order.quote.as_deref()
    }

    /// The asset in which an order's price is counted.
    ///
    /// `Err` says why the worth of the order cannot be known. A client with a notional limit is
    /// then refused.
    fn quote_asset<'a>(&self, order: &'a Order<'_>) -> Result<&'a str, &'static str>;
}

impl dyn Exchange + '_ {
    /// The host to use: the one that the request asks for, else the first that serves the path. A
    /// host that is not on the closed list is refused.
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

    /// The scopes that a session login needs: `session`, and every scope but `read` that the
    /// session gives.
    pub fn session_scopes(&self, grants: &[Scope]) -> Scopes {
        let more = grants.iter().copied().filter(|scope| *scope != Scope::Read);
        more.collect::<Scopes>().with(Scope::Session)
    }
}
