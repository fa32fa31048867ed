//! Two bindings of a sink that make rows of one table, or entries of one name: what one of them gives up is the other's.

use super::{column, drain, install, people, prepare, set_aside, to_directory};
use crate::support::rows::sink_into;
use crate::support::slapd::slapd;
use crate::support::{Database, database};

/// Tables of things that live and of things in an archive, and the table at the copy that both go to; `ours` nobody here knows.
fn live_and_archive(db: &Database, copy: &Database) {
    db.psql(
        "create table live (id int primary key, text text); create table archive (number bigint primary key, text text, hidden bool default false)",
    );
    copy.psql("create table thing (id int primary key, text text, place text, ours text default 'ours')");
    install(
        db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks:\n  copy: {}\nbindings:\n  \
             live: {{ table: public.live, to: copy, row: {{ table: public.thing, key: [id], columns: {{ id: row.id, text: row.text, place: \"'live'\" }} }} }}\n  \
             archive: {{ table: public.archive, to: copy, when: not row.hidden, \
             row: {{ table: public.thing, key: [id], columns: {{ id: row.number, text: row.text, place: \"'archive'\" }} }} }}\n",
            sink_into(copy, "postgres")
        ),
    );
}

/// What both tables give, and what is there.
fn same(db: &Database, copy: &Database) {
    let wanted = column(
        db,
        "select concat_ws(' ', id, text, place) from (select id, text, 'live' as place from live \
         union all select number, text, 'archive' from archive where not hidden) things order by id",
    );
    let there = column(copy, "select concat_ws(' ', id, text, place) from thing order by id");
    let differing = || {
        there
            .iter()
            .filter(|row| !wanted.contains(row))
            .take(5)
            .collect::<Vec<_>>()
    };
    assert!(
        there == wanted,
        "{} of {}: {:?}",
        there.len(),
        wanted.len(),
        differing()
    );
    assert_eq!(set_aside(db), [] as [&str; 0]);
}

#[test]
fn a_row_that_goes_to_another_table_stays() {
    let (db, copy) = (database(), database());
    live_and_archive(&db, &copy);
    let put = |ids: &str| format!("insert into archive select id, text || '!' from live where {ids};");
    let take = |ids: &str| format!("delete from live where {ids};");
    db.psql("insert into live select n, 'r' || n from generate_series(1, 12000) n");
    drain(&db).run().ok();
    // Put there first, and then taken away here: after a delivery, before it, and in one statement.
    db.psql(&put("id <= 3"));
    drain(&db).run().ok();
    db.psql("update live set text = 'last' where id = 1");
    drain(&db).run().ok();
    db.psql(&take("id <= 3"));
    drain(&db).run().ok();
    same(&db, &copy);
    db.psql(&put("id between 4 and 6"));
    db.psql(&take("id between 4 and 6"));
    db.psql(
        "with gone as (delete from live where id between 7 and 9 returning *) insert into archive select * from gone",
    );
    db.psql("with gone as (delete from archive where number between 4 and 5 returning *) insert into live select number, text from gone");
    drain(&db).run().ok();
    same(&db, &copy);
    // More than goes in one batch, in one transaction; what is hidden is nobody's.
    db.psql(&format!(
        "begin; {} {} update archive set hidden = true where number = 20; commit",
        put("id >= 10"),
        take("id >= 10")
    ));
    drain(&db).run().ok();
    same(&db, &copy);
    assert_eq!(column(&copy, "select count(*)::text from thing"), ["11999"]);
}

#[test]
fn a_row_that_gets_another_key_leaves_the_old_one_to_the_other_table() {
    let (db, copy) = (database(), database());
    live_and_archive(&db, &copy);
    db.psql("insert into live values (1, 'a'), (2, 'b')");
    drain(&db).run().ok();
    copy.psql("update thing set ours = 'theirs'");
    db.psql("insert into archive values (1, 'old')");
    drain(&db).run().ok();
    db.psql("update live set id = 5 where id = 1");
    drain(&db).run().ok();
    same(&db, &copy);
    assert_eq!(
        column(&copy, "select ours from thing where id = 5"),
        ["theirs"],
        "it is the same row"
    );
    // As nobody gives it any more, it goes.
    db.psql("update live set id = 6 where id = 5; delete from archive");
    drain(&db).run().ok();
    same(&db, &copy);
}

#[test]
fn an_entry_that_another_table_gives_too_stays() {
    let (db, slapd) = (database(), slapd());
    db.psql(
        "create table staff (id int primary key, login text, name text); create table guest (id int primary key, login text, name text)",
    );
    let entries = |table: &str| {
        format!(
            "\n  {table}:\n    table: public.{table}\n    to: directory\n    entry:\n      dn: \"uid={{{{ row.login }}}},ou=people,dc=example,dc=org\"\n      \
             object_classes: [inetOrgPerson]\n      attributes: {{ cn: x, sn: \"{{{{ row.name }}}}\" }}\n"
        )
    };
    install(&db, &to_directory(&slapd, &(entries("staff") + &entries("guest"))));
    db.psql("insert into staff values (1, 'ann', 'Staff'), (2, 'bob', 'Staff'), (3, 'cy', 'Staff')");
    drain(&db).run().ok();
    db.psql("insert into guest values (1, 'Ann', 'Guest'), (7, 'bob', 'Guest')");
    drain(&db).run().ok();
    db.psql("delete from staff where id = 1");
    db.psql("update staff set login = 'bobby' where id = 2");
    db.psql("delete from staff where id = 3");
    drain(&db).run().ok();
    let mut there = people(&slapd);
    there.iter_mut().for_each(|entry| *entry = entry.to_lowercase());
    assert_eq!(there, ["ann guest", "bob guest", "bobby staff"]);
    db.psql("delete from guest");
    drain(&db).run().ok();
    assert_eq!(people(&slapd), ["bobby Staff"]);
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

/// Two tables that go to one by a column that is not their primary key: in `right` two rows have the same code, and the row there is the one of `left`.
fn one_code(db: &Database, copy: &Database) {
    db.psql(
        "create table \"left\" (id int primary key, code text, text text); create table \"right\" (id int primary key, code text, text text)",
    );
    copy.psql("create table thing (code text primary key, text text)");
    let row = "row: { table: public.thing, key: [code], columns: { code: row.code, text: row.text } }";
    install(
        db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks:\n  copy: {}\nbindings:\n  \
             left: {{ table: public.left, to: copy, {row} }}\n  right: {{ table: public.right, to: copy, {row} }}\n",
            sink_into(copy, "postgres")
        ),
    );
    db.psql("insert into \"right\" values (1, 'X', 'first'), (2, 'X', 'second')");
    drain(db).run().ok();
    db.psql("insert into \"left\" values (1, 'X', 'left')");
    drain(db).run().ok();
    assert_eq!(things(copy), ["X left"]);
}

fn things(copy: &Database) -> Vec<String> {
    column(copy, "select concat_ws(' ', code, text) from thing order by code")
}

#[test]
fn what_another_table_gives_is_given_up_in_the_same_batch() {
    let (db, copy) = (database(), database());
    one_code(&db, &copy);
    db.psql("delete from \"left\"");
    db.psql("update \"right\" set code = 'Y' where id = 1");
    drain(&db).run().ok();
    assert_eq!(things(&copy), ["X second", "Y first"]);
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

#[test]
fn what_another_table_gives_is_given_up_by_one_of_two_rows() {
    for goes in [1, 2] {
        let (db, copy) = (database(), database());
        one_code(&db, &copy);
        // Either of the two may have been put there for the one that went.
        db.psql("delete from \"left\"");
        drain(&db).run().ok();
        db.psql(&format!("update \"right\" set code = 'Y' where id = {goes}"));
        drain(&db).run().ok();
        let wanted = column(&db, "select concat_ws(' ', code, text) from \"right\" order by code");
        assert_eq!(things(&copy), wanted);
        assert_eq!(set_aside(&db), [] as [&str; 0]);
    }
}

/// What is refused of the row that has the key too, or cannot be made, is not for good: whether that one is corrected or goes, the other one's change arrives.
#[test]
fn a_row_waits_for_the_one_that_has_its_key_too() {
    for (table, bad) in [
        ("live", "text = null"),
        ("live", "share = 0"),
        ("archive", "text = null"),
        ("archive", "share = 0"),
    ] {
        let (db, copy) = (database(), database());
        for name in ["live", "archive"] {
            db.psql(&format!(
                "create table {name} (id int primary key, code text, text text, share int default 1)"
            ));
        }
        copy.psql("create table thing (code text primary key, text text not null, part int, ours text)");
        let row = "row: { table: public.thing, key: [code], columns: { code: row.code, text: row.text, part: 10 // row.share } }";
        install(
            &db,
            &format!(
                "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks:\n  copy: {}\nbindings:\n  \
                 live: {{ table: public.live, to: copy, {row} }}\n  archive: {{ table: public.archive, to: copy, {row} }}\n",
                sink_into(&copy, "postgres")
            ),
        );
        db.psql("insert into live select n, 'c' || n, 'first' from generate_series(1, 4) n");
        db.psql(&format!(
            "insert into {table} select 10 + n, 'b' || n, 'second' from generate_series(1, 4) n"
        ));
        drain(&db).run().ok();
        copy.psql("update thing set ours = 'of ' || code");
        db.psql(&format!(
            "update {table} set code = 'c' || id - 10, {bad} where id > 10"
        ));
        drain(&db).run().code(3);
        // They give their keys up: two go, two get another one.
        db.psql("delete from live where id <= 2; update live set code = 'a' || id where id in (3, 4)");
        drain(&db).run().code(3);
        let waiting = set_aside(&db);
        assert_eq!(
            waiting.iter().filter(|one| one.ends_with("later")).count(),
            4,
            "{waiting:?}"
        );
        let list = prepare(&db, &["failures", "list"]).run().ok();
        assert!(list.stdout.contains("another row has this key by now, and "), "{list}");
        // One keeps the key, one of them gets another one, and one goes; and so do those beside the rows that are there still.
        db.psql(&format!(
            "update {table} set code = case id when 12 then 'd2' else code end, text = 'third', share = 1 where id in (11, 12, 13); \
             delete from {table} where id = 14"
        ));
        drain(&db).run().ok();
        assert_eq!(
            things(&copy),
            ["a3 first", "a4 first", "c1 third", "c3 third", "d2 third"],
            "{table} {bad}"
        );
        assert_eq!(
            column(&copy, "select ours from thing where code = 'a4'"),
            ["of c4"],
            "it is the same row"
        );
        assert_eq!(set_aside(&db), [] as [&str; 0]);
    }
}

/// What is wrong with the row itself is said of it, also where another one has its key.
#[test]
fn a_row_that_is_refused_itself_is_set_aside_though_another_one_has_its_key() {
    let (db, copy) = (database(), database());
    one_code(&db, &copy);
    copy.psql("alter table thing add check (text <> 'bad')");
    db.psql("delete from \"left\"");
    drain(&db).run().ok();
    db.psql("update \"right\" set code = 'Y', text = 'bad' where id = 1");
    drain(&db).run().code(3);
    assert_eq!(set_aside(&db), ["right [1] never"]);
}
