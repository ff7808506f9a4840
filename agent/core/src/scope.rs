//! The scopes of a request: the things it can do, as a set. Scopes are not a ladder.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One thing a request can do at the exchange.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Look at balances, orders, history.
    Read,
    /// Place, change or cancel orders; change leverage or margin mode of positions.
    Trade,
    /// Change something of the account that is not an order and moves no money out: earn, loans,
    /// conversions, settings.
    Account,
    /// Move money between the operator's own wallets and sub-accounts.
    Transfer,
    /// Move money out.
    Withdraw,
    /// API keys, sub-accounts, address books, security settings.
    Admin,
    /// Open a session in which nothing further is signed.
    Session,
}

impl Scope {
    pub const ALL: [Self; 7] = [
        Self::Read,
        Self::Trade,
        Self::Account,
        Self::Transfer,
        Self::Withdraw,
        Self::Admin,
        Self::Session,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Trade => "trade",
            Self::Account => "account",
            Self::Transfer => "transfer",
            Self::Withdraw => "withdraw",
            Self::Admin => "admin",
            Self::Session => "session",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of scopes; written as a list of names in the order of [`Scope::ALL`].
#[derive(Clone, Copy, Default, Eq, Hash, PartialEq)]
pub struct Scopes(u8);

impl Scopes {
    pub const NONE: Self = Self(0);

    pub const fn only(scope: Scope) -> Self {
        Self(1 << scope as u8)
    }

    #[must_use]
    pub const fn with(self, scope: Scope) -> Self {
        Self(self.0 | 1 << scope as u8)
    }

    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The scopes of `self` that `other` lacks.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The scopes that both hold.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        scopes.into_iter().fold(Self::NONE, Self::with)
    }
}

impl std::fmt::Debug for Scopes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl std::fmt::Display for Scopes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.iter().map(Scope::name).collect();
        f.write_str(&names.join(", "))
    }
}

impl Serialize for Scopes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A list of known length, because not every format takes a list of unknown length.
        self.iter().collect::<Vec<_>>().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<Scope>::deserialize(deserializer).map(Self::from_iter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_written_in_fixed_order_and_read_back() {
        let set: Scopes = [Scope::Withdraw, Scope::Read].into_iter().collect();
        let json = serde_json::to_string(&set).expect("serialises");
        assert_eq!(json, r#"["read","withdraw"]"#);
        assert_eq!(serde_json::from_str::<Scopes>(&json).expect("parses"), set);
    }

    #[test]
    fn without_leaves_what_is_missing() {
        let wanted: Scopes = [Scope::Trade, Scope::Withdraw].into_iter().collect();
        assert_eq!(wanted.without(Scopes::only(Scope::Trade)), Scopes::only(Scope::Withdraw));
    }
}
