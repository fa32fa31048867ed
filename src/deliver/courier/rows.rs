//! Sends rows that were there before, behind a window and in its snapshot.
//!
//! A chunk is what is sent in one snapshot, for [`LONGEST`], or as long as the changes before it took, or until something stands in the way: part by part, each on record before the
//! next one is sent, so that whoever is killed sends no more than one part again. What was not sent comes behind a later window.
//! Rows of which nothing is made go as text, copied from one database to the other; of others the next part is read while one is written.

use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Courier;
use super::chunk::own_offset;
use crate::deliver::init::{self, AsText, Init, MOST_COPIED, MOST_ROWS, Next, Read, rows};
use crate::deliver::sources::not_installed;
use crate::deliver::stream::{Placed, Window, init_offset};
use crate::errors::{Error, Kind, Result};
use crate::fail_at::passing;
use crate::journal::{self, Position};
use crate::sink::{RowsAsText, Verdict};

/// How long a snapshot is held for rows, about: changes wait meanwhile.
const LONGEST: Duration = Duration::from_secs(2);
/// How many rows the first part has: how wide they are is not known yet.
const FIRST: usize = 1000;
/// How many bytes a part has about, and a part that is copied: that one is never held in memory.
const PART_BYTES: usize = 6 << 20;
const COPIED_BYTES: usize = 32 << 20;

/// A part that was sent: the place of its last row and their number.
struct Part {
    place: Option<String>,
    rows: usize,
    bytes: usize,
    is_last: bool,
}

/// What became of a part.
enum Sent {
    Part(Part),
    /// It cannot go this way; nothing of it is there.
    Refused,
    Interrupted,
}

type Ahead = JoinHandle<Result<Option<Read>>>;

impl Courier<'_> {
    /// Sends the next rows that were there before, for one binding, and ends the window with them. Its changes took `before`: rows are sent for as long
    /// at least, or else there would be less and less time for them under writers as fast as the sink.
    pub(super) fn send_rows(&mut self, window: &Window, binding: &str, before: Duration) -> Result<Init> {
        let Some(at) = self.fed.bound.iter().position(|bound| &*bound.name == binding) else {
            return Err(not_installed("binding", binding));
        };
        let began = Instant::now();
        let mut as_text = self.as_text(at)?;
        let order = self.order(at)?;
        let Some(mut next) = self.first_rows(binding, &order)? else {
            return Ok(Init::Interrupted);
        };
        let mut ahead = None;
        loop {
            let may_go_on = began.elapsed() < LONGEST.max(before) && !self.orders.stop.is_set();
            let sent = match &as_text {
                Some(text) => self.copy_part(window, at, text, &next)?,
                None => self.send_part(window, at, &next, &mut ahead, may_go_on)?,
            };
            let part = match sent {
                Sent::Part(part) => part,
                Sent::Refused => {
                    as_text = None;
                    next.most = FIRST;
                    continue;
                }
                Sent::Interrupted => return Ok(Init::Interrupted),
            };
            passing("init.delivered");
            // What was read ahead is sent.
            let goes_on =
                !part.is_last && (ahead.is_some() || as_text.is_some() && may_go_on && self.stream().is_held());
            if !self.note_part(window, binding, &order, &next, &part, goes_on)? {
                return Ok(Init::Interrupted);
            }
            passing("init.noted");
            if !goes_on {
                return Ok(if part.is_last { Init::Over } else { Init::Some });
            }
            next = next.behind(&part, as_text.is_some());
        }
    }

    /// Puts on record how far the rows are sent, and with the last part of a chunk the end of the window. `false`: an installation has changed what is sent
    /// meanwhile; nothing is noted.
    fn note_part(
        &mut self,
        window: &Window,
        binding: &str,
        order: &str,
        began: &Next,
        part: &Part,
        goes_on: bool,
    ) -> Result<bool> {
        let schema = &self.orders.schema;
        let mut transaction = self.sessions.keeper.transaction()?;
        let [from, until] = [&began.place, &part.place].map(|place| place.as_deref().map(|place| (order, place)));
        let noted = journal::note_rows(
            &mut transaction,
            schema,
            binding,
            (from, until),
            part.rows as i64,
            part.is_last,
        )?;
        // (Who changes it has been waited for.)
        let sink = &self.orders.sink.name.value;
        if !noted || journal::structure_of(&mut transaction, schema, sink)? != self.fed.structure {
            return Ok(false);
        }
        let there = self.place.there.as_ref().map(|there| &*there.0);
        self.progress.cursor.takes_rows(&mut transaction, there)?;
        if !goes_on {
            let from: Position = window.until.clone().into();
            let forget = self.guard.is_overruled;
            self.progress
                .cursor
                .end(&mut transaction, window.number, &from, forget)?;
        }
        transaction.commit()?;
        self.orders
            .status
            .update(self.name(), |status| status.sent += part.rows as u64);
        Ok(true)
    }

    /// What the places of the rows of a binding's table mean today.
    fn order(&self, at: usize) -> Result<String> {
        let table = &self.fed.sources.tables[self.fed.bound[at].table];
        init::order(self.stream().session(), &self.orders.renderer, table)
    }

    /// The rows of a binding that are to go next: the first ones also where the table has another primary key by now. `None`: what was sent is not what is there, and
    /// the snapshot that is held may be older than what was changed; they are the first ones behind the next window.
    fn first_rows(&mut self, binding: &str, order: &str) -> Result<Option<Next>> {
        let (keeper, schema) = (&mut *self.sessions.keeper, &self.orders.schema);
        let sent = journal::rows_sent(keeper, schema, binding)?;
        let (place, why) = match sent {
            None => (None, None),
            Some((sent, place)) if sent == order => (Some(place), None),
            Some((sent, _)) if sent.is_empty() => (None, Some("what was sent of the rows is not what is there")),
            Some(_) => (
                None,
                Some("the table has another primary key now, or one that is written otherwise"),
            ),
        };
        if let Some(why) = why {
            tracing::warn!(sink = %self.name(), %binding, "{why}: its rows are sent from the first on");
            journal::rows_anew(&mut *self.sessions.keeper, schema, binding)?;
            return Ok(None);
        }
        let (most, number) = (FIRST, 0);
        Ok(Some(Next { place, most, number }))
    }

    /// The table of a binding whose rows may go as text: nothing is made of them, and none has to wait behind something.
    fn as_text(&mut self, at: usize) -> Result<Option<AsText>> {
        if self.fed.bound[at].as_it_is().is_none() || !self.parked.is_empty() {
            return Ok(None);
        }
        let sources = Arc::clone(&self.fed.sources);
        let table = &sources.tables[self.fed.bound[at].table];
        AsText::of(self.stream().session(), &self.orders.renderer, table)
    }

    /// Copies a part.
    fn copy_part(&mut self, window: &Window, at: usize, text: &AsText, next: &Next) -> Result<Sent> {
        let bound = &self.fed.bound[at];
        let (Some((table, key)), Some(lanes)) = (bound.as_it_is(), &mut self.place.lanes) else {
            return Ok(Sent::Refused);
        };
        let renderer = &self.orders.renderer;
        let mut stream = self.sessions.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let upto = text.last_place(stream.session(), renderer, next)?;
        let last = init_offset(window.number, next.number + next.most as i64 - 1);
        let rows = RowsAsText {
            table: table.clone(),
            key: key.to_vec(),
            columns: text.columns(),
            offset: own_offset(&last, 0, &bound.name),
        };
        self.orders.status.beat(&self.orders.sink.name.value, true);
        let mut bytes = 0;
        let offset = rows.offset.clone();
        let copied = lanes.copy(rows, |pieces| {
            bytes = text.read(stream.session(), renderer, next, upto.as_deref(), pieces)?;
            Ok(())
        });
        drop(stream);
        self.orders.status.beat(&self.orders.sink.name.value, false);
        self.place.reached = Instant::now();
        match copied? {
            Ok(Some(rows)) => {
                self.place.has(&offset);
                self.is_up()?;
                self.orders.status.update(self.name(), |status| status.written += rows);
                Ok(Sent::Part(Part {
                    is_last: upto.is_none(),
                    place: upto,
                    rows: usize::try_from(rows).unwrap_or(usize::MAX),
                    bytes,
                }))
            }
            Err(fault) if fault.verdict == Verdict::Down => {
                // Whether the part arrived is not known; it comes again behind a later window, and changes nothing then.
                self.is_down(&fault, true)?;
                Ok(Sent::Interrupted)
            }
            Ok(None) | Err(_) => Ok(Sent::Refused),
        }
    }

    /// Delivers a part row by row, and reads the next one meanwhile if that may be sent in this chunk.
    fn send_part(
        &mut self,
        window: &Window,
        at: usize,
        next: &Next,
        ahead: &mut Option<Ahead>,
        may_go_on: bool,
    ) -> Result<Sent> {
        let read = match ahead.take() {
            Some(reader) => join(reader)?,
            None => join(self.read_rows(window, at, next))?,
        };
        // (The snapshot was let go while the place was down.)
        let Some(Read { rows, last }) = read else {
            return Ok(Sent::Interrupted);
        };
        let part = Part {
            place: last,
            rows: rows.len(),
            bytes: rows.iter().map(bytes_of).sum(),
            is_last: rows.len() < next.most,
        };
        if may_go_on && !part.is_last {
            *ahead = Some(self.read_rows(window, at, &next.behind(&part, false)));
        }
        let made = self.make(&rows, Some(at))?;
        Ok(match self.hand_over(made, &rows, None)? {
            true => Sent::Part(part),
            false => Sent::Interrupted,
        })
    }

    /// Reads rows in a thread of its own; nothing when the snapshot is held no more.
    fn read_rows(&self, window: &Window, at: usize, next: &Next) -> Ahead {
        let (stream, sources) = (Arc::clone(&self.sessions.stream), Arc::clone(&self.fed.sources));
        let (renderer, next) = (Arc::clone(&self.orders.renderer), next.clone());
        let (table, window_number) = (self.fed.bound[at].table, window.number);
        std::thread::spawn(move || {
            let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
            if !stream.is_held() {
                return Ok(None);
            }
            rows(
                stream.session(),
                &renderer,
                &sources.tables[table],
                window_number,
                &next,
                table,
            )
            .map(Some)
        })
    }
}

impl Next {
    /// What comes behind a part.
    fn behind(&self, part: &Part, as_text: bool) -> Next {
        let wide = (part.bytes / part.rows.max(1)).max(1);
        Next {
            place: part.place.clone(),
            most: match as_text {
                true => (COPIED_BYTES / wide).clamp(FIRST, MOST_COPIED),
                false => (PART_BYTES / wide).clamp(1, MOST_ROWS),
            },
            number: self.number + self.most as i64,
        }
    }
}

fn join(reader: Ahead) -> Result<Option<Read>> {
    reader
        .join()
        .unwrap_or_else(|_| Err(Error::message(Kind::Failed, "the reader of rows broke down")))
}

fn bytes_of(placed: &Placed) -> usize {
    placed.change.new.as_ref().map_or(0, |row| row.json.len())
}
