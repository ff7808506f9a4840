//! A looser configuration is in force only after an approver has touched for it.

mod in_force;
mod loosening;
