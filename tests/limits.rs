//! The agent refuses a request beyond its policy or its limits, with a code and a record.

mod clock;
mod days;
mod rates;
mod refusals;
