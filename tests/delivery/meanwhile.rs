//! What waits for a sink while other things happen: the worker is killed, the row goes, the sink leads elsewhere, the binding is taken out.

use emaj::journal::{ChangeKept, Cursor, FailureState, SetAside, join};

use super::set_back::copied;
use super::{column, drain, install, items_to_hook, prepare, set_aside};
use crate::support::receiver::{Receiver, status};
use crate::support::rows::sink_into;
use crate::support::{Database, database, until};

const ROWS: &str = "select concat_ws(' ', id, n) from item order by id";

/// Has everything tried again.
fn again(db: &Database) {
    prepare(db, &["failures", "retry", "--all"]).run().ok();
    drain(db).run().ok();
    assert_eq!(set_aside(db), [] as [&str; 0]);
}

#[test]
fn what_waits_behind_a_row_is_on_record_before_the_place_goes_beyond_it() {
    let (db, there) = (database(), database());
    db.psql("create table parent (id int primary key); create table child (id int primary key, parent int, txt text)");
    there.psql("create table parent (id int primary key); create table child (id int primary key, parent int references parent, txt text)");
    install(
        &db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks: {{ copy: {} }}\nbindings:\n  \
             children: {{ table: public.child, to: copy, row: {{}} }}\n  parents: {{ table: public.parent, to: copy, row: {{}} }}\n",
            sink_into(&there, "postgres")
        ),
    );
    db.psql("insert into child values (1, 10, 'a')");
    drain(&db).run().code(3);
    // One change waits behind that, and what it waits for comes in the same chunk.
    db.psql("update child set txt = 'b'");
    db.psql("insert into parent values (10)");
    assert_eq!(drain(&db).env("EMAJ_FAIL_AT", "chunk.delivered").run().status, None);
    drain(&db).run().ok();
    assert_eq!(column(&there, "select txt from child"), ["b"]);
}

#[test]
fn what_cannot_be_told_goes_on_record_behind_what_was_told_of_its_row() {
    for point in ["batch.delivered", "aside.noted", "chunk.delivered"] {
        let db = database();
        db.psql("create table item (id int primary key, n int)");
        install(
            &db,
            "version: 1\nroles: { admin: null, viewer: null }\nsinks: { lines: { file: { path: out.txt } } }\n\
             bindings: { items: { table: public.item, to: lines, message: { body: '{{ row.id }} {{ 10 // row.n }}' } } }\n",
        );
        for sql in [
            "insert into item values (1, 5)",
            "insert into item values (2, null)",
            "update item set n = null where id = 1",
            "insert into item values (3, 5)",
            "update item set n = 2 where id = 1",
        ] {
            db.psql(sql);
        }
        assert_eq!(drain(&db).env("EMAJ_FAIL_AT", point).run().status, None, "{point}");
        drain(&db).run().code(3);
        let lines = std::fs::read_to_string(db.dir().join("out.txt")).unwrap();
        assert_eq!(lines, "\"1 2\"\n\"3 2\"\n", "{point}");
        assert_eq!(
            set_aside(&db),
            ["items [2] never", "items [1] never", "items [1] behind"],
            "{point}"
        );
    }
}

#[test]
fn what_the_place_has_of_a_row_that_waits_goes_with_it() {
    let (db, there) = copied();
    db.psql("insert into item values (1, 1), (2, 2), (3, 3), (4, 4)");
    drain(&db).run().ok();
    there.psql("update item set n = 50; alter table item add constraint for_a_while check (id > 4) not valid");
    prepare(&db, &["init", "emaj.yaml"]).run().code(3);
    db.psql("delete from item where id = 1; update item set id = 20 where id = 2");
    // A row leaves a key and comes back to it, and another one has it meanwhile.
    for (from, to) in [(3, 30), (4, 3), (3, 40), (30, 3)] {
        db.psql(&format!("update item set id = {to} where id = {from}"));
    }
    drain(&db).run().code(3);
    there.psql("alter table item drop constraint for_a_while");
    again(&db);
    assert_eq!(column(&there, ROWS), ["3 3", "20 2", "40 4"]);
    assert_eq!(column(&there, ROWS), column(&db, ROWS));
}

#[test]
fn what_may_be_there_is_not_taken_for_gone_when_it_is_refused() {
    let (db, there) = copied();
    db.psql("insert into item values (1, 1), (2, 2)");
    drain(&db).run().ok();
    there.psql(
        "create function no() returns trigger language plpgsql as $$ begin raise exception 'not now'; end $$;
         create trigger no before insert or update on item for each row execute function no()",
    );
    let allow = |word: &str| there.psql(&format!("alter table item {word} trigger no"));
    db.psql("update item set n = 10 where id = 1");
    drain(&db).run().code(3);
    // It arrives, and the worker is killed before that is on record.
    allow("disable");
    prepare(&db, &["failures", "retry", "--all"]).run().ok();
    assert_eq!(drain(&db).env("EMAJ_FAIL_AT", "retry.delivered").run().status, None);
    allow("enable");
    assert_eq!(column(&there, ROWS), ["1 10", "2 2"]);
    // Now it is refused, and the row is what it was.
    db.psql("update item set n = 1 where id = 1");
    drain(&db).run().code(3);
    allow("disable");
    again(&db);
    assert_eq!(column(&there, ROWS), column(&db, ROWS));
}

#[test]
fn a_sink_that_led_to_a_place_without_a_position_has_less_when_it_is_led_back() {
    let (db, there) = copied();
    let to_copy = std::fs::read_to_string(db.dir().join("emaj.yaml")).unwrap();
    db.psql("insert into item values (1, 1)");
    drain(&db).run().ok();
    let receiver = Receiver::start(|_, _| status(204));
    let to_hook = items_to_hook(&receiver.url(), "{{ row.id }}");
    install(
        &db,
        &to_hook
            .replace("hook: { webhook", "copy: { webhook")
            .replace("to: hook", "to: copy"),
    );
    db.psql("insert into item values (2, 2)");
    drain(&db).run().ok();
    assert_eq!(receiver.got().len(), 1);
    install(&db, &to_copy);
    db.psql("insert into item values (3, 3)");
    let run = drain(&db).run().code(4);
    assert!(run.stderr.contains("it has less than it once had"), "{run}");
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    drain(&db).run().ok();
    assert_eq!(column(&there, ROWS), column(&db, ROWS));
}

#[test]
fn nothing_is_set_aside_for_a_binding_that_was_taken_out() {
    let db = database();
    db.psql("create table item (id int primary key, n int); create table other (id int primary key)");
    let manifest = |items: &str| {
        format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks: {{ lines: {{ file: {{ path: out.txt }} }} }}\nbindings:\n  \
             others: {{ table: public.other, to: lines, message: {{}} }}\n{items}"
        )
    };
    let items = "  items: { table: public.item, to: lines, message: { body: '{{ 10 // row.n }}' } }\n";
    install(&db, &manifest(items));
    db.psql("insert into item values (1, null)");
    drain(&db).run_held("chunk.fetched", db.dir(), |_| {
        std::fs::write(db.dir().join("emaj.yaml"), manifest("")).unwrap();
        prepare(&db, &["install", "emaj.yaml", "--allow-destroy"]).run().ok();
    });
    assert_eq!(set_aside(&db), [] as [&str; 0]);
    drain(&db).run().ok();
}

#[test]
fn an_install_that_takes_a_binding_out_waits_for_what_is_being_set_aside_and_holds_nobody_up() {
    let db = database();
    db.psql("create table item (id int primary key); create table other (id int primary key)");
    let manifest = |max_lag: &str, items: &str| {
        format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks: {{ lines: {{ file: {{ path: out.txt }}, max_lag: {max_lag} }} }}\nbindings:\n  \
             others: {{ table: public.other, to: lines, message: {{}} }}\n{items}"
        )
    };
    install(
        &db,
        &manifest("1 day", "  items: { table: public.item, to: lines, message: {} }\n"),
    );
    let mut courier = db.client();
    let row = courier
        .query_one("select 'item'::regclass::oid, sink_id from emaj.emaj_sink", &[])
        .unwrap();
    let (table, sink): (u32, i32) = (row.get(0), row.get(1));
    let change = |offset: &str| SetAside {
        binding: "items".to_owned(),
        table,
        key: "[1]".to_owned(),
        queue: "q".to_owned(),
        keys: vec!["k".to_owned()],
        state: FailureState::Later,
        reason: Some("refused".to_owned()),
        change: ChangeKept {
            what: serde_json::json!({ "offset": offset, "replay": null, "init": false }),
            old: None,
            new: None,
        },
        retry_in: Some(1.0),
    };
    emaj::journal::set_aside(&mut courier, "emaj", "lines", &[change("01/aa")]).unwrap();
    std::fs::write(db.dir().join("emaj.yaml"), manifest("2 days", "")).unwrap();
    // What a courier does in one transaction, with an installation that begins in the middle of it.
    let mut transaction = courier.transaction().unwrap();
    join(&mut transaction, "emaj", "lines", "q", "r").unwrap();
    prepare(
        &db,
        &["install", "emaj.yaml", "--allow-destroy", "--lock-timeout", "60s"],
    )
    .run_while(|_| {
        until("the installation to wait", || db.waits_for_a_lock());
        emaj::journal::set_aside(&mut transaction, "emaj", "lines", &[change("01/bb")]).unwrap();
        Cursor::new("emaj", sink)
            .advance(&mut transaction, "01/bb", None)
            .unwrap();
        transaction.commit().unwrap();
    })
    .ok();
    assert_eq!(set_aside(&db), [] as [&str; 0]);
    assert_eq!(column(&db, "select sink_max_lag::text from emaj.emaj_sink"), ["2 days"]);
    // Nor does anything come behind it.
    emaj::journal::set_aside(&mut courier, "emaj", "lines", &[change("01/cc")]).unwrap();
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}
