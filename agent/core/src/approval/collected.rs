//! Collects the approvals of one request until there are enough. Only this module makes
//! [`Approved`].

use super::{Approver, NotAnApproval, Statement, VerifiedApproval, verify};

/// One statement, and the approvals given for it so far.
#[derive(Debug)]
pub struct Collected {
    statement: Statement,
    bytes: Vec<u8>,
    needed: u32,
    given: Vec<VerifiedApproval>,
}

/// The proof that enough persons approved one request. Signing consumes it.
#[derive(Debug)]
pub struct Approved {
    statement: Statement,
    approvals: Vec<VerifiedApproval>,
}

impl Approved {
    pub fn request_id(&self) -> &str {
        &self.statement.request_id
    }

    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// The signatures in PEM, for a vault, which verifies them itself.
    pub fn sshsigs(&self) -> impl Iterator<Item = &str> {
        self.approvals.iter().map(|approval| approval.sshsig.as_str())
    }
}

impl Collected {
    pub fn new(statement: Statement, needed: u32) -> Self {
        Self { bytes: statement.bytes(), statement, needed, given: Vec::new() }
    }

    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    pub fn needed(&self) -> u32 {
        self.needed
    }

    pub fn given(&self) -> &[VerifiedApproval] {
        &self.given
    }

    /// Judges one more signature, which has to be another person's. It counts only once it was
    /// given to [`Self::take`].
    pub fn judge(
        &self,
        approvers: &[Approver],
        sshsig: &str,
    ) -> Result<VerifiedApproval, NotAnApproval> {
        let approval = verify(approvers, &self.bytes, sshsig)?;
        let same = |given: &&VerifiedApproval| {
            given.person == approval.person || given.public_key == approval.public_key
        };
        match self.given.iter().find(same) {
            Some(before) => Err(NotAnApproval::Twice(before.person.clone())),
            None => Ok(approval),
        }
    }

    /// Counts an approval that was judged and is already on record.
    pub fn take(&mut self, approval: VerifiedApproval) {
        self.given.push(approval);
    }

    /// True once [`Self::approved`] gives the proof.
    pub fn is_complete(&self) -> bool {
        self.given.len() >= self.needed as usize
    }

    /// Turns the collected approvals into the proof; `None` if approvals are still missing.
    pub fn approved(self) -> Option<Approved> {
        self.is_complete().then_some(Approved { statement: self.statement, approvals: self.given })
    }
}
