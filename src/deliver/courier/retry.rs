//! Tries again what is set aside and due, each queue in its order.
//!
//! Of a binding that keeps a state, what waits of a row is tried as one step. That it is being tried is on record before: if the worker
//! ends before the outcome is, the same step is repeated as it was, and what came later is a step of its own behind it. When the place refuses it now,
//! it may be there all the same, from the time before: it is tried as one with what came later, which begins from either state.
//! What was discarded meanwhile is not tried: before each step it is known whether it waits still; only of the one that is under way nobody asks.
//! A row that was refused may be there too: `emaj init` and `emaj replay` send what a place may have. So of one that came, and is gone
//! or makes another thing now, what it made first is taken away; what is not there is no less there then.
//! Where a place takes rows in sets, what was refused alone is tried together too: rows may need each other.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::Courier;
use super::claim::look;
use crate::deliver::ask::unasked;
use crate::deliver::binding::{Bound, Come, every_row_of, its_row_waits};
use crate::deliver::lanes::{Fate, Keyed, Silence};
use crate::deliver::row::Row;
use crate::deliver::set_aside::{merged, read, state_after};
use crate::deliver::stream::Placed;
use crate::errors::Result;
use crate::fail_at::passing;
use crate::journal::{self, FailureKept, FailureState};
use crate::sink::{Fault, Outcome, Verdict};

/// What became of a change that was tried again.
enum Tried {
    /// It arrived.
    Arrived,
    /// There is nothing to be done about it.
    Nothing,
    /// The place refused it: nothing of it is there.
    Refused(Fault),
    /// It could not even be rendered.
    NotMade(Fault),
    /// Some of it is there.
    Partly(Fault),
    /// The place is down, some of it was discarded, or this courier was told to stop: the queue is to be read anew.
    Interrupted,
}

/// One step on the way out of a queue: a change, or what several of them amount to.
struct Step {
    /// Its binding.
    at: usize,
    change: Placed,
    /// From where what the row had made may have been taken along meanwhile, with an entry that another row has renamed: the rows as they were between,
    /// and what they are to be.
    along: Vec<Placed>,
    ids: Vec<i64>,
    /// Those of them that were not being tried when a worker ended.
    fresh: Vec<i64>,
    /// It was being tried when a worker ended, as it is: it may be there.
    begun: bool,
    /// The row came with it: of what it was at first it is not known whether anything was ever there.
    came: bool,
}

/// How much of a queue is tried, and what is one step of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Together {
    /// As much as is read at once; what was being tried is repeated as it was.
    Part,
    /// All of it; what was being tried is repeated as it was.
    AsItWas,
    /// It is one with what came later.
    All,
}

/// What became of a queue that was tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Queue {
    /// Nothing of it waits any more, or a person has to look at it.
    Settled,
    /// Its first change was refused, and is tried again.
    Waits,
    /// There was no time for all of it.
    Part,
    /// It is to be read anew, when the sink has been looked after.
    Interrupted,
}

/// How long what is due is tried before what has come since has its turn.
const TURN: Duration = Duration::from_secs(3);

/// What was tried of what is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// There was nothing.
    Nothing,
    /// All of it, or the sink is to be looked after.
    All,
    /// As much as there was time for.
    Part,
}

/// How many changes of a queue are read at once.
const READ: usize = 1_000;

/// How many queues that are not due are tried together with those that are: trying them all each time would be much work where much waits.
const BESIDE: i64 = 100;

/// How often it is asked, while a queue is tried, whether an installation has changed what the sink is fed by.
const ASK: Duration = Duration::from_secs(1);

impl Courier<'_> {
    /// Tries again what is due, each queue in its order, while no window is under way.
    pub(super) fn retry_due(&mut self) -> Result<Due> {
        if !self.is_fed_as_known()? {
            self.load()?;
        }
        let due = journal::due(
            &mut *self.sessions.keeper,
            &self.orders.schema,
            &self.orders.sink.name.value,
        )?;
        if due.is_empty() {
            return Ok(Due::Nothing);
        }
        let (end, mut waits, mut tried) = (Instant::now() + TURN, Vec::new(), Due::All);
        for queue in &due {
            if self.orders.stop.is_set() {
                return Ok(Due::All);
            }
            if Instant::now() > end {
                tried = Due::Part;
                break;
            }
            match self.retry_queue(queue, end)? {
                Queue::Settled => {}
                Queue::Waits => waits.push(queue.clone()),
                // (The next of it is due, and so are those behind it.)
                Queue::Part => tried = Due::Part,
                Queue::Interrupted => {
                    self.parked_mark = None;
                    return Ok(Due::All);
                }
            }
        }
        // (What refuses rows one by one and keeps no order of its own does not check them together.)
        if !waits.is_empty() && !self.opener.refuses() {
            self.retry_together(&waits)?;
        }
        self.parked_mark = None;
        self.reload_parked()?;
        Ok(tried)
    }

    /// Tries together the first steps of queues that were tried alone and have to wait, and of others.
    fn retry_together(&mut self, queues: &[String]) -> Result<()> {
        let (schema, name) = (self.orders.schema.as_str(), self.orders.sink.name.value.as_str());
        let queues = journal::tried_again(&mut *self.sessions.keeper, schema, name, queues, BESIDE)?;
        if queues.len() < 2 {
            return Ok(());
        }
        let (mut ids, mut keyed) = (Vec::new(), Vec::new());
        for queue in &queues {
            let waiting = journal::queue(&mut *self.sessions.keeper, schema, name, queue, None)?;
            let first = self.steps(&waiting, Together::AsItWas)?.into_iter().next();
            // (What takes several deliveries is tried alone.)
            let is_one = |step: &Step| self.fed.bound[step.at].keeps_state() && step.along.is_empty();
            let Some(step) = first.filter(is_one) else {
                continue;
            };
            match self.render_again(step.at, &step.change)? {
                // Tried alone, it is settled.
                Err(_) | Ok(None) => {}
                Ok(Some(made)) => {
                    ids.push((step.ids, step.fresh));
                    keyed.push(made);
                }
            }
        }
        let tried: Vec<i64> = ids.iter().flat_map(|(ids, _)| ids.iter().copied()).collect();
        if !self.begin(&tried)? {
            return Ok(());
        }
        let Some(fates) = self.send(&keyed)? else {
            return Ok(());
        };
        passing("retry.delivered");
        let (mut arrived, mut left) = (Vec::new(), Vec::new());
        for ((ids, fresh), fate) in ids.into_iter().zip(fates) {
            match fate {
                Fate::Done(Outcome::Written | Outcome::Unchanged) => arrived.push(ids),
                _ => left.push(fresh),
            }
        }
        self.orders
            .status
            .update(self.name(), |status| status.written += arrived.len() as u64);
        journal::arrived(&mut *self.sessions.keeper, &self.orders.schema, &arrived.concat(), &[])?;
        journal::not_begun(&mut *self.sessions.keeper, &self.orders.schema, &left.concat())
    }

    /// Tries a queue from its front to the first change that is refused, or to the first that arrives after `end`.
    fn retry_queue(&mut self, queue: &str, end: Instant) -> Result<Queue> {
        loop {
            match self.retry_part(queue, Together::Part, end)? {
                Queue::Part if Instant::now() <= end && !self.orders.stop.is_set() => {}
                done => return Ok(done),
            }
        }
    }

    /// Tries a queue as [`retry_queue`](Self::retry_queue), as far as it is read at once.
    fn retry_part(&mut self, queue: &str, together: Together, end: Instant) -> Result<Queue> {
        let schema = self.orders.schema.as_str();
        let most = (together == Together::Part).then_some(READ as i64);
        let waiting = journal::queue(
            &mut *self.sessions.keeper,
            schema,
            &self.orders.sink.name.value,
            queue,
            most,
        )?;
        let is_cut = most.is_some() && waiting.len() >= READ;
        let steps = self.steps(&waiting, together)?;
        // (When the first of it cannot be read, there are none.)
        let has_more = is_cut && !steps.is_empty();
        let mut left: BTreeSet<i64> = steps.iter().flat_map(|step| step.ids.iter().copied()).collect();
        let mut steps = steps.into_iter().peekable();
        while let Some(step) = steps.next() {
            let (fault, may_be_there) = match self.try_step(&step)? {
                Tried::Interrupted => return Ok(Queue::Interrupted),
                Tried::Arrived | Tried::Nothing => {
                    passing("retry.delivered");
                    let next = steps.peek().map_or(&[][..], |next| next.ids.as_slice());
                    let is_there = journal::arrived(&mut *self.sessions.keeper, schema, &step.ids, next)?;
                    passing("retry.noted");
                    if !is_there || self.pace.asked.elapsed() > ASK && !self.is_fed_as_known()? {
                        return Ok(Queue::Interrupted);
                    }
                    step.ids.iter().for_each(|id| _ = left.remove(id));
                    if Instant::now() > end && steps.peek().is_some() {
                        return Ok(Queue::Part);
                    }
                    continue;
                }
                // With what came later it may be acceptable.
                _ if is_cut && self.fed.bound[step.at].keeps_state() => {
                    return self.retry_part(queue, Together::AsItWas, end);
                }
                Tried::Refused(_) if step.begun && together != Together::All && left.len() > step.ids.len() => {
                    return self.retry_part(queue, Together::All, end);
                }
                Tried::Refused(fault) | Tried::NotMade(fault) => (fault, false),
                Tried::Partly(fault) => (fault, true),
            };
            // The front of the queue stands for all of it.
            let front = left
                .first()
                .and_then(|id| waiting.iter().find(|kept| kept.failure.id == *id));
            let Some(FailureKept { failure: first, .. }) = front else {
                break;
            };
            let (state, retry_in) = state_after(&fault, first.attempts);
            journal::failed_again(
                &mut *self.sessions.keeper,
                schema,
                first.id,
                state,
                &self.fed.sources.texts.kept(&fault.reason),
                retry_in,
            )?;
            if !may_be_there && self.fed.bound[step.at].keeps_state() {
                journal::not_begun(&mut *self.sessions.keeper, schema, &step.fresh)?;
            }
            return Ok(match state {
                FailureState::Later => Queue::Waits,
                _ => Queue::Settled,
            });
        }
        Ok(if has_more { Queue::Part } else { Queue::Settled })
    }

    /// What is to be done about a queue, in order: of a binding that keeps a state, what waits of a row is one step.
    fn steps(&mut self, waiting: &[FailureKept], together: Together) -> Result<Vec<Step>> {
        let mut steps: Vec<Step> = Vec::with_capacity(waiting.len());
        let mut nobodys = Vec::new();
        for kept in waiting {
            let Some(at) = self
                .fed
                .bound
                .iter()
                .position(|bound| *bound.name == *kept.failure.binding)
            else {
                nobodys.push(kept.failure.id);
                continue;
            };
            let table = self.fed.bound[at].table;
            let Some(change) = read(&kept.change, table, &self.fed.sources.tables[table]) else {
                if kept.failure.id == waiting[0].failure.id {
                    let (state, reason) = (FailureState::Never, "what is on record of it cannot be read");
                    journal::failed_again(
                        &mut *self.sessions.keeper,
                        &self.orders.schema,
                        kept.failure.id,
                        state,
                        reason,
                        None,
                    )?;
                }
                break;
            };
            // (An interrupted try of this courier's own is simply made again.)
            let begun = kept.begun && !self.begun_here.contains(&kept.failure.id);
            steps.push(Step {
                at,
                change,
                along: Vec::new(),
                ids: vec![kept.failure.id],
                fresh: (!begun).then_some(kept.failure.id).into_iter().collect(),
                begun,
                came: false,
            });
        }
        if !nobodys.is_empty() {
            // Their binding is gone: nobody wants them any more.
            journal::arrived(&mut *self.sessions.keeper, &self.orders.schema, &nobodys, &[])?;
        }
        let steps = told_once(&self.fed.bound, steps, together);
        if together == Together::All {
            return Ok(joined(&self.fed.bound, steps));
        }
        let (begun, rest): (Vec<Step>, Vec<Step>) = steps.into_iter().partition(|step| step.begun);
        let mut all = joined(&self.fed.bound, begun);
        all.extend(joined(&self.fed.bound, rest));
        Ok(all)
    }

    /// Tries one step again.
    fn try_step(&mut self, step: &Step) -> Result<Tried> {
        let mut tried = self.try_again(step, &step.change)?;
        let nothing_made = matches!(&tried, Tried::NotMade(fault) if fault.verdict == Verdict::Never);
        // Of what nothing can be made nothing is there.
        if step.came && (nothing_made || matches!(tried, Tried::Nothing)) {
            let mut change = step.change.clone();
            change.change.old = None;
            tried = self.try_again(step, &change)?;
        }
        if matches!(tried, Tried::Nothing) {
            tried = Tried::Arrived;
        }
        if !matches!(tried, Tried::Arrived) {
            return Ok(tried);
        }
        for change in &step.along {
            match self.try_again(step, change)? {
                Tried::Refused(fault) | Tried::NotMade(fault) => return Ok(Tried::Partly(fault)),
                Tried::Arrived | Tried::Nothing => {}
                other => return Ok(other),
            }
        }
        Ok(Tried::Arrived)
    }

    /// Tries a change of a step again.
    fn try_again(&mut self, step: &Step, change: &Placed) -> Result<Tried> {
        let waits_for = self.fed.bound[step.at].waits_for(&change.change, &self.fed.bound);
        // (Something of it may have arrived since that was read.)
        if self.parked.holds(&waits_for) && self.is_set_aside(&waits_for)? {
            return Ok(Tried::NotMade(its_row_waits()));
        }
        let keyed = match self.render_again(step.at, change)? {
            Err(fault) => return Ok(Tried::NotMade(fault)),
            Ok(None) => return Ok(Tried::Nothing),
            Ok(Some(keyed)) => keyed,
        };
        if !step.begun && self.fed.bound[step.at].keeps_state() {
            let is_there = self.begin(&step.ids)?;
            passing("retry.begun");
            if !is_there {
                return Ok(Tried::Interrupted);
            }
        }
        let Some(fates) = self.send(std::slice::from_ref(&keyed))? else {
            return Ok(Tried::Interrupted);
        };
        if let Some(Fate::Done(Outcome::Failed(fault))) = fates.into_iter().next() {
            return Ok(Tried::Refused(fault));
        }
        self.orders.status.update(self.name(), |status| status.written += 1);
        let mut come = Come::default();
        come.note(&keyed.delivery, &change.change);
        Ok(match self.deliver_anew(&come, change, None)? {
            true => Tried::Arrived,
            false => Tried::Interrupted,
        })
    }

    /// Tells whether something is set aside that has one of `keys`.
    fn is_set_aside(&mut self, keys: &[String]) -> Result<bool> {
        let (schema, name) = (self.orders.schema.as_str(), self.orders.sink.name.value.as_str());
        let every = keys.iter().filter_map(|key| every_row_of(key)).map(str::to_owned);
        let keys: Vec<String> = keys.iter().cloned().chain(every).collect();
        journal::is_set_aside(&mut *self.sessions.keeper, schema, name, &keys)
    }

    /// Puts on record that changes are being tried. `false`: some of them do not wait any more.
    fn begin(&mut self, ids: &[i64]) -> Result<bool> {
        self.begun_here.extend(ids);
        journal::begun(&mut *self.sessions.keeper, &self.orders.schema, ids)
    }

    /// Renders a change that is tried again; within is why it cannot be.
    fn render_again(&mut self, at: usize, change: &Placed) -> Result<Result<Option<Keyed>, Fault>> {
        let one = self.one_keys(std::slice::from_ref(change))?;
        let mut made = self.render(at, change, &one, None);
        match &mut made {
            Err(fault) if fault.verdict == Verdict::Down => return Err(unasked(fault.clone())),
            Ok(Some(made)) => made.delivery.retried = true,
            Ok(None) | Err(_) => {}
        }
        Ok(made)
    }

    /// Gives deliveries to the place. `None`: it is down, or this courier was told to stop.
    fn send(&mut self, keyed: &[Keyed]) -> Result<Option<Vec<Fate>>> {
        let Some(lanes) = &mut self.place.lanes else {
            return Ok(None);
        };
        // One that gets no answer is set aside already: of the place it says nothing.
        let mut silence = Silence::default();
        let (orders, keeper, cursor) = (self.orders, &mut self.sessions.keeper, &self.progress.cursor);
        let mut may_go_on = || look(orders, keeper, cursor).map(|look| look.is_some());
        let (fates, down) = lanes.deliver(keyed, &mut silence, &orders.stop, &mut may_go_on)?;
        if down.is_none() && silence == Silence::default() {
            self.place.silence = silence;
        }
        if let Some(fault) = down {
            // What waits may be discarded until it is up.
            self.is_down(&fault, true)?;
            return Ok(None);
        }
        Ok((!fates.contains(&Fate::NotTried)).then_some(fates))
    }

    /// Asks whether the sink is fed by what this courier knows.
    fn is_fed_as_known(&mut self) -> Result<bool> {
        self.pace.asked = Instant::now();
        let (keeper, schema) = (&mut *self.sessions.keeper, &self.orders.schema);
        Ok(journal::structure_of(keeper, schema, &self.orders.sink.name.value)? == self.fed.structure)
    }
}

/// Makes one step of what waits of a change and of the same change that a replay told again, of a binding that keeps a state: as two they would be
/// two rows. It stands where the replay told it, behind what that told before. What is to be repeated as it was stays as it is.
fn told_once(bound: &[Bound], steps: Vec<Step>, together: Together) -> Vec<Step> {
    let mut all: Vec<Option<Step>> = Vec::with_capacity(steps.len());
    let mut known: HashMap<(usize, i64, i64, u64), Vec<usize>> = HashMap::new();
    for mut step in steps {
        let Placed { relation, change, .. } = &step.change;
        let same_place = known
            .entry((step.at, *relation, change.txid, change.position))
            .or_default();
        let is_same = |first: &Step| {
            let first = &first.change.change;
            (&first.key, &first.old, &first.new) == (&change.key, &change.old, &change.new)
        };
        let may_move = |step: &Step| together == Together::All || !step.begun;
        if step.change.replay.is_some() && !change.is_init && bound[step.at].keeps_state() && may_move(&step) {
            let is_told = |place: &&usize| {
                all[**place]
                    .as_ref()
                    .is_some_and(|first| is_same(first) && may_move(first))
            };
            let told = same_place.iter().find(is_told).copied();
            if let Some(first) = told.and_then(|place| all[place].take()) {
                step.ids.splice(0..0, first.ids);
                step.fresh.splice(0..0, first.fresh);
                step.begun &= first.begun;
            }
        }
        same_place.push(all.len());
        all.push(Some(step));
    }
    all.into_iter().flatten().collect()
}

/// Makes one step for each row of what follows each other of a binding that keeps a state. Messages stay as they are; several bindings can have
/// some in one queue, and one of those may keep a state since an edit of the manifest.
fn joined(bound: &[Bound], steps: Vec<Step>) -> Vec<Step> {
    let mut all = Vec::with_capacity(steps.len());
    let mut steps = steps.into_iter().peekable();
    while let Some(first) = steps.next() {
        let at = first.at;
        let mut run = vec![first];
        while let Some(next) = steps.next_if(|step| step.at == at) {
            run.push(next);
        }
        match bound[at].keeps_state() {
            true => all.extend(amounts(&bound[at], &run)),
            false => all.append(&mut run),
        }
    }
    all
}

/// What several changes of a binding that keeps a state amount to: one step for each row.
fn amounts(bound: &Bound, steps: &[Step]) -> Vec<Step> {
    let changes: Vec<Placed> = steps.iter().map(|step| step.change.clone()).collect();
    let rows = merged(&changes, |row| bound.key_of(row));
    let ends: Vec<Option<Row>> = rows.iter().map(|(whole, _)| whole.change.new.clone()).collect();
    let mut amounts = Vec::with_capacity(rows.len());
    for (number, (mut change, parts)) in rows.into_iter().enumerate() {
        // What another row is in the end is that row's.
        let is_free = |row: &Row| {
            let others = ends.iter().enumerate().filter(|(other, _)| *other != number);
            let mut others = others.filter_map(|(_, end)| end.as_ref());
            others.all(|end| bound.is_another(row, end))
        };
        let first = &changes[parts[0]].change;
        // (What came as a change was refused, and what stands there under its name is somebody else's.)
        let was_sent = first.is_init || changes[parts[0]].replay.is_some();
        let came = was_sent && first.old.is_none() && parts.len() > 1;
        if came {
            let is_left = |row: &&Row| change.change.new.as_ref().is_none_or(|new| bound.is_another(row, new));
            change.change.old = first.new.as_ref().filter(is_left).filter(|row| is_free(row)).cloned();
        }
        let mut along = along(bound, &change, parts.iter().map(|part| &changes[*part]));
        along.extend(again(
            bound,
            &change,
            parts.iter().map(|part| &changes[*part]),
            &is_free,
        ));
        let tried = parts.iter().rposition(|part| steps[*part].begun);
        if let Some(after) = tried.and_then(|tried| parts.get(tried + 1))
            && changes[*after].change.old.as_ref().is_some_and(is_free)
        {
            along.push(instead(&changes[*after], &change));
        }
        amounts.push(Step {
            at: steps[parts[0]].at,
            along,
            change,
            ids: parts.iter().flat_map(|part| steps[*part].ids.iter().copied()).collect(),
            fresh: parts
                .iter()
                .flat_map(|part| steps[*part].fresh.iter().copied())
                .collect(),
            begun: parts.iter().all(|part| steps[*part].begun),
            came,
        });
    }
    amounts
}

/// Returns, of the changes that `whole` amounts to, those before which what the row had made at first may have been taken along, with what it is to be now.
fn along<'a>(bound: &Bound, whole: &Placed, parts: impl Iterator<Item = &'a Placed>) -> Vec<Placed> {
    let Some(first) = &whole.change.old else {
        return Vec::new();
    };
    let mut all: Vec<Placed> = Vec::new();
    for part in parts {
        let is_new = |row: &Row| all.iter().all(|known| known.change.old.as_ref() != Some(row));
        let Some(old) = part.change.old.as_ref().filter(|old| is_new(old)) else {
            continue;
        };
        if bound.may_be_taken_along(first, old) {
            all.push(instead(part, whole));
        }
    }
    all
}

/// Returns, of the changes that `whole` amounts to, those that are delivered again and begin with another thing than it does: a place that was restored from a
/// copy may have that.
fn again<'a>(
    bound: &Bound,
    whole: &Placed,
    parts: impl Iterator<Item = &'a Placed>,
    is_free: &dyn Fn(&Row) -> bool,
) -> Vec<Placed> {
    let ends = [&whole.change.old, &whole.change.new];
    let is_other = |old: &Row| ends.into_iter().flatten().all(|end| bound.is_another(old, end));
    let mut all: Vec<Placed> = Vec::new();
    for part in parts.filter(|part| part.replay.is_some()) {
        let is_new = |old: &Row| {
            let mut known = all.iter().filter_map(|known| known.change.old.as_ref());
            known.all(|known| bound.is_another(known, old))
        };
        let old = part.change.old.as_ref();
        if old.is_some_and(|old| bound.makes_something(old) && is_other(old) && is_new(old) && is_free(old)) {
            all.push(instead(part, whole));
        }
    }
    all
}

/// What makes of the row as it was before a change what it is to be in the end.
fn instead(part: &Placed, whole: &Placed) -> Placed {
    let mut placed = part.clone();
    placed.change.new.clone_from(&whole.change.new);
    placed.change.key.clone_from(&whole.change.key);
    placed
}
