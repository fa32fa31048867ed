//! `emaj demo` tells its story to the end, every check in it holds, and nothing stays behind.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

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

#[test]
fn the_demonstration_holds_what_it_promises_and_leaves_nothing() {
    let place = tempfile::Builder::new().prefix("emaj-test-").tempdir().unwrap();
    // The account of the server has to get there.
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let run = support::emaj_alone(place.path())
        .env("TMPDIR", place.path())
        .args(["demo"])
        .run()
        .ok();
    let (held, not) = (
        run.stdout.matches("\n  ok: ").count(),
        run.stdout.matches("NOT OK").count(),
    );
    assert_eq!((held, not), (7, 0), "{run}");
    assert!(run.stdout.contains("\nAll 7 checks hold."), "{run}");
    for shown in [
        "$ emaj install 01-first-group.yaml",
        "nothing to do: 7 relations are as the manifest says",
        "$ emaj rollback orders morning --yes",
        "are as they were at `morning`",
        "the schema is the same, all ",
    ] {
        assert!(run.stdout.contains(shown), "`{shown}` is missing:\n{run}");
    }
    let left: Vec<_> = std::fs::read_dir(place.path()).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(processes_of(place.path()), [] as [String; 0]);
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
