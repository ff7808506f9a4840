//! Reads `pin = { … }` of a token, which names the source of the PIN and never holds the PIN.

use std::collections::BTreeSet;

use toml::de::DeValue;

use super::fields::{FieldValue, Fields, choose};
use super::problem::{ConfigProblem, Problems};
use super::value;
use crate::messages::settings::{PinSource, Reopen, SealedPin, is_plain_name};

const SOURCES: &str =
    "one of { credential = \"NAME\" }, { file = \"/PATH\" }, { fd = NUMBER }, { prompt = true }";

/// Names of the tokens in `agent.toml`, and of those among them that are YubiKeys. A PIN may be
/// sealed by the YubiKeys only.
#[derive(Clone, Copy)]
pub(super) struct SectionNames<'a> {
    pub(super) tokens: &'a [&'a str],
    pub(super) yubikeys: &'a [&'a str],
}

/// Reads the source. A value that is refused here may be the PIN itself, so it is not shown.
pub(super) fn read(
    value: FieldValue<'_>,
    section: String,
    names: SectionNames<'_>,
    problems: &Problems,
) -> Option<PinSource> {
    let DeValue::Table(table) = value.get_ref() else {
        problems.hide(value.span());
        let problem = ConfigProblem::new(
            value.span(),
            "expected the source of the PIN",
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
        problems.add(ConfigProblem::new(
            value.span(),
            "expected one source of the PIN",
            found,
            SOURCES,
        ));
    }
    let sealed = sealed(&mut fields, names);
    let source = [
        sealed,
        fields.optional("credential", hidden(credential)),
        fields.optional(
            "fd",
            hidden(|value, problems| value::integer(value, 3..=65535, problems).map(to_fd)),
        ),
        fields.optional(
            "file",
            hidden(|value, problems| value::path(value, problems).map(PinSource::File)),
        ),
        fields.optional("prompt", hidden(prompt)),
    ];
    fields.finish();
    source.into_iter().flatten().next()
}

/// Reads the YubiKeys that unseal a PIN, and the slot, which must be 9d.
fn sealed(fields: &mut Fields<'_>, names: SectionNames<'_>) -> Option<PinSource> {
    let given = fields.span("sealed_by");
    let slot = fields.span("slot");
    let problems = fields.problems();
    let by = fields.optional("sealed_by", |value, problems| match value.get_ref() {
        DeValue::Array(_) => value::filled_list(
            value,
            "sealed_by = [\"yk\", \"yk-spare\"]",
            problems,
            |value, problems| yubikey(value, names, problems),
        )
        .map(|names: BTreeSet<String>| names.into_iter().collect()),
        _ => yubikey(value, names, problems).map(|name| vec![name]),
    });
    fields.optional("slot", |value, problems| {
        let slot = value::text(value, problems)?;
        let help = "a vault's PIN is sealed to the key in slot 9d: slot = \"9d\"";
        let problem = || ConfigProblem::new(value.span(), "expected slot 9d", "another one", help);
        problems.keep(if slot == "9d" { Ok(()) } else { Err(problem()) })
    });
    let reopens = fields.span("reopen");
    let reopen = fields.optional("reopen", |value, problems| {
        value::one_of(
            value,
            &[("keep-while-running", Reopen::KeepWhileRunning), ("touch", Reopen::Touch)],
            problems,
        )
    });
    if let (None, Some(span)) = (&given, reopens) {
        let expected = "expected `reopen` beside `sealed_by` only";
        problems.add(ConfigProblem::new(span, expected, "there is no `sealed_by`", "leave it out"));
    }
    match (&given, slot) {
        (Some(_), None) => {
            let help = "the PIV slot that unseals: slot = \"9d\"";
            problems.add(ConfigProblem::new(
                fields.at(),
                "expected a field `slot`",
                "it is missing here",
                help,
            ));
        }
        (None, Some(slot)) => {
            let expected = "expected a slot beside `sealed_by` only";
            problems.add(ConfigProblem::new(
                slot,
                expected,
                "there is no `sealed_by`",
                "leave it out",
            ));
        }
        _ => {}
    }
    Some(PinSource::Sealed(Box::new(SealedPin { names: by?, by: Vec::new(), reopen })))
}

fn yubikey(
    value: FieldValue<'_>,
    SectionNames { tokens, yubikeys }: SectionNames<'_>,
    problems: &Problems,
) -> Option<String> {
    let name = value::text(value, problems)?;
    let refuse = |expected, found, help| {
        problems.refuse(ConfigProblem::new(value.span(), expected, found, help))
    };
    if yubikeys.contains(&name) {
        Some(name.to_owned())
    } else if tokens.contains(&name) {
        refuse("expected the name of a YubiKey", "another kind of token", choose("", yubikeys))
    } else {
        refuse("expected the name of a token", "no [token] of that name", choose(name, tokens))
    }
}

/// Reads a value with `read`, and hides the value if `read` refuses it.
fn hidden<'a, T>(
    read: impl FnOnce(FieldValue<'a>, &'a Problems) -> Option<T>,
) -> impl FnOnce(FieldValue<'a>, &'a Problems) -> Option<T> {
    |value, problems| {
        let source = read(value, problems);
        if source.is_none() {
            problems.hide(value.span());
        }
        source
    }
}

fn credential(value: FieldValue<'_>, problems: &Problems) -> Option<PinSource> {
    let name = value::text(value, problems)?;
    problems.keep(if is_plain_name(name) {
        Ok(PinSource::Credential(name.to_owned()))
    } else {
        Err(ConfigProblem::new(
            value.span(),
            "expected the name of a systemd credential",
            "this cannot be one",
            "as in LoadCredential=NAME:… of the unit, not a path",
        ))
    })
}

fn prompt(value: FieldValue<'_>, problems: &Problems) -> Option<PinSource> {
    match value::boolean(value, problems)? {
        true => Some(PinSource::Prompt),
        false => {
            let problem = ConfigProblem::new(
                value.span(),
                "expected prompt = true",
                "false is no source of a PIN",
                SOURCES,
            );
            problems.refuse(problem)
        }
    }
}

/// The caller has checked that the number fits.
fn to_fd(number: u32) -> PinSource {
    PinSource::Fd(number as i32)
}
