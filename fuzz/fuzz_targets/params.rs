//! Parameters, from their text to the request that each exchange would get.
#![no_main]
countersign_fuzz::fuzz!(params);
