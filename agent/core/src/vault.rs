//! Judges a request anew in a vault, before the vault asks for a touch. The vault believes only
//! those words of the front that approvers signed.

use std::collections::BTreeSet;

use crate::approval::{Collected, Meant, Statement, Subject, meant, review};
use crate::draft::Draft;
use crate::exchange::classify::{check_managed, classify};
use crate::exchange::recipe::Exchange;
use crate::key::{Environment, Key, NonceUnit, Tier};
use crate::policy::{Decision, Policy, RECEIVE_WINDOW_CAP_MS, Spend};
use crate::refusal::{Code, Refusal};
use crate::request::Request;
use crate::scope::{Scope, Scopes};
use crate::stamp::Stamp;

/// Milliseconds by which an approval may end later than policy's own timeout says. They allow for a
/// slow front. They need not allow for more, because the front and the vault use the clock of one
/// machine.
const SLACK_MS: u64 = 60_000;

/// One request that enough persons approved and that policy allows. Only [`judge`] makes it.
pub struct Judged {
    pub statement: Statement,
    pub spends: Vec<Spend>,
    key: Key,
    exchange: &'static dyn Exchange,
    request: Request,
    effective: Scopes,
}

/// The purpose for which a key was enrolled, as the vault's token says it.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolledFor {
    pub exchange: String,
    pub environment: Environment,
    pub scopes: Scopes,
}

/// Judges a request by its statement, the approvers' signatures and the policy, and by nothing
/// else.
pub fn judge(
    policy: &Policy,
    agent: &str,
    token: &str,
    now_ms: u64,
    statement: &str,
    sshsigs: &[String],
) -> Result<Judged, Refusal> {
    let statement =
        Statement::parse(statement).ok_or_else(|| Refusal::malformed("it is no statement"))?;
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
        return wrong("a vault signs only requests, and this is not a request");
    };
    let Meant { exchange, algorithm, request } = meant;
    check_managed(exchange, &request.params, RECEIVE_WINDOW_CAP_MS)?;
    let client = policy.client(client).ok_or_else(|| {
        Refusal::new(Code::ClientUnknown, format!("the configuration has no [client.{client}]"))
    })?;
    let classified = classify(exchange, algorithm, &request)?;
    let (effective, key) = (
        classified.effective,
        Key {
            name: key.clone(),
            exchange: exchange.facts().name,
            environment: *environment,
            algorithm,
            api_key: String::new(),
            // The token says the key's own scopes, after the login.
            scopes: Scope::ALL.into_iter().collect(),
            tier: Tier::Software,
            token: token.to_owned(),
            nonce_unit: NonceUnit::Milliseconds,
            in_vault: true,
        },
    );
    let (spends, approvals) = match policy.decide(client, &key, exchange, &classified) {
        Decision::Ask { spends, approvals, .. } => (spends, approvals),
        Decision::Allow { .. } => return wrong("a vault signs what persons approve"),
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

    /// Drafts the bytes to sign, for the key that is on the token. Refuses a request for which the
    /// key was not enrolled.
    pub fn draft(
        &self,
        enrolled: &EnrolledFor,
        api_key: &str,
        stamp: &Stamp,
    ) -> Result<Draft, Refusal> {
        let scopes = enrolled.scopes;
        if enrolled.exchange != self.key.exchange || enrolled.environment != self.key.environment {
            return Err(Refusal::new(
                Code::KeyUnknown,
                "the key was enrolled for another exchange",
            ));
        }
        if !self.effective.without(scopes).is_empty() {
            return Err(Refusal::new(
                Code::PolicyScope,
                "the key was not enrolled for what this request opens",
            ));
        }
        let key = Key { api_key: api_key.to_owned(), scopes, ..self.key.clone() };
        let host = self.exchange.host(&self.request, key.environment)?;
        self.exchange.draft(&self.request, &key, host, stamp)
    }

    pub fn exchange(&self) -> &'static dyn Exchange {
        self.exchange
    }

    /// Checks that the approval is still in time, because a touch takes some.
    pub fn still_in_time(&self, policy: &Policy, now_ms: u64) -> Result<(), Refusal> {
        in_time(policy, &self.statement, now_ms)
    }
}

fn in_time(policy: &Policy, statement: &Statement, now_ms: u64) -> Result<(), Refusal> {
    let latest = now_ms.saturating_add(policy.approval_timeout_ms).saturating_add(SLACK_MS);
    if now_ms >= statement.expires_ms || statement.expires_ms > latest {
        return Err(Refusal::new(
            Code::ApprovalExpired,
            "the approval has expired, or runs too long",
        ));
    }
    Ok(())
}

fn enough(
    policy: &Policy,
    statement: &Statement,
    needed: u32,
    sshsigs: &[String],
) -> Result<(), Refusal> {
    let mut collected = Collected::new(statement.clone(), needed.max(1));
    for sshsig in sshsigs.iter().collect::<BTreeSet<_>>() {
        let approval = collected.judge(&policy.approvers, sshsig);
        collected.take(approval.map_err(|reason| {
            Refusal::new(
                Code::ApprovalRequired,
                format!("this signature does not approve it: {reason}"),
            )
        })?);
    }
    if collected.is_complete() {
        return Ok(());
    }
    Err(Refusal::new(
        Code::ApprovalRequired,
        format!("it takes the approval of {} person(s)", collected.needed()),
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::approval::approval_tests::{Fido, statement};
    use crate::decimal::Amount;
    use crate::key::KeyName;
    use crate::policy::{ApproverStep, Client, Destination, Release, TransferRule};

    const NOW: u64 = 1_700_000_000_000;

    fn amount(text: &str) -> Amount {
        Amount::parse(text).expect("an amount")
    }

    fn policy(alice: &Fido, bob: &Fido) -> Policy {
        let client = Client {
            name: "bot".to_owned(),
            uid: 1,
            keys: [KeyName::parse("binance-wd").expect("a name")].into(),
            scopes: Scopes::only(Scope::Withdraw),
            symbols: None,
            max_quantity: BTreeMap::new(),
            limits: BTreeMap::new(),
            rate: None,
            unbound: Release::Signature,
        };
        let destination = Destination {
            label: "cold".to_owned(),
            asset: "BTC".to_owned(),
            network: "BTC".to_owned(),
            address: "bc1qexample".to_owned(),
            memo: None,
        };
        let approvers = vec![ApproverStep { above: amount("0"), count: 1 }];
        let rule =
            TransferRule { per_request: Some(amount("1")), per_day: Some(amount("2")), approvers };
        Policy {
            clients: vec![client],
            destinations: vec![destination],
            transfers: [("BTC".to_owned(), rule)].into(),
            approvers: vec![alice.approver("alice"), bob.approver("bob")],
            approval_timeout_ms: 120_000,
            sha256: "ab".repeat(32),
        }
    }

    fn code(judged: Result<Judged, Refusal>) -> Option<Code> {
        judged.err().map(|refusal| refusal.code)
    }

    #[test]
    fn what_approvers_signed_is_drafted_for_the_key_that_was_enrolled_for_it() {
        let (alice, bob, statement) = (Fido::new(1), Fido::new(2), statement("r-1"));
        let text = String::from_utf8(statement.bytes()).expect("JSON");
        let sshsigs = [alice.approve(&statement)];
        let judged = judge(&policy(&alice, &bob), "agent-1", "vault", NOW, &text, &sshsigs)
            .expect("approved");
        assert_eq!((judged.key_name(), judged.spends.len()), ("binance-wd", 1));
        let stamp =
            Stamp { now_ms: NOW, nonce: 0, random: [0; 16], receive_window_ms: Some(5_000) };
        let enrolled = EnrolledFor {
            exchange: "binance".to_owned(),
            environment: Environment::Production,
            scopes: Scopes::only(Scope::Withdraw),
        };
        let draft = judged.draft(&enrolled, "the-id", &stamp).expect("drafted");
        assert!(String::from_utf8_lossy(&draft.message).contains("bc1qexample"));
        let others = [
            EnrolledFor { exchange: "mexc".to_owned(), ..enrolled.clone() },
            EnrolledFor { environment: Environment::Testnet, ..enrolled.clone() },
            EnrolledFor { scopes: Scopes::only(Scope::Transfer), ..enrolled },
        ];
        for other in others {
            assert!(judged.draft(&other, "the-id", &stamp).is_err(), "{other:?}");
        }
    }

    #[test]
    fn what_is_not_wholly_approved_and_allowed_is_refused() {
        let (alice, bob, original) = (Fido::new(1), Fido::new(2), statement("r-1"));
        let sound = policy(&alice, &bob);
        let signed = [alice.approve(&original)];
        let text = String::from_utf8(original.bytes()).expect("JSON");
        let judged = |policy: &Policy, agent: &str, now_ms, text: &str, sshsigs: &[String]| {
            code(judge(policy, agent, "vault", now_ms, text, sshsigs))
        };
        let with = |change: &dyn Fn(&mut Policy)| {
            let mut changed = sound.clone();
            change(&mut changed);
            judged(&changed, "agent-1", NOW, &text, &signed)
        };
        assert_eq!(judged(&sound, "agent-1", NOW, &text, &signed), None);
        let required = Some(Code::ApprovalRequired);
        assert_eq!(judged(&sound, "agent-2", NOW, &text, &signed), required);
        assert_eq!(judged(&sound, "agent-1", NOW, &text, &[]), required);
        assert_eq!(
            judged(&sound, "agent-1", NOW, &text, &[Fido::new(3).approve(&original)]),
            required
        );
        assert_eq!(
            judged(&sound, "agent-1", original.expires_ms, &text, &signed),
            Some(Code::ApprovalExpired)
        );
        assert_eq!(
            judged(&sound, "agent-1", NOW - 61_000, &text, &signed),
            Some(Code::ApprovalExpired)
        );
        assert_eq!(
            judged(&sound, "agent-1", NOW, &format!("{text} "), &signed),
            Some(Code::RequestMalformed)
        );
        assert_eq!(with(&|policy| policy.sha256 = "ac".repeat(32)), required);
        assert_eq!(
            with(&|policy| policy.destinations[0].memo = Some("7".to_owned())),
            Some(Code::PolicyDestination)
        );
        assert_eq!(
            with(&|policy| policy.clients[0].scopes = Scopes::only(Scope::Read)),
            Some(Code::PolicyScope)
        );
        assert_eq!(with(&|policy| policy.clients[0].keys.clear()), Some(Code::KeyUnknown));
        assert_eq!(with(&|policy| policy.clients.clear()), Some(Code::ClientUnknown));
        let two = |policy: &mut Policy| {
            let rule = policy.transfers.get_mut("BTC").expect("a rule");
            rule.approvers[0].count = 2;
        };
        assert_eq!(with(&two), required);
        let mut of_two = sound.clone();
        two(&mut of_two);
        let twice = [signed[0].clone(), signed[0].clone()];
        assert_eq!(
            judged(&of_two, "agent-1", NOW, &text, &twice),
            required,
            "one person is not two"
        );
        let both = [signed[0].clone(), bob.approve(&original)];
        assert_eq!(judged(&of_two, "agent-1", NOW, &text, &both), None);
    }
}
