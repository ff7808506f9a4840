//! Finds changes of a token that holds keys, of the module that is loaded for it, and of the source
//! of its PIN.

use std::collections::BTreeSet;

use countersign_core::legible::{LegibleName, quoted, word};
use pkcs11_profiles::Profile;

use super::sentences::{Sentences, list, maybe, maybe_path, path, section};
use crate::config::configuration::Config;
use crate::config::token::TokenConfig;
use crate::messages::confinement::Demand;
use crate::messages::settings::{PinSource, Reopen, SealedPin, TokenSettings};

/// A token that was known may only stay as it is, or go. A new token loosens nothing if its profile
/// knows the module: it holds no key yet.
pub(super) fn compare(
    before: &Config,
    after: &Config,
    in_use: &BTreeSet<String>,
    found: &mut Sentences,
) {
    let names = before.tokens.iter().chain(&after.tokens).map(|token| &token.settings.name);
    let looks: Vec<LegibleName<'_>> = names.map(|name| LegibleName::of(name)).collect();
    for token in &after.tokens {
        let name = &token.settings.name;
        let title = section("token", name);
        match before.tokens.iter().find(|known| known.settings.name == *name) {
            Some(known) => changed(&title, known, token, found),
            None if loads_anything(token) || in_use.contains(name) => {
                let (settings, profile) = (settings(&apart(&token.settings)), own_profile(token));
                found.new_section(&title, settings.into_iter().chain(profile));
                if in_use.contains(name) {
                    found.add(format!("{title}: keys are enrolled on a token of this name"));
                }
                found.warn_of_looks(&title, name, looks.iter());
            }
            None => {}
        }
    }
}

fn loads_anything(token: &TokenConfig) -> bool {
    token.settings.module.is_some() || is_own_profile(token)
}

fn is_own_profile(token: &TokenConfig) -> bool {
    token.settings.profile.starts_with('/')
}

fn changed(title: &str, before: &TokenConfig, after: &TokenConfig, found: &mut Sentences) {
    let TokenConfig { settings: _, profile: after_profile, profile_text: _, tier } = after;
    let (mut known, now) = (apart(&before.settings), apart(&after.settings));
    // A PIN that is sealed now is in no other place any more, so this loosens nothing.
    if now.is_sealed() && !known.is_sealed() {
        known.pin = now.pin.clone();
    }
    if known == now && before.profile == *after_profile && before.tier == *tier {
        return;
    }
    let told = found.count();
    let pairs = settings(&known).into_iter().zip(settings(&now));
    let profiles = profile(&before.profile).into_iter().zip(profile(after_profile));
    for ((field, was), (_, is)) in pairs.chain(profiles).filter(|((_, was), (_, is))| was != is) {
        found.change(title, &field, &was, &is);
    }
    if found.count() == told {
        found
            .add(format!("{title} leads to another token than it did, by a section that it names"));
    }
}

/// The settings without those that every token has from `[agent]`, which are compared there.
fn apart(settings: &TokenSettings) -> TokenSettings {
    let mut settings = settings.clone();
    settings.allow_software_tokens = false;
    settings.confinement = Demand::default();
    settings.state_dir.clear();
    if let PinSource::Sealed(sealed) = &mut settings.pin {
        sealed.by = sealed.by.iter().map(apart).collect();
    }
    settings
}

/// All fields of a section, as an approver is shown them.
fn settings(settings: &TokenSettings) -> Vec<(String, String)> {
    let TokenSettings {
        name: _,
        profile,
        module,
        label,
        serial,
        attestation_root,
        pin,
        credentials_directory,
        environment,
        state_dir: _,
        allow_software_tokens: _,
        confinement: _,
    } = settings;
    let variables =
        environment.iter().map(|(name, value)| format!("{} = {}", word(name), quoted(value)));
    let variables: Vec<String> = variables.collect();
    let fields = [
        ("profile", quoted(profile)),
        ("module", maybe_path(module.as_deref())),
        ("label", maybe(label.as_deref())),
        ("serial", maybe(serial.as_deref())),
        ("attestation_root", maybe_path(attestation_root.as_deref())),
        ("pin", self::pin(pin)),
        ("credentials", maybe_path(credentials_directory.as_deref())),
        (
            "environment",
            if variables.is_empty() { "none".to_owned() } else { variables.join(", ") },
        ),
    ];
    fields.map(|(field, value)| (field.to_owned(), value)).into()
}

/// The source of a PIN, in words. The PIN is not known here.
fn pin(source: &PinSource) -> String {
    match source {
        PinSource::Credential(name) => format!("credential {}", word(name)),
        PinSource::Fd(number) => format!("descriptor {number}"),
        PinSource::File(file) => format!("file {}", path(file)),
        PinSource::Prompt => "a person is asked".to_owned(),
        PinSource::Sealed(sealed) => self::sealed(sealed),
    }
}

fn sealed(sealed: &SealedPin) -> String {
    let SealedPin { names, by, reopen } = sealed;
    let reopens = match reopen {
        None => "a touch for each signature",
        Some(Reopen::KeepWhileRunning) => "reopen keep-while-running",
        Some(Reopen::Touch) => "reopen touch",
    };
    let serial = |one: &TokenSettings| {
        format!("{} serial {}", word(&one.name), maybe(one.serial.as_deref()))
    };
    let serials: Vec<String> = by.iter().map(serial).collect();
    format!("sealed by {} ({}), {reopens}", list(names, "none"), serials.join(", "))
}

/// The fields of a profile that the operator wrote. None for an embedded profile, because its name
/// says which one it is.
fn own_profile(token: &TokenConfig) -> Vec<(String, String)> {
    if is_own_profile(token) { profile(&token.profile) } else { Vec::new() }
}

/// Every field of a profile, as JSON. Its texts are quoted as all other texts are.
fn profile(profile: &Profile) -> Vec<(String, String)> {
    // A profile has texts, numbers and lists, which JSON can always hold.
    let value = serde_json::to_value(profile).unwrap_or_default();
    let fields = value.as_object().into_iter().flatten();
    fields.map(|(field, value)| (format!("profile's {field}"), json(value))).collect()
}

fn json(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Array(items) => {
            format!("[{}]", items.iter().map(json).collect::<Vec<_>>().join(","))
        }
        Value::Object(members) => {
            let members: Vec<_> = members
                .iter()
                .map(|(name, value)| format!("{}:{}", quoted(name), json(value)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
        Value::String(text) => quoted(text),
        Value::Bool(_) | Value::Null | Value::Number(_) => value.to_string(),
    }
}
