//! Marks are exact: set while many writers move money about, each gives back every row as its own snapshot saw it.
//!
//! Each of two dozen marks is set in a REPEATABLE READ transaction: its snapshot is the one that copies the tables next to it. Between them
//! are marks set in READ COMMITTED, which can have no copy: the sum of all money, which no transfer changes, tells.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use postgres::Client;
use postgres::error::SqlState;

use crate::support::{self, Chance, Database};

const TABLES: &[&str] = &["account", "saving", "share", "entry"];
const WRITERS: u64 = 16;
const ACCOUNTS: usize = 60;

const BANK: &str = "
    create schema bank;
    create schema side;
    create table bank.account (id int primary key, balance bigint not null, note text);
    create table bank.saving (id int primary key, balance bigint not null, changes int not null default 0);
    create table bank.share (id int, region int, balance bigint not null, primary key (region, id)) partition by list (region);
    create table bank.share_0 partition of bank.share for values in (0);
    create table bank.share_1 (balance bigint not null, region int not null, id int not null);
    alter table bank.share attach partition bank.share_1 for values in (1);
    create table bank.entry (id bigserial primary key, amount bigint not null, of_account int references bank.account);
    insert into bank.account select n, 1000, 'a' from generate_series(0, 59) n;
    insert into bank.saving select n, 1000 from generate_series(0, 59) n;
    insert into bank.share select n, n % 2, 1000 from generate_series(0, 59) n;";

const MANIFEST: &str = "version: 1\nroles: { admin: null, viewer: null }\ngroups: { bank: { tables: [bank.*] } }\n";

fn bank() -> Database {
    let db = support::database();
    db.client().batch_execute(BANK).unwrap();
    db.file("emaj.yaml", MANIFEST);
    support::emaj(&db).args(["install"]).run().ok();
    db
}

/// One transaction of an application: transfers between accounts of any table, savepoints, pauses, now and then an abort.
fn transact(client: &mut Client, chance: &mut Chance) -> Result<(), postgres::Error> {
    let abort = chance.happens(15);
    let mut transaction = client.transaction()?;
    // In the order of table and id, so that writers do not lock each other up.
    let mut touched: Vec<(usize, usize)> = (0..2 + chance.below(4))
        .map(|_| (chance.below(3), chance.below(ACCOUNTS)))
        .collect();
    touched.sort_unstable();
    touched.dedup();
    let mut total = 0;
    for (at, (table, id)) in touched.iter().enumerate() {
        let amount = if at + 1 == touched.len() {
            -total
        } else {
            chance.below(100) as i64 - 50
        };
        let sql = match table {
            0 => format!("update bank.account set balance = balance + {amount}, note = md5(note) where id = {id}"),
            1 => format!("update bank.saving set balance = balance + {amount}, changes = changes + 1 where id = {id}"),
            // A transfer takes the share to the other partition as well.
            _ if chance.happens(20) => {
                format!("update bank.share set balance = balance + {amount}, region = 1 - region where id = {id}")
            }
            _ => format!("update bank.share set balance = balance + {amount} where id = {id}"),
        };
        if chance.happens(20) {
            let mut inner = transaction.savepoint("idea")?;
            inner.batch_execute(&sql.replace(&format!("+ {amount}"), "+ 100000"))?;
            inner.rollback()?;
        }
        if chance.happens(10) {
            transaction.batch_execute(&format!("select pg_sleep({})", chance.below(6) as f64 / 1000.0))?;
        }
        transaction.batch_execute(&sql)?;
        total += amount;
    }
    transaction.batch_execute(&format!(
        "insert into bank.entry (amount, of_account) values ({total}, {})",
        touched[0].1
    ))?;
    if chance.happens(20) {
        let sql =
            "delete from bank.entry where id in (select id from bank.entry order by id limit 2 for update skip locked)";
        transaction.batch_execute(sql)?;
    }
    if abort {
        transaction.rollback()
    } else {
        transaction.commit()
    }
}

/// Sets a mark, with copies of all tables at the same snapshot. The snapshot of a REPEATABLE READ transaction is that of its first
/// statement, so the mark comes first and the copies see what it saw.
fn mark_and_copy(client: &mut Client, name: &str) {
    let copies: String = TABLES
        .iter()
        .map(|table| format!("create table side.{name}_{table} as select * from bank.{table};"))
        .collect();
    let sql = format!(
        "begin isolation level repeatable read; select emaj.emaj_set_mark_group('bank', '{name}'); {copies} commit"
    );
    client.batch_execute(&sql).unwrap();
}

fn wrong_rows(client: &mut Client, name: &str) -> i64 {
    let tables = TABLES.iter().map(|table| {
        let (now, then) = (
            format!("select t::text from (select * from bank.{table}) t"),
            format!("select t::text from side.{name}_{table} t"),
        );
        let sql = format!("select count(*) from (({now} except all {then}) union all ({then} except all {now})) d");
        client.query_one(&sql, &[]).unwrap().get::<_, i64>(0)
    });
    tables.sum()
}

fn money(client: &mut Client) -> i64 {
    let sql = "select ((select sum(balance) from bank.account) + (select sum(balance) from bank.saving)
                     + (select sum(balance) from bank.share))::bigint";
    client.query_one(sql, &[]).unwrap().get(0)
}

#[test]
fn marks_set_under_load_give_back_every_row() {
    let db = bank();
    let mut client = db.client();
    let seed = support::seed();
    let marks = support::scale(24);
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let started = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut names: Vec<(String, bool)> = Vec::new();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (db, stop, done) = (&db, &stop, &done);
            scope.spawn(move || {
                let mut client = db.client();
                let mut chance = Chance::new(seed ^ (writer << 32));
                while !stop.load(Ordering::Relaxed) {
                    match transact(&mut client, &mut chance) {
                        Ok(()) => done.fetch_add(1, Ordering::Relaxed),
                        // PostgreSQL's own answer to two writers that move one row between partitions at once.
                        Err(error) if error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE) => 0,
                        Err(error) => panic!("an application's transaction failed: {error:?}"),
                    };
                }
            });
        }
        for at in 0..marks {
            std::thread::sleep(Duration::from_millis(100));
            let copied = format!("m{at}");
            mark_and_copy(&mut client, &copied);
            names.push((copied, true));
            if at % 3 == 2 {
                let plain = format!("p{at}");
                let before = Instant::now();
                client
                    .execute("select emaj.emaj_set_mark_group('bank', $1)", &[&plain])
                    .unwrap();
                slowest = slowest.max(before.elapsed());
                names.push((plain, false));
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let speed = done.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64();
    let total = 60 * 3 * 1000;
    assert_eq!(money(&mut client), total, "the application itself is right");
    client
        .batch_execute("create view side.next as select last_value from bank.entry_id_seq")
        .unwrap();

    let mut wrong = 0;
    let mut go_back = |function: &str, (name, copied): &(String, bool)| {
        client
            .execute(&format!("select emaj.{function}('bank', $1)"), &[name])
            .unwrap();
        let rows = if *copied { wrong_rows(&mut client, name) } else { 0 };
        let sums = money(&mut client) - total;
        let free = "select (select last_value from side.next) >= coalesce((select max(id) from bank.entry), 0)";
        let free: bool = client.query_one(free, &[]).unwrap().get(0);
        if rows + sums != 0 || !free {
            println!("{function} to {name}: {rows} rows differ, the sum is off by {sums}, sequence free: {free}");
        }
        wrong += rows + i64::from(sums != 0) + i64::from(!free);
    };
    let mut order = names.clone();
    Chance::new(seed).shuffle(&mut order);
    for mark in order.iter().take(names.len().min(support::scale(12))) {
        go_back("emaj_logged_rollback_group", mark);
    }
    for mark in names.iter().rev() {
        go_back("emaj_rollback_group", mark);
    }
    println!(
        "exact marks: {marks} marks with copies, {} without, {speed:.0} transactions/s by {WRITERS} writers, slowest mark {slowest:?}, {wrong} wrong rows (seed {seed})",
        names.len() - marks
    );
    assert_eq!(wrong, 0, "seed {seed}");
}

#[test]
fn a_mark_waits_for_no_writer_and_no_writer_for_a_mark() {
    let db = bank();
    let (mut writer, mut client, mut other) = (db.client(), db.client(), db.client());
    // What waits for an open transaction here waits for ever: the server says so in the end, and a busy machine is given its time.
    client.batch_execute("set statement_timeout = '300s'").unwrap();
    other.batch_execute("set lock_timeout = '60s'").unwrap();
    // Row locks, and the strongest table locks there are: a truncate of every table.
    for locks in [
        "update bank.account set note = 'open'; update bank.saving set changes = 0; update bank.share set balance = balance;
         insert into bank.entry (amount) values (0)",
        "truncate bank.account, bank.saving, bank.share, bank.entry",
    ] {
        writer.batch_execute(&format!("begin; {locks}")).unwrap();
        let before = Instant::now();
        client.batch_execute("select emaj.emaj_set_mark_group('bank', 'while_%')").unwrap();
        let took = before.elapsed();
        writer.batch_execute("rollback").unwrap();
        println!("a mark beside an open transaction: {took:?}");
    }
    client
        .batch_execute("begin; select emaj.emaj_set_mark_group('bank', 'open')")
        .unwrap();
    let before = Instant::now();
    other
        .batch_execute("update bank.account set balance = balance; truncate bank.saving, bank.share, bank.entry")
        .expect("an open mark keeps nobody waiting");
    println!("a writer beside an open mark: {:?}", before.elapsed());
    client.batch_execute("commit").unwrap();
}

#[test]
fn an_old_open_transaction_is_after_the_mark_as_a_whole() {
    let db = bank();
    let (mut old, mut client) = (db.client(), db.client());
    old.batch_execute("begin; update bank.account set balance = 1 where id = 1")
        .unwrap();
    mark_and_copy(&mut client, "m");
    old.batch_execute("update bank.account set balance = 2 where id = 2; commit")
        .unwrap();
    // Prepared, and committed only after the mark.
    old.batch_execute("begin; update bank.saving set balance = 7 where id = 7; prepare transaction 'late'")
        .unwrap();
    client
        .batch_execute("select emaj.emaj_set_mark_group('bank', 'n')")
        .unwrap();
    old.batch_execute("commit prepared 'late'").unwrap();
    client
        .batch_execute("select emaj.emaj_logged_rollback_group('bank', 'n')")
        .unwrap();
    assert_eq!(db.psql("select balance from bank.saving where id = 7"), "1000");
    assert_eq!(db.psql("select balance from bank.account where id = 1"), "1");
    client
        .batch_execute("select emaj.emaj_rollback_group('bank', 'm')")
        .unwrap();
    assert_eq!(wrong_rows(&mut client, "m"), 0);
}
