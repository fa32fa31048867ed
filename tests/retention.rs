//! Logs give their space back while everybody works: what is needed stays, what is not goes, and nobody waits.
//!
//! A log is large from a megabyte on; then it rotates. `fill` writes that much.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::story::{Story, Who, stories, tell};
use crate::support::{self, Chance, scale, seed, wait_for};

/// One table of each way of capture, and names that want quoting.
const TABLES: &str = r#"
    create table t (id bigserial primary key, v text, n int);
    create table by_row (id int primary key, v text, n int);
    create table p (id int, r int, v text, n int, primary key (r, id)) partition by list (r);
    create table p_0 partition of p for values in (0);
    create table p_1 partition of p for values in (1);
    create table "o'dd \ "" (emaj_gid" (id int primary key, "v'"" \" text, n int);"#;

const FILL: &str = r#"
    insert into t (v) select repeat('x', 200) from generate_series(1, 6000);
    insert into by_row select n, repeat('x', 200) from generate_series(1, 6000) n;
    insert into p select n, n % 2, repeat('x', 200) from generate_series(1, 6000) n;
    insert into "o'dd \ "" (emaj_gid" select n, repeat('x', 200) from generate_series(1, 6000) n;"#;

const CHANGE: &str = r#"
    update t set n = coalesce(n, 0) + 1 where id % 3 = 0; delete from t where id % 7 = 0; insert into t (v) values ('new');
    update by_row set n = coalesce(n, 0) + 1 where id % 3 = 0; delete from by_row where id % 7 = 0;
    update p set r = 1 - r where id % 5 = 0; delete from p where id % 7 = 0; truncate p_1;
    update "o'dd \ "" (emaj_gid" set n = coalesce(n, 0) + 1 where id % 3 = 0; delete from "o'dd \ "" (emaj_gid" where id % 7 = 0;"#;

fn install(story: &mut Story<'_>) {
    story.sql(TABLES);
    story.options += &format!("    table_options: {{ {}.by_row: {{ capture: row }} }}\n", story.schema);
    story.install("*, !p_*");
}

fn purge(story: &Story<'_>) -> serde_json::Value {
    story.emaj(&["group", "purge", "g", "-o", "json"]).ok().stdout_json()[0].clone()
}

/// Bytes of all parts of all logs, without indexes.
fn log_bytes(story: &mut Story<'_>) -> i64 {
    story
        .ask("select coalesce(sum(part_size), 0) from emaj.emaj_relation, emaj._parts(rel_log)")
        .parse()
        .unwrap()
}

fn rotated(story: &mut Story<'_>) -> String {
    story.ask("select count(*) from emaj.emaj_relation where rel_into <> rel_log")
}

#[track_caller]
fn nothing_to_change(story: &mut Story<'_>) {
    let plan = story.emaj(&["plan", "-o", "json"]).ok().stdout_json();
    assert_eq!(plan["steps"].as_array().map(Vec::len), Some(0), "{plan:#}");
    assert_eq!(story.ask("select emaj.emaj_verify_all()"), "No error detected");
}

stories! {
    a_rollback_reads_all_parts(story) {
        install(story);
        let definitions = story.definitions();
        story.sql(FILL);
        story.mark("full");
        let full = story.state();
        story.sql(CHANGE);
        let done = purge(story);
        assert_eq!((&done["rows"], &done["rotated"], &done["later"]), (&0.into(), &4.into(), &0.into()), "{done}");
        assert_eq!(rotated(story), "4");
        nothing_to_change(story);
        story.mark("rotated");
        let changed = story.state();
        story.sql(CHANGE);
        assert_ne!(story.ask("select count(*) from emaj._parts((select rel_log from emaj.emaj_relation where rel_name = 'by_row')) where part_size = 0"), "2", "nothing went to the other part");
        // Once more, so that three parts hold rows.
        story.sql(FILL.replace("6000) n", "0) n").as_str());
        story.sql("update by_row set v = v || 'y'");
        purge(story);
        story.sql("truncate t; delete from by_row where id < 100");
        story.logged_rollback("rotated");
        story.is(&changed, &definitions, "logged rollback to `rotated`");
        let start = story.last_start_mark();
        story.logged_rollback(&start);
        story.rollback("rotated");
        story.is(&changed, &definitions, "unlogged rollback to `rotated`");
        assert_eq!(story.ask("select sum(stat_rows) from emaj.emaj_log_stat_group('g', 'rotated', null)"), "0", "rows of the window are left");
        story.rollback("full");
        story.is(&full, &definitions, "rollback to `full`");
        nothing_to_change(story);
    }

    the_past_is_read_from_all_parts(story) {
        install(story);
        story.sql("create table by_text (id text primary key, v text, n int); insert into by_text select n, repeat('x', 200) from generate_series(1, 6000) n");
        story.install("*, !p_*");
        story.sql(FILL);
        // The same changes in part after part, so that rows of all of them have the same places; some keys change in each, some come back.
        let tables = ["t", "by_row", "p", "by_text"];
        let mut then = Vec::new();
        for round in 0..4 {
            for table in tables {
                story.sql(&format!(
                    "update {table} set n = coalesce(n, 0) + 1, v = repeat('{round}', 200) where id::int <= 3000 + {round} or id::int = 5000;
                     update {table} set n = n + 1 where id::int % 7 = 0;
                     delete from {table} where id::int between 4000 + {round} * 20 and 4010 + {round} * 20"
                ));
            }
            let mark = format!("round {round}");
            story.mark(&mark);
            let ask = |table: &str| format!("select coalesce(string_agg(x::text, ';' order by id::int), '') from {table} as x");
            let rows: Vec<String> = tables.iter().map(|table| story.ask(&ask(table))).collect();
            then.push((mark, rows));
            purge(story);
            assert_eq!(rotated(story), "5");
        }
        story.sql("update t set v = 'z' where id % 2 = 0; truncate by_row; delete from by_text");
        for (mark, rows) in then {
            for (table, rows) in tables.iter().zip(rows) {
                let query = format!("select md5(coalesce(string_agg(x::text, ';' order by id::int), '')) from {table} as x");
                let answer = story.emaj(&["at", "g", &mark, &query, "-o", "csv"]).ok().stdout;
                let answer = answer.lines().last().unwrap_or_default().to_owned();
                assert_eq!(answer, story.ask(&format!("select md5($emaj${rows}$emaj$)")), "{table} as of {mark}");
            }
        }
    }

    what_no_mark_needs_goes_and_the_space_comes_back(story) {
        install(story);
        let definitions = story.definitions();
        story.sql(FILL);
        let full = log_bytes(story);
        assert!(full > 4 << 20, "{full}");
        story.mark("full");
        let state = story.state();
        // Rows after the mark in the same part: it cannot be emptied yet, and is left behind.
        story.sql("update t set n = 1 where id = 1; update by_row set n = 1 where id = 1; update p set n = 1 where id = 1");
        story.sql("select emaj.emaj_delete_mark_group('g', (select mark_name from emaj.emaj_mark order by mark_id limit 1))");
        assert_eq!(rotated(story), "3", "the fourth had nothing to keep and was emptied at once");
        story.sql(CHANGE);
        story.logged_rollback("full");
        story.is(&state, &definitions, "across the rotation");
        story.mark("later");
        let later = story.state();
        for mark in ["full", "RLBK_%_START", "RLBK_%_DONE"] {
            story.sql(&format!("select emaj.emaj_delete_mark_group('g', mark_name) from emaj.emaj_mark where mark_name like '{mark}'"));
        }
        purge(story);
        assert_eq!(log_bytes(story), 0);
        story.sql(CHANGE);
        story.rollback("later");
        story.is(&later, &definitions, "after all was emptied");
        nothing_to_change(story);
        assert_eq!(story.ask("select sum(split_part(hist_wording, ' ', 1)::int) > 24000 from emaj.emaj_hist where hist_function = 'PURGE_GROUP'"), "t");
    }

    an_install_follows_a_table_whose_log_was_rotated(story) {
        install(story);
        story.sql(FILL);
        purge(story);
        assert_eq!(rotated(story), "4");
        story.sql("alter table t add column w text default 'w'; alter table by_row rename column n to m; alter table p rename to q");
        story.sql("insert into t (v) values ('before')");
        let manifest = std::fs::read_to_string(story.db.dir().join("emaj.yaml")).unwrap();
        story.install_manifest(&manifest).ok();
        nothing_to_change(story);
        assert_eq!(rotated(story), "4");
        story.mark("followed");
        let (state, definitions) = (story.state(), story.definitions());
        story.sql("update t set w = 'x'; delete from t where id < 10; update by_row set m = 7; delete from q");
        story.rollback("followed");
        story.is(&state, &definitions, "columns added in all parts");
    }

    a_group_stops_resets_releases_and_drops_with_all_parts(story) {
        install(story);
        story.sql(FILL);
        purge(story);
        story.sql(CHANGE);
        story.sql("select emaj.emaj_stop_group('g'); select emaj.emaj_reset_group('g')");
        assert_eq!(log_bytes(story), 0);
        story.sql("select emaj.emaj_start_group('g', 'again')");
        let (state, definitions) = (story.state(), story.definitions());
        story.sql(CHANGE);
        story.rollback("again");
        story.is(&state, &definitions, "started again, with the other part");
        story.sql("select emaj.emaj_release_table('t'::regclass)");
        assert_eq!(story.ask("select count(*) from emaj._parts((select rel_log from emaj.emaj_relation where rel_name = 't'))"), "2");
        story.sql("select emaj.emaj_stop_group('g'); select emaj.emaj_reset_group('g')");
        assert_eq!(story.ask("select count(*) from pg_class where relnamespace = 'emaj'::regnamespace and relkind = 'r' and relname like 'emaj\\_log\\_%'"), "3");
        story.sql("select emaj.emaj_drop_group('g')");
        assert_eq!(story.ask("select count(*) from pg_class where relnamespace = 'emaj'::regnamespace and relkind = 'r' and relname ~ '^emaj_log_|_log$'"), "0");
    }

    a_publication_of_all_tables_is_in_no_ones_way(story) {
        story.sql_as_superuser("create publication everything for all tables");
        story.options += "    keep_marks: 3\n";
        story.sql("create table t (id int primary key, v text); create table u (id int primary key, t int references t); insert into t values (1, 'a'), (2, 'b')");
        story.install("*");
        for at in 1..7 {
            story.sql(&format!("update t set v = v || {at}; insert into t values ({at} + 10, 'n'); insert into u values ({at}, {at} + 10)"));
            story.mark(&format!("m{at}"));
        }
        // Rows leave the log, the registry and the parts of a log.
        story.emaj(&["mark", "delete", "g", "m1"]).ok();
        story.sql("select emaj._rotate(r) from emaj.emaj_relation r where rel_name = 't'; delete from t where id = 11 and not exists (select from u where t = 11); update t set v = 'part'");
        story.mark("after");
        story.sql("begin isolation level repeatable read; truncate u; commit; begin isolation level repeatable read; truncate t, u; commit");
        assert_eq!(story.ask("select count(*) > 0 from emaj.emaj_gap"), "t");
        story.emaj(&["group", "purge", "g"]).ok();
        story.sql("select emaj.emaj_stop_group('g'); select emaj.emaj_reset_group('g'); select emaj.emaj_start_group('g', 'anew')");
        assert_eq!(story.ask("select count(*) from emaj.emaj_gap"), "0");
        story.sql("insert into t values (1, 'a'), (2, 'b')");
        story.mark("n1");
        story.sql("update t set v = 'x'; delete from t where id = 2; insert into t select n, 'many' from generate_series(100, 7000) n; update t set v = v || 1 where id > 99");
        story.logged_rollback("n1");
        let marks = story.ask("select mark_name from emaj.emaj_mark order by mark_id desc limit 1");
        story.sql(&format!("select emaj.emaj_consolidate_rollback_group('g', '{marks}')"));
        story.sql("update t set v = 'y'");
        story.rollback("n1");
        assert_eq!(story.ask("select string_agg(v, ' ' order by id) from t"), "a b");
        // A table leaves its group, with its log; and everything goes.
        let schema = story.schema.clone();
        let one = story.manifest(&format!("{schema}.t"));
        story.install_manifest(&one).ok();
        story.emaj(&["uninstall", "--yes"]).ok();
        assert_eq!(story.ask("select count(*) from pg_namespace where nspname = 'emaj'"), "0");
    }

    uninstall_leaves_no_trace_of_a_rotation(story) {
        story.sql(TABLES);
        let before = story.db.dump(&["-s"]);
        story.options += &format!("    table_options: {{ {}.by_row: {{ capture: row }} }}\n", story.schema);
        story.install("*, !p_*");
        story.sql(FILL);
        purge(story);
        assert_eq!(rotated(story), "4");
        story.emaj(&["uninstall", "--yes", "emaj.yaml"]).ok();
        support::story::same(&story.db.dump(&["-s"]), &before, "after uninstall");
    }
}

#[test]
fn time_keeps_rows_in_an_audit_only_group() {
    tell(Who::Owner, |story| {
        story.options = "    rollback: false\n    retention: 1 hour\n".to_owned();
        story.sql("create table t (v text)");
        story.install("t");
        story.sql("insert into t select repeat('x', 200) from generate_series(1, 6000)");
        let purged = story.emaj(&["group", "purge", "g"]).ok();
        assert!(!purged.stderr.contains("hint:"), "{purged}");
        story.sql("update emaj.emaj_group set group_retention = null");
        let purged = story.emaj(&["group", "purge", "g"]).ok();
        support::said(&purged, "group `g` is for audit only, and keeps all log rows");
        story.sql("update emaj.emaj_group set group_retention = '1 hour'");
        let log = story.ask("select format('emaj.%I', rel_log) from emaj.emaj_relation where rel_log is not null");
        assert_eq!(story.ask(&format!("select count(*) from {log}")), "6000");
        // Two hours later.
        story.sql(&format!("update {log} set emaj_changed = emaj_changed - interval '2 hours'; update emaj.emaj_relation set rel_rotated = rel_rotated - interval '2 hours'"));
        story.sql("insert into t values ('young')");
        purge(story);
        assert_eq!(rotated(story), "1");
        story.sql(&format!(
            "update {log} set emaj_changed = emaj_changed - interval '2 hours'; insert into t values ('younger')"
        ));
        assert_eq!(purge(story)["rows"], 6001);
        assert_eq!(story.ask(&format!("select string_agg(v, ',') from {log}")), "younger");
        assert_eq!(
            story.ask("select hist_wording from emaj.emaj_hist where hist_event = 'ROUND'"),
            "6001 log rows"
        );
    });
}

/// Statistics, and what reads the changes themselves, answer alike whether a log tells all since a mark.
#[test]
fn a_mark_that_saw_all_that_was_purged_tells_all() {
    tell(Who::Owner, |story| {
        story.options = "    rollback: false\n    retention: 1 hour\n".to_owned();
        let mut other = story.db.client();
        other.batch_execute("begin; select txid_current()").unwrap();
        story.sql("create table t (v text)");
        story.install("t");
        story.sql("insert into t values ('old')");
        story.mark("between");
        story.sql("insert into t values ('old')");
        let log = story.ask("select format('emaj.%I', rel_log) from emaj.emaj_relation where rel_log is not null");
        // Who runs at the mark may have written before it: none of those that may be meant (other tests run too), and one that began before all of them.
        let running = format!(
            "select count(*) from emaj.emaj_mark, pg_snapshot_xip((mark_position).snapshot) as x
              where mark_name = 'm' and x::text::bigint between (select min(emaj_txid) from {log}) and (select max(emaj_txid) from {log})"
        );
        wait_for("a mark at which nobody else runs", 300, || {
            story.mark("m");
            let alone = story.ask(&running) == "0";
            if !alone {
                story.sql("select emaj.emaj_delete_mark_group('g', 'm')");
            }
            alone.then_some(())
        });
        other.batch_execute("commit").unwrap();
        story.sql("insert into t values ('new')");
        story.sql(&format!(
            "update {log} set emaj_changed = emaj_changed - interval '2 hours' where v = 'old'"
        ));
        assert_eq!(purge(story)["rows"], 2);
        story.sql("delete from emaj.emaj_mark_count");
        for (mark, whole) in [("between", "1 f 1"), ("m", "1 t 0")] {
            assert_eq!(
                story.ask(&format!(
                    "select stat_rows || ' ' || left(stat_exact::text, 1) || ' ' || (select count(*) from emaj.emaj_log_gaps_group('g', '{mark}')) from emaj.emaj_log_stat_group('g', '{mark}', null)"
                )),
                whole,
                "{mark}"
            );
        }
    });
}

#[test]
fn a_sink_keeps_what_it_has_not_read() {
    tell(Who::Owner, |story| {
        story.sql("create table t (id bigserial primary key, v text)");
        story.install("t");
        story.sql(
            "insert into emaj.emaj_sink (sink_name, sink_manifest, sink_kind, sink_from) values ('s', 'm', 'file', emaj._position());
             insert into emaj.emaj_binding (bind_name, bind_manifest, bind_sink, bind_oid, bind_schema, bind_table, bind_kind, bind_fingerprint, bind_since)
             values ('b', 'm', 's', 't'::regclass, 'app', 't', 'x', 'x', emaj._position())",
        );
        story.sql("insert into t (v) select repeat('x', 200) from generate_series(1, 6000)");
        story.mark("m");
        story.sql("select emaj.emaj_delete_mark_group('g', mark_name) from emaj.emaj_mark where mark_name <> 'm'");
        purge(story);
        assert_eq!(
            story.ask("select sum(part_size) > 1000000 from emaj.emaj_relation, emaj._parts(rel_log)"),
            "t"
        );
        story.sql("update emaj.emaj_sink set sink_from = emaj._position(), sink_moved = clock_timestamp()");
        assert_eq!(purge(story)["rows"], 6000);
        assert_eq!(log_bytes(story), 0);
    });
}

/// Statements and transactions that were under way when the capture function was replaced: each row is in the log, in whichever part.
#[test]
fn writers_under_way_lose_nothing() {
    tell(Who::Superuser, |story| {
        story.sql("create table t (id bigserial primary key, v text)");
        story.install("t");
        story.sql("insert into t (v) select repeat('x', 200) from generate_series(1, 6000)");
        story.mark("m");
        let mut long = story.db.client();
        long.batch_execute("begin; insert into t (v) values ('old part')")
            .unwrap();
        let mut slow = story.db.client();
        let slow = thread::spawn(move || {
            slow.batch_execute(
                "insert into t (v) select 'slow' from (select pg_sleep(1.5)) as s; insert into t (v) values ('next')",
            )
            .unwrap();
        });
        thread::sleep(Duration::from_millis(300));
        story.sql("select emaj.emaj_delete_mark_group('g', mark_name) from emaj.emaj_mark where mark_name <> 'm'");
        assert_eq!(rotated(story), "1");
        long.batch_execute("insert into t (v) values ('same transaction')")
            .unwrap();
        // Nothing may be emptied under a writer's feet.
        assert_eq!(purge(story)["rows"], 0);
        slow.join().unwrap();
        long.batch_execute("commit").unwrap();
        let log = story.ask("select format('emaj.%I', rel_log) from emaj.emaj_relation where rel_log is not null");
        purge(story);
        assert_eq!(
            story.ask(&format!(
                "select string_agg(v, ', ' order by id) from {log} where length(v) < 100"
            )),
            "old part, same transaction, slow, next"
        );
        story.rollback("m");
        assert_eq!(story.ask("select count(*) from t"), "6000");
    });
}

/// The least that so many updates put into a log, in bytes.
fn log_rows(updates: u64) -> i64 {
    updates as i64 * 2 * 160
}

/// Transfers go on while a reader holds an old snapshot, marks come and go, and rounds empty the logs.
#[test]
fn an_old_snapshot_does_not_make_logs_grow() {
    tell(Who::Superuser, |story| {
        story.sql("create table t (id int primary key, v text, n int not null); insert into t select g, repeat('x', 100), 0 from generate_series(1, 1000) g");
        story.install("t");
        let mut reader = story.db.client();
        reader
            .batch_execute("begin isolation level repeatable read; select count(*) from t")
            .unwrap();
        let over = AtomicBool::new(false);
        let done = AtomicU64::new(0);
        let slowest = AtomicU64::new(0);
        let seconds = scale(8) as u64;
        let (mut written, mut most) = (0, 0);
        thread::scope(|scope| {
            for writer in 0..3_u64 {
                let (over, done, slowest, db) = (&over, &done, &slowest, story.db);
                scope.spawn(move || {
                    let mut client = db.client();
                    // Whoever waits for the reader waits for ever.
                    client.batch_execute("set lock_timeout = '60s'").unwrap();
                    let mut chance = Chance::new(seed() + writer);
                    while !over.load(Ordering::Relaxed) {
                        let (a, b) = (1 + chance.below(500), 501 + chance.below(500));
                        let began = Instant::now();
                        client
                            .batch_execute(&format!("begin; update t set n = n + 1 where id = {a}; update t set n = n - 1 where id = {b}; commit"))
                            .unwrap();
                        slowest.fetch_max(began.elapsed().as_millis() as u64, Ordering::Relaxed);
                        done.fetch_add(2, Ordering::Relaxed);
                    }
                });
            }
            let end = Instant::now() + Duration::from_secs(seconds);
            let mut rounds = 0;
            while Instant::now() < end || rounds < 12 || log_rows(done.load(Ordering::Relaxed)) < 4 << 20 {
                rounds += 1;
                thread::sleep(Duration::from_millis(500));
                story.sql("select emaj.emaj_set_mark_group('g', 'M_%'); select emaj.emaj_delete_mark_group('g', mark_name) from (select mark_name from emaj.emaj_mark order by mark_id desc offset 1) as m");
                purge(story);
                most = most.max(log_bytes(story));
            }
            // A copy at the very instant of a mark, while they write.
            story.sql("begin isolation level repeatable read; select emaj.emaj_set_mark_group('g', 'copied'); create table copied as table t; commit");
            thread::sleep(Duration::from_millis(500));
            purge(story);
            over.store(true, Ordering::Relaxed);
            written = done.load(Ordering::Relaxed);
        });
        story.rollback("copied");
        assert_eq!(
            story.ask(
                "select count(*) from ((table t except table copied) union all (table copied except table t)) as d"
            ),
            "0"
        );
        story.sql("select emaj.emaj_set_mark_group('g', 'end'); select emaj.emaj_delete_mark_group('g', mark_name) from emaj.emaj_mark where mark_name <> 'end'");
        purge(story);
        purge(story);
        let (left, slowest) = (log_bytes(story), slowest.load(Ordering::Relaxed));
        let all = log_rows(written);
        println!(
            "{written} updates in {seconds} s; {all} bytes of log rows at least, at most {most} at once, {left} at the end; slowest transaction {slowest} ms"
        );
        assert_eq!(left, 0, "the logs did not shrink");
        assert!(most < all / 2, "the logs grew to {most} of {all} bytes");
        reader.batch_execute("select count(*) from t; commit").unwrap();
        nothing_to_change(story);
    });
}

/// Killed anywhere: what is captured goes on, the next round does the rest, and no row is missing.
#[test]
fn a_round_that_is_killed_is_made_up_for() {
    tell(Who::Superuser, |story| {
        let seed = seed();
        println!("EMAJ_SEED={seed}");
        let mut chance = Chance::new(seed);
        install(story);
        for round in 0..scale(6) {
            story.sql(&format!(
                "delete from by_row; truncate p; delete from \"o'dd \\ \"\" (emaj_gid\"; {FILL}"
            ));
            let mark = format!("r{round}");
            story.mark(&mark);
            let state = story.state();
            let mut child = Command::new(env!("CARGO_BIN_EXE_emaj"))
                .current_dir(story.db.dir())
                .envs(story.db.env())
                .args(["group", "purge", "g"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            thread::sleep(Duration::from_millis(chance.below(150) as u64));
            if round % 2 == 0 {
                child.kill().unwrap();
            } else {
                story.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'emaj%' and datname = current_database()");
            }
            child.wait().unwrap();
            story.sql(CHANGE);
            story.logged_rollback(&mark);
            assert!(story.state() == state, "round {round}: not as at the mark");
            story.sql("select emaj.emaj_delete_mark_group('g', mark_name) from (select mark_name from emaj.emaj_mark order by mark_id desc offset 1) as m");
            nothing_to_change(story);
        }
        story.mark("end");
        story.sql("select emaj.emaj_delete_mark_group('g', mark_name) from emaj.emaj_mark where mark_name <> 'end'");
        purge(story);
        assert_eq!(log_bytes(story), 0);
    });
}

/// Installations that change the capture function, and rounds that replace it, at the same time, under a writer.
#[test]
fn rounds_and_installations_do_not_get_into_each_others_way() {
    tell(Who::Superuser, |story| {
        story.sql("create table t (id bigserial primary key, v text)");
        story.install("t");
        story.mark("m");
        let over = AtomicBool::new(false);
        let wrote = AtomicU64::new(0);
        thread::scope(|scope| {
            let (over, wrote, db) = (&over, &wrote, story.db);
            scope.spawn(move || {
                let mut client = db.client();
                while !over.load(Ordering::Relaxed) {
                    client
                        .batch_execute("insert into t (v) select repeat('x', 200) from generate_series(1, 1000)")
                        .unwrap();
                    wrote.fetch_add(1000, Ordering::Relaxed);
                }
            });
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    support::emaj(db).args(["group", "purge"]).run().ok();
                    // So that every round rotates.
                    db.client()
                        .batch_execute("update emaj.emaj_relation set rel_rotated = '-infinity'")
                        .unwrap();
                }
            });
            for round in 0..scale(5) {
                story.sql(&format!("alter table t add column c{round} int"));
                story.emaj(&["install", "--wait", "20s", "emaj.yaml"]).ok();
            }
            over.store(true, Ordering::Relaxed);
        });
        let log = story.ask("select format('emaj.%I', rel_log) from emaj.emaj_relation where rel_log is not null");
        assert_eq!(
            story.ask(&format!("select count(*) from {log}")),
            wrote.load(Ordering::Relaxed).to_string()
        );
        assert_ne!(
            story.ask(
                "select count(*) from emaj._parts((select rel_log from emaj.emaj_relation where rel_log is not null))"
            ),
            "1",
            "nothing was rotated"
        );
        nothing_to_change(story);
    });
}

/// However long nothing may go: a log has eight parts at most, and they are used again.
#[test]
fn a_log_has_eight_parts_at_most() {
    tell(Who::Owner, |story| {
        story.sql("create table t (id bigserial primary key, v text)");
        story.install("t");
        let (empty, definitions) = (story.state(), story.definitions());
        story.mark("empty");
        for _ in 0..10 {
            story.sql("insert into t (v) select repeat('x', 200) from generate_series(1, 6000); update emaj.emaj_relation set rel_rotated = '-infinity'");
            let done = purge(story);
            assert_eq!((&done["rows"], &done["later"]), (&0.into(), &0.into()), "{done}");
        }
        let parts = "select count(*) || ' ' || count(*) filter (where part_size > 0) from emaj.emaj_relation, emaj._parts(rel_log) where rel_log is not null";
        assert_eq!(story.ask(parts), "8 8");
        nothing_to_change(story);
        story.logged_rollback("empty");
        story.is(&empty, &definitions, "from eight parts");
        story.mark("end");
        story.sql("select emaj.emaj_delete_mark_group('g', mark_name) from (select mark_name from emaj.emaj_mark where mark_name <> 'end' order by mark_id) as m");
        purge(story);
        assert_eq!(story.ask(parts), "8 0");
    });
}

/// What the group's marks are called, the oldest first.
fn marks(story: &mut Story<'_>) -> String {
    story.ask("select string_agg(case when mark_name like 'START%' then 'START' else mark_name end, ',' order by mark_id) from emaj.emaj_mark")
}

stories! {
    as_many_marks_stay_as_the_manifest_says(story) {
        story.options = "    keep_marks: 3\n".to_owned();
        story.sql("create table t (id bigserial primary key, v text)");
        story.install("t");
        let mut states = Vec::new();
        for mark in ["m1", "m2", "m3", "m4", "m5", "m6"] {
            story.mark(mark);
            states.push((mark, story.state()));
            story.sql(&format!("insert into t (v) values ('{mark}'); update t set v = v || '{mark}'"));
        }
        story.sql("select emaj.emaj_protect_mark_group('g', 'm2')");
        for (options, gone) in [("1", "5 marks"), ("2", "4 marks"), ("1 minute", "3 marks")] {
            if options == "1 minute" {
                story.sql("update emaj.emaj_mark set mark_datetime = mark_datetime - interval '1 hour' where mark_name ~ 'START|m[1-3]'");
            }
            story.options = format!("    keep_marks: {options}\n");
            let path = story.db.file("emaj.yaml", &story.manifest(&format!("'{}.t'", story.schema)));
            let plan = story.emaj(&["plan", path.to_str().unwrap()]).ok();
            assert!(plan.stdout.contains(&format!("{gone} will go with the next purge")), "{plan}");
        }
        story.options = "    keep_marks: 3\n".to_owned();
        story.db.file("emaj.yaml", &story.manifest(&format!("'{}.t'", story.schema)));
        let done = purge(story);
        assert_eq!((&done["marks"], done.get("problem")), (&3.into(), None), "{done}");
        assert_eq!(marks(story), "m2,m4,m5,m6");
        assert_eq!(
            story.ask("select string_agg(hist_wording, ',' order by hist_id) from emaj.emaj_hist where hist_event = 'RETENTION' and hist_wording like 'm%'"),
            "m1,m3"
        );
        nothing_to_change(story);
        let definitions = story.definitions();
        for (mark, state) in states.iter().rev().filter(|(mark, _)| ["m2", "m4", "m6"].contains(mark)) {
            if *mark == "m2" {
                story.sql("select emaj.emaj_unprotect_mark_group('g', 'm2')");
            }
            story.rollback(mark);
            story.is(state, &definitions, mark);
        }
        // From SQL it is the same; the last mark stays whatever is said.
        story.options = "    keep_marks: 1\n".to_owned();
        story.install("t");
        story.sql("select emaj.emaj_set_mark_group('g', 'x'); select emaj.emaj_set_mark_group('g', 'y'); select emaj.emaj_purge_group('g')");
        assert_eq!(marks(story), "y");
        nothing_to_change(story);
    }

    marks_go_by_their_age(story) {
        story.options = "    keep_marks: 1 hour\n".to_owned();
        story.sql("create table t (id bigserial primary key, v text)");
        story.install("t");
        story.mark("old");
        story.sql("insert into t (v) values ('x')");
        story.mark("young");
        story.sql("update emaj.emaj_mark set mark_datetime = mark_datetime - interval '2 hours' where mark_name <> 'young'");
        assert_eq!(purge(story)["marks"], 2);
        assert_eq!(marks(story), "young");
        story.sql("update emaj.emaj_mark set mark_datetime = mark_datetime - interval '2 hours'");
        assert_eq!(purge(story)["marks"], 0, "the last mark stays");
        nothing_to_change(story);
    }
}

const BATCH: &str = "insert into t (v) select repeat('x', 200) from generate_series(1, 12000)";

stories! {
    what_has_left_goes_before_any_mark(story) {
        story.options = "    max_size: 1 GB\n".to_owned();
        story.sql("create table gone (id bigserial primary key, v text); create table t (id bigserial primary key, v text)");
        story.install("*");
        story.sql("insert into gone (v) select repeat('x', 200) from generate_series(1, 40000); select emaj.emaj_release_table('gone'::regclass)");
        purge(story);
        assert!(log_bytes(story) > 8 << 20, "it stays readable");
        story.options = "    max_size: 8 MB\n".to_owned();
        story.install("t");
        for mark in ["m1", "m2", "m3"] {
            story.mark(mark);
            story.sql("insert into t (v) values ('x')");
        }
        let before = marks(story);
        let done = purge(story);
        assert_eq!((&done["marks"], &done["rows"], done.get("problem")), (&0.into(), &40000.into(), None), "{done}");
        assert_eq!(marks(story), before);
        assert_ne!(log_bytes(story), 0, "what is captured still stays");
        // In SQL as well; a stopped group keeps everything.
        story.sql("insert into t (v) select repeat('x', 200) from generate_series(1, 40000); select emaj.emaj_release_table('t'::regclass)");
        story.sql("select emaj.emaj_stop_group('g')");
        assert_eq!(story.ask("select emaj.emaj_purge_group('g')"), "0");
        let told = story.emaj(&["group", "purge", "g"]).ok();
        support::said(&told, "group `g` is stopped, and keeps all log rows: `emaj group reset g`");
        story.sql("select emaj.emaj_start_group('g', 'again', false)");
        assert_eq!(story.ask("select emaj.emaj_purge_group('g')"), "40003");
    }
}

/// The oldest marks go until the logs fit; what a protected mark or a sink needs stays, and that is said.
#[test]
fn the_logs_stay_below_their_size() {
    tell(Who::Owner, |story| {
        story.options = "    max_size: 8 MB\n".to_owned();
        story.sql("create table t (id bigserial primary key, v text)");
        story.install("t");
        // Somebody who reads all the time keeps nothing from being given back.
        let mut reader = story.db.client_as(&story.role.clone().unwrap());
        reader
            .batch_execute("begin isolation level repeatable read; select count(*) from t")
            .unwrap();
        for number in 1..=8 {
            story.mark(&format!("m{number}"));
            story.sql(BATCH);
            // (Each batch takes less than three megabytes. A part that autovacuum has in hand is emptied by another round.)
            support::wait_for("the logs to fit", 60, || {
                let done = purge(story);
                assert_eq!(done.get("problem"), None, "{done}");
                (log_bytes(story) <= 8 << 20).then_some(())
            });
        }
        assert_eq!(marks(story), "m7,m8", "no mark goes in vain");
        assert_ne!(log_bytes(story), 0);
        let state = story.state();
        let definitions = story.definitions();
        story.mark("here");
        story.sql("delete from t where id % 2 = 0");
        story.rollback("here");
        story.is(&state, &definitions, "back from the deletion");
        story.rollback("m7");
        assert_eq!(story.ask("select count(*) from t"), "72000");
        nothing_to_change(story);

        // A protected mark.
        story.sql("select emaj.emaj_protect_mark_group('g', 'm7')");
        for number in 1..=4 {
            story.mark(&format!("p{number}"));
            story.sql(BATCH);
        }
        let done = purge(story);
        let problem = done["problem"].as_str().unwrap_or_else(|| panic!("{done}")).to_owned();
        assert!(
            problem.contains("more than its `max_size` of 8192 kB")
                && problem.contains("mark `m7`, which is protected"),
            "{problem}"
        );
        assert_eq!(
            (done["marks"].as_i64(), marks(story)),
            (Some(0), "m7,p1,p2,p3,p4".to_owned())
        );
        let warned = story.emaj(&["group", "purge", "g"]).ok();
        assert!(warned.stderr.contains("which is protected"), "{warned}");

        // A sink that has not read: no mark goes in vain.
        story.sql(
            "select emaj.emaj_unprotect_mark_group('g', 'm7');
             insert into emaj.emaj_sink (sink_name, sink_manifest, sink_kind, sink_from) select 's', 'm', 'file', mark_position from emaj.emaj_mark where mark_name = 'm7';
             insert into emaj.emaj_binding (bind_name, bind_manifest, bind_sink, bind_oid, bind_schema, bind_table, bind_kind, bind_fingerprint, bind_since)
             select 'b', 'm', 's', 't'::regclass, current_schema(), 't', 'x', 'x', mark_position from emaj.emaj_mark where mark_name = 'm7'",
        );
        let done = purge(story);
        assert!(
            done["problem"]
                .as_str()
                .is_some_and(|problem| problem.contains("sink `s`")),
            "{done}"
        );
        assert_eq!(marks(story), "m7,p1,p2,p3,p4");
        let log = story.ask("select format('emaj.%I', rel_log) from emaj.emaj_relation where rel_log is not null");
        let rows = story.ask(&format!("select count(*) from {log}"));
        assert_eq!(rows, "48000", "no row that the sink has not read is gone");
        // It has read all: the next rounds get the logs below their size.
        story.sql("update emaj.emaj_sink set sink_from = emaj._position(), sink_moved = clock_timestamp()");
        for _ in 0..3 {
            story.mark("next_%");
            story.sql(BATCH);
            story.sql("update emaj.emaj_sink set sink_from = emaj._position(), sink_moved = clock_timestamp()");
            purge(story);
        }
        let done = purge(story);
        assert_eq!(done.get("problem"), None, "{done}");
        let left = log_bytes(story);
        assert!(left <= 8 << 20, "{left} bytes");
        reader.batch_execute("select count(*) from t; commit").unwrap();
    });
}

/// A log whose parts are all taken cannot go to another one: what is written then goes at once, with all marks in it, and that is said before.
#[test]
fn that_a_log_has_no_part_left_is_said() {
    tell(Who::Owner, |story| {
        story.options = "    max_size: 8 MB\n".to_owned();
        story.sql("create table t (id bigserial primary key, v text)");
        story.install("t");
        story.mark("held");
        story.sql(
            "select emaj.emaj_delete_before_mark_group('g', 'held'); select emaj.emaj_protect_mark_group('g', 'held')",
        );
        let taken = "has eight parts, none of them empty: the one of";
        for _ in 1..8 {
            story.sql("insert into t (v) values ('x')");
            story.sql("select emaj._rotate(r) from emaj.emaj_relation r where rel_log is not null");
        }
        for _ in 1..=4 {
            story.sql(BATCH);
        }
        let done = purge(story);
        let problem = done["problem"].as_str().unwrap_or_else(|| panic!("{done}"));
        assert!(
            problem.contains("which is protected") && problem.contains(taken),
            "{problem}"
        );
        story.sql("select emaj.emaj_unprotect_mark_group('g', 'held')");
        story.mark("free");
        let done = purge(story);
        assert_eq!((done.get("problem"), marks(story).as_str()), (None, "free"), "{done}");
    });
}

#[test]
fn old_rollbacks_go_with_the_history() {
    tell(Who::Owner, |story| {
        story.sql("create table t (id int primary key)");
        story.install("t");
        story.mark("m");
        for _ in 0..3 {
            story.sql("insert into t values (1)");
            story.rollback("m");
        }
        story.sql("insert into t values (1)");
        story.logged_rollback("m");
        story.sql_as_superuser(
            "update emaj.emaj_rollback set rlbk_end = rlbk_end - interval '2 years' where rlbk_id <> 2;
             update emaj.emaj_param set param_value_interval = '1 year' where param_key = 'history_retention'",
        );
        let ids = "select string_agg(rlbk_id || ' ' || rlbt_rollback, ', ' order by rlbk_id) from emaj.emaj_rollback full join emaj.emaj_rollback_table on rlbt_rollback = rlbk_id";
        assert_eq!(story.ask("select emaj.emaj_purge_history()"), "2");
        assert_eq!(story.ask(ids), "2 2, 4 4", "one is young, one has marks");
        // What came after a torn one may be what mended it.
        story.sql_as_superuser("update emaj.emaj_rollback set rlbk_end = rlbk_end - interval '2 years', rlbk_state = 'BROKEN' where rlbk_id = 2");
        story.sql("delete from emaj.emaj_mark where mark_rollback is not null");
        assert_eq!(story.ask("select emaj.emaj_purge_history()"), "0");
        assert_eq!(story.ask(ids), "2 2, 4 4");
        story.sql("delete from emaj.emaj_rollback where rlbk_id = 2");
        assert_eq!(story.ask("select emaj.emaj_purge_history()"), "1");
    });
}

/// Runs statements with a time limit: what waits longer hangs, as far as anybody can tell.
#[track_caller]
fn soon(story: &mut Story<'_>, sql: &str) -> String {
    let got = story.ask(&format!("set statement_timeout = '20s'; {sql}"));
    story.sql("reset statement_timeout");
    got
}

/// Whoever holds a mark, the history or a log keeps nothing from being done but what he holds, and nobody waits for him.
#[test]
fn a_round_waits_for_nobody_who_holds_a_mark() {
    tell(Who::Owner, |story| {
        story.options = "    keep_marks: 2\n".to_owned();
        story.sql("create table t (id bigserial primary key, v text)");
        story.install("t");
        for mark in ["m1", "m2", "m3", "m4", "m5"] {
            story.mark(mark);
            story.sql("insert into t (v) values ('x')");
        }
        let mut holder = story.db.client();
        let hold = |holder: &mut postgres::Client, sql: &str| {
            holder.batch_execute(&format!("begin; {sql}")).expect("a lock");
        };
        hold(
            &mut holder,
            "select from emaj.emaj_mark where mark_name = 'm2' for update",
        );
        let heard = soon(story, "select emaj.emaj_purge_group('g')");
        // (One log row is from before `m2`, which is the first mark now.)
        assert_eq!(heard.lines().last(), Some("1"), "{heard}");
        assert_eq!(marks(story), "m2,m4,m5", "all but the one that is held went");
        // A command, and a worker's round, say so.
        let run = story
            .prepare(&["group", "purge", "g"])
            .env("PGOPTIONS", "-c statement_timeout=20s")
            .run()
            .ok();
        let words = "mark `m2` of group `g` is held by another session";
        assert!(run.stderr.contains(words), "{run}");
        let done = purge(story);
        assert!(
            done["problem"].as_str().is_some_and(|problem| problem.contains(words)),
            "{done}"
        );
        holder.batch_execute("rollback").expect("it ends");
        // By a foreign key that refers to it, it is held too.
        hold(
            &mut holder,
            "select from emaj.emaj_mark where mark_name = 'm2' for key share",
        );
        let done = purge(story);
        assert!(
            done["problem"].as_str().is_some_and(|problem| problem.contains(words)),
            "{done}"
        );
        holder.batch_execute("rollback").expect("it ends");
        let done = purge(story);
        assert_eq!((&done["marks"], done.get("problem")), (&1.into(), None), "{done}");
        assert_eq!(marks(story), "m4,m5");
        assert_eq!(story.ask("select count(*) from emaj.emaj_mark_sequence where seq_mark not in (select mark_id from emaj.emaj_mark)"), "0");

        // The state of sequences at a mark, a whole table of the registry, lines of the history.
        for held in [
            "select from emaj.emaj_mark_sequence for update",
            "lock table emaj.emaj_mark in share mode",
            "lock table emaj.emaj_mark_count in share mode",
            "select from emaj.emaj_hist for update",
            "select from emaj.emaj_relation for update",
            "select from emaj.emaj_group for update",
        ] {
            story.mark("NEXT_%");
            story.sql("insert into t (v) values ('x'); update emaj.emaj_hist set hist_datetime = hist_datetime - interval '2 years' where hist_id % 2 = 0");
            hold(&mut holder, held);
            soon(story, "select emaj.emaj_purge_group('g')");
            let run = story
                .prepare(&["group", "purge", "g"])
                .env("PGOPTIONS", "-c statement_timeout=20s")
                .run();
            assert_eq!(run.status, Some(0), "{held}: {run}");
            holder.batch_execute("rollback").expect("it ends");
        }
        let done = purge(story);
        assert_eq!(done.get("problem"), None, "{done}");
        nothing_to_change(story);
    });
}

/// A log that somebody has just emptied, whose transaction is open, is left to the next time: the others are done, also where he would be waited for.
#[test]
fn a_purge_leaves_a_log_that_is_held_to_the_next() {
    tell(Who::Owner, |story| {
        story.options = "    max_size: 1 GB\n".to_owned();
        story.sql(
            "create table t (id bigserial primary key, v text); create table u (id bigserial primary key, v text)",
        );
        story.install("*");
        story.sql("insert into t (v) values ('x'); insert into u (v) values ('x'); set lock_timeout = '60s'");
        story.mark("m");
        let log = story.ask("select rel_log from emaj.emaj_relation where rel_name = 't'");
        let mut holder = story.db.client();
        holder
            .batch_execute(&format!("begin; lock table emaj.\"{log}\" in access exclusive mode"))
            .unwrap();
        assert_eq!(soon(story, "select emaj.emaj_delete_before_mark_group('g', 'm')"), "1");
        assert_eq!(
            story.ask("select hist_wording from emaj.emaj_hist where hist_function = 'PURGE_GROUP'"),
            "1 log row"
        );
        holder.batch_execute("rollback").unwrap();
        assert_eq!(soon(story, "select emaj.emaj_purge_group('g')"), "1");
    });
}

/// With a `max_size`, what the logs take is looked at once for each group and round.
#[test]
fn a_round_looks_at_the_size_of_all_logs_once() {
    tell(Who::Superuser, |story| {
        story.options = "    max_size: 100 MB\n".to_owned();
        for number in 0..6 {
            story.sql(&format!("create table t{number} (id bigserial primary key, v text)"));
        }
        story.install("*");
        let fill = |story: &mut Story<'_>, rows: u32| {
            for number in 0..6 {
                story.sql(&format!(
                    "insert into t{number} (v) select repeat('x', 200) from generate_series(1, {rows})"
                ));
            }
        };
        fill(story, 6000);
        story.mark("m");
        story.sql("select emaj.emaj_delete_mark_group('g', mark_name) from emaj.emaj_mark where mark_name <> 'm'");
        fill(story, 6000);
        // (Emptied by size: some by another round.)
        purge(story);
        fill(story, 6000);
        story.sql_as_superuser(&format!(
            "alter database {} set track_functions = 'all'",
            story.db.name()
        ));
        let looks = |story: &mut Story<'_>| {
            story.ask("select pg_stat_clear_snapshot(); select coalesce(sum(calls), 0) from pg_stat_user_functions where schemaname = 'emaj' and funcname = '_logs_size'")
        };
        let before = looks(story);
        let done = purge(story);
        // What a session counted is there when it has ended.
        let looked = support::wait_for("the counts of the session", 60, || {
            let now = looks(story);
            (now != before).then_some(now)
        });
        let sessions = "select count(*) from pg_stat_activity where datname = current_database() and application_name like 'emaj%'";
        support::wait_for("the session to end", 60, || (story.ask(sessions) == "0").then_some(()));
        let looked = looks(story).lines().last().map(str::to_owned).unwrap_or(looked);
        assert_eq!(looked, "1", "{done}");
        // And what it says is what is left.
        let id = story.ask("select rel_id from emaj.emaj_relation where rel_name = 't0'");
        story.mark("last");
        story.sql("delete from emaj.emaj_mark where mark_name <> 'last'");
        let logs = story.ask(
            "select string_agg(format('emaj.%I', rel_log), ', ') from emaj.emaj_relation where rel_log is not null",
        );
        // (The lock: an autovacuum in between would make files of its own.)
        let sizes = story.ask(&format!(
            "begin; lock table {logs} in share update exclusive mode; \
             select emaj._logs_size('g', null); \
             select purge_size from emaj.emaj_purge_table({id}, emaj._logs_size('g', null)); \
             select emaj._logs_size('g', null); commit"
        ));
        let sizes: Vec<&str> = sizes.lines().filter(|line| line.parse::<u64>().is_ok()).collect();
        let [before, said, after] = sizes[..] else {
            panic!("{sizes:?}")
        };
        assert_eq!(said, after);
        assert_ne!(said, before);
        nothing_to_change(story);
    });
}

#[test]
fn a_purge_that_is_interrupted_says_what_it_did() {
    tell(Who::Owner, |story| {
        story.options += "    keep_marks: 1\n";
        story.sql("create table t (id int primary key)");
        story.install("t");
        story.sql("insert into t values (1), (2)");
        story.mark("kept");
        // The last thing of a round, which waits here.
        story.sql_as_superuser(
            "create function public.wait() returns trigger language plpgsql as $$ begin perform pg_advisory_xact_lock(1); return old; end $$;
             create trigger wait before delete on emaj.emaj_hist for each row execute function public.wait();
             update emaj.emaj_param set param_value_interval = '1 year' where param_key = 'history_retention';
             update emaj.emaj_hist set hist_datetime = hist_datetime - interval '10 years' where hist_id = (select min(hist_id) from emaj.emaj_hist)",
        );
        story.sql("select pg_advisory_lock(1)");
        let waits = "select count(*) from pg_locks where not granted and locktype = 'advisory' \
                     and database = (select oid from pg_database where datname = current_database())";
        let run = story.prepare(&["group", "purge"]).run_while(|pid| {
            support::until("the round to wait", || story.db.psql(waits) == "1");
            let sent = Command::new("kill").args(["-INT", &pid.to_string()]).status().unwrap();
            assert!(sent.success());
        });
        let said = &run.code(130).stderr;
        assert!(
            said.contains("purged group `g`: 2 log rows removed; 1 mark deleted"),
            "{said}"
        );
        assert!(
            said.contains("error: interrupted; what was purged before is gone"),
            "{said}"
        );
        story.sql("select pg_advisory_unlock(1)");
        assert_eq!(
            story.ask("select string_agg(mark_name, ' ') from emaj.emaj_mark"),
            "kept"
        );
    });
}
