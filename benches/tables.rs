//! Rollback of a hundred changed rows in a group of a thousand tables: what the tables cost in which nothing was changed.

use crate::support::{Bench, Outcome, median, show};

const TABLES: u32 = 1_000;
const CHANGED: u32 = 100;

pub fn run(bench: &mut Bench) -> Outcome {
    let mut client = bench.database("tables")?;
    let all = |one: &dyn Fn(u32) -> String, step: usize| (1..=TABLES).step_by(step).map(one).collect::<String>();
    client.batch_execute(&all(&|n| format!("create table t{n} (id int primary key, v int);"), 1))?;
    bench.install("tables", "[public.*]")?;
    // Logs that hold something from before the mark, as those of tables in use do.
    client.batch_execute(&all(
        &|n| format!("insert into t{n} select i, 0 from generate_series(1, 10) i;"),
        1,
    ))?;
    client.batch_execute("select emaj.emaj_set_mark_group('bench', 'm')")?;
    client.batch_execute("vacuum analyze")?;
    let manifest = bench.write(
        "tables-again.yaml",
        "version: 1\nroles: { admin: null, viewer: null }\ngroups: { bench: { tables: [public.*] } }\n",
    )?;
    let step = (TABLES / CHANGED) as usize;
    let update = all(&|n| format!("update t{n} set v = v + 1 where id = 1;"), step);
    let wrong = format!(
        "select {} 0",
        all(&|n| format!("(select count(*) from t{n} where v <> 0) + "), step)
    );
    for (what, kind) in [("logged", None), ("unlogged", Some("--unlogged"))] {
        let mut times = Vec::new();
        for _ in 0..bench.rounds.max(3) {
            client.batch_execute(&update)?;
            let words = ["rollback", "bench", "m", "--yes", "-q"];
            let words: Vec<&str> = words.into_iter().chain(kind).chain(["-f"]).collect();
            times.push(bench.emaj("tables", &words, &manifest)?.0);
            let left: i64 = client.query_one(&wrong, &[])?.get(0);
            if left != 0 {
                return Err(format!("{left} rows are not as they were").into());
            }
        }
        println!(
            "{:<48} {:>10} {:>10} {:>8} {:>8}",
            format!("{what} rollback, {CHANGED} rows in {TABLES} tables"),
            "",
            show(median(times)),
            "",
            "≤ 1 s"
        );
    }
    Ok(())
}
