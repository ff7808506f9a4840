//! Checks on the approver's own machine that the summary of a statement follows from its
//! parameters.

use super::{Statement, Subject};
use crate::algorithm::Algorithm;
use crate::exchange;
use crate::exchange::classify::{classify, neighbours, residual};
use crate::exchange::recipe::Exchange;
use crate::exchange::table::Endpoint;
use crate::json::Value;
use crate::refusal::Refusal;
use crate::request::{Method, Params, Path, Request};

/// The endpoints that the signature would open beyond the request itself.
#[derive(Debug)]
pub struct Reviewed {
    /// Other endpoints the exchange would accept the same signature for.
    pub neighbours: Vec<&'static Endpoint>,
    /// Endpoints no signer can tell apart from ordinary requests of this exchange.
    pub residual: Vec<&'static Endpoint>,
}

/// Why a statement must not be approved.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unlike {
    #[error("the exchange {0} is not known here: the agent is newer than this program")]
    Exchange(String),
    #[error("its request is not understood here: {0}")]
    Request(#[from] Refusal),
    #[error(
        "the agent says it moves something else than its parameters say: do not approve it, and \
         look at the agent"
    )]
    Transfers,
    #[error("its purpose does not fit its subject: do not approve it, and look at the agent")]
    Purpose,
    #[error(
        "it is listed as one thing, and another would be signed: do not approve it, and look at \
         the agent"
    )]
    Listed,
    #[error(
        "the agent says it opens less than its parameters open: do not approve it, and look at the \
         agent"
    )]
    Scopes,
}

/// The request that a statement is about, parsed anew.
pub struct Meant {
    pub exchange: &'static dyn Exchange,
    pub algorithm: Algorithm,
    pub request: Request,
}

impl std::fmt::Debug for Meant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meant")
            .field("exchange", &self.exchange.facts().name)
            .finish_non_exhaustive()
    }
}

/// The request that a subject is about; `None` if it is not about a request.
pub fn meant(subject: &Subject) -> Result<Option<Meant>, Unlike> {
    let Subject::Request { exchange, host, method, path, params, params_in, algorithm, .. } =
        subject
    else {
        return Ok(None);
    };
    let exchange = exchange::named(exchange).ok_or_else(|| Unlike::Exchange(exchange.clone()))?;
    let request = Request {
        method: Method::parse(method)?,
        path: Path::parse(path)?,
        params: Params::new(Value::parse(params)?)?,
        params_in: *params_in,
        host: Some(host.clone()),
    };
    Ok(Some(Meant {
        exchange,
        algorithm: algorithm.unwrap_or(exchange.facts().algorithms[0]),
        request,
    }))
}

/// Judges the statement's request anew with this program's own tables. `None` if the statement is
/// not about a request.
pub fn review(statement: &Statement) -> Result<Option<Reviewed>, Unlike> {
    if statement.purpose != statement.subject.purpose() {
        return Err(Unlike::Purpose);
    }
    let Subject::Request { effective_scopes, transfers, environment, .. } = &statement.subject
    else {
        return Ok(None);
    };
    let Some(Meant { exchange, algorithm, request }) = meant(&statement.subject)? else {
        return Ok(None);
    };
    exchange.host(&request, *environment)?;
    let classified = classify(exchange, algorithm, &request)?;
    if !classified.effective.without(*effective_scopes).is_empty() {
        return Err(Unlike::Scopes);
    }
    if classified.transfers != *transfers {
        return Err(Unlike::Transfers);
    }
    Ok(Some(Reviewed {
        neighbours: neighbours(exchange, algorithm, &request),
        residual: residual(exchange).collect(),
    }))
}
