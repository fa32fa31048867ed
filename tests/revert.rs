//! One transaction, one row or one role's changes are taken back, and what others did stays; or it is refused, and nothing is changed.

use crate::changes::{MANIFEST, SHOP};
use crate::support::shop::Shop;
use crate::support::story::{Who, tell};
use crate::support::{self, Run};

const MORE: &str = "
create table shop.stock (id integer primary key, u text unique, n integer not null default 0);
create table shop.line (invoice integer references shop.invoice, no integer, item integer references shop.stock on delete cascade on update cascade, primary key (invoice, no));
create table shop.always (id int generated always as identity primary key, other int generated always as identity, v text, twice text generated always as (v || v) stored);
create table shop.node (id integer primary key, up integer references shop.node, v text);
create function shop.count() returns trigger language plpgsql as $$ begin update shop.stock set n = n + 1 where id = new.item; return null; end $$;
create trigger counts after insert or update on shop.line for each row execute function shop.count();
insert into shop.stock values (1, 'a'), (2, 'b'), (3, 'c');
insert into shop.line values (1, 1, 1), (2, 1, 2);
insert into shop.always (v) values ('x'), ('y');
insert into shop.node values (1, null, 'root'), (2, 1, 'leaf')";

fn shop() -> Shop {
    let manifest = MANIFEST.replace("[shop.customer, shop.invoice]", "[shop.*, '!shop.plain']");
    let shop = Shop::open(&format!("{SHOP};{MORE}"), &manifest);
    shop.run(&["mark", "set", "shop", "a"]).ok();
    shop
}

/// All rows of the shop.
fn content(shop: &Shop) -> String {
    let tables = ["customer", "invoice", "stock", "line", "always", "node"];
    let all: Vec<String> = tables
        .iter()
        .map(|name| format!("select '{name} ' || row::text as line from shop.{name} row"))
        .collect();
    shop.db
        .psql(&format!("select line from ({}) x order by 1", all.join(" union all ")))
}

/// Runs a transaction and returns its number.
fn transaction(shop: &Shop, sql: &str) -> String {
    let mut client = shop.db.client_as(&shop.owner);
    client
        .batch_execute(&format!("begin; {sql}"))
        .unwrap_or_else(|error| panic!("{error:?}\n{sql}"));
    let number: i64 = client.query_one("select txid_current()", &[]).unwrap().get(0);
    client.batch_execute("commit").unwrap();
    number.to_string()
}

fn revert(shop: &Shop, words: &[&str]) -> Run {
    shop.run(&[&["revert", "shop", "-y"], words].concat())
}

#[test]
fn a_role_with_a_name_as_long_as_may_be_is_known_by_it() {
    let shop = shop();
    // (Roles belong to the cluster: the database's name keeps tests apart.)
    let role = format!("{:x<63}", format!("{}_", shop.db.name()));
    let near = format!("{}y", &role[..62]);
    assert_eq!((role.len(), near.len()), (63, 63));
    for role in [&role, &near] {
        shop.db.psql(&format!(
            "create role {role} login; grant usage on schema shop to {role}; grant select, insert, update on all tables in schema shop to {role}"
        ));
    }
    let set = |role: &str, sql: &str| shop.db.client_as(role).batch_execute(sql).unwrap();
    let before = content(&shop);
    set(&near, "update shop.customer set name = 'right' where id = 2");
    let right = content(&shop);
    set(&role, "update shop.customer set name = 'wrong' where id = 1");
    let run = shop.run(&["changes", "shop", "--from", "a", "-o", "json"]).ok();
    let user = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["user"].clone();
    let users: Vec<_> = run.stdout.lines().map(user).collect();
    assert_eq!(users, [near.as_str(), role.as_str()], "{run}");
    revert(&shop, &["--user", &role, "--from", "a"]).ok();
    assert_eq!(content(&shop), right);
    revert(&shop, &["--user", &near, "--from", "a"]).ok();
    assert_eq!(content(&shop), before);
    for role in [&role, &near] {
        shop.db.psql(&format!("drop owned by {role}; drop role {role}"));
    }
}

#[test]
fn a_role_with_an_odd_name_gives_no_odd_marks() {
    let shop = shop();
    let role = format!("\"{}_a%b\nc\"", shop.db.name());
    shop.db.psql(&format!(
        "create role {role}; grant usage on schema shop to {role}; grant select, update on all tables in schema shop to {role}"
    ));
    let before = content(&shop);
    shop.db.psql(&format!(
        "set session authorization {role}; update shop.customer set name = 'wrong' where id = 1"
    ));
    revert(&shop, &["--user", role.trim_matches('"'), "--from", "a"]).ok();
    assert_eq!(content(&shop), before);
    let marks = "select count(distinct replace(replace(mark_name, '_START', ''), '_DONE', '')) || ' of ' || count(*) from emaj.emaj_mark where mark_name like 'RVRT%_a_b_c_2%'";
    assert_eq!(shop.db.psql(marks), "1 of 2");
    shop.db.psql(&format!("drop owned by {role}; drop role {role}"));
}

#[test]
fn past_a_change_of_the_group_the_hint_is_one_for_a_revert() {
    tell(Who::Owner, |story| {
        story.sql("create table t (id int primary key); create table u (id int primary key)");
        story.install("t");
        story.mark("m");
        story.install("*");
        story.sql("insert into t values (1)");
        let user = story.ask("select session_user");
        let run = story
            .emaj(&["revert", "g", "--user", &user, "--from", "m", "--yes"])
            .code(4);
        assert!(
            run.stderr.contains("hint: choose a mark that was set after the change"),
            "{run}"
        );
        story.emaj(&["revert", "g", "--user", &user, "--yes"]).ok();
    });
}

#[test]
fn one_transaction_is_taken_back_and_the_others_stay() {
    let shop = shop();
    let before = content(&shop);
    let wrong = transaction(
        &shop,
        "update shop.customer set name = 'wrong' where id < 3; insert into shop.invoice values (5, 1, 5); insert into shop.line values (5, 1, 3), (5, 2, 1);
         delete from shop.line where invoice = 2; delete from shop.stock where id = 2; update shop.stock set u = 'swap' where id = 1;
         update shop.stock set u = 'a' where id = 3; update shop.stock set u = 'c' where id = 1; update shop.always set other = default, v = 'z' where id = 1;
         delete from shop.always where id = 2; update shop.node set up = null where id = 2; delete from shop.node where id = 1; insert into shop.node values (3, 2, 'new');
         update shop.invoice set amount = amount + 1 where id = 1; update shop.invoice set amount = amount - 1 where id = 1",
    );
    let wronged = content(&shop);
    shop.sql("update shop.customer set name = 'right' where id = 3; insert into shop.invoice values (6, 3, 6)");
    let both = content(&shop);

    // It is shown first, by whoever may look.
    let plan = revert(&shop, &["--txid", &wrong, "--dry-run", "-o", "csv"]).ok();
    assert_eq!(content(&shop), both);
    assert!(
        plan.stdout.contains("shop.customer,updated,\"{\"\"id\"\" : 1}\","),
        "{plan}"
    );
    assert!(
        plan.stdout.contains("shop.stock,inserted,\"{\"\"id\"\" : 2}\","),
        "{plan}"
    );
    assert!(
        !plan.stdout.contains("shop.invoice,updated"),
        "what is the same again is left alone: {plan}"
    );
    let unasked = shop.run(&["revert", "shop", "--txid", &wrong]).code(4);
    assert!(unasked.stderr.contains("update shop.customer"), "{unasked}");
    assert_eq!(content(&shop), both);

    let done = revert(&shop, &["--txid", &wrong]).ok();
    let mut right: Vec<String> = before
        .lines()
        .map(|line| line.replace("(3,Edsger)", "(3,right)"))
        .collect();
    right.push("invoice (6,3,6.00)".into());
    right.sort();
    let mut found: Vec<String> = content(&shop).lines().map(str::to_owned).collect();
    found.sort();
    assert_eq!(found, right);
    // Definitions are as they were, triggers fire again.
    assert_eq!(
        shop.db.psql("select count(*) from pg_trigger where tgenabled = 'D'"),
        "0"
    );
    assert_eq!(shop.db.psql("select count(*) from pg_constraint where contype = 'f' and connamespace = 'shop'::regnamespace and (condeferrable or not convalidated)"), "0");
    assert_eq!(
        shop.db
            .psql("select count(*) from emaj.emaj_hist where hist_function = 'REVERT_GROUP'"),
        "2"
    );
    shop.run(&["verify"]).ok();

    // It can itself be undone.
    let undo = done
        .stderr
        .split("`emaj rollback shop ")
        .nth(1)
        .and_then(|rest| rest.split('`').next())
        .expect("a hint");
    shop.run(&["rollback", "shop", undo, "-y"]).ok();
    assert_eq!(content(&shop), both);
    assert_ne!(both, wronged);
}

#[test]
fn later_changes_by_others_are_not_lost_unless_that_is_allowed() {
    let shop = shop();
    let before = content(&shop);
    let first = transaction(&shop, "update shop.invoice set amount = 1 where id in (1, 2)");
    let second = transaction(&shop, "update shop.invoice set amount = amount + 1 where id = 2");
    let both = content(&shop);
    let refused = revert(&shop, &["--txid", &first]).code(4);
    assert!(
        refused.stderr.contains("others have changed 1 of these rows later"),
        "{refused}"
    );
    let plan = revert(&shop, &["--txid", &first, "--dry-run", "-o", "csv"]).code(4);
    assert!(
        plan.stdout.contains(&format!(
            "shop.invoice,updated,\"{{\"\"id\"\" : 2}}\",{second} of {}",
            shop.owner
        )),
        "{plan}"
    );
    // The function itself refuses as well.
    let error = shop
        .db
        .client()
        .query(
            &format!("select emaj.emaj_revert_group('shop', null, {first}, null, null, null, false)"),
            &[],
        )
        .unwrap_err();
    assert_eq!(error.code().unwrap().code(), "EJ001");
    assert_eq!(content(&shop), both);
    revert(&shop, &["--txid", &first, "--allow-later"]).ok();
    assert_eq!(content(&shop), before);
    // Of the second alone nothing is later.
    shop.sql("update shop.invoice set amount = 7 where id = 3");
    let third = transaction(&shop, "update shop.invoice set amount = 8 where id = 3");
    revert(&shop, &["--txid", &third]).ok();
    assert_eq!(shop.db.psql("select amount from shop.invoice where id = 3"), "7.00");
}

#[test]
fn one_row_and_what_one_role_did() {
    let shop = shop();
    let before = content(&shop);
    shop.sql("update shop.line set item = 3 where invoice = 1; update shop.line set item = 2 where invoice = 1; update shop.invoice set amount = 0");
    revert(&shop, &["--table", "shop.line", "--key", "invoice=1", "--key", "no=1"]).ok();
    revert(&shop, &["--table", "shop.invoice", "--key", "id=1", "--from", "a"]).ok();
    assert_eq!(shop.db.psql("select item from shop.line where invoice = 1"), "1");
    assert_eq!(
        shop.db
            .psql("select string_agg(amount::text, ' ' order by id) from shop.invoice"),
        "10.00 0.00 0.00"
    );
    shop.run(&["rollback", "shop", "a", "-y", "--unlogged"]).ok();
    assert_eq!(content(&shop), before);

    let clerk = format!("{}_clerk", shop.db.name());
    shop.db.psql(&format!("create role {clerk} login; grant usage on schema shop to {clerk}; grant all on all tables in schema shop to {clerk}"));
    shop.db.client_as(&clerk).batch_execute("update shop.invoice set amount = 99; insert into shop.customer values (50, 'clerk''s'); delete from shop.line").unwrap();
    shop.sql("insert into shop.customer values (51, 'keeper''s')");
    revert(&shop, &["--user", &clerk, "--from", "a"]).ok();
    assert_eq!(content(&shop).replace("customer (51,keeper's)\n", ""), before);
    // The last mark is now that of the revert: after it they did nothing.
    let again = revert(&shop, &["--user", &clerk]).code(4);
    assert!(again.stderr.contains("there is no such change"), "{again}");
    shop.db.psql(&format!("drop owned by {clerk}; drop role {clerk}"));
}

#[test]
fn what_cannot_be_taken_back_is_refused_and_nothing_is_changed() {
    let shop = shop();
    let made = transaction(&shop, "insert into shop.customer values (60, 'new')");
    shop.sql("insert into shop.invoice values (60, 60, 1)");
    let before = content(&shop);
    let refused = |code: i32, words: &[&str], part: &str| {
        let run = revert(&shop, words).code(code);
        assert!(run.stderr.contains(part), "{run}");
        assert_eq!(content(&shop), before);
        assert_eq!(
            shop.db
                .psql("select count(*) from emaj.emaj_mark where mark_name like 'RVRT%'"),
            "0"
        );
    };
    // The customer's invoice is somebody else's: it does not go with the customer.
    refused(
        4,
        &["--txid", &made],
        "what others have written, or a constraint that came since, stands in the way",
    );
    refused(4, &["--txid", "3"], "has no active mark before transaction 3");
    refused(4, &["--txid", "999999999"], "there is no such change");
    refused(4, &["--user", "nobody"], "there is no such change");
    refused(4, &["--user", "nobody", "--from", "x"], "has no mark `x`");
    refused(
        4,
        &["--table", "shop.line", "--key", "no=1"],
        "the key of shop.line has the columns invoice, no, not no",
    );
    refused(4, &["--table", "shop.plain", "--key", "id=1"], "has no table");
    refused(64, &["--table", "shop.line"], "--key");
    refused(
        64,
        &["--table", "shop.invoice", "--key", "id=1", "--key", "id=2"],
        "column `id` of the key has two values",
    );
    refused(64, &[], "--txid");
    refused(
        4,
        &["--table", "shop.invoice", "--key", "id=x"],
        "`x` is no integer, as key column id of shop.invoice is\n",
    );
    shop.run(&["group", "protect", "shop"]).ok();
    refused(4, &["--txid", &made], "is protected");
    shop.run(&["group", "unprotect", "shop"]).ok();
    assert_eq!(
        shop.db.psql("select count(*) from pg_trigger where tgenabled = 'D'"),
        "0"
    );
}

/// Whoever looks first hears every refusal that doing it would meet.
#[test]
fn what_would_be_refused_is_refused_to_whoever_only_looks() {
    let shop = shop();
    shop.sql("alter table shop.stock add column extra text");
    shop.run(&["mark", "set", "shop", "wide"]).ok();
    let narrow = transaction(&shop, "update shop.customer set name = 'x' where id = 1");
    let wide = transaction(
        &shop,
        "update shop.stock set extra = 'x' where id = 1; update shop.customer set name = 'y' where id = 2",
    );
    let both = |number: &str, part: &str| {
        let before = content(&shop);
        let sql = [
            format!("select emaj.emaj_check_revert_group('shop', null, {number}, null, null, null)"),
            format!("select emaj.emaj_revert_group('shop', null, {number}, null, null, null, false)"),
        ];
        let mut heard: Vec<String> = sql
            .iter()
            .map(|sql| {
                let error = shop.db.client_as(&shop.owner).query(sql, &[]).unwrap_err();
                let db = error.as_db_error().unwrap_or_else(|| panic!("{error}: {sql}"));
                assert_eq!(db.code().code(), "EJ001", "{db:?}");
                format!("{} ({})", db.message(), db.hint().unwrap_or_default())
            })
            .collect();
        heard.dedup();
        assert_eq!(heard.len(), 1, "the two say different things: {heard:#?}");
        assert!(heard[0].contains(part), "{heard:?}");
        for more in [&["--dry-run"][..], &[]] {
            let run = revert(&shop, &[&["--txid", number], more].concat()).code(4);
            assert!(run.stderr.contains(part), "{run}");
        }
        assert_eq!(content(&shop), before);
    };
    both(
        &wide,
        "at mark `wide` these tables had columns that were not captured, and their rows have changed since: shop.stock",
    );
    // What did not touch that table can be taken back.
    revert(&shop, &["--txid", &narrow, "--dry-run"]).ok();
    shop.run(&["install"]).ok();
    both(&wide, "columns that were not captured");
    revert(&shop, &["--txid", &narrow]).ok();
    both("999999999", "there is no such change");
    // A key with an action that is made anew has to hold.
    shop.run(&["mark", "set", "shop", "captured"]).ok();
    shop.sql(
        "alter table shop.line drop constraint line_item_fkey;
         alter table shop.line add constraint kept foreign key (item) references shop.stock on delete cascade not valid",
    );
    let moved = transaction(&shop, "update shop.stock set n = n + 1 where id = 2");
    both(
        &moved,
        "foreign key kept of table shop.line has an action and is not valid",
    );
    shop.sql("alter table shop.line validate constraint kept");
    revert(&shop, &["--txid", &moved, "--dry-run"]).ok();
    revert(&shop, &["--txid", &moved]).ok();
}

#[test]
fn a_key_that_is_not_valid_is_checked_for_what_is_taken_back() {
    let shop = shop();
    shop.sql(
        "alter table shop.line drop constraint line_invoice_fkey;
         alter table shop.line add constraint loose foreign key (invoice) references shop.invoice not valid",
    );
    let made = transaction(&shop, "insert into shop.invoice values (70, 1, 1)");
    let whole = transaction(
        &shop,
        "insert into shop.invoice values (71, 1, 1); insert into shop.line values (71, 1, 1)",
    );
    shop.sql("insert into shop.line values (70, 1, 2)");
    let before = content(&shop);
    let refused = revert(&shop, &["--txid", &made]).code(4);
    assert!(
        refused
            .stderr
            .contains("what others have written, or a constraint that came since, stands in the way"),
        "{refused}"
    );
    assert_eq!(content(&shop), before);
    revert(&shop, &["--txid", &whole]).ok();
    let key = shop
        .db
        .psql("select convalidated, condeferrable from pg_constraint where conname = 'loose'");
    assert_eq!(key, "f|f");
}

#[test]
fn a_column_that_is_captured_later_than_the_mark_keeps_its_values() {
    let shop = shop();
    let early = transaction(&shop, "update shop.customer set name = 'early' where id = 3");
    shop.sql("alter table shop.customer add note text; alter table shop.invoice add note text");
    shop.run(&["install"]).ok();
    shop.sql("update shop.customer set note = 'kept ' || id; update shop.invoice set note = 'kept ' || id");
    let before = content(&shop);
    let wrong = transaction(
        &shop,
        "delete from shop.invoice where id = 3; update shop.invoice set note = 'wrong' where id = 2; update shop.customer set note = null",
    );
    let after = content(&shop);
    // Some of the role's changes are from before the column was captured.
    for more in [&["--dry-run"][..], &[]] {
        let words = [&["--user", &shop.owner, "--from", "a"], more].concat();
        let refused = revert(&shop, &words).code(4);
        let reason = "shop.customer is captured with note only since a later moment than mark `a`";
        assert!(refused.stderr.contains(reason), "{refused}");
        assert_eq!(content(&shop), after);
    }
    revert(&shop, &["--txid", &wrong, "--from", "a"]).ok();
    assert_eq!(content(&shop), before);
    // What was changed before leaves the column as it is.
    revert(&shop, &["--txid", &early, "--from", "a", "--allow-later"]).ok();
    assert_eq!(
        shop.db.psql("select name, note from shop.customer where id = 3"),
        "Edsger|kept 3"
    );
}

#[test]
fn a_mark_that_was_made_anew_meanwhile_is_not_the_one_that_was_meant() {
    let shop = shop();
    shop.run(&["mark", "set", "shop", "b"]).ok();
    shop.sql("update shop.customer set name = 'before the new mark'");
    let before = content(&shop);
    let mut holds = shop.db.client_as(&shop.owner);
    holds
        .batch_execute("begin; lock table shop.customer in share mode")
        .unwrap();
    let waits = std::thread::scope(|scope| {
        let waits = scope.spawn(|| {
            let mut client = shop.db.client_as(&shop.owner);
            let sql = format!(
                "select emaj.emaj_revert_group('shop', 'a', null, '{}', null, null, false)",
                shop.owner
            );
            client.batch_execute(&sql).unwrap_err()
        });
        support::wait_for("the revert to wait", 300, || {
            let asked = "select 1 from pg_locks where not granted and relation = 'shop.customer'::regclass limit 1";
            (shop.db.psql(asked) == "1").then_some(())
        });
        shop.run(&["mark", "delete", "shop", "a"]).ok();
        shop.run(&["mark", "set", "shop", "a"]).ok();
        holds.batch_execute("commit").unwrap();
        waits.join().unwrap()
    });
    let said = waits.as_db_error().unwrap().message();
    assert!(
        said.starts_with("mark `a` was renamed or deleted while the rollback waited for its locks"),
        "{said}"
    );
    assert_eq!(content(&shop), before);
}

#[test]
fn an_update_that_changed_a_key_is_taken_back_whole_or_not_at_all() {
    let shop = shop();
    let before = content(&shop);
    shop.sql("update shop.node set id = 20 where id = 2");
    for key in ["id=2", "id=20"] {
        revert(&shop, &["--table", "shop.node", "--key", key, "--from", "a"]).ok();
        assert_eq!(content(&shop), before, "{key}");
        shop.run(&["rollback", "shop", "a", "-y", "--unlogged"]).ok();
        shop.sql("update shop.node set id = 20 where id = 2");
    }
    // The row has gone on from there; and another has come there.
    let first = transaction(&shop, "update shop.node set v = 'x', id = 30 where id = 20");
    let last = transaction(
        &shop,
        "update shop.node set up = null, id = 40 where id = 30; update shop.node set id = 20 where id = 1",
    );
    let after = content(&shop);
    for words in [
        &["--table", "shop.node", "--key", "id=2", "--from", "a"][..],
        &["--txid", &first, "--from", "a"],
    ] {
        for more in [&["--allow-later"][..], &["--dry-run"]] {
            let refused = revert(&shop, &[words, more].concat()).code(4);
            assert!(
                refused
                    .stderr
                    .contains("changed the key of one of these rows of shop.node"),
                "{refused}"
            );
            assert!(refused.stderr.contains(" --txid "), "{refused}");
            assert_eq!(content(&shop), after);
        }
    }
    revert(&shop, &["--txid", &last, "--from", "a"]).ok();
}

/// What a role is used to decides neither what a value is nor what is said.
#[test]
fn the_settings_of_a_role_change_no_answer() {
    let shop = shop();
    shop.sql(
        "create table shop.doc (id int primary key, v text, body xml); insert into shop.doc values (1, 'a', 'a<b/>')",
    );
    shop.run(&["install"]).ok();
    shop.run(&["mark", "set", "shop", "b"]).ok();
    let first = transaction(&shop, "update shop.doc set v = 'b' where id = 1");
    transaction(&shop, "update shop.doc set id = 2 where id = 1");
    transaction(&shop, "update shop.doc set v = 'c' where id = 2");
    let mut client = shop.db.client_as(&shop.owner);
    client
        .batch_execute("set xmloption = document; set array_nulls = off; set quote_all_identifiers = on")
        .unwrap();
    for call in [
        "emaj_check_revert_group('shop', 'b', $txid, null, null, null)",
        "emaj_revert_group('shop', 'b', $txid, null, null, null, true)",
    ] {
        let refused = client.batch_execute(&format!("select emaj.{}", call.replace("$txid", &first)));
        let said = refused.unwrap_err().as_db_error().unwrap().message().to_owned();
        assert!(
            said.contains("changed the key of one of these rows of shop.doc"),
            "{call}: {said}"
        );
    }
    let differ = "select string_agg(proname, ' ') from pg_proc
        where pronamespace = 'emaj'::regnamespace and 'extra_float_digits=1' = any (proconfig)
          and not proconfig @> array['IntervalStyle=postgres', 'DateStyle=ISO', 'TimeZone=UTC', 'xmloption=content', 'array_nulls=on', 'quote_all_identifiers=off']";
    assert_eq!(shop.db.psql(differ), "");
}

/// Nothing is left of a move whose other key is again what it was: then no half of it is taken back.
#[test]
fn a_row_that_went_to_another_key_and_came_back_is_taken_back() {
    let shop = shop();
    shop.sql("insert into shop.node values (7, null, 'seven'), (8, null, 'eight')");
    shop.run(&["mark", "set", "shop", "b"]).ok();
    let before = content(&shop);
    let wrong = || transaction(&shop, "update shop.node set v = 'wrong' where id = 7");
    let moved = |from: i32, to: i32| {
        transaction(
            &shop,
            &format!("update shop.node set id = {to}, v = v || '!' where id = {from}"),
        )
    };
    let is_taken_back = |number: &str| {
        let refused = revert(&shop, &["--txid", number]).code(4);
        assert!(
            refused.stderr.contains("others have changed 1 of these rows later"),
            "{refused}"
        );
        revert(&shop, &["--txid", number, "--allow-later"]).ok();
        assert_eq!(content(&shop), before);
    };
    for way in [&[7, 70, 7][..], &[7, 70, 71, 72, 7], &[7, 70, 7, 71, 7]] {
        let number = wrong();
        for step in way.windows(2) {
            moved(step[0], step[1]);
        }
        is_taken_back(&number);
        shop.run(&["rollback", "shop", "b", "-y", "--unlogged"]).ok();
    }
    // It went away, and was deleted there.
    let number = wrong();
    moved(7, 70);
    shop.sql("delete from shop.node where id = 70");
    is_taken_back(&number);
    shop.run(&["rollback", "shop", "b", "-y", "--unlogged"]).ok();

    // Who follows the hints gets there.
    let number = wrong();
    let numbers = [moved(7, 70), moved(70, 71)];
    for last in numbers.iter().rev() {
        let refused = revert(&shop, &["--txid", &number, "--allow-later"]).code(4);
        let hint = format!("`emaj revert shop --txid {last}`");
        assert!(refused.stderr.contains(&hint), "{hint}: {refused}");
        revert(&shop, &["--txid", last, "--allow-later"]).ok();
    }
    is_taken_back(&number);
    shop.run(&["rollback", "shop", "b", "-y", "--unlogged"]).ok();

    // Two rows have exchanged their keys; and another row has come, or one was there.
    for others in [
        &[
            "update shop.node set id = -1 where id = 7; update shop.node set id = 7 where id = 8; update shop.node set id = 8 where id = -1",
        ][..],
        &[
            "update shop.node set id = 70 where id = 7",
            "update shop.node set id = 7 where id = 8",
        ],
    ] {
        let number = wrong();
        let numbers: Vec<String> = others.iter().map(|sql| transaction(&shop, sql)).collect();
        let last = &numbers[numbers.len() - 1];
        let after = content(&shop);
        let refused = revert(&shop, &["--txid", &number, "--allow-later"]).code(4);
        assert!(
            refused
                .stderr
                .contains(&format!("transaction {last} of {} changed the key", shop.owner)),
            "{refused}"
        );
        assert_eq!(content(&shop), after);
        shop.run(&["rollback", "shop", "b", "-y", "--unlogged"]).ok();
    }
}

#[test]
fn a_time_in_a_key_is_that_of_the_session() {
    let manifest = MANIFEST
        .replace("shop.customer, shop.invoice", "shop.t")
        .replace("  audit: { tables: [shop.plain], rollback: false }\n", "");
    let shop = Shop::open(
        "create schema shop; create domain shop.moment as timestamptz; create table shop.t (at shop.moment, day date, v text, primary key (at, day));
         insert into shop.t values ('2026-01-01 05:00+00', '2026-03-02', 'early'), ('2026-01-01 00:00-05', '2026-02-03', 'other'), ('2026-01-01 05:00-05', '2026-03-02', 'late')",
        &manifest,
    );
    shop.run(&["mark", "set", "shop", "a"]).ok();
    shop.sql("update shop.t set v = v || '!'");
    let words = [
        "revert",
        "shop",
        "-y",
        "--table",
        "shop.t",
        "--key",
        "at=2026-01-01 05:00",
        "--key",
        "day=02/03/2026",
        "--from",
        "a",
    ];
    let session = |words: &[&str]| {
        shop.emaj(words)
            .env("PGTZ", "America/New_York")
            .env("PGDATESTYLE", "SQL, DMY")
            .run()
    };
    session(&words).ok();
    assert_eq!(
        shop.db.psql("select string_agg(v, ' ' order by v) from shop.t"),
        "early! late other!"
    );
    let refused = session(
        &words
            .map(|word| word.replace("05:00", "noon"))
            .each_ref()
            .map(String::as_str),
    )
    .code(4);
    assert!(
        refused.stderr.contains("is no shop.moment, as key column at"),
        "{refused}"
    );
}

/// What a cast would cut or round is the key of no row.
#[test]
fn a_key_that_is_too_long_for_its_type_is_that_of_no_other_row() {
    let tables = [
        ("varchar(3)", "abc", "abcdef"),
        ("char(2)", "ab", "abzz"),
        ("shop.code", "abc", "abcdef"),
        ("numeric(6,1)", "1.3", "1.26"),
        ("timestamp(0)", "2026-01-01 10:00:01", "2026-01-01 10:00:00.7"),
        ("bit(3)", "101", "10111"),
    ];
    let made: String = (0..)
        .zip(tables)
        .map(|(at, (kind, key, _))| {
            format!(
                "; create table shop.t{at} (k {kind} primary key, v int); insert into shop.t{at} values ('{key}', 1)"
            )
        })
        .collect();
    let manifest = MANIFEST
        .replace("shop.customer, shop.invoice", "shop.*")
        .replace("  audit: { tables: [shop.plain], rollback: false }\n", "");
    let shop = Shop::open(
        &format!("create schema shop; create domain shop.code as varchar(3){made}"),
        &manifest,
    );
    shop.run(&["mark", "set", "shop", "a"]).ok();
    for (at, (kind, key, long)) in tables.iter().enumerate() {
        let table = format!("shop.t{at}");
        shop.sql(&format!("update {table} set v = 2"));
        let back = |key: &str| revert(&shop, &["--table", &table, "--key", &format!("k={key}"), "--from", "a"]);
        let refused = back(long).code(4);
        assert!(
            refused.stderr.contains(&format!("`{long}` is no ")),
            "{kind}: {refused}"
        );
        assert_eq!(shop.db.psql(&format!("select v from {table}")), "2", "{kind}");
        back(key).ok();
        assert_eq!(shop.db.psql(&format!("select v from {table}")), "1", "{kind}");
    }
}

/// The log has the collation of the table's column: where that tells no cases apart, neither does who reads the log.
#[test]
fn a_key_in_another_case_is_the_same_row() {
    const TABLES: &str = "create schema shop; create collation shop.ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        create domain shop.code as text collate shop.ci;
        create table shop.t (k text collate shop.ci, c shop.code, v text collate shop.ci, w text collate \"C\", primary key (k, c));
        insert into shop.t values ('a', 'b', 'x', 'y'), ('c', 'd', 'x', 'y')";
    let manifest = MANIFEST.replace("shop.customer, shop.invoice", "shop.t");
    let shop = Shop::open(
        TABLES,
        &manifest.replace("  audit: { tables: [shop.plain], rollback: false }\n", ""),
    );
    shop.run(&["mark", "set", "shop", "a"]).ok();
    let deleted = transaction(&shop, "delete from shop.t where k = 'A'");
    let written = transaction(&shop, "insert into shop.t values ('A', 'B', 'X', 'y')");
    shop.sql("update shop.t set v = 'X' where k = 'c'");

    shop.on_path();
    let past = shop
        .run(&["at", "shop", "a", "select k, c, v from t order by k", "-o", "csv"])
        .ok();
    assert_eq!(past.stdout, "k,c,v\na,b,x\nc,d,x\n");
    let net = shop
        .run(&["changes", "shop", "--from", "a", "--what", "net", "-o", "sql"])
        .ok();
    assert_eq!(net.stdout.matches("update only shop.t set").count(), 2, "{net}");
    assert!(
        !net.stdout.contains("insert into shop") && !net.stdout.contains("delete from only shop"),
        "{net}"
    );
    assert!(net.stdout.contains("set v = 'X'::text where"), "{net}");

    let refused = revert(&shop, &["--txid", &deleted]).code(4);
    assert!(
        refused.stderr.contains("others have changed 1 of these rows later"),
        "{refused}"
    );
    revert(&shop, &["--txid", &written]).ok();
    assert_eq!(shop.db.psql("select k from shop.t"), "c");
    revert(&shop, &["--txid", &deleted, "--allow-later"]).ok();
    assert_eq!(
        shop.db.psql("select row(t)::text from shop.t order by k"),
        "(\"(a,b,x,y)\")\n(\"(c,d,X,y)\")"
    );

    // Another collation is another comparison.
    let guard = shop
        .db
        .psql("select rel_guard from emaj.emaj_relation where rel_name = 't'");
    shop.sql(&format!(
        "drop view emaj.{guard}; alter table shop.t alter v type text collate \"C\""
    ));
    let drift = shop.run(&["drift"]);
    assert!(
        drift
            .stdout
            .contains("the collation of column v is now \"C\" and was shop.ci"),
        "{drift}"
    );
    let plan = shop.run(&["plan"]);
    assert!(
        plan.stdout
            .contains("column v is text collate pg_catalog.\"C\" now and was text collate shop.ci"),
        "{plan}"
    );
    shop.run(&["install", "--allow-destroy"]).ok();
    shop.run(&["plan", "--detailed-exitcode"]).code(0);
    shop.run(&["drift"]).ok();
}

/// A statement may move many rows each to the key of the next: they are at one place in the WAL, and one after the other in it.
#[test]
fn a_row_of_a_statement_that_moved_others_to_its_keys_is_not_taken_back_by_halves() {
    let shop = Shop::open(
        "create schema s; create table s.next (id int primary key, v text); create table s.rows (id int primary key, v text);
         create table s.late (id int primary key deferrable, v text)",
        "version: 1\nroles: { admin: null, viewer: null }\ngroups:\n  g:\n    tables: [s.*]\n    table_options: { s.rows: { capture: row } }\n",
    );
    let content = |table: &str| {
        shop.db
            .psql(&format!("select string_agg(id || v, ' ' order by id) from s.{table}"))
    };
    for (table, order) in [("next", "desc"), ("rows", "desc"), ("late", "")] {
        shop.sql(&format!(
            "insert into s.{table} select g, 'd' || g from generate_series(1, 4) g order by g {order}"
        ));
        shop.run(&["mark", "set", "g", table]).ok();
        shop.sql(&format!("update s.{table} set id = id + 1"));
        let of = format!("s.{table}");
        let take = |id: &str| {
            shop.run(&[
                "revert",
                "g",
                "-y",
                "--from",
                table,
                "--table",
                &of,
                "--key",
                &format!("id={id}"),
            ])
        };
        // (In what order rows with deferred keys went nobody knows.)
        let refused = if table == "late" { 1..=5 } else { 3..=5 };
        for id in refused {
            let run = take(&id.to_string()).code(4);
            assert!(
                run.stderr.contains("half of that would be taken back"),
                "{table} {id}: {run}"
            );
            assert_eq!(content(table), "2d1 3d2 4d3 5d4", "{table} {id}");
        }
        // Where these two were nobody has come to since.
        if table != "late" {
            take("2").ok();
            assert_eq!(content(table), "1d1 2d2 4d3 5d4", "{table}");
        }
    }
}
