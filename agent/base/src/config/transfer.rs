//! Reads `[[destination]]` and `[transfer.ASSET]`: the places to which money may go, the limits,
//! and the approvals that are needed.

use std::collections::BTreeMap;

use countersign_core::policy::{ApproverStep, Destination, SpendLimit, TransferRule};
use toml::de::DeValue;

use super::client::spend_limit;
use super::fields::{FieldValue, Fields, repeated_tables};
use super::problem::{ConfigProblem, Problems};
use super::value;

const STEPS: &str = "approvers = [{ above = \"0\", count = 1 }]";

/// Reads the destinations. No two may have the same place or the same label.
pub(super) fn destinations(tables: Vec<Fields<'_>>) -> Vec<Destination> {
    let mut destinations: Vec<Destination> = Vec::new();
    for fields in tables {
        let (at, problems) = (fields.at(), fields.problems());
        let Some(destination) = destination(fields) else { continue };
        let place = |one: &Destination| {
            (one.asset.clone(), one.network.clone(), one.address.clone(), one.memo.clone())
        };
        if destinations
            .iter()
            .any(|other| place(other) == place(&destination) || other.label == destination.label)
        {
            let problem = ConfigProblem::new(
                at,
                "expected each destination once",
                "an earlier one has this place or label",
                "leave one of them out, or give each a label of its own",
            );
            problems.add(problem);
        }
        destinations.push(destination);
    }
    destinations
}

fn destination(mut fields: Fields<'_>) -> Option<Destination> {
    let word = |value, problems: &_| value::word(value, problems).map(str::to_owned);
    let label = fields.required("label", "\"cold storage\"", |value, problems| {
        value::text(value, problems).map(str::to_owned)
    });
    let asset = fields.required("asset", "\"BTC\"", |value, problems| {
        value::instrument(value, problems).map(str::to_owned)
    });
    let network = fields.required("network", "\"BTC\"", word);
    let address = fields.required("address", "\"…\"", word);
    let memo = fields.optional("memo", word);
    fields.finish();
    Some(Destination { label: label?, asset: asset?, network: network?, address: address?, memo })
}

/// Reads the rules by asset.
pub(super) fn rules(tables: Vec<(&str, Fields<'_>)>) -> BTreeMap<String, TransferRule> {
    let mut rules = BTreeMap::new();
    for (asset, fields) in tables {
        if let Err(found) = value::is_instrument(asset) {
            let problem = ConfigProblem::new(
                fields.at(),
                "expected the name of an asset",
                found,
                "write it exactly as the exchange does",
            );
            fields.problems().add(problem);
        }
        rules.insert(asset.to_owned(), rule(fields));
    }
    rules
}

fn rule(mut fields: Fields<'_>) -> TransferRule {
    let says_nothing =
        ["per_request", "per_day", "approvers"].iter().all(|name| fields.span(name).is_none());
    if says_nothing {
        let problem = ConfigProblem::new(
            fields.at(),
            "expected a limit or approvers",
            "it would allow any transfer",
            format!("per_request = \"…\", per_day = \"…\", {STEPS}"),
        );
        fields.problems().add(problem);
    }
    let SpendLimit { per_request, per_day } = spend_limit(&mut fields);
    let approvers = fields.optional("approvers", approvers).unwrap_or_default();
    fields.finish();
    TransferRule { per_request, per_day, approvers }
}

fn approvers<'a>(value: FieldValue<'a>, problems: &'a Problems) -> Option<Vec<ApproverStep>> {
    if matches!(value.get_ref(), DeValue::Array(list) if list.is_empty()) {
        let problem = ConfigProblem::new(
            value.span(),
            "expected at least one step",
            "the list is empty",
            format!("{STEPS}, or leave it out"),
        );
        return problems.refuse(problem);
    }
    let mut steps: Vec<ApproverStep> = Vec::new();
    for mut fields in repeated_tables("approvers", STEPS, value, problems)? {
        let at = fields.at();
        let above = fields.required("above", "\"0\"", value::amount);
        let count = fields
            .required("count", "1", |value, problems| value::integer(value, 1..=100, problems));
        fields.finish();
        let (Some(above), Some(count)) = (above, count) else { continue };
        if let Some(last) = steps.last().filter(|last| above <= last.above || count <= last.count) {
            let found = format!("not above {} and {}", last.above, last.count);
            let problem = ConfigProblem::new(
                at,
                "expected each step to rise, in amount and in approvers",
                found,
                "order the steps by amount, and ask for more approvers at each",
            );
            problems.add(problem);
        }
        steps.push(ApproverStep { above, count });
    }
    Some(steps)
}
