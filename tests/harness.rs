//! The harness keeps its promises: databases of one's own, nothing left behind, a program that is looked at honestly.

use crate::support::{self, Run};

#[test]
fn each_test_has_a_database_of_its_own() {
    let (one, other) = (support::database(), support::database());
    one.client()
        .batch_execute("create table public.t (n int); insert into public.t values (1), (2)")
        .unwrap();
    assert_eq!(one.psql("select sum(n) from public.t"), "3");
    assert_eq!(other.psql("select to_regclass('public.t') is null"), "t");
}

#[test]
fn a_database_goes_with_its_test_even_with_sessions_and_prepared_transactions() {
    let db = support::database();
    let name = db.name().to_owned();
    let mut session = db.client();
    session
        .batch_execute(
            "create table public.t (n int); begin; insert into public.t values (1); prepare transaction 'it''s'",
        )
        .unwrap();
    drop(db);
    let watcher = support::database();
    let left = watcher
        .client()
        .query_one("select count(*) from pg_database where datname = $1", &[&name])
        .unwrap();
    assert_eq!(left.get::<_, i64>(0), 0);
    assert!(session.batch_execute("select 1").is_err(), "the session is ended too");
}

#[test]
fn an_owner_is_no_superuser_and_has_a_schema() {
    let db = support::database();
    let owner = support::owner(&db);
    let mut client = owner.client();
    client
        .batch_execute("create table own (n int); insert into own values (7)")
        .unwrap();
    let table: String = client
        .query_one("select 'own'::regclass::oid::regclass::text", &[])
        .unwrap()
        .get(0);
    let schema: String = client.query_one("select current_schema()", &[]).unwrap().get(0);
    assert_eq!((table.as_str(), schema.as_str()), ("own", owner.name()));
    assert!(client.batch_execute("create role intruder").is_err());
    let name = owner.name().to_owned();
    drop(owner);
    assert_eq!(
        db.psql(&format!("select count(*) from pg_roles where rolname = '{name}'")),
        "0"
    );
}

#[test]
fn the_program_runs_in_the_tests_directory_and_its_end_is_seen() {
    let db = support::database();
    let run = support::emaj(&db)
        .args(["--no-such-option"])
        .stdin("not read")
        .run()
        .code(64);
    assert!(run.stderr.contains("error"), "{run}");
    assert!(run.stdout.is_empty(), "{run}");
    assert!(
        run.snapshot().starts_with("$ emaj --no-such-option\n--- stderr\n"),
        "{run}"
    );
    assert!(run.snapshot().ends_with("--- exit code 64"), "{run}");
}

#[test]
fn a_run_is_read_as_json_or_fails_the_test() {
    let run = |stdout: &str| Run {
        command: "emaj".into(),
        stdout: stdout.into(),
        stderr: String::new(),
        status: Some(0),
    };
    assert_eq!(run("{\"n\": 1}\n").ok().stdout_json()["n"], 1);
    assert!(std::panic::catch_unwind(|| run("no json").stdout_json()).is_err());
}

#[test]
fn the_program_gets_the_tests_database_and_nothing_else_from_the_environment() {
    let db = support::database();
    let owner = support::owner(&db);
    let file = db.file("hello.txt", "hello");
    assert_eq!(file.parent(), Some(db.dir()));
    let run = support::emaj(&db).user(owner.name()).env("EMAJ_EXTRA", "1");
    let mut seen = run.variables();
    seen.retain(|(name, _)| name.starts_with("PG") || name.starts_with("EMAJ_"));
    let names: Vec<&str> = seen.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "EMAJ_EXTRA",
            "PGDATABASE",
            "PGHOST",
            "PGPASSFILE",
            "PGPORT",
            "PGSERVICEFILE",
            "PGSYSCONFDIR",
            "PGUSER"
        ]
    );
    assert!(seen.contains(&("PGUSER".into(), owner.name().into())));
    assert!(seen.contains(&("PGPORT".into(), support::shared_cluster().port().to_string())));
    assert_eq!(db.env()[3], ("PGDATABASE", db.name().to_owned()));
}

#[test]
#[should_panic(expected = "expected exit code 0")]
fn a_wrong_exit_code_fails_the_test() {
    let directory = tempfile::tempdir().unwrap();
    support::emaj_alone(directory.path())
        .args(["--no-such-option"])
        .run()
        .ok();
}

#[test]
fn what_differs_from_run_to_run_is_redacted() {
    let text = "mark `m` of test_12 at 2026-11-21 10:11:12.345678+00 (0199c3a2-1b2c-7def-8123-456789abcdef), \
                2026-11-21T10:11:12Z, 12 ms, 1.25 s, 3 tables, snapshot 741:745:741,743, empty 741:741:, lsn 0/16B3748, \
                in /tmp/emaj-test-Ab3dE6/emaj.yaml, postgres://127.0.0.1:54321/test_12, line 3:14";
    insta::assert_snapshot!(support::redact(text), @"mark `m` of [db] at [time] ([uuid]), [time], [duration], [duration], 3 tables, snapshot [snapshot], empty [snapshot], lsn [lsn], in [dir]/emaj.yaml, postgres://127.0.0.1:[port]/[db], line 3:14");
}
