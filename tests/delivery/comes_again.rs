//! An entry that goes and comes again has what other rows give to it, whatever kind of binding they give it by.

use super::{LOGINS, drain, install, prepare, set_aside, to_directory, writes};
use crate::support::slapd::{Slapd, slapd};
use crate::support::{database, until};

const TABLES: &str =
    "create table team (id int primary key, name text, number text default '7', active boolean default true);
    create table person (id int primary key, login text, active boolean default true);
    create table member (id int primary key, team text, login text);
    insert into team values (1, 'ops'); insert into person values (1, 'ann'), (2, 'bob');
    insert into member values (1, 'ops', 'ann'), (2, 'ops', 'bob'), (3, 'none', 'ann')";
const BINDINGS: &str = "
  people:
    table: public.person
    to: directory
    when: row.active
    entry:
      dn: \"uid={{ row.login }},ou=people,dc=example,dc=org\"
      object_classes: [inetOrgPerson]
      attributes: { cn: \"{{ row.login }}\", sn: x }
  teams:
    table: public.team
    to: directory
    when: row.active
    entry:
      dn: \"cn={{ row.name }},ou=groups,dc=example,dc=org\"
      object_classes: [posixGroup]
      attributes: { gidNumber: \"{{ row.number }}\" }
  members:
    table: public.member
    to: directory
    when: row.team == 'ops'
    value:
      dn: \"cn={{ row.team }},ou=groups,dc=example,dc=org\"
      attribute: memberUid
      value: \"{{ row.login }}\"
  in_a_team:
    table: public.member
    to: directory
    flag: { dn: \"uid={{ row.login }},ou=people,dc=example,dc=org\", attribute: businessCategory, value: in a team }
  marked:
    table: public.member
    to: directory
    flag:
      search: { base: \"ou=people,dc=example,dc=org\", filter: \"(uid={{ row.login }})\" }
      attribute: employeeType
      value: member
  counted:
    table: public.member
    to: directory
    query:
      dn: \"uid={{ row.login }},ou=people,dc=example,dc=org\"
      attribute: description
      query: \"select 'in ' || count(*) from member where login = {{ row.login }}\"
";

/// What others give to the entry of a person, and to that of the team.
fn given(slapd: &Slapd) -> Vec<String> {
    let person = |attribute| slapd.values("uid=ann,ou=people,dc=example,dc=org", attribute);
    let members = slapd.values("cn=ops,ou=groups,dc=example,dc=org", "memberUid");
    [
        person("businessCategory"),
        person("employeeType"),
        person("description"),
        members,
    ]
    .concat()
}

#[test]
fn what_other_rows_give_comes_with_an_entry_that_comes_again() {
    let (db, slapd) = (database(), slapd());
    db.psql(TABLES);
    install(&db, &to_directory(&slapd, BINDINGS));
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    let all = ["in a team", "member", "in 2", "ann", "bob"];
    assert_eq!(given(&slapd), all);
    for (goes, comes) in [
        (
            "update person set active = false; update team set active = false",
            "update person set active = true; update team set active = true",
        ),
        (
            "delete from person; delete from team",
            "insert into team values (1, 'ops'); insert into person values (1, 'ann'), (2, 'bob')",
        ),
        (
            "delete from person where id = 1; update person set login = 'cyd'",
            "update person set login = 'ann'; insert into person values (1, 'bob')",
        ),
    ] {
        db.psql(goes);
        drain(&db).run().ok();
        db.psql(comes);
        drain(&db).run().ok();
        assert_eq!(given(&slapd), all, "{comes}");
    }
    // In one go, and with rows that come behind it.
    db.psql("delete from team; insert into team values (1, 'ops'); insert into member values (4, 'ops', 'eve')");
    drain(&db).run().code(3);
    assert_eq!(given(&slapd), ["in a team", "member", "in 2", "ann", "bob", "eve"]);
    let mut waits = set_aside(&db);
    waits.sort();
    assert_eq!(
        waits,
        ["counted [4] later", "in_a_team [4] later", "marked [4] later"],
        "there is no entry of that name"
    );
}

#[test]
fn an_entry_that_was_set_aside_brings_them_too_and_one_to_which_nobody_refers_is_one_write() {
    let (db, slapd) = (database(), slapd());
    db.psql(TABLES);
    install(&db, &to_directory(&slapd, BINDINGS));
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    db.psql("update team set active = false");
    drain(&db).run().ok();
    db.psql("update team set number = 'none', active = true");
    drain(&db).run().code(3);
    assert_eq!(
        set_aside(&db),
        ["teams [1] never"],
        "what others give to it is told when it is there"
    );
    db.psql("update team set number = '8'");
    drain(&db).run().ok();
    assert_eq!(set_aside(&db), [] as [&str; 0]);
    assert_eq!(
        slapd.values("cn=ops,ou=groups,dc=example,dc=org", "memberUid"),
        ["ann", "bob"]
    );
    let before = writes(&slapd);
    db.psql("insert into person values (3, 'dan'), (4, 'fay')");
    drain(&db).run().ok();
    assert_eq!(writes(&slapd), before + 2);
}

#[test]
fn what_other_rows_give_is_not_lost_when_the_worker_is_killed_behind_the_entry() {
    let (db, slapd) = (database(), slapd());
    db.psql(TABLES);
    install(&db, &to_directory(&slapd, BINDINGS));
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    let members = || slapd.values("cn=ops,ou=groups,dc=example,dc=org", "memberUid");
    db.psql("delete from team");
    drain(&db).run().ok();
    db.psql("insert into team values (1, 'ops')");
    assert_eq!(drain(&db).env("EMAJ_FAIL_AT", "chunk.delivered").run().status, None);
    assert_eq!(members(), [] as [&str; 0], "killed before");
    drain(&db).run().ok();
    assert_eq!(members(), ["ann", "bob"]);
}

#[test]
fn what_a_row_gives_to_its_own_entry_is_told_once() {
    let (db, slapd) = (database(), slapd());
    db.psql("create table person (id int primary key, login text, active boolean default true)");
    let flag = "
  staff:
    table: public.person
    to: directory
    flag: { dn: \"uid={{ row.login }},ou=people,dc=example,dc=org\", attribute: businessCategory, value: staff }
";
    let active = LOGINS.replace("to: directory", "to: directory\n    when: row.active");
    install(&db, &to_directory(&slapd, &format!("{active}{flag}")));
    let staff = || slapd.values("uid=ann,ou=people,dc=example,dc=org", "businessCategory");
    let before = writes(&slapd);
    db.psql("insert into person values (1, 'ann'), (2, 'bob')");
    drain(&db).run().ok();
    assert_eq!(staff(), ["staff"]);
    assert_eq!(writes(&slapd), before + 4);
    // Where its change says nothing of that, it is told.
    db.psql("update person set active = false");
    drain(&db).run().ok();
    db.psql("update person set active = true");
    drain(&db).run().ok();
    assert_eq!(staff(), ["staff"]);
}

#[test]
fn rows_are_found_that_write_the_name_of_the_entry_in_another_way() {
    let (db, slapd) = (database(), slapd());
    db.psql(
        "create table team (id int primary key, name text); create table member (id int primary key, team text, login text);
         insert into team values (1, 'Ops, \"Night\"'), (2, 'Ä*');
         insert into member values (1, 'oPS, \"NIGHT\"', 'ann'), (2, 'Ä*', 'bob'), (3, 'ops', 'eve')",
    );
    let bindings = "
  teams:
    table: public.team
    to: directory
    entry:
      dn: \"cn={{ row.name }},ou=groups,dc=example,dc=org\"
      object_classes: [posixGroup]
      attributes: { gidNumber: \"7\" }
  members:
    table: public.member
    to: directory
    when: row.team != 'ops'
    value:
      dn: \"cn={{ row.team | lower }},ou=groups,dc=example,dc=org\"
      attribute: memberUid
      value: \"{{ row.login }}\"
  found:
    table: public.member
    to: directory
    when: row.team != 'ops'
    flag:
      search: { base: \"ou=groups,dc=example,dc=org\", filter: \"(cn={{ row.team }})\" }
      attribute: description
      value: found
";
    install(&db, &to_directory(&slapd, bindings));
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    db.psql("delete from team");
    drain(&db).run().ok();
    db.psql("insert into team values (1, 'Ops, \"Night\"'), (2, 'Ä*')");
    drain(&db).run().ok();
    let groups = slapd.names("ou=groups,dc=example,dc=org");
    let mut given: Vec<String> = groups
        .iter()
        .filter(|name| name.starts_with("cn="))
        .map(|name| {
            [slapd.values(name, "memberUid"), slapd.values(name, "description")]
                .concat()
                .join(" ")
        })
        .collect();
    given.sort();
    assert_eq!(given, ["ann found", "bob found"]);
}

#[test]
fn an_entry_that_comes_and_goes_at_once_keeps_nobody_waiting() {
    let (db, slapd) = (database(), slapd());
    db.psql(TABLES);
    install(&db, &to_directory(&slapd, BINDINGS));
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    db.psql("update person set active = false; update team set active = false");
    drain(&db).run().ok();
    for active in ["true", "false"] {
        db.psql(&format!(
            "update person set active = {active}; update team set active = {active}"
        ));
    }
    drain(&db).run().ok();
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

#[test]
fn an_entry_of_others_outlives_a_row_that_was_refused_its_name() {
    let (db, slapd) = (database(), slapd());
    db.psql(TABLES);
    install(&db, &to_directory(&slapd, BINDINGS));
    slapd.modify("dn: uid=eve,ou=people,dc=example,dc=org\nchangetype: add\nobjectClass: account\nuid: eve\n");
    db.psql("insert into person values (3, 'eve')");
    drain(&db).run().code(3);
    db.psql("delete from person where id = 3");
    prepare(&db, &["failures", "retry", "--all"]).run().ok();
    drain(&db).run().ok();
    assert_eq!(set_aside(&db), [] as [&str; 0]);
    assert_eq!(
        slapd.values("uid=eve,ou=people,dc=example,dc=org", "objectClass"),
        ["account"]
    );
}

#[test]
fn a_row_that_refers_to_an_entry_only_later_is_told_by_its_own_change() {
    let (db, slapd) = (database(), slapd());
    db.psql(TABLES);
    let bindings = BINDINGS.replace("when: row.team == 'ops'", "when: row.team != 'none'");
    let end = bindings.find("  in_a_team:").expect("the binding behind the members");
    install(&db, &to_directory(&slapd, &bindings[..end]));
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    let members = |team: &str| slapd.values(&format!("cn={team},ou=groups,dc=example,dc=org"), "memberUid");
    // The team comes with one chunk, and who moves to it with a later one.
    db.psql(
        "insert into team values (2, 'dev'); insert into member select n, 'none', 'x' from generate_series(10, 9000) n;
         update member set team = 'dev' where id = 1",
    );
    assert_eq!(drain(&db).env("EMAJ_FAIL_AT", "chunk.noted").run().status, None);
    assert_eq!(members("ops"), ["ann", "bob"], "killed behind the first chunk");
    assert_eq!(members("dev"), [] as [&str; 0]);
    drain(&db).run().ok();
    assert_eq!([members("ops"), members("dev")], [["bob"], ["ann"]]);
}

#[test]
fn an_entry_that_comes_again_and_is_handed_on_has_what_others_give_to_it() {
    let (db, slapd) = (database(), slapd());
    db.psql(TABLES);
    install(&db, &to_directory(&slapd, BINDINGS));
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    let before = given(&slapd);
    db.psql(
        "delete from person where id = 1; insert into person values (3, 'ann'); insert into person values (4, 'ann');
         delete from person where id = 3",
    );
    drain(&db).run().ok();
    assert_eq!(given(&slapd), before);
}

#[test]
fn an_entry_that_comes_again_and_moves_is_found_under_its_new_name() {
    let (db, slapd) = (database(), slapd());
    for unit in ["a", "b"] {
        slapd.modify(&format!(
            "dn: ou={unit},ou=people,dc=example,dc=org\nchangetype: add\nobjectClass: organizationalUnit\nou: {unit}\n"
        ));
    }
    db.psql(
        "create table person (id int primary key, login text, unit text); create table role (id int primary key, login text, role text);
         insert into person values (1, 'ann', 'a'); insert into role values (1, 'ann', 'admin'), (2, 'ann', 'boss')",
    );
    let people = LOGINS.replace("ou=people,", "ou={{ row.unit }},ou=people,");
    let roles = "
  roles:
    table: public.role
    to: directory
    value:
      search: { base: \"ou=people,dc=example,dc=org\", filter: \"(uid={{ row.login }})\" }
      attribute: employeeType
      value: \"{{ row.role }}\"
";
    install(&db, &to_directory(&slapd, &format!("{people}{roles}")));
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    db.psql("delete from person; insert into person values (1, 'ann', 'a'); update person set unit = 'b'");
    drain(&db).run().ok();
    let mut roles = slapd.values("uid=ann,ou=b,ou=people,dc=example,dc=org", "employeeType");
    roles.sort();
    assert_eq!(roles, ["admin", "boss"]);
}

#[test]
fn what_other_rows_give_is_not_lost_when_they_cannot_be_read_for_a_moment() {
    let (db, slapd) = (database(), slapd());
    db.psql(TABLES);
    install(&db, &to_directory(&slapd, BINDINGS));
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    let before = given(&slapd);
    db.psql("delete from team");
    drain(&db).run().ok();
    db.psql("insert into team values (1, 'ops')");
    let (mut holder, mut other) = (db.client(), db.client());
    let mut lock = holder.transaction().unwrap();
    lock.batch_execute("lock table member").unwrap();
    let mut end_waits = || {
        let waits = "select pg_cancel_backend(pid) from pg_locks where not granted and relation = 'member'::regclass";
        !other.query(waits, &[]).unwrap().is_empty()
    };
    drain(&db)
        .run_while(|_| {
            until("the worker waits for the table", &mut end_waits);
            until("it waits no more", || !end_waits());
            lock.commit().unwrap();
        })
        .code(1);
    drain(&db).run().ok();
    assert_eq!(given(&slapd), before);
}
