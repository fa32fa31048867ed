//! Keys and unique values: several columns, changed, exchanged, equal with other bytes.

use crate::support::story::{cases, stories};

cases! {
    several_columns_in_odd_order:
        "create table t (v text, c int, a text, b date, primary key (b, a, c));
         insert into t select 'v' || i, i, chr(97 + i % 3), date '2020-01-01' + i from generate_series(1, 20) i"
        => "update t set v = 'x' where c < 5; update t set c = c + 100 where c between 5 and 8; delete from t where c = 10",
           "update t set b = b + 1; insert into t values ('n', 1, 'n', '2000-01-01'); update t set a = 'z'",
           "delete from t; insert into t select 'w', i, chr(97 + i % 3), date '2020-01-01' + i from generate_series(1, 20) i";

    one_key_of_all_columns:
        "create table t (a int, b int, primary key (b, a)); insert into t select i, i % 3 from generate_series(1, 9) i"
        => "update t set a = a + 1 where b = 0; delete from t where b = 1; insert into t values (100, 100)", "update t set b = b + 1";

    keys_that_move_along:
        "create table t (id int primary key deferrable, v text); insert into t select i, 'v' || i from generate_series(1, 9) i"
        => "update t set id = id + 1", "update t set id = id - 2; insert into t values (50, 'n')", "update t set id = 60 - id";

    a_swap_with_a_deferrable_key:
        "create table t (id int primary key deferrable initially immediate, v text); insert into t values (1, 'one'), (2, 'two')"
        => "update t set id = 3 - id", "update t set id = 3 - id, v = v || '!'; update t set id = 3 - id", "delete from t where id = 1; update t set id = 1; insert into t values (2, 'x'); update t set id = 3 - id";

    a_swap_at_commit:
        "create table t (id int primary key deferrable initially deferred, v text); insert into t values (1, 'one'), (2, 'two'), (3, 'three')"
        => "begin; update t set id = 2 where v = 'one'; update t set id = 3 where v = 'two'; update t set id = 1 where v = 'three'; commit",
           "begin; insert into t values (1, 'twice'); update t set v = v || id; delete from t where v = 'three1'; commit";

    a_swap_through_a_third_value:
        "create table t (id int primary key, v text); insert into t values (1, 'one'), (2, 'two')"
        => "update t set id = 9 where id = 1; update t set id = 1 where id = 2; update t set id = 2 where id = 9",
           "update t set id = 9 where id = 1; update t set id = 1 where id = 2; insert into t values (2, 'new')";

    // There, back beside another row, and there again, in one transaction.
    a_key_that_goes_there_and_back_and_there:
        "create table t (id int primary key, v text); insert into t values (1, 'one'), (10, 'ten')"
        => "begin; update t set id = 20 where id = 10; update t set id = case id when 20 then 10 else id end, v = v || '!' where id in (1, 20); update t set id = 20 where id = 10; commit";

    equal_with_other_bytes_numeric:
        "create table t (id numeric primary key, n numeric); insert into t values (1.0, 1.0), (2, 2), (3.000, -0.0)"
        => "update t set id = 1.00 where id = 1; update t set n = 2.00 where id = 2; delete from t where id = 3; insert into t values (3, 0)",
           "update t set id = id + 1.000 - 1, n = n * 1.0; delete from t where id = 2; insert into t values (2.0000, 2)";

    equal_with_other_bytes_float:
        "create table t (id float8 primary key, n float4); insert into t values (0, 0), (1, 'nan'), (2, '-0')"
        => "update t set id = '-0' where id = 0; update t set n = 0 where id = 2; update t set n = '-0' where id = 0", "delete from t where id = 0; insert into t values (0, 0); update t set n = 'nan'";

    case_insensitive_text:
        "create extension citext; create table t (id citext primary key, v citext, w text);
         insert into t values ('Anna', 'A', '1'), ('Bert', 'B', '2'), ('Carl', 'C', '3')"
        => "update t set id = 'ANNA' where id = 'anna'; update t set v = 'b' where id = 'bert'; delete from t where id = 'carl'; insert into t values ('CARL', 'C', '3')",
           "update t set id = lower(id::text)::citext; delete from t where id = 'bert'; insert into t values ('BERT', 'b', 'x'); update t set w = w || 'y'";

    nondeterministic_collation:
        "create collation ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         create table t (id text collate ci primary key, v text collate ci unique);
         insert into t values ('Anna', 'A'), ('Bert', 'B')"
        => "update t set id = 'ANNA' where id = 'anna'; update t set v = 'b' where id = 'bert'",
           "delete from t where id = 'anna'; insert into t values ('anna', 'a'); update t set id = upper(id)";

    nondeterministic_keys_that_come_back_in_another_case:
        "create collation ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false); create domain cit as text collate ci;
         create table t (id text collate ci primary key, x int); create table c (id int primary key, t text collate ci references t);
         create table d (id cit primary key, e varchar(5) collate ci, x int); create table f (id int primary key, d cit references d);
         insert into t values ('Anna', 1), ('Bert', 2); insert into c values (1, 'bert'); insert into d values ('x', 'e', 1), ('y', 'f', 2); insert into f values (1, 'y')"
        => "delete from t where id = 'anna'", "insert into t values ('anna', 5)", "delete from d where id = 'X'", "insert into d values ('X', 'E', 3)",
           "update t set id = upper(id)", "update t set x = 6; update d set id = upper(id)", "update d set e = upper(e); update t set id = lower(id)";

    char_with_padding_and_other_keys:
        "create table t (a char(5), b uuid, c varchar(10) collate \"C\", d bytea, primary key (a, b, c, d), v int);
         insert into t values ('a', '00000000-0000-0000-0000-000000000001', 'x', '\\x00ff', 1), ('b ', 'a0000000-0000-0000-0000-000000000001', 'X ', '\\x', 2)"
        => "update t set a = 'a  '; update t set v = v + 1; update t set c = c || ' ' where v = 2", "delete from t where v = 3; update t set d = d || '\\x01'";

    jsonb_interval_and_inet_keys:
        "create table t (j jsonb, i interval, n inet, r int4range, e text[], primary key (j, i, n, r, e), v int);
         insert into t values ('{\"a\": 1.0}', '1 day', '10.0.0.1/8', '[1,5)', '{a,b}', 1), ('[]', '1 mon', '::1', 'empty', '{}', 2)"
        => "update t set j = '{\"a\": 1.00}' where v = 1; update t set i = '24:00:00' where v = 1; update t set i = '30 days' where v = 2",
           "update t set v = v * 2; delete from t where v = 4; insert into t values ('[]', '30 days', '::1', 'empty', '{}', 2)";

    a_domain_and_an_enum_key:
        "create domain code as text check (value ~ '^[a-z]+$') not null; create type mood as enum ('sad', 'ok');
         create table t (c code, m mood, v int, primary key (m, c)); insert into t values ('a', 'sad', 1), ('b', 'ok', 2), ('b', 'sad', 3)"
        => "update t set c = 'c', m = 'ok' where v = 1; update t set m = 'sad', v = 9 where v = 1; delete from t where v = 2", "insert into t values ('b', 'ok', 5); update t set c = c || 'x'";

    a_composite_and_a_range_key:
        "create type pair as (a int, b text); create table t (p pair primary key, r numrange unique, v int);
         insert into t values ('(1,x)', '[1.0,2]', 1), ('(2,)', '[3,)', 2)"
        => "update t set p = '(1,y)' where v = 1; update t set r = '[1.00,2.0]' where v = 1; delete from t where v = 2", "insert into t values ('(1,x)', '[30,40]', 3); update t set v = 0";

    unique_values_exchanged:
        "create table t (id int primary key, u text unique, w int, unique (w)); insert into t values (1, 'a', 1), (2, 'b', 2), (3, 'c', 3), (4, null, null)"
        => "update t set u = null where id = 1; update t set u = 'a' where id = 2; update t set u = 'b' where id = 1",
           "update t set u = 'x' where id = 3; update t set u = 'c' where id = 4; update t set w = w + 10; update t set w = 14 - w where w is not null",
           "delete from t where id = 1; insert into t values (5, 'b', 99); update t set u = 'b2' where id = 2";

    a_value_goes_from_a_row_to_a_new_one:
        "create table t (id int primary key, u text unique); insert into t values (1, 'a'), (2, 'b')"
        => "delete from t where id = 1; insert into t values (3, 'a')", "update t set u = 'z' where id = 3; insert into t values (1, 'a'); update t set u = 'q' where id = 2; update t set u = 'b' where id = 1";

    deferrable_unique:
        "create table t (id int primary key, place int unique deferrable initially deferred); insert into t select i, i from generate_series(1, 9) i"
        => "update t set place = 10 - place", "begin; update t set place = place + 1; insert into t values (20, 1); delete from t where id = 3; commit";

    exclusion:
        "create table t (id int primary key, during int4range, exclude using gist (during with &&)); insert into t values (1, '[1,5)'), (2, '[5,9)'), (3, '[20,30)')"
        => "update t set during = '[100,101)' where id = 1; update t set during = '[1,5)' where id = 2; update t set during = '[5,9)' where id = 1",
           "delete from t where id = 3; insert into t values (4, '[25,26)'), (5, '[26,27)')";

    unique_index_on_an_expression_and_partial:
        "create table t (id int primary key, v text, active boolean); create unique index on t (lower(v)); create unique index on t (active) where active;
         insert into t values (1, 'a', true), (2, 'B', false), (3, 'c', null)"
        => "update t set active = false; update t set active = true where id = 2; update t set v = 'x' || id; update t set v = 'A' where id = 3",
           "delete from t where id = 2; insert into t values (2, 'b', true)";

    names_with_everything:
        r#"create table "Sel ect;""'%s" ("A b" int, "select" text, "ü'%I" int unique, "emaj_gid" int, emaj_verb text, primary key ("A b", "select"));
         insert into "Sel ect;""'%s" values (1, 'a', 1, 1, 'x'), (2, 'b', 2, 2, 'y');
         create table a_table_with_a_name_that_is_exactly_sixty_three_bytes_long__ (a_column_with_a_name_that_is_exactly_sixty_three_bytes_long__ int primary key, v int);
         insert into a_table_with_a_name_that_is_exactly_sixty_three_bytes_long__ values (1, 1)"#
        => r#"update "Sel ect;""'%s" set "select" = 'c', "emaj_gid" = 7 where "A b" = 1; delete from "Sel ect;""'%s" where "A b" = 2; update a_table_with_a_name_that_is_exactly_sixty_three_bytes_long__ set v = 2"#,
           r#"insert into "Sel ect;""'%s" values (3, '', 1000, null, null); update "Sel ect;""'%s" set "ü'%I" = 5 where "A b" = 1; delete from a_table_with_a_name_that_is_exactly_sixty_three_bytes_long__"#;
}

stories! {
    a_deferrable_constraint_that_came_after_the_mark(story) {
        story.sql(
            "create table p (id int primary key); create table c (id int primary key, p int references p, u int, r int4range);
             insert into p values (1); insert into c values (1, 1, 7, '[1,5)'), (2, 1, 7, '[3,9)')",
        );
        story.install("*");
        story.settle();
        story.mark("m");
        for (change, add, state) in [
            ("update c set u = 8 where id = 2", "unique (u) deferrable", "23505"),
            ("update c set r = '[6,9)' where id = 2", "exclude using gist (r with &&) deferrable initially deferred", "23P01"),
        ] {
            story.sql(&format!("{change}; alter table c add constraint late {add}"));
            let everything = story.everything();
            for kind in ["emaj_rollback_group", "emaj_logged_rollback_group"] {
                assert_eq!(story.fails(&format!("select emaj.{kind}('g', 'm')")).code(), state, "{add}");
                story.unchanged(&everything);
            }
            story.sql("alter table c drop constraint late");
        }
        // One that held at the mark is in nobody's way.
        story.sql("update c set u = id; alter table c add constraint late unique (u) deferrable");
        story.settle();
        story.mark("n");
        let (before, definitions) = (story.state(), story.definitions());
        story.sql("update c set u = u + 1");
        story.rollback("n");
        story.is(&before, &definitions, "back");
        assert_eq!(story.strategy(), if story.role.is_none() { "replica" } else { "phased" });
    }

    a_key_that_was_there_twice_until_a_commit(story) {
        story.sql("create table t (id int primary key deferrable initially deferred, v text); insert into t values (1, 'old'), (2, 'x')");
        story.install("*");
        story.mark("m");
        let (before, definitions) = (story.state(), story.definitions());
        let mut other = match &story.role { Some(role) => story.db.client_as(role), None => story.db.client() };
        other.batch_execute(&format!("set search_path = {}; begin; insert into t values (1, 'new')", story.schema)).unwrap();
        story.sql("delete from t where id = 1");
        other.batch_execute("commit").unwrap();
        assert_eq!(story.ask("select v from t where id = 1"), "new");
        let after = story.state();
        story.logged_rollback("m");
        story.is(&before, &definitions, "the row of the mark is back");
        let start = story.last_start_mark();
        story.logged_rollback(&start);
        story.is(&after, &definitions, "and away again");
        story.rollback("m");
        story.is(&before, &definitions, "unlogged");
    }

    a_key_that_was_not_unique_for_a_while(story) {
        story.sql("create table t (id int primary key, p int); insert into t values (1, 1), (2, 2)");
        story.install("*");
        story.mark("m");
        let (before, definitions) = (story.state(), story.definitions());
        story.sql("alter table t drop constraint t_pkey");
        story.sql("insert into t values (1, 77)");
        story.sql("delete from t where p = 77; alter table t add constraint t_pkey primary key (id)");
        story.sql("insert into t values (3, 3)");
        story.rollback("m");
        story.is(&before, &definitions, "the row that nobody touched stays");
    }

    a_large_log_with_everything_mixed(story) {
        story.sql(
            "create table t (id int primary key, u int unique, v text);
             insert into t select i, i, 'v' || i from generate_series(1, 5000) i",
        );
        story.install("*");
        story.back_and_forth(&[
            "update t set v = v || 'x' where id % 2 = 0; delete from t where id % 7 = 0; insert into t select i, i, 'n' from generate_series(5001, 9000) i",
            "update t set id = id + 100000 where id % 3 = 0; update t set v = 'y' where id % 5 = 0; delete from t where id % 11 = 0",
            "insert into t select i, -i, 'again' from generate_series(1, 9000) i on conflict do nothing; update t set v = null where id % 13 = 0",
        ]);
    }
}
