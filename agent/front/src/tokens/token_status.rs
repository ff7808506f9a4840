//! Describes the state of a token for the operator and the journal.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use countersign_base::messages::confinement::ConfinementReport;
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

/// The state of one token, its keys and its facts. Keys and facts are kept when a host dies.
#[derive(Clone, Debug)]
pub struct TokenStatus {
    pub state: TokenState,
    /// Unix time in milliseconds at which the state began.
    pub since_ms: u64,
    pub last_error: Option<String>,
    /// Unix time in milliseconds at which a host is started again. `None` if that waits for the
    /// operator, or is not needed.
    pub next_try_ms: Option<u64>,
    /// True if the last host ended for good: another start would only fail again, or use up a PIN
    /// try.
    pub given_up: bool,
    pub keys: Vec<HostedKey>,
    pub facts: TokenFacts,
    /// The limits that its process has put on itself.
    pub limits: ConfinementReport,
    /// Unix time in milliseconds until which the token waits for a touch, if it does.
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
            limits: ConfinementReport::default(),
            blinks_until_ms: None,
        }
    }

    /// Takes the new state. True if the state changed.
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
