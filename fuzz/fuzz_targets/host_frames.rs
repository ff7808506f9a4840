//! What a token host answers.
#![no_main]
countersign_fuzz::fuzz!(host_frames);
