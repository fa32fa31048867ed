//! Every command as a program reads it: `-o json` writes JSON to standard output and nothing else; where no terminal is,
//! and with `NO_COLOR`, no escape sequence is written.

use std::collections::BTreeSet;

use clap::CommandFactory as _;
use emaj::cli::Cli;

use crate::support::{Database, Emaj, database, emaj};

/// What a command writes to standard output, asked for JSON.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Writes {
    Json,
    /// Documents, one a line: of any number of rows.
    Lines,
    Nothing,
    /// It is refused (64).
    No,
}
use Writes::*;

const MANIFEST: &str = "version: 1
roles: { admin: null, viewer: null }
groups: { g: { tables: [public.item], sequences: all }, h: { tables: [public.other] } }
sinks: { lines: { file: { path: out.txt } } }
bindings: { items: { table: public.item, to: lines, message: { body: '{{ row.id }} {{ 12 // row.n }}' } } }
";

/// A run of each command, as a story: what is there before, the words, what it writes.
const STORY: &[(&str, &[&str], Writes)] = &[
    ("", &["completions", "bash"], No),
    ("", &["man"], No),
    ("", &["demo"], No),
    ("", &["new", "-"], No),
    ("", &["import", "--from-emaj"], No),
    ("", &["schema"], Json),
    ("", &["validate"], Json),
    ("", &["plan"], Json),
    ("", &["install", "--dry-run"], Json),
    ("", &["install"], Json),
    ("", &["plan"], Json),
    ("", &["doctor"], Json),
    ("", &["drift"], Json),
    ("", &["verify"], Json),
    ("", &["mark", "set", "g", "a"], Json),
    (
        "insert into item (n) values (1), (0), (2)",
        &["mark", "set", "g", "b"],
        Json,
    ),
    ("", &["mark", "list", "g"], Json),
    ("", &["mark", "rename", "g", "b", "c"], Json),
    ("", &["mark", "comment", "g", "c", "told"], Json),
    ("", &["mark", "previous", "g", "c"], Json),
    ("", &["mark", "protect", "g", "c"], Json),
    ("", &["mark", "unprotect", "g", "c"], Json),
    ("", &["mark", "delete", "g", "c"], Json),
    ("", &["group", "list"], Json),
    ("", &["group", "show", "g"], Json),
    ("", &["group", "protect", "h"], Json),
    ("", &["group", "unprotect", "h"], Json),
    ("", &["group", "stop", "h"], Json),
    ("", &["group", "reset", "h"], Json),
    ("", &["group", "start", "h"], Json),
    ("", &["group", "purge"], Json),
    ("", &["init"], Json),
    ("", &["init", "--dry-run"], Lines),
    (
        "insert into item (n) values (5), (0)",
        &["run", "--until-empty"],
        Nothing,
    ),
    ("", &["sink", "list"], Json),
    ("", &["sink", "lag"], Json),
    ("", &["sink", "test"], Json),
    ("", &["sink", "pause", "lines"], Json),
    ("", &["sink", "resume", "lines"], Json),
    ("", &["failures", "list"], Json),
    ("", &["failures", "show"], Json),
    ("", &["failures", "retry", "--all"], Json),
    ("", &["failures", "discard", "--all", "-y"], Json),
    ("", &["replay", "lines", "--group", "g", "--from", "a", "-y"], Json),
    ("", &["status"], Json),
    ("", &["history"], Json),
    ("", &["stat", "g", "--from", "a"], Json),
    ("", &["stat", "g", "--from", "a", "--detailed"], Json),
    ("", &["stat", "g", "--sequences"], Json),
    ("", &["top", "--count", "1", "--interval", "100ms"], Lines),
    ("", &["changes", "g", "--from", "a"], Lines),
    ("", &["changes", "g", "--from", "a", "--what", "net"], Lines),
    ("", &["at", "g", "a", "select count(*) from item"], Lines),
    ("", &["snap", "g", "--dir", "snap"], Json),
    (
        "",
        &["revert", "g", "--user", "postgres", "--from", "a", "--dry-run"],
        Json,
    ),
    ("", &["revert", "g", "--user", "postgres", "--from", "a", "-y"], Json),
    ("", &["rollback", "g", "a", "--dry-run"], Json),
    ("", &["rollback", "g", "a", "-y"], Json),
    ("", &["rollback", "--list"], Json),
    ("", &["rollback", "--recover"], Json),
    ("", &["consolidate"], Json),
    ("", &["run", "--until-empty"], Nothing),
    ("", &["failures", "discard", "--all", "-y"], Json),
    ("", &["consolidate", "g", "EMAJ_LAST_MARK", "-y"], Json),
    ("", &["release", "public.other", "-y"], Json),
    ("", &["group", "stop", "g"], Json),
    ("", &["group", "drop", "g", "-y"], Json),
    ("", &["uninstall", "--dry-run"], Json),
    ("", &["uninstall", "-y"], Json),
];

fn story() -> Database {
    let db = database();
    db.psql("create table item (id serial primary key, n int); create table other (id int primary key)");
    db.file("emaj.yaml", MANIFEST);
    db
}

/// All words that lead to a command, without those of `help`.
fn commands() -> BTreeSet<String> {
    let program = Cli::command();
    let verbs = program.get_subcommands().filter(|verb| verb.get_name() != "help");
    verbs
        .flat_map(|verb| {
            let name = verb.get_name();
            let inner: Vec<_> = verb
                .get_subcommands()
                .filter(|inner| inner.get_name() != "help")
                .collect();
            match inner.is_empty() {
                true => vec![name.to_owned()],
                false => inner
                    .iter()
                    .map(|inner| format!("{name} {}", inner.get_name()))
                    .collect(),
            }
        })
        .collect()
}

#[test]
fn asked_for_json_every_command_writes_json_and_nothing_else() {
    let db = story();
    let mut left = commands();
    let mut wrong = Vec::new();
    for (sql, words, writes) in STORY {
        left.retain(|command| !format!("{} ", words.join(" ")).starts_with(&format!("{command} ")));
        if !sql.is_empty() {
            db.psql(sql);
        }
        let run = emaj(&db).args(*words).args(["-o", "json"]).run();
        let is_json = |text: &str| serde_json::from_str::<serde_json::Value>(text).is_ok();
        let is_so = match writes {
            Json => is_json(&run.stdout),
            Lines => run.stdout.lines().all(is_json) && !run.stdout.is_empty(),
            Nothing | No => run.stdout.is_empty(),
        };
        let codes: &[i32] = if *writes == No { &[64] } else { &[0, 2, 3, 6] };
        let is_so = is_so && run.status.is_some_and(|code| codes.contains(&code));
        if !is_so || run.stdout.contains('\x1b') || run.stderr.contains('\x1b') {
            wrong.push(format!("not {writes:?}: {run}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(left.is_empty(), "not among the commands above: {left:?}");
}

#[test]
fn what_goes_wrong_is_said_beside_the_json() {
    let db = story();
    emaj(&db).args(["install"]).run().ok();
    for words in [
        &["mark", "list", "nobody"][..],
        &["rollback", "g", "nowhere", "-y"],
        &["at", "g", "EMAJ_LAST_MARK", "select nothing"],
        &["install", "missing.yaml"],
        &["status", "--dbname", "no_such_database"],
    ] {
        let run = emaj(&db).args(words).args(["-o", "json"]).run();
        assert_ne!(run.status, Some(0), "{run}");
        assert!(run.stdout.is_empty() && run.stderr.starts_with("error: "), "{run}");
    }
}

#[test]
fn colours_are_for_terminals_and_not_for_those_who_want_none() {
    let db = story();
    emaj(&db).args(["install"]).run().ok();
    db.file("wrong.yaml", "version: 1\ngroups: { g: { tables: 1 } }\n");
    for words in [
        &["--help"][..],
        &["validate", "wrong.yaml"],
        &["group", "list"],
        &["status"],
        &["mark", "list", "nobody"],
        &["uninstall", "--dry-run"],
    ] {
        let prepare = || emaj(&db).args(words).env("TERM", "xterm-256color");
        let shows_colour = |run: Emaj| {
            let run = run.run();
            run.stdout.contains('\x1b') || run.stderr.contains('\x1b')
        };
        assert!(!shows_colour(prepare()), "{words:?}, no terminal");
        assert!(
            !shows_colour(prepare().env("NO_COLOR", "1").seen_on_a_terminal()),
            "{words:?} with NO_COLOR"
        );
    }
    let run = emaj(&db).args(["validate", "wrong.yaml"]).env("TERM", "xterm-256color");
    let run = run.seen_on_a_terminal().run();
    assert!(run.stdout.contains('\x1b'), "a terminal shows colours: {run}");
}
