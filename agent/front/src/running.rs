//! Looks after the running front: its limits, its readiness, the configuration that it accepted.

pub mod accepted;
pub mod confinement;
pub mod readiness;
pub mod service_manager;
