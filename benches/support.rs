//! The cluster, the clocks and the table of results.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use emaj::cluster::Cluster;
use postgres::{Client, NoTls};

pub type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

pub struct Bench {
    pub cluster: Cluster,
    pub rows: u64,
    pub rounds: usize,
    folder: tempfile::TempDir,
}

impl Bench {
    /// Starts a cluster with PostgreSQL's own settings: it waits for the disk and writes full pages, as a server does that is in use.
    /// Only its size is that of a small server, and no checkpoint and no autovacuum falls into the time of one side alone.
    pub fn start() -> Outcome<Bench> {
        let number = |name: &str, default: u64| {
            std::env::var(name)
                .ok()
                .and_then(|text| text.parse().ok())
                .unwrap_or(default)
        };
        let cluster = Cluster::builder()
            .durable()
            .settings([
                ("shared_buffers", "1GB"),
                ("max_wal_size", "16GB"),
                ("checkpoint_timeout", "1h"),
                ("autovacuum", "off"),
                ("max_locks_per_transaction", "1024"),
                ("maintenance_work_mem", "256MB"),
            ])
            .start()?;
        Ok(Bench {
            cluster,
            rows: number("EMAJ_BENCH_ROWS", 1_000_000),
            rounds: number("EMAJ_BENCH_ROUNDS", 3) as usize,
            folder: tempfile::tempdir()?,
        })
    }

    /// Returns what the figures were measured on.
    pub fn machine(&self) -> Outcome<String> {
        let mut client = self.client("postgres")?;
        let version: String = client.query_one("select split_part(version(), ' on ', 1)", &[])?.get(0);
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
        let cores = std::thread::available_parallelism()?;
        Ok(format!(
            "{version}, {cores} cores, load {load}, {} rows, median of {}",
            self.rows, self.rounds
        ))
    }

    pub fn client(&self, database: &str) -> Outcome<Client> {
        Ok(Client::connect(&self.cluster.conninfo(database), NoTls)?)
    }

    /// Makes a fresh database.
    pub fn database(&self, name: &str) -> Outcome<Client> {
        let mut client = self.client("postgres")?;
        client.batch_execute(&format!("drop database if exists {name} with (force)"))?;
        client.batch_execute(&format!("create database {name}"))?;
        self.client(name)
    }

    pub fn write(&self, name: &str, text: &str) -> Outcome<PathBuf> {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// Returns what leads libpq and the program to a database.
    pub fn environment(&self, database: &str) -> impl IntoIterator<Item = (&'static str, String)> {
        self.cluster.env(database)
    }

    /// Runs the program; returns the time it took and its peak of memory in KiB.
    pub fn emaj(&self, database: &str, args: &[&str], manifest: &Path) -> Outcome<(Duration, u64)> {
        let started = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_emaj"))
            .args(args)
            .arg(manifest)
            .envs(self.cluster.env(database))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        // The high-water mark only grows: the last look before the end is near enough to the peak.
        let status = format!("/proc/{}/status", child.id());
        let mut peak = 0;
        let code = loop {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            let kib = text
                .lines()
                .find_map(|line| line.strip_prefix("VmHWM:"))
                .and_then(|line| line.trim().split(' ').next()?.parse().ok());
            peak = peak.max(kib.unwrap_or(0));
            if let Some(code) = child.try_wait()? {
                break code;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        if !code.success() {
            return Err(format!("emaj {args:?}: {code}").into());
        }
        Ok((started.elapsed(), peak))
    }

    /// Installs emaj on tables of a database.
    pub fn install(&self, database: &str, tables: &str) -> Outcome {
        let manifest = self.write(
            &format!("{database}.yaml"),
            &format!(
                "version: 1\nroles: {{ admin: null, viewer: null }}\ngroups: {{ bench: {{ tables: {tables} }} }}\n"
            ),
        )?;
        self.emaj(database, &["install", "-q"], &manifest)?;
        Ok(())
    }
}

/// The table that everything is measured on: five columns, two indexes.
pub fn create_table(client: &mut Client, name: &str) -> Outcome {
    client.batch_execute(&format!(
        "create table {name} (id bigint primary key, grp int not null, label text not null, amount numeric(12,2),
                              ts timestamptz default now());
         create index on {name} (grp)"
    ))?;
    Ok(())
}

/// A query that makes `rows` rows for it.
pub fn some_rows(from: u64, to: u64) -> String {
    format!("select i, i % 1000, 'label ' || i, (i % 10000) / 7.0, now() from generate_series({from}, {to}) i")
}

pub fn timed(client: &mut Client, sql: &str) -> Outcome<Duration> {
    let started = Instant::now();
    client.batch_execute(sql)?;
    Ok(started.elapsed())
}

pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Prints one line of the result.
pub fn report(what: &str, baseline: Duration, measured: Duration, target: impl Into<Option<f64>>) {
    let ratio = measured.as_secs_f64() / baseline.as_secs_f64();
    println!(
        "{what:<48} {:>10} {:>10} {ratio:>8.2} {:>8}",
        show(baseline),
        show(measured),
        target.into().map(|target| format!("≤ {target:.2}")).unwrap_or_default()
    );
}

pub fn show(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds >= 1.0 => format!("{seconds:.2} s"),
        seconds if seconds >= 0.001 => format!("{:.2} ms", seconds * 1e3),
        seconds => format!("{:.2} µs", seconds * 1e6),
    }
}

/// Whether the server has the extension E-Maj, to be measured beside.
pub fn has_extension(client: &mut Client) -> Outcome<bool> {
    Ok(client
        .query_one(
            "select exists (select from pg_available_extensions where name = 'emaj')",
            &[],
        )?
        .get(0))
}
