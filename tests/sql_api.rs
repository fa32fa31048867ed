//! The SQL interface, for batch jobs that only have a connection: E-Maj 0.8.0's names and arguments, over plain psql.

use std::process::Command;

use crate::support::shared_cluster;
use crate::support::story::{Story, stories};

/// Runs `sql` by psql as the teller of the story, as a cron job would; returns what it prints.
#[track_caller]
fn psql(story: &Story<'_>, sql: &str) -> String {
    let conninfo = story
        .role
        .as_ref()
        .map_or_else(|| story.db.conninfo(), |role| story.db.conninfo_as(role));
    let output = Command::new(shared_cluster().bindir().join("psql"))
        .args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            &conninfo,
            "-c",
            sql,
        ])
        .output()
        .expect("psql runs");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{sql}\n{complaint}");
    String::from_utf8(output.stdout).expect("UTF-8").trim_end().to_owned()
}

const TABLES: &str = "create table t (id serial primary key, v text); create table u (id int primary key); insert into t (v) values ('a'), ('b')";

stories! {
    every_function_can_be_called_as_before(story) {
        let signatures = [
            ("emaj_start_group", "text, text", "integer"), ("emaj_stop_group", "text", "integer"), ("emaj_set_mark_group", "text, text", "integer"),
            ("emaj_rollback_group", "text, text", "integer"), ("emaj_rollback_and_stop_group", "text, text", "integer"), ("emaj_reset_group", "text", "integer"),
            ("emaj_delete_mark_group", "text, text", "void"), ("emaj_rename_mark_group", "text, text, text", "void"),
            ("emaj_log_stat_group", "text, text, text", "record"), ("emaj_detailed_log_stat_group", "text, text, text", "record"),
            ("emaj_snap_group", "text, text", "integer"), ("emaj_verify_all", "", "text"), ("emaj_drop_group", "text", "integer"), ("emaj_force_drop_group", "text", "integer"),
        ];
        story.sql(TABLES);
        story.install("*");
        for (name, arguments, returns) in signatures {
            let found = psql(story, &format!(
                "select prorettype::regtype || ':' || left(oidvectortypes(proargtypes), {}) || ':' || (pronargs - pronargdefaults <= {})
                   from pg_proc where pronamespace = 'emaj'::regnamespace and proname = '{name}'",
                arguments.len(), arguments.split_terminator(", ").count()));
            assert_eq!(found, format!("{returns}:{arguments}:true"), "{name}");
        }
    }

    the_marks_of_rollbacks_do_not_grow(story) {
        story.sql(TABLES);
        story.install("*");
        for mark in ["m", "RLBK_", "RLBK_x_START"] {
            story.mark(mark);
            let mut target = mark.to_owned();
            for _ in 0..4 {
                story.sql("insert into t (v) values ('x')");
                story.logged_rollback(&target);
                target = story.last_start_mark();
                let length = story.ask(&format!("select length('{target}') - length('{mark}')"));
                assert_eq!(length, "38", "{target}");
                assert!(target.starts_with(&format!("RLBK_{mark}_2")), "{target}");
                // It is told what it was rolled back to: the mark itself, whatever the names of the two around it.
                let last = story.ask("select rlbk_mark from emaj.emaj_rollback order by rlbk_id desc limit 1");
                assert_eq!(story.ask(&format!("select count(*) from emaj.emaj_mark where mark_name = '{last}'")), "1");
            }
        }
    }

    a_nightly_batch(story) {
        story.options += "    state: idle\n";
        story.sql(TABLES);
        story.install("*");
        assert_eq!(psql(story, "select emaj.emaj_start_group('g', 'before batch')"), "3", "two tables and a sequence");
        let before = story.state();
        psql(story, "insert into t (v) values ('c'); insert into u values (1), (2); update t set v = 'x' where id = 1");
        assert_eq!(psql(story, "select emaj.emaj_set_mark_group('g', 'step 1')"), "3");
        let step = story.state();
        psql(story, "delete from u; update t set v = 'y'; insert into u values (7)");
        let stat = |from: &str, to: &str| psql(story, &format!("select stat_table, stat_rows from emaj.emaj_log_stat_group('g', {from}, {to}) order by 1"));
        assert_eq!(stat("'before batch'", "'step 1'"), "t|2\nu|2");
        assert_eq!(stat("'EMAJ_LAST_MARK'", "null"), "t|3\nu|3");
        assert_eq!(stat("null", "null"), "t|5\nu|5");
        let detail = psql(story, "select stat_group, stat_table, stat_verb, stat_rows, stat_role = session_user from emaj.emaj_detailed_log_stat_group('g', 'before batch', 'EMAJ_LAST_MARK') order by 2, 3");
        assert_eq!(detail, "g|t|INS|1|t\ng|t|UPD|1|t\ng|u|INS|2|t");
        assert_eq!(psql(story, "select emaj.emaj_rollback_group('g', 'EMAJ_LAST_MARK')"), "3");
        assert_eq!(story.state(), step);
        assert_eq!(psql(story, "select emaj.emaj_rename_mark_group('g', 'step 1', 'step one')"), "");
        assert_eq!(psql(story, "select emaj.emaj_rollback_and_stop_group('g', 'before batch')"), "3");
        assert_eq!(story.state(), before);
        assert_eq!(psql(story, "select emaj.emaj_stop_group('g')"), "0", "it is stopped already");
        assert_eq!(psql(story, "select emaj.emaj_reset_group('g')"), "3");
        assert_eq!(psql(story, "select count(*) from emaj.emaj_mark"), "0");
        assert_eq!(psql(story, "select emaj.emaj_verify_all()"), "No error detected");
        assert_eq!(psql(story, "select emaj.emaj_start_group('g', 'again')"), "3");
        assert_eq!(psql(story, "select emaj.emaj_set_mark_group('g', 'two'); select emaj.emaj_delete_mark_group('g', 'again')"), "3");
        assert_eq!(psql(story, "select mark_name from emaj.emaj_mark"), "two");
        assert_eq!(psql(story, "select emaj.emaj_stop_group('g')"), "3");
        assert_eq!(psql(story, "select emaj.emaj_drop_group('g')"), "3");
        assert_eq!(psql(story, "select count(*) from pg_trigger where not tgisinternal"), "0");
        assert_eq!(story.state(), before);
    }

    a_group_that_logs_or_is_broken_is_dropped_by_force(story) {
        story.sql(TABLES);
        story.install("*");
        story.sql("alter table t drop v cascade; do $$ begin execute format('drop table emaj.%I cascade', (select rel_log from emaj.emaj_relation where rel_name = 'u')); end $$; drop sequence t_id_seq cascade");
        assert_eq!(psql(story, "select emaj.emaj_force_drop_group('g')"), "3");
        assert_eq!(psql(story, "select count(*) from pg_trigger where not tgisinternal"), "0");
        assert_eq!(psql(story, "select count(*) from pg_class where relnamespace = 'emaj'::regnamespace and relname like '%\\_log'"), "0");
        psql(story, "insert into u values (1)");
    }

    names_of_marks_and_the_time_in_them(story) {
        story.sql(TABLES);
        story.install("*");
        psql(story, "select emaj.emaj_set_mark_group('g', 'at % sharp'); select emaj.emaj_set_mark_group('g', null); select emaj.emaj_set_mark_group('g', ''); select emaj.emaj_set_mark_group('g', 'O''Hara \"x\" $1 ü')");
        assert_eq!(psql(story, "select count(*) from emaj.emaj_mark where mark_name ~ '^at \\d{4}\\.\\d\\d\\.\\d\\d-\\d\\d\\.\\d\\d\\.\\d\\d\\.\\d+ sharp$'"), "1");
        assert_eq!(psql(story, "select count(*) from emaj.emaj_mark where mark_name ~ '^MARK_\\d{4}'"), "2");
        psql(story, "update t set v = 'x'; select emaj.emaj_logged_rollback_group('g', 'O''Hara \"x\" $1 ü')");
        assert_eq!(psql(story, "select string_agg(v, '' order by id) from t"), "ab");
        // A rollback to the end or the start of a rollback still has names that differ.
        for _ in 0..3 {
            psql(story, "select emaj.emaj_logged_rollback_group('g', 'EMAJ_LAST_MARK')");
        }
    }

    marks_of_a_deleted_past_take_their_log_rows_along(story) {
        story.sql(TABLES);
        story.install("*");
        story.mark("one");
        story.sql("insert into u values (1)");
        story.mark("two");
        let (before, definitions) = (story.state(), story.definitions());
        story.sql("insert into u values (2)");
        let first = psql(story, "select mark_name from emaj.emaj_mark order by mark_id limit 1");
        psql(story, &format!("select emaj.emaj_delete_mark_group('g', '{first}'); select emaj.emaj_delete_mark_group('g', 'one')"));
        assert_eq!(psql(story, "select stat_rows from emaj.emaj_log_stat_group('g', null, null) where stat_table = 'u'"), "1");
        story.rollback("two");
        story.is(&before, &definitions, "the younger mark has all it needs");
    }

    snap(story) {
        story.sql(TABLES);
        story.install("*");
        if story.role.is_some() {
            // Files of the server are for those who may write them.
            assert_eq!(story.fails("select emaj.emaj_snap_group('g', '/tmp')").code(), "42501");
            return;
        }
        let directory = psql(story, "select setting || '/base' from pg_settings where name = 'data_directory'");
        assert_eq!(psql(story, &format!("select emaj.emaj_snap_group('g', '{directory}')")), "3");
        let file = |name: &str| psql(story, &format!("select pg_read_file('{directory}/{name}')"));
        assert_eq!(file("app_t.snap"), "1\ta\n2\tb");
        assert_eq!(file("app_t_id_seq.snap"), "2\tt\t1\t1\t2147483647\t1\t1\tf");
    }
}
