//! An approval as the journal keeps it. A reader needs nothing else to verify it.

use serde::{Deserialize, Serialize};
use ssh_key::PublicKey;

use super::Text;
use crate::approval::{
    self, Approver, AttestedKey, NotAnApproval, Statement, Touch, TouchProof, verify,
};

/// An approver agreed to one request. Synced before it counts.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Approval<'a> {
    #[serde(borrow)]
    pub request_id: Text<'a>,
    #[serde(borrow)]
    pub approver: Text<'a>,
    /// The person who owns the key, if that is not the approver's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<Text<'a>>,
    /// In OpenSSH's form.
    #[serde(borrow)]
    pub public_key: Text<'a>,
    pub touch: TouchProof,
    /// The certificates that prove the touch of an attested key: PEM, the slot's first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestation: Option<Text<'a>>,
    /// The root of the certificates above, in PEM, unless it is Yubico's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestation_root: Option<Text<'a>>,
    /// The bytes that were signed: see [`Statement`].
    #[serde(borrow)]
    pub statement: Text<'a>,
    /// PEM.
    #[serde(borrow)]
    pub sshsig: Text<'a>,
}

impl<'a> Approval<'a> {
    /// The record of an approval of this request.
    pub fn of(
        approval: &'a approval::VerifiedApproval,
        request_id: &'a str,
        statement: &'a Statement,
    ) -> Self {
        let attested = match &approval.touch {
            Touch::Attested(attested) => Some(attested),
            Touch::InSignature => None,
        };
        Self {
            request_id: request_id.into(),
            approver: approval.approver.as_str().into(),
            person: (approval.person != approval.approver).then(|| approval.person.as_str().into()),
            public_key: approval.public_key.as_str().into(),
            touch: approval.touch.proof(),
            attestation: attested.map(|attested| attested.certificates().into()),
            attestation_root: attested.and_then(|attested| attested.other_root()).map(Into::into),
            statement: String::from_utf8_lossy(&statement.bytes()).into_owned().into(),
            sshsig: approval.sshsig.as_str().into(),
        }
    }

    /// Verifies the approval, even years later: the record has the key, its attestation and the
    /// signed bytes.
    pub fn verify(&self) -> Result<(), NotAnApproval> {
        let key =
            PublicKey::from_openssh(&self.public_key).map_err(|_| NotAnApproval::Malformed)?;
        let statement = Statement::parse(&self.statement).ok_or(NotAnApproval::Malformed)?;
        if statement.request_id != self.request_id {
            return Err(NotAnApproval::Wrong);
        }
        let touch = match (self.touch, &self.attestation) {
            (TouchProof::Attested, Some(chain)) => {
                let attested = AttestedKey::prove(chain, self.attestation_root.as_deref());
                Touch::Attested(Box::new(attested.map_err(|_| NotAnApproval::NoTouch)?))
            }
            (TouchProof::InSignature, None) => Touch::InSignature,
            _ => return Err(NotAnApproval::NoTouch),
        };
        let (name, person) =
            (self.approver.to_string(), self.person.as_ref().unwrap_or(&self.approver).to_string());
        let approver = Approver { name, person, key, touch };
        verify(&[approver], self.statement.as_bytes(), &self.sshsig).map(drop)
    }
}
