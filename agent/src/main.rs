//! countersign-agent: parse arguments, wire adapters to the core, run.

mod host;

fn main() {}
