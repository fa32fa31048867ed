//! Whatever is altered under a captured table, the application's writes go on, and a rollback is exact or refused with its reason.
//!
//! Each case has a database of its own: writers on other sessions while the ALTER runs inside a transaction that writes before and
//! after it (so that plans are cached), then a rollback to the mark before, an install that follows, an empty plan, a new round.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use postgres::Client;
use postgres::error::{DbError, SqlState};

use crate::support::{self, Database};

const SETUP: &str = "
    create schema app; create schema other; create schema side;
    create type app.mood as enum ('low', 'high');
    create table app.t (id int primary key, alpha text not null default 'x', beta int, extra text, m app.mood default 'low');
    create table app.u (id int primary key, t_id int references app.t on delete cascade, v int);
    create table app.p (id int, r int, v text, primary key (id, r)) partition by list (r);
    create table app.p0 partition of app.p for values in (0);
    create table app.p1 partition of app.p for values in (1);
    create index t_beta on app.t (beta);
    create table other.base (id int not null, alpha text not null);
    create table other.free (id int not null, r int not null, v text);
    insert into app.t (id, beta) select n, n from generate_series(1, 30) n;
    insert into app.u select n, n, n from generate_series(1, 20) n;
    insert into app.p select n, n % 2, 'a' from generate_series(1, 20) n;";

const MANIFEST: &str =
    "version: 1\nroles: { admin: null, viewer: null }\ngroups: { app: { tables: [\"app*.*\", \"other.t*\"] } }\n";

/// What the application does all the time; N is a new number each time.
const WRITES: &[&str] = &[
    "insert into app.t (id, alpha) values (N, 'new')",
    "update app.t set beta = coalesce(beta, 0) + 1 where id = N % 30 + 1",
    "update app.t set alpha = alpha || '.' where id = N % 7 + 1",
    "delete from app.t where id = N - 3 and id > 100",
    "update app.u set v = v + 1 where id = N % 20 + 1",
    "update app.p set v = v || '.' where id = N % 20 + 1",
    "insert into app.p values (N, N % 2, 'new')",
];

const READS: &[&str] = &[
    "select format('t %s %s %s', id, alpha, beta) from app.t order by id",
    "select format('u %s %s %s', id, t_id, v) from app.u order by id",
    "select format('p %s %s %s', id, r, v) from app.p order by id, r",
];

#[derive(Clone, Copy, PartialEq)]
enum Then {
    /// The rollback to the mark before is exact.
    Exact,
    /// It is exact once an install has taken in the new columns, and refused before.
    Installed,
    /// It is refused with its reason.
    Refused,
    /// The guard refuses the ALTER itself.
    Guarded,
}
use Then::{Exact, Guarded, Installed, Refused};

/// The ALTER, what it renames in the application's own statements, and what comes of it.
type Case = (&'static str, &'static [(&'static str, &'static str)], Then);

const CASES: &[Case] = &[
    ("alter table app.t rename to t9", &[("app.t ", "app.t9 ")], Exact),
    ("alter table app.t rename column beta to gamma", &[("beta", "gamma")], Exact),
    ("alter table app.t rename column beta to alph; alter table app.t rename column alpha to beta; alter table app.t rename column alph to alpha",
        &[("(id, alpha) values", "(id, beta) values"), ("set beta = coalesce(beta", "set alpha = coalesce(alpha"),
          ("set alpha = alpha ||", "set beta = beta ||"), ("id, alpha, beta", "id, beta, alpha")], Exact),
    ("alter table app.t rename column beta to delta; alter table app.t add column beta int", &[("alpha, beta)", "alpha, delta)")], Installed),
    ("alter schema app rename to app2", &[("app.", "app2.")], Exact),
    ("alter table app.t set schema other", &[("app.t ", "other.t ")], Exact),
    ("alter table app.t add column n1 int", &[], Installed),
    ("alter table app.t add column n1 text not null default 'd'", &[], Installed),
    ("alter table app.t add column n1 timestamptz default clock_timestamp()", &[], Installed),
    ("alter table app.t add column n1 int generated always as (beta * 2) stored", &[], Installed),
    // (Its sequence comes into the group with the install: only a partial rollback goes back over that.)
    ("alter table app.t add column n1 int generated always as identity", &[], Refused),
    ("alter table app.t add column n1 int; alter table app.t drop column n1", &[], Exact),
    ("alter table app.t add column n1 int; update app.t set n1 = 4; alter table app.t alter n1 type text; alter table app.t rename n1 to n2", &[], Installed),
    ("alter table app.t drop column extra", &[], Guarded),
    ("alter table app.t drop column beta", &[], Guarded),
    ("alter table app.t alter beta type bigint", &[], Guarded),
    ("alter table app.t alter alpha type varchar(200)", &[], Guarded),
    ("drop table app.u", &[], Guarded),
    ("alter table app.p drop column v", &[], Guarded),
    ("alter table app.t alter extra set default 'e', alter beta drop not null", &[], Exact),
    ("alter table app.t alter alpha drop not null", &[], Exact),
    ("alter table app.t alter m set not null", &[], Exact),
    ("alter table app.t alter alpha drop default", &[], Exact),
    ("alter table app.t add constraint positive check (id > 0) not valid; alter table app.t validate constraint positive", &[], Exact),
    ("alter table app.u drop constraint u_t_id_fkey", &[], Exact),
    ("alter table app.u drop constraint u_t_id_fkey; alter table app.u add foreign key (t_id) references app.t on update cascade", &[], Exact),
    ("alter table app.u alter constraint u_t_id_fkey deferrable initially deferred", &[], Exact),
    ("alter table app.t add unique (id, alpha)", &[], Exact),
    ("alter table app.t rename constraint t_pkey to key_of_t; alter index app.t_beta rename to t_b", &[], Exact),
    ("create index on app.t (alpha); create index on app.p (v)", &[], Exact),
    ("create index concurrently on app.t (alpha)", &[], Exact),
    ("drop index app.t_beta", &[], Exact),
    ("reindex table app.t", &[], Exact),
    ("reindex table concurrently app.t", &[], Exact),
    ("create trigger later before update on app.t for each row execute function suppress_redundant_updates_trigger()", &[], Exact),
    ("create function app.f() returns trigger language plpgsql as $$ begin update app.t set extra = new.id::text where id = 29; return new; end $$;
      create trigger others before insert or update on app.t for each row when (new.id > 30) execute function app.f(); update app.t set id = 31 where id = 30;
      insert into app.t (id) values (30); drop trigger others on app.t", &[], Exact),
    ("alter table app.t disable trigger user", &[], Refused),
    ("alter table app.t disable trigger user; alter table app.t enable trigger user", &[], Refused),
    ("create role ROLE; alter table app.t owner to ROLE", &[], Exact),
    ("alter table app.p0 set (autovacuum_enabled = false)", &[], Exact),
    ("alter table app.u set unlogged", &[], Refused),
    ("alter table app.u set unlogged; alter table app.u set logged", &[], Exact),
    ("cluster app.t using t_pkey", &[], Exact),
    ("vacuum full app.t", &[], Exact),
    ("vacuum analyze app.t", &[], Exact),
    ("alter table app.t set tablespace pg_default", &[], Exact),
    ("alter table app.t replica identity full", &[], Exact),
    ("alter table app.t enable row level security; create policy none on app.t using (false)", &[], Exact),
    ("alter table app.t inherit other.base", &[], Refused),
    ("alter table app.t inherit other.base; alter table app.t no inherit other.base", &[], Exact),
    ("alter table app.p attach partition other.free for values in (2, 3); update app.p set r = 2 where id = 5; update app.p set r = 0 where id = 5", &[], Exact),
    ("create table app.p2 (v text, r int not null, id int not null); alter table app.p attach partition app.p2 for values in (2); insert into app.p values (7, 2, 'two')", &[], Exact),
    ("create table app.p2 partition of app.p for values in (2); insert into app.p select n, 2, 'two' from generate_series(1, 9) n; truncate app.p2", &[], Exact),
    ("alter table app.p detach partition app.p1", &[("app.p ", "app.p0 "), ("N % 2, 'new'", "0, 'new'")], Refused),
    ("alter table app.p detach partition app.p1 concurrently", &[("app.p ", "app.p0 "), ("N % 2, 'new'", "0, 'new'")], Refused),
    ("drop table app.p1", &[("app.p ", "app.p0 "), ("N % 2, 'new'", "0, 'new'")], Refused),
    ("alter table app.p1 rename to q1; alter table app.q1 set schema other", &[], Exact),
    ("alter table app.t drop constraint t_pkey cascade; alter table app.t add primary key (id, alpha)", &[], Refused),
    ("alter table app.t drop constraint t_pkey cascade; alter table app.t add primary key (id)", &[], Exact),
    ("alter table app.t alter id add generated by default as identity (start 100000)", &[], Exact),
    ("comment on table app.t is 'new'; comment on column app.t.beta is 'b'", &[], Exact),
    ("alter table app.t alter beta set statistics 500; create statistics app.s on id, beta from app.t", &[], Exact),
    ("alter table app.t alter alpha set storage external, alter alpha set compression pglz", &[], Exact),
    ("alter table app.t set (fillfactor = 50)", &[], Exact),
    ("alter type app.mood add value 'higher'", &[], Exact),
    ("create publication pub for table app.t", &[], Exact),
    ("create rule quiet as on update to app.t where new.id < 0 do instead nothing", &[], Exact),
    ("create view other.v as select * from app.t; grant all on app.t to public", &[], Exact),
    ("truncate app.t cascade", &[], Exact),
    ("analyze", &[], Exact),
];

struct Storm {
    case: &'static Case,
    db: Database,
    number: AtomicUsize,
    writes: AtomicUsize,
}

impl Storm {
    fn renamed(&self, sql: &str) -> String {
        self.case
            .1
            .iter()
            .fold(sql.to_owned(), |sql, (from, to)| sql.replace(from, to))
    }

    /// One write of the application, by the old names and, where there are new ones, by those. Fails only by emaj.
    fn write(&self, client: &mut Client, statement: &str) -> Result<(), String> {
        let number = 1000 + self.number.fetch_add(1, Ordering::Relaxed);
        let number = number.to_string();
        let (old, new) = (
            statement.replace('N', &number),
            self.renamed(statement).replace('N', &number),
        );
        let Err(error) = client.batch_execute(&old) else {
            return Ok(());
        };
        let first = complaint(&error);
        if !of_names(&error) {
            return first.map_or(Ok(()), Err);
        }
        if let Some(first) = first {
            return Err(first);
        }
        match client.batch_execute(&new) {
            Ok(()) => Ok(()),
            Err(error) if of_names(&error) || error.as_db_error().is_some_and(of_concurrency) => {
                complaint(&error).map_or(Ok(()), Err)
            }
            Err(error) => Err(format!("`{new}`: {error:?}")),
        }
    }

    fn copy(&self, client: &mut Client, renamed: bool) -> Vec<String> {
        let sql = |read: &&str| {
            if renamed {
                self.renamed(read)
            } else {
                (*read).to_owned()
            }
        };
        READS
            .iter()
            .flat_map(|read| client.query(&sql(read), &[]).unwrap())
            .map(|row| row.get(0))
            .collect()
    }

    fn run(&self) -> Result<(), String> {
        let (ddl, _, then) = *self.case;
        let ddl = ddl.replace("ROLE", &format!("{}_other", self.db.name()));
        let mut client = self.db.client();
        client.batch_execute(SETUP).unwrap();
        self.db.file("emaj.yaml", MANIFEST);
        support::emaj(&self.db).args(["install"]).run().ok();
        let stop = AtomicBool::new(false);
        let failures = Mutex::new(Vec::new());
        let mut before = Vec::new();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut client = self.db.client();
                    let mut at = 0;
                    while !stop.load(Ordering::Relaxed) {
                        match self.write(&mut client, WRITES[at % WRITES.len()]) {
                            Ok(()) => self.writes.fetch_add(1, Ordering::Relaxed),
                            Err(failure) => {
                                failures.lock().unwrap().push(failure);
                                break;
                            }
                        };
                        at += 1;
                        std::thread::sleep(Duration::from_millis(2));
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(20));
            let copies = "begin isolation level repeatable read; select emaj.emaj_set_mark_group('app', 'before')";
            client.batch_execute(copies).unwrap();
            before = self.copy(&mut client, false);
            client.batch_execute("commit").unwrap();
            if let Err(failure) = self.alter(&mut client, &ddl, then) {
                failures.lock().unwrap().push(failure);
            }
            for _ in 0..2 {
                for statement in WRITES {
                    if let Err(failure) = self.write(&mut client, statement) {
                        failures
                            .lock()
                            .unwrap()
                            .push(format!("in the session of the ALTER: {failure}"));
                    }
                }
            }
            std::thread::sleep(Duration::from_millis(20));
            stop.store(true, Ordering::Relaxed);
        });
        if let Some(failure) = failures.lock().unwrap().first() {
            return Err(failure.clone());
        }
        let after = self.copy(&mut client, true);
        let back = "select emaj.emaj_logged_rollback_group('app', 'before')";
        if then == Installed {
            let refused = client.batch_execute(back).err();
            if refused.and_then(|error| error.code().cloned()) != Some(SqlState::from_code("EJ001")) {
                return Err("columns are not captured yet, and that was not refused".to_owned());
            }
            support::emaj(&self.db).args(["install"]).run().ok();
        }
        match (then, client.batch_execute(back)) {
            (Exact | Guarded | Installed, Ok(())) => {
                let now = self.copy(&mut client, true);
                if now != before {
                    return Err(format!("the rollback is not exact: {:?}", difference(&before, &now)));
                }
            }
            (Refused, Err(error)) if error.code().is_some_and(|code| code.code() == "EJ001") => {
                if self.copy(&mut client, true) != after {
                    return Err("refused, and yet something was changed".to_owned());
                }
            }
            (_, result) => return Err(format!("the rollback ended unexpectedly: {result:?}")),
        }
        self.follow(&mut client)
    }

    /// Installs again, and goes through a mark and a rollback by the new names.
    fn follow(&self, client: &mut Client) -> Result<(), String> {
        if self.case.0.ends_with("set unlogged") {
            client.batch_execute("alter table app.u set logged").unwrap();
        }
        let installed = support::emaj(&self.db).args(["install", "--allow-destroy"]).run();
        if installed.status != Some(0) {
            return Err(format!("install does not follow: {installed}"));
        }
        let plan = support::emaj(&self.db).args(["plan", "--detailed-exitcode"]).run();
        if plan.status != Some(0) {
            return Err(format!("the plan is not empty: {plan}"));
        }
        let wrong = self.db.psql("select * from emaj.emaj_verify_all()");
        if wrong != "No error detected" {
            return Err(format!("verify: {wrong}"));
        }
        client
            .batch_execute("select emaj.emaj_set_mark_group('app', 'again')")
            .unwrap();
        let before = self.copy(client, true);
        for statement in WRITES {
            self.write(client, statement)?;
        }
        let rolled_back = client.batch_execute("select emaj.emaj_rollback_group('app', 'again')");
        rolled_back.map_err(|error| format!("the second rollback failed: {error:?}"))?;
        let now = self.copy(client, true);
        if now == before {
            Ok(())
        } else {
            Err(format!(
                "the second rollback is not exact: {:?}",
                difference(&before, &now)
            ))
        }
    }

    /// Runs the ALTER between writes of the same transaction, or alone where PostgreSQL wants it so.
    fn alter(&self, client: &mut Client, ddl: &str, then: Then) -> Result<(), String> {
        let alone = ddl.contains("concurrently") || ddl.starts_with("vacuum") || ddl.contains("add value");
        client.batch_execute("set lock_timeout = '2s'").unwrap();
        // Writers on several tables and an ALTER may lock each other up; an application would try again, and so do we.
        for _ in 0..10 {
            let result = if alone {
                client.batch_execute(ddl)
            } else {
                let n = 1_000_000 + self.number.fetch_add(1, Ordering::Relaxed);
                let after = self.renamed(&format!("insert into app.t (id, alpha) values ({}, 'after')", n * 10));
                let touch = if ddl.contains("truncate") {
                    String::new()
                } else {
                    self.renamed("; update app.t set alpha = alpha || '+' where id = 3")
                };
                client
                    .batch_execute(&format!("begin; update app.u set v = v where id = 1; update app.t set beta = beta + 1 where id = 2; {ddl}; {after}{touch}"))
                    .and_then(|()| client.batch_execute("commit"))
            };
            let Err(error) = result else {
                return if then == Guarded {
                    Err("the guard did not refuse".to_owned())
                } else {
                    Ok(())
                };
            };
            client.batch_execute("rollback").unwrap();
            let again = error.as_db_error().is_some_and(of_concurrency);
            match error.as_db_error() {
                Some(db)
                    if then == Guarded
                        && (*db.code() == SqlState::DEPENDENT_OBJECTS_STILL_EXIST
                            || *db.code() == SqlState::FEATURE_NOT_SUPPORTED
                            || *db.code() == SqlState::WRONG_OBJECT_TYPE) =>
                {
                    return Ok(());
                }
                _ if again => std::thread::sleep(Duration::from_millis(20)),
                _ => return Err(format!("the ALTER failed: {error:?}")),
            }
        }
        Err("the ALTER got no lock".to_owned())
    }
}

fn difference(a: &[String], b: &[String]) -> (Vec<String>, Vec<String>) {
    let only = |a: &[String], b: &[String]| a.iter().filter(|line| !b.contains(line)).take(5).cloned().collect();
    (only(a, b), only(b, a))
}

fn of_names(error: &postgres::Error) -> bool {
    let codes = [
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_COLUMN,
        SqlState::INVALID_SCHEMA_NAME,
        SqlState::DATATYPE_MISMATCH,
        SqlState::UNDEFINED_FUNCTION,
        SqlState::CHECK_VIOLATION,
        SqlState::INVALID_TEXT_REPRESENTATION,
    ];
    error.code().is_some_and(|code| codes.contains(code))
}

fn of_concurrency(error: &DbError) -> bool {
    [
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::LOCK_NOT_AVAILABLE,
    ]
    .contains(error.code())
}

/// Returns what is wrong about a failed write: everything but the application's own affair (names, keys, two writers at once), and
/// everything that comes out of a function of emaj.
fn complaint(error: &postgres::Error) -> Option<String> {
    let Some(db) = error.as_db_error() else {
        return Some(format!("{error:?}"));
    };
    let inside = db.where_().is_some_and(|place| place.contains("emaj."));
    let own = of_names(error) || of_concurrency(db) || db.code().code().starts_with("23");
    (inside || !own).then(|| format!("{db:?}"))
}

#[test]
fn forty_kinds_of_alter_break_no_write_and_no_rollback() {
    let cases: Vec<&'static Case> = (0..support::scale(1)).flat_map(|_| CASES).collect();
    let only = std::env::var("EMAJ_CASE").unwrap_or_default();
    let (next, writes) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if !case.0.contains(&only) {
                        continue;
                    }
                    let storm = Storm {
                        case,
                        db: support::database(),
                        number: AtomicUsize::new(0),
                        writes: AtomicUsize::new(0),
                    };
                    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| storm.run()));
                    if let Err(failure) = ran.unwrap_or_else(|_| Err("the test itself failed, see above".to_owned())) {
                        wrong.lock().unwrap().push(format!("{}\n    {failure}", case.0));
                    }
                    writes.fetch_add(storm.writes.load(Ordering::Relaxed), Ordering::Relaxed);
                    if case.0.contains("ROLE") {
                        let role = format!("{}_other", storm.db.name());
                        storm
                            .db
                            .psql(&format!("drop owned by {role} cascade; drop role {role}"));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    println!(
        "ddl storm: {} kinds of ALTER, {} writes beside them, {} wrong",
        cases.len(),
        writes.into_inner(),
        wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
