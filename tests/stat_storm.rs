//! Counts that are written down while others write, set and delete marks, roll back, consolidate, purge and count: each is held against the truth.
//!
//! The truth is in the table: every row has the transaction that wrote it, and a mark knows which transactions were over.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::story::{Story, Who, tell};
use crate::support::{Chance, scale, seed};

const TABLES: &str = "create table kept (id bigserial primary key, x bigint not null default txid_current());
                      create table t (id int primary key, v int not null default 0); insert into t select generate_series(1, 50)";

/// Of each interval that was counted, what was written down for a table, and what is there.
const SEEN: &str = "select count(*) || ' ' || count(*) filter (where written <> there) || ' ' || coalesce(sum(written), 0) || ' ' || coalesce(string_agg(mark_name || ': ' || written || ' for ' || there, ', ') filter (where written <> there), '') from (
       select m.mark_name,
              coalesce((select sum(u.changes) from unnest(c.count_rel, c.count_changes) as u(rel, changes) join emaj.emaj_relation r on r.rel_id = u.rel where r.rel_name = 'kept'), 0) as written,
              (select count(*) from kept k where pg_visible_in_snapshot(k.x::text::xid8, (n.mark_position).snapshot)
                                             and not pg_visible_in_snapshot(k.x::text::xid8, (m.mark_position).snapshot)) as there
         from emaj.emaj_mark_count c join emaj.emaj_mark m on m.mark_id = c.count_mark join emaj.emaj_mark n on n.mark_id = c.count_until) as x";

/// Runs writers and counters until `history` is over. None of them may fail.
fn storm(story: &mut Story<'_>, seed: u64, history: impl FnOnce(&mut Story<'_>, &mut Chance)) -> usize {
    let over = AtomicBool::new(false);
    let counted = AtomicUsize::new(0);
    let client = || match &story.role {
        Some(role) => story.db.client_as(role),
        None => story.db.client(),
    };
    let writers: Vec<_> = (0..2).map(|_| client()).collect();
    let counters: Vec<_> = (0..2).map(|_| client()).collect();
    std::thread::scope(|scope| {
        for (number, mut client) in writers.into_iter().enumerate() {
            let mut chance = Chance::new(seed + 1 + number as u64);
            let over = &over;
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let (rows, more) = (1 + chance.below(4), chance.below(3));
                    let update = format!(
                        "update t set v = v + 1 where id = {}",
                        1 + number * 25 + chance.below(25)
                    );
                    client
                        .batch_execute(&format!(
                            "begin; insert into kept select from generate_series(1, {rows}); {update}"
                        ))
                        .unwrap();
                    std::thread::sleep(Duration::from_millis(chance.below(15) as u64));
                    let insert = format!("insert into kept select from generate_series(1, {more})");
                    client
                        .batch_execute(&format!(
                            "{insert}; {}",
                            if chance.happens(10) { "rollback" } else { "commit" }
                        ))
                        .unwrap();
                }
            });
        }
        for mut client in counters {
            let (over, counted) = (&over, &counted);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let row = client.query_one("select emaj.emaj_count_group('g')", &[]).unwrap();
                    counted.fetch_add(row.get::<_, i32>(0) as usize, Ordering::Relaxed);
                    client
                        .query("select * from emaj.emaj_log_stat_group('g', null, null)", &[])
                        .unwrap();
                }
            });
        }
        // Also when it fails, the others have to end.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| history(story, &mut Chance::new(seed))));
        over.store(true, Ordering::Relaxed);
        if let Err(panic) = done {
            std::panic::resume_unwind(panic);
        }
    });
    counted.into_inner()
}

/// Asserts that all that was written down is true; returns how many intervals, and how many changes in them.
fn all_true(story: &mut Story<'_>) -> (usize, usize) {
    let seen = story.ask(SEEN);
    let mut words = seen.splitn(4, ' ');
    let mut number = || words.next().unwrap().parse::<usize>().unwrap();
    let (intervals, wrong, changes) = (number(), number(), number());
    assert_eq!(wrong, 0, "{seen}");
    (intervals, changes)
}

#[test]
fn marks_come_and_go() {
    let seed = seed();
    tell(Who::Owner, |story| {
        story.sql(TABLES);
        story.install("*");
        story.mark("first");
        let counted = storm(story, seed, |story, chance| {
            for n in 0..scale(80) {
                if chance.happens(70) {
                    story.mark(&format!("m{n}"));
                } else {
                    story.sql("select emaj.emaj_delete_mark_group('g', mark_name) from (select mark_name from emaj.emaj_mark order by random() limit 1) as one
                                where (select count(*) from emaj.emaj_mark) > 3");
                }
                if chance.happens(5) {
                    all_true(story);
                }
            }
        });
        story.mark("last");
        story.sql("select emaj.emaj_count_group('g')");
        let (intervals, changes) = all_true(story);
        let marks: usize = story.ask("select count(*) from emaj.emaj_mark").parse().unwrap();
        assert_eq!(
            intervals,
            marks - 1,
            "nothing was purged that a mark needs, so every interval is counted"
        );
        assert!(changes > 0);
        println!("seed {seed}: {counted} intervals counted on the way, {intervals} at the end, {changes} changes");
    });
}

#[test]
fn rollbacks_and_consolidations() {
    let seed = seed();
    tell(Who::Owner, |story| {
        story.sql(TABLES);
        story.install("*");
        story.mark("first");
        let counted = storm(story, seed, |story, chance| {
            for n in 0..scale(12) {
                for more in 0..3 {
                    story.mark(&format!("m{n}_{more}"));
                }
                // Writers hold locks for moments only.
                match chance.below(3) {
                    0 => story.sql(&format!("select emaj.emaj_rollback_group('g', 'm{n}_0')")),
                    1 => story.sql(&format!("select emaj.emaj_logged_rollback_group('g', 'm{n}_1')")),
                    _ => story.sql(&format!(
                        "select emaj.emaj_logged_rollback_group('g', 'm{n}_0');
                         select emaj.emaj_consolidate_rollback_group('g', mark_name) from emaj.emaj_mark
                          where mark_goes_back_to is not null order by mark_id desc limit 1"
                    )),
                }
            }
        });
        story.mark("last");
        story.sql("select emaj.emaj_count_group('g')");
        // Each count is the one that the log gives.
        let differ = "select count(*) || ' ' || count(*) filter (where read <> written) from (
            select emaj._count_changes(r.rel_log, emaj._window(m, n)) as read,
                   coalesce((select u.changes from unnest(c.count_rel, c.count_changes) as u(rel, changes) where u.rel = r.rel_id), 0) as written
              from emaj.emaj_mark_count c join emaj.emaj_mark m on m.mark_id = c.count_mark join emaj.emaj_mark n on n.mark_id = c.count_until
             cross join emaj.emaj_relation r where r.rel_log is not null) as x";
        let marks: usize = story.ask("select count(*) from emaj.emaj_mark").parse().unwrap();
        assert_eq!(story.ask(differ), format!("{} 0", 2 * (marks - 1)), "seed {seed}");
        println!("seed {seed}: {counted} intervals counted on the way, {marks} marks at the end");
    });
}

#[test]
fn what_is_said_to_be_exact_is() {
    let seed = seed();
    tell(Who::Owner, |story| {
        story.options = "    rollback: false\n    retention: 1 second\n".to_owned();
        story.sql(TABLES);
        story.install("*");
        // So short that it goes by while marks are set.
        story.sql("update emaj.emaj_group set group_retention = '200 milliseconds'");
        story.mark("first");
        let counted = storm(story, seed, |story, chance| {
            for n in 0..scale(60) {
                std::thread::sleep(Duration::from_millis(chance.below(40) as u64));
                if chance.happens(50) {
                    story.mark(&format!("m{n}"));
                } else {
                    story.sql("select emaj.emaj_purge_group('g')");
                }
                if chance.happens(5) {
                    all_true(story);
                }
            }
        });
        let (intervals, changes) = all_true(story);
        // Between any two marks: never more than there is, and that when it says so.
        let between = "select count(*) || ' ' || count(*) filter (where s.stat_rows > there or s.stat_exact and s.stat_rows <> there) from (
            select m.mark_name as a, n.mark_name as b,
                   (select count(*) from kept k where pg_visible_in_snapshot(k.x::text::xid8, (n.mark_position).snapshot)
                                                  and not pg_visible_in_snapshot(k.x::text::xid8, (m.mark_position).snapshot)) as there
              from emaj.emaj_mark m join emaj.emaj_mark n on n.mark_id > m.mark_id order by random() limit 400) as x
             cross join lateral emaj.emaj_log_stat_group('g', a, b) s where s.stat_table = 'kept'";
        assert!(
            story.ask(between).ends_with(" 0"),
            "seed {seed}: {}",
            story.ask(between)
        );
        println!(
            "seed {seed}: {counted} intervals counted on the way, {intervals} known at the end, {changes} changes"
        );
    });
}
