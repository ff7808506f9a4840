//! Verifies, follows and looks up a journal on the disk. This works beside a running agent and
//! takes no lock.

use std::io;
use std::path::Path;
use std::sync::Arc;

use countersign_core::audit::{self, VerifyReport};

use super::segment::SegmentDir;
use super::storage::{Disk, Storage};

/// The journal below a state directory on the real disk, for [`audit::Tail`], [`audit::verify`] and
/// [`audit::show`].
pub fn journal(state_dir: &Path) -> SegmentDir {
    SegmentDir::new(Arc::new(Disk), state_dir)
}

/// Verifies the chain from the segment that holds record `from`. `progress` gets the number of
/// bytes done and the number of all bytes.
pub fn verify(
    storage: Arc<dyn Storage>,
    state_dir: &Path,
    from: Option<u64>,
    progress: &mut dyn FnMut(u64, u64),
) -> io::Result<VerifyReport> {
    audit::verify(&SegmentDir::new(storage, state_dir), from, progress)
}
