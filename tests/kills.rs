//! Whatever is killed, and when, the database is as before or as after, never between; and the same command then succeeds.
//!
//! Every command and function runs as a process of its own. After a delay by chance, somewhere within the time it takes, the
//! process is killed (SIGKILL), or its backends are terminated, or the whole server goes down at once. Sequences are looked at
//! closely: `setval` does not go with a transaction.

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use emaj::cluster::Cluster;
use postgres::{Client, NoTls};
use tempfile::TempDir;

use crate::support::{self, Chance, Run, wait_for};

const SETUP: &str = "
    create schema k;
    create table k.a (id bigserial primary key, v text, seen timestamptz);
    create table k.b (id int generated always as identity primary key, a_id bigint references k.a on delete cascade, n int unique);
    create table k.p (id int, r int, v text, primary key (r, id)) partition by list (r);
    create table k.p_0 partition of k.p for values in (0);
    create table k.p_1 partition of k.p for values in (1);
    create sequence k.free increment by 5;
    create function k.stamp() returns trigger language plpgsql as 'begin new.seen := ''2020-01-01''; return new; end';
    create trigger stamp before update on k.a for each row execute function k.stamp();
    insert into k.a (v) select n::text from generate_series(1, 3000) n;
    insert into k.b (a_id, n) select n, n from generate_series(1, 3000) n;
    insert into k.p select n, n % 2, 'p' from generate_series(1, 3000) n;
    select setval('k.free', 100, false);";

const MANIFEST: &str =
    "version: 1\nroles: { admin: null, viewer: null }\ngroups: { k: { tables: [k.*], sequences: all } }\n";

/// The manifest that comes after, without the partitioned table.
const WITHOUT_P: &str =
    "version: 1\nroles: { admin: null, viewer: null }\ngroups: { k: { tables: [k.a, k.b], sequences: all } }\n";

/// Changes that a rollback has much to do with.
const CHANGES: &str = "
    delete from k.b where n < 0; delete from k.a where v like 'new%'; update k.b set n = n + 100000 where id % 3 = 0; delete from k.a where id % 7 = 0; update k.a set v = v || '.' where id % 2 = 0;
    insert into k.a (v) select 'new' from generate_series(1, 500); insert into k.b (a_id, n) select id, -id from k.a where v = 'new';
    update k.p set r = 1 - r where id % 5 = 0; select nextval('k.free'), nextval('k.free'); select setval('k.b_id_seq', 900000);
    delete from k.b where n < -10 and id % 2 = 0";

#[derive(Clone, Copy, PartialEq, Debug)]
enum Act {
    Install,
    Uninstall,
    Mark,
    Stop,
    Start,
    Unlogged,
    Logged,
    Rename,
    Delete,
    DeleteBefore,
    Consolidate,
    Reset,
    Revert,
    Release,
    /// Another manifest is installed, which has not got one of the tables any more.
    Regroup,
    /// A part goes back to a mark from before such an installation.
    Partial,
    /// By the program, all groups in two sessions.
    UnloggedInTwo,
    LoggedInTwo,
}
use Act::*;

const ACTS: &[Act] = &[
    Install,
    Mark,
    Rename,
    Delete,
    DeleteBefore,
    Stop,
    Start,
    Reset,
    Unlogged,
    Logged,
    Consolidate,
    Revert,
    Release,
    Regroup,
    Partial,
    Uninstall,
];

#[derive(Clone, Copy, Debug)]
enum Kill {
    Process,
    Backends,
    Server,
}

/// Everything that an act may change.
#[derive(Clone, PartialEq, Debug, Default)]
struct State {
    dump: String,
    rows: Vec<String>,
    sequences: Vec<String>,
    group: Vec<String>,
    marks: Vec<String>,
    logs: Vec<String>,
}

/// Two groups, so that a rollback of both has tables in two sessions.
const TWO_GROUPS: &str = "version: 1\nroles: { admin: null, viewer: null }\ngroups:\n  k: { tables: [k.a, k.b], sequences: all }\n  l: { tables: [k.p], sequences: none }\n";

struct Scene {
    cluster: Cluster,
    directory: TempDir,
    manifest: &'static str,
    count: usize,
}

impl Scene {
    fn new(manifest: &'static str) -> Self {
        let cluster = Cluster::builder().durable().start().unwrap();
        let directory = tempfile::Builder::new().prefix("emaj-test-").tempdir().unwrap();
        let scene = Scene {
            cluster,
            directory,
            manifest,
            count: 0,
        };
        scene.write(manifest);
        scene.client().batch_execute(SETUP).unwrap();
        scene
    }

    fn write(&self, manifest: &str) {
        std::fs::write(self.directory.path().join("emaj.yaml"), manifest).unwrap();
    }

    fn client(&self) -> Client {
        Client::connect(&self.cluster.conninfo("postgres"), NoTls).unwrap()
    }

    fn emaj(&self, args: &[&str]) -> Run {
        support::emaj_alone(self.directory.path())
            .envs(self.cluster.env("postgres"))
            .args(args)
            .run()
    }

    fn lines(&self, client: &mut Client, sql: &str) -> Vec<String> {
        client.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
    }

    fn state(&self) -> State {
        let mut client = self.client();
        let dump = support::dump(&self.cluster, &self.cluster.conninfo("postgres"), &["-s"]);
        let rows = self.lines(
            &mut client,
            "select 'a ' || a::text from k.a union all select 'b ' || b::text from k.b
              union all select p.tableoid::regclass || ' ' || p::text from k.p order by 1",
        );
        let sequences = self.lines(
            &mut client,
            "select format('a %s %s', last_value, is_called) from k.a_id_seq
              union all select format('b %s %s', last_value, is_called) from k.b_id_seq
              union all select format('free %s %s', last_value, is_called) from k.free",
        );
        let installed: bool = client
            .query_one("select to_regclass('emaj.emaj_mark') is not null", &[])
            .unwrap()
            .get(0);
        let mut of_emaj = |sql: &str| {
            if installed {
                self.lines(&mut client, sql)
            } else {
                Vec::new()
            }
        };
        let group = of_emaj("select group_name || ' ' || group_state from emaj.emaj_group order by group_name");
        let marks = of_emaj("select mark_name || ' ' || mark_state from emaj.emaj_mark order by mark_id");
        let logs = of_emaj(
            "select relname || ' ' || (xpath('/row/c/text()', query_to_xml(format('select count(*) as c from emaj.%I', relname), false, true, '')))[1]::text
               from pg_class where relnamespace = to_regnamespace('emaj') and relkind = 'r' and relname like 'k\\_%\\_log' order by 1",
        );
        State {
            dump,
            rows,
            sequences,
            group,
            marks,
            logs,
        }
    }

    fn spawn(&self, act: Act) -> Child {
        let sql = |sql: String| {
            let mut command = Command::new(self.cluster.bindir().join("psql"));
            command.args([
                "-X",
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-d",
                &self.cluster.conninfo("postgres"),
                "-c",
                &sql,
            ]);
            command
        };
        let emaj = |args: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_emaj"));
            command
                .current_dir(self.directory.path())
                .envs(self.cluster.env("postgres"))
                .args(args);
            command
        };
        let mark = format!("m{}", self.count);
        let mut command = match act {
            Install => emaj(&["install"]),
            Uninstall => emaj(&["uninstall", "--yes"]),
            Mark => sql(format!("select emaj.emaj_set_mark_group('k', 'new{}')", self.count)),
            Stop => sql("select emaj.emaj_stop_group('k', 'STOP_%')".to_owned()),
            Start => sql("select emaj.emaj_start_group('k', 'START_%', false)".to_owned()),
            Unlogged => sql(format!("select emaj.emaj_rollback_group('k', '{mark}')")),
            Logged => sql(format!("select emaj.emaj_logged_rollback_group('k', '{mark}')")),
            Rename => sql(format!(
                "select emaj.emaj_rename_mark_group('k', '{mark}', 'r{}')",
                self.count
            )),
            Delete => sql(format!("select emaj.emaj_delete_mark_group('k', '{mark}')")),
            DeleteBefore => sql(format!("select emaj.emaj_delete_before_mark_group('k', '{mark}')")),
            Consolidate => sql("select emaj.emaj_consolidate_rollback_group('k', 'EMAJ_LAST_MARK')".to_owned()),
            Reset => sql("select emaj.emaj_reset_group('k')".to_owned()),
            Revert => emaj(&["revert", "k", "--user", "postgres", "--from", &mark, "--yes"]),
            Release => emaj(&["release", "k.b", "--yes"]),
            Regroup => emaj(&["install", "--allow-destroy"]),
            Partial => sql(format!("select emaj.emaj_rollback_group('k', '{mark}', true)")),
            UnloggedInTwo => emaj(&[
                "rollback",
                "k",
                &mark,
                "--with",
                "l",
                "--jobs",
                "2",
                "--yes",
                "--unlogged",
            ]),
            LoggedInTwo => emaj(&["rollback", "k", &mark, "--with", "l", "--jobs", "2", "--yes"]),
        };
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Brings the database where the act begins; returns the state that a rollback has to lead to.
    fn prepare(&mut self, act: Act) -> State {
        self.count += 1;
        self.write(self.manifest);
        // Anew each time: logs that were emptied have other parts.
        let code = self.emaj(&["uninstall", "--yes"]).status;
        assert!(matches!(code, Some(0 | 10)), "{act:?}: {code:?}");
        if act != Install {
            self.emaj(&["install"]).ok();
        }
        let mut client = self.client();
        let mut target = State::default();
        if act != Install {
            client
                .batch_execute(&format!(
                    "select emaj.emaj_set_mark_groups(array_agg(group_name), 'm{}') from emaj.emaj_group",
                    self.count
                ))
                .unwrap();
            target = self.state();
            client.batch_execute(CHANGES).unwrap();
        }
        let first = match act {
            Start | Reset => "select emaj.emaj_stop_group('k', 'STOP_%')".to_owned(),
            Consolidate => format!("select emaj.emaj_logged_rollback_group('k', 'm{}')", self.count),
            _ => String::new(),
        };
        client.batch_execute(&first).unwrap();
        if matches!(act, Regroup | Partial) {
            self.write(WITHOUT_P);
        }
        if act == Partial {
            self.emaj(&["install", "--allow-destroy"]).ok();
            client
                .batch_execute("update k.p set v = 'later'; update k.a set v = v || '!' where id < 50")
                .unwrap();
            // What has left the group stays as it is.
            let of_p = |rows: &[String], is: bool| {
                rows.iter()
                    .filter(|row| row.starts_with("k.p") == is)
                    .cloned()
                    .collect::<Vec<_>>()
            };
            target.rows = [of_p(&target.rows, false), of_p(&self.state().rows, true)].concat();
        }
        // A crash lets a sequence jump ahead, but for a page that was just written out (PostgreSQL's SEQ_LOG_VALS).
        client.batch_execute("checkpoint").unwrap();
        target
    }

    /// Waits until nobody but us is connected: a backend may outlive its client for a while.
    fn wait_for_quiet(&self) {
        let mut client = self.client();
        let others =
            "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()";
        wait_for("all sessions to end", 300, || {
            (client.query_one(others, &[]).unwrap().get::<_, i64>(0) == 0).then_some(())
        });
    }

    fn kill(&mut self, kind: Kill, child: &mut Child) {
        match kind {
            Kill::Process => drop(child.kill()),
            Kill::Backends => self
                .client()
                .batch_execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity
                      where backend_type = 'client backend' and pid <> pg_backend_pid()",
                )
                .unwrap(),
            Kill::Server => {
                self.cluster.stop_immediate().unwrap();
                self.cluster.start_again().unwrap();
            }
        }
        child.wait().unwrap();
        self.wait_for_quiet();
    }
}

/// Returns what `now` lacks of being what the act leads to, from `before`.
fn not_after(act: Act, before: &State, target: &State, now: &State, after_dump: &str) -> Option<&'static str> {
    let (rows, sequences) = match act {
        Unlogged | Logged | Partial => (&target.rows, &target.sequences),
        // What was drawn from sequences stays drawn.
        Revert => (&target.rows, &before.sequences),
        _ => (&before.rows, &before.sequences),
    };
    let (were, are) = (before.marks.len(), now.marks.len());
    let marks = match act {
        Mark => are == were + 1,
        Logged | Revert => are == were + 2,
        Unlogged | Partial => now.marks == target.marks,
        Rename => are == were && now.marks != before.marks,
        Delete => are == were - 1,
        DeleteBefore => are == 1,
        Consolidate => are < were,
        Reset => are == 0,
        _ => true,
    };
    let group = match act {
        Stop | Reset => now.group == ["k IDLE"],
        Uninstall => now.group.is_empty(),
        _ => now.group == ["k LOGGING"],
    };
    if now.dump != after_dump {
        let lines = |one: &str, other: &str| -> Vec<String> {
            let there: std::collections::HashSet<&str> = other.lines().collect();
            one.lines()
                .filter(|line| !there.contains(line))
                .map(str::to_owned)
                .collect()
        };
        println!(
            "{act:?}, only here: {:#?}, missing: {:#?}",
            lines(&now.dump, after_dump),
            lines(after_dump, &now.dump)
        );
    }
    [
        (now.dump == after_dump, "the schema is neither before nor after"),
        (now.rows == *rows, "rows"),
        (now.sequences == *sequences, "sequences"),
        (marks, "marks"),
        (group, "the group's state"),
    ]
    .into_iter()
    .find_map(|(right, what)| (!right).then_some(what))
}

#[test]
fn killed_anywhere_it_is_before_or_after() {
    let seed = support::seed();
    let mut chance = Chance::new(seed);
    let mut scene = Scene::new(MANIFEST);
    // Each act once without a kill: how long it takes, and what the schema is then.
    let mut clean = Vec::new();
    for &act in ACTS {
        let target = scene.prepare(act);
        let before = scene.state();
        let started = Instant::now();
        assert!(scene.spawn(act).wait().unwrap().success(), "{act:?}");
        let took = started.elapsed();
        let after = scene.state();
        assert_eq!(
            not_after(act, &before, &target, &after, &after.dump),
            None,
            "{act:?} without a kill"
        );
        clean.push((took, after.dump));
    }
    let (mut kept, mut done) = (0, 0);
    for round in 0..support::scale(1) {
        for (at, &act) in ACTS.iter().enumerate() {
            for kind in [Kill::Process, Kill::Backends, Kill::Server] {
                let target = scene.prepare(act);
                let before = scene.state();
                let delay = clean[at].0.mul_f64((chance.below(1000) as f64) / 900.0);
                let what = format!("seed {seed}, round {round}: {act:?}, {kind:?} killed after {delay:?}");
                let mut child = scene.spawn(act);
                std::thread::sleep(delay);
                scene.kill(kind, &mut child);
                let now = scene.state();
                if now == before {
                    kept += 1;
                    assert!(scene.spawn(act).wait().unwrap().success(), "{what}: again, it fails");
                    let again = scene.state();
                    assert_eq!(
                        not_after(act, &before, &target, &again, &clean[at].1),
                        None,
                        "{what}: again"
                    );
                } else {
                    done += 1;
                    assert_eq!(not_after(act, &before, &target, &now, &clean[at].1), None, "{what}");
                }
                if act != Uninstall {
                    let wrong = scene.lines(&mut scene.client(), "select * from emaj.emaj_verify_all()");
                    assert_eq!(wrong, ["No error detected"], "{what}");
                }
                if matches!(act, Install | Uninstall | Regroup) {
                    let code = if act == Uninstall { 2 } else { 0 };
                    let plan = scene.emaj(&["plan", "--detailed-exitcode"]);
                    assert_eq!(plan.status, Some(code), "{what}: {plan}");
                }
            }
        }
    }
    println!(
        "kills: {} of {} acts in 3 ways, {kept} left as before, {done} done, 0 between (seed {seed})",
        kept + done,
        ACTS.len()
    );
}

/// As above, for rollbacks of two groups in two sessions: what was killed is brought to its end by `--recover`, one way or the other.
#[test]
fn killed_in_two_sessions_and_recovered_it_is_before_or_after() {
    let seed = support::seed();
    let mut chance = Chance::new(seed);
    let mut scene = Scene::new(TWO_GROUPS);
    let acts = [LoggedInTwo, UnloggedInTwo];
    let right = |act: Act, before: &State, target: &State, now: &State, what: &str| {
        assert!(now.rows == target.rows, "{what}: rows");
        assert_eq!(now.sequences, target.sequences, "{what}: sequences");
        assert_eq!(now.group, ["k LOGGING", "l LOGGING"], "{what}");
        if act == UnloggedInTwo {
            assert_eq!(now.marks, target.marks, "{what}");
        } else {
            assert_eq!(now.marks.len(), before.marks.len() + 4, "{what}: marks");
        }
        assert!(now.dump == before.dump, "{what}: the schema is another");
    };
    let mut took = Vec::new();
    for act in acts {
        let target = scene.prepare(act);
        let before = scene.state();
        let started = Instant::now();
        assert!(scene.spawn(act).wait().unwrap().success(), "{act:?}");
        took.push(started.elapsed());
        right(act, &before, &target, &scene.state(), "without a kill");
        let sessions = "select max(cardinality(rlbk_prepared))::text from emaj.emaj_rollback";
        assert_eq!(
            scene.lines(&mut scene.client(), sessions),
            ["2"],
            "it is not done in two sessions"
        );
    }
    let (mut kept, mut done) = (0, 0);
    for round in 0..support::scale(1) {
        for (at, &act) in acts.iter().enumerate() {
            for kind in [Kill::Process, Kill::Backends, Kill::Server] {
                let target = scene.prepare(act);
                let before = scene.state();
                let delay = took[at].mul_f64((chance.below(1000) as f64) / 900.0);
                let what = format!("seed {seed}, round {round}: {act:?}, {kind:?} killed after {delay:?}");
                let mut child = scene.spawn(act);
                std::thread::sleep(delay);
                scene.kill(kind, &mut child);
                scene.emaj(&["rollback", "--recover"]).ok();
                let now = scene.state();
                if now == before {
                    kept += 1;
                    assert!(scene.spawn(act).wait().unwrap().success(), "{what}: again, it fails");
                    right(act, &before, &target, &scene.state(), &format!("{what}: again"));
                } else {
                    done += 1;
                    right(act, &before, &target, &now, &what);
                }
                let prepared = scene.lines(&mut scene.client(), "select gid from pg_prepared_xacts");
                assert!(prepared.is_empty(), "{what}: {prepared:?} is still prepared");
                let wrong = scene.lines(&mut scene.client(), "select * from emaj.emaj_verify_all()");
                assert_eq!(wrong, ["No error detected"], "{what}");
            }
        }
    }
    println!(
        "kills in two sessions: {} of 2 rollbacks in 3 ways, {kept} left as before, {done} done, 0 between (seed {seed})",
        kept + done
    );
}

/// What each act needs, from the first table of the application to the history: held, it is where the act waits.
const STEPS: &[(Act, &[&[&str]])] = &[
    (Install, &[TABLES]),
    (Mark, &[REGISTRY]),
    (Stop, &[TABLES, REGISTRY]),
    (Start, &[TABLES, REGISTRY]),
    (Unlogged, &[TABLES, LOG, REGISTRY]),
    (Logged, &[TABLES, LOG, REGISTRY]),
    (Uninstall, &[TABLES, LOG, REGISTRY]),
];
const TABLES: &[&str] = &["k.a", "k.b", "k.p_1"];
const LOG: &[&str] = &["emaj.k_a_log"];
const REGISTRY: &[&str] = &["emaj.emaj_group", "emaj.emaj_mark", "emaj.emaj_hist"];

/// Runs an act until it waits for `table`, which is held, and has it killed there. Returns whether it waited: else it is done.
fn killed_at(scene: &mut Scene, act: Act, table: &str, kind: Kill) -> bool {
    let mut holder = scene.client();
    holder
        .batch_execute(&format!("begin; lock table {table} in access exclusive mode"))
        .unwrap();
    let mut child = scene.spawn(act);
    let mut watcher = scene.client();
    let waits = wait_for(&format!("{act:?} to come to {table}"), 300, || {
        let waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'";
        let is_waiting = watcher.query_one(waiting, &[]).unwrap().get::<_, i64>(0) > 0;
        match is_waiting {
            true => Some(true),
            false => child.try_wait().unwrap().map(|_| false),
        }
    });
    if !waits {
        return false;
    }
    if matches!(kind, Kill::Server) {
        // What is in the way goes down with the server.
        scene.kill(kind, &mut child);
        drop((holder, watcher));
    } else {
        // First the program, then its sessions, and what is in the way last: nobody goes on.
        let _ = child.kill();
        child.wait().unwrap();
        let sessions = "select pg_terminate_backend(pid, 300000) from pg_stat_activity where wait_event_type = 'Lock'";
        watcher.batch_execute(sessions).unwrap();
        drop((holder, watcher));
        scene.wait_for_quiet();
    }
    true
}

#[test]
fn killed_at_each_step_nothing_has_changed() {
    let mut scene = Scene::new(MANIFEST);
    let mut kills = 0;
    for &(act, tables) in STEPS {
        let target = scene.prepare(act);
        let before = scene.state();
        for table in tables.iter().copied().flatten() {
            for kind in [Kill::Process, Kill::Server] {
                let what = format!("{act:?}, {kind:?} killed at {table}");
                assert!(
                    killed_at(&mut scene, act, table, kind),
                    "{what}: it does not come there"
                );
                assert!(scene.state() == before, "{what}: something has changed");
                kills += 1;
            }
        }
        assert!(scene.spawn(act).wait().unwrap().success(), "{act:?} after all kills");
        let now = scene.state();
        assert_eq!(
            not_after(act, &before, &target, &now, &now.dump),
            None,
            "{act:?} after all kills"
        );
    }
    println!("kills at each step: {kills}, each act succeeded afterwards");
}
