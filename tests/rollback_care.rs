//! What stands around a rollback: its comment, how long it would take, how far it is, and making it unlogged afterwards.

use emaj::cluster::Cluster;

use crate::support::emaj_alone;
use crate::support::story::{Story, Who, stories, tell};
use crate::support::{said, until};

const TABLES: &str = "create table t (id int primary key, v text); create table u (id int primary key, v text);
    insert into t select n, 'a' from generate_series(1, 20) n; insert into u select n, 'a' from generate_series(1, 20) n";

fn prepared(story: &mut Story<'_>) {
    story.sql(TABLES);
    story.install("*");
    story.mark("m");
}

stories! {
    // Up to 16 such a table counts as one row while nobody has analyzed it.
    a_wide_table_that_was_never_analyzed_has_its_log_read_a_few_times(story) {
        let columns: Vec<String> = (1..=300).map(|n| format!("c{n} text")).collect();
        story.sql(&format!(
            "create table wide (id int primary key, {}) with (autovacuum_enabled = off); insert into wide (id) select generate_series(1, 500)",
            columns.join(", ")
        ));
        story.install("*");
        story.mark("m");
        story.sql("update wide set c2 = '5'; begin");
        story.rollback("m");
        let scans = story.ask(
            "select sum(coalesce(s.seq_scan, 0) + coalesce(s.idx_scan, 0)) < 50
               from pg_stat_xact_all_tables s join emaj.emaj_relation on rel_log = s.relname and s.schemaname = 'emaj'",
        );
        assert_eq!(scans, "t");
        story.sql("rollback");
    }

    // (A table of this size that was never analyzed is looked into.)
    who_alters_a_table_elsewhere_holds_nobody(story) {
        for table in ["elsewhere", "t"] {
            story.sql(&format!("create table {table} (id int primary key, v text) with (autovacuum_enabled = off);
                insert into {table} select n, 'a' from generate_series(1, 200) n"));
        }
        story.install("t");
        story.mark("m");
        story.sql("update t set v = 'b'");
        let role = story.role.clone().unwrap_or_else(|| "postgres".to_owned());
        let mut other = story.db.client();
        other.batch_execute(&format!("begin; lock table {}.elsewhere", story.schema)).unwrap();
        for act in [
            &["rollback", "g", "m", "--estimate"][..],
            &["rollback", "g", "m", "--dry-run"],
            &["revert", "g", "--from", "m", "--user", &role, "--dry-run"],
            &["changes", "g", "--from", "m"],
            &["at", "g", "m", "select count(*) from t"],
            &["stat", "g", "--from", "m"],
            &["rollback", "g", "m", "--yes"],
            &["mark", "set", "g", "n"],
            &["group", "purge", "g"],
            &["group", "stop", "g"],
            &["group", "start", "g"],
            &["verify"],
            &["status"],
            &["doctor"],
            &["drift"],
            &["install"],
        ] {
            // (Whatever way the planner goes to find a relation: here it reads of all of them.)
            let settings = "-c lock_timeout=3s -c enable_indexscan=off -c enable_bitmapscan=off";
            story.prepare(act).env("PGOPTIONS", settings).run().ok();
        }
    }

    // The server ends the one who looks for a deadlock last: that would be the application.
    who_locks_in_another_order_goes_on(story) {
        prepared(story);
        story.sql("update t set v = 'b'; update u set v = 'b'");
        story.mark("b");
        // (Whichever of the two it takes first.)
        for (act, first, second) in [
            (&["rollback", "g", "m", "--yes"][..], "t", "u"), (&["rollback", "g", "m", "--yes"], "u", "t"),
            (&["group", "stop", "g"], "t", "u"), (&["group", "start", "g"], "t", "u"), (&["group", "stop", "g"], "u", "t"), (&["group", "start", "g"], "u", "t"),
        ] {
            story.sql(&format!("begin; update {first} set v = 'c' where id = 1"));
            let run = story.prepare(act);
            let waiting = std::thread::spawn(move || run.run());
            until("the wait", || story.ask("select count(*) > 0 from pg_locks where not granted and relation in ('t'::regclass, 'u'::regclass)") == "t");
            story.sql(&format!("update {second} set v = 'c' where id = 1"));
            until("the next try", || story.ask("select count(*) from pg_locks where not granted and relation in ('t'::regclass, 'u'::regclass)") == "1");
            story.sql("commit");
            waiting.join().unwrap().ok();
        }
    }

    a_constraint_that_came_after_the_mark_is_named_as_a_reason(story) {
        story.sql("create table p (id int primary key); create table c (id int primary key, p int, n int);
                   insert into p values (1); insert into c values (1, 1, 1), (2, 77, 1)");
        story.install("*");
        story.mark("m");
        story.sql("delete from c where id = 2; update c set n = 5");
        let role = story.role.clone().unwrap_or_else(|| "postgres".to_owned());
        for constraint in ["foreign key (p) references p", "unique (n)", "exclude using btree (n with =)", "check (n > 1)"] {
            story.sql(&format!("alter table c add constraint later {constraint}"));
            let everything = story.everything();
            let rollback = story.emaj(&["rollback", "g", "m", "--yes"]).code(4);
            let hint = rollback.stderr.lines().find(|line| line.starts_with("hint: ")).unwrap_or_default();
            assert!(hint.contains("take that out first, or choose a later mark"), "{constraint}: {rollback}");
            let revert = story.emaj(&["revert", "g", "--user", &role, "--from", "m", "--yes"]).code(4);
            let hints = match constraint.starts_with("check") {
                true => "take that out first",
                false => "a constraint that came since has to be taken out first",
            };
            assert!(revert.stderr.contains(hints), "{constraint}: {revert}");
            story.unchanged(&everything);
            story.sql("alter table c drop constraint later");
        }
        story.emaj(&["rollback", "g", "m", "--yes"]).ok();
    }

    a_mark_with_the_longest_name_is_a_target(story) {
        prepared(story);
        let before = story.state();
        // As many bytes as a name may have; the cut falls between two letters of two bytes.
        let name = format!("x{}y", "é".repeat(99));
        story.mark(&name);
        story.sql("delete from t");
        story.logged_rollback(&name);
        assert_eq!(story.state(), before);
        let start = story.last_start_mark();
        assert!(start.starts_with(&format!("RLBK_x{}_2", "é".repeat(79))), "{start}");
        story.logged_rollback(&start);
        assert_eq!(story.ask("select count(*) from t"), "0");
        story.emaj(&["rollback", "g", &name, "--yes", "--jobs", "2"]).ok();
        assert_eq!(story.state(), before);
    }

    whatever_it_tells_of_itself_it_is_listed(story) {
        prepared(story);
        let most = i64::MAX;
        story.sql(&format!("begin; set local emaj.progress = '9999'; select emaj._rollback_tell(4294967295, 'working', {most}, {most}, {most}, {most}, now())"));
        let listed = "select concat_ws(' ', act_rollback, act_lane, act_phase, act_tables_done, act_tables, act_rows_done, act_rows) from emaj.emaj_rollback_activity()";
        assert_eq!(story.ask(listed), "4294967295 255 working 65535 65535 4294967295 4294967295", "as much as there is room for");
        story.sql("rollback; begin; set local emaj.progress = '12'; select emaj._rollback_tell(1234567, 'finishing', 300, 1000, 5000000, 10000000, clock_timestamp() - interval '100 s')");
        assert_eq!(story.ask(listed), "1234567 12 finishing 300 1000 5000000 10000000");
        assert_eq!(story.ask("select bool_and(act_seconds >= 99 and act_seconds_left = act_seconds) from emaj.emaj_rollback_activity()"), "t");
        story.sql("rollback");
        assert_eq!(story.ask(listed), "");
    }

    before_the_first_table_is_done_the_time_left_is_what_was_estimated(story) {
        prepared(story);
        let mut left = |pace: &str, seconds: i64| {
            story.sql(&format!(
                "delete from emaj.emaj_param where param_key = 'estimate_row'; insert into emaj.emaj_param (param_key, param_value_interval) values ('estimate_row', '{pace}');
                 begin; select emaj._rollback_tell(1, 'working', 0, 1, 0, 100000, clock_timestamp() - interval '{seconds} s')"
            ));
            let left = story.ask("select coalesce(act_seconds_left, -1) from emaj.emaj_rollback_activity()");
            story.sql("rollback");
            left.parse::<f64>().unwrap()
        };
        assert!((80.0..=91.0).contains(&left("1 ms", 10)));
        assert_eq!(left("0.1 ms", 11), -1.0, "it takes longer than was thought");
    }

    a_parallel_worker_of_the_server_is_no_session_of_a_rollback(story) {
        prepared(story);
        let table = format!("{}.t", story.schema);
        let mut workers = [story.db.client(), story.db.client()];
        story.sql("begin; lock table t in exclusive mode; select emaj._rollback_tell(1, 'looking', 0, 1, 0, 0, clock_timestamp())");
        let (name, pid) = (story.ask("show application_name"), story.ask("select pg_backend_pid()"));
        for worker in &mut workers {
            worker.batch_execute(&format!("set application_name = '{name}'; begin; lock table {table} in access share mode")).unwrap();
        }
        assert_eq!(story.ask("select concat_ws(' ', act_pid, act_lane, act_groups) from emaj.emaj_rollback_activity()"), format!("{pid} 1 {{g}}"));
        story.sql("rollback");
    }

    another_installation_sees_what_a_rollback_does(story) {
        prepared(story);
        let manifest = story.manifest(&format!("{}.*", story.schema)).replace("version: 1", "version: 1\nname: other\nschema: beside").replace("  g:", "  other:");
        let other = story.db.file("other.yaml", &manifest);
        let plan = story.emaj(&["plan", other.to_str().unwrap()]).ok();
        said(&plan, "emaj is in schema emaj as well, and stays there");
        story.emaj(&["install", other.to_str().unwrap()]).ok();
        let (state, definitions) = (story.state(), story.definitions());
        for way in [&["--yes"][..], &["--yes", "--unlogged"], &["--yes", "--jobs", "2"]] {
            story.sql("select beside.emaj_set_mark_group('other', 'here'); update t set v = 'b'; delete from u");
            story.emaj(&[&["rollback", "g", "m", "--schema", "emaj"][..], way].concat()).ok();
            assert_eq!(story.ask("select sum(stat_rows) from beside.emaj_log_stat_group('other', 'here', null)"), "80", "{way:?}");
            story.sql("select beside.emaj_rollback_group('other', 'here'); select beside.emaj_delete_mark_group('other', 'here')");
            story.is(&state, &definitions, "back and back again");
        }
        story.emaj(&["uninstall", "--yes", other.to_str().unwrap()]).ok();
    }

    installations_do_not_hold_each_other_up(story) {
        prepared(story);
        let manifest = story.manifest(&format!("{}.*", story.schema)).replace("version: 1", "version: 1\nname: other\nschema: beside");
        let manifest = story.db.file("other.yaml", &manifest);
        story.emaj(&["install", manifest.to_str().unwrap()]).ok();
        story.sql("select beside.emaj_set_mark_group('g', 'a'); select beside.emaj_set_mark_group('g', 'b')");
        // The other one counts, and begins to read.
        let mut other = story.db.client();
        other.batch_execute("begin; select beside.emaj_count_group('g'); select beside._begin_to_read()").unwrap();
        assert_ne!(story.ask("select emaj.emaj_count_group('g')"), "0");
        story.sql("select emaj._begin_to_read(); select emaj.emaj_rollback_group('g', 'm')");
    }

    tables_that_exchanged_their_names_are_called_by_them(story) {
        prepared(story);
        story.sql("delete from u where id <= 3; alter table t rename to was_t; alter table u rename to t; alter table was_t rename to u");
        let schema = story.schema.clone();
        let run = |args: &[&str]| story.emaj(args).ok().stdout;
        for args in [
            &["stat", "g", "--from", "m"][..], &["stat", "g", "--from", "m", "--detailed"], &["stat", "g", "--from", "m", "--intervals"],
            &["rollback", "g", "m", "--dry-run"],
            &["revert", "g", "--from", "m", "--table", &format!("{schema}.t"), "--key", "id=3", "--dry-run"],
            &["revert", "g", "--from", "m", "--table", &format!("{schema}.t"), "--key", "id=3", "--yes"],
            &["rollback", "g", "m", "--yes"], &["rollback", "g", "m", "--yes", "--jobs", "2"],
        ] {
            let said = run(args);
            let names = |table: &str| said.lines().any(|line| line.contains(&format!("{schema}.{table}")) && !line.ends_with(" 0"));
            assert!(names("t") && !names("u"), "{args:?}: {said}");
        }
        story.sql("delete from t where id = 4; alter table u rename to other");
        let (table, other) = (format!("{schema}.t"), format!("{schema}.u"));
        for form in [&[][..], &["--detailed"], &["--intervals"]] {
            let stat = |name: &str| story.emaj(&[&["stat", "g", "--from", "m", "--table", name][..], form].concat());
            let said = stat(&table).ok();
            assert!(said.stdout.lines().any(|line| line.contains(&table) && !line.ends_with(" 0")), "{form:?}: {said}");
            let refused = stat(&other).code(4);
            assert!(refused.stderr.contains(&format!("table `{other}` is not in `g`")), "{form:?}: {refused}");
        }
        // In SQL as well.
        assert_eq!(story.ask("select sum(stat_changes) > 0 from emaj.emaj_log_stat_table(current_schema, 't', 'g', 'm')"), "t");
        assert!(story.refused("select emaj.emaj_log_stat_table(current_schema, 'u')").contains("u is in no group"));
        story.rollback("m");
        assert_eq!(story.ask("select count(*) from t"), "20");
        story.sql("create sequence numbers");
        story.install("*");
        story.mark("n");
        story.sql("select nextval('numbers'); alter sequence numbers rename to others");
        assert_eq!(story.ask("select stat_increments from emaj.emaj_log_stat_sequence(current_schema, 'others', 'g', 'n')"), "1");
        assert!(story.refused("select emaj.emaj_log_stat_sequence(current_schema, 'numbers')").contains("numbers is in no group"));
        let refused = story.refused("select emaj.emaj_rollback_group('g', 'm')");
        assert!(refused.contains("others is captured only since a later moment"), "{refused}");
    }

    a_comment_stays_with_its_rollback(story) {
        prepared(story);
        story.sql("update t set v = 'b'; delete from u");
        let run = story.emaj(&["rollback", "g", "m", "--yes", "--comment", "wrong import", "-o", "json"]).ok();
        let report = run.stdout_json();
        assert_eq!(report["comment"], "wrong import");
        let id = report["id"].as_i64().unwrap();
        let list = story.emaj(&["rollback", "--list", "g", "-o", "json"]).ok().stdout_json();
        assert_eq!(list["past"][0]["comment"], "wrong import");
        assert_eq!((list["past"][0]["rows"].as_i64(), list["past"][0]["id"].as_i64()), (Some(40), Some(id)));
        assert!(story.emaj(&["rollback", "--list"]).ok().stdout.contains("wrong import"));
        assert!(story.emaj(&["history"]).ok().stdout.contains("wrong import"));
        story.sql(&format!("select emaj.emaj_comment_rollback({id}, 'the import of Monday')"));
        assert!(story.emaj(&["rollback", "--list"]).ok().stdout.contains("the import of Monday"));
        assert!(story.refused("select emaj.emaj_comment_rollback(4711, 'x')").contains("there is no rollback 4711"));
        story.sql("update t set v = 'c'; delete from u");
        story.emaj(&["rollback", "g", "m", "--yes", "--jobs", "2", "--comment", "by two"]).ok();
        assert_eq!(story.ask("select rlbk_comment from emaj.emaj_rollback order by rlbk_id desc limit 1"), "by two");
    }

    one_of_a_thing_is_told_as_one(story) {
        story.sql("create table t (id int primary key)");
        story.install("t");
        story.mark("m");
        for act in [
            "insert into t values (1)", "select emaj.emaj_logged_rollback_group('g', 'm')", "select emaj.emaj_delete_before_mark_group('g', 'm')",
            "insert into t values (1)", "select emaj.emaj_revert_group('g', null, null, null, 't'::regclass, '{\"id\": 1}', false)",
            "select emaj.emaj_stop_group('g')", "select emaj.emaj_start_group('g', 'anew')",
        ] {
            story.sql(act);
        }
        assert_eq!(
            story.ask("select hist_wording from emaj.emaj_hist where hist_event = 'END' or hist_function = 'DELETE_BEFORE_MARK_GROUP' order by hist_id"),
            "1 relation\n1 table changed (plain)\n1 mark before m\n1 row of 1 table\n1 relation"
        );
    }

    an_estimate_goes_by_earlier_rollbacks_and_never_overflows(story) {
        prepared(story);
        let estimate = "select emaj.emaj_estimate_rollback_group('g', 'm')";
        assert_eq!(story.ask(estimate), "00:00:00");
        story.sql("insert into t select n, 'new' from generate_series(1001, 3000) n; update u set v = 'b'");
        // 2 tables at 5 ms, 2,020 changes at 10 µs.
        assert_eq!(story.ask(estimate), "00:00:00.03");
        story.sql("insert into emaj.emaj_param (param_key, param_value_interval) values ('estimate_row', '1 s'), ('estimate_table', '0 s')");
        assert_eq!(story.ask(estimate), "00:33:40");
        // Earlier ones count more: of this table two changes a second, of the other one the pace of all.
        let earlier = |logged: bool, changes: &str, took: &str| format!(
            "with r as (insert into emaj.emaj_rollback (rlbk_groups, rlbk_mark, rlbk_logged, rlbk_end) values ('{{g}}', 'm', {logged}, now()) returning rlbk_id)
             insert into emaj.emaj_rollback_table (rlbt_rollback, rlbt_rel, rlbt_schema, rlbt_table, rlbt_log_inserts, rlbt_log_updates, rlbt_log_deletes,
                 rlbt_keys_changed, rlbt_one_statement, rlbt_single, rlbt_duration)
             select rlbk_id, rel_id, rel_schema, rel_name, {changes}, 0, 0, false, true, true, '{took}' from r, emaj.emaj_relation where rel_name = 't'");
        story.sql(&earlier(true, "5000", "2500 s"));
        assert_eq!(story.ask(estimate), "00:16:50");
        // Those of its own kind before others.
        story.sql(&earlier(false, "5000", "50 s"));
        assert_eq!(story.ask("select emaj.emaj_estimate_rollback_group('g', 'm', true) > emaj.emaj_estimate_rollback_group('g', 'm', false)"), "t");
        let run = story.emaj(&["rollback", "g", "m", "--estimate", "--jobs", "2", "-o", "json"]).ok();
        let shown = run.stdout_json();
        let one = story.emaj(&["rollback", "g", "m", "--estimate", "-o", "json"]).ok().stdout_json();
        assert_eq!((shown["sessions"].as_i64(), one["sessions"].as_i64()), (Some(2), Some(1)));
        assert!(shown["seconds"].as_f64() < one["seconds"].as_f64(), "{shown} {one}");
        assert!(story.emaj(&["rollback", "g", "m", "--estimate"]).ok().stderr.contains("would take about"));
        // The largest there is.
        for (changes, took) in [("9223372036854775807", "1 us"), ("1000", "178000000 years"), ("1000", "178000000 years")] {
            story.sql(&earlier(true, changes, took));
            story.ask(estimate);
            story.emaj(&["rollback", "g", "m", "--estimate"]).ok();
        }
        story.sql("delete from emaj.emaj_rollback where rlbk_id = 1 or exists (select from emaj.emaj_rollback_table where rlbt_rollback = rlbk_id and rlbt_log_inserts > 5000)");
        assert_ne!(story.ask(estimate), "00:00:00");
        assert!(story.refused("select emaj.emaj_estimate_rollback_group('g', 'nope')").contains("no mark `nope`"));
        assert!(story.refused("select emaj.emaj_estimate_rollback_group('nope', 'm')").contains("unknown group"));
        assert_eq!(story.ask("select count(*) from t"), "2020");
    }

    consolidated_it_is_as_if_it_had_not_been_logged(story) {
        prepared(story);
        let at_m = story.state();
        story.sql("update t set v = 'b'; delete from u where id < 5; insert into u values (100, 'new')");
        story.mark("between");
        story.sql("delete from t where id > 10");
        if story.role.is_some() {
            story.emaj(&["rollback", "g", "m", "--yes", "--jobs", "2"]).ok();
        } else {
            story.logged_rollback("m");
        }
        let end = story.ask("select mark_name from emaj.emaj_mark where mark_name like '%DONE'");
        let run = story.emaj(&["consolidate", "g", "EMAJ_LAST_MARK"]).code(4);
        assert!(run.stderr.contains("2 marks and the log of") && run.stderr.contains(&end), "{run}");
        story.sql("update t set v = 'later' where id = 3; insert into u values (200, 'later')");
        story.mark("later");
        let later = story.state();
        story.sql("delete from u; update t set id = id + 1000");
        let run = story.emaj(&["consolidate", "-o", "json"]).ok().stdout_json();
        assert_eq!((run[0]["target"].as_str(), run[0]["end"].as_str(), run[0]["marks"].as_i64()), (Some("m"), Some(end.as_str()), Some(2)));
        // What needs it stands in the way.
        story.sql("select emaj.emaj_protect_mark_group('g', 'between')");
        assert!(story.emaj(&["consolidate", "g", &end, "--yes"]).code(4).stderr.contains("`between` of group `g` is protected"));
        story.sql("select emaj.emaj_unprotect_mark_group('g', 'between')");
        story.sql("insert into emaj.emaj_sink (sink_name, sink_manifest, sink_kind, sink_from) select 's', 'm', 'file', mark_position from emaj.emaj_mark where mark_name = 'between';
            insert into emaj.emaj_binding (bind_name, bind_manifest, bind_sink, bind_oid, bind_schema, bind_table, bind_kind, bind_fingerprint, bind_since)
            select 'b', 'm', 's', 't'::regclass, 'app', 't', 'x', 'x', mark_position from emaj.emaj_mark where mark_name = 'between'");
        assert!(story.emaj(&["consolidate", "g", &end, "--yes"]).code(4).stderr.contains("sink `s` has not been given all changes of"));
        story.sql(&format!("update emaj.emaj_sink set sink_from = (select mark_position from emaj.emaj_mark where mark_name = '{end}')"));
        assert!(story.emaj(&["consolidate", "g", "later", "--yes"]).code(4).stderr.contains("is not the end of a logged rollback"));
        let run = story.emaj(&["consolidate", "g", &end]).code(4);
        assert!(run.stderr.contains("2 marks and the log of"), "{run}");
        story.emaj(&["consolidate", "g", &end, "--yes"]).ok();
        assert_eq!(story.ask("select string_agg(mark_name, ' ' order by mark_id) from emaj.emaj_mark where mark_name !~ 'START'"), format!("m {end} later"));
        assert_eq!(story.ask(&format!("select sum(stat_rows) from emaj.emaj_log_stat_group('g', 'm', '{end}')")), "0");
        assert_eq!(story.ask("select emaj.emaj_verify_all()"), "No error detected");
        assert!(story.emaj(&["consolidate", "g", &end, "--yes"]).code(4).stderr.contains("is not the end of a logged rollback"));
        story.sql("delete from emaj.emaj_binding; delete from emaj.emaj_sink");
        // Every mark that is left leads where it led.
        story.logged_rollback("later");
        assert_eq!(story.state(), later);
        story.rollback("later");
        assert_eq!(story.state(), later);
        story.logged_rollback(&end);
        assert_eq!(story.state(), at_m);
        story.rollback("m");
        assert_eq!(story.state(), at_m);
        assert_eq!(story.emaj(&["consolidate"]).ok().stderr.trim(), "there is no logged rollback that could be made an unlogged one");
    }

    how_far_it_is_another_session_sees(story) {
        let schema = story.schema.clone();
        // One row waits for the test when it comes back.
        story.sql(&format!("create function {schema}.waits(v text) returns boolean language plpgsql as
            $$ begin if v = 'slow' then perform pg_advisory_xact_lock_shared(77); end if; return true; end $$"));
        story.sql("create table first (id int primary key, v text); create table second (id int primary key, v text)");
        story.sql(&format!("alter table second add check ({schema}.waits(v)); insert into second values (1, 'slow'); insert into first select n, 'a' from generate_series(1, 30) n"));
        story.install("*");
        story.mark("m");
        story.sql("update first set v = 'b'; delete from second");
        for more in [&["--jobs", "1"][..], &["--jobs", "2"]] {
            let mut holder = story.db.client();
            holder.batch_execute("select pg_advisory_lock(77)").unwrap();
            let words: Vec<&str> = ["rollback", "g", "m", "--yes", "--comment", "slowly", "--lock-timeout", "60s"].iter().chain(more).copied().collect();
            let mut run = crate::support::emaj(story.db).args(&words);
            if let Some(role) = &story.role {
                run = run.user(role);
            }
            let done = run.run_while(|_| {
                let mut seen = serde_json::Value::Null;
                until("the rollback waits", || {
                    let list = story.emaj(&["rollback", "--list", "-o", "json"]).ok().stdout_json();
                    seen = list["running"].clone();
                    // The other lane of two may have ended by then.
                    let waits = |one: &serde_json::Value| one["phase"] == "working" && one["changes_done"].as_i64() < one["changes"].as_i64();
                    let alone = more[1] == "2" || seen[0]["changes_done"].as_i64() == Some(30);
                    alone && seen.as_array().is_some_and(|all| all.iter().any(waits))
                });
                let one = seen.as_array().unwrap().iter().find(|one| one["phase"] == "working").unwrap();
                assert_eq!(one["groups"], serde_json::json!(["g"]), "{seen}");
                if more[1] == "1" {
                    assert_eq!((one["tables_done"].as_i64(), one["tables"].as_i64(), one["changes"].as_i64()), (Some(1), Some(2), Some(31)), "{seen}");
                    assert!(one["seconds_left"].as_f64().is_some(), "{seen}");
                } else {
                    assert_eq!(one["mark"], "m", "{seen}");
                }
                let table = story.emaj(&["rollback", "--list"]).ok().stdout;
                assert!(table.contains("working: "), "{table}");
                holder.batch_execute("select pg_advisory_unlock(77)").unwrap();
            });
            done.ok();
            assert_eq!(story.ask("select * from emaj.emaj_rollback_activity()"), "");
            story.sql("update first set v = 'b'; delete from second");
        }
    }
}

#[test]
fn the_name_of_a_session_is_its_own_again_after_a_rollback() {
    tell(Who::Owner, |story| {
        prepared(story);
        story.sql("update t set v = 'b'; set application_name = 'the batch'; begin");
        story.rollback("m");
        assert_eq!(story.ask("show application_name"), "the batch");
        story.sql("commit");
        assert_eq!(story.ask("show application_name"), "the batch");
    });
}

#[test]
fn statements_that_the_wal_does_not_tell_apart() {
    let cluster = Cluster::builder()
        .settings([("wal_level", "minimal"), ("max_wal_senders", "0")])
        .start()
        .unwrap();
    let directory = tempfile::Builder::new().prefix("emaj-test-").tempdir().unwrap();
    let mut client = postgres::Client::connect(&cluster.conninfo("postgres"), postgres::NoTls).unwrap();
    client
        .batch_execute("create table t (id int primary key, v text)")
        .unwrap();
    std::fs::write(
        directory.path().join("emaj.yaml"),
        "version: 1\nroles: { admin: null, viewer: null }\ngroups: { g: { tables: [public.t] } }\n",
    )
    .unwrap();
    for words in [&["install"][..], &["group", "stop", "g"]] {
        emaj_alone(directory.path())
            .envs(cluster.env("postgres"))
            .args(words)
            .run()
            .ok();
    }
    // The logs are truncated in that transaction, and the table: nothing of this is written to the WAL.
    let begin = "begin; select emaj.emaj_start_group('g', 'started'); truncate t; insert into t select i, 'n' from generate_series(3, 5) i";
    for (changes, mark, wanted) in [
        ("update t set v = 'u'", "started", ""),
        ("update t set v = 'u'; update t set v = 'w'", "started", ""),
        (
            "select emaj.emaj_set_mark_group('g', 'm'); update t set v = 'u'; update t set v = 'w'",
            "m",
            "(3,n)(4,n)(5,n)",
        ),
        (
            "select emaj.emaj_set_mark_group('g', 'm'); delete from t where id = 3; insert into t values (3, 'x'), (6, 'x')",
            "m",
            "(3,n)(4,n)(5,n)",
        ),
    ] {
        client.batch_execute(&format!("{begin}; {changes}; commit")).unwrap();
        let same = client
            .query_one("select count(distinct emaj_gid) = 1 and count(*) > 5 from (select * from emaj.public_t_log where emaj_tuple <> '') as l", &[])
            .unwrap();
        assert!(same.get::<_, bool>(0) || mark == "m", "the WAL tells them apart");
        client
            .execute("select emaj.emaj_rollback_group('g', $1)", &[&mark])
            .unwrap();
        let rows: String = client
            .query_one("select coalesce(string_agg(t::text, '' order by id), '') from t", &[])
            .unwrap()
            .get(0);
        assert_eq!(rows, wanted, "{changes}");
        client
            .batch_execute("select emaj.emaj_stop_group('g'); truncate t")
            .unwrap();
    }
}
