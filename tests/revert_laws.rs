//! What is reverted is as it was before, all else as it is; and what cannot be reverted so is refused, and nothing is changed: lives by chance.
//!
//! Two roles write, in transactions that overlap. Triggers note every change of a row, those of cascades among them; by that note
//! a model takes back what is chosen, a transaction, a role's changes or those of one row, event by event, backwards. It also says who has
//! changed one of these keys later, and which rows would refer to none: a revert is refused for that, and for nothing else. Marks are
//! set and rolled back to in between, and reverts themselves are undone. A life that fails is made shorter, and shown as SQL.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use postgres::Client;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

use crate::support::steps::{Failed, tell_all, without_one};
use crate::support::story::described;
use crate::support::{Database, database, emaj, owner, scale};

const TABLES: &str = "
create schema app;
create table app.par (id int primary key, v text, u int unique);
create table app.chi (id int primary key, par int references app.par on delete cascade on update cascade, v text);
create table app.gch (id int primary key, chi int references app.chi deferrable initially deferred, v text);
create table app.slf (id int primary key, up int references app.slf on delete set null, v text);
create table app.num (id numeric primary key, v text);
create table app.dpk (id int primary key deferrable, v text);
create table app.dpr (id int primary key deferrable, v text);
create table app.ren (id int primary key, v text);
create table app.rer (id int primary key, v text);
create table app.prt (id int, r int, v text, primary key (r, id)) partition by list (r);
create table app.prt_0 partition of app.prt for values in (0);
create table app.prt_1 (v text, gone int, id int not null, r int not null);
alter table app.prt_1 drop column gone;
alter table app.prt attach partition app.prt_1 for values in (1);
create table app.cmp (a text, b int, v text, x int unique, primary key (a, b));
create table app.doc (id int primary key, j jsonb, f float8, t timestamptz, l text[]);
create table app.said (n bigserial primary key, tx bigint, who text, name text, old jsonb, new jsonb);
create function app.say() returns trigger language plpgsql security definer as $$
  begin
    if tg_op = 'TRUNCATE' then
      execute format('insert into app.said (tx, who, name, old) select txid_current(), session_user, %L, to_jsonb(of_row) from %s of_row', tg_argv[0], tg_relid::regclass);
    else
      insert into app.said (tx, who, name, old, new) values (txid_current(), session_user, tg_argv[0],
        case when tg_op <> 'INSERT' then to_jsonb(old) end, case when tg_op <> 'DELETE' then to_jsonb(new) end);
    end if;
    return null;
  end $$;
insert into app.par select n, 'p', n from generate_series(1, 6) n;
insert into app.chi select n, n, 'c' from generate_series(1, 5) n;
insert into app.gch select n, n, 'g' from generate_series(1, 4) n;
insert into app.slf select n, nullif(n - 1, 0), 's' from generate_series(1, 5) n;
insert into app.num select n, 'n' from generate_series(1, 5) n;
insert into app.dpk select n, 'd' || n from generate_series(1, 5) n;
insert into app.dpr select n, 'd' || n from generate_series(1, 5) n;
insert into app.ren select n, 'r' || n from generate_series(1, 6) n;
insert into app.rer select n, 'r' || n from generate_series(6, 1, -1) n;
insert into app.prt select n, n % 2, 't' from generate_series(1, 6) n;
insert into app.cmp select 'a' || n % 2, n, 'm', n from generate_series(1, 5) n;
insert into app.doc select n, jsonb_build_object('a', n), n / 3.0::float8, '2026-01-01'::timestamptz + n * interval '1 hour', array['x', n::text] from generate_series(1, 5) n;";

/// The tables with the columns of their keys.
const KEYS: &[(&str, &[&str])] = &[
    ("chi", &["id"]),
    ("cmp", &["a", "b"]),
    ("doc", &["id"]),
    ("dpk", &["id"]),
    ("dpr", &["id"]),
    ("gch", &["id"]),
    ("num", &["id"]),
    ("par", &["id"]),
    ("prt", &["r", "id"]),
    ("ren", &["id"]),
    ("rer", &["id"]),
    ("slf", &["id"]),
];

const MANIFEST: &str = "version: 1
roles: { admin: null, viewer: null }
groups:
  g:
    tables: [app.chi, app.cmp, app.doc, app.dpk, app.dpr, app.gch, app.num, app.par, app.prt, app.ren, app.rer, app.slf]
    table_options: { app.dpr: { capture: row }, app.slf: { capture: row }, app.rer: { capture: statement } }
";

/// What the two roles may say; K and M stand for small numbers.
const STATEMENTS: &[&str] = &[
    "insert into app.par values (K, 'n', M)",
    "insert into app.par values (K, 'x', K) on conflict (id) do update set v = 'up'",
    "update app.par set v = v || 'K' where id in (K, M)",
    "update app.par set id = K + 6 where id = K",
    "update app.par set u = M where id = K",
    "update app.par set v = v where id = K",
    "delete from app.par where id = K",
    "insert into app.chi values (K, M, 'n')",
    "update app.chi set par = M where id = K",
    "update app.chi set id = M + 5 where id = K",
    "update app.chi set v = 'K'",
    "delete from app.chi where par = M",
    "insert into app.gch values (K, M, 'n')",
    "update app.gch set chi = M where id = K",
    "update app.gch set v = v || 'M'",
    "update app.gch set id = id + 3 where id = K",
    "delete from app.gch where id = K",
    "truncate app.gch",
    "insert into app.slf values (K, M, 'n')",
    "update app.slf set up = M where id = K",
    "update app.slf set v = 'M' where id >= K",
    "update app.slf set id = K + 9 where id = K and not exists (select from app.slf x where x.up = K)",
    "delete from app.slf where id in (K, M)",
    "insert into app.num values (K, 'n')",
    "update app.num set id = K.00 where id = K",
    "update app.num set id = M where id = K",
    "update app.num set id = K.0, v = 'z' where id = K",
    "update app.num set v = v || 'M' where id = K",
    "delete from app.num where id = K",
    "truncate app.num",
    "insert into app.dpk values (K, 'n')",
    "update app.dpk set id = id + 1",
    "update app.dpk set id = K + M - id where id in (K, M)",
    "update app.dpk set v = 'K' where id = M",
    "delete from app.dpk where id = K",
    "insert into app.dpr values (K, 'n')",
    "update app.dpr set id = id + 1",
    "update app.dpr set id = K + M - id where id in (K, M)",
    "update app.dpr set v = 'K' where id = M",
    "delete from app.dpr where id = K",
    "insert into app.ren values (K, 'n')",
    "delete from app.ren where id = K",
    "delete from app.ren where id = K; update app.ren set id = id - 1 where id > K",
    "update app.ren set id = id - 1 where id > K and not exists (select from app.ren where id = K)",
    "update app.ren set id = M where id = K",
    "update app.ren set v = v || 'K' where id >= M",
    "insert into app.rer values (K, 'n')",
    "update app.rer set id = id + 1 where id >= K",
    "update app.rer set id = id + 1, v = v || 'M' where id > K",
    "delete from app.rer where id = K; update app.rer set id = id - 1 where id > K",
    "update app.rer set v = 'K' where id = M",
    "delete from app.rer where id = K",
    "insert into app.prt values (K, M % 2, 'n')",
    "update app.prt set r = 1 - r where id = K",
    "update app.prt set v = v || 'K' where r = M % 2",
    "update app.prt set id = id + 9 where id = K",
    "delete from app.prt where id = K",
    "truncate app.prt_1",
    "truncate app.prt",
    "insert into app.cmp values ('a1', K, 'n', M)",
    "update app.cmp set a = 'a' || M % 2 where b = K",
    "update app.cmp set b = b + 1 where b = K",
    "update app.cmp set v = 'M' where a = 'a0'",
    "update app.cmp set x = M where b = K",
    "update app.cmp set x = null where b = K",
    "delete from app.cmp where b = K",
    "insert into app.doc values (K, '{\"b\": M}')",
    "update app.doc set j = j || '{\"cM\": K}' where id = K",
    "update app.doc set f = f * M, t = t + interval '1 day' where id > K",
    "update app.doc set l = l || 'M'::text, j = null where id = K",
    "update app.doc set id = id + 20 where id = K",
    "delete from app.doc where id = K",
];

/// A statement, with what its letters stand for.
#[derive(Clone)]
struct Say(usize, u8, u8);

impl Say {
    fn sql(&self) -> String {
        STATEMENTS[self.0]
            .replace('K', &self.1.to_string())
            .replace('M', &self.2.to_string())
    }
}

impl fmt::Debug for Say {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sql())
    }
}

#[derive(Clone, Copy, Debug)]
enum End {
    Commit,
    Rollback,
    /// The next one of the same role goes on with it.
    Open,
}

/// What is taken back; the numbers choose among what there is, the newest first.
#[derive(Clone, Copy, Debug)]
enum What {
    Transaction(usize),
    Role(usize),
    Row(usize),
}

#[derive(Clone, Copy, Debug)]
enum Then {
    Nothing,
    /// A rollback to the mark before it.
    Undo,
    /// The revert is reverted.
    Again,
}

#[derive(Clone, Debug)]
enum Step {
    Write(usize, Vec<Say>, End),
    Mark,
    Rollback(usize, bool),
    /// The oldest mark goes.
    Forget,
    Revert {
        what: What,
        since: usize,
        unsaid: bool,
        later: bool,
        then: Then,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let say = (0..STATEMENTS.len(), 1..8u8, 1..8u8).prop_map(|(at, k, m)| Say(at, k, m));
    let end = prop_oneof![7 => Just(End::Commit), 1 => Just(End::Rollback), 4 => Just(End::Open)];
    let what = prop_oneof![
        2 => (0..6usize).prop_map(What::Transaction),
        1 => (0..6usize).prop_map(What::Role),
        3 => (0..24usize).prop_map(What::Row),
    ];
    let then = prop_oneof![5 => Just(Then::Nothing), 3 => Just(Then::Undo), 2 => Just(Then::Again)];
    prop_oneof![
        10 => (0..2usize, vec(say, 1..5), end).prop_map(|(who, said, end)| Step::Write(who, said, end)),
        2 => Just(Step::Mark),
        1 => (0..4usize, any::<bool>()).prop_map(|(at, logged)| Step::Rollback(at, logged)),
        1 => Just(Step::Forget),
        8 => (what, 0..4usize, any::<bool>(), prop::bool::weighted(0.3), then)
            .prop_map(|(what, since, unsaid, later, then)| Step::Revert { what, since, unsaid, later, then }),
    ]
}

fn life() -> impl Strategy<Value = Vec<Step>> {
    vec(step(), 15..50)
}

/// A row's table and key.
type Key = (String, Vec<String>);

/// The rows of each key, as JSON; several while a key is checked late.
type Rows = BTreeMap<Key, Vec<String>>;

/// A change of a row, as the triggers saw it.
#[derive(Clone, Debug)]
struct Event {
    number: i64,
    transaction: i64,
    who: String,
    old: Option<(Key, String)>,
    new: Option<(Key, String)>,
}

impl Event {
    fn sides(&self) -> impl Iterator<Item = &(Key, String)> {
        self.old.iter().chain(&self.new)
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        self.sides().map(|(key, _)| key)
    }

    fn moves(&self) -> bool {
        matches!((&self.old, &self.new), (Some(old), Some(new)) if old.0 != new.0)
    }
}

struct Mark {
    name: String,
    /// The transactions that were over.
    over: BTreeSet<i64>,
}

#[derive(Default, Debug)]
struct Done {
    statements: usize,
    transactions: usize,
    roles: usize,
    rows: usize,
    refused: usize,
    undone: usize,
    rollbacks: usize,
}

struct Machine {
    client: Client,
    /// The two who write, and whether a transaction of theirs is open.
    writers: [(Client, bool); 2],
    marks: Vec<Mark>,
    told: Vec<String>,
    done: Done,
    count: usize,
}

/// What the model says of a revert.
struct Model {
    /// What there is afterwards.
    rows: Rows,
    /// What each key becomes that is touched.
    wanted: Rows,
    /// Keys that others have changed later.
    later: BTreeSet<Key>,
    /// An update of others moved a row from or to one of the keys.
    may_be_half: bool,
    /// Rows would refer to none, or share what has to be unique.
    breaks: Vec<String>,
    /// A key had several rows, or one that is not known: the notes of one statement do not say which came first.
    is_vague: bool,
}

impl Machine {
    fn new(db: &Database, role: &str) -> Self {
        let mut client = db.client();
        let mut sql = TABLES.to_owned();
        for (table, _) in KEYS {
            sql += &format!(
                "create trigger say after insert or update or delete on app.{table} for each row execute function app.say('{table}');"
            );
            let parts: &[&str] = if *table == "prt" { &["prt_0", "prt_1"] } else { &[table] };
            for part in parts {
                sql += &format!(
                    "create trigger say_all before truncate on app.{part} execute function app.say('{table}');"
                );
            }
        }
        client.batch_execute(&sql).unwrap();
        client
            .batch_execute(&format!(
                "grant usage on schema app to {role}; grant all on all tables in schema app to {role}"
            ))
            .unwrap();
        db.file("emaj.yaml", MANIFEST);
        emaj(db).args(["install"]).run().ok();
        let mut writers = [(db.client(), false), (db.client_as(role), false)];
        for (writer, _) in &mut writers {
            writer.batch_execute("set lock_timeout = '50ms'").unwrap();
        }
        let mut machine = Machine {
            client,
            writers,
            marks: Vec::new(),
            told: vec![
                sql,
                format!("-- emaj install, with\n{}", MANIFEST.replace("\n", "\n-- ")),
            ],
            done: Done::default(),
            count: 0,
        };
        machine.mark().unwrap();
        machine
    }

    fn say(&mut self, sql: &str) -> Result<(), String> {
        self.told.push(format!("{sql};"));
        self.client
            .batch_execute(sql)
            .map_err(|error| format!("{}\n{sql}", described(&error)))
    }

    fn write(&mut self, who: usize, said: &[Say], end: End) -> Result<(), String> {
        let (writer, is_open) = &mut self.writers[who];
        if !*is_open {
            writer.batch_execute("begin").unwrap();
            self.told.push(format!("begin; -- {who}"));
        }
        *is_open = true;
        for say in said {
            let sql = say.sql();
            if let Err(error) = writer.batch_execute(&format!("savepoint each; {sql}; release each")) {
                writer.batch_execute("rollback to each; release each").unwrap();
                let code = error.code().map_or("none", |code| code.code()).to_owned();
                // Keys and locks are the application's affair.
                if !code.starts_with("23") && !["27000", "55P03", "40P01", "0A000", "55006"].contains(&&*code) {
                    return Err(format!("{}\n{sql}", described(&error)));
                }
            } else {
                self.done.statements += 1;
                self.told.push(format!("{sql}; -- {who}"));
            }
        }
        match end {
            End::Commit => self.end(who, "commit"),
            End::Rollback => self.end(who, "rollback"),
            End::Open => {}
        }
        Ok(())
    }

    fn end(&mut self, who: usize, word: &str) {
        let (writer, is_open) = &mut self.writers[who];
        if std::mem::take(is_open) {
            // A deferred key may still refuse here.
            let ended = writer.batch_execute(word);
            self.told.push(format!(
                "{word}; -- {who}{}",
                if ended.is_err() { ", refused" } else { "" }
            ));
        }
    }

    fn end_all(&mut self) {
        self.end(0, "commit");
        self.end(1, "commit");
    }

    fn events(&mut self) -> Vec<Event> {
        let rows = self
            .client
            .query(
                "select n, tx, who, name, old::text, new::text from app.said order by n",
                &[],
            )
            .unwrap();
        rows.iter()
            .map(|row| {
                let name: String = row.get(3);
                let side = |at: usize| {
                    row.get::<_, Option<String>>(at)
                        .map(|text| (key_of(&name, &text), text))
                };
                Event {
                    number: row.get(0),
                    transaction: row.get(1),
                    who: row.get(2),
                    old: side(4),
                    new: side(5),
                }
            })
            .collect()
    }

    fn rows(&mut self) -> Rows {
        let each: Vec<String> = KEYS
            .iter()
            .map(|(table, _)| format!("select '{table}', to_jsonb(of_row)::text from app.{table} of_row"))
            .collect();
        let mut rows = Rows::new();
        for row in self.client.query(&each.join(" union all "), &[]).unwrap() {
            let (table, text): (String, String) = (row.get(0), row.get(1));
            rows.entry(key_of(&table, &text)).or_default().push(text);
        }
        rows
    }

    /// Notes what triggers did not see: a rollback, or a revert.
    fn note(&mut self, before: &Rows, after: &Rows, transaction: i64) {
        let keys: BTreeSet<&Key> = before.keys().chain(after.keys()).collect();
        for key in keys {
            let (old, new) = (before.get(key), after.get(key));
            if old != new {
                let text = |rows: Option<&Vec<String>>| rows.map(|rows| rows[0].clone());
                self.client
                    .execute(
                        "insert into app.said (tx, who, name, old, new) values ($1, session_user, $2, $3::text::jsonb, $4::text::jsonb)",
                        &[&transaction, &key.0, &text(old), &text(new)],
                    )
                    .unwrap();
            }
        }
    }

    fn mark(&mut self) -> Result<(), String> {
        self.count += 1;
        let name = format!("m{}", self.count);
        self.say(&format!("select emaj.emaj_set_mark_group('g', '{name}')"))?;
        let over = self.events().iter().map(|event| event.transaction).collect();
        self.marks.push(Mark { name, over });
        Ok(())
    }

    fn look_for_marks(&mut self) {
        let sql = "select mark_name from emaj.emaj_mark where mark_state = 'ACTIVE'";
        let there: Vec<String> = self
            .client
            .query(sql, &[])
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect();
        self.marks.retain(|mark| there.contains(&mark.name));
    }

    /// Does something in a transaction; returns its number.
    fn act(&mut self, sql: &str) -> Result<i64, (String, String)> {
        self.told.push(format!("{sql};"));
        let done = self
            .client
            .batch_execute(&format!("begin; {sql}"))
            .map(|()| self.client.query_one("select txid_current()", &[]).unwrap().get(0))
            .and_then(|number| self.client.batch_execute("commit").map(|()| number));
        done.map_err(|error| {
            let _ = self.client.batch_execute("rollback");
            let code = error.code().map_or("none", |code| code.code()).to_owned();
            if let Some(line) = self.told.last_mut() {
                *line += &format!(" -- {}", described(&error).lines().next().unwrap_or_default());
            }
            (code, described(&error))
        })
    }

    fn roll_back(&mut self, at: usize, logged: bool) -> Result<(), String> {
        self.end_all();
        let at = self.marks.len() - 1 - at % self.marks.len();
        let before = self.rows();
        let function = if logged {
            "emaj_logged_rollback_group"
        } else {
            "emaj_rollback_group"
        };
        let number = self
            .act(&format!("select emaj.{function}('g', '{}')", self.marks[at].name))
            .map_err(|(_, error)| error)?;
        self.done.rollbacks += 1;
        let after = self.rows();
        if logged {
            self.note(&before, &after, number);
        } else {
            // What was done since is in no log any more.
            let over: Vec<i64> = self.marks[at].over.iter().copied().collect();
            self.client
                .execute("delete from app.said where not tx = any ($1)", &[&over])
                .unwrap();
        }
        self.look_for_marks();
        Ok(())
    }

    fn revert(&mut self, what: What, since: usize, unsaid: bool, later: bool, then: Then) -> Result<(), String> {
        self.end_all();
        let events = self.events();
        let mark = &self.marks[self.marks.len() - 1 - since % self.marks.len()];
        let after: Vec<&Event> = events
            .iter()
            .filter(|event| !mark.over.contains(&event.transaction))
            .collect();
        let Some(last) = after.len().checked_sub(1) else {
            return Ok(());
        };
        let (mut from, mut arguments) = (
            format!("'{}'", mark.name),
            ["null".to_owned(), "null".to_owned(), "null, null".to_owned()],
        );
        let chosen: Vec<&Event> = match what {
            What::Transaction(at) => {
                let mut numbers: Vec<i64> = Vec::new();
                for event in after.iter().rev() {
                    if !numbers.contains(&event.transaction) {
                        numbers.push(event.transaction);
                    }
                }
                let number = numbers[at % numbers.len()];
                if unsaid {
                    from = "null".to_owned();
                }
                arguments[0] = number.to_string();
                after
                    .iter()
                    .copied()
                    .filter(|event| event.transaction == number)
                    .collect()
            }
            What::Role(at) => {
                let who = &after[last - at % after.len()].who;
                arguments[1] = format!("'{who}'");
                after.iter().copied().filter(|event| event.who == *who).collect()
            }
            What::Row(at) => {
                let event = after[last - at / 2 % after.len()];
                let (key, row) = event.sides().nth(at % 2).or(event.sides().next()).expect("a row");
                arguments[2] = format!("'app.{}'::regclass, '{}'", key.0, key_json(&key.0, row));
                after
                    .iter()
                    .copied()
                    .filter(|event| event.keys().any(|one| one == key))
                    .collect()
            }
        };
        let now = self.rows();
        let model = model(&now, &events, &after, &chosen);
        let arguments = format!("'g', {from}, {}", arguments.join(", "));
        let planned = self.planned(&arguments);
        let reverted = self.act(&format!("select emaj.emaj_revert_group({arguments}, {later})"));
        let found = self.rows();
        let number = match reverted {
            Err((code, error)) => {
                self.done.refused += 1;
                if found != now {
                    return Err(format!("refused, and something is changed: {error}"));
                }
                let is_right = code == "EJ001"
                    && (error.contains("others have changed") && !later && (!model.later.is_empty() || model.is_vague)
                        || error.contains("half of that") && model.may_be_half
                        || error.contains("stands in the way") && (!model.breaks.is_empty() || model.is_vague));
                // What would take half of something back is refused to whoever only looks, too.
                if !is_right || planned.is_ok() && error.contains("half of that") {
                    return Err(format!(
                        "refused without a reason: {error}\nlater: {:?}, breaks: {:?}, the plan: {planned:?}",
                        model.later, model.breaks
                    ));
                }
                return Ok(());
            }
            Ok(number) => number,
        };
        if !model.later.is_empty() && !later {
            return Err(format!(
                "others have changed {:?} later, and that is not said",
                model.later
            ));
        }
        if !model.is_vague && found != model.rows {
            return Err(format!("not as it was: {}", differences(&found, &model.rows)));
        }
        if let Some(broken) = breaks(&found).first() {
            return Err(format!("a key does not hold afterwards: {broken}"));
        }
        if !model.is_vague {
            hold_plan(planned, &model, &now)?;
        }
        match what {
            What::Transaction(_) => self.done.transactions += 1,
            What::Role(_) => self.done.roles += 1,
            What::Row(_) => self.done.rows += 1,
        }
        self.note(&now, &found, number);
        self.then(then, &now, &found, number)
    }

    /// Takes a revert back, in one of two ways: all is as it was before it.
    fn then(&mut self, then: Then, before: &Rows, after: &Rows, number: i64) -> Result<(), String> {
        let sql = match then {
            Then::Undo => {
                let start = "select mark_name from emaj.emaj_mark where mark_name like 'RVRT%START' order by mark_id desc limit 1";
                let mark: String = self.client.query_one(start, &[]).unwrap().get(0);
                format!("select emaj.emaj_logged_rollback_group('g', '{mark}')")
            }
            Then::Again if before != after => {
                format!("select emaj.emaj_revert_group('g', null, {number}, null, null, null, false)")
            }
            _ => return Ok(()),
        };
        let number = self
            .act(&sql)
            .map_err(|(_, error)| format!("cannot be undone: {error}"))?;
        let found = self.rows();
        if found != *before {
            return Err(format!("undone, and not as before: {}", differences(&found, before)));
        }
        self.done.undone += 1;
        self.note(after, &found, number);
        Ok(())
    }

    /// What a dry run says: of each key what would be done, and whether others have changed it later.
    fn planned(&mut self, arguments: &str) -> Result<BTreeMap<Key, (String, bool)>, String> {
        let sql = format!(
            "select plan_table::text, plan_action::text, plan_key::text, plan_later is not null from emaj.emaj_check_revert_group({arguments})"
        );
        let rows = self.client.query(&sql, &[]).map_err(|error| described(&error))?;
        let of = |row: &postgres::Row| {
            let (table, action, key): (String, String, String) = (row.get(0), row.get(1), row.get(2));
            (key_of(&table, &key), (action, row.get(3)))
        };
        Ok(rows.iter().map(of).collect())
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Write(who, said, end) => self.write(*who, said, *end),
            Step::Mark => self.mark(),
            Step::Rollback(at, logged) => self.roll_back(*at, *logged),
            Step::Forget if self.marks.len() > 2 => {
                let name = self.marks[1].name.clone();
                self.say(&format!("select emaj.emaj_delete_before_mark_group('g', '{name}')"))?;
                self.look_for_marks();
                Ok(())
            }
            Step::Forget => Ok(()),
            Step::Revert {
                what,
                since,
                unsaid,
                later,
                then,
            } => self.revert(*what, *since, *unsaid, *later, *then),
        }
    }
}

/// Takes the chosen events back, one after the other, the last first.
fn model(now: &Rows, events: &[Event], after: &[&Event], chosen: &[&Event]) -> Model {
    let mut first: BTreeMap<&Key, i64> = BTreeMap::new();
    for event in chosen {
        for key in event.keys() {
            first.entry(key).or_insert(event.number);
        }
    }
    let mut state = now.clone();
    let (mut wanted, mut is_vague) = (Rows::new(), false);
    for event in events.iter().rev() {
        if let Some((key, row)) = &event.new {
            let rows = state.entry(key.clone()).or_default();
            match rows.iter().position(|one| one == row) {
                Some(at) => drop(rows.remove(at)),
                None => is_vague |= first.contains_key(key),
            }
        }
        if let Some((key, row)) = &event.old {
            state.entry(key.clone()).or_default().push(row.clone());
        }
        for key in event.keys().filter(|key| first.get(key) == Some(&event.number)) {
            let rows = state.get(key).cloned().unwrap_or_default();
            is_vague |= rows.len() > 1;
            wanted.insert(key.clone(), rows);
        }
    }
    let is_chosen = |event: &Event| chosen.iter().any(|one| one.number == event.number);
    let mut later = BTreeSet::new();
    for event in after.iter().filter(|event| !is_chosen(event)) {
        later.extend(
            event
                .keys()
                .filter(|key| first.get(key).is_some_and(|first| event.number > *first))
                .cloned(),
        );
    }
    let mut rows = now.clone();
    for (key, row) in &wanted {
        if row.is_empty() {
            rows.remove(key);
        } else {
            rows.insert(key.clone(), row.clone());
        }
    }
    let may_be_half = after
        .iter()
        .any(|event| event.moves() && event.keys().any(|key| first.contains_key(key)));
    Model {
        breaks: breaks(&rows),
        rows,
        wanted,
        later,
        may_be_half,
        is_vague,
    }
}

/// Rows that refer to none, or share a value that is unique.
fn breaks(rows: &Rows) -> Vec<String> {
    let of = |table: &str| -> Vec<Value> {
        let mine = rows.iter().filter(|((of, _), _)| of == table);
        mine.flat_map(|(_, rows)| rows)
            .map(|row| serde_json::from_str(row).expect("a row"))
            .collect()
    };
    let mut found = Vec::new();
    for (child, column, parent) in [("chi", "par", "par"), ("gch", "chi", "chi"), ("slf", "up", "slf")] {
        let ids: Vec<Value> = of(parent).into_iter().map(|row| row["id"].clone()).collect();
        let orphans = of(child)
            .into_iter()
            .filter(|row| !row[column].is_null() && !ids.contains(&row[column]));
        found.extend(orphans.map(|row| format!("{child} {row}")));
    }
    for (table, column) in [("par", "u"), ("cmp", "x")] {
        let mut seen = Vec::new();
        for row in of(table) {
            if !row[column].is_null() && seen.contains(&row[column]) {
                found.push(format!("{table} {row}"));
            }
            seen.push(row[column].clone());
        }
    }
    found
}

/// What a dry run says has to be what is done.
fn hold_plan(planned: Result<BTreeMap<Key, (String, bool)>, String>, model: &Model, now: &Rows) -> Result<(), String> {
    let planned = planned.map_err(|error| format!("done, though a dry run was refused: {error}"))?;
    let mut wanted = BTreeMap::new();
    for (key, rows) in &model.wanted {
        let action = match (now.get(key), rows.is_empty()) {
            (None, true) => continue,
            (None, false) => "insert",
            (Some(_), true) => "delete",
            (Some(there), false) if there == rows => continue,
            (Some(_), false) => "update",
        };
        wanted.insert(key.clone(), (action.to_owned(), model.later.contains(key)));
    }
    if planned == wanted {
        Ok(())
    } else {
        Err(format!("the dry run says {planned:?}, and that is to be {wanted:?}"))
    }
}

fn differences(found: &Rows, wanted: &Rows) -> String {
    let lines = |rows: &Rows| -> Vec<String> {
        rows.iter()
            .map(|((table, _), rows)| format!("{table} {rows:?}"))
            .collect()
    };
    crate::programs::differences(&lines(found), &lines(wanted))
}

fn columns(table: &str) -> &'static [&'static str] {
    KEYS.iter().find(|(name, _)| *name == table).expect("a table").1
}

/// The key of a row; numbers by their value.
fn key_of(table: &str, row: &str) -> Key {
    let row: Value = serde_json::from_str(row).expect("a row");
    let value = |column: &&str| match &row[*column] {
        Value::Number(number) => number.as_f64().expect("a number").to_string(),
        other => other.to_string(),
    };
    (table.to_owned(), columns(table).iter().map(value).collect())
}

/// The key of a row as a revert is told of it.
fn key_json(table: &str, row: &str) -> String {
    let row: Value = serde_json::from_str(row).expect("a row");
    let parts: Vec<String> = columns(table)
        .iter()
        .map(|column| format!("\"{column}\": {}", row[*column]))
        .collect();
    format!("{{{}}}", parts.join(", "))
}

fn live(steps: &[Step], done: &mut Done) -> Option<Failed<Step>> {
    let db = database();
    let owner = owner(&db);
    let mut machine = Machine::new(&db, owner.name());
    let failed = steps.iter().enumerate().find_map(|(at, step)| {
        machine.step(step).err().map(|wrong| Failed {
            steps: steps[..=at].to_vec(),
            wrong,
            script: machine.told.join("\n"),
        })
    });
    let of = machine.done;
    done.statements += of.statements;
    done.transactions += of.transactions;
    done.roles += of.roles;
    done.rows += of.rows;
    done.refused += of.refused;
    done.undone += of.undone;
    done.rollbacks += of.rollbacks;
    failed
}

fn smaller(step: &Step) -> Vec<Step> {
    match step {
        Step::Write(who, said, end) => {
            let less = without_one(said).into_iter();
            less.map(|said| Step::Write(*who, said, *end)).collect()
        }
        _ => Vec::new(),
    }
}

#[test]
fn what_is_reverted_is_as_it_was_and_all_else_as_it_is() {
    tell_all("lives with reverts", (&life(), b'r'), scale(6), live, smaller);
}
