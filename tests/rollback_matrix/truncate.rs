//! TRUNCATE: of a table, with its children, of partitions and of parents in inheritance; it is captured and undone.

use crate::support::story::{cases, stories};

cases! {
    a_table:
        "create table t (id int primary key, v text); insert into t select i, 'v' from generate_series(1, 100) i"
        => "truncate t", "insert into t select i, 'w' from generate_series(50, 60) i; truncate t; insert into t values (1, 'x')", "truncate t";

    cascade:
        "create table p (id int primary key); create table c (id int primary key, p_id int references p); create table d (id int primary key, c_id int references c);
         insert into p values (1), (2); insert into c values (1, 1), (2, 2); insert into d values (1, 1), (2, 2)"
        => "truncate p cascade", "insert into p values (1); insert into c values (5, 1); truncate c cascade", "truncate p, c, d";

    restart_identity:
        "create table t (id serial primary key, n int generated always as identity); insert into t select from generate_series(1, 5)"
        => "truncate t restart identity; insert into t default values", "insert into t default values; truncate t continue identity; insert into t default values";

    several_in_one_statement_and_in_one_transaction:
        "create table a (id int primary key); create table b (id int primary key); insert into a values (1); insert into b values (1)"
        => "truncate a, b", "begin; insert into a values (7); truncate a; insert into a values (7), (8); truncate b; delete from a where id = 7; commit";

    a_partition:
        "create table t (id int primary key, v text) partition by range (id);
         create table t1 partition of t for values from (0) to (10); create table t2 partition of t for values from (10) to (20);
         insert into t select i, 'v' || i from generate_series(1, 19) i"
        => "truncate t1; update t set v = 'x' where id > 15", "insert into t values (1, 'new'); truncate t2; insert into t2 values (11, 'y')";

    a_partitioned_parent:
        "create table t (id int primary key, v text) partition by range (id);
         create table t1 partition of t for values from (0) to (10); create table t2 partition of t for values from (10) to (20) partition by range (id);
         create table t21 partition of t2 for values from (10) to (15); create table t22 partition of t2 default;
         insert into t select i, 'v' || i from generate_series(1, 19) i"
        => "truncate t; insert into t values (1, 'x')", "insert into t values (12, 'y'), (18, 'z'); truncate t2; insert into t values (13, 'w')";

    an_inheritance_parent_and_child:
        "create table p (id int primary key, v text); create table c (w int, primary key (id)) inherits (p);
         insert into p values (1, 'a'); insert into c values (2, 'b', 2), (1, 'also', 1)"
        => "truncate p; insert into c values (3, 'c', 3)", "insert into p values (1, 'x'); truncate only p; update p set v = v || '!'", "truncate c";

    with_triggers_and_an_empty_table:
        "create table t (id int primary key, v text); create table n (id int primary key);
         create function nothing() returns trigger language plpgsql as 'begin return null; end';
         create trigger nothing after insert or update or delete on t for each row execute function nothing();
         insert into t values (1, 'a'), (2, 'b')"
        => "truncate n, t; insert into t values (2, 'b'), (3, 'c')", "update t set id = 4 where id = 3; truncate t; insert into t values (4, 'd')";
}

stories! {
    with_an_old_snapshot_is_not_gone_past(story) {
        story.sql("create table t (id int primary key, v text); create table p (id int primary key) partition by range (id); create table p1 partition of p for values from (0) to (10);
                   insert into t values (1, 'a'); insert into p values (1)");
        story.install("*");
        for (table, level, unseen) in [("t", "repeatable read", "insert into t values (100, 'unseen')"), ("p", "serializable", "insert into p values (5)"), ("p1", "repeatable read", "insert into p values (6)")] {
            let mut other = match &story.role { Some(role) => story.db.client_as(role), None => story.db.client() };
            other.batch_execute(&format!("set search_path = {}; begin isolation level {level}; select 1 from t", story.schema)).unwrap();
            story.sql(unseen);
            story.mark(&format!("before {table}"));
            other.batch_execute(&format!("truncate {table}; commit")).unwrap();
            let everything = story.everything();
            let said = story.refused(&format!("select emaj.emaj_rollback_group('g', 'before {table}')"));
            let whole = table.trim_end_matches('1');
            assert!(said.contains("a transaction with an old snapshot") && said.contains(&format!("has truncated {}.{whole}:", story.schema)), "{said}");
            story.unchanged(&everything);
            story.mark(&format!("after {table}"));
            let (after, definitions) = (story.state(), story.definitions());
            story.sql(&format!("{unseen}; truncate {table}; {unseen}"));
            story.rollback(&format!("after {table}"));
            story.is(&after, &definitions, "a TRUNCATE with a fresh snapshot is undone");
        }
        // Started anew, nothing of that is left.
        story.sql("select emaj.emaj_stop_group('g'); select emaj.emaj_start_group('g', 'again')");
        assert_eq!(story.ask("select count(*) from emaj.emaj_gap"), "0");
    }
}
