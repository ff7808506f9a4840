//! Builds JSON Web Tokens: `base64url(header).base64url(claims).base64url(signature)` (RFC 7519).

use super::text::base64url;
use crate::draft::{Piece, Template};
use crate::json::Value;

/// The bytes to sign: both parts as they stand in the token.
pub fn signing_input(header: &Value, claims: &Value) -> String {
    format!("{}.{}", base64url(header.to_json()), base64url(claims.to_json()))
}

/// The text `before`, then the token. The signature in it must be encoded as base64url.
pub fn token(before: &'static str, signing_input: &str) -> Template {
    Template::text(before).then_text(signing_input).then_text(".").then(Piece::Signature)
}
