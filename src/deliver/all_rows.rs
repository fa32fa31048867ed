//! All rows of one binding that are there, in one snapshot, each with what its binding makes of it: for the dry run of `emaj init`, and for
//! finding out what at a place still has a row, or had one before a change that has not arrived. (What is sent goes the courier's way.)

use std::sync::Arc;

use super::ask::{Asker, settle, unasked};
use super::binding::OneKey;
use super::ground::Ground;
use super::init::{self, MOST_ROWS, Next, Read};
use super::render::render;
use super::set_aside;
use super::sources::{Fed, Sources, load, not_installed};
use super::stream::{Placed, Stream, Window};
use super::worker::Source;
use crate::errors::Result;
use crate::journal::{self, FailureFilter, SinkState};
use crate::manifest::Binding;
use crate::pg::{Prompt, Session};
use crate::render::Renderer;
use crate::sink::{Delivery, Fault, Verdict};

/// A row that a binding makes something of.
pub(super) struct Rendered {
    pub key: String,
    /// What it makes, or why it cannot.
    pub made: Result<Delivery, Fault>,
    /// Nothing of it can be at the place: in its name or its key there is a null.
    pub is_without_name: bool,
}

/// Reads all rows of one binding.
pub(super) struct AllRows {
    stream: Stream,
    asker: Session,
    renderer: Arc<Renderer>,
    fed: Fed,
    at: usize,
    schema: String,
    sink: String,
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
        let sink = sink.ok_or_else(|| not_installed("binding", &binding.name.value))?;
        let bindings: Vec<Binding> = manifest.bindings_to(&sink.name.value).cloned().collect();
        let fed = load(&mut asker, &renderer, &manifest.schema, sink, &bindings)?;
        let at = fed
            .bound
            .iter()
            .position(|bound| *bound.name == *binding.name.value)
            .ok_or_else(|| not_installed("binding", &binding.name.value))?;
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
            schema: manifest.schema.clone(),
            sink: sink.name.value.clone(),
        })
    }

    /// Calls `take` with all rows, a part at a time.
    ///
    /// # Errors
    /// What `take` fails with; whatever the server answers.
    pub(super) fn each(&mut self, source: &Source, take: &mut dyn FnMut(Vec<Rendered>) -> Result<()>) -> Result<()> {
        self.stream.hold()?;
        let number = self.fed.bound[self.at].table;
        let mut next = Next {
            most: MOST_ROWS,
            ..Next::default()
        };
        loop {
            let table = &self.fed.sources.tables[number];
            let Read { rows, last } = init::rows(self.stream.session(), &self.renderer, table, 0, &next, number)?;
            take(self.rendered(&rows, source)?)?;
            if rows.len() < next.most {
                return self.stream.release();
            }
            next.place = last;
        }
    }

    /// Calls `take` with rows as they were before changes that have not arrived: that are set aside, or still in the log. What was made of them is at the
    /// place until then.
    ///
    /// # Errors
    /// As [`AllRows::each`].
    pub(super) fn each_before(
        &mut self,
        source: &Source,
        take: &mut dyn FnMut(Vec<Rendered>) -> Result<()>,
    ) -> Result<()> {
        let record = journal::sink_named(&mut *self.asker, &self.schema, &self.sink)?;
        // (One that has lost its place in the log begins anew with the rows of today, and forgets what is set aside.)
        let Some(record) = record.filter(|record| record.state != SinkState::Lost) else {
            return Ok(());
        };
        take(self.set_aside(source)?)?;
        let table = self.fed.bound[self.at].table;
        let mut sources = Sources::clone(&self.fed.sources);
        sources.logs.retain(|(of, _)| *of == table);
        let window = Window {
            number: 0,
            from: record.from,
            until: self.stream.hold()?,
            replay: None,
        };
        self.stream.read(window, None);
        while !self.stream.is_over() {
            let changes = self.stream.next(&sources)?;
            let bound = &self.fed.bound[self.at];
            let concerned = changes.into_iter().filter(|placed| bound.is_about(&placed.change));
            let before: Vec<Placed> = concerned.filter_map(before).collect();
            take(self.rendered(&before, source)?)?;
        }
        self.stream.release()
    }

    /// Returns rows as they were before the changes that are set aside.
    fn set_aside(&mut self, source: &Source) -> Result<Vec<Rendered>> {
        let bound = &self.fed.bound[self.at];
        let filter = FailureFilter {
            sink: Some(&self.sink),
            binding: Some(&bound.name),
            ..FailureFilter::default()
        };
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for kept in journal::failures_kept(&mut *self.asker, &self.schema, &filter, None)? {
            let table = &self.fed.sources.tables[bound.table];
            match set_aside::read(&kept.change, bound.table, table) {
                Some(placed) => known.extend(before(placed)),
                None => unknown.push(Rendered {
                    key: kept.failure.key,
                    made: Err(Fault::never(
                        "what is on record of a change that is set aside cannot be read",
                    )),
                    is_without_name: false,
                }),
            }
        }
        let mut all = self.rendered(&known, source)?;
        all.append(&mut unknown);
        Ok(all)
    }

    /// Makes of each row what the binding does; rows of which it makes nothing are left out.
    fn rendered(&mut self, rows: &[Placed], source: &Source) -> Result<Vec<Rendered>> {
        let bound = &self.fed.bound[self.at];
        let mut rendered = Vec::with_capacity(rows.len());
        for placed in rows {
            let mut asker = Asker::new(&mut self.asker, &self.renderer, &self.fed.sources, None);
            let made = match render(bound, placed, source, &mut asker, &self.fed.bound, &OneKey::default()) {
                Ok(None) => continue,
                Ok(Some(keyed)) => Ok(keyed.delivery),
                Err(fault) if fault.verdict == Verdict::Down => return Err(unasked(fault)),
                Err(fault) => Err(fault),
            };
            let row = placed.change.new.as_ref();
            rendered.push(Rendered {
                key: placed.change.key.to_string(),
                is_without_name: made.is_err() && row.is_some_and(|row| bound.is_without_name(row)),
                made,
            });
        }
        Ok(rendered)
    }
}

/// Returns the row as it was before an update; `None`: it is no update.
fn before(mut placed: Placed) -> Option<Placed> {
    let change = &mut placed.change;
    change.new = change.new.is_some().then(|| change.old.take()).flatten();
    (change.old, change.is_init) = (None, true);
    change.new.is_some().then_some(placed)
}
