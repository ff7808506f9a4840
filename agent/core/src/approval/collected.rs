//! Approvals of one request until there are enough: the only maker of [`Approved`].

use super::{Approval, Approver, NotAnApproval, Statement, verify};

/// What has been approved so far.
#[derive(Debug)]
pub struct Collected {
    statement: Statement,
    bytes: Vec<u8>,
    needed: u32,
    given: Vec<Approval>,
}

/// The proof that enough persons approved one request. Consumed by its signature.
#[derive(Debug)]
pub struct Approved {
    statement: Statement,
    approvals: Vec<Approval>,
}

impl Approved {
    pub fn request_id(&self) -> &str {
        &self.statement.request_id
    }

    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// The signatures, PEM: for a vault, which verifies them itself.
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

    pub fn given(&self) -> &[Approval] {
        &self.given
    }

    /// Judges one more signature; each has to be another person's. It counts once [`Self::take`]
    /// has it.
    pub fn judge(&self, approvers: &[Approver], sshsig: &str) -> Result<Approval, NotAnApproval> {
        let approval = verify(approvers, &self.bytes, sshsig)?;
        let same = |given: &&Approval| {
            given.person == approval.person || given.public_key == approval.public_key
        };
        match self.given.iter().find(same) {
            Some(before) => Err(NotAnApproval::Twice(before.person.clone())),
            None => Ok(approval),
        }
    }

    /// Counts a signature that was judged, and is on record by now.
    pub fn take(&mut self, approval: Approval) {
        self.given.push(approval);
    }

    /// True once [`Self::approved`] gives the proof.
    pub fn is_complete(&self) -> bool {
        self.given.len() >= self.needed as usize
    }

    /// The proof, once; `None` where approvals are still missing. What was collected is used up by
    /// it.
    pub fn approved(self) -> Option<Approved> {
        self.is_complete().then_some(Approved { statement: self.statement, approvals: self.given })
    }
}
