//! Many tables: what is asked of all of them reads no catalogue as a whole for each, and an uninstall gets by with the locks that the server has.

use std::io::Write as _;
use std::process::{Command, Stdio};

use emaj::cluster::Cluster;
use postgres::{Client, NoTls};
use tempfile::TempDir;

use crate::support::{self, Run};

const MANIFEST: &str = "version: 1\nname: many\nroles: { admin: null, viewer: null }\ngroups: { many: { tables: [many.*], sequences: none } }\n";

/// Makes tables, each in a transaction of its own: their locks are not to fill the table either.
fn make(client: &mut Client, tables: std::ops::RangeInclusive<usize>) {
    client.batch_execute("create schema if not exists many").unwrap();
    for number in tables {
        let table = format!("create table many.t{number} (id int primary key, v text)");
        client.batch_execute(&table).unwrap();
    }
}

#[test]
fn what_is_asked_of_each_log_reads_the_catalogue_by_an_index() {
    const TABLES: i64 = 60;
    let db = support::database();
    let mut client = db.client();
    make(&mut client, 1..=60);
    db.file("emaj.yaml", MANIFEST);
    support::emaj(&db).args(["install"]).run().ok();
    let classes: i64 = client.query_one("select count(*) from pg_class", &[]).unwrap().get(0);
    for call in [
        "emaj._verify_objects()",
        "emaj._drift(array['many'])",
        "emaj._logs_size('many', null)",
        "emaj.emaj_purge_group('many')",
        "emaj.emaj_stop_group('many')",
        "emaj._drop('many', true)",
    ] {
        let mut transaction = client.transaction().unwrap();
        // (A catalogue as small as this one would be read as a whole even where an index serves.)
        let asked = format!("set local enable_seqscan = off; select * from {call}");
        transaction.batch_execute(&asked).unwrap();
        let read: i64 = transaction
            .query_one(
                "select seq_tup_read + idx_tup_fetch from pg_stat_xact_sys_tables where relname = 'pg_class'",
                &[],
            )
            .unwrap()
            .get(0);
        assert!(
            read < TABLES * classes / 2,
            "{call} read {read} rows of pg_class, which has {classes}"
        );
        transaction.rollback().unwrap();
    }
}

/// The planner takes what comes from a function for a thousand rows, and what it takes for much it compiles first, which takes longer than all else.
#[test]
fn what_is_small_is_not_compiled() {
    let db = support::database();
    make(&mut db.client(), 1..=1);
    db.file("emaj.yaml", MANIFEST);
    support::emaj(&db).args(["install"]).run().ok();
    let found = db.psql(
        "select proname, prorows, 'jit=off' = any (proconfig) from pg_proc
          where proname in ('_unfit', 'emaj_origin') and pronamespace = 'emaj'::regnamespace order by 1",
    );
    assert_eq!(found, "_unfit|1000|t\nemaj_origin|1|f");
}

/// A server with a small lock table, and `emaj` on it.
struct Crowded {
    cluster: Cluster,
    directory: TempDir,
    /// What the schema was before.
    before: String,
}

impl Crowded {
    /// Has many more tables than one transaction could capture or let go.
    fn new() -> Crowded {
        let settings = [
            ("max_connections", "20"),
            ("max_locks_per_transaction", "64"),
            ("max_prepared_transactions", "0"),
            ("max_wal_senders", "0"),
            ("max_worker_processes", "1"),
            ("autovacuum_max_workers", "1"),
        ];
        let mut crowded = Crowded {
            cluster: Cluster::builder().settings(settings).start().unwrap(),
            directory: TempDir::new().unwrap(),
            before: String::new(),
        };
        make(&mut crowded.client(), 1..=180);
        crowded.sql(
            "create sequence many.ids owned by many.t1.id;
             alter table many.t1 alter id set default nextval('many.ids');
             create schema other;
             create table other.t (id int primary key)",
        );
        crowded.before = crowded.schema();
        crowded
    }

    /// Writes a manifest of these tables.
    fn write(&self, tables: std::ops::RangeInclusive<usize>, roles: &str) {
        let tables: Vec<String> = tables.map(|number| format!("many.t{number}")).collect();
        let manifest = MANIFEST
            .replace("sequences: none", "sequences: owned")
            .replace("{ admin: null, viewer: null }", roles)
            .replace("many.*", &tables.join(", "));
        self.file("emaj.yaml", &manifest);
    }

    fn file(&self, name: &str, text: &str) {
        std::fs::write(self.directory.path().join(name), text).unwrap();
    }

    fn client(&self) -> Client {
        Client::connect(&self.cluster.conninfo("postgres"), NoTls).unwrap()
    }

    fn sql(&self, sql: &str) {
        self.client().batch_execute(sql).unwrap();
    }

    /// Returns the first column of what is asked, as text.
    fn ask(&self, query: &str) -> Vec<String> {
        let rows = self.client().query(query, &[]).unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    fn emaj(&self, args: &[&str]) -> Run {
        support::emaj_alone(self.directory.path())
            .envs(self.cluster.env("postgres"))
            .args(args)
            .run()
    }

    /// Runs `emaj` on a terminal where somebody says yes once, and returns what that shows.
    fn agreed(&self, command: &str) -> String {
        let mut script = Command::new("script");
        script
            .args(["-q", "-e", "-c"])
            .arg(format!("{} {command}", env!("CARGO_BIN_EXE_emaj")))
            .arg("/dev/null")
            .current_dir(self.directory.path())
            .envs(self.cluster.env("postgres"));
        let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"y\n").unwrap();
        let done = child.wait_with_output().unwrap();
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    /// Runs a script with psql, up to its first error.
    fn script(&self, script: &str) {
        self.file("script.sql", script);
        let file = self.directory.path().join("script.sql");
        support::run_file(&self.cluster.conninfo("postgres"), &file, &[]);
    }

    /// Returns the whole schema, as `pg_dump -s` writes it down.
    fn schema(&self) -> String {
        support::dump(&self.cluster, &self.cluster.conninfo("postgres"), &["-s"])
    }
}

const OTHER: &str =
    "version: 1\nname: other\nroles: { admin: null, viewer: null }\ngroups: { other: { tables: [other.t] } }\n";
const NO_ROLES: &str = "{ admin: null, viewer: null }";

/// (One test, one after the other: they share the locks of a server.)
#[test]
fn what_takes_too_many_locks_is_said_or_divided() {
    let crowded = Crowded::new();
    what_does_not_fit_says_how_it_would(&crowded);
    an_uninstall_that_stops_goes_on(&crowded);
    others_keep_what_they_have(&crowded);
}

/// Takes all locks that there are, but for some hundreds, which whoever only looks gets by with.
fn crowd(client: &mut Client) {
    let locked = |hundred: usize| {
        let locks = format!("select pg_advisory_lock(n) from generate_series({hundred}01, {hundred}99) as n");
        client.batch_execute(&locks).is_ok()
    };
    let _full = (0..).map(locked).find(|locked| !locked);
    client
        .batch_execute("select pg_advisory_unlock(n) from generate_series(1, 299) as n where n % 100 > 0")
        .unwrap();
}

/// Leaves all tables captured.
fn what_does_not_fit_says_how_it_would(crowded: &Crowded) {
    let mut other = crowded.client();
    crowded.write(1..=180, NO_ROLES);
    crowd(&mut other);
    let full = crowded.emaj(&["install"]).code(1);
    support::said(
        &full,
        "this takes about 2040; raise it to 205 and restart the server, or take fewer at a time",
    );
    other.batch_execute("select pg_advisory_unlock_all()").unwrap();
    for last in [90, 180] {
        crowded.write(1..=last, NO_ROLES);
        crowded.emaj(&["install"]).ok();
    }
    // A group is dropped at once.
    crowded.file("emaj.yaml", &OTHER.replace("name: other", "name: many"));
    crowd(&mut other);
    let full = crowded.emaj(&["install", "--allow-destroy"]).code(1);
    support::said(
        &full,
        "or begin anew: `emaj uninstall` takes out in several transactions",
    );
    other.batch_execute("select pg_advisory_unlock_all()").unwrap();
    crowded.write(1..=180, NO_ROLES);
}

fn an_uninstall_that_stops_goes_on(crowded: &Crowded) {
    crowded.sql("insert into many.t1 (v) values ('one')");
    // In between: somebody has one of the last tables, and what goes before is done.
    let mut other = crowded.client();
    let mut holder = other.transaction().unwrap();
    holder
        .batch_execute("insert into many.t100 values (1, 'mine')")
        .unwrap();
    let stopped = crowded
        .emaj(&["uninstall", "--yes", "--wait", "0", "--lock-timeout", "200ms"])
        .code(11);
    support::said(&stopped, "the same command goes on from there");
    assert!(!stopped.stderr.contains("nothing was changed"), "{stopped}");
    support::said(&stopped, "this step changed nothing");
    support::said(&stopped, "the server has room for");
    holder.rollback().unwrap();
    let mut client = crowded.client();
    let left: i64 = client
        .query_one("select count(*) from emaj.emaj_relation", &[])
        .unwrap()
        .get(0);
    assert!(0 < left && left < 180, "{left} are left");
    // What is left is whole: it is captured, and nothing goes back to before.
    let problems = crowded.ask("select verify_problem from emaj.emaj_detailed_verify_all()");
    assert_eq!(problems, ["it logs, and has no mark that can be rolled back to"]);
    crowded.emaj(&["mark", "set", "many", "between"]).ok();
    crowded.sql("insert into many.t100 values (1, 'lost'); insert into many.t1 (v) values ('two')");
    crowded.emaj(&["rollback", "many", "between", "--yes"]).ok();
    assert!(client.query("select from many.t100", &[]).unwrap().is_empty());
    // A table that is not captured any more keeps its rows, and its sequence goes on behind them.
    crowded.sql("insert into many.t1 (v) values ('three')");
    assert_eq!(
        crowded.ask("select v from many.t1 order by id"),
        ["one", "two", "three"]
    );

    // Who agreed to the plan agreed to what is left of it after each transaction.
    let seen = crowded.agreed("uninstall");
    assert!(seen.contains("uninstalled: "), "{seen}");
    assert_eq!(crowded.schema(), crowded.before);
}

fn others_keep_what_they_have(crowded: &Crowded) {
    crowded.file("other.yaml", OTHER);
    crowded.emaj(&["install", "other.yaml"]).ok();
    let roles = "{ admin: null, viewer: many_viewer }";
    crowded.write(1..=60, roles);
    crowded.emaj(&["install"]).ok();
    what_goes_is_the_groups_own(crowded);

    // (The schema stays: what it takes itself does not count.)
    let shown = crowded.emaj(&["uninstall", "--dry-run", "-o", "sql"]).ok();
    support::said(&shown, "it takes about 1140 locks");
    support::said(&shown, "2 transactions before the last");
    crowded.script(&shown.stdout);
    assert_eq!(crowded.ask("select group_name from emaj.emaj_group"), ["other"]);
    assert_eq!(crowded.ask("select role_name from emaj.emaj_role"), [""; 0]);

    // Now with logs of two parts, and those that have left the group before the others.
    crowded.emaj(&["install"]).ok();
    crowded.sql("select emaj._rotate(r) from emaj.emaj_relation r where rel_group = 'many' and rel_log is not null");
    crowded.write(31..=60, roles);
    crowded.emaj(&["install", "--allow-destroy"]).ok();
    let seen = crowded.agreed("uninstall");
    assert!(seen.contains("22 logs of group many"), "{seen}");
    let history = crowded
        .ask("select hist_wording from emaj.emaj_hist where hist_function = 'UNINSTALL' order by hist_id desc limit 1");
    assert!(
        seen.contains(&format!("uninstalled: {} taken", history[0])),
        "{history:?} {seen}"
    );
    assert_eq!(crowded.ask("select group_name from emaj.emaj_group"), ["other"]);

    crowded.emaj(&["uninstall", "other.yaml", "--yes"]).ok();
    assert_eq!(crowded.schema(), crowded.before);
}

/// A plan that was saved may be of relations that are another group's by now.
fn what_goes_is_the_groups_own(crowded: &Crowded) {
    let mut client = crowded.client();
    let mut transaction = client.transaction().unwrap();
    let ten = "array(select rel_id from emaj.emaj_relation where rel_group = 'many' and rel_log is not null order by rel_id limit 10)";
    transaction
        .batch_execute(&format!("select emaj._remove_relations('many', {ten})"))
        .unwrap();
    let locks: i64 = transaction
        .query_one(
            "select count(*) from pg_locks where pid = pg_backend_pid() and locktype in ('relation', 'object')",
            &[],
        )
        .unwrap()
        .get(0);
    // It takes what a plan reckons with, beside the registry; since 18 also each NOT NULL of a log, for which the halves and quarters have room.
    assert!((150..=190 + 60 + 60).contains(&locks), "{locks}");
    transaction.rollback().unwrap();
    let refused = client
        .batch_execute(&format!("select emaj._remove_relations('other', {ten})"))
        .unwrap_err();
    let said = refused.as_db_error().map_or("", |error| error.message());
    assert_eq!(
        said,
        "group `other` does not have the relations any more that are to be taken out"
    );
}
