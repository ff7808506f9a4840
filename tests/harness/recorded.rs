//! The requests that a journal has on record, and its chain.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use countersign_core::audit::Tail;
use countersign_front::ledger::storage::Disk;
use countersign_front::ledger::verify;

/// The ids of the requests in a journal.
pub(crate) struct Journal {
    pub(crate) intents: BTreeSet<String>,
    pub(crate) signed: BTreeSet<String>,
    pub(crate) orders: usize,
}

impl Journal {
    pub(crate) fn below(state_dir: &Path) -> Self {
        let mut journal = Self { intents: BTreeSet::new(), signed: BTreeSet::new(), orders: 0 };
        for entry in Tail::after(0).read(&verify::journal(state_dir), usize::MAX).expect("readable")
        {
            let record: serde_json::Value = serde_json::from_str(&entry.line).expect("JSON");
            let id = || record["request_id"].as_str().expect("an id").to_owned();
            match record["kind"].as_str() {
                Some("intent") => {
                    journal.orders += usize::from(record["path"] == "/api/v3/order");
                    journal.intents.insert(id());
                }
                Some("signed") => {
                    journal.orders += usize::from(record["path"] == "/api/v3/order");
                    journal.intents.insert(id());
                    journal.signed.insert(id());
                }
                Some("result") if record["outcome"] == "signed" => {
                    journal.signed.insert(id());
                }
                _ => {}
            }
        }
        journal
    }
}

/// Checks that the chain holds from the first record to the last.
pub(crate) fn assert_verified(state_dir: &Path) {
    let report = verify::verify(Arc::new(Disk), state_dir, None, &mut |_, _| {}).expect("readable");
    assert!(report.problems.is_empty(), "{report:?}");
}
