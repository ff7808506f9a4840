//! Changes of the agent that loosen something: each waits for an approver's signature over it.
//!
//! Where no approver is named, nobody can be asked, and the operator's word counts. Tightening and `lock` never wait.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use countersign_base::config::{Config, TooMuch};
use countersign_core::approval::Collected;
use tokio::time::Instant;

/// A person has to read it first.
pub(crate) const CHANGE_DEADLINE: Duration = Duration::from_secs(600);

/// At most one change of each kind waits: a newer one takes the place of an older.
#[derive(Debug, Default)]
pub struct Changes {
    pub(crate) waiting: RefCell<Vec<Change>>,
    /// Why `agent.toml`, as it was read last, does not wait although it is looser.
    pub(crate) unshown: RefCell<Option<TooMuch>>,
}

#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) uid: Option<u32>,
    pub(crate) opened: Instant,
    pub(crate) collected: Collected,
    pub(crate) effect: Effect,
}

#[derive(Clone, Debug)]
pub(crate) enum Effect {
    Unlock,
    Load(Rc<Config>),
}

impl Change {
    pub(crate) fn id(&self) -> &str {
        &self.collected.statement().request_id
    }
}

impl Changes {
    pub(crate) fn put(&self, change: Change) {
        self.withdraw(&change.effect);
        self.waiting.borrow_mut().push(change);
    }

    pub(crate) fn withdraw(&self, effect: &Effect) {
        let kind = std::mem::discriminant(effect);
        self.waiting.borrow_mut().retain(|change| std::mem::discriminant(&change.effect) != kind);
    }

    pub(crate) fn forget_expired(&self) {
        self.waiting.borrow_mut().retain(|change| change.opened.elapsed() < CHANGE_DEADLINE);
    }

    /// Takes a change away: it is denied.
    pub(crate) fn deny(&self, id: &str) -> bool {
        self.forget_expired();
        let mut changes = self.waiting.borrow_mut();
        let before = changes.len();
        changes.retain(|change| change.id() != id);
        changes.len() < before
    }
}
