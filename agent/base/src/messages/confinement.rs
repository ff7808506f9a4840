//! The confinement that the operator demands, and the limits that a process reports.

use serde::{Deserialize, Serialize};

/// The confinement that the operator demands (`[agent] confinement`).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Demand {
    /// Use every limit that this kernel supports. Limits that it lacks are shown.
    #[default]
    Available,
    /// Only hide memory, for finding out whether a token needs more than the limits allow.
    Off,
    /// Use every limit, and do not start if one is missing.
    Required,
}

impl Demand {
    pub const ALL: [Self; 3] = [Self::Available, Self::Off, Self::Required];

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|demand| demand.name() == text)
    }

    /// The word in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Off => "off",
            Self::Required => "required",
        }
    }
}

/// The limits of a process, and those that could not be set.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ConfinementReport {
    pub on: Vec<String>,
    pub missing: Vec<String>,
}
