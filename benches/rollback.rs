//! Rollback of many rows, against the plain opposite statement on the same rows, copied aside; and of ten changes to each of a tenth of them.

use postgres::Client;

use crate::support::{Bench, Outcome, create_table, has_extension, median, report, some_rows, timed};

pub fn run(bench: &mut Bench) -> Outcome {
    let (mut client, tables) = prepare(bench, "rollback")?;
    client.batch_execute(&format!(
        "insert into aside {}; analyze aside",
        some_rows(1, bench.rows)
    ))?;
    let mut times = vec![vec![Vec::new(); 3]; tables.len()];
    for _ in 0..bench.rounds {
        for (at, table) in tables.iter().enumerate() {
            let undo = |plain: &str| match *table {
                "plain" => plain.to_owned(),
                "captured" => "select emaj.emaj_rollback_group('bench', 'EMAJ_LAST_MARK')".to_owned(),
                _ => "select * from beside_emaj.emaj_rollback_group('beside', 'EMAJ_LAST_MARK', false)".to_owned(),
            };
            let mark = match *table {
                "plain" => "",
                // Started anew, so that the log holds what is to be undone and nothing else.
                "captured" => "select emaj.emaj_stop_group('bench'); select emaj.emaj_start_group('bench', 'M%')",
                _ => {
                    "select beside_emaj.emaj_stop_group('beside'); select beside_emaj.emaj_start_group('beside', 'M%')"
                }
            };
            let steps = [
                (
                    0,
                    format!("insert into {table} select * from aside"),
                    format!("delete from {table} as t using aside as a where a.id = t.id"),
                ),
                (
                    1,
                    format!("update {table} set amount = amount + 1"),
                    format!(
                        "update {table} as t set grp = a.grp, label = a.label, amount = a.amount, ts = a.ts from aside as a where a.id = t.id"
                    ),
                ),
                (
                    2,
                    format!("delete from {table}"),
                    format!("insert into {table} select * from aside"),
                ),
            ];
            for (verb, forth, back) in steps {
                client.batch_execute(&format!("truncate {table}"))?;
                if verb > 0 {
                    client.batch_execute(&format!("insert into {table} select * from aside"))?;
                }
                client.batch_execute(&format!("vacuum analyze {table}"))?;
                client.batch_execute(mark)?;
                client.batch_execute(&forth)?;
                client.batch_execute("checkpoint")?;
                times[at][verb].push(timed(&mut client, &undo(&back))?);
                let left: i64 = client.query_one(&format!("select count(*) from {table}"), &[])?.get(0);
                let expected = if verb == 0 { 0 } else { bench.rows as i64 };
                if left != expected {
                    return Err(format!("{table}: {left} rows after the way back, {expected} expected").into());
                }
            }
        }
    }
    let lines = [
        ("rollback of inserts / plain delete", 2.5),
        ("rollback of updates / plain update", 1.25),
        ("rollback of deletes / plain insert", 1.5),
    ];
    for (verb, (what, target)) in lines.into_iter().enumerate() {
        let of = |table: usize| median(times[table][verb].clone());
        report(what, of(0), of(1), target);
        if tables.contains(&"beside") {
            report(&format!("  beside: E-Maj, {what}"), of(0), of(2), target);
        }
    }
    Ok(())
}

/// Makes the database of a section: its tables, and one for rows that are copied aside.
fn prepare(bench: &mut Bench, name: &str) -> Outcome<(Client, Vec<&'static str>)> {
    let mut client = bench.database(name)?;
    create_table(&mut client, "plain")?;
    create_table(&mut client, "captured")?;
    client.batch_execute("create unlogged table aside as select * from plain with no data")?;
    bench.install(name, "[public.captured]")?;
    let mut tables = vec!["plain", "captured"];
    if has_extension(&mut client)? {
        create_table(&mut client, "beside")?;
        crate::bulk::extension_group(&mut client)?;
        tables.push("beside");
    }
    Ok((client, tables))
}

/// Ten changes to each row of a tenth of the rows: eight or nine updates, and a deletion of one third, a deletion and a new insert of another.
pub fn mix(bench: &mut Bench) -> Outcome {
    let (mut client, tables) = prepare(bench, "mix")?;
    let rows = (bench.rows / 10).max(1);
    client.batch_execute(&format!("insert into aside {}; analyze aside", some_rows(1, rows)))?;
    let mut times = vec![Vec::new(); tables.len()];
    for _ in 0..bench.rounds {
        for (at, table) in tables.iter().enumerate() {
            client.batch_execute(&format!("truncate {table}; insert into {table} select * from aside"))?;
            client.batch_execute(&format!("vacuum analyze {table}"))?;
            let (mark, back) = match *table {
                "plain" => (
                    "",
                    "update plain as t set grp = a.grp, label = a.label, amount = a.amount, ts = a.ts from aside as a where a.id = t.id;
                     insert into plain select * from aside where id % 3 = 0",
                ),
                "captured" => (
                    "select emaj.emaj_stop_group('bench'); select emaj.emaj_start_group('bench', 'M%')",
                    "select emaj.emaj_rollback_group('bench', 'EMAJ_LAST_MARK')",
                ),
                _ => (
                    "select beside_emaj.emaj_stop_group('beside'); select beside_emaj.emaj_start_group('beside', 'M%')",
                    "select * from beside_emaj.emaj_rollback_group('beside', 'EMAJ_LAST_MARK', false)",
                ),
            };
            client.batch_execute(mark)?;
            for _ in 0..8 {
                client.batch_execute(&format!("update {table} set amount = amount + 1"))?;
            }
            for change in [
                format!("update {table} set label = label || '!' where id % 3 <> 2"),
                format!("delete from {table} where id % 3 <> 1"),
                format!("insert into {table} select id, grp + 1, label, amount, ts from aside where id % 3 = 2"),
                format!("update {table} set grp = grp + 1 where id % 3 = 1"),
            ] {
                client.batch_execute(&change)?;
            }
            client.batch_execute("checkpoint")?;
            times[at].push(timed(&mut client, back)?);
            let wrong: i64 = client
                .query_one(
                    &format!("select count(*) from (table aside except table {table}) as x"),
                    &[],
                )?
                .get(0);
            if wrong != 0 {
                return Err(format!("{table}: {wrong} rows are not as they were").into());
            }
        }
    }
    let of = |table: usize| median(times[table].clone());
    report("rollback of ten changes a row / plain statements", of(0), of(1), None);
    if tables.contains(&"beside") {
        report("  beside: E-Maj, rollback of ten changes a row", of(0), of(2), None);
    }
    Ok(())
}
