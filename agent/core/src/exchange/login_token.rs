//! The login for exchanges that give out a token for their private WebSocket.

use super::recipe::Exchange;
use crate::draft::SessionDraft;
use crate::key::Key;
use crate::refusal::Refusal;
use crate::request::{Method, Params, Path, Request};
use crate::stamp::Stamp;

/// Drafts the request for the token that opens the private WebSocket: a POST to this endpoint,
/// without parameters.
pub fn token(
    exchange: &dyn Exchange,
    host: &str,
    path: &str,
    key: &Key,
    stamp: &Stamp,
) -> Result<SessionDraft, Refusal> {
    let path = Path::parse(path)?;
    let request = Request {
        method: Method::Post,
        path,
        params: Params::empty(),
        params_in: None,
        host: None,
    };
    let draft = exchange.draft(&request, key, host, stamp)?;
    Ok(SessionDraft::token(format!("https://{host}{}", request.path), draft))
}
