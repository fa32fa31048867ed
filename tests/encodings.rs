//! Databases that do not speak UTF-8.

use crate::support::{database, emaj};

#[test]
fn a_database_in_latin1_is_like_any_other() {
    let db = database();
    let name = format!("{}_latin1", db.name());
    db.psql(&format!(
        "create database {name} template template0 encoding 'LATIN1' lc_collate 'C' lc_ctype 'C'"
    ));
    db.file(
        "emaj.yaml",
        "version: 1\nroles: { admin: null, viewer: null }\ngroups: { shop: { tables: [public.*] } }\n",
    );
    let emaj = |args: &[&str]| emaj(&db).env("PGDATABASE", &name).args(args);
    let mut client = postgres::Client::connect(&format!("{} dbname='{name}'", db.conninfo()), postgres::NoTls).unwrap();
    client
        .batch_execute("create table \"caf\u{e9}\" (id int primary key, \"pr\u{ea}t\" text)")
        .unwrap();
    emaj(&["install", "emaj.yaml"]).run().ok();
    client
        .batch_execute("insert into \"caf\u{e9}\" values (1, '\u{fc}ber')")
        .unwrap();
    emaj(&["mark", "set", "shop", "m\u{fc}de"]).run().ok();
    client
        .batch_execute("update \"caf\u{e9}\" set \"pr\u{ea}t\" = '\u{df}'")
        .unwrap();
    emaj(&["verify"]).run().ok();
    emaj(&["rollback", "shop", "m\u{fc}de", "--yes"]).run().ok();
    let text: String = client
        .query_one("select \"pr\u{ea}t\" from \"caf\u{e9}\"", &[])
        .unwrap()
        .get(0);
    assert_eq!(text, "\u{fc}ber");
    emaj(&["uninstall", "emaj.yaml", "--yes"]).run().ok();
    drop(client);
    db.psql(&format!("drop database {name} with (force)"));
}
