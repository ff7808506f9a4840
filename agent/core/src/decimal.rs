//! Amounts: plain decimals, parsed strictly, computed exactly.

use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A decimal of zero or more, written without sign, exponent, separators, padding zeros or a bare
/// point.
///
/// It has at most 28 digits in all, so that no digit is ever lost. `rust_decimal`'s own parser is
/// not used: it rounds, and it takes `+1` and `1_0`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Amount(Decimal);

/// Most digits of an amount, before and after the point together.
const MAX_DIGITS: usize = 28;

#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "not a plain decimal (digits, optionally a point and digits; no sign, exponent or leading \
     zero; at most 28 digits)"
)]
pub struct NotAnAmount;

impl Amount {
    pub const ZERO: Self = Self(Decimal::ZERO);
    /// The largest amount: 28 nines.
    pub const MAX: Self =
        Self(Decimal::from_parts(0x0FFF_FFFF, 0x3E25_0261, 0x204F_CE5E, false, 0));

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

    /// The sum; `None` if the exact sum has more digits than can be kept.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let sum = self.0.checked_add(other.0)?;
        // Decimal drops digits silently if the scales are far apart. An inexact sum is refused.
        // Only the difference to the larger part shows each lost digit.
        let (smaller, larger) = (self.min(other), self.max(other));
        (sum.checked_sub(larger.0)? == smaller.0 && is_writable(sum)).then_some(Self(sum))
    }

    /// The difference; `None` if it is below zero, or if it has more digits than can be kept.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        let difference = self.0.checked_sub(other.0).filter(|_| other <= self)?;
        // As for a sum: the sum of both parts would drop the same digits again.
        (self.0.checked_sub(difference)? == other.0 && is_writable(difference))
            .then_some(Self(difference))
    }

    /// The product rounded up at the 28th digit, so that a notional is never judged smaller than it
    /// is.
    #[must_use]
    pub fn checked_mul_up(self, other: Self) -> Option<Self> {
        let product = self.0.checked_mul(other.0)?;
        if self.0.scale() + other.0.scale() <= product.scale()
            || product.is_zero() && (self.is_zero() || other.is_zero())
        {
            return writable_up(product);
        }
        let step = Decimal::new(1, product.scale());
        product.checked_add(step).and_then(writable_up)
    }

    /// The amount divided by `parts`, rounded up at the 28th digit.
    #[must_use]
    pub fn fraction_up(self, parts: u32) -> Option<Self> {
        let part = self.0.checked_div(Decimal::from(parts))?;
        part.checked_add(Decimal::new(1, part.scale())).and_then(writable_up)
    }
}

/// True if [`Amount::parse`] takes the text of the decimal, so that a recorded amount can be read
/// back.
fn is_writable(decimal: Decimal) -> bool {
    (decimal.scale() as usize) < MAX_DIGITS && decimal.mantissa() <= Amount::MAX.0.mantissa()
}

/// The next decimal of at most 28 digits, not below `decimal`; `None` if `decimal` has more than 28
/// digits before the point.
fn writable_up(decimal: Decimal) -> Option<Amount> {
    let rounded = |digits| decimal.round_dp_with_strategy(digits, RoundingStrategy::AwayFromZero);
    (0..=decimal.scale()).rev().map(rounded).find(|rounded| is_writable(*rounded)).map(Amount)
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
    use proptest::prelude::*;

    use super::*;

    fn amount(text: &str) -> Amount {
        Amount::parse(text).expect(text)
    }

    #[test]
    fn takes_plain_decimals_only() {
        for text in [
            "0",
            "1",
            "0.1",
            "10.50",
            "0.0000000000000000000000001",
            "9999999999999999999999999999",
        ] {
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
        // Decimal rounds these to the large part, and the rounded numbers agree with each other.
        let (large, small) = (amount("80001"), amount("0.0000000000000000000000001"));
        assert_eq!((large.checked_add(small), small.checked_add(large)), (None, None));
        assert_eq!(large.checked_sub(small), None);
        assert_eq!(small.checked_sub(small), Some(Amount::ZERO));
    }

    /// An amount as an integer with 27 digits after the point, if it has no more than 11 before.
    fn scaled(amount: Amount) -> i128 {
        let text = amount.to_string();
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        format!("{whole}{fraction:0<27}").parse().expect("38 digits at most")
    }

    proptest! {
        #[test]
        fn no_sum_and_no_difference_loses_a_digit(
            one in (0u64..10_000_000_000, "[0-9]{1,18}"),
            other in (0u64..10, "[0-9]{1,27}"),
        ) {
            let [one, other] = [one, other].map(|(whole, fraction)| format!("{whole}.{fraction}"));
            let (Ok(one), Ok(other)) = (Amount::parse(&one), Amount::parse(&other)) else {
                return Ok(());
            };
            for (one, other) in [(one, other), (other, one)] {
                if let Some(sum) = one.checked_add(other) {
                    prop_assert_eq!(scaled(sum), scaled(one) + scaled(other));
                }
                if let Some(difference) = one.checked_sub(other) {
                    prop_assert_eq!(scaled(difference), scaled(one) - scaled(other));
                }
            }
        }
    }

    #[test]
    fn what_is_computed_can_be_read_back() {
        let tiny = amount("0.00000000000001");
        let long = amount("12345678901234.56789012345678");
        let computed = [
            tiny.checked_mul_up(tiny),
            long.checked_mul_up(amount("0.33333333333333")),
            amount("0.000000000000000000000000001").fraction_up(20),
            amount("9999999999999999999999999999").fraction_up(3),
            amount("1234567890123456789").checked_add(tiny),
            amount("9999999999999999999999999999").checked_add(amount("1")),
            amount("1234567890123456789").checked_sub(tiny),
            Some(Amount::MAX),
        ];
        for amount in computed.into_iter().flatten() {
            assert_eq!(Amount::parse(&amount.to_string()), Ok(amount));
        }
        assert!(computed[0].expect("rounds up") > Amount::ZERO);
        assert_eq!((computed[4], computed[5], computed[6]), (None, None, None));
        assert_eq!(Amount::MAX.to_string(), "9".repeat(28));
    }

    #[test]
    fn products_never_round_down() {
        assert_eq!(amount("0.01").checked_mul_up(amount("30000")), Some(amount("300")));
        let tiny = amount("0.000000000000001");
        assert!(tiny.checked_mul_up(tiny).expect("fits") > Amount::ZERO);
        assert_eq!(Amount::ZERO.checked_mul_up(tiny), Some(Amount::ZERO));
    }
}
