//! Explains what policy would decide about a request, and everything its signature would open. It
//! signs nothing and counts nothing.

use crate::exchange;
use crate::exchange::classify::{Classified, check_managed, classify, neighbours, residual};
use crate::exchange::recipe::Exchange;
use crate::exchange::table::Endpoint;
use crate::key::Key;
use crate::policy::{Client, Decision, Policy, RECEIVE_WINDOW_CAP_MS};
use crate::refusal::Refusal;
use crate::request::{Method, Params, ParamsIn, Path, Request};
use crate::scope::Scopes;
use crate::wire::VERSION;
use crate::wire::admin::{ExplainReply, ExplainRequest, Neighbour};

/// Explains one request as if `client` had asked for it.
pub fn explain(
    policy: &Policy,
    client: &Client,
    key: &Key,
    asked: ExplainRequest,
) -> Result<ExplainReply, Refusal> {
    let exchange = exchange::named(key.exchange)
        .ok_or_else(|| Refusal::malformed(format!("the exchange {} is not known", key.exchange)))?;
    let request = Request {
        method: Method::parse(&asked.method)?,
        path: Path::parse(&asked.path)?,
        params: asked.params.map_or_else(|| Ok(Params::empty()), Params::new)?,
        params_in: asked.params_in.as_deref().map(ParamsIn::parse).transpose()?,
        host: asked.host,
    };
    Ok(match examine(exchange, key, &request) {
        Err(refusal) => refused(refusal),
        Ok(classified) => {
            let decision = policy.decide(client, key, exchange, &classified);
            let neighbours =
                neighbours(exchange, key.algorithm, &request).into_iter().map(neighbour).collect();
            let residual = residual(exchange).map(neighbour).collect();
            let unsigned = classified.binding.unsigned(request.method).map(str::to_owned).collect();
            ExplainReply {
                unsigned,
                neighbours,
                residual,
                ..decided(client, classified, enough(policy, decision))
            }
        }
    })
}

fn examine<'a>(
    exchange: &dyn Exchange,
    key: &Key,
    request: &'a Request,
) -> Result<Classified<'a>, Refusal> {
    check_managed(exchange, &request.params, RECEIVE_WINDOW_CAP_MS)?;
    exchange.host(request, key.environment)?;
    classify(exchange, key.algorithm, request)
}

/// The reply for a request that was refused before policy was asked.
fn refused(refusal: Refusal) -> ExplainReply {
    ExplainReply {
        v: VERSION,
        decision: "deny".to_owned(),
        rule: "the agent's own rules".to_owned(),
        code: Some(refusal.code),
        message: Some(refusal.message),
        scope: None,
        effective_scopes: Scopes::NONE,
        unsigned: Vec::new(),
        neighbours: Vec::new(),
        transfers: Vec::new(),
        residual: Vec::new(),
        spends: Vec::new(),
    }
}

/// Denies a request that would need more persons than can approve.
fn enough(policy: &Policy, decision: Decision) -> Decision {
    match &decision {
        Decision::Ask { approvals, .. } => {
            policy.too_few_persons(*approvals).map_or(decision, Decision::Deny)
        }
        Decision::Allow { .. } | Decision::Deny(_) => decision,
    }
}

fn decided(client: &Client, classified: Classified<'_>, decision: Decision) -> ExplainReply {
    let (decision, denied, spends) = match decision {
        Decision::Allow { spends, .. } => ("allow", None, spends),
        Decision::Ask { spends, .. } => ("ask", None, spends),
        Decision::Deny(denied) => ("deny", Some(denied), Vec::new()),
    };
    let (rule, refusal) = match denied {
        Some(denied) => (denied.rule, Some(denied.refusal)),
        None => (client.rule("scopes"), None),
    };
    ExplainReply {
        v: VERSION,
        decision: decision.to_owned(),
        rule,
        code: refusal.as_ref().map(|refusal| refusal.code),
        message: refusal.map(|refusal| refusal.message),
        scope: Some(classified.scope),
        effective_scopes: classified.effective,
        unsigned: Vec::new(),
        neighbours: Vec::new(),
        transfers: classified.transfers,
        residual: Vec::new(),
        spends,
    }
}

fn neighbour(endpoint: &Endpoint) -> Neighbour {
    Neighbour {
        method: endpoint.method.name().to_owned(),
        path: endpoint.path.to_owned(),
        scope: endpoint.scope,
    }
}
