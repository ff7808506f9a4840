//! Reads the journal's segments from the files of one directory.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use countersign::core::audit::{SegmentFile, SegmentName, Segments};

use crate::failure::Failure;

/// The journal's directory below the agent's `state_dir`.
const JOURNAL: &str = "journal";

/// The directory that holds the segments.
#[derive(Debug)]
pub(super) struct JournalDirectory(PathBuf);

impl JournalDirectory {
    /// Takes an agent's `state_dir`, or the journal's own directory.
    pub(super) fn open(directory: &Path) -> Result<Self, Failure> {
        let below = directory.join(JOURNAL);
        let journal = Self(if below.is_dir() { below } else { directory.to_owned() });
        let segments = journal.list().map_err(|error| journal.unreadable(&error))?;
        if segments.is_empty() {
            return Err(Failure::Journal(format!("{} holds no journal", journal.0.display())));
        }
        Ok(journal)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn unreadable(&self, error: &io::Error) -> Failure {
        Failure::Journal(format!("the journal in {} cannot be read: {error}", self.0.display()))
    }
}

impl Segments for JournalDirectory {
    fn list(&self) -> io::Result<Vec<SegmentFile>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            if let Some(name) = entry.file_name().to_str().and_then(SegmentName::parse) {
                files.push(SegmentFile { name, length: entry.metadata()?.len() });
            }
        }
        files.sort_by_key(|file| file.name);
        Ok(files)
    }

    fn open(&self, name: SegmentName, offset: u64) -> io::Result<Box<dyn Read>> {
        let mut file = File::open(self.0.join(name.to_string()))?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    }
}
