//! An entry becomes another row's where it stands: what other rows give goes by what they name, the name or the row.

use super::{column, drain, install, prepare, set_aside, to_directory, writes};
use crate::support::rows::sink_into;
use crate::support::slapd::{Slapd, slapd};
use crate::support::{Database, database};

/// Roles name a person by the number, badges by the login. (Nothing forbids two people of one login.)
const TABLES: &str = "create table person (id int primary key, login text, name text default 'x');
    create table role (id int primary key, person int, name text);
    create table badge (id int primary key, login text);";
const BINDINGS: &str = "
  people:
    table: public.person
    to: directory
    entry:
      dn: \"uid={{ row.login }},ou=people,dc=example,dc=org\"
      object_classes: [inetOrgPerson]
      attributes: { cn: x, sn: \"{{ row.name }}\", employeeNumber: \"{{ row.id }}\" }
  roles:
    table: public.role
    to: directory
    value:
      search: { base: \"ou=people,dc=example,dc=org\", filter: \"(employeeNumber={{ row.person }})\" }
      attribute: employeeType
      value: \"{{ row.name }}\"
  counted:
    table: public.role
    to: directory
    query:
      search: { base: \"ou=people,dc=example,dc=org\", filter: \"(employeeNumber={{ row.person }})\" }
      attribute: description
      query: \"select count(*) from role where person = {{ row.person }} having count(*) > 0\"
  badges:
    table: public.badge
    to: directory
    flag: { dn: \"uid={{ row.login }},ou=people,dc=example,dc=org\", attribute: businessCategory, value: badge }
";
/// What the tables say that each entry holds.
const WANTED: &str = "select concat_ws(' ', p.login, p.id, (select string_agg(distinct name, ' ' order by name) from role where person = p.id),
        (select nullif(count(*), 0) from role where person = p.id), (select 'badge' from badge where login = p.login limit 1))
    from person p order by login";

fn installed(db: &Database, slapd: &Slapd, rows: &str) {
    db.psql(TABLES);
    db.psql(rows);
    let groups = "groups: { g: { tables: [public.person, public.role, public.badge] } }\nsinks:";
    install(db, &to_directory(slapd, BINDINGS).replace("sinks:", groups));
    prepare(db, &["init", "emaj.yaml"]).run().ok();
}

/// What each entry holds.
fn entries(slapd: &Slapd) -> Vec<String> {
    let names = slapd.names("ou=people,dc=example,dc=org");
    let mut entries: Vec<String> = names
        .iter()
        .filter(|name| name.starts_with("uid="))
        .map(|name| {
            let of = |attribute: &&str| {
                let mut values = slapd.values(name, attribute);
                values.sort();
                values
            };
            let attributes = [
                "uid",
                "employeeNumber",
                "employeeType",
                "description",
                "businessCategory",
            ];
            attributes.iter().flat_map(of).collect::<Vec<_>>().join(" ")
        })
        .collect();
    entries.sort();
    entries
}

fn is_as_wanted(db: &Database, slapd: &Slapd) {
    assert_eq!(entries(slapd), column(db, WANTED));
    assert_eq!(set_aside(db), [] as [&str; 0]);
}

#[test]
fn what_is_given_to_a_row_goes_with_it_when_names_are_exchanged() {
    let (db, slapd) = (database(), slapd());
    installed(
        &db,
        &slapd,
        "insert into person values (1, 'bob'), (2, 'ann'), (3, 'cyd');
         insert into role values (1, 1, 'boss'), (2, 2, 'clerk'), (3, 3, 'cook'), (4, 1, 'nurse'), (5, 2, 'nurse');
         insert into badge values (1, 'bob')",
    );
    is_as_wanted(&db, &slapd);
    for sql in [
        "update person set login = case id when 1 then 'ann' else 'bob' end where id in (1, 2)",
        // One of them goes on to a name that is free, and what the other one had a third one takes.
        "update person set login = case id when 1 then 'bob' when 2 then 'dan' end where id in (1, 2)",
        "update person set login = case id when 1 then 'dan' when 2 then 'eve' else 'bob' end",
        // Roles come, go and change hands with the names.
        "begin; update person set login = case id when 1 then 'bob' else 'dan' end where id in (1, 3); delete from role where id = 3;
         update role set person = 2 where id = 4; insert into role values (6, 3, 'boss'), (7, 3, 'cook'); commit",
        "begin; delete from role where id = 6; update person set login = case id when 1 then 'dan' else 'bob' end where id in (1, 3); commit",
    ] {
        db.psql(sql);
        drain(&db).run().ok();
        is_as_wanted(&db, &slapd);
    }
    let before = slapd.dump();
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    assert!(slapd.dump() == before);
}

#[test]
fn what_is_given_to_a_row_goes_with_it_when_its_name_was_taken_while_it_was_refused() {
    let (db, slapd) = (database(), slapd());
    installed(
        &db,
        &slapd,
        "insert into person values (1, 'bob'), (2, 'ann'); insert into role values (1, 1, 'boss'), (2, 2, 'clerk')",
    );
    db.psql("update person set login = 'dan', name = ' ' where id = 2");
    drain(&db).run().code(3);
    db.psql("update person set login = 'ann' where id = 1");
    drain(&db).run().code(3);
    db.psql("update person set name = 'x' where id = 2");
    drain(&db).run().ok();
    is_as_wanted(&db, &slapd);
}

#[test]
fn what_is_given_to_a_name_stays_when_a_replay_gives_its_entry_back() {
    for sql in [
        "delete from person where id = 1",
        "update person set login = 'rob' where id = 1",
    ] {
        let (db, slapd) = (database(), slapd());
        let rows = "insert into person values (1, 'bob'), (2, 'bob'); insert into badge values (1, 'bob')";
        installed(&db, &slapd, rows);
        db.psql("update person set name = 'one' where id = 1");
        drain(&db).run().ok();
        prepare(&db, &["mark", "set", "g", "m"]).run().ok();
        db.psql(sql);
        drain(&db).run().ok();
        is_as_wanted(&db, &slapd);
        // A directory that is as it was at the mark.
        for name in slapd
            .names("ou=people,dc=example,dc=org")
            .iter()
            .filter(|name| name.starts_with("uid="))
        {
            slapd.modify(&format!("dn: {name}\nchangetype: delete\n"));
        }
        slapd.modify(
            "dn: uid=bob,ou=people,dc=example,dc=org\nchangetype: add\nobjectClass: inetOrgPerson\ncn: x\nsn: one\nemployeeNumber: 1\n\
             businessCategory: badge\n",
        );
        prepare(&db, &["replay", "directory", "--from", "m", "--yes"])
            .run()
            .ok();
        drain(&db).run().ok();
        is_as_wanted(&db, &slapd);
    }
}

#[test]
fn what_is_given_to_a_name_comes_when_its_entry_is_made_for_the_row_that_has_it_too() {
    let (db, slapd) = (database(), slapd());
    installed(
        &db,
        &slapd,
        "insert into person values (1, 'bob'), (2, 'bob'); insert into badge values (1, 'bob'); insert into role values (1, 2, 'boss')",
    );
    slapd.modify("dn: uid=bob,ou=people,dc=example,dc=org\nchangetype: delete\n");
    db.psql("delete from person where id = 1");
    drain(&db).run().ok();
    is_as_wanted(&db, &slapd);
}

#[test]
fn what_is_given_to_two_that_make_an_entry_together_stays() {
    let accounts = "
  accounts:
    table: public.account
    to: directory
    entry:
      dn: \"uid={{ row.login }},ou=people,dc=example,dc=org\"
      object_classes: [inetOrgPerson, posixAccount]
      attributes: { cn: x, sn: x, uidNumber: \"{{ row.id }}\", gidNumber: \"1\", homeDirectory: /x, mail: { template: \"{{ row.mail }}\", mode: merge } }
  mailed:
    table: public.ring
    to: directory
    value:
      search: { base: \"ou=people,dc=example,dc=org\", filter: \"(mail={{ row.mail }})\" }
      attribute: roomNumber
      value: \"{{ row.name }}\"
";
    let (db, slapd) = (database(), slapd());
    db.psql(TABLES);
    db.psql("create table account (id int primary key, login text, mail text); create table ring (id int primary key, mail text, name text);");
    install(&db, &to_directory(&slapd, &format!("{BINDINGS}{accounts}")));
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    let rooms = |login: &str| {
        let mut rooms = slapd.values(&format!("uid={login},ou=people,dc=example,dc=org"), "roomNumber");
        rooms.sort();
        rooms
    };
    for (sql, login, given) in [
        (
            "begin; insert into person values (1, 'bob'); insert into account values (1, 'bob', 'a@x'); insert into role values (1, 1, 'boss');
             insert into ring values (1, 'a@x', 'one'); commit",
            "bob",
            &["one"][..],
        ),
        (
            "begin; insert into account values (2, 'bob', 'b@x'); insert into ring values (2, 'b@x', 'two'); commit",
            "bob",
            &["one", "two"],
        ),
        (
            "begin; update person set login = 'rob'; update account set login = 'rob'; commit",
            "rob",
            &["one", "two"],
        ),
        (
            "begin; update account set login = 'bob'; update person set login = 'bob'; commit",
            "bob",
            &["one", "two"],
        ),
        (
            "begin; delete from person; delete from account; insert into account values (2, 'bob', 'b@x'), (1, 'bob', 'a@x');
             insert into person values (1, 'bob'); commit",
            "bob",
            &["one", "two"],
        ),
        // The value that found it goes with the row that gave it.
        ("delete from account where id = 1", "bob", &["two"]),
    ] {
        db.psql(sql);
        drain(&db).run().ok();
        is_as_wanted(&db, &slapd);
        assert_eq!(rooms(login), given, "{sql}");
    }
    db.psql("delete from ring where id = 1");
    drain(&db).run().ok();
    let before = slapd.dump();
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    assert!(slapd.dump() == before);
}

#[test]
fn what_both_rows_give_is_not_taken_away_when_they_exchange_their_names() {
    let (db, slapd) = (database(), slapd());
    installed(&db, &slapd, "insert into person values (1, 'bob'), (2, 'ann')");
    let exchange = || {
        let before = writes(&slapd);
        db.psql("update person set login = case login when 'ann' then 'bob' else 'ann' end");
        drain(&db).run().ok();
        is_as_wanted(&db, &slapd);
        writes(&slapd) - before
    };
    let alone = exchange();
    db.psql("insert into role values (1, 1, 'nurse'), (2, 2, 'nurse')");
    drain(&db).run().ok();
    // Each role is told, and is there.
    assert_eq!(exchange(), alone + 2);
    // A directory may take it for the same value.
    db.psql("update role set name = 'Nurse' where id = 2");
    drain(&db).run().ok();
    db.psql("update person set login = case login when 'ann' then 'bob' else 'ann' end");
    drain(&db).run().ok();
    assert_eq!(set_aside(&db), [] as [&str; 0]);
    let of = |login| slapd.values(&format!("uid={login},ou=people,dc=example,dc=org"), "employeeType");
    assert_eq!([of("ann"), of("bob")], [["nurse"], ["Nurse"]]);
}

/// Who has a key at the place is looked up by the primary key of today: a row that has got another one since, or that was written anew, is there all the same.
#[test]
fn a_row_that_another_one_gave_up_stays_however_the_row_came_to_its_primary_key() {
    let two = "(5, '4', 'five'), (9, '4', 'nine')";
    for (key, before, acts, expected) in [
        (
            "int",
            two,
            &[
                "update item set code = null where id = 5",
                "update item set id = 1 where id = 9",
            ][..],
            "4",
        ),
        (
            "int",
            two,
            &["delete from item where id = 5", "update item set id = 1 where id = 9"],
            "4 nine",
        ),
        (
            "int",
            "(5, '4', 'five')",
            &[
                "insert into item values (9, '4', 'nine')",
                "update item set code = null where id = 5",
                "update item set id = 1 where id = 9",
            ],
            "4 nine",
        ),
        (
            "int",
            two,
            &["begin; delete from item; insert into item values (5, '4', 'five'); commit"],
            "4 five",
        ),
        (
            "int",
            two,
            &["begin; truncate item; insert into item values (9, '4', 'nine'); commit"],
            "4 nine",
        ),
        (
            "int",
            two,
            &[
                "begin; update item set id = 100 where id = 9; update item set id = 9, code = null where id = 5; update item set id = 5 where id = 100; commit",
            ],
            "4 nine",
        ),
        (
            "numeric",
            two,
            &[
                "update item set code = null where id = 5",
                "update item set id = 9.00 where id = 9",
            ],
            "4 nine",
        ),
        // A change of the primary key alone is none of what another row wrote there.
        (
            "int",
            two,
            &[
                "update item set name = 'new' where id = 9",
                "update item set id = 1 where id = 5",
            ],
            "4 new",
        ),
    ] {
        let (db, copy) = (database(), database());
        db.psql(&format!(
            "create table item (id {key} primary key, code text, name text)"
        ));
        copy.psql("create table num (code text primary key, name text)");
        install(
            &db,
            &format!(
                "version: 1\nroles: {{ admin: null, viewer: null }}\ngroups: {{ shop: {{ tables: [public.item] }} }}\nsinks: {{ copy: {} }}\n\
                 bindings: {{ nums: {{ table: public.item, to: copy, when: row.code is not none, row: {{ table: public.num, key: [code], columns: {{ code: row.code, name: row.name }} }} }} }}\n",
                sink_into(&copy, "postgres")
            ),
        );
        db.psql(&format!("insert into item values {before}"));
        drain(&db).run().ok();
        for act in acts {
            db.psql(act);
        }
        drain(&db).run().ok();
        let there = column(&copy, "select concat_ws(' ', code, name) from num");
        assert!(
            there.len() == 1 && there[0].starts_with(expected),
            "{acts:?}: {there:?}"
        );
    }
}
