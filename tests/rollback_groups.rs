//! Several groups rolled back as one act: foreign keys between them, one instant, all or nothing, in one session and in several.

use crate::support::story::{State, Story, Who, stories, tell};
use crate::support::{Run, said};

/// Two groups: `g` holds the parents and a table of its own, `h` the children of `g`'s parents, and another one; the keys between them are
/// checked at once, with and without actions, and in both directions.
const TABLES: &str = "
    create table parent (id int primary key, v text);
    create table child (id int primary key, parent int not null references parent on delete cascade on update cascade, v text);
    create table favourite (parent int primary key references parent, child int not null references child);
    create table alone (id serial primary key, v text);
    create table other (id int primary key, v text unique);
    insert into parent select n, 'p' || n from generate_series(1, 20) n;
    insert into child select n, 1 + n % 20, 'c' || n from generate_series(1, 60) n;
    insert into favourite select n, n - 1 from generate_series(2, 20) n;
    insert into alone (v) select 'a' from generate_series(1, 30) n;
    insert into other select n, 'o' || n from generate_series(1, 30) n";

const CHANGES: &[&str] = &[
    "delete from favourite where parent % 3 = 0; delete from parent where id % 3 = 0 and id not in (select parent from favourite) and id not in (select c.parent from child c join favourite f on f.child = c.id)",
    "insert into parent values (100, 'new') on conflict do nothing; insert into child values (500, 100, 'new') on conflict do nothing; insert into favourite values (100, 500) on conflict do nothing",
    "update parent set id = id + 1000 where id = 1; update child set v = v || '.', parent = 100 where id % 7 = 0",
    "update alone set v = v || '.'; delete from alone where id % 4 = 0; insert into alone (v) values ('z')",
    "update other set v = 'x' || v where id % 2 = 0; delete from other where id < 4",
];

fn install(story: &mut Story<'_>) {
    story.sql(TABLES);
    let s = story.schema.clone();
    story.install_manifest(&format!(
        "version: 1\nroles: {{ admin: null, viewer: null }}\ngroups:\n  g: {{ tables: [{s}.parent, {s}.favourite, {s}.alone] }}\n  h: {{ tables: [{s}.child, {s}.other] }}\n"
    )).ok();
}

/// Both groups with the common mark `m`, and changes after it; returns the states at the mark and now.
fn changed(story: &mut Story<'_>) -> (State, State) {
    install(story);
    story.emaj(&["mark", "set", "g", "m", "--with", "h"]).ok();
    let at_mark = story.state();
    change(story);
    (at_mark, story.state())
}

fn change(story: &mut Story<'_>) {
    for changes in CHANGES {
        story.sql(changes);
    }
}

fn rollback(story: &Story<'_>, mark: &str, more: &[&str]) -> Run {
    let words = ["rollback", "h", mark, "--with", "g", "--yes"];
    story.emaj(&words.iter().chain(more).copied().collect::<Vec<_>>())
}

/// The mark that the last logged rollback set on both groups, as one instant.
#[track_caller]
fn around(story: &mut Story<'_>, end: &str) -> String {
    let found = story.ask(&format!(
        "select mark_name || ' ' || count(*) || ' ' || count(distinct (mark_position).lsn) from emaj.emaj_mark
          where mark_name like 'RLBK%{end}' group by mark_name order by max(mark_id) desc limit 1"
    ));
    let (name, counts) = found.split_once(' ').unwrap();
    assert_eq!(counts, "2 1", "the mark is one instant of two groups");
    name.to_owned()
}

stories! {
    back_and_forth_in_one_session_and_in_two(story) {
        let (at_mark, now) = changed(story);
        let definitions = story.definitions();
        for more in [&[][..], &["--jobs", "2"]] {
            let run = rollback(story, "m", more).ok();
            said(&run, "rolled groups `g`, `h` back to mark `m`");
            if !more.is_empty() {
                said(&run, "by 2 sessions");
            }
            story.is(&at_mark, &definitions, "at the mark");
            let (start, end) = (around(story, "START"), around(story, "DONE"));
            said(&run, &format!("undo it with `emaj rollback g {start} --with h`"));
            rollback(story, &start, more).ok();
            story.is(&now, &definitions, "undone");
            rollback(story, &end, more).ok();
            story.is(&at_mark, &definitions, "at its end again");
            rollback(story, &start, more).ok();
            story.is(&now, &definitions, "and undone again");
        }
        let run = rollback(story, "m", &["--unlogged", "-o", "json", "--comment", "both"]).ok();
        let report = run.stdout_json();
        assert_eq!((&report["groups"], &report["comment"]), (&serde_json::json!(["g", "h"]), &"both".into()));
        story.is(&at_mark, &definitions, "unlogged");
        for group in ["g", "h"] {
            assert_eq!(story.ask(&format!("select sum(stat_rows) from emaj.emaj_log_stat_group('{group}', 'm', null)")), "0");
        }
        assert_eq!(story.ask("select count(*) from emaj.emaj_mark where mark_name like 'RLBK%'"), "0");
        assert_eq!(story.ask("select emaj.emaj_verify_all()"), "No error detected");
        let list = story.emaj(&["rollback", "--list", "h", "-o", "json"]).ok().stdout_json();
        assert_eq!(list["past"][0]["groups"], serde_json::json!(["g", "h"]));
        change(story);
        rollback(story, "m", &["--stop", "--jobs", "2"]).ok();
        story.is(&at_mark, &definitions_without_states(story, &definitions), "and stopped");
        assert_eq!(story.ask("select string_agg(group_state, ',') from emaj.emaj_group"), "IDLE,IDLE");
    }

    in_sql(story) {
        let (at_mark, now) = changed(story);
        let definitions = story.definitions();
        let relations = story.ask("select count(*) from emaj.emaj_relation where rel_ended is null");
        assert_eq!(story.ask("select emaj.emaj_estimate_rollback_groups(array['g', 'h'], 'm') > '0 s'"), "t");
        assert_eq!(story.ask("select count(*) from emaj.emaj_check_rollback_groups(array['g', 'h'], 'm')"), "0");
        // In any order, and twice the same.
        assert_eq!(story.ask("select emaj.emaj_logged_rollback_groups(array['h', 'g', 'h'], 'm')"), relations);
        story.is(&at_mark, &definitions, "logged");
        let start = around(story, "START");
        assert_eq!(story.ask(&format!("select emaj.emaj_rollback_groups(array['g', 'h'], '{start}')")), relations);
        story.is(&now, &definitions, "unlogged, to the start of the logged one");
        assert_eq!(story.ask("select emaj.emaj_rollback_and_stop_groups(array['h', 'g'], 'm')"), relations);
        assert_eq!(story.state(), at_mark);
        assert_eq!(story.ask("select string_agg(group_state, ',') from emaj.emaj_group"), "IDLE,IDLE");
    }

    every_reason_of_every_group_is_named(story) {
        changed(story);
        let refused = |story: &mut Story<'_>, reasons: &[&str]| {
            let everything = story.everything();
            let sql = story.refused("select emaj.emaj_rollback_groups(array['g', 'h'], 'm')");
            for more in [&[][..], &["--dry-run"], &["--jobs", "2"]] {
                let run = rollback(story, "m", more).code(4);
                for reason in reasons {
                    assert!(sql.contains(reason), "`{reason}` is not said: {sql}");
                    said(&run, reason);
                }
            }
            story.unchanged(&everything);
        };
        story.sql("select emaj.emaj_protect_group('g')");
        refused(story, &["group `g` is protected"]);
        story.sql("select emaj.emaj_stop_group('h')");
        refused(story, &["group `g` is protected", "group `h` is IDLE, not LOGGING"]);
        story.sql("select emaj.emaj_unprotect_group('g'); select emaj.emaj_rename_mark_group('g', 'm', 'n')");
        refused(story, &["group `g` has no mark `m`", "group `h` is IDLE, not LOGGING"]);
        story.sql("select emaj.emaj_start_group('h', 'again'); select emaj.emaj_set_mark_groups(array['g', 'h'], 'both'); select emaj.emaj_rename_mark_group('h', 'both', 'renamed')");
        let said = story.refused("select emaj.emaj_rollback_groups(array['g', 'h'], 'EMAJ_LAST_MARK')");
        assert!(said.contains("the last mark has not one name: `both` in group `g`, `renamed` in group `h`"), "{said}");
    }

    a_mark_of_one_name_set_in_each_is_not_common(story) {
        install(story);
        story.sql("select emaj.emaj_set_mark_group('g', 'm'); select emaj.emaj_set_mark_group('h', 'm')");
        change(story);
        let everything = story.everything();
        for more in [&[][..], &["--jobs", "2"]] {
            let run = rollback(story, "m", more).code(4);
            said(&run, "mark `m` is not one instant in groups `g`, `h`");
            said(&run, "roll the groups back one by one");
        }
        story.unchanged(&everything);
    }
}

/// Without the states of triggers: capture is off in a group that is stopped.
fn definitions_without_states(story: &Story<'_>, wanted: &str) -> String {
    let now = story.definitions();
    let keep = |text: &str| -> Vec<String> {
        text.lines()
            .filter(|line| !line.starts_with("trigger"))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(keep(&now), keep(wanted));
    now
}

/// Before the decision it is as before, afterwards as after: in both groups.
#[test]
fn killed_in_several_sessions_and_recovered() {
    for who in [Who::Superuser, Who::Owner] {
        tell(who, |story| {
            let (at_mark, now) = changed(story);
            for (point, decided) in [
                ("rollback.begun", false),
                ("rollback.prepared", false),
                ("rollback.prepared:2", false),
                ("rollback.undecided", false),
                ("rollback.decided", true),
                ("rollback.concluded", true),
            ] {
                let run = story.prepare(&["rollback", "g", "m", "--with", "h", "--yes", "--jobs", "2"]);
                story.breaks_off(run, point, point);
                // Each of the groups waits for it.
                for group in ["g", "h"] {
                    let again = story.emaj(&["rollback", group, "m", "--yes"]).code(4);
                    said(&again, "of groups `g`, `h` broke off");
                    said(&again, "emaj rollback --recover");
                }
                let run = story.emaj(&["rollback", "--recover"]).ok();
                said(
                    &run,
                    if decided {
                        "was decided: done"
                    } else {
                        "was not decided: taken back"
                    },
                );
                said(&run, "of groups `g`, `h`");
                assert_eq!(
                    story.state(),
                    if decided { at_mark.clone() } else { now.clone() },
                    "{point}"
                );
                assert_eq!(story.orphans(), "", "{point}");
                assert_eq!(story.ask("select count(*) from pg_prepared_xacts where database = (select datname from pg_database where datname = current_database())"), "0");
                assert_eq!(story.ask("select emaj.emaj_verify_all()"), "No error detected");
                if decided {
                    let start = around(story, "START");
                    rollback(story, &start, &[]).ok();
                    assert_eq!(story.state(), now, "{point}: undone");
                }
            }
        });
    }
}
