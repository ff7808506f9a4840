//! Keeps requests and changes that wait for persons, and requests that wait for a share of a token.

pub mod approvals;
pub mod budgets;
pub mod caller_processes;
pub mod keys_in_change;
pub mod pending;
pub mod reload;
pub mod token_places;
