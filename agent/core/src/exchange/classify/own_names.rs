//! Checks the names of a request: they are spelled as the table spells them and, if the signature
//! leaves method or path open, listed by the request's own row.

use super::NameIds;
use crate::exchange::order::begins_as_json;
use crate::exchange::recipe::Exchange;
use crate::exchange::scheme::Scheme;
use crate::exchange::table::{NameId, Role, Spelling, Table, WHOLE_BODY};
use crate::json::Value;
use crate::refusal::Refusal;
use crate::request::Params;

/// The names of a request that the table knows. A name that could be taken for one of them is
/// refused.
pub(super) fn known_names(
    exchange: &dyn Exchange,
    scheme: &Scheme,
    params: &Params,
) -> Result<NameIds, Refusal> {
    let table = exchange.table();
    let mut names = NameIds::new();
    for (name, _) in params.members() {
        let hidden = match table.spelling(name) {
            Spelling::Known(known) => {
                names.push(known);
                None
            }
            Spelling::Other(known) => {
                return Err(Refusal::ambiguous(format!(
                    "the parameter {name:?} is a different spelling of {known:?}"
                )));
            }
            Spelling::Unknown if scheme.joined => table.hidden_name(name),
            Spelling::Unknown => None,
        };
        if let Some(known) = hidden {
            let message = format!(
                "the parameter {name:?} ends in {known:?}: cut apart, its signature would be for \
                 that one. A parameter that an \
                 endpoint takes stands in its line of {}.params",
                exchange.facts().name
            );
            return Err(Refusal::ambiguous(message));
        }
    }
    Ok(names)
}

/// If a signature leaves method or path open, endpoints that the table does not know may take it as
/// well. So a request may carry only names that its own row lists: it then has no name that another
/// endpoint needs. The same holds for names in its lists, objects and JSON texts.
pub(super) fn check_names(
    exchange: &dyn Exchange,
    scheme: &Scheme,
    row: usize,
    params: &Params,
    names: &[NameId],
) -> Result<(), Refusal> {
    if scheme.binding.path && scheme.binding.method {
        return Ok(());
    }
    let listing = AllowedNames { exchange, row };
    let members = params.members();
    // A name that the table does not know has no number. Then `names` is shorter than `members`.
    let all_listed =
        names.len() == members.len() && names.iter().all(|name| exchange.table().lists(row, *name));
    if !all_listed && let Some((name, _)) = members.iter().find(|(name, _)| !listing.has(name)) {
        return Err(listing.refusal(name));
    }
    if let Value::Array(_) = params.value() {
        return if listing.takes_arrays() {
            listing.check(params.value())
        } else {
            Err(listing.no_array())
        };
    }
    members.iter().try_for_each(|(_, value)| listing.check(value))
}

/// The names that a request for one row may carry.
struct AllowedNames<'a> {
    exchange: &'a dyn Exchange,
    row: usize,
}

impl AllowedNames<'_> {
    fn has(&self, name: &str) -> bool {
        let table = self.exchange.table();
        matches!(table.spelling(name), Spelling::Known(known) if table.lists(self.row, known))
    }

    /// True if the row takes an array as its body. Such an array has no parameter
    /// name.
    fn takes_arrays(&self) -> bool {
        let mut own = self.exchange.table().openings_of(self.row);
        own.any(|opening| opening.name_of(Role::List) == Some(WHOLE_BODY))
    }

    fn no_array(&self) -> Refusal {
        let row = &self.exchange.table().rows()[self.row];
        Refusal::malformed(format!("{} {} does not take an array", row.method, row.path))
    }

    /// Refuses a name inside a value if the row does not list it.
    fn check(&self, value: &Value) -> Result<(), Refusal> {
        match value {
            Value::Array(items) => items.iter().try_for_each(|item| self.check(item)),
            Value::Object(members) => members.iter().try_for_each(|(name, value)| {
                if self.has(name) { self.check(value) } else { Err(self.refusal(name)) }
            }),
            Value::String(text) if begins_as_json(text) => {
                let inner = Value::parse(text).map_err(|_| {
                    Refusal::malformed("a text begins as JSON does, but cannot be judged as JSON")
                })?;
                self.check(&inner)
            }
            _ => Ok(()),
        }
    }

    fn refusal(&self, name: &str) -> Refusal {
        let exchange = self.exchange.facts().name;
        let table = self.exchange.table();
        let row = &table.endpoints()[self.row];
        let endpoint = format!("{} {}", row.method, row.path);
        let needed = if table.openings_of(self.row).next().is_some() {
            format!("\"{name}?\" in its line of {endpoint:?}")
        } else {
            format!("the line \"{endpoint} {name}?\"")
        };
        Refusal::forbidden_parameter(format!(
            "{endpoint} is not known to take the parameter {name:?}. With it, the signature could \
             be for an endpoint that the table does not know: {exchange} does not sign all of \
             method and path. If the endpoint takes it, {exchange}.params needs {needed}; if no \
             endpoint can do harm by it, it needs the line \"harmless {name} # SOURCE\""
        ))
    }
}

/// The names of a request, and the names that the sender could cut out of them: `…&uid=9` is also
/// the query `…&u` and the body `id=9`.
pub(super) fn cut_apart(table: &Table, mut names: NameIds) -> NameIds {
    for at in 0..names.len() {
        for hidden in table.endings(names[at]) {
            if !names.contains(hidden) {
                names.push(*hidden);
            }
        }
    }
    names
}
