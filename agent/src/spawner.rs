//! The spawner: a small process of its own that starts token hosts and enrol children for the front.
//!
//! The front gives up starting programs, and much of what a token needs, before it reads a client's first byte; yet a
//! host that died has to be started again. So this process is started first and does that alone. It holds no secret and
//! gets no client's byte: the front tells it which of a few kinds of child to start and hands over the descriptors the
//! child is to have. Program, arguments and environment are fixed here; what a child is to do, the front tells the
//! child itself. When the front is gone, the spawner lets its children end by themselves, kills what is left after a few
//! seconds, and ends.

mod handle;
mod process;
pub(crate) mod protocol;

pub use handle::{Child, Exit, Launched, Spawner};
pub use process::{Programs, run};
pub use protocol::Kind;
