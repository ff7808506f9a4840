//! What an approver is shown of another configuration: all that differs, or nothing.

use countersign_core::approval::Statement;
use similar::TextDiff;

/// More sentences, or more of the lines that differ, nobody judges: such a change is not proposed.
/// A frame of `pending` holds it.
const MOST_SENTENCES: usize = 200;
const LONGEST_STATEMENT: usize = 64 * 1024;

/// A change that no approver could be shown whole, and that therefore waits for nobody.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TooMuch {
    #[error("it loosens {0} things, and an approver is shown {MOST_SENTENCES} at most: {SPLIT}")]
    Sentences(usize),
    #[error(
        "what it loosens and the lines that differ take {0} bytes, and an approver is shown \
         {LONGEST_STATEMENT} at most: {SPLIT}"
    )]
    Statement(usize),
}

const SPLIT: &str = "split it. First load what loosens nothing, such as comments and another \
                     order, which asks nobody; then \
                     the rest in parts. Nothing was changed";

/// An approver signs what they are shown, so all of it is shown or nothing is signed.
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

/// The lines that differ, as `diff -u` writes them: all of them.
pub fn diff(before: &str, after: &str) -> String {
    let diff = TextDiff::from_lines(before, after);
    diff.unified_diff().context_radius(1).header("in force", "agent.toml").to_string()
}
