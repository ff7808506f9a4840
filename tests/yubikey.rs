//! A key that was made in a YubiKey signs once for each touch.

mod adapter;
mod born_keys;
mod card_pins;
mod touch_faults;
mod touched_withdrawal;
