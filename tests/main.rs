//! End-to-end tests on real tokens: one binary, so that everything is linked once.

mod agent;
mod config;
mod confined;
mod faults;
mod first_run;
#[expect(unreachable_pub, reason = "the fuzz targets use these modules from elsewhere")]
mod fuzzed;
mod hosts;
mod machine;
mod service;
mod softhsm;
mod token;
mod transport;
mod typist;
mod vault;
mod yubikey;
