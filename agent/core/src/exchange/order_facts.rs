//! What an exchange says of its orders: what they are sized and priced by, and what makes them
//! something else.

use crate::json::Value;

/// What an exchange says of its orders, as data.
#[derive(Debug)]
pub struct OrderFacts {
    /// Types that trade at their price or better; `""` stands for an order whose row names no type,
    /// such as an amendment.
    pub priced: &'static [&'static str],
    /// Types that have a size and do not keep to a price.
    pub unpriced: &'static [&'static str],
    /// Types that may be sized in the quote asset.
    pub quoted: &'static [&'static str],
    /// What makes an order one for a whole position, whatever its size.
    pub whole: Whole,
    /// Parameters that change the size: another unit, another size, an order of its own.
    pub resizing: &'static [Mark],
    /// Parameters that give the order another price than its own.
    pub repricing: &'static [Mark],
    /// Lists of words that change neither size nor price.
    pub flags: &'static [Flags],
    /// Prices of further legs, of the same size: each counts.
    pub legs: &'static [&'static str],
    /// An empty text says nothing: clients of this exchange send one for what they leave out.
    pub empty_is_absent: bool,
    /// A sale is a size below zero.
    pub signed_sizes: bool,
}

impl OrderFacts {
    /// Nothing is known, so that nothing can be computed.
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

/// How an order closes a whole position.
#[derive(Debug)]
pub enum Whole {
    /// By one of these parameters; where this was read.
    By(&'static [Mark], &'static str),
    /// No order does; why, or where this was read.
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

/// A parameter that is a list of words, and those of them that change neither the size of an order
/// nor its price.
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

/// In what the size of an order counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unit {
    /// In the base asset, or in contracts.
    Base,
    Quote,
    /// The request does not say it; why.
    Unknown(&'static str),
}
