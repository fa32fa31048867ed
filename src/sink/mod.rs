//! The outer world: places that changes are delivered to. One trait, one file a kind, one line in [`opener`].
//!
//! `deliver` makes [`Delivery`] values out of the log and the bindings of a manifest, and hands them to a [`Sink`] in batches. A sink
//! knows its protocol and nothing of logs, cursors or templates. What an error causes is decided by the table in [`fault`].
//! A new kind of sink is: a record of keys in `manifest/keys/sinks.rs`, what it can do in `manifest/sink_kinds.rs`, a file here, a line in [`opener`], a
//! page in `docs/sinks/`, a manifest in the gallery.

mod delivery;
mod fault;
mod file;
#[cfg(feature = "kafka")]
mod kafka;
pub mod ldap;
mod lease;
mod message;
#[cfg(feature = "nats")]
mod nats;
mod postgres;
mod resume;
mod settings;
mod trust;
mod webhook;

pub use delivery::{
    Action, Attribute, Delivery, Entry, EntryChange, EntryTarget, Message, Offset, RowChange, RowsAsText, TextColumn,
    ValueChange,
};
pub use fault::{Fault, Verdict, of_source};
pub use lease::Lease;

use std::sync::Arc;

use crate::errors::Result;
use crate::manifest::{self, SinkKind};
use crate::pg::Environment;

/// What became of one delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It arrived, and changed something there.
    Written,
    /// It arrived, and everything was there already.
    Unchanged,
    /// It did not, and the fault says what follows.
    Failed(Fault),
}

/// A connection to a place that takes deliveries.
///
/// The contract:
/// - **Order.** Deliveries of one batch are carried out in their order. Batches of one connection never overlap. What must not
///   be reordered against each other is never given to two connections at once.
/// - **At least once.** A delivery may come again, with the same [`Delivery::id`], after a crash or a lost answer. Carrying it out twice
///   must leave what carrying it out once leaves, or must be recognisable by its id.
/// - **Acknowledged.** An outcome that is not a failure means that the place has the data for good (synced, committed, confirmed).
/// - **Failures.** [`Verdict::Later`], [`Verdict::Silent`], [`Verdict::Clash`] and [`Verdict::Never`] are about one delivery: the batch goes on behind it (the caller sees to
///   the order of its key). [`Verdict::Down`] is about the place: the batch ends there.
/// - **Alone.** Only the worker that holds a sink writes there: who has stood still is told before it writes ([`Sink::under`]).
/// - **Time.** Every wait has an end: the time-out of the manifest.
/// - No row value and no secret is ever logged or put into a fault, except what the place itself answered, with secrets taken out.
pub trait Sink: Send {
    /// Carries out a batch. Returns one outcome a delivery, in order; when one of them is [`Verdict::Down`], this connection is dropped. Then there may be
    /// fewer: the rest was not tried. What has another outcome behind that one is not given again.
    fn deliver(&mut self, batch: &[Delivery]) -> Vec<Outcome>;

    /// Gives what is asked before each write, where the place itself does not notice that another worker has written to it.
    fn under(&mut self, _lease: Arc<Lease>) {}

    /// Takes rows that nobody had before as text, all of them or none, and keeps the position with them. `text` gives them piece by piece,
    /// and nothing at their end; its error ends it all. Returns how many they were; `None`: they cannot go this way (one of them is there,
    /// or the place does not do it), and nothing of them is there. They are then delivered one by one.
    ///
    /// # Errors
    /// The place is down, or what `text` failed with; nothing of them is there.
    fn copy(
        &mut self,
        _rows: &RowsAsText,
        _text: &mut dyn FnMut() -> Result<Option<Vec<u8>>, Fault>,
    ) -> Result<Option<u64>, Fault> {
        Ok(None)
    }

    /// Returns how far this place has come by its own records, where it keeps them with the data (a file, a database): everything up to
    /// and including that place arrived, and is not delivered again.
    ///
    /// # Errors
    /// The place cannot be asked.
    fn resume(&mut self) -> Result<Option<Offset>, Fault> {
        Ok(None)
    }

    /// Says what may be done there, for `emaj sink test`: one finding each, the good ones too.
    ///
    /// # Errors
    /// The place cannot be reached at all.
    fn probe(&mut self) -> Result<Vec<Finding>, Fault>;

    /// Looks, after this connection was opened, whether the place is there: asked now and then while there is nothing to deliver.
    ///
    /// # Errors
    /// The place is down.
    fn reach(&mut self) -> Result<(), Fault> {
        self.probe().map(drop)
    }

    /// Returns, as text, what [`Sink::deliver`] would do now (LDIF for a directory, a JSON line for a message); changes nothing.
    ///
    /// # Errors
    /// The place cannot be asked.
    fn preview(&mut self, batch: &[Delivery]) -> Result<Vec<String>, Fault>;

    /// Returns the names under which [`Sink::existing`] lists what these deliveries leave there, one for each; `None`: it leaves nothing that
    /// could be listed.
    ///
    /// # Errors
    /// The place cannot be asked.
    fn identities(&mut self, batch: &[Delivery]) -> Result<Vec<Option<String>>, Fault> {
        Ok(vec![None; batch.len()])
    }

    /// Tells whether something that is listed for one binding may have been made by `binding`: it has that one's form too.
    fn may_make(&self, _binding: &manifest::Binding, _existing: &Existing) -> bool {
        true
    }

    /// Shows everything that is there and belongs to `binding`, for `emaj init --prune`.
    ///
    /// # Errors
    /// The place cannot be asked, or this kind of sink cannot list.
    fn existing(&mut self, _binding: &manifest::Binding, _visit: &mut dyn FnMut(Existing)) -> Result<(), Fault> {
        Err(Fault::never("this kind of sink cannot list what it holds"))
    }
}

/// One thing that is there: its identity, and the action that takes it away.
#[derive(Debug, Clone)]
pub struct Existing {
    pub identity: String,
    pub remove: Action,
}

/// One finding of [`Sink::probe`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at: `log in`, `write below ou=people`.
    pub what: String,
    /// `None`: fine; else what is wrong and what to do.
    pub problem: Option<String>,
    /// The place refuses the login, or does not let it do this.
    pub is_denied: bool,
}

impl Finding {
    pub(crate) fn of(what: impl Into<String>, problem: Option<String>) -> Self {
        Finding {
            what: what.into(),
            problem,
            is_denied: false,
        }
    }

    /// Makes one of which a problem is a privilege that is missing.
    fn allowed(what: impl Into<String>, problem: Option<String>) -> Self {
        Finding {
            is_denied: problem.is_some(),
            ..Finding::of(what, problem)
        }
    }

    fn fine(what: impl Into<String>) -> Self {
        Finding::of(what, None)
    }

    fn bad(what: impl Into<String>, problem: impl Into<String>) -> Self {
        Finding::of(what, Some(problem.into()))
    }
}

/// Knows how to reach one place: settings with their references looked up. Opens connections, one for each lane.
pub trait Opener: Send + Sync {
    /// Opens a connection and logs in.
    ///
    /// # Errors
    /// [`Verdict::Down`] with the reason.
    fn open(&self) -> Result<Box<dyn Sink>, Fault>;

    /// Returns how many connections may deliver at once; 1 where there is one order for all.
    fn lanes(&self) -> usize {
        1
    }

    /// Returns how many deliveries one call of [`Sink::deliver`] takes best.
    fn batch(&self) -> usize {
        1000
    }

    /// Tells whether the place may refuse one delivery and take the next of the same key; `false`: it takes all or is down, or keeps the
    /// order of a row by itself: behind a change that it refused it refuses every later one of that row in the batch.
    fn refuses(&self) -> bool {
        true
    }

    /// Returns where this leads, for people: without secrets.
    fn describe(&self) -> String;

    /// Returns which place this is, whoever logs in there: two settings with the same text lead to the same place.
    fn place(&self) -> String {
        self.describe()
    }
}

/// Looks up the references of the settings of `sink`, which is one of `manifest`. `source` names the installation to those sinks that keep a record of it.
///
/// # Errors
/// All references that lead nowhere, with their places in the manifest.
pub fn opener(
    manifest: &manifest::Manifest,
    sink: &manifest::Sink,
    environment: &Environment,
    source: &str,
) -> Result<Box<dyn Opener>> {
    match &sink.kind {
        SinkKind::Ldap(settings) => ldap::opener(settings, environment),
        SinkKind::Postgres(database) => postgres::opener(
            &sink.name,
            database,
            manifest.bindings_to(&sink.name),
            environment,
            source,
        ),
        SinkKind::Webhook(settings) => webhook::opener(settings, environment),
        #[cfg(feature = "nats")]
        SinkKind::Nats(settings) => nats::opener(settings, environment),
        #[cfg(feature = "kafka")]
        SinkKind::Kafka(settings) => kafka::opener(settings, environment),
        SinkKind::File(file) => file::opener(&sink.name, file, environment, source),
        #[cfg(not(all(feature = "nats", feature = "kafka")))]
        kind => Err(crate::errors::Error::message(
            crate::errors::Kind::Failed,
            format!("this build cannot deliver to a sink of the kind `{}`", kind.word()),
        )),
    }
}
