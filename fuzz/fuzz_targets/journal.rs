//! Segments of a journal.
#![no_main]
countersign_fuzz::fuzz!(journal);
