//! Marks beyond setting them: on several groups at one instant, what is said about them, the one before, and deleting all that is older.

use crate::support::{self, Database, emaj};

const MANIFEST: &str = "\
version: 1
roles: { admin: null, viewer: null }
groups:
  a: { tables: [public.a] }
  b: { tables: [public.b] }
";

fn installed() -> Database {
    let db = support::database();
    db.psql("create table a (id int primary key); create table b (id int primary key)");
    db.file("emaj.yaml", MANIFEST);
    run(&db, &["install"]);
    db
}

#[track_caller]
fn run(db: &Database, words: &[&str]) -> support::Run {
    emaj(db).args(words).run().ok()
}

/// How many instants the marks called so stand for.
fn instants(db: &Database, mark: &str) -> String {
    db.psql(&format!(
        "select count(*) || ' marks, ' || count(distinct mark_position::text) || ' instants' from emaj.emaj_mark where mark_name = '{mark}'"
    ))
}

#[test]
fn what_is_done_to_several_groups_is_one_instant() {
    let db = installed();
    run(&db, &["mark", "set", "b", "noon", "--with", "a", "--with", "b"]);
    assert_eq!(instants(&db, "noon"), "2 marks, 1 instants");
    run(&db, &["mark", "set", "a", "apart"]);
    run(&db, &["mark", "set", "b", "apart"]);
    assert_eq!(instants(&db, "apart"), "2 marks, 2 instants");
    let told = run(&db, &["group", "stop", "a", "b", "--mark", "evening", "-o", "csv"]);
    assert_eq!(
        told.stdout,
        "group,done,mark,count\na,stopped,evening,1\nb,stopped,evening,1\n"
    );
    assert_eq!(instants(&db, "evening"), "2 marks, 1 instants");
    run(&db, &["group", "start", "b", "a", "--mark", "morning", "--keep-log"]);
    assert_eq!(instants(&db, "morning"), "2 marks, 1 instants");

    // One that is not there, or already has the name: nothing anywhere.
    emaj(&db)
        .args(["mark", "set", "a", "x", "--with", "nobody"])
        .run()
        .code(4);
    emaj(&db)
        .args(["mark", "set", "a", "morning", "--with", "b"])
        .run()
        .code(4);
    db.psql("select emaj.emaj_set_mark_group('b', 'taken')");
    emaj(&db)
        .args(["mark", "set", "a", "taken", "--with", "b"])
        .run()
        .code(4);
    emaj(&db).args(["group", "start", "a", "nobody"]).run().code(4);
    assert_eq!(
        db.psql("select count(*) from emaj.emaj_mark where mark_name in ('x', 'taken')"),
        "1"
    );
}

#[test]
fn the_functions_take_several_groups() {
    let db = installed();
    assert_eq!(
        db.psql("select emaj.emaj_set_mark_groups(array['a', 'b', 'a'], 'noon', 'half way')"),
        "2"
    );
    assert_eq!(instants(&db, "noon"), "2 marks, 1 instants");
    assert_eq!(
        db.psql("select distinct mark_comment from emaj.emaj_mark where mark_name = 'noon'"),
        "half way"
    );
    assert_eq!(db.psql("select emaj.emaj_stop_groups(array['b', 'a'])"), "2");
    assert_eq!(
        db.psql("select emaj.emaj_start_groups(array['b', 'a', 'b'], 'on', false)"),
        "2"
    );
    assert_eq!(instants(&db, "on"), "2 marks, 1 instants");
    for empty in ["null", "'{}'"] {
        for call in ["emaj_set_mark_groups", "emaj_stop_groups", "emaj_start_groups"] {
            let error = db.client().batch_execute(&format!("select emaj.{call}({empty}, 'm')"));
            let said = support::story::described(&error.unwrap_err());
            assert!(
                said.contains("no group given") && said.contains("name at least one"),
                "{said}"
            );
        }
    }
}

#[test]
fn a_mark_has_a_comment() {
    let db = installed();
    run(&db, &["mark", "set", "a", "m", "--comment", "before the import"]);
    let listed = || run(&db, &["mark", "list", "a", "-o", "json"]).stdout_json();
    assert_eq!(listed()[1]["comment"], "before the import");
    run(&db, &["mark", "comment", "a", "EMAJ_LAST_MARK", "it's \"üü\" $1"]);
    assert_eq!(listed()[1]["comment"], "it's \"üü\" $1");
    run(&db, &["mark", "comment", "a", "m"]);
    assert_eq!(listed()[1]["comment"], serde_json::Value::Null);
    emaj(&db).args(["mark", "comment", "a", "nowhere", "x"]).run().code(4);
}

#[test]
fn the_mark_before_a_mark_or_a_time() {
    let db = installed();
    run(&db, &["mark", "set", "a", "one"]);
    run(&db, &["mark", "set", "a", "2020-01-01"]);
    let previous = |of: &str| run(&db, &["mark", "previous", "a", of]).stdout;
    assert_eq!(previous("2020-01-01"), "one\n", "a mark goes before a time");
    assert_eq!(previous("EMAJ_LAST_MARK"), "one\n");
    assert_eq!(previous("tomorrow"), "2020-01-01\n");
    assert_eq!(previous("yesterday"), "");
    let json = run(&db, &["mark", "previous", "a", "yesterday", "-o", "json"]).stdout_json();
    assert_eq!(json, serde_json::json!({ "group": "a", "mark": null }));
    let neither = emaj(&db).args(["mark", "previous", "a", "nowhere"]).run().code(4);
    assert!(
        neither
            .stderr
            .contains("`nowhere` is neither a mark of group `a` nor a time"),
        "{}",
        neither.stderr
    );
    emaj(&db).args(["mark", "previous", "nobody", "now"]).run().code(4);
    assert_eq!(
        db.psql("select emaj.emaj_get_previous_mark_group('a', 'one') ~ '^START_' and emaj.emaj_get_previous_mark_group('a', now() - interval '1 day') is null"),
        "t"
    );
}

#[test]
fn what_was_done_to_the_last_mark_names_it() {
    let db = installed();
    for mark in ["one", "two", "three"] {
        run(&db, &["mark", "set", "a", mark]);
    }
    let said = |words: &[&str]| run(&db, &[&["mark"], words].concat()).stderr;
    let last = "EMAJ_LAST_MARK";
    assert_eq!(said(&["protect", "a", last]), "protected mark `three` of group `a`\n");
    assert_eq!(
        said(&["unprotect", "a", last]),
        "unprotected mark `three` of group `a`\n"
    );
    assert_eq!(
        said(&["comment", "a", last, "x"]),
        "commented on mark `three` of group `a`\n"
    );
    assert_eq!(
        said(&["rename", "a", last, "four"]),
        "renamed mark `three` of group `a` to `four`\n"
    );
    let deleted = run(&db, &["mark", "delete", "a", last, last, "-o", "json"]).stdout_json();
    assert_eq!(
        (&deleted[0]["mark"], &deleted[1]["mark"]),
        (&"four".into(), &"two".into())
    );
    assert_eq!(
        said(&["delete", "a", "--before", last]),
        "deleted 1 mark of group `a` set before mark `one`\n"
    );
    // A stopped group has marks, and none of them is meant.
    run(&db, &["group", "stop", "a"]);
    let refused = emaj(&db).args(["mark", "delete", "a", last]).run().code(4);
    assert!(refused.stderr.contains("group `a` has no active mark"), "{refused}");
}

#[test]
fn all_marks_before_one_are_deleted() {
    let db = installed();
    for (mark, id) in [("one", 1), ("two", 2), ("three", 3)] {
        db.psql(&format!("insert into a values ({id})"));
        run(&db, &["mark", "set", "a", mark]);
    }
    run(&db, &["mark", "protect", "a", "one"]);
    let refused = emaj(&db)
        .args(["mark", "delete", "a", "--before", "three"])
        .run()
        .code(4);
    assert!(
        refused
            .stderr
            .contains("mark `one` of group `a` is protected, and older than `three`"),
        "{}",
        refused.stderr
    );
    run(&db, &["mark", "unprotect", "a", "one"]);
    let told = run(&db, &["mark", "delete", "a", "--before", "two"]);
    assert_eq!(told.stderr, "deleted 2 marks of group `a` set before mark `two`\n");
    assert_eq!(
        db.psql("select string_agg(mark_name, ',' order by mark_id) from emaj.emaj_mark where mark_group = 'a'"),
        "two,three"
    );
    // The logs keep what the oldest mark needs, and no more.
    assert_eq!(db.psql("select count(*) from emaj.public_a_log"), "1");
    run(&db, &["rollback", "a", "two", "--yes"]);
    assert_eq!(db.psql("select max(id) from a"), "2");
    assert_eq!(
        db.psql("select emaj.emaj_delete_before_mark_group('a', null) is null"),
        "t"
    );
    emaj(&db).args(["mark", "delete", "a"]).run().code(64);
    emaj(&db)
        .args(["mark", "delete", "a", "x", "--before", "two"])
        .run()
        .code(64);
}

/// Every row of the registry that refers to one that is gone.
const ORPHANS: &str = "
    create function pg_temp.orphans() returns text language plpgsql as $$
    declare
      fk record;
      n bigint;
      found text := '';
    begin
      for fk in
        select c.conrelid::regclass as child, c.confrelid::regclass as parent, a.attname as own, b.attname as its
          from pg_constraint c
          join pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1]
          join pg_attribute b on b.attrelid = c.confrelid and b.attnum = c.confkey[1]
         where c.contype = 'f' and c.connamespace = 'emaj'::regnamespace
      loop
        execute format('select count(*) from %s c where %I is not null and not exists (select from %s p where p.%I = c.%I)',
          fk.child, fk.own, fk.parent, fk.its, fk.own) into n;
        if n > 0 then
          found := found || format('%s.%s: %s, ', fk.child, fk.own, n);
        end if;
      end loop;
      return found;
    end $$;
    select pg_temp.orphans()";

/// In a session of that role no foreign key takes along what hangs on a row.
#[test]
fn nothing_is_left_of_a_mark_where_the_role_is_replica() {
    let db = support::database();
    db.psql(&format!(
        "create table public.a (id serial primary key); create table public.b (id int primary key);
         create table public.p (id int primary key) partition by range (id); create table public.p_1 partition of public.p default;
         alter database {} set session_replication_role = replica",
        db.name()
    ));
    let manifest = |tables: &str, more: &str| {
        db.file(
            "emaj.yaml",
            &format!(
                "version: 1\nroles: {{ admin: null, viewer: null }}\ngroups: {{ g: {{ tables: [{tables}] }} }}\n{more}"
            ),
        );
        run(&db, &["install", "--allow-destroy"]).ok();
    };
    let nothing_left = |after: &str| assert_eq!(db.psql(ORPHANS), "", "{after}");
    let sink = "sinks: { f: { file: { path: out } } }\nbindings: { b: { table: public.b, to: f, message: {} } }\n";
    manifest("public.a, public.b, public.p", sink);
    for mark in ["m1", "m2", "m3", "m4", "m5", "m6"] {
        run(&db, &["mark", "set", "g", mark]).ok();
        db.psql("insert into public.a default values; insert into public.p select count(*) from public.p");
    }
    run(&db, &["mark", "delete", "g", "m2"]).ok();
    nothing_left("mark delete");
    db.psql("select emaj.emaj_delete_before_mark_group('g', 'm3')");
    nothing_left("delete before");
    run(&db, &["rollback", "g", "m5", "--unlogged", "--yes"]).ok();
    nothing_left("an unlogged rollback");
    run(&db, &["rollback", "g", "m4", "--yes"]).ok();
    let ending = db.psql("select mark_name from emaj.emaj_mark where mark_name like 'RLBK%DONE'");
    run(&db, &["consolidate", "g", &ending, "--yes"]).ok();
    nothing_left("consolidate");
    manifest("public.a, public.p", "");
    nothing_left("a table and a sink that went");
    run(&db, &["group", "stop", "g"]).ok();
    run(&db, &["group", "reset", "g"]).ok();
    nothing_left("group reset");
    manifest("public.b", "");
    run(&db, &["group", "stop", "g"]).ok();
    run(&db, &["group", "drop", "g", "--yes"]).ok();
    nothing_left("group drop");
}
