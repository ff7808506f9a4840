//! Finds new approvers, approvers with another key, and two keys that count as two persons and
//! counted as one person before.

use countersign_core::legible::{LegibleName, quoted, word};
use ssh_key::HashAlg;

use super::sentences::{Sentences, path, section};
use crate::config::approver::{ApproverConfig, ApproverProof};
use crate::config::configuration::Config;

pub(super) fn compare(before: &Config, after: &Config, found: &mut Sentences) {
    let known = |approver: &ApproverConfig| {
        before.approvers.iter().find(|known| known.name == approver.name)
    };
    let all = || before.approvers.iter().chain(&after.approvers);
    let looks: Vec<LegibleName<'_>> = all().map(|one| LegibleName::of(&one.name)).collect();
    let persons: Vec<LegibleName<'_>> =
        all().flat_map(|one| [LegibleName::of(&one.name), LegibleName::of(&one.person)]).collect();
    for (index, approver) in after.approvers.iter().enumerate() {
        let ApproverConfig { name, person, proof } = approver;
        let title = section("approver", name);
        match known(approver) {
            None => {
                found.new_section(&title, [("person", word(person)), ("key", key(proof))]);
                found.warn_of_looks(&title, name, looks.iter());
                if person != name {
                    found.warn_of_looks(&format!("{title} person"), person, persons.iter());
                }
            }
            Some(known) if known.proof != *proof => match (key(&known.proof), key(proof)) {
                (before, after) if before == after => {
                    found.add(format!(
                        "{title} key: its comment or its certificates are others; it is {after}"
                    ));
                }
                (before, after) => found.change(&title, "key", &before, &after),
            },
            Some(_) => {}
        }
        let parted = after.approvers[..index].iter().find(|other| {
            let were = known(approver)
                .zip(known(other))
                .is_some_and(|(one, other)| one.person == other.person);
            were && approver.person != other.person
        });
        if let Some(other) = parted {
            let (title_of_other, persons) =
                (section("approver", &other.name), [&other.person, person]);
            let [one, two] = persons.map(|person| word(person));
            found
                .add(format!("{title_of_other} and {title} count as two persons, {one} and {two}"));
        }
    }
    // Without an approver nobody is asked about the next change.
    if after.policy.approvers.is_empty() && !before.policy.approvers.is_empty() {
        let names: Vec<String> =
            before.policy.approvers.iter().map(|one| section("approver", &one.name)).collect();
        found.add(format!(
            "no [approver] that can approve is left of {}: looser rules would be in force without \
             anybody's touch",
            names.join(", ")
        ));
    }
}

/// The fingerprint of the key, and the proof that it takes a touch.
fn key(proof: &ApproverProof) -> String {
    match proof {
        ApproverProof::Attested(attested) => {
            format!("{}, {}", attested.key().fingerprint(HashAlg::Sha256), attested.describe())
        }
        ApproverProof::SshKey(key) => {
            format!("{}, FIDO key, a touch in each signature", key.fingerprint(HashAlg::Sha256))
        }
        ApproverProof::Unproven { attestation, reason } => {
            format!("cannot approve: {}: {}", path(attestation), quoted(reason))
        }
    }
}
