//! Tests with chains that prove something, and with chains that do not.

use data_encoding::HEXUPPER;
use p256_14::ecdsa::{DerSignature, SigningKey};
use p256_14::pkcs8::EncodePublicKey;
use sha2::{Digest, Sha256};
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{Builder, CertificateBuilder};
use x509_cert::certificate::TbsCertificate;
use x509_cert::der::asn1::{ObjectIdentifier, OctetString};
use x509_cert::der::{DateTime, Decode, Encode};
use x509_cert::ext::Extension;
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef};
use x509_cert::time::{Time, Validity};

use super::*;

const CA: &[u8] = &[0x30, 0x03, 0x01, 0x01, 0xff];
const CA_OF_SLOTS: &[u8] = &[0x30, 0x06, 0x01, 0x01, 0xff, 0x02, 0x01, 0x00];
const NO_CA: &[u8] = &[0x30, 0x00];

const SLOT: &str = "CN=YubiKey PIV Attestation 9c";

/// Issues certificates, and keeps its own key.
pub(crate) struct Issuer {
    name: &'static str,
    key: SigningKey,
}

struct Plan {
    issuer: Name,
    subject: Name,
    extensions: Vec<Extension>,
}

impl BuilderProfile for Plan {
    fn get_issuer(&self, _: &Name) -> Name {
        self.issuer.clone()
    }

    fn get_subject(&self) -> Name {
        self.subject.clone()
    }

    fn build_extensions(
        &self,
        _: SubjectPublicKeyInfoRef<'_>,
        _: SubjectPublicKeyInfoRef<'_>,
        _: &TbsCertificate,
    ) -> x509_cert::builder::Result<Vec<Extension>> {
        Ok(self.extensions.clone())
    }
}

impl Issuer {
    pub(crate) fn new(name: &'static str, seed: u8) -> Self {
        Self { name, key: SigningKey::from_slice(&[seed; 32]).expect("a key") }
    }

    pub(crate) fn public_key(&self) -> Vec<u8> {
        self.key.verifying_key().to_public_key_der().expect("encodes").into_vec()
    }

    fn issue(
        &self,
        subject: &str,
        public_key: &[u8],
        extensions: &[(&str, bool, &[u8])],
    ) -> Vec<u8> {
        let extension = |&(id, critical, value): &(&str, bool, &[u8])| Extension {
            extn_id: ObjectIdentifier::new(id).expect("an identifier"),
            critical,
            extn_value: OctetString::new(value).expect("short"),
        };
        let plan = Plan {
            issuer: self.name.parse().expect("a name"),
            subject: subject.parse().expect("a name"),
            extensions: extensions.iter().map(extension).collect(),
        };
        let date = |year| Time::from(DateTime::new(year, 1, 1, 0, 0, 0).expect("a date"));
        let info = SubjectPublicKeyInfoOwned::from_der(public_key).expect("a key");
        let validity = Validity::new(date(2016), date(2017));
        let builder = CertificateBuilder::new(plan, SerialNumber::from(7u32), validity, info)
            .expect("builds");
        builder
            .build::<_, DerSignature>(&self.key)
            .and_then(|built| Ok(built.to_der()?))
            .expect("signed")
    }

    fn authority(&self, of: &Issuer, constraints: &[u8]) -> Vec<u8> {
        self.issue(of.name, &of.public_key(), &[("2.5.29.19", true, constraints)])
    }

    fn attest(&self, key: &[u8], policies: &[u8]) -> Vec<u8> {
        let serial = 13_371_337u32.to_der().expect("an integer");
        let extensions: [(&str, bool, &[u8]); 3] = [
            ("1.3.6.1.4.1.41482.3.3", false, &[5, 4, 3]),
            ("1.3.6.1.4.1.41482.3.7", false, &serial),
            ("1.3.6.1.4.1.41482.3.8", false, policies),
        ];
        self.issue(SLOT, key, &extensions)
    }
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", wrapped(der))
}

fn wrapped(der: &[u8]) -> String {
    let base64 = data_encoding::BASE64.encode(der);
    base64
        .as_bytes()
        .chunks(64)
        .map(|line| str::from_utf8(line).expect("ASCII"))
        .collect::<Vec<_>>()
        .join("\n")
}

struct Made {
    root: Issuer,
    card: Issuer,
    slot: Issuer,
}

impl Made {
    fn new() -> Self {
        Self {
            root: Issuer::new("CN=A root", 1),
            card: Issuer::new("CN=A card", 2),
            slot: Issuer::new(SLOT, 3),
        }
    }

    fn chain(&self, constraints: &[u8], policies: &[u8]) -> Vec<Vec<u8>> {
        vec![
            self.card.attest(&self.slot.public_key(), policies),
            self.root.authority(&self.card, constraints),
        ]
    }

    fn roots(&self) -> Roots {
        let root = self.root.authority(&self.root, CA);
        Roots::yubico().and_others(&pem(&root)).expect("a certificate")
    }

    fn judged(&self, chain: &[Vec<u8>]) -> Result<Attestation, NotAttested> {
        let chain =
            CertificateChain::from_der(chain.iter().map(Vec::as_slice)).expect("certificates");
        verify(&chain, &self.roots())
    }
}

/// The chain of an attested key with these policies, and its root, in PEM. Tests of other modules
/// use it too.
pub(crate) fn attested(key: &[u8], policies: [u8; 2]) -> (String, String) {
    let made = Made::new();
    let chain = [made.card.attest(key, &policies), made.root.authority(&made.card, CA_OF_SLOTS)];
    (chain.iter().map(|one| pem(one)).collect(), pem(&made.root.authority(&made.root, CA)))
}

#[test]
fn yubico_s_roots_are_those_it_publishes() {
    let roots = CertificateChain::from_pem(include_str!("yubico-roots.pem")).expect("certificates");
    let der = include_str!("yubico-roots.pem").split("-----BEGIN CERTIFICATE-----").skip(1).map(
        |block| {
            let base64: String =
                block.split("-----END").next().expect("an end").split_whitespace().collect();
            HEXUPPER.encode(&Sha256::digest(
                data_encoding::BASE64.decode(base64.as_bytes()).expect("base64"),
            ))
        },
    );
    let expected = [
        "63ECE914E54DD87915F34033C85AF4C0696BA1512F8ADD66CED738331207B546",
        "62760C6A6EF91679F454C8902B80FD009825B3F25DA90F1FBACE2EC6586CD5A8",
    ];
    assert_eq!(der.collect::<Vec<_>>(), expected);
    for root in roots.certificates() {
        assert!(signature::is_right(root, root) && root.may_sign(1), "{}", root.name());
    }
}

#[test]
fn a_whole_chain_says_what_the_card_said() {
    let made = Made::new();
    let read = made.judged(&made.chain(CA_OF_SLOTS, &[2, 2])).expect("attested");
    let expected = Attestation {
        serial: 13_371_337,
        firmware: Firmware(5, 4, 3),
        slot: 0x9c,
        pin_policy: PinPolicy::Once,
        touch_policy: TouchPolicy::Always,
        public_key: made.slot.public_key(),
        root: Root::Other,
    };
    assert_eq!(read, expected);
    assert!(matches!(read.ssh_key(), Some(KeyData::Ecdsa(_))));
}

#[test]
fn text_around_certificates_and_the_root_at_the_end_do_no_harm() {
    let made = Made::new();
    let mut chain = made.chain(CA_OF_SLOTS, &[3, 2]);
    chain.push(made.root.authority(&made.root, CA));
    let text: String = chain.iter().map(|one| format!("subject=…\n{}", pem(one))).collect();
    let chain = CertificateChain::from_pem(&text).expect("certificates");
    assert_eq!(verify(&chain, &made.roots()).map(|read| read.pin_policy), Ok(PinPolicy::Always));
}

#[test]
fn an_authority_between_card_and_root_is_followed() {
    let made = Made::new();
    let between = Issuer::new("CN=Between", 5);
    let chain = |constraints: &[u8]| {
        vec![
            made.card.attest(&made.slot.public_key(), &[2, 2]),
            between.authority(&made.card, CA_OF_SLOTS),
            made.root.authority(&between, constraints),
        ]
    };
    assert!(made.judged(&chain(CA)).is_ok());
    assert_eq!(
        made.judged(&chain(CA_OF_SLOTS)),
        Err(NotAttested::NotAnAuthority("\"CN=Between\"".to_owned()))
    );
}

/// Otherwise the owner of one key that Yubico attests could attest any other key with it.
#[test]
fn an_attested_key_attests_no_other() {
    let made = Made::new();
    let own = Issuer::new("CN=Anything", 6);
    let mut chain = vec![made.slot.attest(&own.public_key(), &[2, 2])];
    chain.extend(made.chain(CA, &[2, 2]));
    let slot = format!("{SLOT:?}");
    assert_eq!(made.judged(&chain), Err(NotAttested::NotAnAuthority(slot)));
}

#[test]
fn what_proves_nothing_is_told_apart() {
    let made = Made::new();
    let whole = made.chain(CA_OF_SLOTS, &[2, 2]);
    let forger = Issuer::new("CN=A card", 9);
    let forged = forger.attest(&made.slot.public_key(), &[2, 2]);
    let own_root = Issuer::new("CN=A root", 9);
    let slot = format!("{SLOT:?}");
    let cases = [
        (vec![], NotAttested::Length(0)),
        (whole[..1].to_vec(), NotAttested::Length(1)),
        (vec![whole[0].clone(); 7], NotAttested::Length(7)),
        (made.chain(NO_CA, &[2, 2]), NotAttested::NotAnAuthority("\"CN=A card\"".to_owned())),
        (vec![forged, whole[1].clone()], NotAttested::Signature(slot.clone())),
        (vec![whole[1].clone(), whole[0].clone()], NotAttested::NotAnAuthority(slot.clone())),
        (
            vec![whole[0].clone(), own_root.authority(&made.card, CA_OF_SLOTS)],
            NotAttested::UnknownRoot("\"CN=A card\"".to_owned()),
        ),
        (
            made.chain(CA_OF_SLOTS, &[2, 9]),
            NotAttested::Extension(slot.clone(), "PIN and touch policy"),
        ),
        (
            made.chain(CA_OF_SLOTS, &[2]),
            NotAttested::Extension(slot.clone(), "PIN and touch policy"),
        ),
        (
            vec![made.card.authority(&made.slot, NO_CA), whole[1].clone()],
            NotAttested::Missing(slot, "firmware"),
        ),
    ];
    for (chain, expected) in cases {
        assert_eq!(made.judged(&chain), Err(expected));
    }
    let whole = CertificateChain::from_der(whole.iter().map(Vec::as_slice)).expect("certificates");
    assert!(matches!(verify(&whole, &Roots::yubico()), Err(NotAttested::UnknownRoot(_))));
}

#[test]
fn every_changed_byte_breaks_the_chain() {
    let made = Made::new();
    let whole = made.chain(CA_OF_SLOTS, &[2, 2]);
    for certificate in 0..whole.len() {
        for at in 0..whole[certificate].len() {
            let mut changed = whole.clone();
            changed[certificate][at] ^= 1;
            let Ok(chain) = CertificateChain::from_der(changed.iter().map(Vec::as_slice)) else {
                continue;
            };
            assert!(
                verify(&chain, &made.roots()).is_err(),
                "byte {at} of certificate {certificate}"
            );
        }
    }
}

#[test]
fn what_is_no_certificate_is_counted() {
    let error = CertificateChain::from_pem(&pem(b"nothing")).expect_err("no certificate");
    assert!(error.to_string().starts_with("certificate 1 is not one"), "{error}");
    assert!(matches!(
        verify(&CertificateChain::from_pem("").expect("empty"), &Roots::yubico()),
        Err(NotAttested::Length(0))
    ));
}
