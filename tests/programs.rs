//! Rollback is exact for whatever an application does: programs by chance, over tables of all kinds, as superuser and as an
//! ordinary owner.
//!
//! The model of a mark is a copy of every row and sequence taken when it was set. After each rollback the database has to be that
//! copy, byte for byte. A program that fails is made smaller and shown as SQL.

use std::cell::Cell;
use std::fmt;
use std::time::Instant;

use postgres::Client;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use crate::support;

/// The tables. A role that is no superuser makes them too.
pub(super) const TABLES: &str = "
    create table app.simple (id int primary key, v text, n numeric, f float8);
    create table app.composite (x int, y text, v int unique, primary key (x, y));
    create table app.deferred (id int primary key deferrable, v text);
    create table app.deferred_by_row (id int primary key deferrable initially deferred, v text);
    create table app.tree (id int primary key, up int references app.tree on delete cascade on update cascade, v text);
    create table app.parent (id int primary key, children int not null default 0, v text);
    create table app.child (id int generated always as identity primary key,
      parent int references app.parent on update cascade on delete cascade, v text);
    create table app.loose (id int primary key, parent int references app.parent on update cascade on delete set null, v text);
    create function app.count() returns trigger language plpgsql as $$
      begin
        if tg_op <> 'INSERT' then update app.parent set children = children - 1 where id = old.parent; end if;
        if tg_op <> 'DELETE' then update app.parent set children = children + 1 where id = new.parent; end if;
        return null;
      end $$;
    create trigger count after insert or update or delete on app.child for each row execute function app.count();
    create table app.favourite (id int primary key, best bool not null default false, v text);
    create function app.one_best() returns trigger language plpgsql as $$
      begin
        if new.best then update app.favourite set best = false, v = v || '-' where best and id <> new.id; end if;
        return new;
      end $$;
    create trigger one_best before insert or update on app.favourite for each row execute function app.one_best();
    create table app.part (id int, r int, v text, primary key (r, id)) partition by list (r);
    create table app.part_0 partition of app.part for values in (0);
    create table app.part_1 (v text, gone int, r int not null, id int not null);
    alter table app.part_1 drop column gone;
    alter table app.part attach partition app.part_1 for values in (1);
    create table app.part_rest partition of app.part default;
    create table app.identity (id int generated always as identity primary key, v int, twice int generated always as (v * 2) stored);
    create table app.by_number (k numeric primary key, v text);
    create table app.row_mode (id int primary key, v text);
    create type app.mood as enum ('low', 'high');
    create domain app.small as int check (value < 1000);
    create table app.odd (k text primary key, j json, b jsonb, n numeric, i interval, p point, a int[], m app.mood, s app.small, c char(5), t timestamptz);
    create table app.renumbered (id int generated always as identity primary key, serial int generated always as identity, v text);
    create sequence app.free;
    create function app.meddle(k int) returns text language plpgsql volatile as $$
      begin update app.simple set v = coalesce(v, '') || '!' where id = k; return 'm'; end $$;
";

pub(super) const NAMES: &[&str] = &[
    "simple",
    "composite",
    "deferred",
    "deferred_by_row",
    "tree",
    "parent",
    "child",
    "loose",
    "favourite",
    "part",
    "identity",
    "by_number",
    "row_mode",
    "odd",
    "renumbered",
];

const SEQUENCES: &[&str] = &[
    "child_id_seq",
    "identity_id_seq",
    "renumbered_id_seq",
    "renumbered_serial_seq",
    "free",
];

pub(super) const MANIFEST: &str = "version: 1
roles: { admin: null, viewer: null }
groups:
  app:
    tables: [app.*]
    sequences: all
    table_options:
      app.row_mode: { capture: row }
      app.deferred_by_row: { capture: row }
";

/// The same tables in two groups, with foreign keys between them.
const TWO_GROUPS: &str = "version: 1
roles: { admin: null, viewer: null }
groups:
  app:
    tables: [app.simple, app.composite, app.deferred, app.parent, app.favourite, app.part, app.renumbered]
    sequences: all
  beside:
    tables: [app.deferred_by_row, app.tree, app.child, app.loose, app.identity, app.by_number, app.row_mode, app.odd]
    sequences: none
    table_options:
      app.row_mode: { capture: row }
      app.deferred_by_row: { capture: row }
";

/// What an application may say; K, M and V stand for small numbers.
const STATEMENTS: &[&str] = &[
    "insert into app.simple values (K, 'V', V.0, V)",
    "insert into app.simple select n, 'many', n, n / 3.0 from generate_series(K, K + M) n on conflict do nothing",
    "insert into app.simple values (K, 'up', V, 0), (M + 10, 'up', V, 0) on conflict (id) do update set v = excluded.v || app.simple.v",
    "update app.simple set v = v || 'V', n = n * 1.0 where id between K and K + M",
    "update app.simple set id = id + 20 where id = K",
    "update app.simple set id = -id where id in (K, M)",
    "update app.simple set v = app.meddle(M) where id = K",
    "update app.simple set v = app.meddle(K) where id in (K, M)",
    "update app.simple set v = case when id = least(K, M) then v || 'V' else app.meddle(least(K, M)) end where id in (K, M)",
    "insert into app.simple values (K + 30, app.meddle(K + 30), null, null)",
    "delete from app.simple where id between K and M",
    "with gone as (delete from app.simple where id = K returning *) insert into app.simple select id, 'again', n, f from gone",
    "with a as (update app.simple set v = 'cte' where id = K) delete from app.simple where id = M and id <> K",
    "truncate app.simple",
    "merge into app.simple t using generate_series(K, K + M) g on t.id = g when matched and g % 2 = 0 then delete
       when matched then update set v = 'merged' when not matched then insert values (g, 'merge', null, 'NaN')",
    "insert into app.composite values (K, 'V', M)",
    "update app.composite set v = -v where x in (K, M)",
    "update app.composite a set v = a.v + 100 where x = K",
    "update app.composite a set v = b.v from (select x, y, lead(v, 1, 1000 + V) over (order by v desc) as v from app.composite) b where (a.x, a.y) = (b.x, b.y)",
    "update app.composite set x = M, y = y || 'V' where x = K",
    "insert into app.composite values (K, 'V', M + 50) on conflict (x, y) do update set v = app.composite.v + 200",
    "delete from app.composite where x = K or v = M",
    "insert into app.deferred values (K, 'V')",
    "update app.deferred set id = K + M - id where id between least(K, M) and greatest(K, M)",
    "update app.deferred set id = id + 1",
    "update app.deferred set id = id - 1, v = v || 'V' where id >= K",
    "delete from app.deferred where id = K",
    "truncate app.deferred",
    "insert into app.deferred_by_row values (K, 'V')",
    "update app.deferred_by_row set id = K + M - id where id between least(K, M) and greatest(K, M)",
    "update app.deferred_by_row set id = id + 1",
    "update app.deferred_by_row set v = v || 'V' where id >= K",
    "delete from app.deferred_by_row where id = K",
    "insert into app.tree values (K, null, 'V')",
    "insert into app.tree select K, max(id), 'V' from app.tree where id <> K and id <= M",
    "update app.tree set id = id + 10 where id = K",
    "update app.tree set up = M, v = v || 'V' where id = K",
    "delete from app.tree where id = K",
    "delete from app.tree where up is null and id > M",
    "insert into app.parent values (K, 0, 'V')",
    "insert into app.child (parent, v) select id, 'V' from app.parent where id between K and K + M",
    "update app.parent set id = id + 10 where id = K",
    "update app.parent set id = id + 1 where id >= K",
    "update app.parent set v = v || 'V' where id = K",
    "delete from app.parent where id = K",
    "delete from app.parent where id between K and M",
    "update app.child set parent = (select max(id) from app.parent) where parent = K",
    "delete from app.child where parent = K",
    "insert into app.loose select K, max(id), 'V' from app.parent where id <= M",
    "update app.loose set v = v || 'V' where parent = K",
    "truncate app.child restart identity",
    "truncate app.parent cascade",
    "insert into app.favourite values (K, true, 'V')",
    "insert into app.favourite select n, n % 2 = 0, 'V' from generate_series(K, K + M) n on conflict do nothing",
    "update app.favourite set best = true where id = K",
    "update app.favourite set id = id + 10 where id = K",
    "update app.favourite set id = M, best = true where id = K",
    "insert into app.favourite values (K, true, 'up') on conflict (id) do update set best = true, v = app.favourite.v || 'V'",
    "delete from app.favourite where id = K",
    "with gone as (delete from app.favourite where best returning *) insert into app.favourite select id, true, v from gone",
    "insert into app.part values (K, V, 'V')",
    "update app.part set r = (r + 1) % 4 where id = K",
    "update app.part set id = id + 10 where id = K",
    "update app.part set v = v || 'V' where r = V",
    "update app.part_1 set v = 'direct', id = id - 3 where id = M",
    "insert into app.part_1 (id, r, v) values (K, 1, 'V')",
    "insert into app.part values (K, V, 'up') on conflict (r, id) do update set v = app.part.v || 'V'",
    "delete from app.part where id between K and M",
    "truncate app.part",
    "truncate app.part_1",
    "insert into app.identity (v) select n from generate_series(K, K + M) n",
    "insert into app.identity (id, v) overriding system value values (K + 100, V)",
    "update app.identity set v = v + V where id % 3 = 0",
    "delete from app.identity where v = K",
    "truncate app.identity restart identity",
    "insert into app.by_number values (K.0, 'V'), (M.50, 'V')",
    "update app.by_number set k = k * 1.00 where k <= M",
    "update app.by_number set k = k + 1.0",
    "update app.by_number set k = trim_scale(k), v = v || 'V'",
    "delete from app.by_number where k = K",
    "insert into app.row_mode select n, 'V' from generate_series(K, K + M) n on conflict do nothing",
    "update app.row_mode set id = id + 100, v = v || 'V' where id between K and M",
    "update app.row_mode set v = v || 'V' where id > K",
    "delete from app.row_mode where id % 3 = V",
    "insert into app.odd values ('K', '{\"a\": V}', '{\"a\":V}', V.00, 'V months', 'M,V', array[K, null, V], 'low', V, 'V', '2020-01-0M')",
    "update app.odd set j = '{\"a\":  V}', n = n * 1.0, i = i + '30 days' - '1 month', c = 'V ' where k = 'K'",
    "update app.odd set p = null, a = a || V, m = 'high', s = s + V, b = b || '{\"b\": null}', k = k || 'é' where k < 'M'",
    "delete from app.odd where k like 'K%'",
    "insert into app.renumbered (v) select 'V' from generate_series(0, M)",
    "update app.renumbered set v = v || 'V' where id % 2 = 0",
    "update app.renumbered set serial = default where id = K",
    "update app.renumbered set id = default where id = K",
    "delete from app.renumbered where id between K and M",
    "select nextval('app.free'), nextval('app.identity_id_seq')",
    "select setval('app.free', K + 1, V % 2 = 0)",
    "alter sequence app.free increment by 2 restart with 5",
    "set constraints all immediate",
    "set constraints all deferred",
];

#[derive(Debug, Clone)]
enum Op {
    Say(usize, u8, u8, u8),
    Savepoint(Vec<Op>, bool),
}

#[derive(Debug, Clone)]
enum Step {
    Transaction(Vec<Op>, bool),
    /// Each statement its own transaction.
    Alone(Vec<Op>),
    Mark,
    Rollback(usize, bool),
}

#[derive(Clone)]
pub(super) struct Program(Vec<Step>);

fn say() -> impl Strategy<Value = Op> {
    (0..STATEMENTS.len(), 1..8u8, 1..8u8, 0..4u8).prop_map(|(at, k, m, v)| Op::Say(at, k, m, v))
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![8 => say(), 1 => (vec(say(), 1..4), any::<bool>()).prop_map(|(ops, keep)| Op::Savepoint(ops, keep))]
}

pub(super) fn program() -> impl Strategy<Value = Program> {
    let step = prop_oneof![
        6 => (vec(op(), 1..14), prop::bool::weighted(0.85)).prop_map(|(ops, commit)| Step::Transaction(ops, commit)),
        3 => vec(say(), 1..10).prop_map(Step::Alone),
        3 => Just(Step::Mark),
        2 => (0..8usize, any::<bool>()).prop_map(|(at, logged)| Step::Rollback(at, logged)),
    ];
    vec(step, 3..12).prop_map(Program)
}

impl Op {
    fn sql(&self) -> String {
        match self {
            Op::Say(at, k, m, v) => {
                let number = |letter: char, n: &u8| (letter, n.to_string());
                let numbers = [number('K', k), number('M', m), number('V', v)];
                STATEMENTS[*at]
                    .chars()
                    .map(|c| {
                        numbers
                            .iter()
                            .find(|(letter, _)| *letter == c)
                            .map_or(c.to_string(), |(_, n)| n.clone())
                    })
                    .collect()
            }
            Op::Savepoint(ops, keep) => {
                let inner: String = ops.iter().map(|op| op.sql() + ";\n    ").collect();
                format!(
                    "savepoint s;\n    {inner}{}",
                    if *keep { "release s" } else { "rollback to s" }
                )
            }
        }
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        for step in &self.0 {
            match step {
                Step::Transaction(ops, commit) => {
                    writeln!(f, "begin;")?;
                    for op in ops {
                        writeln!(f, "  {};", op.sql())?;
                    }
                    writeln!(f, "{};", if *commit { "commit" } else { "rollback" })?;
                }
                Step::Alone(ops) => {
                    for op in ops {
                        writeln!(f, "{};", op.sql())?;
                    }
                }
                Step::Mark => writeln!(f, "-- mark")?,
                Step::Rollback(at, logged) => {
                    writeln!(
                        f,
                        "-- {} rollback to mark {at} modulo their number",
                        if *logged { "logged" } else { "unlogged" }
                    )?;
                }
            }
        }
        write!(f, "-- rollback to every mark that is left, newest first")
    }
}

/// A copy of everything, at a mark.
#[derive(Debug, Clone)]
pub(super) struct Copy {
    pub(super) mark: String,
    pub(super) lines: Vec<String>,
}

pub(super) struct Machine<'db> {
    pub(super) client: Client,
    copy_sql: String,
    /// Of the server, as a number.
    version: i32,
    pub(super) marks: Vec<Copy>,
    count: usize,
    rollbacks: usize,
    statements: usize,
    refused: usize,
    /// Rolls back by the program instead of SQL: the database, the role, and the words that follow the mark.
    by_program: Option<(&'db support::Database, Option<&'db str>, &'db [&'db str])>,
    /// Of the rollbacks, those that were shared by several sessions.
    shared: usize,
}

impl Machine<'_> {
    pub(super) fn new(mut client: Client) -> Self {
        let version = client
            .query_one("select current_setting('server_version_num')::int", &[])
            .unwrap()
            .get(0);
        let tables = NAMES.iter().map(|name| {
            format!("select '{name} ' || of_row.tableoid::regclass::text || ' ' || of_row::text as line from app.{name} of_row")
        });
        let sequences = SEQUENCES.iter().map(|name| {
            format!(
                "select format('sequence {name} %s %s %s', q.last_value, q.is_called, s.seqincrement)
                   from app.{name} q, pg_sequence s where s.seqrelid = 'app.{name}'::regclass"
            )
        });
        let all: Vec<String> = tables.chain(sequences).collect();
        let copy_sql = format!(
            "select line from ({}) x order by line collate \"C\"",
            all.join(" union all ")
        );
        Machine {
            client,
            version,
            copy_sql,
            marks: Vec::new(),
            count: 0,
            rollbacks: 0,
            statements: 0,
            refused: 0,
            by_program: None,
            shared: 0,
        }
    }

    pub(super) fn copy(&mut self) -> Vec<String> {
        let rows = self.client.query(&self.copy_sql, &[]).unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    pub(super) fn begin_anew(&mut self) {
        self.marks.clear();
        self.client
            .batch_execute(
                "rollback;
                 select emaj.emaj_stop_groups(array_agg(group_name), 'STOP_%') from emaj.emaj_group where group_state = 'LOGGING' having count(*) > 0;
                 truncate app.simple, app.composite, app.deferred, app.deferred_by_row, app.tree, app.parent, app.child, app.loose,
                   app.favourite, app.part, app.identity, app.by_number, app.row_mode, app.odd, app.renumbered restart identity;
                 alter sequence app.free increment by 1 restart with 1;
                 insert into app.simple select n, 'first', n, n from generate_series(1, 6) n;
                 insert into app.composite select n, 'a', n from generate_series(1, 5) n;
                 insert into app.deferred select n, 'first' from generate_series(1, 5) n;
                 insert into app.deferred_by_row select n, 'first' from generate_series(1, 5) n;
                 insert into app.tree values (1, null, 'a'), (2, 1, 'b'), (3, 2, 'c'), (4, 1, 'd');
                 insert into app.parent select n, 0, 'first' from generate_series(1, 4) n;
                 insert into app.child (parent, v) values (1, 'a'), (1, 'b'), (2, 'c');
                 insert into app.loose values (1, 1, 'a'), (2, null, 'b');
                 insert into app.favourite values (1, true, 'a'), (2, false, 'b'), (3, false, 'c');
                 insert into app.part select n, n % 4, 'first' from generate_series(1, 8) n;
                 insert into app.identity (v) values (1), (2), (3);
                 insert into app.by_number values (1, 'a'), (2.0, 'b'), (3.50, 'c');
                 insert into app.row_mode select n, 'first' from generate_series(1, 5) n;
                 insert into app.odd (k, j, n) values ('1', '{}', 1.0), ('2', '{ }', 2);
                 insert into app.renumbered (v) values ('a'), ('b');
                 select emaj.emaj_start_groups(array_agg(group_name), 'm0', true) from emaj.emaj_group;",
            )
            .unwrap();
        let lines = self.copy();
        self.marks.push(Copy {
            mark: "m0".into(),
            lines,
        });
    }

    /// Says one statement; what PostgreSQL itself refuses (keys, checks) is the application's affair, anything else a failure.
    fn say(&mut self, sql: &str, within: bool) -> Result<(), TestCaseError> {
        if self.version < 150_000 && sql.starts_with("merge ") {
            // Not a word that it knows.
            return Ok(());
        }
        self.statements += 1;
        let whole = if within {
            format!("savepoint each; {sql}; release each")
        } else {
            sql.to_owned()
        };
        let Err(error) = self.client.batch_execute(&whole) else {
            return Ok(());
        };
        let code = error.code().map_or("none", |code| code.code()).to_owned();
        let expected =
            code.starts_with("23") || ["27000", "21000", "22003", "0A000", "428C9", "55006"].contains(&&*code);
        if within {
            self.client.batch_execute("rollback to each; release each").unwrap();
        }
        self.refused += 1;
        if expected {
            Ok(())
        } else {
            Err(TestCaseError::fail(format!("`{sql}` failed: {error:?}")))
        }
    }

    fn run(&mut self, op: &Op, within: bool) -> Result<(), TestCaseError> {
        match op {
            Op::Say(..) => self.say(&op.sql(), within),
            Op::Savepoint(ops, keep) => {
                self.client.batch_execute("savepoint s").unwrap();
                for op in ops {
                    self.run(op, within)?;
                }
                self.client
                    .batch_execute(if *keep { "release s" } else { "rollback to s; release s" })
                    .unwrap();
                Ok(())
            }
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Transaction(ops, commit) => {
                self.client.batch_execute("begin").unwrap();
                for op in ops {
                    self.run(op, true)?;
                }
                // A deferred key may still refuse here.
                let _ = self.client.batch_execute(if *commit { "commit" } else { "rollback" });
                Ok(())
            }
            Step::Alone(ops) => ops.iter().try_for_each(|op| self.run(op, false)),
            Step::Mark => {
                self.count += 1;
                let mark = format!("m{}", self.count);
                self.client
                    .execute(
                        "select emaj.emaj_set_mark_groups(array_agg(group_name), $1) from emaj.emaj_group",
                        &[&mark],
                    )
                    .unwrap();
                let lines = self.copy();
                self.marks.push(Copy { mark, lines });
                Ok(())
            }
            Step::Rollback(at, logged) => self.roll_back(at % self.marks.len(), *logged),
        }
    }

    pub(super) fn roll_back(&mut self, at: usize, logged: bool) -> Result<(), TestCaseError> {
        self.rollbacks += 1;
        let target = self.marks[at].clone();
        let before = self.copy();
        let function = if logged {
            "emaj_logged_rollback_group"
        } else {
            "emaj_rollback_group"
        };
        let done = match &self.by_program {
            None => self
                .client
                .query_one(&format!("select emaj.{function}('app', $1)"), &[&target.mark])
                .map(|_| 0)
                .map_err(|error| format!("{error:?}")),
            Some((db, role, words)) => {
                let run = match role {
                    Some(role) => support::emaj(db).user(role),
                    None => support::emaj(db),
                };
                let logging: &[&str] = if logged { &[] } else { &["--unlogged"] };
                let first = ["rollback", "app", &target.mark, "--yes", "-o", "json"];
                let run = run.args([&first, *words, logging].concat()).run();
                if run.status == Some(0) {
                    Ok(usize::from(run.stdout_json()["sessions"].as_i64() > Some(1)))
                } else {
                    Err(run.to_string())
                }
            }
        };
        match done {
            Ok(shared) => self.shared += shared,
            Err(error) => {
                return Err(TestCaseError::fail(format!(
                    "{function} to {} failed: {error}",
                    target.mark
                )));
            }
        }
        let after = self.copy();
        if after != target.lines {
            return Err(TestCaseError::fail(format!(
                "after {function} to {}: {}",
                target.mark,
                differences(&after, &target.lines)
            )));
        }
        if logged {
            let sql = "select mark_name from emaj.emaj_mark where mark_group = 'app' order by mark_id desc limit 2";
            let names: Vec<String> = self
                .client
                .query(sql, &[])
                .unwrap()
                .iter()
                .map(|row| row.get(0))
                .collect();
            self.marks.push(Copy {
                mark: names[1].clone(),
                lines: before,
            });
            self.marks.push(Copy {
                mark: names[0].clone(),
                lines: after,
            });
        } else {
            self.marks.truncate(at + 1);
        }
        Ok(())
    }

    /// Runs a program from the beginning, without the rollbacks at its end.
    pub(super) fn begin(&mut self, program: &Program) -> Result<(), TestCaseError> {
        self.begin_anew();
        program.0.iter().try_for_each(|step| self.step(step))
    }

    fn program(&mut self, program: &Program) -> Result<(), TestCaseError> {
        self.begin(program)?;
        for at in (0..self.marks.len()).rev() {
            self.roll_back(at, false)?;
        }
        Ok(())
    }
}

/// Returns a runner of programs and the seed of this run; `variant` keeps runs with one seed apart.
pub(super) fn runner(variant: u8, cases: usize, shrinks: u32) -> (TestRunner, u64) {
    let seed = support::seed();
    let mut bytes = [variant; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases: support::scale(cases) as u32,
        failure_persistence: None,
        max_shrink_iters: shrinks,
        ..Config::default()
    };
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    (TestRunner::new_with_rng(config, random), seed)
}

/// Panics when a program failed, with the seed and the shortest one that does.
#[track_caller]
pub(super) fn conclude(result: Result<(), TestError<Program>>, seed: u64) {
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, program)) => panic!("seed {seed}: {reason}\nthe program: {program:?}"),
        Err(TestError::Abort(reason)) => panic!("seed {seed}: {reason}"),
    }
}

/// Returns which lines are missing and which are too much.
pub(super) fn differences(found: &[String], wanted: &[String]) -> String {
    let only = |a: &[String], b: &[String]| a.iter().filter(|line| !b.contains(line)).cloned().collect::<Vec<_>>();
    format!(
        "missing {:#?}, too much {:#?}",
        only(wanted, found),
        only(found, wanted)
    )
}

fn run(what: &str, cases: usize, machine: Machine<'_>) {
    let (mut runner, seed) = runner(what.len() as u8, cases, 400);
    let machine = std::cell::RefCell::new(machine);
    let done = Cell::new(0);
    let started = Instant::now();
    let result = runner.run(&program(), |program| {
        machine.borrow_mut().program(&program)?;
        done.set(done.get() + 1);
        Ok(())
    });
    let machine = machine.borrow();
    println!(
        "programs as {what}: {} programs, {} statements ({} refused by keys and checks), {} rollbacks ({} in several sessions) in {:.1} s, {} wrong (seed {seed})",
        done.get(),
        machine.statements,
        machine.refused,
        machine.rollbacks,
        machine.shared,
        started.elapsed().as_secs_f64(),
        i32::from(result.is_err())
    );
    conclude(result, seed);
}

/// Programs whose marks are set on all groups of `manifest` and whose rollbacks are the program's, with these words after the mark.
fn run_by_program(what: &str, manifest: &str, owned: bool, words: &[&str]) {
    let db = support::database();
    let owner = owned.then(|| support::owner(&db));
    let role = owner.as_ref().map(|owner| owner.name());
    let mut client = match role {
        Some(role) => db.client_as(role),
        None => db.client(),
    };
    client.batch_execute(&format!("create schema app; {TABLES}")).unwrap();
    db.file("emaj.yaml", manifest);
    let install = match role {
        Some(role) => support::emaj(&db).user(role),
        None => support::emaj(&db),
    };
    install.args(["install"]).run().ok();
    let mut machine = Machine::new(client);
    machine.by_program = Some((&db, role, words));
    // One of which it is certain that several sessions share it, then those by chance.
    machine.begin_anew();
    machine
        .client
        .batch_execute("update app.simple set v = 'x'; delete from app.by_number where k = 1")
        .unwrap();
    machine.roll_back(0, true).unwrap();
    assert_eq!(machine.shared, 1, "it is done in one session");
    run(what, 4, machine);
}

#[test]
fn any_program_rolls_back_exactly_in_several_sessions() {
    run_by_program("superuser, --jobs 2", MANIFEST, false, &["--jobs", "2"]);
}

#[test]
fn any_program_of_an_owner_rolls_back_exactly_in_two_groups_and_several_sessions() {
    run_by_program(
        "owner, two groups, --jobs 3",
        TWO_GROUPS,
        true,
        &["--with", "beside", "--jobs", "3"],
    );
}

#[test]
fn any_program_rolls_back_exactly_as_superuser() {
    let db = support::database();
    let mut client = db.client();
    client.batch_execute(&format!("create schema app; {TABLES}")).unwrap();
    db.file("emaj.yaml", MANIFEST);
    support::emaj(&db).args(["install"]).run().ok();
    run("superuser", 80, Machine::new(client));
}

#[test]
fn any_program_rolls_back_exactly_as_an_ordinary_owner() {
    let db = support::database();
    let owner = support::owner(&db);
    let mut client = owner.client();
    client.batch_execute(&format!("create schema app; {TABLES}")).unwrap();
    db.file("emaj.yaml", MANIFEST);
    support::emaj(&db).user(owner.name()).args(["install"]).run().ok();
    run("owner", 80, Machine::new(client));
}

/// Log rows whose order is not, or need not be, that of the changes.
#[test]
fn statements_inside_statements_roll_back_exactly() {
    let db = support::database();
    let mut client = db.client();
    client.batch_execute(&format!("create schema app; {TABLES}")).unwrap();
    db.file("emaj.yaml", MANIFEST);
    support::emaj(&db).args(["install"]).run().ok();
    let mut machine = Machine::new(client);
    for statement in [
        // The cascade changes children, whose trigger changes the parent again.
        "update app.parent set id = id + 10 where id = 1",
        // A function that writes the row which the same statement has just changed.
        "update app.simple set v = case when id = 1 then 'changed' else app.meddle(1) end where id in (1, 2)",
        // Keys that change places, captured row by row.
        "update app.deferred_by_row set id = 6 - id",
        "update app.favourite set best = true, id = id + 10 where id > 1",
    ] {
        machine.begin_anew();
        machine.client.batch_execute(statement).unwrap();
        machine.roll_back(0, true).unwrap();
        machine.roll_back(0, false).unwrap();
    }
}
