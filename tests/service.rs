//! The agent tells its service manager how it is, and ends in order with a documented code.

mod exit_codes;
mod first_run;
mod logs;
mod readiness;
mod watchdog;
