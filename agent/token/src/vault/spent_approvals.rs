//! The vault's own record of spent approvals. An approval is never used twice. The vault counts the
//! limits of a day itself, and does not trust the front's count.
//!
//! The record has one JSON object on each line, and a line is on the disk before the login to the
//! token. The length and hash of the record are sealed beside the PIN.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use countersign_core::calendar::DAY_MS;
use countersign_core::policy::Spend;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::directory::VaultDirectory;
use super::sealed::SpentMark;

const SPENT_FILE: &str = "spent";

/// An approval that was used.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SpentApproval {
    pub at_ms: u64,
    pub request_id: String,
    pub statement_sha256: String,
    pub spends: Vec<Spend>,
}

/// The record, read whole.
#[derive(Debug)]
pub struct SpentApprovals {
    path: PathBuf,
    text: Vec<u8>,
    entries: Vec<SpentApproval>,
}

/// Why the record allows no signature.
#[derive(Debug, thiserror::Error)]
pub enum NotSpent {
    #[error("this approval was used before")]
    Again,
    #[error("the vault's record of spent approvals holds something else")]
    Damaged,
    #[error("{window} would pass its limit of {cap} by the vault's own count")]
    Limit { window: String, cap: String },
    #[error("the vault's record of spent approvals cannot be kept")]
    Io(#[from] io::Error),
    #[error(
        "the vault's record of spent approvals is older than the vault: a copy was put in its place"
    )]
    RolledBack,
}

impl SpentApprovals {
    pub fn open(directory: &VaultDirectory) -> Result<Self, NotSpent> {
        let path = directory.path().join(SPENT_FILE);
        let mut text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read?,
        };
        // A line that a kill cut off was written before the login, so nothing was signed for it.
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        text.truncate(whole);
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let entries = lines
            .map(serde_json::from_slice)
            .collect::<Result<_, _>>()
            .map_err(|_| NotSpent::Damaged)?;
        Ok(Self { path, text, entries })
    }

    /// Checks that every entry that was there when the vault was sealed is still there.
    pub fn check(&self, sealed: &SpentMark) -> Result<(), NotSpent> {
        let bytes = usize::try_from(sealed.bytes).unwrap_or(usize::MAX);
        let same = self.text.get(..bytes).is_some_and(|text| mark(text) == *sealed);
        if same || *sealed == SpentMark::default() { Ok(()) } else { Err(NotSpent::RolledBack) }
    }

    pub fn mark(&self) -> SpentMark {
        mark(&self.text)
    }

    /// Checks that this approval may be used. Setting the clock back frees no limit: entries later
    /// than now count too.
    pub fn admit(&self, entry: &SpentApproval) -> Result<(), NotSpent> {
        let same = |one: &&SpentApproval| {
            one.request_id == entry.request_id || one.statement_sha256 == entry.statement_sha256
        };
        if self.entries.iter().any(|one| same(&one)) {
            return Err(NotSpent::Again);
        }
        let since = entry.at_ms.saturating_sub(DAY_MS);
        for spend in &entry.spends {
            let counted =
                self.entries.iter().filter(|one| one.at_ms > since).flat_map(|one| &one.spends);
            let counted = counted.filter(|one| one.window == spend.window);
            let total = counted
                .map(|one| one.amount)
                .try_fold(spend.amount, |sum, next| sum.checked_add(next));
            if total.is_none_or(|total| total > spend.cap) {
                return Err(NotSpent::Limit {
                    window: spend.window.clone(),
                    cap: spend.cap.to_string(),
                });
            }
        }
        Ok(())
    }

    /// Adds an entry. It is on the disk when this returns.
    pub fn add(&mut self, entry: SpentApproval) -> Result<(), NotSpent> {
        self.admit(&entry)?;
        let mut line = serde_json::to_vec(&entry).map_err(io::Error::from)?;
        line.push(b'\n');
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.path)?;
        file.set_len(self.text.len() as u64)?;
        io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
        file.write_all(&line)?;
        file.sync_all()?;
        self.path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())?;
        self.text.extend(line);
        self.entries.push(entry);
        Ok(())
    }
}

fn mark(text: &[u8]) -> SpentMark {
    SpentMark { bytes: text.len() as u64, sha256: HEXLOWER.encode(&Sha256::digest(text)) }
}

#[cfg(test)]
mod tests {
    use countersign_core::decimal::Amount;

    use super::*;

    const HOUR: u64 = 60 * 60 * 1000;

    fn entry(id: &str, at_ms: u64, amount: &str) -> SpentApproval {
        let parsed = |text| Amount::parse(text).expect("an amount");
        let spend =
            Spend { window: "transfer/BTC".to_owned(), amount: parsed(amount), cap: parsed("2") };
        let statement_sha256 = format!("of {id}");
        SpentApproval { at_ms, request_id: id.to_owned(), statement_sha256, spends: vec![spend] }
    }

    fn vault() -> (tempfile::TempDir, VaultDirectory) {
        let directory = tempfile::tempdir().expect("a directory");
        let vault = VaultDirectory::of(directory.path(), "vault");
        vault.make().expect("made");
        (directory, vault)
    }

    #[test]
    fn an_approval_counts_once_and_a_day_has_its_limit() {
        let (_directory, vault) = vault();
        let now = 100 * HOUR;
        SpentApprovals::open(&vault).expect("new").add(entry("a", now, "1.5")).expect("the first");
        let mut spent = SpentApprovals::open(&vault).expect("kept");
        assert!(matches!(spent.add(entry("a", now + HOUR, "0.1")), Err(NotSpent::Again)));
        let renamed = SpentApproval { request_id: "b".to_owned(), ..entry("a", now + HOUR, "0.1") };
        assert!(matches!(spent.add(renamed), Err(NotSpent::Again)));
        assert!(matches!(spent.add(entry("c", now + HOUR, "0.6")), Err(NotSpent::Limit { .. })));
        // The clock was set back.
        assert!(matches!(
            spent.add(entry("c", now - 50 * HOUR, "0.6")),
            Err(NotSpent::Limit { .. })
        ));
        spent.add(entry("c", now + HOUR, "0.5")).expect("exactly the limit");
        spent.add(entry("d", now + 25 * HOUR, "1.5")).expect("the next day");
    }

    #[test]
    fn an_older_copy_is_seen_and_a_cut_line_is_not_counted() {
        let (_directory, vault) = vault();
        let mut spent = SpentApprovals::open(&vault).expect("new");
        spent.check(&SpentMark::default()).expect("nothing was sealed yet");
        spent.add(entry("a", 1, "1")).expect("added");
        let (file, before) = (vault.path().join(SPENT_FILE), spent.mark());
        let copy = fs::read(&file).expect("readable");
        spent.add(entry("b", 2, "1")).expect("added");
        let after = spent.mark();
        spent.check(&before).expect("it went on");
        fs::write(&file, [&copy[..], b"{\"at_ms\":2,"].concat()).expect("written");
        let mut spent = SpentApprovals::open(&vault).expect("without the cut line");
        assert!(matches!(spent.check(&after), Err(NotSpent::RolledBack)));
        spent.check(&before).expect("what was sealed before");
        spent.add(entry("b", 2, "1")).expect("in its place");
        assert_eq!(SpentApprovals::open(&vault).expect("whole").mark(), after);
    }
}
