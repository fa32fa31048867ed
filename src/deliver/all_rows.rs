//! All rows of one binding that are there, in one snapshot, each with what its binding makes of it: for the dry run of `emaj init`, and for
//! finding out what at a place still has a row. (What is sent goes the courier's way.)

use std::sync::Arc;

use super::ask::{Asker, settle};
use super::binding::OneKey;
use super::ground::Ground;
use super::init::{self, MOST_ROWS, Next, Read};
use super::render::render;
use super::sources::{Fed, load};
use super::stream::Stream;
use super::worker::Source;
use crate::errors::{Error, Kind, Result};
use crate::manifest::Binding;
use crate::pg::{Prompt, Session};
use crate::render::Renderer;
use crate::sink::{Delivery, Fault, Verdict};

/// A row that a binding makes something of.
pub(super) struct Rendered {
    pub key: String,
    /// What it makes, or why it cannot.
    pub made: Result<Delivery, Fault>,
    /// Nothing of it can be at the place: a part of its key there is null.
    pub is_without_key: bool,
}

/// Reads all rows of one binding.
pub(super) struct AllRows {
    stream: Stream,
    asker: Session,
    renderer: Arc<Renderer>,
    fed: Fed,
    at: usize,
}

impl AllRows {
    /// Prepares for reading.
    ///
    /// # Errors
    /// The binding is not installed as the manifest has it; whatever the server answers.
    pub(super) fn open(ground: &Ground<'_>, binding: &Binding) -> Result<Self> {
        let (manifest, session) = (ground.manifest, &ground.session);
        let renderer = Arc::new(Renderer::new(&manifest.schema));
        let settings = session.wanted();
        let mut asker = settings.connect(Prompt::Never)?;
        settle(&mut asker, &renderer)?;
        let sink = binding.to.as_ref().and_then(|to| manifest.sink(&to.value));
        let sink = sink.ok_or_else(|| not_installed(binding))?;
        let bindings: Vec<Binding> = manifest.bindings_to(&sink.name.value).cloned().collect();
        let fed = load(&mut asker, &renderer, &manifest.schema, sink, &bindings)?;
        let at = fed
            .bound
            .iter()
            .position(|bound| *bound.name == *binding.name.value)
            .ok_or_else(|| not_installed(binding))?;
        Ok(AllRows {
            stream: Stream::new(
                settings.connect(Prompt::Never)?,
                &manifest.schema,
                Arc::clone(&renderer),
            )?,
            asker,
            renderer,
            fed,
            at,
        })
    }

    /// Calls `take` with all rows, a part at a time.
    ///
    /// # Errors
    /// What `take` fails with; whatever the server answers.
    pub(super) fn each(&mut self, source: &Source, take: &mut dyn FnMut(Vec<Rendered>) -> Result<()>) -> Result<()> {
        self.stream.hold()?;
        let bound = &self.fed.bound[self.at];
        let mut next = Next {
            most: MOST_ROWS,
            ..Next::default()
        };
        loop {
            let table = &self.fed.sources.tables[bound.table];
            let Read { rows, last } = init::rows(self.stream.session(), &self.renderer, table, 0, &next, bound.table)?;
            let mut rendered = Vec::with_capacity(rows.len());
            for placed in &rows {
                let mut asker = Asker {
                    session: &mut self.asker,
                    renderer: &self.renderer,
                    sources: &self.fed.sources,
                    passed: None,
                    again: false,
                    namesakes: None,
                };
                let made = match render(bound, placed, source, &mut asker, &self.fed.bound, &OneKey::default()) {
                    Ok(None) => continue,
                    Ok(Some(keyed)) => Ok(keyed.delivery),
                    Err(fault) if fault.verdict == Verdict::Down => {
                        return Err(Error::message(Kind::Unreachable, fault.reason));
                    }
                    Err(fault) => Err(fault),
                };
                let row = placed.change.new.as_ref();
                rendered.push(Rendered {
                    key: placed.change.key.to_string(),
                    is_without_key: made.is_err() && row.is_some_and(|row| bound.is_without_key(row)),
                    made,
                });
            }
            take(rendered)?;
            if rows.len() < next.most {
                return self.stream.release();
            }
            next.place = last;
        }
    }
}

/// Says that a binding is not installed.
pub(super) fn not_installed(binding: &Binding) -> Error {
    Error::message(
        Kind::Refused,
        format!("binding `{}` is not installed", binding.name.value),
    )
    .hint("`emaj install` with this manifest installs it")
}
