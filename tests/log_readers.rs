//! What a sink has not read stays in the log: whoever resets, drops, purges or rolls back.

use crate::support::story::{Story, stories};

const TABLES: &str = "create table t (id int primary key, v text); create table u (id int primary key, v text); insert into t values (1, 'a'), (2, 'b')";

fn install(story: &mut Story<'_>, more: &str) {
    story.sql(TABLES);
    let schema = story.schema.clone();
    let manifest = format!(
        "{}sinks:\n  out: {{ file: {{ path: o }}{more} }}\nbindings:\n  b: {{ table: {schema}.t, to: out, message: {{}} }}\n",
        story.manifest(&format!("{schema}.t, {schema}.u"))
    );
    story.install_manifest(&manifest).ok();
}

/// Does as a worker does when it has delivered everything.
fn deliver(story: &mut Story<'_>) {
    story.sql("update emaj.emaj_sink set sink_from = emaj._position(), sink_moved = clock_timestamp()");
}

fn log(story: &mut Story<'_>, table: &str) -> String {
    let log = story.ask(&format!(
        "select format('emaj.%I', rel_log) from emaj.emaj_relation where rel_name = '{table}' order by rel_id limit 1"
    ));
    story.ask(&format!("select count(*) from {log} where emaj_tuple <> ''"))
}

stories! {
    a_reset_keeps_what_is_not_read(story) {
        install(story, "");
        story.sql("update t set v = 'x' where id = 1; insert into u values (1, 'y'); select emaj.emaj_stop_group('g'); select emaj.emaj_reset_group('g')");
        assert_eq!((log(story, "t").as_str(), log(story, "u").as_str()), ("2", "0"));
        let said = story.ask("select hist_wording from emaj.emaj_hist where hist_event = 'KEPT'");
        assert_eq!(said, format!("the log of {}.t: not read to its end by `out`", story.schema));
        // The start with reset too; marks are exact all the same.
        story.sql("select emaj.emaj_start_group('g', 'm')");
        assert_eq!(log(story, "t"), "2");
        let at_mark = story.state();
        story.sql("update t set v = 'y'; delete from t where id = 2; insert into t values (3, 'c'); select emaj.emaj_rollback_group('g', 'm')");
        assert_eq!(story.state(), at_mark);
        deliver(story);
        story.sql("select emaj.emaj_stop_group('g'); select emaj.emaj_reset_group('g')");
        assert_eq!(log(story, "t"), "0");
    }

    a_drop_is_refused_while_a_sink_waits(story) {
        install(story, "");
        story.sql("update t set v = 'x' where id = 1; select emaj.emaj_stop_group('g')");
        let said = story.refused("select emaj.emaj_drop_group('g')");
        assert!(said.contains("has changes that sinks have not been given yet") && said.contains(".t (`out`)") && said.contains("emaj run --until-empty"), "{said}");
        // A sink that is paused or stopped waits all the same, one that is lost does not.
        for state in ["PAUSED", "STOPPED"] {
            story.sql(&format!("update emaj.emaj_sink set sink_state = '{state}'"));
            story.refused("select emaj.emaj_drop_group('g')");
        }
        story.sql("begin; update emaj.emaj_sink set sink_state = 'LOST'; select emaj.emaj_drop_group('g'); rollback");
        story.sql("begin; select emaj.emaj_force_drop_group('g'); rollback");
        deliver(story);
        story.sql("select emaj.emaj_drop_group('g')");
    }

    an_unlogged_rollback_of_a_bound_table_is_in_the_log(story) {
        install(story, "");
        story.mark("one");
        let one = story.state();
        story.sql("update t set v = 'x' where id = 1; insert into t values (3, 'c'); insert into u values (1, 'u')");
        story.mark("two");
        let two = story.state();
        story.sql("delete from t where id = 2; update t set v = 'z'; update u set v = 'w'");
        let (before, unbound) = (log(story, "t"), log(story, "u"));
        story.sql("select emaj.emaj_rollback_group('g', 'two')");
        assert_eq!(story.state(), two);
        assert!(log(story, "t").parse::<i32>().unwrap() > before.parse::<i32>().unwrap(), "the rollback is there to be delivered");
        assert_eq!((unbound.as_str(), log(story, "u").as_str()), ("3", "1"), "a table that nobody reads is cleaned up");
        // Changes after it, a mark after it, and earlier marks are exact.
        story.sql("update t set v = 'later' where id = 3");
        story.mark("three");
        let three = story.state();
        story.sql("delete from t");
        story.sql("select emaj.emaj_rollback_group('g', 'three')");
        assert_eq!(story.state(), three);
        story.sql("select emaj.emaj_rollback_group('g', 'one')");
        assert_eq!(story.state(), one);
        // Read from the first row to the last, the log leads to what the table is.
        let log_name = story.ask("select format('emaj.%I', rel_log) from emaj.emaj_relation where rel_name = 't'");
        let net = story.ask(&format!(
            "select coalesce(string_agg(concat(id, v), ',' order by id), '') from (
               select id, v from (select 1 as id, 'a' as v union all select 2, 'b' union all select id, v from {log_name} where emaj_tuple = 'NEW') as n
               except all select id, v from {log_name} where emaj_tuple = 'OLD') as x"
        ));
        assert_eq!(net, "1a,2b");
    }

    a_purge_waits_for_a_sink_and_not_for_ever(story) {
        story.options += "    rollback: false\n    retention: 0 seconds\n";
        install(story, ", max_lag: 2 hours");
        story.sql("update t set v = 'x'; insert into u values (1, 'u'); select pg_sleep(0.01); select emaj.emaj_purge_group('g')");
        assert_eq!((log(story, "t").as_str(), log(story, "u").as_str()), ("4", "0"));
        // Its cursor has not moved for long, but nothing has waited for long.
        story.sql("update emaj.emaj_sink set sink_moved = clock_timestamp() - interval '3 hours'; select emaj.emaj_purge_group('g')");
        assert_eq!(story.ask("select sink_state from emaj.emaj_sink"), "ACTIVE");
        let log_name = story.ask("select format('emaj.%I', rel_log) from emaj.emaj_relation where rel_name = 't'");
        story.sql(&format!("update {log_name} set emaj_changed = emaj_changed - interval '3 hours'; select emaj.emaj_purge_group('g')"));
        assert_eq!(story.ask("select concat_ws('|', sink_state, sink_reason) from emaj.emaj_sink"), "LOST|it took nothing for 02:00:00");
        story.sql("select emaj.emaj_purge_group('g')");
        assert_eq!(log(story, "t"), "0");
        assert_eq!(story.ask("select hist_object from emaj.emaj_hist where hist_function = 'LOSE_SINK'"), "out");
    }
}
