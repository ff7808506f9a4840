//! Reads `[token.NAME]`: a token, its profile, and the source of its PIN.

use std::path::Path;

use countersign_core::key::Tier;
use pkcs11_profiles::Profile;
use toml::de::DeValue;

use super::agent::AgentSettings;
use super::facts::SystemFacts;
use super::fields::{FieldValue, Fields, choose, wrong_type};
use super::pin::{self, SectionNames};
use super::problem::{ConfigProblem, Problems};
use super::value;
use crate::messages::settings::{PinSource, TokenSettings, is_plain_name};

/// A token whose section was checked, ready for its host.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenConfig {
    pub settings: TokenSettings,
    pub profile: Profile,
    /// Text of the operator's own profile file; empty for an embedded profile.
    pub profile_text: String,
    /// Best tier that an imported key on this token can have.
    pub tier: Tier,
}

/// Reads the tokens. No token may have two sections, because two hosts would disturb each other on
/// it.
pub(super) fn read_all<'a>(
    tables: Vec<(&'a str, Fields<'a>)>,
    agent: &AgentSettings,
    facts: &SystemFacts,
) -> Vec<TokenConfig> {
    let names: Vec<&str> = tables.iter().map(|(name, _)| *name).collect();
    let yubikeys = tables
        .iter()
        .filter(|(_, fields)| fields.glance("profile") == Some(pkcs11_profiles::YUBIKEY));
    let yubikeys: Vec<&str> = yubikeys.map(|(name, _)| *name).collect();
    let names = SectionNames { tokens: &names, yubikeys: &yubikeys };
    let mut tokens: Vec<TokenConfig> = Vec::new();
    for (name, fields) in tables {
        let (at, problems) = (fields.at(), fields.problems());
        let before = problems.count();
        let Some(token) = read(name, fields, names, agent, facts) else { continue };
        if problems.count() > before {
            continue; // The wrong field may be the one that tells this token from another.
        }
        match tokens.iter().find(|other| may_be_same_token(&other.settings, &token.settings)) {
            None => tokens.push(token),
            Some(other) => problems.add(ConfigProblem::new(
                at,
                "expected a token of its own",
                format!("the same as [token.{}], as far as can be told", other.settings.name),
                "one token has one section: give both a label, or both a serial, or another module \
                 or environment",
            )),
        }
    }
    find_unsealers(&mut tokens, agent);
    tokens
}

/// Puts the settings of the YubiKeys that unseal a PIN beside that PIN.
fn find_unsealers(tokens: &mut [TokenConfig], agent: &AgentSettings) {
    let all: Vec<TokenSettings> = tokens.iter().map(|token| token.settings.clone()).collect();
    for token in tokens {
        if let PinSource::Sealed(sealed) = &mut token.settings.pin {
            // A token that stays open belongs to the agent's user, not to the vaults' user.
            let own = agent.vault_dir.as_ref().filter(|_| sealed.reopen.is_none());
            let state_dir = own.unwrap_or(&agent.state_dir);
            let found = |name: &String| all.iter().find(|other| other.name == *name).cloned();
            let sections = sealed.names.iter().filter_map(found);
            sealed.by =
                sections.map(|one| TokenSettings { state_dir: state_dir.clone(), ..one }).collect();
            token.settings.state_dir.clone_from(state_dir);
        }
    }
}

/// True unless the two differ in a field that both have. A section with a label and one with a
/// serial may name the same token.
fn may_be_same_token(one: &TokenSettings, other: &TokenSettings) -> bool {
    let differ = |one: &Option<String>, other: &Option<String>| {
        one.is_some() && other.is_some() && one != other
    };
    let place = |token: &TokenSettings| {
        (token.profile.clone(), token.module.clone(), token.environment.clone())
    };
    place(one) == place(other)
        && !differ(&one.label, &other.label)
        && !differ(&one.serial, &other.serial)
}

fn read(
    name: &str,
    mut fields: Fields<'_>,
    names: SectionNames<'_>,
    agent: &AgentSettings,
    facts: &SystemFacts,
) -> Option<TokenConfig> {
    check_name(name, &fields);
    let profile_span = fields.span("profile");
    let profile = fields
        .required("profile", "\"softhsm\"", |value, problems| profile(value, facts, problems));
    if let (Some((profile, ..)), Some(span)) = (&profile, profile_span) {
        check_tier(profile, span, agent, fields.problems());
    }
    let is_yubikey = profile.as_ref().is_some_and(|(profile, ..)| profile.is_yubikey());
    if is_yubikey {
        check_yubikey(&fields);
    } else if let Some(span) = fields.span("attestation_root") {
        let help = "it names the roots, besides Yubico's, that may vouch for a YubiKey";
        fields.problems().add(ConfigProblem::new(
            span,
            "expected the fields of a PKCS#11 token",
            "not a YubiKey",
            help,
        ));
    } else if fields.span("label").is_none() && fields.span("serial").is_none() {
        let problem = ConfigProblem::new(
            fields.at(),
            "expected a field `label` or `serial`",
            "neither is here",
            "say which token it is: label = \"…\", as it was initialized",
        );
        fields.problems().add(problem);
    }
    let label = fields.optional("label", label);
    let serial = fields.optional("serial", |value, problems| match is_yubikey {
        true => yubikey_serial(value, problems),
        false => serial(value, problems),
    });
    let module = fields.optional("module", value::path);
    let attestation_root = fields.optional("attestation_root", value::path);
    let pin_span = fields.span("pin");
    let pin =
        fields.required("pin", "{ file = \"/etc/countersign/hsm.pin\" }", |value, problems| {
            pin::read(value, format!("[token.{name}] pin"), names, problems)
        });
    if let (true, Some(PinSource::Sealed(_)), Some(span)) = (is_yubikey, &pin, pin_span) {
        let help = "one YubiKey does not unseal another: { credential = \"NAME\" }, { file = \
                    \"/PATH\" }, { prompt = true }";
        fields.problems().add(ConfigProblem::new(
            span,
            "expected another source of a YubiKey's PIN",
            "sealed_by",
            help,
        ));
    }
    let environment = fields.optional("environment", |value, problems| {
        environment(value, profile.as_ref().map(|(profile, ..)| profile), problems)
    });
    fields.finish();
    let (profile, profile_name, profile_text) = profile?;
    let settings = TokenSettings {
        name: name.to_owned(),
        profile: profile_name,
        module,
        label,
        serial,
        attestation_root,
        pin: pin?,
        credentials_directory: facts.credentials_directory.clone(),
        environment: environment.unwrap_or_default(),
        state_dir: agent.state_dir.clone(),
        allow_software_tokens: agent.allow_software_tokens,
        confinement: agent.confinement,
    };
    let tier = match profile.tier {
        pkcs11_profiles::ModuleTier::Hardware => Tier::Imported,
        pkcs11_profiles::ModuleTier::Software => Tier::Software,
    };
    Some(TokenConfig { settings, profile, profile_text, tier })
}

/// Refuses the fields of other tokens: a YubiKey is named by its serial alone, and no module is
/// loaded for it.
fn check_yubikey(fields: &Fields<'_>) {
    let (expected, help) = ("expected a YubiKey's own fields", "a YubiKey has a serial and a pin");
    for (name, found) in
        [("label", "a YubiKey has no label"), ("module", "a YubiKey has no module")]
    {
        if let Some(span) = fields.span(name) {
            fields.problems().add(ConfigProblem::new(span, expected, found, help));
        }
    }
    if fields.span("serial").is_none() {
        let help = "the number printed on it, which `ykman list` shows: serial = 13371337";
        fields.problems().add(ConfigProblem::new(
            fields.at(),
            "expected a field `serial`",
            "it is missing here",
            help,
        ));
    }
}

/// Reads a serial as it is printed on the YubiKey.
fn yubikey_serial(value: FieldValue<'_>, problems: &Problems) -> Option<String> {
    let text = serial(value, problems)?;
    let plain = text.parse::<u32>().is_ok_and(|number| number.to_string() == text);
    problems.keep(if plain {
        Ok(text)
    } else {
        let help = "the number printed on it, which `ykman list` shows";
        Err(ConfigProblem::new(
            value.span(),
            "expected the serial of a YubiKey",
            "this is none",
            help,
        ))
    })
}

/// The rule for names of tokens and clients, which are used in file names, labels and records.
pub(super) const PLAIN_NAME_FORM: &str =
    "1 to 64 letters, digits, '-', '_' and '.', starting with none of '-' and '.'";

pub(super) fn check_name(name: &str, fields: &Fields<'_>) {
    if !is_plain_name(name) {
        let problem = ConfigProblem::new(
            fields.at(),
            "expected a plain name",
            "this is none",
            PLAIN_NAME_FORM,
        );
        fields.problems().add(problem);
    }
}

fn profile(
    value: FieldValue<'_>,
    facts: &SystemFacts,
    problems: &Problems,
) -> Option<(Profile, String, String)> {
    let name = value::text(value, problems)?;
    let refused = |found: &str, help: String| {
        Err(ConfigProblem::new(value.span(), "expected the profile of a token", found, help))
    };
    let profile = if name.starts_with('/') {
        let text = (facts.profile_file)(Path::new(name));
        let read = text.and_then(|text| match Profile::from_toml(&text) {
            Ok(profile) => Ok((profile, text)),
            Err(error) => Err(format!("profile {name}: {error}")),
        });
        read.or_else(|error| refused("this file cannot be used", error))
    } else {
        let names: Vec<&str> = Profile::all().iter().map(|profile| profile.name.as_str()).collect();
        let found = Profile::named(name).cloned().map(|profile| (profile, String::new()));
        found.map_or_else(|| refused("no profile of that name", choose(name, &names)), Ok)
    };
    problems.keep(profile).map(|(profile, text)| (profile, name.to_owned(), text))
}

fn check_tier(
    profile: &Profile,
    span: std::ops::Range<usize>,
    agent: &AgentSettings,
    problems: &Problems,
) {
    if profile.tier == pkcs11_profiles::ModuleTier::Software && !agent.allow_software_tokens {
        problems.add(ConfigProblem::new(
            span,
            "expected a hardware token",
            format!("{} is a software token", profile.title),
            "its keys lie in this machine's files and memory; for tests and trials only, set in \
             [agent]: \
                 allow_software_tokens = true",
        ));
    }
}

fn label(value: FieldValue<'_>, problems: &Problems) -> Option<String> {
    sized(value, value::text(value, problems)?, 32, problems)
}

/// Reads a serial number. In PKCS#11 it is text, so a number counts as the text of its digits.
fn serial(value: FieldValue<'_>, problems: &Problems) -> Option<String> {
    match value.get_ref() {
        DeValue::Integer(number) if number.radix() == 10 => {
            sized(value, number.as_str(), 16, problems)
        }
        DeValue::String(_) => sized(value, value::text(value, problems)?, 16, problems),
        _ => problems.refuse(wrong_type(value, "a serial number", "write it in quotes: \"…\"")),
    }
}

/// PKCS#11 pads labels and serial numbers with blanks to a fixed length.
fn sized(value: FieldValue<'_>, text: &str, longest: usize, problems: &Problems) -> Option<String> {
    let problem = |found: String| {
        Err(ConfigProblem::new(
            value.span(),
            "expected the label or serial number of a token",
            found,
            "write it as the token's own tool shows it",
        ))
    };
    problems.keep(if text.len() > longest {
        problem(format!("it is longer than {longest} bytes"))
    } else if text.ends_with(' ') {
        problem("it ends with a blank".to_owned())
    } else {
        Ok(text.to_owned())
    })
}

fn environment(
    value: FieldValue<'_>,
    profile: Option<&Profile>,
    problems: &Problems,
) -> Option<Vec<(String, String)>> {
    let table = value::table(value, problems)?;
    let variables = table.iter().filter_map(|(key, value)| {
        let name = key.get_ref().as_ref();
        if let Some(profile) =
            profile.filter(|profile| !profile.environment.iter().any(|allowed| allowed == name))
        {
            let allowed: Vec<&str> = profile.environment.iter().map(String::as_str).collect();
            let title = format!("expected a variable that profile {} allows", profile.name);
            problems.hide(value.span());
            return problems.refuse(ConfigProblem::new(
                key.span(),
                title,
                "not on its list",
                choose(name, &allowed),
            ));
        }
        Some((name.to_owned(), value::text(value, problems)?.to_owned()))
    });
    Some(variables.collect())
}
