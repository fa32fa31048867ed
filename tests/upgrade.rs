//! pg_upgrade into another cluster: every mark is a target still, before and after, and nothing is delivered twice or left out.
//!
//! From the oldest server on this machine that pg_upgrade can start from, to each that it can go to; the same version is one of them.
//! `EMAJ_UPGRADE_TO` names further directories of programs (`./test.sh --all-versions` does).

use std::path::{Path, PathBuf};
use std::process::Command;

use emaj::cluster::{Cluster, find_bindir};

use crate::origin::Place;

/// Directories of programs that can be upgraded to.
fn targets() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = vec![find_bindir(None).expect("a server")];
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    all.extend(debian.map(|version| version.path().join("bin")));
    all.extend(std::env::split_paths(
        &std::env::var_os("EMAJ_UPGRADE_TO").unwrap_or_default(),
    ));
    all.sort();
    all.dedup();
    all.retain(|bindir| {
        ["pg_upgrade", "postgres", "vacuumdb"]
            .iter()
            .all(|program| bindir.join(program).is_file())
    });
    all
}

fn major(bindir: &Path) -> u32 {
    let said = Command::new(bindir.join("postgres"))
        .arg("--version")
        .output()
        .expect("postgres runs");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let number = said.split_whitespace().nth(2).unwrap_or_default();
    number
        .split(['.', 'b', 'r'])
        .next()
        .unwrap_or_default()
        .parse()
        .unwrap_or_else(|_| panic!("no version: {said}"))
}

/// Stops a cluster cleanly; `pg_upgrade` wants it so.
fn shut_down(cluster: &mut Cluster) {
    let status = cluster
        .companion(&cluster.bindir().join("pg_ctl"))
        .args(["stop", "-m", "fast", "-w", "-D"])
        .arg(cluster.data_dir())
        .status()
        .expect("pg_ctl runs");
    assert!(status.success());
    cluster.stop_immediate().expect("it has ended");
}

fn upgrade(old: &mut Cluster, new: &mut Cluster, link: bool) {
    let checks = |cluster: &Cluster| {
        let mut client = postgres::Client::connect(&cluster.conninfo("postgres"), postgres::NoTls).unwrap();
        client
            .query_one("show data_checksums", &[])
            .unwrap()
            .get::<_, String>(0)
    };
    // (Since 18 a new cluster has them.)
    let differ = (checks(old), checks(new)) == ("off".to_owned(), "on".to_owned());
    shut_down(old);
    shut_down(new);
    if differ {
        let mut disable = new.companion(&new.bindir().join("pg_checksums"));
        assert!(
            disable
                .arg("--disable")
                .arg("-D")
                .arg(new.data_dir())
                .status()
                .unwrap()
                .success()
        );
    }
    let mut command = new.companion(&new.bindir().join("pg_upgrade"));
    command.arg("-b").arg(old.bindir()).arg("-B").arg(new.bindir());
    command.arg("-d").arg(old.data_dir()).arg("-D").arg(new.data_dir());
    command.args([
        "-U",
        "postgres",
        "-p",
        &old.port().to_string(),
        "-P",
        &new.port().to_string(),
    ]);
    // (They listen in the socket's directory of the new one, whose path is short.)
    command.arg("-s").arg(new.socket_dir());
    if link {
        command.arg("--link");
    }
    let output = command.output().expect("pg_upgrade runs");
    assert!(
        output.status.success(),
        "pg_upgrade failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    new.start_again().expect("the new server starts");
}

fn story(from: &Path, to: &Path, link: bool) {
    println!("from {} to {}", from.display(), to.display());
    let here = tempfile::tempdir().unwrap();
    let mut old = Cluster::builder().bindir(from).start().unwrap();
    let mut new = Cluster::builder().bindir(to).start().unwrap();
    let postgres = Place {
        cluster: &old,
        name: "postgres".to_owned(),
        directory: here.path(),
    };
    postgres.sql("create database shop");
    let place = Place {
        cluster: &old,
        name: "shop".to_owned(),
        directory: here.path(),
    };
    place.begin();
    place.emaj(&["run", "--until-empty"]).ok();
    // A partition that was away before the last mark: that stays known.
    place.sql("alter table shop.part detach partition shop.part_1; alter table shop.part attach partition shop.part_1 for values in (1)");
    place.emaj(&["mark", "set", "g", "late"]).ok();
    let late = place.rows();
    place.sql(
        "update shop.item set name = 'before the upgrade'; insert into shop.part values (20, 0, 'n'), (21, 1, 'n')",
    );
    let (delivered, source) = (
        lines(here.path()),
        place.ask("select install_name from emaj.emaj_install"),
    );
    upgrade(&mut old, &mut new, link);

    let place = Place {
        cluster: &new,
        name: "shop".to_owned(),
        directory: here.path(),
    };
    assert_eq!(place.ask("select origin from emaj.emaj_origin()"), "upgraded");
    for args in [
        &["mark", "set", "g", "x"][..],
        &["rollback", "g", "late", "--yes"],
        &["run", "--until-empty"],
        &["plan"],
    ] {
        let run = place.emaj(args).code(4);
        assert!(
            run.stderr.contains("pg_upgrade") && run.stderr.contains("emaj verify --repair"),
            "{run}"
        );
    }
    place.emaj(&["verify", "--repair", "--yes"]).ok();
    place.emaj(&["verify"]).ok();
    place.emaj(&["plan", "--detailed-exitcode"]).ok();
    assert_eq!(place.ask("select install_name from emaj.emaj_install"), source);
    // Three rows changed since: each once.
    place.emaj(&["run", "--until-empty"]).ok();
    assert_eq!(lines(here.path()) - delivered, 3);
    place.there_and_back();
    let away = place.emaj(&["rollback", "g", "m", "--yes"]).code(4);
    assert!(away.stderr.contains("a partition was dropped or detached"), "{away}");
    place.sql("update shop.item set name = 'after the upgrade' where id = 2; delete from shop.part");
    place.emaj(&["rollback", "g", "late", "--yes"]).ok();
    assert_eq!(place.rows(), late);
    place.emaj(&["verify"]).ok();
    // What is attached anew from now on is noticed as before.
    place.sql("alter table shop.part detach partition shop.part_1; alter table shop.part attach partition shop.part_1 for values in (1)");
    place.emaj(&["rollback", "g", "late", "--yes"]).code(4);
    place.emaj(&["uninstall", "--yes"]).ok();
    assert_eq!(
        place.ask("select count(*) from pg_namespace where nspname = 'emaj'"),
        "0"
    );
}

fn lines(directory: &Path) -> usize {
    std::fs::read_to_string(directory.join("out.ndjson"))
        .unwrap_or_default()
        .lines()
        .count()
}

#[test]
fn marks_are_targets_after_an_upgrade() {
    let targets = targets();
    let from = targets
        .iter()
        .filter(|bindir| {
            ["pg_controldata", "pg_resetwal", "pg_ctl"]
                .iter()
                .all(|program| bindir.join(program).is_file())
        })
        .min_by_key(|bindir| major(bindir))
        .unwrap_or_else(|| panic!("no server here has pg_upgrade: `apt-get install postgresql` brings one"));
    for (at, to) in targets.iter().enumerate() {
        story(from, to, at == 0);
    }
}
