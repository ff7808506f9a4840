//! What the approver's own machine checks before it shows a statement: that its summary follows
//! from its parameters.

use super::{Statement, Subject};
use crate::algorithm::Algorithm;
use crate::exchange;
use crate::exchange::classify::{classify, neighbours, residual};
use crate::exchange::recipe::Exchange;
use crate::exchange::table::Endpoint;
use crate::json::Value;
use crate::refusal::Refusal;
use crate::request::{Method, Params, Path, Request};

/// What the signature would open beyond the request itself.
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
    #[error(
        "it is signed for another purpose than it has: do not approve it, and look at the agent"
    )]
    Purpose,
    #[error(
        "it is listed as something else than would be signed: do not approve it, and look at the \
         agent"
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

/// `None` where there is no request in it.
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

/// Judges the statement's request anew with this program's own tables. `None` where there is no
/// request to judge.
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
