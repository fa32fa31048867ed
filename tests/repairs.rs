//! Tables that lose columns, types or guards behind the back of emaj: writes go on, and an install repairs what is left for good.

use crate::support::story::{Story, stories};
use crate::support::{emaj, wait_for};

const TABLES: &str = "
    create table t (id int primary key, a int, b text);
    create table w (id int primary key, a int, b text);
    create table p (id int, r int, v text, primary key (id, r)) partition by list (r);
    create table p0 partition of p for values in (0);
    create table p1 (v text, r int not null, id int not null); alter table p attach partition p1 for values in (1);
    insert into t select i, i, 'b' || i from generate_series(1, 5) i; insert into w select i, i, 'b' || i from generate_series(1, 5) i;
    insert into p select i, i % 2, 'v' || i from generate_series(1, 6) i";

fn begin(story: &mut Story<'_>, options: &str) {
    if !options.is_empty() {
        story.options += "    table_options:\n";
    }
    for line in options.lines() {
        story.options += &format!("      {}.{line}\n", story.schema);
    }
    story.sql(TABLES);
    story.install("*");
    story.mark("m");
}

/// What one log says of changes since mark `m`: verb, tuple and values of a row each.
fn logged(story: &mut Story<'_>, table: &str, columns: &str) -> String {
    let log = story.ask(&format!(
        "select rel_log from emaj.emaj_relation where rel_name = '{table}' and rel_ended is null"
    ));
    story.ask(&format!(
        "select concat_ws(' ', emaj_verb, emaj_tuple, emaj_ord, {columns}) from emaj.{log} order by emaj_gid, emaj_ord, emaj_tuple desc, id"
    ))
}

/// Installs; nothing is left to do, and the group can be marked, changed and rolled back.
#[track_caller]
fn repaired(story: &mut Story<'_>, change: &str) {
    story.install("*");
    story.emaj(&["plan", "--detailed-exitcode"]).code(0);
    assert_eq!(story.ask("select emaj.emaj_verify_all()"), "No error detected");
    story.mark("repaired");
    let (state, definitions) = (story.state(), story.definitions());
    story.sql(change);
    story.rollback("repaired");
    story.is(&state, &definitions, "after the repair");
}

#[track_caller]
fn guarded(story: &mut Story<'_>, sql: &str) {
    assert_eq!(story.fails(sql).code(), "2BP01", "not guarded: {sql}");
}

stories! {
    a_table_dropped_with_its_guard_and_made_again_is_guarded(story) {
        begin(story, "");
        story.sql("drop table t cascade; create table t (id int primary key, a int, b text)");
        repaired(story, "insert into t values (1, 1, 'x')");
        guarded(story, "alter table t drop column b");
        guarded(story, "drop table t");
    }

    a_column_dropped_with_the_guard_and_installed_is_guarded(story) {
        begin(story, "");
        story.sql("alter table t drop column b cascade; alter table p drop column v cascade");
        repaired(story, "update t set a = 0; insert into p values (50, 1)");
        guarded(story, "alter table t drop column a");
        guarded(story, "drop table p");
    }

    a_log_and_its_function_dropped_are_made_again(story) {
        begin(story, "");
        story.sql("do $$ declare log text := (select rel_log from emaj.emaj_relation where rel_name = 't'); begin
            execute format('drop table emaj.%I cascade', log); execute format('drop function emaj.%I() cascade', log); end $$");
        repaired(story, "update t set a = 0; delete from t where id = 2");
    }

    writes_go_on_when_the_guard_was_dropped_with_a_column(story) {
        begin(story, "w: { capture: row }");
        // Plans are made and kept before.
        let writes = |n: i32| format!(
            "insert into t (id, a) values ({n}, 7); update t set a = a + 1 where id = {n}; update t set a = 0 where id in (1, 2); delete from t where id = {n};
             insert into w (id, a) values ({n}, 7); update w set a = 8 where id = {n}; delete from w where id = {n};
             insert into p (id, r) values ({n}, 0), ({n}, 1); update p set r = 1 - r where id = {n} and false; update p set id = id + 1 where id = {n}; delete from p where id = {n} + 1");
        story.sql(&writes(100));
        // In another session too, and in the transaction that drops them; what is undone is no matter.
        let mut other = match &story.role { Some(role) => story.db.client_as(role), None => story.db.client() };
        other.batch_execute(&format!("set search_path = {}", story.schema)).unwrap();
        other.batch_execute(&writes(200)).unwrap();
        let drops = "alter table t drop column b cascade; alter table w drop column b cascade; alter table p drop column v cascade";
        story.sql(&format!("begin; {drops}; {}; rollback", writes(300)));
        story.sql("insert into t values (301, 1, 'kept'); insert into w values (301, 1, 'kept'); insert into p values (301, 0, 'kept'), (301, 1, 'kept')");
        for (table, columns, rows) in [("t", "id, a, b", "INS NEW 301 1 kept"), ("w", "id, a, b", "INS NEW 301 1 kept"), ("p", "id, r, v", "INS NEW 301 0 kept\nINS NEW 301 1 kept")] {
            assert!(logged(story, table, columns).ends_with(rows), "{table}");
        }
        story.sql(&format!("begin; {drops}; {}; commit", writes(400)));
        story.sql(&writes(500));
        other.batch_execute(&writes(600)).unwrap();
        story.sql("truncate t, w, p");
        // Every change is in the log, with what the table still has.
        let log = logged(story, "t", "id, a, b");
        for rows in ["INS NEW 600 7\nUPD OLD 1 600 7\nUPD NEW 1 600 8\n", "UPD OLD 1 1 0\nUPD NEW 1 1 0\nUPD OLD 2 2 0\nUPD NEW 2 2 0\nDEL OLD 600 8"] {
            assert!(log.contains(rows), "{rows} is not in {log}");
        }
        assert!(log.contains("TRU OLD 301 1\n") && log.trim_end().ends_with("\nTRU"), "{log}");
        let log = logged(story, "w", "id, a, b");
        assert!(log.contains("INS NEW 600 7\nUPD OLD 600 7\nUPD NEW 600 8\nDEL OLD 600 8"), "{log}");
        let log = logged(story, "p", "id, r, v");
        for row in ["INS NEW 600 0", "INS NEW 600 1", "UPD NEW 601 0", "UPD NEW 601 1", "DEL OLD 601 1", "TRU OLD 301 0"] {
            assert!(log.contains(row), "{row} is not in {log}");
        }
        for call in ["emaj_set_mark_group('g', 'x')", "emaj_rollback_group('g', 'm')"] {
            let said = story.refused(&format!("select emaj.{call}"));
            assert!(said.contains("t: the captured column b is gone") && said.contains("p: the captured column v is gone"), "{said}");
        }
        repaired(story, "insert into t values (1, 1); insert into w values (1, 1); insert into p values (1, 1)");
    }

    writes_go_on_without_a_guard(story) {
        begin(story, "t: { guard: false }\nw: { guard: false, capture: row }\np: { guard: false }");
        story.sql("insert into t values (10, 1, 'x'); insert into w values (10, 1, 'x'); insert into p values (10, 1, 'x')");
        // A column that goes, one that gets another type, and a new one in between: no value ends in the column of another.
        story.sql("alter table t drop column a, add column z text; alter table w alter column a type text, add column z text; alter table p drop column v, add column z int");
        story.sql("insert into t values (11, 'b', 'z'); update t set b = 'c' where id = 11; insert into w values (11, 'a', 'b', 'z'); update w set b = 'c' where id = 11; insert into p values (11, 0, 5), (11, 1, 5); delete from p where id = 11");
        assert!(logged(story, "t", "a, id, b").ends_with("INS NEW 11 b\nUPD OLD 1 11 b\nUPD NEW 1 11 c"));
        assert!(logged(story, "w", "a, id, b").ends_with("INS NEW 11 b\nUPD OLD 11 b\nUPD NEW 11 c"));
        assert!(logged(story, "p", "id, r, v").ends_with("DEL OLD 11 0\nDEL OLD 11 1"));
        let said = story.refused("select emaj.emaj_set_mark_group('g', 'x')");
        assert!(said.contains("t: the captured column a is gone") && said.contains("w: the type of column a is now text and was integer"), "{said}");
        repaired(story, "update t set z = 'y'; update w set a = 'y'; update p set z = 1");
    }

    a_captured_table_becomes_a_partition(story) {
        story.sql("create table whole (id int, k int, v text, primary key (id, k)) partition by list (k);
            create table part partition of whole for values in (1);
            create table nested (id int, k int, v text, primary key (id, k)) partition by list (id);
            create table nested_7 partition of nested for values in (7);
            create table plain (id int, k int, v text, primary key (id, k));
            insert into whole values (1, 1, 'x'); insert into nested values (7, 4, 'x'); insert into plain values (1, 5, 'x')");
        story.install("*");
        story.mark("before");
        let drift = |story: &Story<'_>| story.emaj(&["drift"]).ok().stdout;
        // By row: PostgreSQL refuses it, and the application is as it was. By statement: that is drift, before anything goes wrong.
        assert_eq!(story.fails("alter table whole attach partition nested for values in (4)").code(), "42710");
        story.sql("alter table whole attach partition plain for values in (5); insert into whole values (2, 5, 'captured twice'), (7, 1, 'new')");
        let told = drift(story);
        assert!(told.contains("the table has become a partition"), "{told}");
        for refused in ["select emaj.emaj_set_mark_group('g', 'x')", "select emaj.emaj_rollback_group('g', 'before')"] {
            let told = story.refused(refused);
            assert!(told.contains("plain"), "{told}");
        }
        // The way: release, attach, install.
        let nested = format!("{}.nested", story.schema);
        story.emaj(&["release", &nested, "--yes"]).ok();
        story.sql("alter table whole attach partition nested for values in (4); insert into whole values (7, 4, 'y') on conflict do nothing");
        story.install("*");
        story.emaj(&["plan", "--detailed-exitcode"]).code(0);
        assert_eq!(story.ask("select string_agg(rel_name, ' ' order by rel_name) from emaj.emaj_relation where rel_ended is null and rel_kind <> 'S'"), "whole");
        let definitions = story.definitions();
        story.mark("after");
        let state = story.state();
        story.sql("insert into whole values (3, 5, 'a'), (3, 1, 'b'); update whole set v = 'c'; update whole set k = 5 where k = 4; truncate nested; delete from plain where id = 1");
        story.logged_rollback("after");
        story.is(&state, &definitions, "what was attached goes back with the whole");
    }

    an_install_overtaken_by_an_alter_is_taken_back(story) {
        for state in ["logging", "idle"] {
            story.options = format!("    sequences: none\n    state: {state}\n");
            story.sql(&format!("create table first_{state} (id int primary key)"));
            let mut other = match &story.role { Some(role) => story.db.client_as(role), None => story.db.client() };
            other.batch_execute(&format!("set search_path = {}", story.schema)).unwrap();
            story.install(&format!("first_{state}"));
            story.sql(&format!("create table z_{state} (id int primary key, v int)"));
            other.batch_execute(&format!("begin; alter table z_{state} alter column v type bigint")).unwrap();
            let manifest = story.manifest(&format!("{0}.first_{state}, {0}.z_{state}", story.schema));
            story.db.file("emaj.yaml", &manifest);
            let install = emaj(story.db).args(["install", "--lock-timeout", "60s"]);
            let install = match &story.role { Some(role) => install.user(role), None => install };
            let waiting = format!("select 1 from pg_locks where not granted and relation = '{}.z_{state}'::regclass", story.schema);
            let db = story.db;
            let run = std::thread::scope(|scope| {
                let installing = scope.spawn(|| install.run());
                // It has read the old column, and waits for the lock.
                wait_for("the install to wait", 60, || (db.psql(&waiting) == "1").then_some(()));
                other.batch_execute("commit").unwrap();
                installing.join().unwrap()
            });
            let run = run.code(4);
            assert!(run.stderr.contains("the type of column v is now bigint and was integer"), "{run}");
            story.sql(&format!("insert into z_{state} values (1, 4294967296)"));
            assert_eq!(story.ask(&format!("select count(*) from emaj.emaj_relation where rel_name = 'z_{state}'")), "0", "nothing was installed");
            story.install_manifest(&manifest).ok();
            story.sql(&format!("insert into z_{state} values (2, 4294967296)"));
            story.emaj(&["uninstall", "--all", "--yes"]).ok();
        }
    }
}
