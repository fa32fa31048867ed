//! Sinks and bindings in the database: what an edit of the manifest changes, what it costs, and that nothing of it remains.

use crate::support::{self, Database, Run};

const TABLES: &str = "
    create schema app;
    create table app.person (id int primary key, login text not null, mail text, active bool default true);
    create table app.note (at timestamptz, what text);
    create table app.ledger (id int primary key, amount numeric);
    create view app.people as select * from app.person;
    insert into app.person select n, 'p' || n, 'p' || n || '@x', true from generate_series(1, 5) n;";

const HEAD: &str = "version: 1\nname: shop\nroles: { admin: null, viewer: null }\n";
const SINKS: &str = "sinks:\n  out: { file: { path: out.json } }\n  other: { file: { path: other.json } }\n";
const MAIL: &str = "  mail: { table: app.person, to: out, message: { body: '{{ row.login }}' } }\n";
const OTHER: &str = "  notes: { table: app.note, to: other, message: {} }\n";

fn shop() -> Database {
    let db = support::database();
    db.client().batch_execute(TABLES).unwrap();
    db
}

fn run(db: &Database, verb: &str, manifest: &str, more: &[&str]) -> Run {
    let path = db.file("emaj.yaml", manifest);
    support::emaj(db).args([verb, path.to_str().unwrap()]).args(more).run()
}

/// Installs, and asserts that a second install would change nothing.
#[track_caller]
fn install(db: &Database, manifest: &str) -> Run {
    let done = run(db, "install", manifest, &[]).ok();
    settled(db, manifest);
    done
}

#[track_caller]
fn settled(db: &Database, manifest: &str) {
    let again = run(db, "plan", manifest, &["--detailed-exitcode"]).ok();
    assert!(again.stderr.contains("nothing to do"), "{again}");
    let drift = run(db, "drift", manifest, &[]).ok();
    assert_eq!(drift.stdout, "", "{drift}");
    assert_eq!(db.psql("select * from emaj.emaj_verify_all()"), "No error detected");
}

#[track_caller]
fn refused(db: &Database, manifest: &str) -> String {
    let run = run(db, "plan", manifest, &[]);
    assert_ne!(run.status, Some(0), "{run}");
    run.stderr
}

/// Tells what the sinks have not read.
fn unread(db: &Database) -> String {
    db.psql("select string_agg(format('%s %s', rel_name, emaj._unread(rel_id)), '; ' order by rel_id) from emaj.emaj_relation where emaj._unread(rel_id) is not null")
}

/// Does as a worker does when it has delivered everything.
fn deliver(db: &Database) {
    db.psql("update emaj.emaj_sink set sink_from = emaj._position(), sink_moved = clock_timestamp()");
}

#[test]
fn a_bound_table_is_captured_though_no_group_has_it() {
    let db = shop();
    let before = db.dump(&["-s"]);
    let manifest = format!("{HEAD}{SINKS}bindings:\n{MAIL}{OTHER}");
    let plan = run(&db, "plan", &manifest, &["-o", "json"]).ok().stdout_json();
    let reason = |object: &str| {
        plan["steps"]
            .as_array()
            .unwrap()
            .iter()
            .find(|step| step["object"] == object)
            .map(|step| step["because"].to_string())
    };
    assert_eq!(reason("log of app.person").unwrap(), "\"bound by `mail`\"");
    assert_eq!(
        reason("group shop.bindings").unwrap(),
        "\"bindings read tables that no group of the manifest has\""
    );
    install(&db, &manifest);
    assert_eq!(
        db.psql("select string_agg(concat_ws(' ', group_name, group_rollback, group_state, group_retention), ',') from emaj.emaj_group"),
        "shop.bindings f LOGGING 1 day"
    );
    assert_eq!(
        db.psql("select string_agg(concat_ws(' ', bind_name, bind_sink, bind_table, bind_kind), ', ' order by 1) from emaj.emaj_binding"),
        "mail out person message, notes other note message"
    );
    assert_eq!(unread(&db), "");
    db.psql("update app.person set mail = 'z' where id = 1; insert into app.note values (now(), 'n')");
    assert_eq!(unread(&db), "note `other`; person `out`");
    deliver(&db);
    assert_eq!(unread(&db), "");
    run(&db, "uninstall", &manifest, &["--yes"]).ok();
    assert_eq!(db.dump(&["-s"]), before);
}

#[test]
fn an_edited_binding_says_what_becomes_of_changes_on_their_way() {
    let db = shop();
    let manifest = |bindings: &str| {
        format!("{HEAD}groups:\n  g: {{ tables: [app.person, app.ledger] }}\n{SINKS}bindings:\n{bindings}")
    };
    install(&db, &manifest(&format!("{MAIL}{OTHER}")));
    let relations = db.psql("select string_agg(rel_group || ' ' || rel_name, ', ' order by 1) from emaj.emaj_relation where rel_kind <> 'S'");
    assert_eq!(relations, "g ledger, g person, shop.bindings note");
    db.psql("update app.person set mail = 'z' where id = 1");
    let since = "select bind_since::text from emaj.emaj_binding where bind_name = 'mail'";
    let first = db.psql(since);

    let changed = MAIL.replace("row.login", "row.mail");
    let run = install(&db, &manifest(&format!("{changed}{OTHER}")));
    assert!(
        run.stdout.contains("rendered the new way") && run.stdout.contains("what it makes of a row"),
        "{run}"
    );
    assert_eq!((db.psql(since), unread(&db).as_str()), (first.clone(), "person `out`"));

    // To another sink: what the former one has not read is lost, and that has to be said.
    let moved = manifest(&format!("{}{OTHER}", changed.replace("to: out", "to: other")));
    let run = self::run(&db, "install", &moved, &[]).code(4);
    assert!(
        run.stderr
            .contains("2 log rows not delivered to sink `out` yet are dropped"),
        "{run}"
    );
    deliver(&db);
    let run = install(&db, &moved);
    assert!(
        run.stdout.contains("it goes to sink other now and went to out"),
        "{run}"
    );
    assert_ne!(db.psql(since), first);

    db.psql("update app.person set mail = 'y' where id = 1; insert into app.note values (now(), 'n');
             insert into emaj.emaj_failure (fail_sink, fail_binding, fail_key, fail_queue, fail_keys, fail_state, fail_change)
               values ('other', 'mail', '[1]', 'mail [1]', '{}', 'NEVER', '{}')");
    let gone = manifest(OTHER);
    let run = self::run(&db, "install", &gone, &[]).code(4);
    assert!(
        run.stderr
            .contains("2 log rows not delivered to sink `other` yet are dropped; 1 change set aside is dropped"),
        "{run}"
    );
    self::run(&db, "install", &gone, &["--allow-destroy"]).ok();
    settled(&db, &gone);
    assert_eq!(db.psql("select count(*) from emaj.emaj_failure"), "0");
    assert_eq!(unread(&db), "note `other`");
}

#[test]
fn sinks_come_change_and_go() {
    let db = shop();
    let manifest = |sinks: &str| format!("{HEAD}sinks:\n{sinks}\nbindings:\n{MAIL}");
    install(&db, &manifest("  out: { file: { path: out.json } }"));
    let run = install(
        &db,
        &manifest("  out: { webhook: { url: 'https://h/x', secret: '${env:NOT_SET}' }, max_lag: 7 days }"),
    );
    assert!(
        run.stdout
            .contains("it is of the kind webhook now and was file, the time the log waits for it"),
        "{run}"
    );
    assert_eq!(
        db.psql("select concat_ws(' ', sink_kind, sink_max_lag, sink_state) from emaj.emaj_sink"),
        "webhook 7 days ACTIVE"
    );
    install(
        &db,
        &manifest("  out: { webhook: { url: 'https://h/x' }, max_lag: 168 hours }"),
    );
    let run = install(
        &db,
        &manifest("  out: { webhook: { url: 'https://h/x' }, max_lag: 168 hours }\n  next: { file: { path: n } }"),
    );
    assert!(run.stdout.contains("sink next"), "{run}");
    // As another manifest would that was given the same name, the default one.
    let gone = format!("{HEAD}groups:\n  g: {{ tables: [app.ledger] }}\n");
    let run = self::run(&db, "install", &gone, &[]).code(4);
    assert!(
        run.stdout.contains("DESTROYS: its place in the log is forgotten"),
        "{run}"
    );
    let stranger = "declares nothing of what is installed under its name (group `shop.bindings`, sink `next`, sink `out`, binding `mail`)";
    assert!(run.stderr.contains(stranger), "{run}");
    assert_eq!(db.psql("select count(*) from emaj.emaj_sink"), "2");
    self::run(&db, "install", &gone, &["--allow-destroy"]).ok();
    assert_eq!(db.psql("select count(*) from emaj.emaj_sink"), "0");
}

#[test]
fn a_table_that_moves_or_gets_another_name_loses_nothing() {
    let db = shop();
    let bindings = |table: &str| format!("{SINKS}bindings:\n{}{OTHER}", MAIL.replace("app.person", table));
    install(&db, &format!("{HEAD}{}", bindings("app.person")));
    db.psql("update app.person set mail = 'a' where id = 1");
    db.psql("alter table app.person rename to people_all");
    let said = refused(&db, &format!("{HEAD}{}", bindings("app.person")));
    assert!(
        said.contains("there is no table app.person: it is app.people_all now"),
        "{said}"
    );
    install(&db, &format!("{HEAD}{}", bindings("app.people_all")));
    assert_eq!(
        db.psql("select bind_table from emaj.emaj_binding where bind_name = 'mail'"),
        "people_all"
    );

    // Into a group of the manifest, and from that one into another whose former name goes.
    let grouped = |group: &str| {
        format!(
            "{HEAD}groups:\n  {group}: {{ tables: [app.people_all] }}\n{}",
            bindings("app.people_all")
        )
    };
    self::run(&db, "install", &grouped("crm"), &[]).ok();
    settled(&db, &grouped("crm"));
    db.psql("update app.people_all set mail = 'b' where id = 1");
    self::run(&db, "install", &grouped("sales"), &["--allow-destroy"]).ok();
    settled(&db, &grouped("sales"));
    db.psql("update app.people_all set mail = 'c' where id = 1");
    let logs = db.psql(
        "select string_agg(format('%s%s', rel_group, case when rel_ended is null then '' else ' ended' end), ', ' order by rel_id)
           from emaj.emaj_relation where rel_name = 'people_all'",
    );
    assert_eq!(logs, "shop.bindings ended, sales ended, sales");
    assert_eq!(unread(&db), "people_all `out`; people_all `out`; people_all `out`");

    // The bindings that remain keep their own group; without any, it goes and nothing is lost with it.
    deliver(&db);
    let none = format!("{HEAD}groups:\n  sales: {{ tables: [app.people_all] }}\n");
    self::run(&db, "install", &none, &["--allow-destroy"]).ok();
    settled(&db, &none);
    assert_eq!(
        db.psql("select string_agg(group_name, ',') from emaj.emaj_group"),
        "sales"
    );
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let db = shop();
    db.psql("create table app.part (id int primary key, v text) partition by range (id); create table app.part_1 partition of app.part for values from (1) to (9);
             create function app.two(int) returns void language sql as ''");
    let said = refused(
        &db,
        &format!(
            "{HEAD}{SINKS}  db: {{ postgres: {{ service: x }} }}\n  dir: {{ ldap: {{ url: ldap://h }} }}\nbindings:
  a: {{ table: app.persn, to: out, message: {{}} }}
  b: {{ table: app.people, to: out, message: {{}} }}
  c: {{ table: app.person, to: out, columns: [mial], when: row.activ, message: {{ body: '{{{{ old.loggin }}}} {{{{ row.mail }}}}' }} }}
  d: {{ table: app.note, to: db, row: {{}} }}
  e: {{ table: app.note, to: dir, entry: {{ dn: x, object_classes: [a], attributes: {{}} }} }}
  f: {{ table: app.part_1, to: out, message: {{}} }}
  g: {{ table: app.person, sql: {{ function: app.missing }} }}
  h: {{ table: app.person, sql: {{ function: app.two, arguments: ['{{{{ row.idd }}}}', x] }} }}
  i: {{ table: app.person, to: db, row: {{ columns: {{ full: row.login }} }} }}
"
        ),
    );
    for part in [
        "there is no table app.persn in database",
        "app.person",
        "there is no table app.people",
        "no views",
        "no column `mial`",
        "`mail`",
        "no column `activ`",
        "no column `loggin`",
        "table app.note has no primary key, and `row` has to know",
        "and `entry` has to know",
        "table app.part_1 is a partition: its changes are in the log of app.part",
        "there is no function app.missing",
        "function app.two cannot be called with 2 texts",
        "it takes (integer)",
        "no column `idd`",
        "writes no column `id`, which is in the key of the other table",
    ] {
        assert!(said.contains(part), "`{part}` is missing in\n{said}");
    }
    assert_eq!(db.psql("select count(*) from pg_namespace where nspname = 'emaj'"), "0");
}

#[test]
fn bindings_that_make_the_same_rows_write_the_same_columns() {
    let db = shop();
    db.psql("create table app.archive (id int primary key, mail text, loggin text)");
    let rows = |first: &str, second: &str| {
        format!(
            "{HEAD}sinks:\n  db: {{ postgres: {{ service: x }} }}\nbindings:
  live: {{ table: app.person, to: db, row: {{ {first} }} }}
  old: {{ table: app.archive, to: db, row: {{ table: app.person, {second} }} }}
"
        )
    };
    // What the tables have says which columns, and which key.
    for (first, second) in [
        ("", "columns: { id: row.id, mail: row.mail }"),
        ("", "key: [id]"),
        ("key: [id], columns: { id: row.id }", ""),
    ] {
        let said = refused(&db, &rows(first, second));
        for part in [
            "the bindings `live` and `old` make the same rows of app.person, of different columns",
            "`live` writes ",
            "; `old` writes ",
            "the other binding",
        ] {
            assert!(said.contains(part), "`{part}` is missing in\n{said}");
        }
    }
    install(
        &db,
        &rows(
            "columns: { id: row.id, mail: row.mail }",
            "columns: { mail: none, id: row.id }",
        ),
    );
}

#[test]
fn two_manifests_share_a_log_and_nothing_else() {
    let db = shop();
    let core =
        "version: 1\nname: core\nroles: { admin: null, viewer: null }\ngroups:\n  core: { tables: [app.person] }\n";
    let path = db.file("core.yaml", core);
    support::emaj(&db).args(["install", path.to_str().unwrap()]).run().ok();
    let manifest = format!("{HEAD}{SINKS}bindings:\n{MAIL}{OTHER}");
    install(&db, &manifest);
    assert_eq!(
        db.psql("select string_agg(rel_group || ' ' || rel_name, ', ' order by 1) from emaj.emaj_relation where rel_kind <> 'S'"),
        "core person, shop.bindings note"
    );
    let thief = manifest.replace("name: shop", "name: thief");
    let said = refused(&db, &thief);
    for part in [
        "sink `out` is there already and belongs to manifest `shop`",
        "binding `mail` is there already and belongs to manifest `shop`",
    ] {
        assert!(said.contains(part), "{said}");
    }
    db.psql("update app.person set mail = 'z' where id = 1");
    // Whoever takes the table away is told what the other one misses.
    let never = "table app.person is not captured any more: what changes in it from then on never reaches sink `out` (binding `mail`); \
                 once manifest `shop` is installed again, `emaj init --binding mail` brings that up to date";
    let without = db.file("without.yaml", &core.replace("app.person", "app.ledger"));
    let less = support::emaj(&db).args(["plan", without.to_str().unwrap()]).run().ok();
    assert!(less.stderr.contains(never), "{less}");
    let none = db.file(
        "none.yaml",
        &core.replace("core: {", "other: {").replace("app.person", "app.ledger"),
    );
    let uninstalled = || {
        support::emaj(&db)
            .args(["uninstall", path.to_str().unwrap(), "--yes"])
            .run()
            .ok()
    };
    for run in [
        support::emaj(&db).args(["plan", none.to_str().unwrap()]).run().ok(),
        uninstalled(),
    ] {
        assert!(run.stderr.contains(never), "{run}");
        assert!(
            run.to_string().contains(
                "are lost; the tables stay; what is not delivered yet to sink `out` (binding `mail`) is lost"
            ),
            "{run}"
        );
    }
    let drift = self::run(&db, "drift", &manifest, &[]);
    assert!(
        drift.stdout.contains("binding `mail`: the table is not captured"),
        "{drift}"
    );
    install(&db, &manifest);
    let before = support::emaj(&db)
        .args(["uninstall", path.to_str().unwrap(), "--yes"])
        .run();
    assert_ne!(db.psql("select count(*) from emaj.emaj_binding"), "0", "{before}");
    self::run(&db, "uninstall", &manifest, &["--yes"]).ok();
    assert_eq!(db.psql("select count(*) from pg_namespace where nspname = 'emaj'"), "0");
}

#[test]
fn an_idle_group_delivers_nothing_and_a_stop_says_so() {
    let db = shop();
    let manifest = |state: &str| {
        format!("{HEAD}groups:\n  g: {{ tables: [app.person], state: {state} }}\n{SINKS}bindings:\n{MAIL}")
    };
    let run = self::run(&db, "install", &manifest("idle"), &[]).ok();
    assert!(
        run.stderr
            .contains("group `g` is not started: changes of app.person are not delivered until it is"),
        "{run}"
    );
    let run = install_quiet(&db, &manifest("logging"));
    assert!(!run.stderr.contains("not started"), "{run}");
    let run = support::emaj(&db).args(["group", "stop", "g"]).run().ok();
    assert!(
        run.stderr
            .contains("is bound by `mail`: changes made until group `g` is started again are not delivered"),
        "{run}"
    );
}

fn install_quiet(db: &Database, manifest: &str) -> Run {
    run(db, "install", manifest, &[]).ok()
}

#[test]
fn no_secret_leaves_the_manifest() {
    let db = shop();
    let manifest = format!(
        "{HEAD}sinks:\n  dir: {{ ldap: {{ url: 'ldap://h', bind_dn: cn=a, password: CANARY-1 }} }}\n  hook: {{ webhook: {{ url: 'https://u:CANARY-2@h/', secret: CANARY-3, headers: {{ X-Key: CANARY-4 }} }} }}\n  \
         db: {{ postgres: {{ uri: 'postgresql://u:CANARY-5@h/d' }} }}\n  bus: {{ nats: {{ url: nats://h, token: CANARY-6 }} }}\nbindings:\n\
         \x20 a: {{ table: app.person, to: dir, flag: {{ dn: x, attribute: x, value: x }} }}\n  b: {{ table: app.person, to: hook, message: {{}} }}\n\
         \x20 c: {{ table: app.person, to: db, row: {{}} }}\n  d: {{ table: app.person, to: bus, message: {{ subject: s }} }}\n"
    );
    for (verb, more) in [
        ("plan", &["-o", "json"][..]),
        ("plan", &["-o", "sql"]),
        ("plan", &[]),
        ("install", &[]),
        ("drift", &["-o", "json"]),
        ("status", &[]),
        ("doctor", &[]),
    ] {
        let run = self::run(&db, verb, &manifest, more);
        assert!(
            !run.stdout.contains("CANARY") && !run.stderr.contains("CANARY"),
            "{run}"
        );
    }
    let text = db.dump(&[]);
    assert!(
        text.contains("emaj_sink") && text.contains("hook") && !text.contains("CANARY"),
        "{text}"
    );
    assert!(!text.contains("https://"), "{text}");
}

#[test]
fn odd_names_everywhere() {
    let db = shop();
    let before = {
        db.psql("create schema \"Odd $emaj$ S\"; create table \"Odd $emaj$ S\".\"T'a\" (\"I d\" int primary key, \"select\" text)");
        db.dump(&["-s"])
    };
    let long = "ü".repeat(31);
    let manifest = format!(
        "version: 1\nname: \"it's {}\"\nroles: {{ admin: null, viewer: null }}\nsinks:\n  \"s'i\\\\nk\": {{ file: {{ path: f }} }}\n  {long}: {{ file: {{ path: g }} }}\nbindings:\n\
         \x20 \"b'$emaj$\": {{ table: '\"Odd $emaj$ S\".\"T''a\"', to: \"s'i\\\\nk\", row: {{}} }}\n  {long}: {{ table: '\"Odd $emaj$ S\".\"T''a\"', to: {long}, message: {{}} }}\n\
         \x20 \"a'$emaj$\": {{ table: '\"Odd $emaj$ S\".\"T''a\"', warn: {{ message: \"it's $emaj$ {{{{ row.\\\"I d\\\" }}}}\" }} }}\n",
        "n".repeat(50)
    );
    install(&db, &manifest);
    db.psql("insert into \"Odd $emaj$ S\".\"T'a\" values (1, 'x')");
    assert_eq!(
        db.psql("select count(*) from emaj.emaj_relation where emaj._unread(rel_id) is not null"),
        "1"
    );
    run(&db, "uninstall", &manifest, &["--yes"]).ok();
    assert_eq!(db.dump(&["-s"]), before);
}

#[test]
fn an_owner_without_other_rights_installs_and_a_stranger_is_told_what_is_missing() {
    let db = shop();
    let owner = support::owner(&db);
    owner
        .client()
        .batch_execute("create table mine (id int primary key, v text)")
        .unwrap();
    let name = owner.name();
    let path = db.file(
        "emaj.yaml",
        &format!("{HEAD}{SINKS}bindings:\n  m: {{ table: {name}.mine, to: out, message: {{}} }}\n  w: {{ table: {name}.mine, warn: {{ message: hello }} }}\n"),
    );
    let path = path.to_str().unwrap();
    support::emaj(&db).user(name).args(["install", path]).run().ok();
    support::emaj(&db)
        .user(name)
        .args(["plan", "--detailed-exitcode", path])
        .run()
        .ok();
    let foreign = db.file(
        "foreign.yaml",
        &format!("{HEAD}{SINKS}bindings:\n  m: {{ table: app.person, to: out, message: {{}} }}\n  w: {{ table: app.person, warn: {{ message: hello }} }}\n"),
    );
    let run = support::emaj(&db)
        .user(name)
        .args(["plan", foreign.to_str().unwrap()])
        .run()
        .code(12);
    assert_eq!(
        run.stderr.matches("table app.person belongs to role").count(),
        2,
        "{run}"
    );
}

#[test]
fn a_warning_is_called_so_once_and_a_hint_speaks_of_what_is_there() {
    let db = shop();
    db.psql("create table app.empty ()");
    let empty = "  empty: { table: app.empty, to: out, message: {} }\n";
    let said = refused(&db, &format!("{HEAD}{SINKS}bindings:\n{empty}"));
    assert!(said.contains("take what binds app.empty out of the manifest"), "{said}");
    assert!(said.contains("warning: ") && !said.contains(": warning: "), "{said}");
    let said = refused(
        &db,
        &format!("{HEAD}groups:\n  app: {{ tables: [app.empty], rollback: false }}\n"),
    );
    assert!(said.contains("take app.empty out of the group"), "{said}");
}
