//! Single-row statements: the extra cost of capture against that of a row-level PL/pgSQL logger of the classical shape (a full
//! image a row, an identity, a btree, a pinned search_path because it runs with its owner's rights).

use std::time::Duration;

use crate::support::{Bench, Outcome, create_table, median, timed};

const STATEMENTS: u64 = 100_000;

pub fn run(bench: &mut Bench) -> Outcome {
    let mut client = bench.database("single")?;
    for table in ["plain", "captured", "classical"] {
        create_table(&mut client, table)?;
    }
    bench.install("single", "[public.captured]")?;
    classical_logger(&mut client)?;
    // Plans and caches of the session first.
    let tables = ["plain", "captured", "classical"];
    for table in tables {
        insert(&mut client, table, 2_000)?;
        update(&mut client, table, 2_000)?;
    }
    let mut inserts = vec![Vec::new(); 3];
    let mut updates = vec![Vec::new(); 3];
    // Many short turns, so that a disturbance of the machine meets all alike, and few of them.
    let turns = bench.rounds.max(1) * 20;
    let each = STATEMENTS / 20;
    for _ in 0..turns {
        for (at, table) in tables.iter().enumerate() {
            client.batch_execute(&format!("truncate {table}"))?;
            inserts[at].push(insert(&mut client, table, each)?);
            updates[at].push(update(&mut client, table, each)?);
        }
        client.batch_execute("truncate emaj.public_captured_log, classical_log")?;
    }
    line("single-row insert, extra cost a statement", inserts, each, 0.80);
    line("single-row update, extra cost a statement", updates, each, 0.85);
    Ok(())
}

fn classical_logger(client: &mut postgres::Client) -> Outcome {
    client.batch_execute(
        "create table classical_log (like plain, verb text not null, tuple text not null, gid bigint generated always as identity primary key,
           changed timestamptz not null default clock_timestamp(), txid bigint not null default txid_current(), usr text not null default session_user);
         create function classical() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
         begin
           if tg_op = 'DELETE' then
             insert into public.classical_log select old.*, 'DEL', 'OLD';
           elsif tg_op = 'UPDATE' then
             insert into public.classical_log select old.*, 'UPD', 'OLD';
             insert into public.classical_log select new.*, 'UPD', 'NEW';
           else
             insert into public.classical_log select new.*, 'INS', 'NEW';
           end if;
           return null;
         end $$;
         create trigger classical after insert or update or delete on classical for each row execute function classical()",
    )?;
    Ok(())
}

fn insert(client: &mut postgres::Client, table: &str, number: u64) -> Outcome<Duration> {
    timed(
        client,
        &format!(
            "do $x$ begin for i in 1..{number} loop insert into {table} values (i, i % 1000, 'label', 1.5); end loop; end $x$"
        ),
    )
}

fn update(client: &mut postgres::Client, table: &str, number: u64) -> Outcome<Duration> {
    timed(
        client,
        &format!(
            "do $x$ begin for i in 1..{number} loop update {table} set amount = amount + 1 where id = i; end loop; end $x$"
        ),
    )
}

fn line(what: &str, times: Vec<Vec<Duration>>, statements: u64, target: f64) {
    let each = |at: usize| median(times[at].clone()).as_secs_f64() * 1e6 / statements as f64;
    let (plain, captured, classical) = (each(0), each(1), each(2));
    let ratio = (captured - plain) / (classical - plain);
    println!(
        "{what:<48} {:>10} {:>10} {ratio:>8.2} {:>8}",
        format!("{:.2} µs", classical - plain),
        format!("{:.2} µs", captured - plain),
        format!("≤ {target:.2}")
    );
}
