//! The sockets serve each caller what it may have, and no caller keeps another one out.

mod activation;
mod bad_frames;
mod callers;
mod descriptors;
mod listening;
mod many_connections;
mod pipelining;
mod slow_peers;
