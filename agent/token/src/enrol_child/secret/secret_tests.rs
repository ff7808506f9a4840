//! Tests secrets in the forms in which exchanges, portals and tools give them out, each with its
//! outcome.

use std::process::{Command, Stdio};

use rsa::pkcs8::EncodePrivateKey;

use crate::enrol_child::secret::*;

const ALL: [Algorithm; 4] = [
    Algorithm::HmacSha256,
    Algorithm::EcdsaP256Sha256,
    Algorithm::Ed25519,
    Algorithm::RsaPkcs1v15Sha256,
];

fn ascii(algorithms: &[Algorithm], secret: &str) -> Result<KeyMaterial, EnrolError> {
    read(algorithms, SecretEncoding::Ascii, secret.as_bytes())
}

fn openssl(arguments: &str, input: &str) -> String {
    let mut command = Command::new("openssl");
    command
        .args(arguments.split(' '))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().expect("openssl runs");
    std::io::Write::write_all(&mut child.stdin.take().expect("piped"), input.as_bytes())
        .expect("a small text");
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success(), "{arguments}");
    String::from_utf8(output.stdout).expect("text")
}

/// Keys for one algorithm each, in every form.
fn keys() -> Vec<(&'static str, Algorithm, String)> {
    let p256 = p256::SecretKey::from_slice(&[3; 32]).expect("a scalar");
    let sec1 = p256.to_sec1_pem(Default::default()).expect("encodes").to_string();
    let pkcs8 = p256.to_pkcs8_pem(Default::default()).expect("encodes").to_string();
    let ed25519 = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    let ed25519_pem = ed25519.to_pkcs8_pem(Default::default()).expect("encodes").to_string();
    let halves = BASE64.encode(&[ed25519.to_bytes(), ed25519.verifying_key().to_bytes()].concat());
    let rsa = openssl("genrsa 2048", "");
    vec![
        ("P-256 in SEC1", Algorithm::EcdsaP256Sha256, sec1),
        ("P-256 in PKCS#8", Algorithm::EcdsaP256Sha256, pkcs8),
        (
            "P-256 behind its parameters",
            Algorithm::EcdsaP256Sha256,
            openssl("ecparam -name prime256v1 -genkey", ""),
        ),
        ("Ed25519 in PKCS#8", Algorithm::Ed25519, ed25519_pem),
        ("Ed25519 as the portal gives it", Algorithm::Ed25519, halves),
        ("RSA in PKCS#1", Algorithm::RsaPkcs1v15Sha256, openssl("rsa -traditional", &rsa)),
        ("RSA in PKCS#8", Algorithm::RsaPkcs1v15Sha256, rsa),
        (
            "HMAC",
            Algorithm::HmacSha256,
            "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j".to_owned(),
        ),
    ]
}

#[test]
fn the_only_key_that_fits_is_taken() {
    for (form, algorithm, secret) in keys() {
        for algorithms in [&ALL[..], &[algorithm]] {
            let read = ascii(algorithms, &secret).unwrap_or_else(|error| panic!("{form}: {error}"));
            assert_eq!(read.algorithm(), algorithm, "{form}");
        }
        let others: Vec<_> =
            ALL.into_iter().filter(|other| *other != algorithm && !other.is_hmac()).collect();
        let error = ascii(&others, &secret).expect_err(form).to_string();
        if secret.contains("-----BEGIN") {
            assert!(
                error.contains(&format!("it is a private key for {algorithm}")),
                "{form}: {error}"
            );
        }
    }
}

#[test]
fn pem_is_taken_however_it_was_copied() {
    for (form, algorithm, secret) in
        keys().into_iter().filter(|(_, _, secret)| secret.contains("-----BEGIN"))
    {
        let joined = secret.trim_end().replace('\n', "\\n");
        for (how, copied) in [
            ("line breaks as \\n", joined.clone()),
            ("line breaks as \\n, the last too", format!("{joined}\\n")),
            ("line breaks as \\r\\n", secret.replace('\n', "\\r\\n")),
            ("a value of JSON", format!("\"{joined}\\n\",")),
            ("ends of lines of Windows", secret.replace('\n', "\r\n")),
            ("indented", secret.lines().map(|line| format!("    {line}\n")).collect()),
            ("without its last newline", secret.trim_end().to_owned()),
            ("blank lines around it", format!("\n{secret}\n\n")),
            ("lines of another length", {
                let (head, rest) = secret.split_once("-----\n").expect("a first line");
                let (body, tail) = rest.split_once("\n-----END").expect("a last line");
                format!(
                    "{head}-----\n{}\n-----END{tail}",
                    body.replace('\n', if body.contains("--") { "\n" } else { "" })
                )
            }),
        ] {
            let read =
                ascii(&ALL, &copied).unwrap_or_else(|error| panic!("{form}, {how}: {error}"));
            assert_eq!(read.algorithm(), algorithm, "{form}, {how}");
        }
    }
}

#[test]
fn what_cannot_be_used_is_refused_with_what_it_is() {
    let (_, _, rsa) = keys().swap_remove(6);
    let (_, _, sec1) = keys().swap_remove(0);
    let cut = |text: &str, at: usize| text[..at].to_owned();
    let halves = |public: u8| BASE64.encode(&[[7; 32], [public; 32]].concat());
    let body: String = rsa.lines().filter(|line| !line.starts_with("-----")).collect();
    let encrypted = openssl("pkcs8 -topk8 -passout pass:x", &rsa);
    for (what, algorithms, secret, says) in [
        ("encrypted PKCS#8", &ALL[..], encrypted.clone(), "openssl pkey -in FILE"),
        ("encrypted PKCS#8, cut off", &ALL, cut(&encrypted, 300), "openssl pkey -in FILE"),
        (
            "encrypted as before",
            &ALL,
            openssl("rsa -traditional -aes128 -passout pass:x", &rsa),
            "openssl pkey -in FILE",
        ),
        ("cut off", &ALL, cut(&rsa, 700), "not complete: it has no -----END PRIVATE KEY-----"),
        ("cut off in its first line", &ALL, cut(&rsa, 20), "not complete"),
        (
            "without a line in its middle",
            &ALL,
            rsa.replacen(rsa.lines().nth(5).expect("a line"), "", 1),
            "not complete",
        ),
        ("damaged", &ALL, rsa.replacen('M', "*", 1), "damaged"),
        (
            "its public key",
            &ALL,
            openssl("pkey -pubout", &rsa),
            "it is a PUBLIC KEY; the private key is wanted",
        ),
        ("two keys", &ALL, format!("{rsa}{sec1}"), "several private keys"),
        (
            "another curve",
            &ALL,
            openssl("ecparam -name secp384r1 -genkey", ""),
            "another curve than P-256",
        ),
        (
            "another curve in PKCS#8",
            &ALL,
            openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384", ""),
            "another kind",
        ),
        (
            "another kind",
            &ALL,
            openssl("genpkey -algorithm X25519", ""),
            "another kind than Ed25519, P-256 and RSA",
        ),
        ("another length", &ALL, openssl("genrsa 1024", ""), "2048, 3072 or 4096"),
        (
            "OpenSSH",
            &ALL,
            "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----"
                .to_owned(),
            "ssh-keygen -p",
        ),
        ("PEM without its lines", &ALL, body, "without its -----BEGIN and -----END lines"),
        (
            "a seed that may be an HMAC secret",
            &ALL,
            BASE64.encode(&[7; 32]),
            "--algorithm ed25519 or --algorithm hmac-sha256",
        ),
        (
            "halves that do not fit",
            &ALL,
            halves(9),
            "--algorithm ed25519 or --algorithm hmac-sha256",
        ),
        ("halves that do not fit", &[Algorithm::Ed25519], halves(9), "followed by its public key"),
        (
            "no key where one is wanted",
            &[Algorithm::RsaPkcs1v15Sha256],
            "abc".to_owned(),
            "wants a private key in PEM",
        ),
        (
            "PEM for a MAC alone",
            &[Algorithm::HmacSha256],
            rsa.clone(),
            "but one for hmac-sha256 is wanted",
        ),
        ("nothing", &ALL, String::new(), "empty"),
    ] {
        let error = ascii(algorithms, &secret).expect_err(what).to_string();
        assert!(error.contains(says), "{what}: {error}");
        let longest = secret.lines().max_by_key(|line| line.len()).unwrap_or("-");
        assert!(longest.len() < 12 || !error.contains(&longest[..12]), "{what}: {error}");
    }
}

#[test]
fn ed25519_seeds_alone_and_with_their_public_key() {
    let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    let with_public = [key.to_bytes(), key.verifying_key().to_bytes()].concat();
    let decode = |bytes: &[u8]| {
        read(&[Algorithm::Ed25519], SecretEncoding::Base64, BASE64.encode(bytes).as_bytes())
    };
    let signature = ed25519_dalek::Signer::sign(&key, b"m").to_bytes();
    assert!(decode(&key.to_bytes()).expect("a seed").agrees(b"m", &signature));
    assert!(decode(&with_public).expect("a seed and its key").agrees(b"m", &signature));
    for bytes in [&[7; 31][..], &[7; 33]] {
        assert!(decode(bytes).is_err());
    }
}

#[test]
fn a_paste_is_whole_at_the_end_of_its_key() {
    for (_, _, secret) in keys().into_iter().filter(|(_, _, secret)| secret.contains("-----BEGIN"))
    {
        let lines: Vec<_> = secret.split_inclusive('\n').collect();
        for count in 1..lines.len() {
            assert!(
                !pem::is_whole(lines[..count].concat().as_bytes()),
                "{count} lines of {}",
                lines.len()
            );
        }
        assert!(pem::is_whole(secret.as_bytes()));
        assert!(
            pem::is_whole(format!("{}\n", secret.trim_end().replace('\n', "\\n")).as_bytes()),
            "one line"
        );
        assert!(
            pem::is_whole(format!("{}\n", lines[..lines.len() - 1].concat()).as_bytes()),
            "given up"
        );
    }
}

#[test]
fn an_ed25519_key_is_known_by_its_public_half_however_its_line_was_copied() {
    // A key whose base64 has both characters in which the two alphabets differ.
    let text = (0..=u8::MAX)
        .map(|seed| ed25519_dalek::SigningKey::from_bytes(&[seed; 32]))
        .map(|key| BASE64.encode(&[key.to_bytes(), key.verifying_key().to_bytes()].concat()))
        .find(|text| text.contains('+') && text.contains('/'))
        .expect("there is one");
    let (one, two) = text.split_at(44);
    let url = text.replace('+', "-").replace('/', "_");
    let plain = text.trim_end_matches('=').to_owned();
    for written in [
        text.clone(),
        format!("{text}\n"),
        format!("{text}\r\n"),
        format!(" {text}  "),
        format!("{one}\n{two}\n"),
        format!("{one}\r\n\t{two}"),
        url.clone(),
        url.trim_end_matches('=').to_owned(),
        plain.clone(),
    ] {
        for algorithms in [&[Algorithm::HmacSha256, Algorithm::Ed25519][..], &[Algorithm::Ed25519]]
        {
            let key = ascii(algorithms, &written).map(|key| key.algorithm());
            assert_eq!(key.ok(), Some(Algorithm::Ed25519), "{written:?}");
        }
        let secret = ascii(&[Algorithm::HmacSha256], &written).map(|key| key.algorithm());
        assert!(
            secret.is_err() || !written.contains(char::is_whitespace),
            "said to be an HMAC secret: {written:?}"
        );
    }
}
