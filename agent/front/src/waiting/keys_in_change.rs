//! Allows one change of a key at a time.

use std::cell::RefCell;
use std::collections::BTreeSet;

use countersign_core::refusal::Refusal;

/// The names of keys that are being changed.
#[derive(Debug, Default)]
pub struct KeysInChange(RefCell<BTreeSet<String>>);

/// A change of the key of one name. Another change of that name is refused until this is dropped.
pub(crate) struct KeyInChange<'a> {
    names: &'a KeysInChange,
    name: String,
}

impl KeysInChange {
    pub(crate) fn take(&self, name: &str) -> Result<KeyInChange<'_>, Refusal> {
        if self.0.borrow_mut().insert(name.to_owned()) {
            return Ok(KeyInChange { names: self, name: name.to_owned() });
        }
        Err(Refusal::malformed(format!(
            "another change of {name:?} is under way: wait for its end, which may come after the \
             command that began it"
        )))
    }
}

impl Drop for KeyInChange<'_> {
    fn drop(&mut self) {
        self.names.0.borrow_mut().remove(&self.name);
    }
}
