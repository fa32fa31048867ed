//! Keys that change, and keys that are written in another way and are the same.

use super::{LOGINS, PEOPLE, column, drain, install, people, prepare, set_aside, to_directory};
use crate::support::rows::sink_into;
use crate::support::slapd::slapd;
use crate::support::{Database, database};

#[test]
fn entries_whose_names_change_in_one_statement_keep_what_others_put_there() {
    let (db, slapd) = (database(), slapd());
    db.psql("create table person (login text primary key)");
    install(&db, &to_directory(&slapd, LOGINS));
    db.psql("insert into person values ('ann'), ('bea'), ('cyd'), ('dan')");
    drain(&db).run().ok();
    for login in ["ann", "bea", "cyd", "dan"] {
        slapd.modify(&format!(
            "dn: uid={login},ou=people,dc=example,dc=org\nchangetype: modify\nadd: telephoneNumber\ntelephoneNumber: 1{login}\n"
        ));
    }
    db.psql("begin; update person set login = login || '2' where login <> 'dan'; update person set login = 'cyd3' where login = 'cyd2'; delete from person where login = 'dan'; commit");
    drain(&db).run().ok();
    assert_eq!(people(&slapd), ["ann2 x", "bea2 x", "cyd3 x"]);
    for (login, number) in [("ann2", "1ann"), ("bea2", "1bea"), ("cyd3", "1cyd")] {
        let dn = format!("uid={login},ou=people,dc=example,dc=org");
        assert_eq!(slapd.values(&dn, "telephoneNumber"), [number]);
    }
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

/// `columns` says which updates count, and not what a thing is known by.
#[test]
fn names_that_change_count_though_columns_does_not_name_them() {
    let (db, copy, slapd) = (database(), database(), slapd());
    db.psql("create table person (id int primary key, login text, name text, team text)");
    copy.psql("create table person (login text primary key, name text)");
    let bindings = "
  people:
    table: public.person
    to: directory
    columns: [name]
    entry:
      dn: \"uid={{ row.login }},ou=people,dc=example,dc=org\"
      object_classes: [inetOrgPerson]
      attributes: { cn: \"{{ row.name }}\", sn: \"{{ row.name }}\" }
  teams:
    table: public.person
    to: directory
    columns: [name]
    value: { dn: \"cn={{ row.team }},ou=groups,dc=example,dc=org\", attribute: memberUid, value: \"{{ row.login }}\" }
  sizes:
    table: public.person
    to: directory
    columns: [name]
    query: { dn: \"cn={{ row.team }},ou=groups,dc=example,dc=org\", attribute: description, query: \"select count(*) from person where team = {{ row.team }}\" }
  copies:
    table: public.person
    to: copy
    columns: [name]
    row: { key: [login], columns: { login: row.login, name: row.name } }
";
    let manifest = to_directory(&slapd, bindings).replace(
        "\nbindings:",
        &format!("\n  copy: {}\nbindings:", sink_into(&copy, "postgres")),
    );
    for (name, number) in [("red", 1), ("blue", 2)] {
        slapd.modify(&format!(
            "dn: cn={name},ou=groups,dc=example,dc=org\nchangetype: add\nobjectClass: posixGroup\ngidNumber: {number}\n"
        ));
    }
    install(&db, &manifest);
    let seen = || {
        let of = |team: &str| {
            let dn = format!("cn={team},ou=groups,dc=example,dc=org");
            let text = |attribute| slapd.values(&dn, attribute).join("+");
            format!("{team} {} {}", text("memberUid"), text("description"))
        };
        (
            people(&slapd),
            [of("red"), of("blue")],
            column(&copy, "select login || ' ' || name from person"),
        )
    };
    let shown = |person: &[&str], red: &str, blue: &str| {
        let person: Vec<String> = person.iter().map(|text| (*text).to_owned()).collect();
        let of = |team: &str, text: &str| format!("{team} {text}");
        (person.clone(), [of("red", red), of("blue", blue)], person)
    };
    for (sql, expected) in [
        (
            "insert into person values (1, 'ann', 'Ann', 'red')",
            shown(&["ann Ann"], "ann 1", " "),
        ),
        ("update person set login = 'anna'", shown(&["anna Ann"], "anna 1", " ")),
        ("update person set team = 'blue'", shown(&["anna Ann"], " 0", "anna 1")),
        ("delete from person", shown(&[], " 0", " 0")),
    ] {
        db.psql(sql);
        drain(&db).run().ok();
        assert_eq!(seen(), expected, "{sql}");
    }
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

#[test]
fn a_key_that_is_written_in_another_way_is_not_lost() {
    let (db, copy) = (database(), database());
    let table = "create table item (id numeric primary key, note text)";
    db.psql(table);
    copy.psql(table);
    install(
        &db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks:\n  copy: {}\n  \
             lines: {{ file: {{ path: lines.ndjson }} }}\nbindings:\n  to_copy: {{ table: public.item, to: copy, row: {{}} }}\n  \
             to_lines: {{ table: public.item, to: lines, message: {{ body: \"{{{{ old.id if old else '-' }}}} {{{{ row.note if row else '-' }}}}\" }} }}\n",
            sink_into(&copy, "postgres")
        ),
    );
    db.psql("insert into item values (1.0, 'a'), (2, 'b')");
    drain(&db).run().ok();
    for sql in [
        "update item set id = 1.00, note = 'c' where id = 1",
        "update item set id = 1.0, note = 'd' where id = 1",
        "update item set id = id * 1.000",
        // In one transaction.
        "delete from item where id = 1; insert into item values (1.0, 'e')",
    ] {
        db.psql(sql);
        drain(&db).run().ok();
        let rows = "select id || ' ' || note from item order by item.id";
        assert_eq!(column(&copy, rows), column(&db, rows), "{sql}");
    }
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

#[test]
fn what_is_done_to_a_row_waits_for_what_was_done_to_it_under_another_spelling() {
    let (db, copy) = (database(), database());
    db.psql("create table item (id numeric primary key, note text)");
    copy.psql(
        "create table item (id numeric primary key, note text); create table part (item numeric references item)",
    );
    install(
        &db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks:\n  copy: {}\n\
             bindings:\n  to_copy: {{ table: public.item, to: copy, row: {{}} }}\n",
            sink_into(&copy, "postgres")
        ),
    );
    db.psql("insert into item values (1.0, 'a'), (2, 'b')");
    drain(&db).run().ok();
    copy.psql("insert into part values (1)");
    db.psql("delete from item where id = 1");
    drain(&db).run().code(3);
    db.psql("insert into item values (1.00, 'c')");
    drain(&db).run().code(3);
    assert_eq!(
        column(&copy, "select id || ' ' || note from item order by item.id"),
        ["1.0 a", "2 b"]
    );
    copy.psql("delete from part");
    super::prepare(&db, &["failures", "retry", "--all"]).run().ok();
    drain(&db).run().ok();
    assert_eq!(
        column(&copy, "select id || ' ' || note from item order by item.id"),
        ["1.00 c", "2 b"]
    );
}

/// A table of things whose codes are the key at the copy, and are handed from row to row.
fn things(db: &Database, copy: &Database, code: &str) {
    db.psql("create table thing (id int primary key, code text unique deferrable initially deferred, n int)");
    copy.psql("create table thing (code text primary key, id int, n int check (n < 100000), ours text default 'ours')");
    install(
        db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks:\n  copy: {}\nbindings:\n  \
             to_copy: {{ table: public.thing, to: copy, row: {{ key: [code], columns: {{ code: {code}, id: row.id, n: row.n }} }} }}\n",
            sink_into(copy, "postgres")
        ),
    );
}

/// The things of a database, by their ids.
fn all_things(db: &Database) -> Vec<String> {
    column(db, "select concat_ws(' ', lower(code), id, n) from thing order by id")
}

#[test]
fn keys_that_rows_hand_on_lose_no_row() {
    for code in ["row.code", "row.code | lower"] {
        let (db, copy) = (database(), database());
        things(&db, &copy, code);
        db.psql("insert into thing select n, 'C' || n, n from generate_series(1, 5000) n");
        drain(&db).run().ok();
        for shift in [1, -1] {
            // More than goes in one batch; those that take a key come before those that give it up, or after them.
            db.psql(&format!(
                "update thing set code = 'C' || substr(code, 2)::int + {shift}"
            ));
            drain(&db).run().ok();
            assert!(all_things(&copy) == all_things(&db), "{code}: shifted by {shift}");
        }
        db.psql("begin; delete from thing where id > 4990; insert into thing select -n, 'C' || n, n from generate_series(4991, 5000) n; commit");
        drain(&db).run().ok();
        assert!(all_things(&copy) == all_things(&db), "{code}: taken by new rows");
        assert_eq!(set_aside(&db), [] as [&str; 0]);
    }
}

#[test]
fn a_row_that_waits_takes_no_key_along_that_another_one_has() {
    let (db, copy) = (database(), database());
    things(&db, &copy, "row.code");
    db.psql("insert into thing select n, 'c' || n, n from generate_series(1, 8) n");
    drain(&db).run().ok();
    // One of the batch is refused: another one, the one that gives the key up, and the one that takes it.
    for (bad, sql) in [
        (3, "2 then 'c5' when 5 then 'x'"),
        (6, "6 then 'y' when 1 then 'c6'"),
        (7, "7 then 'c8' when 8 then 'c7'"),
    ] {
        db.psql(&format!(
            "begin; update thing set code = case id when {sql} else code end; update thing set n = 200000 where id = {bad}; commit"
        ));
        drain(&db).run().code(3);
        assert!(!set_aside(&db).is_empty());
        db.psql(&format!("update thing set n = {bad} where id = {bad}"));
        super::prepare(&db, &["failures", "retry", "--all"]).run().ok();
        drain(&db).run().ok();
        assert_eq!(all_things(&copy), all_things(&db), "{bad}");
        assert_eq!(set_aside(&db), [] as [&str; 0]);
    }
    // It goes, while another row has had its key for long.
    db.psql("update thing set n = 200000 where id = 4");
    drain(&db).run().code(3);
    db.psql("update thing set code = 'z' where id = 4; update thing set code = 'c4' where id = 3");
    drain(&db).run().code(3);
    db.psql("delete from thing where id = 4");
    drain(&db).run().ok();
    assert_eq!(all_things(&copy), all_things(&db));
}

#[test]
fn what_waits_of_a_row_waits_under_every_spelling_of_its_key() {
    let any_case = "create collation any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)";
    for (prepared, kind, one, other) in [
        ("create extension citext", "citext", "Bob", "bob"),
        (any_case, "text collate any_case", "Bob", "bob"),
        ("select", "interval", "1 day", "24:00:00"),
        ("select", "float8", "0", "-0"),
    ] {
        let (db, copy) = (database(), database());
        for (place, check) in [(&db, ""), (&copy, " check (n < 100)")] {
            place.psql(prepared);
            place.psql(&format!("create table item (id {kind} primary key, n int{check})"));
        }
        install(
            &db,
            &format!(
                "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks:\n  copy: {}\n\
                 bindings:\n  to_copy: {{ table: public.item, to: copy, row: {{}} }}\n",
                sink_into(&copy, "postgres")
            ),
        );
        db.psql(&format!("insert into item values ('{one}', 1)"));
        drain(&db).run().ok();
        db.psql("update item set n = 200");
        drain(&db).run().code(3);
        db.psql(&format!("delete from item; insert into item values ('{other}', 3)"));
        drain(&db).run().ok();
        let rows = "select id::text || ' ' || n from item";
        assert_eq!(column(&copy, rows), column(&db, rows), "{kind}");
        assert_eq!(set_aside(&db), [] as [&str; 0]);
    }
}

#[test]
fn a_flag_stands_however_many_rows_do_not_give_it() {
    let (db, slapd) = (database(), slapd());
    db.psql("create table person (login text primary key); create table car (id int primary key, owner text, works boolean)");
    let drivers = "
  drivers:
    table: public.car
    to: directory
    when: row.works
    flag:
      dn: \"uid={{ row.owner }},ou=people,dc=example,dc=org\"
      attribute: businessCategory
      value: driver
";
    install(&db, &to_directory(&slapd, &[LOGINS, drivers].concat()));
    db.psql("insert into person values ('ann'); insert into car values (1, 'ann', true)");
    db.psql("insert into car select n, 'ann', n = 2500 from generate_series(2, 2500) n");
    drain(&db).run().ok();
    let given = || slapd.values("uid=ann,ou=people,dc=example,dc=org", "businessCategory");
    assert_eq!(given(), ["driver"]);
    db.psql("delete from car where id = 1");
    drain(&db).run().ok();
    assert_eq!(given(), ["driver"], "the last row gives it still");
    db.psql("delete from car where id = 2500");
    drain(&db).run().ok();
    assert_eq!(given(), [] as [&str; 0]);
}

#[test]
fn many_keys_change_at_once() {
    let db = database();
    db.psql("create table item (id int primary key, note text)");
    install(
        &db,
        "version: 1\nroles: { admin: null, viewer: null }\nsinks: { lines: { file: { path: lines.ndjson } } }\n\
         bindings: { item: { table: public.item, to: lines, message: { body: \"{{ old.id if old else 0 }} {{ row.id }}\" } } }\n",
    );
    db.psql("insert into item select n, 'x' from generate_series(1, 20000) n");
    drain(&db).run().ok();
    db.psql("update item set id = id + 1000000");
    drain(&db).run().ok();
    let text = std::fs::read_to_string(db.dir().join("lines.ndjson")).unwrap();
    let lines: Vec<&str> = text.lines().skip(20_000).collect();
    assert_eq!(lines.len(), 20_000, "an update each");
    assert!(lines.iter().all(|line| {
        let (old, new) = line.trim_matches('"').split_once(' ').unwrap();
        old.parse::<i64>().unwrap() + 1_000_000 == new.parse::<i64>().unwrap()
    }));
}

#[test]
fn a_key_that_another_row_has_in_the_same_batch_stays() {
    for leaves in [
        "delete from thing where id = 1",
        "update thing set code = 'x' where id = 1",
    ] {
        let (db, copy) = (database(), database());
        things(&db, &copy, "row.code | lower");
        db.psql("insert into thing values (1, 'abc', 1)");
        drain(&db).run().ok();
        db.psql("insert into thing values (2, 'ABC', 2)");
        db.psql(leaves);
        drain(&db).run().ok();
        assert_eq!(all_things(&copy), all_things(&db), "{leaves}");
        assert_eq!(set_aside(&db), [] as [&str; 0]);
    }
}

#[test]
fn what_the_copy_alone_has_goes_with_its_row_though_another_one_takes_its_key_later() {
    let (db, copy) = (database(), database());
    things(&db, &copy, "row.code");
    db.psql("insert into thing values (1, 'a', 1), (2, 'b', 2)");
    drain(&db).run().ok();
    copy.psql("update thing set ours = 'of ' || id");
    let all = || column(&copy, "select concat_ws(' ', code, id, n, ours) from thing order by id");
    // All of it is there before the first of it is delivered.
    db.psql("update thing set code = 'x' where id = 1");
    db.psql("insert into thing values (3, 'a', 3)");
    drain(&db).run().ok();
    assert_eq!(all(), ["x 1 1 of 1", "b 2 2 of 2", "a 3 3 ours"]);
    // What is delivered again finds them there.
    let group = db.psql("select min(group_name) from emaj.emaj_group");
    super::prepare(&db, &["mark", "set", &group, "before"]).run().ok();
    db.psql("update thing set code = 'y' where id = 1");
    db.psql("update thing set code = 'x' where id = 2");
    drain(&db).run().ok();
    let there = ["y 1 1 of 1", "x 2 2 of 2", "a 3 3 ours"];
    assert_eq!(all(), there);
    super::prepare(&db, &["replay", "copy", "--from", "before", "--yes"])
        .run()
        .ok();
    drain(&db).run().ok();
    assert_eq!(all(), there);
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

#[test]
fn what_the_copy_alone_has_stays_though_a_key_goes_on_behind_what_is_delivered_again() {
    let (db, copy) = (database(), database());
    things(&db, &copy, "row.code");
    db.psql("insert into thing values (1, 'a', 1), (2, 'b', 2), (3, 'p', 3), (4, 'q', 4)");
    drain(&db).run().ok();
    copy.psql("update thing set ours = 'of ' || id");
    let group = db.psql("select min(group_name) from emaj.emaj_group");
    super::prepare(&db, &["mark", "set", &group, "before"]).run().ok();
    let recoded = |id: i32, code: &str| db.psql(&format!("update thing set code = '{code}' where id = {id}"));
    recoded(1, "x");
    recoded(3, "y");
    recoded(4, "p");
    drain(&db).run().ok();
    // Not told yet: a key that was given up gets another row, one that went on goes on.
    recoded(2, "a");
    recoded(4, "c");
    super::prepare(&db, &["replay", "copy", "--from", "before", "--yes"])
        .run()
        .ok();
    drain(&db).run().ok();
    let all = column(&copy, "select concat_ws(' ', code, id, n, ours) from thing order by id");
    assert_eq!(all, ["x 1 1 of 1", "a 2 2 of 2", "y 3 3 of 3", "c 4 4 of 4"]);
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

#[test]
fn nobody_is_looked_for_who_has_a_key_that_is_null() {
    let (db, copy) = (database(), database());
    things(&db, &copy, "row.code");
    db.psql("insert into thing values (1, null, 1), (2, null, 2)");
    drain(&db).run().code(3);
    db.psql("delete from thing where id = 1");
    // Nobody can read the table.
    let mut client = db.client();
    let mut locked = client.transaction().unwrap();
    locked.batch_execute("lock table thing").unwrap();
    drain(&db).run().code(3);
    locked.rollback().unwrap();
    assert_eq!(set_aside(&db), ["to_copy [2] never"]);
}

#[test]
fn a_row_whose_key_is_null_is_not_overtaken() {
    let (db, copy) = (database(), database());
    db.psql("create table person (id int primary key, mail text, share int); insert into person values (1, 'a', 2)");
    copy.psql("create table person (mail text primary key, part int, own text)");
    install(
        &db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks:\n  copy: {}\n\
             bindings:\n  to_copy: {{ table: public.person, to: copy, row: {{ key: [mail], columns: {{ mail: row.mail, part: 10 // row.share }} }} }}\n",
            sink_into(&copy, "postgres")
        ),
    );
    super::prepare(&db, &["init"]).run().ok();
    copy.psql("update person set own = 'ours'");
    let all = || copy.psql("select mail, part, own from person");
    let change = |sql: &str| {
        for sql in sql.split("; ") {
            db.psql(sql);
        }
        drain(&db)
    };
    // In one batch: the last one is there, and the row that was.
    change("update person set mail = null; update person set mail = 'b'; update person set mail = 'c'")
        .run()
        .ok();
    assert_eq!((all().as_str(), set_aside(&db)), ("c|5|ours", vec![]));
    // One by one: it waits.
    change("update person set mail = null").run().code(3);
    let reason = column(&db, "select fail_reason from emaj.emaj_failure");
    assert!(reason[0].contains("`mail` is null"), "{reason:?}");
    change("update person set mail = 'd'").run().ok();
    assert_eq!((all().as_str(), set_aside(&db)), ("d|5|ours", vec![]));
    // Of what was never there nothing is to be taken away.
    change("insert into person values (2, null, 1); delete from person where id = 2")
        .run()
        .ok();
    change("insert into person values (3, null, 1)").run().code(3);
    super::prepare(&db, &["failures", "discard", "--all", "--yes"])
        .run()
        .ok();
    change("delete from person where id = 3").run().ok();
    assert_eq!((all().as_str(), set_aside(&db)), ("d|5|ours", vec![]));
    // Where another column could not be made, the key is enough.
    change("update person set share = 0").run().code(3);
    super::prepare(&db, &["failures", "discard", "--all", "--yes"])
        .run()
        .ok();
    change("update person set mail = 'e', share = 1").run().ok();
    assert_eq!((all().as_str(), set_aside(&db)), ("e|10|ours", vec![]));
}

#[test]
fn what_is_tried_again_of_a_row_is_nothing_when_only_its_key_is_written_in_another_way() {
    let (db, slapd) = (database(), slapd());
    db.psql("create extension citext; create table person (id citext primary key, login text, name text, mail text)");
    install(&db, &to_directory(&slapd, PEOPLE));
    db.psql("insert into person values ('Bob', 'bob', 'Bob', 'bob@example.org')");
    drain(&db).run().ok();
    db.psql("update person set mail = 'é'");
    drain(&db).run().code(3);
    db.psql("update person set id = 'bob', mail = 'bob@example.org'");
    // It ends before it tries that with what it waits for.
    assert_eq!(drain(&db).env("EMAJ_FAIL_AT", "aside.noted").run().status, None);
    assert_eq!(set_aside(&db), ["people [\"Bob\"] never", "people [\"bob\"] behind"]);
    prepare(&db, &["failures", "retry", "--all"]).run().ok();
    // (To the table it is the same key: the entry need not be told again under another one.)
    let run = drain(&db).run().ok();
    assert!(run.stderr.contains("delivered 0 changes"), "{run}");
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

#[test]
fn a_key_that_is_none_in_the_other_database_is_no_rows() {
    let (db, copy) = (database(), database());
    db.psql("create table part (id int primary key, code text)");
    copy.psql("create table part (code int primary key, id int)");
    install(
        &db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks: {{ copy: {} }}\nbindings:\n  \
             parts: {{ table: public.part, to: copy, row: {{ table: public.part, key: [code], columns: {{ code: row.code, id: row.id }} }} }}\n",
            sink_into(&copy, "postgres")
        ),
    );
    let all = || column(&copy, "select concat_ws(' ', code, id) from part order by code");
    db.psql("insert into part values (1, '1'), (2, 'x'), (3, 'y'), (4, 'z')");
    drain(&db).run().code(3);
    super::prepare(&db, &["failures", "discard", "--all", "--yes"])
        .run()
        .ok();
    db.psql("update part set code = '2' where id = 2");
    db.psql("delete from part where id = 3");
    drain(&db).run().ok();
    assert_eq!((all(), set_aside(&db)), (vec!["1 1".into(), "2 2".into()], vec![]));
    // Neither is a key: what is told is what is wrong now.
    db.psql("update part set code = 'w' where id = 4");
    drain(&db).run().code(3);
    let reason = column(&db, "select fail_reason from emaj.emaj_failure");
    assert!(reason[0].contains("\"w\""), "{reason:?}");
    db.psql("update part set code = '4' where id = 4");
    drain(&db).run().ok();
    assert_eq!(
        (all(), set_aside(&db)),
        (vec!["1 1".into(), "2 2".into(), "4 4".into()], vec![])
    );
}

/// Two databases; the second one gets the rows of `item` of the first by another column than its key, and takes none with a large number.
fn items_by_code() -> (Database, Database) {
    let (db, copy) = (database(), database());
    db.psql("create table item (id int primary key, code text, n int)");
    copy.psql("create table num (code text primary key, n int constraint small check (n < 10))");
    install(
        &db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\ngroups: {{ shop: {{ tables: [public.item] }} }}\nsinks: {{ copy: {} }}\n\
             bindings: {{ nums: {{ table: public.item, to: copy, row: {{ table: public.num, key: [code], columns: {{ code: row.code, n: row.n }} }} }} }}\n",
            sink_into(&copy, "postgres")
        ),
    );
    (db, copy)
}

/// Of a change of the primary key alone a binding may make nothing: what comes of the row later stays behind what was refused before.
#[test]
fn a_row_that_gets_another_key_behind_a_refusal_keeps_its_order() {
    for apart in [false, true] {
        let (db, copy) = items_by_code();
        db.psql("insert into item values (1, 'w', 1)");
        drain(&db).run().ok();
        db.psql("update item set code = 'x', n = 13 where id = 1");
        db.psql("update item set id = 6 where id = 1");
        if apart {
            drain(&db).run().code(3);
            assert_eq!(set_aside(&db), ["nums [1] never", "nums [6] behind"]);
        }
        db.psql("update item set code = 'y', n = 14 where id = 6");
        drain(&db).run().code(3);
        let nums = || column(&copy, "select concat_ws(' ', code, n) from num");
        assert_eq!((nums(), set_aside(&db).len()), (vec!["w 1".to_owned()], 3));
        copy.psql("alter table num drop constraint small");
        prepare(&db, &["failures", "retry", "--all"]).run().ok();
        drain(&db).run().ok();
        assert_eq!((nums(), set_aside(&db).len()), (vec!["y 14".to_owned()], 0));
    }
}

/// What waits when a replay begins is told again by it: it is one change, also of a row that has another key since.
#[test]
fn what_waits_and_what_a_replay_tells_again_of_it_are_one() {
    let (db, copy) = items_by_code();
    prepare(&db, &["mark", "set", "shop", "monday"]).run().ok();
    db.psql("insert into item values (1, 'w', 13)");
    db.psql("update item set id = 2 where id = 1");
    drain(&db).run().code(3);
    prepare(&db, &["replay", "copy", "--from", "monday", "--yes"])
        .run()
        .ok();
    drain(&db).run().code(3);
    assert_eq!(set_aside(&db).len(), 4);
    db.psql("update item set code = 'y', n = 2 where id = 2");
    prepare(&db, &["failures", "retry", "--all"]).run().ok();
    drain(&db).run().ok();
    assert_eq!(column(&copy, "select concat_ws(' ', code, n) from num"), ["y 2"]);
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}
