//! Columns that an application calls as emaj calls things in its own queries: each is told, taken back and delivered as any other.

use serde_json::{Value, json};

use crate::changes::lines;
use crate::support::rows::sink_into;
use crate::support::shop::Shop;
use crate::support::{Database, database};

const MANIFEST: &str = "version: 1
roles: { admin: null, viewer: null }
groups:
  g: { tables: [s.words, s.pair] }
  audit: { tables: [s.plain], rollback: false }
sinks:
  trail: { file: { path: trail.ndjson } }
bindings:
  words: { table: s.words, to: trail, row: {} }
  pair: { table: s.pair, to: trail, row: {} }
  plain: { table: s.plain, to: trail, message: { body: '{{ row | tojson }}' } }
";

/// Every letter, and every word that stands as an alias or a column of its own in a template.
fn names() -> Vec<String> {
    let words = "old new k1 k2 k key keys image part position moved number relation log name names value row txid gid ord tuple verb before
        changed first last later place side hidden often paired same left_in_it left_at_all net ends touched images emaj_tuple emaj_verb emaj_gid
        emaj_row schema table user time context number rekeyed unbalanced c1 c2 t l_1 work source target condition";
    let mut names: Vec<String> = ('a'..='z').map(String::from).collect();
    for word in words.split_whitespace() {
        if !names.iter().any(|name| name == word) {
            names.push(word.to_owned());
        }
    }
    names
}

fn open() -> Shop {
    let columns: Vec<String> = names().iter().map(|name| format!("\"{name}\" int default 7")).collect();
    let keys = r#"primary key ("k1", "l", "old")"#;
    let tables = format!(
        "create schema s; create type s.money2 as (id int, cur text);
         create table s.words ({}, {keys});
         insert into s.words (\"k1\", l, old) values (1, 1, 1), (2, 2, 2), (3, 3, 3);
         create table s.pair (id int primary key, r s.money2, l s.money2, t s.money2);
         insert into s.pair values (1, (600, 'USD'), (1, 'x'), (2, 'y')), (2, (700, 'EUR'), null, null);
         create table s.plain (l int, r text, t text); insert into s.plain values (1, 'x', 'y')",
        columns.join(", ")
    );
    let shop = Shop::open(&tables, MANIFEST);
    shop.run(&["mark", "set", "g", "m"]).ok();
    shop
}

const CHANGES: &str = "update s.words set new = 8, r = 9, v = 10 where l = 1;
    update s.words set l = 20, k1 = 20 where l = 2;
    delete from s.words where l = 3;
    insert into s.words (\"k1\", l, old) values (4, 4, 4);
    update s.pair set r = (601, 'GBP') where id = 1;
    insert into s.pair values (3, (3, 'c'), (3, 'd'), (3, 'e'));
    delete from s.pair where id = 2;
    insert into s.plain values (2, 'a', 'b')";

fn content(shop: &Shop) -> String {
    shop.db
        .psql("select jsonb_agg(t order by k1) from s.words t; select jsonb_agg(t order by id) from s.pair t")
}

#[test]
fn what_was_changed_is_told_and_taken_back() {
    let shop = open();
    let good = content(&shop);
    shop.sql(CHANGES);
    let all = lines(&shop.run(&["changes", "g", "--from", "m", "-o", "json"]).ok());
    assert_eq!(all.len(), 7, "{all:#?}");
    let pair = |row: i64, cur: &str| json!(format!("({row},{cur})"));
    let of = |table: &str, verb: &str| -> Value {
        let found = all
            .iter()
            .find(|change| change["table"] == table && change["verb"] == verb);
        found.unwrap_or_else(|| panic!("no {verb} of {table}")).clone()
    };
    assert_eq!(of("pair", "UPD")["old"]["r"], pair(600, "USD"));
    assert_eq!(of("pair", "UPD")["new"]["id"], 1);
    assert_eq!(of("pair", "UPD")["new"]["r"], pair(601, "GBP"));
    assert_eq!(of("words", "UPD")["new"].as_object().unwrap().len(), names().len());
    for what in ["all", "net", "ends"] {
        for format in ["json", "csv", "sql"] {
            if (what, format) != ("ends", "sql") {
                shop.run(&[
                    "changes", "g", "--from", "m", "--table", "s.words", "--what", what, "-o", format,
                ])
                .ok();
            }
        }
    }
    let then = shop
        .run(&[
            "at",
            "g",
            "m",
            "select k1, l, old, new, r from words order by 1",
            "-o",
            "csv",
        ])
        .ok();
    assert_eq!(then.stdout, "k1,l,old,new,r\n1,1,1,7,7\n2,2,2,7,7\n3,3,3,7,7\n");
    let then = shop
        .run(&["at", "g", "m", "select id, (r).cur from pair order by 1", "-o", "csv"])
        .ok();
    assert_eq!(then.stdout, "id,cur\n1,USD\n2,EUR\n");
    let key = ["--key", "k1=1", "--key", "l=1", "--key", "old=1"];
    shop.run(
        &[
            &["revert", "g", "--from", "m", "--table", "s.words", "--dry-run"][..],
            &key,
        ]
        .concat(),
    )
    .ok();
    shop.run(&["stat", "g", "--from", "m"]).ok();
    shop.run(&["rollback", "g", "m", "--yes"]).ok();
    assert_eq!(content(&shop), good);
}

#[test]
fn what_was_changed_is_delivered() {
    let shop = open();
    shop.run(&["init", "emaj.yaml", "--binding", "words", "--binding", "pair"])
        .ok();
    shop.sql(CHANGES);
    shop.run(&["run", "emaj.yaml", "--until-empty"]).ok();
    let trail = std::fs::read_to_string(shop.db.dir().join("trail.ndjson")).unwrap();
    let sent: Vec<Value> = trail.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(sent.contains(&json!({"l": 2, "r": "a", "t": "b"})), "{trail}");
    let update = sent
        .iter()
        .find(|line| line["event"] == "update" && line["row"]["r"]["cur"] == "GBP")
        .unwrap();
    assert_eq!(update["row"]["id"], 1, "{update}");
    let count = |event: &str| sent.iter().filter(|line| line["event"] == event).count();
    assert_eq!(
        (count("init"), count("insert"), count("update"), count("delete")),
        (5, 2, 3, 2),
        "{trail}"
    );
}

/// Columns of a log, as those of a table.
const OWN: &str = "create table s.own (emaj_gid int primary key, emaj_verb text, emaj_ord int, emaj_user text)";

#[test]
fn columns_called_as_those_of_a_log_reach_sinks_under_their_own_names() {
    let copy = database();
    copy.psql(&format!("create schema s; {OWN}"));
    let manifest = |also: &str| {
        format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\ngroups: {{ g: {{ tables: [s.own] }} }}\n\
             sinks:\n  copy: {}\n  trail: {{ file: {{ path: trail.ndjson }} }}\nbindings:\n  \
             copy: {{ table: s.own, to: copy, row: {{ {also} }} }}\n  \
             trail: {{ table: s.own, to: trail, columns: [emaj_verb], message: {{ body: '{{{{ row.emaj_verb }}}} of {{{{ row.emaj_gid }}}}' }} }}\n",
            sink_into(&copy, "postgres")
        )
    };
    let rows = |db: &Database, table: &str| {
        db.psql(&format!(
            "select jsonb_agg(to_jsonb(t) order by to_jsonb(t)) from {table} t"
        ))
    };
    let shop = Shop::open(
        &format!("create schema s; {OWN}; insert into s.own values (1, 'go', 1, 'me'), (2, 'stay', 2, null)"),
        &manifest(""),
    );
    shop.run(&["init", "emaj.yaml"]).ok();
    shop.sql("update s.own set emaj_verb = 'went' where emaj_gid = 1; update s.own set emaj_gid = 20 where emaj_gid = 2; insert into s.own values (3, 'came')");
    shop.run(&["run", "emaj.yaml", "--until-empty"]).ok();
    assert_eq!(rows(&copy, "s.own"), rows(&shop.db, "s.own"));
    let trail = std::fs::read_to_string(shop.db.dir().join("trail.ndjson")).unwrap();
    assert_eq!(
        trail.lines().collect::<Vec<_>>(),
        [
            "\"go of 1\"",
            "\"stay of 2\"",
            "\"went of 1\"",
            "\"stay of 20\"",
            "\"came of 3\""
        ]
    );
    // As CSV its columns are headed as in its log, which has a name of its own for each.
    let logged = shop.db.psql(
        "select string_agg(attname, ',' order by attnum) from pg_attribute
          where attrelid = 'emaj.s_own_log'::regclass and attnum > 7",
    );
    assert!(logged.starts_with("emaj_gid_"), "{logged}");
    let expected = format!("emaj_verb,emaj_tuple,emaj_gid,emaj_txid,emaj_changed,emaj_user,{logged}");
    for what in ["all", "net"] {
        let csv = ["changes", "g", "--table", "s.own", "--what", what, "-o", "csv"];
        let csv = shop.run(&csv).ok().stdout;
        assert_eq!(csv.lines().next(), Some(expected.as_str()), "{what}");
    }
    // Bindings know a column by its name of the last install.
    shop.sql(
        "alter table s.own rename emaj_verb to emaj_time; update s.own set emaj_time = 'later' where emaj_gid = 1",
    );
    shop.run(&["run", "emaj.yaml", "--until-empty"]).ok();
    assert_eq!(copy.psql("select emaj_verb from s.own where emaj_gid = 1"), "later");
    // The log calls it as the table did once, and the other way round.
    shop.sql("alter table s.own rename emaj_time to emaj_verb; alter table s.own rename emaj_ord to swapped; alter table s.own rename emaj_user to emaj_ord; alter table s.own rename swapped to emaj_user");
    let plan = shop.run(&["plan", "emaj.yaml"]);
    assert!(plan.stdout.contains("column emaj_ord is emaj_user now"), "{plan:?}");
    shop.run(&["install", "emaj.yaml"]).ok();
    assert_eq!(
        shop.run(&["plan", "emaj.yaml"]).ok().stdout.matches("column").count(),
        0
    );
    copy.psql("alter table s.own rename emaj_ord to swapped; alter table s.own rename emaj_user to emaj_ord; alter table s.own rename swapped to emaj_user");
    shop.sql("update s.own set emaj_ord = 'other', emaj_user = 9 where emaj_gid = 3");
    shop.run(&["run", "emaj.yaml", "--until-empty"]).ok();
    assert_eq!(
        copy.psql("select emaj_user, emaj_ord from s.own where emaj_gid = 3"),
        shop.db.psql("select emaj_user, emaj_ord from s.own where emaj_gid = 3")
    );
}
