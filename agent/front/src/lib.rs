//! The front: the process that every client and the operator talk to. It holds no key, PIN or
//! module.

#![forbid(unsafe_code)]

pub mod clock;
pub mod front;
pub mod keyring;
pub mod ledger;
pub mod requests;
pub mod run;
pub mod running;
pub mod shutdown;
pub mod sockets;
pub mod tokens;
pub mod waiting;
