//! A sink that has lost its place in the log begins anew: with the rows of all its bindings, from the first one on.

use super::{column, drain, install, prepare};
use crate::support::{Database, database};

const MANIFEST: &str = "version: 1\nroles: { admin: null, viewer: null }\nsinks: { lines: { file: { path: out.ndjson } } }\nbindings:\n  \
     items: { table: public.item, to: lines, message: { body: 'item {{ row.id }} {{ row.n }}' } }\n  \
     olds: { table: public.old, to: lines, message: { body: 'old {{ row.id }}' } }\n";

/// Two tables that feed one file; of the first one more rows than go at once.
fn scene() -> Database {
    let db = database();
    db.psql("create table item (id int primary key, n int); create table old (id int primary key)");
    db.psql("insert into item select n, 0 from generate_series(1, 1500) n; insert into old values (1)");
    install(&db, MANIFEST);
    db
}

/// What happens when the log does not go back to the sink's place any more, after changes that it was owed.
fn lose(db: &Database) {
    db.psql("update item set n = 1 where id = 7; insert into old values (2)");
    db.psql("update emaj.emaj_sink set sink_state = 'LOST', sink_reason = 'the log is gone', sink_from = emaj._position(), sink_until = null, sink_offset = null");
}

fn lines(db: &Database) -> Vec<String> {
    let text = std::fs::read_to_string(db.dir().join("out.ndjson")).unwrap_or_default();
    text.lines().map(|line| line.trim_matches('"').to_owned()).collect()
}

#[test]
fn it_begins_anew_with_all_its_bindings_or_not_at_all() {
    let db = scene();
    lose(&db);
    let before = column(
        &db,
        "select concat_ws(' ', bind_name, bind_init) from emaj.emaj_binding order by 1",
    );
    let run = prepare(&db, &["init", "emaj.yaml", "--binding", "items"]).run().code(4);
    assert!(
        run.stderr
            .contains("sink `lines` has lost its place in the log, and would never get what binding `olds` missed"),
        "{run}"
    );
    assert!(run.stderr.contains("`emaj init` without `--binding`"), "{run}");
    assert_eq!(
        column(
            &db,
            "select concat_ws(' ', bind_name, bind_init) from emaj.emaj_binding order by 1"
        ),
        before
    );
    assert_eq!(lines(&db), [] as [&str; 0]);
    // Nothing else lets it go on: it would miss what it was owed.
    drain(&db).run().code(4);
    for verb in ["pause", "resume"] {
        let run = prepare(&db, &["sink", verb, "lines"]).run().code(4);
        assert!(run.stderr.contains("sink `lines` was given up"), "{verb}: {run}");
    }
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    let lines = lines(&db);
    assert!(lines.contains(&"item 7 1".to_owned()) && lines.contains(&"old 2".to_owned()));
    assert_eq!(lines.len(), 1502);
    drain(&db).run().ok();
}

#[test]
fn an_init_that_was_under_way_is_begun_again() {
    let db = scene();
    let killed = prepare(&db, &["init", "emaj.yaml"])
        .env("EMAJ_FAIL_AT", "init.noted")
        .run();
    assert_eq!(killed.status, None, "{killed}");
    assert_eq!(lines(&db).len(), 1000);
    // It concerns a row that is sent already.
    lose(&db);
    let run = prepare(&db, &["init", "emaj.yaml"]).run().ok();
    assert!(run.stderr.contains("sent 1502 rows: "), "{run}");
    assert!(lines(&db).contains(&"item 7 1".to_owned()));
    drain(&db).run().ok();
}
