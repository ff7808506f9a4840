//! Keys of every algorithm are imported, read back and compared with software. The token itself
//! gives no secret.

use countersign_base::messages::enrol_child::SecretEncoding;
use countersign_core::algorithm::Algorithm;
use countersign_core::key::Tier;
use data_encoding::BASE64;
use ed25519_dalek::pkcs8::EncodePrivateKey;
use hmac::{Hmac, Mac};
use p256::ecdsa::signature::Verifier;
use rsa::pkcs1v15::VerifyingKey;
use rsa::rand_core::OsRng;
use sha2::{Sha256, Sha384, Sha512};

use crate::harness::softhsm::SoftHsm;
use crate::harness::token_process::{RunningHost, add};

const MESSAGE: &[u8] = b"timestamp=1700000000000&symbol=BTCUSDT";

fn mac(algorithm: Algorithm, secret: &[u8], message: &[u8]) -> Vec<u8> {
    fn finish(mac: impl Mac, message: &[u8]) -> Vec<u8> {
        mac.chain_update(message).finalize().into_bytes().to_vec()
    }
    match algorithm {
        Algorithm::HmacSha256 => {
            finish(Hmac::<Sha256>::new_from_slice(secret).expect("any length"), message)
        }
        Algorithm::HmacSha384 => {
            finish(Hmac::<Sha384>::new_from_slice(secret).expect("any length"), message)
        }
        _ => finish(Hmac::<Sha512>::new_from_slice(secret).expect("any length"), message),
    }
}

#[test]
fn macs_with_secrets_of_every_length_are_those_of_software() {
    let token = SoftHsm::new();
    let mut secrets = Vec::new();
    for algorithm in [Algorithm::HmacSha256, Algorithm::HmacSha384, Algorithm::HmacSha512] {
        for length in [5, 31, 64, 65, 128, 200] {
            let name = format!("{algorithm}.{length}");
            let secret = "k".repeat(length);
            let facts = add(&token.settings(), &name, algorithm, SecretEncoding::Ascii, &secret);
            assert_eq!(facts.tier, Tier::Software);
            assert!(facts.allowed_mechanism_bound && facts.active);
            secrets.push((name, algorithm, secret));
        }
    }
    let (mut host, keys) = RunningHost::ready(&token.settings());
    assert_eq!(keys.len(), secrets.len());
    for (name, algorithm, secret) in secrets {
        let key = keys.iter().find(|key| key.name == name).expect("hosted");
        assert!(key.working_copy, "{name}");
        assert_eq!(key.api_key.as_deref(), Some(format!("id-{name}").as_str()));
        for message in [MESSAGE, &[0; 100_000], b""] {
            assert_eq!(
                host.sign(&name, algorithm, message),
                mac(algorithm, secret.as_bytes(), message),
                "{name}"
            );
        }
    }
    host.stop();
}

#[test]
fn ed25519_signs_as_software_does() {
    let token = SoftHsm::new();
    let key = ed25519_dalek::SigningKey::from_bytes(&[42; 32]);
    let seed = BASE64.encode(&key.to_bytes());
    let pem = key.to_pkcs8_pem(Default::default()).expect("encodes");
    add(&token.settings(), "seed", Algorithm::Ed25519, SecretEncoding::Base64, &seed);
    let facts = add(&token.settings(), "pem", Algorithm::Ed25519, SecretEncoding::Ascii, &pem);
    let (mut host, keys) = RunningHost::ready(&token.settings());
    for name in ["seed", "pem"] {
        let expected = ed25519_dalek::Signer::sign(&key, MESSAGE).to_bytes();
        assert_eq!(host.sign(name, Algorithm::Ed25519, MESSAGE), expected);
    }
    // RFC 8410: the key's 32 bytes after a fixed prefix of 12.
    let der = facts.public_key_der.expect("has one");
    assert_eq!(der[12..], key.verifying_key().to_bytes());
    assert!(keys.iter().all(|hosted| hosted.public_key_der.as_ref() == Some(&der)));
}

#[test]
fn p256_signs_as_r_and_s_and_software_verifies_it() {
    let token = SoftHsm::new();
    let key = p256::SecretKey::random(&mut OsRng);
    let pem = key.to_sec1_pem(Default::default()).expect("encodes");
    add(&token.settings(), "p256", Algorithm::EcdsaP256Sha256, SecretEncoding::Ascii, &pem);
    let (mut host, _) = RunningHost::ready(&token.settings());
    let verifying = p256::ecdsa::VerifyingKey::from(key.public_key());
    for _ in 0..20 {
        let signature = host.sign("p256", Algorithm::EcdsaP256Sha256, MESSAGE);
        assert_eq!(signature.len(), 64);
        let signature = p256::ecdsa::Signature::from_slice(&signature).expect("r and s");
        verifying.verify(MESSAGE, &signature).expect("verifies");
    }
}

#[test]
fn rsa_signs_as_software_does() {
    let token = SoftHsm::new();
    let key = rsa::RsaPrivateKey::new(&mut OsRng, 2048).expect("made");
    let pem = key.to_pkcs8_pem(Default::default()).expect("encodes");
    add(&token.settings(), "rsa", Algorithm::RsaPkcs1v15Sha256, SecretEncoding::Ascii, &pem);
    let (mut host, _) = RunningHost::ready(&token.settings());
    let signature = host.sign("rsa", Algorithm::RsaPkcs1v15Sha256, MESSAGE);
    let expected = rsa::pkcs1v15::SigningKey::<Sha256>::new(key.clone());
    assert_eq!(
        signature,
        rsa::signature::SignatureEncoding::to_vec(&rsa::signature::Signer::sign(
            &expected, MESSAGE
        ))
    );
    let signature = rsa::pkcs1v15::Signature::try_from(&signature[..]).expect("a signature");
    VerifyingKey::<Sha256>::new(key.to_public_key()).verify(MESSAGE, &signature).expect("verifies");
}

#[test]
fn the_token_itself_gives_no_secret_and_no_other_mechanism() {
    let token = SoftHsm::new();
    let facts = add(
        &token.settings(),
        "mac",
        Algorithm::HmacSha256,
        SecretEncoding::Ascii,
        &"s".repeat(40),
    );
    let listed = token.pkcs11_tool(&["--list-objects", "--type", "secrkey"]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("countersign:mac") && listed.contains("sensitive"), "{listed}");
    assert!(!listed.contains(", extractable"), "{listed}");
    let read = token.pkcs11_tool(&["--read-object", "--type", "secrkey", "--id", &facts.cka_id]);
    let told = String::from_utf8_lossy(&read.stderr).into_owned();
    assert!(told.contains("CKR_ATTRIBUTE_SENSITIVE"), "{told}");
    let message = token.state_dir().join("message");
    std::fs::write(&message, MESSAGE).expect("writable");
    let sign = |mechanism: &str| {
        let input = message.to_str().expect("UTF-8");
        token.pkcs11_tool(&[
            "--sign",
            "--mechanism",
            mechanism,
            "--id",
            &facts.cka_id,
            "--input-file",
            input,
        ])
    };
    let allowed = sign("SHA256-HMAC");
    assert!(allowed.status.success(), "{}", String::from_utf8_lossy(&allowed.stderr));
    let other = sign("SHA512-HMAC");
    let told = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(!other.status.success() && told.contains("CKR_MECHANISM_INVALID"), "{told}");
}
