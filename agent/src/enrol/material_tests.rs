//! Secrets as exchanges write them, checked against other ways to compute the same.

use rsa::pkcs8::EncodePrivateKey;

use super::*;

const HMACS: [(Algorithm, usize); 3] =
    [(Algorithm::HmacSha256, 64), (Algorithm::HmacSha384, 128), (Algorithm::HmacSha512, 128)];

#[test]
fn an_hmac_secret_of_any_length_becomes_one_block_that_signs_the_same() {
    for (algorithm, block) in HMACS {
        for length in [1, 31, 32, 63, 64, 65, 127, 128, 129, 300] {
            let secret = vec![b'k'; length];
            let material = KeyMaterial::decode(algorithm, SecretEncoding::Ascii, &secret).expect("decodes");
            let KeyMaterial::Hmac(_, bytes) = &material else { panic!("not a MAC key") };
            assert_eq!(bytes.len(), block);
            assert!(material.agrees(b"message", &mac(algorithm, &secret, b"message")), "{algorithm} {length}");
            assert!(!material.agrees(b"message", &mac(algorithm, b"another", b"message")));
        }
    }
}

#[test]
fn the_mac_is_the_published_one() {
    // RFC 4231, test case 2.
    let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    let material = KeyMaterial::decode(Algorithm::HmacSha256, SecretEncoding::Ascii, b"Jefe").expect("decodes");
    let expected = data_encoding::HEXLOWER.decode(expected.as_bytes()).expect("hex");
    assert!(material.agrees(b"what do ya want for nothing?", &expected));
}

#[test]
fn base64_is_decoded_strictly() {
    let decode = |text: &str| KeyMaterial::decode(Algorithm::HmacSha512, SecretEncoding::Base64, text.as_bytes());
    let KeyMaterial::Hmac(_, block) = decode("AAEC/w==").expect("decodes") else { panic!("not a MAC key") };
    assert_eq!(block[..4], [0, 1, 2, 255]);
    for text in ["", "AAEC/w", "AAEC/w=", "AAEC_w==", "AAEC/x==", "AAEC/w==\n", " AAEC/w==", "AAEC/w==AAEC/w=="] {
        assert!(decode(text).is_err(), "{text:?}");
    }
}

#[test]
fn ascii_secrets_with_spaces_or_other_characters_are_refused() {
    for text in ["", "a b", "a\n", " a", "a\u{e9}", "a\0"] {
        let error = KeyMaterial::decode(Algorithm::HmacSha256, SecretEncoding::Ascii, text.as_bytes());
        assert!(error.is_err(), "{text:?}");
    }
}

#[test]
fn ed25519_seeds_alone_and_with_their_public_key() {
    let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    let with_public = [key.to_bytes(), key.verifying_key().to_bytes()].concat();
    let with_another = [key.to_bytes(), [9; 32]].concat();
    let decode =
        |bytes: &[u8]| KeyMaterial::decode(Algorithm::Ed25519, SecretEncoding::Base64, BASE64.encode(bytes).as_bytes());
    let signature = ed25519_dalek::Signer::sign(&key, b"m").to_bytes();
    assert!(decode(&key.to_bytes()).expect("a seed").agrees(b"m", &signature));
    assert!(decode(&with_public).expect("a seed and its key").agrees(b"m", &signature));
    for bytes in [&with_another[..], &[7; 31], &[7; 33]] {
        assert!(decode(bytes).is_err());
    }
}

#[test]
fn private_keys_in_pem() {
    let p256 = p256::SecretKey::from_slice(&[3; 32]).expect("a scalar");
    let sec1 = p256.to_sec1_pem(Default::default()).expect("encodes");
    let pkcs8 = p256.to_pkcs8_pem(Default::default()).expect("encodes");
    for text in [&sec1, &pkcs8] {
        let material = KeyMaterial::decode(Algorithm::EcdsaP256Sha256, SecretEncoding::Pem, text.as_bytes());
        assert!(matches!(material, Ok(KeyMaterial::EcdsaP256(_))));
        assert!(KeyMaterial::decode(Algorithm::Ed25519, SecretEncoding::Pem, text.as_bytes()).is_err());
        assert!(KeyMaterial::decode(Algorithm::RsaPkcs1v15Sha256, SecretEncoding::Pem, text.as_bytes()).is_err());
    }
    let ed25519 = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).to_pkcs8_pem(Default::default()).expect("encodes");
    assert!(KeyMaterial::decode(Algorithm::Ed25519, SecretEncoding::Pem, ed25519.as_bytes()).is_ok());
    assert!(KeyMaterial::decode(Algorithm::HmacSha256, SecretEncoding::Pem, ed25519.as_bytes()).is_err());
}

#[test]
fn material_is_never_shown() {
    let material = KeyMaterial::decode(Algorithm::HmacSha256, SecretEncoding::Ascii, b"918273645").expect("decodes");
    assert_eq!(format!("{material:?}"), "KeyMaterial(hmac-sha256, [redacted])");
}
