//! Sequences: last value, called or not, and parameters, at every mark; and as they were when a rollback is aborted.

use crate::support::story::{cases, stories};

cases! {
    drawn_and_set:
        "create table t (id int primary key); create sequence s; create sequence never; create sequence set_back; select setval('set_back', 50, false)"
        => "select nextval('s'), nextval('s'), nextval('set_back')", "select setval('s', 1000), setval('never', 7, false), setval('set_back', 3)", "select setval('s', 1, false), nextval('never')";

    altered:
        "create table t (id int primary key); create sequence s increment 5 minvalue -10 maxvalue 1000 start 5 cache 3; select nextval('s')"
        => "alter sequence s increment -1 minvalue -500 maxvalue 2000 start 7 cache 1 cycle; select nextval('s')", "alter sequence s restart; select nextval('s'), nextval('s')", "alter sequence s no maxvalue no cycle increment 2 minvalue -600";

    of_another_type:
        "create table t (id int primary key); create sequence wide; create sequence narrow as integer; create sequence small as smallint; select nextval('wide'), nextval('narrow')"
        => "alter sequence wide as integer; alter sequence narrow as bigint; select nextval('narrow')", "alter sequence wide as smallint maxvalue 300; alter sequence small as bigint; select setval('small', 100000)";

    at_its_maximum_and_cyclic:
        "create table t (id int primary key); create sequence full_one maxvalue 3; create sequence round maxvalue 3 cycle; create sequence down increment -2 minvalue -3 maxvalue 9 start 9;
         select nextval('full_one'), nextval('full_one'), nextval('full_one'), nextval('round'), nextval('round'), nextval('round')"
        => "select nextval('round'), setval('full_one', 1), nextval('down')", "alter sequence full_one maxvalue 30; select setval('full_one', 29), nextval('full_one'), nextval('down')";

    of_types_and_names:
        r#"create table t ("Id" smallserial primary key, b bigserial, i int generated always as identity (start 10 increment 10)); create sequence "S '; x" as smallint maxvalue 300;
           insert into t default values"#
        => r#"insert into t default values; select nextval('"S ''; x"')"#, r#"insert into t default values; select setval('"S ''; x"', 300)"#;

    with_a_cache_in_this_session:
        "create table t (id int primary key default 1); create sequence s cache 20; alter table t alter id set default nextval('s'); insert into t default values"
        => "insert into t default values", "insert into t default values; insert into t default values";
}

stories! {
    an_aborted_rollback_leaves_them(story) {
        story.sql("create table t (id serial primary key); create sequence s; create sequence a; insert into t default values; select nextval('s')");
        story.install("*");
        story.mark("m");
        story.sql("insert into t default values; insert into t default values; select setval('s', 500), nextval('a'); alter sequence s increment 3");
        let everything = story.everything();
        story.sql("begin; select emaj.emaj_rollback_group('g', 'm'); rollback");
        story.unchanged(&everything);
        story.sql("begin; savepoint x; select emaj.emaj_logged_rollback_group('g', 'm'); rollback to x; commit");
        story.unchanged(&everything);
    }

    an_identity_keeps_the_type_of_its_column(story) {
        let row = "select concat_ws('|', s.seqtypid::regtype, s.seqincrement, q.last_value) from pg_sequence s, t_id_seq q where s.seqrelid = 't_id_seq'::regclass";
        story.sql("create table t (id smallint generated always as identity, k int primary key); insert into t (k) values (1)");
        story.install("*");
        story.mark("m");
        story.sql("insert into t (k) values (2); alter sequence t_id_seq as integer increment 5");
        story.rollback("m");
        assert_eq!(story.ask(row), "integer|1|1");
        story.mark("m2");
        story.sql("insert into t (k) values (3); alter sequence t_id_seq as smallint");
        story.rollback("m2");
        assert_eq!(story.ask(row), "smallint|1|1");
    }

    the_applications_lastval_is_untouched(story) {
        story.sql("create table t (id serial primary key, v int)");
        story.install("*");
        story.sql("insert into t (v) values (1)");
        assert_eq!(story.ask("select lastval()"), "1");
        story.mark("m");
        story.sql("update t set v = 2; delete from t");
        assert_eq!(story.ask("select currval('t_id_seq')"), "1");
    }

    a_sequence_of_no_table_in_the_group_is_left_alone(story) {
        story.options = "    sequences: owned\n".to_owned();
        story.sql("create table t (id serial primary key); create sequence free");
        story.install("*");
        story.mark("m");
        story.sql("select nextval('free'), nextval('t_id_seq')");
        story.rollback("m");
        assert_eq!(story.ask("select last_value::text || is_called from free"), "1true");
        assert_eq!(story.ask("select last_value::text || is_called from t_id_seq"), "1false");
    }
}
