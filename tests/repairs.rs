//! Tables that lose columns, types or guards behind the back of emaj: writes go on, and an install repairs what is left for good.

use crate::support::story::{Story, stories};

const TABLES: &str = "
    create table t (id int primary key, a int, b text);
    create table w (id int primary key, a int, b text);
    create table p (id int, r int, v text, primary key (id, r)) partition by list (r);
    create table p0 partition of p for values in (0);
    create table p1 (v text, r int not null, id int not null); alter table p attach partition p1 for values in (1);
    insert into t select i, i, 'b' || i from generate_series(1, 5) i; insert into w select i, i, 'b' || i from generate_series(1, 5) i;
    insert into p select i, i % 2, 'v' || i from generate_series(1, 6) i";

fn begin(story: &mut Story<'_>, options: &str) {
    if !options.is_empty() {
        story.options += "    table_options:\n";
    }
    for line in options.lines() {
        story.options += &format!("      {}.{line}\n", story.schema);
    }
    story.sql(TABLES);
    story.install("*");
    story.mark("m");
}

/// Installs; nothing is left to do, and the group can be marked, changed and rolled back.
#[track_caller]
fn repaired(story: &mut Story<'_>, change: &str) {
    story.install("*");
    story.emaj(&["plan", "--detailed-exitcode"]).code(0);
    assert_eq!(story.ask("select emaj.emaj_verify_all()"), "No error detected");
    story.mark("repaired");
    let (state, definitions) = (story.state(), story.definitions());
    story.sql(change);
    story.rollback("repaired");
    story.is(&state, &definitions, "after the repair");
}

#[track_caller]
fn guarded(story: &mut Story<'_>, sql: &str) {
    assert_eq!(story.fails(sql).code(), "2BP01", "not guarded: {sql}");
}

stories! {
    a_table_dropped_with_its_guard_and_made_again_is_guarded(story) {
        begin(story, "");
        story.sql("drop table t cascade; create table t (id int primary key, a int, b text)");
        repaired(story, "insert into t values (1, 1, 'x')");
        guarded(story, "alter table t drop column b");
        guarded(story, "drop table t");
    }

    a_column_dropped_with_the_guard_and_installed_is_guarded(story) {
        begin(story, "");
        story.sql("alter table t drop column b cascade; alter table p drop column v cascade");
        repaired(story, "update t set a = 0; insert into p values (50, 1)");
        guarded(story, "alter table t drop column a");
        guarded(story, "drop table p");
    }

    a_log_and_its_function_dropped_are_made_again(story) {
        begin(story, "");
        story.sql("do $$ declare log text := (select rel_log from emaj.emaj_relation where rel_name = 't'); begin
            execute format('drop table emaj.%I cascade', log); execute format('drop function emaj.%I() cascade', log); end $$");
        repaired(story, "update t set a = 0; delete from t where id = 2");
    }
}
