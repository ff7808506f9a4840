//! One change of a key at a time.

use std::cell::RefCell;
use std::collections::BTreeSet;

use countersign_core::refusal::Refusal;

/// The names of keys that are being changed.
#[derive(Debug, Default)]
pub struct KeyTurns(RefCell<BTreeSet<String>>);

/// A change of one name; another change of it is refused meanwhile.
pub(crate) struct KeyTurn<'a> {
    names: &'a KeyTurns,
    name: String,
}

impl KeyTurns {
    pub(crate) fn take(&self, name: &str) -> Result<KeyTurn<'_>, Refusal> {
        if self.0.borrow_mut().insert(name.to_owned()) {
            return Ok(KeyTurn { names: self, name: name.to_owned() });
        }
        Err(Refusal::malformed(format!(
            "another change of {name:?} is under way: wait for its end, which may come after the \
             command that began it"
        )))
    }
}

impl Drop for KeyTurn<'_> {
    fn drop(&mut self) {
        self.names.0.borrow_mut().remove(&self.name);
    }
}
