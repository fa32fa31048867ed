//! Foreign keys of every kind: they hold after every rollback, and their definitions, comments and states are the same.

use crate::support::story::{cases, stories};

cases! {
    immediate:
        "create table p (id int primary key, v text);
         create table c (id int primary key, p_id int not null references p, v text);
         comment on constraint c_p_id_fkey on c is 'it''s theirs';
         insert into p select i, 'p' || i from generate_series(1, 5) i;
         insert into c select i, 1 + i % 5, 'c' || i from generate_series(1, 10) i"
        => "delete from c where p_id in (1, 2); delete from p where id in (1, 2); insert into p values (7, 'new'); insert into c values (20, 7, 'x')",
           "update p set v = v || '!'; update c set p_id = 7; delete from p where id = 3; insert into p values (3, 'other'), (1, 'again')",
           "update c set p_id = 1; delete from p where id <> 1";

    restrict_and_long_name:
        r#"create table "P p" ("I d" int primary key);
         create table "C ""c" ("I d" int primary key, "P" int, constraint "a name, of a ""constraint""; with spaces" foreign key ("P") references "P p" on delete restrict on update restrict);
         insert into "P p" values (1), (2), (3); insert into "C ""c" values (1, 1), (2, 2), (3, null)"#
        => r#"insert into "P p" values (4); update "C ""c" set "P" = 4; delete from "P p" where "I d" <> 4"#,
           r#"delete from "C ""c"; delete from "P p"; insert into "P p" values (1)"#;

    deferrable_initially_immediate:
        "create table p (id int primary key);
         create table c (id int primary key, p_id int references p deferrable initially immediate);
         insert into p values (1), (2); insert into c values (1, 1), (2, 2)"
        => "begin; set constraints all deferred; delete from p; delete from c where id = 1; insert into p values (2), (3); commit",
           "begin; set constraints all deferred; update c set p_id = 9; insert into p values (9); delete from p where id = 2; commit";

    deferrable_initially_deferred:
        "create table p (id int primary key);
         create table c (id int primary key, p_id int references p deferrable initially deferred);
         insert into p values (1), (2); insert into c values (1, 1), (2, 2)"
        => "begin; delete from p; insert into c values (3, 3); delete from c where id <> 3; insert into p values (3); commit",
           "begin; insert into c values (4, 4); insert into p values (4); delete from p where id = 3; delete from c where id = 3; commit";

    delete_and_update_cascade:
        "create table p (id int primary key, v text);
         create table c (id int primary key, p_id int references p on delete cascade on update cascade, v text);
         create table d (id int primary key, c_id int references c on delete cascade on update cascade);
         insert into p select i, 'p' from generate_series(1, 5) i; insert into c select i, 1 + i % 5, 'c' from generate_series(1, 10) i;
         insert into d select i, 1 + i % 10 from generate_series(1, 20) i"
        => "delete from p where id = 1; update p set id = 12 where id = 2; update p set v = 'q' where id = 3",
           "update c set id = id + 100; delete from p where id = 12; insert into p values (1, 'anew'); insert into c values (1, 1, 'anew')",
           "delete from p";

    set_null:
        "create table p (id int primary key);
         create table c (id int primary key, p_id int references p on delete set null on update set null);
         insert into p values (1), (2), (3); insert into c values (1, 1), (2, 2), (3, 3), (4, null)"
        => "delete from p where id = 1; update p set id = 20 where id = 2",
           "insert into p values (1); update c set p_id = 1; delete from p where id = 1";

    set_default:
        "create table p (id int primary key);
         create table c (id int primary key, p_id int default 0 references p on delete set default on update set default);
         insert into p values (0), (1), (2); insert into c values (1, 1), (2, 2)"
        => "delete from p where id = 1; update p set id = 20 where id = 2",
           "update c set p_id = 20; delete from p where id = 20; update c set p_id = null; delete from p where id = 0";

    cascade_to_rows_that_are_the_same_again:
        "create table p (id int primary key, code text not null unique);
         create table c (id int primary key, code text references p (code) on update cascade);
         create table n (k numeric primary key, v text);
         create table m (id int primary key, k numeric references n on update set null);
         insert into p values (1, 'A'), (2, 'B'); insert into c values (1, 'B'), (2, 'A');
         insert into n values (1.0, 'a'), (2.00, 'b'); insert into m values (1, 1.000), (2, 2.0)"
        => "begin; update p set code = 'C' where id = 2; update p set code = 'B' where id = 1; update c set code = 'B'; commit",
           "begin; update n set k = 1.000, v = 'x' where k = 1; update m set k = 2; update m set k = 1.000 where id = 1; update m set k = 2.0 where id = 2; commit";

    cascade_from_a_table_that_is_put_in_again:
        "create table p (id int primary key, number int generated always as identity);
         create table c (id int primary key, p_id int references p on delete cascade, v text);
         create table d (id int primary key, p_id int references p on delete set null);
         insert into p select generate_series(1, 3); insert into c select i, i, 'c' from generate_series(1, 3) i; insert into d select i, i from generate_series(1, 3) i"
        => "update p set number = default where id < 3; update c set v = 'x' where id = 3; update d set p_id = 2 where id = 3",
           "update p set number = default; delete from c where id = 1";

    cascade_from_a_partition_that_is_put_in_again:
        "create table p (id int primary key, number int generated always as identity, v text) partition by range (id); create table p1 partition of p for values from (0) to (1000);
         create table c (id int primary key, p_id int references p1 on delete cascade, v text);
         insert into p (id, v) select i, 'x' from generate_series(1, 4) i; insert into c select i, i, 'c' from generate_series(1, 4) i"
        => "update p set number = default where id < 3; update c set v = 'x' where id = 4",
           "update p set number = default; delete from c where id = 1";

    self_reference:
        "create table t (id int primary key, boss int references t, v int);
         insert into t values (1, null), (2, 1), (3, 2), (4, 3), (5, 1)"
        => "update t set boss = 5 where id = 2; delete from t where id in (3, 4); insert into t values (6, 2), (7, 6)",
           "update t set boss = null; delete from t where id <> 7; insert into t values (3, 7), (2, 3), (1, 2)",
           "delete from t";

    self_reference_with_cascade:
        "create table t (id int primary key, boss int references t on delete cascade on update cascade);
         insert into t values (1, null), (2, 1), (3, 2), (4, 3), (5, null)"
        => "delete from t where id = 2; insert into t values (2, 5); update t set id = 50 where id = 5",
           "delete from t; insert into t values (4, 4)";

    cycle_of_two_tables:
        "create table a (id int primary key, b_id int); create table b (id int primary key, a_id int references a);
         alter table a add foreign key (b_id) references b;
         insert into a values (1, null), (2, null); insert into b values (1, 1), (2, 2); update a set b_id = id"
        => "update a set b_id = null where id = 2; delete from b where id = 2; delete from a where id = 2; insert into a values (3, 1); insert into b values (3, 3); update a set b_id = 3",
           "update a set b_id = null; delete from b; delete from a";

    cycle_of_two_tables_with_actions:
        "create table a (id int primary key, b_id int); create table b (id int primary key, a_id int references a on delete cascade);
         alter table a add constraint back foreign key (b_id) references b on delete set null on update cascade;
         comment on constraint back on a is 'and back';
         insert into a values (1, null), (2, null); insert into b values (1, 1), (2, 2); update a set b_id = 3 - id"
        => "delete from a where id = 1", "update b set id = id + 10; insert into a values (1, null); update b set a_id = 1; delete from a where id = 2";

    several_columns_match_full:
        "create table p (a int, b text, c int unique, primary key (b, a));
         create table k (id int primary key, x text, y int, z int references p (c), foreign key (x, y) references p match full);
         insert into p values (1, 'a', 10), (2, 'b', 20); insert into k values (1, 'a', 1, 20), (2, null, null, 10)"
        => "update k set x = 'b', y = 2; delete from p where a = 9; update p set c = 100 where c = 99; insert into p values (3, 'c', 30); update k set z = 30; delete from p where a = 1",
           "update k set x = null, y = null, z = null; delete from p";

    not_valid:
        "create table p (id int primary key); create table c (id int primary key, p_id int);
         insert into p values (1), (2); insert into c values (1, 1), (2, 99);
         alter table c add constraint later foreign key (p_id) references p not valid;
         comment on constraint later on c is 'one day'"
        => "insert into p values (3); update c set p_id = 3 where id = 1; delete from p where id <> 3; insert into c values (5, 3)",
           "delete from c; delete from p";

    not_valid_with_an_action:
        "create table p (id int primary key); create table c (id int primary key, p_id int);
         insert into p values (1), (2); insert into c values (1, 1), (2, 99);
         alter table c add constraint later foreign key (p_id) references p on delete cascade not valid"
        => "delete from p where id = 1", "insert into p values (5); insert into c values (5, 5); delete from p; delete from c";

    a_row_that_points_to_nothing_goes_and_comes_back:
        "create table p (id int primary key); create table c (id int primary key, p_id int);
         insert into p values (1), (2); insert into c values (1, 1), (2, 99);
         alter table c add constraint later foreign key (p_id) references p not valid"
        => "delete from c where id = 2", "insert into c values (2, 2)";

    partitioned_parent:
        "create table p (id int, v text, primary key (id)) partition by range (id);
         create table p1 partition of p for values from (0) to (10); create table p2 partition of p for values from (10) to (20);
         create table c (id int primary key, p_id int references p on delete cascade);
         insert into p select i, 'p' from generate_series(1, 19) i; insert into c select i, i from generate_series(1, 19) i"
        => "delete from p where id = 5; update c set p_id = 12 where p_id = 6; delete from p where id = 6; update p set v = 'x' where id = 7",
           "insert into p values (5, 'again'); insert into c values (5, 5); delete from p where id > 9";

    partitioned_child:
        "create table p (id int primary key);
         create table c (id int, p_id int references p on update cascade, primary key (id)) partition by hash (id);
         create table c1 partition of c for values with (modulus 2, remainder 0); create table c2 partition of c for values with (modulus 2, remainder 1);
         comment on constraint c_p_id_fkey on c is 'of all';
         insert into p select i from generate_series(1, 9) i; insert into c select i, i from generate_series(1, 9) i"
        => "update p set id = id + 100 where id < 3; delete from c where id > 7; delete from p where id in (8, 9)",
           "update c set p_id = 5; delete from p where id <> 5";

    partitioned_both:
        "create table p (id int primary key) partition by hash (id);
         create table p1 partition of p for values with (modulus 2, remainder 0); create table p2 partition of p for values with (modulus 2, remainder 1);
         create table c (id int primary key, p_id int references p) partition by range (id);
         create table c1 partition of c for values from (0) to (5); create table c2 partition of c default;
         insert into p select i from generate_series(1, 9) i; insert into c select i, i from generate_series(1, 9) i"
        => "update c set id = id + 3 where id in (9); delete from c where p_id = 3; delete from p where id = 3; update c set id = 3 where id = 7; insert into p values (44); insert into c values (44, 44)",
           "delete from c; delete from p; insert into p values (4)";

    a_foreign_key_of_one_partition_only:
        "create table p (id int primary key);
         create table c (id int primary key, p_id int) partition by range (id);
         create table c1 partition of c for values from (0) to (5); create table c2 partition of c default;
         alter table c1 add foreign key (p_id) references p on delete set null;
         insert into p select i from generate_series(1, 9) i; insert into c select i, i from generate_series(1, 9) i"
        => "delete from p where id in (1, 2, 8); update c set p_id = 5", "delete from c; delete from p";

    to_a_unique_constraint_whose_values_are_exchanged:
        "create table p (id int primary key, code text unique);
         create table c (id int primary key, code text references p (code) on update cascade);
         insert into p values (1, 'a'), (2, 'b'), (3, 'c'); insert into c values (1, 'a'), (2, 'b'), (3, 'c')"
        => "update p set code = 'x' where id = 1; update p set code = 'a' where id = 2; update p set code = 'b' where id = 1",
           "update p set code = code || code; delete from c where code = 'bb'; delete from p where code = 'bb'";

    exchanged_values_and_immediate_children:
        "create table p (id int primary key, code text unique);
         create table c (id int primary key, code text references p (code));
         insert into p values (1, 'a'), (2, 'b'), (3, 'c'); insert into c values (1, 'a'), (2, 'b'), (3, 'c')"
        => "update c set code = 'c'; update p set code = 'x' where id = 1; update p set code = 'a' where id = 2; update p set code = 'b' where id = 1; update c set code = 'a'",
           "update c set code = null; delete from p; insert into p values (1, 'c'), (2, 'b'), (3, 'a'); update c set code = 'a'";

    a_key_moves_from_parent_to_parent:
        "create table p (id int primary key, v int);
         create table c (p_id int primary key references p, v int);
         insert into p values (1, 1), (2, 2); insert into c values (1, 1), (2, 2)"
        => "insert into p values (3, 3); update c set p_id = 3 where p_id = 1; delete from p where id = 1; update p set id = 1 where id = 9",
           "delete from c; update p set id = id + 10; insert into c select id, v from p";
}

stories! {
    constraints_that_share_a_name_with_one_that_is_not_deferrable(story) {
        story.sql("create table p (id int primary key); create table a (id int primary key, p int, constraint to_p foreign key (p) references p deferrable initially deferred);
                   create table b (id int primary key, p int, constraint to_p foreign key (p) references p);
                   create table y (id int primary key, z int); create table z (id int primary key, y int, constraint fk foreign key (y) references y);
                   alter table y add constraint fk foreign key (z) references z;
                   create table other (id int primary key, p int, q int, constraint fk foreign key (q) references p, constraint late foreign key (p) references p deferrable initially deferred);
                   insert into p values (1)");
        story.install("p, a, b, y, z");
        story.back_and_forth(&[
            "insert into a values (1, 1); insert into y values (1, null); insert into z values (1, 1); update y set z = 1",
            "insert into p values (2); insert into b values (1, 2); update a set p = 2",
        ]);
        // What is deferred stays so for the rest of the transaction, where it can be named.
        story.mark("m");
        story.sql("insert into a values (5, 1)");
        story.sql("begin; select emaj.emaj_rollback_group('g', 'm'); insert into other values (1, null), (2, 77); update other set p = null where id = 2; commit");
    }

    triggers_of_a_foreign_key_that_are_disabled_stay_so(story) {
        story.sql("create table p (id int primary key, u int unique); create table c (id int primary key, p int references p (u) on delete cascade on update cascade);
                   insert into p values (1, 1); insert into c values (1, 1)");
        story.install("p");
        story.mark("m");
        let schema = story.schema.clone();
        story.sql("insert into p values (2, 2)");
        story.sql_as_superuser(&format!("alter table {schema}.c disable trigger all"));
        let everything = story.everything();
        let said = story.refused("select emaj.emaj_rollback_group('g', 'm')");
        assert!(said.contains("has to be made anew, and triggers of it on") && said.contains("enable trigger all"), "{said}");
        story.unchanged(&everything);
        story.sql_as_superuser(&format!("alter table {schema}.c enable trigger all"));
        story.rollback("m");
        assert_eq!(story.ask("select count(*) from p"), "1");
    }

    parts_of_a_foreign_key_keep_their_names_and_comments(story) {
        story.sql(
            "create table p (id int primary key, v text); insert into p values (1, 'x'), (2, 'x');
             create table c (pid int, k int) partition by list (k); create table c1 (pid int, k int, constraint own_name foreign key (pid) references p on delete cascade);
             alter table c attach partition c1 for values in (1);
             create table c2 partition of c for values in (2, 3) partition by list (k); create table c3 partition of c2 for values in (3);
             alter table c add constraint big_fk foreign key (pid) references p on delete cascade;
             comment on constraint own_name on c1 is 'mine'; comment on constraint big_fk on c3 is $$it's below$$; comment on constraint big_fk on c is 'all';
             alter table c2 rename constraint big_fk to \"in the 'middle\";
             insert into c values (1, 1), (2, 3);
             create table q (id int primary key, v text) partition by range (id); create table q1 partition of q for values from (0) to (10); create table q2 partition of q for values from (10) to (20);
             create table d (id int references q on delete cascade); insert into q values (1, 'x'), (11, 'x'); insert into d values (1), (11)",
        );
        // What PostgreSQL called the parts for the partitions of `q` is exchanged.
        let parts = story.ask("select conname from pg_constraint where conrelid = 'd'::regclass and conparentid <> 0 order by confrelid");
        let (one, two) = parts.split_once('\n').unwrap();
        story.sql(&format!("alter table d rename constraint {one} to x; alter table d rename constraint {two} to {one}; alter table d rename constraint x to {two}; comment on constraint {two} on d is 'two'"));
        story.install("p, q");
        story.mark("m");
        let (before, definitions) = (story.state(), story.definitions());
        story.sql("update p set v = 'y'; update q set v = 'y'");
        story.logged_rollback("m");
        story.is(&before, &definitions, "back");
        let strategy = story.strategy();
        assert!(["phased", "loosened"].contains(&strategy.as_str()), "the keys were not made anew: {strategy}");
    }

    a_session_in_the_role_of_a_replica(story) {
        if story.role.is_some() {
            let code = story.fails("set session_replication_role = replica");
            assert_eq!(code.code(), "42501", "only a superuser can take it");
            return;
        }
        story.sql(
            "create table p (id int primary key); create table c (id int primary key, p_id int); insert into p values (1); insert into c values (1, 1), (2, 99)",
        );
        story.install("*");
        story.mark("m");
        story.sql("delete from c where id = 2; insert into p values (2); insert into c values (3, 2); alter table c add foreign key (p_id) references p");
        let everything = story.everything();
        story.sql("set session_replication_role = replica");
        assert_eq!(story.fails("select emaj.emaj_rollback_group('g', 'm')").code(), "23503", "foreign keys hold at the end all the same");
        story.unchanged(&everything);
        story.mark("m2");
        story.sql("delete from c; select emaj.emaj_rollback_group('g', 'm2')");
        assert_eq!(story.ask("show session_replication_role"), "replica", "the session's setting is the session's");
    }

    a_key_that_is_newer_than_the_transaction_that_rolls_back(story) {
        story.sql("create table p (id int primary key); create table c (id int primary key, p_id int); insert into p values (1); insert into c values (1, 1), (2, 99)");
        story.install("*");
        story.mark("m");
        story.sql("delete from c where id = 2");
        let everything = story.everything();
        let add = format!("alter table {0}.c add foreign key (p_id) references {0}.p", story.schema);
        let rollback = "select emaj.emaj_logged_rollback_group('g', 'm')";
        // What it added itself, after a savepoint.
        story.sql(&format!("begin; delete from c where id = 3; savepoint a; {add}"));
        assert_eq!(story.fails(rollback).code(), "23503", "it would leave an orphan");
        story.sql("rollback");
        story.unchanged(&everything);
        // What somebody else has added since it began.
        story.sql("begin; select txid_current()");
        story.db.client().batch_execute(&add).unwrap();
        assert_eq!(story.fails(rollback).code(), "23503", "it would leave an orphan");
        story.sql("rollback");
    }

    the_way_it_is_done(story) {
        // Each strategy is met at least once, so that the cases above say something of each.
        story.sql(
            "create table p (id int primary key); create table c (id int primary key, p_id int references p);
             create table d (id int primary key, p_id int references p deferrable); create table e (id int primary key, boss int references e);
             create table f (id int primary key, u int unique, p_id int references p); create table alone (id int primary key);
             insert into p values (1), (2); insert into f values (1, 1, 1), (2, 2, 2); insert into e values (1, 1)",
        );
        story.install("*");
        story.settle();
        let superuser = story.role.is_none();
        for (changes, by_owner) in [
            ("select 1", "nothing"),
            ("insert into alone values (1)", "plain"),
            ("insert into d values (5, 1)", "deferred"),
            ("insert into p values (6); insert into c values (6, 6)", "phased"),
            ("update f set u = 3 where id = 1; update f set u = 1 where id = 2; update f set u = 2 where id = 1", "loosened"),
        ] {
            let (before, definitions) = (story.state(), story.definitions());
            story.mark("m");
            story.sql(changes);
            story.rollback("m");
            story.is(&before, &definitions, changes);
            let by_superuser = if ["nothing", "plain"].contains(&by_owner) { by_owner } else { "replica" };
            assert_eq!(story.strategy(), if superuser { by_superuser } else { by_owner }, "{changes}");
            story.sql("select emaj.emaj_delete_mark_group('g', 'm')");
        }
    }

    child_outside_the_group(story) {
        story.sql(
            "create table p (id int primary key, v text); create table c (id int primary key, p_id int references p);
             insert into p values (1, 'a'), (2, 'b'); insert into c values (1, 1)",
        );
        story.install("p");
        story.mark("m");
        let (before, definitions) = (story.state(), story.definitions());
        story.sql("update p set v = 'x'; insert into p values (3, 'c'); delete from p where id = 2");
        story.rollback("m");
        story.is(&before, &definitions, "nobody outside refers to what goes");
        // Now somebody does: the rollback would leave an orphan.
        story.sql("insert into p values (3, 'c'); insert into c values (3, 3)");
        let everything = story.everything();
        for kind in ["emaj_rollback_group", "emaj_logged_rollback_group"] {
            let code = story.fails(&format!("select emaj.{kind}('g', 'm')"));
            assert_eq!(code.code(), "23503");
            let by_program = story.emaj(&["rollback", "g", "m", "--yes"]).code(4);
            assert!(by_program.stderr.contains("rows of a table outside the group stand in the way"), "{by_program}");
            story.sql("select 1");
            story.unchanged(&everything);
        }
    }

    child_outside_the_group_with_an_action(story) {
        story.sql(
            "create table p (id int primary key, v text);
             create table c (id int primary key, p_id int references p on delete cascade on update cascade);
             comment on constraint c_p_id_fkey on c is 'outside';
             insert into p values (1, 'a'), (2, 'b'); insert into c values (1, 1), (2, 2)",
        );
        story.install("p");
        story.mark("m");
        let (before, definitions) = (story.state(), story.definitions());
        story.sql("update p set v = 'x'; insert into p values (3, 'c'); delete from p where id = 3");
        story.rollback("m");
        story.is(&before, &definitions, "the action outside did not fire");
        story.sql("insert into p values (3, 'c'); insert into c values (3, 3)");
        let everything = story.everything();
        let code = story.fails("select emaj.emaj_rollback_group('g', 'm')");
        assert_eq!(code.code(), "23503", "rows outside the group are neither deleted nor made orphans");
        story.unchanged(&everything);
    }

    parent_outside_the_group(story) {
        story.sql(
            "create table p (id int primary key); create table c (id int primary key, p_id int references p on delete cascade, v text);
             insert into p values (1), (2); insert into c values (1, 1, 'a'), (2, 2, 'b')",
        );
        story.install("c");
        story.mark("m");
        let (before, definitions) = (story.state(), story.definitions());
        story.sql("delete from c where id = 1; insert into c values (3, 2, 'c'); update c set v = 'x'");
        story.logged_rollback("m");
        story.is(&before, &definitions, "the parents are all there");
        story.sql("delete from p where id = 1");
        let everything = story.everything();
        let code = story.fails("select emaj.emaj_rollback_group('g', 'm')");
        assert_eq!(code.code(), "23503", "a row without its parent is an orphan");
        story.unchanged(&everything);
        // The parent comes back by hand: so does the child.
        story.sql("insert into p values (1)");
        story.rollback("m");
        story.is(&before, &definitions, "the parent is there again");
    }

    partner_captured_later(story) {
        story.sql(
            "create table p (id int primary key); create table c (id int primary key, p_id int references p);
             insert into p values (1), (2); insert into c values (1, 1)",
        );
        story.install("c");
        story.mark("early");
        story.sql("insert into c values (2, 2); delete from c where id = 1; delete from p where id = 1");
        story.install("c, p");
        story.mark("late");
        let (late, definitions) = (story.state(), story.definitions());
        story.sql("delete from c; delete from p; insert into p values (9)");
        let refusal = story.refused("select emaj.emaj_rollback_group('g', 'early')");
        assert!(refusal.contains("p is captured only since a later moment"), "{refusal}");
        story.rollback("late");
        story.is(&late, &definitions, "to the mark that both have");
    }

    a_foreign_key_made_after_the_mark(story) {
        story.sql(
            "create table p (id int primary key); create table c (id int primary key, p_id int);
             insert into p values (1); insert into c values (1, 1), (2, 99)",
        );
        story.install("*");
        story.mark("m");
        story.sql(
            "delete from c where id = 2; insert into p values (2); insert into c values (3, 2);
             alter table c add foreign key (p_id) references p",
        );
        let everything = story.everything();
        // Others that are writing must not make the constraint look older than it is.
        let mut others: Vec<_> = (0..20).map(|_| story.db.client()).collect();
        for other in &mut others {
            other.batch_execute("begin; select txid_current()").expect("a transaction");
        }
        // Row 2 of the mark points to nothing, and the constraint says that there is no such row.
        let code = story.fails("select emaj.emaj_rollback_group('g', 'm')");
        assert_eq!(code.code(), "23503");
        story.unchanged(&everything);
        assert_eq!(story.orphans(), "");
    }

    a_foreign_key_made_in_a_savepoint_before_the_mark(story) {
        story.sql("create table p (id int primary key); create table c (id int primary key, p_id int); insert into p values (1); insert into c values (1, 1), (2, 99)");
        story.install("*");
        let mut other = match &story.role { Some(role) => story.db.client_as(role), None => story.db.client() };
        other.batch_execute(&format!("set search_path = {}; begin; delete from c where id = 2; savepoint a; alter table c add foreign key (p_id) references p; release a", story.schema)).unwrap();
        // A transaction that ends moves the snapshot's end past the savepoint's id.
        story.sql("create table later (id int)");
        story.mark("m");
        other.batch_execute("commit").unwrap();
        let everything = story.everything();
        let code = story.fails("select emaj.emaj_rollback_group('g', 'm')");
        assert_eq!(code.code(), "23503");
        story.unchanged(&everything);
        assert_eq!(story.orphans(), "");
    }

    a_parent_of_another_owner(story) {
        story.sql_as_superuser(
            "create schema other; create table other.p (id int primary key); insert into other.p values (1), (2); grant usage on schema other to public; grant references, select on other.p to public",
        );
        story.sql("create table c (id int primary key, p_id int references other.p); insert into c values (1, 1)");
        story.install("*");
        story.back_and_forth(&["insert into c values (2, 2); update c set p_id = 2", "delete from c"]);
    }
}
