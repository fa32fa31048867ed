//! What a sink does not take: it is set aside by key, the others go on, and nothing of a key overtakes anything.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use emaj::journal::Cursor;

use super::{
    PEOPLE, PERSON, column, drain, install, items_to_hook, logins, people, prepare, set_aside, to_directory, worker,
};
use crate::operating::{address, ready};
use crate::support::receiver::{Answer, Receiver, status};
use crate::support::slapd::slapd;
use crate::support::{Chance, Database, Worker, database, scale, seed, until, wait_for};

#[test]
fn a_refused_row_heals_when_it_is_corrected() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    install(&db, &to_directory(&slapd, PEOPLE));
    // `mail` of a directory is ASCII.
    db.psql("insert into person values (1, 'ann', 'Ann', 'ann@exämple.org'), (2, 'bob', 'Bob', 'bob@example.org')");
    db.psql("update person set name = 'Bobby' where id = 2; update person set name = 'Anna' where id = 1");
    let run = drain(&db).run().code(3);
    assert!(run.stderr.contains("2 changes set aside"), "{run}");
    assert!(
        run.stderr.contains("id=people-") && !run.stderr.contains("[1]"),
        "a value of a row: {run}"
    );
    assert_eq!(people(&slapd), ["bob Bobby bob@example.org"], "the others go on");
    assert_eq!(set_aside(&db), ["people [1] never", "people [1] behind"]);
    drain(&db).run().code(3);
    let run = prepare(&db, &["failures", "retry", "--all"]).run().ok();
    assert!(run.stderr.contains("1 key will be tried again"), "{run}");
    drain(&db).run().code(3);
    assert_eq!(
        column(
            &db,
            "select fail_attempts::text from emaj.emaj_failure order by fail_id"
        )[0],
        "3"
    );
    // The row is corrected: no hand is needed any more.
    db.psql(
        "update person set mail = 'ann@example.org' where id = 1; insert into person values (3, 'cid', 'Cid', '漢@x')",
    );
    db.psql("delete from person where id = 3");
    drain(&db).run().ok();
    assert_eq!(
        people(&slapd),
        ["ann Anna ann@example.org", "bob Bobby bob@example.org"]
    );
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

#[test]
fn programs_get_a_record_of_what_was_done() {
    let db = database();
    db.psql("create table item (id int primary key, v int); insert into item values (1, 1)");
    install(
        &db,
        "version: 1\nroles: { admin: null, viewer: null }\ngroups: { g: { tables: [public.item] } }\n\
         sinks: { feed: { file: { path: feed.ndjson } } }\n\
         bindings: { items: { table: public.item, to: feed, message: { body: '{{ 1 / row.v }}' } } }\n",
    );
    let record = |args: &[&str]| prepare(&db, &[args, &["-o", "json"]].concat()).run().ok().stdout_json();
    let sent = r#"{"done":"sent","rows":1,"written":1,"pruned":0,"left_out":0,"set_aside":0}"#;
    assert_eq!(record(&["init"]).to_string(), sent);
    prepare(&db, &["mark", "set", "g", "m"]).run().ok();
    db.psql("insert into item values (2, null), (3, null), (4, 1)");
    drain(&db).run().code(3);
    let retried = r#"{"done":"retried","keys":2}"#;
    assert_eq!(record(&["failures", "retry", "--all"]).to_string(), retried);
    let discarded = r#"{"done":"discarded","changes":2}"#;
    assert_eq!(
        record(&["failures", "discard", "--all", "--yes"]).to_string(),
        discarded
    );
    let replayed = r#"{"sink":"feed","done":"replayed","group":"g","mark":"m"}"#;
    assert_eq!(
        record(&["replay", "feed", "--from", "m", "--yes"]).to_string(),
        replayed
    );
}

#[test]
fn people_are_shown_the_first_of_many() {
    let db = database();
    db.psql("create table item (id int primary key, v int)");
    let manifest = "version: 1\nroles: { admin: null, viewer: null }\nsinks: { out: { file: { path: out.ndjson } } }\n\
        bindings: { items: { table: public.item, to: out, message: { body: \"{{ 1 / row.v }}\" } } }\n";
    install(&db, manifest);
    db.psql("insert into item select g, null from generate_series(1, 103) g");
    drain(&db).run().code(3);
    for args in [["list", "--binding", "nobodys"], ["discard", "--binding", "nobodys"]] {
        let run = prepare(&db, &["failures"]).args(args).run().code(4);
        assert!(run.stderr.contains("no binding `nobodys` is installed"), "{run}");
    }
    let more = "these are 100 of 103 changes";
    for verb in ["list", "show"] {
        let run = prepare(&db, &["failures", verb]).run().ok();
        assert_eq!(run.stdout.lines().count(), 1 + 100, "{run}");
        assert!(run.stderr.contains(more) && run.stderr.contains("--limit"), "{run}");
        let run = prepare(&db, &["failures", verb, "--limit", "103"]).run().ok();
        assert_eq!(run.stdout.lines().count(), 1 + 103, "{run}");
        assert!(!run.stderr.contains("these are"), "{run}");
        let run = prepare(&db, &["-o", "csv", "failures", verb]).run().ok();
        assert_eq!(run.stdout.lines().count(), 1 + 103, "{run}");
        let run = prepare(&db, &["-o", "json", "failures", verb, "-n", "2"]).run().ok();
        assert!(run.stderr.contains("these are 2 of 103 changes"), "{run}");
    }
}

#[test]
fn a_long_queue_arrives_in_its_order() {
    let db = database();
    db.psql("create table item (id int primary key, v int)");
    let manifest = "version: 1\nroles: { admin: null, viewer: null }\nsinks: { out: { file: { path: out.ndjson } } }\n\
        bindings: { items: { table: public.item, to: out, message: { key: all, body: \"{{ 1 // row.v }} {{ row.id }}\" } } }\n";
    install(&db, manifest);
    db.psql("insert into item values (0, null)");
    db.psql("do $$ begin for i in 1..2500 loop insert into item values (i, 1); end loop; end $$");
    db.psql("insert into item values (2501, null); insert into item values (2502, 1)");
    drain(&db).run().code(3);
    let out = || std::fs::read_to_string(db.dir().join("out.ndjson")).unwrap_or_default();
    assert_eq!(out(), "", "all of it waits for the first");
    let discard = |id| prepare(&db, &["failures", "discard", id, "--yes"]).run().ok();
    discard("1");
    drain(&db).run().code(3);
    let in_order: String = (1..=2500).map(|id| format!("\"1 {id}\"\n")).collect();
    assert!(out() == in_order, "{}", out());
    assert_eq!(set_aside(&db), ["items [2501] never", "items [2502] behind"]);
    discard("2503");
    prepare(&db, &["failures", "retry", "--all"]).run().ok();
    drain(&db).run().code(3);
    assert_eq!(set_aside(&db), ["items [2501] never"]);
}

#[test]
fn a_worker_goes_on_beside_what_is_refused() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    install(&db, &to_directory(&slapd, PEOPLE));
    let worker = worker(&db).start();
    db.psql("insert into person values (1, 'ann', 'Ann', 'é')");
    db.psql("insert into person values (2, 'bob', 'Bob'), (3, 'cid', 'Cid')");
    wait_for("the others", 30, || (logins(&slapd) == ["bob", "cid"]).then_some(()));
    wait_for("the refused one", 30, || {
        (set_aside(&db) == ["people [1] never"]).then_some(())
    });
    db.psql("update person set mail = null where id = 1");
    wait_for("the corrected one", 30, || {
        (logins(&slapd) == ["ann", "bob", "cid"]).then_some(())
    });
    wait_for("nothing set aside", 30, || set_aside(&db).is_empty().then_some(()));
    assert_eq!(worker.stop(), Some(0));
}

/// However long it takes to try again what is due, of many rows or of one: what has come since has its turn between.
#[test]
fn what_comes_does_not_wait_for_all_that_is_tried_again() {
    for acts in [
        &["insert into item select generate_series(2, 240, 2)"][..],
        &[
            "insert into item values (2)",
            "do $$ begin for k in 1 .. 119 loop update item set n = k where id = 2; commit; end loop; end $$",
        ],
    ] {
        let healed = Arc::new(AtomicBool::new(false));
        let is_healed = Arc::clone(&healed);
        let receiver = Receiver::start(move |_, request| {
            let is_refused = request.body.parse::<i64>().is_ok_and(|id| id % 2 == 0);
            match (is_refused, is_healed.load(Ordering::Relaxed)) {
                (true, true) => Answer::Late(Duration::from_millis(50), 200),
                (true, false) => status(400),
                _ => status(200),
            }
        });
        let db = database();
        db.psql("create table item (id int primary key, n int)");
        install(&db, &items_to_hook(&receiver.url(), "{{ row.id }}"));
        // (A place that refuses all is taken for down.)
        db.psql("insert into item select generate_series(1, 239, 2)");
        for act in acts {
            db.psql(act);
        }
        drain(&db).run().code(3);
        assert_eq!(set_aside(&db).len(), 120);
        let before = receiver.got().len();
        healed.store(true, Ordering::Relaxed);
        prepare(&db, &["failures", "retry", "--all"]).run().ok();
        db.psql("insert into item values (1001)");
        drain(&db).run().ok();
        let arrived: Vec<String> = receiver.since(before).into_iter().map(|one| one.body).collect();
        assert_eq!(arrived.len(), 121);
        let place = arrived.iter().position(|id| id == "1001");
        assert!(place.is_some_and(|place| place < 120), "{arrived:?}");
    }
}

#[test]
fn a_refused_row_may_change_its_key_too() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    install(&db, &to_directory(&slapd, PEOPLE));
    db.psql("insert into person values (1, 'ann', 'Ann', 'é')");
    drain(&db).run().code(3);
    db.psql("update person set id = 2 where id = 1");
    db.psql("insert into person values (1, 'bob', 'Bob')");
    db.psql("update person set login = 'anna' where id = 2");
    drain(&db).run().code(3);
    assert_eq!(
        people(&slapd),
        [] as [&str; 0],
        "the new row 1 waits for the one that had its key"
    );
    db.psql("update person set mail = null where id = 2");
    drain(&db).run().ok();
    assert_eq!(people(&slapd), ["anna Ann", "bob Bob"]);
}

#[test]
fn what_was_tried_when_the_worker_was_killed_is_not_forgotten() {
    // Killed before the entry is made, and after it, but before that is on record.
    for (point, is_there) in [("retry.begun", false), ("retry.delivered", true)] {
        let (db, slapd) = (database(), slapd());
        db.psql(
            "create table person (id int primary key, login text);
             create function remark_of(id int) returns text language sql as $$select 'r' || id$$",
        );
        let bindings = "
  people:
    table: public.person
    to: directory
    entry:
      dn: \"uid={{ row.login }},ou=staff,dc=example,dc=org\"
      object_classes: [inetOrgPerson]
      attributes: { cn: \"{{ row.login }}\", sn: x, description: { query: \"select remark_of({{ row.id }})\" } }
";
        install(&db, &to_directory(&slapd, bindings));
        db.psql("insert into person values (1, 'ann')");
        drain(&db).run().code(3);
        slapd.modify("dn: ou=staff,dc=example,dc=org\nchangetype: add\nobjectClass: organizationalUnit\nou: staff\n");
        let staff = || slapd.names("ou=staff,dc=example,dc=org").len() - 1;
        assert_eq!(drain(&db).env("EMAJ_FAIL_AT", point).run().status, None, "{point}");
        assert_eq!(staff(), usize::from(is_there), "{point}");
        // It cannot be repeated at once, and the row goes meanwhile.
        let remark = |text: &str| {
            format!("create or replace function remark_of(id int) returns text language sql as $${text}$$")
        };
        db.psql(&format!(
            "{}; delete from person",
            remark("select 'r' || id / (id - id)")
        ));
        drain(&db).run().code(3);
        assert_eq!(set_aside(&db), ["people [1] never", "people [1] behind"], "{point}");
        db.psql(&remark("select 'r' || id"));
        prepare(&db, &["failures", "retry", "--all"]).run().ok();
        drain(&db).run().ok();
        assert_eq!((staff(), set_aside(&db).len()), (0, 0), "{point}");
    }
}

#[test]
fn a_name_that_is_null_is_set_aside_with_a_reason() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    install(&db, &to_directory(&slapd, PEOPLE));
    db.psql("insert into person values (1, null, 'Secret Name'), (2, 'bob', 'Bob')");
    drain(&db).run().code(3);
    assert_eq!(people(&slapd), ["bob Bob"]);
    let run = prepare(&db, &["failures", "list"]).run().ok();
    assert!(
        run.stdout.contains("binding `people`") && run.stdout.contains("null"),
        "{run}"
    );
    assert!(run.stdout.contains("dn"), "{run}");
    assert!(!run.stdout.contains("Secret Name"), "{run}");
    let run = prepare(&db, &["failures", "show"]).run().ok();
    assert!(run.stdout.contains("Secret Name"), "{run}");
    // Discarded and then corrected, it is as good as new; and it may go again.
    prepare(&db, &["failures", "discard", "--all", "--yes"]).run().ok();
    db.psql("update person set login = 'ann' where id = 1");
    drain(&db).run().ok();
    assert_eq!(people(&slapd), ["ann Secret Name", "bob Bob"]);
    db.psql("insert into person values (3)");
    drain(&db).run().code(3);
    prepare(&db, &["failures", "discard", "--all", "--yes"]).run().ok();
    db.psql("delete from person where id = 3");
    drain(&db).run().ok();
}

#[test]
fn a_template_that_fails_says_where_it_stands() {
    let db = database();
    db.psql("create table item (id int primary key, n int, m int)");
    install(
        &db,
        "version: 1
roles: { admin: null, viewer: null }
sinks: { lines: { file: { path: out.ndjson } } }
bindings:
  items:
    table: public.item
    to: lines
    when: 1 // row.n
    message:
      body: |
        {\"id\": {{ row.id }},
         \"rest\": {{ 10 // row.m }}}
",
    );
    db.psql("insert into item values (1, 1, 1), (2, 0, 7), (3, 1, 0)");
    let run = drain(&db).run().code(3);
    let said = "a row is set aside: `emaj failures list` says why, `emaj failures retry --all` has it tried again";
    assert_eq!(run.stderr.matches(said).count(), 2, "{run}");
    assert_eq!(run.stderr.matches("id=items-").count(), 2, "{run}");
    assert!(
        !run.stderr.contains("[2]") && !run.stderr.contains("[3]"),
        "a value of a row: {run}"
    );
    let failures = prepare(&db, &["failures", "list", "-o", "json"])
        .run()
        .ok()
        .stdout_json();
    let reason = |key: &str| {
        let all = failures.as_array().unwrap();
        all.iter().find(|failure| failure["key"] == key).unwrap()["reason"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let when = reason("[2]");
    assert!(
        when.starts_with("binding `items`: invalid operation: ") && when.ends_with(" (emaj.yaml:8:11)"),
        "{when}"
    );
    let body = reason("[3]");
    assert!(!body.contains("10 // 0"), "a value of the row: {body}");
    assert!(
        body.starts_with("binding `items`: invalid operation: ")
            && body.ends_with(" (line 2 of the template at emaj.yaml:11:9)"),
        "{body}"
    );
}

/// A service that refuses what holds `bad`, and messages for it.
fn messages(db: &Database) -> Receiver {
    db.psql("create table item (id int primary key, text text)");
    let receiver = Receiver::start(|_, request| status(if request.body.contains("bad") { 422 } else { 204 }));
    let body = "{{ event }} {{ row.id }} {{ old.text if old else '-' }} {{ row.text }}";
    install(db, &items_to_hook(&receiver.url(), body));
    receiver
}

/// What was taken.
fn taken(receiver: &Receiver) -> Vec<String> {
    let all = receiver.got().into_iter().map(|request| request.body);
    all.filter(|body| !body.contains("bad")).collect()
}

#[test]
fn messages_of_a_key_keep_their_order() {
    let db = database();
    let receiver = messages(&db);
    for text in ["one", "bad", "three", "four"] {
        db.psql(&format!(
            "insert into item values (1, '{text}') on conflict (id) do update set text = excluded.text"
        ));
    }
    db.psql("insert into item values (2, 'other')");
    drain(&db).run().code(3);
    let mut arrived = taken(&receiver);
    arrived.sort();
    assert_eq!(arrived, ["insert 1 - one", "insert 2 - other"]);
    assert_eq!(
        set_aside(&db),
        ["items [1] never", "items [1] behind", "items [1] behind"]
    );
    db.psql("update item set text = 'five' where id = 1");
    drain(&db).run().code(3);
    assert_eq!(taken(&receiver).len(), 2, "nothing overtakes");
    // It is discarded; the next one is refused as well, because it says what was before.
    let first = column(&db, "select min(fail_id)::text from emaj.emaj_failure").remove(0);
    prepare(&db, &["failures", "discard", &first, "--yes"]).run().ok();
    drain(&db).run().code(3);
    assert_eq!(
        set_aside(&db),
        ["items [1] never", "items [1] behind", "items [1] behind"]
    );
    let first = column(&db, "select min(fail_id)::text from emaj.emaj_failure").remove(0);
    prepare(&db, &["failures", "discard", &first, "--yes"]).run().ok();
    drain(&db).run().ok();
    assert_eq!(taken(&receiver)[2..], ["update 1 three four", "update 1 four five"]);
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

#[test]
fn messages_with_one_key_wait_for_each_other_in_every_window() {
    let db = database();
    db.psql(
        "create table item (id int primary key, team text, text text); create table note (id int primary key, team text)",
    );
    let mended = Arc::new(AtomicBool::new(false));
    let is_mended = Arc::clone(&mended);
    let receiver = Receiver::start(move |_, request| {
        let bad = request.body.contains("bad") && !is_mended.load(Ordering::SeqCst);
        status(if bad { 422 } else { 204 })
    });
    install(
        &db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks: {{ hook: {{ webhook: {{ url: \"{}\" }} }} }}\nbindings:\n  \
             items: {{ table: public.item, to: hook, message: {{ key: \"{{{{ row.team }}}}\", body: \"{{{{ row.text }}}}\" }} }}\n  \
             notes: {{ table: public.note, to: hook, message: {{ key: \"{{{{ row.team }}}}\", body: \"note {{{{ row.id }}}}\" }} }}\n",
            receiver.url()
        ),
    );
    // Each in a window of its own: another row, another table, a row that comes from another team, one that waits for that.
    for (sql, code) in [
        ("insert into item values (1, 'red', 'bad')", 3),
        ("insert into item values (2, 'red', 'two')", 3),
        ("insert into note values (1, 'red')", 3),
        ("update item set team = 'blue', text = 'two is blue' where id = 2", 3),
        ("insert into item values (3, 'blue', 'three')", 3),
        ("insert into item values (4, 'green', 'four')", 3),
        ("insert into item values (5, 'white', 'bad five')", 3),
        // It waits for both.
        (
            "update item set team = 'white', text = 'three is white' where id = 3",
            3,
        ),
        ("insert into item values (6, 'white', 'six')", 3),
    ] {
        db.psql(sql);
        drain(&db).run().code(code);
    }
    assert_eq!(taken(&receiver), ["four"], "nothing overtakes");
    assert_eq!(
        set_aside(&db),
        [
            "items [1] never",
            "items [2] behind",
            "notes [1] behind",
            "items [2] behind",
            "items [3] behind",
            "items [5] behind",
            "items [3] behind",
            "items [6] behind"
        ]
    );
    mended.store(true, Ordering::SeqCst);
    prepare(&db, &["failures", "retry", "--binding", "notes"]).run().ok();
    drain(&db).run().ok();
    let delivered: Vec<String> = receiver.got().into_iter().map(|request| request.body).collect();
    let first = delivered.len() - 8;
    assert_eq!(
        delivered[first..],
        [
            "bad",
            "two",
            "note 1",
            "two is blue",
            "three",
            "bad five",
            "three is white",
            "six"
        ]
    );
}

#[test]
fn a_running_worker_tries_again_on_request() {
    let db = database();
    db.psql("create table item (id int primary key, text text)");
    let mended = Arc::new(AtomicBool::new(false));
    let is_mended = Arc::clone(&mended);
    let receiver = Receiver::start(move |_, request| {
        let bad = request.body.contains("bad") && !is_mended.load(Ordering::SeqCst);
        status(if bad { 422 } else { 204 })
    });
    install(
        &db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks: {{ hook: {{ webhook: {{ url: \"{}\" }} }} }}\n\
             bindings: {{ items: {{ table: public.item, to: hook, events: [insert, update], message: {{ body: \"{{{{ row.text }}}}\" }} }} }}\n",
            receiver.url()
        ),
    );
    let worker = worker(&db).start();
    for text in ["bad one", "two", "three", "four"] {
        db.psql(&format!(
            "insert into item values (1, '{text}') on conflict (id) do update set text = excluded.text"
        ));
    }
    db.psql("delete from item; insert into item values (2, 'other')");
    wait_for("what is set aside", 30, || (set_aside(&db).len() >= 4).then_some(()));
    mended.store(true, Ordering::SeqCst);
    prepare(&db, &["failures", "retry", "--key", "[1]"]).run().ok();
    wait_for("nothing set aside", 30, || set_aside(&db).is_empty().then_some(()));
    let texts: Vec<String> = receiver
        .got()
        .into_iter()
        .map(|request| request.body)
        .filter(|text| text != "other")
        .collect();
    assert_eq!(texts, ["bad one", "bad one", "two", "three", "four"]);
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn what_may_pass_is_tried_again_by_itself() {
    let (db, slapd) = (database(), slapd());
    db.psql("create table member (id int primary key, team text, login text)");
    let bindings = "
  members:
    table: public.member
    to: directory
    value: { dn: \"cn={{ row.team }},ou=groups,dc=example,dc=org\", attribute: memberUid, value: \"{{ row.login }}\" }
";
    install(&db, &to_directory(&slapd, bindings));
    db.psql("insert into member values (1, 'red', 'ann'), (2, 'red', 'bob')");
    drain(&db).run().code(3);
    assert_eq!(set_aside(&db), ["members [1] later", "members [2] later"]);
    slapd.modify(
        "dn: cn=red,ou=groups,dc=example,dc=org\nchangetype: add\nobjectClass: posixGroup\ncn: red\ngidNumber: 7\n",
    );
    let worker = worker(&db).start();
    wait_for("the members", 60, || set_aside(&db).is_empty().then_some(()));
    assert_eq!(
        slapd.values("cn=red,ou=groups,dc=example,dc=org", "memberUid"),
        ["ann", "bob"]
    );
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn a_mass_deletion_stops_the_sink() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    install(
        &db,
        &to_directory(
            &slapd,
            &PEOPLE.replace("    entry:", "    max_deletes: 30%\n    entry:"),
        ),
    );
    db.psql("insert into person select n, 'p' || n, 'p' || n from generate_series(1, 20) n");
    drain(&db).run().ok();
    // (It is called otherwise by now.)
    db.psql("delete from person where id <= 3; alter table person rename to human");
    drain(&db).run().ok();
    assert_eq!(logins(&slapd).len(), 17);
    db.psql("delete from human where id <= 10; insert into human values (100, 'new', 'new')");
    let run = drain(&db).run().code(4);
    assert!(
        run.stderr.contains("binding `people` would delete 7") && run.stderr.contains("emaj sink resume"),
        "{run}"
    );
    drain(&db).run().code(4);
    assert_eq!(logins(&slapd).len(), 17, "nothing was delivered");
    let run = prepare(&db, &["sink", "list"]).run().ok();
    assert!(run.stdout.contains("stopped"), "{run}");
    prepare(&db, &["sink", "resume", "directory"]).run().ok();
    drain(&db).run().ok();
    assert_eq!(logins(&slapd).len(), 11);
    // That was for once.
    db.psql("delete from human");
    drain(&db).run().code(4);
    assert_eq!(logins(&slapd).len(), 11);
}

#[test]
fn a_mass_deletion_stops_a_worker_too() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    install(
        &db,
        &to_directory(&slapd, &PEOPLE.replace("    entry:", "    max_deletes: 2\n    entry:")),
    );
    let worker = worker(&db).args(["--listen", "127.0.0.1:0"]).start();
    db.psql("insert into person select n, 'p' || n, 'p' || n from generate_series(1, 5) n");
    wait_for("the entries", 30, || (logins(&slapd).len() == 5).then_some(()));
    db.psql("delete from person where id < 4");
    let stopped = || (column(&db, "select sink_state from emaj.emaj_sink") == ["STOPPED"]).then_some(());
    wait_for("the guard", 30, stopped);
    until_it_knows(&worker, "stopped");
    db.psql("insert into person values (6, 'six', 'six')");
    drain(&db).run().code(4);
    assert_eq!(logins(&slapd).len(), 5);
    prepare(&db, &["sink", "resume", "directory"]).run().ok();
    wait_for("what waited", 30, || {
        (logins(&slapd) == ["p4", "p5", "six"]).then_some(())
    });
    assert_eq!(worker.stop(), Some(0));
}

/// Waits until a worker says that the directory is in a state.
#[track_caller]
fn until_it_knows(worker: &Worker, state: &str) {
    let at = address(worker);
    until(&format!("the sink to be {state}"), || {
        ready(&at).1["sinks"]["directory"]["state"] == state
    });
}

#[test]
fn a_paused_sink_waits() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    install(&db, &to_directory(&slapd, PEOPLE));
    let worker = worker(&db).args(["--listen", "127.0.0.1:0"]).start();
    db.psql("insert into person values (1, 'ann', 'Ann')");
    wait_for("an entry", 30, || (logins(&slapd) == ["ann"]).then_some(()));
    prepare(&db, &["sink", "pause", "directory", "--because", "new disks"])
        .run()
        .ok();
    // A worker that is delivering ends its chunk.
    until_it_knows(&worker, "paused");
    db.psql("insert into person values (2, 'bob', 'Bob')");
    let run = drain(&db).run().code(4);
    assert!(
        run.stderr.contains("new disks") && run.stderr.contains("emaj sink resume directory"),
        "{run}"
    );
    let run = prepare(&db, &["sink", "lag"]).run().ok();
    assert!(run.stdout.contains("paused") && run.stdout.contains('1'), "{run}");
    assert_eq!(logins(&slapd), ["ann"]);
    prepare(&db, &["sink", "resume", "directory"]).run().ok();
    wait_for("what waited", 30, || (logins(&slapd) == ["ann", "bob"]).then_some(()));
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn a_key_that_comes_back_does_not_wait_for_those_that_once_waited_for_it() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    install(&db, &to_directory(&slapd, PEOPLE));
    db.psql("insert into person values (1, 'ann', 'n', 'a@x'), (10, 'bob', 'n', 'a@x')");
    drain(&db).run().ok();
    // The first row comes through after all, and leaves the second, which took a key of it, alone in its queue.
    for sql in [
        "update person set mail = 'é' where id = 1",
        "update person set id = 2 where id = 1",
        "update person set id = 3, mail = 'b@x' where id = 2",
        "update person set id = 2, mail = 'é' where id = 10",
    ] {
        db.psql(sql);
    }
    drain(&db).run().code(3);
    assert_eq!(set_aside(&db), ["people [2] never"]);
    db.psql("insert into person values (1, 'cid', 'n', 'é')");
    drain(&db).run().code(3);
    assert_eq!(set_aside(&db), ["people [2] never", "people [1] never"]);
    db.psql("update person set mail = 'c@x' where id = 1");
    drain(&db).run().code(3);
    assert_eq!(set_aside(&db), ["people [2] never"]);
    assert_eq!(logins(&slapd), ["ann", "bob", "cid"]);
}

#[test]
fn refusals_at_random_heal() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    install(&db, &to_directory(&slapd, PEOPLE));
    let seed = seed();
    println!("EMAJ_SEED={seed}");
    let mut chance = Chance::new(seed);
    let worker = worker(&db).start();
    let mut client = db.client();
    for number in 0..scale(600) {
        let id = chance.below(25);
        let mail = if chance.happens(30) { "é" } else { "a@x" };
        let sql = match chance.below(6) {
            0 | 1 => format!("insert into person values ({id}, 'l{number}', 'n', '{mail}') on conflict do nothing"),
            2 => format!("delete from person where id = {id}"),
            3 => format!("update person set login = 'r{number}', mail = '{mail}' where id = {id}"),
            4 => format!(
                "update person set id = {0}, mail = '{mail}' where id = {id} and not exists (select from person where id = {0})",
                chance.below(25)
            ),
            _ => format!("update person set mail = '{mail}' where id = {id}"),
        };
        client.batch_execute(&sql).unwrap();
        std::thread::sleep(Duration::from_millis(chance.below(8) as u64));
    }
    assert_eq!(worker.stop(), Some(0));
    drain(&db).run();
    println!("{} set aside", set_aside(&db).len());
    db.psql("update person set mail = null");
    drain(&db).run().ok();
    assert_eq!(
        logins(&slapd),
        column(&db, "select login from person order by login collate \"C\"")
    );
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

#[test]
fn order_is_kept_whatever_is_refused_and_killed() {
    let db = database();
    db.psql("create table item (id int primary key, version int)");
    let seed = seed();
    println!("EMAJ_SEED={seed}");
    let mut chance = Chance::new(seed);
    let decide = Mutex::new(chance.clone());
    let refused = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&refused);
    let arrived = Arc::new(Mutex::new(Vec::<String>::new()));
    let taken = Arc::clone(&arrived);
    let receiver = Receiver::start(move |_, request| {
        let answer = *decide
            .lock()
            .unwrap()
            .pick(&[204, 204, 204, 204, 204, 204, 204, 204, 422, 500]);
        match answer {
            204 => taken.lock().unwrap().push(request.body.clone()),
            _ => _ = count.fetch_add(1, Ordering::SeqCst),
        }
        status(answer)
    });
    install(&db, &items_to_hook(&receiver.url(), "{{ row.id }} {{ row.version }}"));
    db.psql("insert into item select n, 0 from generate_series(1, 8) n");
    for _ in 0..scale(4) {
        let worker = worker(&db).start();
        for _ in 0..30 {
            db.client()
                .batch_execute(&format!(
                    "update item set version = version + 1 where id = {}",
                    chance.below(8) + 1
                ))
                .unwrap();
        }
        std::thread::sleep(Duration::from_millis(chance.below(500) as u64));
        worker.kill();
    }
    for _ in 0..200 {
        if drain(&db).run().status == Some(0) {
            break;
        }
        prepare(&db, &["failures", "retry", "--all"]).run().ok();
    }
    assert_eq!(set_aside(&db), [] as [&str; 0]);
    assert!(refused.load(Ordering::SeqCst) > 5);
    let arrived = arrived.lock().unwrap().clone();
    for row in db.client().query("select id, version from item", &[]).unwrap() {
        let (id, last): (i32, i32) = (row.get(0), row.get(1));
        let mut first_seen = Vec::new();
        for body in &arrived {
            let (of, version) = body.split_once(' ').unwrap();
            if of == id.to_string() && !first_seen.contains(&version.to_owned()) {
                first_seen.push(version.to_owned());
            }
        }
        let expected: Vec<String> = (0..=last).map(|version| version.to_string()).collect();
        assert_eq!(first_seen, expected, "item {id}");
    }
}

#[test]
fn a_look_reads_nothing_of_what_is_set_aside_and_not_due() {
    let db = database();
    db.psql("create table item (id int primary key)");
    install(
        &db,
        "version: 1\nroles: { admin: null, viewer: null }\nsinks: { lines: { file: { path: out.ndjson } } }\n\
         bindings: { items: { table: public.item, to: lines, message: {} } }\n",
    );
    db.psql(
        "insert into emaj.emaj_failure (fail_sink, fail_binding, fail_key, fail_queue, fail_keys, fail_state, fail_change, fail_retry)
         select 'lines', 'items', n::text, n::text, array[n::text], case when n % 2 = 0 then 'NEVER' else 'LATER' end, '{}',
                case when n % 2 = 1 then now() + '1 day' end
           from generate_series(1, 10000) as n;
         analyze emaj.emaj_failure",
    );
    let mut client = db.client();
    let sink = client
        .query_one("select sink_id from emaj.emaj_sink", &[])
        .unwrap()
        .get(0);
    let mut looked_at = |is_due: bool| -> i64 {
        let mut transaction = client.transaction().unwrap();
        let look = Cursor::new("emaj", sink).look(&mut transaction, None).unwrap().unwrap();
        assert_eq!(look.is_due, is_due);
        let read = "select coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) from pg_stat_xact_user_tables where relname = 'emaj_failure'";
        transaction.query_one(read, &[]).unwrap().get(0)
    };
    assert_eq!(looked_at(false), 0);
    db.psql("update emaj.emaj_failure set fail_retry = now() where fail_key = '4711'");
    let read = looked_at(true);
    assert!(read <= 1, "{read} were read to find one");
}

/// A worker that tries a queue of the six messages `1` to `6`, and waits for the answer to the first.
fn in_the_middle_of_a_queue(then: impl FnOnce(&Database)) -> (Database, Vec<String>) {
    let db = database();
    db.psql("create table item (id int primary key)");
    let (is_well, is_held) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(true)));
    let receiver = Receiver::start({
        let (is_well, is_held) = (Arc::clone(&is_well), Arc::clone(&is_held));
        move |_, _| {
            if !is_well.load(Ordering::Relaxed) {
                return status(422);
            }
            while is_held.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(10));
            }
            status(204)
        }
    });
    install(&db, &one_queue(&receiver.url(), "{{ row.id }}"));
    db.psql("insert into item select generate_series(1, 6)");
    drain(&db).run().code(3);
    let refused = receiver.got().len();
    is_well.store(true, Ordering::Relaxed);
    prepare(&db, &["failures", "retry", "--sink", "hook"]).run().ok();
    let worker = worker(&db).start();
    wait_for("the first to be tried", 30, || receiver.since(refused).pop());
    then(&db);
    is_held.store(false, Ordering::Relaxed);
    wait_for("the end of the queue", 30, || set_aside(&db).is_empty().then_some(()));
    assert_eq!(worker.stop(), Some(0));
    let bodies = receiver.since(refused).into_iter().map(|request| request.body);
    (db, bodies.collect())
}

/// A manifest that sends a message for each row of `item`, all of one key.
fn one_queue(url: &str, body: &str) -> String {
    items_to_hook(url, body).replace("message: {", "message: { key: all,")
}

#[test]
fn what_is_discarded_while_its_queue_is_tried_does_not_arrive() {
    let (_, arrived) = in_the_middle_of_a_queue(|db| {
        prepare(db, &["failures", "discard", "5", "6", "2", "--yes"]).run().ok();
    });
    assert_eq!(arrived, ["1", "3", "4"]);
}

#[test]
fn a_queue_that_is_tried_is_told_as_an_installation_says_meanwhile() {
    let (_, arrived) = in_the_middle_of_a_queue(|db| {
        let manifest = std::fs::read_to_string(db.dir().join("emaj.yaml")).unwrap();
        install(db, &manifest.replace("{{ row.id }}", "new {{ row.id }}"));
        // (It is asked for once a second.)
        std::thread::sleep(Duration::from_millis(1100));
    });
    assert_eq!(arrived, ["1", "new 2", "new 3", "new 4", "new 5", "new 6"]);
}
