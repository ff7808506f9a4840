//! Prepares a change of the configuration for an approver, who is shown all of it or nothing.

use countersign_core::approval::Statement;
use similar::TextDiff;

/// Most sentences that an approver is shown. Nobody can judge more, so a longer change is not
/// proposed.
const MOST_SENTENCES: usize = 200;
/// Longest statement that an approver is shown, in bytes. A frame of `pending` can hold it.
const LONGEST_STATEMENT: usize = 64 * 1024;

/// The change is too long to be shown whole, so no approver is asked.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TooMuch {
    #[error("it loosens {0} things, and an approver is shown {MOST_SENTENCES} at most: {SPLIT}")]
    Sentences(usize),
    #[error(
        "the list of what it loosens and the lines that differ take {0} bytes, and an approver is \
         shown {LONGEST_STATEMENT} at most: {SPLIT}"
    )]
    Statement(usize),
}

const SPLIT: &str = "split it. First load the changes that loosen nothing, such as comments and \
                     another order: nobody is asked about them. Then load the rest in parts. \
                     Nothing was changed";

/// Checks that a change can be shown whole. An approver signs everything that is shown, so no part
/// may be left out.
pub fn fits(sentences: usize, statement: &Statement) -> Result<(), TooMuch> {
    let length = statement.bytes().len();
    if sentences > MOST_SENTENCES {
        Err(TooMuch::Sentences(sentences))
    } else if length > LONGEST_STATEMENT {
        Err(TooMuch::Statement(length))
    } else {
        Ok(())
    }
}

/// All lines that differ, as `diff -u` writes them.
pub fn diff(before: &str, after: &str) -> String {
    let diff = TextDiff::from_lines(before, after);
    diff.unified_diff().context_radius(1).header("in force", "agent.toml").to_string()
}
