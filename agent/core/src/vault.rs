//! What a vault judges anew before it asks for a touch: it believes the front nothing that approvers did not sign.

use std::collections::BTreeSet;

use crate::approval::{Collected, Meant, Statement, Subject, meant, review};
use crate::draft::Draft;
use crate::exchange::classify::{check_managed, classify};
use crate::exchange::{Exchange, Stamp};
use crate::key::{Environment, Key, NonceUnit, Tier};
use crate::policy::{Decision, Policy, RECEIVE_WINDOW_CAP_MS, Spend};
use crate::refusal::{Code, Refusal};
use crate::request::Request;
use crate::scope::{Scope, Scopes};

/// How much later than the policy's own timeout an approval may end: the clocks of one machine, and a slow front.
const SLACK_MS: u64 = 60_000;

/// One request that enough persons approved and that policy allows: [`judge`] alone makes it.
pub struct Judged {
    pub statement: Statement,
    pub spends: Vec<Spend>,
    key: Key,
    exchange: &'static dyn Exchange,
    request: Request,
    effective: Scopes,
}

/// What a vault's token says of a key: for what it was enrolled.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolledFor {
    pub exchange: String,
    pub environment: Environment,
    pub scopes: Scopes,
}

/// Judges a request by its statement and the approvers' signatures, with nothing but the policy beside them.
pub fn judge(
    policy: &Policy,
    agent: &str,
    token: &str,
    now_ms: u64,
    statement: &str,
    sshsigs: &[String],
) -> Result<Judged, Refusal> {
    let statement = Statement::parse(statement).ok_or_else(|| Refusal::malformed("it is no statement"))?;
    let wrong = |message: &str| Err(Refusal::new(Code::ApprovalRequired, message));
    if statement.agent != agent {
        return wrong("the approval is for another agent");
    }
    if statement.policy_sha256 != policy.sha256 {
        return wrong("the approval was given under another configuration");
    }
    in_time(policy, &statement, now_ms)?;
    let unlike = |unlike: crate::approval::Unlike| Refusal::malformed(unlike.to_string());
    review(&statement).map_err(unlike)?;
    let (Subject::Request { client, key, environment, .. }, Some(meant)) =
        (&statement.subject, meant(&statement.subject).map_err(unlike)?)
    else {
        return wrong("a vault signs requests, and this is none");
    };
    let Meant { exchange, algorithm, request } = meant;
    check_managed(exchange, &request.params, RECEIVE_WINDOW_CAP_MS)?;
    let client = policy
        .client(client)
        .ok_or_else(|| Refusal::new(Code::ClientUnknown, format!("the configuration has no [client.{client}]")))?;
    let classified = classify(exchange, algorithm, &request)?;
    let (effective, key) = (
        classified.effective,
        Key {
            name: key.clone(),
            exchange: exchange.facts().name,
            environment: *environment,
            algorithm,
            api_key: String::new(),
            scopes: Scope::ALL.into_iter().collect(), // the token says which, once it is logged in to
            tier: Tier::Software,
            token: token.to_owned(),
            nonce_unit: NonceUnit::Milliseconds,
        },
    );
    let (spends, approvals) = match policy.decide(client, &key, exchange, &classified) {
        Decision::Ask { spends, approvals, .. } => (spends, approvals),
        Decision::Allow { spends, .. } => (spends, 1),
        Decision::Deny(denied) => return Err(denied.refusal),
    };
    enough(policy, &statement, approvals, sshsigs)?;
    drop(classified);
    Ok(Judged { statement, spends, key, exchange, request, effective })
}

impl std::fmt::Debug for Judged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Judged").field("statement", &self.statement).finish_non_exhaustive()
    }
}

impl Judged {
    /// The name the key has on the token.
    pub fn key_name(&self) -> &str {
        self.key.name.as_str()
    }

    pub fn algorithm(&self) -> crate::algorithm::Algorithm {
        self.key.algorithm
    }

    /// The bytes to sign, for the key that is on the token: a key serves what it was enrolled for.
    pub fn draft(&self, enrolled: &EnrolledFor, api_key: &str, stamp: &Stamp) -> Result<Draft, Refusal> {
        let scopes = enrolled.scopes;
        if enrolled.exchange != self.key.exchange || enrolled.environment != self.key.environment {
            return Err(Refusal::new(Code::KeyUnknown, "the key was enrolled for another exchange"));
        }
        if !self.effective.without(scopes).is_empty() {
            return Err(Refusal::new(Code::PolicyScope, "the key was not enrolled for what this request opens"));
        }
        let key = Key { api_key: api_key.to_owned(), scopes, ..self.key.clone() };
        let host = self.exchange.host(&self.request, key.environment)?;
        self.exchange.draft(&self.request, &key, host, stamp)
    }

    pub fn exchange(&self) -> &'static dyn Exchange {
        self.exchange
    }

    /// Whether there is still time: a touch takes some.
    pub fn still_in_time(&self, policy: &Policy, now_ms: u64) -> Result<(), Refusal> {
        in_time(policy, &self.statement, now_ms)
    }
}

fn in_time(policy: &Policy, statement: &Statement, now_ms: u64) -> Result<(), Refusal> {
    let latest = now_ms.saturating_add(policy.approval_timeout_ms).saturating_add(SLACK_MS);
    if now_ms >= statement.expires_ms || statement.expires_ms > latest {
        return Err(Refusal::new(Code::ApprovalExpired, "the approval has expired, or runs too long"));
    }
    Ok(())
}

fn enough(policy: &Policy, statement: &Statement, needed: u32, sshsigs: &[String]) -> Result<(), Refusal> {
    let mut collected = Collected::new(statement.clone(), needed.max(1));
    for sshsig in sshsigs.iter().collect::<BTreeSet<_>>() {
        let approval = collected.judge(&policy.approvers, sshsig);
        collected.take(approval.map_err(|reason| {
            Refusal::new(Code::ApprovalRequired, format!("this signature does not approve it: {reason}"))
        })?);
    }
    if collected.is_complete() {
        return Ok(());
    }
    Err(Refusal::new(Code::ApprovalRequired, format!("it takes the approval of {} person(s)", collected.needed())))
}
