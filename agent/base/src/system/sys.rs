//! The system calls that no safe library offers. Only this module may use `unsafe`, and each use
//! says why it is sound.
#![allow(unsafe_code)]

mod call_filter;
mod interrupt;
mod locked_memory;
mod peer;
mod process;

pub(crate) use call_filter::install_call_filter;
pub use interrupt::{expect_interruptions, interrupt};
pub use locked_memory::LockedMemory;
pub use peer::peer_pidfd;
pub use process::{
    close_inherited, duplicate_descriptor, forget_environment, keep_hang_ups,
    outlive_termination_signals, replace_environment, survive_file_size_limits, take_hang_ups,
    termination_signals, write_from_the_background,
};
