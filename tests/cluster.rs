//! The throw-away cluster: it starts, survives crashes, lets nobody else in, and leaves nothing, whatever ends its owner.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use emaj::cluster::Cluster;
use postgres::{Client, NoTls};
use rustix::process::{Pid, Signal, kill_process};
use secrecy::ExposeSecret as _;

/// Set for a run of this binary that is to own a cluster until it is killed.
const AS_OWNER: &str = "EMAJ_TEST_AS_OWNER";

fn connect(cluster: &Cluster) -> Client {
    Client::connect(&cluster.conninfo("postgres"), NoTls).unwrap()
}

fn count(cluster: &Cluster) -> i64 {
    connect(cluster)
        .query_one("select count(*) from public.t", &[])
        .unwrap()
        .get(0)
}

/// Returns the living processes that name `directory` on their command line or run in it (zombies do neither).
fn processes_of(directory: &Path) -> Vec<PathBuf> {
    let name = directory.to_str().unwrap();
    let concerns = |process: &PathBuf| {
        let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
        let inside = std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(directory));
        inside || String::from_utf8_lossy(&line).contains(name)
    };
    let all = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    all.filter(|path| {
        path.file_name()
            .is_some_and(|n| n.as_encoded_bytes()[0].is_ascii_digit())
    })
    .filter(concerns)
    .collect()
}

/// Returns the id of the System V segment that the postmaster noted in its file.
fn segment_of(cluster: &Cluster) -> String {
    let file = std::fs::read_to_string(cluster.data_dir().join("postmaster.pid")).unwrap();
    file.lines()
        .nth(6)
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .to_owned()
}

fn segment_exists(id: &str) -> bool {
    let table = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
    table.lines().any(|line| line.split_whitespace().nth(1) == Some(id))
}

fn maps_of(cluster: &Cluster) -> String {
    std::fs::read_to_string(format!("/proc/{}/maps", cluster.postmaster_pid().unwrap())).unwrap()
}

#[track_caller]
fn assert_nothing_left(directory: &Path) {
    let end = Instant::now() + Duration::from_secs(30);
    while directory.exists() || !processes_of(directory).is_empty() {
        assert!(
            Instant::now() < end,
            "left: {} {:?}",
            directory.exists(),
            processes_of(directory)
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_cluster_starts_with_its_settings_and_leaves_nothing() {
    let cluster = Cluster::builder()
        .settings([("work_mem", "7MB"), ("app.motto", "it's")])
        .start()
        .unwrap();
    let mut client = connect(&cluster);
    let mut show = |name: &str| {
        client
            .query_one(&format!("show {name}"), &[])
            .unwrap()
            .get::<_, String>(0)
    };
    assert_eq!(show("work_mem"), "7MB");
    assert_eq!(show("app.motto"), "it's");
    assert_eq!(show("max_prepared_transactions"), "64");
    assert_eq!(show("listen_addresses"), "127.0.0.1");
    assert_ne!(cluster.port(), 5432);
    let directory = cluster.socket_dir().parent().unwrap().to_path_buf();
    assert!(
        !processes_of(&directory).is_empty(),
        "the test can see the processes that must go"
    );
    drop(cluster);
    assert!(!directory.exists());
    assert_eq!(processes_of(&directory), Vec::<PathBuf>::new());
}

#[test]
fn nobody_else_gets_in() {
    let cluster = Cluster::builder().start().unwrap();
    let directory = cluster.socket_dir();
    assert_eq!(std::fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
    let host = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", cluster.port());
    assert!(Client::connect(&host, NoTls).is_err(), "without a password");
    assert!(
        Client::connect(&format!("{host} password=postgres"), NoTls).is_err(),
        "with a wrong one"
    );
    let mut client = Client::connect(cluster.tcp_conninfo("postgres").expose_secret(), NoTls).unwrap();
    assert_eq!(client.query_one("select 1", &[]).unwrap().get::<_, i32>(0), 1);
    assert!(
        !format!("{cluster:?}").contains(cluster.password().expose_secret()),
        "the password is not shown"
    );
}

#[test]
fn what_is_committed_survives_crashes_and_restarts() {
    let mut cluster = Cluster::builder().durable().start().unwrap();
    let port = cluster.port();
    connect(&cluster)
        .batch_execute("create table public.t (n int); insert into public.t values (1)")
        .unwrap();

    let mut open = connect(&cluster);
    open.batch_execute("begin; insert into public.t values (2)").unwrap();
    cluster.stop_immediate().unwrap();
    assert!(Client::connect(&cluster.conninfo("postgres"), NoTls).is_err());
    assert!(cluster.stop_immediate().is_err(), "it is stopped already");
    cluster.start_again().unwrap();
    assert_eq!(count(&cluster), 1);

    let mut open = connect(&cluster);
    open.batch_execute("insert into public.t values (3)").unwrap();
    open.batch_execute("begin; insert into public.t values (4)").unwrap();
    cluster.kill9_postmaster().unwrap();
    cluster.start_again().unwrap();
    assert_eq!(count(&cluster), 2);

    cluster.restart().unwrap();
    assert_eq!(count(&cluster), 2);
    assert_eq!(cluster.port(), port);
}

#[test]
fn a_cluster_whose_postmaster_was_killed_leaves_nothing() {
    let mut cluster = Cluster::builder().start().unwrap();
    let directory = cluster.socket_dir().parent().unwrap().to_path_buf();
    let _session = connect(&cluster);
    assert!(
        !maps_of(&cluster).contains("/dev/shm/PostgreSQL."),
        "nothing that a killed server would leave there"
    );
    let segment = segment_of(&cluster);
    assert!(segment_exists(&segment));
    cluster.kill9_postmaster().unwrap();
    drop(cluster);
    assert_nothing_left(&directory);
    assert!(!segment_exists(&segment));
}

#[test]
fn a_cluster_whose_watchdog_was_killed_leaves_nothing() {
    let cluster = Cluster::builder().start().unwrap();
    let directory = cluster.socket_dir().parent().unwrap().to_path_buf();
    let is_watchdog = |process: &PathBuf| {
        let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("emaj-watchdog")
    };
    let watchdogs: Vec<_> = processes_of(&directory).into_iter().filter(is_watchdog).collect();
    let [watchdog] = watchdogs.as_slice() else {
        panic!("one watchdog, not {watchdogs:?}")
    };
    let id = watchdog.file_name().unwrap().to_str().unwrap().parse().unwrap();
    kill_process(Pid::from_raw(id).unwrap(), Signal::KILL).unwrap();
    drop(cluster);
    assert_nothing_left(&directory);
}

#[test]
fn a_server_that_cannot_start_says_why_and_leaves_nothing() {
    let before = Instant::now();
    let error = Cluster::builder()
        .settings([("max_connections", "many")])
        .start()
        .unwrap_err();
    let text = error.to_string();
    assert!(text.contains("max_connections"), "{text}");
    assert!(before.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_killed_owner_leaves_nothing() {
    ends_without_a_trace("cluster::a_killed_owner_leaves_nothing", Signal::KILL);
}

#[test]
fn an_interrupted_owner_leaves_nothing() {
    ends_without_a_trace("cluster::an_interrupted_owner_leaves_nothing", Signal::INT);
}

/// Runs the calling test once more, in a process that owns a cluster, and ends that process by `signal`.
fn ends_without_a_trace(test: &str, signal: Signal) {
    if std::env::var_os(AS_OWNER).is_some() {
        let cluster = Cluster::builder().start().unwrap();
        let _session = connect(&cluster);
        println!("\ncluster {}", cluster.socket_dir().parent().unwrap().display());
        // Standard input ends when the test ends without having ended this process: then it has failed.
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        panic!("nobody ended the owner");
    }
    // What a shell starts in the background ignores interrupts, and so would all that it starts.
    let mut owner = Command::new("env")
        .arg("--default-signal=INT")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(AS_OWNER, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap());
    let directory = loop {
        let mut line = String::new();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "the owner ended too early");
        if let Some(directory) = line.strip_prefix("cluster ") {
            break PathBuf::from(directory.trim_end());
        }
    };
    assert!(
        !processes_of(&directory).is_empty(),
        "the test can see the processes that must go"
    );
    kill_process(Pid::from_child(&owner), signal).unwrap();
    assert!(!owner.wait().unwrap().success());
    // Nothing of the cluster holds the owner's output open: a pipeline behind it would never end.
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert_nothing_left(&directory);
}
