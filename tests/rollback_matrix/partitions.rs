//! Partitions that rows move between and that come and go; inheritance.

use crate::support::story::{cases, stories};

const PARTED: &str = "
    create table t (id int, region text, v text, primary key (id, region)) partition by list (region);
    create table t_eu partition of t for values in ('de', 'fr'); create table t_us partition of t for values in ('us');
    create table t_rest partition of t default;
    insert into t select i, (array['de', 'fr', 'us', 'jp'])[1 + i % 4], 'v' || i from generate_series(1, 20) i";

cases! {
    rows_that_move: PARTED
        => "update t set region = 'us' where region = 'de'; update t set v = 'x' where id < 5", "update t set region = 'fr', id = id + 100 where region = 'us'; delete from t_rest; insert into t values (1, 'jp', 'n')";

    attached_with_other_column_order:
        "create table t (id int primary key, a text, b date) partition by range (id);
         create table t1 partition of t for values from (0) to (10);
         create table t2 (b date, gone int, id int not null, a text); alter table t2 drop gone; insert into t2 values ('2020-01-01', 10, 'ten'); alter table t attach partition t2 for values from (10) to (20);
         insert into t values (1, 'one', '2020-01-01'), (11, 'eleven', '2020-01-01')"
        => "update t set a = a || '!'; delete from t where id = 10; insert into t values (12, 'twelve', null)", "update t set id = id + 5 where id < 14; truncate t2";

    attached_with_triggers_and_generated_columns:
        "create table t (id int primary key, a int, g int generated always as (a + 1) stored, i int) partition by range (id);
         alter table t drop i;
         create table t1 partition of t for values from (0) to (10); create table t2 partition of t for values from (10) to (20);
         insert into t (id, a) select i, i from generate_series(1, 19) i"
        => "update t set a = 0 where id > 9; update t set id = id - 10 where id in (11) and false; delete from t where id in (1, 11)", "insert into t (id, a) values (1, 1); update t set id = id - 10 where id = 18 and false; update t set a = -a";

    of_several_levels:
        "create table t (id int, d date, v int, primary key (d, id)) partition by range (d);
         create table y1 partition of t for values from ('2020-01-01') to ('2021-01-01') partition by hash (id);
         create table y1a partition of y1 for values with (modulus 2, remainder 0); create table y1b partition of y1 for values with (modulus 2, remainder 1);
         create table y2 partition of t for values from ('2021-01-01') to ('2022-01-01');
         insert into t select i, date '2020-06-01' + i * 20, i from generate_series(1, 25) i"
        => "update t set d = '2020-05-05' where v > 20; update t set id = id + 1 where v < 5; delete from y1a", "insert into t select 100 + i, '2021-02-02', i from generate_series(1, 5) i; update y1 set v = 0";

    upsert_into_partitions: PARTED
        => "insert into t values (1, 'fr', 'up'), (400, 'de', 'new') on conflict (id, region) do update set v = excluded.v || t.v",
           "insert into t values (400, 'de', 'x'), (401, 'us', 'y') on conflict do nothing; update t set region = 'jp' where id = 400";

    a_generated_column_and_a_default_partition_that_takes_all:
        "create table t (id int, k text default 'k', g text generated always as (k || '!') stored, primary key (id, k)) partition by list (k);
         create table td partition of t default; create table ta partition of t for values in ('a');
         insert into t (id) values (1), (2); insert into t (id, k) values (3, 'a')"
        => "update t set k = 'a' where id = 1; update t set k = 'b' where id = 3; delete from t where id = 2", "insert into t (id) values (2); truncate td; update t set id = 30";

    a_trigger_on_a_partition_that_changes_its_siblings:
        "create table t (id int primary key, n int, seen int default 0) partition by range (id);
         create table t1 partition of t for values from (0) to (10); create table t2 partition of t for values from (10) to (20);
         create function siblings() returns trigger language plpgsql as $$ begin update t set seen = seen + 1 where id <> new.id and seen < 5; return new; end $$;
         create trigger siblings before insert or update of n on t2 for each row when (pg_trigger_depth() < 2) execute function siblings();
         insert into t select i, i from generate_series(8, 13) i"
        => "update t set n = 0 where id = 12; insert into t values (14, 1), (3, 3); delete from t where id = 9", "delete from t where id = 14; insert into t values (14, 2); update t set id = id - 6 where id = 10";

    foreign_keys_into_an_inheritance_tree:
        "create table p (id int primary key, v text); create table k (id int primary key, p int references p on delete cascade); create table c (x int, primary key (id)) inherits (p);
         insert into p values (1, 'p'), (2, 'p'); insert into c values (1, 'c', 1); insert into k values (1, 1), (2, 2)"
        => "delete from p where id = 1", "insert into p values (1, 'again'); insert into k values (1, 1); update p set v = v || id; delete from only p where id = 2";

    inheritance:
        "create table p (id int primary key, v text); create table c (w int, primary key (id)) inherits (p); create table d (x int, primary key (id)) inherits (c);
         insert into p values (1, 'p'), (2, 'p'); insert into c values (1, 'c', 1), (3, 'c', 3); insert into d values (1, 'd', 1, 1)"
        => "update p set v = v || '!' where id = 1; delete from p where id = 3; insert into d values (7, 'd', 7, 7)", "update only c set id = 9; delete from only p; update c set w = 0";
}

/// Rows of the mark go, through the table, to a partition that comes, and are lost with it.
fn moved_and(story: &mut crate::support::story::Story<'_>, installed: bool, change: &str) {
    story.sql("create table t (id int primary key, v text) partition by range (id); create table t_def partition of t default; insert into t values (1, 'x'), (200, 'a'), (201, 'b'), (202, 'c')");
    story.install("t");
    story.mark("m");
    let before = story.ask("select t::text from t order by id");
    story.sql("begin; create temp table kept as select * from t where id >= 200; delete from t where id >= 200; create table t_2 partition of t for values from (200) to (300)");
    if installed {
        story.sql("commit");
        story.install("t");
        story.sql("begin");
    }
    story.sql("insert into t select * from kept; drop table kept; commit");
    story.logged_rollback("m");
    assert_eq!(
        story.ask("select t::text from t order by id"),
        before,
        "as long as they are there"
    );
    story.sql(change);
    let everything = story.everything();
    let refusal = story.refused("select emaj.emaj_rollback_group('g', 'm')");
    assert!(
        refusal.contains("rows of ") && refusal.contains("are lost"),
        "{refusal}"
    );
    let left = story.ask("select left_reason from emaj.emaj_rollback_left(array['g'], 'm')");
    assert_eq!(left, "rows of it are lost with a partition that came since");
    story.unchanged(&everything);
    story.mark("after");
    story.sql("update t set v = 'y'");
    story.rollback("after");
}

fn gone(story: &mut crate::support::story::Story<'_>, change: &str) {
    story.sql(PARTED);
    story.install("t");
    story.mark("before");
    story.sql("update t set v = 'x' where id < 5");
    story.sql(change);
    story.mark("after");
    let (after, definitions) = (story.state(), story.definitions());
    story.sql("delete from t where region = 'jp'; insert into t values (77, 'jp', 'x')");
    let everything = story.everything();
    let refusal = story.refused("select emaj.emaj_rollback_group('g', 'before')");
    assert!(refusal.contains("partition was dropped or detached"), "{refusal}");
    story.unchanged(&everything);
    story.rollback("after");
    story.is(&after, &definitions, "to a mark after it");
}

/// Has the concurrent detaching of a partition interrupted while it waits for a reader: the partition is half away then.
fn detach_interrupted(story: &crate::support::story::Story<'_>, table: &str, partition: &str) {
    let mut reader = story.db.client();
    let table = format!("{}.{table}", story.schema);
    reader
        .batch_execute(&format!("begin; select from {table} limit 0"))
        .unwrap();
    let detach = format!(
        "alter table {table} detach partition {}.{partition} concurrently",
        story.schema
    );
    let mut detacher = story.db.client();
    let token = detacher.cancel_token();
    let detaching = std::thread::spawn(move || detacher.batch_execute(&detach));
    while story
        .db
        .psql("select exists (select from pg_inherits where inhdetachpending)")
        != "t"
    {
        assert!(!detaching.is_finished(), "{:?}", detaching.join());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    token.cancel_query(postgres::NoTls).unwrap();
    let error = detaching.join().unwrap().unwrap_err();
    assert_eq!(
        error.code(),
        Some(&postgres::error::SqlState::QUERY_CANCELED),
        "{error:?}"
    );
}

stories! {
    attached_after_the_transaction_of_a_mark_began(story) {
        story.sql("create table t (id int primary key, v text) partition by range (id)");
        story.sql("create table t_1 partition of t for values from (0) to (10); create table t_2 (like t including all); create table t_3 (like t including all)");
        story.install("t");
        story.sql("begin; select txid_current()");
        let attach = format!("alter table {0}.t attach partition {0}.t_2 for values from (10) to (20)", story.schema);
        story.db.client().batch_execute(&attach).unwrap();
        story.sql("savepoint a; alter table t attach partition t_3 for values from (20) to (30); insert into t values (1, 'a'), (11, 'b'), (21, 'c')");
        story.sql("select emaj.emaj_set_mark_group('g', 'm'); commit");
        let before = story.ask("select t::text from t order by id");
        story.sql("update t set v = 'x'");
        story.rollback("m");
        assert_eq!(story.ask("select t::text from t order by id"), before);
    }

    a_partition_that_is_half_away(story) {
        story.sql(
            "create table p (id int, v text, primary key (id)) partition by range (id); create table p1 partition of p for values from (0) to (10);
             create table \"P 2\" partition of p for values from (10) to (20); insert into p select i, 'v' from generate_series(1, 19) i",
        );
        story.install("p");
        story.mark("m");
        story.sql("update p set v = 'w' where id in (3, 13)");
        detach_interrupted(story, "p", "\"P 2\"");
        story.sql("update \"P 2\" set v = 'direct' where id = 15; update p set v = 'x' where id = 4");
        let schema = story.schema.clone();
        let repair = format!("alter table {schema}.p detach partition {schema}.\"P 2\" finalize");
        let drift = story.emaj(&["drift", "emaj.yaml", "--detailed-exitcode"]).code(2);
        assert!(drift.stdout.contains("was interrupted") && drift.stdout.contains(&repair), "{drift}");
        let everything = story.everything();
        for sql in ["select emaj.emaj_set_mark_group('g', 'n')", "select emaj.emaj_rollback_group('g', 'm')"] {
            let refusal = story.refused(sql);
            assert!(refusal.contains("was interrupted") && refusal.contains(&repair), "{refusal}");
        }
        story.unchanged(&everything);
        story.sql(&repair);
        story.mark("n");
        let at_n = story.state();
        story.sql("update p set v = 'y'");
        story.rollback("n");
        assert_eq!(story.state().0, at_n.0);
        let refusal = story.refused("select emaj.emaj_rollback_group('g', 'm')");
        assert!(refusal.contains("partition was dropped or detached"), "{refusal}");
    }

    a_partition_that_went_is_what_is_said(story) {
        story.sql(
            "create table t (id int primary key, v text) partition by range (id); create table t_1 partition of t for values from (0) to (10);
             create table t_2 partition of t for values from (10) to (20); create table t_3 partition of t for values from (20) to (30)",
        );
        story.install("t");
        for (ddl, reason) in [
            ("drop table t_2", "partitions have come or gone"),
            ("alter table t detach partition t_1", "partitions have come or gone"),
            ("create table t_4 partition of t for values from (30) to (40)", "partitions have come"),
            ("drop table t_3; create table t_5 partition of t for values from (40) to (50)", "partitions have come"),
        ] {
            story.sql(ddl);
            let run = story.emaj(&["drift", "emaj.yaml"]).ok();
            assert!(run.stdout.contains(reason) && !run.stdout.contains("capture function"), "{ddl}: {run}");
            story.install("t");
            story.emaj(&["plan", "--detailed-exitcode"]).code(0);
        }
    }

    a_partition_made_after_the_install(story) {
        story.sql(PARTED);
        story.install("*");
        story.mark("m");
        let before = story.state();
        story.sql("create table t_nl partition of t for values in ('nl'); insert into t values (50, 'nl', 'x'); update t set region = 'nl' where id = 1; truncate t_nl; insert into t values (51, 'nl', 'y')");
        story.sql("truncate t; insert into t values (52, 'nl', 'z')");
        let definitions = story.definitions();
        story.logged_rollback("m");
        story.is(&before, &definitions, "the new partition is empty again");
        let start = story.last_start_mark();
        story.logged_rollback(&start);
        assert_eq!(story.ask("select id from t"), "52");
        story.rollback("m");
        story.is(&before, &definitions, "and again");
    }

    a_partition_attached_after_the_install_in_other_order(story) {
        story.sql(PARTED);
        story.install("*");
        story.sql("create table t_nl (v text, region text not null, gone int, id int not null); alter table t_nl drop gone; insert into t_nl values ('old', 'nl', 60); alter table t attach partition t_nl for values in ('nl')");
        story.back_and_forth(&[
            "update t set region = 'nl' where id = 1; update t set v = 'x' where id = 60; insert into t values (61, 'nl', 'n')",
            "update t set id = id + 1000; delete from t where region = 'nl'",
        ]);
    }

    a_partition_that_was_detached_is_refused(story) {
        gone(story, "alter table t detach partition t_us");
    }

    a_partition_that_was_dropped_is_refused(story) {
        gone(story, "drop table t_eu");
    }

    rows_moved_to_a_partition_that_came_and_was_dropped(story) {
        moved_and(story, false, "drop table t_2");
    }

    rows_moved_to_a_partition_that_came_and_was_detached(story) {
        moved_and(story, false, "alter table t detach partition t_2");
    }

    rows_moved_to_a_partition_that_came_and_was_truncated(story) {
        moved_and(story, false, "truncate t_2");
    }

    rows_moved_to_a_partition_that_came_and_was_away(story) {
        moved_and(story, false, "alter table t detach partition t_2; delete from t_2 where id = 201; alter table t attach partition t_2 for values from (200) to (300)");
    }

    rows_moved_to_a_partition_that_an_install_knows_and_was_dropped(story) {
        moved_and(story, true, "drop table t_2");
    }

    a_partition_that_came_and_went_with_rows_of_its_own(story) {
        story.sql(PARTED);
        story.install("t");
        story.mark("m");
        let before = story.state();
        story.sql("create table t_nl partition of t for values in ('nl'); insert into t values (60, 'nl', 'a'), (61, 'nl', 'b'); update t set v = v || '!'; delete from t where id = 61; insert into t values (61, 'nl', 'c')");
        story.sql("drop table t_nl");
        story.rollback("m");
        assert_eq!(story.state(), before);
        assert_eq!(story.ask("select count(*) from emaj.emaj_partition"), "1");
        story.sql("select emaj.emaj_stop_group('g'); select emaj.emaj_reset_group('g')");
        assert_eq!(story.ask("select count(*) from emaj.emaj_partition"), "0");
    }

    a_partition_detached_and_attached_again_is_refused(story) {
        gone(story, "alter table t detach partition t_us; delete from t_us where id < 10; insert into t_us values (500, 'us', 'unseen'); alter table t attach partition t_us for values in ('us')");
    }

    a_partition_away_in_a_savepoint_of_a_transaction_that_ran_at_the_mark(story) {
        story.sql(PARTED);
        story.install("t");
        let mut other = match &story.role { Some(role) => story.db.client_as(role), None => story.db.client() };
        other.batch_execute(&format!("set search_path = {}; begin; savepoint a; alter table t detach partition t_us; update t_us set v = 'unseen'; alter table t attach partition t_us for values in ('us'); release a", story.schema)).unwrap();
        story.sql("create table later (id int)");
        story.mark("m");
        other.batch_execute("commit").unwrap();
        let everything = story.everything();
        let refusal = story.refused("select emaj.emaj_rollback_group('g', 'm')");
        assert!(refusal.contains("partition was dropped or detached"), "{refusal}");
        story.unchanged(&everything);
        story.mark("after");
        story.rollback("after");
    }

    a_partition_that_came_with_rows_is_refused(story) {
        story.sql(PARTED);
        story.install("t");
        story.mark("before");
        story.sql("create table t_nl (id int, region text, v text, primary key (id, region)); insert into t_nl values (60, 'nl', 'a'), (61, 'nl', 'b'); alter table t attach partition t_nl for values in ('nl')");
        story.mark("between");
        let (between, definitions) = (story.state(), story.definitions());
        let refusal = |story: &mut crate::support::story::Story<'_>| {
            let everything = story.everything();
            let refusal = story.refused("select emaj.emaj_rollback_group('g', 'before')");
            assert!(refusal.contains("partitions came with rows in them") && refusal.contains("t_nl"), "{refusal}");
            story.unchanged(&everything);
        };
        refusal(story);
        // Changed since, they have images in the log; still none says that they came.
        story.sql("update t set v = v || '!' where region = 'nl'; insert into t values (62, 'nl', 'c')");
        refusal(story);
        story.sql("delete from t where id = 60");
        refusal(story);
        story.rollback("between");
        story.is(&between, &definitions, "to a mark after they came");
        story.sql("alter table t detach partition t_nl");
        story.logged_rollback("before");
    }

    // No row that was not there at a mark may come of the deletion of one.
    a_partition_that_came_with_rows_which_went(story) {
        let ways = [
            "delete from t where id = 60",
            "update t set v = 'x' where id = 60; delete from t where id = 60",
            "insert into t values (61, 'nl', 'new'); delete from t where id = 60",
            "delete from t where id = 60; insert into t values (60, 'nl', 'again')",
            "update t set region = 'us' where id = 60",
            "update t set id = 62 where id = 60",
            "truncate t",
        ];
        for installed in [false, true] {
            for (at, way) in ways.iter().enumerate() {
                story.sql(PARTED);
                story.install("t");
                story.mark("before");
                story.sql("update t set v = 'seen'; create table t_nl (id int, region text, v text, primary key (id, region)); insert into t_nl values (60, 'nl', 'came'); alter table t attach partition t_nl for values in ('nl')");
                if installed {
                    story.install("t");
                }
                story.sql(way);
                let everything = story.everything();
                let refusal = story.refused("select emaj.emaj_rollback_group('g', 'before')");
                assert!(refusal.contains("partitions came with rows in them") && refusal.contains("t_nl"), "{installed} {at}: {refusal}");
                story.unchanged(&everything);
                story.emaj(&["at", "g", "before", "select * from t"]).code(4);
                story.emaj(&["uninstall", "--yes", "emaj.yaml"]).ok();
                story.sql("drop table t");
            }
        }
    }

    // What was taken out of another partition before this one came was there at the mark, whoever writes to this one first.
    a_partition_that_came_empty_after_rows_of_its_range_went(story) {
        for first in ["", "insert into t values (210, 'new')", "begin; insert into t values (210, 'new'); delete from t; commit", "truncate t"] {
            story.sql("create table t (id int primary key, v text) partition by range (id); create table t_def partition of t default; insert into t select i, 'x' from generate_series(198, 205) i");
            story.install("t");
            story.mark("m");
            let rows = |story: &mut crate::support::story::Story<'_>| story.ask("select t::text from t order by id");
            let before = rows(story);
            story.sql("delete from t where id >= 200; create table t_2 partition of t for values from (200) to (300)");
            story.sql(first);
            let after = rows(story);
            story.logged_rollback("m");
            assert_eq!(rows(story), before, "{first}");
            let start = story.last_start_mark();
            story.logged_rollback(&start);
            assert_eq!(rows(story), after, "{first}");
            story.rollback("m");
            assert_eq!(rows(story), before, "{first}");
            story.emaj(&["uninstall", "--yes", "emaj.yaml"]).ok();
            story.sql("drop table t");
        }
    }

    rows_moved_by_hand_into_a_partition_that_came_with_them(story) {
        story.sql("create table t (id int primary key, v text) partition by range (id); create table t_def partition of t default; insert into t select i, 'x' from generate_series(1, 10) i");
        story.install("t");
        story.mark("before");
        let first = story.state();
        story.sql("insert into t values (200, 'a'), (201, 'b')");
        story.mark("between");
        let by_hand = "begin; create table t_2 (like t including all); insert into t_2 select * from t_def where id >= 200; delete from t_def where id >= 200; alter table t attach partition t_2 for values from (200) to (300); commit";
        story.sql(by_hand);
        let everything = story.everything();
        for mark in ["before", "between"] {
            let refusal = story.refused(&format!("select emaj.emaj_rollback_group('g', '{mark}')"));
            assert!(refusal.contains("partitions came with rows in them") && refusal.contains("t_2"), "{refusal}");
        }
        story.unchanged(&everything);
        story.sql("alter table t detach partition t_2; drop table t_2");
        story.logged_rollback("before");
        assert_eq!(story.state(), first);
    }

    rows_moved_through_the_table_into_a_partition_that_came_empty(story) {
        story.sql("create table t (id int primary key, v text) partition by range (id); create table t_def partition of t default; insert into t select i, 'x' from generate_series(198, 205) i");
        story.install("t");
        story.mark("m");
        let rows = |story: &mut crate::support::story::Story<'_>| story.ask("select t::text from t order by id");
        let before = rows(story);
        story.sql("insert into t values (210, 'new')");
        story.sql("begin; create temp table kept as select * from t where id >= 200; delete from t where id >= 200; create table t_2 partition of t for values from (200) to (300); insert into t select * from kept; drop table kept; commit");
        story.sql("update t set v = v || '!' where id in (201, 210); update t set id = id + 20 where id = 202; update t set id = 230 where id = 198; delete from t where id = 203; insert into t values (203, 'again'), (240, 'more')");
        let (after, definitions) = (story.state(), story.definitions());
        story.logged_rollback("m");
        assert_eq!(rows(story), before);
        let start = story.last_start_mark();
        story.logged_rollback(&start);
        story.is(&after, &definitions, "and there again");
        story.rollback("m");
        assert_eq!(rows(story), before);
    }

    a_partition_that_came_empty_and_was_filled(story) {
        story.sql(PARTED);
        story.install("t");
        story.mark("m");
        let before = story.state();
        story.sql("create table t_nl (v text, region text not null, id int not null); alter table t attach partition t_nl for values in ('nl', 'be')");
        story.sql("insert into t values (60, 'nl', 'a'), (61, 'nl', 'b'); insert into t_nl values ('c', 'nl', 62)");
        story.sql("update t set id = id + 1000 where id = 60; update t set region = 'nl' where id = 1; update t set region = 'be', v = 'x' where id in (1, 61); update t set id = id + 1000 where id = 1060");
        let (after, definitions) = (story.state(), story.definitions());
        story.logged_rollback("m");
        story.is(&before, &definitions, "empty again");
        let start = story.last_start_mark();
        story.logged_rollback(&start);
        story.is(&after, &definitions, "and filled again");
        story.rollback("m");
        story.is(&before, &definitions, "unlogged");
    }

    a_new_partition_truncated_by_its_name(story) {
        story.sql(PARTED);
        story.install("*");
        story.sql("begin; create table t_nl partition of t for values in ('nl'); insert into t values (50, 'nl', 'x')");
        story.mark("m");
        story.sql("commit");
        let before = story.state();
        // Its rows go back as long as it was not truncated past the capture: no trigger of its own tells of that yet.
        story.sql("delete from t where id = 50; insert into t values (51, 'nl', 'y')");
        story.logged_rollback("m");
        assert_eq!(story.state(), before);
        story.sql("truncate t_nl");
        let everything = story.everything();
        let refusal = story.refused("select emaj.emaj_rollback_group('g', 'm')");
        assert!(refusal.contains("was truncated or rewritten"), "{refusal}");
        story.unchanged(&everything);
        // From the next install on it is captured like the others.
        story.sql("insert into t values (52, 'nl', 'z')");
        story.install("*");
        story.mark("after");
        let (after, definitions) = (story.state(), story.definitions());
        story.sql("truncate t_nl");
        story.rollback("after");
        story.is(&after, &definitions, "TRUNCATE of the new partition is undone");
    }

    columns_renamed_and_added_under_partitions(story) {
        story.sql(PARTED);
        story.sql("create table t_nl (v text, gone int, region text not null, id int not null); alter table t_nl drop gone; alter table t attach partition t_nl for values in ('nl'); insert into t values (70, 'nl', 'odd')");
        story.install("*");
        story.mark("m");
        let before = story.ask("select (id, region, v)::text from t order by 1");
        story.sql("alter table t rename v to text; alter table t add v int default 1; alter table t add x text; alter table t rename to parts; alter table parts rename region to g");
        story.sql("update parts set text = 'new', v = 5 where id < 4 or id = 70; update parts set g = 'nl' where id = 5; update parts set g = 'us' where id = 70; delete from parts where id = 6; insert into parts (id, g) values (80, 'nl'), (81, 'de'); truncate t_us");
        story.sql("update parts set text = text || '!'");
        let refused = story.refused("select emaj.emaj_rollback_group('g', 'm')");
        assert!(refused.contains("columns are not captured yet"), "{refused}");
        story.install("*");
        story.rollback("m");
        assert_eq!(story.ask("select (id, g, text)::text from parts order by 1"), before);
    }

    // No install knows of it yet.
    attached_again_with_its_columns_in_another_order(story) {
        story.sql("create table t (id int primary key, b text, c text) partition by range (id); create table t_mid partition of t for values from (0) to (20) partition by range (id);
                   create table t_1 partition of t_mid for values from (0) to (10); create table t_2 partition of t_mid for values from (10) to (20);
                   insert into t values (1, 'b1', 'c1'), (2, 'b2', 'c2'), (11, 'b11', 'c11')");
        story.install("*");
        // (By then this session reads its rows by position.)
        story.sql("update t set b = b || '!'");
        let other_order = "alter table t_1 rename b to was; alter table t_1 add b text; update t_1 set b = was; alter table t_1 drop was";
        for (leave, come) in [
            ("alter table t_mid detach partition t_1", "alter table t_mid attach partition t_1 for values from (0) to (10)"),
            ("alter table t detach partition t_mid; alter table t_mid detach partition t_1",
             "alter table t_mid attach partition t_1 for values from (0) to (10); alter table t attach partition t_mid for values from (0) to (20)"),
        ] {
            story.install("*");
            story.sql(&format!("{leave}; {other_order}; {come}"));
            story.mark(&format!("m{}", come.len()));
            let before = story.ask("select (id, b, c)::text from t order by 1");
            story.sql("update t set b = 'x' where id = 1; delete from t where id in (2, 11); insert into t values (3, 'b3', 'c3')");
            story.logged_rollback(&format!("m{}", come.len()));
            assert_eq!(story.ask("select (id, b, c)::text from t order by 1"), before);
        }
    }

    a_group_of_partitions_without_their_parent(story) {
        story.sql(PARTED);
        story.install("t_eu");
        story.mark("m");
        let (before, definitions) = (story.state(), story.definitions());
        story.sql("update t set v = 'x' where region = 'de'; delete from t where region = 'fr'");
        story.rollback("m");
        story.is(&before, &definitions, "the one partition goes back");
    }
}
