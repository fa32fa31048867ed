//! A server stopped, and started as another: as a standby, where nothing can be written, all that only looks works as it did.

use std::path::Path;

use emaj::cluster::Cluster;
use postgres::{Client, NoTls};

use crate::support::{Run, emaj_alone};

/// A partitioned table that loses rows, gets partitions and is truncated, and one tied to it.
pub const STORY: &str = "
    create schema app;
    create table app.parent (id int primary key, v text);
    create table app.parted (r int, id int references app.parent, v text, primary key (r, id)) partition by list (r);
    create table app.parted_0 partition of app.parted for values in (0);
    create table app.parted_1 partition of app.parted for values in (1);
    insert into app.parent select n, 'p' from generate_series(1, 20) n;
    insert into app.parted select n % 2, n, 'x' from generate_series(1, 20) n";

const CHANGES: &str = "
    update app.parent set v = 'q' where id < 5;
    create table app.parted_2 partition of app.parted for values in (2);
    update app.parted set r = 2 where id < 9;
    delete from app.parted where id = 20;
    truncate app.parted_1;
    create table app.filled (r int, id int references app.parent, v text, primary key (r, id));
    insert into app.filled values (3, 3, 'y');
    alter table app.parted attach partition app.filled for values in (3)";

pub const MANIFEST: &str = "version: 1\nroles: { admin: null, viewer: null }\ngroups:\n  g:\n    tables: [app.*]\n";

/// Runs the program in a folder, in the database `postgres` of a server.
pub fn run_in(directory: &Path, cluster: &Cluster, words: &[&str]) -> Run {
    emaj_alone(directory).envs(cluster.env("postgres")).args(words).run()
}

/// Stops a server cleanly.
pub fn shut_down(cluster: &mut Cluster) {
    let stopped = cluster
        .companion(&cluster.bindir().join("pg_ctl"))
        .args(["stop", "-s", "-m", "fast", "-w", "-D"])
        .arg(cluster.data_dir())
        .status()
        .unwrap();
    assert!(stopped.success());
    cluster.stop_immediate().unwrap();
}

/// Makes a server a standby of nobody: it reads its own WAL to the end, and goes on waiting for more.
fn become_standby(cluster: &mut Cluster) {
    shut_down(cluster);
    let signal = cluster.data_dir().join("standby.signal");
    std::fs::write(&signal, "").unwrap();
    cluster.hand_over(&signal).unwrap();
    cluster.start_again().unwrap();
}

#[test]
fn what_only_looks_says_the_same_as_on_the_primary() {
    let mut cluster = Cluster::builder().start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("emaj.yaml"), MANIFEST).unwrap();
    let run = |cluster: &Cluster, words: &[&str]| run_in(directory.path(), cluster, words);
    let sql = |cluster: &Cluster, text: &str| {
        let mut client = Client::connect(&cluster.conninfo("postgres"), NoTls).unwrap();
        client.batch_execute(text).unwrap();
    };
    sql(&cluster, STORY);
    run(&cluster, &["install"]).ok();
    run(&cluster, &["mark", "set", "g", "m"]).ok();
    sql(&cluster, CHANGES);
    run(&cluster, &["mark", "set", "g", "later"]).ok();
    let looks: &[&[&str]] = &[
        &["rollback", "g", "m", "--dry-run"],
        &["rollback", "g", "m", "--dry-run", "--jobs", "2"],
        &["rollback", "g", "m", "--dry-run", "--partial"],
        &["rollback", "g", "m", "--estimate"],
        &["changes", "g", "--from", "m"],
        &["stat", "g", "--from", "m"],
        &["mark", "list", "g"],
        &["group", "show", "g"],
        &["drift"],
        &["verify"],
        &["plan"],
    ];
    let said = |cluster: &Cluster| {
        looks
            .iter()
            .map(|words| run(cluster, words).to_string())
            .collect::<Vec<_>>()
    };
    let at_home = said(&cluster);
    for (words, code) in [("--dry-run --partial\n", 0), ("m --dry-run\n", 4)] {
        let known = |run: &&String| run.contains(words) && run.contains(&format!("exit code {code}"));
        assert!(at_home.iter().any(|run| known(&run)), "{words}: {at_home:#?}");
    }
    sql(
        &cluster,
        "insert into emaj.emaj_sink (sink_name, sink_manifest, sink_kind, sink_from) values ('feed', 'other', 'file', emaj._position());
         insert into emaj.emaj_rollback (rlbk_groups, rlbk_mark, rlbk_marks, rlbk_logged, rlbk_state) values ('{g}', 'm', '{1}', true, 'RUNNING')",
    );
    run(&cluster, &["verify"]).code(6);
    become_standby(&mut cluster);
    for (here, home) in said(&cluster).iter().zip(&at_home) {
        assert_eq!(here, home);
    }
    // Who is at work is known by locks, and those are the primary's.
    let told = run(&cluster, &["status"]).ok().stderr;
    assert!(
        told.contains("is not over; who carries it out, if anybody does, is known on the primary only"),
        "{told}"
    );
    assert!(!told.contains("broke off"), "{told}");
    let told = run(&cluster, &["doctor"]).code(12).stdout;
    assert!(
        told.contains("warning  rollback") && !told.contains("broke off"),
        "{told}"
    );
    run(&cluster, &["verify"]).ok();
    let told = run(&cluster, &["sink", "list"]).ok().stdout;
    assert!(told.contains("active  known on the primary only"), "{told}");
    // These write on the way, and say where that goes.
    for words in [&["at", "g", "m", "select 1"][..], &["snap", "g", "--dir", "snapped"]] {
        let refused = run(&cluster, words).code(1);
        assert!(
            refused
                .stderr
                .contains("hint: this server is a standby, or the session is read-only"),
            "{refused}"
        );
    }
}
