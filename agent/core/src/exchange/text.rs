//! Writes bytes as text, in the encodings that exchanges want.

pub use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};

/// Lower-case hexadecimal.
pub fn hex(bytes: impl AsRef<[u8]>) -> String {
    HEXLOWER.encode(bytes.as_ref())
}

/// Base64 with padding.
pub fn base64(bytes: impl AsRef<[u8]>) -> String {
    BASE64.encode(bytes.as_ref())
}

/// Base64 for URLs and tokens, without padding.
pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    BASE64URL_NOPAD.encode(bytes.as_ref())
}
