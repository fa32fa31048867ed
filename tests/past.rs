//! Tables as they were at a mark: every row of every kind of table, for whatever an application did since; and what is refused.

use std::cell::{Cell, RefCell};

use proptest::test_runner::TestCaseError;

use crate::changes::{ALL_OF_IT, EVERYTHING, MANIFEST, SHOP, lines, while_it_waits};
use crate::programs::{MANIFEST as PROGRAMS, Machine, NAMES, TABLES, conclude, differences, program, runner};
use crate::support::shop::Shop;
use crate::support::{self, Run, emaj};

#[test]
fn a_query_sees_the_tables_as_they_were() {
    let shop = Shop::open(SHOP, MANIFEST);
    shop.on_path();
    shop.run(&["mark", "set", "shop", "a"]).ok();
    shop.sql("delete from shop.customer where id = 1; update shop.invoice set amount = 0; insert into shop.invoice values (9, 2, 9)");
    shop.run(&["mark", "set", "shop", "b"]).ok();
    let now = shop
        .db
        .psql("select (select max(hist_id) from emaj.emaj_hist), (select count(*) from pg_class)");
    let question = "select c.name, i.amount from invoice i join customer c on c.id = i.customer order by i.id;";
    let csv = shop.run(&["at", "shop", "a", question, "-o", "csv"]).ok();
    assert_eq!(csv.stdout, "name,amount\nAda,10.00\nGrace,20.00\nEdsger,30.00\n");
    let csv = shop.run(&["at", "shop", "b", question, "-o", "csv"]).ok();
    assert_eq!(csv.stdout, "name,amount\nGrace,0.00\nEdsger,0.00\nGrace,9.00\n");
    let table = shop
        .run(&[
            "at",
            "shop",
            "a",
            "select count(*), null as \"no thing\", 1, 2 from customer -- all",
        ])
        .ok();
    let shown: Vec<Vec<&str>> = table
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        shown,
        [
            vec!["count", "no", "thing", "?column?", "?column?"],
            vec!["3", "1", "2"]
        ]
    );
    let json = lines(
        &shop
            .run(&["at", "shop", "a", "table invoice order by id", "-o", "json"])
            .ok(),
    );
    assert_eq!(json.len(), 3);
    assert_eq!(json[0], serde_json::json!({"id": 1, "customer": 1, "amount": 10.0}));
    // Rows without columns are rows.
    for (form, rows) in [("json", "{}\n{}\n{}\n"), ("csv", "\n\n\n\n"), ("table", "")] {
        let none = shop.run(&["at", "shop", "a", "select from customer", "-o", form]).ok();
        assert_eq!(none.stdout, rows, "{form}");
    }
    let after = shop
        .db
        .psql("select (select max(hist_id) from emaj.emaj_hist), (select count(*) from pg_class)");
    assert_eq!(after, now, "nothing is left behind");
    // Whatever the settings of a role that only reads.
    let settings = "-c default_transaction_read_only=on -c standard_conforming_strings=off";
    let reader = |words: &[&str]| shop.emaj(words).env("PGOPTIONS", settings).run().ok();
    let csv = reader(&["at", "shop", "a", question, "-o", "csv"]);
    assert_eq!(csv.stdout, "name,amount\nAda,10.00\nGrace,20.00\nEdsger,30.00\n");
    reader(&["snap", "shop", "--dir", "snapped"]);
    assert!(shop.db.dir().join("snapped").read_dir().unwrap().count() >= 2);
}

#[test]
fn settings_of_the_role_blur_no_past_and_stay_those_of_the_query() {
    let shop = Shop::open(
        "create schema shop; create table shop.scale (id int primary key, weight float8)",
        "version: 1\nroles: { admin: null, viewer: null }\ngroups:\n  shop: { tables: [shop.*] }\n",
    );
    shop.on_path();
    shop.sql("insert into shop.scale values (1, 0.3), (2, 0.3)");
    shop.run(&["mark", "set", "shop", "a"]).ok();
    shop.sql("update shop.scale set weight = 7");
    shop.sql("update shop.scale set weight = 0.1::float8 + 0.2::float8");
    let query = "select id, weight = 0.3::float8 as same, 0.1::float8 + 0.2::float8 as shown from scale order by id";
    let run = shop
        .emaj(&["at", "shop", "a", query, "-o", "csv"])
        .env("PGOPTIONS", "-c extra_float_digits=0")
        .run()
        .ok();
    assert_eq!(run.stdout, "id,same,shown\n1,t,0.3\n2,t,0.3\n");
}

#[test]
fn a_table_that_is_called_as_one_of_the_catalogue_is_read_by_the_search_path() {
    let shop = Shop::open(
        "create schema shop; create table shop.pg_user (id int primary key, usename text); insert into shop.pg_user values (1, 'mine');
         create domain shop.text as int",
        "version: 1\ngroups:\n  g: { tables: [shop.*] }\n",
    );
    shop.run(&["mark", "set", "g", "a"]).ok();
    shop.sql("update shop.pg_user set usename = 'yours'");
    let refused = shop.run(&["at", "g", "a", "select usename from shop.pg_user"]).code(4);
    let way = "-c search_path=SCHEMA,pg_catalog";
    assert!(refused.stderr.contains(way), "{refused}");
    let read = shop.emaj(&["at", "g", "a", "select usename from pg_user", "-o", "csv"]);
    let read = read.env("PGOPTIONS", way.replace("SCHEMA", "shop")).run().ok();
    assert_eq!(read.stdout, "usename\nmine\n", "{read}");
}

#[test]
fn what_cannot_be_read_as_it_was_is_refused() {
    let shop = Shop::open(SHOP, MANIFEST);
    shop.sql(&format!(
        "alter role {} in database {} set search_path = shop, pg_temp",
        shop.owner,
        shop.db.name()
    ));
    shop.sql("create view shop.open as select * from shop.invoice where amount > 0; create table shop.outside (n int)");
    shop.run(&["mark", "set", "shop", "a"]).ok();
    shop.run(&["mark", "set", "audit", "a"]).ok();
    shop.sql("update shop.invoice set amount = 0; insert into shop.plain values ('x')");
    let asked = |code: i32, group: &str, mark: &str, query: &str, part: &str| {
        let run = shop.run(&["at", group, mark, query, "-o", "csv"]).code(code);
        assert!(run.stderr.contains(part), "{run}");
    };
    asked(
        4,
        "shop",
        "a",
        "select * from shop.invoice",
        "would read as they are now: shop.invoice",
    );
    for query in ["", " ; "] {
        asked(64, "shop", "a", query, "error: there is no query");
    }
    for query in [
        "delete from customer",
        "delete from outside",
        "update invoice set amount = 1",
        "truncate outside",
        "select into made",
        "with gone as (delete from outside returning n) select from gone",
        "/* nothing */",
    ] {
        let run = shop.run(&["at", "shop", "a", query]).code(4);
        assert!(run.stderr.contains("the past can only be asked"), "{run}");
        assert!(!run.stderr.contains("INSTEAD OF"), "{run}");
    }
    asked(
        4,
        "shop",
        "a",
        "select * from open",
        "would read as they are now: shop.invoice",
    );
    asked(
        4,
        "shop",
        "a",
        "select * from invoice join shop.customer c on true",
        "now: shop.customer",
    );
    asked(
        4,
        "audit",
        "a",
        "select * from plain",
        "has no primary key, cannot be read as it was",
    );
    // Also where its schema is not in the path.
    let elsewhere = shop.emaj(&["at", "audit", "a", "select * from plain"]);
    let elsewhere = elsewhere.env("PGOPTIONS", "-c search_path=pg_temp").run().code(4);
    let reason = "has no primary key, cannot be read as it was";
    assert!(elsewhere.stderr.contains(reason), "{elsewhere}");
    asked(4, "shop", "b", "select 1", "has no mark `b`");
    asked(4, "shop", "a", "delete from outside", "the past can only be asked");
    asked(4, "shop", "a", "explain select 1", "the past can only be asked");
    asked(
        1,
        "shop",
        "a",
        "select 1; drop table shop.outside",
        "understand the query",
    );
    asked(1, "shop", "a", "select 1) to program 'true' --", "understand the query");
    asked(
        1,
        "shop",
        "a",
        "select nextval('customer_id_seq')",
        "read-only transaction",
    );
    asked(1, "shop", "a", "selekt", "syntax error");
    asked(0, "shop", "a", "select * from invoice, outside", "");
    let viewer = format!("{}_viewer", shop.db.name());
    shop.db.psql(&format!("create role {viewer} login"));
    shop.db.file(
        "emaj.yaml",
        &MANIFEST.replace("viewer: null", &format!("viewer: {viewer}")),
    );
    shop.run(&["install"]).ok();
    emaj(&shop.db)
        .user(&viewer)
        .args(["at", "shop", "a", "select * from invoice"])
        .run()
        .code(12);
    shop.sql(&format!(
        "grant usage on schema shop to {viewer}; grant select on shop.invoice to {viewer}"
    ));
    let seen = emaj(&shop.db)
        .user(&viewer)
        .args(["at", "shop", "a", "select sum(amount) from invoice", "-o", "csv"])
        .run()
        .ok();
    assert_eq!(seen.stdout, "sum\n60.00\n");
    // Rows that a policy hides are an error, not a gap.
    shop.sql(&format!("alter table shop.invoice enable row level security; create policy few on shop.invoice to {viewer} using (id = 1)"));
    emaj(&shop.db)
        .user(&viewer)
        .args(["at", "shop", "a", "select * from invoice"])
        .run()
        .code(12);
    // What was attempted is said with what the server answers.
    let name = shop.db.name();
    shop.db
        .psql(&format!("revoke temporary on database {name} from public"));
    let denied = emaj(&shop.db)
        .user(&viewer)
        .args(["at", "shop", "a", "select * from invoice"])
        .run()
        .code(12);
    let expected = "failed to make a view of shop.customer";
    assert!(denied.stderr.contains(expected), "{denied}");
    shop.db.psql(&format!("grant temporary on database {name} to public"));
    shop.db.psql(&format!("drop owned by {viewer}; drop role {viewer}"));
    shop.run(&["group", "stop", "shop"]).ok();
    asked(4, "shop", "a", "select 1", "is stopped");
}

/// What goes past the logs, in a group of its own each: a table, what happened to it, and what is said of it.
const PAST_THE_LOGS: [(&str, &str, &str); 6] = [
    ("lost", "alter table lost detach partition lost_2", "a partition was dropped or detached from past.lost"),
    (
        "away",
        "alter table away detach partition away_2; delete from away_2; alter table away attach partition away_2 default",
        "a partition was dropped or detached from past.away",
    ),
    (
        "filled",
        "create table filled_3 (like filled including all); insert into filled_3 values (25, 'own');
         alter table filled attach partition filled_3 for values from (20) to (30)",
        "partitions came with rows in them: past.filled_3",
    ),
    ("rewritten", "truncate rewritten_3", "a partition of past.rewritten that came after the last `emaj install`"),
    (
        "gone",
        "create temp table kept as select * from gone where id >= 15; delete from gone where id >= 15;
         create table gone_3 partition of gone for values from (15) to (20); insert into gone select * from kept; drop table gone_3",
        "rows of past.gone are lost that had been moved to a partition that came after it",
    ),
    ("short", "", "a transaction with an old snapshot (repeatable read, serializable) has truncated past.short"),
];

#[test]
fn what_the_logs_do_not_tell_is_refused_by_all_who_need_it() {
    let tables: Vec<&str> = PAST_THE_LOGS.iter().map(|(table, _, _)| *table).collect();
    let groups: String = tables
        .iter()
        .map(|table| format!("  {table}: {{ tables: [past.{table}] }}\n"))
        .collect();
    let made: String = tables
        .iter()
        .map(|table| {
            format!(
                "create table past.{table} (id int primary key, v text) partition by range (id);
                 create table past.{table}_1 partition of past.{table} for values from (0) to (10);
                 create table past.{table}_2 partition of past.{table} default;
                 insert into past.{table} select i, 'v' from generate_series(1, 19) i;"
            )
        })
        .collect();
    let shop = Shop::open(
        &format!("create schema past; {made}"),
        &format!("version: 1\nroles: {{ admin: null, viewer: null }}\ngroups:\n{groups}"),
    );
    shop.sql("create table past.rewritten_3 partition of past.rewritten for values from (20) to (30); insert into past.rewritten values (25, 'v')");
    let mut old = shop.db.client_as(&shop.owner);
    old.batch_execute("begin isolation level repeatable read; select count(*) from past.short")
        .unwrap();
    for (group, _, _) in PAST_THE_LOGS {
        shop.sql(&format!(
            "insert into past.{group} values (9, 'w') on conflict (id) do update set v = 'w'"
        ));
        shop.run(&["mark", "set", group, "a"]).ok();
        shop.sql(&format!("update past.{group} set v = 'x' where id in (3, 13)"));
        shop.run(&["mark", "set", group, "b"]).ok();
    }
    old.batch_execute("truncate past.short; commit").unwrap();
    for (group, event, reason) in PAST_THE_LOGS {
        shop.sql(&format!("set search_path = past; {event}"));
        let words: [&[&str]; 6] = [
            &["at", group, "a", &format!("select * from {group}")],
            &["changes", group, "--from", "a", "--what", "net", "-o", "json"],
            &["changes", group, "--from", "a", "--what", "ends"],
            &["changes", group, "--from", "a", "-o", "sql"],
            &["rollback", group, "a", "--yes"],
            &["revert", group, "--user", &shop.owner, "--from", "a", "--yes"],
        ];
        for words in words {
            let refused = shop.run(words).code(4);
            assert!(refused.stderr.contains(reason), "{refused}");
            assert_eq!(refused.stdout, "", "{refused}");
        }
        let all = shop.run(&["changes", group, "--from", "a", "-o", "json"]).ok();
        assert!(
            all.stderr
                .contains(&format!("warning: not all of it is in the log: {reason}")),
            "{all}"
        );
        // Before it happened nothing is missing.
        let net = shop
            .run(&[
                "changes", group, "--from", "a", "--to", "b", "--what", "net", "-o", "json",
            ])
            .ok();
        assert_eq!(lines(&net).len(), 2, "{net}");
        shop.run(&["changes", group, "--from", "a", "--to", "b", "-o", "sql"])
            .ok();
    }
}

#[test]
fn what_the_logs_do_not_tell_of_one_table_is_no_hindrance_to_the_others() {
    let manifest = |tables: &str| {
        format!("version: 1\nroles: {{ admin: null, viewer: null }}\ngroups:\n  g: {{ tables: [{tables}] }}\n")
    };
    let shop = Shop::open(
        "create schema past;
         create table past.lost (id int primary key, x int) partition by range (id);
         create table past.lost_1 partition of past.lost for values from (0) to (10);
         create table past.lost_2 partition of past.lost default;
         create table past.away (id int primary key, x int); create table past.anew (id int primary key, x int);
         create table past.whole (id int primary key, x int);
         insert into past.lost values (1, 1), (11, 1); insert into past.away values (1, 1);
         insert into past.anew values (1, 1); insert into past.whole values (1, 1)",
        &manifest("past.lost, past.away, past.anew, past.whole"),
    );
    shop.run(&["mark", "set", "g", "a"]).ok();
    shop.sql("update past.lost set x = 2; update past.away set x = 2; update past.anew set x = 2; update past.whole set x = 2");
    shop.sql("alter table past.lost detach partition past.lost_2");
    shop.run(&["release", "past.anew", "--yes"]).ok();
    shop.db.file("emaj.yaml", &manifest("past.lost, past.anew, past.whole"));
    shop.run(&["install", "--allow-destroy"]).ok();
    shop.sql("update past.away set x = 3; update past.anew set x = 3");
    for path in ["pg_temp", "past"] {
        let at = |query: &str| {
            let run = shop.emaj(&["at", "g", "a", query, "-o", "csv"]);
            run.env("PGOPTIONS", format!("-c search_path={path}")).run()
        };
        assert_eq!(at("select * from whole").ok().stdout, "id,x\n1,1\n");
        assert_eq!(at("select 1 as n").ok().stdout, "n\n1\n");
        for (query, reason) in [
            (
                "select * from lost",
                "a partition was dropped or detached from past.lost",
            ),
            (
                "select * from past.lost",
                "a partition was dropped or detached from past.lost",
            ),
            ("select * from past.lost_2", "would read as they are now: past.lost_2"),
            ("select * from away", "past.away has left the group since"),
            ("select * from past.away", "past.away has left the group since"),
            (
                "select * from anew",
                "past.anew has left the group since; past.anew is captured only since",
            ),
            (
                "select whole.* from whole join lost using (id)",
                "detached from past.lost",
            ),
        ] {
            let refused = at(query).code(4);
            assert!(refused.stderr.contains(reason), "{query}: {refused}");
            assert!(refused.stderr.contains("hint: "), "{refused}");
        }
    }
    // What is gone altogether is not found, and it is said why it may not be.
    shop.sql("drop table past.away");
    let gone = shop.run(&["at", "g", "a", "select * from away"]).code(1);
    let reason = "hint: not all of it is in the log: ";
    assert!(
        gone.stderr.contains(reason) && gone.stderr.contains("past.away has left the group since"),
        "{gone}"
    );
}

#[test]
fn what_is_emptied_meanwhile_is_not_taken_for_empty() {
    let shop = Shop::open(SHOP, MANIFEST);
    shop.on_path();
    shop.run(&["mark", "set", "shop", "a"]).ok();
    shop.sql("update shop.customer set name = 'x'; update shop.invoice set amount = 0");
    shop.run(&["mark", "set", "shop", "b"]).ok();
    let question = [
        "at",
        "shop",
        "a",
        "select c.name, i.amount from invoice i join customer c on c.id = i.customer order by i.id",
        "-o",
        "csv",
    ];
    let answer = "name,amount\nAda,10.00\nGrace,20.00\nEdsger,30.00\n";
    // A table of the application.
    let lock = "lock table shop.invoice";
    let run = while_it_waits(&shop, lock, &question, |holds| {
        holds.batch_execute("truncate shop.invoice").unwrap();
    });
    assert_eq!(run.ok().stdout, answer);
    // Logs, by a purge.
    let run = while_it_waits(&shop, lock, &question, |_| {
        shop.sql("select emaj.emaj_delete_before_mark_group('shop', 'b')");
    });
    assert!(run.code(4).stderr.contains("group `shop` has no mark `a`"));
}

#[test]
fn what_was_purged_is_not_read_as_it_is_now() {
    let manifest = "\
version: 1
roles: { admin: null, viewer: null }
groups:
  short: { tables: [shop.invoice], rollback: false, retention: 1 second }
";
    let shop = Shop::open(SHOP, manifest);
    shop.run(&["mark", "set", "short", "a"]).ok();
    shop.sql("update shop.invoice set amount = 0");
    support::wait_for("the log to be purged", 300, || {
        shop.run(&["group", "purge", "short"]).ok();
        (shop.db.psql("select count(*) from emaj.shop_invoice_log") == "0").then_some(())
    });
    let refused = shop.run(&["at", "short", "a", "select * from invoice"]).code(4);
    let reason = "some of what was written to shop.invoice before 20";
    assert!(refused.stderr.contains(reason), "{refused}");
}

#[test]
fn what_has_drifted_is_refused_where_it_is_read() {
    let manifest = "\
version: 1
roles: { admin: null, viewer: null }
groups:
  g: { tables: [s.a, s.b, s.c], table_options: { s.a: { guard: false }, s.c: { guard: false } } }
";
    let shop = Shop::open(
        "create schema s;
         create table s.a (id int primary key, x int); insert into s.a values (1, 1), (2, 2);
         create table s.b (id int primary key, x int); insert into s.b values (1, 1), (2, 2);
         create table s.c (id int primary key, x int); insert into s.c values (1, 1), (2, 2)",
        manifest,
    );
    shop.run(&["mark", "set", "g", "m"]).ok();
    shop.sql("update s.a set x = 11 where id = 1; update s.b set x = 11 where id = 1");
    let refused = |words: &[&str], problem: &str| {
        let run = shop.run(words).code(4);
        assert_eq!(run.stdout, "", "{run}");
        let said = "the database has drifted from what was installed: ";
        assert!(run.stderr.contains(said) && run.stderr.contains(problem), "{run}");
        assert!(
            run.stderr.contains("hint: ") && run.stderr.contains("`emaj install"),
            "{run}"
        );
    };
    let at = |query: &str| {
        let options = "-c search_path=s";
        shop.emaj(&["at", "g", "m", query, "-o", "csv"])
            .env("PGOPTIONS", options)
            .run()
            .ok()
            .stdout
    };
    let of_b = "select * from b order by id";
    // The values are others, of a type that fits, and then of one that does not.
    for alter in ["alter x type bigint using x * 100", "alter x type text"] {
        shop.sql(&format!("alter table s.a {alter}"));
        let problem = "s.a: the type of column x is now";
        refused(&["at", "g", "m", "select * from a"], problem);
        refused(&["at", "g", "m", "select b.id from b join a using (id)"], problem);
        assert_eq!(at(of_b), "id,x\n1,1\n2,2\n", "another table of the group is read");
        for what in ["net", "ends"] {
            refused(&["changes", "g", "--from", "m", "--what", what, "-o", "json"], problem);
        }
        refused(&["changes", "g", "--from", "m", "-o", "sql"], problem);
        let net = [
            "changes", "g", "--from", "m", "--what", "net", "--table", "s.b", "-o", "json",
        ];
        assert_eq!(lines(&shop.run(&net).ok()).len(), 1);
        let all = shop.run(&["changes", "g", "--from", "m", "-o", "json"]).ok();
        assert!(
            all.stderr
                .contains("warning: not all of it is in the log: the database has drifted"),
            "{all}"
        );
    }
    // Another table is called as the captured one.
    shop.sql("drop table s.c; create table s.c (id int primary key, x int)");
    refused(&["at", "g", "m", "select * from s.c"], "s.c: the table is gone");
    shop.sql("alter table s.b disable trigger all; update s.b set x = 99; delete from s.b where id = 2");
    let problem = "s.b: its capture triggers are missing or disabled";
    refused(&["at", "g", "m", of_b], problem);
    refused(
        &[
            "changes", "g", "--from", "m", "--what", "net", "--table", "s.b", "-o", "json",
        ],
        problem,
    );
    shop.sql(
        "do $$ declare name text; begin
           for name in select tgname from pg_trigger where tgrelid = 's.b'::regclass and not tgisinternal loop
             execute format('alter table s.b enable always trigger %I', name);
           end loop; end $$",
    );
    refused(
        &["at", "g", "m", of_b],
        "s.b: its capture triggers were switched or made anew by somebody else",
    );
}

#[test]
fn a_log_that_is_gone_is_missed_by_all_who_need_it() {
    let shop = Shop::open(
        "create schema s; create table s.a (id int primary key, x int); create table s.b (id int primary key, x int)",
        "version: 1\nroles: { admin: null, viewer: null }\ngroups:\n  g: { tables: [s.a, s.b] }\n",
    );
    shop.run(&["mark", "set", "g", "m"]).ok();
    shop.sql("insert into s.a values (1, 1), (2, 2); insert into s.b values (1, 1)");
    shop.run(&["mark", "set", "g", "n"]).ok();
    shop.sql("alter table emaj.s_a_log rename to aside");
    let at = |query: &str| {
        let run = shop.emaj(&["at", "g", "m", query, "-o", "csv"]);
        run.env("PGOPTIONS", "-c search_path=s").run()
    };
    let refused = |run: &Run, reason: &str| {
        assert!(
            run.status == Some(4) && run.stdout.is_empty() && run.stderr.contains(reason),
            "{run}"
        );
        assert!(run.stderr.contains("hint: "), "{run}");
    };
    let drift = "drifted from what was installed: s.a: its log table emaj.s_a_log is gone\n";
    for query in [
        "select count(*) from a",
        "select count(*) from s.a",
        "select b.* from b join a using (id)",
    ] {
        refused(&at(query), drift);
    }
    refused(&shop.run(&["at", "g", "m", "select count(*) from a"]), drift);
    assert_eq!(
        at("select count(*) from b").ok().stdout,
        "count\n0\n",
        "another table of the group is read"
    );
    let changes = |more: &[&str]| shop.run(&[&["changes", "g", "--from", "m"], more].concat());
    let (until_now, until_mark) = (&["--table", "s.a"][..], &["--to", "n"][..]);
    for (window, reason) in [
        (&[][..], drift),
        (until_now, drift),
        (until_mark, "and the log of s.a is gone\n"),
    ] {
        for form in [
            &["--what", "net", "-o", "json"][..],
            &["--what", "ends"],
            &["-o", "sql"],
            &["-o", "sql", "--what", "net"],
        ] {
            refused(&changes(&[window, form].concat()), reason);
        }
        let all = changes(&[window, &["-o", "json"]].concat()).ok();
        assert_eq!(lines(&all).len(), usize::from(window != until_now), "{all}");
        let warned = all
            .stderr
            .lines()
            .filter(|line| line.starts_with("warning: not all of it is in the log: "))
            .count();
        assert!(
            warned == 1 && all.stderr.contains(reason.trim_start_matches("and ")),
            "{all}"
        );
    }
    assert_eq!(
        lines(&changes(&["--to", "n", "--table", "s.b", "--what", "net", "-o", "json"]).ok()).len(),
        1
    );
    // A rollback, however it is asked for.
    for more in [
        &["--yes"][..],
        &["--dry-run"],
        &["--estimate"],
        &["--jobs", "2", "--dry-run"],
        &["--partial", "--dry-run"],
    ] {
        let run = shop.run(&[&["rollback", "g", "m"], more].concat()).code(4);
        assert!(
            run.stderr.contains(drift) && run.stderr.contains("hint: run `emaj install`: it makes a new one"),
            "{run}"
        );
    }
    // The count says that it is one of what is left, and is not written down.
    let stat = |more: &[&str]| {
        shop.run(&[&["stat", "g", "--from", "m", "-o", "csv"], more].concat())
            .ok()
    };
    assert_eq!(stat(&[]).stdout, "table,changes\ns.a,≥ 0\ns.b,1\n");
    assert!(
        stat(&["--to", "n"])
            .stderr
            .contains("some log rows of that time were gone")
    );
    assert!(
        stat(&["--detailed"])
            .stdout
            .starts_with("table,role,verb,changes\ns.a,,,≥ 0\ns.b,")
    );
    assert_eq!(
        stat(&["--intervals"])
            .stdout
            .lines()
            .filter(|line| line.contains("s.a") && line.contains("≥ 0"))
            .count(),
        2
    );
    shop.sql("alter table emaj.aside rename to s_a_log");
    assert_eq!(stat(&[]).stdout, "table,changes\ns.a,2\ns.b,1\n");
    assert_eq!(at("select count(*) from a").ok().stdout, "count\n0\n");
    assert_eq!(lines(&changes(&["--what", "net", "-o", "json"]).ok()).len(), 3);

    // With a new log what was in the old one is missed as long as somebody asks for it.
    shop.sql("drop table emaj.s_a_log");
    shop.run(&["install", "--allow-destroy"]).ok();
    shop.run(&["mark", "set", "g", "o"]).ok();
    shop.sql("insert into s.a values (3, 3)");
    refused(&changes(&["--to", "n", "--what", "net"]), "the log of s.a is gone");
    refused(&at("select * from a"), "the log of s.a is gone");
    assert_eq!(
        shop.run(&["stat", "g", "--from", "o", "-o", "csv"]).ok().stdout,
        "table,changes\ns.a,1\ns.b,0\n"
    );
    let net = ["changes", "g", "--from", "o", "--what", "net", "-o", "json"];
    assert_eq!(lines(&shop.run(&net).ok()).len(), 1);
}

#[test]
fn every_kind_of_table_is_read_as_it_was() {
    let manifest = r#"
version: 1
roles: { admin: null, viewer: null }
groups:
  all: { tables: ['"Odd ""S''".*'], sequences: all }
"#;
    let shop = Shop::open(EVERYTHING, manifest);
    let setting = format!(
        r#"alter role {} in database {} set search_path = "Odd ""S'", public"#,
        shop.owner,
        shop.db.name()
    );
    shop.sql(&setting);
    let tables = [
        r#""Ta ble'%""#,
        "part",
        "always",
        "parent",
        "child",
        "cycle_a",
        "cycle_b",
        "counted",
        "daughter",
    ];
    let all: Vec<String> = tables
        .iter()
        .map(|name| {
            format!(
                "select '{}' as t, whole_row::text as v from {name} whole_row",
                name.replace('\'', "''")
            )
        })
        .collect();
    let all = format!("select t || ' ' || v from ({}) x order by 1", all.join(" union all "));
    let look = || -> Vec<String> {
        shop.db
            .client_as(&shop.owner)
            .query(&all, &[])
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect()
    };
    let mut known = Vec::new();
    for (mark, change) in [
        ("a", ALL_OF_IT),
        (
            "b",
            "set search_path = \"Odd \"\"S'\"; delete from \"Ta ble'%\"; update part set v = v || '+'",
        ),
    ] {
        shop.run(&["mark", "set", "all", mark]).ok();
        known.push((mark, look()));
        shop.sql(change);
    }
    for (mark, wanted) in known {
        let run = shop
            .run(&[
                "at",
                "all",
                mark,
                &format!("select array_to_json(array({all}))::text as rows"),
                "-o",
                "json",
            ])
            .ok();
        let found: Vec<String> = serde_json::from_str(lines(&run)[0]["rows"].as_str().unwrap()).unwrap();
        assert_eq!(found, wanted, "at {mark}");
    }
    // Rows of a table that others inherit from are in several tables.
    for path in [r#""Odd ""S'""#, "pg_temp"] {
        let run = shop.emaj(&["at", "all", "a", "select * from mother"]);
        let path = format!("-c search_path={}", path.replace(' ', "\\ "));
        let run = run.env("PGOPTIONS", path).run().code(4);
        assert!(run.stderr.contains("inherit"), "{run}");
    }
}

#[test]
fn whatever_a_program_did_the_past_is_what_it_was() {
    let db = support::database();
    let owner = support::owner(&db);
    let mut client = owner.client();
    client.batch_execute(&format!("create schema app; {TABLES}")).unwrap();
    client
        .batch_execute(&format!(
            "alter role {} in database {} set search_path = app",
            owner.name(),
            db.name()
        ))
        .unwrap();
    db.file("emaj.yaml", PROGRAMS);
    emaj(&db).user(owner.name()).args(["install"]).run().ok();
    let machine = RefCell::new(Machine::new(client));
    let all: Vec<String> = NAMES
        .iter()
        .map(|name| format!("select '{name} ' || whole_row::text as line from {name} whole_row"))
        .collect();
    let question = format!("select array_to_json(array({}))::text as rows", all.join(" union all "));
    let at = |mark: &str| -> Vec<String> {
        let run = emaj(&db)
            .user(owner.name())
            .args(["at", "app", mark, &question, "-o", "json"])
            .run()
            .ok();
        let mut rows: Vec<String> = serde_json::from_str(lines(&run)[0]["rows"].as_str().unwrap()).unwrap();
        rows.sort();
        rows
    };
    let (mut runner, seed) = runner(9, 8, 100);
    let looked = Cell::new(0);
    let result = runner.run(&program(), |program| {
        let mut machine = machine.borrow_mut();
        machine.begin(&program)?;
        for copy in &machine.marks {
            // The copy also says in which table a row is; of a view nobody can.
            let kept = copy.lines.iter().filter(|line| !line.starts_with("sequence "));
            let mut wanted: Vec<String> = kept
                .map(|line| {
                    let words: Vec<&str> = line.splitn(3, ' ').collect();
                    format!("{} {}", words[0], words[2])
                })
                .collect();
            wanted.sort();
            let found = at(&copy.mark);
            looked.set(looked.get() + 1);
            if found != wanted {
                let differences = differences(&found, &wanted);
                return Err(TestCaseError::fail(format!("at {}: {differences}", copy.mark)));
            }
        }
        Ok(())
    });
    println!("looked at {} marks of programs, seed {seed}", looked.get());
    conclude(result, seed);
    assert!(looked.get() > 0);
}
