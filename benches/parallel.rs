//! Rollback of eight tables in two sessions, against the same in one.

use postgres::Client;

use crate::support::{Bench, Outcome, create_table, median, report, some_rows};

const TABLES: u64 = 8;

pub fn run(bench: &mut Bench) -> Outcome {
    let mut client = bench.database("parallel")?;
    let rows = (bench.rows / TABLES).max(1);
    for at in 1..=TABLES {
        create_table(&mut client, &format!("t{at}"))?;
    }
    bench.install("parallel", "[public.*]")?;
    let manifest = bench.write(
        "parallel-again.yaml",
        "version: 1\nroles: { admin: null, viewer: null }\ngroups: { bench: { tables: [public.*] } }\n",
    )?;
    for (what, kind) in [("logged", None), ("unlogged", Some("--unlogged"))] {
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..bench.rounds {
            for (at, jobs) in ["1", "2"].into_iter().enumerate() {
                prepare(&mut client, rows)?;
                let words = ["rollback", "bench", "EMAJ_LAST_MARK", "--yes", "-q", "--jobs", jobs];
                let words: Vec<&str> = words.into_iter().chain(kind).chain(["-f"]).collect();
                times[at].push(bench.emaj("parallel", &words, &manifest)?.0);
                check(&mut client, rows)?;
            }
        }
        let [one, two] = times;
        let line = format!("{what} rollback of 8 tables: 2 sessions / 1");
        report(&line, median(one), median(two), 0.65);
    }
    Ok(())
}

/// Rows of which all are changed and a third is deleted after a new mark.
fn prepare(client: &mut Client, rows: u64) -> Outcome {
    for table in 1..=TABLES {
        client.batch_execute(&format!(
            "truncate t{table}; insert into t{table} {}",
            some_rows(1, rows)
        ))?;
        client.batch_execute(&format!("vacuum analyze t{table}"))?;
    }
    client.batch_execute("select emaj.emaj_stop_group('bench'); select emaj.emaj_start_group('bench', 'M%')")?;
    for table in 1..=TABLES {
        client.batch_execute(&format!("update t{table} set amount = amount + 1"))?;
        client.batch_execute(&format!("delete from t{table} where id % 3 = 0"))?;
    }
    client.batch_execute("checkpoint")?;
    Ok(())
}

fn check(client: &mut Client, rows: u64) -> Outcome {
    for table in 1..=TABLES {
        let query = format!(
            "select abs(count(*) - {rows}) + count(*) filter (where amount <> ((id % 10000) / 7.0)::numeric(12, 2)) from t{table}"
        );
        let wrong: i64 = client.query_one(&query, &[])?.get(0);
        if wrong != 0 {
            return Err(format!("t{table}: {wrong} rows are not as they were").into());
        }
    }
    Ok(())
}
