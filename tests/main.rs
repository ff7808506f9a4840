//! End-to-end tests on real tokens: one binary, so that everything is linked once. Each room holds
//! the tests of one promise, and the first line of its file says which.

mod approving;
mod configuration;
mod confined;
mod crashes;
mod documents;
mod harness;
mod hostile;
mod hosts;
mod keys;
mod limits;
mod reload;
mod service;
mod signing;
mod sockets;
mod vault;
mod yubikey;
