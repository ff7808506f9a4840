//! Decides which client may do what. The default is to deny. Only this module makes a [`Grant`].

pub mod limits;
pub mod rate;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::approval::{Approved, Approver};
use crate::decimal::Amount;
use crate::exchange::classify::Classified;
use crate::exchange::login::SessionLogin;
use crate::exchange::recipe::Exchange;
use crate::exchange::scheme::Binding;
use crate::key::{Key, KeyName};
use crate::refusal::{Code, Refusal};
use crate::scope::{Scope, Scopes};
use crate::transfer::Transfer;

/// Longest receive window that a client may ask for, in milliseconds.
pub const RECEIVE_WINDOW_CAP_MS: u64 = 10_000;

/// The rules for requests in the operator's `agent.toml`.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    pub clients: Vec<Client>,
    pub destinations: Vec<Destination>,
    /// By asset, as the exchange names it.
    pub transfers: BTreeMap<String, TransferRule>,
    pub approvers: Vec<Approver>,
    /// Longest wait of a request for its approvers, in milliseconds.
    pub approval_timeout_ms: u64,
    /// Hex SHA-256 of the file that these rules stand in.
    pub sha256: String,
}

/// A program allowed to connect, known by its uid (and by a socket of its own, if it has one).
#[derive(Clone, Debug)]
pub struct Client {
    pub name: String,
    pub uid: u32,
    pub keys: BTreeSet<KeyName>,
    pub scopes: Scopes,
    /// `None`: any symbol.
    pub symbols: Option<BTreeSet<String>>,
    /// Largest base quantity of one order, by symbol.
    pub max_quantity: BTreeMap<String, Amount>,
    /// Limits on the notional, by asset; empty for no limit.
    pub limits: BTreeMap<String, SpendLimit>,
    pub rate: Option<Rate>,
    pub unbound: Release,
}

/// The thing that a client gets: a signature or, in a later version, only the exchange's answer.
/// With a signature the client sends the request itself.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Release {
    Forward,
    #[default]
    Signature,
}

/// The rate at which a client may ask: `count` requests in `per_ms` milliseconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    pub count: u32,
    pub per_ms: u64,
}

/// Limits on the worth of one client's signatures. They count signatures, not fills.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SpendLimit {
    pub per_request: Option<Amount>,
    pub per_day: Option<Amount>,
}

/// The network of a destination for requests that name no network. Kraken, for example, knows the
/// network from the name under which it keeps the address.
pub const NO_NETWORK: &str = "none";

/// A place that money may be sent to. A transfer has to match every field but the label exactly.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Destination {
    pub label: String,
    pub asset: String,
    pub network: String,
    pub address: String,
    pub memo: Option<String>,
}

/// Limits on transfers of one asset, over all clients.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TransferRule {
    pub per_request: Option<Amount>,
    pub per_day: Option<Amount>,
    pub approvers: Vec<ApproverStep>,
}

/// A transfer of more than `above` needs `count` approvers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ApproverStep {
    pub above: Amount,
    pub count: u32,
}

/// An amount to be counted against a window of 24 hours before anything is signed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Spend {
    /// The window's name, for example `client/mm-bot/USDT` or `transfer/BTC`.
    pub window: String,
    pub amount: Amount,
    pub cap: Amount,
}

/// The right to make one signature with one key. Only policy makes it, and signing consumes it.
#[derive(Debug)]
pub struct Grant {
    key: KeyName,
    evidence: Option<Box<Evidence>>,
}

/// The evidence that a vault wants to see before it signs.
#[derive(Debug)]
pub struct Evidence {
    pub approved: Approved,
    /// Reserved for this signature, if the exchange wants a nonce.
    pub nonce: u64,
}

impl Grant {
    /// The key this grant is for.
    pub fn key(&self) -> &KeyName {
        &self.key
    }

    /// Adds the evidence that persons approved the request.
    #[must_use]
    pub(crate) fn with(self, approved: Approved, nonce: u64) -> Self {
        Self { evidence: Some(Box::new(Evidence { approved, nonce })), ..self }
    }

    pub fn evidence(&self) -> Option<&Evidence> {
        self.evidence.as_deref()
    }

    /// Marks the grant as used, once a token has made its signature.
    #[must_use]
    pub fn spend(self) -> SpentGrant {
        SpentGrant(self)
    }
}

/// A grant whose signature was made. It becomes a grant again only if that signature is thrown
/// away.
#[derive(Debug)]
pub struct SpentGrant(Grant);

impl SpentGrant {
    pub(crate) fn unspent(self) -> Grant {
        self.0
    }
}

/// The decision of policy about one request.
#[derive(Debug)]
#[must_use]
pub enum Decision {
    Allow {
        grant: Grant,
        spends: Vec<Spend>,
    },
    /// `approvals` different persons have to approve the request first.
    Ask {
        grant: Grant,
        spends: Vec<Spend>,
        approvals: u32,
    },
    Deny(Denied),
}

/// A refusal: the rule of `agent.toml` (or of the agent) that it comes from, and the text for the
/// client.
#[derive(Debug)]
pub struct Denied {
    pub rule: String,
    pub refusal: Refusal,
}

impl Denied {
    pub(crate) fn new(rule: impl Into<String>, code: Code, message: impl Into<String>) -> Self {
        Self { rule: rule.into(), refusal: Refusal::new(code, message) }
    }
}

impl Client {
    /// A rule of this client, as `agent.toml` names it.
    pub fn rule(&self, field: &str) -> String {
        format!("[client.{}] {field}", self.name)
    }
}

impl Policy {
    pub fn client(&self, name: &str) -> Option<&Client> {
        self.clients.iter().find(|client| client.name == name)
    }

    /// The number of different persons who can approve.
    pub fn persons(&self) -> usize {
        self.approvers.iter().map(|approver| &approver.person).collect::<BTreeSet<_>>().len()
    }

    /// The refusal of a request that needs this many approvals; `None` if enough persons can
    /// approve.
    pub(crate) fn too_few_persons(&self, approvals: u32) -> Option<Denied> {
        let named = self.persons();
        (named < approvals as usize).then(|| {
            let message = format!(
                "this needs the approval of {approvals} person(s), and agent.toml names {named} \
                 who can approve: add an \
                 [approver.NAME]; countersign-agent check says who cannot and why"
            );
            Denied::new("[approver]", Code::ApprovalRequired, message)
        })
    }

    /// Decides about one classified request. Today the agent can give only `Release::Signature`.
    pub fn decide(
        &self,
        client: &Client,
        key: &Key,
        exchange: &dyn Exchange,
        classified: &Classified<'_>,
    ) -> Decision {
        match self.judge(client, key, exchange, classified) {
            Err(denied) => Decision::Deny(denied),
            Ok((spends, approvals)) => grant(key, spends, approvals),
        }
    }

    /// Decides about a session login. Nothing more is signed in that session.
    pub fn decide_session(
        &self,
        client: &Client,
        key: &Key,
        exchange: &dyn Exchange,
        login: &SessionLogin,
    ) -> Decision {
        let scopes = exchange.session_scopes(exchange.session_grants(key.algorithm, login));
        let allowed = may_use(client, key)
            .and_then(|()| holds(client, key, Scope::Session, scopes))
            .and_then(|()| limits::session(client, scopes));
        match allowed {
            Err(denied) => Decision::Deny(denied),
            Ok(()) => grant(key, Vec::new(), approvals_for_scopes(scopes)),
        }
    }

    fn judge(
        &self,
        client: &Client,
        key: &Key,
        exchange: &dyn Exchange,
        classified: &Classified<'_>,
    ) -> Result<(Vec<Spend>, u32), Denied> {
        may_use(client, key)?;
        holds(client, key, classified.scope, classified.effective)?;
        may_hold_signature(client, exchange, classified.binding)?;
        may_sign_empty_text(key, classified.empty_text)?;
        if classified.scope == Scope::Session {
            limits::session(client, classified.effective)?;
        }
        let mut spends = limits::orders(client, exchange, classified)?;
        let mut approvals = approvals_for_scopes(classified.effective);
        for transfer in &classified.transfers {
            self.check_destination(classified, transfer)?;
            let (spend, asked) = limits::transfer(self, transfer)?;
            count_once(&mut spends, spend);
            approvals = approvals.max(asked);
        }
        Ok((spends, approvals))
    }

    /// The listed destination that a transfer goes to. Asset, network, address and memo have to
    /// match exactly.
    pub fn destination_of(&self, transfer: &Transfer) -> Option<&Destination> {
        self.destinations.iter().find(|listed| {
            Some(&listed.asset) == transfer.asset.as_ref()
                && listed.network == transfer.network.as_deref().unwrap_or(NO_NETWORK)
                && Some(&listed.address) == transfer.address.as_ref().or(transfer.to.as_ref())
                && listed.memo == transfer.memo
        })
    }

    /// Denies a withdrawal if no listed destination has its asset, network, address and memo.
    fn check_destination(
        &self,
        classified: &Classified<'_>,
        transfer: &Transfer,
    ) -> Result<(), Denied> {
        if !classified.effective.contains(Scope::Withdraw) {
            return Ok(());
        }
        if self.destination_of(transfer).is_some() {
            return Ok(());
        }
        let message = format!("no [[destination]] allows {}", transfer.summary());
        Err(Denied::new("[[destination]]", Code::PolicyDestination, message))
    }
}

fn grant(key: &Key, spends: Vec<Spend>, approvals: u32) -> Decision {
    let grant = Grant { key: key.name.clone(), evidence: None };
    let approvals = approvals.max(key.in_vault.into());
    match approvals {
        0 => Decision::Allow { grant, spends },
        approvals => Decision::Ask { grant, spends, approvals },
    }
}

/// Several endpoints may accept one signature that moves money. Limits count signatures, so only
/// the largest amount counts.
fn count_once(spends: &mut Vec<Spend>, spend: Option<Spend>) {
    let Some(spend) = spend else { return };
    match spends.iter_mut().find(|known| known.window == spend.window) {
        Some(known) => known.amount = known.amount.max(spend.amount),
        None => spends.push(spend),
    }
}

fn may_use(client: &Client, key: &Key) -> Result<(), Denied> {
    if client.keys.contains(&key.name) {
        return Ok(());
    }
    // The text is the same as for a key that does not exist, so that a client learns nothing of a
    // key it may not use.
    Err(Denied::new(client.rule("keys"), Code::KeyUnknown, unknown_key(key.name.as_str())))
}

/// The text for a client about a key that it may not use, or that does not exist.
pub fn unknown_key(name: &str) -> String {
    format!("this client has no key named {name:?}")
}

/// Checks that both the client and the key hold every scope.
fn holds(client: &Client, key: &Key, declared: Scope, effective: Scopes) -> Result<(), Denied> {
    hold_all(client.scopes, declared, effective, "the client")
        .map_err(|refusal| Denied { rule: client.rule("scopes"), refusal })?;
    hold_all(key.scopes, declared, effective, "the key")
        .map_err(|refusal| Denied { rule: format!("key {} scopes", key.name), refusal })
}

fn hold_all(held: Scopes, declared: Scope, effective: Scopes, who: &str) -> Result<(), Refusal> {
    if !held.contains(declared) {
        let message = format!("this request needs scope {declared}, which {who} does not hold");
        return Err(Refusal::new(Code::PolicyScope, message));
    }
    let missing = effective.without(held);
    if !missing.is_empty() {
        let message = format!(
            "the signature of this request would also open {missing}, which {who} does not hold"
        );
        return Err(Refusal::new(Code::PolicyEffectiveScope, message));
    }
    Ok(())
}

/// A client marked `unbound = "forward"` gets no signature if the exchange does not bind the whole
/// request.
fn may_hold_signature(
    client: &Client,
    exchange: &dyn Exchange,
    binding: Binding,
) -> Result<(), Denied> {
    if client.unbound == Release::Signature || binding.is_full() {
        return Ok(());
    }
    let message = format!(
        "signatures of {} open more than the request they were made for, and this client is marked \
         unbound = \"forward\"",
        exchange.facts().name
    );
    Err(Denied::new(client.rule("unbound"), Code::PolicyEffectiveScope, message))
}

/// A read without parameters has the same signature as every request without a body. If one of
/// those requests moves money or keys, a key with a right to do that does not sign the read. A key
/// that only reads and trades may sign it, because the exchange does not let that key do what the
/// other request asks for.
fn may_sign_empty_text(key: &Key, opened: Scopes) -> Result<(), Denied> {
    let serious: Scopes = [Scope::Transfer, Scope::Withdraw, Scope::Admin].into_iter().collect();
    let (opened, held) = (opened.intersection(serious), key.scopes.intersection(serious));
    if opened.is_empty() || held.is_empty() {
        return Ok(());
    }
    let message = format!(
        "a read without parameters has the signature of every request without a body, {opened} \
         among them, and the key is \
         enrolled with {held}: add a parameter that this read takes, or use a key with read and \
         trade alone"
    );
    Err(Denied::new(format!("key {} scopes", key.name), Code::PolicyEffectiveScope, message))
}

/// Withdrawals and key management always need a person.
fn approvals_for_scopes(effective: Scopes) -> u32 {
    u32::from(effective.contains(Scope::Withdraw) || effective.contains(Scope::Admin))
}

#[cfg(test)]
mod policy_tests;
