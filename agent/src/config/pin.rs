//! `pin = { … }` of a token: where the PIN comes from, never the PIN.

use toml::de::DeValue;

use super::fields::{Fields, Value, choose};
use super::problem::{Problem, Problems};
use super::value;
use crate::host::settings::{PinSource, is_plain_name};

const SOURCES: &str = "one of { credential = \"NAME\" }, { file = \"/PATH\" }, { fd = NUMBER }, { prompt = true }";

/// Reads the source; whatever is refused here may be the PIN itself and is not shown.
pub(super) fn read(value: Value<'_>, section: String, tokens: &[&str], problems: &Problems) -> Option<PinSource> {
    let DeValue::Table(table) = value.get_ref() else {
        problems.hide(value.span());
        let problem = Problem::new(
            value.span(),
            "expected where the PIN comes from",
            "not shown here",
            format!("a PIN is never written here; {SOURCES}"),
        );
        return problems.refuse(problem);
    };
    let mut fields = Fields::new(section, value.span(), table, problems);
    let sources = ["credential", "fd", "file", "prompt", "sealed_by"];
    let given: Vec<_> = sources.iter().filter(|name| fields.span(name).is_some()).collect();
    if given.len() != 1 {
        let found = if given.is_empty() { "there is none" } else { "there are several" };
        problems.add(Problem::new(value.span(), "expected one source of the PIN", found, SOURCES));
    }
    let sealed = refuse_sealed(&mut fields, tokens);
    let source = [
        fields.optional("credential", hidden(credential)),
        fields.optional("fd", hidden(|value, problems| value::integer(value, 3..=65535, problems).map(to_fd))),
        fields.optional("file", hidden(|value, problems| value::path(value, problems).map(PinSource::File))),
        fields.optional("prompt", hidden(prompt)),
    ];
    fields.finish();
    let source = source.into_iter().flatten().next();
    if sealed { None } else { source }
}

/// Notes that sealed PINs are for later, and whether this one could be unsealed then.
fn refuse_sealed(fields: &mut Fields<'_>, tokens: &[&str]) -> bool {
    let sealed = fields.span("sealed_by");
    let slot = fields.span("slot");
    let problems = fields.problems();
    fields.optional("sealed_by", |value, problems| {
        let name = value::text(value, problems)?;
        let problem = if tokens.contains(&name) {
            Problem::new(value.span(), "expected another source of the PIN", "not available in this version", SOURCES)
        } else {
            Problem::new(value.span(), "expected the name of a token", "no [token] of that name", choose(name, tokens))
        };
        problems.add(problem);
        Some(())
    });
    fields.optional("slot", |value, problems| value::text(value, problems).map(drop));
    match (&sealed, slot) {
        (Some(_), None) => {
            let problem = Problem::new(
                fields.at(),
                "expected a field `slot`",
                "it is missing here",
                "the PIV slot that unseals: slot = \"9d\"",
            );
            problems.add(problem);
        }
        (None, Some(slot)) => {
            let problem = Problem::new(
                slot,
                "expected a slot beside `sealed_by` only",
                "there is no `sealed_by`",
                "leave it out",
            );
            problems.add(problem);
        }
        _ => {}
    }
    sealed.is_some()
}

/// Reads with `read`, and hides what it refuses.
fn hidden<'a, T>(
    read: impl FnOnce(Value<'a>, &'a Problems) -> Option<T>,
) -> impl FnOnce(Value<'a>, &'a Problems) -> Option<T> {
    |value, problems| {
        let source = read(value, problems);
        if source.is_none() {
            problems.hide(value.span());
        }
        source
    }
}

fn credential(value: Value<'_>, problems: &Problems) -> Option<PinSource> {
    let name = value::text(value, problems)?;
    problems.keep(if is_plain_name(name) {
        Ok(PinSource::Credential(name.to_owned()))
    } else {
        Err(Problem::new(
            value.span(),
            "expected the name of a systemd credential",
            "this cannot be one",
            "as in LoadCredential=NAME:… of the unit, not a path",
        ))
    })
}

fn prompt(value: Value<'_>, problems: &Problems) -> Option<PinSource> {
    match value::boolean(value, problems)? {
        true => Some(PinSource::Prompt),
        false => {
            let problem = Problem::new(value.span(), "expected prompt = true", "false is no source of a PIN", SOURCES);
            problems.refuse(problem)
        }
    }
}

/// The range was checked, and fits.
fn to_fd(number: u32) -> PinSource {
    PinSource::Fd(number as i32)
}
