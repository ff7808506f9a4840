//! A request that persons have to approve is signed after their touch, once, or not at all.

mod openssh;
mod touches;
mod waiting;
