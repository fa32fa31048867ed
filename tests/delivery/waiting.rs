//! Tables change while changes of their rows wait: nothing overtakes them, and they are told as the table is today.

use super::{column, drain, install, prepare, set_aside};
use crate::support::rows::sink_into;
use crate::support::{Database, database};

/// The copy refuses a person whose boss it has not.
const COPY: &str = "create table person (id int primary key, name text, boss int references person)";

/// A manifest that sends rows of `table` to the copy, and lines that fail where there is no boss.
fn manifest(copy: &Database, table: &str, name: &str) -> String {
    format!(
        "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks:\n  copy: {}\n  lines: {{ file: {{ path: lines.ndjson }} }}\nbindings:\n  \
         rows: {{ table: {table}, to: copy, row: {{ table: public.person, key: [id], columns: {{ id: row.id, name: row.{name}, boss: row.boss }} }} }}\n  \
         lines: {{ table: {table}, to: lines, message: {{ body: \"{{{{ row.{name} }}}} {{{{ 100 // row.boss }}}}\" }} }}\n",
        sink_into(copy, "postgres")
    )
}

/// Returns a database with a table `person` and its copy, where the first changes wait.
fn waiting(columns: &str, rows: &str) -> (Database, Database) {
    let (db, copy) = (database(), database());
    db.psql(&format!("create table person ({columns})"));
    copy.psql(COPY);
    install(&db, &manifest(&copy, "public.person", "name"));
    db.psql(&format!("insert into person values {rows}"));
    drain(&db).run().code(3);
    (db, copy)
}

fn lines(db: &Database) -> String {
    std::fs::read_to_string(db.dir().join("lines.ndjson")).unwrap_or_default()
}

/// Has everything tried again now that the copy takes it, and looks whether the copy is what the table is.
fn heals(db: &Database, copy: &Database, table: &str) {
    copy.psql("insert into person values (0, 'root')");
    prepare(db, &["failures", "retry", "--sink", "copy"]).run().ok();
    // Of the lines some are still set aside.
    drain(db).run().code(3);
    assert_eq!(
        column(
            copy,
            "select concat_ws(' ', id, name, boss) from person where id > 0 order by id"
        ),
        column(
            db,
            &format!("select concat_ws(' ', id, name, boss) from {table} order by id")
        ),
    );
    let left = set_aside(db);
    assert!(
        !left.is_empty() && left.iter().all(|change| change.starts_with("lines")),
        "{left:?}"
    );
}

#[test]
fn a_table_gets_another_name_and_schema() {
    let (db, copy) = waiting("id int primary key, name text, boss int", "(1, 'old', 0)");
    db.psql("alter table person rename to people; create schema hr; alter table people set schema hr");
    install(&db, &manifest(&copy, "hr.people", "name"));
    for change in [
        "name = 'new', boss = null",
        "name = 'newer', boss = 1",
        "name = 'newest', boss = null",
    ] {
        db.psql(&format!("update hr.people set {change}"));
    }
    drain(&db).run().code(3);
    heals(&db, &copy, "hr.people");
    assert_eq!(
        lines(&db),
        "",
        "the first of the row could not be told, and the others wait behind it"
    );
}

#[test]
fn a_table_gets_another_primary_key() {
    let (db, copy) = waiting(
        "id int primary key, tenant int default 5, name text, boss int",
        "(1, 5, 'old', 0), (2, 5, 'other', 0)",
    );
    db.psql("alter table person drop constraint person_pkey, add primary key (tenant, id)");
    prepare(&db, &["install", "emaj.yaml", "--allow-destroy"]).run().ok();
    db.psql("update person set name = 'new', boss = null where id = 1; update person set name = 'newer', boss = 1 where id = 1");
    db.psql("insert into person values (6, 5, 'six', 6)");
    drain(&db).run().code(3);
    assert_eq!(lines(&db), "\"six 16\"\n");
    assert_eq!(
        set_aside(&db).iter().filter(|change| change.contains("[5, 2]")).count(),
        2,
        "{:?}",
        set_aside(&db)
    );
    heals(&db, &copy, "person");
}

#[test]
fn a_column_that_is_new_becomes_part_of_the_primary_key() {
    let (db, copy) = waiting("id int primary key, name text, boss int", "(1, 'old', 0)");
    db.psql("alter table person add tenant int not null default 5, drop constraint person_pkey, add primary key (tenant, id)");
    prepare(&db, &["install", "emaj.yaml", "--allow-destroy"]).run().ok();
    db.psql("update person set name = 'new', boss = null where id = 1; insert into person values (6, 'six', 6)");
    drain(&db).run().code(3);
    // Nobody can say of which row the line was that waits: so all others wait.
    assert_eq!(lines(&db), "");
    heals(&db, &copy, "person");
    prepare(
        &db,
        &["failures", "discard", "--sink", "lines", "--key", "[1]", "--yes"],
    )
    .run()
    .ok();
    drain(&db).run().code(3);
    assert!(
        set_aside(&db)
            .iter()
            .all(|change| change.contains("[5, 1]") || change.contains("[5, 6]")),
        "{:?}",
        set_aside(&db)
    );
}

#[test]
fn columns_get_other_names() {
    let (db, copy) = (database(), database());
    db.psql("create table person (id int primary key, name text, boss int); create table other (id int primary key)");
    copy.psql(&format!("{COPY}; create table other (id int primary key)"));
    let whole = |name: &str| {
        let rows = format!(
            "row: {{ table: public.person, key: [id], columns: {{ id: row.id, name: row.{name}, boss: row.boss }} }}"
        );
        let as_it_is = manifest(&copy, "public.person", name).replace(&rows, "row: {}");
        format!("{as_it_is}  others: {{ table: public.other, to: copy, row: {{}} }}\n")
    };
    install(&db, &whole("name"));
    db.psql("insert into person values (1, 'ann', 0), (2, 'bob', 0)");
    drain(&db).run().code(3);
    let rename = "alter table person rename name to label; alter table person rename id to number; alter table person rename boss to id";
    let back = "alter table person rename id to boss; alter table person rename number to id; alter table person rename label to name";
    db.psql(rename);
    copy.psql(rename);
    install(&db, &whole("label").replace("row.boss", "row.id"));
    db.psql("insert into other values (1)");
    drain(&db).run().code(3);
    assert_eq!(
        column(&copy, "select id::text from other"),
        ["1"],
        "the sink is not down"
    );
    db.psql("update person set label = 'anna' where number = 1");
    drain(&db).run().code(3);
    copy.psql(back);
    copy.psql("insert into person values (0, 'root')");
    copy.psql(rename);
    prepare(&db, &["failures", "retry", "--sink", "copy"]).run().ok();
    drain(&db).run().code(3);
    copy.psql(back);
    assert_eq!(
        column(&copy, "select concat_ws(' ', id, name, boss) from person order by id"),
        ["0 root", "1 anna 0", "2 bob 0"]
    );
    // Lines are told with today's names as well, once their template does not fail any more.
    install(&db, &whole("label").replace("100 // row.boss", "row.id"));
    prepare(&db, &["failures", "retry", "--all"]).run().ok();
    drain(&db).run().ok();
    assert_eq!(lines(&db), "\"ann 0\"\n\"anna 0\"\n\"bob 0\"\n");
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

#[test]
fn a_binding_becomes_one_of_rows_while_messages_of_others_wait_behind_it() {
    let manifest = |first: &str| {
        format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks: {{ lines: {{ file: {{ path: lines.ndjson }} }} }}\nbindings:\n  \
             one: {{ table: public.one, to: lines, {first} }}\n  \
             two: {{ table: public.two, to: lines, message: {{ key: \"{{{{ row.k }}}}\", body: \"{{{{ row.v }}}} of two\" }} }}\n"
        )
    };
    let db = database();
    db.psql(
        "create table one (id int primary key, k text, v int); create table two (id int primary key, k text, v int)",
    );
    install(
        &db,
        &manifest("message: { key: \"{{ row.k }}\", body: \"{{ 12 // row.v }} of one\" }"),
    );
    db.psql("insert into one values (1, 'x', null)");
    db.psql("insert into two values (1, 'x', 10)");
    db.psql("update two set v = 11");
    drain(&db).run().code(3);
    assert_eq!(set_aside(&db).len(), 3);
    install(&db, &manifest("row: {}"));
    db.psql("update one set v = 4");
    prepare(&db, &["failures", "retry", "--all"]).run().ok();
    drain(&db).run().ok();
    let lines = lines(&db);
    let row = |n: usize| {
        let line: serde_json::Value = serde_json::from_str(lines.lines().nth(n).expect("a line")).expect("JSON");
        (line["table"].clone(), line["row"].clone())
    };
    let (table, of) = row(0);
    assert_eq!(
        (table.as_str(), of["id"].as_i64()),
        (Some("public.one"), Some(1)),
        "{lines}"
    );
    assert!(
        lines.find("10 of two").expect("a message") < lines.find("11 of two").expect("the next"),
        "{lines}"
    );
}
