//! Rows into another database by the sink `postgres`: what the sink alone takes, and all of `emaj init`, against psql's `copy` of the same rows.

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use emaj::manifest::{self, Event};
use emaj::names::QualifiedName;
use emaj::pg::Environment;
use emaj::sink::{Action, Delivery, Offset, Outcome as Fate, RowChange, opener};
use postgres::fallible_iterator::FallibleIterator as _;

use crate::support::{Bench, Outcome, create_table, median, report, some_rows};

pub fn run(bench: &mut Bench) -> Outcome {
    let mut from = bench.database("rows_from")?;
    let mut to = bench.database("rows_to")?;
    create_table(&mut from, "t")?;
    create_table(&mut to, "t")?;
    from.batch_execute(&format!("insert into t {}", some_rows(1, bench.rows)))?;
    from.batch_execute("vacuum t")?;
    let mut times = vec![Vec::new(); 4];
    for _ in 0..bench.rounds {
        for (at, time) in times.iter_mut().enumerate() {
            if at < 2 {
                to.batch_execute("truncate t")?;
            }
            to.batch_execute("checkpoint")?;
            let event = (at == 3).then_some(Event::Update);
            if event.is_some() {
                to.batch_execute("update t set amount = amount + 1")?;
                to.batch_execute("vacuum t")?;
            }
            time.push(if at == 0 {
                copy(bench, "rows_from", "rows_to")?
            } else {
                deliver(bench, event)?
            });
            let rows: i64 = to.query_one("select count(*) from t", &[])?.get(0);
            assert_eq!(rows as u64, bench.rows);
        }
    }
    let of = |at: usize| median(times[at].clone());
    report("rows into an empty table / copy", of(0), of(1), 2.0);
    report("the same rows once more / copy", of(0), of(2), 3.0);
    report("every row changed / copy", of(0), of(3), 5.0);
    Ok(())
}

/// Rows that were there before, into another database, against psql's `copy` of the same rows.
pub fn init(bench: &mut Bench) -> Outcome {
    let (mut copies, mut inits) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let mut from = bench.database("init_from")?;
        let mut to = bench.database("init_to")?;
        create_table(&mut from, "t")?;
        create_table(&mut to, "t")?;
        from.batch_execute(&format!("insert into t {}", some_rows(1, bench.rows)))?;
        from.batch_execute("vacuum analyze t")?;
        copies.push(copy(bench, "init_from", "init_to")?);
        to.batch_execute("truncate t")?;
        to.batch_execute("checkpoint")?;
        let sink = format!("{{ postgres: {{ uri: \"{}\" }} }}", uri(bench, "init_to"));
        let manifest = bench.write(
            "init.yaml",
            &format!("version: 1\nroles: {{ admin: null, viewer: null }}\nsinks: {{ s: {sink} }}\nbindings: {{ b: {{ table: public.t, to: s, row: {{}} }} }}\n"),
        )?;
        bench.emaj("init_from", &["install", "-q"], &manifest)?;
        let started = Instant::now();
        bench.emaj("init_from", &["init", "-q"], &manifest)?;
        inits.push(started.elapsed());
        let rows: i64 = to.query_one("select count(*) from t", &[])?.get(0);
        assert_eq!(rows as u64, bench.rows);
    }
    report(
        "rows by `init` into another database / copy",
        median(copies),
        median(inits),
        2.0,
    );
    Ok(())
}

fn uri(bench: &Bench, database: &str) -> String {
    let env: HashMap<&str, String> = bench.cluster.env(database).into_iter().collect();
    format!(
        "postgresql:///{database}?host={}&port={}&user={}",
        env["PGHOST"], env["PGPORT"], env["PGUSER"]
    )
}

fn copy(bench: &Bench, from: &str, to: &str) -> Outcome<Duration> {
    let psql = |database: &str, sql: &str| {
        let mut command = Command::new(bench.cluster.bindir().join("psql"));
        command.args(["-X", "-q", "-c", sql]).envs(bench.cluster.env(database));
        command
    };
    let started = Instant::now();
    let mut reader = psql(from, "copy t to stdout").stdout(Stdio::piped()).spawn()?;
    let rows = reader.stdout.take().ok_or("no pipe")?;
    let written = psql(to, "copy t from stdin").stdin(rows).status()?;
    if !reader.wait()?.success() || !written.success() {
        return Err("psql failed".into());
    }
    Ok(started.elapsed())
}

/// Reads rows as JSON in one thread and delivers them in another, which is what a courier does.
fn deliver(bench: &Bench, event: Option<Event>) -> Outcome<Duration> {
    let path = bench.write(
        "rows.yaml",
        &format!(
            "version: 1\nsinks: {{ there: {{ postgres: {{ host: \"{}\", port: {}, dbname: rows_to, user: {} }} }} }}\n",
            bench.cluster.socket_dir().display(),
            bench.cluster.port(),
            bench.cluster.superuser()
        ),
    )?;
    let manifest = manifest::load(&[path]).map_err(|error| error.to_string())?.manifest;
    let opener = opener(
        &manifest,
        manifest.sink("there").ok_or("no sink")?,
        &Environment::default(),
        "bench",
    )?;
    let mut sink = opener.open()?;
    let started = Instant::now();
    let (sender, receiver) = sync_channel::<Vec<Delivery>>(2);
    let (batch, mut source) = (opener.batch(), bench.client("rows_from")?);
    let reader = std::thread::spawn(move || -> Result<(), postgres::Error> {
        let none = std::iter::empty::<&(dyn postgres::types::ToSql + Sync)>();
        let mut rows = source.query_raw("select row_to_json(t)::text from t", none)?;
        let (table, key) = (QualifiedName::new("public", "t"), vec!["id".to_owned()]);
        let (mut deliveries, mut number) = (Vec::with_capacity(batch), 0);
        let binding: Arc<str> = "t".into();
        while let Some(row) = rows.next()? {
            number += 1;
            deliveries.push(Delivery {
                id: format!("id-{number}"),
                binding: Arc::clone(&binding),
                offset: Offset(format!("{number:016x}")),
                time: "2026-01-02T03:04:05.000006Z".to_owned(),
                replay: None,
                retried: false,
                event,
                action: Action::Row(RowChange {
                    table: table.clone(),
                    key: key.clone(),
                    delete: None,
                    taken: false,
                    heir: None,
                    upsert: Some(row.get::<_, &str>(0).into()),
                }),
            });
            if deliveries.len() == batch
                && sender
                    .send(std::mem::replace(&mut deliveries, Vec::with_capacity(batch)))
                    .is_err()
            {
                return Ok(());
            }
        }
        let _ = sender.send(deliveries);
        Ok(())
    });
    for batch in receiver {
        if let Some(Fate::Failed(fault)) = sink
            .deliver(&batch)
            .into_iter()
            .find(|fate| matches!(fate, Fate::Failed(_)))
        {
            return Err(fault.into());
        }
    }
    reader.join().map_err(|_| "the reader failed")??;
    Ok(started.elapsed())
}
