//! `[approver.NAME]`: who may approve a transfer by touching hardware.

use std::ops::Range;
use std::path::{Path, PathBuf};

use countersign_core::approval::{self, AttestedKey, Touch};
use ssh_key::{Algorithm, HashAlg, PublicKey};

use super::facts::Facts;
use super::fields::{Fields, Value};
use super::problem::{Problem, Problems};
use super::token::{NAMES, check_name};
use super::value;
use crate::messages::settings::is_plain_name;

/// A person, and what proves a touch of their hardware.
#[derive(Clone, Debug, PartialEq)]
pub struct Approver {
    pub name: String,
    /// Whose key it is: all keys of one person together give one approval.
    pub person: String,
    pub proof: ApproverProof,
}

/// How an approver's hardware is known.
#[derive(Clone, Debug, PartialEq)]
pub enum ApproverProof {
    /// A PIV key whose card says that each signature takes a touch.
    Attested(Box<AttestedKey>),
    /// A FIDO key: user presence is in the signature itself.
    SshKey(Box<PublicKey>),
    /// Nothing proves a touch: this approver cannot approve.
    Unproven { attestation: PathBuf, reason: String },
}

impl Approver {
    /// The approver as policy knows them; `None` for one who cannot approve.
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

    /// Both keys live in one YubiKey, as far as that is known: a FIDO key does not say where it
    /// lives.
    fn shares_card(&self, other: &Self) -> bool {
        match (&self.proof, &other.proof) {
            (ApproverProof::Attested(one), ApproverProof::Attested(other)) => {
                one.attestation().serial == other.attestation().serial
            }
            _ => false,
        }
    }

    /// What their approvals rest on, for people.
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

/// Refuses what would let one person give two approvals: two approvals have to be two persons'.
pub(super) fn check_together(approvers: &[(Range<usize>, Approver)], problems: &Problems) {
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
            problems.add(Problem::new(at.clone(), "expected `person` to name one", found, help));
        }
        if let Some(other) = earlier().find(|other| other.has_key_of(approver)) {
            let found = format!("this is also the key of [approver.{}]", other.name);
            problems.add(Problem::new(
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
                format!("where both are one person's, say so: person = \"{}\"", other.person);
            problems.add(Problem::new(
                at.clone(),
                "expected a YubiKey of their own for each person",
                found,
                help,
            ));
        }
    }
}

/// Reads one approver; `directory` is the configuration's, where an attestation may lie beside it.
pub(super) fn read(
    name: &str,
    mut fields: Fields<'_>,
    directory: &Path,
    facts: &Facts,
) -> Option<Approver> {
    check_name(name, &fields);
    let (at, problems, has_key) =
        (fields.at(), fields.problems(), fields.span("ssh_key").is_some());
    let has_attestation = fields.span("attestation").is_some();
    if !has_key && !has_attestation {
        problems.add(Problem::new(
            at.clone(),
            "expected `ssh_key` or `attestation`",
            "neither is here",
            FORMS,
        ));
    }
    if !has_attestation && let Some(span) = fields.span("attestation_root") {
        problems.add(Problem::new(
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
    Some(Approver { name: name.to_owned(), person: person.to_owned(), proof })
}

fn person<'a>(value: Value<'a>, problems: &Problems) -> Option<&'a str> {
    let name = value::text(value, problems)?;
    let problem =
        || Problem::new(value.span(), "expected the name of a person", "this is none", NAMES);
    problems.keep(if is_plain_name(name) { Ok(name) } else { Err(problem()) })
}

const FORMS: &str =
    "ssh_key = \"sk-ssh-ed25519@openssh.com …\", or attestation = \"NAME.pem\" of a PIV key";

/// The attested key, or why nothing proves a touch of it.
fn prove(
    key: Option<&PublicKey>,
    attestation: &Path,
    root: Option<&Path>,
    facts: &Facts,
) -> Result<AttestedKey, String> {
    let chain = (facts.attestation_file)(attestation)?;
    let root = root.map(|root| (facts.attestation_file)(root)).transpose()?;
    let attested =
        AttestedKey::prove(&chain, root.as_deref()).map_err(|reason| reason.to_string())?;
    if key.is_some_and(|key| key.key_data() != attested.key().key_data()) {
        return Err("ssh_key is not the attested key".to_owned());
    }
    Ok(attested)
}

/// A key that is `attested` is not a FIDO key, and the other way round.
fn ssh_key(value: Value<'_>, attested: bool, problems: &Problems) -> Option<Box<PublicKey>> {
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
    let problem = |found: &str| Problem::new(value.span(), expected, found, help);
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

/// A name beside the configuration, or an absolute path.
fn attestation(value: Value<'_>, directory: &Path, problems: &Problems) -> Option<PathBuf> {
    let name = value::text(value, problems)?;
    if !name.contains('/') && name != "." && name != ".." {
        return Some(directory.join(name));
    }
    value::path(value, problems)
}
