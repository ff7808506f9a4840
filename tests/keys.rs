//! An operator enrols and removes keys, and a secret passes only where it must.

mod enrolment;
mod keyring;
mod terminal;
