//! Statistics: the changes between marks of a log of ten times `EMAJ_BENCH_ROWS` rows, which is 10 million. They are captured as any changes
//! are; the table is a narrow one and nobody waits for the disk meanwhile, so that it takes a minute. The first count reads the log, and
//! is held against PostgreSQL's own count of the same rows; the later ones are held against the target. The program is run as a person would
//! run it, its start and its connection included. And one look of `emaj top`, at the end of that log.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Bench, Outcome, median, show, timed};

const INTERVALS: u64 = 10;

pub fn run(bench: &mut Bench) -> Outcome {
    let mut client = bench.database("stat")?;
    client.batch_execute("create table t (id bigint primary key); set synchronous_commit = off")?;
    bench.install("stat", "[public.*]")?;
    for interval in 0..INTERVALS {
        client.execute(
            "select emaj.emaj_set_mark_group('bench', 'm' || $1::text)",
            &[&interval.to_string()],
        )?;
        let from = interval * bench.rows;
        client.batch_execute(&format!("insert into t {}", ids(from + 1, from + bench.rows)))?;
    }
    client.execute("select emaj.emaj_set_mark_group('bench', 'end')", &[])?;
    let log: String = client
        .query_one(
            "select format('emaj.%I', rel_log) from emaj.emaj_relation where rel_log is not null",
            &[],
        )?
        .get(0);
    client.batch_execute(&format!("vacuum analyze {log}"))?;
    let rows = INTERVALS * bench.rows;

    let count = format!("select count(*) from {log}");
    timed(&mut client, &count)?;
    let (mut plain, mut first) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        client.batch_execute("truncate emaj.emaj_mark_count")?;
        plain.push(timed(&mut client, &count)?);
        first.push(program(bench, &["stat", "bench", "--from", "m0", "--to", "end"], rows)?);
    }
    let (plain, first) = (median(plain), median(first));
    line(
        &format!("stat, the first time, {rows} log rows"),
        Some(plain),
        first,
        "",
    );
    let second = Duration::from_secs(1);
    for (what, from, to, expected) in [("all of it", "m0", "end", rows), ("a part", "m3", "m7", 4 * bench.rows)] {
        let words = ["stat", "bench", "--from", from, "--to", to];
        let times = (0..bench.rounds.max(3)).map(|_| program(bench, &words, expected));
        let took = median(times.collect::<Outcome<_>>()?);
        line(
            &format!("stat between two marks, {what}"),
            None,
            took,
            &format!("≤ {}", show(second)),
        );
    }

    // What a look costs at the end of a long log, when 1,000 rows are new.
    let mut times = Vec::new();
    for round in 0..bench.rounds.max(3) as u64 {
        let snapshot: String = client.query_one("select pg_current_snapshot()::text", &[])?.get(0);
        let from = rows + round * 1_000;
        client.batch_execute(&format!("insert into t {}", ids(from + 1, from + 1_000)))?;
        let started = Instant::now();
        let seen: i64 = client
            .query_one(
                "select sum(stat_changes)::bigint from emaj.emaj_stat_since(array['bench'], $1)",
                &[&snapshot],
            )?
            .get(0);
        times.push(started.elapsed());
        if seen != 1_000 {
            return Err(format!("a look counted {seen} changes instead of 1000").into());
        }
    }
    line("top: a look, 1,000 new changes", None, median(times), "");
    Ok(())
}

fn ids(from: u64, to: u64) -> String {
    format!("select generate_series({from}, {to})")
}

fn line(what: &str, baseline: Option<Duration>, took: Duration, target: &str) {
    let ratio = baseline.map(|baseline| format!("{:.2}", took.as_secs_f64() / baseline.as_secs_f64()));
    println!(
        "{what:<48} {:>10} {:>10} {:>8} {target:>8}",
        baseline.map(show).unwrap_or_default(),
        show(took),
        ratio.unwrap_or_default()
    );
}

/// Counts by the program; a wrong count is no speed.
fn program(bench: &Bench, args: &[&str], expected: u64) -> Outcome<Duration> {
    let started = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_emaj"))
        .args(args)
        .args(["-o", "csv"])
        .envs(bench.environment("stat"))
        .stderr(Stdio::inherit())
        .output()?;
    let took = started.elapsed();
    let text = String::from_utf8(output.stdout)?;
    if !output.status.success() || text != format!("table,changes\npublic.t,{expected}\n") {
        return Err(format!("emaj {} said\n{text}", args.join(" ")).into());
    }
    Ok(took)
}
