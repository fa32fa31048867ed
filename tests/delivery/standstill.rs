//! A worker that stands still, as in a suspended machine, while its sessions end and another one takes its sink over: what it still had in its hands is old
//! when it wakes, and goes nowhere.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{PEOPLE, PERSON, column, drain, install, items_to_hook, people, set_aside, to_directory, worker};
use crate::support::receiver::{Receiver, status};
use crate::support::rows::sink_into;
use crate::support::slapd::slapd;
use crate::support::{Database, database, until};

/// Has a worker stand still at `point`, behind what is written in `before`; meanwhile `then` is written, and delivered by another one. When it returns, the
/// worker has come back.
fn stand_still(db: &Database, point: &str, before: &str, then: &str) {
    db.psql(before);
    let hold = db.dir().join("hold");
    let worker = worker(db)
        .env("EMAJ_FAIL_AT", point)
        .env("EMAJ_FAIL_HOLD", hold.to_str().unwrap())
        .start();
    until("the worker to have a chunk in its hands", || hold.exists());
    let signal = |signal| kill_process(Pid::from_raw(worker.id().cast_signed()).unwrap(), signal).unwrap();
    signal(Signal::STOP);
    db.psql(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database() and application_name like 'emaj %'",
    );
    db.psql(then);
    drain(db).run().ok();
    // As long as what it knew counts.
    std::thread::sleep(Duration::from_millis(1100));
    signal(Signal::CONT);
    std::fs::remove_file(hold).unwrap();
    until("the worker to come back", || {
        column(db, "select split_part(sink_worker, '@', 1) from emaj.emaj_sink") == [worker.id().to_string()]
    });
    assert_eq!(worker.stop(), Some(0));
    assert_eq!(set_aside(db), [] as [&str; 0]);
}

/// Where it stands still: before it asks whether it may deliver, and behind that, with the batch at the connection.
const POINTS: [&str; 2] = ["chunk.fetched", "batch.taken"];

#[test]
fn rows_of_another_database_stay_new() {
    let (db, copy) = (database(), database());
    let table = "create table thing (id int primary key, text text)";
    db.psql(table);
    copy.psql(table);
    let bindings = "bindings: { to_copy: { table: public.thing, to: copy, row: {} } }";
    let sink = sink_into(&copy, "postgres");
    install(
        &db,
        &format!("version: 1\nroles: {{ admin: null, viewer: null }}\nsinks:\n  copy: {sink}\n{bindings}\n"),
    );
    // (At the first of them nothing is known of a position.)
    for (round, point) in [0, 1, 2].into_iter().zip(["batch.taken", POINTS[0], POINTS[1]]) {
        let id = |number| round * 10 + number;
        stand_still(
            &db,
            point,
            &format!(
                "insert into thing select n, 'old' from generate_series({}, {}) n",
                id(1),
                id(4)
            ),
            &format!(
                "update thing set text = 'new' where id in ({}, {}); delete from thing where id = {}",
                id(1),
                id(2),
                id(3)
            ),
        );
        let all = "select concat_ws(' ', id, text) from thing order by id";
        assert_eq!(column(&copy, all), column(&db, all), "{point}");
    }
}

#[test]
fn entries_stay_new() {
    for point in POINTS {
        let (db, slapd) = (database(), slapd());
        db.psql(PERSON);
        install(&db, &to_directory(&slapd, PEOPLE));
        stand_still(
            &db,
            point,
            // (One only: another connection may be at its write when all is stopped, and that none can take back.)
            "insert into person values (1, 'l1', 'old', 'm')",
            "update person set name = 'new'",
        );
        assert_eq!(people(&slapd), ["l1 new m"], "{point}");
    }
}

#[test]
fn a_service_gets_no_event_late() {
    for point in POINTS {
        let db = database();
        db.psql("create table item (id int primary key, text text)");
        let receiver = Receiver::start(|_, _| status(204));
        install(&db, &items_to_hook(&receiver.url(), "{{ row.id }} {{ row.text }}"));
        stand_still(
            &db,
            point,
            "insert into item values (1, 'old')",
            "update item set text = 'new'",
        );
        let posted: Vec<String> = receiver.got().into_iter().map(|request| request.body).collect();
        let told = |text: &str| posted.iter().rposition(|body| *body == format!("1 {text}"));
        assert!(told("old") < told("new"), "{point}: {posted:?}");
    }
}
