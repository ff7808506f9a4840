//! What the approver's own machine checks before it shows a statement: that its summary follows from its parameters.

use super::{Statement, Subject};
use crate::exchange;
use crate::exchange::classify::{classify, neighbours, residual};
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
    #[error("the agent says it moves something else than its parameters say: do not approve it, and look at the agent")]
    Transfers,
    #[error("the agent says it opens less than its parameters open: do not approve it, and look at the agent")]
    Scopes,
}

/// Judges the statement's request anew with this program's own tables. `None` where there is no request to judge.
pub fn review(statement: &Statement) -> Result<Option<Reviewed>, Unlike> {
    let Subject::Request {
        exchange,
        host,
        method,
        path,
        params,
        effective_scopes,
        transfers,
        environment,
        params_in,
        algorithm,
        ..
    } = &statement.subject
    else {
        return Ok(None);
    };
    let exchange = exchange::named(exchange).ok_or_else(|| Unlike::Exchange(exchange.clone()))?;
    let algorithm = algorithm.unwrap_or(exchange.facts().algorithms[0]);
    let request = Request {
        method: Method::parse(method)?,
        path: Path::parse(path)?,
        params: Params::new(Value::parse(params)?)?,
        params_in: *params_in,
        host: Some(host.clone()),
    };
    exchange.host(&request, *environment)?;
    let classified = classify(exchange, algorithm, &request)?;
    if !classified.effective.without(*effective_scopes).is_empty() {
        return Err(Unlike::Scopes);
    }
    if classified.transfers != *transfers {
        return Err(Unlike::Transfers);
    }
    Ok(Some(Reviewed { neighbours: neighbours(exchange, algorithm, &request), residual: residual(exchange).collect() }))
}
