//! A token that fails is a clear error, it is back soon, and a wrong PIN costs one try.

mod faulty_tokens;
mod host_process;
mod killed_processes;
mod lock_out;
mod logins;
mod supervisor;
mod wrong_pins;
