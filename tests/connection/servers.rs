//! The servers of the test, thrown away at its end, and two places where no server answers.
//!
//! The seam to a general throw-away cluster is [`Server::start`]: a directory, a port, lines of configuration.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tempfile::TempDir;

use super::{bin_dir, certificates};
use crate::support::sinks::free_port;

/// One running server; stopped when dropped.
pub struct Server {
    data: PathBuf,
    pub port: u16,
}

/// The user a server runs as when we are root, which PostgreSQL refuses to run as.
struct Owner {
    uid: u32,
    gid: u32,
}

fn owner() -> Option<Owner> {
    let is_root = whoami::username().unwrap() == "root";
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line = users
        .lines()
        .find(|line| line.starts_with("postgres:"))
        .filter(|_| is_root)?;
    let fields: Vec<_> = line.split(':').collect();
    Some(Owner {
        uid: fields[2].parse().unwrap(),
        gid: fields[3].parse().unwrap(),
    })
}

fn program(name: &str) -> Command {
    let mut command = Command::new(bin_dir().join(name));
    if let Some(owner) = owner() {
        command.uid(owner.uid).gid(owner.gid);
    }
    command.env("LC_ALL", "C").current_dir("/").stdin(Stdio::null());
    command
}

fn run(command: &mut Command) {
    // A server started by pg_ctl keeps its output open: it must not be a pipe we wait for.
    let log = tempfile::tempfile().unwrap();
    let status = command
        .stdout(log.try_clone().unwrap())
        .stderr(log.try_clone().unwrap())
        .status()
        .unwrap();
    if !status.success() {
        use std::io::{Read, Seek};
        let (mut log, mut text) = (log, String::new());
        log.rewind().unwrap();
        log.read_to_string(&mut text).unwrap();
        panic!("{command:?} failed:\n{text}");
    }
}

pub fn own(path: &Path) {
    if let Some(owner) = owner() {
        std::os::unix::fs::chown(path, Some(owner.uid), Some(owner.gid)).unwrap();
    }
}

/// The default socket directory, so that a case can leave the host away. Who may not write there has none: psql and we then both
/// find no server, which is compared like everything else.
fn default_sockets() -> Option<&'static str> {
    let default = "/var/run/postgresql";
    let root = rustix::process::geteuid().is_root();
    if root {
        fs::create_dir_all(default).ok()?;
    }
    (root || tempfile::tempfile_in(default).is_ok()).then_some(default)
}

impl Server {
    /// Makes a cluster in `dir/name` and starts it.
    pub fn start(dir: &Path, name: &str, configuration: &str, hba: &str) -> Server {
        let data = dir.join(name);
        run(program("initdb")
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N", "-D"])
            .arg(&data));
        fs::write(data.join("pg_hba.conf"), hba).unwrap();
        Server::start_data(data, dir, configuration)
    }

    fn start_data(data: PathBuf, sockets: &Path, configuration: &str) -> Server {
        let port = free_port();
        let own = sockets.display();
        let default = default_sockets()
            .map(|default| format!(",{default}"))
            .unwrap_or_default();
        let text = format!(
            "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{own}{default}'\n\
             fsync = off\nshared_buffers = 16MB\nmax_connections = 30\n{configuration}\n"
        );
        fs::write(data.join("postgresql.auto.conf"), text).unwrap();
        let log = data.join("log");
        run(program("pg_ctl")
            .args(["start", "-w", "-t", "60", "-D"])
            .arg(&data)
            .arg("-l")
            .arg(&log));
        Server { data, port }
    }

    fn standby_of(primary: &Server, dir: &Path, name: &str, configuration: &str) -> Server {
        let data = dir.join(name);
        let port = primary.port.to_string();
        run(program("pg_basebackup")
            .args(["-U", "postgres", "-c", "fast", "-h"])
            .arg(dir)
            .args(["-p", &port, "-D"])
            .arg(&data));
        fs::write(data.join("standby.signal"), "").unwrap();
        own(&data.join("standby.signal"));
        let source = format!(
            "primary_conninfo = 'host={} port={port} user=postgres'\n{configuration}",
            dir.display()
        );
        Server::start_data(data, dir, &source)
    }

    fn sql(&self, dir: &Path, text: &str) {
        let port = self.port.to_string();
        run(program("psql")
            .args([
                "-X",
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-U",
                "postgres",
                "-d",
                "postgres",
                "-p",
                &port,
                "-c",
                text,
            ])
            .arg("-h")
            .arg(dir));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = program("pg_ctl")
            .args(["stop", "-m", "immediate", "-D"])
            .arg(&self.data)
            .stdout(Stdio::null())
            .status();
    }
}

pub struct Servers {
    /// TLS, and a line of `pg_hba.conf` for every method.
    main: Server,
    /// No TLS, and read-only sessions.
    plain: Server,
    /// A standby of `plain`; its certificate is signed by itself.
    standby: Server,
    /// A certificate with a common name only.
    named: Server,
    /// A certificate of X.509 version 1.
    old: Server,
    dead: u16,
    /// Takes connections and never says a word.
    hung: TcpListener,
    // Last, so that it outlives the servers in it.
    dir: TempDir,
}

const ROLES: &str = "
    create role scram_user login password 'scram secret';
    create role ssl_only login password 'scram secret';
    create role plain_only login password 'scram secret';
    create role fallback login password 'scram secret';
    create role tls_trust login;
    create role plain_user login password 'plain: secret\\';
    create role cert_user login;
    create role client_cert login;
    create role trusted login;
    create role crowded login connection limit 0;
    create role \"Odd 'user\" login password 'odd';
    create role rejected login;
    create role no_line login;
    create role locked_out nologin;
    set password_encryption = 'md5';
    create role md5_user login password 'md5 secret';";

const HBA: &str = "
    local all scram_user scram-sha-256
    local all md5_user md5
    local all rejected reject
    local all all trust
    hostssl all ssl_only all scram-sha-256
    hostnossl all plain_only all scram-sha-256
    hostssl all fallback all scram-sha-256
    hostnossl all fallback all trust
    hostssl all tls_trust all trust
    host all scram_user all scram-sha-256
    host all \"Odd 'user\" all scram-sha-256
    host all md5_user all md5
    host all plain_user all password
    host all rejected all reject
    hostssl all cert_user all cert
    hostssl all client_cert all trust clientcert=verify-ca
    host all trusted,crowded,locked_out,nobody_there,postgres all trust
    host all \"{ME}\" all trust";

const OPEN: &str = "
    local all all trust
    local replication all trust
    host all scram_user all scram-sha-256
    host all all all trust";

impl Servers {
    /// Returns the servers, started when no other test has them up.
    pub fn shared() -> Arc<Servers> {
        static RUNNING: Mutex<Weak<Servers>> = Mutex::new(Weak::new());
        // A test that failed while starting them says nothing about the next.
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        running.upgrade().unwrap_or_else(|| {
            let servers = Arc::new(Servers::start());
            *running = Arc::downgrade(&servers);
            servers
        })
    }

    fn start() -> Servers {
        let dir = tempfile::Builder::new().prefix("emaj-conn").tempdir().unwrap();
        own(dir.path());
        certificates::write_all(dir.path());
        let at = dir.path().display();
        let tls = |name: &str| {
            // The server wants its key for itself; the client's keys stay ours.
            for ending in ["crt", "key"] {
                own(&dir.path().join(format!("{name}.{ending}")));
            }
            format!(
                "ssl = on\nssl_cert_file = '{at}/{name}.crt'\nssl_key_file = '{at}/{name}.key'\nssl_ca_file = '{at}/ca.crt'"
            )
        };
        let me = whoami::username().unwrap();
        let roles = format!("{ROLES} create role \"{me}\" login;");

        let main = Server::start(dir.path(), "main", &tls("server"), &HBA.replace("{ME}", &me));
        main.sql(dir.path(), &roles);
        for name in [
            "trusted",
            "scram_user",
            "shop",
            "\"a b\"",
            "closed",
            &format!("\"{me}\""),
        ] {
            main.sql(dir.path(), &format!("create database {name}"));
        }
        main.sql(dir.path(), "revoke connect on database closed from public");
        let plain = Server::start(dir.path(), "plain", "", OPEN);
        plain.sql(dir.path(), &roles);
        plain.sql(dir.path(), "create database shop");
        plain.sql(dir.path(), "alter role trusted set default_transaction_read_only = on");
        let standby = Server::standby_of(&plain, dir.path(), "standby", &tls("alone"));
        let named = Server::start(dir.path(), "named", &tls("named"), OPEN);
        let old = Server::start(dir.path(), "old", &tls("old"), OPEN);
        for server in [&named, &old] {
            server.sql(dir.path(), &roles);
            server.sql(dir.path(), "create database shop");
        }
        let hung = TcpListener::bind("127.0.0.1:0").unwrap();
        Servers {
            main,
            plain,
            standby,
            named,
            old,
            dead: free_port(),
            hung,
            dir,
        }
    }

    /// Replaces the names of servers by their ports, and of directories by their paths.
    pub fn fill(&self, text: &str) -> String {
        let dir = self.dir.path().to_str().unwrap();
        let hung = self.hung.local_addr().unwrap().port();
        let ports = [
            ("{MAIN}", self.main.port),
            ("{PLAIN}", self.plain.port),
            ("{STANDBY}", self.standby.port),
            ("{NAMED}", self.named.port),
            ("{OLD}", self.old.port),
            ("{DEAD}", self.dead),
            ("{HUNG}", hung),
        ];
        let mut text = text.replace("{DIR}", dir);
        for file in ["alone.crt", "client.crt", "client.key"] {
            let name = format!("{{{file}}}");
            if text.contains(&name) {
                text = text.replace(&name, &fs::read_to_string(self.dir.path().join(file)).unwrap());
            }
        }
        ports
            .iter()
            .fold(text, |text, (name, port)| text.replace(name, &port.to_string()))
    }
}
