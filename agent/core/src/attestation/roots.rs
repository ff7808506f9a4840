//! The roots that an attestation may end at: Yubico's two, and those that the operator names.

use std::sync::OnceLock;

use super::certificate::Certificate;
use super::{CertificateChain, NotCertificates, Root};

/// Published at <https://developers.yubico.com/PKI/yubico-ca-certs.txt>; a test compares their
/// fingerprints.
const YUBICO: &str = include_str!("yubico-roots.pem");

/// The roots that count, each marked as Yubico's or as another's.
#[derive(Clone, Debug)]
pub struct Roots(Vec<(Root, Certificate)>);

impl Roots {
    /// Only Yubico's roots.
    pub fn yubico() -> Self {
        static ROOTS: OnceLock<Roots> = OnceLock::new();
        let read = || CertificateChain::from_pem(YUBICO).expect("a test reads them");
        ROOTS
            .get_or_init(|| {
                Self(read().certificates().iter().map(|one| (Root::Yubico, one.clone())).collect())
            })
            .clone()
    }

    /// Adds the roots in `pem`. They are never taken for Yubico's.
    pub fn and_others(mut self, pem: &str) -> Result<Self, NotCertificates> {
        let others = CertificateChain::from_pem(pem)?;
        self.0.extend(others.certificates().iter().map(|one| (Root::Other, one.clone())));
        Ok(self)
    }

    /// The roots whose name is the issuer of `below`.
    pub(super) fn above(&self, below: &Certificate) -> impl Iterator<Item = (Root, &Certificate)> {
        self.0
            .iter()
            .filter(|(_, root)| below.is_issued_by(root))
            .map(|(root, certificate)| (*root, certificate))
    }
}
