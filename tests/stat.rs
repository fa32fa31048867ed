//! Statistics: what `emaj stat` and its SQL functions count, and that a count that was written down is the one that the log gives.

use crate::support::shop::Shop;
use crate::support::story::{Story, Who, stories, tell};

const TABLES: &str = "create table t (id serial primary key, v int); create table u (id int primary key)";

/// Marks, oldest first.
fn marks(story: &mut Story<'_>) -> Vec<String> {
    story
        .ask("select mark_name from emaj.emaj_mark order by mark_id")
        .lines()
        .map(str::to_owned)
        .collect()
}

/// What is counted between each two marks, and from each mark until now.
fn counted(story: &mut Story<'_>) -> Vec<String> {
    let marks = marks(story);
    let mut all = Vec::new();
    for (at, from) in marks.iter().enumerate() {
        for to in marks[at..]
            .iter()
            .map(|name| format!("'{name}'"))
            .chain(["null".to_owned()])
        {
            let counts = story.ask(&format!(
                "select string_agg(stat_table || ' ' || stat_rows, ', ' order by stat_table) from emaj.emaj_log_stat_group('g', '{from}', {to})"
            ));
            all.push(format!("{from} {to}: {counts}"));
        }
    }
    all
}

/// With few transactions between the marks, and with many: they are counted in two ways.
#[test]
fn what_was_written_down_is_what_the_log_gives() {
    written_down_is_what_the_log_gives(false);
    written_down_is_what_the_log_gives(true);
}

fn written_down_is_what_the_log_gives(are_many: bool) {
    tell(Who::Owner, |story| {
        story.sql(TABLES);
        story.install("*");
        // Transactions that run while marks are set, of one kind and the other; some of them set a mark themselves.
        let mut others: Vec<postgres::Client> = (0..3)
            .map(|_| story.db.client_as(story.role.as_ref().unwrap()))
            .collect();
        for round in 0..12 {
            let other = &mut others[round % 3];
            match round {
                0 | 1 | 5 | 9 => other.batch_execute(&format!("begin; insert into t (v) select 100 + {round} from generate_series(1, 3); update t set v = 0 where v = 100 + {round}")).unwrap(),
                2 => other.batch_execute("begin; insert into t (v) values (1); select emaj.emaj_set_mark_group('g', 'own 1'); insert into u values (-1), (-2); select emaj.emaj_set_mark_group('g', 'own 2'); insert into t (v) values (1); commit").unwrap(),
                3 | 7 => other.batch_execute("insert into t (v) values (7); commit").unwrap(),
                10 => other.batch_execute("rollback").unwrap(),
                _ => {}
            }
            story.sql(&format!("insert into t (v) values ({round}); insert into u values ({round}); delete from u where id = {round} - 2"));
            story.mark(&format!("m{round}"));
            if are_many && round == 6 {
                story.sql("create temporary table used (n int); do $$ begin for n in 1 .. 20001 loop begin insert into used values (n); exception when division_by_zero then null; end; end loop; end $$");
            }
        }
        // (A truncate would wait for those that are still open: they are in the last interval.)
        others[2].batch_execute("commit").unwrap();
        story.sql("truncate u");
        let read = counted(story);
        assert!(read.iter().any(|line| line.starts_with("m3 'm9': t ")), "{read:#?}");
        let sets = story.ask("select count(distinct stat_rows) from emaj.emaj_mark m cross join lateral emaj.emaj_log_stat_group('g', m.mark_name, null)");
        assert!(sets.parse::<i32>().unwrap() > 8, "the intervals differ: {sets}");
        let all = marks(story).len() - 1;
        assert_eq!(story.ask("select emaj.emaj_count_group('g')"), all.to_string());
        assert_eq!(
            story.ask("select emaj.emaj_count_group('g')"),
            "0",
            "nothing is counted twice"
        );
        assert_eq!(counted(story), read);
        // With gaps among what was written down, and one by one instead of in one go.
        story.sql("delete from emaj.emaj_mark_count where count_mark % 3 = 0");
        assert_eq!(counted(story), read);
        assert_ne!(story.ask("select emaj.emaj_count_group('g')"), "0");
        assert_eq!(counted(story), read);
        // It is not read again: the logs may be empty. (They cannot be while somebody is still writing.)
        others[0].batch_execute("rollback").unwrap();
        story.sql("do $$ declare l text; begin for l in select rel_log from emaj.emaj_relation where rel_log is not null loop execute format('truncate emaj.%I', l); end loop; end $$");
        let closed = |lines: &[String]| {
            lines
                .iter()
                .filter(|line| !line.contains(" null:"))
                .cloned()
                .collect::<Vec<_>>()
        };
        assert_eq!(closed(&counted(story)), closed(&read));
    });
}

stories! {
    an_old_snapshot_does_not_take_an_emptied_log_for_a_whole_one(story) {
        // Who empties the logs: a purge without counts, a rollback that is not logged, a reset.
        for emptied in [
            "select emaj.emaj_delete_mark_group('g', 'a'); select emaj.emaj_purge_group('g')",
            "select emaj.emaj_rollback_group('g', 'b')",
            "select emaj.emaj_stop_group('g'); select emaj.emaj_reset_group('g')",
        ] {
            story.sql("drop table if exists t, u");
            story.sql(TABLES);
            story.install("*");
            story.sql("select emaj.emaj_set_mark_group('g', 'a'); select emaj.emaj_delete_before_mark_group('g', 'a')");
            if emptied.contains("rollback") {
                story.sql("select emaj.emaj_set_mark_group('g', 'b')");
            }
            story.sql("insert into t (v) select 1 from generate_series(1, 7); insert into u values (1)");
            let mut old = match &story.role {
                Some(role) => story.db.client_as(role),
                None => story.db.client(),
            };
            old.batch_execute("begin isolation level repeatable read; select count(*) from t").expect("a snapshot");
            if !emptied.contains("rollback") {
                story.mark("b");
            }
            story.sql(emptied);
            story.sql("insert into t (v) values (1)");
            let functions = [
                "select stat_table, stat_rows, stat_exact from emaj.emaj_log_stat_group('g', 'a', null)",
                "select stat_table, sum(stat_rows)::bigint, bool_and(stat_exact) from emaj.emaj_detailed_log_stat_group('g', 'a', null) group by 1",
                "select stat_name, sum(stat_changes)::bigint, bool_and(stat_exact) from emaj.emaj_interval_stat_group('g', 'a') group by 1",
            ];
            for function in functions {
                for row in old.query(function, &[]).unwrap_or_else(|error| panic!("{error:?}\n{function}")) {
                    let (table, rows, exact): (String, i64, bool) = (row.get(0), row.get(1), row.get(2));
                    let there = if table == "t" { 7 } else { 1 };
                    assert!(rows == there || !exact && rows < there, "{emptied}: {function}: {table} {rows} for {there}, exact: {exact}");
                }
            }
            old.batch_execute("commit").expect("it is over");
            // A snapshot of now is right about what is there now.
            let now = story.ask("select stat_rows || ' ' || stat_exact from emaj.emaj_log_stat_group('g', null, null) where stat_table = 't'");
            assert_eq!(now, if emptied.contains("reset") { "0 true" } else { "1 true" }, "{emptied}");
            story.emaj(&["uninstall", "--all", "--yes"]).ok();
        }
    }

    a_rollback_and_a_deleted_mark_leave_no_count_behind(story) {
        story.sql(TABLES);
        story.install("*");
        for mark in ["a", "b", "c", "d"] {
            story.mark(mark);
            story.sql("insert into t (v) values (1), (2)");
        }
        story.sql("select emaj.emaj_count_group('g')");
        story.sql("select emaj.emaj_delete_mark_group('g', 'c')");
        let count = "select stat_rows from emaj.emaj_log_stat_group('g', 'b', 'd') where stat_table = 't'";
        assert_eq!(story.ask(count), "4");
        story.sql("select emaj.emaj_count_group('g')");
        assert_eq!(story.ask(count), "4");
        story.rollback("b");
        assert_eq!(story.ask("select stat_rows from emaj.emaj_log_stat_group('g', 'b', null) where stat_table = 't'"), "0");
        story.sql("insert into t (v) values (1)");
        story.mark("d");
        story.sql("select emaj.emaj_count_group('g')");
        assert_eq!(story.ask(count), "1");
        assert_eq!(story.ask("select count(*) from emaj.emaj_mark_count where count_until not in (select mark_id from emaj.emaj_mark)"), "0");
    }

    a_consolidated_rollback_is_counted_no_more(story) {
        story.sql(TABLES);
        story.install("*");
        story.mark("a");
        story.sql("insert into u values (1), (2)");
        story.logged_rollback("a");
        story.sql("select emaj.emaj_rename_mark_group('g', (select mark_name from emaj.emaj_mark where mark_goes_back_to is not null), 'end')");
        let count = "select stat_rows from emaj.emaj_log_stat_group('g', 'a', 'end') where stat_table = 'u'";
        // As successive marks, so that they are what is counted between.
        story.sql("delete from emaj.emaj_mark where mark_name not in ('a', 'end')");
        story.sql("select emaj.emaj_count_group('g')");
        assert_eq!(story.ask(count), "4");
        assert_ne!(story.ask("select count(*) from emaj.emaj_mark_count"), "0");
        story.sql("select emaj.emaj_consolidate_rollback_group('g', 'end')");
        assert_eq!(story.ask(count), "0");
        story.sql("select emaj.emaj_count_group('g')");
        assert_eq!(story.ask(count), "0");
    }

    more_marks_than_are_counted_in_one_go(story) {
        story.sql(TABLES);
        story.install("*");
        story.mark("first");
        story.sql("do $$ begin for n in 1 .. 250 loop insert into u values (n); perform emaj.emaj_set_mark_group('g', 'n' || n); end loop; end $$");
        story.sql("insert into u values (0)");
        let both = "select string_agg(stat_rows::text, ' ') from emaj.emaj_log_stat_group('g', 'first', 'n250') where stat_table = 'u' union all
                    select string_agg(stat_rows::text, ' ') from emaj.emaj_log_stat_group('g', 'n7', 'n240') where stat_table = 'u'";
        assert_eq!(story.ask(both), "250\n233");
        assert_eq!(story.ask("select emaj.emaj_count_group('g', 'first', 'n2')"), "2");
        assert_eq!(story.ask("select emaj.emaj_count_group('g', 'first')"), "248");
        assert_eq!(story.ask(both), "250\n233");
        assert_eq!(story.ask("select count(*) from emaj.emaj_interval_stat_group('g', 'first', 'n250', false) where stat_name = 'u' and stat_changes = 1"), "250");
    }

    it_counts_for_those_who_only_read(story) {
        story.sql(TABLES);
        story.install("*");
        story.mark("a");
        story.sql("insert into u values (1), (2)");
        story.mark("b");
        story.sql("set default_transaction_read_only = on");
        assert_eq!(story.ask("select emaj.emaj_count_group('g')"), "0");
        assert_eq!(story.ask("select stat_rows, stat_exact from emaj.emaj_log_stat_group('g', 'a', 'b') where stat_table = 'u'"), "2");
        story.sql("set default_transaction_read_only = off");
        // Beside somebody who counts too, it writes nothing and does not wait.
        let mut other = match &story.role {
            Some(role) => story.db.client_as(role),
            None => story.db.client(),
        };
        other.batch_execute("begin; select emaj.emaj_count_group('g')").unwrap();
        assert_eq!(story.ask("select emaj.emaj_count_group('g')"), "0");
        other.batch_execute("commit").unwrap();
        assert_eq!(story.ask("select emaj.emaj_count_group('g')"), "0", "the other one has done it");
        assert_eq!(story.ask("select count(*) > 0 from emaj.emaj_mark_count"), "t");
    }

    sequences(story) {
        story.sql("create table t (id serial primary key); create sequence up; create sequence down increment -3 minvalue -1000 maxvalue -1; create sequence round maxvalue 3 cycle;
                   create sequence wide minvalue -9223372036854775808 maxvalue 9223372036854775807 start -9223372036854775808");
        story.install("*");
        story.mark("a");
        story.sql("select nextval('up'); select nextval('down') from generate_series(1, 4); select nextval('round') from generate_series(1, 4)");
        story.mark("b");
        story.sql("alter sequence up increment 10; select nextval('up') from generate_series(1, 2); select setval('down', -1, false); select setval('wide', 9223372036854775807)");
        let stat = |story: &mut Story<'_>, from: &str, to: &str| {
            story.ask(&format!("select concat_ws(' ', stat_sequence, stat_increments, case when stat_has_structure_changed then 'altered' end) from emaj.emaj_sequence_stat_group('g', {from}, {to})"))
        };
        assert_eq!(stat(story, "'a'", "'b'"), "down 4\nround 1\nt_id_seq 0\nup 1\nwide 0");
        assert_eq!(stat(story, "'b'", "null"), "down -4\nround 0\nt_id_seq 0\nup 2 altered\nwide 9223372036854775807");
        assert_eq!(stat(story, "null", "'b'"), stat(story, "'a'", "'b'"));
        assert_eq!(
            story.ask("select concat_ws(' ', stat_first_mark, stat_last_mark, stat_increments, stat_has_structure_changed) from emaj.emaj_log_stat_sequence(current_schema, 'up', 'g', 'a')"),
            "a b 1 f\nb 2 t"
        );
    }

    one_table_from_mark_to_mark(story) {
        story.sql(TABLES);
        story.install("t");
        story.mark("a");
        story.sql("insert into t (v) values (1), (2)");
        story.mark("b");
        story.install("*");
        story.mark("c");
        story.sql("insert into u values (1)");
        story.logged_rollback("c");
        let table = |story: &mut Story<'_>, rest: &str| {
            story.ask(&format!("select concat_ws(' ', regexp_replace(stat_first_mark, '_.*', ''), regexp_replace(stat_last_mark, '_.*', ''), stat_changes, stat_rollbacks) from emaj.emaj_log_stat_table(current_schema, {rest})"))
        };
        let t = table(story, "'t', 'g', 'a'");
        assert_eq!(t, "a b 2 0\nb INSTALL 0 0\nINSTALL c 0 0\nc RLBK 0 0\nRLBK RLBK 0 1\nRLBK 0 0");
        assert_eq!(table(story, "'t', 'g', 'a', 'g', 'b'"), "a b 2 0");
        let a = "(select mark_datetime::text from emaj.emaj_mark where mark_name = 'a')";
        assert_eq!(table(story, &format!("'t', {a}, null, '3000-01-01'")), t);
        assert_eq!(table(story, &format!("'t', {a}, '3000-01-01'")), t, "two times one behind the other");
        assert_eq!(table(story, &format!("'t', {a}, {a}")), "");
        assert_eq!(table(story, "'u'").lines().next(), Some("INSTALL c 0 0"), "not before it was captured");
        assert!(story.refused("select emaj.emaj_log_stat_table('no', 'where')").contains("is in no group"));
        assert!(story.refused("select emaj.emaj_log_stat_table(current_schema, 't', 'g', 'no')").contains("has no mark `no`"));
        assert!(story.refused("select emaj.emaj_log_stat_table(current_schema, 't', 'soon')").contains("is no time"));
    }

    what_was_done_while_the_group_was_stopped_is_in_no_count(story) {
        story.options = "    retention: 1 day\n".to_owned();
        story.sql(TABLES);
        story.install("*");
        story.mark("a");
        story.sql("insert into u values (1)");
        story.sql("select emaj.emaj_stop_group('g', 'end')");
        let exact = |story: &mut Story<'_>, from: &str, to: &str| {
            story.ask(&format!(
                "select emaj.emaj_count_group('g') is null
                 union all select bool_and(stat_exact) from emaj.emaj_log_stat_group('g', '{from}', {to})
                 union all select bool_and(stat_exact) from emaj.emaj_detailed_log_stat_group('g', '{from}', {to})
                 union all select bool_and(stat_exact) from emaj.emaj_interval_stat_group('g', '{from}', {to})"
            ))
        };
        assert_eq!(exact(story, "a", "'end'"), "f\nt\nt\nt");
        assert_eq!(exact(story, "a", "null"), "f\nf\nf\nt", "of a stopped group the last interval is over");
        story.sql("insert into u values (2); select emaj.emaj_start_group('g', 'again', false); insert into u values (3)");
        assert_eq!(exact(story, "a", "'end'"), "f\nt\nt\nt");
        assert_eq!(exact(story, "a", "'again'"), "f\nf\nf\nt", "the interval in between is left out");
        assert_eq!(exact(story, "a", "null"), "f\nf\nf\nt");
        story.sql("select emaj.emaj_delete_mark_group('g', 'end')");
        assert_eq!(exact(story, "a", "'again'"), "f\nf\nf\nf");
        assert_eq!(exact(story, "again", "null"), "f\nt\nt\nt");
        let told = story.emaj(&["stat", "g", "--from", "a"]).ok();
        assert!(told.stdout.contains("≥ 2") && told.stderr.contains("or the group was stopped for a while"), "{told}");
        let told = story.emaj(&["stat", "g", "--from", "again"]).ok();
        assert!(!told.stdout.contains('≥') && told.stderr.is_empty(), "{told}");
    }

    what_was_purged_is_at_least(story) {
        story.options = "    rollback: false\n    retention: 0 seconds\n".to_owned();
        story.sql(TABLES);
        story.install("*");
        story.mark("a");
        story.sql("insert into u values (1), (2)");
        story.mark("b");
        story.sql("insert into u values (3)");
        story.mark("c");
        let shown = "select stat_rows || ' ' || stat_exact from emaj.emaj_log_stat_group('g', 'a', 'c') where stat_table = 'u'";
        assert_eq!(story.ask(shown), "3 true");
        story.emaj(&["group", "purge"]).ok();
        assert_eq!(story.ask("select count(*) from emaj.emaj_relation, lateral emaj._parts(rel_log) where part_size > 0"), "0");
        assert_eq!(story.ask(shown), "3 true", "a round counts what it takes away");
        story.sql("delete from emaj.emaj_mark_count");
        assert_eq!(story.ask(shown), "0 false");
        assert_eq!(story.ask("select emaj.emaj_count_group('g')"), "0", "what is not exact is not written down");
    }
}

#[test]
fn several_groups_between_marks_of_one_instant() {
    let shop = Shop::open(
        "create schema a; create schema b; create table a.t (id int primary key); create table b.t (id serial primary key)",
        "version: 1\nroles: { admin: null, viewer: null }\ngroups: { one: { tables: [a.*] }, two: { tables: [b.*] } }\n",
    );
    shop.run(&["mark", "set", "one", "both", "--with", "two"]).ok();
    shop.sql("insert into a.t values (1); insert into b.t default values; update b.t set id = 7");
    let run = shop.run(&["stat", "one", "two", "--from", "both", "-o", "json"]).ok();
    let rows = run.stdout_json();
    assert_eq!(
        rows[0],
        serde_json::json!({ "group": "one", "schema": "a", "table": "t", "changes": 1, "exact": true })
    );
    assert_eq!((&rows[1]["group"], &rows[1]["changes"]), (&"two".into(), &2.into()));
    let run = shop
        .run(&["stat", "two", "one", "--from", "both", "--sequences", "-o", "csv"])
        .ok();
    assert_eq!(run.stdout, "group,sequence,increments,altered\ntwo,b.t_id_seq,1,\n");
    let run = shop
        .run(&[
            "stat",
            "one",
            "two",
            "--from",
            "both",
            "--detailed",
            "--table",
            "b.t",
            "-o",
            "csv",
        ])
        .ok();
    assert!(
        run.stdout.starts_with("group,table,role,verb,changes\ntwo,b.t,") && run.stdout.lines().count() == 3,
        "{}",
        run.stdout
    );
    let run = shop
        .run(&[
            "stat",
            "one",
            "--intervals",
            "--table",
            "a.t",
            "--from",
            "both",
            "-o",
            "json",
        ])
        .ok();
    assert_eq!(run.stdout_json()[0]["changes"], 1);
    assert_eq!(run.stdout_json()[0]["to"], serde_json::Value::Null);
    let twice = shop
        .run(&["stat", "one", "one", "--intervals", "--from", "both", "-o", "csv"])
        .ok();
    assert!(
        twice.stdout.starts_with("name,") && twice.stdout.lines().count() == 2,
        "{twice}"
    );
    shop.run(&["mark", "set", "one", "single"]).ok();
    shop.run(&["mark", "set", "two", "single"]).ok();
    let run = shop.run(&["stat", "one", "two", "--from", "single"]).code(4);
    assert!(
        run.stderr.contains("is not one instant in the groups"),
        "{}",
        run.stderr
    );
    let run = shop.run(&["stat", "one", "--table", "a.tt"]).code(4);
    assert!(run.stderr.contains("did you mean `a.t`?"), "{}", run.stderr);
    shop.run(&["stat", "one", "--table", "a."]).code(64);
}

#[test]
fn a_table_that_left_and_came_again_is_one_row() {
    tell(Who::Owner, |story| {
        story.sql("create table t (id int generated always as identity primary key, v text); create table u (id int primary key)");
        story.install("*");
        story.mark("m");
        story.sql("insert into t (v) values ('a'), ('b')");
        let table = format!("{}.t", story.schema);
        story.emaj(&["release", &table, "--yes"]).ok();
        story.sql("insert into t (v) values ('unseen')");
        story.install("*");
        story.sql("insert into t (v) values ('c'); insert into u values (1)");
        let stat = |words: &[&str]| {
            let words: Vec<&str> = [&["stat", "g", "--from", "m", "-o", "json"][..], words].concat();
            let rows = story.emaj(&words).ok().stdout_json();
            let rows = rows.as_array().unwrap().iter();
            rows.map(|row| {
                format!(
                    "{} {}",
                    row["table"].as_str().or(row["sequence"].as_str()).unwrap(),
                    row["changes"].as_i64().or(row["increments"].as_i64()).unwrap()
                )
            })
            .collect::<Vec<_>>()
        };
        assert_eq!(stat(&[]), ["t 3", "u 1"]);
        assert_eq!(stat(&["--detailed"]), ["t 3", "u 1"]);
        assert_eq!(stat(&["--sequences"]), ["t_id_seq 4"]);
    });
}
