//! After a kill or on a bad disk no record is lost, and no limit is passed.

mod failing_disk;
mod full_disk;
mod full_meanwhile;
mod kills;
mod starts;
mod writers;
