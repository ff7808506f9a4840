//! The enrol child adds, generates, activates and removes keys, and no secret goes where it must
//! not.

use countersign_base::messages::enrol_child::{
    EnrolError, EnrolReply, EnrolRequest, SecretEncoding,
};
use countersign_base::messages::token_host::{Bytes, FromHost, ToHost};
use countersign_core::algorithm::Algorithm;
use countersign_core::exchange::PassphraseKind;
use countersign_core::key::Tier;
use data_encoding::BASE64;
use p256::ecdsa::signature::Verifier;
use p256::pkcs8::DecodePublicKey;

use crate::harness::softhsm::SoftHsm;
use crate::harness::token_process::{RunningHost, add, adding, done, enrol};

const SECRET: &str = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j";
const PASSPHRASE: &str = "correct horse";

fn refused(reply: EnrolReply) -> EnrolError {
    match reply {
        EnrolReply::Refused { reason } => reason,
        other => panic!("not refused: {other:?}"),
    }
}

fn named(name: &str) -> String {
    name.to_owned()
}

#[test]
fn the_front_sees_no_byte_of_secret_or_passphrase_and_neither_is_on_disk() {
    let token = SoftHsm::new();
    let input = serde_json::json!({"api_key": "id", "secret": SECRET, "passphrase": PASSPHRASE})
        .to_string();
    let exchange = enrol(
        &token.settings(),
        &adding("okx", Algorithm::HmacSha256, SecretEncoding::Ascii, PassphraseKind::Plain),
        &input,
    );
    assert!(done(exchange.reply).has_passphrase);
    let found = |bytes: &[u8], text: &str| {
        bytes.windows(8).any(|window| text.as_bytes().windows(8).any(|w| w == window))
    };
    assert!(found(input.as_bytes(), SECRET), "the search finds what is there");
    for text in [SECRET, PASSPHRASE] {
        assert!(!found(&exchange.bytes, text));
    }
    let mut files = 0;
    let mut directories = vec![token.tokens(), token.state_dir()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            files += 1;
            let bytes = std::fs::read(&path).expect("readable");
            for text in [SECRET, PASSPHRASE] {
                assert!(!found(&bytes, text), "{}", path.display());
            }
        }
    }
    assert!(files > 3);
    let (mut host, keys) = RunningHost::ready(&token.settings());
    assert!(keys[0].has_passphrase);
    host.send(&ToHost::Sign {
        id: 1,
        key: "okx",
        algorithm: Algorithm::HmacSha256,
        message: Bytes(b"m"),
    });
    let FromHost::Signed { passphrase: Some(passphrase), .. } = host.receive() else {
        panic!("no passphrase")
    };
    assert_eq!(*passphrase.0, PASSPHRASE);
}

#[test]
fn a_passphrase_that_goes_out_as_a_mac_is_kept_as_one() {
    let token = SoftHsm::new();
    let input = serde_json::json!({"api_key": "id", "secret": SECRET, "passphrase": PASSPHRASE})
        .to_string();
    let request = adding("kc", Algorithm::HmacSha256, SecretEncoding::Ascii, PassphraseKind::Mac);
    done(enrol(&token.settings(), &request, &input).reply);
    let (mut host, _) = RunningHost::ready(&token.settings());
    host.send(&ToHost::Sign {
        id: 1,
        key: "kc",
        algorithm: Algorithm::HmacSha256,
        message: Bytes(PASSPHRASE.as_bytes()),
    });
    let FromHost::Signed { passphrase: Some(passphrase), signature, .. } = host.receive() else {
        panic!("not signed")
    };
    assert_eq!(*passphrase.0, BASE64.encode(&signature));
}

#[test]
fn a_name_is_used_once_until_it_is_removed() {
    let token = SoftHsm::new();
    let settings = token.settings();
    add(&settings, "mm", Algorithm::HmacSha256, SecretEncoding::Ascii, SECRET);
    let again = adding("mm", Algorithm::HmacSha512, SecretEncoding::Ascii, PassphraseKind::None);
    let input = serde_json::json!({"api_key": "id", "secret": SECRET}).to_string();
    assert_eq!(refused(enrol(&settings, &again, &input).reply), EnrolError::NameTaken(named("mm")));
    let (mut host, keys) = RunningHost::ready(&settings);
    assert_eq!(keys.len(), 1);
    let removed = enrol(&settings, &EnrolRequest::Remove { name: named("mm") }, "").reply;
    assert_eq!(removed, EnrolReply::Removed { objects: 2 });
    host.send(&ToHost::Rescan);
    assert!(matches!(host.receive(), FromHost::Keys(keys) if keys.is_empty()));
    let remove = EnrolRequest::Remove { name: named("mm") };
    assert_eq!(refused(enrol(&settings, &remove, "").reply), EnrolError::NameUnknown(named("mm")));
    done(enrol(&settings, &again, &input).reply);
    host.send(&ToHost::Rescan);
    assert!(
        matches!(host.receive(), FromHost::Keys(keys) if keys[0].algorithm == Algorithm::HmacSha512)
    );
}

#[test]
fn bad_input_leaves_nothing_on_the_token_and_is_not_quoted() {
    let token = SoftHsm::new();
    for (algorithm, encoding, secret) in [
        (Algorithm::HmacSha512, SecretEncoding::Base64, SECRET.to_owned() + "="),
        (Algorithm::HmacSha256, SecretEncoding::Ascii, SECRET.to_owned() + " "),
        (Algorithm::EcdsaP256Sha256, SecretEncoding::Ascii, SECRET.to_owned()),
        (Algorithm::Ed25519, SecretEncoding::Ascii, SECRET.to_owned()),
    ] {
        let input = serde_json::json!({"api_key": "id", "secret": secret}).to_string();
        let exchange = enrol(
            &token.settings(),
            &adding("mm", algorithm, encoding, PassphraseKind::None),
            &input,
        );
        let reason = refused(exchange.reply);
        assert!(matches!(reason, EnrolError::Input(_)), "{reason:?}");
        assert!(!reason.to_string().contains(&SECRET[..8]));
    }
    let (_host, keys) = RunningHost::ready(&token.settings());
    assert!(keys.is_empty());
    assert!(token.pkcs11_tool(&["--list-objects"]).stdout.is_empty());
}

#[test]
fn names_that_are_no_names_are_refused_before_anything_is_read() {
    let token = SoftHsm::new();
    for name in ["", "../x", "a b", "a:b"] {
        let request =
            adding(name, Algorithm::HmacSha256, SecretEncoding::Ascii, PassphraseKind::None);
        assert_eq!(
            refused(enrol(&token.settings(), &request, "").reply),
            EnrolError::Name(named(name))
        );
    }
}

#[test]
fn generated_keys_sign_only_after_they_were_activated() {
    let token = SoftHsm::new();
    let settings = token.settings();
    let generate = |name: &str, algorithm, modulus_bits| {
        let request = EnrolRequest::Generate {
            name: named(name),
            algorithm,
            modulus_bits,
            slot: Default::default(),
        };
        enrol(&settings, &request, "").reply
    };
    let facts = done(generate("p", Algorithm::EcdsaP256Sha256, None));
    assert!(!facts.active && facts.allowed_mechanism_bound);
    let public = facts.public_key_der.expect("has one");
    done(generate("e", Algorithm::Ed25519, None));
    let rsa = done(generate("r", Algorithm::RsaPkcs1v15Sha256, Some(3072)));
    let rsa = rsa::RsaPublicKey::from_public_key_der(&rsa.public_key_der.expect("has one"))
        .expect("SPKI");
    assert_eq!(rsa::traits::PublicKeyParts::size(&rsa), 3072 / 8);
    assert!(matches!(
        refused(generate("s", Algorithm::RsaPkcs1v15Sha256, Some(1024))),
        EnrolError::Input(_)
    ));
    assert!(matches!(refused(generate("h", Algorithm::HmacSha256, None)), EnrolError::Input(_)));

    let (mut host, keys) = RunningHost::ready(&settings);
    assert_eq!(keys.iter().filter(|key| key.api_key.is_none()).count(), 3);
    let activate = EnrolRequest::Activate { name: named("p"), api_key: named("the-id") };
    assert!(done(enrol(&settings, &activate, "").reply).active);
    assert_eq!(
        refused(enrol(&settings, &activate, "").reply),
        EnrolError::AlreadyActive(named("p"))
    );
    host.send(&ToHost::Rescan);
    let FromHost::Keys(keys) = host.receive() else { panic!("no keys") };
    let key = keys.iter().find(|key| key.name == "p").expect("hosted");
    assert_eq!(
        (key.api_key.as_deref(), key.public_key_der.as_ref()),
        (Some("the-id"), Some(&public))
    );
    let signature = host.sign("p", Algorithm::EcdsaP256Sha256, b"message");
    let verifying = p256::ecdsa::VerifyingKey::from_public_key_der(&public).expect("SPKI");
    let signature = p256::ecdsa::Signature::from_slice(&signature).expect("r and s");
    verifying.verify(b"message", &signature).expect("verifies");
}

/// SoftHSM stands in for an HSM, with a profile that says so.
#[test]
fn a_key_born_on_hardware_has_the_tier_device_and_an_imported_one_the_tier_imported() {
    let token = SoftHsm::new();
    let profile = include_str!("../../pkcs11-profiles/softhsm.toml");
    let profile = profile
        .replace("name = \"softhsm\"", "name = \"hardware\"")
        .replace("tier = \"software\"", "tier = \"hardware\"");
    let file = token.another_file("hardware.toml", &profile);
    let mut settings = token.settings();
    settings.profile = file.to_str().expect("UTF-8").to_owned();
    settings.allow_software_tokens = false;
    let generate = EnrolRequest::Generate {
        name: named("born"),
        algorithm: Algorithm::Ed25519,
        modulus_bits: None,
        slot: Default::default(),
    };
    assert_eq!(done(enrol(&settings, &generate, "").reply).tier, Tier::Device);
    let imported = add(&settings, "imported", Algorithm::HmacSha256, SecretEncoding::Ascii, SECRET);
    assert_eq!(imported.tier, Tier::Imported);
}

#[test]
fn a_key_whose_record_is_missing_is_neither_hosted_nor_overwritten() {
    let token = SoftHsm::new();
    add(&token.settings(), "mm", Algorithm::HmacSha256, SecretEncoding::Ascii, SECRET);
    let deleted =
        token.pkcs11_tool(&["--delete-object", "--type", "data", "--label", "countersign:mm"]);
    assert!(deleted.status.success(), "{}", String::from_utf8_lossy(&deleted.stderr));
    let (_host, keys) = RunningHost::ready(&token.settings());
    assert!(keys.is_empty());
    let input = serde_json::json!({"api_key": "id", "secret": SECRET}).to_string();
    let again = adding("mm", Algorithm::HmacSha256, SecretEncoding::Ascii, PassphraseKind::None);
    assert_eq!(
        refused(enrol(&token.settings(), &again, &input).reply),
        EnrolError::Unfinished(named("mm"))
    );
    let removed = enrol(&token.settings(), &EnrolRequest::Remove { name: named("mm") }, "").reply;
    assert_eq!(removed, EnrolReply::Removed { objects: 1 });
}
