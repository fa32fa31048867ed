//! Printing: a reader that goes away (`emaj … | head`) is no error.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, Stdio};

use crate::support;

/// Set for a run of this binary that is to print until its reader is gone.
const AS_PRINTER: &str = "EMAJ_TEST_AS_PRINTER";

#[test]
fn a_reader_that_went_away_ends_the_program_quietly() {
    if std::env::var_os(AS_PRINTER).is_some() {
        emaj::ui::out("\nfirst line\n").unwrap();
        // The reader is gone when standard input ends.
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        emaj::ui::out("second line\n").unwrap();
        panic!("printing went on without a reader");
    }
    let mut printer = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "ui::a_reader_that_went_away_ends_the_program_quietly",
            "--nocapture",
        ])
        .env(AS_PRINTER, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(printer.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "first line"));
    drop(lines);
    printer.stdin.take().unwrap().flush().unwrap();
    let output = printer.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stderr, "");
}

/// Runs `emaj` with a standard output that nobody reads; returns its exit code and what it said.
fn unread(db: &support::Database, words: &[&str]) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = support::emaj(db).args(words).into_command();
    let output = command.stdin(Stdio::null()).stdout(writer).output().unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn what_failed_has_failed_though_nobody_reads() {
    let db = support::database();
    db.psql("create table t (id int primary key)");
    db.file(
        "emaj.yaml",
        "version: 1\nroles: { admin: null, viewer: null }\ngroups: { g: { tables: [public.t] } }\n",
    );
    support::emaj(&db).args(["install"]).run().ok();
    let purge = ["group", "purge", "-o", "json"];
    assert_eq!(unread(&db, &purge), (Some(0), String::new()));
    db.psql("drop function emaj.emaj_purge_history");
    let (code, said) = unread(&db, &purge);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("failed to purge the logs"), "{said}");
    // Who reads has the report of what was done.
    let run = support::emaj(&db).args(purge).run().code(1);
    assert_eq!(run.stdout_json()[0]["group"], "g");
}

#[test]
fn what_changes_something_is_done_though_nobody_reads() {
    let db = support::database();
    db.psql("create schema s; create table s.t (id int primary key)");
    db.file(
        "emaj.yaml",
        "version: 1\nroles: { admin: null, viewer: null }\ngroups: { g: { tables: [s.t] } }\n",
    );
    for (words, schemas) in [(&["install"][..], "1"), (&["uninstall", "--yes"], "0")] {
        let (code, said) = unread(&db, words);
        assert!(code == Some(0) && said.contains("installed: "), "{words:?}: {said}");
        assert_eq!(
            db.psql("select count(*) from pg_namespace where nspname = 'emaj'"),
            schemas
        );
    }
}
