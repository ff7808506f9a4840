//! The agent's adapters: sockets, token hosts, enrolment, records. The rules are in `countersign-core`.

pub mod activation;
pub mod check;
pub mod config;
pub mod confine;
pub mod connection;
mod descriptor;
pub mod enrol;
pub mod frame;
pub mod front;
pub mod host;
mod in_flight;
pub mod ledger;
pub mod listener;
pub mod peer;
pub mod profiles;
pub mod random;
pub mod run;
pub mod server;
pub mod service_manager;
pub mod shutdown;
pub mod socket;
mod spare;
pub mod spawner;
mod stream;
pub mod sys;
pub mod terminal;
pub mod trusted_path;
