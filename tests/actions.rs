//! What is done inside the transaction: warnings, notifications and calls, whoever writes, and whatever becomes of the table.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use postgres::fallible_iterator::FallibleIterator as _;
use postgres::{Client, Config, NoTls};

use crate::support::{self, Database};

const TABLES: &str = "
    create schema app;
    create table app.item (id int primary key, name text, price numeric, doc json, at timestamptz default '2026-01-02 03:04:05+00');
    create table app.told (n serial, what text);
    create table app.part (id int, region text, v text, primary key (region, id)) partition by list (region);
    create table app.part_a partition of app.part for values in ('a');
    create table app.part_b (v text, id int not null, region text not null);
    alter table app.part attach partition app.part_b for values in ('b');
    create function app.tell(text, text default 'none') returns void language sql as 'insert into app.told (what) values (pg_catalog.concat($1, ''|'', $2))';
    create function app.refuse(text) returns void language plpgsql as $$ begin if $1 = 'forbidden' then raise exception 'no %', $1; end if; end $$;";

const HEAD: &str = "version: 1\nname: acts\nroles: { admin: null, viewer: null }\n";

fn shop() -> Database {
    let db = support::database();
    db.client().batch_execute(TABLES).unwrap();
    db
}

#[track_caller]
fn install(db: &Database, bindings: &str) {
    let path = db.file("emaj.yaml", &format!("{HEAD}bindings:\n{bindings}"));
    let path = path.to_str().unwrap();
    support::emaj(db).args(["install", path]).run().ok();
    let again = support::emaj(db).args(["plan", "--detailed-exitcode", path]).run().ok();
    assert!(again.stderr.contains("nothing to do"), "{again}");
    let drift = support::emaj(db).args(["drift", path]).run().ok();
    assert_eq!(drift.stdout, "", "{drift}");
}

/// Opens a session whose notices and warnings can be read.
fn listener(db: &Database) -> (Client, mpsc::Receiver<String>) {
    let (send, receive) = mpsc::channel();
    let mut config: Config = db.conninfo().parse().unwrap();
    config.notice_callback(move |notice| {
        let _ = send.send(format!("{} {}", notice.severity(), notice.message()));
    });
    (config.connect(NoTls).unwrap(), receive)
}

fn told(db: &Database) -> String {
    db.psql("select string_agg(what, ', ' order by n) from app.told")
}

#[test]
fn a_warning_reaches_the_client_for_each_change_that_counts() {
    let db = shop();
    install(
        &db,
        "  price:\n    table: app.item\n    columns: [price, doc]\n    warn: { message: \"{{ event }} in {{ table }}: it's {{ old.price }} -> {{ row.price }} ({{ row.at }})\" }\n",
    );
    let (mut client, warnings) = listener(&db);
    client
        .batch_execute("set timezone = 'UTC'; insert into app.item (id, price) values (1, 1.0)")
        .unwrap();
    let said = || warnings.try_iter().collect::<Vec<_>>().join("\n");
    assert_eq!(
        said(),
        "WARNING insert in app.item: it's  -> 1.0 (2026-01-02 03:04:05+00)"
    );
    client.batch_execute("update app.item set name = 'other'").unwrap();
    assert_eq!(said(), "", "a column that is not listed");
    client
        .batch_execute(
            "update app.item set doc = '{}'; update app.item set price = 1.00; update app.item set price = price",
        )
        .unwrap();
    assert_eq!(
        said().matches("WARNING update").count(),
        2,
        "json cannot be compared, 1.0 is not 1.00"
    );
    client.batch_execute("begin; delete from app.item; rollback").unwrap();
    assert_eq!(
        said(),
        "WARNING delete in app.item: it's 1.00 -> 1.00 (2026-01-02 03:04:05+00)"
    );
}

#[test]
fn a_notification_comes_with_the_commit_and_is_never_too_long() {
    let db = shop();
    install(
        &db,
        "  bell: { table: app.item, events: [insert, delete], notify: { channel: \"it's $emaj$ here\", payload: '{{ event }} {{ row.name }}' } }\n  bare: { table: app.item, events: [update], notify: { channel: bare } }\n",
    );
    let mut ear = db.client();
    ear.batch_execute("listen \"it's $emaj$ here\"; listen bare").unwrap();
    let mut client = db.client();
    client
        .batch_execute("begin; insert into app.item (id, name) values (9, 'never'); rollback; insert into app.item (id, name) values (1, repeat('ü', 9000)); update app.item set name = 'x'; delete from app.item")
        .unwrap();
    let mut heard = Vec::new();
    let until = Instant::now() + Duration::from_secs(20);
    while heard.len() < 3 && Instant::now() < until {
        let mut notifications = ear.notifications();
        let mut waiting = notifications.timeout_iter(Duration::from_millis(500));
        while let Some(notification) = waiting.next().unwrap() {
            heard.push((notification.channel().to_owned(), notification.payload().to_owned()));
        }
    }
    assert_eq!(heard.len(), 3, "{heard:?}");
    assert!(
        heard[0].0 == "it's $emaj$ here" && heard[0].1.starts_with("insert üü") && heard[0].1.chars().count() == 1999,
        "{heard:?}"
    );
    assert_eq!(heard[1], ("bare".to_owned(), String::new()));
    assert_eq!(heard[2].1, "delete x");
}

#[test]
fn a_call_is_part_of_the_statement_and_may_refuse_it() {
    let db = shop();
    install(
        &db,
        "  tell: { table: app.item, sql: { function: app.tell, arguments: ['{{ event }}-{{ old.name }}', '{{ row.name }}'] } }\n  guard: { table: app.item, events: [insert, update], columns: [name], sql: { function: app.refuse, arguments: ['{{ row.name }}'] } }\n  one: { table: app.item, events: [delete], sql: { function: app.tell, arguments: ['gone {{ row.id }}'] } }\n",
    );
    db.psql("insert into app.item (id, name) values (1, 'a'), (2, null); update app.item set name = 'b' where id = 1");
    assert_eq!(told(&db), "insert-|a, insert-|, update-a|b");
    let error = db
        .client()
        .batch_execute("update app.item set name = 'forbidden' where id = 1")
        .unwrap_err();
    assert!(support::story::described(&error).contains("no forbidden"), "{error:?}");
    assert_eq!(
        told(&db),
        "insert-|a, insert-|, update-a|b",
        "nothing of a refused statement stays"
    );
    db.psql("truncate app.told; delete from app.item where id = 1");
    assert_eq!(told(&db), "gone 1|none, delete-b|b");
}

/// PostgreSQL's functions take 100 arguments at most.
#[test]
fn a_text_may_have_any_number_of_parts() {
    let db = shop();
    let columns: Vec<String> = (1..=300).map(|n| format!("c{n}")).collect();
    db.psql(&format!(
        "create table app.wide (id int primary key, {} text)",
        columns.join(" text, ")
    ));
    let text: String = columns
        .iter()
        .map(|column| format!("{column}={{{{ row.{column} }}}} "))
        .collect();
    install(
        &db,
        &format!(
            "  seen: {{ table: app.wide, warn: {{ message: '{text}' }} }}\n  bell: {{ table: app.wide, notify: {{ channel: c, payload: '{text}' }} }}\n  \
             tell: {{ table: app.wide, sql: {{ function: app.tell, arguments: ['{text}'] }} }}\n"
        ),
    );
    let (mut client, warnings) = listener(&db);
    client
        .batch_execute("insert into app.wide (id, c1, c300) values (1, 'first', 'last')")
        .unwrap();
    let said: Vec<String> = warnings.try_iter().collect();
    assert!(
        said.len() == 1 && said[0].starts_with("WARNING c1=first c2= c3= ") && said[0].ends_with(" c299= c300=last "),
        "{said:?}"
    );
    assert!(told(&db).starts_with("c1=first c2= "));
}

#[test]
fn nobody_gains_a_right() {
    let db = shop();
    install(
        &db,
        "  tell: { table: app.item, sql: { function: app.tell, arguments: [x] } }\n  note: { table: app.item, warn: { message: '{{ row.id }}' } }\n  bell: { table: app.item, notify: { channel: c, payload: '{{ row.id }}' } }\n",
    );
    let writer = format!("{}_writer", db.name());
    db.psql(&format!("create role {writer} login; grant usage on schema app to {writer}; grant insert, select on app.item to {writer}"));
    let mut client = db.client_as(&writer);
    // It calls the function with the writer's rights, who may not write that table.
    let error = client
        .batch_execute("insert into app.item (id) values (1)")
        .unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42501", "{error:?}");
    db.psql(&format!("grant insert on app.told to {writer}; grant usage on sequence app.told_n_seq to {writer}; create schema trap; grant all on schema trap to {writer}"));
    // Whatever the writer's path finds first, it is not taken.
    client
        .batch_execute(
            "create function trap.concat(variadic text[]) returns text language plpgsql as 'begin raise exception ''trapped''; end';
             create function trap.format(text, variadic text[]) returns text language plpgsql as 'begin raise exception ''trapped''; end';
             create function trap.lower(text) returns text language plpgsql as 'begin raise exception ''trapped''; end';
             create function trap.ne(text, text) returns boolean language plpgsql as 'begin raise exception ''trapped''; end';
             create operator trap.<> (leftarg = text, rightarg = text, function = trap.ne);
             set search_path = trap, pg_catalog; insert into app.item (id) values (1)",
        )
        .unwrap();
    assert_eq!(told(&db), "x|none");
    let definers = db.psql("select count(*) from pg_proc where proname like 'action%' and pronamespace = 'emaj'::regnamespace and (prosecdef or has_function_privilege('public', oid, 'execute'))");
    assert_eq!(definers, "0");
    let bare = "select proname, m[1] from pg_proc, regexp_matches(prosrc, '(?<![.\\w\"])(\\w+)\\(', 'g') as m
            where pronamespace = 'emaj'::regnamespace and proname like 'action%' and m[1] not in ('row', 'operator')
            union select proname, m[1] from pg_proc, regexp_matches(prosrc, '\\s([=<>+*|~]+)\\s', 'g') as m
            where pronamespace = 'emaj'::regnamespace and proname like 'action%'";
    assert_eq!(db.psql(bare), "", "not qualified");
    drop(client);
    db.psql(&format!(
        "drop schema trap cascade; drop owned by {writer}; drop role {writer}"
    ));
}

#[test]
fn what_becomes_of_the_table_never_stops_a_writer() {
    let db = shop();
    let bindings = "  note: { table: app.item, columns: [name, price], warn: { message: '{{ row.name }} {{ row.price }} {{ table }}' } }\n";
    install(&db, bindings);
    let (mut client, warnings) = listener(&db);
    let said = || warnings.try_iter().collect::<Vec<_>>().join("\n");
    client.batch_execute("insert into app.item values (1, 'a', 2)").unwrap();
    assert_eq!(said(), "WARNING a 2 app.item");
    db.psql("alter table app.item rename column name to title; alter table app.item add column name int default 7; alter table app.item rename to thing; alter table app.thing alter price type text using price::text || '!'");
    client.batch_execute("update app.thing set title = 'b'").unwrap();
    assert_eq!(said(), "WARNING b 2! app.thing");
    client.batch_execute("update app.thing set name = 8").unwrap();
    assert_eq!(said(), "");
    db.psql("alter table app.thing drop column title; alter table app.thing drop column doc");
    client
        .batch_execute("update app.thing set price = '3'; update app.thing set name = 9")
        .unwrap();
    assert_eq!(said(), "WARNING  3 app.thing");
    db.psql("alter table app.thing drop column price");
    client
        .batch_execute("update app.thing set name = 10; delete from app.thing")
        .unwrap();
    assert_eq!(said(), "WARNING   app.thing");
    // The manifest follows, and finds what is missing.
    let path = db.file(
        "emaj.yaml",
        &format!("{HEAD}bindings:\n{}", bindings.replace("app.item", "app.thing")),
    );
    let run = support::emaj(&db).args(["plan", path.to_str().unwrap()]).run().code(65);
    assert!(run.stderr.contains("no column `price`"), "{run}");
    install(
        &db,
        "  note: { table: app.thing, warn: { message: '{{ row.name }}' } }\n",
    );
    client.batch_execute("insert into app.thing (id) values (5)").unwrap();
    assert_eq!(said(), "WARNING 7");
}

#[test]
fn partitions_tell_too_whatever_the_order_of_their_columns() {
    let db = shop();
    install(
        &db,
        "  t: { table: app.part, columns: [v], sql: { function: app.tell, arguments: ['{{ event }} {{ row.id }} {{ row.v }}', '{{ table }}'] } }\n",
    );
    db.psql("insert into app.part values (1, 'a', 'x'), (2, 'b', 'y'); create table app.part_c partition of app.part for values in ('c'); insert into app.part values (3, 'c', 'z');
             update app.part set v = 'w' where id = 2; update app.part set id = 4 where id = 1");
    assert_eq!(
        told(&db),
        "insert 1 x|app.part, insert 2 y|app.part, insert 3 z|app.part, update 2 w|app.part"
    );
    db.psql("alter table app.part detach partition app.part_c; insert into app.part_c values (9, 'c', 'alone')");
    assert!(!told(&db).contains("alone"));
}

#[test]
fn it_fires_after_the_capture_and_not_in_a_rollback() {
    let db = shop();
    let path = db.file(
        "emaj.yaml",
        &format!("{HEAD}groups:\n  g: {{ tables: [app.item, app.told], sequences: none, table_options: {{ app.item: {{ capture: row }} }} }}\nbindings:\n  t: {{ table: app.item, sql: {{ function: app.tell, arguments: ['{{{{ event }}}}'] }} }}\n"),
    );
    db.psql("alter table app.told add primary key (n)");
    support::emaj(&db).args(["install", path.to_str().unwrap()]).run().ok();
    db.psql("select emaj.emaj_set_mark_group('g', 'm'); insert into app.item (id) values (1), (2); update app.item set name = 'x'");
    assert_eq!(told(&db), "insert|none, insert|none, update|none, update|none");
    let order = db.psql("select string_agg(what, ' ' order by gid, what) from (select min(emaj_gid) as gid, 'item' as what from emaj.app_item_log union all select min(emaj_gid), 'told' from emaj.app_told_log) as x");
    assert_eq!(order, "item told");
    db.psql("select emaj.emaj_rollback_group('g', 'm')");
    assert_eq!(
        (told(&db).as_str(), db.psql("select count(*) from app.item").as_str()),
        ("", "0")
    );
    db.psql("insert into app.item (id) values (1)");
    assert_eq!(told(&db), "insert|none");
}

#[test]
fn an_action_that_was_touched_is_found_and_put_right() {
    let db = shop();
    let dump = || db.dump(&["-s"]);
    let before = dump();
    let bindings = "  t: { table: app.item, sql: { function: app.tell, arguments: [x] } }\n  p: { table: app.part, warn: { message: hello } }\n";
    install(&db, bindings);
    let trigger = db.psql("select tgname from pg_trigger where tgrelid = 'app.item'::regclass");
    assert_eq!(trigger, "!emaj_then_t");
    for damage in [
        "alter table app.item disable trigger \"!emaj_then_t\"",
        "drop trigger \"!emaj_then_t\" on app.item",
        "drop function emaj.action_t() cascade",
        "alter trigger \"!emaj_then_t\" on app.item rename to other",
    ] {
        db.psql(damage);
        let path = db.file("emaj.yaml", &format!("{HEAD}bindings:\n{bindings}"));
        let drift = support::emaj(&db).args(["drift", path.to_str().unwrap()]).run();
        assert!(drift.stdout.contains("binding t"), "{damage}: {drift}");
        install(&db, bindings);
        db.psql("insert into app.item (id) values (1); delete from app.item");
        assert_eq!(told(&db), "x|none, x|none", "{damage}");
        db.psql("truncate app.told");
    }
    // Another kind, other events, another table.
    install(
        &db,
        "  t: { table: app.part, events: [delete], warn: { message: x } }\n",
    );
    assert_eq!(
        db.psql("select count(*) from pg_trigger where tgname like '!%' and tgparentid = 0"),
        "1"
    );
    let path = db.file("emaj.yaml", &format!("{HEAD}bindings:\n{bindings}"));
    support::emaj(&db)
        .args(["uninstall", path.to_str().unwrap(), "--yes"])
        .run()
        .ok();
    assert_eq!(dump(), before);
}
