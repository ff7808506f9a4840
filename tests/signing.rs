//! The agent signs a request as its exchange wants it, and records it.

mod algorithms;
mod real_requests;
