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

#[test]
fn in_a_database_of_no_encoding_what_is_not_utf8_is_set_aside_and_the_rest_arrives() {
    let db = database();
    let name = format!("{}_bytes", db.name());
    db.psql(&format!(
        "create database {name} template template0 encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C'"
    ));
    db.file(
        "emaj.yaml",
        "version: 1\nroles: { admin: null, viewer: null }\nsinks: { lines: { file: { path: out.ndjson } } }\nbindings:\n  \
         items: { table: public.item, to: lines, message: { body: '[\"{{ event }}\", \"{{ row.name }}\"]' } }\n  olds: { table: public.old, to: lines, message: { body: '\"{{ row.id }}\"' } }\n",
    );
    let emaj = |args: &[&str]| emaj(&db).env("PGDATABASE", &name).args(args);
    let psql = |sql: &str| {
        let conninfo = format!("{} dbname='{name}'", db.conninfo());
        let mut client = postgres::Client::connect(&conninfo, postgres::NoTls).unwrap();
        client.batch_execute(sql).unwrap();
    };
    let lines = || std::fs::read_to_string(db.dir().join("out.ndjson")).unwrap_or_default();
    let drain = || emaj(&["run", "emaj.yaml", "--until-empty"]).run();
    psql("create table item (id text primary key, name text); create table old (id text primary key)");
    psql(
        "insert into old select chr(200 + n % 30) || n from generate_series(1, 1300) n; insert into old values ('first'), ('\u{ff5e}')",
    );
    emaj(&["install", "emaj.yaml"]).run().ok();
    // (A byte from 128 on is a character of its own there.)
    psql(
        "insert into item values ('1', 'fine'), ('2', 'm' || chr(252) || 'ller'), ('k' || chr(233), 'key'), ('4', '\u{fc}ber')",
    );
    psql("insert into item values ('5', 'later')");
    drain().code(3);
    let arrived = "[\"insert\", \"fine\"]\n[\"insert\", \"\u{fc}ber\"]\n[\"insert\", \"later\"]\n";
    let mut sorted: Vec<String> = lines().lines().map(str::to_owned).collect();
    sorted.sort();
    let mut wanted: Vec<&str> = arrived.lines().collect();
    wanted.sort_unstable();
    assert_eq!(sorted, wanted);
    let failures = emaj(&["failures", "list", "-o", "json"]).run().ok().stdout_json();
    let failures = failures.as_array().unwrap();
    assert_eq!(failures.len(), 2, "{failures:?}");
    let told = |key: &str| {
        let found = failures.iter().find(|failure| failure["key"] == key);
        found.unwrap_or_else(|| panic!("{key}: {failures:?}"))["reason"].to_string()
    };
    assert!(told("[\"2\"]").contains("table public.item") && told("[\"2\"]").contains("column `name`"));
    assert!(told("[\"k\u{fffd}e9\"]").contains("column `id`"));
    // Tried again it is what it was; corrected, and given up where it was not, it goes on.
    emaj(&["failures", "retry", "--all"]).run().ok();
    drain().code(3);
    assert_eq!(lines().lines().count(), 3);
    psql("update item set name = 'mueller' where id = '2'; delete from item where id like 'k%'");
    drain().code(3);
    assert_eq!(lines().lines().count(), 3, "messages wait for a person");
    for _ in 0..2 {
        let all = emaj(&["failures", "list", "-o", "json"]).run().ok().stdout_json();
        for failure in all
            .as_array()
            .unwrap()
            .iter()
            .filter(|failure| failure["state"] == "never")
        {
            emaj(&["failures", "discard", &failure["id"].to_string(), "--yes"])
                .run()
                .ok();
        }
        drain();
    }
    drain().ok();
    psql("insert into item values ('6', 'last')");
    drain().ok();
    assert!(lines().ends_with("[\"insert\", \"last\"]\n"), "{}", lines());
    // Rows that were there before: the next part begins behind a key that cannot be read.
    let before = lines().lines().count();
    emaj(&["init", "emaj.yaml", "--binding", "olds"]).run().code(3);
    assert_eq!(lines().lines().count(), before + 2, "{}", lines());
    let failures = emaj(&["failures", "list", "-o", "json"]).run().ok().stdout_json();
    assert_eq!(failures.as_array().unwrap().len(), 1_300);
    emaj(&["uninstall", "emaj.yaml", "--yes"]).run().ok();
    db.psql(&format!("drop database {name} with (force)"));
}
