//! Amounts: plain decimals, parsed strictly, computed exactly.

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A decimal of zero or more, written without sign, exponent, separators, padding zeros or a bare point.
///
/// At most 28 digits in all, so that no digit is ever lost; `rust_decimal`'s own parser rounds and takes `+1` and `1_0`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Amount(Decimal);

/// Longest text taken as an amount.
const MAX_DIGITS: usize = 28;

#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "not a plain decimal (digits, optionally a point and digits; no sign, exponent or leading zero; at most 28 digits)"
)]
pub struct NotAnAmount;

impl Amount {
    pub const ZERO: Self = Self(Decimal::ZERO);

    pub fn parse(text: &str) -> Result<Self, NotAnAmount> {
        let (whole, fraction) = match text.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
            Some(_) => return Err(NotAnAmount),
            None => (text, ""),
        };
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let padded = whole.len() > 1 && whole.starts_with('0');
        if whole.is_empty()
            || padded
            || whole.len() + fraction.len() > MAX_DIGITS
            || !digits(whole)
            || !digits(fraction)
        {
            return Err(NotAnAmount);
        }
        Decimal::from_str_exact(text).map(Self).map_err(|_| NotAnAmount)
    }

    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    /// `None` where the exact sum has more digits than can be kept.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let sum = self.0.checked_add(other.0)?;
        // Decimal drops digits silently where the scales are far apart: an inexact sum is no sum.
        (sum.checked_sub(self.0)? == other.0).then_some(Self(sum))
    }

    /// `None` below zero.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        (other <= self).then(|| self.0.checked_sub(other.0).map(Self))?
    }

    /// The product rounded up at the 28th digit: a notional is never judged smaller than it is.
    #[must_use]
    pub fn checked_mul_up(self, other: Self) -> Option<Self> {
        let product = self.0.checked_mul(other.0)?;
        if self.0.scale() + other.0.scale() <= product.scale()
            || product.is_zero() && (self.is_zero() || other.is_zero())
        {
            return Some(Self(product));
        }
        let step = Decimal::new(1, product.scale());
        product.checked_add(step).map(Self)
    }

    /// One `parts`-th, rounded up at the 28th digit.
    #[must_use]
    pub fn fraction_up(self, parts: u32) -> Option<Self> {
        let part = self.0.checked_div(Decimal::from(parts))?;
        part.checked_add(Decimal::new(1, part.scale())).map(Self)
    }

    pub fn to_decimal(self) -> Decimal {
        self.0
    }
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for Amount {
    type Err = NotAnAmount;

    fn from_str(text: &str) -> Result<Self, NotAnAmount> {
        Self::parse(text)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(text: &str) -> Amount {
        Amount::parse(text).expect(text)
    }

    #[test]
    fn takes_plain_decimals_only() {
        for text in ["0", "1", "0.1", "10.50", "0.0000000000000000000000001", "9999999999999999999999999999"] {
            assert!(Amount::parse(text).is_ok(), "{text}");
        }
        let long = "1".repeat(10_000);
        for text in [
            "",
            ".",
            ".5",
            "1.",
            "01",
            "00",
            "+1",
            "-1",
            "1e3",
            "1E3",
            "1_000",
            "1,000",
            " 1",
            "1 ",
            "0x10",
            "NaN",
            "inf",
            "１",
            "1.2.3",
            "0.00000000000000000000000000001",
            "12345678901234567890123456789",
            &long,
        ] {
            assert!(Amount::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sums_are_exact_or_absent() {
        assert_eq!(amount("0.1").checked_add(amount("0.2")), Some(amount("0.3")));
        assert_eq!(amount("9999999999999999999999999999").checked_add(amount("0.1")), None);
        assert_eq!(amount("1").checked_sub(amount("2")), None);
    }

    #[test]
    fn products_never_round_down() {
        assert_eq!(amount("0.01").checked_mul_up(amount("30000")), Some(amount("300")));
        let tiny = amount("0.000000000000001");
        assert!(tiny.checked_mul_up(tiny).expect("fits") > Amount::ZERO);
        assert_eq!(Amount::ZERO.checked_mul_up(tiny), Some(Amount::ZERO));
    }
}
