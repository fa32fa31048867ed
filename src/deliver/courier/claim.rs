//! Whether a courier may deliver: it takes the sink when nobody else has it, and asks at each look whether it may go on.
//!
//! Two advisory locks say who has a sink: that of the courier, and that of somebody who claims it for a while (`emaj init`,
//! `emaj replay`), to whom the courier gives way.

use std::time::Duration;

use super::standby::Standby;
use super::{Courier, Ended, Orders};
use crate::deliver::sources::not_installed;
use crate::deliver::status::SinkCondition;
use crate::deliver::stream::{Window, in_window};
use crate::deliver::take_over;
use crate::errors::{Error, Kind, Result};
use crate::journal::{self, Cursor, SinkLook, SinkRecord, SinkState, Snapshot};
use crate::pg::Session;
use crate::sink::Offset;

/// Whose turn it is.
pub(super) enum Turn {
    /// This courier may deliver.
    Ours(Box<SinkRecord>),
    /// It need not any more: it was told to stop, or another worker has delivered everything.
    Over(Ended),
}

/// Waits until this courier may deliver, or need not any more.
pub(super) fn take(orders: &Orders, keeper: &mut Session) -> Result<Turn> {
    let name = &orders.sink.name.value;
    let (mut standby, mut is_claimed) = (None, false);
    let mut told: Option<String> = None;
    loop {
        orders.status.beat(name, false);
        let sink =
            journal::sink_named(&mut **keeper, &orders.schema, name)?.ok_or_else(|| not_installed("sink", name))?;
        let (courier, claim) = journal::sink_locks(&orders.schema, sink.id);
        let free: bool = match sink.state {
            SinkState::Active if orders.init.is_empty() => keeper
                .query_one("select pg_try_advisory_xact_lock_shared($1)", &[&claim])?
                .get(0),
            SinkState::Active => {
                is_claimed =
                    is_claimed || take_over::claim(keeper, &orders.schema, &sink, orders.patience, &orders.stop)?;
                is_claimed
            }
            // (It was found to be set back while rows were sent: all of them are sent again.)
            SinkState::Lost if orders.sends_all() => {
                journal::want_all_again(keeper, &orders.schema, name, &orders.init)?;
                tracing::warn!(sink = %name, "{}: its rows are sent from the first on", sink.reason.unwrap_or_default());
                continue;
            }
            state => {
                let reason = sink.reason.clone().unwrap_or_else(|| state.word().to_owned());
                orders.status.update(name, |status| {
                    status.condition = match state {
                        SinkState::Paused => SinkCondition::Paused(reason.clone()),
                        _ => SinkCondition::Stopped(reason.clone()),
                    }
                });
                let what = format!("is {}: {reason}", state.word());
                let next = state.way_on(name, &sink.kind);
                if orders.until_empty {
                    return Err(Error::message(Kind::Refused, format!("sink `{name}` {what}")).hint(next));
                }
                if told.as_ref() != Some(&what) {
                    match state {
                        SinkState::Paused => tracing::info!(sink = %name, "the sink {what}; {next}"),
                        _ => tracing::warn!(sink = %name, "the sink {what}; {next}"),
                    }
                    told = Some(what);
                }
                false
            }
        };
        if free {
            let taken: bool = keeper.query_one("select pg_try_advisory_lock($1)", &[&courier])?.get(0);
            if taken {
                // Anew: the one before may have moved the cursor.
                let sink = journal::sink_named(&mut **keeper, &orders.schema, name)?
                    .ok_or_else(|| not_installed("sink", name))?;
                let worker = format!("{}@{}", std::process::id(), whoami::hostname().unwrap_or_default());
                Cursor::new(&orders.schema, sink.id).taken_by(&mut **keeper, &worker)?;
                return Ok(Turn::Ours(Box::new(sink)));
            }
            orders
                .status
                .update(name, |status| status.condition = SinkCondition::Standby);
        }
        if orders.until_empty && sink.state == SinkState::Active && sink.is_taken == Some(true) {
            let standby = match &mut standby {
                Some(standby) => standby,
                None => standby.insert(Standby::begin(orders, &sink)?),
            };
            if standby.is_over(orders, &sink)? {
                return Ok(Turn::Over(Ended::Empty));
            }
        }
        if orders.stop.wait(Duration::from_millis(200)) {
            return Ok(Turn::Over(Ended::Stopped));
        }
    }
}

/// Asks how things stand, by the session that holds a sink: what it has locked nobody else has then. `None`: the courier may not go on.
///
/// # Errors
/// The session is lost; whatever the server answers.
pub(super) fn look(orders: &Orders, keeper: &mut Session, cursor: &Cursor) -> Result<Option<SinkLook>> {
    let (_, claim) = journal::sink_locks(&orders.schema, cursor.sink());
    // Who sends rows that were there before has claimed it himself.
    let claim = orders.init.is_empty().then_some(claim);
    let look = cursor.look(&mut **keeper, claim)?;
    let look = look.ok_or_else(|| not_installed("sink", &orders.sink.name.value))?;
    Ok(look.may_go_on.then_some(look))
}

/// The window that was left unfinished, and how far it is delivered.
pub(super) fn unfinished(sink: &SinkRecord) -> Result<Option<(Window, Option<Offset>)>> {
    let Some(until) = &sink.until else { return Ok(None) };
    let window = Window {
        number: sink.window,
        from: sink.from.clone(),
        until: snapshot(until)?,
        replay: sink.replay.as_deref().map(snapshot).transpose()?,
    };
    // (It got another number, perhaps, since its last chunk was put on record.)
    let offset = sink
        .offset
        .clone()
        .map(|offset| in_window(sink.window, &Offset(offset)));
    Ok(Some((window, offset)))
}

/// Reads a snapshot off the registry.
pub(super) fn snapshot(text: &str) -> Result<Snapshot> {
    text.parse().map_err(|error| Error::new(Kind::Failed, error))
}

impl Courier<'_> {
    /// One cheap question: has anything happened, is anything due, may this courier go on? `None`: it may not.
    pub(super) fn look(&mut self) -> Result<Option<SinkLook>> {
        self.orders.status.beat(self.name(), false);
        look(self.orders, &mut self.sessions.keeper, &self.progress.cursor)
    }
}
