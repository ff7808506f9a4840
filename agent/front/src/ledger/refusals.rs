//! Counts the refusals of a flood, so that a client that is refused all day does not fill the disk.

use std::borrow::Cow;

use countersign_core::record::{Refusals, Refused};

/// Most refusals of one client and code that are recorded singly in each period.
const SINGLY: u64 = 20;
/// The same, on a full disk.
const SINGLY_WHEN_FULL: u64 = 1;
const PERIOD_MS: u64 = 10_000;
/// Most pairs of client and code that are counted separately. The rest are counted together.
const KINDS: usize = 256;
/// Longest text of a client that is kept in a record, in bytes.
const LONGEST_TEXT: usize = 512;

#[derive(Debug, Default)]
pub(super) struct Floods(Vec<Flood>);

#[derive(Debug)]
struct Flood {
    client: String,
    code: String,
    began_ms: u64,
    singly: u64,
    counted: u64,
    first_ms: u64,
    last_ms: u64,
}

/// The way in which one refusal is recorded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Recording {
    Counted,
    Singly,
}

impl Floods {
    pub(super) fn admit(&mut self, now_ms: u64, client: &str, code: &str, full: bool) -> Recording {
        let flood = self.flood(now_ms, client, code);
        if flood.singly < if full { SINGLY_WHEN_FULL } else { SINGLY } {
            flood.singly += 1;
            return Recording::Singly;
        }
        if flood.counted == 0 {
            flood.first_ms = now_ms;
        }
        flood.counted += 1;
        flood.last_ms = now_ms;
        Recording::Counted
    }

    /// Ends the periods that are over. Returns the refusals that were counted in them.
    pub(super) fn ended(&mut self, now_ms: u64) -> Vec<Refusals<'static>> {
        let over =
            self.0.extract_if(.., |flood| flood.began_ms.saturating_add(PERIOD_MS) <= now_ms);
        over.filter_map(Flood::into_record).collect()
    }

    /// Ends all periods.
    pub(super) fn all(&mut self) -> Vec<Refusals<'static>> {
        self.0.drain(..).filter_map(Flood::into_record).collect()
    }

    fn flood(&mut self, now_ms: u64, client: &str, code: &str) -> &mut Flood {
        let full = self.0.len() >= KINDS;
        let index = |floods: &[Flood], client: &str, code: &str| {
            floods.iter().position(|flood| flood.client == client && flood.code == code)
        };
        let (client, code) = match index(&self.0, client, code) {
            None if full => ("others", "any"),
            _ => (client, code),
        };
        let index = index(&self.0, client, code).unwrap_or_else(|| {
            let (client, code) = (client.to_owned(), code.to_owned());
            self.0.push(Flood {
                client,
                code,
                began_ms: now_ms,
                singly: 0,
                counted: 0,
                first_ms: 0,
                last_ms: 0,
            });
            self.0.len() - 1
        });
        &mut self.0[index]
    }
}

impl Flood {
    fn into_record(self) -> Option<Refusals<'static>> {
        let Self { client, code, counted: count, first_ms, last_ms, .. } = self;
        (count > 0).then(|| Refusals {
            client: client.into(),
            code: code.into(),
            count,
            first_ms,
            last_ms,
        })
    }
}

/// The refusal with texts of bounded length: a refused request may have texts of any length.
pub(super) fn shortened<'a>(refused: &'a Refused<'_>) -> Refused<'a> {
    Refused {
        request_id: Cow::Borrowed(&refused.request_id),
        client: Cow::Borrowed(&refused.client),
        uid: refused.uid,
        key: refused.key.as_deref().map(short),
        method: refused.method.as_deref().map(short),
        path: refused.path.as_deref().map(short),
        code: Cow::Borrowed(&refused.code),
        message: short(&refused.message),
    }
}

fn short(text: &str) -> Cow<'_, str> {
    if text.len() <= LONGEST_TEXT {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{}…", &text[..text.floor_char_boundary(LONGEST_TEXT)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_recorded_and_the_rest_counted() {
        let mut floods = Floods::default();
        let singly = (0..1_000)
            .filter(|now| floods.admit(*now, "bot", "policy.rate", false) == Recording::Singly)
            .count();
        assert_eq!(singly as u64, SINGLY);
        assert_eq!(floods.admit(999, "other", "policy.rate", false), Recording::Singly);
        assert_eq!(floods.ended(PERIOD_MS - 1), vec![]);
        let counted = floods.ended(PERIOD_MS);
        assert_eq!(
            counted.iter().map(|one| (one.count, one.first_ms, one.last_ms)).collect::<Vec<_>>(),
            [(980, 20, 999)]
        );
        assert_eq!(floods.admit(PERIOD_MS, "bot", "policy.rate", false), Recording::Singly);
    }

    #[test]
    fn many_kinds_are_counted_together_and_none_is_lost() {
        let mut floods = Floods::default();
        let recorded = (0..10_000u64).filter(|n| {
            floods.admit(1, &format!("uid {n}"), "client.unknown", false) == Recording::Singly
        });
        let recorded = recorded.count() as u64;
        let counted: u64 = floods.all().iter().map(|one| one.count).sum();
        assert_eq!(recorded + counted, 10_000);
        assert!(recorded < 300, "{recorded}");
    }

    #[test]
    fn texts_are_cut_between_characters() {
        let long = "é".repeat(1_000);
        assert!(short(&long).len() < 520 && short("x") == "x");
    }
}
