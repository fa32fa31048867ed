//! A database that forgets: a server that crashes and did not wait for the disk, or one that knows less than the place has.

use emaj::cluster::Cluster;
use postgres::{Client, NoTls};

use super::{drain, install};
use crate::support::rows::sink_into;
use crate::support::{database, emaj_alone, shared_cluster, until};

#[test]
fn what_was_delivered_is_kept_where_commits_do_not_wait() {
    let folder = tempfile::tempdir().unwrap();
    // Nothing is written to disk but what somebody waits for.
    let mut cluster = Cluster::builder()
        .durable()
        .settings([
            ("synchronous_commit", "off"),
            ("wal_writer_delay", "10s"),
            ("wal_writer_flush_after", "64MB"),
            ("autovacuum", "off"),
        ])
        .start()
        .unwrap();
    let sql = |cluster: &Cluster, sql: &str| {
        let mut client = Client::connect(&cluster.conninfo("postgres"), NoTls).unwrap();
        client.batch_execute(sql).unwrap();
    };
    sql(&cluster, "create table item (id int primary key)");
    let manifest = "version: 1\nroles: { admin: null, viewer: null }\nsinks: { lines: { file: { path: out.ndjson } } }\n\
         bindings: { items: { table: public.item, to: lines, message: { body: '{{ row.id }}' } } }\n";
    std::fs::write(folder.path().join("emaj.yaml"), manifest).unwrap();
    let env = cluster.env("postgres");
    let emaj = |args: &[&str]| emaj_alone(folder.path()).envs(env.clone()).args(args);
    emaj(&["install"]).run().ok();
    sql(&cluster, "insert into item select generate_series(1, 1000)");
    emaj(&["run", "--until-empty"]).run().ok();
    cluster.stop_immediate().unwrap();
    cluster.start_again().unwrap();
    let there = Client::connect(&cluster.conninfo("postgres"), NoTls)
        .unwrap()
        .query_one("select count(*) from item", &[])
        .unwrap();
    assert_eq!(there.get::<_, i64>(0), 1000, "what was delivered");
    sql(&cluster, "insert into item values (2000)");
    emaj(&["run", "--until-empty"]).run().ok();
    let lines = std::fs::read_to_string(folder.path().join("out.ndjson")).unwrap();
    assert_eq!(lines.lines().count(), 1001);
}

#[test]
fn a_place_that_is_further_than_the_database_gets_all_that_is_new() {
    let (db, there) = (database(), database());
    for db in [&db, &there] {
        db.psql("create table item (id int primary key)");
    }
    install(
        &db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks: {{ copy: {} }}\n\
             bindings: {{ items: {{ table: public.item, to: copy, row: {{}} }} }}\n",
            sink_into(&there, shared_cluster().superuser())
        ),
    );
    for id in 1..=3 {
        db.psql(&format!("insert into item values ({id})"));
        let run = drain(&db).run().ok();
        assert!(!run.stderr.contains("set back"), "{run}");
    }
    // As where a standby took over that knew of less: its windows have numbers that the place has seen, and its places in the WAL are smaller.
    db.psql("update emaj.emaj_sink set sink_window = sink_window - 1");
    there.psql(
        "update emaj_received.position
            set received_offset = overlay(received_offset placing 'fffffffffffffff0' from 18)",
    );
    for id in 4..=6 {
        db.psql(&format!("insert into item values ({id})"));
        let run = drain(&db).run().ok();
        assert_eq!(run.stderr.contains("it was set back"), id == 4, "{run}");
    }
    assert_eq!(there.psql("select count(*) from item"), "6");
}

#[test]
fn a_place_that_gets_further_in_the_middle_of_a_window_gets_nothing_twice() {
    let (db, there) = (database(), database());
    for db in [&db, &there] {
        db.psql("create table item (id int primary key)");
    }
    install(
        &db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks: {{ copy: {} }}\n\
             bindings: {{ items: {{ table: public.item, to: copy, row: {{}} }} }}\n",
            sink_into(&there, shared_cluster().superuser())
        ),
    );
    db.psql("insert into item values (1)");
    drain(&db).run().ok();
    // The worker waits for the table, loses its connection, and finds the place where another one has brought it meanwhile.
    let mut client = there.client();
    let mut table = client.transaction().unwrap();
    table.batch_execute("lock table item").unwrap();
    db.psql("insert into item values (2), (3)");
    let worker = || {
        let waits = "select pid from pg_locks where not granted and relation = 'item'::regclass";
        let pid = there.client().query_opt(waits, &[]).unwrap();
        pid.map(|row| row.get::<_, i32>(0))
    };
    // It ends when the chunk has arrived, and that is not on record.
    let run = drain(&db).env("EMAJ_FAIL_AT", "chunk.delivered").run_while(|_| {
        until("the worker waits for the table", || worker().is_some());
        there.psql("update emaj_received.position set received_offset = overlay(received_offset placing '00000000000000ff' from 1)");
        there.psql(&format!("select pg_terminate_backend({})", worker().unwrap()));
        table.rollback().unwrap();
    });
    assert_eq!(run.status, None, "{run}");
    assert_eq!(there.psql("select count(*) from item"), "3");
    let run = drain(&db).run().ok();
    assert!(run.stderr.contains("delivered 0 changes"), "{run}");
    assert!(!run.stderr.contains("set back"), "{run}");
}
