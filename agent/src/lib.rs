//! The agent's adapters: sockets, token hosts, enrolment, records. The rules are in `countersign-core`.

pub mod host;
pub mod sys;
