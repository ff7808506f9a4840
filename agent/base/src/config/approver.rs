//! Reads `[approver.NAME]`: a person who may approve a transfer by touching hardware.

use std::ops::Range;
use std::path::{Path, PathBuf};

use countersign_core::approval::{self, AttestedKey, Touch};
use ssh_key::{Algorithm, HashAlg, PublicKey};

use super::facts::SystemFacts;
use super::fields::{FieldValue, Fields};
use super::problem::{ConfigProblem, Problems};
use super::token::{PLAIN_NAME_FORM, check_name};
use super::value;
use crate::messages::settings::is_plain_name;

/// An approver: a key of a person, and the proof that each signature with it takes a touch.
#[derive(Clone, Debug, PartialEq)]
pub struct ApproverConfig {
    pub name: String,
    /// The person who owns the key. All keys of one person together give one approval.
    pub person: String,
    pub proof: ApproverProof,
}

/// The proof that each signature of an approver takes a touch.
#[derive(Clone, Debug, PartialEq)]
pub enum ApproverProof {
    /// A PIV key. Its YubiKey attests that each signature takes a touch.
    Attested(Box<AttestedKey>),
    /// A FIDO key. Each signature itself says that it took a touch.
    SshKey(Box<PublicKey>),
    /// Nothing proves a touch: this approver cannot approve.
    Unproven { attestation: PathBuf, reason: String },
}

impl ApproverConfig {
    /// The approver as the policy needs it; `None` if this approver cannot approve.
    pub(super) fn as_policy(&self) -> Option<approval::Approver> {
        let (key, touch) = match &self.proof {
            ApproverProof::Attested(attested) => {
                (attested.key(), Touch::Attested(attested.clone()))
            }
            ApproverProof::SshKey(key) => (&**key, Touch::InSignature),
            ApproverProof::Unproven { .. } => return None,
        };
        Some(approval::Approver {
            name: self.name.clone(),
            person: self.person.clone(),
            key: key.clone(),
            touch,
        })
    }

    fn has_key_of(&self, other: &Self) -> bool {
        let keys = self.as_policy().zip(other.as_policy());
        keys.is_some_and(|(one, other)| one.key.key_data() == other.key.key_data())
    }

    /// True if both keys are known to be in one YubiKey. A FIDO key does not say which YubiKey
    /// holds it.
    fn shares_card(&self, other: &Self) -> bool {
        match (&self.proof, &other.proof) {
            (ApproverProof::Attested(one), ApproverProof::Attested(other)) => {
                one.attestation().serial == other.attestation().serial
            }
            _ => false,
        }
    }

    /// The proof behind this approver's approvals, in words.
    pub fn describe(&self) -> String {
        match &self.proof {
            ApproverProof::Attested(attested) => attested.describe(),
            ApproverProof::SshKey(key) => {
                format!("FIDO key {}, a touch in each signature", key.fingerprint(HashAlg::Sha256))
            }
            ApproverProof::Unproven { attestation, reason } => {
                format!("cannot approve: {}: {reason}", attestation.display())
            }
        }
    }
}

/// Refuses approvers with which one person could give two approvals. Two approvals must come from
/// two persons.
pub(super) fn check_together(approvers: &[(Range<usize>, ApproverConfig)], problems: &Problems) {
    const TWO_PERSONS: &str = "two approvals have to come from two persons";
    for (index, (at, approver)) in approvers.iter().enumerate() {
        let earlier = || approvers[..index].iter().map(|(_, other)| other);
        let of_person =
            approvers.iter().map(|(_, other)| other).find(|other| other.name == approver.person);
        if let Some(other) = of_person.filter(|other| other.person != approver.person) {
            let found = format!("[approver.{}] is a key of {}", other.name, other.person);
            let help = format!(
                "write person = \"{}\", or the name of somebody who has no section",
                other.person
            );
            problems.add(ConfigProblem::new(
                at.clone(),
                "expected `person` to name a person",
                found,
                help,
            ));
        }
        if let Some(other) = earlier().find(|other| other.has_key_of(approver)) {
            let found = format!("this is also the key of [approver.{}]", other.name);
            problems.add(ConfigProblem::new(
                at.clone(),
                "expected a key of their own for each approver",
                found,
                TWO_PERSONS,
            ));
        } else if let Some(other) =
            earlier().find(|other| other.person != approver.person && other.shares_card(approver))
        {
            let found = format!("[approver.{}] has its key in this YubiKey too", other.name);
            let help =
                format!("if both belong to one person, say so: person = \"{}\"", other.person);
            problems.add(ConfigProblem::new(
                at.clone(),
                "expected a YubiKey of their own for each person",
                found,
                help,
            ));
        }
    }
}

/// Reads one approver. `directory` is the directory of the configuration, which may hold an
/// attestation too.
pub(super) fn read(
    name: &str,
    mut fields: Fields<'_>,
    directory: &Path,
    facts: &SystemFacts,
) -> Option<ApproverConfig> {
    check_name(name, &fields);
    let (at, problems, has_key) =
        (fields.at(), fields.problems(), fields.span("ssh_key").is_some());
    let has_attestation = fields.span("attestation").is_some();
    if !has_key && !has_attestation {
        problems.add(ConfigProblem::new(
            at.clone(),
            "expected `ssh_key` or `attestation`",
            "neither is here",
            FORMS,
        ));
    }
    if !has_attestation && let Some(span) = fields.span("attestation_root") {
        problems.add(ConfigProblem::new(
            span,
            "expected `attestation` beside it",
            "it is not here",
            FORMS,
        ));
    }
    let file = |value, problems: &_| attestation(value, directory, problems);
    let ssh_key =
        fields.optional("ssh_key", |value, problems| ssh_key(value, has_attestation, problems));
    let attestation = fields.optional("attestation", file);
    let root = fields.optional("attestation_root", file);
    let person = fields.optional("person", person).unwrap_or(name);
    fields.finish();
    let proof = match (ssh_key, attestation) {
        (Some(key), None) => ApproverProof::SshKey(key),
        (_, None) => return None,
        (key, Some(attestation)) => {
            match prove(key.as_deref(), &attestation, root.as_deref(), facts) {
                Ok(attested) => ApproverProof::Attested(Box::new(attested)),
                Err(reason) => ApproverProof::Unproven { attestation, reason },
            }
        }
    };
    Some(ApproverConfig { name: name.to_owned(), person: person.to_owned(), proof })
}

fn person<'a>(value: FieldValue<'a>, problems: &Problems) -> Option<&'a str> {
    let name = value::text(value, problems)?;
    let problem = || {
        ConfigProblem::new(
            value.span(),
            "expected the name of a person",
            "this is none",
            PLAIN_NAME_FORM,
        )
    };
    problems.keep(if is_plain_name(name) { Ok(name) } else { Err(problem()) })
}

const FORMS: &str =
    "ssh_key = \"sk-ssh-ed25519@openssh.com …\", or attestation = \"NAME.pem\" of a PIV key";

/// The attested key, or the reason why nothing proves that it takes a touch.
fn prove(
    key: Option<&PublicKey>,
    attestation: &Path,
    root: Option<&Path>,
    facts: &SystemFacts,
) -> Result<AttestedKey, String> {
    let certificates = (facts.attestation_file)(attestation)?;
    let root = root.map(|root| (facts.attestation_file)(root)).transpose()?;
    let attested =
        AttestedKey::prove(&certificates, root.as_deref()).map_err(|reason| reason.to_string())?;
    if key.is_some_and(|key| key.key_data() != attested.key().key_data()) {
        return Err("ssh_key is not the attested key".to_owned());
    }
    Ok(attested)
}

/// Reads a public key. If it is `attested` it must not be a FIDO key, else it must be one.
fn ssh_key(value: FieldValue<'_>, attested: bool, problems: &Problems) -> Option<Box<PublicKey>> {
    let text = value::text(value, problems)?;
    let expected = if attested {
        "expected the public key of the attested PIV key"
    } else {
        "expected the public key of a FIDO token"
    };
    let help = if attested {
        "the attestation alone says it; leave ssh_key out"
    } else {
        "make one with: ssh-keygen -t ed25519-sk; here goes its .pub file, which starts with sk-"
    };
    let problem = |found: &str| ConfigProblem::new(value.span(), expected, found, help);
    let key = PublicKey::from_openssh(text).map_err(|_| problem("not an OpenSSH public key"));
    problems.keep(key.and_then(|key| {
        let fido = matches!(key.algorithm(), Algorithm::SkEcdsaSha2NistP256 | Algorithm::SkEd25519);
        match (fido, attested) {
            (true, true) => Err(problem("a FIDO key, which needs no attestation")),
            (false, false) => Err(problem("this key can be used without a touch")),
            _ => Ok(Box::new(key)),
        }
    }))
}

/// Reads the path of an attestation: a file name in the directory of the configuration, or an
/// absolute path.
fn attestation(value: FieldValue<'_>, directory: &Path, problems: &Problems) -> Option<PathBuf> {
    let name = value::text(value, problems)?;
    if !name.contains('/') && name != "." && name != ".." {
        return Some(directory.join(name));
    }
    value::path(value, problems)
}
