//! The records of the journal, as they stand in its lines.
//!
//! A record that is written borrows its texts, so that writing one copies nothing. A record of a
//! kind that this version does not know stays the line it came in: see
//! [`crate::audit::JournalEntry`].

mod approval_records;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::decimal::Amount;
use crate::key::Tier;
use crate::policy::Spend;
use crate::scope::{Scope, Scopes};
use crate::transfer::Transfer;
pub use approval_records::Approval;

type Text<'a> = Cow<'a, str>;

/// One record without its place in the chain.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record<'a> {
    Approval(Box<Approval<'a>>),
    /// The agent stopped in order. Everything that it had reserved and not used is free again.
    Closed(Closed),
    ConfigLoaded(ConfigLoaded<'a>),
    Intent(Box<Intent<'a>>),
    KeyActivated(KeyChange<'a>),
    KeyAdded(KeyChange<'a>),
    KeyGenerated(KeyChange<'a>),
    KeyRemoved(KeyChange<'a>),
    Locked(Locking),
    Opened(Opened<'a>),
    /// Refusals of one kind that came too fast to be recorded one by one.
    Refusals(Refusals<'a>),
    Refused(Refused<'a>),
    Reserve(Reserve<'a>),
    Result(RequestResult<'a>),
    Returned(Returned<'a>),
    Rotated(Rotated<'a>),
    Segment(Box<SegmentHeader<'a>>),
    Signed(Box<SignedAtOnce<'a>>),
    /// A signature was made, and handed to nobody. Another may follow for the same intent.
    ThrownAway(ThrownAway<'a>),
    Token(TokenChange<'a>),
    Unlocked(Locking),
}

/// The agent started. Synced before anything is signed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Opened<'a> {
    #[serde(borrow)]
    pub version: Text<'a>,
    /// The kernel's id of this boot. If it is another one after an unclean stop, unsynced records
    /// may be lost.
    #[serde(borrow)]
    pub boot_id: Text<'a>,
    pub pid: u32,
    pub carried: CarriedState,
    /// Bytes of an unfinished record that were cut from the end of the journal.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cut_bytes: u64,
}

/// The state that a start took over from the run before it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CarriedState {
    /// The journal was closed in order.
    Clean,
    /// The agent ended without closing the journal, and the machine ran on: nothing written is
    /// lost.
    Exact,
    /// There was no journal.
    New,
    /// The machine stopped: all that was reserved counts as spent.
    Reserved,
}

/// The agent stopped in order.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Closed {}

/// First record of a segment. It carries the state that the segments before it would give.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SegmentHeader<'a> {
    #[serde(borrow)]
    pub segment: Text<'a>,
    /// Absent in the first segment of a journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousSegment>,
    #[serde(borrow)]
    pub carried: Carried<'a>,
}

/// The segment before, and the hash of its last line.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PreviousSegment {
    pub segment: String,
    pub last_hash: String,
}

/// The state of limits and nonces at the start of a segment.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Carried<'a> {
    /// The latest time that the journal has seen; setting the clock back does not lower it.
    pub time_ms: u64,
    /// The boot in which the last `opened` was written; absent if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// True if the last run closed the journal.
    pub closed: bool,
    pub windows: Vec<CarriedWindow>,
    #[serde(borrow)]
    pub nonces: Vec<NonceBlock<'a>>,
}

/// One limit's window: the amount spent in each bucket, with the bucket's start in Unix
/// milliseconds.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct CarriedWindow {
    pub window: String,
    /// Reserved on disk and not yet spent.
    pub headroom: Amount,
    pub buckets: Vec<(u64, Amount)>,
}

/// A request that the agent is about to ask a token to sign.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Intent<'a> {
    #[serde(borrow)]
    pub request_id: Text<'a>,
    #[serde(borrow)]
    pub client: Text<'a>,
    pub uid: u32,
    #[serde(borrow)]
    pub key: Text<'a>,
    #[serde(borrow)]
    pub exchange: Text<'a>,
    #[serde(borrow)]
    pub method: Text<'a>,
    #[serde(borrow)]
    pub path: Text<'a>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Text<'a>>,
    pub scope: Scope,
    pub effective_scopes: Scopes,
    /// The parameters as compact JSON text, order and numbers as they came. Absent for pure reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<Text<'a>>,
    /// Hex SHA-256 of the parameters, if they are not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params_sha256: Option<Text<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Text<'a>>,
    #[serde(default, skip_serializing_if = "<[Transfer]>::is_empty")]
    pub transfers: Cow<'a, [Transfer]>,
    /// This very record counts them against their windows.
    #[serde(default, skip_serializing_if = "<[Spend]>::is_empty")]
    pub spends: Cow<'a, [Spend]>,
}

/// A request that was signed at once: intent and result in one record.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SignedAtOnce<'a> {
    #[serde(borrow, flatten)]
    pub intent: Intent<'a>,
    /// Hex SHA-256 of the message that was signed.
    #[serde(borrow)]
    pub message_sha256: Text<'a>,
}

/// The end of an intent that has a record of its own.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RequestResult<'a> {
    #[serde(borrow)]
    pub request_id: Text<'a>,
    pub outcome: Outcome,
    /// Hex SHA-256 of the message that was signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_sha256: Option<Text<'a>>,
    /// The refusal's code, if nothing was signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Text<'a>>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Failed,
    Signed,
}

/// A signature that was made, and handed to nobody.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ThrownAway<'a> {
    #[serde(borrow)]
    pub request_id: Text<'a>,
    /// Hex SHA-256 of the message that was signed.
    #[serde(borrow)]
    pub message_sha256: Text<'a>,
}

/// The amounts that an intent counted are free again: it was given up before any token was asked.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Returned<'a> {
    #[serde(borrow)]
    pub request_id: Text<'a>,
    pub spends: Cow<'a, [Spend]>,
}

/// A request that got no signature.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Refused<'a> {
    #[serde(borrow)]
    pub request_id: Text<'a>,
    #[serde(borrow)]
    pub client: Text<'a>,
    pub uid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Text<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Text<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Text<'a>>,
    #[serde(borrow)]
    pub code: Text<'a>,
    #[serde(borrow)]
    pub message: Text<'a>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Refusals<'a> {
    #[serde(borrow)]
    pub client: Text<'a>,
    #[serde(borrow)]
    pub code: Text<'a>,
    pub count: u64,
    pub first_ms: u64,
    pub last_ms: u64,
}

/// Amounts and nonces set aside on disk before they are used, so that a power cut gives nothing
/// back. Synced.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Reserve<'a> {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<WindowBlock>,
    #[serde(default, borrow, skip_serializing_if = "Vec::is_empty")]
    pub nonces: Vec<NonceBlock<'a>>,
}

/// The amount that may still be spent from a window before the next reservation.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct WindowBlock {
    pub window: String,
    pub amount: Amount,
}

/// Nonces of a key below `until` may have been used.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct NonceBlock<'a> {
    #[serde(borrow)]
    pub key: Text<'a>,
    pub until: u64,
}

/// A key was added, changed or removed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct KeyChange<'a> {
    #[serde(borrow)]
    pub key: Text<'a>,
    #[serde(borrow)]
    pub exchange: Text<'a>,
    #[serde(borrow)]
    pub token: Text<'a>,
    pub scopes: Scopes,
    pub tier: Tier,
    /// Uid of the operator who asked for it.
    pub uid: u32,
}

/// The configuration the agent runs with from here on.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ConfigLoaded<'a> {
    #[serde(borrow)]
    pub sha256: Text<'a>,
    /// One line for people: the numbers of clients, tokens and destinations.
    #[serde(borrow)]
    pub summary: Text<'a>,
}

/// The operator locked or unlocked the agent.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Locking {
    pub uid: u32,
}

/// A token came up, went down or was given up.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct TokenChange<'a> {
    #[serde(borrow)]
    pub token: Text<'a>,
    #[serde(borrow)]
    pub state: Text<'a>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Text<'a>>,
}

/// Old segments are about to be removed. This is recorded before the removal.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Rotated<'a> {
    #[serde(borrow)]
    pub segment: Text<'a>,
    pub removed: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl<'a> Record<'a> {
    /// The request of an intent or of a signature that was made at once. This record counts its
    /// spends.
    pub fn intent(&self) -> Option<&Intent<'a>> {
        match self {
            Self::Intent(intent) => Some(intent),
            Self::Signed(signed) => Some(&signed.intent),
            _ => None,
        }
    }

    /// Reads the body of a line by its kind; `None` for a kind this version does not know.
    ///
    /// It ignores fields that it does not know, because a newer agent may have written more.
    pub fn parse(kind: &str, line: &'a str) -> Result<Option<Self>, serde_json::Error> {
        fn body<'a, B: Deserialize<'a>>(line: &'a str) -> Result<B, serde_json::Error> {
            serde_json::from_str(line)
        }
        Ok(Some(match kind {
            "approval" => Self::Approval(body(line)?),
            "closed" => Self::Closed(body(line)?),
            "config_loaded" => Self::ConfigLoaded(body(line)?),
            "intent" => Self::Intent(body(line)?),
            "key_activated" => Self::KeyActivated(body(line)?),
            "key_added" => Self::KeyAdded(body(line)?),
            "key_generated" => Self::KeyGenerated(body(line)?),
            "key_removed" => Self::KeyRemoved(body(line)?),
            "locked" => Self::Locked(body(line)?),
            "opened" => Self::Opened(body(line)?),
            "refusals" => Self::Refusals(body(line)?),
            "refused" => Self::Refused(body(line)?),
            "reserve" => Self::Reserve(body(line)?),
            "result" => Self::Result(body(line)?),
            "returned" => Self::Returned(body(line)?),
            "rotated" => Self::Rotated(body(line)?),
            "segment" => Self::Segment(body(line)?),
            "signed" => Self::Signed(body(line)?),
            "thrown_away" => Self::ThrownAway(body(line)?),
            "token" => Self::Token(body(line)?),
            "unlocked" => Self::Unlocked(body(line)?),
            _ => return Ok(None),
        }))
    }
}

#[cfg(test)]
pub(crate) mod samples {
    use super::*;

    /// One record of every kind.
    pub(crate) fn all() -> Vec<Record<'static>> {
        let amount = |text| Amount::parse(text).expect("a plain decimal");
        let key = KeyChange {
            key: "binance-mm".into(),
            exchange: "binance".into(),
            token: "hsm".into(),
            scopes: Scopes::only(Scope::Read),
            tier: Tier::Software,
            uid: 1000,
        };
        let spend = Spend {
            window: "client/bot/USDT".to_owned(),
            amount: amount("0.10"),
            cap: amount("200000"),
        };
        let intent = Intent {
            request_id: "0192".into(),
            client: "bot".into(),
            uid: 1001,
            key: "binance-mm".into(),
            exchange: "binance".into(),
            method: "POST".into(),
            path: "/api/v3/order".into(),
            host: Some("api.binance.com".into()),
            scope: Scope::Trade,
            effective_scopes: [Scope::Read, Scope::Trade].into_iter().collect(),
            params: Some("{\"symbol\":\"BTC\u{2028}\nUSDT\"}".into()),
            params_sha256: None,
            reason: Some("rebalance".into()),
            transfers: Cow::Owned(Vec::new()),
            spends: Cow::Owned(vec![spend.clone()]),
        };
        vec![
            Record::Approval(Box::new(crate::approval::approval_tests::record())),
            Record::Closed(Closed {}),
            Record::ConfigLoaded(ConfigLoaded { sha256: "00".into(), summary: "2 clients".into() }),
            Record::Intent(Box::new(intent.clone())),
            Record::KeyActivated(key.clone()),
            Record::KeyAdded(key.clone()),
            Record::KeyGenerated(key.clone()),
            Record::KeyRemoved(key),
            Record::Locked(Locking { uid: 0 }),
            Record::Opened(Opened {
                version: "0.1.0".into(),
                boot_id: "b".into(),
                pid: 7,
                carried: CarriedState::Reserved,
                cut_bytes: 12,
            }),
            Record::Refusals(Refusals {
                client: "bot".into(),
                code: "policy.rate".into(),
                count: 9,
                first_ms: 1,
                last_ms: 2,
            }),
            Record::Refused(Refused {
                request_id: "0193".into(),
                client: "bot".into(),
                uid: 1001,
                key: None,
                method: Some("GET".into()),
                path: Some("/x\"\\".into()),
                code: "request.unknown_endpoint".into(),
                message: "no".into(),
            }),
            Record::Reserve(Reserve {
                windows: vec![WindowBlock {
                    window: "transfer/BTC".to_owned(),
                    amount: amount("0.1"),
                }],
                nonces: vec![NonceBlock { key: "kraken".into(), until: u64::MAX }],
            }),
            Record::Result(RequestResult {
                request_id: "0192".into(),
                outcome: Outcome::Signed,
                message_sha256: Some("ab".into()),
                error: None,
            }),
            Record::Returned(Returned {
                request_id: "0192".into(),
                spends: Cow::Owned(vec![spend.clone()]),
            }),
            Record::Rotated(Rotated {
                segment: "000002.jsonl".into(),
                removed: vec!["000001.jsonl".to_owned()],
            }),
            Record::Segment(Box::new(SegmentHeader {
                segment: "000002.jsonl".into(),
                previous: Some(PreviousSegment {
                    segment: "000001.jsonl".to_owned(),
                    last_hash: "00".to_owned(),
                }),
                carried: Carried {
                    time_ms: 5,
                    boot_id: Some("b".to_owned()),
                    closed: false,
                    windows: vec![CarriedWindow {
                        window: "transfer/BTC".to_owned(),
                        headroom: amount("0.05"),
                        buckets: vec![(600_000, amount("1"))],
                    }],
                    nonces: Vec::new(),
                },
            })),
            Record::Signed(Box::new(SignedAtOnce { intent, message_sha256: "ab".into() })),
            Record::ThrownAway(ThrownAway {
                request_id: "0192".into(),
                message_sha256: "ab".into(),
            }),
            Record::Token(TokenChange { token: "hsm".into(), state: "ready".into(), detail: None }),
            Record::Unlocked(Locking { uid: 0 }),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_as_it_was_written() {
        let mut kinds = std::collections::BTreeSet::new();
        for record in samples::all() {
            let line = serde_json::to_string(&record).expect("serialises");
            let kind =
                serde_json::from_str::<serde_json::Value>(&line).expect("JSON")["kind"].to_string();
            let read = Record::parse(kind.trim_matches('"'), &line).expect("parses");
            assert_eq!(read.as_ref(), Some(&record), "{line}");
            kinds.insert(kind);
        }
        assert_eq!(kinds.len(), 21, "a kind has no sample");
    }

    #[test]
    fn an_unknown_kind_is_no_error() {
        assert_eq!(
            Record::parse("of_tomorrow", r#"{"kind":"of_tomorrow"}"#).expect("parses"),
            None
        );
    }
}
