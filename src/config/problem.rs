//! What is wrong with a configuration file, as diagnostics that show the line and say what is allowed there.

use std::ops::Range;
use std::path::PathBuf;

use miette::{Diagnostic, NamedSource, SourceSpan};
use thiserror::Error;

use crate::reason;

/// A configuration that cannot be used.
#[derive(Debug, Error, Diagnostic)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {} cannot be read: {}", path.display(), reason::of(reason))]
    #[diagnostic(
        code("config.unreadable"),
        help(
            "is the path right, and may this user read it? `farmhand config example > farmhand.toml` writes one to begin with"
        )
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: std::io::Error,
    },
    /// The file says something that is not allowed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Invalid(#[from] Invalid),
}

/// Every problem of one file, in the order of its lines.
#[derive(Debug, Error, Diagnostic)]
#[error("{name} cannot be used: {}", count(problems.len()))]
#[diagnostic(code("config.invalid"))]
pub struct Invalid {
    /// The file.
    pub(super) name: String,
    /// Its text.
    #[source_code]
    pub(super) text: NamedSource<String>,
    /// What is wrong with it; never empty.
    #[related]
    pub(super) problems: Vec<Problem>,
}

fn count(problems: usize) -> String {
    if problems == 1 { "1 problem".to_owned() } else { format!("{problems} problems") }
}

/// One thing that is wrong, at one place of the file.
#[derive(Debug, Error)]
#[error("{what}")]
pub struct Problem {
    code: &'static str,
    what: String,
    at: Range<usize>,
    label: &'static str,
    before: Option<Range<usize>>,
    help: String,
}

impl Problem {
    /// `code` is stable, for programs; `what` a sentence; `help` what may stand there instead.
    pub(super) fn new(code: &'static str, at: Range<usize>, what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { code, what: what.into(), at, label: "here", before: None, help: help.into() }
    }

    /// Shows the earlier place that this one contradicts too.
    pub(super) fn after(mut self, first: Range<usize>) -> Self {
        self.before = Some(first);
        self.label = "again here";
        self
    }

    pub(super) fn at(&self) -> usize {
        self.at.start
    }
}

impl Diagnostic for Problem {
    fn code<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        Some(Box::new(&self.help))
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = miette::LabeledSpan> + '_>> {
        let label = |text: &str, at: &Range<usize>| {
            miette::LabeledSpan::new_with_span(Some(text.to_owned()), SourceSpan::from(at.clone()))
        };
        let first = self.before.as_ref().map(|at| label("first here", at));
        Some(Box::new(first.into_iter().chain([label(self.label, &self.at)])))
    }
}
