//! The laws of plan: what was installed needs nothing more, the last manifest wins, and uninstall leaves no trace; for pairs of
//! manifests by chance, for names of the worst kind, and while a transaction stands in the way.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::story::described;
use crate::support::{self, Chance, Database};

const SHOP: &str = "
    create schema s; create schema s2;
    create table s.a (id bigserial primary key, v text);
    create table s.b (id int generated always as identity primary key, a_id bigint references s.a on delete cascade, n numeric);
    create table s.c (x int, y text, z int generated always as (x * 2) stored, primary key (y, x) deferrable);
    create table s.log (at timestamptz, what text);
    create table s.p (id int, r int, v text, primary key (r, id)) partition by range (r);
    create table s.p_1 partition of s.p for values from (0) to (10);
    create table s.p_2 (v text, id int not null, r int not null);
    alter table s.p attach partition s.p_2 for values from (10) to (20);
    create table s.kid (extra int) inherits (s.log);
    create table s2.a (id int primary key, v text, seen timestamptz);
    create unlogged table s2.cache (k text primary key, v text);
    create sequence s2.free;
    create function s.stamp() returns trigger language plpgsql as 'begin new.seen := now(); return new; end';
    create trigger stamp before update on s2.a for each row execute function s.stamp();
    insert into s.a (v) select n::text from generate_series(1, 20) n;
    insert into s.b (a_id, n) select n, n from generate_series(1, 20) n;
    insert into s.c (x, y) select n, n::text from generate_series(1, 20) n;
    insert into s.p select n, n, 'p' from generate_series(0, 19) n;
    insert into s2.a (id, v) select n, n::text from generate_series(1, 20) n;";

/// The tables, and whether a rollback is possible there.
const TABLES: &[(&str, bool)] = &[
    ("s.a", true),
    ("s.b", true),
    ("s.c", true),
    ("s.log", false),
    ("s.kid", false),
    ("s.p", true),
    ("s2.a", true),
    ("s2.cache", false),
];

const HEAD: &str = "version: 1\nname: laws\nroles: { admin: null, viewer: null }\n";

fn manifest(chance: &mut Chance) -> String {
    let groups = 1 + chance.below(3);
    let mut members: Vec<Vec<&(&str, bool)>> = vec![Vec::new(); groups];
    for table in TABLES {
        if chance.happens(70) {
            members[chance.below(groups)].push(table);
        }
    }
    if members.iter().all(Vec::is_empty) {
        members[0].push(&TABLES[0]);
    }
    let mut text = format!("{HEAD}groups:\n");
    for (at, tables) in members.iter().enumerate().filter(|(_, tables)| !tables.is_empty()) {
        let names: Vec<&str> = tables.iter().map(|(name, _)| *name).collect();
        writeln!(
            text,
            "  g{}:\n    tables: [{}]",
            if chance.happens(50) { at } else { at + 3 },
            names.join(", ")
        )
        .unwrap();
        if !tables.iter().all(|(_, key)| *key) || chance.happens(20) {
            text += "    rollback: false\n";
        }
        for (percent, line) in [
            (20, "    state: idle\n"),
            (20, "    comment: \"it's\"\n"),
            (20, "    retention: 3 days\n"),
            (30, "    sequences: none\n"),
            (20, "    context: [application_name, \"setting:app.user_id\"]\n"),
            (20, "    context: [client_addr]\n"),
        ] {
            let key = line.trim().split(':').next().unwrap_or_default();
            let there = text
                .rsplit("tables:")
                .next()
                .is_some_and(|group| group.contains(&format!("    {key}:")));
            if chance.happens(percent) && !there {
                text += line;
            }
        }
        if chance.happens(50) {
            text += "    table_options:\n";
            for name in &names {
                let mut options = vec![format!("priority: {}", chance.below(3))];
                if chance.happens(30) {
                    options.push("capture: row".to_owned());
                }
                if chance.happens(30) {
                    options.push("guard: false".to_owned());
                }
                if *name == "s2.a" && chance.happens(50) {
                    options.push("keep_triggers: [stamp]".to_owned());
                }
                writeln!(text, "      {name}: {{ {} }}", options.join(", ")).unwrap();
            }
        }
    }
    text
}

fn write(db: &Database) {
    db.client()
        .batch_execute(
            "insert into s.a (v) values ('new'); update s.b set n = n + 1 where id < 5; insert into s.log values (now(), 'w');
             update s.p set r = (r + 7) % 20 where id < 5; update s2.a set v = v || '.' where id < 4; delete from s.c where x = 3;
             insert into s.c values (3, '3'); insert into s2.cache values (random()::text, 'c');",
        )
        .unwrap();
}

fn no_changes(db: &Database, file: &str) {
    support::emaj(db)
        .args(["plan", "--detailed-exitcode", file])
        .run()
        .code(0);
    assert_eq!(db.psql("select * from emaj.emaj_verify_all()"), "No error detected");
}

#[test]
fn any_two_manifests_follow_each_other_and_leave_no_trace() {
    let pairs = support::scale(12);
    let seed = support::seed();
    let mut chance = Chance::new(seed);
    let db = support::database();
    db.client().batch_execute(SHOP).unwrap();
    let empty = db.dump(&["-s"]);
    for pair in 0..pairs {
        let (a, b) = (manifest(&mut chance), manifest(&mut chance));
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            db.file("a.yaml", &a);
            db.file("b.yaml", &b);
            support::emaj(&db).args(["install", "a.yaml"]).run().ok();
            no_changes(&db, "a.yaml");
            write(&db);
            support::emaj(&db)
                .args(["install", "b.yaml", "--allow-destroy"])
                .run()
                .ok();
            no_changes(&db, "b.yaml");
            write(&db);
            support::emaj(&db).args(["uninstall", "b.yaml", "--yes"]).run().ok();
            assert!(
                db.dump(&["-s"]) == empty,
                "uninstall leaves something behind:\n{}",
                db.dump(&["-s"])
            );
        }));
        assert!(
            told.is_ok(),
            "pair {pair} of seed {seed}:\n--- a.yaml\n{a}\n--- b.yaml\n{b}"
        );
    }
    println!("laws of plan: {pairs} pairs of manifests, 0 wrong (seed {seed})");
}

#[test]
fn a_saved_plan_that_no_longer_fits_is_refused() {
    let db = support::database();
    db.client().batch_execute(SHOP).unwrap();
    db.file(
        "emaj.yaml",
        &format!("{HEAD}groups: {{ g: {{ tables: [s.a, s.b] }} }}\n"),
    );
    let before = db.dump(&["-s"]);
    let plan = support::emaj(&db).args(["plan", "-o", "json"]).run().ok().stdout;
    db.file("plan.json", &plan);
    db.client().batch_execute("alter table s.a add column n int").unwrap();
    let altered = db.dump(&["-s"]);
    for more in [&[][..], &["--dry-run"]] {
        let words = ["install", "--plan", "plan.json"];
        let run = support::emaj(&db).args(words).args(more).run().code(4);
        support::said(&run, "the saved plan no longer fits");
    }
    assert_eq!(db.dump(&["-s"]), altered);
    db.client().batch_execute("alter table s.a drop column n").unwrap();
    assert_eq!(db.dump(&["-s"]), before);
    let plan = support::emaj(&db).args(["plan", "-o", "json"]).run().ok().stdout;
    db.file("plan.json", &plan);
    support::emaj(&db)
        .args(["install", "--plan", "plan.json", "--dry-run"])
        .run()
        .ok();
    support::emaj(&db).args(["install", "--plan", "plan.json"]).run().ok();
    // What it planned is done now.
    support::emaj(&db)
        .args(["install", "--plan", "plan.json"])
        .run()
        .code(4);
    no_changes(&db, "emaj.yaml");
}

#[test]
fn a_plan_does_not_fit_when_it_loses_other_marks_than_it_said() {
    let db = support::database();
    db.client().batch_execute(SHOP).unwrap();
    let emaj = |words: &[&str]| support::emaj(&db).args(words).run();
    let manifest = |tables: &str| db.file("emaj.yaml", &format!("{HEAD}groups: {{ {tables} }}\n"));
    for (before, after) in [
        ("g: { tables: [s.a, s.b] }", "g: { tables: [s.a] }"),
        ("g: { tables: [s.a] }, h: { tables: [s.b] }", "g: { tables: [s.a] }"),
    ] {
        manifest(before);
        emaj(&["install", "--allow-destroy"]).ok();
        manifest(after);
        let group = if before.contains("h:") { "h" } else { "g" };
        db.file("plan.json", &emaj(&["plan", "-o", "json"]).ok().stdout);
        emaj(&["mark", "set", group, "later"]).ok();
        let carry_out = ["install", "--plan", "plan.json", "--allow-destroy"];
        let run = emaj(&carry_out).code(4);
        assert!(run.stderr.contains("the saved plan no longer fits"), "{run}");
        // As many, but another one; the script says it itself.
        db.file("plan.json", &emaj(&["plan", "-o", "json"]).ok().stdout);
        let script = emaj(&["plan", "-o", "sql"]).ok().stdout;
        emaj(&["mark", "delete", group, "later"]).ok();
        emaj(&["mark", "set", group, "another"]).ok();
        let run = emaj(&carry_out).code(4);
        assert!(run.stderr.contains("the saved plan no longer fits"), "{run}");
        let refused = db.client().batch_execute(&script).unwrap_err();
        let refused = refused.as_db_error().expect("an answer of the server");
        let reason = format!("since this was planned marks of group `{group}` were set or deleted");
        assert!(refused.message().contains(&reason), "{refused}");
        assert!(emaj(&["mark", "list", group]).ok().stdout.contains("another"));
        // The rows of a log come by themselves, and are no reason.
        db.file("plan.json", &emaj(&["plan", "-o", "json"]).ok().stdout);
        db.psql("insert into s.b (n) values (1)");
        emaj(&carry_out).ok();
    }
}

/// Writes a manifest with one group of these tables.
fn declare(db: &Database, tables: &str) {
    db.file(
        "emaj.yaml",
        &format!("{HEAD}groups: {{ g: {{ tables: [{tables}] }} }}\n"),
    );
}

#[test]
fn an_install_plans_anew_when_a_mark_is_set_while_it_waits() {
    let db = support::database();
    db.client().batch_execute(SHOP).unwrap();
    declare(&db, "s.a, s.b");
    support::emaj(&db).args(["install"]).run().ok();
    declare(&db, "s.a");
    let saved = support::emaj(&db).args(["plan", "-o", "json"]).run().ok().stdout;
    db.file("plan.json", &saved);
    let marked_beside = |mark: &str, words: &[&str]| {
        let mut open = db.client();
        open.batch_execute("begin; lock table s.b in row exclusive mode")
            .unwrap();
        support::emaj(&db)
            .args(["install", "--allow-destroy", "--lock-timeout", "60s", "--wait", "300s"])
            .args(words)
            .run_while(|_| {
                support::until("the install waits", || {
                    db.psql("select count(*) from pg_locks where relation = 's.b'::regclass and not granted") == "1"
                });
                db.psql(&format!("select emaj.emaj_set_mark_group('g', '{mark}')"));
                open.batch_execute("commit").unwrap();
            })
    };
    let refused = marked_beside("first", &["--plan", "plan.json"]).code(4);
    assert!(refused.stderr.contains("the saved plan no longer fits"), "{refused}");
    let done = marked_beside("second", &[]).ok();
    assert!(
        done.stdout.contains("3 marks can no longer be rolled back to"),
        "{done}"
    );
    assert_eq!(
        db.psql("select rel_name from emaj.emaj_relation where rel_ended is null and rel_log is not null"),
        "a"
    );
}

/// Runs an install while another session has done `beside` and not committed yet, which it does once the install waits.
fn install_beside(db: &Database, beside: &str, words: &[&str]) -> support::Run {
    let mut open = db.client();
    open.batch_execute(&format!("begin; {beside}")).unwrap();
    let waits = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    support::emaj(db)
        .args(["install", "--allow-destroy", "--lock-timeout", "60s"])
        .args(words)
        .run_while(|_| {
            support::until("the install waits", || db.psql(waits) == "1");
            open.batch_execute("commit").unwrap();
        })
}

#[test]
fn an_install_plans_anew_when_a_table_is_released_while_it_waits() {
    let release = "select emaj.emaj_release_table('s.b'::regclass)";
    // It would follow, or end.
    for (tables, live) in [("s.a, s.b", "1"), ("s.a", "0")] {
        let db = support::database();
        db.client().batch_execute(SHOP).unwrap();
        let drifted = |column: &str| {
            declare(&db, "s.a, s.b");
            support::emaj(&db).args(["install"]).run().ok();
            db.psql(&format!("alter table s.b add column {column} int"));
            declare(&db, tables);
        };
        drifted("v");
        // All locks were had: nobody is in the way.
        let refused = install_beside(&db, release, &[]).code(4);
        let reason = "since this was planned s.b was released\nhint: review a new plan\n";
        assert!(refused.stderr.ends_with(reason), "{refused}");
        drifted("w");
        install_beside(&db, release, &["--wait", "300s"]).ok();
        no_changes(&db, "emaj.yaml");
        let entries = "select count(*) from emaj.emaj_relation where rel_name = 'b' and rel_ended is null";
        assert_eq!(db.psql(entries), live);
        support::emaj(&db).args(["uninstall", "--yes"]).run().ok();
        assert_eq!(db.psql("select to_regnamespace('emaj') is null"), "t");
    }
}

#[test]
fn an_install_plans_anew_when_a_group_is_stopped_started_or_dropped_while_it_waits() {
    for (before, beside, past, enabled) in [
        (
            "select emaj.emaj_start_group('g')",
            "select emaj.emaj_stop_group('g')",
            "stopped",
            "D",
        ),
        ("select", "select emaj.emaj_start_group('g')", "started", "A"),
        (
            "select emaj.emaj_start_group('g')",
            "select emaj.emaj_force_drop_group('g')",
            "stopped",
            "D",
        ),
    ] {
        let db = support::database();
        db.client().batch_execute(SHOP).unwrap();
        let idle = |tables: &str| {
            let groups = format!("groups: {{ g: {{ tables: [{tables}], state: idle }} }}\n");
            db.file("emaj.yaml", &format!("{HEAD}{groups}"));
        };
        idle("s.a");
        support::emaj(&db).args(["install"]).run().ok();
        db.psql(before);
        idle("s.a, s.b");
        let script = support::emaj(&db).args(["plan", "-o", "sql"]).run().ok().stdout;
        let refused = db.client().batch_execute(&format!("begin; {beside}; {script}"));
        let refused = refused.unwrap_err();
        let refused = refused.as_db_error().expect("an answer of the server");
        let reason = format!("since this was planned group `g` was {past} or dropped");
        assert!(refused.message().contains(&reason), "{refused}");
        install_beside(&db, beside, &["--wait", "300s"]).ok();
        no_changes(&db, "emaj.yaml");
        let triggers = "select string_agg(distinct tgenabled::text, '') from pg_trigger
                         where tgrelid in ('s.a'::regclass, 's.b'::regclass) and tgname like '!emaj%'";
        assert_eq!(db.psql(triggers), enabled, "{beside}");
        let active = db.psql("select count(*) from emaj.emaj_mark where mark_state = 'ACTIVE'");
        assert_eq!(active == "0", enabled == "D", "{beside}: {active}");
    }
}

#[test]
fn a_table_that_moves_leaves_a_mark_in_both_groups() {
    let db = support::database();
    db.client().batch_execute(SHOP).unwrap();
    let declare = |a: &str, b: &str| {
        let groups = format!("groups: {{ a: {{ tables: [{a}] }}, b: {{ tables: [{b}] }} }}\n");
        db.file("emaj.yaml", &format!("{HEAD}{groups}"));
        support::emaj(&db).args(["install", "--allow-destroy"]).run().ok();
    };
    let marks = || {
        db.psql(
            "select string_agg(mark_group, ' ' order by mark_id) from emaj.emaj_mark where mark_name like 'INSTALL%'",
        )
    };
    declare("s.a, s.b", "s.c");
    assert_eq!(marks(), "");
    declare("s.a", "s.b, s.c");
    assert_eq!(marks().len(), 3, "{}", marks());
    db.psql("insert into s.a (v) values ('new')");
    db.psql("select emaj.emaj_rollback_group('a', 'EMAJ_LAST_MARK')");
    assert_eq!(db.psql("select count(*) from s.a where v = 'new'"), "0");
    no_changes(&db, "emaj.yaml");
}

#[test]
fn a_partition_and_its_parent_are_not_in_two_groups() {
    let db = support::database();
    db.client().batch_execute(SHOP).unwrap();
    for (groups, told) in [
        (
            "a: { tables: [s.p_1, s.p_2] }, b: { tables: [s.p] }",
            [
                "s.p is in group `b` and s.p_1 in group `a`: s.p_1 is a partition of s.p, and captured with it",
                "s.p is in group `b` and s.p_2 in group `a`: s.p_2 is a partition of s.p, and captured with it",
            ],
        ),
        (
            "a: { tables: [s.p] }, b: { tables: [\"s.p_*\"] }",
            [
                "s.p_1 is in group `b` and s.p in group `a`: s.p_1 is a partition of s.p, and captured with it",
                "s.p_2 is in group `b` and s.p in group `a`: s.p_2 is a partition of s.p, and captured with it",
            ],
        ),
    ] {
        db.file("emaj.yaml", &format!("{HEAD}groups: {{ {groups} }}\n"));
        let refused = support::emaj(&db).args(["plan"]).run().code(65);
        for told in told {
            assert!(refused.stderr.contains(told), "{refused}");
        }
        assert!(
            refused
                .stderr
                .contains("take s.p_1 out of its group (`\"!s.p_1\"`), or s.p out of the other"),
            "{refused}"
        );
    }
    db.file(
        "emaj.yaml",
        &format!("{HEAD}groups: {{ a: {{ tables: [s.p_1] }}, b: {{ tables: [s.p_2] }} }}\n"),
    );
    support::emaj(&db).args(["install"]).run().ok();
    no_changes(&db, "emaj.yaml");
}

#[test]
fn a_saved_plan_that_destroys_nothing_fits_after_a_mark() {
    let db = support::database();
    db.client().batch_execute(SHOP).unwrap();
    let emaj = |words: &[&str]| support::emaj(&db).args(words).run();
    // It says what becomes of the marks all the same.
    for (before, after, lost) in [
        ("tables: [s.a]", "tables: [s.a, s.b]", "can no longer be rolled back to"),
        (
            "tables: [s.a], sequences: none",
            "tables: [s.a]",
            "can no longer be rolled back to",
        ),
        (
            "tables: [s.a]",
            "tables: [s.a], keep_marks: 1",
            "will go with the next purge",
        ),
        (
            "tables: [s.a], rollback: false",
            "tables: [s.a]",
            "cannot be rolled back to",
        ),
    ] {
        db.file("emaj.yaml", &format!("{HEAD}groups: {{ k: {{ {before} }} }}\n"));
        emaj(&["install", "--allow-destroy"]).ok();
        emaj(&["mark", "set", "k", "one"]).ok();
        db.file("emaj.yaml", &format!("{HEAD}groups: {{ k: {{ {after} }} }}\n"));
        let plan = emaj(&["plan", "-o", "json"]).ok().stdout;
        assert!(plan.contains(lost), "{before}: {plan}");
        db.file("plan.json", &plan);
        emaj(&["mark", "set", "k", "two"]).ok();
        db.psql("insert into s.b (n) values (1); analyze s.b");
        emaj(&["install", "--plan", "plan.json"]).ok();
        emaj(&["uninstall", "--yes"]).ok();
    }
}

#[test]
fn a_group_that_is_described_otherwise_locks_no_sequence() {
    let db = support::database();
    db.client().batch_execute(SHOP).unwrap();
    let manifest = |more: &str| {
        let groups = format!("groups: {{ g: {{ tables: [s.a]{more} }} }}\n");
        db.file("emaj.yaml", &format!("{HEAD}{groups}"));
    };
    let locks = |more: &str| {
        manifest(more);
        let script = support::emaj(&db).args(["plan", "-o", "sql"]).run().ok().stdout;
        support::emaj(&db).args(["install", "--allow-destroy"]).run().ok();
        assert!(script.contains("array['g']::text[]"), "{script}");
        !script.contains("._lock(array[]::oid[]")
    };
    manifest("");
    support::emaj(&db).args(["install"]).run().ok();
    assert!(!locks(", comment: of the shop"));
    assert!(!locks(", rollback: false"));
    // Where it sets a mark, that notes them.
    assert!(locks(", rollback: true"));
}

#[test]
fn two_manifests_share_a_database_and_take_nothing_from_each_other() {
    let db = support::database();
    db.client().batch_execute(SHOP).unwrap();
    let before = db.dump(&["-s"]);
    let of = |name: &str, groups: &str| {
        format!("version: 1\nname: {name}\nroles: {{ admin: null, viewer: null }}\ngroups: {{ {groups} }}\n")
    };
    db.file("one.yaml", &of("one", "first: { tables: [s.a, s.p] }"));
    db.file("two.yaml", &of("two", "second: { tables: [s2.a] }"));
    support::emaj(&db).args(["install", "one.yaml"]).run().ok();
    support::emaj(&db).args(["install", "two.yaml"]).run().ok();
    for (what, groups) in [
        ("a table", "second: { tables: [s2.a, s.a] }"),
        ("a partition", "second: { tables: [s2.a, s.p_1] }"),
        ("a group", "second: { tables: [s2.a] }, first: { tables: [s.b] }"),
        ("a sequence", "second: { tables: [s2.a], sequences: [s.a_id_seq] }"),
    ] {
        db.file("greedy.yaml", &of("two", groups));
        let run = support::emaj(&db)
            .args(["install", "greedy.yaml", "--allow-destroy"])
            .run();
        assert_eq!(run.status, Some(4), "{what}: {run}");
    }
    no_changes(&db, "one.yaml");
    no_changes(&db, "two.yaml");
    support::emaj(&db).args(["uninstall", "one.yaml", "--yes"]).run().ok();
    no_changes(&db, "two.yaml");
    support::emaj(&db).args(["uninstall", "two.yaml", "--yes"]).run().ok();
    assert_eq!(db.dump(&["-s"]), before);
}

/// A type that the session finds by its bare name is the same type as where it has to be qualified.
#[test]
fn a_type_on_the_search_path_is_no_drift() {
    let db = support::database();
    db.client()
        .batch_execute("create type mood as enum ('low', 'high'); create table public.t (id int primary key, m mood)")
        .unwrap();
    db.file(
        "emaj.yaml",
        &format!("{HEAD}groups: {{ g: {{ tables: [public.t] }} }}\n"),
    );
    support::emaj(&db).args(["install"]).run().ok();
    no_changes(&db, "emaj.yaml");
    db.psql("insert into t values (1, 'low')");
    db.psql("select emaj.emaj_rollback_group('g', 'EMAJ_LAST_MARK')");
    assert_eq!(db.psql("select count(*) from t"), "0");
    db.psql("alter type mood rename to humour");
    no_changes(&db, "emaj.yaml");
}

#[test]
fn a_partition_that_left_its_table_is_no_affair_of_the_log() {
    let db = support::database();
    db.client().batch_execute(SHOP).unwrap();
    db.client()
        .batch_execute("alter table s.p detach partition s.p_2")
        .unwrap();
    let apart = db.dump(&["-s"]);
    db.client()
        .batch_execute("alter table s.p attach partition s.p_2 for values from (10) to (20)")
        .unwrap();
    db.file("emaj.yaml", &format!("{HEAD}groups: {{ g: {{ tables: [s.p] }} }}\n"));
    support::emaj(&db).args(["install"]).run().ok();
    let mut client = db.client();
    client
        .batch_execute("alter table s.p detach partition s.p_2; select emaj.emaj_set_mark_group('g', 'apart')")
        .unwrap();
    client
        .batch_execute("truncate s.p_2; delete from s.p where id = 1")
        .unwrap();
    client
        .batch_execute("select emaj.emaj_rollback_group('g', 'apart')")
        .unwrap();
    assert_eq!(db.psql("select count(*) from s.p"), "10");
    assert_eq!(db.psql("select count(*) from s.p_2"), "0");
    support::emaj(&db).args(["uninstall", "--yes"]).run().ok();
    assert_eq!(db.dump(&["-s"]), apart);
}

#[test]
fn an_installation_that_cannot_have_its_locks_keeps_nobody_waiting() {
    let db = support::database();
    db.client().batch_execute(SHOP).unwrap();
    db.file(
        "emaj.yaml",
        &format!("{HEAD}groups: {{ g: {{ tables: [s.a, s.b, s.c, s.p, s2.a] }} }}\n"),
    );
    let before = db.dump(&["-s"]);
    let mut open = db.client();
    open.batch_execute("set application_name = 'night job'; begin; update s2.a set v = 'open' where id = 1")
        .unwrap();
    // A busy machine only adds to a wait: the shortest of several tells what installing costs.
    let mut longest = Duration::MAX;
    for _ in 0..5 {
        let (wait, requests) = longest_wait_beside_installs(&db);
        println!("polite locks: {requests} requests, the longest took {wait:?} with a lock timeout of 500 ms");
        longest = longest.min(wait);
        if longest <= Duration::from_millis(550) {
            break;
        }
    }
    open.batch_execute("rollback").unwrap();
    assert_eq!(db.dump(&["-s"]), before, "nothing was changed");
    assert!(longest <= Duration::from_millis(550), "{longest:?}");
}

#[test]
fn locks_of_both_kinds_give_way_together() {
    let db = support::database();
    db.client().batch_execute(SHOP).unwrap();
    declare(&db, "s.a");
    support::emaj(&db).args(["install"]).run().ok();
    declare(&db, "s.b");
    let plan = support::emaj(&db).args(["plan", "-o", "json"]).run().ok().stdout_json();
    let locks: Vec<_> = plan["steps"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|step| step["lock"].as_str())
        .collect();
    assert!(
        locks.contains(&"ACCESS EXCLUSIVE") && locks.contains(&"SHARE ROW EXCLUSIVE"),
        "{plan}"
    );
    let mut open = db.client();
    open.batch_execute("begin; lock table s.b in row exclusive mode")
        .unwrap();
    let mut writer = db.client();
    support::emaj(&db)
        .args(["install", "--allow-destroy", "--lock-timeout", "60s"])
        .run_while(|_| {
            support::until("the install waits", || {
                db.psql("select count(*) from pg_locks where relation = 's.b'::regclass and not granted") == "1"
            });
            // While it waits for the one table, the other is free.
            writer
                .batch_execute("insert into s.a select 1 + max(id) from s.a")
                .unwrap();
            open.batch_execute("commit").unwrap();
        })
        .ok();
    assert_eq!(
        db.psql("select rel_name from emaj.emaj_relation where rel_ended is null and rel_log is not null"),
        "b"
    );
}

/// Has the application at work while two installs wait for a lock in vain; returns the longest that it waited, and the number of its requests.
fn longest_wait_beside_installs(db: &Database) -> (Duration, usize) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let application = scope.spawn(|| {
            let mut client = db.client();
            let (mut longest, mut requests) = (Duration::ZERO, 0);
            while !stop.load(Ordering::Relaxed) {
                let sql = [
                    "update s.a set v = v where id = 2",
                    "update s.b set n = n where id = 2",
                    "update s.p set v = v where id = 2",
                    "update s.c set x = x where x = 2",
                ][requests % 4];
                let asked = Instant::now();
                client.batch_execute(sql).unwrap();
                longest = longest.max(asked.elapsed());
                requests += 1;
                std::thread::sleep(Duration::from_millis(8));
            }
            (longest, requests)
        });
        for _ in 0..2 {
            std::thread::sleep(Duration::from_millis(200));
            let run = support::emaj(db)
                .args(["install", "--lock-timeout", "500ms", "--wait", "2s"])
                .run()
                .code(11);
            assert!(run.stderr.contains("night job"), "the one in the way is named: {run}");
        }
        stop.store(true, Ordering::Relaxed);
        application.join().unwrap()
    })
}

/// Runs what `emaj plan -o sql` says by psql, as the superuser.
fn run_script(db: &Database, manifest: &str) {
    let script = support::emaj(db)
        .args(["plan", "-o", "sql", manifest])
        .run()
        .ok()
        .stdout;
    let file = db.file("script.sql", &script);
    db.psql(&format!("\\i {}", file.display()));
}

#[test]
fn the_script_that_is_shown_does_what_install_does() {
    let db = support::database();
    db.client().batch_execute(SHOP).unwrap();
    let owner = support::owner(&db);
    let name = owner.name();
    db.psql(&format!(
        "grant usage on schema s, s2 to {name};
         do $$ declare t regclass; begin
           for t in select oid from pg_class where relnamespace in ('s'::regnamespace, 's2'::regnamespace) and relkind in ('r', 'p') loop
             execute format('alter table %s owner to {name}', t);
           end loop; end $$;
         alter schema s owner to {name}; alter schema s2 owner to {name}"
    ));
    let roles = [format!("{}_adm", db.name()), format!("{}_view", db.name())];
    for role in &roles {
        db.psql(&format!("create role {role}"));
    }
    let head = format!(
        "version: 1\nname: laws\nroles: {{ admin: {}, viewer: {} }}\n",
        roles[0], roles[1]
    );
    db.file(
        "a.yaml",
        &format!("{head}groups: {{ g: {{ tables: [s.a, s.p, s2.a] }} }}\n"),
    );
    db.file(
        "b.yaml",
        &format!("{head}groups: {{ g: {{ tables: [s.a, s.b, s.p], context: [application_name], retention: 3 days }}, log: {{ tables: [s.log], rollback: false, sequences: none }} }}\n"),
    );
    let empty = db.dump(&["-s"]);
    let settled = |file: &str| {
        let run = support::emaj(&db)
            .user(name)
            .args(["plan", "--detailed-exitcode", file])
            .run();
        assert_eq!(run.status, Some(0), "{run}");
    };
    let history = || {
        db.psql("select string_agg(hist_function || ' ' || hist_object || ' ' || hist_wording, ', ' order by hist_id) from emaj.emaj_hist where hist_function in ('INSTALL', 'UNINSTALL')")
    };
    // By install, as the owner: once new, and once changed.
    support::emaj(&db).user(name).args(["install", "a.yaml"]).run().ok();
    let first = db.dump(&["-s"]);
    support::emaj(&db)
        .user(name)
        .args(["install", "b.yaml", "--allow-destroy"])
        .run()
        .ok();
    let (second, told) = (db.dump(&["-s"]), history());
    assert_eq!(told.matches("INSTALL laws").count(), 2, "{told}");
    support::emaj(&db)
        .user(name)
        .args(["uninstall", "b.yaml", "--yes"])
        .run()
        .ok();
    assert_eq!(db.dump(&["-s"]), empty);
    // By the scripts, the first as the owner, the second by somebody who may act for them.
    let script = support::emaj(&db)
        .user(name)
        .args(["plan", "-o", "sql", "a.yaml"])
        .run()
        .ok()
        .stdout;
    let file = db.file("first.sql", &format!("set session authorization {name};\n{script}"));
    db.psql(&format!("\\i {}", file.display()));
    assert_eq!(db.dump(&["-s"]), first);
    settled("a.yaml");
    run_script(&db, "b.yaml");
    assert_eq!(db.dump(&["-s"]), second);
    settled("b.yaml");
    assert_eq!(history(), told);
    assert_eq!(
        db.psql(&format!(
            "select count(*) from pg_class where relnamespace = 'emaj'::regnamespace and relowner <> '{name}'::regrole"
        )),
        "0"
    );
    // It waits for an installation that is running.
    db.psql("alter table s.a add column late int");
    let script = support::emaj(&db)
        .args(["plan", "-o", "sql", "b.yaml"])
        .run()
        .ok()
        .stdout;
    let mut running = db.client();
    running
        .batch_execute("begin; select pg_advisory_xact_lock(hashtextextended('emaj install', 0))")
        .unwrap();
    let refused = db.client().batch_execute(&script).unwrap_err();
    assert_eq!(refused.code().map(|code| code.code()), Some("55P03"), "{refused}");
    running.batch_execute("rollback").unwrap();
    run_script(&db, "b.yaml");
    settled("b.yaml");
    // And what has nothing to do does nothing.
    let told = history();
    run_script(&db, "b.yaml");
    assert_eq!(history(), told);
    // The way back, too: with another manifest's group left the history says so.
    db.file(
        "two.yaml",
        "version: 1\nname: two\nroles: { admin: null, viewer: null }\ngroups: { h: { tables: [s.c] } }\n",
    );
    support::emaj(&db).user(name).args(["install", "two.yaml"]).run().ok();
    for (manifest, left) in [("b.yaml", 1), ("two.yaml", 0)] {
        let script = support::emaj(&db)
            .args(["uninstall", "--dry-run", "-o", "sql", manifest])
            .run()
            .ok()
            .stdout;
        let file = db.file("script.sql", &script);
        db.psql(&format!("\\i {}", file.display()));
        if left == 1 {
            assert!(history().contains("UNINSTALL laws"), "{}", history());
        }
    }
    db.psql("alter table s.a drop column late");
    assert_eq!(db.dump(&["-s"]), empty);
    for role in &roles {
        db.psql(&format!("drop role {role}"));
    }
}

#[test]
fn a_column_and_a_context_of_one_name_stand_beside_each_other() {
    let db = support::database();
    db.client().batch_execute(SHOP).unwrap();
    let install = |context: &str| {
        db.file(
            "emaj.yaml",
            &format!("{HEAD}groups: {{ g: {{ tables: [s.a]{context} }} }}\n"),
        );
        support::emaj(&db).args(["install"]).run().ok();
        no_changes(&db, "emaj.yaml");
    };
    let columns = || {
        db.psql(
            "select string_agg(attname, ',' order by attnum) from pg_attribute
              where attrelid = 'emaj.s_a_log'::regclass and attname ~ 'application_name'",
        )
    };
    let back = |change: &str| {
        let before = db.psql("select * from s.a order by id");
        db.psql("select emaj.emaj_set_mark_group('g', 'here')");
        db.psql(change);
        db.psql("select emaj.emaj_rollback_group('g', 'here'); select emaj.emaj_delete_mark_group('g', 'here')");
        assert_eq!(db.psql("select * from s.a order by id"), before);
    };
    install(", context: [application_name]");
    install("");
    db.psql("alter table s.a add column emaj_application_name text default 'mine'");
    install("");
    let both = columns();
    assert!(
        both.starts_with("emaj_application_name,emaj_application_name_"),
        "{both}"
    );
    back("update s.a set emaj_application_name = 'changed', v = 'x'; delete from s.a where id = 3");
    // The context comes back to its column.
    install(", context: [application_name]");
    assert_eq!(columns(), both);
    back("update s.a set emaj_application_name = 'again'");
    // Settings whose names come to the same, also as emaj's own.
    install(
        ", context: [\"setting:app.user_id\", \"setting:app_user.id\", \"setting:user\", application_name, \"setting:application_name\"]",
    );
    db.psql("set app.user_id = 'one'; set app_user.id = 'two'; insert into s.a (v) values ('by settings')");
    assert_eq!(
        db.psql("select \"emaj_setting_app.user_id\" || \"emaj_setting_app_user.id\" from emaj.s_a_log where v = 'by settings'"),
        "onetwo"
    );
    // And the other way round: the column was there first.
    support::emaj(&db).args(["uninstall", "--yes"]).run().ok();
    install("");
    assert_eq!(columns(), "emaj_application_name");
    install(", context: [application_name]");
    assert_eq!(columns().matches("emaj_application_name").count(), 2);
    back("update s.a set emaj_application_name = 'once more'; insert into s.a values (99, 'n', 'p')");
}

#[test]
fn a_relation_that_comes_late_says_which_marks_it_costs() {
    let db = support::database();
    db.client().batch_execute(SHOP).unwrap();
    let plan = |tables: &str, more: &str| {
        let text = format!("{HEAD}groups: {{ g: {{ tables: [{tables}]{more} }} }}\n");
        db.file("emaj.yaml", &text);
        support::emaj(&db).args(["plan", "-o", "json"]).run().ok().stdout_json()
    };
    let effect = |plan: &serde_json::Value, object: &str| {
        let steps = plan["steps"].as_array().unwrap();
        let step = steps.iter().find(|step| step["object"] == object);
        step.unwrap_or_else(|| panic!("no {object}: {plan}"))["effect"].to_string()
    };
    const COST: &str = "2 marks set before can no longer be rolled back to";
    let first = plan("s.a", "");
    assert!(!effect(&first, "capture of s.a").contains("mark"));
    support::emaj(&db).args(["install"]).run().ok();
    db.psql("select emaj.emaj_set_mark_group('g', 'early')");
    let late = plan("s.a, s.b", "");
    assert!(effect(&late, "capture of s.b").contains(COST), "{late}");
    assert!(effect(&late, "sequence s.b_id_seq").contains(COST), "{late}");
    // No mark of an audit-only group is ever rolled back to.
    let audit = plan("s.a, s.b", ", rollback: false");
    assert!(!effect(&audit, "capture of s.b").contains("mark"), "{audit}");
    plan("s.a, s.b", "");
    support::emaj(&db).args(["install"]).run().ok();
    let refused = db
        .client()
        .batch_execute("select emaj.emaj_rollback_group('g', 'early')")
        .unwrap_err();
    assert_eq!(refused.code().map(|code| code.code()), Some("EJ001"), "{refused}");
}

#[test]
fn a_group_that_becomes_audit_only_asks_before_it_loses_its_marks() {
    let db = support::database();
    db.client().batch_execute(SHOP).unwrap();
    let manifest = |more: &str| {
        let text = format!("{HEAD}groups: {{ g: {{ tables: [s.a]{more} }} }}\n");
        db.file("emaj.yaml", &text);
    };
    let install = |more: &[&str]| support::emaj(&db).args(["install"]).args(more).run();
    manifest("");
    install(&[]).ok();
    db.psql("select emaj.emaj_set_mark_group('g', 'early'); select emaj.emaj_protect_mark_group('g', 'early')");
    manifest(", rollback: false");
    let refused = install(&[]).code(4);
    support::said(&refused, "group g: 2 marks can no longer be rolled back to");
    db.psql("delete from s.a where id > 10; select emaj.emaj_rollback_group('g', 'early')");
    assert_eq!(
        db.psql("select count(*) from s.a"),
        "20",
        "what is refused costs nothing"
    );
    install(&["--allow-destroy"]).ok();
    manifest("");
    let back = install(&[]).ok();
    support::said(&back, "2 marks set before cannot be rolled back to");
    db.psql("delete from s.a where id > 10; select emaj.emaj_rollback_group('g', 'EMAJ_LAST_MARK')");
    assert_eq!(db.psql("select count(*) from s.a"), "20");
}

/// What the plan says of the tables, in `because` or in `object`.
fn planned(db: &Database) -> String {
    support::emaj(db).args(["plan", "-o", "json"]).run().ok().stdout
}

#[test]
fn a_table_that_was_renamed_is_told_by_both_names() {
    let db = support::database();
    db.client().batch_execute(SHOP).unwrap();
    let manifest = |tables: &str| {
        let text = format!("{HEAD}groups: {{ g: {{ tables: [{tables}], sequences: none }} }}\n");
        db.file("emaj.yaml", &text);
    };
    manifest("s.a, s.b");
    support::emaj(&db).args(["install"]).run().ok();
    db.psql("alter table s.a rename to new_a; alter table s.new_a rename v to w; alter table s.b rename to new_b");
    manifest("s.new_a");
    let plan = planned(&db);
    assert!(plan.contains("it was s.a; column v is w now\""), "{plan}");
    assert!(plan.contains("\"table s.new_b\""), "{plan}");
    assert!(
        plan.contains("it was s.b, and the manifest does not name s.new_b"),
        "{plan}"
    );
    support::emaj(&db).args(["install", "--allow-destroy"]).run().ok();
    support::emaj(&db).args(["plan", "--detailed-exitcode"]).run().code(0);
}

#[test]
fn another_table_in_the_place_of_a_renamed_one_is_drift() {
    let db = support::database();
    db.client().batch_execute(SHOP).unwrap();
    for (tables, left) in [("s.a", "s.a"), ("\"s.a*\"", "s.a, s.a_old")] {
        db.file(
            "emaj.yaml",
            &format!("{HEAD}groups: {{ g: {{ tables: [{tables}] }} }}\n"),
        );
        support::emaj(&db).args(["install", "--allow-destroy"]).run().ok();
        db.psql("alter table s.a rename to a_old; create table s.a (like s.a_old including all)");
        let reason = "it was s.a, and another table has that name now, which is not captured";
        let drift = support::emaj(&db).args(["drift"]).run();
        assert!(drift.stdout.contains(reason), "{drift}");
        for call in [
            "emaj_set_mark_group('g', 'x')",
            "emaj_rollback_group('g', 'EMAJ_LAST_MARK')",
        ] {
            let sql = format!("select emaj.{call}");
            let error = db.client().batch_execute(&sql).unwrap_err();
            assert!(described(&error).contains(reason), "{error:?}");
        }
        support::emaj(&db).args(["install", "--allow-destroy"]).run().ok();
        support::emaj(&db).args(["drift", "--detailed-exitcode"]).run().code(0);
        let captured = db.psql("select string_agg(format('%s.%s', rel_schema, rel_name), ', ' order by rel_name) from emaj.emaj_relation where rel_ended is null and rel_kind <> 'S'");
        assert_eq!(captured, left);
        db.psql("select emaj.emaj_set_mark_group('g', 'm'); insert into s.a (v) values ('x'); select emaj.emaj_rollback_group('g', 'm')");
        assert_eq!(db.psql("select count(*) from s.a"), "0");
        support::emaj(&db).args(["uninstall", "--yes"]).run().ok();
        db.psql("drop table s.a; alter table s.a_old rename to a");
    }
    // Two that exchange their names are both captured.
    db.file(
        "emaj.yaml",
        &format!("{HEAD}groups: {{ g: {{ tables: [s.a, s.c] }} }}\n"),
    );
    support::emaj(&db).args(["install"]).run().ok();
    db.psql("alter table s.a rename to x; alter table s.c rename to a; alter table s.x rename to c");
    db.psql("select emaj.emaj_set_mark_group('g', 'm')");
}

#[test]
fn a_capture_trigger_of_another_name_is_found_and_taken_away() {
    let db = support::database();
    db.client().batch_execute(SHOP).unwrap();
    let before = db.dump(&["-s"]);
    db.file(
        "emaj.yaml",
        &format!("{HEAD}groups: {{ g: {{ tables: [s.a, s.p] }} }}\n"),
    );
    support::emaj(&db).args(["install"]).run().ok();
    let rename = "alter trigger \"!emaj_del\" on s.a rename to foo; alter trigger \"!emaj_tru\" on s.p_1 rename to bar";
    let strays = || db.psql("select count(*) from pg_trigger where tgname in ('foo', 'bar', 'twin')");
    db.psql(rename);
    let drift = support::emaj(&db).args(["drift"]).run();
    assert!(
        drift
            .stdout
            .contains("trigger foo on s.a calls emaj's capture function"),
        "{drift}"
    );
    assert!(
        drift
            .stdout
            .contains("trigger bar on s.p_1 calls emaj's capture function"),
        "{drift}"
    );
    support::emaj(&db).args(["install", "--allow-destroy"]).run().ok();
    assert_eq!(strays(), "0");
    db.psql("select emaj.emaj_set_mark_group('g', 'm'); delete from s.a where id = 1");
    assert_eq!(
        db.psql("select count(*) from emaj.s_a_log where emaj_verb = 'DEL'"),
        "1"
    );
    db.psql("select emaj.emaj_rollback_group('g', 'm')");
    // One that somebody made beside the others.
    db.psql("create trigger twin after delete on s.a referencing old table as emaj_old for each statement execute function emaj.s_a_log()");
    let refused = db
        .client()
        .batch_execute("select emaj.emaj_set_mark_group('g', 'n')")
        .unwrap_err();
    assert!(described(&refused).contains("trigger twin on s.a"), "{refused:?}");
    db.psql("create trigger twin after insert on s.p_2 for each row execute function emaj.s_p_log()");
    support::emaj(&db).args(["install", "--allow-destroy"]).run().ok();
    assert_eq!(strays(), "0");
    // What captures goes with the group, whatever it is called, and with the schema.
    db.psql(rename);
    support::emaj(&db).args(["uninstall", "--yes"]).run().ok();
    assert_eq!((strays(), db.dump(&["-s"])), ("0".to_owned(), before));
    support::emaj(&db).args(["install"]).run().ok();
    db.psql(rename);
    db.psql("select emaj.emaj_stop_group('g'); select emaj.emaj_drop_group('g')");
    assert_eq!(strays(), "0");
}

#[test]
fn a_manifest_goes_from_a_partitioned_table_to_a_partition_and_back() {
    let db = support::database();
    db.client().batch_execute(SHOP).unwrap();
    for table in ["s.p", "s.p_1", "s.p"] {
        db.file(
            "emaj.yaml",
            &format!("{HEAD}groups: {{ g: {{ tables: [{table}] }} }}\n"),
        );
        support::emaj(&db).args(["install", "--allow-destroy"]).run().ok();
        support::emaj(&db).args(["plan", "--detailed-exitcode"]).run().code(0);
        db.psql("select emaj.emaj_set_mark_group('g', 'here'); update s.p_1 set v = 'x'");
        db.psql("select emaj.emaj_rollback_group('g', 'here'); select emaj.emaj_delete_mark_group('g', 'here')");
        assert_eq!(db.psql("select count(*) from s.p where v = 'x'"), "0");
    }
}

#[test]
fn a_schema_may_have_the_longest_of_names() {
    let db = support::database();
    db.client().batch_execute(SHOP).unwrap();
    let before = db.dump(&["-s"]);
    let schema = "é".repeat(31) + "x";
    let of = |schema: &str| format!("{HEAD}schema: {schema}\ngroups: {{ g: {{ tables: [s.a, s.p] }} }}\n");
    db.file("emaj.yaml", &of(&schema));
    support::emaj(&db).args(["install"]).run().ok();
    support::emaj(&db).args(["plan", "--detailed-exitcode"]).run().code(0);
    db.psql("update s.a set v = 'x'; update s.p set v = 'x'; truncate s.p_1");
    db.psql(&format!("select {schema}.emaj_rollback_group('g', 'EMAJ_LAST_MARK')"));
    assert_eq!(db.psql("select count(*) from s.a where v = 'x'"), "0");
    assert_eq!(db.psql("select count(*) from s.p where v = 'p'"), "20");
    support::emaj(&db).args(["uninstall", "--yes"]).run().ok();
    assert_eq!(db.dump(&["-s"]), before);
    db.file("emaj.yaml", &of(&(schema + "x")));
    let run = support::emaj(&db).args(["install"]).run().code(65);
    assert!(run.stderr.contains("63"), "{run}");
}

/// Names that break what is not quoted.
fn hostile(chance: &mut Chance, at: usize) -> String {
    const PARTS: &[&str] = &[
        "'",
        "\"",
        "$emaj$",
        "$q$",
        "$$",
        "\n",
        "\r",
        "\t",
        " ",
        "é",
        "日本",
        "🐘",
        "%s",
        "%I",
        "%1$s",
        "\\",
        "\\'",
        ";--",
        "/*",
        "*/",
        "{{ x }}",
        "{% raw %}",
        ".",
        ",",
        "(",
        ")",
        "[",
        "]",
        ":",
        "#",
        "&",
        "*",
        "!",
        "a",
        "B",
        "_",
        "null",
        "select",
        "emaj",
        "_log",
        "=",
        "|",
        "`",
        "\u{7f}",
        "\u{feff}",
        "$1",
        ":x",
        "?",
    ];
    let whole = [
        "emaj_gid",
        "emaj_verb",
        "emaj_tuple",
        "emaj_user",
        "emaj_ord",
        "emaj$1",
        "r",
        "g",
        "x",
        "t",
        "u",
        "d",
        "o",
        "stack",
        "names",
        "member",
        "old",
        "new",
        "tg_op",
        "emaj_new",
        "l",
        "f",
        "oid",
        "user",
    ];
    if at.is_multiple_of(3) && at / 3 < whole.len() {
        return whole[at / 3].to_owned();
    }
    let mut name: String = (0..1 + chance.below(8)).map(|_| *chance.pick(PARTS)).collect();
    if chance.happens(20) {
        name += &"é".repeat(32);
    }
    let mut name = name[..name.floor_char_boundary(58)].to_owned();
    write!(name, "{at}").unwrap();
    if chance.happens(10) {
        name = format!("{name}{}", "x".repeat(63 - name.len()));
    }
    name
}

#[test]
fn hostile_names_are_only_names() {
    let seed = support::seed();
    let mut chance = Chance::new(seed);
    let tables = support::scale(60);
    let db = support::database();
    let mut client = db.client();
    let q = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let mut made = Vec::new();
    let mut names = 0;
    let schemas: Vec<String> = (0..4).map(|at| hostile(&mut chance, 1000 + at)).collect();
    for schema in &schemas {
        client.batch_execute(&format!("create schema {}", q(schema))).unwrap();
    }
    for at in 0..tables {
        let table = format!("{}.{}", q(&schemas[at % 4]), q(&hostile(&mut chance, at)));
        let mut columns: Vec<String> = (0..6).map(|n| hostile(&mut chance, at * 6 + n)).collect();
        columns.sort();
        columns.dedup();
        names += columns.len() + 1;
        let list: Vec<String> = columns.iter().map(|column| format!("{} text", q(column))).collect();
        let key = q(&columns[0]);
        let kind = match at % 4 {
            0 => format!("primary key ({key})"),
            1 => format!("primary key ({key}) deferrable"),
            _ => format!(
                "constraint {} primary key ({key}, {})",
                q(&hostile(&mut chance, 5000 + at)),
                q(&columns[1])
            ),
        };
        let part = if at % 4 == 3 {
            format!(" partition by hash ({key})")
        } else {
            String::new()
        };
        client
            .batch_execute(&format!("create table {table} ({}, {kind}){part}", list.join(", ")))
            .unwrap();
        if at % 4 == 3 {
            let partition = format!("{}.{}", q(&schemas[0]), q(&hostile(&mut chance, 9000 + at)));
            client
                .batch_execute(&format!(
                    "create table {partition} partition of {table} for values with (modulus 1, remainder 0)"
                ))
                .unwrap();
        }
        let values = vec!["n::text"; columns.len()].join(", ");
        client
            .batch_execute(&format!(
                "insert into {table} select {values} from generate_series(1, 3) n"
            ))
            .unwrap();
        made.push((table, columns, values));
    }
    // YAML wants these two escaped, JSON does not.
    let quoted = |name: &String| {
        serde_json::to_string(name)
            .unwrap()
            .replace('\u{7f}', "\\x7f")
            .replace('\u{feff}', "\\ufeff")
    };
    let patterns: Vec<String> = made.iter().map(|(table, ..)| quoted(table)).collect();
    db.file(
        "emaj.yaml",
        &format!(
            "{HEAD}groups: {{ \"it's \\\"$emaj$\": {{ tables: [{}] }} }}\n",
            patterns.join(", ")
        ),
    );
    let group = "it's \"$emaj$";
    let before = db.dump(&["-s"]);
    let copy = |client: &mut postgres::Client| -> Vec<Vec<String>> {
        let rows = |(table, ..): &(String, _, _)| {
            client
                .query(&format!("select whole::text from {table} whole order by 1"), &[])
                .unwrap()
                .iter()
                .map(|row| row.get(0))
                .collect()
        };
        made.iter().map(rows).collect()
    };
    support::emaj(&db).args(["install"]).run().ok();
    support::emaj(&db).args(["plan", "--detailed-exitcode"]).run().ok();
    client
        .execute("select emaj.emaj_set_mark_group($1, $2)", &[&group, &"$q$ mark 'x'"])
        .unwrap();
    let first = copy(&mut client);
    for (table, columns, values) in &made {
        let (key, last) = (q(&columns[0]), q(&columns[columns.len() - 1]));
        client
            .batch_execute(&format!(
                "insert into {table} select {values} from generate_series(4, 6) n; update {table} set {last} = {last} || '.';
                 update {table} set {key} = {key} || 'k' where {key} < '3'; delete from {table} where {key} = '3'"
            ))
            .unwrap_or_else(|error| panic!("seed {seed}: {table}: {error:?}"));
    }
    let written = copy(&mut client);
    client
        .execute(
            "select emaj.emaj_logged_rollback_group($1, $2)",
            &[&group, &"$q$ mark 'x'"],
        )
        .unwrap();
    assert!(copy(&mut client) == first, "seed {seed}: the rollback is not exact");
    for (table, ..) in &made {
        client.batch_execute(&format!("truncate {table}")).unwrap();
    }
    let back: String = db.psql("select mark_name from emaj.emaj_mark where mark_name like 'RLBK%START'");
    client
        .execute("select emaj.emaj_rollback_group($1, $2)", &[&group, &back])
        .unwrap();
    assert!(
        copy(&mut client) == written,
        "seed {seed}: the rollback of the rollback is not exact"
    );
    client
        .query(
            "select * from emaj.emaj_detailed_log_stat_group($1, null, null)",
            &[&group],
        )
        .unwrap();
    client.query("select * from emaj._snap_queries($1)", &[&group]).unwrap();
    assert_eq!(db.psql("select * from emaj.emaj_verify_all()"), "No error detected");
    support::emaj(&db).args(["uninstall", "--yes"]).run().ok();
    assert!(
        db.dump(&["-s"]) == before,
        "seed {seed}: uninstall leaves something behind"
    );
    println!("hostile names: {names} in {tables} tables, 0 unquoted (seed {seed})");
}

#[test]
fn foreign_keys_that_lead_out_of_a_group_are_told_when_it_gets_tables() {
    let db = support::database();
    db.client().batch_execute(SHOP).unwrap();
    db.psql(
        "create table s.q (id int primary key, p_id int, p_r int, foreign key (p_r, p_id) references s.p_1 (r, id))",
    );
    let told = |groups: &str| {
        db.file("emaj.yaml", &format!("{HEAD}groups: {groups}\n"));
        let plan = support::emaj(&db).args(["plan", "-o", "json"]).run().ok().stdout_json();
        let notes = plan["notes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|note| note.as_str().unwrap());
        let ties = notes.filter_map(|note| note.split_once(": foreign keys lead out of it: "));
        ties.map(|(group, ties)| format!("{group}: {}", ties.split(';').next().unwrap()))
            .collect::<Vec<_>>()
    };
    // From inside and from outside; through a partition too.
    assert_eq!(told("{ g: { tables: [s.a] } }"), ["group `g`: s.b refers to s.a"]);
    assert_eq!(
        told("{ g: { tables: [s.b, s.p] } }"),
        ["group `g`: s.b refers to s.a, s.q refers to s.p_1"]
    );
    assert_eq!(
        told("{ g: { tables: [s.a] }, h: { tables: [s.b] } }"),
        ["group `g`: s.b refers to s.a", "group `h`: s.b refers to s.a"]
    );
    assert_eq!(told("{ g: { tables: [s.a, s.b, s.p, s.q] } }"), [""; 0]);
    assert_eq!(told("{ g: { tables: [s.a], rollback: false } }"), [""; 0]);
    // Once it was told, it is known.
    told("{ g: { tables: [s.a] } }");
    support::emaj(&db).args(["install"]).run().ok();
    assert_eq!(told("{ g: { tables: [s.a] } }"), [""; 0]);
    assert_eq!(told("{ g: { tables: [s.a, s.c] } }"), ["group `g`: s.b refers to s.a"]);
    // One that is not enforced ties nothing.
    if db.psql("select current_setting('server_version_num')::int >= 180000") == "t" {
        db.psql("alter table s.b alter constraint b_a_id_fkey not enforced");
        assert_eq!(told("{ g: { tables: [s.a, s.c] } }"), [""; 0]);
    }
}
