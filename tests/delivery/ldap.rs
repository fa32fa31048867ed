//! Rows that are entries of a directory: they come, change, are renamed, go, and hold whatever people type.

use super::{LOGINS, PEOPLE, PERSON, column, drain, install, people, prepare, set_aside, to_directory, writes};
use crate::support::database;
use crate::support::slapd::{Slapd, slapd};

const ANN: &str = "uid=ann,ou=people,dc=example,dc=org";

fn person_dn(login: &str) -> String {
    format!("uid={login},ou=people,dc=example,dc=org")
}

/// How often entries of people were asked for or written.
fn touched(slapd: &Slapd) -> usize {
    writes(slapd) + slapd.log().matches("ou=people").count()
}

#[test]
fn entries_follow_their_rows() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    install(&db, &to_directory(&slapd, PEOPLE));
    db.psql("insert into person values (1, 'ann', 'Ann', 'ann@example.org'), (2, 'bob', 'Bob', null)");
    drain(&db).run().ok();
    assert_eq!(people(&slapd), ["ann Ann ann@example.org", "bob Bob"]);

    slapd.modify(&format!(
        "dn: {ANN}\nchangetype: modify\nadd: telephoneNumber\ntelephoneNumber: 112\n"
    ));
    db.psql("update person set name = 'Anna', mail = null where id = 1");
    drain(&db).run().ok();
    assert_eq!(people(&slapd), ["ann Anna", "bob Bob"]);
    assert_eq!(
        slapd.values(ANN, "telephoneNumber"),
        ["112"],
        "what the manifest does not name stays"
    );

    let before = touched(&slapd);
    db.psql("update person set note = 'of no interest'");
    drain(&db).run().ok();
    assert_eq!(
        touched(&slapd),
        before,
        "a column that is not mapped is none of the directory's business"
    );

    db.psql("delete from person where id = 1");
    drain(&db).run().ok();
    assert_eq!(people(&slapd), ["bob Bob"]);
    db.psql("truncate person");
    drain(&db).run().ok();
    assert_eq!(people(&slapd), [] as [&str; 0]);
}

#[test]
fn what_was_never_committed_is_never_seen() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    install(&db, &to_directory(&slapd, PEOPLE));
    db.psql("begin; insert into person values (1, 'never', 'x'); rollback");
    db.psql(
        "begin; insert into person values (2, 'kept', 'x'); savepoint s; update person set login = 'never';
         insert into person values (3, 'never3', 'x'); rollback to s; commit",
    );
    let mut late = db.client();
    let mut late = late.transaction().unwrap();
    late.batch_execute("insert into person values (5, 'late', 'x')")
        .unwrap();
    db.psql("insert into person values (6, 'early', 'x')");
    drain(&db).run().ok();
    assert_eq!(people(&slapd), ["early x", "kept x"]);
    late.batch_execute("insert into person values (7, 'later', 'x'); update person set name = 'y' where id = 5")
        .unwrap();
    late.commit().unwrap();
    drain(&db).run().ok();
    assert_eq!(people(&slapd), ["early x", "kept x", "late y", "later x"]);
    assert!(!slapd.log().contains("never"));
}

#[test]
fn hostile_values_are_stored_as_they_are() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    install(&db, &to_directory(&slapd, PEOPLE));
    let values = [
        "a*)(uid=*",
        "x,ou=admins",
        "O'Brien'); DROP TABLE person; --",
        "two\nlines\r\n- add: x",
        "Zoë Ünïcødé 漢字 🐘",
        " spaces at both ends ",
        "#hash",
        "back\\slash \\2c \\00 %00",
        "\"quoted\" <angle> a+b=c;d",
        "{{ row.id }} {% raw %} ${env:LDAP_PASSWORD}",
        "bell \u{7} delete \u{7f}",
    ];
    let mut client = db.client();
    for (id, value) in values.iter().enumerate() {
        client
            .execute(
                "insert into person (id, login, name) values ($1, $2, $2)",
                &[&(id as i32), value],
            )
            .unwrap();
    }
    drain(&db).run().ok();
    let base = "ou=people,dc=example,dc=org";
    let stored = |attribute: &str| {
        let names = slapd.names(base);
        let mut all: Vec<String> = names
            .iter()
            .filter(|name| *name != base)
            .flat_map(|name| slapd.values(name, attribute))
            .collect();
        all.sort();
        all
    };
    let mut expected: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
    expected.sort();
    assert_eq!(stored("cn"), expected);
    assert_eq!(stored("uid"), expected);
    db.psql("update person set name = name || '!'");
    drain(&db).run().ok();
    assert!(stored("sn").iter().all(|value| value.ends_with('!')));
    db.psql("delete from person");
    drain(&db).run().ok();
    assert_eq!(slapd.names(base), [base]);
}

#[test]
fn a_changed_name_moves_the_entry() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    install(&db, &to_directory(&slapd, PEOPLE));
    db.psql("insert into person values (1, 'ann', 'Ann'), (2, 'bob', 'Bob'), (3, 'cid', 'Cid')");
    drain(&db).run().ok();
    slapd.modify(&format!(
        "dn: {ANN}\nchangetype: modify\nadd: telephoneNumber\ntelephoneNumber: 112\n"
    ));
    // The primary key changes as well.
    db.psql("update person set login = 'anna', name = 'Anna', id = 100 where id = 1");
    drain(&db).run().ok();
    assert_eq!(people(&slapd), ["anna Anna", "bob Bob", "cid Cid"]);
    let anna = "uid=anna,ou=people,dc=example,dc=org";
    assert_eq!(slapd.values(anna, "telephoneNumber"), ["112"]);
    assert_eq!((slapd.count("MODRDN"), slapd.count("DEL")), (1, 0));

    // Three rows exchange their names in one transaction; a fourth takes a name that becomes free in it.
    db.psql("begin; update person set login = case id when 2 then 'cid' when 3 then 'anna' else 'bob' end; commit;");
    drain(&db).run().ok();
    assert_eq!(people(&slapd), ["anna Cid", "bob Anna", "cid Bob"]);
    db.psql("begin; delete from person where login = 'anna'; insert into person values (4, 'anna', 'Fourth'); commit");
    drain(&db).run().ok();
    assert_eq!(people(&slapd), ["anna Fourth", "bob Anna", "cid Bob"]);
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

#[test]
fn rows_exchange_their_keys() {
    let (db, slapd) = (database(), slapd());
    db.psql("create table person (id int primary key deferrable, name text)");
    let bindings = PEOPLE
        .replace("row.login", "row.id")
        .replace(", mail: \"{{ row.mail }}\"", "");
    install(&db, &to_directory(&slapd, &bindings));
    db.psql("insert into person select n, 'p' || n from generate_series(1, 4) n");
    drain(&db).run().ok();
    db.psql("update person set id = 5 - id");
    drain(&db).run().ok();
    assert_eq!(people(&slapd), ["1 p4", "2 p3", "3 p2", "4 p1"]);
    // Again and again, before anything is delivered.
    db.psql("update person set id = 5 - id where id in (1, 4)");
    db.psql("update person set id = 9 where id = 1");
    db.psql("update person set id = 1 where id = 2");
    db.psql("update person set id = 5 - id where id in (1, 4)");
    drain(&db).run().ok();
    let rows = column(&db, "select id || ' ' || name from person order by id");
    assert_eq!(people(&slapd), rows);
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

#[test]
fn an_entry_stays_whatever_order_the_rows_are_stored_in_whose_keys_it_goes_through() {
    let (db, slapd) = (database(), slapd());
    db.psql("create table person (id int primary key deferrable, login text, ok boolean)");
    let bindings = LOGINS
        .replace("    entry:", "    when: row.ok\n    entry:")
        .replace("sn: x", "sn: \"{{ row.id }}\"");
    install(&db, &to_directory(&slapd, &bindings));
    for sql in [
        "insert into person values (5, 'eve', false), (4, 'dan', true), (3, 'cyd', false)",
        "update person set id = id + 1",
        "truncate person",
        "insert into person values (3, 'cyd', false), (4, 'dan', true), (5, 'eve', false)",
        "update person set id = id + 1",
        "update person set id = id - 1",
        // As texts the keys have another order.
        "update person set id = id + 5",
        "update person set id = 19 - id",
    ] {
        db.psql(sql);
        drain(&db).run().ok();
        let rows = column(&db, "select login || ' ' || id from person where ok");
        assert_eq!(people(&slapd), rows, "{sql}");
    }
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

#[test]
fn an_entry_moves_to_another_branch() {
    let (db, slapd) = (database(), slapd());
    db.psql(
        "create table unit (name text primary key); create table person (id int primary key, login text, unit text)",
    );
    let bindings = "
  units:
    table: public.unit
    to: directory
    entry:
      dn: \"ou={{ row.name }},dc=example,dc=org\"
      object_classes: [organizationalUnit]
      attributes: {}
  people:
    table: public.person
    to: directory
    entry:
      dn: \"uid={{ row.login }},ou={{ row.unit }},dc=example,dc=org\"
      object_classes: [inetOrgPerson]
      attributes: { cn: \"{{ row.login }}\", sn: \"{{ row.login }}\" }
";
    install(&db, &to_directory(&slapd, bindings));
    // Who belongs to a unit may be written down before the unit is.
    db.psql("insert into person select n, 'p' || n, 'sales' from generate_series(1, 20) n; insert into unit values ('sales'), ('staff')");
    drain(&db).run().ok();
    assert_eq!(slapd.names("ou=sales,dc=example,dc=org").len(), 21);
    let made = || {
        let all = slapd.search(&["-s", "sub", "-b", "dc=example,dc=org", "(uid=*)", "entryUUID"]);
        let mut made: Vec<_> = all.into_values().map(|entry| entry["entryuuid"].clone()).collect();
        made.sort();
        made
    };
    let before = made();
    db.psql("update person set unit = 'staff'; delete from unit where name = 'sales'");
    drain(&db).run().ok();
    assert_eq!(slapd.names("ou=staff,dc=example,dc=org").len(), 21);
    assert_eq!(slapd.entry("ou=sales,dc=example,dc=org"), None);
    assert_eq!(made(), before, "people are moved, not made anew");
}

/// The people have nothing to do with each other, and go over several connections: none may be where a unit is going to be, before it is there.
#[test]
fn people_stay_in_their_units_when_these_hand_on_their_names() {
    let (db, slapd) = (database(), slapd());
    db.psql(
        "create table unit (id int primary key, name text unique);
         create table person (id int primary key, unit text references unit (name) on update cascade)",
    );
    let bindings = "
  units:
    table: public.unit
    to: directory
    entry:
      dn: \"ou={{ row.name }},ou=people,dc=example,dc=org\"
      object_classes: [organizationalUnit]
      attributes: {}
  people:
    table: public.person
    to: directory
    entry:
      dn: \"uid={{ row.id }},ou={{ row.unit }},ou=people,dc=example,dc=org\"
      object_classes: [account]
      attributes: {}
";
    install(&db, &to_directory(&slapd, bindings));
    db.psql("insert into unit select n, 'u' || n from generate_series(1, 8) n; insert into person select n, 'u' || 1 + n % 8 from generate_series(1, 160) n");
    drain(&db).run().ok();
    for round in 0..3 {
        // Each takes the name of the one before it, when that has a new one.
        for unit in 1..=8 {
            db.psql(&format!(
                "update unit set name = 'u' || {unit} - {round} - 1 where id = {unit}"
            ));
        }
        drain(&db).run().ok();
        let mut names: Vec<String> = slapd.names("ou=people,dc=example,dc=org");
        names.retain(|name| name.starts_with("uid="));
        names.sort();
        let mut expected = column(
            &db,
            "select 'uid=' || id || ',ou=' || unit || ',ou=people,dc=example,dc=org' from person",
        );
        expected.sort();
        assert_eq!(names, expected);
        assert_eq!(set_aside(&db), [] as [&str; 0]);
    }
}

#[test]
fn a_row_is_there_while_its_condition_holds() {
    let (db, slapd) = (database(), slapd());
    db.psql("create table person (id int primary key, login text, name text, mail text, active boolean)");
    let bindings = PEOPLE.replace(
        "    entry:",
        "    when: row.active and row.login is not none\n    entry:",
    );
    install(&db, &to_directory(&slapd, &bindings));
    db.psql("insert into person values (1, 'ann', 'Ann', null, false), (2, null, 'Bob', null, true), (3, 'cid', 'Cid', null, null)");
    drain(&db).run().ok();
    assert_eq!(people(&slapd), [] as [&str; 0]);
    db.psql("update person set active = true, login = coalesce(login, 'bob')");
    drain(&db).run().ok();
    assert_eq!(people(&slapd), ["ann Ann", "bob Bob", "cid Cid"]);
    db.psql(
        "update person set active = false, name = 'Gone' where id = 1; update person set login = null where id = 2",
    );
    drain(&db).run().ok();
    assert_eq!(people(&slapd), ["cid Cid"]);
    db.psql(
        "begin; update person set active = true where id = 1; update person set active = false where id = 1; commit",
    );
    let before = writes(&slapd);
    drain(&db).run().ok();
    assert_eq!(
        writes(&slapd),
        before,
        "what a transaction did and took back is nothing"
    );
}

/// Nothing forbids it: several rows name one entry, and each gives it up in its turn.
#[test]
fn an_entry_stays_while_another_row_has_it() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    install(&db, &to_directory(&slapd, PEOPLE));
    let change = |sql: &str| {
        db.psql(sql);
        drain(&db).run().ok();
        people(&slapd)
    };
    change("insert into person values (1, 'ann', 'First', 'a@example.org')");
    slapd.modify(&format!(
        "dn: {ANN}\nchangetype: modify\nadd: telephoneNumber\ntelephoneNumber: 112\n"
    ));
    let said = change("begin; insert into person values (2, 'ann', 'Second'); delete from person where id = 1; commit");
    assert_eq!(said, ["ann Second"]);
    assert_eq!(slapd.values(ANN, "telephoneNumber"), ["112"]);

    // In transactions and by workers of their own; the row that was changed last is not the one that stays.
    change("insert into person values (3, 'ann', 'Third')");
    change("update person set name = 'Second again', mail = 'b@example.org' where id = 2");
    assert_eq!(change("delete from person where id = 2"), ["ann Third"]);

    // A row that goes on under another name leaves the entry to the one that has it.
    let said = change(
        "begin; insert into person values (4, 'ann', 'Fourth'); update person set login = 'bob' where id = 3; commit",
    );
    assert_eq!(said, ["ann Fourth", "bob Third"]);
    assert_eq!(slapd.values(ANN, "telephoneNumber"), ["112"]);

    // Whoever takes the name only afterwards gets an entry of its own, however late it is delivered.
    for sql in [
        "delete from person where id = 4",
        "insert into person values (5, 'cid', 'Fifth')",
        "update person set login = 'ann' where id = 5",
        "update person set login = 'dan' where id = 3",
        "insert into person values (6, 'bob', 'Sixth')",
    ] {
        db.psql(sql);
    }
    assert_eq!(change("select 1"), ["ann Fifth", "bob Sixth", "dan Third"]);
    assert_eq!(slapd.values(ANN, "telephoneNumber"), [] as [&str; 0]);
    assert_eq!(change("delete from person"), [] as [&str; 0]);
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

/// What is refused of the row that has the entry too is not for good: whether that one is corrected or goes, the other one's change arrives.
#[test]
fn a_row_waits_for_the_one_that_has_its_entry_too() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    db.psql("insert into person values (1, 'ann', 'First'), (2, 'bob', 'Second')");
    install(&db, &to_directory(&slapd, PEOPLE));
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    slapd.modify(&format!(
        "dn: {}\nchangetype: modify\nadd: telephoneNumber\ntelephoneNumber: 112\n",
        person_dn("bob")
    ));
    db.psql("insert into person (id, login) values (11, 'ann'), (12, 'bob')");
    drain(&db).run().code(3);
    db.psql("update person set login = 'al' where id = 1; update person set login = 'ben' where id = 2");
    drain(&db).run().code(3);
    assert_eq!(
        set_aside(&db),
        [
            "people [11] never",
            "people [12] never",
            "people [1] later",
            "people [2] later"
        ]
    );
    let list = prepare(&db, &["failures", "list"]).run().ok();
    assert!(
        list.stdout
            .contains("another row has this name by now, and what is made of that one is refused"),
        "{list}"
    );
    db.psql("update person set name = 'Third' where id = 11; delete from person where id = 12");
    drain(&db).run().ok();
    assert_eq!(people(&slapd), ["al First", "ann Third", "ben Second"]);
    assert_eq!(slapd.values(&person_dn("ben"), "telephoneNumber"), ["112"]);
}

/// Names went from row to row since the mark: what has them now has them already, or has not got them yet.
#[test]
fn an_entry_that_went_to_another_row_is_delivered_again() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    db.psql("insert into person values (1, 'ann', 'First'), (2, 'bob', 'Second')");
    install(
        &db,
        &to_directory(&slapd, PEOPLE).replace("sinks:", "groups: { g: { tables: [public.person] } }\nsinks:"),
    );
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    prepare(&db, &["mark", "set", "g", "m"]).run().ok();
    let note = |login: &str, text: &str| {
        slapd.modify(&format!(
            "dn: {}\nchangetype: modify\nadd: telephoneNumber\ntelephoneNumber: {text}\n",
            person_dn(login)
        ));
    };
    let again = || {
        prepare(&db, &["replay", "directory", "--from", "m", "--yes"])
            .run()
            .ok();
        drain(&db).run().ok();
    };
    for (login, text) in [("ann", "1"), ("bob", "2")] {
        note(login, text);
    }
    db.psql("delete from person where id = 1; insert into person values (11, 'ann', 'Third')");
    db.psql("update person set login = 'ben' where id = 2; insert into person values (12, 'bob', 'Fourth')");
    drain(&db).run().ok();
    for (login, text) in [("ann", "11"), ("bob", "12")] {
        note(login, text);
    }
    let numbers = || ["ann", "ben", "bob"].map(|login| slapd.values(&person_dn(login), "telephoneNumber").join(" "));
    assert_eq!(numbers(), ["11", "2", "12"]);
    let after = slapd.dump();
    again();
    assert!(slapd.dump() == after, "what has everything gets no write");

    // A directory that is as it was at the mark.
    for login in ["ann", "ben", "bob"] {
        slapd.modify(&format!("dn: {}\nchangetype: delete\n", person_dn(login)));
    }
    for (login, name, text) in [("ann", "First", "1"), ("bob", "Second", "2")] {
        slapd.modify(&format!(
            "dn: {}\nchangetype: add\nobjectClass: inetOrgPerson\ncn: {name}\nsn: {name}\ntelephoneNumber: {text}\n",
            person_dn(login)
        ));
    }
    again();
    assert_eq!(people(&slapd), ["ann Third", "ben Second", "bob Fourth"]);
    assert_eq!(
        numbers(),
        ["", "2", ""],
        "nobody has what was written to another one's entry"
    );
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

/// Somebody else edited one of them, and the last change of the other one is refused: neither is what its row makes of it.
#[test]
fn an_entry_that_is_another_rows_stays_whatever_is_in_it() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    db.psql("insert into person values (1, 'ann', 'First'), (2, 'bob', 'Second')");
    install(
        &db,
        &to_directory(&slapd, PEOPLE).replace("sinks:", "groups: { g: { tables: [public.person] } }\nsinks:"),
    );
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    prepare(&db, &["mark", "set", "g", "m"]).run().ok();
    db.psql("delete from person where id = 1; insert into person values (11, 'ann', 'Third')");
    db.psql("update person set login = 'ben' where id = 2; insert into person values (12, 'bob', 'Fourth')");
    drain(&db).run().ok();
    for login in ["ann", "bob"] {
        slapd.modify(&format!(
            "dn: {}\nchangetype: modify\nadd: userPassword\nuserPassword: secret\n",
            person_dn(login)
        ));
    }
    slapd.modify(&format!(
        "dn: {}\nchangetype: modify\nreplace: sn\nsn: Edited\n",
        person_dn("ann")
    ));
    db.psql("update person set name = null where id = 12");
    drain(&db).run().code(3);
    let own = || {
        ["ann", "bob"].map(|login| {
            let of = |attribute| slapd.values(&person_dn(login), attribute);
            (of("entryUUID"), of("userPassword"))
        })
    };
    let before = own();
    prepare(&db, &["replay", "directory", "--from", "m", "--yes"])
        .run()
        .ok();
    drain(&db).run().code(3);
    assert_eq!(own(), before);
    assert_eq!(people(&slapd), ["ann Third", "ben Second", "bob Fourth"]);
}

/// Whose entry it is, is told by its name as the directory compares it, not by the columns that it is made of.
#[test]
fn an_entry_stays_while_a_row_has_its_name_in_another_spelling() {
    let (db, slapd) = (database(), slapd());
    let tables = [
        ("plain", "id int primary key, a text, b text", "uid={{ row.a }}"),
        (
            "lowered",
            "id int primary key, a text, b text",
            "uid={{ row.a | lower }}",
        ),
        ("texts", "a text primary key, b text", "uid={{ row.a }}"),
        ("chars", "a char(5), b text, primary key (a, b)", "uid=c{{ row.a }}"),
        (
            "either",
            "id int primary key, a text, b text",
            "uid={{ row.a | default(row.b, true) }}",
        ),
        (
            "pairs",
            "id int primary key, a text, b text",
            "uid={{ row.a }}{{ row.b }}",
        ),
        ("kinds", "id int primary key, a kind, b text", "uid={{ row.a }}"),
        (
            "chosen",
            "id int primary key, a text, b text",
            "{% if row.b %}uid={{ row.b }}{% else %}uid={{ row.a }}{% endif %}",
        ),
        ("keyed", "id int primary key, a text, b text", "uid=k{{ row.id }}"),
    ];
    db.psql("create type kind as enum ('Red', 'red')");
    let mut bindings = String::new();
    for (table, columns, name) in tables {
        db.psql(&format!("create table {table} ({columns})"));
        bindings += &format!(
            "\n  {table}:\n    table: public.{table}\n    to: directory\n    entry:\n      dn: \"{name},ou=people,dc=example,dc=org\"\n\
             \x20     object_classes: [inetOrgPerson]\n      attributes: {{ cn: x, sn: \"{{{{ row.b or 'x' }}}}\" }}"
        );
    }
    install(&db, &to_directory(&slapd, &(bindings + "\n")));
    let change = |sql: &str| {
        db.psql(sql);
        drain(&db).run().ok();
        let names = slapd.names("ou=people,dc=example,dc=org");
        let name = |name: &String| {
            Some(
                name.strip_prefix("uid=")?
                    .split(',')
                    .next()?
                    .trim_end_matches(r"\20")
                    .trim_end()
                    .to_lowercase(),
            )
        };
        let mut names: Vec<String> = names.iter().filter_map(name).collect();
        names.sort();
        names.join(" ")
    };
    for (table, first, second, stays) in [
        ("plain", "1, 'Bob', '1'", "2, 'bob', '2'", "bob"),
        // (Of such letters the database may not know the other case.)
        ("plain", "3, 'ÉVE', '1'", "4, 'éve', '2'", "Éve"),
        ("lowered", "1, 'Cid', '1'", "2, 'cID', '2'", "cid"),
        ("texts", "'Dan', '1'", "'dan', '2'", "dan"),
        ("chars", "'Eve', '1'", "'eve', '2'", "ceve"),
        ("either", "1, 'fay', 'y'", "2, null, 'Fay'", "fay"),
        ("pairs", "1, 'g', 'us'", "2, 'gu', 's'", "gus"),
        ("kinds", "1, 'Red', '1'", "2, 'red', '2'", "red"),
        ("chosen", "1, 'hal', null", "2, 'x', 'HAL'", "hal"),
    ] {
        let of = |row: &str| {
            let values: Vec<&str> = row.split(", ").collect();
            match table {
                "texts" | "chars" => format!("a = {}", values[0]),
                _ => format!("id = {}", values[0]),
            }
        };
        let stays = stays.to_lowercase();
        // Both are there for a while.
        change(&format!("insert into {table} values ({first})"));
        change(&format!("insert into {table} values ({second})"));
        assert_eq!(
            change(&format!("delete from {table} where {}", of(first))),
            stays,
            "{table}"
        );
        // In one transaction, and never together for others.
        let exchanged = change(&format!(
            "begin; insert into {table} values ({first}); delete from {table} where {}; commit",
            of(second)
        ));
        assert_eq!(exchanged, stays, "{table}");
        assert_eq!(change(&format!("delete from {table}")), "", "{table}");
    }
    // Nobody else has the name: the key says so, or the table is asked.
    assert_eq!(
        change("insert into keyed select n from generate_series(1, 3) n"),
        "k1 k2 k3"
    );
    assert_eq!(change("delete from keyed where id < 3"), "k3");
    change(
        "insert into lowered select n, 'P' || n from generate_series(1, 300) n; insert into lowered values (900, 'p7'), (901, 'p9')",
    );
    assert_eq!(
        change("delete from lowered where id <= 300; delete from keyed"),
        "p7 p9"
    );
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

#[test]
fn a_condition_compares_numbers_of_any_length() {
    let (db, slapd) = (database(), slapd());
    db.psql("create table person (id int primary key, login text, name text, mail text, price numeric)");
    let bindings = PEOPLE.replace("    entry:", "    when: row.price > 100\n    entry:");
    install(&db, &to_directory(&slapd, &bindings));
    db.psql(
        "insert into person
         select n, 'p' || n, 'x', null, price
           from unnest(array[10 / 3.0, -2 / 3.0, 10.12345678901234567890, 50.10000000000000001, 99.99999999999999999999,
                             100, 100.00000000000000001, 1000 / 3.0, 1e40 + 0.5, null]) with ordinality as p(price, n)",
    );
    drain(&db).run().ok();
    assert_eq!(people(&slapd), ["p7 x", "p8 x", "p9 x"]);
    db.psql("update person set price = 301 - price where id in (1, 7, 8)");
    drain(&db).run().ok();
    assert_eq!(people(&slapd), ["p1 x", "p7 x", "p9 x"]);
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

/// The directory and the database may have other minds about upper and lower case.
#[test]
fn an_entry_stays_whatever_collation_the_names_of_its_rows_have() {
    let (db, slapd) = (database(), slapd());
    db.psql(
        "create table person (id int primary key, login text collate \"tr-x-icu\", name text, mail text);
         create domain login as text collate \"C\"; create table guest (id int primary key, login login, name text, mail text)",
    );
    let guests = PEOPLE
        .replace("  people:", "  guests:")
        .replace("public.person", "public.guest");
    install(&db, &to_directory(&slapd, &[PEOPLE, guests.as_str()].concat()));
    db.psql("insert into person values (1, 'ILKER', 'First'), (2, 'Ilker', 'Second'), (3, 'änne', 'Third')");
    db.psql("insert into guest values (1, 'ilker', 'Guest'), (2, 'Änne', 'Guest')");
    drain(&db).run().ok();
    db.psql("delete from person where id = 1");
    drain(&db).run().ok();
    assert_eq!(slapd.values("uid=ilker,ou=people,dc=example,dc=org", "sn"), ["Second"]);
    db.psql("delete from person");
    drain(&db).run().ok();
    for login in ["ilker", "änne"] {
        assert_eq!(
            slapd.values(&format!("uid={login},ou=people,dc=example,dc=org"), "sn"),
            ["Guest"]
        );
    }
    db.psql("delete from guest");
    drain(&db).run().ok();
    assert_eq!(people(&slapd), [] as [&str; 0]);
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

/// Who has it may be giving it up just now, over another connection.
#[test]
fn a_value_that_another_entry_has_is_tried_once_more() {
    let (db, slapd) = (
        database(),
        Slapd::with("overlay unique\nunique_uri ldap:///?mail?sub\n", true),
    );
    db.psql(PERSON);
    install(&db, &to_directory(&slapd, PEOPLE));
    let retried = || {
        super::prepare(&db, &["failures", "retry", "--all"]).run().ok();
        drain(&db).run()
    };
    slapd.modify("dn: cn=x,dc=example,dc=org\nchangetype: add\nobjectClass: inetOrgPerson\ncn: x\nsn: x\nmail: a@x\n");
    db.psql("insert into person values (1, 'ann', 'Ann', 'a@x'), (2, 'bob', 'Bob', 'b@x')");
    drain(&db).run().code(3);
    // (The worker may have tried it again already.)
    if set_aside(&db) == ["people [1] later"] {
        retried().code(3);
    }
    assert_eq!(set_aside(&db), ["people [1] never"], "it is not given up");
    assert_eq!(column(&db, "select fail_attempts::text from emaj.emaj_failure"), ["2"]);
    db.psql("insert into person values (3, 'cyd', 'Cyd', 'a@x')");
    drain(&db).run().code(3);
    slapd.modify("dn: cn=x,dc=example,dc=org\nchangetype: delete\n");
    db.psql("delete from person where id = 1");
    // (The first may have it before it goes.)
    retried();
    retried().ok();
    assert_eq!(people(&slapd), ["bob Bob b@x", "cyd Cyd a@x"]);
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

#[test]
fn entries_whose_names_differ_in_case_only_are_two_where_the_directory_says_so() {
    let (db, slapd) = (database(), slapd());
    db.psql("create table mount (id int primary key, key text, number int default 1)");
    let mounts = "
  mounts:
    table: public.mount
    to: directory
    entry:
      dn: \"memberUid={{ row.key }},ou=groups,dc=example,dc=org\"
      object_classes: [posixGroup]
      attributes: { cn: x, gidNumber: \"{{ row.number }}\" }
";
    install(&db, &to_directory(&slapd, mounts));
    let all = || -> Vec<String> {
        let names = slapd.names("ou=groups,dc=example,dc=org");
        let name = |name: &String| Some(name.strip_prefix("memberUid=")?.split(',').next()?.to_owned());
        names.iter().filter_map(name).collect()
    };
    let change = |sql: &str| {
        db.psql(sql);
        drain(&db).run().ok();
    };
    change("insert into mount values (1, 'Home'), (2, 'home'), (3, 'Data'), (4, 'HOME')");
    assert_eq!(all(), ["Data", "HOME", "Home", "home"]);
    change("update mount set key = 'data', number = 2 where id = 3");
    assert_eq!(all(), ["HOME", "Home", "data", "home"]);
    change("delete from mount where id = 2");
    assert_eq!(all(), ["HOME", "Home", "data"]);
    change("update mount set key = 'srv' where id = 4");
    assert_eq!(all(), ["Home", "data", "srv"]);
    // Two rows make one entry, the third one another.
    change("insert into mount values (5, 'Home', 5), (6, 'home', 1)");
    change("delete from mount where id = 1");
    assert_eq!(all(), ["Home", "data", "home", "srv"]);
    let number = slapd.values("memberUid=Home,ou=groups,dc=example,dc=org", "gidNumber");
    assert_eq!(number, ["5"]);
    assert_eq!(set_aside(&db), [] as [&str; 0]);
    slapd.modify("dn: memberUid=Data,ou=groups,dc=example,dc=org\nchangetype: add\nobjectClass: posixGroup\nmemberUid: Data\ncn: x\ngidNumber: 9\n");
    prepare(&db, &["init", "emaj.yaml", "--prune"]).run().ok();
    assert_eq!(all(), ["Home", "data", "home", "srv"]);
}

/// What is delivered again finds the directory as it was left: names went on since, which the worker has not told yet.
#[test]
fn what_is_new_comes_behind_what_is_delivered_again() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    db.psql("insert into person values (1, 'ann', 'First'), (2, 'bob', 'Second'), (3, 'cid', 'Third'), (4, 'dan', 'Fourth')");
    install(
        &db,
        &to_directory(&slapd, PEOPLE).replace("sinks:", "groups: { g: { tables: [public.person] } }\nsinks:"),
    );
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    prepare(&db, &["mark", "set", "g", "m"]).run().ok();
    let renamed = |id: i32, login: &str| db.psql(&format!("update person set login = '{login}' where id = {id}"));
    renamed(1, "amy");
    renamed(4, "dot");
    renamed(3, "dan");
    drain(&db).run().ok();
    for (login, text) in [("amy", "1"), ("bob", "2"), ("dan", "3"), ("dot", "4")] {
        slapd.modify(&format!(
            "dn: {}\nchangetype: modify\nadd: telephoneNumber\ntelephoneNumber: {text}\n",
            person_dn(login)
        ));
    }
    // A name that another row gave up, one that is given up now, and one that went on twice.
    renamed(2, "ann");
    renamed(1, "abe");
    renamed(3, "amy");
    prepare(&db, &["replay", "directory", "--from", "m", "--yes"])
        .run()
        .ok();
    drain(&db).run().ok();
    assert_eq!(people(&slapd), ["abe First", "amy Third", "ann Second", "dot Fourth"]);
    let numbers =
        ["abe", "ann", "amy", "dot"].map(|login| slapd.values(&person_dn(login), "telephoneNumber").join(" "));
    assert_eq!(numbers, ["1", "2", "3", "4"]);
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}
