//! A key in a vault signs after a touch of a YubiKey, and never without one.

mod apart;
mod attacks;
mod changes;
mod killed;
mod leaks;
mod stays_open;
mod withdrawals;
