//! `emaj init`: the rows that were there before, beside writers and workers, killed and gone on with.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{
    PEOPLE, PERSON, column, drain, install, items_to_hook, logins, people, prepare, set_aside, to_directory, worker,
    writes,
};
use crate::reliability::named_points::uri;
use crate::support::receiver::{Receiver, status};
use crate::support::slapd::{Slapd, slapd};
use crate::support::{Database, database, owner, scale, until, wait_for};

/// A directory that does not wait for the disk and keeps no log.
fn quick_slapd() -> Slapd {
    Slapd::with("dbnosync\n", false)
}

fn rows(db: &Database, count: usize) {
    db.psql(&format!(
        "insert into person select n, 'p' || n, 'p' || n from generate_series(1, {count}) n"
    ));
}

#[track_caller]
fn same(db: &Database, slapd: &Slapd) {
    let (there, wanted) = (
        logins(slapd),
        column(db, "select login from person order by login collate \"C\""),
    );
    assert!(there == wanted, "{} entries for {} rows", there.len(), wanted.len());
}

#[test]
fn a_second_run_writes_nothing() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    rows(&db, 1000);
    install(&db, &to_directory(&slapd, PEOPLE));
    slapd.modify("dn: uid=p7,ou=people,dc=example,dc=org\nchangetype: add\nobjectClass: inetOrgPerson\nuid: p7\ncn: other\nsn: other\ntelephoneNumber: 112\n");
    let run = prepare(&db, &["init", "emaj.yaml", "--dry-run"]).run().ok();
    assert_eq!(run.stdout.matches("changetype: add").count(), 999, "{}", run.stderr);
    assert!(people(&slapd) == ["p7 other"], "a dry run writes nothing");
    let run = prepare(&db, &["init", "emaj.yaml"]).run().ok();
    assert!(
        run.stderr.contains("sent 1,000 rows") || run.stderr.contains("sent 1000 rows"),
        "{run}"
    );
    same(&db, &slapd);
    assert_eq!(
        slapd.values("uid=p7,ou=people,dc=example,dc=org", "telephoneNumber"),
        ["112"]
    );
    let before = writes(&slapd);
    // (An add of what is there is refused by the server, and that is how the sink finds out.)
    let state = slapd.dump();
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    assert!(slapd.dump() == state, "{} writes", writes(&slapd) - before);
    drain(&db).run().ok();
    assert!(slapd.dump() == state);
}

#[test]
fn ldapmodify_takes_what_a_dry_run_shows() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    rows(&db, 3);
    let notes = "  notes:
    table: public.person
    to: directory
    value: { dn: \"uid={{ row.login }},ou=nowhere,dc=example,dc=org\", attribute: description, value: note }
";
    install(&db, &to_directory(&slapd, &format!("{PEOPLE}{notes}")));
    slapd.modify("dn: uid=p2,ou=people,dc=example,dc=org\nchangetype: add\nobjectClass: inetOrgPerson\nuid: p2\ncn: other\nsn: other\n");
    let shown = prepare(&db, &["init", "emaj.yaml", "--dry-run"]).run().ok().stdout;
    assert_eq!(shown.matches("# uid=p").count(), 3, "what waits is a comment: {shown}");
    slapd.modify(&shown);
    let state = slapd.dump();
    prepare(&db, &["init", "emaj.yaml", "--binding", "people"]).run().ok();
    assert!(slapd.dump() == state, "nothing was left to do");
    same(&db, &slapd);
}

#[test]
fn writers_and_a_worker_go_on() {
    let (db, slapd) = (database(), quick_slapd());
    db.psql(PERSON);
    let count = scale(6_000);
    rows(&db, count);
    install(&db, &to_directory(&slapd, PEOPLE));
    let worker = worker(&db).start();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = db.client();
            let mut number = 0;
            while !over.load(Ordering::Relaxed) {
                number += 1;
                let id = number * 37 % count as i32 + 1;
                client
                    .batch_execute(&format!(
                        "update person set login = 'q' || id, name = 'n{number}' where id = {id};
                         delete from person where id = {};
                         insert into person values ({}, 'new{number}', 'new')",
                        number * 101 % count as i32 + 1,
                        count as i32 + number,
                    ))
                    .unwrap();
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        prepare(&db, &["init", "emaj.yaml"]).run().ok();
        over.store(true, Ordering::Relaxed);
    });
    // The worker has it back.
    db.psql("insert into person values (-1, 'last', 'last')");
    wait_for("the last one", 60, || {
        slapd.entry("uid=last,ou=people,dc=example,dc=org")
    });
    // (What is about other people goes beside it, and may come later.)
    wait_for("the others", 60, || {
        let wanted = column(&db, "select login from person order by login collate \"C\"");
        (logins(&slapd) == wanted).then_some(())
    });
    assert_eq!(set_aside(&db), [] as [&str; 0]);
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn beside_a_worker_with_nothing_to_do_it_has_its_turn() {
    let (db, slapd) = (database(), quick_slapd());
    db.psql(PERSON);
    rows(&db, 40);
    install(&db, &to_directory(&slapd, PEOPLE));
    let worker = worker(&db).start();
    wait_for("the worker", 30, || {
        (db.psql("select count(sink_worker) from emaj.emaj_sink") == "1").then_some(())
    });
    let run = prepare(&db, &["init", "emaj.yaml"]).run().ok();
    assert!(run.to_string().contains("sent 40 rows"), "{run}");
    let expected = column(&db, "select login from person order by login collate \"C\"");
    assert_eq!(logins(&slapd), expected);
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn killed_it_goes_on_where_it_was() {
    let (db, slapd) = (database(), quick_slapd());
    db.psql(PERSON);
    // With EMAJ_LONG=100 it is a million.
    let count = scale(12_000);
    rows(&db, count);
    install(&db, &to_directory(&slapd, PEOPLE));
    let init = prepare(&db, &["init", "emaj.yaml"]).start();
    wait_for("the first rows", 120, || {
        let done = column(&db, "select bind_init_done::text from emaj.emaj_binding");
        (done != ["0"]).then_some(())
    });
    init.kill();
    db.psql("update person set name = 'changed' where id % 100 = 0; delete from person where id % 100 = 1");
    let done: usize = column(&db, "select bind_init_done::text from emaj.emaj_binding")[0]
        .parse()
        .unwrap();
    let run = prepare(&db, &["init", "emaj.yaml"]).run().ok();
    let sent: String = run.stderr.chars().filter(char::is_ascii_digit).collect();
    assert!(
        done > 0 && !sent.starts_with(&count.to_string()),
        "the second run sends the rest only: {run}"
    );
    drain(&db).run().ok();
    same(&db, &slapd);
    assert_eq!(slapd.values("uid=p100,ou=people,dc=example,dc=org", "sn"), ["changed"]);
}

/// A table with a column of each sort that a binding may copy, or may not.
const SORTS: &str = "create type mood as enum ('so so', 'fine');
    create table plain (a int, b text, m mood, at timestamptz, f bool, n numeric(20,4), j json, jb jsonb, x bytea, primary key (b, a));
    create table arrays (id int primary key, words text[], f bool)";

/// Two databases with the tables of `SORTS`, rows in the first one, and a manifest that copies them.
fn two_databases(rows: usize) -> (Database, Database) {
    let (db, copy) = (database(), database());
    db.psql(SORTS);
    copy.psql(SORTS);
    db.psql(&format!(
        "insert into plain select n, e'k\\t' || n % 7, case when n % 3 = 0 then 'so so' else 'fine' end::mood, now() - n * interval '1 h', n % 2 = 0, n / 7.0,
                case n % 3 when 0 then 'null' when 1 then '{{ \"a\" : 1.50 }}' end::json, case n % 4 when 0 then 'null' else '\"x\"' end::jsonb,
                decode(lpad(to_hex(n), 8, '0'), 'hex') from generate_series(1, {rows}) n;
         insert into arrays select n, array['a b', null, n::text], n % 2 = 0 from generate_series(1, {rows}) n"
    ));
    install(
        &db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks: {{ copy: {{ postgres: {{ uri: \"{}\" }} }} }}\nbindings:\n  \
             plain: {{ table: public.plain, to: copy, row: {{}} }}\n  arrays: {{ table: public.arrays, to: copy, row: {{}} }}\n",
            uri(&copy)
        ),
    );
    (db, copy)
}

/// What both databases have to say the same of.
fn contents(db: &Database) -> Vec<String> {
    let all = "select concat_ws('|', a, b, m, at, f, n, case when json_typeof(j) <> 'null' then j end, nullif(jb, 'null'), x) from plain
               union all select arrays::text from arrays";
    let mut rows = column(db, all);
    rows.sort();
    rows
}

fn done(db: &Database, binding: &str) -> usize {
    let query = format!("select bind_init_done::text from emaj.emaj_binding where bind_name = '{binding}'");
    column(db, &query)[0].parse().unwrap()
}

#[test]
fn rows_of_which_nothing_is_made_are_copied_and_a_second_run_writes_nothing() {
    let (db, copy) = two_databases(9_000);
    let run = prepare(&db, &["init", "emaj.yaml"]).run().ok();
    assert!(
        run.stderr.contains("18,000 rows: 18000 written") || run.stderr.contains("18000 written"),
        "{run}"
    );
    assert!(contents(&copy) == contents(&db));
    assert_eq!((done(&db, "plain"), done(&db, "arrays")), (9_000, 9_000));
    let run = prepare(&db, &["init", "emaj.yaml"]).run().ok();
    assert!(run.stderr.contains(": 0 written"), "{run}");
    // Some are there, one is another one, the others are new.
    copy.psql("delete from plain where a between 1200 and 1300 or a > 7000; update plain set n = 0 where a = 1; delete from arrays where id > 10");
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    assert!(contents(&copy) == contents(&db));
    db.psql("update plain set f = not f where a < 10; delete from arrays where id < 5");
    drain(&db).run().ok();
    assert!(contents(&copy) == contents(&db));
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

#[test]
fn a_part_that_was_copied_is_on_record_before_the_next_one() {
    let (db, copy) = two_databases(9_000);
    let init = || prepare(&db, &["init", "emaj.yaml", "--binding", "plain"]);
    // The first part shows how wide the rows are; all others fit into the second one.
    for (point, noted, arrived) in [("init.delivered:2", 1000, "9000"), ("init.noted", 1000 + 1000, "9000")] {
        let killed = init().env("EMAJ_FAIL_AT", point).run();
        assert_eq!(killed.status, None, "{point}: {killed}");
        assert_eq!(
            (done(&db, "plain"), copy.psql("select count(*) from plain")),
            (noted, arrived.to_owned()),
            "{point}"
        );
    }
    init().run().ok();
    assert_eq!(done(&db, "plain"), 9_000);
    let same = "select count(*), sum(n) from plain";
    assert_eq!(copy.psql(same), db.psql(same));
}

#[test]
fn a_row_that_is_refused_is_set_aside_and_the_others_arrive() {
    let (db, copy) = two_databases(50);
    copy.psql("alter table plain add check (a <> 7); alter table plain add unique (a)");
    let run = prepare(&db, &["init", "emaj.yaml", "--binding", "plain"]).run();
    assert_eq!(
        run.status,
        Some(emaj::errors::Kind::PartlyDone.exit_code().into()),
        "{run}"
    );
    assert_eq!(set_aside(&db), ["plain [\"k\\t0\", 7] never"]);
    assert_eq!(copy.psql("select count(*) from plain"), "49");
    // Once more, the others are there: it waits as it is, once.
    let again = || {
        let run = prepare(&db, &["init", "emaj.yaml", "--binding", "plain"]).run();
        assert_eq!(copy.psql("select count(*) from plain"), "49");
        assert!(!run.stderr.contains("the others were there"), "{run}");
        run
    };
    let run = again();
    assert!(run.stderr.contains("1 change set aside"), "{run}");
    assert_eq!(set_aside(&db), ["plain [\"k\\t0\", 7] never"]);
    // As another row it waits behind that one; so again as it was.
    for (rows, n) in [(2, "5"), (2, "5"), (3, "6")] {
        db.psql(&format!("alter table plain disable trigger user; update plain set n = {n} where a = 7; alter table plain enable trigger user"));
        again();
        assert_eq!(set_aside(&db).len(), rows, "{n}");
    }
}

#[test]
fn rows_that_are_hidden_are_an_error_in_a_copy_too() {
    let (db, copy) = (database(), database());
    copy.psql("create table t (id int primary key)");
    let owner = owner(&db);
    db.psql(&format!(
        "create table t (id int primary key); insert into t select generate_series(1, 200); alter table t owner to {}",
        owner.name()
    ));
    let manifest = format!(
        "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks: {{ copy: {{ postgres: {{ uri: \"{}\" }} }} }}\nbindings: {{ t: {{ table: public.t, to: copy, row: {{}} }} }}\n",
        uri(&copy)
    );
    std::fs::write(db.dir().join("emaj.yaml"), manifest).unwrap();
    let run = |args: &[&str]| prepare(&db, args).user(owner.name()).run();
    run(&["install", "emaj.yaml"]).ok();
    db.psql("alter table t enable row level security; alter table t force row level security; create policy few on t using (id % 100 = 0)");
    let hidden = run(&["init", "emaj.yaml"]);
    assert!(
        hidden.status != Some(0) && hidden.stderr.contains("row level security"),
        "{hidden}"
    );
    assert_eq!(copy.psql("select count(*) from t"), "0");
    db.psql("alter table t no force row level security");
    run(&["init", "emaj.yaml"]).ok();
    assert_eq!(copy.psql("select count(*) from t"), "200");
}

#[test]
fn a_second_one_names_the_first_and_waits_as_long_as_it_is_told() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    rows(&db, 20);
    install(&db, &to_directory(&slapd, PEOPLE));
    let hold = db.dir().join("hold");
    let mut first = prepare(&db, &["init", "emaj.yaml"])
        .env("EMAJ_FAIL_AT", "init.delivered")
        .env("EMAJ_FAIL_HOLD", hold.to_str().unwrap())
        .start();
    wait_for("the first one", 60, || hold.exists().then_some(()));
    let noted = "select concat_ws(' ', bind_init, bind_init_key, bind_init_done) from emaj.emaj_binding";
    let before = column(&db, noted);
    for args in [
        &["init", "emaj.yaml"][..],
        &["init", "emaj.yaml", "--restart", "--prune"],
        &[
            "replay",
            "directory",
            "--group",
            "emaj.bindings",
            "--from",
            "m",
            "--yes",
        ],
    ] {
        let run = prepare(&db, args).run().code(11);
        assert!(
            run.stderr
                .contains("another `emaj init` or `emaj replay` has taken over sink `directory`"),
            "{run}"
        );
        assert!(run.stderr.contains("in the way: process "), "{run}");
        assert!(
            run.stderr.contains("(emaj directory)") && run.stderr.contains(", there for "),
            "{run}"
        );
    }
    assert_eq!(column(&db, noted), before, "nothing was changed");
    let mut second = prepare(&db, &["init", "emaj.yaml", "--wait", "5min"]).start();
    until("the second one to wait", || db.waits_for_a_lock());
    std::fs::remove_file(hold).unwrap();
    wait_for("both", 60, || {
        (!first.is_running() && !second.is_running()).then_some(())
    });
    assert!(second.log().contains("sent 20 rows"), "{}", second.log());
    same(&db, &slapd);
}

#[test]
fn one_that_is_interrupted_says_that_it_goes_on() {
    let db = database();
    db.psql(PERSON);
    rows(&db, 3000);
    install(
        &db,
        "version: 1\nroles: { admin: null, viewer: null }\nsinks: { lines: { file: { path: out.ndjson } } }\n\
         bindings: { people: { table: public.person, to: lines, message: {} } }\n",
    );
    let run = prepare(&db, &["init", "emaj.yaml"])
        .run_held("init.delivered", db.dir(), |pid| {
            let sent = std::process::Command::new("kill")
                .args(["-INT", &pid.to_string()])
                .status();
            assert!(sent.unwrap().success());
            std::thread::sleep(std::time::Duration::from_millis(300));
        })
        .code(130);
    assert!(run.stderr.contains("interrupted; what was sent is sent"), "{run}");
    assert!(run.stderr.contains("hint: `emaj init` goes on where it was"), "{run}");
}

#[test]
fn rows_are_read_in_the_snapshot_that_ends_the_window_or_behind_another_one() {
    let db = database();
    db.psql("create table item (id int primary key, n int)");
    install(
        &db,
        "version: 1\nroles: { admin: null, viewer: null }\nsinks: { lines: { file: { path: out.ndjson } } }\n\
         bindings: { items: { table: public.item, to: lines, message: { body: '{{ event }} {{ row.id }} {{ row.n }}' } } }\n",
    );
    db.psql("insert into item select n, 0 from generate_series(1, 9500) n");
    let hold = db.dir().join("hold");
    let mut init = prepare(&db, &["init", "emaj.yaml"])
        .env("EMAJ_FAIL_AT", "chunk.fetched:2")
        .env("EMAJ_FAIL_HOLD", hold.to_str().unwrap())
        .start();
    wait_for("the middle of the window", 60, || hold.exists().then_some(()));
    // Not in the window. A snapshot is held for ten seconds; the rest of the window is read in another one.
    db.psql("update item set n = 1 where id = 9000");
    std::thread::sleep(Duration::from_millis(10_500));
    std::fs::remove_file(hold).unwrap();
    let code = wait_for("its end", 120, || init.ended());
    assert_eq!(code, 0, "{}", init.log());
    drain(&db).run().ok();
    let text = std::fs::read_to_string(db.dir().join("out.ndjson")).unwrap();
    let told: Vec<&str> = text
        .lines()
        .filter(|line| line.contains(" 9000 "))
        .map(|line| line.trim_matches('"'))
        .collect();
    assert_eq!(told, ["insert 9000 0", "update 9000 1", "init 9000 1"]);
}

#[test]
fn a_worker_says_which_init_is_not_finished() {
    let db = database();
    db.psql("create table item (id int primary key); create table other (id int primary key)");
    db.psql("insert into item select generate_series(1, 1500); insert into other values (1); analyze item");
    install(
        &db,
        "version: 1\nroles: { admin: null, viewer: null }\nsinks: { lines: { file: { path: out.ndjson } }, others: { file: { path: others.ndjson } } }\n\
         bindings:\n  items: { table: public.item, to: lines, message: {} }\n  others: { table: public.other, to: others, message: {} }\n",
    );
    // Nobody wants the rows that were there: everything is delivered.
    drain(&db).run().ok();
    let killed = prepare(&db, &["init", "emaj.yaml", "--binding", "items"])
        .env("EMAJ_FAIL_AT", "init.noted")
        .run();
    assert_eq!(killed.status, None, "{killed}");
    assert_eq!(done(&db, "items"), 1000);
    let doctor = prepare(&db, &["doctor", "emaj.yaml"]).run();
    assert!(
        doctor.stdout.contains("`emaj init` of binding `items` is not finished"),
        "{doctor}"
    );
    let told = "`emaj init` of binding `items` is not finished: 1000 of about 1500 rows are sent";
    let next = "`emaj init --binding items` sends the rest";
    let run = drain(&db).run().code(3);
    let began = format!("WARN {told}; {next} sink=lines");
    assert!(run.stderr.contains(&began), "{run}");
    assert!(
        run.stderr.contains(&format!("warning: {told}\nhint: {next}\n")),
        "{run}"
    );
    let worker = worker(&db).start();
    wait_for("word of it", 30, || worker.log().contains(&began).then_some(()));
    assert_eq!(worker.stop(), Some(0));
    // Another sink's rows are another matter, and so is a sink that is sent to at this moment.
    prepare(&db, &["init", "emaj.yaml", "--binding", "others"]).run().ok();
    prepare(&db, &["run", "emaj.yaml", "--until-empty", "--sink", "others"])
        .run()
        .ok();
    let hold = db.dir().join("hold");
    let mut init = prepare(&db, &["init", "emaj.yaml", "--binding", "items"])
        .env("EMAJ_FAIL_AT", "init.delivered")
        .env("EMAJ_FAIL_HOLD", hold.to_str().unwrap())
        .start();
    wait_for("the init", 60, || hold.exists().then_some(()));
    let beside = prepare(&db, &["run", "emaj.yaml"]).start();
    wait_for("word of that", 30, || {
        beside
            .log()
            .contains("`emaj init` of binding `items` is under way: ")
            .then_some(())
    });
    std::fs::remove_file(hold).unwrap();
    wait_for("the init's end", 60, || (!init.is_running()).then_some(()));
    assert_eq!(beside.stop(), Some(0));
    drain(&db).run().ok();
}

#[test]
fn a_dry_run_names_the_rows_of_which_nothing_can_be_made_and_shows_the_others() {
    let db = database();
    db.psql("create table item (id int primary key, price numeric); insert into item select n, nullif(n % 2, 0) from generate_series(1, 60) n");
    install(
        &db,
        "version: 1\nroles: { admin: null, viewer: null }\nsinks: { lines: { file: { path: out.ndjson } } }\nbindings:\n  \
         items: { table: public.item, to: lines, message: { body: '{\"n\": {{ row.id }}, \"price\": {{ row.price / 1 }}}' } }\n",
    );
    let run = prepare(&db, &["init", "emaj.yaml", "--dry-run"]).run().code(3);
    assert_eq!(run.stdout.lines().count(), 30, "{run}");
    assert_eq!(
        run.stderr
            .matches(" of binding `items` is left out: invalid operation")
            .count(),
        20,
        "{run}"
    );
    assert!(
        run.stderr.contains("row [2] of") && run.stderr.contains("and 10 more"),
        "{run}"
    );
    assert!(run.stderr.contains("30 changes would be sent"), "{run}");
    // The run itself sets aside what the dry run named.
    prepare(&db, &["init", "emaj.yaml"]).run().code(3);
    assert_eq!(set_aside(&db).len(), 30);
}

/// A manifest that copies a table of the same name to another database, and writes it to a file.
fn to_both(copy: &Database, table: &str) -> String {
    format!(
        "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks:\n  copy: {{ postgres: {{ uri: \"{}\" }} }}\n  lines: {{ file: {{ path: out.ndjson }} }}\n\
         bindings:\n  copied: {{ table: public.{table}, to: copy, row: {{}} }}\n  written: {{ table: public.{table}, to: lines, row: {{}} }}\n",
        uri(copy)
    )
}

#[test]
fn with_another_primary_key_it_begins_anew() {
    let (db, copy) = (database(), database());
    for db in [&db, &copy] {
        db.psql("create table item (id int primary key, place int not null)");
    }
    db.psql("insert into item select n, 1501 - n from generate_series(1, 1500) n");
    install(&db, &to_both(&copy, "item"));
    let init = || prepare(&db, &["init", "emaj.yaml", "--binding", "copied"]);
    let killed = init().env("EMAJ_FAIL_AT", "init.noted").run();
    assert_eq!(killed.status, None, "{killed}");
    assert_eq!(copy.psql("select count(*) from item"), "1000");
    db.psql("alter table item drop constraint item_pkey, add primary key (place)");
    prepare(&db, &["install", "emaj.yaml"]).run().ok();
    copy.psql("alter table item drop constraint item_pkey, add primary key (place)");
    // What is behind 1000 is not what was behind it.
    let run = init().run().ok();
    assert!(run.stderr.contains("the table has another primary key now"), "{run}");
    assert_eq!(copy.psql("select count(*) from item"), "1500");
    assert_eq!(done(&db, "copied"), 1500);
}

/// Held where a part of the old form has arrived and is not on record.
#[test]
fn an_install_meanwhile_has_all_rows_sent_in_the_new_form() {
    let (db, copy) = (database(), database());
    db.psql("create table item (id int primary key, v text); insert into item select n, 'x' from generate_series(1, 3000) n");
    copy.psql("create table item (id int primary key, v text)");
    let form = |form: &str| {
        format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks: {{ copy: {{ postgres: {{ uri: \"{}\" }} }} }}\n\
             bindings: {{ items: {{ table: public.item, to: copy, row: {{ columns: {{ id: row.id, v: \"'{form}'\" }} }} }} }}\n",
            uri(&copy)
        )
    };
    install(&db, &form("old"));
    let sending = prepare(&db, &["init", "emaj.yaml"]).run_held("init.delivered", db.dir(), |_| {
        db.file("emaj.yaml", &form("new"));
        prepare(&db, &["install", "emaj.yaml"]).run().ok();
    });
    // It sends what it was told to send, and that is not what is installed.
    assert!(sending.status != Some(0), "{sending}");
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    assert_eq!(column(&copy, "select distinct v from item"), ["new"]);
    assert_eq!(copy.psql("select count(*) from item"), "3000");
}

#[test]
fn a_place_that_was_made_anew_meanwhile_gets_all_rows() {
    let (db, copy) = two_databases(3_000);
    let init = || prepare(&db, &["init", "emaj.yaml", "--binding", "plain"]);
    let killed = init().env("EMAJ_FAIL_AT", "init.noted").run();
    assert_eq!(killed.status, None, "{killed}");
    copy.psql("drop schema emaj_received cascade; truncate plain");
    init().run().ok();
    assert_eq!(copy.psql("select count(*) from plain"), "3000");
}

#[test]
fn a_table_without_a_key_is_refused_before_anything_is_wanted() {
    let (db, copy) = two_databases(5);
    db.psql("alter table arrays drop constraint arrays_pkey");
    let run = prepare(&db, &["init", "emaj.yaml"]).run().code(4);
    assert!(run.stderr.contains("table public.arrays has no primary key"), "{run}");
    assert_eq!(
        column(
            &db,
            "select bind_name from emaj.emaj_binding where bind_init is not null"
        ),
        [] as [&str; 0]
    );
    prepare(&db, &["init", "emaj.yaml", "--binding", "plain"]).run().ok();
    assert_eq!(copy.psql("select count(*) from plain"), "5");
}

#[test]
fn keys_that_json_says_in_another_way() {
    for (id, key, value) in [
        ("array", "int[]", "array[n % 7, n, null]"),
        ("pair", "pair", "row(n % 5, 'a\" ,b' || n)::pair"),
        ("jsonb", "jsonb", "to_jsonb('x' || n)"),
        ("array_of_texts", "text[]", "array[e'\\\\\\t{\"' || n, 'ü']"),
    ] {
        let (db, copy) = (database(), database());
        for db in [&db, &copy] {
            db.psql("create type pair as (x int, y text)");
            db.psql(&format!("create table item (id {key}, n int, primary key (id, n))"));
        }
        db.psql(&format!(
            "insert into item select {value}, n from generate_series(1, 2500) n"
        ));
        install(&db, &to_both(&copy, "item"));
        let run = prepare(&db, &["init", "emaj.yaml"]).run().ok();
        assert!(
            run.stderr.contains("sent 5,000 rows") || run.stderr.contains("sent 5000 rows"),
            "{id}: {run}"
        );
        let all = "select count(*), md5(string_agg(item::text, ' ' order by n)) from item";
        assert_eq!(copy.psql(all), db.psql(all), "{id}");
        let lines = std::fs::read_to_string(db.dir().join("out.ndjson")).unwrap();
        assert_eq!(lines.lines().count(), 2500, "{id}");
    }
}

/// A worker that lets the snapshot of a long window go has none to read the rows in: of such windows there may be one after the other.
#[test]
fn writers_as_fast_as_the_sink_do_not_keep_the_rows_waiting() {
    let (db, copy) = (database(), database());
    for side in [&db, &copy] {
        side.psql("create table small (id int primary key); create table busy (id int primary key, pad text)");
    }
    // The first row of each thousand takes longer than a snapshot is held otherwise.
    copy.psql(
        "create function slow() returns trigger language plpgsql as $$ begin if new.id % 1000 = 1 then perform pg_sleep(11); end if; return new; end $$;
         create trigger slow before insert on busy for each row execute function slow()",
    );
    db.psql("insert into small values (1)");
    install(
        &db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks: {{ copy: {{ postgres: {{ uri: \"{}\" }} }} }}\nbindings:\n  \
             small: {{ table: public.small, to: copy, row: {{}} }}\n  busy: {{ table: public.busy, to: copy, row: {{}} }}\n",
            uri(&copy)
        ),
    );
    let write = |window: usize| {
        db.psql(&format!(
            "insert into busy select {window} * 1000 + n, repeat('x', 20000) from generate_series(1, 900) n"
        ));
    };
    write(0);
    let mut init = prepare(&db, &["init", "emaj.yaml", "--binding", "small"]).start();
    for window in 1..4 {
        let begun = format!("select 'it' from emaj.emaj_sink where sink_window = {window}");
        wait_for("the window, or the end", 300, || {
            (!init.is_running() || !column(&db, &begun).is_empty()).then_some(())
        });
        if init.is_running() {
            write(window);
        }
    }
    wait_for("the end", 300, || (!init.is_running()).then_some(()));
    assert!(init.log().contains("sent 1 row"), "{}", init.log());
    assert_eq!(copy.psql("select count(*) from small"), "1");
    let windows: usize = db.psql("select sink_window from emaj.emaj_sink").parse().unwrap();
    assert!(windows <= 2, "{windows} windows");
}

/// Who knows events by their ids drops what he has got, and nothing else.
#[test]
fn a_row_has_another_id_when_it_is_another_one() {
    let db = database();
    db.psql("create table item (id int primary key, text text); insert into item values (1, 'a'), (2, 'b')");
    let receiver = Receiver::start(|_, _| status(204));
    let manifest = items_to_hook(&receiver.url(), "{{ row.text }}");
    install(&db, &manifest);
    let mut known = 0;
    let mut ids = || {
        prepare(&db, &["init", "emaj.yaml", "--binding", "items"]).run().ok();
        let got = receiver.since(known);
        known += got.len();
        let mut ids: Vec<(String, String)> = got
            .iter()
            .map(|request| (request.body.clone(), request.header("webhook-id").to_owned()))
            .collect();
        ids.sort();
        ids
    };
    let first = ids();
    assert_eq!(first.len(), 2);
    assert_eq!(ids(), first, "the same rows");
    db.psql("update item set text = 'c' where id = 1");
    drain(&db).run().ok();
    let changed: Vec<(String, String)> = ids().into_iter().filter(|(text, _)| text != "c").collect();
    assert_eq!(changed, first[1..], "the row that is the same");
    let told = ids();
    install(&db, &manifest.replace("{{ row.text }}", "{{ row.text }}!"));
    let otherwise = ids();
    for (one, other) in [(&told, &first), (&otherwise, &told)] {
        assert!(
            one.iter()
                .all(|(text, id)| *text == "b" || other.iter().all(|(_, known)| known != id))
        );
    }
    assert!(
        otherwise
            .iter()
            .all(|(_, id)| told.iter().all(|(_, known)| known != id)),
        "told in another way"
    );
}
