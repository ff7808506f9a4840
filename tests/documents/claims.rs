//! Every sentence about vaults in docs/threat-model.md has its attack in `tests/vault`, and every
//! attack has its sentence. A change of one has to change the other.

use std::collections::BTreeSet;

/// The name of a test, and the sentence before its mark.
const CLAIMS: [(&str, &str); 10] = [
    (
        "without_a_touch_a_front_gets_nothing",
        "Without a touch a compromised front gets nothing: no signature, no PIN, no login.",
    ),
    (
        "files_that_a_front_writes_open_nothing",
        "The front cannot make itself a recipient or an approver, and a vault accepts neither \
         another `agent.toml` nor a module of the front's own.",
    ),
    (
        "one_touch_is_one_signature_and_old_copies_are_worth_nothing",
        "One touch signs one request, as it was approved, and never again, even if older files of \
         the vault's own directory are put back.",
    ),
    (
        "a_library_in_the_agents_environment_is_in_no_process_that_it_starts",
        "If the front's environment names a library, no process that the front starts loads it.",
    ),
    (
        "no_process_that_stays_holds_what_was_used",
        "No process that lives on after a signature holds the PIN or a secret of the vault.",
    ),
    (
        "a_vault_host_cannot_be_looked_into_and_leaves_no_core",
        "No other process of its user can look into the vault host, and it leaves no core.",
    ),
    (
        "a_stolen_touch_is_worth_the_pin_until_it_is_another_one",
        "**One stolen touch** gives the PIN to an attacker with the agent's uid, the PIV PIN and \
         PC/SC, because an agreement is not bound to a transfer. With the PIN the attacker can \
         sign everything that the keys can sign, until the PIN is changed by the vault's next use \
         or by `countersign vault rotate`.",
    ),
    (
        "a_stolen_touch_on_a_token_that_does_not_rotate_is_worth_the_pin_for_ever",
        "On a token whose PIN the agent cannot set (`pin_rotation` is not `setpin`), the stolen \
         PIN is good until somebody changes it by hand.",
    ),
    (
        "old_copies_of_a_software_token_and_its_sealed_file_sign_again_with_a_touch",
        "**Old copies of a software token's files** open with the PIN they had: on SoftHSM a \
         stolen touch, or an old PIN, opens the old copy for ever.",
    ),
    (
        "who_loads_a_library_into_a_vault_host_needs_a_touch_as_well",
        "**One user running everything** is process separation only. An attacker with that uid can \
         write the vault's record of spent approvals and `agent.toml`, and can start the vault's \
         process with a library of their own. Without a touch, none of that opens the vault.",
    ),
];

#[test]
fn the_threat_model_says_word_for_word_what_the_attacks_show() {
    let text = include_str!("../../docs/threat-model.md");
    let section = text
        .split("## The vault\n")
        .nth(1)
        .expect("a section")
        .split("\n## ")
        .next()
        .expect("text");
    let (mut found, mut rest) = (Vec::new(), section);
    while let Some((before, after)) = rest.split_once("<!-- test: ") {
        let (name, behind) = after.split_once(" -->").expect("the mark's end");
        let paragraph = before.rsplit("\n\n").next().expect("text");
        let sentence = paragraph.rsplit("\n* ").next().expect("text").trim_start_matches("* ");
        found.push((name, sentence.split_whitespace().collect::<Vec<_>>().join(" ")));
        rest = behind;
    }
    assert_eq!(found, CLAIMS.map(|(name, sentence)| (name, sentence.to_owned())));
}

#[test]
fn every_claim_has_its_test_and_every_attack_its_claim() {
    let sources = [include_str!("../vault/attacks.rs"), include_str!("../vault/leaks.rs")].concat();
    let tests = sources.split("#[test]\nfn ").skip(1);
    let tests: BTreeSet<_> =
        tests.map(|source| source.split('(').next().expect("a name")).collect();
    assert_eq!(tests, CLAIMS.iter().map(|(name, _)| *name).collect());
}
