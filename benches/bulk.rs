//! One statement on many rows: with capture, without. Beside a delete, the least that any log of it can cost: the delete, and the same
//! rows written by one `insert … select` into a table like the log, without index and trigger.

use crate::support::{Bench, Outcome, create_table, has_extension, median, report, some_rows, timed};

pub fn run(bench: &mut Bench) -> Outcome {
    let mut client = bench.database("bulk")?;
    create_table(&mut client, "plain")?;
    create_table(&mut client, "captured")?;
    bench.install("bulk", "[public.captured]")?;
    let extension = has_extension(&mut client)?;
    if extension {
        create_table(&mut client, "beside")?;
        extension_group(&mut client)?;
    }
    let tables: &[&str] = if extension {
        &["plain", "captured", "beside"]
    } else {
        &["plain", "captured"]
    };
    client.batch_execute("create table bare (like emaj.public_captured_log)")?;
    let mut least = Vec::new();
    let mut times = vec![vec![Vec::new(); 3]; tables.len()];
    for _ in 0..bench.rounds {
        for (at, table) in tables.iter().enumerate() {
            client.batch_execute("checkpoint")?;
            times[at][0].push(timed(
                &mut client,
                &format!("insert into {table} {}", some_rows(1, bench.rows)),
            )?);
            client.batch_execute(&format!("vacuum {table}"))?;
            client.batch_execute("checkpoint")?;
            times[at][1].push(timed(&mut client, &format!("update {table} set amount = amount + 1"))?);
            client.batch_execute(&format!("vacuum {table}"))?;
            client.batch_execute("checkpoint")?;
            times[at][2].push(timed(&mut client, &format!("delete from {table}"))?);
            client.batch_execute(&format!("truncate {table}"))?;
        }
        client.batch_execute(&format!("insert into plain {}", some_rows(1, bench.rows)))?;
        client.batch_execute("vacuum plain")?;
        client.batch_execute("checkpoint")?;
        let written = timed(
            &mut client,
            "insert into bare select pg_current_wal_insert_lsn(), txid_current(), now(), null, 'DEL', 'OLD', session_user, * from plain",
        )?;
        least.push(written + times[0][2].last().copied().unwrap_or_default());
        client.batch_execute("truncate plain, bare")?;
        client.batch_execute("truncate emaj.public_captured_log")?;
    }
    for (verb, (what, target)) in [("bulk insert", 1.45), ("bulk update", 1.65), ("bulk delete", 2.5)]
        .into_iter()
        .enumerate()
    {
        let of = |table: usize| median(times[table][verb].clone());
        report(what, of(0), of(1), target);
        if what == "bulk delete" {
            report(
                "  a delete and an insert of its rows elsewhere",
                of(0),
                median(least.clone()),
                target,
            );
        }
        if extension {
            report(&format!("  beside: E-Maj, {what}"), of(0), of(2), target);
        }
    }
    Ok(())
}

/// Sets the extension up on the table `beside`, by its own functions.
pub fn extension_group(client: &mut postgres::Client) -> Outcome {
    client.batch_execute(
        "create extension if not exists btree_gist; create extension if not exists dblink; create schema if not exists beside_emaj;
         create extension emaj schema beside_emaj cascade",
    )?;
    client.batch_execute(
        "select beside_emaj.emaj_create_group('beside'); select beside_emaj.emaj_assign_table('public', 'beside', 'beside');
         select beside_emaj.emaj_start_group('beside', 'start')",
    )?;
    Ok(())
}
