//! Groups that change while they log, and rollbacks across such a change: refused, or partial and it says so. What goes back does so byte
//! for byte, what is left is left byte for byte, and no row is ever an orphan.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::story::{State, Story, Who, stories, tell};
use crate::support::{Run, said, wait_for};

/// Group `g` at first: all tables but `later` and `guest`; group `h`: `guest` and `other`.
const TABLES: &str = "
    create table stays (id serial primary key, v text);
    create table more (id int primary key, v text);
    create table removed (id serial primary key, v text);
    create table dropped (id int primary key, v text);
    create table anew (id int primary key, v text);
    create table mover (id serial primary key, v text);
    create table there_and_back (id int primary key, v text);
    create table again (id serial primary key, v text);
    create table later (id serial primary key, v text);
    create table guest (id int primary key, v text);
    create table other (id int primary key, v text)";

const NAMES: &[&str] = &[
    "stays",
    "more",
    "removed",
    "dropped",
    "anew",
    "mover",
    "there_and_back",
    "again",
    "later",
    "guest",
    "other",
];

/// What a partial rollback of `g` leaves at the end of that story, and why.
const LEFT: &[(&str, &str)] = &[
    ("again", "removed and added again since"),
    ("again_id_seq", "removed and added again since"),
    ("anew", "dropped and made anew since"),
    ("dropped", "dropped since"),
    ("guest", "moved from group `h` to group `g` since"),
    ("later", "added since"),
    ("later_id_seq", "added since"),
    ("mover", "moved to group `h` since"),
    ("mover_id_seq", "moved to group `h` since"),
    ("passing", "added and removed again since"),
    ("removed", "removed from the group since"),
    ("removed_id_seq", "removed from the group since"),
    ("there_and_back", "moved to group `h` and back since"),
];

fn install(story: &Story<'_>, g: &str, h: &str) {
    let list = |names: &str| {
        let names: Vec<String> = names
            .split(' ')
            .map(|name| format!("{}.{name}", story.schema))
            .collect();
        names.join(", ")
    };
    story
        .install_manifest(&format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\ngroups:\n  g: {{ tables: [{}] }}\n  h: {{ tables: [{}] }}\n",
            list(g),
            list(h)
        ))
        .ok();
}

/// Changes rows of the tables that are there, so that each has an insert, an update and a delete of its own.
fn change(story: &mut Story<'_>, tables: &[&str], seed: i64) {
    for table in tables {
        story.sql(&format!(
            "insert into {table} (id, v) values ({0}, 'new {0}'), ({0} + 1, 'new'); update {table} set v = v || '.' where id % 3 = {0} % 3; delete from {table} where id % 5 = {0} % 5 and id <> {0}",
            seed
        ));
    }
}

/// Every table by itself, and every sequence, as text.
fn contents(story: &mut Story<'_>) -> BTreeMap<String, String> {
    let relations = story.ask(&format!(
        "select relname from pg_class where relkind in ('r', 'S') and relnamespace = '{}'::regnamespace",
        story.schema
    ));
    let mut contents = BTreeMap::new();
    for name in relations.lines() {
        // (A sequence's third field tells where the WAL is, not what it is.)
        let rows = if name.ends_with("_seq") {
            format!("select (last_value, is_called)::text from {name}")
        } else {
            format!("select x::text from only {name} as x order by 1")
        };
        contents.insert(name.to_owned(), story.ask(&rows));
    }
    contents
}

/// The whole story: a mark `m`, then tables are removed, added, moved and added again, with changes before, between and after. Returns what
/// each relation held at the mark, and what it holds now.
fn story_of_seven(story: &mut Story<'_>) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    story.sql(TABLES);
    for table in NAMES {
        story.sql(&format!(
            "insert into {table} (id, v) select n, '{table} ' || n from generate_series(1, 20) n"
        ));
    }
    story.sql("select setval('stays_id_seq', 20), setval('removed_id_seq', 20), setval('mover_id_seq', 20), setval('again_id_seq', 20), setval('later_id_seq', 20)");
    install(
        story,
        "stays more removed dropped anew mover there_and_back again",
        "guest other",
    );
    story.emaj(&["mark", "set", "g", "m", "--with", "h"]).ok();
    let at_mark = contents(story);
    change(story, NAMES, 100);
    story.sql("insert into stays (v) values ('drawn'); insert into again (v) values ('drawn'); insert into removed (v) values ('drawn')");
    story.mark("before");
    story.sql("create table passing (id int primary key, v text)");
    install(
        story,
        "stays more dropped anew passing later",
        "guest other mover there_and_back removed",
    );
    story.sql("insert into passing values (1, 'p')");
    change(story, NAMES, 200);
    install(
        story,
        "stays more dropped anew later again guest there_and_back",
        "other mover",
    );
    change(story, NAMES, 300);
    story.sql("alter table dropped rename to was_dropped");
    story
        .emaj(&["release", &format!("{}.was_dropped", story.schema), "--yes"])
        .ok();
    story
        .emaj(&["release", &format!("{}.anew", story.schema), "--yes"])
        .ok();
    story.sql("drop table was_dropped; drop table anew; create table anew (id int primary key, v text); insert into anew values (1, 'another')");
    install(story, "stays more anew later again guest there_and_back", "other mover");
    let names: Vec<&str> = NAMES.iter().copied().filter(|name| *name != "dropped").collect();
    change(story, &names, 400);
    let now = contents(story);
    (at_mark, now)
}

/// What is there after a partial rollback: `back` as at the mark, all else as it was now.
fn mixed(
    at_mark: &BTreeMap<String, String>,
    now: &BTreeMap<String, String>,
    back: &[&str],
) -> BTreeMap<String, String> {
    let mut mixed = now.clone();
    for name in back {
        mixed.insert((*name).to_owned(), at_mark[*name].clone());
    }
    mixed
}

fn left_of(story: &Story<'_>, list: &Value) -> Vec<(String, String)> {
    let prefix = format!("{}.", story.schema);
    let found = list.as_array().unwrap_or_else(|| panic!("a list: {list}"));
    found
        .iter()
        .map(|left| {
            let relation = left["relation"].as_str().unwrap();
            let reason = left["reason"].as_str().unwrap().replace(&prefix, "");
            (relation.strip_prefix(&prefix).unwrap_or(relation).to_owned(), reason)
        })
        .collect()
}

#[track_caller]
fn leaves(story: &Story<'_>, list: &Value, expected: &[(&str, &str)]) {
    let expected: Vec<(String, String)> = expected
        .iter()
        .map(|(name, why)| ((*name).to_owned(), (*why).to_owned()))
        .collect();
    assert_eq!(left_of(story, list), expected);
}

fn rollback(story: &Story<'_>, mark: &str, more: &[&str]) -> Run {
    let words = ["rollback", "g", mark, "--yes", "-o", "json"];
    story.emaj(&words.iter().chain(more).copied().collect::<Vec<_>>())
}

/// That every way to ask for it is refused with `words`, and changes nothing.
#[track_caller]
fn refused(story: &mut Story<'_>, words: &[&str]) {
    let everything = story.everything();
    let mut heard = Vec::new();
    for more in [
        &["--partial"][..],
        &["--partial", "--unlogged"],
        &["--partial", "--jobs", "2"],
        &["--partial", "--stop"],
        &["--partial", "--dry-run"],
    ] {
        heard.push(rollback(story, "m", more).code(4).to_string());
    }
    for function in [
        "emaj_rollback_group",
        "emaj_logged_rollback_group",
        "emaj_rollback_and_stop_group",
    ] {
        heard.push(story.refused(&format!("select emaj.{function}('g', 'm', true)")));
    }
    heard.push(story.ask("select string_agg(check_reason, '; ') from emaj.emaj_check_rollback_group('g', 'm', true)"));
    for heard in heard {
        for word in words {
            assert!(heard.contains(word), "`{word}` was not said:\n{heard}");
        }
    }
    story.unchanged(&everything);
}

/// Tables `t` and `p` move from group `g` to group `h`. In each a transaction with an old snapshot has truncated `t` after a mark `before`, and a partition has come to `p`
/// (in `h` after the mark `m`).
fn moved_with_notes(story: &mut Story<'_>) {
    story.sql(
        "create table stays (id int primary key); create table guest (id int primary key); create table t (id int primary key);
         create table p (id int primary key) partition by range (id); create table p0 partition of p for values from (0) to (10)",
    );
    install(story, "stays t p", "guest");
    for (group, after, from) in [("g", "after", 10), ("h", "m", 20)] {
        if group == "h" {
            install(story, "stays", "guest t p");
        }
        let mut old = match &story.role {
            Some(role) => story.db.client_as(role),
            None => story.db.client(),
        };
        old.batch_execute(&format!(
            "set search_path = {}; begin isolation level repeatable read; select 1",
            story.schema
        ))
        .unwrap();
        story.sql(&format!(
            "insert into t values ({from}); insert into p values ({from} / 10); select emaj.emaj_set_mark_group('{group}', 'before')"
        ));
        old.batch_execute("truncate t; commit").unwrap();
        story.sql(&format!(
            "select emaj.emaj_set_mark_group('{group}', '{after}');
             create table p{from} partition of p for values from ({from}) to ({from} + 10); insert into p values ({from})"
        ));
    }
}

stories! {
    what_is_noted_of_a_table_stays_for_the_group_that_needs_it(story) {
        let old = "an old snapshot";
        for dropped in [&["group", "stop", "g"][..], &["group", "drop", "g", "--force", "--yes"]] {
            moved_with_notes(story);
            let refusal = story.refused("select emaj.emaj_rollback_group('h', 'before')");
            assert!(refusal.contains(old), "{refusal}");
            story.emaj(dropped).ok();
            if dropped[1] == "stop" {
                story.sql("select emaj.emaj_start_group('g')");
            }
            let refusal = story.refused("select emaj.emaj_rollback_group('h', 'before')");
            assert!(refusal.contains(old), "{refusal}");
            // It came empty: without the note it would have come with its rows.
            story.sql("select emaj.emaj_rollback_group('h', 'm')");
            assert_eq!(story.ask("select count(*) from p"), "3");
            story.emaj(&["uninstall", "--all", "--yes"]).ok();
            story.sql("drop table stays, guest, t, p");
        }
        moved_with_notes(story);
        let changes = &["changes", "g", "--from", "before", "--to", "after", "--what", "net"][..];
        let notes = "select (select count(*) from emaj.emaj_gap) || ' ' || (select count(*) from emaj.emaj_partition)";
        for (reset, left) in [("h", "1 1"), ("g", "1 1"), ("h", "0 0")] {
            if left == "1 1" {
                let refused = story.emaj(changes).code(4);
                assert!(refused.stderr.contains(old), "{refused}");
            }
            story.sql(&format!("select emaj.emaj_stop_group('{reset}'); select emaj.emaj_start_group('{reset}')"));
            assert_eq!(story.ask(notes), left, "after a reset of {reset}");
        }
    }

    removed_added_moved_and_added_again(story) {
        let (at_mark, now) = story_of_seven(story);
        let definitions = story.definitions();
        // Without being allowed to it is refused, and says what would help.
        let everything = story.everything();
        for more in [&[][..], &["--unlogged"], &["--jobs", "2"], &["--dry-run"]] {
            let run = rollback(story, "m", more).code(4);
            said(&run, "the content of group `g` has changed");
            said(&run, "or add `--partial`");
        }
        let heard = story.refused("select emaj.emaj_rollback_group('g', 'm')");
        assert!(heard.contains("in SQL: true, as third argument"), "{heard}");
        story.unchanged(&everything);

        // What would happen is said before.
        let preview = rollback(story, "m", &["--partial", "--dry-run"]).ok().stdout_json();
        leaves(story, &preview["left"], LEFT);
        let tables: Vec<&str> = preview["tables"].as_array().unwrap().iter().map(|table| table["table"].as_str().unwrap()).collect();
        assert_eq!(tables, ["more", "stays"]);
        let estimate = story.emaj(&["rollback", "g", "m", "--partial", "--estimate", "-o", "json"]).ok().stdout_json();
        leaves(story, &estimate["left"], LEFT);
        assert_eq!(estimate["tables"].as_array().unwrap().len(), 2);
        story.unchanged(&everything);

        let wanted = mixed(&at_mark, &now, &["stays", "stays_id_seq", "more"]);
        for jobs in [&[][..], &["--jobs", "2"]] {
            // Logged, undone, and done again.
            let run = rollback(story, "m", &[&["--partial", "--comment", "half"][..], jobs].concat()).ok();
            let report = run.stdout_json();
            leaves(story, &report["left"], LEFT);
            assert_eq!(report["sessions"], if jobs.is_empty() { 1 } else { 2 }, "{run}");
            assert_eq!(report["comment"], "half");
            said(&run, &format!("{}.later is left as it is: added since", story.schema));
            said(&run, "rolled a part of group `g` back to mark `m`");
            said(&run, "13 relations are left as they are");
            assert_eq!(contents(story), wanted, "partial, {jobs:?}");
            assert_eq!(story.definitions(), definitions);
            let list = story.emaj(&["rollback", "--list", "g", "-o", "json"]).ok().stdout_json();
            assert_eq!((&list["past"][0]["partial"], &list["past"][0]["comment"]), (&json!(true), &json!("half")));
            let start = story.last_start_mark();
            rollback(story, &start, &[]).ok();
            assert_eq!(contents(story), now, "undone, {jobs:?}");
        }
        let told = story.ask("select hist_wording from emaj.emaj_hist where hist_function = 'ROLLBACK_GROUP' and hist_event = 'END' and hist_wording like '%left as they are%' limit 1");
        assert!(told.contains("later (added since)"), "{told}");

        // Unlogged: the later marks go; the mark leads there again, partially.
        rollback(story, "m", &["--partial", "--unlogged"]).ok();
        assert_eq!(contents(story), wanted, "unlogged");
        assert_eq!(story.ask("select string_agg(mark_name, ',' order by mark_id) from emaj.emaj_mark where mark_group = 'g' and mark_name !~ '^START'"), "m");
        change(story, &["stays", "more", "later", "guest", "removed", "mover"], 500);
        let now = contents(story);
        said(&rollback(story, "m", &[]).code(4), "--partial");
        rollback(story, "m", &["--partial", "--unlogged", "--jobs", "2"]).ok();
        assert_eq!(contents(story), mixed(&at_mark, &now, &["stays", "stays_id_seq", "more"]), "unlogged, in two sessions");
        // From a mark that was set now on, all goes back, also what was left.
        story.mark("fresh");
        let fresh = contents(story);
        change(story, &["stays", "more", "later", "guest", "anew"], 600);
        rollback(story, "fresh", &[]).ok();
        assert_eq!(contents(story), fresh);
        assert_eq!(story.ask("select emaj.emaj_verify_all()"), "No error detected");

        // And stopped.
        change(story, &["stays", "more", "later"], 700);
        let now = contents(story);
        let report = rollback(story, "m", &["--partial", "--stop"]).ok().stdout_json();
        leaves(story, &report["left"], LEFT);
        assert_eq!(contents(story), mixed(&at_mark, &now, &["stays", "stays_id_seq", "more"]), "and stopped");
        assert_eq!(story.ask("select group_state from emaj.emaj_group where group_name = 'g'"), "IDLE");
    }

    the_log_of_what_has_left_is_readable_until_the_reset(story) {
        story_of_seven(story);
        // Each log of a table that has left can be read, and all of them are there.
        let logs = "select rel_log from emaj.emaj_relation where rel_group = 'g' and rel_ended is not null and rel_log is not null";
        let ended = story.ask(logs);
        assert_eq!(ended.lines().count(), 7, "{ended}");
        for log in ended.lines() {
            story.ask(&format!("select count(*) from emaj.\"{log}\""));
        }
        // Changes that were made while they were in the group are counted and shown, and a rollback takes none of them away.
        let changes = |story: &mut Story<'_>| story.emaj(&["changes", "g", "--from", "m", "--to", "before", "--table", &format!("{}.removed", story.schema), "-o", "csv"]).ok().stdout;
        let before = changes(story);
        assert!(before.contains("removed 10."), "{before}");
        let counted = story.emaj(&["stat", "g", "--from", "m", "-o", "json"]).ok().stdout_json();
        let counted = counted.as_array().unwrap().iter().find(|row| row["table"] == "removed").expect("the removed table is counted");
        assert!(counted["changes"].as_i64().unwrap() > 0);
        rollback(story, "m", &["--partial"]).ok();
        assert_eq!(changes(story), before);
        story.sql("select emaj.emaj_purge_group('g')");
        assert_eq!(changes(story), before);
        rollback(story, "before", &["--partial", "--unlogged"]).ok();
        assert_eq!(changes(story), before);
        story.sql("select emaj.emaj_stop_group('g'); select emaj.emaj_reset_group('g')");
        assert_eq!(story.ask(logs), "", "what has left is forgotten by the reset");
        story.sql("select emaj.emaj_start_group('g', 'anew')");
        assert_eq!(story.ask("select emaj.emaj_verify_all()"), "No error detected");
    }

    what_goes_back_is_known_by_itself_and_not_by_its_name(story) {
        // Two tables of one name in two schemas, one of which leaves; and a table that gets the name of one that was dropped.
        let other = format!("{}_too", story.schema);
        story.sql_as_superuser(&format!("create schema {other}; grant all on schema {other} to public"));
        story.sql(&format!(
            "create table same (id int primary key, v text); create table {other}.same (id int primary key, v text);
             create table a (id int primary key, v text); create table b (id int primary key, v text); create table \"order\" (id int primary key, v text);
             insert into same values (1, 's'); insert into {other}.same values (1, 's'); insert into a values (1, 'a'); insert into b values (1, 'b'); insert into \"order\" values (1, 'o')"
        ));
        let schema = story.schema.clone();
        let manifest = |tables: &str| format!("version: 1\nroles: {{ admin: null, viewer: null }}\ngroups:\n  g: {{ tables: [{tables}] }}\n");
        story.install_manifest(&manifest(&format!("{schema}.same, {other}.same, {schema}.a, {schema}.b, '{schema}.\"order\"'"))).ok();
        story.mark("m");
        story.sql(&format!("update same set v = 'x'; update {other}.same set v = 'x'; update a set v = 'x'; update b set v = 'x'; update \"order\" set v = 'x'"));
        story.emaj(&["release", &format!("{schema}.a"), "--yes"]).ok();
        story.sql("drop table a; alter table b rename to a");
        story.install_manifest(&manifest(&format!("{schema}.same, {schema}.a"))).ok();
        story.sql("update a set v = 'y'");
        let preview = rollback(story, "m", &["--partial", "--dry-run", "--jobs", "2"]).ok().stdout_json();
        let named = |list: &Value| -> Vec<String> {
            list.as_array().unwrap().iter().map(|one| format!("{}.{}", one["schema"].as_str().unwrap(), one["table"].as_str().unwrap())).collect()
        };
        let goes = [format!("{schema}.a"), format!("{schema}.same")];
        assert_eq!(named(&preview["tables"]), goes, "{preview:#}");
        assert_eq!(preview["tables"][0]["changes"], 2);
        let mut left: Vec<&str> = preview["left"].as_array().unwrap().iter().map(|left| left["relation"].as_str().unwrap()).collect();
        left.sort_unstable();
        let mut stays = [format!("{schema}.a"), format!("{schema}.\"order\""), format!("{other}.same")];
        stays.sort_unstable();
        assert_eq!(left, stays, "{preview:#}");
        let estimate = story.emaj(&["rollback", "g", "m", "--partial", "--estimate", "-o", "json"]).ok().stdout_json();
        assert_eq!(named(&estimate["tables"]), goes, "{estimate:#}");
        rollback(story, "m", &["--partial"]).ok();
        assert_eq!(story.ask(&format!("select (select v from same) || (select v from {other}.same) || (select v from a) || (select v from \"order\")")), "sxbx");
        story.emaj(&["uninstall", "--all", "--yes"]).ok();
        story.sql_as_superuser(&format!("drop schema {other} cascade"));
    }

    both_groups_of_a_move_go_back_together(story) {
        let (at_mark, now) = story_of_seven(story);
        for more in [&[][..], &["--jobs", "3"]] {
            let run = rollback(story, "m", &[&["--partial", "--with", "h"][..], more].concat()).ok();
            let left = left_of(story, &run.stdout_json()["left"]);
            let of = |name: &str| left.iter().filter(|(relation, _)| relation == name).map(|(_, why)| why.as_str()).collect::<Vec<_>>();
            assert_eq!(of("mover"), ["moved from group `g` to group `h` since"]);
            assert_eq!(of("guest"), ["moved from group `h` to group `g` since"]);
            assert_eq!(of("other"), [""; 0]);
            assert_eq!(contents(story), mixed(&at_mark, &now, &["stays", "stays_id_seq", "more", "other"]), "{run}");
            let start = story.last_start_mark();
            story.emaj(&["rollback", "g", &start, "--with", "h", "--yes"]).ok();
            assert_eq!(contents(story), now);
        }
        let covered = story.ask("select emaj.emaj_rollback_groups(array['h', 'g'], 'm', true, 'in SQL')");
        assert_eq!(covered, "4");
        assert_eq!(contents(story), mixed(&at_mark, &now, &["stays", "stays_id_seq", "more", "other"]));
        assert_eq!(story.ask("select rlbk_comment from emaj.emaj_rollback order by rlbk_id desc limit 1"), "in SQL");
    }

    consolidated_it_keeps_the_log_of_what_was_left(story) {
        let (at_mark, now) = story_of_seven(story);
        let run = rollback(story, "m", &["--partial"]).ok();
        let rows = |story: &mut Story<'_>, table: &str| story.ask(&format!(
            "select xpath('/row/c/text()', query_to_xml(format('select count(*) as c from emaj.%I', rel_log), false, true, ''))::text
               from emaj.emaj_relation where rel_group = 'g' and rel_name = '{table}' and rel_ended is null"));
        let before = rows(story, "later");
        assert_ne!(before, "{0}", "{run}");
        let end = story.last_start_mark().replace("_START", "_DONE");
        story.emaj(&["consolidate", "g", &end, "--yes"]).ok();
        assert_eq!(rows(story, "stays"), "{0}");
        assert_eq!(rows(story, "later"), before);
        let wanted = mixed(&at_mark, &now, &["stays", "stays_id_seq", "more"]);
        change(story, &["stays", "later"], 800);
        let now = contents(story);
        rollback(story, &end, &[]).ok();
        assert_eq!(contents(story), wanted, "the end is a whole mark");
        let start = story.last_start_mark();
        rollback(story, &start, &[]).ok();
        rollback(story, "m", &["--partial"]).ok();
        assert_eq!(contents(story), mixed(&at_mark, &now, &["stays", "stays_id_seq", "more"]));
        assert_eq!(story.ask("select emaj.emaj_verify_all()"), "No error detected");
    }

    a_table_that_came_since_the_rollback_keeps_its_log_when_that_is_consolidated(story) {
        story.sql("create table stays (id int primary key, v text); create table later (id int primary key, v text); insert into stays values (1, 's')");
        install_g(story, "stays");
        story.mark("first");
        story.sql("update stays set v = 'x'");
        rollback(story, "first", &[]).ok();
        let end = story.last_start_mark().replace("_START", "_DONE");
        install_g(story, "stays, later");
        story.sql("insert into later values (2, 'l')");
        story.emaj(&["consolidate", "g", &end, "--yes"]).ok();
        assert_eq!(story.ask("select string_agg(stat_table || ' ' || stat_rows, ', ' order by stat_table) from emaj.emaj_log_stat_group('g', 'first', null) where stat_rows > 0"), "later 1");
        assert_eq!(story.ask("select emaj.emaj_verify_all()"), "No error detected");
    }

    each_of_two_in_one_transaction_is_consolidated_by_what_it_left_itself(story) {
        story.sql("create table stays (id int primary key, v text); create table later (id int primary key, v text); insert into stays values (1, 's'); insert into later values (1, 'l')");
        install_g(story, "stays");
        story.mark("first");
        story.sql("update stays set v = 'x'");
        install_g(story, "stays, later");
        story.mark("second");
        story.sql("update stays set v = 'y'; update later set v = 'y'; insert into later values (2, 'y')");
        // The one leaves `later` as it is, the other takes it back.
        story.sql("begin; select emaj.emaj_logged_rollback_group('g', 'first', true); select emaj.emaj_logged_rollback_group('g', 'second'); commit");
        assert_eq!(story.ask("select string_agg(jsonb_array_length(rlbk_left)::text, ' ' order by rlbk_id) from emaj.emaj_rollback"), "1 0");
        let log = story.ask("select format('emaj.%I', rel_log) from emaj.emaj_relation where rel_name = 'later'");
        let rows = |story: &mut Story<'_>| story.ask(&format!("select count(*) filter (where v = 'y') || ' ' || count(*) from {log}"));
        let before = rows(story);
        let ends = story.ask("select mark_name from emaj.emaj_mark where mark_goes_back_to is not null order by mark_id");
        let ends: Vec<&str> = ends.lines().collect();
        assert_eq!(ends.len(), 2);
        let now = contents(story);
        story.emaj(&["consolidate", "g", ends[0], "--yes"]).ok();
        assert_eq!(rows(story), before, "what the first has left keeps its log");
        assert_eq!(contents(story), now);
        // Of the second, which left nothing, all goes; its target went with the first.
        assert!(story.refused(&format!("select emaj.emaj_consolidate_rollback_group('g', '{}')", ends[1])).contains("whose target is still there"));
        assert_eq!(story.ask("select emaj.emaj_verify_all()"), "No error detected");
    }

    a_partner_that_was_captured_later_is_never_left_with_an_orphan(story) {
        for action in ["", "on delete cascade", "on update cascade on delete set null", "deferrable initially deferred"] {
            story.sql(&format!(
                "drop table if exists child, parent; create table parent (id int primary key, code text unique, v text);
                 create table child (id int primary key, parent int references parent {action}, code text, v text);
                 insert into parent select n, 'c' || n, 'p' from generate_series(1, 9) n; insert into child select n, n, 'c' || n, 'c' from generate_series(1, 9) n"));
            // The child goes back, its parent was captured later: a row that comes back has lost its parent.
            install_g(story, "child");
            story.mark("m");
            let at_mark = contents(story);
            story.sql("delete from child where id in (3, 4); update child set v = 'x', parent = 1 where id = 5; delete from parent where id = 3");
            install_g(story, "child, parent");
            story.sql("insert into child values (70, 7, 'c7', 'new')");
            refused(story, &["foreign key child_parent_fkey of", "would not hold", "refer to rows of", "added since"]);
            story.sql("insert into parent values (3, 'c3', 'again')");
            let now = contents(story);
            rollback(story, "m", &["--partial"]).ok();
            assert_eq!(contents(story), mixed(&at_mark, &now, &["child"]), "{action}");
            assert_eq!(story.orphans(), "");
            let start = story.last_start_mark();
            rollback(story, &start, &[]).ok();
            assert_eq!(contents(story), now);
            story.sql("select emaj.emaj_rollback_group('g', 'm', true)");
            assert_eq!(contents(story), mixed(&at_mark, &now, &["child"]), "{action}");
            uninstall(story);

            // The parent goes back, its child was captured later: a row that goes is still referred to. No action takes the child along.
            install_g(story, "parent");
            story.mark("m");
            let at_mark = contents(story);
            story.sql("insert into parent values (50, 'c50', 'new'); insert into child values (51, 50, 'c50', 'its child'); update parent set v = 'x' where id < 5");
            install_g(story, "child, parent");
            story.sql("update child set v = 'y' where id = 51");
            refused(story, &["foreign key child_parent_fkey of", "would not hold", "that were not there at mark `m`", "added since"]);
            story.sql("update child set parent = 1 where id = 51");
            let now = contents(story);
            rollback(story, "m", &["--partial", "--unlogged"]).ok();
            assert_eq!(contents(story), mixed(&at_mark, &now, &["parent"]), "{action}");
            assert_eq!(story.orphans(), "");
            uninstall(story);
        }
    }

    a_key_of_a_single_partition_is_looked_at_beforehand_too(story) {
        story.sql("create table parent (id int primary key, v text);
                   create table p (id int, r int, parent int, v text, primary key (r, id)) partition by list (r);
                   create table p_0 partition of p for values in (0);
                   create table p_1 (v text, gone int, parent int, r int not null, id int not null); alter table p_1 drop column gone; alter table p attach partition p_1 for values in (1);
                   alter table p_1 add constraint only_here foreign key (parent) references parent; alter table p_1 add unique (id);
                   insert into parent select n, 'p' from generate_series(1, 9) n; insert into p select n, n % 2, n, 'c' from generate_series(1, 9) n");
        install_g(story, "p");
        story.mark("m");
        let at_mark = contents(story);
        // Rows of the other partition have no such key, whatever they hold.
        story.sql("delete from p where id in (4, 5); delete from parent where id in (4, 5)");
        install_g(story, "p, parent");
        refused(story, &["foreign key only_here of", "p_1 would not hold", "refer to rows of", "added since"]);
        story.sql("insert into parent values (5, 'again')");
        let now = contents(story);
        rollback(story, "m", &["--partial"]).ok();
        assert_eq!(contents(story), mixed(&at_mark, &now, &["p_0", "p_1"]));
        assert_eq!(story.orphans(), "");
        uninstall(story);

        // The partition with the key is what stays.
        story.sql("update p set r = 0, parent = 77 where id = 7; update parent set id = 70 where id = 7");
        install_g(story, "parent");
        story.mark("m");
        let at_mark = contents(story);
        story.sql("update parent set id = 7 where id = 70");
        install_g(story, "parent, p");
        story.sql("update p set r = 1, parent = 7 where id = 7");
        refused(story, &["foreign key only_here of", "would not hold", "that were not there at mark `m`"]);
        story.sql("update p set parent = 1 where id = 7");
        let now = contents(story);
        rollback(story, "m", &["--partial", "--unlogged"]).ok();
        assert_eq!(contents(story), mixed(&at_mark, &now, &["parent"]));
        assert_eq!(story.orphans(), "");
        uninstall(story);

        // A key to one partition: a row that goes back into another one is as good as gone.
        story.sql("alter table p_1 drop constraint only_here; create table child (id int primary key, p int references p_1 (id), v text); insert into child values (1, 1, 'c')");
        story.sql("insert into p values (20, 0, null, 'moves'), (21, 1, null, 'stays')");
        install_g(story, "p");
        story.mark("m");
        let at_mark = contents(story);
        story.sql("update p set r = 1 where id = 20; update p set v = 'x' where id in (1, 21); insert into child values (2, 20, 'c'), (3, 21, 'c')");
        install_g(story, "child, p");
        refused(story, &["foreign key child_p_fkey of", "would not hold", "that were not there at mark `m`"]);
        story.sql("delete from child where id = 2");
        let now = contents(story);
        rollback(story, "m", &["--partial"]).ok();
        assert_eq!(contents(story), mixed(&at_mark, &now, &["p_0", "p_1"]));
        assert_eq!(story.orphans(), "");
    }

    a_key_by_another_column_and_a_changed_key(story) {
        story.sql("create table parent (id int primary key, code text unique, v text);
                   create table child (id int primary key, code text references parent (code), v text);
                   insert into parent select n, 'c' || n, 'p' from generate_series(1, 9) n; insert into child select n, 'c' || n, 'c' from generate_series(1, 9) n");
        install_g(story, "parent");
        story.mark("m");
        let at_mark = contents(story);
        // The row stays and its code was another one.
        story.sql("insert into parent values (20, 'z', 'x'); update child set code = 'z' where id = 9; update parent set code = 'other' where id = 9; update child set code = 'other' where id = 9");
        install_g(story, "child, parent");
        refused(story, &["foreign key child_code_fkey of", "would not hold"]);
        story.sql("update child set code = 'c1' where id = 9");
        let now = contents(story);
        rollback(story, "m", &["--partial"]).ok();
        assert_eq!(contents(story), mixed(&at_mark, &now, &["parent"]));
        assert_eq!(story.orphans(), "");
    }

    what_has_an_incomplete_log_is_left_with_its_sequence(story) {
        story.sql("create table held (id serial primary key, v text); create table stays (id serial primary key, v text);
                   insert into held (v) select 'h' from generate_series(1, 5); insert into stays (v) select 's' from generate_series(1, 5)");
        install_g(story, "held, stays");
        story.mark("m");
        let at_mark = contents(story);
        story.sql("insert into held (v) values ('6'), ('7'); insert into stays (v) values ('6'), ('7')");
        // Somebody switches capture off and on again.
        let triggers = story.ask(&format!("select quote_ident(tgname) from pg_trigger where tgrelid = '{}.held'::regclass and not tgisinternal", story.schema));
        for trigger in triggers.lines() {
            story.sql(&format!("alter table held disable trigger {trigger}"));
        }
        story.sql("insert into held (v) values ('unseen')");
        // A database that has drifted is put right first, also for a part.
        refused(story, &["has drifted"]);
        install_g(story, "held, stays");
        let now = contents(story);
        let report = rollback(story, "m", &["--partial"]).ok().stdout_json();
        leaves(story, &report["left"], &[
            ("held", "its log is not complete since: capture was interrupted, or the key or the group became another"),
            ("held_id_seq", "it numbers the rows of held, which is left"),
        ]);
        assert_eq!(contents(story), mixed(&at_mark, &now, &["stays", "stays_id_seq"]));
        story.sql("insert into held (v) values ('the next number is free'); insert into stays (v) values ('too')");
    }

    partitions_and_columns_and_old_snapshots(story) {
        story.sql("create table p (id int primary key, v text) partition by range (id);
                   create table p1 partition of p for values from (0) to (100); create table p2 partition of p for values from (100) to (200);
                   create table q (id int primary key, v text) partition by range (id); create table q1 partition of q for values from (0) to (100);
                   create table wide (id int primary key, v text); create table cut (id int primary key, v text); create table stays (id int primary key, v text);
                   insert into p select n, 'p' from generate_series(1, 150) n; insert into q select n, 'q' from generate_series(1, 9) n;
                   insert into wide select n, 'w' from generate_series(1, 9) n; insert into cut select n, 'c' from generate_series(1, 9) n; insert into stays select n, 's' from generate_series(1, 9) n");
        install_g(story, "p, q, wide, cut, stays");
        story.sql("alter table wide add column extra text");
        story.mark("m");
        let at_mark = contents(story);
        story.sql("update p set v = 'x' where id < 10; update q set v = 'x'; update wide set extra = 'x' where id < 3; update stays set v = 'x'; delete from stays where id = 1");
        story.sql("drop table p2; create table q2 (id int primary key, v text); insert into q2 values (100, 'came'); alter table q attach partition q2 for values from (100) to (200)");
        let name = story.db.name().to_owned();
        let mut old = story.db.client();
        old.batch_execute(&format!("set search_path = {}; begin isolation level repeatable read; select * from pg_class limit 1", story.schema)).expect(&name);
        story.sql("insert into cut values (50, 'unseen by the other')");
        old.batch_execute("truncate cut; commit").expect("a truncate by an old snapshot");
        let now = contents(story);
        for kind in ["a partition was dropped", "partitions came with rows", "with an old snapshot", "columns that were not captured"] {
            said(&rollback(story, "m", &["--dry-run"]).code(4), kind);
        }
        said(&rollback(story, "m", &[]).code(4), "or add `--partial`");
        let report = rollback(story, "m", &["--partial"]).ok().stdout_json();
        leaves(story, &report["left"], &[
            ("cut", "truncated since by a transaction with an old snapshot: its log is not complete"),
            ("p", "a partition was dropped or detached since"),
            ("q", "partition q2 came with rows in it since"),
            ("wide", "it had columns then that were not captured, and its rows have changed since"),
        ]);
        assert_eq!(contents(story), mixed(&at_mark, &now, &["stays"]));
        // After the next install the same holds.
        install_g(story, "p, q, wide, cut, stays");
        rollback(story, "m", &["--partial", "--unlogged", "--jobs", "2"]).ok();
        assert_eq!(contents(story), mixed(&at_mark, &now, &["stays"]));
    }

    what_is_refused_anyway(story) {
        story.sql("create table a (id int primary key, v text); create table b (id int primary key, v text)");
        install_g(story, "a");
        story.mark("m");
        story.sql("insert into a values (1, 'x')");
        install_g(story, "a, b");
        story.mark("kept");
        story.sql("select emaj.emaj_protect_mark_group('g', 'kept')");
        refused(story, &["mark `kept` of group `g` is protected"]);
        story.sql("select emaj.emaj_unprotect_mark_group('g', 'kept'); select emaj.emaj_protect_group('g')");
        refused(story, &["group `g` is protected"]);
        story.sql("select emaj.emaj_unprotect_group('g')");
        // Nothing would go back.
        install_g(story, "b");
        refused(story, &["nothing of group `g` would go back"]);
        let plain = rollback(story, "m", &[]).code(4).to_string();
        assert!(!plain.contains("--partial`"), "it would not help:\n{plain}");
        // Of what has not changed its place, partial is whole.
        story.mark("whole");
        story.sql("insert into b values (7, 'x')");
        let report = rollback(story, "whole", &["--partial"]).ok();
        assert_eq!(report.stdout_json()["left"], json!([]));
        said(&report, "rolled group `g` back to mark `whole`");
        assert_eq!(story.ask("select count(*) from b"), "0");
        // A revert has no part to choose.
        story.sql("insert into b values (8, 'x')");
        let user = story.ask("select current_user");
        let revert = story.emaj(&["revert", "g", "--from", "m", "--user", &user, "--yes"]).code(4).to_string();
        assert!(revert.contains("has changed") && !revert.contains("--partial"), "{revert}");
        let (idle, unknown) = (rollback(story, "nope", &["--partial"]).code(4), story.emaj(&["rollback", "nobody", "m", "--partial", "--yes"]).code(4));
        said(&idle, "no mark `nope`");
        said(&unknown, "unknown group `nobody`");
        story.sql("select emaj.emaj_stop_group('g')");
        refused(story, &["IDLE, not LOGGING"]);
    }

    taken_back_with_its_transaction(story) {
        story_of_seven(story);
        let everything = story.everything();
        for function in ["emaj_rollback_group", "emaj_logged_rollback_group", "emaj_rollback_and_stop_group"] {
            story.sql(&format!("begin; select emaj.{function}('g', 'm', true); rollback"));
            story.unchanged(&everything);
            // The server loses the session that has done it and not committed.
            let mut doomed = session(story);
            doomed.batch_execute(&format!("begin; select emaj.{function}('g', 'm', true)")).expect("it runs");
            let pid: i32 = doomed.query_one("select pg_backend_pid()", &[]).expect("a pid").get(0);
            story.sql_as_superuser(&format!("select pg_terminate_backend({pid})"));
            wait_for("the session to end", 60, || story.ask(&format!("select pid from pg_stat_activity where pid = {pid}")).is_empty().then_some(()));
            story.unchanged(&everything);
        }
    }
}

fn session(story: &Story<'_>) -> postgres::Client {
    match &story.role {
        Some(role) => story.db.client_as(role),
        None => story.db.client(),
    }
}

fn manifest_g(story: &Story<'_>, tables: &str) -> String {
    let names: Vec<String> = tables
        .split(", ")
        .map(|table| format!("{}.{table}", story.schema))
        .collect();
    format!(
        "version: 1\nroles: {{ admin: null, viewer: null }}\ngroups:\n  g: {{ tables: [{}] }}\n",
        names.join(", ")
    )
}

fn install_g(story: &Story<'_>, tables: &str) {
    story.install_manifest(&manifest_g(story, tables)).ok();
}

fn uninstall(story: &Story<'_>) {
    story.emaj(&["uninstall", "--all", "--yes"]).ok();
}

/// Killed at every named point, in two sessions: before the decision all is as before, afterwards as after.
#[test]
fn killed_in_two_sessions_and_recovered() {
    for who in [Who::Superuser, Who::Owner] {
        tell(who, |story| {
            let (at_mark, now) = story_of_seven(story);
            let back = mixed(&at_mark, &now, &["stays", "stays_id_seq", "more"]);
            for (point, decided) in [
                ("rollback.begun", false),
                ("rollback.locked", false),
                ("rollback.worked", false),
                ("rollback.prepared:2", false),
                ("rollback.undecided", false),
                ("rollback.decided", true),
                ("rollback.concluded", true),
            ] {
                let before: State = story.state();
                let run = story.prepare(&["rollback", "g", "m", "--partial", "--yes", "--jobs", "2"]);
                story.breaks_off(run, point, point);
                said(&rollback(story, "m", &["--partial"]).code(4), "emaj rollback --recover");
                let run = story.emaj(&["rollback", "--recover"]).ok();
                said(
                    &run,
                    if decided {
                        "was decided: done"
                    } else {
                        "was not decided: taken back"
                    },
                );
                if decided {
                    assert_eq!(contents(story), back, "{point}");
                    let left = story.ask(
                        "select jsonb_array_length(rlbk_left) from emaj.emaj_rollback order by rlbk_id desc limit 1",
                    );
                    assert_eq!(left, LEFT.len().to_string(), "{point}");
                    let start = story.last_start_mark();
                    rollback(story, &start, &[]).ok();
                }
                assert_eq!(story.state(), before, "{point}");
                assert_eq!(story.ask("select emaj.emaj_verify_all()"), "No error detected");
            }
        });
    }
}
