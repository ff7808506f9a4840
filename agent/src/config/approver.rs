//! `[approver.NAME]`: who may approve a transfer by touching hardware.

use std::ops::Range;
use std::path::{Path, PathBuf};

use countersign_core::approval::{self, TouchProof};
use ssh_key::{Algorithm, PublicKey};

use super::fields::{Fields, Value};
use super::problem::{Problem, Problems};
use super::token::check_name;
use super::value;

/// A person, and what proves a touch of their hardware.
#[derive(Clone, Debug, PartialEq)]
pub struct Approver {
    pub name: String,
    pub proof: ApproverProof,
}

/// How an approver's hardware is known.
#[derive(Clone, Debug, PartialEq)]
pub enum ApproverProof {
    /// The attestation of a PIV key, as a file.
    Attestation(PathBuf),
    /// A FIDO key: user presence is in the signature itself.
    SshKey(Box<PublicKey>),
}

impl Approver {
    /// The approver as policy knows them; `None` where this version cannot verify what they would sign.
    pub(super) fn as_policy(&self) -> Option<approval::Approver> {
        match &self.proof {
            ApproverProof::Attestation(_) => None,
            ApproverProof::SshKey(key) => Some(approval::Approver {
                name: self.name.clone(),
                key: PublicKey::clone(key),
                touch: TouchProof::InSignature,
            }),
        }
    }
}

/// Refuses one key for two approvers: two approvals have to be two persons'.
pub(super) fn check_together(approvers: &[(Range<usize>, Approver)], problems: &Problems) {
    for (index, (at, approver)) in approvers.iter().enumerate() {
        let ApproverProof::SshKey(key) = &approver.proof else { continue };
        let same = |other: &Approver| matches!(&other.proof, ApproverProof::SshKey(other) if other.key_data() == key.key_data());
        if let Some((_, earlier)) = approvers[..index].iter().find(|(_, other)| same(other)) {
            problems.add(Problem::new(
                at.clone(),
                "expected a key of their own for each approver",
                format!("this is also the key of [approver.{}]", earlier.name),
                "two approvals have to come from two persons",
            ));
        }
    }
}

/// Reads one approver; `directory` is the configuration's, where an attestation may lie beside it.
pub(super) fn read(name: &str, mut fields: Fields<'_>, directory: &Path) -> Option<Approver> {
    check_name(name, &fields);
    let given = (fields.span("ssh_key").is_some(), fields.span("attestation").is_some());
    if given.0 == given.1 {
        let found = if given.0 { "both are here" } else { "neither is here" };
        let problem = Problem::new(
            fields.at(),
            "expected `ssh_key` or `attestation`",
            found,
            "ssh_key = \"sk-ssh-ed25519@openssh.com …\", or attestation = \"NAME.pem\"",
        );
        fields.problems().add(problem);
    }
    let ssh_key = fields.optional("ssh_key", ssh_key).map(ApproverProof::SshKey);
    let attestation = fields.optional("attestation", |value, problems| attestation(value, directory, problems));
    fields.finish();
    Some(Approver { name: name.to_owned(), proof: ssh_key.or(attestation.map(ApproverProof::Attestation))? })
}

fn ssh_key(value: Value<'_>, problems: &Problems) -> Option<Box<PublicKey>> {
    let text = value::text(value, problems)?;
    let problem = |found: &str| {
        Problem::new(
            value.span(),
            "expected the public key of a FIDO token",
            found,
            "make one with: ssh-keygen -t ed25519-sk; here goes its .pub file, which starts with sk-",
        )
    };
    let key = PublicKey::from_openssh(text).map_err(|_| problem("not an OpenSSH public key"));
    problems.keep(key.and_then(|key| match key.algorithm() {
        Algorithm::SkEcdsaSha2NistP256 | Algorithm::SkEd25519 => Ok(Box::new(key)),
        _ => Err(problem("this key can be used without a touch")),
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
