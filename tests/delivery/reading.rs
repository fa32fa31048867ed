//! How rows and logs are read: tables with keys of every type, with heirs, and as they were before they were changed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{column, drain, install, items_to_hook, prepare, set_aside};
use crate::support::receiver::{Receiver, status};
use crate::support::rows::sink_into;
use crate::support::{Database, database};

/// A manifest that keeps a copy of `item` in another database.
fn items_to(copy: &Database) -> String {
    format!(
        "version: 1\nroles: {{ admin: null, viewer: null }}\ngroups: {{ shop: {{ tables: [public.item] }} }}\nsinks: {{ copy: {} }}\n\
         bindings: {{ items: {{ table: public.item, to: copy, row: {{}} }} }}\n",
        sink_into(copy, "postgres")
    )
}

#[test]
fn rows_are_read_in_the_order_of_their_own_type() {
    let mixed = "((case when n % 2 = 0 then 'a' else 'B' end) || n)::citext";
    let path = "('a.b' || n)::ltree";
    for (extension, columns, key, beside, values) in [
        ("citext", "id citext", "id", "", mixed.to_owned()),
        ("ltree", "id ltree", "id", "", path.to_owned()),
        ("citext", "at int, id citext", "at, id", "", format!("n % 2, {mixed}")),
        ("ltree", "id ltree, at int", "id, at", "", format!("{path}, n")),
        (
            "citext",
            "id citext, at int",
            "id",
            "include (at)",
            format!("{mixed}, n % 2"),
        ),
    ] {
        let (db, copy) = (database(), database());
        for place in [&db, &copy] {
            place.psql(&format!(
                "create extension {extension}; create table item ({columns}, n int, primary key ({key}) {beside})"
            ));
        }
        let values = format!("insert into item select {values}, n from generate_series(1, 2600) n");
        db.psql(&values);
        copy.psql(&format!("{values} where n <= 1300"));
        install(&db, &items_to(&copy));
        let rows = |place: &Database| column(place, &format!("select concat_ws(' ', {key}, n) from item order by n"));
        prepare(&db, &["init", "emaj.yaml", "--prune"]).run().ok();
        assert!(rows(&copy) == rows(&db), "{key} {beside}");
        prepare(&db, &["mark", "set", "shop", "monday"]).run().ok();
        db.psql("update item set n = n + 10000 where n % 100 = 0");
        drain(&db).run().ok();
        copy.psql("update item set n = 0 where n > 10000");
        prepare(&db, &["replay", "copy", "--from", "monday", "--yes"])
            .run()
            .ok();
        let run = drain(&db).run().ok();
        assert!(!run.stderr.contains("as they were"), "{run}");
        assert!(rows(&copy) == rows(&db), "{key} {beside}");
    }
}

#[test]
fn rows_of_tables_that_inherit_are_not_those_of_the_table() {
    let (db, copy) = (database(), database());
    let item = "create table item (id int primary key, n int)";
    db.psql(&format!(
        "{item}; create table special (primary key (id)) inherits (item);
         insert into item values (1, 1), (2, 2); insert into special values (1, 10), (7, 70)"
    ));
    copy.psql(item);
    install(&db, &items_to(&copy));
    let rows = "select concat_ws(' ', id, n) from only item order by id";
    prepare(&db, &["init", "emaj.yaml", "--prune"]).run().ok();
    assert_eq!(column(&copy, rows), ["1 1", "2 2"]);
    prepare(&db, &["mark", "set", "shop", "monday"]).run().ok();
    db.psql("update item set n = n + 1; delete from only item where id = 2; insert into special values (2, 20)");
    drain(&db).run().ok();
    assert_eq!(column(&copy, rows), ["1 2"]);
    prepare(&db, &["replay", "copy", "--from", "monday", "--yes"])
        .run()
        .ok();
    drain(&db).run().ok();
    assert_eq!(column(&copy, rows), ["1 2"], "each row as it is now");
}

/// Writes another manifest, and installs it whatever that costs.
fn install_anew(db: &Database, manifest: &str) {
    db.file("emaj.yaml", manifest);
    prepare(db, &["install", "emaj.yaml", "--allow-destroy"]).run().ok();
}

fn release(db: &Database) {
    prepare(db, &["release", "public.item", "--yes"]).run().ok();
}

/// The lines of a file that a sink has written.
fn lines(db: &Database, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(db.dir().join(name)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn what_was_changed_before_a_release_is_told_under_the_names_of_after_it() {
    let (db, copy) = (database(), database());
    let item = "create table item (id int primary key, login text, fax text, n int";
    db.psql(&format!("{item})"));
    copy.psql(&format!("{item} constraint small check (n < 100))"));
    let manifest = |name: &str| {
        items_to(&copy)
            .replace("sinks: { ", "sinks: { told: { file: { path: told.txt } }, ")
            .replace(
                "bindings: { ",
                &format!("bindings: {{ told: {{ table: public.item, to: told, message: {{ body: '\"{{{{ row.{name} }}}}\"' }} }}, "),
            )
    };
    install(&db, &manifest("login"));
    db.psql("insert into item values (1, 'ann', '1', 500)");
    drain(&db).args(["--sink", "copy"]).run().code(3);
    db.psql("insert into item values (2, 'bob', '2', 2)");
    release(&db);
    for place in [&db, &copy] {
        place.psql("alter table item drop column fax");
        place.psql("alter table item rename column login to name");
    }
    install_anew(&db, &manifest("name"));
    db.psql("insert into item values (3, 'cyd', 3)");
    drain(&db).run().code(3);
    assert_eq!(lines(&db, "told.txt"), ["\"ann\"", "\"bob\"", "\"cyd\""]);
    // What was set aside before is told without the column, too.
    copy.psql("alter table item drop constraint small");
    prepare(&db, &["failures", "retry", "--all"]).run().ok();
    drain(&db).run().ok();
    let rows = "select concat_ws(' ', id, name, n) from item order by id";
    assert_eq!(column(&copy, rows), column(&db, rows));
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

/// A manifest that writes a line for each change of `item`, or what is wanted of it, to a file.
fn to_lines(kind: &str) -> String {
    format!(
        "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks: {{ lines: {{ file: {{ path: lines.txt }} }} }}\n\
         bindings: {{ items: {{ table: public.item, to: lines, {kind} }} }}\n"
    )
}

#[test]
fn a_statement_is_delivered_to_its_end_whatever_becomes_of_the_key() {
    for (table, key, change) in [
        (
            "create table item (id int primary key, code text not null)",
            "n, 'c' || n",
            "alter table item drop constraint item_pkey, add primary key (code)",
        ),
        (
            "create type kind as enum ('new', 'old'); create table item (id int, kind kind, primary key (kind, id))",
            "n, 'new'",
            "alter type kind rename value 'new' to 'fresh'",
        ),
        (
            "create type kind as enum ('new', 'old'); create table item (id int, kind kind)",
            "n, 'new'",
            "alter type kind rename value 'new' to 'fresh'",
        ),
    ] {
        let db = database();
        db.psql(table);
        let manifest = to_lines("message: { body: '{{ row.id }}' }");
        install(&db, &manifest);
        db.psql(&format!(
            "insert into item select {key} from generate_series(1, 9000) n"
        ));
        let run = drain(&db).env("EMAJ_FAIL_AT", "chunk.noted:2").run();
        assert_eq!(run.status, None, "{run}");
        let before = lines(&db, "lines.txt").len();
        assert!(0 < before && before < 9000, "{before}");
        db.psql(change);
        install_anew(&db, &manifest);
        let lag = prepare(&db, &["sink", "lag", "-o", "json"]).run().ok();
        assert_eq!(lag.stdout_json()[0]["changes"], 9000, "{change}: {lag}");
        drain(&db).run().ok();
        let ids: BTreeSet<String> = lines(&db, "lines.txt").into_iter().collect();
        assert_eq!(ids.len(), 9000, "{change}");
    }
}

#[test]
fn a_label_of_an_enum_may_be_renamed_while_a_row_waits() {
    let db = database();
    db.psql("create type kind as enum ('new', 'old'); create table item (kind kind primary key, n int)");
    install(&db, &to_lines("message: { body: '{{ 10 / row.n }}' }"));
    db.psql("insert into item values ('new', null)");
    drain(&db).run().code(3);
    db.psql("alter type kind rename value 'new' to 'fresh'; update item set n = 2");
    drain(&db).run().code(3);
    assert_eq!(lines(&db, "lines.txt"), [] as [&str; 0]);
    assert_eq!(set_aside(&db), ["items [\"new\"] never", "items [\"fresh\"] behind"]);
}

#[test]
fn a_label_of_an_enum_may_be_renamed_while_rows_are_sent() {
    let db = database();
    db.psql("create type kind as enum ('new', 'old'); create table item (kind kind, id int, primary key (kind, id))");
    db.psql("insert into item select 'new', n from generate_series(1, 1500) n");
    install(&db, &to_lines("row: {}"));
    let init = || prepare(&db, &["init", "emaj.yaml"]);
    let killed = init().env("EMAJ_FAIL_AT", "init.noted").run();
    assert_eq!(killed.status, None, "{killed}");
    db.psql("alter type kind rename value 'new' to 'fresh'");
    init().run().ok();
    let fresh = lines(&db, "lines.txt")
        .iter()
        .filter(|line| line.contains("fresh"))
        .count();
    assert_eq!(fresh, 1500);
}

#[test]
fn a_row_whose_key_gets_another_type_is_told_of_in_order() {
    let db = database();
    db.psql("create table item (id int primary key, v text); insert into item values (1, 'old')");
    let answered = Arc::new(Mutex::new(Vec::new()));
    let receiver = Receiver::start({
        let answered = Arc::clone(&answered);
        move |_, request| {
            if request.body == "first" {
                // (Long enough for another one to get ahead.)
                std::thread::sleep(Duration::from_secs(1));
            }
            answered.lock().unwrap().push(request.body.clone());
            status(204)
        }
    });
    install(&db, &items_to_hook(&receiver.url(), "{{ row.v }}"));
    db.psql("update item set v = 'first'");
    release(&db);
    db.psql("alter table item alter id type text");
    prepare(&db, &["install", "emaj.yaml", "--allow-destroy"]).run().ok();
    db.psql("update item set v = 'second'");
    drain(&db).run().ok();
    let answered = answered.lock().unwrap();
    let told: Vec<&String> = answered.iter().filter(|body| !body.is_empty()).collect();
    assert_eq!(told, ["first", "second"]);
}
