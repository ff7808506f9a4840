//! Points in time as people read them: RFC 3339 in UTC, and how long ago.

use std::time::{SystemTime, UNIX_EPOCH};

use countersign_core::calendar::{days_before, iso8601_ms};

/// Milliseconds since 1970 in UTC.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Moment(u64);

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

impl Moment {
    pub(crate) fn now() -> Self {
        // With a clock before 1970 every time is shown as in the future. The clock is the bigger
        // problem then.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) const fn from_unix_ms(unix_ms: u64) -> Self {
        Self(unix_ms)
    }

    pub(crate) const fn unix_ms(self) -> u64 {
        self.0
    }

    /// The start of a day written `2027-01-31`.
    pub(crate) fn parse_day(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let dashed = bytes.len() == 10 && bytes[4] == b'-' && bytes[7] == b'-';
        let number = |part: &str| {
            part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse::<u64>().ok())?
        };
        if !dashed || !text.is_ascii() {
            return None;
        }
        let (year, month, day) = (number(&text[..4])?, number(&text[5..7])?, number(&text[8..])?);
        Some(Self(days_before(year, month, day)? * DAY))
    }

    /// `3 min ago`, `in 2 d`.
    pub(crate) fn relative_to(self, now: Self) -> String {
        let (distance, future) = (self.0.abs_diff(now.0), self.0 > now.0);
        let text = match distance {
            0..SECOND => return "now".to_owned(),
            SECOND..MINUTE => format!("{} s", distance / SECOND),
            MINUTE..HOUR => format!("{} min", distance / MINUTE),
            HOUR..DAY => format!("{} h", distance / HOUR),
            _ => format!("{} d", distance / DAY),
        };
        if future { format!("in {text}") } else { format!("{text} ago") }
    }
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&iso8601_ms(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Moment(unix_ms).to_string(), text);
        }
    }

    #[test]
    fn days_are_read_back_and_impossible_ones_refused() {
        for day in ["1970-01-01", "2000-02-29", "2023-12-31", "2100-02-28"] {
            let moment = Moment::parse_day(day).expect(day);
            assert_eq!(moment.to_string(), format!("{day}T00:00:00.000Z"));
        }
        for day in [
            "",
            "2023-02-29",
            "2023-06-31",
            "2023-13-01",
            "2023-00-01",
            "2023-1-01",
            "+023-01-01",
            "1969-12-31",
        ] {
            assert_eq!(Moment::parse_day(day), None, "{day}");
        }
    }

    #[test]
    fn distances_are_short() {
        let now = Moment(100 * DAY);
        for (unix_ms, text) in [
            (100 * DAY, "now"),
            (100 * DAY - 3 * MINUTE - 1, "3 min ago"),
            (100 * DAY + 2 * DAY, "in 2 d"),
            (100 * DAY - 5 * HOUR, "5 h ago"),
            (100 * DAY - 59 * SECOND, "59 s ago"),
        ] {
            assert_eq!(Moment(unix_ms).relative_to(now), text);
        }
    }
}
