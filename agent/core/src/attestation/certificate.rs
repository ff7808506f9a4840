//! A certificate, as far as an attestation needs it. It is parsed once and keeps its signed bytes
//! unchanged.

use x509_cert::Certificate as Parsed;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{self, Decode, Encode, Reader, SliceReader};
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};

const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
/// The identifiers of a PIV attestation's extensions begin with this one.
const YUBICO_PIV: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.41482.3");
/// The slot follows it in hexadecimal.
const SUBJECT_OF_A_SLOT: &str = "CN=YubiKey PIV Attestation ";

/// Certificates in their order, the slot's first. [`super::verify`] checks that they fit together.
#[derive(Clone, Debug)]
pub struct CertificateChain(Vec<Certificate>);

/// The certificate that could not be read, and why.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("certificate {number} is not one that is understood: {cause}")]
pub struct NotCertificates {
    /// From 1.
    number: usize,
    #[source]
    cause: der::Error,
}

#[derive(Clone, Debug)]
pub(super) struct Certificate {
    parsed: Parsed,
    signed: Vec<u8>,
    public_key: Vec<u8>,
}

impl CertificateChain {
    /// Reads certificates in PEM, one after the other, as ykman and yubico-piv-tool write them. It
    /// ignores text between them.
    pub fn from_pem(text: &str) -> Result<Self, NotCertificates> {
        const BEGIN_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";
        const END: &str = "-----END CERTIFICATE-----";
        let blocks = text
            .split(BEGIN_CERTIFICATE)
            .skip(1)
            .map(|block| block.split(END).next().unwrap_or_default());
        let der = blocks.map(|block| {
            let pem = format!("{BEGIN_CERTIFICATE}{block}{END}\n");
            der::pem::decode_vec(pem.as_bytes()).map(|(_, der)| der).map_err(der::Error::from)
        });
        Self::of(der)
    }

    /// Reads certificates in DER.
    pub fn from_der<'a>(
        certificates: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self, NotCertificates> {
        Self::of(certificates.into_iter().map(|der| Ok(der.to_vec())))
    }

    fn of(
        certificates: impl Iterator<Item = der::Result<Vec<u8>>>,
    ) -> Result<Self, NotCertificates> {
        let read = |(index, der): (usize, der::Result<Vec<u8>>)| {
            let read = der.and_then(|der| Certificate::read(&der));
            read.map_err(|cause| NotCertificates { number: index + 1, cause })
        };
        certificates.enumerate().map(read).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn certificates(&self) -> &[Certificate] {
        &self.0
    }
}

impl Certificate {
    fn read(der: &[u8]) -> der::Result<Self> {
        let parsed = Parsed::from_der(der)?;
        if parsed.signature_algorithm() != parsed.tbs_certificate().signature() {
            return Err(der::ErrorKind::Failed.into());
        }
        let public_key = parsed.tbs_certificate().subject_public_key_info().to_der()?;
        Ok(Self { signed: signed_bytes(der)?, public_key, parsed })
    }

    /// The subject of the certificate, for messages.
    pub(super) fn name(&self) -> String {
        format!("{:?}", self.parsed.tbs_certificate().subject().to_string())
    }

    /// The bytes that its signature covers.
    pub(super) fn signed(&self) -> &[u8] {
        &self.signed
    }

    pub(super) fn signature(&self) -> Option<&[u8]> {
        self.parsed.signature().as_bytes()
    }

    pub(super) fn signature_algorithm(&self) -> ObjectIdentifier {
        self.parsed.signature_algorithm().oid
    }

    /// DER, a SubjectPublicKeyInfo.
    pub(super) fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    pub(super) fn is_issued_by(&self, authority: &Self) -> bool {
        self.parsed.tbs_certificate().issuer() == authority.parsed.tbs_certificate().subject()
    }

    pub(super) fn is_self_issued(&self) -> bool {
        self.is_issued_by(self)
    }

    /// True if this authority may stand above `depth` other authorities. Without this check, the
    /// holder of any attested key could attest other keys.
    pub(super) fn may_sign(&self, depth: usize) -> bool {
        let constraints = self
            .extension(BASIC_CONSTRAINTS)
            .and_then(|value| BasicConstraints::from_der(value).ok());
        let Some(constraints) = constraints else { return false };
        let usage = self.extension(KEY_USAGE).map(KeyUsage::from_der);
        let usage_allows = usage.is_none_or(|usage| usage.is_ok_and(|usage| usage.key_cert_sign()));
        let long_enough =
            constraints.path_len_constraint.is_none_or(|most| depth <= usize::from(most));
        constraints.ca && long_enough && usage_allows && !self.has_unknown_critical()
    }

    /// The value of Yubico's PIV extension with this number.
    pub(super) fn yubico_extension(&self, number: u32) -> Option<&[u8]> {
        self.extension(YUBICO_PIV.push_arc(number).ok()?)
    }

    /// The PIV slot that its subject names.
    pub(super) fn piv_slot(&self) -> Option<u8> {
        let subject = self.parsed.tbs_certificate().subject().to_string();
        let slot = u8::from_str_radix(subject.strip_prefix(SUBJECT_OF_A_SLOT)?, 16).ok()?;
        matches!(slot, 0x82..=0x95 | 0x9a | 0x9c..=0x9e).then_some(slot)
    }

    /// The value of an extension; `None` also if it is there twice.
    fn extension(&self, id: ObjectIdentifier) -> Option<&[u8]> {
        let mut found = self
            .parsed
            .tbs_certificate()
            .extensions()?
            .iter()
            .filter(|extension| extension.extn_id == id);
        let one = found.next()?;
        found.next().is_none().then_some(one.extn_value.as_bytes())
    }

    fn has_unknown_critical(&self) -> bool {
        let known = [BASIC_CONSTRAINTS, KEY_USAGE];
        let extensions = self.parsed.tbs_certificate().extensions().into_iter().flatten();
        extensions
            .into_iter()
            .any(|extension| extension.critical && !known.contains(&extension.extn_id))
    }
}

/// The first part of a certificate, unchanged: its signature covers these bytes.
fn signed_bytes(certificate: &[u8]) -> der::Result<Vec<u8>> {
    let mut reader = SliceReader::new(certificate)?;
    reader.sequence(|inner: &mut SliceReader<'_>| {
        let signed = inner.tlv_bytes()?.to_vec();
        while !inner.is_finished() {
            inner.tlv_bytes()?;
        }
        Ok(signed)
    })
}

/// Reads a DER integer; `None` if it does not fit.
pub(super) fn integer(value: &[u8]) -> Option<u32> {
    u32::from_der(value).ok()
}
