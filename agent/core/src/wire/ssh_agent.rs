//! The numbers of the SSH agent protocol that the agent and its clients use
//! (<https://datatracker.ietf.org/doc/draft-ietf-sshm-ssh-agent/>).

/// Longest frame that either side takes, in bytes: type and body, without the length field.
pub const MAX_FRAME: usize = 256 * 1024;

/// Bytes of the length before each frame and each string.
pub const LENGTH_FIELD: usize = 4;

/// Types of messages.
pub const FAILURE: u8 = 5;
pub const REQUEST_IDENTITIES: u8 = 11;
pub const EXTENSION: u8 = 27;
pub const EXTENSION_RESPONSE: u8 = 29;
