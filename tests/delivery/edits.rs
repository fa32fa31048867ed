//! The manifest and the tables change: what is on its way stays right. A rollback is followed like any other change.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::Duration;

use serde_json::Value;

use super::{PEOPLE, PERSON, column, drain, install, people, prepare, set_aside, to_directory, worker, writes};
use crate::reliability::lines;
use crate::support::receiver::{Receiver, status};
use crate::support::rows::sink_into;
use crate::support::slapd::{Slapd, slapd};
use crate::support::{database, shared_cluster, until, wait_for};

#[test]
fn bindings_come_change_and_go() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    install(&db, &to_directory(&slapd, PEOPLE));
    db.psql("insert into person values (1, 'ann', 'Ann', 'ann@x', 'note')");
    drain(&db).run().ok();

    // Changed: what is not delivered yet goes the new way.
    db.psql("insert into person values (2, 'bob', 'Bob', 'bob@x', 'note')");
    let changed = PEOPLE.replace("mail: \"{{ row.mail }}\"", "mail: \"{{ row.login }}@new.org\"");
    install(&db, &to_directory(&slapd, &changed));
    drain(&db).run().ok();
    assert_eq!(people(&slapd), ["ann Ann ann@x", "bob Bob bob@new.org"]);
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    assert_eq!(people(&slapd), ["ann Ann ann@new.org", "bob Bob bob@new.org"]);

    // Added: from now on; `init` sends what is there.
    let added = format!(
        "{changed}
  notes:
    table: public.person
    to: directory
    value: {{ dn: \"uid={{{{ row.login }}}},ou=people,dc=example,dc=org\", attribute: description, value: \"{{{{ row.note }}}}\" }}
"
    );
    install(&db, &to_directory(&slapd, &added));
    db.psql("update person set note = 'new' where id = 2");
    drain(&db).run().ok();
    let description = |login: &str| slapd.values(&format!("uid={login},ou=people,dc=example,dc=org"), "description");
    assert_eq!(
        (description("ann"), description("bob")),
        (vec![], vec!["new".to_owned()])
    );
    prepare(&db, &["init", "emaj.yaml", "--binding", "notes"]).run().ok();
    assert_eq!(description("ann"), ["note"]);

    // A worker of the old manifest does not deliver what it does not know.
    std::fs::write(db.dir().join("old.yaml"), to_directory(&slapd, PEOPLE)).unwrap();
    let run = prepare(&db, &["run", "old.yaml", "--until-empty"]).run();
    assert!(
        run.status != Some(0) && run.stderr.contains("not what this manifest says"),
        "{run}"
    );

    // Removed: nothing of it is delivered any more; the entries stay.
    install(&db, &to_directory(&slapd, &changed));
    db.psql("update person set note = 'newest', name = 'Robert' where id = 2");
    drain(&db).run().ok();
    assert_eq!(
        (description("bob"), people(&slapd)[1].as_str()),
        (vec!["new".to_owned()], "bob Robert bob@new.org")
    );
    // Installed once more, nothing changes.
    let run = prepare(&db, &["plan", "emaj.yaml", "--detailed-exitcode"]).run().ok();
    assert_eq!(run.status, Some(0));
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

/// What the bindings of the next test are by turns: of the web service's, of the file's, and of one that comes and goes.
const EDITS: &[(&str, &str, bool)] = &[
    ("{}", "{}", false),
    ("{}", "{}", true),
    ("{ type: second }", "{}", true),
    ("{ type: second }", "{ type: second }", false),
    ("{ key: '{{ row.id % 3 }}' }", "{ type: second }", true),
    ("{}", "{ type: third }", false),
];

fn edited(url: &str, (hook, lines, more): (&str, &str, bool)) -> String {
    let more = if more {
        "  more: { table: public.item, to: more, message: {} }\n"
    } else {
        ""
    };
    format!(
        "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks:\n  hook: {{ webhook: {{ url: \"{url}\", batch: 10, timeout: 600 }} }}\n  \
         lines: {{ file: {{ path: lines.ndjson }} }}\n  more: {{ file: {{ path: more.ndjson }} }}\nbindings:\n  \
         hook: {{ table: public.item, to: hook, message: {hook} }}\n  lines: {{ table: public.item, to: lines, message: {lines} }}\n{more}"
    )
}

/// Has the writers end, also where the test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The rows that events tell of; each event is there once.
#[track_caller]
fn told(events: &[Value]) -> Vec<i64> {
    let ids: BTreeSet<_> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), events.len(), "an event came twice");
    let mut rows: Vec<_> = events
        .iter()
        .map(|event| event["data"]["row"]["id"].as_i64().unwrap())
        .collect();
    rows.sort_unstable();
    rows
}

#[test]
fn edits_beside_writers_and_a_worker_lose_nothing_and_repeat_nothing() {
    let db = database();
    db.psql("create table item (id bigserial primary key)");
    let receiver = Receiver::start(|_, _| status(204));
    let in_file = |name: &str| told(&lines(&db.dir().join(name)));
    install(&db, &edited(&receiver.url(), EDITS[0]));
    let mut worker = worker(&db).start();
    let (over, written) = (AtomicBool::new(false), AtomicUsize::new(0));
    // While the third binding is there beyond doubt, these are written.
    let (is_there, surely) = (RwLock::new(false), Mutex::new(BTreeSet::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut client = db.client();
                while !over.load(Ordering::Relaxed) {
                    let is_there = is_there.read().unwrap();
                    let row = client
                        .query_one("insert into item default values returning id", &[])
                        .unwrap();
                    if *is_there {
                        surely.lock().unwrap().insert(row.get::<_, i64>(0));
                    }
                    drop(is_there);
                    written.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(3));
                }
            });
        }
        let _ends = Ends(&over);
        for edit in EDITS {
            // (What writers wrote since is not delivered to a binding that goes.)
            db.file("emaj.yaml", &edited(&receiver.url(), *edit));
            prepare(&db, &["install", "--allow-destroy"]).run().ok();
            // A sink to which nothing was bound before is not looked at.
            worker.hang_up();
            *is_there.write().unwrap() = edit.2;
            let before = written.load(Ordering::Relaxed);
            wait_for("writers", 300, || {
                (written.load(Ordering::Relaxed) > before + 60).then_some(())
            });
            *is_there.write().unwrap() = false;
            // What of a binding is on its way when it goes does not arrive.
            wait_for("what is on its way", 300, || {
                let there: BTreeSet<i64> = in_file("more.ndjson").into_iter().collect();
                there.is_superset(&surely.lock().unwrap()).then_some(())
            });
        }
    });
    assert!(worker.is_running(), "{}", worker.log());
    assert_eq!(worker.stop(), Some(0));
    drain(&db).run().ok();
    let all: Vec<i64> = (1..=i64::try_from(written.into_inner()).unwrap()).collect();
    assert_eq!(in_file("lines.ndjson"), all, "each row once in the file");
    let posted = receiver.got().into_iter().filter(|request| request.method == "POST");
    let posted: Vec<Value> = posted
        .flat_map(|request| request.json().as_array().unwrap().clone())
        .collect();
    assert_eq!(told(&posted), all, "each row once at the web service");
    let more = in_file("more.ndjson");
    assert!(more.is_sorted_by(|one, next| one < next), "a row came twice");
    assert!(more.len() < all.len(), "the binding was there all the time");
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

#[test]
fn tables_and_columns_are_renamed_and_added() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    install(&db, &to_directory(&slapd, PEOPLE));
    db.psql("insert into person values (1, 'ann', 'Ann', 'ann@x')");
    drain(&db).run().ok();
    // The application is ahead of the manifest.
    db.psql("alter table person rename to human");
    db.psql("insert into human values (2, 'bob', 'Bob')");
    drain(&db).run().ok();
    assert_eq!(people(&slapd), ["ann Ann ann@x", "bob Bob"]);
    db.psql("alter table human add born date; alter table human rename column name to full_name");
    db.psql("update human set full_name = 'Robert' where id = 2");
    drain(&db).run().ok();
    assert_eq!(people(&slapd), ["ann Ann ann@x", "bob Robert"]);
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    assert_eq!(people(&slapd), ["ann Ann ann@x", "bob Robert"]);
    // The manifest follows, with changes on their way.
    db.psql("update human set full_name = 'Anna', born = '2000-01-01' where id = 1");
    let followed = PEOPLE
        .replace("public.person", "public.human")
        .replace("row.name", "row.full_name")
        .replace(
            "mail: \"{{ row.mail }}\"",
            "mail: \"{{ row.mail }}\", employeeNumber: \"{{ row.born }}\"",
        );
    install(&db, &to_directory(&slapd, &followed));
    drain(&db).run().ok();
    db.psql("insert into human values (3, 'cid', 'Cid', null, null, '1999-09-09')");
    drain(&db).run().ok();
    assert_eq!(people(&slapd), ["ann Anna ann@x", "bob Robert", "cid Cid"]);
    assert_eq!(
        slapd.values("uid=cid,ou=people,dc=example,dc=org", "employeeNumber"),
        ["1999-09-09"]
    );
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

#[test]
fn a_rollback_is_followed() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    let manifest = |group: &str| {
        to_directory(&slapd, PEOPLE).replace(
            "sinks:",
            &format!("groups: {{ {group}: {{ tables: [public.person] }} }}\nsinks:"),
        )
    };
    install(&db, &manifest("staff"));
    db.psql("insert into person values (1, 'ann', 'Ann'), (2, 'bob', 'Bob')");
    prepare(&db, &["mark", "set", "staff", "monday"]).run().ok();
    drain(&db).run().ok();
    for more in [&["--yes"][..], &["--yes", "--unlogged"]] {
        db.psql("delete from person where id = 1");
        db.psql("update person set login = 'rob', name = 'Rob' where id = 2");
        db.psql("insert into person values (3, 'cid', 'Cid')");
        // Half of it is delivered before.
        drain(&db).run().ok();
        assert_eq!(people(&slapd), ["cid Cid", "rob Rob"]);
        db.psql("insert into person values (4, 'dan', 'Dan')");
        prepare(&db, &[&["rollback", "staff", "monday"][..], more].concat())
            .run()
            .ok();
        drain(&db).run().ok();
        assert_eq!(people(&slapd), ["ann Ann", "bob Bob"], "{more:?}");
    }
    // The table moves to another group, with a change on its way.
    db.psql("insert into person values (5, 'eve', 'Eve')");
    std::fs::write(db.dir().join("emaj.yaml"), manifest("people")).unwrap();
    prepare(&db, &["install", "emaj.yaml", "--allow-destroy"]).run().ok();
    db.psql("insert into person values (6, 'fay', 'Fay')");
    drain(&db).run().ok();
    assert_eq!(people(&slapd), ["ann Ann", "bob Bob", "eve Eve", "fay Fay"]);
    prepare(&db, &["mark", "set", "people", "tuesday"]).run().ok();
    db.psql("truncate person");
    drain(&db).run().ok();
    assert_eq!(people(&slapd), [] as [&str; 0]);
    prepare(&db, &["rollback", "people", "tuesday", "--yes"]).run().ok();
    drain(&db).run().ok();
    assert_eq!(people(&slapd), ["ann Ann", "bob Bob", "eve Eve", "fay Fay"]);
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

#[test]
fn delivered_again_from_a_mark() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    let groups = "groups: { staff: { tables: [public.person] } }\nsinks:";
    install(&db, &to_directory(&slapd, PEOPLE).replace("sinks:", groups));
    prepare(&db, &["mark", "set", "staff", "monday"]).run().ok();
    db.psql("insert into person values (1, 'ann', 'Ann'), (2, 'bob', 'Bob')");
    db.psql("update person set name = 'Anna' where id = 1");
    let worker = worker(&db).start();
    wait_for("the entries", 30, || {
        (people(&slapd) == ["ann Anna", "bob Bob"]).then_some(())
    });
    // Somebody restored an old copy of the directory.
    slapd.modify("dn: uid=ann,ou=people,dc=example,dc=org\nchangetype: delete\n");
    let before = writes(&slapd);
    prepare(&db, &["replay", "directory", "--from", "monday", "--yes"])
        .run()
        .ok();
    wait_for("the entry again", 30, || {
        (people(&slapd) == ["ann Anna", "bob Bob"]).then_some(())
    });
    assert!(writes(&slapd) > before);
    let run = prepare(&db, &["replay", "directory", "--from", "sunday", "--yes"])
        .run()
        .code(4);
    assert!(run.stderr.contains("no mark `sunday`"), "{run}");
    assert_eq!(worker.stop(), Some(0));
}

/// How many writes the directory took: what it refused because it was done already changed nothing.
fn written(slapd: &Slapd) -> usize {
    let took = |tag: &str| slapd.log().matches(&format!(" RESULT tag={tag} err=0 ")).count();
    ["103", "105", "107", "109"].map(took).iter().sum()
}

#[test]
fn a_directory_that_is_told_again_never_sees_an_old_state() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    let groups = "groups: { staff: { tables: [public.person] } }\nsinks:";
    install(&db, &to_directory(&slapd, PEOPLE).replace("sinks:", groups));
    prepare(&db, &["mark", "set", "staff", "monday"]).run().ok();
    for sql in [
        "insert into person (id, login, name) values (1, 'ann', 'Ann'), (2, 'bob', 'Bob'), (3, 'cid', 'Cid')",
        "update person set mail = 'b@x', login = 'anne' where id = 1",
        "update person set mail = null where id = 1",
        "update person set mail = 'c@x', login = 'anna' where id = 1",
        "update person set name = 'Rob' where id = 2",
        "delete from person where id = 2",
        "delete from person where id = 3; insert into person values (3, 'sid', 'Sid')",
    ] {
        db.psql(sql);
        drain(&db).run().ok();
    }
    let replay = || {
        prepare(&db, &["replay", "directory", "--from", "monday", "--yes"])
            .run()
            .ok();
        let before = written(&slapd);
        drain(&db).run().ok();
        assert_eq!(people(&slapd), ["anna Ann c@x", "sid Sid"]);
        assert_eq!(set_aside(&db), [] as [&str; 0]);
        written(&slapd) - before
    };
    assert_eq!(replay(), 0, "all is as it should be");
    // A copy of any day in between was restored.
    slapd.modify("dn: uid=anna,ou=people,dc=example,dc=org\nchangetype: modrdn\nnewrdn: uid=anne\ndeleteoldrdn: 1\n");
    slapd.modify("dn: uid=bob,ou=people,dc=example,dc=org\nchangetype: add\nobjectClass: inetOrgPerson\nuid: bob\ncn: Rob\nsn: Rob\n");
    slapd.modify("dn: uid=sid,ou=people,dc=example,dc=org\nchangetype: delete\n");
    assert_eq!(replay(), 4, "each entry that is wrong, and nothing else");
    // What comes after the replay comes as ever.
    db.psql("update person set login = 'ann' where id = 1; update person set login = 'annie' where id = 1");
    drain(&db).run().ok();
    assert_eq!(people(&slapd), ["annie Ann c@x", "sid Sid"]);
    // A row that got another key: in order, as it was.
    db.psql("update person set id = 10 where id = 1");
    drain(&db).run().ok();
    prepare(&db, &["replay", "directory", "--from", "monday", "--yes"])
        .run()
        .ok();
    drain(&db).run().ok();
    assert_eq!(people(&slapd), ["annie Ann c@x", "sid Sid"]);
    assert_eq!(
        column(&db, "select 'over' from emaj.emaj_sink where sink_replay is null"),
        ["over"]
    );
}

#[test]
fn messages_say_what_happened_and_only_what_is_wanted() {
    let db = database();
    db.psql("create table item (id int primary key, name text, price numeric, note text)");
    install(
        &db,
        "version: 1
roles: { admin: null, viewer: null }
sinks: { lines: { file: { path: out.ndjson } } }
bindings:
  prices:
    table: public.item
    to: lines
    events: [update, delete]
    columns: [price]
    message: { body: '{\"what\": \"{{ event }}\", \"was\": \"{{ old.price }}\", \"is\": \"{{ row.price }}\", \"of\": \"{{ row.name }}\"}' }
",
    );
    db.psql("insert into item values (1, 'nut', 1.10, 'x')");
    db.psql("update item set note = 'y'");
    db.psql("update item set price = 12345678901234567890.12345");
    db.psql("update item set price = null, name = 'bolt'");
    db.psql("delete from item");
    drain(&db).run().ok();
    let text = std::fs::read_to_string(db.dir().join("out.ndjson")).unwrap();
    let told: Vec<String> = text
        .lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let body = line.get("body").cloned().unwrap_or(line);
            let body: serde_json::Value = match body.as_str() {
                Some(text) => serde_json::from_str(text).unwrap(),
                None => body,
            };
            ["what", "was", "is", "of"]
                .map(|name| body[name].as_str().unwrap_or("?").to_owned())
                .join(" ")
        })
        .collect();
    assert_eq!(
        told,
        [
            "update 1.1 12345678901234567890.12345 nut",
            "update 12345678901234567890.12345  bolt",
            "delete   bolt"
        ]
    );
}

#[test]
fn what_a_sink_misses_is_said_with_what_brings_it_up_to_date() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    let rows = "
  rows: { table: public.person, to: lines, row: {} }
  logins: { table: public.person, to: lines, row: { columns: { id: row.id, login: row.login } } }
";
    let manifest = to_directory(&slapd, &(PEOPLE.to_owned() + rows))
        .replace("bindings:", "  lines: { file: { path: out.ndjson } }\nbindings:");
    install(&db, &manifest);
    db.psql("insert into person values (1, 'ann', 'Ann'), (2, 'bob', 'Bob'), (3, 'cid', 'Cid')");
    drain(&db).run().ok();

    // Released, changed, and taken back.
    let said = prepare(&db, &["release", "public.person", "--yes"]).run().ok().stderr;
    for command in ["emaj init --binding people --prune", "emaj init --binding rows`"] {
        assert!(said.contains(command), "{said}");
    }
    assert!(
        said.contains("sink `directory` (binding `people`)") && said.contains("sink `lines` (binding `rows`)"),
        "{said}"
    );
    db.psql("delete from person where id = 1; update person set name = 'Rob' where id = 2; insert into person values (4, 'dan', 'Dan')");
    let run = drain(&db).run().code(3);
    for binding in [
        "sink `directory` (binding `people`)",
        "sink `lines` (binding `logins`)",
        "sink `lines` (binding `rows`)",
    ] {
        let never =
            format!("warning: table public.person is not captured: what changes in it never arrives at {binding}");
        assert!(run.stderr.contains(&never), "{run}");
    }
    assert!(run.stderr.contains("hint: `emaj install` takes the table in"), "{run}");
    let note = "table public.person was not captured for a while: what was changed in it meanwhile never reaches sinks `directory`, `lines` \
                (binding `logins`, `people`, `rows`); once this is installed, `emaj init --binding logins`, `emaj init --binding people --prune`, \
                `emaj init --binding rows` bring that up to date";
    for verb in ["plan", "install"] {
        let said = prepare(&db, &[verb, "emaj.yaml"]).run().ok().stderr;
        assert!(said.contains(note), "{said}");
    }
    drain(&db).run().ok();
    assert_eq!(people(&slapd), ["ann Ann", "bob Bob", "cid Cid"]);
    prepare(&db, &["init", "emaj.yaml", "--binding", "people", "--prune"])
        .run()
        .ok();
    assert_eq!(people(&slapd), ["bob Rob", "cid Cid", "dan Dan"]);

    // A column that has values before it is captured: who delivers it is named, and nobody else.
    db.psql("alter table person add phone text default '112'; update person set phone = '113' where id = 2");
    let said = prepare(&db, &["install", "emaj.yaml"]).run().ok().stderr;
    let note = "table public.person: what is in `phone` already never reaches sink `lines` (binding `rows`), only what is written from now on; once this \
                is installed, `emaj init --binding rows` brings that up to date";
    assert!(said.contains(note) && !said.contains("`people`"), "{said}");

    // Somebody switched the capture off.
    db.psql("alter table person disable trigger user; delete from person where id = 3");
    let broken = prepare(&db, &["install", "emaj.yaml", "--allow-destroy"])
        .run()
        .ok()
        .stderr;
    assert!(
        broken.contains("was not captured for a while") && broken.contains("`emaj init --binding people --prune`"),
        "{broken}"
    );

    // Nothing is missing: nothing is said.
    db.psql("insert into person values (5, 'eve', 'Eve')");
    let said = prepare(&db, &["install", "emaj.yaml"]).run().ok().stderr;
    assert!(!said.contains("emaj init"), "{said}");
}

#[test]
fn rows_of_partitions_that_came_or_went_are_said_to_be_missed() {
    let (db, there) = (database(), database());
    db.psql(
        "create table ev (id int primary key, note text) partition by range (id);
         create table ev_1 partition of ev for values from (0) to (10);
         create table ev_2 partition of ev for values from (10) to (20);
         create table ev_3 (id int primary key, note text); create table ev_4 (note text, id int primary key);
         insert into ev values (1), (11); insert into ev_3 values (21); insert into ev_4 values ('x', 31)",
    );
    there.psql("create table ev (id int primary key, note text)");
    install(
        &db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks: {{ copy: {} }}\nbindings: {{ ev: {{ table: public.ev, to: copy, row: {{}} }} }}\n",
            sink_into(&there, shared_cluster().superuser())
        ),
    );
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    let told = |note: &str, command: &str| {
        for verb in ["plan", "install"] {
            let said = prepare(&db, &[verb, "emaj.yaml"]).run().ok().stderr;
            let note = format!(
                "table public.ev: {note} never reaches sink `copy` (binding `ev`); once this is installed, `{command}` brings that up to date"
            );
            assert!(said.contains(&note), "{verb}: {said}");
        }
        drain(&db).run().ok();
        prepare(
            &db,
            &[&command.split(' ').skip(1).collect::<Vec<_>>()[..], &["emaj.yaml"]].concat(),
        )
        .run()
        .ok();
        let rows = "select string_agg(id::text, ' ' order by id) from ev";
        assert_eq!(there.psql(rows), db.psql(rows));
    };
    db.psql("alter table ev attach partition ev_3 for values from (20) to (30)");
    told(
        "what was in public.ev_3 before it was a part of it, if it had rows,",
        "emaj init --binding ev",
    );
    db.psql("alter table ev detach partition ev_1");
    told("that rows are gone with a partition", "emaj init --binding ev --prune");
    db.psql("drop table ev_2");
    told("that rows are gone with a partition", "emaj init --binding ev --prune");
    // One with columns in another order than the table's.
    db.psql("alter table ev attach partition ev_4 for values from (30) to (40)");
    told(
        "what was in public.ev_4 before it was a part of it, if it had rows,",
        "emaj init --binding ev",
    );
    // And one that was away for a while.
    db.psql("alter table ev detach partition ev_3; insert into ev_3 values (22); delete from ev_3 where id = 21; alter table ev attach partition ev_3 for values from (20) to (30)");
    let said = prepare(&db, &["plan", "emaj.yaml"]).run().ok().stderr;
    assert!(
        said.contains("what was in public.ev_3 before it was a part of it"),
        "{said}"
    );
    told("that rows are gone with a partition", "emaj init --binding ev --prune");
    db.psql("drop table ev_4");
    told("that rows are gone with a partition", "emaj init --binding ev --prune");
    let said = prepare(&db, &["install", "emaj.yaml"]).run().ok().stderr;
    assert!(!said.contains("emaj init"), "{said}");
}

#[test]
fn a_table_in_the_place_of_a_bound_one_is_told() {
    let db = database();
    db.psql("create table item (id int primary key)");
    let manifest = "version: 1\nroles: { admin: null, viewer: null }\nsinks: { lines: { file: { path: out.ndjson } } }\n\
                    bindings: { items: { table: public.item, to: lines, message: {} } }\n";
    install(&db, manifest);
    drain(&db).run().ok();
    // Another name alone is followed.
    db.psql("alter table item rename to thing; insert into thing values (1)");
    drain(&db).run().ok();
    db.psql("create table item (id int primary key); insert into item values (2)");
    let run = drain(&db).run().code(3);
    let never = "table public.item is not captured: what changes in it never arrives at sink `lines` (binding `items`)";
    assert!(run.stderr.contains(never), "{run}");
    let warned = "WARN table public.item is not captured";
    assert!(run.stderr.contains(warned), "{run}");
}

/// What is changed while a group is stopped is in no log: whoever stops it, runs, looks or starts it is told.
#[test]
fn a_table_of_a_stopped_group_is_told() {
    let db = database();
    db.psql("create table item (id int primary key)");
    let manifest = "version: 1\nroles: { admin: null, viewer: null }\ngroups: { g: { tables: [public.item] } }\n\
                    sinks: { lines: { file: { path: out.ndjson } } }\nbindings: { items: { table: public.item, to: lines, message: {} } }\n";
    install(&db, manifest);
    let run = drain(&db).run().ok();
    assert!(!run.stderr.contains("not captured"), "{run}");
    let worker = self::worker(&db).start();
    prepare(&db, &["group", "stop", "g"]).run().ok();
    db.psql("insert into item values (1)");
    let never = "table public.item is not captured while group `g` is not started: what changes in it never arrives";
    let start = "`emaj group start g` has it captured, and says which `emaj init` brings the sink up to date";
    until("a word", || {
        let log = worker.log();
        log.contains(&format!("WARN {never}")) && log.contains(start)
    });
    assert_eq!(worker.stop(), Some(0));
    let run = drain(&db).run().code(3);
    assert!(
        run.stderr
            .contains(&format!("{never} at sink `lines` (binding `items`)"))
            && run.stderr.contains(start),
        "{run}"
    );
    let run = prepare(&db, &["doctor"]).run();
    assert!(
        run.stdout.contains(never) && !run.stdout.contains("everything is delivered"),
        "{run}"
    );
    let told = |args: &[&str], note: &str| {
        let run = prepare(&db, args).run().ok();
        assert!(run.stderr.contains(note), "{run}");
    };
    told(
        &["group", "start", "g"],
        "sink `lines` (binding `items`) was not told what changed in table `public.item` before; `emaj init --binding items` brings it up to date",
    );
    drain(&db).run().ok();
    // An install starts it as well.
    prepare(&db, &["group", "stop", "g"]).run().ok();
    let note = "table public.item was not captured for a while: what was changed in it meanwhile never reaches sink `lines` (binding `items`); \
                once this is installed, `emaj init --binding items` brings that up to date";
    told(&["plan", "emaj.yaml"], note);
    told(&["install", "emaj.yaml"], note);
    let run = drain(&db).run().ok();
    assert!(!run.stderr.contains("not captured"), "{run}");
}
