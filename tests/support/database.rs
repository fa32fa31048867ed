//! A fresh database for each test, in a cluster that all tests of the binary share.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use emaj::cluster::Cluster;
use postgres::{Client, NoTls};
use tempfile::TempDir;

static CLUSTER: OnceLock<Cluster> = OnceLock::new();
static COUNT: AtomicU32 = AtomicU32::new(1);

/// Returns the cluster of this test binary; it is for databases, not for stopping or crashing (make your own for that).
pub fn shared_cluster() -> &'static Cluster {
    CLUSTER.get_or_init(|| {
        Cluster::builder()
            .start()
            .unwrap_or_else(|error| panic!("no cluster for the tests: {error}"))
    })
}

/// Makes a fresh, empty database; it goes when the value is dropped, sessions and prepared transactions included.
pub fn database() -> Database {
    let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
    run_as_admin(&format!("create database {name}"));
    let directory = tempfile::Builder::new()
        .prefix("emaj-test-")
        .tempdir()
        .expect("a directory for the test");
    Database { name, directory }
}

/// A test's own database, and a directory for its files.
#[derive(Debug)]
pub struct Database {
    name: String,
    directory: TempDir,
}

impl Database {
    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Opens a session as superuser.
    pub fn client(&self) -> Client {
        self.client_as(shared_cluster().superuser())
    }

    /// Opens a session as `role`; the cluster's socket asks for no password.
    pub fn client_as(&self, role: &str) -> Client {
        let conninfo = self.conninfo_as(role);
        Client::connect(&conninfo, NoTls).unwrap_or_else(|error| panic!("cannot connect to `{conninfo}`: {error}"))
    }

    /// Returns the superuser's connection string.
    pub fn conninfo(&self) -> String {
        shared_cluster().conninfo(&self.name)
    }

    /// Returns the connection string of `role`.
    pub fn conninfo_as(&self, role: &str) -> String {
        // The last of two settings wins, as in libpq.
        format!(
            "{} user='{}'",
            self.conninfo(),
            role.replace('\\', "\\\\").replace('\'', "\\'")
        )
    }

    /// Returns what libpq and `emaj` read from the environment to find this database as superuser.
    pub fn env(&self) -> [(&'static str, String); 4] {
        shared_cluster().env(&self.name)
    }

    /// Runs `sql` by psql as superuser and returns what it prints, without headings and alignment.
    pub fn psql(&self, sql: &str) -> String {
        let mut command = Command::new(psql());
        command.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            &self.conninfo(),
            "-c",
            sql,
        ]);
        let output = command.output().expect("psql runs");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "psql failed on `{sql}`:\n{complaint}");
        String::from_utf8(output.stdout)
            .expect("psql prints UTF-8")
            .trim_end()
            .to_owned()
    }

    /// Says whether a session of this database waits for a lock, of whatever kind.
    pub fn waits_for_a_lock(&self) -> bool {
        let waits = "select exists (select from pg_stat_activity where datname = current_database() and backend_type = 'client backend' and wait_event_type = 'Lock')";
        self.client()
            .query_one(waits, &[])
            .expect("activity can be seen")
            .get(0)
    }

    /// Returns what [`dump`] says of this database.
    pub fn dump(&self, options: &[&str]) -> String {
        dump(shared_cluster(), &self.conninfo(), options)
    }

    /// Returns the test's own directory; `emaj` runs in it.
    pub fn dir(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file into the test's directory and returns its path.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir().join(name);
        std::fs::write(&path, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        path
    }
}

/// Returns a database as pg_dump writes it down, without what differs from one dump to the next and what only newer servers know.
pub fn dump(cluster: &Cluster, conninfo: &str, options: &[&str]) -> String {
    let output = Command::new(cluster.bindir().join("pg_dump"))
        .args(options)
        .args(["-d", conninfo])
        .output()
        .expect("pg_dump is beside the server");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("pg_dump writes UTF-8");
    let stays = |line: &&str| {
        !["\\restrict ", "\\unrestrict ", "SET transaction_timeout"]
            .iter()
            .any(|start| line.starts_with(start))
    };
    text.lines()
        .filter(stays)
        .fold(String::new(), |text, line| text + line + "\n")
}

impl Drop for Database {
    fn drop(&mut self) {
        // `force` ends sessions, but a prepared transaction would still keep the database.
        let prepared = "select gid from pg_prepared_xacts where database = current_database()";
        let ended = Client::connect(&self.conninfo(), NoTls).and_then(|mut client| {
            for row in client.query(prepared, &[])? {
                let gid: String = row.get(0);
                client.batch_execute(&format!("rollback prepared '{}'", gid.replace('\'', "''")))?;
            }
            Ok(())
        });
        let dropped = ended.and_then(|()| admin()?.batch_execute(&format!("drop database {} with (force)", self.name)));
        if let Err(error) = dropped {
            // A second panic while a test is failing would end the whole run.
            eprintln!("cannot drop the test's database {}: {error}", self.name);
        }
    }
}

/// Makes a role that is no superuser and owns a schema of its own name in `db`; it goes when the value is dropped.
pub fn owner(db: &Database) -> Owner<'_> {
    let name = format!("{}_owner", db.name);
    run_as_admin(&format!("create role {name} login"));
    db.client()
        .batch_execute(&format!(
            "create schema {name} authorization {name}; grant create on database {} to {name}",
            db.name
        ))
        .expect("a schema for the owner");
    Owner { db, name }
}

/// A role that is no superuser; its `search_path` finds its own schema first, which has its name.
#[derive(Debug)]
pub struct Owner<'db> {
    db: &'db Database,
    name: String,
}

impl Owner<'_> {
    /// Returns the name of the role and of its schema.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Opens a session as this role.
    pub fn client(&self) -> Client {
        self.db.client_as(&self.name)
    }
}

impl Drop for Owner<'_> {
    fn drop(&mut self) {
        drop_role(self.db, &self.name);
    }
}

/// Takes a test's role away, with its sessions and all that it owns.
pub(super) fn drop_role(db: &Database, name: &str) {
    let sql = format!(
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = '{name}';
         drop owned by {name} cascade; drop role {name}"
    );
    let dropped = Client::connect(&db.conninfo(), NoTls).and_then(|mut client| client.batch_execute(&sql));
    if let Err(error) = dropped {
        eprintln!("cannot drop the test's role {name}: {error}");
    }
}

fn admin() -> Result<Client, postgres::Error> {
    Client::connect(&shared_cluster().conninfo("postgres"), NoTls)
}

fn run_as_admin(sql: &str) {
    let done = admin().and_then(|mut client| client.batch_execute(sql));
    done.unwrap_or_else(|error| panic!("`{sql}` failed: {error:?}"));
}

/// Runs a file by psql, up to its first error, with these settings of its environment beside.
pub fn run_file(conninfo: &str, file: &Path, env: &[(&str, &str)]) {
    let output = Command::new(psql())
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", conninfo, "-f"])
        .arg(file)
        .envs(env.iter().copied())
        .output()
        .expect("psql runs");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
}

/// Returns the psql that came with the server, else the one on PATH.
fn psql() -> PathBuf {
    let beside = shared_cluster().bindir().join("psql");
    if beside.is_file() {
        beside
    } else {
        PathBuf::from("psql")
    }
}
