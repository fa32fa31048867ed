//! Uninstall: what it says, what it does not touch, and what it stops for.

use crate::support::{self, Database, Run};

const SHOP: &str = "
    create schema s;
    create table s.a (id serial primary key, v text);
    create table s.p (id int primary key, v text) partition by range (id);
    create table s.p_1 partition of s.p for values from (0) to (10);
    create table s.p_2 partition of s.p for values from (10) to (20);
    insert into s.a (v) values ('a'), ('b');";

const MANIFEST: &str =
    "version: 1\nroles: { admin: null, viewer: null }\ngroups: { g: { tables: [s.a, s.p], sequences: none } }\n";

fn installed() -> Database {
    let db = support::database();
    db.client().batch_execute(SHOP).unwrap();
    db.file("emaj.yaml", MANIFEST);
    support::emaj(&db).args(["install"]).run().ok();
    db
}

fn uninstall(db: &Database) -> Run {
    support::emaj(db).args(["uninstall", "--all", "--yes"]).run()
}

#[test]
fn it_names_the_flag_that_it_has() {
    let db = installed();
    let shown = support::emaj(&db).args(["uninstall", "--dry-run"]).run().ok();
    assert!(
        shown
            .stderr
            .contains("2 destroy something that cannot be made again (`--yes`)"),
        "{shown}"
    );
    let asked = support::emaj(&db).args(["uninstall"]).run().code(4);
    assert!(asked.stderr.contains("repeat the command with `--yes`"), "{asked}");
    for told in [&shown, &asked] {
        assert!(!told.stderr.contains("allow-destroy"), "{told}");
    }
    uninstall(&db).ok();
}
