//! An application that writes in all ways, and a record of what it did that owes nothing to emaj: a row trigger that writes into a
//! table of its own, in the same transaction. What was taken back is not in it.

use std::collections::HashMap;

use postgres::Client;
use serde_json::Value;

use crate::support::Chance;

/// `n` is another number with each write, so that a number names a write.
pub const TABLES: &str = "
    create schema app;
    create schema side;
    create sequence side.n;
    create table app.item (id int primary key, n bigint not null default nextval('side.n'), w text);
    create table side.truth (seq bigserial, txid bigint default pg_current_xact_id()::text::bigint, id int, old bigint, new bigint);
    create function side.note() returns trigger language plpgsql as $$begin
      insert into side.truth (id, old, new)
      values (coalesce(new.id, old.id), case when tg_op <> 'INSERT' then old.n end, case when tg_op <> 'DELETE' then new.n end);
      return null;
    end$$;
    create trigger note after insert or update or delete on app.item for each row execute function side.note();
    insert into app.item (id, w) select n, 'old' from generate_series(1, 100) as n;
    delete from side.truth;";

/// How many rows are written by everybody.
const HOT: usize = 150;

/// One transaction: some writes, savepoints taken back, now and then an abort, and (with `prepared`) a commit in two phases.
pub fn transact(client: &mut Client, chance: &mut Chance, prepared: Option<&str>) -> Result<(), postgres::Error> {
    client.batch_execute("begin")?;
    // In the order of the key, so that writers do not lock each other up.
    let mut ids: Vec<usize> = (0..1 + chance.below(5)).map(|_| chance.below(HOT)).collect();
    ids.sort_unstable();
    ids.dedup();
    for id in ids {
        let write = match chance.below(10) {
            0..3 => format!("insert into app.item (id, w) values ({id}, 'new') on conflict do nothing"),
            3 => format!("delete from app.item where id = {id}"),
            // Twice, there and away, away and there: only what remains is told.
            4 => format!(
                "update app.item set n = nextval('side.n') where id = {id}; update app.item set n = nextval('side.n'), w = 'twice' where id = {id}"
            ),
            5 => format!(
                "delete from app.item where id = {id}; insert into app.item (id, w) values ({id}, 'again') on conflict do nothing"
            ),
            _ => format!("update app.item set n = nextval('side.n') where id = {id}"),
        };
        if chance.happens(15) {
            client.batch_execute(&format!(
                "savepoint s; update app.item set n = -1 where id = {id}; rollback to s"
            ))?;
        }
        client.batch_execute(&write)?;
        if chance.happens(5) {
            client.batch_execute(&format!("select pg_sleep({})", chance.below(20) as f64 / 1000.0))?;
        }
    }
    if chance.happens(10) {
        client.batch_execute(
            "insert into app.item (id, w) select 1000 + nextval('side.n'), 'bulk' from generate_series(1, 20)",
        )?;
    }
    let end = if chance.happens(15) { "rollback" } else { "commit" };
    match prepared {
        Some(name) if chance.happens(15) => {
            client.batch_execute(&format!("prepare transaction '{name}'"))?;
            std::thread::sleep(std::time::Duration::from_millis(chance.below(60) as u64));
            client.batch_execute(&format!("{end} prepared '{name}'"))
        }
        _ => client.batch_execute(end),
    }
}

/// Returns the net of what was done, by transaction and key: `txid id before after`.
pub fn done(client: &mut Client) -> Vec<String> {
    let sql = "select format('%s %s %s %s', txid, id, coalesce(before::text, '-'), coalesce(after::text, '-'))
                 from (select txid, id, (array_agg(old order by seq))[1] as before, (array_agg(new order by seq desc))[1] as after
                         from side.truth group by txid, id) as t
                where before is distinct from after";
    client.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

/// Returns an event in the same words.
pub fn told(event: &Value) -> String {
    let id = event["id"].as_str().unwrap();
    let txid = i64::from_str_radix(id.rsplit('-').nth(2).unwrap(), 16).unwrap();
    let (old, new) = (&event["data"]["old"], &event["data"]["row"]);
    let key = if new.is_null() { &old["id"] } else { &new["id"] };
    let number = |row: &Value| {
        if row.is_null() {
            "-".to_owned()
        } else {
            row["n"].to_string()
        }
    };
    format!("{txid} {key} {} {}", number(old), number(new))
}

/// How what was told differs from what was done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    pub missing: Vec<String>,
    pub invented: Vec<String>,
    pub repeated: usize,
}

pub fn compare(done: &[String], told: &[String]) -> Difference {
    let mut count: HashMap<&str, usize> = done.iter().map(|text| (text.as_str(), 0)).collect();
    let mut difference = Difference::default();
    for text in told {
        match count.get_mut(text.as_str()) {
            Some(times) => {
                difference.repeated += usize::from(*times > 0);
                *times += 1;
            }
            None => difference.invented.push(text.clone()),
        }
    }
    difference.missing = count
        .iter()
        .filter(|(_, times)| **times == 0)
        .map(|(text, _)| (*text).to_owned())
        .collect();
    difference
}

/// Counts the events whose row before is not the row after of the event before, by key, in the order they were told.
pub fn inversions(told: &[String]) -> usize {
    let mut last: HashMap<&str, &str> = HashMap::new();
    let mut wrong = 0;
    for text in told {
        let words: Vec<&str> = text.split(' ').collect();
        if let Some(before) = last.insert(words[1], words[3]) {
            wrong += usize::from(before != words[2]);
        }
    }
    wrong
}
