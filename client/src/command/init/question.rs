//! Asks the operator questions, or takes the defaults.

use std::io::{self, IsTerminal, Write};

use crate::failure::Failure;
use crate::output::plain_lines;

/// Ask on the terminal, or take every default.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Questions {
    Ask,
    TakeDefaults,
}

impl Questions {
    pub(super) fn new(yes: bool) -> Result<Self, Failure> {
        match (yes, io::stdin().is_terminal()) {
            (true, _) => Ok(Self::TakeDefaults),
            (false, true) => Ok(Self::Ask),
            (false, false) => Err(Failure::Usage(
                "nobody can be asked here: add --yes to take the defaults".to_owned(),
            )),
        }
    }

    /// The operator's answer. It is empty if the operator wants the default.
    pub(super) fn ask(self, question: &str) -> Result<String, Failure> {
        if self == Self::TakeDefaults {
            return Ok(String::new());
        }
        let mut answer = String::new();
        let asked = io::stderr()
            .write_all(question.as_bytes())
            .and_then(|()| io::stdin().read_line(&mut answer));
        match asked {
            Ok(0) => Err(Failure::Usage("no answer, nothing was done".to_owned())),
            Ok(_) => Ok(answer.trim().to_owned()),
            Err(error) => Err(Failure::Terminal(error)),
        }
    }

    pub(super) fn confirm(self, plan: &str) -> Result<(), Failure> {
        let question = format!("This will be done:\n{}\nGo on? [y/N] ", plain_lines(plan));
        if self == Self::TakeDefaults || matches!(self.ask(&question)?.as_str(), "y" | "Y" | "yes")
        {
            return Ok(());
        }
        Err(Failure::Usage("not confirmed, nothing was done".to_owned()))
    }
}
