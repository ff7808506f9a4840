//! Client of the countersign agent: blocking calls over its Unix sockets.
//!
//! ```no_run
//! use countersign::{Client, SignCall, Sockets};
//!
//! let mut client = Client::open(&Sockets::discover())?;
//! let reply = client.sign(&SignCall::new("binance-mm", "GET", "/api/v3/account"))?;
//! println!("{} {}", reply.method, reply.url);
//! # Ok::<(), countersign::Error>(())
//! ```
//!
//! [`Client`] speaks to the agent socket, [`Admin`] to the operator's; [`Connection`] is below both, for messages
//! sent ahead and other extensions.
#![forbid(unsafe_code)]

mod admin;
mod client;
mod connection;
mod error;
mod frame;
pub mod known_agents;
mod outcome;
mod socket;
pub mod ssh_agent;

pub use admin::Admin;
pub use client::{Client, SignCall};
pub use connection::{Connection, DEADLINE, SIGNING_DEADLINE};
pub use countersign_core as core;
pub use error::{Error, Refused};
pub use frame::{FrameError, MAX_FRAME};
pub use socket::Sockets;
