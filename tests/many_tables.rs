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
        crowded.before = crowded.schema();
        crowded
    }

    /// Has them captured, some at a time.
    fn installed() -> Crowded {
        let crowded = Crowded::new();
        for last in [60, 120, 180] {
            let tables: Vec<String> = (1..=last).map(|number| format!("many.t{number}")).collect();
            crowded.write(&MANIFEST.replace("many.*", &tables.join(", ")));
            crowded.emaj(&["install"]).ok();
        }
        crowded
    }

    fn write(&self, manifest: &str) {
        std::fs::write(self.directory.path().join("emaj.yaml"), manifest).unwrap();
    }

    fn client(&self) -> Client {
        Client::connect(&self.cluster.conninfo("postgres"), NoTls).unwrap()
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

    /// Returns the whole schema, as `pg_dump -s` writes it down.
    fn schema(&self) -> String {
        support::dump(&self.cluster, &self.cluster.conninfo("postgres"), &["-s"])
    }
}

#[test]
fn an_uninstall_gets_by_with_the_locks_of_the_server() {
    let crowded = Crowded::installed();
    let mut client = crowded.client();
    client.batch_execute("insert into many.t1 values (1, 'one')").unwrap();
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
    support::said(&stopped, "the server has room for");
    let left: i64 = client
        .query_one("select count(*) from emaj.emaj_relation", &[])
        .unwrap()
        .get(0);
    assert!(0 < left && left < 180, "{left} are left");
    // What is left is whole: it is captured, and nothing goes back to before.
    holder.rollback().unwrap();
    let problems: Vec<String> = client
        .query("select verify_problem from emaj.emaj_detailed_verify_all()", &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(problems, ["it logs, and has no mark that can be rolled back to"]);
    crowded.emaj(&["mark", "set", "many", "between"]).ok();
    client
        .batch_execute("insert into many.t100 values (1, 'lost')")
        .unwrap();
    crowded.emaj(&["rollback", "many", "between", "--yes"]).ok();
    assert!(client.query("select from many.t100", &[]).unwrap().is_empty());

    // Who agreed to the plan agreed to what is left of it after each transaction.
    let seen = crowded.agreed("uninstall");
    assert!(seen.contains("uninstalled: "), "{seen}");
    assert_eq!(crowded.schema(), crowded.before);
}
