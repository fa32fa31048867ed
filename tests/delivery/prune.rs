//! `emaj init --prune`: what has no row any more is listed, then limited, then taken away.

use super::{LOGINS, PEOPLE, PERSON, column, drain, install, logins, people, prepare, to_directory, worker, writes};
use crate::support::rows::sink_into;
use crate::support::slapd::{ACCOUNT, Slapd, slapd};
use crate::support::{Database, database, shared_cluster, wait_for};

#[test]
fn what_has_no_row_is_listed_then_limited_then_gone() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    db.psql("insert into person select n, 'p' || n, 'p' || n from generate_series(1, 30) n");
    let manifest = |limit: &str| to_directory(&slapd, &PEOPLE.replace("    entry:", &format!("{limit}    entry:")));
    install(&db, &manifest("    max_deletes: 5\n"));
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    // While nobody delivers, entries that nobody wants any more come about.
    for login in ["old1", "old2", "old3", "old4", "old5", "old6"] {
        slapd.modify(&format!("dn: uid={login},ou=people,dc=example,dc=org\nchangetype: add\nobjectClass: inetOrgPerson\nuid: {login}\ncn: x\nsn: x\n"));
    }
    slapd.modify(
        "dn: cn=not ours,ou=people,dc=example,dc=org\nchangetype: add\nobjectClass: person\ncn: not ours\nsn: x\n",
    );
    let before = writes(&slapd);
    let run = prepare(&db, &["init", "emaj.yaml", "--prune", "--dry-run"]).run().ok();
    let listed: Vec<&str> = run.stdout.lines().filter(|line| line.starts_with("dn: ")).collect();
    assert_eq!(listed.len(), 6, "{run}");
    assert!(
        run.stdout
            .contains("dn: uid=old3,ou=people,dc=example,dc=org\nchangetype: delete"),
        "{run}"
    );
    assert_eq!(writes(&slapd), before, "a dry run writes nothing");

    let run = prepare(&db, &["init", "emaj.yaml", "--prune"]).run().code(4);
    assert!(
        run.stderr.contains("would take away 6, and its `max_deletes` allows 5"),
        "{run}"
    );
    assert_eq!(logins(&slapd).len(), 36, "nothing was taken away");

    install(&db, &manifest("    max_deletes: 20%\n"));
    let worker = worker(&db).start();
    let run = prepare(&db, &["init", "emaj.yaml", "--prune"]).run().ok();
    assert!(run.stderr.contains("took away 6 things that had no row"), "{run}");
    assert_eq!(people(&slapd).len(), 30);
    assert!(
        slapd.entry("cn=not ours,ou=people,dc=example,dc=org").is_some(),
        "what is no entry of the binding stays"
    );
    db.psql("delete from person where id = 30");
    wait_for("the worker, which has the sink back", 30, || {
        (logins(&slapd).len() == 29).then_some(())
    });
    assert_eq!(worker.stop(), Some(0));
    let state = slapd.dump();
    prepare(&db, &["init", "emaj.yaml", "--prune"]).run().ok();
    assert!(slapd.dump() == state, "a second run writes nothing");
}

#[test]
fn what_the_place_refuses_to_take_away_is_named_and_the_rest_goes() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    install(&db, &to_directory(&slapd, PEOPLE));
    for login in ["old1", "old2", "old3"] {
        slapd.modify(&format!("dn: uid={login},ou=people,dc=example,dc=org\nchangetype: add\nobjectClass: inetOrgPerson\nuid: {login}\ncn: x\nsn: x\n"));
    }
    slapd.modify(
        "dn: cn=phone,uid=old2,ou=people,dc=example,dc=org\nchangetype: add\nobjectClass: person\ncn: phone\nsn: x\n",
    );
    let run = prepare(&db, &["init", "emaj.yaml", "--prune"]).run().code(3);
    assert!(run.stderr.contains("took away 2 things"), "{run}");
    assert!(
        run.stderr
            .contains("`uid=old2,ou=people,dc=example,dc=org` of binding `people` is not taken away: "),
        "{run}"
    );
    let left = slapd.names("ou=people,dc=example,dc=org");
    let left: Vec<&String> = left.iter().filter(|name| name.starts_with("uid=old")).collect();
    assert_eq!(left, ["uid=old2,ou=people,dc=example,dc=org"]);
}

/// Two tables, of whose rows entries of one form are made, and rows of one table.
const TWO_TABLES: &str = "create table emp (id int primary key, login text, on_leave boolean default false);
    create table ext (id int primary key, login text);
    create schema other; create table other.all_people (login text primary key, origin text);
    insert into emp values (1, 'ann'), (2, 'bob'); insert into ext values (1, 'cid'), (2, 'dan')";

/// The bindings of one of the two tables; `{to}` and `{rows}` are the sinks.
fn both_ways(table: &str, condition: &str, to: &str, rows: &str) -> String {
    format!(
        "
  {table}_entry:
    table: public.{table}
    to: {to}
    {condition}
    entry:
      dn: \"uid={{{{ row.login }}}},ou=people,dc=example,dc=org\"
      object_classes: [inetOrgPerson]
      attributes: {{ cn: \"{{{{ row.login }}}}\", sn: \"{{{{ 1 // row.id }}}}\" }}
  {table}_row:
    table: public.{table}
    to: {rows}
    {condition}
    row: {{ table: other.all_people, key: [login], columns: {{ login: row.login, origin: \"'{table}'\" }} }}
"
    )
}

/// The same database, as a place for rows.
fn rows_sink(db: &Database, name: &str) -> String {
    format!("  {name}: {}\nbindings:", sink_into(db, "postgres"))
}

fn all_people(db: &Database) -> Vec<String> {
    column(db, "select login || ' ' || origin from other.all_people order by 1")
}

#[test]
fn what_another_binding_makes_of_its_rows_stays() {
    let (db, slapd) = (database(), slapd());
    db.psql(TWO_TABLES);
    let bindings = [
        both_ways("emp", "when: not row.on_leave", "directory", "rows"),
        both_ways("ext", "when: 'true'", "directory", "rows"),
    ]
    .concat();
    install(
        &db,
        &to_directory(&slapd, &bindings).replace("bindings:", &rows_sink(&db, "rows")),
    );
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    assert_eq!(logins(&slapd), ["ann", "bob", "cid", "dan"]);
    let run = prepare(&db, &["init", "emaj.yaml", "--prune", "--dry-run"]).run().ok();
    assert!(
        !run.stdout.contains("changetype: delete") && !run.stdout.contains("delete from"),
        "{run}"
    );
    let run = prepare(&db, &["init", "emaj.yaml", "--prune"]).run().ok();
    assert!(run.stderr.contains("took away 0 things"), "{run}");
    assert_eq!(logins(&slapd), ["ann", "bob", "cid", "dan"]);
    assert_eq!(all_people(&db), ["ann emp", "bob emp", "cid ext", "dan ext"]);

    // What no row of either gives goes, also where only one binding is pruned.
    slapd.modify("dn: uid=old,ou=people,dc=example,dc=org\nchangetype: add\nobjectClass: inetOrgPerson\nuid: old\ncn: x\nsn: x\n");
    db.psql("insert into other.all_people values ('old', 'x')");
    for binding in ["emp_entry", "ext_row"] {
        let run = prepare(&db, &["init", "emaj.yaml", "--prune", "--binding", binding])
            .run()
            .ok();
        assert!(run.stderr.contains("took away 1 thing"), "{run}");
    }
    assert_eq!(logins(&slapd), ["ann", "bob", "cid", "dan"]);
    assert_eq!(all_people(&db), ["ann emp", "bob emp", "cid ext", "dan ext"]);

    // As long as nobody knows what a row of the other binding gives, it may be anything.
    slapd.modify("dn: uid=old,ou=people,dc=example,dc=org\nchangetype: add\nobjectClass: inetOrgPerson\nuid: old\ncn: x\nsn: x\n");
    db.psql("update ext set id = 0 where login = 'dan'");
    let run = prepare(&db, &["init", "emaj.yaml", "--prune", "--binding", "emp_entry"])
        .run()
        .code(3);
    assert!(
        run.stderr.contains(
            "binding `emp_entry` takes nothing away, because it is not known what belongs to 1 of the rows of binding `ext_entry`, [0] the first: "
        ),
        "{run}"
    );
    assert_eq!(logins(&slapd), ["ann", "bob", "cid", "dan", "old"]);
}

#[test]
fn of_a_manifest_that_is_not_named_nothing_is_known() {
    let (db, slapd) = (database(), slapd());
    db.psql(TWO_TABLES);
    let manifest = |table: &str, to: &str, rows: &str| {
        to_directory(&slapd, &both_ways(table, "when: 'true'", to, rows))
            .replace("  directory:", &format!("  {to}:"))
            .replace("bindings:", &rows_sink(&db, rows))
    };
    install(&db, &manifest("emp", "directory", "rows"));
    std::fs::write(db.dir().join("ext.yaml"), manifest("ext", "directory2", "rows2")).unwrap();
    prepare(&db, &["install", "ext.yaml"]).run().ok();
    let more = to_directory(&slapd, &LOGINS.replace("people:", "more:").replace("person", "more"));
    std::fs::write(db.dir().join("more.yaml"), more.replace("directory", "directory3")).unwrap();
    db.psql("create table more (id int primary key, login text)");
    prepare(&db, &["install", "more.yaml"]).run().ok();
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    prepare(&db, &["init", "ext.yaml"]).run().ok();
    let both = [
        "init",
        "emaj.yaml",
        "--prune",
        "--beside",
        "ext.yaml",
        "--beside",
        "more.yaml",
    ];
    prepare(&db, &both).run().ok();
    for more in [&["--prune"][..], &["--prune", "--dry-run"]] {
        let run = prepare(&db, &[&["init", "emaj.yaml"], more].concat()).run().code(4);
        assert!(
            run.stderr.contains(
                "binding `emp_entry` takes nothing away: what is made by binding `ext_entry` of the manifest `ext`, binding `more` of the manifest `more` is not known, \
                 and may be among it"
            ),
            "{run}"
        );
    }
    assert_eq!(logins(&slapd), ["ann", "bob", "cid", "dan"]);
    slapd.modify("dn: uid=old,ou=people,dc=example,dc=org\nchangetype: add\nobjectClass: inetOrgPerson\nuid: old\ncn: x\nsn: x\n");
    let run = prepare(&db, &both).run().ok();
    assert!(run.stderr.contains("took away 1 thing"), "{run}");
    assert_eq!(logins(&slapd), ["ann", "bob", "cid", "dan"]);
    assert_eq!(all_people(&db), ["ann emp", "bob emp", "cid ext", "dan ext"]);
}

#[test]
fn what_was_taken_away_before_a_lock_could_not_be_had_is_said() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    db.psql("insert into person values (1, 'p1', 'p1')");
    let manifest = to_directory(&slapd, PEOPLE).replace(
        "bindings:",
        "  second:\n    ldap: { url: \"URL\", bind_dn: \"ACCOUNT\", password: \"${env:LDAP_PASSWORD}\" }\nbindings:\n  \
         zeta: { table: public.person, to: second, entry: { dn: \"uid={{ row.login }},ou=groups,dc=example,dc=org\", object_classes: [account], attributes: { description: x } } }",
    );
    install(&db, &manifest.replace("URL", &slapd.url()).replace("ACCOUNT", ACCOUNT));
    for login in ["old1", "old2"] {
        slapd.modify(&format!("dn: uid={login},ou=people,dc=example,dc=org\nchangetype: add\nobjectClass: inetOrgPerson\nuid: {login}\ncn: x\nsn: x\n"));
    }
    let hold = db.dir().join("hold");
    let mut init = prepare(
        &db,
        &[
            "init",
            "emaj.yaml",
            "--prune",
            "--binding",
            "people",
            "--binding",
            "zeta",
        ],
    )
    .env("EMAJ_FAIL_AT", "prune.taken")
    .env("EMAJ_FAIL_HOLD", hold.to_str().unwrap())
    .start();
    wait_for("the first binding's entries", 60, || hold.exists().then_some(()));
    let id: i32 = db
        .psql("select sink_id from emaj.emaj_sink where sink_name = 'second'")
        .parse()
        .unwrap();
    let (_, claim) = emaj::journal::sink_locks("emaj", id);
    let mut other = db.client();
    other.execute("select pg_advisory_lock($1)", &[&claim]).unwrap();
    std::fs::remove_file(hold).unwrap();
    let code = wait_for("its end", 60, || init.ended());
    let said = init.log();
    assert_eq!(code, 11, "{said}");
    assert!(
        said.contains("sent 2 rows: 2 written\ntook away 2 things that had no row\nerror: another `emaj init`"),
        "{said}"
    );
    assert_eq!(logins(&slapd), ["p1"]);
    drop(other);
    prepare(&db, &["init", "emaj.yaml", "--prune"]).run().ok();
}

/// A database and one that a sink leads to, with the same tables `a` and `z`.
fn two_databases() -> [Database; 2] {
    let both = [database(), database()];
    for db in &both {
        db.psql("create table a (id int primary key); create table z (id int primary key)");
    }
    both
}

#[test]
fn killed_while_it_takes_away_it_goes_on_with_what_is_left() {
    let [db, there] = two_databases();
    db.psql("insert into a values (1); insert into z values (1)");
    install(
        &db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks:\n  copy: {}\nbindings:\n  \
             a: {{ table: public.a, to: copy, row: {{}} }}\n  z: {{ table: public.z, to: copy, row: {{}} }}\n",
            sink_into(&there, shared_cluster().superuser())
        ),
    );
    let left = || {
        column(
            &there,
            "select 'a' || id from a union all select 'z' || id from z order by 1",
        )
    };
    for (point, stay) in [
        ("prune.taken", &["a1", "z1", "z8", "z9"][..]),
        ("prune.taken:2", &["a1", "z1"]),
    ] {
        there.psql("insert into a values (8), (9); insert into z values (8), (9)");
        let prune = || prepare(&db, &["init", "emaj.yaml", "--prune"]);
        let run = prune().env("EMAJ_FAIL_AT", point).run();
        assert_eq!(run.status, None, "{point} was not reached: {run}");
        assert_eq!(left(), stay, "{point}");
        let run = prune().run().ok();
        let said = format!("took away {} things", stay.len() - 2);
        assert!(run.stderr.contains(&said), "{point}: {run}");
        assert_eq!(left(), ["a1", "z1"], "{point}");
    }
}

#[test]
fn nothing_is_taken_away_while_it_is_not_known_what_belongs_to_a_row() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    db.psql("insert into person select n, 'p' || n, 'p' || n from generate_series(1, 3) n");
    install(
        &db,
        &to_directory(
            &slapd,
            &PEOPLE.replace("\"{{ row.mail }}\"", "\"{{ 1 // row.id }}@example.org\""),
        ),
    );
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    slapd.modify("dn: uid=old,ou=people,dc=example,dc=org\nchangetype: add\nobjectClass: inetOrgPerson\nuid: old\ncn: x\nsn: x\n");
    db.psql("update person set id = 0 where id = 2");
    drain(&db).run().code(3);
    let state = slapd.dump();
    for args in [
        &["init", "emaj.yaml", "--prune"][..],
        &["init", "emaj.yaml", "--prune", "--dry-run"],
    ] {
        let run = prepare(&db, args).run().code(3);
        assert!(
            run.stderr.contains("binding `people` takes nothing away, because it is not known what belongs to 1 of its rows, [0] the first: "),
            "{run}"
        );
        assert!(!run.stdout.contains("changetype: delete"), "{run}");
    }
    assert!(slapd.dump() == state);
    db.psql("delete from person where id = 0");
    drain(&db).run();
    prepare(&db, &["init", "emaj.yaml", "--prune"]).run().ok();
    assert_eq!(logins(&slapd), ["p1", "p3"]);
}

#[test]
fn rows_are_known_by_a_key_of_another_type() {
    let db = database();
    db.psql(
        "create table app (id int primary key, code text, ts timestamptz, n numeric, j text); create schema there;
         create table there.k1 (code int primary key, id int); create table there.k2 (ts timestamp primary key, id int);
         create table there.k3 (ts date primary key, id int); create table there.k4 (n float8 primary key, id int);
         create table there.k5 (j char(4) primary key, id int);
         insert into app values (1, '007', '2024-01-01 00:00+02', 1e20, 'X')",
    );
    let binding = |(table, column): (&str, &str)| {
        format!(
            "  {table}: {{ table: public.app, to: rows, row: {{ table: there.{table}, key: [{column}], columns: {{ {column}: row.{column}, id: row.id }} }} }}\n"
        )
    };
    let bindings = [("k1", "code"), ("k2", "ts"), ("k3", "ts"), ("k4", "n"), ("k5", "j")].map(binding);
    let manifest = format!("version: 1\nsinks:\n{}\n{}", rows_sink(&db, "rows"), bindings.concat());
    install(&db, &manifest);
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    let ids = "select string_agg(id::text, ' ') from (select id from there.k1 union all select id from there.k2 union all select id from there.k3
               union all select id from there.k4 union all select id from there.k5) k";
    assert_eq!(column(&db, ids), ["1 1 1 1 1"]);
    let run = prepare(&db, &["init", "emaj.yaml", "--prune", "--dry-run"]).run().ok();
    assert!(!run.stdout.contains("delete from"), "{run}");
    db.psql("insert into there.k1 values (8, 8); insert into there.k5 values ('x', 8)");
    let run = prepare(&db, &["init", "emaj.yaml", "--prune"]).run().ok();
    assert!(run.stderr.contains("took away 2 things"), "{run}");
    assert_eq!(column(&db, ids), ["1 1 1 1 1"]);
}

#[test]
fn a_place_that_cannot_list_is_named_and_the_others_are_pruned() {
    let [db, there] = two_databases();
    there.psql("insert into a values (9); insert into z values (9)");
    install(
        &db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks:\n  copy: {}\n  lines: {{ file: {{ path: out.ndjson }} }}\nbindings:\n  \
             a: {{ table: public.a, to: copy, row: {{}} }}\n  f: {{ table: public.a, to: lines, row: {{}} }}\n  z: {{ table: public.z, to: copy, row: {{}} }}\n",
            sink_into(&there, shared_cluster().superuser())
        ),
    );
    let named = "binding `f` takes nothing away: sink `lines` is of the kind file, which cannot list what it holds";
    let run = prepare(&db, &["init", "emaj.yaml", "--prune", "--dry-run"]).run().ok();
    assert_eq!(run.stdout.matches("delete from").count(), 2, "{run}");
    assert!(run.stderr.contains(named), "{run}");
    let run = prepare(&db, &["init", "emaj.yaml", "--prune"]).run().ok();
    assert!(
        run.stderr.contains(named) && run.stderr.contains("took away 2 things"),
        "{run}"
    );
    assert_eq!(
        there.psql("select (select count(*) from a) + (select count(*) from z)"),
        "0"
    );
}

#[test]
fn of_a_row_whose_key_is_null_there_is_nothing_to_spare() {
    let db = database();
    db.psql(
        "create table person (id int primary key, mail text); create table ext (id int primary key, mail text);
         create schema there; create table there.mails (mail text primary key, id int);
         insert into person values (1, 'a'), (2, null); insert into ext values (3, 'c'), (4, null)",
    );
    let binding = |table: &str| {
        format!(
            "  {table}: {{ table: public.{table}, to: rows, row: {{ table: there.mails, key: [mail], \
             columns: {{ mail: row.mail if row.id else 1 // row.id, id: row.id }} }} }}\n"
        )
    };
    let bindings = ["person", "ext"].map(binding).concat();
    install(
        &db,
        &format!("version: 1\nsinks:\n{}\n{bindings}", rows_sink(&db, "rows")),
    );
    prepare(&db, &["init", "emaj.yaml"]).run().code(3);
    db.psql("insert into there.mails values ('old', 9)");
    let mails = || column(&db, "select mail from there.mails order by mail");
    let run = prepare(&db, &["init", "emaj.yaml", "--prune", "--dry-run"])
        .run()
        .code(3);
    assert_eq!(
        run.stdout.matches("delete from").count(),
        2,
        "once by each binding: {run}"
    );
    let run = prepare(&db, &["init", "emaj.yaml", "--prune"]).run().code(3);
    assert!(run.stderr.contains("took away 1 thing"), "{run}");
    assert_eq!(mails(), ["a", "c"]);
    // Of which key it is not known, it may have one.
    db.psql("insert into ext values (0, null); insert into there.mails values ('old', 9)");
    let run = prepare(&db, &["init", "emaj.yaml", "--prune"]).run().code(3);
    for whose in ["1 of its rows", "1 of the rows of binding `ext`"] {
        let known = format!("takes nothing away, because it is not known what belongs to {whose}, [0]");
        assert!(run.stderr.contains(&known), "{run}");
    }
    assert_eq!(mails(), ["a", "c", "old"]);
}

/// People in units: an entry moves when its row gets another one.
const IN_UNITS: &str = "
  people:
    table: public.person
    to: directory
    entry:
      dn: \"uid={{ row.login }},ou={{ row.note }},ou=people,dc=example,dc=org\"
      object_classes: [inetOrgPerson]
      attributes: { cn: \"{{ row.login }}\", sn: x }
";

fn add_unit(slapd: &Slapd, unit: &str) {
    slapd.modify(&format!(
        "dn: ou={unit},ou=people,dc=example,dc=org\nchangetype: add\nobjectClass: organizationalUnit\nou: {unit}\n"
    ));
}

#[test]
fn an_entry_whose_move_waits_stays() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    db.psql("insert into person (id, login, note) values (1, 'ann', 'a'), (2, 'bob', 'a')");
    add_unit(&slapd, "a");
    install(&db, &to_directory(&slapd, IN_UNITS));
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    let here = |login: &str, unit: &str| format!("uid={login},ou={unit},ou=people,dc=example,dc=org");
    slapd.modify(&format!(
        "dn: {}\nchangetype: modify\nadd: description\ndescription: written by others\n",
        here("ann", "a")
    ));
    slapd.modify(&format!(
        "dn: {}\nchangetype: add\nobjectClass: inetOrgPerson\ncn: x\nsn: x\n",
        here("old", "a")
    ));
    let left = format!(
        "binding `people` leaves 1 thing to which a change that has not arrived gives another name, `{}` the first: \
         prune again when it has (`emaj failures list` shows what is set aside)",
        here("ann", "a")
    );
    // The move is in the log.
    db.psql("update person set note = 'b' where id = 1");
    let run = prepare(&db, &["init", "emaj.yaml", "--prune", "--dry-run"]).run().ok();
    assert_eq!(run.stdout.matches("changetype: delete").count(), 1, "{run}");
    assert!(run.stderr.contains(&left), "{run}");
    // It is set aside: there is no such unit yet.
    drain(&db).run().code(3);
    let run = prepare(&db, &["init", "emaj.yaml", "--prune"]).run().code(3);
    assert!(
        run.stderr.contains(&left) && run.stderr.contains("took away 1 thing that had no row"),
        "{run}"
    );
    assert_eq!(logins(&slapd), ["ann", "bob"]);
    add_unit(&slapd, "b");
    prepare(&db, &["failures", "retry", "--sink", "directory"]).run().ok();
    drain(&db).run().ok();
    assert_eq!(slapd.values(&here("ann", "b"), "description"), ["written by others"]);
    let run = prepare(&db, &["init", "emaj.yaml", "--prune"]).run().ok();
    assert!(
        !run.stderr.contains("leaves") && run.stderr.contains("took away 0"),
        "{run}"
    );
}

#[test]
fn of_a_row_without_a_name_there_is_nothing_to_spare() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    install(&db, &to_directory(&slapd, PEOPLE));
    let prune = |code| {
        slapd.modify("dn: uid=old,ou=people,dc=example,dc=org\nchangetype: add\nobjectClass: inetOrgPerson\nuid: old\ncn: x\nsn: x\n");
        let run = prepare(&db, &["init", "emaj.yaml", "--prune"]).run().code(code);
        assert!(run.stderr.contains("took away 1 thing"), "{run}");
    };
    // It has none now.
    db.psql("insert into person values (1, 'ann', 'First'), (2, null, 'Second')");
    drain(&db).run().code(3);
    prune(3);
    // It had none before a change that is set aside.
    db.psql("update person set login = 'bob', name = null where id = 2");
    drain(&db).run().code(3);
    prune(3);
    assert_eq!(logins(&slapd), ["ann"]);
}

#[test]
fn a_row_whose_new_key_waits_stays_with_all_that_refers_to_it() {
    let (db, there) = (database(), database());
    db.psql("create table person (id int primary key, name text); insert into person values (1, 'ann')");
    there.psql(
        "create table person (id int primary key constraint not_yet check (id <> 2), name text, note text);
         create table orders (id int primary key, person int references person on update cascade on delete cascade)",
    );
    let sink = sink_into(&there, shared_cluster().superuser());
    install(
        &db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks:\n  copy: {sink}\n  again: {sink}\nbindings:\n  \
             people: {{ table: public.person, to: copy, row: {{}} }}\n  others: {{ table: public.person, to: again, when: 'row.id > 5', row: {{}} }}\n"
        ),
    );
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    there.psql("update person set note = 'kept'; insert into orders values (10, 1)");
    db.psql("update person set id = 2, name = 'zoe'");
    drain(&db).run().code(3);
    // Neither by its own binding nor by another one of these rows.
    for (binding, code) in [("others", 0), ("people", 3)] {
        prepare(&db, &["init", "emaj.yaml", "--prune", "--binding", binding])
            .run()
            .code(code);
        assert_eq!(
            column(&there, "select id || note from person where note is not null"),
            ["1kept"]
        );
    }
    there.psql("alter table person drop constraint not_yet");
    prepare(&db, &["failures", "retry", "--sink", "copy"]).run().ok();
    drain(&db).run().ok();
    assert_eq!(
        column(&there, "select concat_ws(' ', id, name, note) from person"),
        ["2 zoe kept"]
    );
    assert_eq!(column(&there, "select person::text from orders"), ["2"]);
}

#[test]
fn what_a_binding_without_deletes_keeps_stays() {
    let (db, there) = (database(), database());
    for db in [&db, &there] {
        db.psql("create table item (id int primary key); create table plain (id int primary key)");
    }
    db.psql("insert into item values (1), (2); insert into plain values (1)");
    install(
        &db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks:\n  copy: {}\nbindings:\n  \
             archive: {{ table: public.item, to: copy, events: [insert, update], row: {{}} }}\n  \
             few: {{ table: public.plain, to: copy, row: {{ table: public.item }} }}\n  \
             plain: {{ table: public.plain, to: copy, row: {{}} }}\n",
            sink_into(&there, shared_cluster().superuser())
        ),
    );
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    db.psql("delete from item where id = 2");
    drain(&db).run().ok();
    there.psql("insert into plain values (9)");
    for args in [
        &["init", "emaj.yaml", "--prune", "--dry-run"][..],
        &["init", "emaj.yaml", "--prune"],
    ] {
        let run = prepare(&db, args).run().ok();
        for said in [
            "binding `archive` takes nothing away: there is no `delete` in its `events`",
            "binding `few` leaves 1 thing that binding `archive` may have made: there is no `delete` in the `events` of that one",
        ] {
            assert!(run.stderr.contains(said), "{run}");
        }
    }
    assert_eq!(column(&there, "select id::text from item order by id"), ["1", "2"]);
    assert_eq!(column(&there, "select id::text from plain"), ["1"]);
}
