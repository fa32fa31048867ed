//! `emaj demo` tells its story to the end, every check in it holds, and nothing stays behind.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support;

/// Returns the command lines of living processes that name `directory`.
fn processes_of(directory: &Path) -> Vec<String> {
    let name = directory.to_str().unwrap();
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(name))
        .collect()
}

/// Makes a directory as `/tmp` is: the account of the servers can get there, and take away what is its own.
fn place() -> tempfile::TempDir {
    let place = tempfile::Builder::new().prefix("emaj-test-").tempdir().unwrap();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o1777)).unwrap();
    place
}

#[track_caller]
fn assert_nothing_is_left(place: &Path) {
    let left: Vec<_> = std::fs::read_dir(place).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(processes_of(place), [] as [String; 0]);
}

#[test]
fn the_demonstration_holds_what_it_promises_and_leaves_nothing() {
    let place = place();
    let run = support::emaj_alone(place.path())
        .env("TMPDIR", place.path())
        .args(["demo"])
        .run()
        .ok();
    let (held, not) = (
        run.stdout.matches("\n  ok: ").count(),
        run.stdout.matches("NOT OK").count(),
    );
    assert_eq!((held, not), (20, 0), "{run}");
    assert!(run.stdout.contains("\nAll 20 checks hold."), "{run}");
    for shown in [
        "$ emaj install 01-first-group.yaml",
        "nothing to do: 7 relations are as the manifest says",
        "$ emaj rollback orders morning --yes",
        "are as they were at `morning`",
        "`uid=hopper` is the entry that was noted",
        "hint: nothing is lost: what is not delivered stays in the log\n  exit code 13\n",
        "invalidAttributeSyntax (21)",
        "not yet as the tables say: uid=edsger,ou=people,dc=example,dc=org; all the rest is",
        "$ emaj rollback people monday --yes",
        "the schema is the same, all ",
    ] {
        assert!(run.stdout.contains(shown), "`{shown}` is missing:\n{run}");
    }
    assert_nothing_is_left(place.path());
}

/// `kill -9` runs no destructor: the watchdog ends both servers.
#[test]
fn killed_in_its_second_part_it_leaves_nothing_either() {
    let place = place();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_emaj"))
        .arg("demo")
        .current_dir(place.path())
        .env("TMPDIR", place.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let told = BufReader::new(demo.stdout.take().unwrap()).lines();
    let mut told = told.map(Result::unwrap);
    assert!(
        told.any(|line| line.contains("$ ldapsearch")),
        "the demonstration ended before the directory ran"
    );
    let slapd = processes_of(place.path());
    assert!(slapd.iter().any(|line| line.contains("slapd")), "{slapd:?}");
    demo.kill().unwrap();
    demo.wait().unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    // The watchdog itself is the last to go.
    let is_left =
        || std::fs::read_dir(place.path()).unwrap().next().is_some() || !processes_of(place.path()).is_empty();
    while is_left() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_nothing_is_left(place.path());
}

#[test]
fn without_slapd_it_says_so_before_it_begins_and_can_do_without() {
    let place = place();
    let demo = || {
        support::emaj_alone(place.path())
            .env("TMPDIR", place.path())
            .env("EMAJ_SLAPD", "/nowhere/slapd")
    };
    let run = demo().args(["demo"]).run().code(1);
    assert_eq!(run.stdout, "");
    insta::assert_snapshot!(run.stderr, @"
    error: no `slapd` at `/nowhere/slapd` (EMAJ_SLAPD): the second part of the demonstration needs it
    hint: install it: `sudo apt-get install slapd ldap-utils`
    hint: or see the first part only: `emaj demo --without-directory`
    ");
    let run = demo().args(["demo", "--without-directory"]).run().ok();
    assert!(run.stdout.contains("\nAll 7 checks hold."), "{run}");
    assert!(!run.stdout.contains("ldapsearch"), "{run}");
    assert_nothing_is_left(place.path());
}

#[test]
fn without_a_server_it_says_what_to_install() {
    let place = tempfile::tempdir().unwrap();
    let run = support::emaj_alone(place.path())
        .env("EMAJ_PG_BINDIR", place.path())
        .args(["demo"])
        .run()
        .code(1);
    assert!(run.stderr.contains("error: ") && run.stderr.contains("hint: "), "{run}");
}
