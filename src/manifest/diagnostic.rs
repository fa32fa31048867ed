//! What is wrong with a manifest, where, and what to do: as data, as one line, as a picture, as JSON.
//!
//! Readers and checks make [`Diagnostic`]s; `commands` print them. All of them of all files are shown at once.

use std::fmt;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde::Serialize;

use super::source::Place;
use crate::errors;
use crate::words::count;

/// How bad it is: an error stops everything, a warning is said and passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

/// One problem of a manifest.
#[derive(Debug, Clone, Serialize)]
pub struct Diagnostic {
    pub severity: Severity,
    pub file: PathBuf,
    /// Counted from 1; 0 when the problem is the file as a whole.
    pub line: usize,
    /// In characters, counted from 1; 0 when the problem is the file as a whole.
    pub column: usize,
    /// The bytes of the file.
    pub span: [usize; 2],
    pub message: String,
    pub found: Option<String>,
    pub expected: Option<String>,
    /// The known name that is nearest to the unknown one.
    pub nearest: Option<String>,
    /// What to do next.
    pub next: Option<String>,
    /// A second place that has to do with it, and what stands there.
    pub related: Option<Related>,
    #[serde(skip)]
    place: Option<Place>,
}

/// A second place of a problem.
#[derive(Debug, Clone, Serialize)]
pub struct Related {
    pub file: PathBuf,
    pub line: usize,
    pub column: usize,
    pub message: String,
    #[serde(skip)]
    place: Place,
}

impl Diagnostic {
    /// Makes an error at `place`; `message` is a sentence fragment.
    pub fn error(place: &Place, message: impl Into<String>) -> Self {
        Diagnostic {
            line: place.line(),
            column: place.column(),
            span: [place.span().start, place.span().end],
            place: Some(place.clone()),
            ..Diagnostic::of_file(place.file(), message)
        }
    }

    /// Makes a warning at `place`.
    pub fn warning(place: &Place, message: impl Into<String>) -> Self {
        Diagnostic {
            severity: Severity::Warning,
            ..Diagnostic::error(place, message)
        }
    }

    /// Makes an error that is about the file as a whole.
    pub fn of_file(file: &Path, message: impl Into<String>) -> Self {
        Diagnostic {
            severity: Severity::Error,
            file: file.to_owned(),
            line: 0,
            column: 0,
            span: [0, 0],
            message: message.into(),
            found: None,
            expected: None,
            nearest: None,
            next: None,
            related: None,
            place: None,
        }
    }

    pub fn found(mut self, found: impl Into<String>) -> Self {
        self.found = Some(found.into());
        self
    }

    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    pub fn nearest(mut self, nearest: Option<impl ToString>) -> Self {
        self.nearest = nearest.map(|name| name.to_string());
        self
    }

    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    pub fn related(mut self, place: &Place, message: impl Into<String>) -> Self {
        self.related = Some(Related {
            file: place.file().to_owned(),
            line: place.line(),
            column: place.column(),
            message: message.into(),
            place: place.clone(),
        });
        self
    }

    /// Returns the problem as a picture of its line, with a caret; `colour` adds terminal colours.
    pub fn render(&self, colour: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut main = Group::with_title(level.primary_title(self.message.as_str()));
        let label = self.label();
        let paths = (
            self.file.display().to_string(),
            self.related.as_ref().map(|r| r.file.display().to_string()),
        );
        match &self.place {
            Some(place) => {
                let snippet = Snippet::source(place.source().shown())
                    .path(paths.0.as_str())
                    .annotation(AnnotationKind::Primary.span(place.span()).label(label.as_str()));
                main = match &self.related {
                    Some(related) if related.file == self.file => main.element(
                        snippet.annotation(
                            AnnotationKind::Context
                                .span(related.place.span())
                                .label(related.message.as_str()),
                        ),
                    ),
                    Some(related) => main.element(snippet).element(
                        Snippet::source(related.place.source().shown())
                            .path(paths.1.as_deref().unwrap_or_default())
                            .annotation(
                                AnnotationKind::Context
                                    .span(related.place.span())
                                    .label(related.message.as_str()),
                            ),
                    ),
                    None => main.element(snippet),
                };
            }
            None => {
                let origin = Origin::path(paths.0.as_str());
                main = main.element(match self.line {
                    0 => origin,
                    line => origin.line(line).char_column(self.column),
                });
                if !label.is_empty() {
                    main = main.element(Level::NOTE.message(label.as_str()));
                }
            }
        }
        let hint = self.hint();
        if let Some(hint) = &hint {
            main = main.element(Level::HELP.with_name("hint").message(hint.as_str()));
        }
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[main])
    }

    fn label(&self) -> String {
        match (&self.expected, &self.found) {
            (Some(expected), Some(found)) => format!("expected {expected}, found {found}"),
            (Some(expected), None) => format!("expected {expected}"),
            (None, Some(found)) => format!("found {found}"),
            (None, None) => String::new(),
        }
    }

    fn hint(&self) -> Option<String> {
        let nearest = self.nearest.as_ref().map(|name| format!("did you mean `{name}`?"));
        match (nearest, &self.next) {
            (Some(nearest), Some(next)) => Some(format!("{nearest} {next}")),
            (nearest, next) => nearest.or_else(|| next.clone()),
        }
    }
}

/// The one-line form, `file:line:column: error: …`, for editors and logs; the alternate one (`{:#}`) leaves out how bad it is, for those who say
/// it themselves.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            _ if f.alternate() => "",
            Severity::Error => "error: ",
            Severity::Warning => "warning: ",
        };
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        write!(f, " {severity}{}", self.message)?;
        let label = self.label();
        if !label.is_empty() {
            write!(f, ": {label}")?;
        }
        if let Some(related) = &self.related {
            write!(
                f,
                " ({}: {}:{}:{})",
                related.message,
                related.file.display(),
                related.line,
                related.column
            )?;
        }
        if let Some(hint) = self.hint() {
            write!(f, " (hint: {hint})")?;
        }
        Ok(())
    }
}

/// All problems of the manifests of one command, in the order of files and lines.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(transparent)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    /// Puts them in the order of files and lines, errors before warnings of the same place.
    pub fn sorted(mut self) -> Self {
        self.0
            .sort_by(|a, b| (&a.file, a.span, a.severity).cmp(&(&b.file, b.span, b.severity)));
        self
    }

    /// Keeps `most` of them, errors before warnings, and says when there are more.
    pub(super) fn cut(mut self, most: usize) -> Self {
        let Some(more) = self.0.get(most).map(|first| Diagnostic {
            severity: Severity::Warning,
            ..Diagnostic::of_file(&first.file, format!("there are more problems than the {most} shown"))
        }) else {
            return self;
        };
        self.0.sort_by_key(|diagnostic| diagnostic.severity);
        self.0.truncate(most);
        let mut kept = self.sorted();
        kept.0.push(more);
        kept
    }

    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// Returns all pictures, a blank line between them.
    pub fn render(&self, colour: bool) -> String {
        self.0
            .iter()
            .map(|diagnostic| diagnostic.render(colour))
            .collect::<Vec<_>>()
            .join("\n\n")
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = self
            .0
            .iter()
            .filter(|diagnostic| diagnostic.severity == Severity::Error)
            .count();
        write!(
            f,
            "the manifest has {}\n\n{}",
            count(errors, "error"),
            self.render(false)
        )
    }
}

impl std::error::Error for Diagnostics {}

impl From<Vec<Diagnostic>> for Diagnostics {
    fn from(list: Vec<Diagnostic>) -> Self {
        Diagnostics(list)
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Diagnostics(vec![diagnostic])
    }
}

impl From<Diagnostics> for errors::Error {
    fn from(diagnostics: Diagnostics) -> Self {
        errors::Error::new(errors::Kind::Manifest, diagnostics)
    }
}
