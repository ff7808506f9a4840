//! End-to-end tests on real tokens: one binary, so that everything is linked once.

mod agent;
mod config;
mod faults;
mod hosts;
mod softhsm;
mod token;
mod transport;
