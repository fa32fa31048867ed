//! What a transaction can do between marks: statements of every kind, savepoints, two-phase commit, marks and rollbacks of its own.

use crate::support::story::{cases, stories};

const T: &str =
    "create table t (id int primary key, v text); insert into t select i, 'v' || i from generate_series(1, 10) i";

cases! {
    inserted_then_deleted: T
        => "insert into t values (20, 'x'), (21, 'y'); delete from t where id = 20; update t set v = 'z' where id = 21; delete from t where id = 21; insert into t values (22, 'stays')",
           "insert into t values (20, 'x'); update t set id = 23 where id = 20; delete from t where id = 23; delete from t where id = 1";

    a_table_without_other_columns: "create table t (id int primary key); insert into t values (1), (2)"
        => "update t set id = id + 10", "delete from t where id = 11; insert into t values (11), (1)";

    changes_by_functions_and_do_blocks_with_exceptions: T
        => "create or replace function f() returns void language plpgsql as $$ begin insert into t values (200, 'f'); begin update t set id = 1; exception when others then delete from t where id = 2; end; end $$; select f()",
           "do $$ declare r record; begin for r in select * from t order by id for update loop if r.id % 2 = 0 then update t set v = r.v || r.id where id = r.id; else delete from t where id = r.id; insert into t values (r.id, 're'); end if; end loop; end $$";

    deleted_then_inserted_with_the_same_key: T
        => "delete from t where id in (1, 2); insert into t values (1, 'v1'), (2, 'other')", "delete from t; insert into t select i, 'v' || i from generate_series(1, 10) i; update t set v = v || '' where id = 3; update t set v = 'x' where id = 4";

    nothing_in_the_end: &format!("{T}; create table u (id int primary key)")
        => "update t set v = 'x' where id = 1; update t set v = 'v1' where id = 1; insert into u values (1)", "delete from u; insert into t values (30, 'x'); delete from t where id = 30";

    upserts: T
        => "insert into t values (1, 'up'), (11, 'new'), (2, 'up') on conflict (id) do update set v = t.v || excluded.v; insert into t values (3, 'no') on conflict do nothing",
           "insert into t select i, 'again' from generate_series(5, 15) i on conflict (id) do update set id = excluded.id + 100";

    writable_ctes: &format!("{T}; create table moved (id int primary key, v text)")
        => "with gone as (delete from t where id < 4 returning *), kept as (insert into moved select * from gone returning id) update t set v = 'x' where id in (5, 6)",
           "with a as (insert into t values (50, 'a') returning id), b as (update t set v = 'b' where id = 7 returning id), c as (delete from t where id = 8 returning id), d as (insert into t select 60, 'd') delete from moved where id = 1";

    savepoints: T
        => "begin; update t set v = 'a'; savepoint s; delete from t; insert into t values (99, 'x'); rollback to s; savepoint s2; update t set id = id + 100 where id = 1; release s2; savepoint s3; update t set id = id + 500; rollback to s3; commit",
           "do $$ begin update t set v = 'q' where id = 2; begin update t set v = 'w'; insert into t values (2, 'dup'); exception when unique_violation then null; end; delete from t where id = 3; end $$";

    an_aborted_transaction_beside_a_committed_one: T
        => "begin; update t set v = 'lost'; rollback; update t set v = 'kept' where id = 1", "begin; truncate t; rollback; begin; delete from t where id = 5; commit; begin; insert into t values (70, 'x'); rollback";

    many_updates_of_one_row: T
        => "do $$ begin for i in 1..50 loop update t set v = i::text where id = 1; end loop; end $$", "update t set v = v || 'x'; update t set v = v || 'y'; update t set id = id + 100; update t set id = id - 100; update t set v = 'end' where id = 4";

    update_from_with_a_join_and_returning: T
        => "update t set v = s.v from (select id + 1 as id, v from t) s where s.id = t.id", "delete from t using t as o where o.id = t.id + 1 and o.id % 2 = 0";
}

stories! {
    marks_set_under_load(story) {
        // Transfers between accounts go on while marks are set: whatever mark is gone back to, nothing is lost between accounts.
        story.sql("create table account (id int primary key, balance int not null); insert into account select i, 1000 from generate_series(1, 50) i");
        story.install("*");
        let stop = std::sync::atomic::AtomicBool::new(false);
        let connect = || match &story.role { Some(role) => story.db.client_as(role), None => story.db.client() };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4_u32).map(|worker| {
                let (mut client, stop) = (connect(), &stop);
                scope.spawn(move || {
                    let mut at = worker;
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        at = (at * 17 + 7) % 2500;
                        let (a, b) = (1 + at % 50, 1 + at / 50);
                        let (first, second) = (a.min(b), a.max(b));
                        client.batch_execute(&format!(
                            "begin; update account set balance = balance - 7 where id = {first}; update account set balance = balance + 7 where id = {second}; {}",
                            if at % 5 == 0 { "rollback" } else { "commit" }
                        )).expect("a transfer");
                    }
                })
            }).collect();
            let mut client = connect();
            for at in 0..12 {
                std::thread::sleep(std::time::Duration::from_millis(25));
                client.batch_execute(&format!("select emaj.emaj_set_mark_group('g', 'm{at}')")).expect("a mark");
                if at % 4 == 3 {
                    client.batch_execute(&format!("select emaj.emaj_logged_rollback_group('g', 'm{}')", at - 2)).expect("a rollback");
                }
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            workers.into_iter().for_each(|worker| worker.join().expect("a worker"));
        });
        let (definitions, now) = (story.definitions(), story.state());
        for at in (0..12).rev() {
            story.logged_rollback(&format!("m{at}"));
            assert_eq!(story.ask("select sum(balance) || ' ' || count(*) from account"), "50000 50", "at m{at}");
        }
        let start = story.ask("select mark_name from emaj.emaj_mark where mark_name like 'RLBK\\_m11\\_%\\_START'");
        story.logged_rollback(&start);
        story.is(&now, &definitions, "back where the work ended");
        for at in (0..12).rev() {
            story.rollback(&format!("m{at}"));
            assert_eq!(story.ask("select sum(balance) || ' ' || count(*) from account"), "50000 50", "at m{at}, unlogged");
        }
    }

    a_rollback_while_deferred_checks_are_pending(story) {
        story.sql(
            "create table p (id int primary key, v text); create table c (id int primary key, p_id int references p deferrable initially deferred);
             create table log (n int generated always as identity primary key);
             create function note() returns trigger language plpgsql as $$ begin execute format('insert into %I.log default values', tg_table_schema); return null; end $$;
             create constraint trigger later after insert or update or delete on p deferrable initially deferred for each row execute function note();
             insert into p values (1), (2); insert into c values (1, 1)",
        );
        story.sql("truncate log restart identity");
        story.install("*, !log");
        story.mark("m");
        let (before, definitions) = (story.state(), story.definitions());
        for kind in ["emaj_logged_rollback_group", "emaj_rollback_group"] {
            story.sql(&format!(
                "begin; update p set v = 'x'; insert into c values (2, 3); insert into p values (3, 'later'); delete from c where id = 1; delete from p where id = 1;
                 select emaj.{kind}('g', 'm'); commit"
            ));
            story.sql("truncate log restart identity");
            story.is(&before, &definitions, kind);
            // What the transaction left undone is its own fault, and is said before anything goes back.
            let code = story.fails(&format!("begin; insert into c values (9, 9); select emaj.{kind}('g', 'm')"));
            assert_eq!(code.code(), "23503");
            story.sql("rollback");
            story.is(&before, &definitions, kind);
        }
        story.sql("begin; insert into c values (2, 3); insert into p values (3, 'later'); select emaj.emaj_stop_group('g', 's'); insert into c values (3, 3); delete from c where id = 3; select emaj.emaj_start_group('g', 'n'); commit");
    }

    copy(story) {
        story.sql(T);
        story.install("*");
        story.mark("m");
        let (before, definitions) = (story.state(), story.definitions());
        let mut writer = story.client.copy_in("copy t from stdin").unwrap();
        std::io::Write::write_all(&mut writer, b"100\ta\n101\t\\N\n102\tc\n").unwrap();
        assert_eq!(writer.finish().unwrap(), 3);
        let after = story.state();
        story.logged_rollback("m");
        story.is(&before, &definitions, "the copied rows are gone");
        let start = story.last_start_mark();
        story.logged_rollback(&start);
        story.is(&after, &definitions, "and there again");
    }

    prepared_and_committed_after_the_mark(story) {
        story.sql(T);
        story.install("*");
        let (before, definitions) = (story.state(), story.definitions());
        let id = format!("emaj test {}", story.db.name());
        story.sql(&format!("begin; update t set v = 'late' where id < 4; insert into t values (80, 'p'); prepare transaction '{id}'"));
        story.mark("m");
        story.sql("update t set v = 'now' where id = 9");
        story.sql(&format!("commit prepared '{id}'"));
        story.mark("m2");
        let after = story.state();
        story.sql("update t set v = 'later' where id = 1");
        story.logged_rollback("m2");
        story.is(&after, &definitions, "the prepared transaction was committed before this mark");
        story.rollback("m");
        story.is(&before, &definitions, "it was not yet committed at this mark");
    }

    a_mark_and_a_rollback_in_a_transaction_that_is_aborted(story) {
        story.sql(T);
        story.install("*");
        story.mark("m0");
        story.sql("update t set v = 'x' where id = 1");
        let everything = story.everything();
        for rollback in ["emaj_rollback_group", "emaj_logged_rollback_group", "emaj_rollback_and_stop_group"] {
            story.sql(&format!(
                "begin; select emaj.emaj_set_mark_group('g', 'lost'); delete from t where id > 5; select emaj.{rollback}('g', 'm0'); rollback"
            ));
            story.unchanged(&everything);
        }
    }

    a_mark_between_the_changes_of_one_transaction(story) {
        story.sql(T);
        story.install("*");
        let definitions = story.definitions();
        story.sql("begin; update t set v = 'before' where id < 4; delete from t where id = 5; insert into t values (90, 'b')");
        story.mark("inside");
        story.sql("savepoint s");
        story.sql("update t set v = 'after'; delete from t where id = 1; update t set id = 91 where id = 90; insert into t values (5, 'back'); commit");
        let after = story.state();
        story.sql("begin; update t set v = 'more'; rollback");
        story.logged_rollback("inside");
        let at_mark = "(1,before)\n(10,v10)\n(2,before)\n(3,before)\n(4,v4)\n(6,v6)\n(7,v7)\n(8,v8)\n(9,v9)\n(90,b)";
        assert_eq!(story.ask("select t::text from t order by t::text collate \"C\""), at_mark);
        let start = story.last_start_mark();
        story.logged_rollback(&start);
        story.is(&after, &definitions, "to the end of that transaction");
        story.rollback("inside");
        assert_eq!(story.ask("select t::text from t order by t::text collate \"C\""), at_mark);
    }

    a_rollback_inside_the_transaction_that_set_the_mark(story) {
        story.sql(T);
        story.install("*");
        let (before, definitions) = (story.state(), story.definitions());
        story.sql("begin; select emaj.emaj_set_mark_group('g', 'a'); update t set v = 'x'; select emaj.emaj_set_mark_group('g', 'b'); delete from t; select emaj.emaj_rollback_group('g', 'b')");
        assert_eq!(story.ask("select count(*) || min(v) from t"), "10x");
        story.sql("insert into t values (100, 'y'); select emaj.emaj_logged_rollback_group('g', 'a'); commit");
        story.is(&before, &definitions, "all in one transaction");
        let start = story.last_start_mark();
        story.logged_rollback(&start);
        assert_eq!(story.ask("select count(*) || min(v) || max(v) from t"), "11xy");
        story.rollback("a");
        story.is(&before, &definitions, "and from outside");
    }

    a_mark_of_a_repeatable_read_transaction(story) {
        story.sql(T);
        story.install("*");
        let definitions = story.definitions();
        let mut other = match &story.role {
            Some(role) => story.db.client_as(role),
            None => story.db.client(),
        };
        // Its snapshot is older than a change that commits before the mark is set: the mark is where the snapshot is.
        story.sql("begin isolation level repeatable read; select count(*) from t");
        let before = story.state();
        other.batch_execute("update t set v = 'meanwhile' where id = 1").unwrap();
        story.mark("m");
        story.sql("commit");
        story.sql("update t set v = 'later' where id = 2");
        story.rollback("m");
        story.is(&before, &definitions, "where the snapshot was");
    }

    a_change_and_a_mark_in_a_repeatable_read_transaction(story) {
        story.sql(T);
        story.install("*");
        story.sql("begin isolation level repeatable read; update t set v = 'before' where id = 1");
        story.mark("m");
        story.sql("update t set v = 'after' where id < 3; commit");
        story.rollback("m");
        assert_eq!(story.ask("select v from t where id < 3 order by id"), "before\nv2");
    }

    two_unlogged_rollbacks_each_to_an_older_mark(story) {
        story.sql(T);
        story.install("*");
        let definitions = story.definitions();
        let mut states = Vec::new();
        for at in 0..4 {
            story.mark(&format!("m{at}"));
            states.push(story.state());
            story.sql(&format!("update t set v = v || '{at}' where id % 4 = {at}; delete from t where id = 10 - {at}; insert into t values (100 + {at}, 'n')"));
        }
        for at in [2, 2, 0, 0] {
            story.rollback(&format!("m{at}"));
            story.is(&states[at], &definitions, &format!("to m{at}"));
            assert_eq!(story.ask("select mark_name from emaj.emaj_mark where mark_name like 'm_' order by mark_id desc limit 1"), format!("m{at}"));
        }
        let gone = story.refused("select emaj.emaj_rollback_group('g', 'm2')");
        assert!(gone.contains("has no mark `m2`"), "{gone}");
    }

    nothing_changed_and_an_empty_table(story) {
        story.sql("create table t (id int primary key); create table u (id serial primary key)");
        story.install("*");
        story.mark("m");
        let (before, definitions) = (story.state(), story.definitions());
        assert_eq!(story.ask("select emaj.emaj_rollback_group('g', 'm')"), "3");
        assert_eq!(story.ask("select emaj.emaj_logged_rollback_group('g', 'EMAJ_LAST_MARK')"), "3");
        story.is(&before, &definitions, "nothing changed");
    }

    rollback_and_stop(story) {
        story.sql(T);
        story.install("*");
        story.mark("m");
        let before = story.state();
        story.sql("delete from t");
        assert_eq!(story.ask("select emaj.emaj_rollback_and_stop_group('g', 'm')"), "1");
        assert_eq!(story.state(), before);
        assert_eq!(story.ask("select group_state from emaj.emaj_group"), "IDLE");
        story.sql("delete from t where id = 1");
        assert_eq!(story.ask("select count(*) from emaj.emaj_relation r, lateral emaj._relations(array['g'])"), "1");
    }
}
