//! Tests secrets as exchanges write them, against other ways to compute the same result.

use crate::enrol_child::material::*;

const HMACS: [(Algorithm, usize); 3] =
    [(Algorithm::HmacSha256, 64), (Algorithm::HmacSha384, 128), (Algorithm::HmacSha512, 128)];

#[test]
fn an_hmac_secret_of_any_length_becomes_one_block_that_signs_the_same() {
    for (algorithm, block) in HMACS {
        for length in [1, 31, 32, 63, 64, 65, 127, 128, 129, 300] {
            let secret = vec![b'k'; length];
            let material =
                KeyMaterial::decode(algorithm, SecretEncoding::Ascii, &secret).expect("decodes");
            let KeyMaterial::Hmac(_, bytes) = &material else { panic!("not a MAC key") };
            assert_eq!(bytes.len(), block);
            assert!(
                material.agrees(b"message", &mac(algorithm, &secret, b"message")),
                "{algorithm} {length}"
            );
            assert!(!material.agrees(b"message", &mac(algorithm, b"another", b"message")));
        }
    }
}

#[test]
fn the_mac_is_the_published_one() {
    // RFC 4231, test case 2.
    let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    let material = KeyMaterial::decode(Algorithm::HmacSha256, SecretEncoding::Ascii, b"Jefe")
        .expect("decodes");
    let expected = data_encoding::HEXLOWER.decode(expected.as_bytes()).expect("hex");
    assert!(material.agrees(b"what do ya want for nothing?", &expected));
}

#[test]
fn base64_is_decoded_strictly() {
    let decode = |text: &str| {
        KeyMaterial::decode(Algorithm::HmacSha512, SecretEncoding::Base64, text.as_bytes())
    };
    let KeyMaterial::Hmac(_, block) = decode("AAEC/w==").expect("decodes") else {
        panic!("not a MAC key")
    };
    assert_eq!(block[..4], [0, 1, 2, 255]);
    for text in [
        "",
        "AAEC/w",
        "AAEC/w=",
        "AAEC_w==",
        "AAEC/x==",
        "AAEC/w==\n",
        " AAEC/w==",
        "AAEC/w==AAEC/w==",
    ] {
        assert!(decode(text).is_err(), "{text:?}");
    }
}

#[test]
fn ascii_secrets_with_spaces_or_other_characters_are_refused() {
    for text in ["", "a b", "a\n", " a", "a\u{e9}", "a\0"] {
        let error =
            KeyMaterial::decode(Algorithm::HmacSha256, SecretEncoding::Ascii, text.as_bytes());
        assert!(error.is_err(), "{text:?}");
    }
}

#[test]
fn material_is_never_shown() {
    let material = KeyMaterial::decode(Algorithm::HmacSha256, SecretEncoding::Ascii, b"918273645")
        .expect("decodes");
    assert_eq!(format!("{material:?}"), "KeyMaterial(hmac-sha256, [redacted])");
}
