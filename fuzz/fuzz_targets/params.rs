//! Parameters, from their text to what every exchange would be sent.
#![no_main]
countersign_fuzz::fuzz!(params);
