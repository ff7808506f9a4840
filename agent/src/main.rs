//! countersign-agent: parse arguments, wire adapters to the core, run.

fn main() {}
