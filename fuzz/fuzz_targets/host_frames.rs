//! Answers of a token host.
#![no_main]
countersign_fuzz::fuzz!(host_frames);
