//! What a life consists of: what an application writes, and what people and accidents do.

use std::fmt;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::reliability::named_points::{AGAIN, ASIDE, ON_THE_WAY};

/// The tables at the source. `rid` tells rows apart whatever key they have.
pub(super) const HERE: &str = "
create sequence rids;
create table item (id int primary key, code text, n int, v text, rid bigint default nextval('rids'));
create table arch (id int primary key, code text, n int, v text, rid bigint default nextval('rids'));
create table part (k int, id int, v text, primary key (k, id)) partition by list (k);
create table part_1 partition of part for values in (1);
create table part_2 (v text, gone int, id int not null, k int not null);
alter table part_2 drop column gone;
alter table part attach partition part_2 for values in (2);
create table parent (id int primary key, v text);
create table child (id int primary key, parent int references parent on update cascade deferrable, v text);
create function meddle(k int) returns text language plpgsql as
  'begin update item set n = coalesce(n, 0) + 1 where id = k; return ''ok''; end';";

/// The tables of the other database.
pub(super) const THERE: &str = "
create table item (id int primary key, code text, n int, v text, rid bigint);
create table item_too (like item including all);
create table codes (code text primary key, n int);
create table nums (n int primary key);
create table part (k int, id int, v text, primary key (k, id));
create table parent (id int primary key, v text);
create table child (id int primary key, parent int references parent on update cascade deferrable, v text);";

/// Those of them that may refuse a row, and what they refuse.
pub(super) const REFUSED: &[(&str, &str)] = &[
    ("item", "v <> 'bad'"),
    ("codes", "n <> 13"),
    ("part", "v <> 'bad'"),
    ("parent", "v <> 'bad'"),
    ("child", "v <> 'bad'"),
];

/// What an application may say; K and M stand for small numbers, C, N and V for values, P for a partition's key.
const STATEMENTS: &[&str] = &[
    "insert into item values (K, C, N, V) on conflict (id) do update set code = excluded.code, n = excluded.n, v = excluded.v",
    "insert into item values (K, C, N, V) on conflict (id) do update set code = excluded.code, n = excluded.n, v = excluded.v",
    "update item set code = C where id = K",
    "update item set n = N where id = K",
    "update item set v = V where id = K",
    "delete from item where id = K",
    "update item set id = M where id = K and not exists (select from item where id = M)",
    "update item set id = M where id = K and not exists (select from item where id = M)",
    "update item a set code = b.code from item b where a.id in (K, M) and b.id in (K, M) and a.id <> b.id",
    "update item set v = meddle(M) where id in (K, M)",
    "update item set n = n + 1, v = V where id between K and M",
    "with gone as (delete from item where id = K returning *) insert into item (id, code, n, v) select id, C, n, V from gone",
    "with gone as (delete from item where id = K returning *) insert into arch (id, code, n, v) select id, code, n, v from gone on conflict do nothing",
    "with gone as (delete from arch where id = K returning *) insert into item (id, code, n, v) select id, code, n, v from gone on conflict do nothing",
    "truncate item",
    "insert into arch values (K, C, N, V) on conflict (id) do update set code = excluded.code, n = excluded.n",
    "update arch set code = C where id = K",
    "update arch set id = M where id = K and not exists (select from arch where id = M)",
    "delete from arch where id = K",
    "insert into part values (P, K, V) on conflict (k, id) do update set v = excluded.v",
    "insert into part select P, n, V from generate_series(K, K + M) n on conflict do nothing",
    "update part x set k = 3 - k where id = K and k < 3 and not exists (select from part y where y.id = K and y.k = 3 - x.k)",
    "update part set k = P where id = K and k <> P and not exists (select from part where id = K and k = P) and (select count(*) from part where id = K) = 1",
    "update part x set id = M where id = K and not exists (select from part where id = M)",
    "update part set v = V where id = K",
    "delete from part where id between K and M",
    "truncate part_1",
    "insert into parent values (K, V) on conflict (id) do update set v = excluded.v",
    "delete from parent where id = K",
    "update parent set id = M where id = K and not exists (select from parent where id = M)",
    "insert into child values (K, M, V) on conflict (id) do update set parent = excluded.parent",
    "update child set parent = M where id = K",
    "delete from child where id = K",
];

/// Where a worker may be killed.
fn points() -> Vec<&'static str> {
    [ON_THE_WAY, ASIDE, AGAIN, &["retry.begun"]].concat()
}

/// And an `emaj init` beside those.
const POINTS_OF_INIT: &[&str] = &[
    "init.delivered",
    "init.noted",
    "prune.taken",
    "chunk.delivered",
    "retry.delivered",
];

/// A statement, with what its letters stand for.
#[derive(Clone)]
pub(super) struct Say {
    at: usize,
    k: u8,
    m: u8,
    values: (&'static str, &'static str, &'static str, u8),
}

impl Say {
    pub(super) fn sql(&self) -> String {
        let (code, number, text, part) = self.values;
        let word = |letter: char| match letter {
            'K' => self.k.to_string(),
            'M' => self.m.to_string(),
            'C' => code.to_owned(),
            'N' => number.to_owned(),
            'V' => text.to_owned(),
            'P' => part.to_string(),
            _ => letter.to_string(),
        };
        STATEMENTS[self.at].chars().map(word).collect()
    }
}

/// What becomes of a partition.
#[derive(Clone, Copy, Debug)]
pub(super) enum Partition {
    /// Number 3 comes with rows, its columns in the parent's order or in another one; or goes.
    ComesOrGoes { in_order: bool },
    /// The second one is away while it is written to.
    Away,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The other database.
    Copy,
    /// The file.
    Lines,
}

impl Place {
    pub(super) const ALL: [Place; 2] = [Place::Copy, Place::Lines];

    /// The name of its sink.
    pub(super) fn sink(self) -> &'static str {
        match self {
            Place::Copy => "copy",
            Place::Lines => "lines",
        }
    }
}

/// What of the manifest is changed, to what it was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edit {
    /// The column `v` goes to the other database in capitals.
    Capitals,
    /// Another table there gets the rows of `item`.
    Too,
    /// The condition of `codes`.
    Few,
    /// Whether there is a binding `codes`.
    Codes,
    /// Whether the message of an item cannot be made where `n` is NULL.
    Strict,
    /// Whether an item is told as a row instead.
    AsRow,
}

const EDITS: &[Edit] = &[
    Edit::Capitals,
    Edit::Too,
    Edit::Few,
    Edit::Codes,
    Edit::Strict,
    Edit::Strict,
    Edit::AsRow,
    Edit::AsRow,
];

/// A step of a life. A number says which mark or copy, modulo how many there are, the newest first.
#[derive(Clone)]
pub(super) enum Step {
    /// One transaction.
    Write(Vec<Say>, bool),
    Run,
    Killed(&'static str, u8),
    /// While rows with this key are locked in the other database.
    Locked(u8),
    /// What is bad is refused there from now on, or no longer.
    Refuse,
    Retry,
    Discard(Place),
    Pause(Place),
    Resume(Place),
    Mark,
    Forget,
    Rollback(usize, bool),
    /// Of the last transaction.
    Revert,
    Replay(Place, usize),
    Init {
        binding: Option<usize>,
        prune: bool,
        restart: bool,
        killed: Option<&'static str>,
    },
    Edit(Edit),
    /// Both places are copied, for `Restore`.
    Copy,
    Restore(Place, usize),
    /// As a sink that took nothing for longer than its `max_lag`.
    Lose(Place),
    Partition(Partition),
    /// All is mended, delivered and compared.
    Settle,
}

fn say() -> impl Strategy<Value = Say> {
    let values = (
        select(&["'1'", "'2'", "'3'", "'4'", "'x'", "null"][..]),
        select(&["1", "2", "3", "13", "null"][..]),
        select(&["'ok'", "'a'", "'b'", "'bad'", "'bad'", "null"][..]),
        1..4u8,
    );
    (0..STATEMENTS.len(), 1..6u8, 1..6u8, values).prop_map(|(at, k, m, values)| Say { at, k, m, values })
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![3 => Just(Place::Copy), 2 => Just(Place::Lines)]
}

fn init() -> impl Strategy<Value = Step> {
    let killed = prop::option::weighted(0.4, select(POINTS_OF_INIT));
    let binding = prop::option::weighted(0.4, 0..8usize);
    (binding, any::<bool>(), prop::bool::weighted(0.2), killed).prop_map(|(binding, prune, restart, killed)| {
        Step::Init {
            binding,
            prune,
            restart,
            killed,
        }
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        24 => (vec(say(), 1..7), prop::bool::weighted(0.93)).prop_map(|(said, commit)| Step::Write(said, commit)),
        8 => Just(Step::Run),
        7 => (select(points()), 1..4u8).prop_map(|(point, at)| Step::Killed(point, at)),
        1 => (1..6u8).prop_map(Step::Locked),
        4 => Just(Step::Refuse),
        3 => Just(Step::Retry),
        1 => place().prop_map(Step::Discard),
        1 => place().prop_map(Step::Pause),
        1 => place().prop_map(Step::Resume),
        6 => Just(Step::Mark),
        1 => Just(Step::Forget),
        2 => (0..4usize, any::<bool>()).prop_map(|(at, logged)| Step::Rollback(at, logged)),
        1 => Just(Step::Revert),
        4 => (place(), 0..6usize).prop_map(|(place, at)| Step::Replay(place, at)),
        3 => init(),
        3 => select(EDITS).prop_map(Step::Edit),
        6 => Just(Step::Copy),
        6 => (place(), 0..3usize).prop_map(|(place, at)| Step::Restore(place, at)),
        1 => place().prop_map(Step::Lose),
        1 => prop_oneof![any::<bool>().prop_map(|in_order| Partition::ComesOrGoes { in_order }), Just(Partition::Away)].prop_map(Step::Partition),
        2 => Just(Step::Settle),
    ]
}

/// A life; behind it all is mended.
pub(super) fn life() -> impl Strategy<Value = Vec<Step>> {
    vec(step(), 12..28)
}

impl fmt::Debug for Say {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sql())
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Write(said, commit) => {
                for say in said {
                    write!(f, "{say:?}; ")?;
                }
                f.write_str(if *commit { "commit" } else { "rollback" })
            }
            Step::Run => f.write_str("run"),
            Step::Killed(point, at) => write!(f, "run, killed at {point}:{at}"),
            Step::Locked(key) => write!(f, "run, {key} is locked there"),
            Step::Refuse => f.write_str("what is bad is refused there, or no longer"),
            Step::Retry => f.write_str("retry"),
            Step::Discard(place) => write!(f, "discard {}", place.sink()),
            Step::Pause(place) => write!(f, "pause {}", place.sink()),
            Step::Resume(place) => write!(f, "resume {}", place.sink()),
            Step::Mark => f.write_str("mark"),
            Step::Forget => f.write_str("delete the oldest marks, and purge"),
            Step::Rollback(at, logged) => write!(f, "rollback {at}{}", if *logged { "" } else { ", unlogged" }),
            Step::Revert => f.write_str("revert the last transaction"),
            Step::Replay(place, at) => write!(f, "replay {} from {at}", place.sink()),
            Step::Init {
                binding,
                prune,
                restart,
                killed,
            } => write!(
                f,
                "init, binding {binding:?}, prune {prune}, restart {restart}, killed at {killed:?}"
            ),
            Step::Edit(edit) => write!(f, "edit {edit:?}"),
            Step::Copy => f.write_str("copy both places"),
            Step::Restore(place, at) => write!(f, "restore {} from copy {at}", place.sink()),
            Step::Lose(place) => write!(f, "lose {}", place.sink()),
            Step::Partition(what) => write!(f, "partition: {what:?}"),
            Step::Settle => f.write_str("settle"),
        }
    }
}
