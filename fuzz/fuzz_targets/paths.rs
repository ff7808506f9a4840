//! Methods and paths, looked up in every endpoint table.
#![no_main]
countersign_fuzz::fuzz!(paths);
