//! Rows that need each other arrive, whatever else is refused: each refers to the other one, or has the value that the other one is to have.

use super::{column, drain, install, prepare, set_aside};
use crate::support::rows::sink_into;
use crate::support::{Database, database};

/// A table of people with mates and desks, and its copy, which refuses numbers that are too large, and mates and desks that are not there.
fn people() -> (Database, Database) {
    let (db, copy) = (database(), database());
    let table = |check: &str| {
        format!(
            "create table person (id int primary key, mate int references person deferrable initially deferred,
                                  desk text unique deferrable initially deferred, n int{check})"
        )
    };
    db.psql(&table(""));
    copy.psql(&format!(
        "create table lamp (name text primary key); {}",
        table(" check (n < 100)")
    ));
    db.psql("alter table person add lamp text");
    copy.psql("alter table person add lamp text references lamp");
    install(
        &db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks:\n  copy: {}\nbindings:\n  \
             people: {{ table: public.person, to: copy, row: {{}} }}\n",
            sink_into(&copy, "postgres")
        ),
    );
    (db, copy)
}

fn rows(db: &Database) -> Vec<String> {
    column(
        db,
        "select concat_ws(' ', id, 'mate', mate, 'desk', desk, n, lamp) from person order by id",
    )
}

/// What is set aside, but for the binding.
fn waiting(db: &Database) -> Vec<String> {
    let all = set_aside(db);
    all.iter()
        .map(|row| row.trim_start_matches("people ").to_owned())
        .collect()
}

#[test]
fn what_is_refused_for_its_own_sake_keeps_no_others_away() {
    let (db, copy) = people();
    // Between the two that refer to each other: one that never fits, and one that may later.
    db.psql(
        "begin;
         insert into person values (1, 5, 'a', 1, null), (2, null, 'b', 200, null), (3, null, 'c', 3, null), (4, null, 'd', 4, 'none'), (5, 1, 'e', 5, null);
         commit",
    );
    drain(&db).run().code(3);
    assert_eq!(waiting(&db), ["[2] never", "[4] later"]);
    assert_eq!(
        rows(&copy),
        ["1 mate 5 desk a 1", "3 mate desk c 3", "5 mate 1 desk e 5"]
    );
    // Desks are exchanged beside a row that is refused.
    db.psql("begin; update person set desk = case id when 1 then 'e' when 5 then 'a' else desk end, n = n + case id when 3 then 200 else 0 end; commit");
    drain(&db).run().code(3);
    assert_eq!(waiting(&db)[2..], ["[3] never"]);
    assert_eq!(
        rows(&copy),
        ["1 mate 5 desk e 1", "3 mate desk c 3", "5 mate 1 desk a 5"]
    );
    db.psql("update person set n = id, lamp = null");
    drain(&db).run().ok();
    assert_eq!(rows(&copy), rows(&db));
    assert_eq!(waiting(&db), [] as [&str; 0]);
}

#[test]
fn what_waits_is_tried_together_too() {
    let (db, copy) = people();
    db.psql("insert into person values (4, null, 'd', 4, 'none'), (1, null, 'a', 200, null)");
    db.psql("insert into person values (3, 1, 'c', 3)");
    db.psql("update person set mate = 3 where id = 1");
    drain(&db).run().code(3);
    assert_eq!(waiting(&db), ["[1] never", "[4] later", "[3] later", "[1] behind"]);
    // The one that was refused is mended: only with the other one it may come, and one that still may not waits beside them.
    db.psql("update person set n = 1 where id = 1");
    drain(&db).run().code(3);
    assert_eq!(waiting(&db), ["[4] later"]);
    assert_eq!(rows(&copy), ["1 mate 3 desk a 1", "3 mate 1 desk c 3"]);
    copy.psql("insert into lamp values ('none')");
    prepare(&db, &["failures", "retry", "--all"]).run().ok();
    drain(&db).run().ok();
    assert_eq!(rows(&copy), rows(&db));
}

#[test]
fn what_mends_a_row_may_stand_far_behind_it() {
    let (db, copy) = people();
    db.psql("insert into person values (1, null, 'a', 200, null), (2, null, 'b', 2, 'none')");
    db.psql("do $$ begin for i in 1..1500 loop update person set n = 200 + i where id = 1; commit; end loop; end $$");
    drain(&db).run().code(3);
    assert_eq!(waiting(&db).len(), 1 + 1 + 1500, "more than is read at once");
    prepare(&db, &["failures", "retry", "--all"]).run().ok();
    drain(&db).run().code(3);
    assert_eq!(rows(&copy), [] as [&str; 0]);
    db.psql("update person set n = 1 where id = 1");
    drain(&db).run().code(3);
    assert_eq!(rows(&copy), ["1 mate desk a 1"]);
    assert_eq!(waiting(&db), ["[2] later"]);
}
