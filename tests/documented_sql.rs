//! `docs/sql.md` is true: the functions and tables on the page are those of an installed database, with their exact signatures, columns and
//! viewers; none is missing, and none is made up.

use std::collections::BTreeSet;

use crate::support::{Database, database, emaj};

fn page() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/sql.md")).unwrap()
}

fn installed() -> Database {
    let db = database();
    db.file(
        "emaj.yaml",
        "version: 1\nroles: { admin: null, viewer: null }\ngroups: { g: { tables: [public.t] } }\n",
    );
    db.psql("create table t (id int primary key)");
    emaj(&db).args(["install"]).run().ok();
    db
}

fn lines(text: &str) -> BTreeSet<String> {
    text.lines().map(str::to_owned).collect()
}

#[track_caller]
fn same(page: &BTreeSet<String>, there: &BTreeSet<String>) {
    let missing: Vec<_> = there.difference(page).collect();
    let made_up: Vec<_> = page.difference(there).collect();
    assert!(
        missing.is_empty() && made_up.is_empty(),
        "docs/sql.md lacks {missing:#?}\nand has what is not there: {made_up:#?}"
    );
}

#[test]
fn the_page_has_every_function_and_no_other() {
    let page = page();
    let mut shown = Vec::new();
    for block in page.split("```sql\n").skip(1) {
        let (block, _) = block.split_once("```").expect("the block has an end");
        shown.extend(block.lines().map(str::to_owned));
    }
    let db = installed();
    let there = lines(&db.psql(
        r"select format('%s(%s) returns %s', proname, pg_get_function_arguments(oid), pg_get_function_result(oid)) from pg_proc
           where pronamespace = 'emaj'::regnamespace and proname like 'emaj\_%'",
    ));
    let once: BTreeSet<String> = shown.iter().cloned().collect();
    assert_eq!(once.len(), shown.len(), "a function stands on the page twice");
    assert!(there.len() > 40, "{there:?}");
    same(&once, &there);
}

#[test]
fn the_page_has_every_table_with_its_columns() {
    let page = page();
    let shown: BTreeSet<String> = page
        .lines()
        .filter(|line| line.starts_with("| `emaj_"))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            format!("{}: {}", cells[0], cells[2]).replace('`', "")
        })
        .collect();
    let db = installed();
    let there = lines(&db.psql(
        r"select format('%s: %s', relname, string_agg(attname, ', ' order by attnum)) from pg_class
            join pg_attribute on attrelid = pg_class.oid and attnum > 0 and not attisdropped
           where relnamespace = 'emaj'::regnamespace and relkind in ('r', 'v', 'p', 'm') and relname like 'emaj\_%' group by relname",
    ));
    assert!(there.len() > 10, "{there:?}");
    same(&shown, &there);
}

/// The functions that the page marks for a role: `*viewer.*` in front of a text means all of its block, `(*viewer*)` the first of two.
fn marked(page: &str, role: &str) -> BTreeSet<String> {
    let mut shown = BTreeSet::new();
    for part in page.split("```sql\n").skip(1) {
        let (block, text) = part.split_once("```\n").expect("the block has an end");
        let mut names = block
            .lines()
            .map(|line| line.split('(').next().unwrap_or_default().to_owned());
        let text = text.split("```").next().unwrap_or_default();
        if text.contains(&format!("(*{role}*)")) {
            shown.extend(names.next());
        } else if text.trim_start().starts_with(&format!("*{role}.*")) {
            shown.extend(names);
        }
    }
    shown
}

#[test]
fn the_page_says_who_may_call_what() {
    let db = database();
    let name = db.psql("select current_database()");
    let [admin, viewer] = ["adm", "viewer"].map(|role| format!("{name}_{role}"));
    db.psql(&format!(
        "create table t (id int primary key); create role {admin}; create role {viewer}"
    ));
    db.file(
        "emaj.yaml",
        &format!(
            "version: 1\nroles: {{ admin: {admin}, viewer: {viewer} }}\ngroups: {{ g: {{ tables: [public.t] }} }}\n"
        ),
    );
    emaj(&db).args(["install"]).run().ok();
    let those = |condition: &str| {
        lines(&db.psql(&format!(
            r"select proname from pg_proc where pronamespace = 'emaj'::regnamespace and proname like 'emaj\_%' and {condition}"
        )))
    };
    let for_viewers = those(&format!("has_function_privilege('{viewer}', oid, 'execute')"));
    let for_owners = those(&format!("not has_function_privilege('{admin}', oid, 'execute')"));
    emaj(&db).args(["uninstall", "-y"]).run().ok();
    db.psql(&format!("drop role {admin}; drop role {viewer}"));
    let page = page();
    same(&marked(&page, "viewer"), &for_viewers);
    same(&marked(&page, "owner"), &for_owners);
}
