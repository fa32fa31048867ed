//! What a courier does that is to deliver everything and then to end, while another worker has the sink: it ends when the cursor has come
//! to the end, whoever moved it there, and waits only as long as it moves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Orders;
use crate::deliver::sources::{Sources, load};
use crate::deliver::stream::Stream;
use crate::errors::{Error, Kind, Result};
use crate::journal::{SinkRecord, Snapshot, Trouble};
use crate::pg::Prompt;

/// A worker that has not moved a cursor for so long is not waited for any longer than a person wants to.
const STUCK: Duration = Duration::from_secs(60);

/// The wait for another worker.
pub(super) struct Standby {
    stream: Stream,
    sources: Arc<Sources>,
    /// What was committed when the wait began is to be delivered.
    goal: Snapshot,
    last: Seen,
}

/// How far the other one was, and when that was seen first.
struct Seen {
    mark: (i64, Option<String>, jiff::Timestamp),
    since: Instant,
}

impl Standby {
    /// Begins to wait.
    ///
    /// # Errors
    /// The manifest is not what is installed, or whatever the server answers.
    pub(super) fn begin(orders: &Orders, sink: &SinkRecord) -> Result<Self> {
        let mut session = orders.settings.connect(Prompt::Never)?;
        let fed = load(
            &mut session,
            &orders.renderer,
            &orders.schema,
            &orders.sink,
            &orders.bindings,
        )?;
        let mut stream = Stream::new(session, &orders.schema, Arc::clone(&orders.renderer))?;
        let goal = stream.hold()?;
        stream.release()?;
        let other = sink.worker.as_deref().unwrap_or("another worker");
        tracing::info!(sink = %sink.name, "{other} delivers to it: waiting until that has come to the end");
        Ok(Standby {
            stream,
            sources: fed.sources,
            goal,
            last: Seen::of(sink),
        })
    }

    /// Tells whether everything is delivered that was committed when the wait began, or set aside.
    ///
    /// # Errors
    /// The other one does not get on, and nobody wants to wait any longer; whatever the server answers.
    pub(super) fn is_over(&mut self, orders: &Orders, sink: &SinkRecord) -> Result<bool> {
        // (Rows that were there before are sent by nobody else: then it is over when this courier has had its turn.)
        if orders.init.is_empty() && sink.until.is_none() {
            // Its cursor is put on record now and then only, as long as nothing happens.
            let is_there = sink.from.snapshot.covers(&self.goal);
            if is_there || self.stream.probe(&self.sources, &sink.from)?.is_empty() {
                return Ok(true);
            }
        }
        self.last.check(sink, orders.patience, Instant::now())?;
        Ok(false)
    }
}

impl Seen {
    fn of(sink: &SinkRecord) -> Self {
        Seen {
            mark: (sink.window, sink.offset.clone(), sink.moved),
            since: Instant::now(),
        }
    }

    /// Refuses to wait any longer, when the place is out of reach for the other one too, or it does nothing.
    fn check(&mut self, sink: &SinkRecord, patience: Duration, now: Instant) -> Result<()> {
        let Seen { mark, since } = Seen::of(sink);
        if mark != self.mark {
            *self = Seen { mark, since };
        }
        let silent = now.saturating_duration_since(self.since);
        let name = &sink.name;
        match &sink.trouble {
            Some(trouble) if silent >= patience => Err(Error::message(
                match trouble {
                    Trouble::Broken(_) => Kind::Failed,
                    Trouble::Down(_) => Kind::Unreachable,
                },
                format!("sink `{name}` is {trouble}"),
            )
            .hint("nothing is lost: what is not delivered stays in the log")),
            None if silent >= patience.max(STUCK) => {
                let other = sink.worker.as_deref().unwrap_or("another worker");
                Err(Error::message(
                    Kind::Locked,
                    format!(
                        "{other} delivers to sink `{name}`, and has not come further for {} s",
                        silent.as_secs()
                    ),
                )
                .hint("`--wait` waits longer; when that worker is stopped, this one takes over"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::journal::{Position, SinkState};

    #[test]
    fn one_that_does_nothing_is_not_waited_for_without_end() {
        let mut sink = SinkRecord {
            id: 1,
            name: "out".to_owned(),
            manifest: "m".to_owned(),
            kind: "file".to_owned(),
            state: SinkState::Active,
            reason: None,
            window: 7,
            from: Position::default(),
            until: Some("1:1:".to_owned()),
            offset: None,
            replay: None,
            there: None,
            moved: Timestamp::UNIX_EPOCH,
            worker: Some("17@host".to_owned()),
            is_taken: Some(true),
            trouble: None,
        };
        let mut last = Seen::of(&sink);
        let after = |seconds| Instant::now() + Duration::from_secs(seconds);
        assert!(last.check(&sink, Duration::ZERO, after(30)).is_ok());
        let error = last.check(&sink, Duration::ZERO, after(61)).unwrap_err();
        assert!(
            error.kind() == Kind::Locked && error.to_string().contains("17@host"),
            "{error}"
        );
        assert!(last.check(&sink, Duration::from_secs(90), after(61)).is_ok());
        sink.offset = Some("further".to_owned());
        assert!(last.check(&sink, Duration::ZERO, after(0)).is_ok(), "it moves");
        sink.trouble = Some(Trouble::Down("gone".to_owned()));
        assert!(last.check(&sink, Duration::from_secs(5), after(0)).is_ok());
        let error = last.check(&sink, Duration::from_secs(5), after(6)).unwrap_err();
        assert!(error.kind() == Kind::Unreachable, "{error}");
    }
}
