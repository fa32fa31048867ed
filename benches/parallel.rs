//! Rollback of eight tables in two sessions, against the same in one.

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
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..bench.rounds {
        for (at, jobs) in ["1", "2"].into_iter().enumerate() {
            // Rows that stay are changed and new ones come: every kind of statement.
            for table in 1..=TABLES {
                client.batch_execute(&format!(
                    "truncate t{table}; insert into t{table} {}; vacuum analyze t{table}",
                    some_rows(1, rows)
                ))?;
            }
            client
                .batch_execute("select emaj.emaj_stop_group('bench'); select emaj.emaj_start_group('bench', 'M%')")?;
            for table in 1..=TABLES {
                client.batch_execute(&format!(
                    "update t{table} set amount = amount + 1; delete from t{table} where id % 3 = 0"
                ))?;
            }
            client.batch_execute("checkpoint")?;
            let words = [
                "rollback",
                "bench",
                "EMAJ_LAST_MARK",
                "--yes",
                "--unlogged",
                "-q",
                "--jobs",
                jobs,
                "-f",
            ];
            times[at].push(bench.emaj("parallel", &words, &manifest)?.0);
            for table in 1..=TABLES {
                let wrong: i64 = client
                    .query_one(
                        &format!("select abs(count(*) - {rows}) + count(*) filter (where amount <> ((id % 10000) / 7.0)::numeric(12, 2)) from t{table}"),
                        &[],
                    )?
                    .get(0);
                if wrong != 0 {
                    return Err(format!("t{table}: {wrong} rows are not as they were").into());
                }
            }
        }
    }
    let [one, two] = times;
    report("rollback of 8 tables: 2 sessions / 1", median(one), median(two), 0.65);
    Ok(())
}
