//! Answers each kind of question on the sockets of the clients and of the operator.

pub mod admin_socket;
pub mod answer;
pub mod approval;
pub mod approval_course;
pub mod client_socket;
pub mod key_change;
pub mod loosening_change;
pub mod pending_list;
pub mod ssh_public_key;
pub mod status;
