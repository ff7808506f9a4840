//! The facts about an exchange's orders: how they are sized and priced, and which parameters change
//! that.

use crate::json::Value;

/// The facts about an exchange's orders, as data.
#[derive(Debug)]
pub struct OrderFacts {
    /// Types that trade at their price or better. `""` stands for an order whose row names no type,
    /// such as an amendment.
    pub priced: &'static [&'static str],
    /// Types that have a size and do not keep to a price.
    pub unpriced: &'static [&'static str],
    /// Types that may be sized in the quote asset.
    pub quoted: &'static [&'static str],
    /// The parameters that make an order close a whole position, whatever its size.
    pub whole: Whole,
    /// Parameters that change the size: they set another unit or another size, or are an order
    /// themselves.
    pub resizing: &'static [Mark],
    /// Parameters that give the order another price than its own.
    pub repricing: &'static [Mark],
    /// Lists of words that change neither size nor price.
    pub flags: &'static [Flags],
    /// Parameters that hold the prices of further legs. Each leg has the order's size, and counts.
    pub legs: &'static [&'static str],
    /// An empty text counts as absent. Clients of this exchange send one for a parameter that they
    /// leave out.
    pub empty_is_absent: bool,
    /// A sale has a size below zero.
    pub signed_sizes: bool,
}

impl OrderFacts {
    /// Nothing is known about the orders, so no size and no worth can be computed.
    pub const UNKNOWN: Self = Self {
        priced: &[],
        unpriced: &[],
        quoted: &[],
        whole: Whole::Unanswered,
        resizing: &[],
        repricing: &[],
        flags: &[],
        legs: &[],
        empty_is_absent: false,
        signed_sizes: false,
    };
}

/// The ways in which an order can close a whole position.
#[derive(Debug)]
pub enum Whole {
    /// One of these parameters does it. The text is the source of this fact.
    By(&'static [Mark], &'static str),
    /// No order can do it. The text says why, or names the source.
    No(&'static str),
    Unanswered,
}

impl Whole {
    pub fn marks(&self) -> &'static [Mark] {
        match self {
            Self::By(marks, _) => marks,
            Self::No(_) | Self::Unanswered => &[],
        }
    }
}

/// A parameter that means something, unless it has one of these values.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    pub name: &'static str,
    pub unless: &'static [&'static str],
}

impl Mark {
    pub const fn of(name: &'static str) -> Self {
        Self { name, unless: &[] }
    }

    #[must_use]
    pub const fn unless(self, values: &'static [&'static str]) -> Self {
        Self { unless: values, ..self }
    }
}

/// A parameter that is a list of words, and the words that change neither the size of an order nor
/// its price.
#[derive(Clone, Copy, Debug)]
pub struct Flags {
    pub name: &'static str,
    pub words: &'static [&'static str],
}

impl Flags {
    pub(super) fn are(&self, name: &str, value: &Value) -> bool {
        let known = |item: &Value| {
            matches!(
                item,
                Value::String(word) if self.words.contains(&word.as_str())
            )
        };
        name == self.name && matches!(value, Value::Array(items) if items.iter().all(known))
    }
}

/// The unit of an order's size.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unit {
    /// In the base asset, or in contracts.
    Base,
    Quote,
    /// The request does not say the unit. The text says why.
    Unknown(&'static str),
}
