//! JSON as the protocol takes it.
#![no_main]
countersign_fuzz::fuzz!(json);
