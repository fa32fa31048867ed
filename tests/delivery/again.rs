//! What is delivered again: the rows as they are, whatever happens to them meanwhile, and as they are always written.

use super::{column, install, prepare, set_aside, worker};
use crate::support::rows::sink_into;
use crate::support::{Database, database, until};

/// A group of `item`, and a copy of it in another database.
fn copied(db: &Database, copy: &Database) {
    install(
        db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\ngroups: {{ shop: {{ tables: [public.item] }} }}\nsinks:\n  copy: {}\n\
             bindings: {{ items: {{ table: public.item, to: copy, row: {{}} }} }}\n",
            sink_into(copy, "postgres")
        ),
    );
    prepare(db, &["mark", "set", "shop", "m"]).run().ok();
}

fn replay(db: &Database) {
    prepare(db, &["replay", "copy", "--from", "m", "--yes"]).run().ok();
}

#[test]
fn rows_that_get_other_keys_meanwhile_keep_what_the_place_has_of_its_own() {
    let (db, copy) = (database(), database());
    db.psql("create table item (id int primary key, text text)");
    copy.psql(
        "create table item (id int primary key, text text, note text default 'none');
         create table part (item int references item on update cascade on delete cascade)",
    );
    copied(&db, &copy);
    db.psql("insert into item values (1, 'a'), (3, 'a'), (5, 'a'), (7, 'a')");
    super::drain(&db).run().ok();
    copy.psql("update item set note = 'of ' || id; insert into part select id from item");
    db.psql("update item set text = 'b' || id");
    super::drain(&db).run().ok();
    replay(&db);
    let hold = db.dir().join("hold");
    let worker = worker(&db)
        .env("EMAJ_FAIL_AT", "chunk.fetched")
        .env("EMAJ_FAIL_HOLD", hold.to_str().unwrap())
        .start();
    until("the worker to have a chunk in its hands", || hold.exists());
    // A row that gets another key, one that goes, and one that only changes.
    db.psql(
        "update item set id = 2 where id = 1; delete from item where id = 5; update item set text = 'c' where id = 7",
    );
    std::fs::remove_file(hold).unwrap();
    let rows =
        "select concat_ws(' ', id, text, note, (select count(*) from part where item = id)) from item order by id";
    until("the copy to have it all", || {
        column(&copy, rows) == ["2 b1 of 1 1", "3 b3 of 3 1", "7 c of 7 1"]
    });
    assert_eq!(worker.stop(), Some(0));
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

#[test]
fn values_are_written_as_ever_whatever_path_the_role_has() {
    let (db, copy) = (database(), database());
    db.psql("create table other (); create table item (id int primary key, of regclass)");
    copy.psql("create table item (id int primary key, of text)");
    copied(&db, &copy);
    db.psql("insert into item values (1, 'other')");
    super::drain(&db).run().ok();
    assert_eq!(column(&copy, "select of from item"), ["public.other"]);
    replay(&db);
    super::drain(&db).run().ok();
    assert_eq!(column(&copy, "select of from item"), ["public.other"]);
}
