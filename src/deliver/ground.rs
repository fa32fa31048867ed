//! What `emaj init` stands on: a manifest, the database it is installed in, and the place that a binding goes to.

use super::worker::{self, Source};
use crate::errors::{Error, Kind, Result};
use crate::manifest::{self, Binding, Manifest};
use crate::pg::{Environment, Session};
use crate::sink::{self, Fault, Opener, Sink};

/// A manifest and the database it is installed in.
pub struct Ground<'a> {
    pub manifest: &'a Manifest,
    /// Other manifests of the installation, whose bindings may lead to the same places.
    pub beside: &'a [Manifest],
    pub session: &'a mut Session,
    pub environment: &'a Environment,
}

/// Where a binding leads to.
pub(super) struct Target<'a> {
    pub sink: &'a manifest::Sink,
    pub opener: Box<dyn Opener>,
    pub source: Source,
}

impl<'a> Ground<'a> {
    /// Returns where a binding leads to; `None`: nowhere outside.
    ///
    /// # Errors
    /// Settings whose references lead nowhere; whatever the server answers.
    pub(super) fn target(&mut self, binding: &Binding) -> Result<Option<Target<'a>>> {
        let Some(sink) = binding.to.as_ref().and_then(|to| self.manifest.sink(&to.value)) else {
            return Ok(None);
        };
        let source = worker::source(self.session, &self.manifest.schema)?;
        Ok(Some(Target {
            sink,
            opener: sink::opener(self.manifest, sink, self.environment, &source.uri)?,
            source,
        }))
    }
}

impl Target<'_> {
    /// Opens a connection.
    ///
    /// # Errors
    /// [`Kind::Unreachable`].
    pub(super) fn open(&self) -> Result<Box<dyn Sink>> {
        self.opener.open().map_err(|fault| self.down(fault))
    }

    /// Says that the place is out of reach.
    pub(super) fn down(&self, fault: Fault) -> Error {
        let name = &self.sink.name.value;
        Error::message(Kind::Unreachable, format!("sink `{name}`: {}", fault.reason)).hint(format!(
            "`emaj sink test --sink {name}` says what is wrong there; then `emaj init` goes on where it stopped"
        ))
    }
}
