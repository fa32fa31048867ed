//! Reading: a query on a table as it was at a mark, beside the same query on the table as it is; and a million changes as JSON and as a
//! script. The program is run as a person would run it, its start and its connection included.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Bench, Outcome, create_table, median, show, some_rows, timed};

/// How many rows change between the mark and now.
const CHANGES: u64 = 10_000;

pub fn run(bench: &mut Bench) -> Outcome {
    let mut client = bench.database("past")?;
    create_table(&mut client, "t")?;
    client.batch_execute(&format!("insert into t {}", some_rows(1, bench.rows)))?;
    client.batch_execute("vacuum analyze t")?;
    bench.install("past", "[public.*]")?;
    client.execute("select emaj.emaj_set_mark_group('bench', 'm')", &[])?;
    let every = (bench.rows * 2 / CHANGES).max(2);
    client.batch_execute(&format!(
        "update t set grp = grp + 1 where id % {every} = 0; delete from t where id % {every} = 1 and id % 4 = 1;
         insert into t {}",
        some_rows(bench.rows + 1, bench.rows + CHANGES / 4)
    ))?;
    client.batch_execute("vacuum analyze t")?;
    for (what, query) in [
        ("all rows summed up", "select count(*), sum(amount), max(label) from t"),
        (
            "all rows by group",
            "select grp, count(*) from t group by grp order by grp",
        ),
        ("one row by its key", "select * from t where id = 4711"),
    ] {
        let (mut now, mut then) = (Vec::new(), Vec::new());
        for _ in 0..bench.rounds.max(3) {
            now.push(timed(&mut client, query)?);
            then.push(program(bench, &["at", "bench", "m", query, "-o", "csv"])?);
        }
        let (now, then) = (median(now), median(then));
        let limit = now.mul_f64(1.5) + Duration::from_millis(50);
        println!(
            "{:<48} {:>10} {:>10} {:>8.2} {:>8}",
            format!("as of a mark: {what}"),
            show(now),
            show(then),
            then.as_secs_f64() / now.as_secs_f64(),
            format!("≤ {}", show(limit))
        );
    }
    client.execute("select emaj.emaj_set_mark_group('bench', 'n')", &[])?;
    client.batch_execute("update t set grp = grp + 1")?;
    for (what, words) in [("json", vec![]), ("json", vec!["--what", "net"]), ("sql", vec![])] {
        let args = [&["changes", "bench", "--from", "n", "-o", what][..], &words].concat();
        let took = program(bench, &args)?;
        println!(
            "{:<48} {:>10} {:>10}",
            format!("{} changes, {what} {}", bench.rows, words.join(" ")),
            "",
            show(took)
        );
    }
    Ok(())
}

fn program(bench: &Bench, args: &[&str]) -> Outcome<Duration> {
    let started = Instant::now();
    let status = Command::new(env!("CARGO_BIN_EXE_emaj"))
        .args(args)
        .envs(bench.environment("past"))
        .stdout(Stdio::null())
        .status()?;
    if !status.success() {
        return Err(format!("emaj {} failed", args.join(" ")).into());
    }
    Ok(started.elapsed())
}
