//! The roots that an attestation may end at: Yubico's two, and what the operator names beside them.

use std::sync::OnceLock;

use super::certificate::Certificate;
use super::{Chain, NotCertificates, Root};

/// Published at <https://developers.yubico.com/PKI/yubico-ca-certs.txt>; a test holds their
/// fingerprints.
const YUBICO: &str = include_str!("yubico-roots.pem");

/// Roots that count, each with what it is said to be.
#[derive(Clone, Debug)]
pub struct Roots(Vec<(Root, Certificate)>);

impl Roots {
    /// Yubico's alone.
    pub fn yubico() -> Self {
        static ROOTS: OnceLock<Roots> = OnceLock::new();
        let read = || Chain::from_pem(YUBICO).expect("a test reads them");
        ROOTS
            .get_or_init(|| {
                Self(read().certificates().iter().map(|one| (Root::Yubico, one.clone())).collect())
            })
            .clone()
    }

    /// And these too, which are never taken for Yubico's.
    pub fn and_others(mut self, pem: &str) -> Result<Self, NotCertificates> {
        let others = Chain::from_pem(pem)?;
        self.0.extend(others.certificates().iter().map(|one| (Root::Other, one.clone())));
        Ok(self)
    }

    /// Those that could have issued a certificate, by name.
    pub(super) fn above(&self, below: &Certificate) -> impl Iterator<Item = (Root, &Certificate)> {
        self.0
            .iter()
            .filter(|(_, root)| below.is_issued_by(root))
            .map(|(root, certificate)| (*root, certificate))
    }
}
