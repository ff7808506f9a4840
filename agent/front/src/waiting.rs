//! What waits: requests and changes for persons, requests for their share of a token.

pub mod approvals;
pub mod budgets;
pub mod key_turns;
pub mod pending;
pub mod process_chain;
pub mod reload;
pub mod shares;
