//! Spreads deliveries over the connections of a sink without breaking the order of a key.
//!
//! What shares a key (the row's, the message's) goes one after the other; what shares none goes side by side. Deliveries of one batch share
//! none either, unless the sink never refuses a single one: so that nothing of a key is carried out behind a delivery of it that
//! was refused. What touches the same entry of a directory, or one above it, or comes from one change, is given to one connection in one
//! batch: rows that exchange their names can only be told apart by who sees both, and an entry that moves takes along what is below it.
//!
//! While anything is under way, the one who waits for it asks whether the worker still has the sink, and renews the lease of the connections.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use super::stop::Stop;
use crate::errors::Result as Done;
use crate::fail_at::passing;
use crate::sink::{Delivery, Fault, Lease, Opener, Outcome, RowsAsText, Sink, Verdict};

/// A delivery with what it must not be reordered against.
#[derive(Debug, Clone)]
pub(super) struct Keyed {
    pub delivery: Delivery,
    pub keys: Vec<String>,
    /// The names of the entries of a directory that it touches: what is above one of them stands behind its commas.
    pub entries: Vec<String>,
    /// Keys of others that it comes behind, and that do not come behind it.
    pub behind: Vec<String>,
    /// The row got another key, of which nothing is made: it is not given to the sink, and what comes of either key keeps its order by it.
    pub is_tie: bool,
}

/// What became of a delivery: an outcome, or not tried because the place was down or an earlier one of its key had failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    Done(Outcome),
    /// An earlier delivery of one of its keys failed.
    Behind,
    /// The place went down before its turn, or answers nothing, or the worker was told to stop.
    NotTried,
}

/// How many deliveries a place left without an answer since it last gave one to any: whose fault that is only another delivery can tell.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Silence(usize);

/// So many may be set aside so that what is behind them has its turn. The place is down when that gets no answer either.
const SILENT: usize = 3;

impl Silence {
    /// Looks at what became of deliveries that went side by side. Those that a place left unanswered as it does all others were not
    /// tried; then it is down.
    fn judge(&mut self, todo: &[Vec<usize>], fates: &mut [Fate]) -> Option<Fault> {
        let (mut silent, mut is_answered) = (Vec::new(), false);
        for at in todo.iter().flatten() {
            match &fates[*at] {
                Fate::Done(Outcome::Failed(fault)) if fault.verdict == Verdict::Silent => {
                    silent.push((*at, fault.reason.clone()));
                }
                Fate::Done(_) => is_answered = true,
                Fate::Behind | Fate::NotTried => {}
            }
        }
        if is_answered {
            self.0 = 0;
            return None;
        }
        let room = SILENT - self.0;
        self.0 = SILENT.min(self.0 + silent.len());
        let mut beyond = silent.into_iter().skip(room).peekable();
        let down = beyond
            .peek()
            .map(|(_, reason)| Fault::down(format!("nothing gets an answer: {reason}")));
        beyond.for_each(|(at, _)| fates[at] = Fate::NotTried);
        down
    }
}

fn is_silence(fate: &Fate) -> bool {
    matches!(fate, Fate::Done(Outcome::Failed(fault)) if fault.verdict == Verdict::Silent)
}

/// Tells whether a place gave an answer to one of these deliveries.
fn has_answer(todo: &[Vec<usize>], fates: &[Fate]) -> bool {
    let mut all = todo.iter().flatten().map(|at| &fates[*at]);
    all.any(|fate| matches!(fate, Fate::Done(_)) && !is_silence(fate))
}

/// A piece of rows as text; `None` is their end.
pub(super) type Piece = Option<Vec<u8>>;

/// How long an answer is waited for before it is looked whether the lease is old.
const BEAT: Duration = Duration::from_millis(250);

/// Asks whether the worker still has the sink, and whether it may give it more (nobody has paused it, nobody claims it). Without the sink it is an error.
pub(super) type Holds<'a> = &'a mut dyn FnMut() -> Done<bool>;

/// How many pieces may wait between who reads rows and who writes them.
const PIECES: usize = 16;

enum Work {
    Batch(Vec<Delivery>),
    Rows {
        rows: RowsAsText,
        pieces: Receiver<Piece>,
        answer: Sender<Result<Option<u64>, Fault>>,
    },
}

/// The open connections of a sink, each with a thread.
pub(super) struct Lanes {
    lanes: Vec<Lane>,
    lease: Arc<Lease>,
    batch: usize,
    refuses: bool,
    /// Whether more may be given, when that was asked last.
    may_go_on: bool,
}

struct Lane {
    work: Sender<Work>,
    answers: Receiver<Vec<Outcome>>,
    thread: Option<JoinHandle<()>>,
}

impl Lanes {
    /// Opens one connection, and returns it beside lanes that hold none yet: the caller may ask it something before it is added, and adds as
    /// many others as the place takes.
    ///
    /// # Errors
    /// The place is down.
    pub(super) fn open(opener: &dyn Opener) -> Result<(Self, Box<dyn Sink>), Fault> {
        let first = opener.open()?;
        let lanes = Lanes {
            lanes: Vec::new(),
            lease: Arc::new(Lease::limited()),
            batch: opener.batch().max(1),
            refuses: opener.refuses(),
            may_go_on: true,
        };
        Ok((lanes, first))
    }

    /// Adds an open connection.
    pub(super) fn add(&mut self, mut sink: Box<dyn Sink>) {
        sink.under(Arc::clone(&self.lease));
        let (work, todo) = channel::<Work>();
        let (answer, answers) = channel();
        let thread = std::thread::spawn(move || {
            while let Ok(work) = todo.recv() {
                let is_heard = match work {
                    Work::Batch(batch) => {
                        passing("batch.taken");
                        let outcomes = sink.deliver(&batch);
                        passing("batch.delivered");
                        answer.send(outcomes).is_ok()
                    }
                    Work::Rows { rows, pieces, answer } => {
                        let mut next = || {
                            pieces
                                .recv()
                                .map_err(|_| Fault::later("the rows could not be read to the end"))
                        };
                        let copied = sink.copy(&rows, &mut next);
                        passing("batch.delivered");
                        // Whoever still sends is told so.
                        drop(pieces);
                        answer.send(copied).is_ok()
                    }
                };
                if !is_heard {
                    break;
                }
            }
        });
        self.lanes.push(Lane {
            work,
            answers,
            thread: Some(thread),
        });
    }

    pub(super) fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Tells whether more could be given to the place at the end of the last delivery.
    pub(super) fn may_go_on(&self) -> bool {
        self.may_go_on
    }

    /// Has rows written as text by the first connection while `read` reads them and sends them piece by piece (not their end: that is
    /// sent when it has come to it without an error). Sending fails when nobody takes them any more.
    ///
    /// # Errors
    /// That of `read`; nothing of the rows is there then. Within it what [`Sink::copy`] answered.
    pub(super) fn copy(
        &mut self,
        rows: RowsAsText,
        read: impl FnOnce(&SyncSender<Piece>) -> Done<()>,
    ) -> Done<Result<Option<u64>, Fault>> {
        let gone = || Fault::down("the connection's thread ended unexpectedly");
        let Some(lane) = self.lanes.first() else {
            return Ok(Err(gone()));
        };
        let (sender, pieces) = sync_channel(PIECES);
        let (answer, answers) = channel();
        // A lane that is gone answers nothing: seen below.
        let _ = lane.work.send(Work::Rows { rows, pieces, answer });
        let was_read = read(&sender);
        if was_read.is_ok() {
            let _ = sender.send(None);
        }
        drop(sender);
        let copied = answers.recv().unwrap_or_else(|_| Err(gone()));
        was_read.map(|()| copied)
    }

    /// Carries out deliveries. Returns a fate each, in order, and the fault when the place went down. Once `stop` is set, or no more may be given, only the
    /// batches under way are finished.
    ///
    /// # Errors
    /// That of `holds`: what was under way may have arrived or not.
    pub(super) fn deliver(
        &mut self,
        work: &[Keyed],
        silence: &mut Silence,
        stop: &Stop,
        holds: Holds<'_>,
    ) -> Done<(Vec<Fate>, Option<Fault>)> {
        self.may_go_on = true;
        let mut fates = vec![Fate::NotTried; work.len()];
        let mut failed: HashSet<&str> = HashSet::new();
        for level in levels(work, self.refuses) {
            let mut todo = Vec::with_capacity(level.len());
            let mut ties = Vec::new();
            for bundle in level {
                let mut left = Vec::with_capacity(bundle.len());
                for at in bundle {
                    let mut before = work[at].keys.iter().chain(&work[at].behind);
                    if before.any(|key| failed.contains(key.as_str())) {
                        fates[at] = Fate::Behind;
                        failed.extend(work[at].keys.iter().map(String::as_str));
                    } else if work[at].is_tie {
                        ties.push(at);
                    } else {
                        left.push(at);
                    }
                }
                todo.push(left);
            }
            ties.sort_unstable();
            if let (false, Some(first)) = (self.refuses, ties.first().copied()) {
                // Where all is one level, what is behind it goes when all before it has arrived.
                let is_before = todo.iter().flatten().any(|at| *at < first);
                let end = if is_before { Some(first) } else { ties.get(1).copied() };
                let is_meant = |at: &usize| end.is_none_or(|end| *at < end);
                todo.iter_mut().for_each(|bundle| bundle.retain(is_meant));
                ties.retain(is_meant);
            }
            let down = self.carry_out_or_find_out(work, &todo, &mut fates, stop, holds)?;
            let down = silence.judge(&todo, &mut fates).or(down);
            for at in todo.into_iter().flatten() {
                if matches!(&fates[at], Fate::Done(Outcome::Failed(fault)) if fault.verdict != Verdict::Down) {
                    failed.extend(work[at].keys.iter().map(String::as_str));
                }
            }
            if down.is_some() || stop.is_set() || !self.may_go_on {
                return Ok((fates, down));
            }
            ties.into_iter()
                .for_each(|at| fates[at] = Fate::Done(Outcome::Unchanged));
        }
        Ok((fates, None))
    }

    /// Carries out what may go side by side. A connection may take a place for down that is silent: before that is believed, the last of what was not
    /// tried is sent. When it gets an answer, it is about those that got none, and the rest has its turn.
    fn carry_out_or_find_out(
        &mut self,
        work: &[Keyed],
        todo: &[Vec<usize>],
        fates: &mut [Fate],
        stop: &Stop,
        holds: Holds<'_>,
    ) -> Done<Option<Fault>> {
        let mut left = todo.to_vec();
        loop {
            let Some(down) = self.carry_out(work, &left, fates, stop, holds)? else {
                return Ok(None);
            };
            let is_silent = left.iter().flatten().any(|at| is_silence(&fates[*at]));
            let is_answered = has_answer(&left, fates);
            left.iter_mut()
                .for_each(|bundle| bundle.retain(|at| fates[*at] == Fate::NotTried));
            left.retain(|bundle| !bundle.is_empty());
            // (What has one order for all gets nothing before its turn.)
            if !is_silent || is_answered || !self.refuses {
                return Ok(Some(down));
            }
            let Some(last) = left.pop() else {
                return Ok(Some(down));
            };
            let last = [last];
            if let Some(down) = self.carry_out(work, &last, fates, stop, holds)? {
                return Ok(Some(down));
            }
            if !has_answer(&last, fates) {
                return Ok((!left.is_empty()).then_some(down));
            }
        }
    }

    /// Carries out what may go side by side: batch after batch to each lane. Within one level nothing depends on another, but where
    /// a sink never refuses, one lane keeps the order of all.
    fn carry_out(
        &mut self,
        work: &[Keyed],
        todo: &[Vec<usize>],
        fates: &mut [Fate],
        stop: &Stop,
        holds: Holds<'_>,
    ) -> Done<Option<Fault>> {
        let number: usize = todo.iter().map(Vec::len).sum();
        let share = number.div_ceil(self.lanes.len().max(1)).clamp(1, self.batch);
        let (mut down, mut has_failed) = (None, false);
        let mut batches = batches(todo, share).into_iter();
        loop {
            // Each lane has one batch at a time; a round ends when all have answered.
            let round: Vec<(usize, Vec<usize>)> = (0..self.lanes.len())
                .map_while(|lane| batches.next().map(|batch| (lane, batch)))
                .collect();
            if round.is_empty() || stop.is_set() {
                return Ok(down);
            }
            self.renew(holds)?;
            if !self.may_go_on {
                return Ok(down);
            }
            for (lane, batch) in &round {
                let deliveries = batch.iter().map(|at| work[*at].delivery.clone()).collect();
                // A lane that is gone answers nothing: seen below.
                let _ = self.lanes[*lane].work.send(Work::Batch(deliveries));
            }
            let mut is_held = Ok(());
            for (lane, batch) in round {
                let outcomes = self.answer(lane, &mut is_held, holds);
                for (at, outcome) in batch.iter().zip(outcomes) {
                    if let Outcome::Failed(fault) = &outcome
                        && fault.verdict == Verdict::Down
                    {
                        // (What has arrived behind it in the batch is not sent again.)
                        down.get_or_insert_with(|| fault.clone());
                        continue;
                    }
                    has_failed |= matches!(outcome, Outcome::Failed(_));
                    fates[*at] = Fate::Done(outcome);
                }
            }
            is_held?;
            // What a place with one order for all refused is put on record before it gets anything behind that.
            if down.is_some() || has_failed && !self.refuses {
                return Ok(down);
            }
        }
    }

    /// Waits for what a lane answers. The lease of all is renewed meanwhile, as long as it is held.
    fn answer(&mut self, lane: usize, is_held: &mut Done<()>, holds: Holds<'_>) -> Vec<Outcome> {
        loop {
            match self.lanes[lane].answers.recv_timeout(BEAT) {
                Ok(outcomes) => return outcomes,
                Err(RecvTimeoutError::Timeout) if is_held.is_ok() => *is_held = self.renew(holds),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let fault = Fault::down("the connection's thread ended unexpectedly");
                    return vec![Outcome::Failed(fault)];
                }
            }
        }
    }

    fn renew(&mut self, holds: Holds<'_>) -> Done<()> {
        if !self.lease.is_old() {
            return Ok(());
        }
        let asked = SystemTime::now();
        match holds() {
            Ok(may_go_on) => {
                self.may_go_on = may_go_on;
                self.lease.renew(asked);
                Ok(())
            }
            Err(error) => {
                self.lease.lose();
                Err(error)
            }
        }
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.lease.lose();
        for lane in &mut self.lanes {
            // Its channel closes with this; the thread ends after the batch it has.
            let (closed, _) = channel();
            lane.work = closed;
            if let Some(thread) = lane.thread.take() {
                let _ = thread.join();
            }
        }
    }
}

/// Puts bundles together to batches of about `share`.
fn batches(todo: &[Vec<usize>], share: usize) -> Vec<Vec<usize>> {
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for bundle in todo.iter().filter(|bundle| !bundle.is_empty()) {
        match batches.last_mut() {
            Some(batch) if batch.len() + bundle.len() <= share => batch.extend(bundle),
            _ => batches.push(bundle.clone()),
        }
    }
    batches
}

/// Sorts deliveries into levels of bundles. Those of one level share no key, and each comes behind all earlier ones it shares a key
/// with; but what one change became has no order in itself and stays in one bundle, because a place that keeps the position with
/// the data notes offsets, not deliveries. What touches the same entry, or one above it, is in one bundle of a level, in its order.
fn levels(work: &[Keyed], refuses: bool) -> Vec<Vec<Vec<usize>>> {
    let mut keys: HashMap<&str, usize> = HashMap::with_capacity(work.len());
    let mut entries = Entries::of(work);
    let mut level_of: Vec<usize> = Vec::with_capacity(work.len());
    let mut bundles = Bundles((0..work.len()).collect());
    for (at, keyed) in work.iter().enumerate() {
        let is_same = |before: usize| {
            let offset = &work[before].delivery.offset;
            *offset == keyed.delivery.offset && !offset.0.is_empty()
        };
        let before = keyed.keys.iter().chain(&keyed.behind);
        let behind = before.filter_map(|key| keys.get(key.as_str()));
        let behind = behind.map(|before| level_of[*before] + usize::from(!is_same(*before)));
        let beside = entries.touch(at, keyed);
        let level = match refuses {
            true => behind
                .chain(beside.iter().map(|before| level_of[*before]))
                .max()
                .unwrap_or(0),
            false => 0,
        };
        level_of.push(level);
        let siblings = (0..at).rev().take_while(|before| is_same(*before));
        for before in siblings.take(1).chain(beside) {
            if level_of[before] == level {
                bundles.join(before, at);
            }
        }
        keys.extend(keyed.keys.iter().map(|key| (key.as_str(), at)));
    }
    let mut levels: Vec<BTreeMap<usize, Vec<usize>>> = Vec::new();
    for (at, level) in level_of.into_iter().enumerate() {
        levels.resize_with(levels.len().max(level + 1), BTreeMap::new);
        levels[level].entry(bundles.first(at)).or_default().push(at);
    }
    levels.into_iter().map(|level| level.into_values().collect()).collect()
}

/// Who has touched the entries of a directory.
struct Entries<'a> {
    /// The last that touched it; nobody yet.
    by_name: HashMap<&'a str, Option<usize>>,
    /// Those that have touched something below it since it was touched itself.
    below: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Entries<'a> {
    fn of(work: &'a [Keyed]) -> Self {
        let names = work.iter().flat_map(|keyed| &keyed.entries);
        Entries {
            by_name: names.map(|name| (name.as_str(), None)).collect(),
            below: HashMap::new(),
        }
    }

    /// Notes what a delivery touches. Returns those before it that touched one of the entries, or one above or below it.
    fn touch(&mut self, at: usize, keyed: &'a Keyed) -> Vec<usize> {
        let mut related = Vec::new();
        for name in &keyed.entries {
            related.extend(self.below.remove(name.as_str()).into_iter().flatten());
            related.extend(self.by_name.insert(name, Some(at)).flatten());
            // (Above all stands the root, which has no name.)
            let commas = name.match_indices(',').map(|(comma, _)| comma + 1);
            for from in commas.chain((!name.is_empty()).then_some(name.len())) {
                let above = &name[from..];
                if let Some(last) = self.by_name.get(above) {
                    related.extend(*last);
                    self.below.entry(above).or_default().push(at);
                }
            }
        }
        related.retain(|before| *before != at);
        related
    }
}

/// Which deliveries belong together: each knows an earlier one, the first knows itself.
struct Bundles(Vec<usize>);

impl Bundles {
    fn first(&mut self, at: usize) -> usize {
        let mut first = at;
        while self.0[first] != first {
            self.0[first] = self.0[self.0[first]];
            first = self.0[first];
        }
        first
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.first(one), self.first(other));
        self.0[one.max(other)] = one.min(other);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::errors::{Error, Kind};
    use crate::sink::{Action, Finding, Message, Offset};

    /// Writes down what arrives; refuses ids that begin with `bad`, has no answer to `mute`, is down for `down`, and behind three `mute` of a batch, and goes on behind
    /// `gone`.
    struct Book(Arc<Mutex<Vec<String>>>);

    impl Sink for Book {
        fn deliver(&mut self, batch: &[Delivery]) -> Vec<Outcome> {
            let mut outcomes = Vec::new();
            let is_mute =
                |outcome: &Outcome| matches!(outcome, Outcome::Failed(fault) if fault.verdict == Verdict::Silent);
            for delivery in batch {
                let is_down = outcomes.len() >= 3 && outcomes.iter().rev().take(3).all(is_mute);
                if is_down || delivery.id.starts_with("down") {
                    outcomes.push(Outcome::Failed(Fault::down("gone")));
                    break;
                }
                outcomes.push(if delivery.id.starts_with("gone") {
                    Outcome::Failed(Fault::down("gone"))
                } else if delivery.id.starts_with("bad") {
                    Outcome::Failed(Fault::never("no"))
                } else if delivery.id.starts_with("mute") {
                    Outcome::Failed(Fault::silent("nothing"))
                } else {
                    self.0.lock().unwrap().push(delivery.id.clone());
                    Outcome::Written
                });
            }
            outcomes
        }

        fn probe(&mut self) -> Result<Vec<Finding>, Fault> {
            Ok(Vec::new())
        }

        fn preview(&mut self, _: &[Delivery]) -> Result<Vec<String>, Fault> {
            Ok(Vec::new())
        }
    }

    fn keyed(text: &str) -> Keyed {
        let (id, keys) = text.split_once(':').unwrap();
        Keyed {
            delivery: Delivery {
                id: id.to_owned(),
                binding: "b".into(),
                offset: Offset(String::new()),
                time: String::new(),
                replay: None,
                retried: false,
                event: None,
                action: Action::Message(Message {
                    address: String::new(),
                    key: String::new(),
                    event_type: String::new(),
                    body: String::new(),
                    is_cloud_event: true,
                    headers: Vec::new(),
                }),
            },
            keys: keys
                .split(',')
                .filter(|key| !key.starts_with('='))
                .map(str::to_owned)
                .collect(),
            entries: keys
                .split(',')
                .filter_map(|key| key.strip_prefix('='))
                .map(|name| name.replace('/', ","))
                .collect(),
            behind: Vec::new(),
            is_tie: id.starts_with("tie"),
        }
    }

    fn run(lanes: usize, work: &str) -> (Vec<String>, Vec<Fate>, Option<Fault>) {
        run_after(&mut Silence::default(), lanes, work)
    }

    fn run_after(silence: &mut Silence, lanes: usize, work: &str) -> (Vec<String>, Vec<Fate>, Option<Fault>) {
        run_batches(silence, lanes, 2, work)
    }

    /// Lanes of a place that refuses what comes behind a refused change, all into one book.
    fn into_book(book: &Arc<Mutex<Vec<String>>>, lanes: usize, lease: Lease, batch: usize) -> Lanes {
        let mut all = Lanes {
            lanes: Vec::new(),
            lease: Arc::new(lease),
            batch,
            refuses: true,
            may_go_on: true,
        };
        (0..lanes).for_each(|_| all.add(Box::new(Book(Arc::clone(book)))));
        all
    }

    fn run_batches(
        silence: &mut Silence,
        lanes: usize,
        batch: usize,
        work: &str,
    ) -> (Vec<String>, Vec<Fate>, Option<Fault>) {
        let book = Arc::new(Mutex::new(Vec::new()));
        let mut all = into_book(&book, lanes, Lease::default(), batch);
        let work: Vec<Keyed> = work.split_whitespace().map(keyed).collect();
        let (fates, down) = all.deliver(&work, silence, &Stop::default(), &mut || Ok(true)).unwrap();
        drop(all);
        let arrived = book.lock().unwrap().clone();
        (arrived, fates, down)
    }

    #[test]
    fn the_order_of_a_key_is_kept() {
        for lanes in 1..4 {
            let (arrived, fates, down) = run(lanes, "a1:a b1:b a2:a ab:a,b a3:a b2:b c1:c");
            assert!(down.is_none() && fates.iter().all(|fate| *fate == Fate::Done(Outcome::Written)));
            let at = |id: &str| arrived.iter().position(|arrived| arrived == id).unwrap();
            assert!(at("a1") < at("a2") && at("a2") < at("ab") && at("b1") < at("ab"));
            assert!(at("ab") < at("a3") && at("ab") < at("b2"));
        }
    }

    #[test]
    fn what_touches_one_entry_is_given_to_one_connection() {
        let shown = |work: &str| {
            let work: Vec<Keyed> = work.split_whitespace().map(keyed).collect();
            format!("{:?}", levels(&work, true))
        };
        assert_eq!(
            shown("1:r1,=a,=b 2:r2 3:r3,=b,=a"),
            "[[[0, 2], [1]]]",
            "two rows exchange names"
        );
        assert_eq!(shown("1:r1,=a 2:r1,=b 3:r2,=b 4:r3,=a"), "[[[0, 3]], [[1, 2]]]");
        assert_eq!(shown("1:r1,=a 2:r2,=b 3:r3,=a,=b"), "[[[0, 1, 2]]]");
        assert_eq!(
            shown("1:r1,=p/o 2:r2,=q/o 3:r3,=r 4:r4,=o 5:r5,=p/o"),
            "[[[0, 1, 3, 4], [2]]]",
            "what is below an entry that is touched"
        );
        assert_eq!(
            shown("1:r1,=o,=n 2:r2,=p/o 3:r2,=p/o,=p/n 4:r3,=q/m 5:r4,=n"),
            "[[[0, 1], [3]], [[2, 4]]]"
        );
        assert_eq!(shown("1:r1,=p/o 2:r2,=q/o"), "[[[0], [1]]]", "only beside each other");
        assert_eq!(
            shown("1:r1,=p/o 2:r2,= 3:r3,=q"),
            "[[[0, 1, 2]]]",
            "the root is above all"
        );
        assert_eq!(
            batches(&[vec![0, 3], vec![1], vec![2], vec![4]], 2),
            [vec![0, 3], vec![1, 2], vec![4]]
        );
    }

    #[test]
    fn what_is_behind_a_refused_one_waits() {
        let (arrived, fates, down) = run(2, "bad1:a b1:b a2:a ab:a,b b2:b c:c");
        assert!(down.is_none());
        assert_eq!(fates[0], Fate::Done(Outcome::Failed(Fault::never("no"))));
        assert_eq!([&fates[2], &fates[3], &fates[4]], [&Fate::Behind; 3]);
        assert_eq!(arrived.len(), 2, "{arrived:?}");
    }

    #[test]
    fn a_row_that_got_another_key_keeps_its_order_though_nothing_is_made_of_that() {
        let (arrived, fates, _) = run(2, "bad1:a tie:a,b b1:b c:c");
        assert_eq!([&fates[1], &fates[2]], [&Fate::Behind; 2]);
        assert_eq!(arrived, ["c"]);
        let (arrived, fates, _) = run(2, "a1:a tie:a,b b1:b");
        assert_eq!(fates[1], Fate::Done(Outcome::Unchanged));
        assert_eq!(arrived, ["a1", "b1"]);
        let book = Arc::new(Mutex::new(Vec::new()));
        let mut all = into_book(&book, 1, Lease::default(), 2);
        all.refuses = false;
        let work: Vec<Keyed> = "bad1:a tie:a,b b1:b".split(' ').map(keyed).collect();
        let fates = all.deliver(&work, &mut Silence::default(), &Stop::default(), &mut || Ok(true));
        assert_eq!(fates.unwrap().0[1..], [Fate::NotTried, Fate::NotTried][..]);
        let work: Vec<Keyed> = "tie:a,b b1:b tie:b,c c1:c".split(' ').map(keyed).collect();
        let fates = all.deliver(&work, &mut Silence::default(), &Stop::default(), &mut || Ok(true));
        let (arrived, [first, .., last]) = (book.lock().unwrap().last().cloned(), &fates.unwrap().0[..]) else {
            panic!()
        };
        assert_eq!(
            (arrived.as_deref(), first, last),
            (Some("b1"), &Fate::Done(Outcome::Unchanged), &Fate::NotTried)
        );
    }

    #[test]
    fn a_place_with_one_order_gets_nothing_behind_a_refusal_in_the_same_call() {
        let book = Arc::new(Mutex::new(Vec::new()));
        let mut all = into_book(&book, 1, Lease::default(), 2);
        all.refuses = false;
        let work: Vec<Keyed> = "a:a bad1:b c:c d:d".split(' ').map(keyed).collect();
        let (fates, down) = all
            .deliver(&work, &mut Silence::default(), &Stop::default(), &mut || Ok(true))
            .unwrap();
        assert!(down.is_none());
        assert_eq!(fates[1], Fate::Done(Outcome::Failed(Fault::never("no"))));
        assert_eq!([&fates[2], &fates[3]], [&Fate::NotTried; 2]);
    }

    #[test]
    fn what_gets_no_answer_is_put_off_when_others_get_one_or_may() {
        let mut silence = Silence::default();
        let mut is_down = |work: &str, silent: usize| {
            let (_, fates, down) = run_after(&mut silence, 2, work);
            let is_silent =
                |fate: &&Fate| matches!(fate, Fate::Done(Outcome::Failed(fault)) if fault.verdict == Verdict::Silent);
            assert_eq!(fates.iter().filter(is_silent).count(), silent, "{work}: {fates:?}");
            if down.is_some() {
                assert!(
                    !fates.contains(&Fate::Behind),
                    "what is behind it is not behind something that failed"
                );
            }
            down.is_some()
        };
        assert!(
            !is_down("mute1:a b:b mute2:c mute3:d mute4:e", 4),
            "another one was answered"
        );
        assert!(!is_down("mute1:a", 1) && !is_down("mute2:a mute3:b", 2));
        assert!(
            is_down("mute4:a x:a", 0) && is_down("mute4:a mute5:b x:b", 0),
            "nothing was, for a while"
        );
        assert!(!is_down("mute4:a b:b", 1) && !is_down("mute5:a", 1), "it answers again");
        assert!(is_down("mute6:a mute7:b mute8:c x:c", 2));
    }

    #[test]
    fn the_last_one_is_sent_before_a_silent_place_is_down() {
        let mut silence = Silence::default();
        let mut counts = |work: &str| {
            let (arrived, fates, down) = run_batches(&mut silence, 1, 100, work);
            let silent = fates.iter().filter(|fate| is_silence(fate)).count();
            (arrived.len(), silent, down.is_some())
        };
        let six = "mute1:a mute2:b mute3:c mute4:d mute5:e mute6:f";
        assert_eq!(counts(&format!("{six} x:x")), (1, 6, false), "it is about these six");
        assert_eq!(counts(&format!("{six} mute7:g x:x")), (1, 7, false));
        assert_eq!(
            counts(&format!("{six} x:x mute7:g")),
            (0, 3, true),
            "nothing gets an answer"
        );
        assert_eq!(counts("mute4:d mute5:e mute6:f x:x"), (1, 3, false));
        assert_eq!(counts(&format!("{six} down:x")), (0, 3, true));
    }

    #[test]
    fn who_does_not_hold_the_sink_any_more_sends_nothing() {
        let book = Arc::new(Mutex::new(Vec::new()));
        let mut all = into_book(&book, 1, Lease::limited(), 2);
        let mut lost = || Err(Error::message(Kind::Unreachable, "the session is lost"));
        let delivered = all.deliver(&[keyed("a:a")], &mut Silence::default(), &Stop::default(), &mut lost);
        assert!(delivered.is_err() && book.lock().unwrap().is_empty());
    }

    #[test]
    fn nothing_follows_when_the_place_is_down() {
        let (_, fates, down) = run(1, "a1:a down1:b c:c a2:a");
        assert_eq!(down.unwrap().verdict, Verdict::Down);
        assert_eq!(fates[0], Fate::Done(Outcome::Written));
        assert_eq!([&fates[1], &fates[3]], [&Fate::NotTried; 2]);
    }

    #[test]
    fn what_arrived_behind_what_all_waits_for_is_not_tried_again() {
        let (arrived, fates, down) = run_batches(&mut Silence::default(), 1, 10, "a:a gone:b c:c d:a");
        assert_eq!(down.unwrap().verdict, Verdict::Down);
        assert_eq!(
            (arrived, &fates[1]),
            (vec!["a".to_owned(), "c".to_owned()], &Fate::NotTried)
        );
        assert_eq!([&fates[0], &fates[2]], [&Fate::Done(Outcome::Written); 2]);
        assert_eq!(fates[3], Fate::NotTried, "it comes behind a level that is not done");
    }

    #[test]
    fn who_may_not_go_on_sends_nothing_more() {
        let book = Arc::new(Mutex::new(Vec::new()));
        let mut all = into_book(&book, 1, Lease::limited(), 2);
        let work = [keyed("a:a")];
        let (fates, down) = all
            .deliver(&work, &mut Silence::default(), &Stop::default(), &mut || Ok(false))
            .unwrap();
        assert!(down.is_none() && !all.may_go_on() && book.lock().unwrap().is_empty());
        assert_eq!(fates, [Fate::NotTried]);
    }
}
