//! Finds transfers that are allowed now and were not allowed before.

use std::collections::BTreeMap;

use countersign_core::decimal::Amount;
use countersign_core::legible::LegibleName;
use countersign_core::policy::{ApproverStep, SpendLimit, TransferRule};

use super::sentences::{Sentences, section};

/// A bound that can be compared with a later one.
pub(super) trait Bound {
    fn holds(&self, after: &Self) -> bool;
    fn show(&self) -> String;
}

impl Bound for Amount {
    fn holds(&self, after: &Self) -> bool {
        after <= self
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Bound for Option<Amount> {
    fn holds(&self, after: &Self) -> bool {
        self.is_none_or(|before| after.is_some_and(|after| after <= before))
    }

    fn show(&self) -> String {
        self.map_or_else(|| "no limit".to_owned(), |amount| amount.to_string())
    }
}

impl Bound for SpendLimit {
    fn holds(&self, after: &Self) -> bool {
        let Self { per_request, per_day } = after;
        self.per_request.holds(per_request) && self.per_day.holds(per_day)
    }

    fn show(&self) -> String {
        let Self { per_request, per_day } = self;
        format!("per_request {}, per_day {}", per_request.show(), per_day.show())
    }
}

pub(super) fn compare(
    before: &BTreeMap<String, TransferRule>,
    after: &BTreeMap<String, TransferRule>,
    found: &mut Sentences,
) {
    let looks: Vec<LegibleName<'_>> =
        before.keys().chain(after.keys()).map(|asset| LegibleName::of(asset)).collect();
    for (asset, rule) in after {
        let title = section("transfer", asset);
        match before.get(asset) {
            None => {
                found.new_section(&title, fields(rule));
                found.warn_of_looks(&title, asset, looks.iter());
            }
            Some(known) => changed(&title, known, rule, found),
        }
    }
}

fn fields(rule: &TransferRule) -> [(&'static str, String); 3] {
    let TransferRule { per_request, per_day, approvers } = rule;
    [
        ("per_request", per_request.show()),
        ("per_day", per_day.show()),
        ("approvers", steps(approvers)),
    ]
}

fn changed(title: &str, before: &TransferRule, after: &TransferRule, found: &mut Sentences) {
    let TransferRule { per_request, per_day, approvers } = after;
    for (field, before, after) in
        [("per_request", before.per_request, *per_request), ("per_day", before.per_day, *per_day)]
    {
        if !before.holds(&after) {
            found.change(title, field, &before.show(), &after.show());
        }
    }
    let is_kept = |step: &ApproverStep| {
        approvers
            .iter()
            .any(|other: &ApproverStep| other.above <= step.above && other.count >= step.count)
    };
    if !before.approvers.iter().all(is_kept) {
        found.change(title, "approvers", &steps(&before.approvers), &steps(approvers));
    }
}

fn steps(steps: &[ApproverStep]) -> String {
    let each = steps.iter().map(|ApproverStep { above, count }| format!("{count} above {above}"));
    if steps.is_empty() {
        "nobody is asked".to_owned()
    } else {
        each.collect::<Vec<_>>().join(", ")
    }
}
