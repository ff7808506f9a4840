//! How a token is, as the operator and the journal see it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use countersign_base::messages::confinement::Limits;
use countersign_base::messages::token_host::{HostedKey, TokenFacts};
use serde::Serialize;

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenState {
    /// Answers, but its last self-test failed.
    Degraded,
    /// No host runs.
    Down,
    Healthy,
    /// The host runs and has not logged in yet.
    Starting,
}

impl TokenState {
    /// The word in `status` and in the journal.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Degraded => "degraded",
            Self::Down => "down",
            Self::Healthy => "healthy",
            Self::Starting => "starting",
        }
    }
}

/// The state of one token and what is known of it; keys and facts outlive a host that died.
#[derive(Clone, Debug)]
pub struct TokenStatus {
    pub state: TokenState,
    /// Unix time at which the state began.
    pub since_ms: u64,
    pub last_error: Option<String>,
    /// Unix time at which a host is started again; `None` where that waits for the operator, or is
    /// not needed.
    pub next_try_ms: Option<u64>,
    /// The last host ended for good: another start would only repeat it, or spend a PIN try.
    pub given_up: bool,
    pub keys: Vec<HostedKey>,
    pub facts: TokenFacts,
    /// What its process cannot do.
    pub limits: Limits,
    /// Unix time until which it waits for a finger, where it does.
    pub blinks_until_ms: Option<u64>,
}

impl TokenStatus {
    pub(crate) fn starting() -> Self {
        Self {
            state: TokenState::Starting,
            since_ms: unix_ms(Duration::ZERO),
            last_error: None,
            next_try_ms: None,
            given_up: false,
            keys: Vec::new(),
            facts: TokenFacts::default(),
            limits: Limits::default(),
            blinks_until_ms: None,
        }
    }

    /// Takes the new state; true where it is another one than before.
    pub(crate) fn enter(&mut self, state: TokenState) -> bool {
        self.next_try_ms = None;
        self.given_up = false;
        self.blinks_until_ms = self.blinks_until_ms.filter(|_| state == TokenState::Healthy);
        if self.state == state {
            return false;
        }
        self.state = state;
        self.since_ms = unix_ms(Duration::ZERO);
        true
    }
}

/// Unix time in milliseconds, `later` from now.
pub(crate) fn unix_ms(later: Duration) -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + later;
    since.as_millis() as u64
}
