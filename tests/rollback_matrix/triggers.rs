//! Triggers and rules of the application: they do not fire in a rollback, they are afterwards as they were, and tables which
//! they change themselves come back exactly.

use crate::support::story::{cases, stories};

/// Triggers of every level and time, in every state, that would leave a trace if they fired in a rollback.
const MATRIX: &str = "
    create table t (id int primary key, v text);
    create table trace (id int generated always as identity primary key, what text);
    create function note() returns trigger language plpgsql as $$
    begin
      insert into trace (what) values (tg_name || tg_op);
      return case tg_op when 'DELETE' then old else new end;
    end $$;
    do $$
    declare level text; moment text; state text;
    begin
      foreach level in array array['row', 'statement'] loop
        foreach moment in array array['before', 'after'] loop
          foreach state in array array['origin', 'always', 'replica', 'disabled'] loop
            execute format('create trigger %I %s insert or update or delete on t for each %s execute function note()',
                           concat_ws('_', level, moment, state), moment, level);
            execute format('alter table t %s trigger %I',
              case state when 'origin' then 'enable' when 'always' then 'enable always' when 'replica' then 'enable replica' else 'disable' end,
              concat_ws('_', level, moment, state));
          end loop;
        end loop;
      end loop;
      create trigger trunc before truncate on t execute function note();
      create constraint trigger later after insert or update or delete on t deferrable initially deferred for each row execute function note();
      comment on trigger later on t is 'later';
    end $$;
    insert into t values (1, 'a'), (2, 'b'), (3, 'c')";

cases! {
    every_kind_in_every_state: MATRIX
        => "update t set v = 'x' where id = 1; delete from t where id = 2; insert into t values (4, 'd'); update t set id = 30 where id = 3",
           "truncate t; insert into t values (1, 'y')";

    on_partitions:
        "create table t (id int primary key, v text) partition by range (id);
         create table t1 partition of t for values from (0) to (10); create table t2 partition of t for values from (10) to (20);
         create function loud() returns trigger language plpgsql as $$ begin new.v := new.v || '!'; return new; end $$;
         create trigger of_all before insert or update on t for each row execute function loud();
         create trigger of_one before update on t2 for each row execute function loud();
         alter table t1 disable trigger of_all; alter table t2 enable always trigger of_one;
         insert into t values (1, 'a'), (11, 'b')"
        => "update t set v = 'x'; insert into t values (2, 'c'), (12, 'd')", "update t set id = 25 - id - 13 + 3 where id = 1; delete from t where id > 10";

    rules_that_do_something_else:
        "create table t (id int primary key, v text); create table audit (id serial primary key, t int);
         create rule no_delete as on delete to t where old.id < 10 do instead nothing;
         create rule also as on update to t do also insert into audit (t) values (new.id);
         create rule elsewhere as on insert to t where new.id > 100 do instead insert into audit (t) values (new.id);
         alter table t enable always rule also;
         insert into t values (1, 'a'), (2, 'b'), (20, 'c')"
        => "update t set v = 'x'; delete from t; insert into t values (30, 'd'), (130, 'e')", "update t set v = v || id; delete from t";

    a_row_trigger_that_resets_another_row_before:
        "create table t (id int primary key, is_default boolean not null, v int default 0);
         create function one_default() returns trigger language plpgsql as $$
         begin
           if new.is_default then update t set is_default = false, v = v + 1 where is_default and id <> new.id; end if;
           return new;
         end $$;
         create trigger one_default before insert or update on t for each row execute function one_default();
         insert into t values (1, true), (2, false), (3, false)"
        => "update t set is_default = true where id = 2; insert into t values (4, true); update t set is_default = true where id = 1",
           "delete from t where id = 4; insert into t values (4, true); update t set is_default = true where id = 3",
           "update t set is_default = true, id = id + 10 where id = 2";

    a_row_trigger_that_resets_another_row_after:
        "create table t (id int primary key, is_default boolean not null, v int default 0);
         create function one_default() returns trigger language plpgsql as $$
         begin
           update t set is_default = false, v = v + 1 where is_default and id <> new.id;
           return null;
         end $$;
         create trigger one_default after insert or update on t for each row when (new.is_default) execute function one_default();
         insert into t values (1, true), (2, false), (3, false)"
        => "update t set is_default = true where id = 2; insert into t values (4, true)",
           "update t set is_default = true where id = 3; delete from t where id = 4; insert into t values (4, true)";

    a_trigger_that_changes_the_same_row_again:
        "create table t (id int primary key, n int, touched int default 0);
         create function again() returns trigger language plpgsql as $$
         begin
           update t set touched = touched + 1 where id = new.id;
           return null;
         end $$;
         create trigger again after insert or update of n on t for each row execute function again();
         insert into t values (1, 1), (2, 2)"
        => "update t set n = n + 1; insert into t values (3, 3); update t set n = 0 where id = 3", "delete from t where id = 3; insert into t values (3, 33); update t set id = id + 10, n = 7";

    a_trigger_that_deletes_what_was_just_inserted:
        "create table t (id int primary key, n int);
         create function bounce() returns trigger language plpgsql as $$
         begin delete from t where id = new.id - 1; insert into t values (new.id * 100, new.n) on conflict do nothing; return null; end $$;
         create trigger bounce after insert on t for each row when (new.id < 50) execute function bounce();
         insert into t values (1, 1)"
        => "insert into t values (2, 2), (3, 3), (4, 4)", "insert into t values (5, 5); insert into t values (3, 8)";

    statement_triggers_that_change_the_table:
        "create table t (id int primary key, n int, rank int);
         create function ranking() returns trigger language plpgsql as $$
         begin
           if pg_trigger_depth() < 2 then
             update t set rank = r.rank from (select id, row_number() over (order by n) as rank from t) r where r.id = t.id;
           end if;
           return null;
         end $$;
         create trigger rank after insert or update or delete on t for each statement execute function ranking();
         create function prune() returns trigger language plpgsql as $$ begin delete from t where n < 0; return null; end $$;
         create trigger prune before insert on t for each statement execute function prune();
         insert into t values (1, 10), (2, 20), (3, 30)"
        => "update t set n = -n where id = 2; insert into t values (4, 5)", "update t set n = 100 - n; delete from t where id = 1; insert into t values (2, -4), (1, 1)";

    a_deferred_trigger_that_changes_the_table:
        "create table t (id int primary key, n int);
         create function settle() returns trigger language plpgsql as $$ begin update t set n = n + 1 where id <> new.id; return null; end $$;
         create constraint trigger settle after insert on t deferrable initially deferred for each row execute function settle();
         insert into t values (1, 1)"
        => "begin; insert into t values (2, 2); insert into t values (3, 3); update t set n = 0 where id = 2; commit",
           "begin; insert into t values (4, 4); delete from t where id = 4; insert into t values (4, 5); commit; update t set id = id + 10";

    triggers_over_two_tables_and_back:
        "create table a (id int primary key, n int); create table b (id int primary key, n int);
         create function to_b() returns trigger language plpgsql as $$
         begin insert into b values (new.id, new.n) on conflict (id) do update set n = excluded.n; return new; end $$;
         create function to_a() returns trigger language plpgsql as $$ begin update a set n = new.n + 1 where id = new.id and n < 100; return new; end $$;
         create trigger to_b before insert or update on a for each row when (pg_trigger_depth() < 4) execute function to_b();
         create trigger to_a after insert or update on b for each row execute function to_a();
         insert into a values (1, 90), (2, 95)"
        => "insert into a values (3, 98), (4, 10)", "delete from b; insert into a values (5, 97); delete from a where id = 3";

    a_view_with_instead_of_trigger:
        "create table t (id int primary key, n int); create view v as select * from t where n > 0;
         create function through() returns trigger language plpgsql as $$ begin insert into t values (new.id, new.n); return new; end $$;
         create trigger through instead of insert on v for each row execute function through();
         insert into v values (1, 1)"
        => "insert into v values (2, 2), (3, 3); update t set n = 4 where id = 1", "delete from t";
}

stories! {
    kept_triggers_fire_and_the_others_do_not(story) {
        story.sql(
            "create table t (id int primary key, v text); create table trace (n int primary key);
             create function kept() returns trigger language plpgsql as $$ begin execute format('insert into %1$I.trace select count(*) + 1 from %1$I.trace', tg_table_schema); return null; end $$;
             create trigger kept after update on t for each row execute function kept();
             create trigger other after update on t for each row execute function kept();
             insert into t values (1, 'a'), (2, 'b')",
        );
        story.options += &format!("    table_options:\n      {}.t: {{ keep_triggers: [kept] }}\n", story.schema);
        story.install("t");
        story.mark("m");
        let definitions = story.definitions();
        story.sql("update t set v = 'x' where id = 1; delete from trace");
        story.rollback("m");
        assert_eq!(story.ask("select count(*) from trace"), "1", "one of two triggers fired");
        assert_eq!(story.ask("select v from t where id = 1"), "a");
        assert_eq!(story.definitions(), definitions);
    }

    what_kept_triggers_write_is_undone_by_an_earlier_mark(story) {
        story.sql(
            "create table t (id int primary key, v text, stamp text); create table trace (n int primary key);
             create function kept() returns trigger language plpgsql as $$ begin execute format('insert into %1$I.trace select count(*) + 1 from %1$I.trace', tg_table_schema); return null; end $$;
             create function stamped() returns trigger language plpgsql as $$ begin new.stamp := txid_current(); return new; end $$;
             insert into t values (1, 'a', 'at first'), (2, 'b', 'at first');
             create trigger kept after update on t for each row execute function kept();
             create trigger stamped before update on t for each row execute function stamped()",
        );
        let options = std::mem::take(&mut story.options);
        for consolidated in [false, true] {
            story.options = format!("{options}    table_options:\n      {}.t: {{ keep_triggers: [kept, stamped] }}\n", story.schema);
            story.install("*");
            story.mark("m0");
            let (before, definitions) = (story.state(), story.definitions());
            story.sql("update t set v = 'x' where id = 1");
            story.mark("m1");
            story.sql("update t set v = 'y' where id = 1");
            if consolidated {
                story.logged_rollback("m1");
                story.sql("select emaj.emaj_consolidate_rollback_group('g', 'EMAJ_LAST_MARK')");
            } else {
                story.rollback("m1");
            }
            assert_eq!(story.ask("select v from t where id = 1"), "x");
            assert_eq!(story.ask("select count(*) from trace"), "2", "what the change wrote is gone, what the rollback wrote is there");
            // Kept no more, they write nothing on the way to the earlier mark.
            story.options = options.clone();
            story.install("*");
            story.rollback("m0");
            story.is(&before, &definitions, "all that was written since");
            story.sql("delete from emaj.emaj_mark where mark_name in ('m0', 'm1')");
        }
    }

    states_are_the_same_after_a_rollback_that_fails(story) {
        story.sql(MATRIX);
        story.sql("create table outside (id int primary key, t int references t on update cascade)");
        story.install("t, trace");
        story.mark("m");
        story.sql("insert into t values (50, 'x'); insert into outside values (1, 50)");
        let (everything, definitions) = (story.everything(), story.definitions());
        for kind in ["emaj_rollback_group", "emaj_logged_rollback_group"] {
            story.fails(&format!("select emaj.{kind}('g', 'm')"));
            assert_eq!(story.definitions(), definitions);
            story.unchanged(&everything);
        }
    }

    a_trigger_made_and_dropped_between_two_marks(story) {
        story.sql(
            "create table t (id int primary key, is_default boolean not null);
             insert into t values (1, true), (2, false), (3, false)",
        );
        story.install("*");
        story.mark("m0");
        let (before, definitions) = (story.state(), story.definitions());
        story.sql(
            "create function one_default() returns trigger language plpgsql as $$
             begin
               if new.is_default then update t set is_default = false where is_default and id <> new.id; end if;
               return new;
             end $$;
             create trigger one_default before insert or update on t for each row execute function one_default()",
        );
        story.sql("update t set is_default = true where id = 2");
        story.mark("m1");
        story.sql("update t set is_default = true where id = 3; insert into t values (4, true)");
        story.sql("drop trigger one_default on t");
        story.rollback("m0");
        story.is(&before, &definitions, "the trigger is gone, its traces in the log are understood");
    }
}
