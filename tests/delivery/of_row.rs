//! Values, flags and queries for the entry that another binding makes of a row, which their rows know by its key alone.

use super::{column, drain, install, prepare, set_aside, to_directory};
use crate::support::slapd::{Slapd, slapd};
use crate::support::{Database, database, said};

/// A membership knows team and person by their numbers. (Names of teams may be exchanged in one transaction.)
const TABLES: &str = "create table team (id int primary key, name text unique deferrable, is_shown boolean not null default true,
        number text not null default '1');
    create table person (id int primary key, login text);
    create table membership (person int, team int references team on update cascade on delete cascade deferrable, primary key (person, team));";
const BINDINGS: &str = "
  teams:
    table: public.team
    to: directory
    when: row.is_shown
    entry:
      dn: \"cn={{ row.name }},ou=groups,dc=example,dc=org\"
      object_classes: [posixGroup, extensibleObject]
      attributes: { gidNumber: \"{{ row.number }}\" }
  members:
    table: public.membership
    to: directory
    value:
      entry_of: { binding: teams, key: { id: team } }
      attribute: memberUid
      value: \"{{ row.person }}\"
  manned:
    table: public.membership
    to: directory
    flag: { entry_of: { binding: teams, key: { id: team } }, attribute: description, value: manned }
  logins:
    table: public.membership
    to: directory
    query:
      entry_of: { binding: teams, key: { id: team } }
      attribute: businessCategory
      query: \"select login from membership m join person p on p.id = m.person where m.team = {{ row.team }}\"
";
/// What the tables say that each entry holds.
pub const WANTED: &str = "select concat_ws(' ', t.name, string_agg(m.person::text, ' ' order by m.person::text), min(case when m.person is not null then 'manned' end),
        string_agg(p.login, ' ' order by p.login))
    from team t left join membership m on m.team = t.id left join person p on p.id = m.person where t.is_shown group by t.id, t.name order by t.name";

pub fn installed(slapd: &Slapd, rows: &str) -> Database {
    let db = database();
    db.psql(TABLES);
    db.psql("insert into person select n, 'p' || n from generate_series(1, 9) n");
    db.psql(rows);
    let groups = "groups: { g: { tables: [public.*] } }\nsinks:";
    install(&db, &to_directory(slapd, BINDINGS).replace("sinks:", groups));
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    db
}

/// What each entry holds.
pub fn entries(slapd: &Slapd) -> Vec<String> {
    let mut entries: Vec<String> = slapd
        .names("ou=groups,dc=example,dc=org")
        .iter()
        .filter(|name| name.starts_with("cn="))
        .map(|name| {
            let of = |attribute: &&str| {
                let mut values = slapd.values(name, attribute);
                values.sort();
                values
            };
            let attributes = ["cn", "memberUid", "description", "businessCategory"];
            attributes.iter().flat_map(of).collect::<Vec<_>>().join(" ")
        })
        .collect();
    entries.sort();
    entries
}

/// Delivers what `sql` does.
fn follows(db: &Database, slapd: &Slapd, sql: &str) {
    db.psql(sql);
    let run = drain(db).run().ok();
    assert_eq!(entries(slapd), column(db, WANTED), "{sql}");
    assert_eq!(set_aside(db), [] as [&str; 0], "{sql}");
    // Nor had anything to wait for the name that an entry had not yet, or had no more.
    assert!(!run.stderr.contains("set aside"), "{sql}\n{run}");
}

#[test]
fn a_row_gives_to_the_entry_of_another_row() {
    let slapd = slapd();
    let db = installed(
        &slapd,
        "insert into team values (1, 'red'), (2, 'blue'), (3, 'hidden'); update team set is_shown = id < 3;
         insert into membership values (1, 1), (2, 1), (2, 2), (3, 3)",
    );
    assert_eq!(entries(&slapd), ["blue 2 manned p2", "red 1 2 manned p1 p2"]);
    for sql in [
        "insert into membership values (3, 1); delete from membership where person = 1",
        "update membership set team = 2 where team = 1 and person = 3",
        "update team set name = 'crimson' where id = 1",
        // The entry has its former name still when the first of these is delivered.
        "delete from membership where person = 3; update team set name = 'scarlet' where id = 1; insert into membership values (4, 1)",
        "begin; delete from membership where team = 1 and person = 2; update team set name = 'ruby' where id = 1; commit",
        "begin; update team set name = 'rose' where id = 1; insert into membership values (5, 1), (6, 1); commit",
        "update team set is_shown = not is_shown",
        "insert into membership values (7, 3), (7, 1); delete from membership where person = 3",
        "update team set is_shown = true",
        "begin; update team set name = case id when 1 then 'blue' when 2 then 'rose' end where id < 3; commit",
        "begin; set constraints all deferred; insert into membership values (8, 4), (8, 5); insert into team values (4, 'new'), (5, 'newer'); commit",
        "update team set id = id + 10 where id > 3",
        "delete from team where id = 14; insert into team values (14, 'new')",
        "delete from team where id = 15",
        "truncate membership",
        "insert into membership select p, t.id from team t, generate_series(1, 9) p",
        "delete from team",
    ] {
        follows(&db, &slapd, sql);
    }
}

/// Written at once and delivered at once, in whatever parts a worker takes it.
#[test]
fn it_is_the_entry_that_the_row_had_when_it_was_written() {
    let slapd = slapd();
    let db = installed(
        &slapd,
        "insert into team select n, 't' || n from generate_series(1, 20) n",
    );
    let mut sql = String::new();
    for n in 1..=20 {
        let next = n % 20 + 1;
        sql += &format!(
            "insert into membership values (1, {n}), (2, {n}) on conflict do nothing;
             update team set name = 'u{n}' where id = {n};
             delete from membership where person = 1 and team = {next};
             update membership set team = {next} where person = 1 and team = {n};
             update team set name = 'v{n}' where id = {n};
             delete from membership where person = 2 and team = {n} and {n} % 3 > 0;
             delete from team where id = {n} and {n} % 5 = 0;
             update team set name = 'w{n}' where id = {n};
             insert into team select {n}, 'x{n}' where not exists (select from team where id = {n});
             insert into membership values (3, {n}) on conflict do nothing;"
        );
    }
    follows(&db, &slapd, &sql);
}

#[test]
fn what_goes_waits_while_the_entry_has_its_former_name() {
    let slapd = slapd();
    let db = installed(
        &slapd,
        "insert into team values (1, 'red'); insert into membership values (1, 1), (2, 1)",
    );
    db.psql("update team set name = 'green', number = 'none' where id = 1");
    drain(&db).run().code(3);
    db.psql("delete from membership where person = 1; insert into membership values (3, 1)");
    drain(&db).run().code(3);
    assert_eq!(entries(&slapd), ["red 1 2 manned p1 p2"]);
    db.psql("update team set number = '7' where id = 1");
    drain(&db).run().ok();
    assert_eq!(entries(&slapd), ["green 2 3 manned p2 p3"]);
}

#[test]
fn an_entry_that_goes_and_comes_again_has_what_rows_give_to_it() {
    let slapd = slapd();
    let db = installed(
        &slapd,
        "insert into team values (1, 'red'), (2, 'blue'); insert into membership values (1, 1), (2, 1), (3, 2)",
    );
    for sql in [
        "begin; update team set is_shown = false where id = 1; commit; update team set is_shown = true where id = 1",
        "update team set is_shown = false, name = 'grey' where id = 1; update membership set person = 4 where person = 1",
        "update team set is_shown = true where id = 1; delete from membership where person = 2",
        // The name becomes another row's, which has members of its own.
        "begin; update team set name = 'old' where id = 2; update team set name = 'blue' where id = 1; commit",
        "update team set is_shown = false, name = 'none' where id = 2; update team set name = 'old' where id = 1; update team set name = 'blue', is_shown = true where id = 2",
    ] {
        follows(&db, &slapd, sql);
    }
    prepare(&db, &["init", "emaj.yaml", "--prune"]).run().ok();
    assert_eq!(entries(&slapd), column(&db, WANTED));
}

#[test]
fn a_row_may_be_named_by_a_key_that_it_gets_later() {
    let slapd = slapd();
    let db = installed(
        &slapd,
        "insert into team values (1, 'red'); insert into membership values (1, 1)",
    );
    db.psql("alter table membership drop constraint membership_team_fkey");
    for sql in [
        "insert into membership values (5, 11)",
        "update team set id = 11 where id = 1",
        "insert into team values (1, 'blue')",
        "delete from membership where team = 1",
        "update team set id = 13 where id = 1; update membership set team = 13",
        "delete from team where id = 11",
    ] {
        follows(&db, &slapd, sql);
    }
}

#[test]
fn two_bindings_may_give_one_value() {
    let slapd = slapd();
    let db = database();
    db.psql(TABLES);
    db.psql("create table guest (id int primary key, team bigint, team_name text, person int)");
    let bindings = format!(
        "{BINDINGS}  guests:
    table: public.guest
    to: directory
    value: {{ entry_of: {{ binding: teams, key: {{ id: team }} }}, attribute: memberUid, value: \"{{{{ row.person }}}}\" }}
  named:
    table: public.guest
    to: directory
    value: {{ dn: \"cn={{{{ row.team_name }}}},ou=groups,dc=example,dc=org\", attribute: memberUid, value: \"{{{{ row.person }}}}\" }}
"
    );
    install(&db, &to_directory(&slapd, &bindings));
    let after = |sql: &str| {
        db.psql(sql);
        drain(&db).run().ok();
        assert_eq!(set_aside(&db), [] as [&str; 0]);
        let mut all = slapd.values("cn=red,ou=groups,dc=example,dc=org", "memberUid");
        all.sort();
        all
    };
    let rows = "insert into team values (1, 'red'); insert into membership values (1, 1), (2, 1);
        insert into guest values (1, 1, null, 1), (2, 1, null, 3), (3, null, 'red', 2)";
    assert_eq!(after(rows), ["1", "2", "3"]);
    assert_eq!(after("delete from membership"), ["1", "2", "3"]);
    assert_eq!(
        after("insert into membership values (1, 1), (3, 1); delete from guest where id < 3"),
        ["1", "2", "3"]
    );
    assert_eq!(after("delete from membership"), ["2"]);
}

#[test]
fn what_is_wrong_is_told_at_once() {
    let (db, slapd) = (database(), slapd());
    db.psql(TABLES);
    db.psql("create table note (id int primary key, name text, amount numeric, person int references person)");
    let value = |entry_of: &str| format!("value: {{ entry_of: {{ {entry_of} }}, attribute: description, value: x }}");
    let write = |all: &[&str]| {
        let mut bindings = BINDINGS.to_owned();
        for (at, one) in all.iter().enumerate() {
            bindings += &format!(
                "  wrong_{at}:\n    table: public.note\n    to: directory\n    {}\n",
                value(one)
            );
        }
        std::fs::write(db.dir().join("emaj.yaml"), to_directory(&slapd, &bindings)).unwrap();
    };
    write(&[
        "binding: taems, key: { id: id }",
        "binding: members, key: { id: id }",
        "binding: teams",
        "binding: teams, key: {}",
    ]);
    let run = prepare(&db, &["validate", "emaj.yaml"]).run().code(65);
    for words in [
        "there is no binding `taems`",
        "did you mean `teams`?",
        "the binding `members` makes no entries of the sink `directory`",
        "`key`",
    ] {
        said(&run, words);
    }
    write(&[
        "binding: teams, key: { name: name }",
        "binding: teams, key: { id: amount }",
        "binding: teams, key: { id: persn }",
    ]);
    let run = prepare(&db, &["plan", "emaj.yaml"]).run().code(65);
    for words in [
        "column `name` is not in the primary key of table public.team",
        "its primary key is (id)",
        "`key` does not say which column holds `id` of table public.team",
        "a row of public.team cannot be found by `amount`: that is numeric, and `id` there is integer",
        "table public.note has no column `persn`",
    ] {
        said(&run, words);
    }
}
