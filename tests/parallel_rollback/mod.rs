//! A rollback in several sessions does what one session does, to the byte; it is all or nothing wherever it is broken off.

mod crashes;
mod together;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::story::{State, Story, Who, tell};
use crate::support::{Emaj, Run, emaj, said, until};

/// Two tables tied by a foreign key, and three that stand alone; nothing is deferrable, so an ordinary owner needs the order.
const TABLES: &str = "
    create table child (id int primary key, parent int not null, v text);
    create table parent (id int primary key, v text);
    alter table child add foreign key (parent) references parent on delete cascade on update cascade;
    create table counted (id bigint generated always as identity primary key, v numeric);
    create table parted (r int, id int, v text, primary key (r, id)) partition by list (r);
    create table parted_0 partition of parted for values in (0);
    create table parted_1 partition of parted for values in (1);
    create table plain (id int primary key, v text, n int unique);
    create sequence drawn increment 5;
    insert into parent select n, 'p' || n from generate_series(1, 40) n;
    insert into child select n, 1 + n % 40, 'c' || n from generate_series(1, 120) n;
    insert into counted (v) select n from generate_series(1, 50) n;
    insert into parted select n % 2, n, 'x' from generate_series(1, 60) n;
    insert into plain select n, 'y', n from generate_series(1, 30) n;
    select nextval('drawn')";

/// Changes of every kind, in several transactions.
const CHANGES: &[&str] = &[
    "delete from parent where id % 4 = 0; insert into parent values (100, 'new') on conflict do nothing; insert into child values (500, 100, 'new') on conflict do nothing",
    "update child set v = v || '.', parent = 1 where id % 3 = 0; update parent set id = id + 1000 where id = 39",
    "insert into counted (v) values (0.10), (0.100); update counted set v = v + 1 where id % 2 = 0; delete from counted where id % 5 = 0",
    "update parted set r = 1 - r where id % 7 = 0; delete from parted where id % 9 = 0; truncate parted_1",
    "update plain set n = n + 1000 where id % 2 = 0; delete from plain where id < 5; insert into plain values (3, 'again', 77)",
    "select nextval('drawn'), nextval('drawn')",
];

/// A group that is captured, a mark `m`, and changes after it; returns the states at the mark and now.
fn changed(story: &mut Story<'_>) -> (State, State) {
    story.sql(TABLES);
    story.install("*");
    story.mark("m");
    let at_mark = story.state();
    change(story);
    (at_mark, story.state())
}

fn change(story: &mut Story<'_>) {
    for changes in CHANGES {
        story.sql(changes);
    }
}

/// Prepares a rollback in three sessions.
fn rollback(story: &Story<'_>, mark: &str, more: &[&str]) -> Emaj {
    story
        .prepare(&["rollback", "g", mark, "--yes", "--jobs", "3"])
        .args(more)
}

/// A file that holds a run at a point for as long as it is there.
fn hold(story: &Story<'_>, name: &str) -> PathBuf {
    story.db.dir().join(name)
}

fn held(run: Emaj, point: &str, file: &std::path::Path) -> Emaj {
    run.env("EMAJ_FAIL_AT", point).env("EMAJ_FAIL_HOLD", file)
}

fn mark_like(story: &mut Story<'_>, end: &str) -> String {
    story.ask(&format!(
        "select mark_name from emaj.emaj_mark where mark_name like 'RLBK%{end}' order by mark_id desc limit 1"
    ))
}

/// Nothing is left over: no prepared transaction, no rollback that is not over, no work table; capture is on.
#[track_caller]
fn nothing_left(story: &mut Story<'_>) {
    assert_eq!(
        story.ask("select gid from pg_prepared_xacts where database = current_database()"),
        ""
    );
    assert_eq!(story.ask("select * from emaj.emaj_unfinished_rollbacks()"), "");
    assert_eq!(
        story.ask("select relname from pg_class where relnamespace = 'emaj'::regnamespace and relname like 'work\\_%'"),
        ""
    );
    assert_eq!(story.ask("select * from emaj.emaj_verify_all()"), "No error detected");
    assert_eq!(
        story.ask("select pid from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())"),
        ""
    );
}

/// Transactions that come and go, and one that stays, so that the numbers of the lanes are not alone in a snapshot.
fn beside<T>(story: &Story<'_>, work: impl FnOnce() -> T) -> T {
    let over = Arc::new(AtomicBool::new(false));
    let mut clients: Vec<_> = (0..3).map(|_| story.db.client()).collect();
    clients[0]
        .batch_execute("create table if not exists public.beside (n bigint)")
        .unwrap();
    let mut old = story.db.client();
    old.batch_execute("begin; insert into public.beside values (0)")
        .unwrap();
    let writers: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    client
                        .batch_execute("begin; insert into public.beside values (1); select pg_sleep(0.01); commit")
                        .unwrap();
                }
            })
        })
        .collect();
    let done = work();
    over.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().unwrap();
    }
    old.batch_execute("commit").unwrap();
    done
}

fn logged_and_undone_and_done_again(who: Who) {
    tell(who, |story| {
        let (at_mark, changed) = changed(story);
        let run = beside(story, || rollback(story, "m", &[]).run().ok());
        said(&run, "by 3 sessions");
        assert_eq!(story.state(), at_mark);
        nothing_left(story);
        let (start, end) = (mark_like(story, "START"), mark_like(story, "DONE"));
        assert_eq!(
            story.ask("select rlbk_state || cardinality(rlbk_prepared) from emaj.emaj_rollback"),
            "DONE3"
        );
        // What the statistics say of the rollback is what it did.
        let counted = "select sum(stat_rows) from emaj.emaj_log_stat_group('g', '{}', '{}')";
        let between = |from: &str, to: &str| counted.replacen("{}", from, 1).replacen("{}", to, 1);
        let did = story.ask("select sum(rlbt_inserted + rlbt_updated + rlbt_deleted) from emaj.emaj_rollback_table");
        assert!(did.parse::<i64>().unwrap() > 50, "{did}");
        assert_ne!(story.ask(&between(&start, &end)), "0");
        assert_eq!(
            story.ask(&format!(
                "select sum(stat_rows) from emaj.emaj_log_stat_group('g', '{end}', null)"
            )),
            "0"
        );
        // Changes after it, back to its end; back to its start, which undoes it; back to the mark, in one session.
        change(story);
        beside(story, || rollback(story, &end, &[]).run().ok());
        assert_eq!(story.state(), at_mark);
        beside(story, || rollback(story, &start, &[]).run().ok());
        assert_eq!(story.state(), changed);
        story.rollback(&end);
        assert_eq!(story.state(), at_mark);
        change(story);
        rollback(story, "m", &["--unlogged"]).run().ok();
        assert_eq!(story.state(), at_mark);
        nothing_left(story);
    });
}

#[test]
fn logged_and_undone_and_done_again_by_a_superuser() {
    logged_and_undone_and_done_again(Who::Superuser);
}

#[test]
fn logged_and_undone_and_done_again_by_an_owner() {
    logged_and_undone_and_done_again(Who::Owner);
}

fn unlogged_leaves_no_mark_and_no_log(who: Who) {
    tell(who, |story| {
        let (at_mark, _) = changed(story);
        story.mark("later");
        change(story);
        rollback(story, "m", &["--unlogged"]).run().ok();
        assert_eq!(story.state(), at_mark);
        assert_eq!(
            story.ask("select mark_name from emaj.emaj_mark where mark_name !~ '^START'"),
            "m"
        );
        assert_eq!(
            story.ask("select coalesce(sum(stat_rows), 0) from emaj.emaj_log_stat_group('g', 'm', null)"),
            "0"
        );
        nothing_left(story);
        // And capture goes on.
        story.sql("update plain set v = 'once more' where id = 7");
        assert_ne!(story.state(), at_mark);
        rollback(story, "m", &["--unlogged"]).run().ok();
        assert_eq!(story.state(), at_mark);
    });
}

#[test]
fn unlogged_leaves_no_mark_and_no_log_for_a_superuser() {
    unlogged_leaves_no_mark_and_no_log(Who::Superuser);
}

#[test]
fn unlogged_leaves_no_mark_and_no_log_for_an_owner() {
    unlogged_leaves_no_mark_and_no_log(Who::Owner);
}

#[test]
fn a_stop_is_part_of_the_rollback() {
    for more in [&["--stop"][..], &["--stop", "--unlogged"]] {
        tell(Who::Owner, |story| {
            let (at_mark, _) = changed(story);
            let run = rollback(story, "m", more).run().ok();
            said(&run, "the group is stopped");
            assert_eq!(story.state(), at_mark);
            assert_eq!(story.ask("select group_state from emaj.emaj_group"), "IDLE");
            assert_eq!(
                story.ask("select count(*) from emaj.emaj_mark where mark_state = 'ACTIVE'"),
                "0"
            );
            // Nothing is captured any more, and starting again works.
            story.sql("update plain set v = 'unseen'");
            assert_eq!(story.ask("select count(*) from emaj.emaj_unfinished_rollbacks()"), "0");
            story.sql("select emaj.emaj_start_group('g', 'again')");
            let again = story.state();
            change_a_little(story);
            rollback(story, "again", &[]).run().ok();
            assert_eq!(story.state(), again);
            nothing_left(story);
        });
    }
}

fn change_a_little(story: &mut Story<'_>) {
    story.sql("update plain set v = 'changed'; update counted set v = 0; delete from child");
}

#[test]
fn a_dry_run_shows_who_does_what() {
    tell(Who::Owner, |story| {
        changed(story);
        let run = rollback(story, "m", &["--dry-run", "-o", "json"]).run().ok();
        let plan = run.stdout_json();
        let lanes = plan["lanes"].as_array().unwrap();
        assert_eq!(lanes.len(), 3);
        let with_child = lanes
            .iter()
            .find(|lane| lane["tables"].to_string().contains(".child"))
            .unwrap();
        assert!(with_child["tables"].to_string().contains(".parent"), "{plan}");
        let all: i64 = lanes.iter().map(|lane| lane["changes"].as_i64().unwrap()).sum();
        let tables: i64 = plan["tables"]
            .as_array()
            .unwrap()
            .iter()
            .map(|table| table["changes"].as_i64().unwrap())
            .sum();
        assert_eq!(all, tables);
        assert_eq!(story.ask("select count(*) from emaj.emaj_rollback"), "0");
        let run = rollback(story, "m", &["--dry-run"]).run().ok();
        said(&run, "in 3 sessions");
    });
}

#[test]
fn one_session_where_it_cannot_be_more_and_says_why() {
    tell(Who::Owner, |story| {
        story.sql(TABLES);
        story.install("*");
        story.mark("m");
        let at_mark = story.state();
        story.sql("update parent set v = 'changed'; update child set v = 'changed'");
        let run = rollback(story, "m", &[]).run().ok();
        said(
            &run,
            "in one session: all tables with changes to undo are tied by foreign keys or inheritance",
        );
        assert_eq!(story.state(), at_mark);
        let run = rollback(story, "m", &[]).run().ok();
        assert_eq!(story.state(), at_mark);
        // The logged rollback before is what there is to undo now.
        said(&run, "in one session");
        nothing_left(story);
    });
}

#[test]
fn a_refusal_in_a_lane_leaves_everything_as_it_was() {
    tell(Who::Owner, |story| {
        story.sql(TABLES);
        story.install("*");
        // At the mark there is a column that is not captured; the last of the tables to be looked at.
        story.sql("alter table plain add more int default 1");
        story.mark("m");
        story.sql("update counted set v = 0; update parent set v = 'changed'; delete from child");
        story.install("*");
        let before = story.state();
        // The program asks before it begins, and finds nothing: that table has not changed yet.
        let file = hold(story, "held");
        let run = held(rollback(story, "m", &[]), "rollback.begun", &file).run_while(|_| {
            until("begun", || file.exists());
            story.sql("update plain set more = 2");
            std::fs::remove_file(&file).unwrap();
        });
        said(&run.code(4), "columns that were not captured");
        assert_eq!(story.ask("select count(*) from emaj.emaj_rollback"), "0");
        assert_eq!(story.ask("select count(*) from plain where more = 2"), "30");
        story.sql("update plain set more = 1");
        assert_eq!(story.state(), before);
        nothing_left(story);
    });
}
