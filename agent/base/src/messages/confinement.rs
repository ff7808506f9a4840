//! What the operator demands of confinement, and what a process says of its own.

use serde::{Deserialize, Serialize};

/// What the operator demands (`[agent] confinement`).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Demand {
    /// Everything the kernel has; what it has not is shown.
    #[default]
    Available,
    /// Nothing but hidden memory: to find out whether a token needs more than it is given.
    Off,
    /// Everything, or no start.
    Required,
}

impl Demand {
    pub const ALL: [Self; 3] = [Self::Available, Self::Off, Self::Required];

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|demand| demand.name() == text)
    }

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Off => "off",
            Self::Required => "required",
        }
    }
}

/// What a process can no longer do, and what could not be taken from it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Limits {
    pub on: Vec<String>,
    pub missing: Vec<String>,
}
