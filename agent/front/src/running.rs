//! What the front does with itself while it runs: its limits, its readiness, the configuration it
//! accepted.

pub mod accepted;
pub mod confinement;
pub mod readiness;
pub mod service_manager;
