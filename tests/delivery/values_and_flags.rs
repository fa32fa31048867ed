//! Rows that are one value of an entry: members of groups, and flags that stand while a row refers to the entry.

use super::{LOGINS, drain, install, people, set_aside, to_directory, writes};
use crate::support::slapd::{Slapd, slapd};
use crate::support::{Database, database};

const TABLES: &str = "create table team (id int primary key, name text unique);
    create table member (id int primary key, team text, login text)";
const TEAMS: &str = "
  teams:
    table: public.team
    to: directory
    entry:
      dn: \"cn={{ row.name }},ou=groups,dc=example,dc=org\"
      object_classes: [posixGroup]
      attributes: { gidNumber: \"{{ row.id }}\" }
  members:
    table: public.member
    to: directory
    value:
      dn: \"cn={{ row.team }},ou=groups,dc=example,dc=org\"
      attribute: memberUid
      value: \"{{ row.login }}\"
";

fn members(slapd: &Slapd, team: &str) -> Vec<String> {
    slapd.values(&format!("cn={team},ou=groups,dc=example,dc=org"), "memberUid")
}

fn change(db: &Database, sql: &str) {
    db.psql(sql);
    drain(db).run().ok();
}

#[test]
fn values_come_change_move_and_go() {
    let (db, slapd) = (database(), slapd());
    db.psql(TABLES);
    install(&db, &to_directory(&slapd, TEAMS));
    // The members are written down before their teams are.
    change(
        &db,
        "insert into member values (1, 'red', 'ann'), (2, 'red', 'bob'), (3, 'blue', 'ann'), (4, null, 'cid'), (5, 'red', null);
         insert into team values (10, 'red'), (20, 'blue')",
    );
    assert_eq!(members(&slapd, "red"), ["ann", "bob"]);
    assert_eq!(members(&slapd, "blue"), ["ann"]);

    change(&db, "update member set login = 'rob' where id = 2");
    assert_eq!(members(&slapd, "red"), ["ann", "rob"]);
    change(&db, "update member set team = 'blue' where id = 2");
    assert_eq!(
        (members(&slapd, "red"), members(&slapd, "blue")),
        (vec!["ann".into()], vec!["ann".into(), "rob".into()])
    );
    change(
        &db,
        "update member set team = 'red' where id = 4; update member set login = 'eve' where id = 5",
    );
    assert_eq!(members(&slapd, "red"), ["ann", "cid", "eve"]);
    change(
        &db,
        "update member set team = null where id = 4; update member set login = null where id = 5",
    );
    assert_eq!(members(&slapd, "red"), ["ann"]);
    change(&db, "delete from member where id = 1");
    assert_eq!(members(&slapd, "red"), [] as [&str; 0]);
    assert_eq!(members(&slapd, "blue"), ["ann", "rob"]);

    // Somebody's own member is left alone.
    slapd.modify("dn: cn=blue,ou=groups,dc=example,dc=org\nchangetype: modify\nadd: memberUid\nmemberUid: zoe\n");
    change(&db, "truncate member");
    assert_eq!(members(&slapd, "blue"), ["zoe"]);
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

#[test]
fn a_value_stays_while_any_row_gives_it() {
    let (db, slapd) = (database(), slapd());
    db.psql(TABLES);
    install(&db, &to_directory(&slapd, TEAMS));
    change(
        &db,
        "insert into team values (10, 'red'), (20, 'blue');
         insert into member values (1, 'red', 'ann'), (2, 'red', 'ann'), (3, 'red', 'O''Brien*)('), (4, 'red', 'O''Brien*)(')",
    );
    assert_eq!(members(&slapd, "red"), ["O'Brien*)(", "ann"]);
    change(&db, "delete from member where id in (1, 3)");
    assert_eq!(members(&slapd, "red"), ["O'Brien*)(", "ann"]);
    change(
        &db,
        "update member set team = 'blue' where id = 2; delete from member where id = 4",
    );
    assert_eq!(members(&slapd, "red"), [] as [&str; 0]);
    assert_eq!(members(&slapd, "blue"), ["ann"]);
    // One goes, another one comes, in one transaction.
    change(
        &db,
        "begin; delete from member where id = 2; insert into member values (9, 'blue', 'ann'); commit",
    );
    assert_eq!(members(&slapd, "blue"), ["ann"]);
    // They come and go faster than they are delivered.
    for sql in [
        "insert into member values (10, 'blue', 'ann')",
        "delete from member where id = 9",
        "insert into member values (9, 'blue', 'ann')",
        "delete from member where id = 10",
    ] {
        db.psql(sql);
    }
    drain(&db).run().ok();
    assert_eq!(members(&slapd, "blue"), ["ann"]);
    change(&db, "delete from member");
    assert_eq!(members(&slapd, "blue"), [] as [&str; 0]);
}

#[test]
fn a_flag_stands_while_a_row_refers_to_the_entry() {
    let (db, slapd) = (database(), slapd());
    db.psql("create table person (login text primary key); create table car (id int primary key, owner text, works boolean default true)");
    let drivers = "
  drivers:
    table: public.car
    to: directory
    when: row.works
    flag:
      search: { base: \"ou=people,dc=example,dc=org\", filter: \"(uid={{ row.owner }})\" }
      attribute: businessCategory
      value: driver
";
    install(&db, &to_directory(&slapd, &[LOGINS, drivers].concat()));
    let drivers = || -> Vec<String> {
        let names = slapd.names("ou=people,dc=example,dc=org");
        names
            .into_iter()
            .filter(|name| name.starts_with("uid=") && slapd.values(name, "businessCategory") == ["driver"])
            .map(|name| name["uid=".len()..].split(',').next().unwrap().to_owned())
            .collect()
    };
    change(
        &db,
        "insert into person values ('ann'), ('bob'), ('*'); insert into car values (1, 'ann', true), (2, 'ann', true), (3, null, true), (4, 'bob', false)",
    );
    assert_eq!(people(&slapd).len(), 3);
    assert_eq!(drivers(), ["ann"]);
    let before = writes(&slapd);
    change(&db, "insert into car values (5, 'ann'); delete from car where id = 1");
    assert_eq!(drivers(), ["ann"]);
    assert!(writes(&slapd) <= before + 1, "at most one value is offered again");
    change(&db, "update car set owner = 'bob' where id in (2, 5)");
    assert_eq!(drivers(), ["bob"]);
    // A name that is a pattern is no pattern.
    change(&db, "update car set owner = '*' where owner = 'bob' and works");
    assert_eq!(drivers(), ["*"]);
    change(
        &db,
        "update car set works = false where id = 2; update car set owner = null where id = 5; update car set works = true where id = 4",
    );
    assert_eq!(drivers(), ["bob"]);
    change(&db, "update car set owner = 'ann' where id = 3");
    assert_eq!(drivers(), ["ann", "bob"]);
    change(&db, "truncate car");
    assert_eq!(drivers(), [] as [&str; 0]);
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

#[test]
fn a_constant_goes_with_the_last_row_that_gives_it() {
    let (db, slapd) = (database(), slapd());
    db.psql("create table member (id int primary key, \"the grp\" text, login text, active boolean default true)");
    let (one, named) = (
        "cn=c1,ou=groups,dc=example,dc=org",
        "cn={{ row['the grp'] }},ou=groups,dc=example,dc=org",
    );
    let bindings = format!(
        "
  any:
    table: public.member
    to: directory
    when: row.active
    flag: {{ dn: \"{one}\", attribute: description, value: has members }}
  by_name:
    table: public.member
    to: directory
    flag: {{ dn: \"{named}\", attribute: description, value: named }}
"
    );
    install(&db, &to_directory(&slapd, &bindings));
    slapd.modify(&format!(
        "dn: {one}\nchangetype: add\nobjectClass: posixGroup\ncn: c1\ngidNumber: 1\n"
    ));
    let given = || slapd.values(one, "description");
    change(
        &db,
        "insert into member select n, 'c1', 'm' || n from generate_series(1, 1500) n; insert into member values (0, null, 'x')",
    );
    assert_eq!(given(), ["has members", "named"]);
    // Those that are left are far behind many that are not meant.
    change(&db, "update member set active = false where id between 1 and 1499");
    assert_eq!(given(), ["has members", "named"]);
    change(
        &db,
        "update member set active = false; update member set \"the grp\" = null where id < 1500",
    );
    assert_eq!(given(), ["named"]);
    change(&db, "delete from member");
    assert_eq!(given(), [] as [&str; 0]);
    change(&db, "insert into member values (1, 'c1', 'ann')");
    assert_eq!(given(), ["has members", "named"]);
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

#[test]
fn only_a_null_that_is_shown_is_no_value() {
    let (db, slapd) = (database(), slapd());
    db.psql("create table member (id int primary key, team text, area text, login text, nick text)");
    let bindings = "
  nicks:
    table: public.member
    to: directory
    value:
      dn: \"cn={{ row.team or row.area }},ou=groups,dc=example,dc=org\"
      attribute: memberUid
      value: \"{{ row.nick | default(row.login, true) }}\"
  names:
    table: public.member
    to: directory
    value:
      dn: \"cn={{ row.team or row.area }},ou=groups,dc=example,dc=org\"
      attribute: description
      value: \"nick {{ row.nick }}\"
";
    install(&db, &to_directory(&slapd, bindings));
    slapd.modify(
        "dn: cn=c1,ou=groups,dc=example,dc=org\nchangetype: add\nobjectClass: posixGroup\ncn: c1\ngidNumber: 1\n",
    );
    let named = || slapd.values("cn=c1,ou=groups,dc=example,dc=org", "description");
    change(
        &db,
        "insert into member values (1, 'c1', null, 'bob', null), (2, null, 'c1', 'cid', ''), (3, 'c1', null, 'x', 'dan'),
           (4, null, null, 'none', 'none'), (5, 'c1', null, null, null), (6, 'c1', null, 'dan', null)",
    );
    assert_eq!(members(&slapd, "c1"), ["bob", "cid", "dan"]);
    assert_eq!(named(), ["nick ", "nick dan"]);
    // Another row gives the same by way of another column.
    change(&db, "delete from member where id = 3");
    assert_eq!(members(&slapd, "c1"), ["bob", "cid", "dan"]);
    assert_eq!(named(), ["nick "]);
    change(
        &db,
        "delete from member where id in (1, 6); update member set nick = 'eve' where id = 2",
    );
    assert_eq!(members(&slapd, "c1"), ["eve"]);
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

#[test]
fn values_that_are_one_to_the_directory_go_with_the_last_row() {
    let (db, slapd) = (database(), slapd());
    db.psql(TABLES);
    // `description` is the same in upper and lower case, `memberUid` is not.
    let of = |attribute: &str| {
        format!(
            "
  {attribute}:
    table: public.member
    to: directory
    value:
      dn: \"cn={{{{ row.team }}}},ou=groups,dc=example,dc=org\"
      attribute: {attribute}
      value: \"{{{{ row.login }}}}\"
"
        )
    };
    install(
        &db,
        &to_directory(&slapd, &[of("description"), of("memberUid")].concat()),
    );
    for team in ["c1", "c2"] {
        slapd.modify(&format!(
            "dn: cn={team},ou=groups,dc=example,dc=org\nchangetype: add\nobjectClass: posixGroup\ncn: {team}\ngidNumber: 1\n"
        ));
    }
    let folded = |team: &str| slapd.values(&format!("cn={team},ou=groups,dc=example,dc=org"), "description");
    change(
        &db,
        "insert into member values (1, 'c2', 'Sales'), (2, 'c2', 'sales'), (3, 'C2', 'ops'), (4, 'c2', 'ops'), (5, 'c1', 'IT')",
    );
    assert_eq!(members(&slapd, "c2"), ["Sales", "ops", "sales"]);
    change(&db, "delete from member where id in (1, 3)");
    assert_eq!(folded("c2"), ["ops", "sales"]);
    assert_eq!(members(&slapd, "c2"), ["ops", "sales"]);
    // One row gets the spelling of another; then it moves away, and the other one still gives it.
    change(&db, "update member set login = 'OPS' where id = 2");
    assert_eq!(
        (folded("c2").len(), members(&slapd, "c2")),
        (1, vec!["OPS".into(), "ops".into()])
    );
    change(&db, "update member set team = 'c1' where id = 2");
    assert_eq!(
        (folded("c2"), folded("c1")),
        (vec!["ops".into()], vec!["IT".into(), "OPS".into()])
    );
    assert_eq!(members(&slapd, "c2"), ["ops"]);
    change(&db, "delete from member");
    assert_eq!((folded("c2"), folded("c1")), (vec![], vec![]));
    assert_eq!(members(&slapd, "c1"), [] as [&str; 0]);
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

/// What is one text to the directory, the database may tell apart, and the other way round; of some types it cannot even say that.
#[test]
fn values_stay_whatever_their_columns_are() {
    let (db, slapd) = (database(), slapd());
    db.psql(
        "create table tag (id int primary key, c text collate \"C\", tr text collate \"tr-x-icu\", padded char(8), json jsonb, place point, day date)",
    );
    let columns = ["c", "tr", "padded", "json", "place", "day"];
    let bindings = columns.map(|column| {
        format!(
            "\n  {column}:\n    table: public.tag\n    to: directory\n    value: {{ dn: \"cn={column},ou=groups,dc=example,dc=org\", \
             attribute: description, value: \"{{{{ row.{column} }}}}\" }}"
        )
    });
    install(&db, &to_directory(&slapd, &(bindings.concat() + "\n")));
    for column in columns {
        slapd.modify(&format!(
            "dn: cn={column},ou=groups,dc=example,dc=org\nchangetype: add\nobjectClass: posixGroup\ncn: {column}\ngidNumber: 1\n"
        ));
    }
    let given = || {
        columns.map(|column| {
            slapd
                .values(&format!("cn={column},ou=groups,dc=example,dc=org"), "description")
                .concat()
        })
    };
    let same = "'x', '\"vip\"', '(1,2)', '2024-02-29'";
    change(
        &db,
        &format!("insert into tag values (1, 'Ärzte', 'ILKER', {same}), (2, 'ärzte', 'ilker', {same})"),
    );
    change(&db, "delete from tag where id = 1");
    assert_eq!(given(), ["ärzte", "ilker", "x       ", "vip", "(1,2)", "2024-02-29"]);
    change(&db, "delete from tag");
    assert_eq!(given(), [""; 6]);
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

/// Over several connections: the value that goes must not be looked for where its entry stood, or will stand.
#[test]
fn a_value_that_goes_by_search_is_found_though_its_entry_is_renamed() {
    let (db, slapd) = (database(), slapd());
    db.psql(
        "create table person (login text primary key); create table tag (id int primary key, login text, tag text)",
    );
    let tags = "
  tags:
    table: public.tag
    to: directory
    value:
      search: { base: \"ou=people,dc=example,dc=org\", filter: \"(uid={{ row.login }})\" }
      attribute: description
      value: \"{{ row.tag }}\"
  titles:
    table: public.tag
    to: directory
    query:
      search: { base: \"ou=people,dc=example,dc=org\", filter: \"(uid={{ row.login }})\" }
      attribute: title
      query: \"select tag from public.tag where login = {{ row.login }}\"
";
    install(&db, &to_directory(&slapd, &[LOGINS, tags].concat()));
    change(&db, "insert into person select 'p' || n from generate_series(1, 104) n");
    change(
        &db,
        "insert into tag select n, 'p' || n, 'vip' || n from generate_series(1, 104) n",
    );
    let tagged = |attribute: &str| {
        let all = slapd.search(&[
            "-s",
            "one",
            "-b",
            "ou=people,dc=example,dc=org",
            &format!("({attribute}=*)"),
            "1.1",
        ]);
        all.into_keys().collect::<Vec<_>>()
    };
    assert_eq!((tagged("description").len(), tagged("title").len()), (104, 104));
    // Each is found under the name that it has then.
    for n in (0..104).step_by(4) {
        db.psql(&format!(
            "delete from tag where id between {n} and {n} + 3; update person set login = 'r{n}' where login = 'p{n}'"
        ));
    }
    db.psql("delete from tag");
    drain(&db).run().ok();
    assert_eq!((tagged("description"), tagged("title")), (vec![], vec![]));
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

#[test]
fn a_value_stays_while_another_binding_gives_it() {
    let (db, slapd) = (database(), slapd());
    db.psql(
        "create table team (id int primary key, name text);
         create table member (id int primary key, team text, login text, deputy text);
         create table guest (id int primary key, login text, uid int, is_there boolean)",
    );
    let members = TEAMS.replace("cn={{ row.team }}", "cn=all");
    let others = members.split("  members:").nth(1).unwrap();
    let deputies = others.replace("row.login", "row.deputy");
    let guests = others
        .replace("public.member", "public.guest")
        .replace("    value:\n", "    when: row.is_there\n    value:\n");
    let numbers = guests.replace("{{ row.login }}", "{{ row.uid }}");
    let shouted = guests.replace("{{ row.login }}", "{{ row.login | upper }}");
    let bindings = format!("{members}  deputies:{deputies}  guests:{guests}  numbers:{numbers}  shouted:{shouted}");
    install(&db, &to_directory(&slapd, &bindings));
    let all = || slapd.values("cn=all,ou=groups,dc=example,dc=org", "memberUid");
    change(
        &db,
        "insert into team values (1, 'all'); insert into member values (1, 'a', 'ann', 'bob'), (2, 'a', 'bob', null)",
    );
    assert_eq!(all(), ["ann", "bob"]);
    change(&db, "update member set deputy = null where id = 1");
    assert_eq!(all(), ["ann", "bob"], "the same table");
    change(
        &db,
        "insert into guest values (1, 'bob', 7, true), (2, 'cyd', 8, false)",
    );
    change(&db, "delete from member where id = 2");
    assert_eq!(all(), ["7", "BOB", "ann", "bob"], "another table");
    change(
        &db,
        "insert into member values (3, 'a', '7', '9'); insert into member values (4, 'a', 'cyd', '99999999999')",
    );
    change(&db, "delete from member where id > 2");
    assert_eq!(
        all(),
        ["7", "BOB", "ann", "bob"],
        "a number; and those that nobody gives are gone"
    );
    change(&db, "update member set login = 'eve'");
    change(&db, "update guest set is_there = false");
    assert_eq!(all(), ["eve"]);
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

#[test]
fn what_an_entry_takes_along_to_its_new_name_is_put_right_when_its_row_has_gone_on() {
    let (db, slapd) = (database(), slapd());
    db.psql(
        "create table team (id int primary key, name text unique, number text);
         create table person (id int primary key, login text, team text references team (name) on update cascade, mail text)",
    );
    let bindings = "
  teams:
    table: public.team
    to: directory
    entry:
      dn: \"cn={{ row.name }},ou=groups,dc=example,dc=org\"
      object_classes: [posixGroup, extensibleObject]
      attributes: { gidNumber: \"{{ row.number }}\" }
  members:
    table: public.person
    to: directory
    value:
      dn: \"cn={{ row.team }},ou=groups,dc=example,dc=org\"
      attribute: memberUid
      value: \"{{ row.login }}\"
  found:
    table: public.person
    to: directory
    value:
      search: { base: \"ou=groups,dc=example,dc=org\", filter: \"(cn={{ row.team }})\" }
      attribute: mail
      value: \"{{ row.mail }}\"
  desks:
    table: public.person
    to: directory
    entry:
      dn: \"uid={{ row.id }},cn={{ row.team }},ou=groups,dc=example,dc=org\"
      object_classes: [account]
      attributes: { description: \"{{ row.login }}\" }
  count:
    table: public.person
    to: directory
    query:
      dn: \"cn={{ row.team }},ou=groups,dc=example,dc=org\"
      attribute: description
      query: \"select 'n' || count(*) from public.person where team = {{ row.team }} having count(*) > 0\"
";
    install(&db, &to_directory(&slapd, bindings));
    db.psql("insert into team values (1, 'old', '1'), (2, 'other', '2'); insert into person values (1, 'ann', 'old', 'a@x'), (2, 'bob', 'other', 'b@x')");
    drain(&db).run().ok();
    // The team stays where it is, and its people wait for it; they go on meanwhile.
    db.psql("update team set name = 'new', number = 'none' where id = 1");
    drain(&db).run().code(3);
    db.psql("update person set login = 'anna', mail = 'c@x' where id = 1");
    drain(&db).run().code(3);
    db.psql("update person set team = 'other' where id = 1");
    db.psql("update team set number = '3' where id = 1");
    drain(&db).run();
    super::prepare(&db, &["failures", "retry", "--all"]).run().ok();
    drain(&db).run().ok();
    assert_eq!(set_aside(&db), [] as [&str; 0]);
    let of = |team: &str| {
        let dn = format!("cn={team},ou=groups,dc=example,dc=org");
        ["gidNumber", "memberUid", "mail", "description"].map(|name| slapd.values(&dn, name).join(" "))
    };
    assert_eq!(of("new"), ["3", "", "", ""]);
    assert_eq!(of("other"), ["2", "anna bob", "b@x c@x", "n2"]);
    assert_eq!(
        slapd.names("ou=groups,dc=example,dc=org").len(),
        5,
        "{:?}",
        slapd.names("ou=groups,dc=example,dc=org")
    );
}

#[test]
fn a_value_is_looked_for_by_the_operators_of_its_type() {
    let (db, slapd) = (database(), slapd());
    db.psql("create extension ltree");
    db.psql(&TABLES.replace("team text", "team ltree"));
    install(&db, &to_directory(&slapd, TEAMS));
    change(
        &db,
        "insert into team values (10, 'red'); insert into member values (1, 'red', 'ann'), (2, 'red', 'ann'), (3, 'red', 'bob')",
    );
    change(&db, "delete from member where id in (1, 3)");
    assert_eq!(members(&slapd, "red"), ["ann"], "another row gives it");
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

#[test]
fn a_value_stays_while_the_entry_itself_or_another_binding_gives_it() {
    let (db, slapd) = (database(), slapd());
    db.psql("create table person (id int primary key, login text, mail text); create table alias (id int primary key, login text, mail text)");
    let bindings = "
  people:
    table: public.person
    to: directory
    entry:
      dn: \"uid={{ row.login }},ou=people,dc=example,dc=org\"
      object_classes: [inetOrgPerson]
      attributes: { cn: x, sn: x, mail: { template: \"{{ row.mail }}\", mode: merge } }
  aliases:
    table: public.alias
    to: directory
    value: { dn: \"uid={{ row.login }},ou=people,dc=example,dc=org\", attribute: mail, value: \"{{ row.mail }}\" }
";
    install(&db, &to_directory(&slapd, bindings));
    let mails = |login: &str| slapd.values(&format!("uid={login},ou=people,dc=example,dc=org"), "mail");
    change(
        &db,
        "insert into person values (1, 'ann', 'ann@x'), (2, 'bob', 'bob@x')",
    );
    change(
        &db,
        "insert into alias values (1, 'ann', 'ann@x'), (2, 'ann', 'a@x'), (3, 'bob', 'Bob@x'), (4, 'bob', 'rob@x')",
    );
    change(&db, "delete from alias where login = 'ann'");
    assert_eq!(mails("ann"), ["ann@x"], "her own");
    change(&db, "update person set mail = 'robert@x' where id = 2");
    assert_eq!(
        mails("bob"),
        ["bob@x", "rob@x", "robert@x"],
        "an alias, in another spelling"
    );
    change(
        &db,
        "delete from alias where id = 3; update person set mail = 'b@x' where id = 2",
    );
    assert_eq!(mails("bob"), ["b@x", "rob@x"]);
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

#[test]
fn a_name_within_a_value_is_that_of_the_entry() {
    let (db, slapd) = (database(), slapd());
    db.psql("create table person (id int primary key, login text)");
    let all = "
  all:
    table: public.person
    to: directory
    value:
      dn: \"cn=all,ou=groups,dc=example,dc=org\"
      attribute: roleOccupant
      value: \"uid={{ row.login | dn }},ou=people,dc=example,dc=org\"
";
    install(&db, &to_directory(&slapd, &[LOGINS, all].concat()));
    slapd.modify("dn: cn=all,ou=groups,dc=example,dc=org\nchangetype: add\nobjectClass: organizationalRole\ncn: all\n");
    change(
        &db,
        r"insert into person values (1, 'ann'), (2, 'Smith, John'), (3, 'Lee+sn=x'), (4, 'CORP\admin'), (5, '  two blanks ')",
    );
    assert_eq!(set_aside(&db), [] as [&str; 0]);
    let occupants = || slapd.values("cn=all,ou=groups,dc=example,dc=org", "roleOccupant");
    assert_eq!(occupants().len(), 5);
    for name in occupants() {
        assert!(slapd.entry(&name).is_some(), "{name}");
    }
    change(&db, "delete from person where id in (2, 3)");
    assert_eq!(occupants().len(), 3);
}

/// A value moves to another entry and is another one there; where it was it cannot go, because a group may not be without members.
#[test]
fn what_arrived_of_a_value_that_was_refused_goes_with_its_row() {
    const MEMBERS: &str = "
  members:
    table: public.member
    to: directory
    value:
      dn: \"cn={{ row.team }},ou=groups,dc=example,dc=org\"
      attribute: member
      value: \"uid={{ row.login | dn }},ou=people,dc=example,dc=org\"
";
    let (db, slapd) = (database(), slapd());
    db.psql(TABLES);
    db.psql("insert into member select n, 'old' || n, 'ann' from generate_series(1, 3) n");
    for team in ["old1", "old2", "old3", "new1", "new2", "new3", "last1"] {
        slapd.modify(&format!(
            "dn: cn={team},ou=groups,dc=example,dc=org\nchangetype: add\nobjectClass: groupOfNames\nmember: {}\n",
            if team.starts_with("old") {
                "uid=ann,ou=people,dc=example,dc=org"
            } else {
                "cn=keeper"
            }
        ));
    }
    install(&db, &to_directory(&slapd, MEMBERS));
    super::prepare(&db, &["init", "emaj.yaml"]).run().ok();
    let of = |team: &str| {
        let members = slapd.values(&format!("cn={team},ou=groups,dc=example,dc=org"), "member");
        let name = |dn: &String| dn.split(',').next().unwrap_or_default().to_owned();
        members.iter().map(name).collect::<Vec<_>>().join(" ")
    };
    db.psql("update member set team = 'new' || id, login = 'bea'");
    drain(&db).run().code(3);
    assert_eq!(set_aside(&db).len(), 3);
    assert_eq!(of("new1"), "cn=keeper uid=bea", "the half that was taken");
    // One moves on, one goes, one is another value where it is.
    db.psql("update member set team = 'last1' where id = 1; delete from member where id = 2; update member set login = 'cyd' where id = 3");
    drain(&db).run().code(3);
    db.psql("insert into member select n + 10, 'old' || n, 'dan' from generate_series(1, 3) n");
    drain(&db).run();
    super::prepare(&db, &["failures", "retry", "--sink", "directory"])
        .run()
        .ok();
    drain(&db).run().ok();
    let all = ["old1", "old2", "old3", "new1", "new2", "new3", "last1"].map(of);
    assert_eq!(
        all,
        [
            "uid=dan",
            "uid=dan",
            "uid=dan",
            "cn=keeper",
            "cn=keeper",
            "cn=keeper uid=cyd",
            "cn=keeper uid=bea"
        ]
    );
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

#[test]
fn a_value_that_the_directory_cannot_hold_is_not_there() {
    let (db, slapd) = (database(), slapd());
    db.psql(TABLES);
    install(&db, &to_directory(&slapd, TEAMS));
    change(
        &db,
        "insert into team values (10, 'red'), (20, 'blue'), (30, 'green'); insert into member values (1, 'red', 'ann')",
    );
    let refused = |sql: &str| {
        db.psql(sql);
        drain(&db).run().code(3);
    };
    // It is corrected while it waits, in a team where it never came to, and goes on to another.
    refused("update member set login = 'ü7', team = 'green'");
    change(&db, "update member set login = 'eve'");
    change(&db, "update member set team = 'blue'");
    let all = || ["red", "green", "blue"].map(|team| members(&slapd, team).join(" "));
    assert_eq!((all(), set_aside(&db)), (["", "", "eve"].map(String::from), vec![]));
    // It is discarded, and corrected or gone.
    refused("insert into member values (2, 'red', 'ü2'), (3, 'red', 'ü3'), (4, 'red', 'ü4')");
    super::prepare(&db, &["failures", "discard", "--all", "--yes"])
        .run()
        .ok();
    change(
        &db,
        "update member set login = 'two' where id = 2; update member set login = 'three', team = 'green' where id = 3; delete from member where id = 4",
    );
    assert_eq!(
        (all(), set_aside(&db)),
        (["two", "three", "eve"].map(String::from), vec![])
    );
    // What is refused in the place of a good one leaves that.
    refused("update member set login = 'ö' where id = 2");
    assert_eq!(all(), ["two", "three", "eve"].map(String::from));
}

#[test]
fn a_name_that_no_entry_can_have_is_that_of_none() {
    let (db, slapd) = (database(), slapd());
    db.psql("create table place (id int primary key, code text, note text)");
    install(
        &db,
        &to_directory(
            &slapd,
            "
  places:
    table: public.place
    to: directory
    entry:
      dn: \"dc={{ row.code }},ou=people,dc=example,dc=org\"
      object_classes: [domain]
      attributes: { description: \"{{ row.note }}\" }
",
        ),
    );
    let note = |code: &str| {
        let dn = format!("dc={code},ou=people,dc=example,dc=org");
        match slapd.entry(&dn) {
            Some(_) => slapd.values(&dn, "description"),
            None => Vec::new(),
        }
    };
    let refused = |sql: &str| {
        db.psql(sql);
        drain(&db).run().code(3);
    };
    refused("insert into place values (1, 'ü1', 'a'), (2, 'ü2', 'a'), (3, 'three', 'a')");
    super::prepare(&db, &["failures", "discard", "--all", "--yes"])
        .run()
        .ok();
    change(
        &db,
        "update place set code = 'one', note = 'b' where id = 1; delete from place where id = 2",
    );
    assert_eq!((note("one"), note("three")), (vec!["b".into()], vec!["a".into()]));
    // A new name that none can have leaves the entry as it is.
    refused("update place set code = 'ü3', note = 'c' where id = 3");
    assert_eq!(note("three"), ["a"]);
    change(&db, "update place set code = 'tres' where id = 3");
    assert_eq!((note("three"), note("tres")), (vec![], vec!["c".into()]));
    assert!(set_aside(&db).is_empty());
}

#[test]
fn a_directory_that_keeps_references_itself_keeps_no_member_that_left() {
    let slapd = Slapd::with(
        "overlay refint\nrefint_attributes member\nrefint_nothing cn=nobody\n",
        true,
    );
    let db = database();
    db.psql("create table person (id int primary key, login text, team text)");
    let bindings = "
  people:
    table: public.person
    to: directory
    entry:
      dn: \"uid={{ row.login }},ou=people,dc=example,dc=org\"
      object_classes: [inetOrgPerson]
      attributes: { cn: \"{{ row.login }}\", sn: \"{{ row.login }}\" }
  members:
    table: public.person
    to: directory
    value:
      dn: \"cn={{ row.team }},ou=groups,dc=example,dc=org\"
      attribute: member
      value: \"uid={{ row.login }},ou=people,dc=example,dc=org\"
";
    install(&db, &to_directory(&slapd, bindings));
    for team in ["dev", "ops"] {
        slapd.modify(&format!(
            "dn: cn={team},ou=groups,dc=example,dc=org\nchangetype: add\nobjectClass: groupOfNames\nmember: cn=nobody\n"
        ));
    }
    let logins = |team: &str| {
        let members = slapd.values(&format!("cn={team},ou=groups,dc=example,dc=org"), "member");
        let names = members
            .iter()
            .filter_map(|dn| dn.split(',').next()?.strip_prefix("uid="));
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    change(
        &db,
        "insert into person values (1, 'ann', 'dev'), (2, 'bob', 'dev'), (3, 'cid', 'dev'), (4, 'dan', 'dev'), (5, 'eve', 'dev')",
    );
    // Their names alone; the team as well; out of all teams.
    change(
        &db,
        "begin; update person set login = 'a2' where id = 1; update person set login = 'b2', team = 'ops' where id = 2;
         update person set login = 'c2', team = null where id = 3; update person set login = 'd2', team = 'ops' where id = 4;
         commit",
    );
    assert_eq!(
        (logins("dev"), logins("ops")),
        (vec!["a2".into(), "eve".into()], vec!["b2".into(), "d2".into()])
    );
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}
