//! What must not overtake what: messages with one key, rows whose key is written in two ways, rows without a key.
//!
//! The service refuses the first change of each story. Whatever may go beside it arrives; what has to come behind it waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{drain, install, items_to_hook, prepare, set_aside};
use crate::support::receiver::{Receiver, status};
use crate::support::{Database, database};

/// A service that refuses what holds `bad`, until it is mended.
struct Service {
    receiver: Receiver,
    is_mended: Arc<AtomicBool>,
}

impl Service {
    fn start() -> Self {
        let is_mended = Arc::new(AtomicBool::new(false));
        let mended = Arc::clone(&is_mended);
        let receiver = Receiver::start(move |_, request| {
            let is_refused = request.body.contains("bad") && !mended.load(Ordering::SeqCst);
            status(if is_refused { 422 } else { 204 })
        });
        Service { receiver, is_mended }
    }

    /// Returns all that it got.
    fn got(&self) -> Vec<String> {
        self.receiver.got().into_iter().map(|request| request.body).collect()
    }

    /// Has it take everything, and what waits tried again. Returns what it gets then.
    fn after_mending(&self, db: &Database) -> Vec<String> {
        let before = self.got().len();
        self.is_mended.store(true, Ordering::SeqCst);
        prepare(db, &["failures", "retry", "--all"]).run().ok();
        drain(db).run().ok();
        assert_eq!(set_aside(db), [] as [&str; 0]);
        self.got().split_off(before)
    }
}

#[test]
fn a_key_of_the_manifest_may_be_the_key_that_another_message_has_by_itself() {
    let (db, service) = (database(), Service::start());
    db.psql("create table orders (id int primary key, text text); create table line (id int primary key, of int)");
    install(
        &db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks: {{ hook: {{ webhook: {{ url: \"{}\" }} }} }}\nbindings:\n  \
             orders: {{ table: public.orders, to: hook, message: {{ body: \"order {{{{ row.text }}}}\" }} }}\n  \
             lines: {{ table: public.line, to: hook, message: {{ key: \"[{{{{ row.of }}}}]\", body: \"line {{{{ row.id }}}}\" }} }}\n",
            service.receiver.url()
        ),
    );
    db.psql("insert into orders values (5, 'bad')");
    db.psql("insert into line values (9, 5)");
    drain(&db).run().code(3);
    // And in a window of its own.
    db.psql("insert into line values (10, 5)");
    drain(&db).run().code(3);
    assert_eq!(service.got(), ["order bad"]);
    assert_eq!(
        set_aside(&db),
        ["orders [5] never", "lines [9] behind", "lines [10] behind"]
    );
    assert_eq!(service.after_mending(&db), ["order bad", "line 9", "line 10"]);
}

#[test]
fn what_is_done_to_a_row_goes_behind_what_was_done_under_another_spelling_of_its_key() {
    for (prepared, kind, one, other) in [
        ("create extension citext", "citext", "Bob", "bob"),
        ("select", "interval", "1 day", "24:00:00"),
    ] {
        let (db, service) = (database(), Service::start());
        db.psql(prepared);
        db.psql(&format!("create table item (id {kind} primary key, text text)"));
        db.psql(&format!("insert into item values ('{one}', 'bad')"));
        install(
            &db,
            &items_to_hook(&service.receiver.url(), "{{ event }} {{ row.text }}"),
        );
        // In one window, with nothing set aside before.
        db.psql("delete from item");
        db.psql(&format!("insert into item values ('{other}', 'new')"));
        drain(&db).run().code(3);
        assert_eq!(service.got(), ["delete bad"], "{kind}");
        assert_eq!(service.after_mending(&db), ["delete bad", "insert new"], "{kind}");
    }
}

#[test]
fn changes_of_a_row_without_a_key_keep_their_order() {
    let (db, service) = (database(), Service::start());
    db.psql("create table item (id int, text text)");
    let manifest = items_to_hook(&service.receiver.url(), "{{ event }} {{ row.id }} {{ row.text }}");
    install(&db, &manifest);
    db.psql("insert into item values (1, 'bad')");
    db.psql("insert into item values (2, 'other')");
    db.psql("update item set text = 'good' where id = 1");
    drain(&db).run().code(3);
    // Others come, and its columns are called otherwise.
    db.psql("alter table item add more int; alter table item rename id to number");
    install(&db, &manifest.replace("row.id", "row.number"));
    db.psql("delete from item");
    drain(&db).run().code(3);
    let mut got = service.got();
    got.sort();
    assert_eq!(got, ["delete 2 other", "insert 1 bad", "insert 2 other"]);
    assert_eq!(
        service.after_mending(&db),
        ["insert 1 bad", "update 1 good", "delete 1 good"]
    );
}

#[test]
fn what_waits_is_known_when_its_table_loses_its_key() {
    let (db, service) = (database(), Service::start());
    db.psql("create table item (id int primary key, text text)");
    let manifest = items_to_hook(&service.receiver.url(), "{{ event }} {{ row.text }}");
    install(&db, &manifest);
    db.psql("insert into item values (1, 'bad')");
    drain(&db).run().code(3);
    db.psql("alter table item drop constraint item_pkey");
    install(&db, &manifest);
    db.psql("delete from item");
    drain(&db).run().code(3);
    assert_eq!(service.got(), ["insert bad"]);
    assert_eq!(service.after_mending(&db), ["insert bad", "delete bad"]);
}

#[test]
fn what_has_a_long_key_is_set_aside_as_anything_else() {
    let (db, service) = (database(), Service::start());
    db.psql("create table item (id bytea primary key, text text)");
    install(
        &db,
        &items_to_hook(&service.receiver.url(), "{{ event }} {{ row.text }}"),
    );
    // (Nothing that can be made shorter.)
    db.psql(
        "insert into item select decode(string_agg(md5(n::text), '' order by n), 'hex'), 'bad' from generate_series(1, 125) as n",
    );
    db.psql("insert into item values ('short', 'good')");
    drain(&db).run().code(3);
    db.psql("update item set text = 'better' where text = 'bad'");
    drain(&db).run().code(3);
    let mut got = service.got();
    got.sort();
    assert_eq!(got, ["insert bad", "insert good"]);
    assert_eq!(service.after_mending(&db), ["insert bad", "update better"]);
}
