//! Delivery from end to end: the drain of a backlog, the delay of a change, the cost of standing by.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use postgres::Client;

use crate::support::{Bench, Outcome, create_table, median, show, some_rows};

pub fn run(bench: &mut Bench) -> Outcome {
    drain(
        bench,
        "file",
        "{ file: { path: \"${env:BENCH_FILE}\" } }",
        "{}",
        50_000.0,
        false,
    )?;
    drain(
        bench,
        "file, one transaction open",
        "{ file: { path: \"${env:BENCH_FILE}\" } }",
        "{}",
        50_000.0,
        true,
    )?;
    let nats = Nats::start()?;
    let sink = format!(
        "{{ nats: {{ url: \"nats://127.0.0.1:{}\", stream: BENCH }} }}",
        nats.port
    );
    drain(bench, "NATS", &sink, "{ subject: bench.row }", 20_000.0, false)?;
    drop(nats);
    delay(bench)?;
    idle(bench)
}

/// A backlog of single changes, each transaction with a thousand of them.
fn drain(bench: &mut Bench, what: &str, sink: &str, message: &str, target: f64, open: bool) -> Outcome {
    let mut rates = Vec::new();
    let mut peak = 0;
    for _ in 0..bench.rounds {
        let mut client = bench.database("drain")?;
        create_table(&mut client, "t")?;
        let manifest = manifest(
            bench,
            sink,
            &format!("b: {{ table: public.t, to: s, message: {message} }}"),
        )?;
        let file = fresh_file(&manifest);
        bench.emaj("drain", &["install", "-q"], &manifest)?;
        let mut long = bench.client("drain")?;
        let mut long = long.transaction()?;
        if open {
            long.execute("insert into t values (-1, 1, 'open', 1, now())", &[])?;
        }
        client.batch_execute("set synchronous_commit = off")?;
        for first in (1..=bench.rows).step_by(1000) {
            client.batch_execute(&format!("insert into t {}", some_rows(first, first + 999)))?;
        }
        client.batch_execute("checkpoint")?;
        let started = Instant::now();
        let memory = worker_to_end(bench, &manifest, &file)?;
        rates.push(started.elapsed());
        peak = peak.max(memory);
        drop(long);
    }
    let time = median(rates);
    let rate = bench.rows as f64 / time.as_secs_f64();
    println!(
        "{:<48} {:>10} {:>10} {:>8} {:>8}",
        format!("drain of {} events to {what}", bench.rows),
        show(time),
        format!("{rate:.0}/s"),
        format!("{} MiB", peak / 1024),
        format!("≥ {target:.0}/s")
    );
    Ok(())
}

/// A thousand single-row transactions a second; from the commit to the line in the file.
fn delay(bench: &mut Bench) -> Outcome {
    let mut client = bench.database("delay")?;
    create_table(&mut client, "t")?;
    let manifest = manifest(
        bench,
        "{ file: { path: \"${env:BENCH_FILE}\" } }",
        "b: { table: public.t, to: s, message: {} }",
    )?;
    let file = fresh_file(&manifest);
    bench.emaj("delay", &["install", "-q"], &manifest)?;
    let mut worker = worker(bench, "delay", &manifest, &file, &[])?;
    std::thread::sleep(Duration::from_secs(2));
    let number = 20_000_i64;
    let (commits, arrivals) = std::thread::scope(|scope| -> Outcome<_> {
        let tail = scope.spawn(|| tail(&file, number));
        let writers: Vec<_> = (0..4_i64)
            .map(|writer| {
                let client = bench.client("delay").map_err(|error| error.to_string());
                scope.spawn(move || -> Result<Vec<(i64, Instant)>, String> {
                    let mut client: Client = client?;
                    let insert = "insert into t values ($1, 1, 'x', 1, now())";
                    let insert = client.prepare(insert).map_err(|error| error.to_string())?;
                    let began = Instant::now();
                    let mut commits = Vec::new();
                    for n in 0..number / 4 {
                        let due = began + Duration::from_millis(4) * u32::try_from(n).unwrap_or(0);
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                        let id = n * 4 + writer;
                        client.execute(&insert, &[&id]).map_err(|error| error.to_string())?;
                        commits.push((id, Instant::now()));
                    }
                    Ok(commits)
                })
            })
            .map(|writer| {
                writer
                    .join()
                    .map_err(|_| "a writer broke down")?
                    .map_err(|error| error.to_string())
            })
            .collect::<Result<Vec<_>, String>>()?;
        let arrivals = tail.join().map_err(|_| "the reader broke down")?;
        Ok((writers.concat(), arrivals))
    })?;
    worker.kill()?;
    worker.wait()?;
    let mut delays: Vec<Duration> = commits
        .iter()
        .filter_map(|(id, at)| Some(arrivals.get(id)?.saturating_duration_since(*at)))
        .collect();
    delays.sort_unstable();
    assert_eq!(delays.len() as i64, number, "every change arrived");
    let at = |share: usize| delays[delays.len() * share / 100];
    println!(
        "{:<48} {:>10} {:>10} {:>8} {:>8}",
        "from commit to the file at 1,000/s: p50, p99",
        show(at(50)),
        show(at(99)),
        "",
        "50, 250"
    );
    Ok(())
}

fn tail(file: &Path, number: i64) -> HashMap<i64, Instant> {
    let mut arrivals = HashMap::new();
    let end = Instant::now() + Duration::from_secs(120);
    let mut lines: Option<BufReader<std::fs::File>> = None;
    let mut line = String::new();
    while (arrivals.len() as i64) < number && Instant::now() < end {
        let Some(reader) = &mut lines else {
            lines = std::fs::File::open(file).ok().map(BufReader::new);
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        match reader.read_line(&mut line) {
            Ok(0) | Err(_) => std::thread::sleep(Duration::from_millis(1)),
            Ok(_) if !line.ends_with('\n') => {}
            Ok(_) => {
                let id = line
                    .split_once("\"row\":{\"id\":")
                    .and_then(|(_, rest)| rest.split(',').next()?.parse().ok());
                if let Some(id) = id {
                    arrivals.insert(id, Instant::now());
                }
                line.clear();
            }
        }
    }
    arrivals
}

/// A thousand captured and bound tables, and nothing to do.
fn idle(bench: &mut Bench) -> Outcome {
    let mut client = bench.database("idle")?;
    for first in (1..=1000).step_by(50) {
        let sql: String = (first..first + 50)
            .map(|n| format!("create table t{n} (id int primary key, a text);"))
            .collect();
        client.batch_execute(&sql)?;
    }
    let bindings: Vec<String> = (1..=1000)
        .map(|n| format!("b{n}: {{ table: public.t{n}, to: s, message: {{}} }}"))
        .collect();
    let manifest = manifest(
        bench,
        "{ file: { path: \"${env:BENCH_FILE}\" } }",
        &bindings.join("\n  "),
    )?;
    let file = fresh_file(&manifest);
    bench.emaj("idle", &["install", "-q"], &manifest)?;
    for (what, busy) in [("nothing to do", false), ("others write", true)] {
        let mut worker = worker(bench, "idle", &manifest, &file, &[])?;
        std::thread::sleep(Duration::from_secs(8));
        client.batch_execute("create table if not exists other (n int)")?;
        let backends: Vec<i32> = client
            .query(
                "select pid from pg_stat_activity where application_name like 'emaj%'",
                &[],
            )?
            .iter()
            .map(|row| row.get(0))
            .collect();
        let all: Vec<i32> = backends.into_iter().chain([i32::try_from(worker.id())?]).collect();
        let (before, began) = (ticks(&all), Instant::now());
        while began.elapsed() < Duration::from_secs(20) {
            if busy {
                client.batch_execute("insert into other values (1)")?;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let share = (ticks(&all) - before) as f64 / 100.0 / began.elapsed().as_secs_f64() * 100.0;
        worker.kill()?;
        worker.wait()?;
        println!(
            "{:<48} {:>10} {:>10} {:>8} {:>8}",
            format!("1,000 bound tables, {what}: of a core"),
            "",
            format!("{share:.1} %"),
            "",
            "≤ 2 %"
        );
    }
    Ok(())
}

/// Processor time of processes, in hundredths of a second.
fn ticks(processes: &[i32]) -> u64 {
    processes
        .iter()
        .filter_map(|id| {
            let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
            let rest = text.rsplit_once(") ")?.1;
            let fields: Vec<&str> = rest.split(' ').collect();
            Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
        })
        .sum()
}

fn manifest(bench: &Bench, sink: &str, bindings: &str) -> Outcome<PathBuf> {
    bench.write(
        "deliver.yaml",
        &format!("version: 1\nroles: {{ admin: null, viewer: null }}\nsinks:\n  s: {sink}\nbindings:\n  {bindings}\n"),
    )
}

fn fresh_file(manifest: &Path) -> PathBuf {
    let file = manifest.with_file_name("out.ndjson");
    for name in ["out.ndjson", "out.ndjson.emaj"] {
        let _ = std::fs::remove_file(manifest.with_file_name(name));
    }
    file
}

fn worker(bench: &Bench, database: &str, manifest: &Path, file: &Path, args: &[&str]) -> Outcome<Child> {
    Ok(Command::new(env!("CARGO_BIN_EXE_emaj"))
        .args(["run", "-q"])
        .args(args)
        .arg(manifest)
        .env("BENCH_FILE", file)
        .envs(bench.cluster.env(database))
        .stdout(Stdio::null())
        .spawn()?)
}

/// Runs a worker until all is delivered; returns its peak of memory in KiB.
fn worker_to_end(bench: &Bench, manifest: &Path, file: &Path) -> Outcome<u64> {
    let mut worker = worker(bench, "drain", manifest, file, &["--until-empty"])?;
    let status = format!("/proc/{}/status", worker.id());
    let mut peak = 0;
    loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let kib = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak = peak.max(
            kib.and_then(|line| line.trim().split(' ').next()?.parse().ok())
                .unwrap_or(0),
        );
        if let Some(code) = worker.try_wait()? {
            return match code.success() {
                true => Ok(peak),
                false => Err(format!("the worker: {code}").into()),
            };
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A NATS server with a stream in memory.
struct Nats {
    port: u16,
    server: Child,
    _folder: tempfile::TempDir,
}

impl Nats {
    fn start() -> Outcome<Nats> {
        let folder = tempfile::tempdir()?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let server = Command::new("nats-server")
            .env("PATH", crate::ldap::slapd::search_path())
            .args(["-js", "-a", "127.0.0.1", "-p", &port.to_string(), "-sd"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("nats-server: {error}: apt-get install nats-server"))?;
        let nats = Nats {
            port,
            server,
            _folder: folder,
        };
        std::thread::sleep(Duration::from_millis(700));
        nats.make_stream()?;
        Ok(nats)
    }

    fn make_stream(&self) -> Outcome {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        let body = r#"{"name":"BENCH","subjects":["bench.>"],"storage":"file","retention":"limits","max_age":0,"duplicate_window":120000000000}"#;
        write!(
            stream,
            "CONNECT {{\"verbose\":false}}\r\nSUB answer 1\r\nPUB $JS.API.STREAM.CREATE.BENCH answer {}\r\n{body}\r\nPING\r\n",
            body.len()
        )?;
        let mut said = String::new();
        let mut part = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut part) {
            said.push_str(&String::from_utf8_lossy(&part[..read]));
        }
        match said.contains("stream_create_response") && !said.contains("\"error\"") {
            true => Ok(()),
            false => Err(format!("no stream: {said}").into()),
        }
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
