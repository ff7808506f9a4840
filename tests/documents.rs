//! The pages say what the tests show.

mod claims;
mod fault_tables;
mod marks;
