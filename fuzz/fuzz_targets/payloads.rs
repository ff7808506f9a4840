//! Payloads of the extension messages.
#![no_main]
countersign_fuzz::fuzz!(payloads);
