//! Frames of the agent protocol.
#![no_main]
countersign_fuzz::fuzz!(frames);
