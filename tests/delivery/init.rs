//! `emaj init`: the rows that were there before, beside writers and workers, killed and gone on with.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{PEOPLE, PERSON, column, drain, install, logins, people, prepare, set_aside, to_directory, worker, writes};
use crate::support::slapd::{Slapd, slapd};
use crate::support::{Database, database, scale, wait_for};

/// A directory that does not wait for the disk and keeps no log.
fn quick_slapd() -> Slapd {
    Slapd::with("dbnosync\n", false)
}

fn rows(db: &Database, count: usize) {
    db.psql(&format!(
        "insert into person select n, 'p' || n, 'p' || n from generate_series(1, {count}) n"
    ));
}

#[track_caller]
fn same(db: &Database, slapd: &Slapd) {
    let (there, wanted) = (
        logins(slapd),
        column(db, "select login from person order by login collate \"C\""),
    );
    assert!(there == wanted, "{} entries for {} rows", there.len(), wanted.len());
}

#[test]
fn a_second_run_writes_nothing() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    rows(&db, 1000);
    install(&db, &to_directory(&slapd, PEOPLE));
    slapd.modify("dn: uid=p7,ou=people,dc=example,dc=org\nchangetype: add\nobjectClass: inetOrgPerson\nuid: p7\ncn: other\nsn: other\ntelephoneNumber: 112\n");
    let run = prepare(&db, &["init", "emaj.yaml", "--dry-run"]).run().ok();
    assert_eq!(run.stdout.matches("changetype: add").count(), 999, "{}", run.stderr);
    assert!(people(&slapd) == ["p7 other"], "a dry run writes nothing");
    let run = prepare(&db, &["init", "emaj.yaml"]).run().ok();
    assert!(
        run.stderr.contains("sent 1,000 rows") || run.stderr.contains("sent 1000 rows"),
        "{run}"
    );
    same(&db, &slapd);
    assert_eq!(
        slapd.values("uid=p7,ou=people,dc=example,dc=org", "telephoneNumber"),
        ["112"]
    );
    let before = writes(&slapd);
    // (An add of what is there is refused by the server, and that is how the sink finds out.)
    let state = slapd.dump();
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    assert!(slapd.dump() == state, "{} writes", writes(&slapd) - before);
    drain(&db).run().ok();
    assert!(slapd.dump() == state);
}

#[test]
fn writers_and_a_worker_go_on() {
    let (db, slapd) = (database(), quick_slapd());
    db.psql(PERSON);
    let count = scale(6_000);
    rows(&db, count);
    install(&db, &to_directory(&slapd, PEOPLE));
    let worker = worker(&db).start();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = db.client();
            let mut number = 0;
            while !over.load(Ordering::Relaxed) {
                number += 1;
                let id = number * 37 % count as i32 + 1;
                client
                    .batch_execute(&format!(
                        "update person set login = 'q' || id, name = 'n{number}' where id = {id};
                         delete from person where id = {};
                         insert into person values ({}, 'new{number}', 'new')",
                        number * 101 % count as i32 + 1,
                        count as i32 + number,
                    ))
                    .unwrap();
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        prepare(&db, &["init", "emaj.yaml"]).run().ok();
        over.store(true, Ordering::Relaxed);
    });
    // The worker has it back.
    db.psql("insert into person values (-1, 'last', 'last')");
    wait_for("the last one", 60, || {
        slapd.entry("uid=last,ou=people,dc=example,dc=org")
    });
    // (What is about other people goes beside it, and may come later.)
    wait_for("the others", 60, || {
        let wanted = column(&db, "select login from person order by login collate \"C\"");
        (logins(&slapd) == wanted).then_some(())
    });
    assert_eq!(set_aside(&db), [] as [&str; 0]);
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn killed_it_goes_on_where_it_was() {
    let (db, slapd) = (database(), quick_slapd());
    db.psql(PERSON);
    // With EMAJ_LONG=100 it is a million.
    let count = scale(12_000);
    rows(&db, count);
    install(&db, &to_directory(&slapd, PEOPLE));
    let init = prepare(&db, &["init", "emaj.yaml"]).start();
    wait_for("the first rows", 120, || {
        let done = column(&db, "select bind_init_done::text from emaj.emaj_binding");
        (done != ["0"]).then_some(())
    });
    init.kill();
    db.psql("update person set name = 'changed' where id % 100 = 0; delete from person where id % 100 = 1");
    let done: usize = column(&db, "select bind_init_done::text from emaj.emaj_binding")[0]
        .parse()
        .unwrap();
    let run = prepare(&db, &["init", "emaj.yaml"]).run().ok();
    let sent: String = run.stderr.chars().filter(char::is_ascii_digit).collect();
    assert!(
        done > 0 && !sent.starts_with(&count.to_string()),
        "the second run sends the rest only: {run}"
    );
    drain(&db).run().ok();
    same(&db, &slapd);
    assert_eq!(slapd.values("uid=p100,ou=people,dc=example,dc=org", "sn"), ["changed"]);
}
