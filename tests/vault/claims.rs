//! What docs/threat-model.md says of vaults is, word for word, what the attacks show: whoever
//! changes a sentence looks at its test, and whoever adds an attack says what it shows.

use std::collections::BTreeSet;

/// A test, and the sentence before its mark.
const CLAIMS: [(&str, &str); 10] = [
    (
        "without_a_touch_a_front_gets_nothing",
        "Without a touch a compromised front gets nothing: no signature, no PIN, no login.",
    ),
    (
        "files_that_a_front_writes_open_nothing",
        "It cannot make itself a recipient or an approver, or have another `agent.toml` or a \
         module of its own counted.",
    ),
    (
        "one_touch_is_one_signature_and_old_copies_are_worth_nothing",
        "One touch signs one request, as it was approved, and never again, whatever older file is \
         put in its place.",
    ),
    (
        "a_library_in_the_agents_environment_is_in_no_process_that_it_starts",
        "A library in its environment gets into no process that it starts.",
    ),
    (
        "no_process_that_stays_holds_what_was_used",
        "No process that stays holds the PIN or a secret of the vault.",
    ),
    (
        "a_vault_host_cannot_be_looked_into_and_leaves_no_core",
        "The one that does cannot be looked into by others of its user, and leaves no core.",
    ),
    (
        "a_stolen_touch_is_worth_the_pin_until_it_is_another_one",
        "**One stolen touch** gives the PIN to whoever has the agent's uid, the PIV PIN and PC/SC: \
         an agreement is not bound to \
         a transfer. With the PIN, whatever the keys can sign is signed, until the PIN is another \
         one: the vault's next use, \
         or `countersign vault rotate`.",
    ),
    (
        "a_stolen_touch_on_a_token_that_does_not_rotate_is_worth_the_pin_for_ever",
        "On a token whose PIN cannot be set (`pin_rotation` is not `setpin`), until it is changed \
         by hand.",
    ),
    (
        "old_copies_of_a_software_token_and_its_sealed_file_sign_again_with_a_touch",
        "**Old copies of a software token's files** open with the PIN they had: on SoftHSM a \
         stolen touch, or an old PIN, \
         opens the old copy for ever.",
    ),
    (
        "who_loads_a_library_into_a_vault_host_needs_a_touch_as_well",
        "**One user running everything** is process separation only: whoever has that uid can \
         write the vault's record of \
         spent approvals and `agent.toml`, and start the vault's process with a library of their \
         own; all of that still \
         takes a touch to be worth anything.",
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
    let sources = [include_str!("attacks.rs"), include_str!("leaks.rs")].concat();
    let tests = sources.split("#[test]\nfn ").skip(1);
    let tests: BTreeSet<_> =
        tests.map(|source| source.split('(').next().expect("a name")).collect();
    assert_eq!(tests, CLAIMS.iter().map(|(name, _)| *name).collect());
}
