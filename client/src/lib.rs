//! Client of the countersign agent: blocking calls over its Unix sockets.
//!
//! ```no_run
//! use countersign::{AgentClient, SignCall, Sockets};
//!
//! let mut client = AgentClient::open(&Sockets::discover())?;
//! let reply = client.sign(&SignCall::new("binance-mm", "GET", "/api/v3/account"))?;
//! println!("{} {}", reply.method, reply.url);
//! # Ok::<(), countersign::Error>(())
//! ```
//!
//! [`AgentClient`] speaks to the agent socket, [`Admin`] to the admin socket. Both use a
//! [`Connection`], which also sends requests ahead and other extensions.
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
pub use client::{AgentClient, SignCall};
pub use connection::{Connection, DEADLINE, SIGNING_DEADLINE};
pub use countersign_core as core;
pub use countersign_core::wire::ssh_agent::MAX_FRAME;
pub use error::{AgentRefusal, Error};
pub use frame::AnswerFrameError;
pub use socket::Sockets;
