//! The problems of a configuration. They are gathered while it is read, and shown all at once with
//! line and caret.

use std::cell::RefCell;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;

use super::conceal;

/// Most problems that are shown. The others are only counted.
const MOST_SHOWN: usize = 50;

/// One problem, and its place in the file. None of its texts repeats the value: the line below it
/// shows or hides that.
#[derive(Clone, Debug)]
pub(super) struct ConfigProblem {
    span: Range<usize>,
    title: String,
    found: String,
    also: Option<Box<(Range<usize>, String)>>,
    help: String,
}

impl ConfigProblem {
    /// `title` says what was expected, `found` what the file has at the caret, and `help` what to
    /// do.
    pub(super) fn new(
        span: Range<usize>,
        title: impl Into<String>,
        found: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self { span, title: title.into(), found: found.into(), also: None, help: help.into() }
    }

    /// Adds another place that belongs to the problem.
    #[must_use]
    pub(super) fn also(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.also = Some(Box::new((span, label.into())));
        self
    }
}

/// The problems found so far, and the places that must not be shown.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: RefCell<Vec<ConfigProblem>>,
    hidden: RefCell<Vec<Range<usize>>>,
}

impl Problems {
    pub(super) fn add(&self, problem: ConfigProblem) {
        self.found.borrow_mut().push(problem);
    }

    pub(super) fn count(&self) -> usize {
        self.found.borrow().len()
    }

    /// Adds the problem and returns no value.
    pub(super) fn refuse<T>(&self, problem: ConfigProblem) -> Option<T> {
        self.add(problem);
        None
    }

    /// Returns the value, or adds the problem.
    pub(super) fn keep<T>(&self, result: Result<T, ConfigProblem>) -> Option<T> {
        result.map_err(|problem| self.add(problem)).ok()
    }

    /// Hides this place in all messages: it may hold a secret.
    pub(super) fn hide(&self, span: Range<usize>) {
        self.hidden.borrow_mut().push(span);
    }

    /// `Ok` if there is no problem.
    pub(super) fn into_result(self, text: &str, path: &Path) -> Result<(), ConfigReport> {
        if self.found.borrow().is_empty() { Ok(()) } else { Err(self.into_report(text, path)) }
    }

    pub(super) fn into_report(self, text: &str, path: &Path) -> ConfigReport {
        let mut problems = self.found.into_inner();
        problems.sort_by_key(|problem| (problem.span.start, problem.span.end));
        ConfigReport {
            path: path.to_owned(),
            text: conceal::without(text, &self.hidden.into_inner()),
            problems,
        }
    }
}

/// All problems of one file.
#[derive(Clone, Debug)]
pub struct ConfigReport {
    path: PathBuf,
    /// Text of the file, in which possible secrets are made unreadable.
    text: String,
    problems: Vec<ConfigProblem>,
}

/// One problem, for programs. Lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    pub line: usize,
    pub column: usize,
    pub message: String,
    pub found: String,
    pub help: String,
}

impl ConfigReport {
    /// The report with colours, for a terminal.
    pub fn in_colour(&self) -> String {
        self.render(&Renderer::styled())
    }

    /// The first problems, in the order of the file.
    pub fn findings(&self) -> Vec<Finding> {
        self.problems.iter().take(MOST_SHOWN).map(|problem| self.finding(problem)).collect()
    }

    fn finding(&self, problem: &ConfigProblem) -> Finding {
        let before = &self.text[..self.on_boundaries(&problem.span).start];
        let (line_start, line) = match before.rfind('\n') {
            Some(newline) => (newline + 1, before.matches('\n').count() + 1),
            None => (0, 1),
        };
        Finding {
            line,
            column: before[line_start..].chars().count() + 1,
            message: problem.title.clone(),
            found: problem.found.clone(),
            help: problem.help.clone(),
        }
    }

    fn render(&self, renderer: &Renderer) -> String {
        let mut shown: Vec<String> = self
            .problems
            .iter()
            .take(MOST_SHOWN)
            .map(|problem| renderer.render(&[self.group(problem)]))
            .collect();
        shown.push(format!(
            "{}: {}; nothing was loaded",
            self.path.display(),
            count(self.problems.len())
        ));
        shown.join("\n\n")
    }

    fn group<'a>(&'a self, problem: &'a ConfigProblem) -> Group<'a> {
        let place =
            AnnotationKind::Primary.span(self.on_boundaries(&problem.span)).label(&problem.found);
        let also = problem.also.as_deref().map(|(span, label)| {
            AnnotationKind::Context.span(self.on_boundaries(span)).label(label)
        });
        let snippet = Snippet::source(&self.text).path(self.path.to_string_lossy().into_owned());
        Level::ERROR
            .primary_title(&problem.title)
            .element(snippet.annotation(place).annotations(also))
            .element(Level::HELP.message(&problem.help))
    }

    /// Widens the range to whole characters and cuts it at the end of the text: the renderer panics
    /// on any other range.
    fn on_boundaries(&self, span: &Range<usize>) -> Range<usize> {
        let start = self.text.floor_char_boundary(span.start);
        start..self.text.ceil_char_boundary(span.end).max(start)
    }
}

impl std::fmt::Display for ConfigReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.render(&Renderer::plain()))
    }
}

impl std::error::Error for ConfigReport {}

fn count(problems: usize) -> String {
    match problems {
        1 => "1 problem".to_owned(),
        many if many > MOST_SHOWN => {
            format!("{many} problems, the first {MOST_SHOWN} of them shown")
        }
        many => format!("{many} problems"),
    }
}
