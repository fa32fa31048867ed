//! What people do about sinks, killed while it waits for a lock in each place where it may: it is done or it is not, never half, the same
//! command then succeeds, and nothing is lost.

use postgres::Client;

use super::{drain, install};
use crate::support::{self, Database, emaj, wait_for};

#[derive(Clone, Copy, PartialEq, Debug)]
enum Act {
    Retry,
    Discard,
    Pause,
    Resume,
    Replay,
}
use Act::*;

/// How what waits is ended: the command, or the backend that works for it.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Kill {
    Process,
    Backend,
}

/// What is in the way.
const FAILURES: &str = "lock table emaj.emaj_failure in exclusive mode";
const FRONT: &str = "select from emaj.emaj_failure where fail_state = 'NEVER' for update";
const BEHIND: &str = "select from emaj.emaj_failure where fail_state = 'BEHIND' for update";
const SINK: &str = "select from emaj.emaj_sink for update";
const CLAIM: &str = "select pg_advisory_xact_lock($claim)";
const COURIER: &str = "select pg_advisory_xact_lock($courier)";

const PLACES: &[(Act, &[&str])] = &[
    (Retry, &[FAILURES, FRONT]),
    (Discard, &[FAILURES, FRONT, BEHIND]),
    (Pause, &[SINK]),
    (Replay, &[CLAIM, COURIER, SINK]),
    // (The last one: deliveries are held up by the guard, and would be again.)
    (Resume, &[SINK]),
];

struct Scene {
    db: Database,
    /// The last row that was set aside.
    id: usize,
}

impl Scene {
    fn new() -> Self {
        let db = support::database();
        db.psql("create table item (id int primary key, n int); create table other (id int primary key); create table plain (id int primary key)");
        install(
            &db,
            "groups: { g: { tables: [public.*] } }\nsinks: { lines: { file: { path: out.txt } } }\nbindings:\n  \
             items: { table: public.item, to: lines, message: { body: '{{ row.id }} {{ 12 // row.n }}' } }\n  \
             others: { table: public.other, to: lines, max_deletes: 1, message: { body: '{{ event }}' } }\n  plain: { table: public.plain, to: lines, message: { body: '{{ row.id }}' } }\n",
        );
        emaj(&db).args(["mark", "set", "g", "m"]).run().ok();
        Scene { db, id: 0 }
    }

    /// Brings the sink to where the act begins. A row that cannot be told always waits, and what came of it later behind it.
    fn prepare(&mut self, act: Act) {
        emaj(&self.db)
            .args(["failures", "discard", "--all", "--yes"])
            .run()
            .ok();
        emaj(&self.db).args(["sink", "resume", "lines"]).run().ok();
        self.id += 1;
        let id = self.id;
        self.db.psql(&format!("insert into item values ({id}, 0)"));
        self.db.psql(&format!(
            "update item set n = 2 where id = {id}; insert into plain values ({id})"
        ));
        drain(&self.db).run().code(3);
        if act == Resume {
            self.db.psql("insert into other values (1), (2)");
            drain(&self.db).run().code(3);
            self.db.psql("delete from other");
            drain(&self.db).run().code(4);
        }
    }

    /// All that an act may change.
    fn state(&self) -> Vec<String> {
        let sql = "select 0, concat_ws(' ', 'sink', sink_state, sink_reason, sink_from::text, sink_until, sink_offset, sink_replay) from emaj.emaj_sink
                   union all select fail_id, concat_ws(' ', 'aside', fail_id, fail_state, fail_retry <= clock_timestamp()) from emaj.emaj_failure
                   order by 1";
        let rows = self.db.client().query(sql, &[]).unwrap();
        rows.iter().map(|row| row.get(1)).collect()
    }

    /// Whether a state is what the act leads to.
    fn is_after(&self, act: Act, before: &[String], now: &[String]) -> bool {
        let aside = |state: &[String]| -> Vec<String> {
            let words = |line: &String| line.split(' ').skip(2).collect::<Vec<_>>().join(" ");
            state[1..].iter().map(words).collect()
        };
        let same = aside(before) == aside(now);
        match act {
            Retry => now[0] == before[0] && aside(now) == ["NEVER t", "BEHIND"],
            Discard => now[0] == before[0] && aside(now) == ["LATER t"],
            Pause => same && now[0].starts_with("sink PAUSED new disks "),
            Resume => same && now[0].starts_with("sink ACTIVE deletes allowed "),
            Replay => {
                let mark = self
                    .db
                    .psql("select mark_position::text from emaj.emaj_mark where mark_name = 'm'");
                same && now[0].starts_with(&format!("sink ACTIVE {mark} "))
            }
        }
    }

    fn prepared(&self, act: Act) -> support::Emaj {
        let first = self.db.psql("select min(fail_id) from emaj.emaj_failure");
        emaj(&self.db).args(match act {
            Retry => vec!["failures", "retry", "--sink", "lines"],
            Discard => vec!["failures", "discard", &first, "--yes"],
            Pause => vec!["sink", "pause", "lines", "--because", "new disks"],
            Resume => vec!["sink", "resume", "lines"],
            Replay => vec![
                "replay", "lines", "--group", "g", "--from", "m", "--yes", "--wait", "1min",
            ],
        })
    }

    fn told(&self) -> usize {
        let text = std::fs::read_to_string(self.db.dir().join("out.txt")).unwrap_or_default();
        text.lines().count()
    }

    /// Has the act wait for a lock, and ends it there.
    fn kill(&self, act: Act, place: &str, kind: Kill) {
        let id: i32 = self.db.psql("select sink_id from emaj.emaj_sink").parse().unwrap();
        let (courier, claim) = emaj::journal::sink_locks("emaj", id);
        let lock = place
            .replace("$claim", &claim.to_string())
            .replace("$courier", &courier.to_string());
        let (mut holder, mut watcher) = (self.db.client(), self.db.client());
        holder.batch_execute(&format!("begin; {lock}")).unwrap();
        let mut act_itself = Some(self.prepared(act).start());
        wait_for(&format!("{act:?} to wait for {place}"), 60, || {
            let running = act_itself.as_mut().unwrap();
            assert!(
                running.is_running(),
                "{act:?} does not wait for {place}: {}",
                running.log()
            );
            (waiting(&mut watcher) > 0).then_some(())
        });
        match kind {
            Kill::Process => act_itself.take().unwrap().kill(),
            Kill::Backend => {
                let others = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
                watcher.batch_execute(others).unwrap();
                wait_for("its end", 60, || {
                    (!act_itself.as_mut().unwrap().is_running()).then_some(())
                });
            }
        }
        holder.batch_execute("rollback").unwrap();
        drop(holder);
        // (A backend does what it was told, though nobody waits for the answer any more.)
        wait_for("quiet", 60, || {
            let others = "select count(*) from pg_stat_activity where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()";
            (watcher.query_one(others, &[]).unwrap().get::<_, i64>(0) == 0).then_some(())
        });
    }
}

fn waiting(watcher: &mut Client) -> i64 {
    let sql = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    watcher.query_one(sql, &[]).unwrap().get(0)
}

#[test]
fn killed_where_it_waits_an_act_is_done_or_not_and_nothing_is_lost() {
    let mut scene = Scene::new();
    let (mut kept, mut done) = (0, 0);
    for &(act, places) in PLACES {
        for place in places {
            for kind in [Kill::Process, Kill::Backend] {
                let what = format!("{act:?}, {kind:?} killed at {place}");
                scene.prepare(act);
                let before = scene.state();
                scene.kill(act, place, kind);
                let now = scene.state();
                if now == before {
                    kept += 1;
                    scene.prepared(act).run().ok();
                    let again = scene.state();
                    assert!(
                        scene.is_after(act, &before, &again),
                        "{what}, again: {before:?} {again:?}"
                    );
                } else {
                    done += 1;
                    assert!(scene.is_after(act, &before, &now), "{what}: {before:?} {now:?}");
                    // Once more it changes nothing.
                    if act != Discard {
                        scene.prepared(act).run().ok();
                        let again = scene.state();
                        assert!(
                            scene.is_after(act, &before, &again),
                            "{what}, once more: {before:?} {again:?}"
                        );
                    }
                }
                if act == Pause {
                    drain(&scene.db).run().code(4);
                    emaj(&scene.db).args(["sink", "resume", "lines"]).run().ok();
                }
                // What can be told is told: after a discard the change that waited, after anything else all the others.
                let told = scene.told();
                drain(&scene.db).run().code(if act == Discard { 0 } else { 3 });
                let more = scene.told() - told;
                match act {
                    Discard => assert_eq!(more, 1, "{what}"),
                    // (The deletions that the guard held up.)
                    Resume => assert_eq!(more, 2, "{what}"),
                    Retry | Pause => assert_eq!(more, 0, "{what}"),
                    // (What came behind a row that cannot be told waits behind it again.)
                    Replay => assert_eq!(more, scene.id, "{what}"),
                }
            }
        }
    }
    println!(
        "acts killed: {} kills under a lock, {kept} left as before, {done} done, 0 between",
        kept + done
    );
}
