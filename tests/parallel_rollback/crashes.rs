//! Broken off at every step, by the end of the program, of one of its sessions, or of the server: afterwards it is as before or as after.

use emaj::cluster::Cluster;

use super::*;
use crate::support::emaj_alone;

/// Each point at which the program can be stopped, and whether the rollback is decided by then. With three lanes.
const POINTS: &[(&str, bool)] = &[
    ("rollback.begun", false),
    ("rollback.locked", false),
    ("rollback.worked", false),
    ("rollback.worked:3", false),
    ("rollback.prepared", false),
    ("rollback.prepared:2", false),
    ("rollback.prepared:3", false),
    ("rollback.undecided", false),
    ("rollback.decided", true),
    ("rollback.concluded", true),
    ("rollback.concluded:2", true),
    ("rollback.concluded:3", true),
];

fn recover(story: &Story<'_>) -> Run {
    story.emaj(&["rollback", "--recover"])
}

/// What has to be so after an end, whichever it was: the state, the marks, and that the log leads on from there.
fn right_after(story: &mut Story<'_>, what: &str, decided: bool, logged: bool, at_mark: &State, changed: &State) {
    let expected = if decided { at_mark } else { changed };
    assert!(story.state() == *expected, "{what}: the rows are not right");
    nothing_left(story);
    let marks = story.ask("select count(*) from emaj.emaj_mark where mark_name ~ '^RLBK|^later'");
    let right = match (decided, logged) {
        (true, true) => "3",
        (true, false) => "0",
        (false, _) => "1",
    };
    assert_eq!(marks, right, "{what}: marks");
    if decided && logged {
        let start = mark_like(story, "START");
        story.logged_rollback(&start);
        assert!(story.state() == *changed, "{what}: undone");
    }
    story.rollback("m");
    assert!(story.state() == *at_mark, "{what}: rolled back by one session");
}

#[test]
fn the_program_is_killed() {
    for who in [Who::Superuser, Who::Owner] {
        tell(who, |story| {
            let (at_mark, changed) = changed(story);
            for (number, (point, decided)) in POINTS.iter().enumerate() {
                let logged = number % 2 == 0 || *point == "rollback.decided";
                let what = format!("{who:?}, {point}, logged: {logged}");
                story.mark("later");
                let run = rollback(story, "m", if logged { &[] } else { &["--unlogged"] });
                story.breaks_off(run, point, &what);
                // What is told before it is cleared up.
                let status = story.emaj(&["status"]).ok();
                said(&status, "emaj rollback --recover");
                let doctor = story.emaj(&["doctor"]);
                said(&doctor, "emaj rollback --recover");
                let verify = story.emaj(&["verify", "-o", "json"]).code(6);
                let found = verify.stdout_json();
                assert_eq!(found.as_array().map(Vec::len), Some(1), "{what}: {verify}");
                assert_eq!(found[0]["repair"], "`emaj rollback --recover`", "{what}");
                let again = rollback(story, "m", &[]).run().code(4);
                said(&again, "emaj rollback --recover");
                if *decided {
                    let mark = story.emaj(&["mark", "set", "g", "between"]).code(4);
                    said(&mark, "emaj rollback --recover");
                    for delete in [
                        &["mark", "delete", "g", "EMAJ_LAST_MARK"][..],
                        &["mark", "delete", "g", "--before", "m"],
                    ] {
                        said(&story.emaj(delete).code(4), "emaj rollback --recover");
                    }
                    let install = story.emaj(&["install"]).code(4);
                    said(&install, "emaj rollback --recover");
                }
                let run = recover(story).ok();
                said(
                    &run,
                    if *decided {
                        "was decided: done"
                    } else {
                        "was not decided: taken back"
                    },
                );
                let run = recover(story).ok();
                said(&run, "there is nothing to do");
                story.emaj(&["verify"]).ok();
                right_after(story, &what, *decided, logged, &at_mark, &changed);
                change(story);
            }
        });
    }
}

/// Runs `then` while the program is held at a point; returns how it ended.
fn while_held(story: &Story<'_>, point: &str, more: &[&str], then: impl FnOnce()) -> Run {
    let file = hold(story, "held");
    held(rollback(story, "m", more), point, &file).run_while(|_| {
        until(point, || file.exists());
        then();
        std::fs::remove_file(&file).unwrap();
    })
}

#[test]
fn a_session_ends() {
    let decider = "mode = 'ExclusiveLock'";
    let lane = "mode = 'ShareLock'";
    let end = |which: &str, db: &crate::support::Database| {
        let found = format!(
            "from pg_locks where locktype = 'advisory' and {which} and database = (select oid from pg_database where datname = current_database())"
        );
        assert_ne!(db.psql(&format!("select count(*) {found}")), "0");
        db.psql(&format!("select pg_terminate_backend(min(pid), 30000) {found}"));
    };
    for (which, points) in [
        (
            lane,
            &[
                "rollback.locked",
                "rollback.worked",
                "rollback.worked:3",
                "rollback.prepared:3",
                "rollback.undecided",
                "rollback.decided",
            ][..],
        ),
        (
            decider,
            &[
                "rollback.locked",
                "rollback.worked",
                "rollback.prepared:2",
                "rollback.undecided",
                "rollback.decided",
                "rollback.concluded:2",
            ],
        ),
    ] {
        tell(Who::Owner, |story| {
            let (at_mark, changed) = changed(story);
            for point in points {
                for logged in [true, false] {
                    let what = format!("{which}, {point}, logged: {logged}");
                    story.mark("later");
                    let more: &[&str] = if logged { &[] } else { &["--unlogged"] };
                    let run = while_held(story, point, more, || end(which, story.db));
                    // The program itself brings it to its end.
                    let done = run.status == Some(0);
                    let decided = *point == "rollback.decided" || point.starts_with("rollback.concluded");
                    if which == lane && (point.starts_with("rollback.worked") || point.starts_with("rollback.prepared"))
                    {
                        // Some lane is held there, and some lane ended: one that has prepared is not needed any more.
                        assert!(done || run.status == Some(13), "{what}: {run}");
                    } else {
                        let survives = decided || which == lane && *point == "rollback.undecided";
                        assert_eq!(done, survives, "{what}: {run}");
                    }
                    right_after(story, &what, done, logged, &at_mark, &changed);
                    change(story);
                }
            }
        });
    }
}

#[test]
fn the_server_goes_down() {
    let mut cluster = Cluster::builder().start().unwrap();
    let directory = tempfile::Builder::new().prefix("emaj-test-").tempdir().unwrap();
    let file = directory.path().join("held");
    let connect =
        |cluster: &Cluster| postgres::Client::connect(&cluster.conninfo("postgres"), postgres::NoTls).unwrap();
    let rows = "select 'child ' || t::text from child t union all select 'parent ' || t::text from parent t
        union all select 'counted ' || t::text from counted t union all select 'plain ' || t::text from plain t
        union all select t.tableoid::regclass || t::text from parted t order by 1";
    let state = |cluster: &Cluster| -> Vec<String> {
        connect(cluster)
            .query(rows, &[])
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect()
    };
    connect(&cluster).batch_execute(TABLES).unwrap();
    std::fs::write(
        directory.path().join("emaj.yaml"),
        "version: 1\nroles: { admin: null, viewer: null }\ngroups: { g: { tables: [public.*] } }\n",
    )
    .unwrap();
    let run = |cluster: &Cluster, words: &[&str]| {
        emaj_alone(directory.path())
            .envs(cluster.env("postgres"))
            .args(words)
            .run()
    };
    run(&cluster, &["install"]).ok();
    for (point, decided) in POINTS {
        run(&cluster, &["mark", "set", "g", "m"]).ok();
        let at_mark = state(&cluster);
        for changes in CHANGES {
            connect(&cluster).batch_execute(changes).unwrap();
        }
        let changed = state(&cluster);
        assert_ne!(at_mark, changed);
        let emaj = emaj_alone(directory.path())
            .envs(cluster.env("postgres"))
            .args(["rollback", "g", "m", "--yes", "--jobs", "3"]);
        let run_held = held(emaj, point, &file).run_while(|_| {
            until(point, || file.exists());
            cluster.stop_immediate().unwrap();
            std::fs::remove_file(&file).unwrap();
        });
        // The last lane was committed: all is done but the note that it is.
        let all_committed = *point == "rollback.concluded:3";
        assert!(run_held.status != Some(0), "{point}: {run_held}");
        cluster.start_again().unwrap();
        let recovered = run(&cluster, &["rollback", "--recover"]).ok();
        said(
            &recovered,
            if *decided {
                "was decided: done"
            } else {
                "was not decided: taken back"
            },
        );
        if all_committed {
            said(&recovered, "0 prepared sessions committed");
        }
        said(
            &run(&cluster, &["rollback", "--recover"]).ok(),
            "there is nothing to do",
        );
        assert!(
            state(&cluster) == if *decided { at_mark.clone() } else { changed },
            "{point}: rows"
        );
        let wrong: String = connect(&cluster)
            .query_one("select * from emaj.emaj_verify_all()", &[])
            .unwrap()
            .get(0);
        assert_eq!(wrong, "No error detected", "{point}");
        run(&cluster, &["rollback", "g", "m", "--yes", "--unlogged"]).ok();
        assert!(state(&cluster) == at_mark, "{point}: rolled back by one session");
        run(&cluster, &["mark", "rename", "g", "m", &format!("m-{point}")]).ok();
        connect(&cluster)
            .batch_execute("truncate child, parent, counted, parted, plain restart identity")
            .unwrap();
        let fill = &TABLES[TABLES.find("insert into parent").unwrap()..];
        connect(&cluster).batch_execute(fill).unwrap();
    }
}

#[test]
fn who_may_not_commit_is_told_who_may() {
    tell(Who::Owner, |story| {
        let (at_mark, _) = changed(story);
        rollback(story, "m", &[]).env("EMAJ_FAIL_AT", "rollback.decided").run();
        let other = format!("{}_other", story.db.name());
        story.sql_as_superuser(&format!(
            "create role {other} login; grant {} to {other}",
            story.role.clone().unwrap()
        ));
        let run = emaj(story.db)
            .user(&other)
            .args(["rollback", "--recover"])
            .run()
            .code(12);
        said(&run, "or by a superuser");
        emaj(story.db).args(["rollback", "--recover"]).run().ok();
        assert_eq!(story.state(), at_mark);
        nothing_left(story);
        story.sql_as_superuser(&format!("drop role {other}"));
    });
}

#[test]
fn the_names_of_prepared_transactions_are_nobody_elses() {
    tell(Who::Owner, |story| {
        changed(story);
        for _ in 0..2 {
            rollback(story, "m", &[]).run().ok();
            change(story);
        }
        let names = "select count(*) || ' ' || count(distinct right(name, 32)) from emaj.emaj_rollback cross join unnest(rlbk_prepared) as name
                      where name ~ ('^emaj/' || current_database() || '/emaj/[0-9]+/[1-3]/[0-9a-f]{32}$')";
        assert_eq!(story.ask(names), "6 6");
    });
}

/// Ends one of the prepared transactions of a rollback that breaks off at `point` by hand; returns its name.
fn tear(story: &mut Story<'_>, run: Emaj, point: &str, by_hand: &str) -> String {
    story.breaks_off(run, point, by_hand);
    let lane = story
        .ask("select gid from pg_prepared_xacts where database = current_database() order by gid limit 1 offset 1");
    story.sql(&format!("{by_hand} prepared '{lane}'"));
    lane
}

/// What the program left was ended by hand, one of its sessions the other way than the rest.
fn torn_by_hand(point: &str, by_hand: &str, more: &[&str], what_is_said: &str) {
    tell(Who::Owner, |story| {
        let (at_mark, changed) = changed(story);
        let run = rollback(story, "m", more);
        let lane = tear(story, run, point, by_hand);
        let run = recover(story).code(1);
        said(&run, "is torn");
        said(&run, what_is_said);
        if point == "rollback.decided" {
            said(&run, &lane);
        }
        assert!(story.state() != at_mark && story.state() != changed, "{run}");
        let state = story.emaj(&["rollback", "--list", "-o", "json"]).ok().stdout_json();
        assert_eq!(state["past"][0]["state"], "BROKEN");
        said(&story.emaj(&["rollback", "--list"]).ok(), "torn");
        let verify = story.emaj(&["verify"]).code(6);
        said(&verify, "is torn");
        said(&recover(story).ok(), "there is nothing to do");
        said(&verify, "emaj rollback g m");
        // What it is mended with stays.
        let table = format!("{}.plain", story.schema);
        for words in [&["install"][..], &["uninstall", "--yes"], &["release", &table, "--yes"]] {
            said(&story.emaj(words).code(4), "emaj rollback g m");
        }
        assert_eq!(story.ask("select * from emaj.emaj_get_consolidable_rollbacks()"), "");
        // Its mark stays, whatever it is called.
        said(&story.emaj(&["mark", "delete", "g", "m"]).code(4), "is protected");
        story.emaj(&["mark", "rename", "g", "m", "then"]).ok();
        story.mark("m");
        said(&story.emaj(&["verify"]).code(6), "emaj rollback g then");
        story.emaj(&["rollback", "g", "then", "--yes"]).ok();
        assert_eq!(story.state(), at_mark);
        nothing_left(story);
    });
}

#[test]
fn a_session_that_was_decided_is_rolled_back_by_hand() {
    torn_by_hand("rollback.decided", "rollback", &[], "it was decided, but");
}

#[test]
fn a_session_of_an_unlogged_one_is_rolled_back_by_hand() {
    torn_by_hand("rollback.decided", "rollback", &["--unlogged"], "it was decided, but");
}

#[test]
fn a_session_that_was_not_decided_is_committed_by_hand() {
    torn_by_hand("rollback.undecided", "commit", &[], "it was not decided, but");
}

#[test]
fn a_torn_one_is_mended_by_each_rollback_to_one_moment() {
    tell(Who::Owner, |story| {
        story.sql(TABLES);
        story.install("*");
        story.mark("early");
        let at_early = story.state();
        story.sql(CHANGES[0]);
        story.mark("m");
        let changed = (change(story), story.state()).1;
        // Undone; to an earlier moment; or forgotten, with its mark.
        for (to, expected) in [("START", Some(&changed)), ("early", Some(&at_early)), ("", None)] {
            let run = rollback(story, "m", &[]);
            tear(story, run, "rollback.decided", "rollback");
            recover(story).code(1);
            let torn = story.ask("select torn_mark from emaj.emaj_torn_rollbacks()");
            assert_eq!(torn, "m");
            story.emaj(&["mark", "unprotect", "g", "m"]).ok();
            let to = if to == "START" {
                mark_like(story, to)
            } else {
                to.to_owned()
            };
            match expected {
                Some(expected) => {
                    story.emaj(&["rollback", "g", &to, "--yes"]).ok();
                    assert_eq!(story.state(), *expected, "{to}");
                }
                None => drop(story.emaj(&["mark", "delete", "g", "m"]).ok()),
            }
            assert_eq!(
                story.ask("select torn_mark from emaj.emaj_torn_rollbacks()"),
                "",
                "{to}"
            );
        }
    });
}

#[test]
fn a_torn_one_that_has_stopped_its_group_is_finished() {
    for more in [&["--stop"][..], &["--stop", "--unlogged"]] {
        tell(Who::Owner, |story| {
            let (at_mark, _) = changed(story);
            let run = rollback(story, "m", more);
            tear(story, run, "rollback.decided", "rollback");
            let run = recover(story).code(1);
            let still = story.ask("select array_to_string(torn_left, ', ') from emaj.emaj_torn_rollbacks()");
            said(
                &run,
                &format!("`emaj rollback --recover --yes` brings the rest to the mark too: {still};"),
            );
            assert_ne!(story.state(), at_mark);
            // What it is finished with stays.
            let (one, manifest) = (still.split(", ").next().unwrap(), story.manifest("no.*"));
            let manifest = story.db.file("less.yaml", &manifest);
            let manifest = manifest.to_str().unwrap();
            for words in [
                &["group", "start", "g"][..],
                &["group", "reset", "g"],
                &["group", "drop", "g", "--yes"],
                &["release", one, "--yes"],
                &["install", "--allow-destroy", manifest],
                &["uninstall", "--yes"],
            ] {
                said(&story.emaj(words).code(4), "emaj rollback --recover --yes");
            }
            story.sql("update emaj.emaj_group set group_retention = interval '0'");
            story.emaj(&["group", "purge", "g"]).ok();
            // What is written to them meanwhile is in their logs.
            for table in still.split(", ") {
                story.sql(&format!("delete from {table}"));
            }
            story.emaj(&["mark", "rename", "g", "m", "then"]).ok();
            said(&story.emaj(&["verify"]).code(6), "emaj rollback --recover --yes");
            said(&recover(story).code(1), "emaj rollback --recover --yes");
            let done = story.emaj(&["rollback", "--recover", "--yes"]).ok();
            said(&done, "was torn: the rest of it is done");
            assert_eq!(story.state(), at_mark);
            nothing_left(story);
            said(&recover(story).ok(), "there is nothing to do");
            assert_eq!(
                story.ask("select tgrelid::regclass from pg_trigger where tgname like '%emaj%' and tgenabled <> 'D'"),
                ""
            );
            story.emaj(&["group", "start", "g"]).ok();
            story.mark("again");
            change(story);
            story.rollback("again");
            assert_eq!(story.state(), at_mark);
        });
    }
}

#[test]
fn what_cannot_be_finished_of_a_torn_one_is_left_to_a_hand() {
    tell(Who::Owner, |story| {
        changed(story);
        let run = rollback(story, "m", &["--stop"]);
        tear(story, run, "rollback.decided", "rollback");
        recover(story).code(1);
        let still = story.ask("select unnest(torn_left) from emaj.emaj_torn_rollbacks()");
        for table in still.lines() {
            story.sql(&format!(
                "alter table {table} disable trigger all; alter table {table} enable trigger all"
            ));
        }
        let by_hand = "put its tables right by hand: a group that is stopped cannot be rolled back; then say so: `emaj mark delete g m`";
        said(&story.emaj(&["verify"]).code(6), by_hand);
        said(&story.emaj(&["uninstall", "--yes"]).code(4), by_hand);
        said(
            &story.emaj(&["rollback", "--recover", "--yes"]).ok(),
            "there is nothing to do",
        );
        said(&story.emaj(&["group", "start", "g"]).code(4), by_hand);
        story.emaj(&["mark", "delete", "g", "m"]).ok();
        story.emaj(&["group", "start", "g"]).ok();
    });
}

#[test]
fn a_torn_one_of_a_stopped_group_whose_table_has_drifted_is_finished_when_that_is_mended() {
    tell(Who::Owner, |story| {
        let (at_mark, _) = changed(story);
        let run = rollback(story, "m", &["--stop"]);
        tear(story, run, "rollback.decided", "rollback");
        recover(story).code(1);
        let still = story.ask("select unnest(torn_left) from emaj.emaj_torn_rollbacks() limit 1");
        let done = story.schema.clone() + if still.ends_with("plain") { ".parted" } else { ".plain" };
        let right = |verb: &str, table: &str| {
            format!(
                "{verb} select on {table} {} current_user",
                if verb == "grant" { "to" } else { "from" }
            )
        };
        story.sql(&right("revoke", &still));
        let first = "mend first what `emaj drift` lists; `emaj verify` then says how it goes on. Where that takes an install, put its tables right by hand";
        said(&story.emaj(&["verify"]).code(6), first);
        for words in [
            &["rollback", "--recover", "--yes"][..],
            &["uninstall", "--yes"],
            &["install"],
        ] {
            said(&story.emaj(words).code(4), first);
        }
        story.sql("set quote_all_identifiers = on");
        assert_eq!(story.ask("select torn_drifted from emaj.emaj_torn_rollbacks()"), "t");
        story.sql("reset quote_all_identifiers");
        // What does not concern the rest of it does not matter.
        story.sql(&right("grant", &still));
        story.sql(&right("revoke", &done));
        story.emaj(&["rollback", "--recover", "--yes"]).ok();
        assert_eq!(story.state(), at_mark);
    });
}

#[test]
fn a_torn_one_is_mended_when_columns_came_since() {
    tell(Who::Owner, |story| {
        story.sql(TABLES);
        story.install("*");
        story.mark("m");
        let rows = "select (id, v, n)::text from plain order by id";
        let at_mark = story.ask(rows);
        change(story);
        let run = rollback(story, "m", &[]);
        tear(story, run, "rollback.decided", "rollback");
        recover(story).code(1);
        story.sql("alter table plain add column later int default 7; update plain set v = 'z'");
        let first = format!(
            "run `emaj install` first: columns are not captured yet ({}.plain.later)",
            story.schema
        );
        said(&story.emaj(&["verify"]).code(6), &first);
        said(
            &story.emaj(&["rollback", "g", "m", "--yes"]).code(4),
            "`emaj install` first",
        );
        story.emaj(&["install"]).ok();
        said(
            &story.emaj(&["verify"]).code(6),
            "the same once more: `emaj rollback g m`",
        );
        story.emaj(&["rollback", "g", "m", "--yes"]).ok();
        assert_eq!(story.ask(rows), at_mark);
        nothing_left(story);
    });
}

#[test]
fn a_torn_one_of_a_stopped_group_is_finished_without_the_columns_that_came_since() {
    tell(Who::Owner, |story| {
        let (at_mark, _) = changed(story);
        let run = rollback(story, "m", &["--stop"]);
        tear(story, run, "rollback.decided", "rollback");
        recover(story).code(1);
        let still = story.ask("select unnest(torn_left) from emaj.emaj_torn_rollbacks() limit 1");
        story.sql(&format!(
            "alter table {still} add column later int default 7; delete from {still}"
        ));
        let drop = format!(
            "Where it is refused for columns that are not captured, drop them first ({still}.later), or put its tables right by hand"
        );
        said(&story.emaj(&["verify"]).code(6), &drop);
        story.emaj(&["rollback", "--recover", "--yes"]).code(4);
        said(&story.emaj(&["install"]).code(4), &drop);
        story.sql(&format!("alter table {still} drop column later"));
        story.emaj(&["rollback", "--recover", "--yes"]).ok();
        assert_eq!(story.state(), at_mark);
    });
}

#[test]
fn what_went_back_of_a_torn_one_is_left_alone_when_the_rest_of_it_is_done() {
    tell(Who::Owner, |story| {
        let (at_mark, _) = changed(story);
        let run = rollback(story, "m", &["--stop"]);
        tear(story, run, "rollback.decided", "rollback");
        recover(story).code(1);
        let still = story.ask("select unnest(torn_left) from emaj.emaj_torn_rollbacks()");
        let alone = ["plain", "parted", "counted"].map(|table| format!("{}.{table}", story.schema));
        let done = alone
            .iter()
            .find(|table| !still.lines().any(|left| left == *table))
            .unwrap();
        let owner = story.ask(&format!(
            "select relowner::regrole from pg_class where oid = '{done}'::regclass"
        ));
        story.sql_as_superuser(&format!("alter table {done} owner to current_user"));
        story.emaj(&["rollback", "--recover", "--yes"]).ok();
        story.sql_as_superuser(&format!("alter table {done} owner to {owner}"));
        assert_eq!(story.state(), at_mark);
    });
}

#[test]
fn a_torn_one_is_in_the_way_of_its_own_manifest_only() {
    tell(Who::Owner, |story| {
        story.sql(TABLES);
        story.install("*, !plain");
        story.mark("m");
        change(story);
        let run = rollback(story, "m", &[]);
        tear(story, run, "rollback.decided", "rollback");
        recover(story).code(1);
        for words in [
            &["plan"][..],
            &["install", "--dry-run"],
            &["install"],
            &["uninstall", "--yes"],
        ] {
            said(&story.emaj(words).code(4), "the same once more: `emaj rollback g m`");
        }
        let other = format!(
            "version: 1\nname: other\nroles: {{ admin: null, viewer: null }}\ngroups:\n  h: {{ tables: [{}.plain] }}\n",
            story.schema
        );
        let other = story.db.file("other.yaml", &other);
        let other = other.to_str().unwrap();
        for words in [
            &["install", other][..],
            &["plan", other],
            &["uninstall", other, "--yes"],
        ] {
            story.emaj(words).ok();
        }
        story.emaj(&["rollback", "g", "m", "--yes"]).ok();
        nothing_left(story);
    });
}

#[test]
fn a_torn_partial_one_that_has_stopped_its_group_is_finished() {
    tell(Who::Owner, |story| {
        story.sql(
            "create table most (id int primary key, v text);
             create table parent (id int primary key, v text);
             create table lost (r int, id int references parent, primary key (r, id)) partition by list (r);
             create table lost_0 partition of lost for values in (0);
             create table lost_1 partition of lost for values in (1);
             insert into most select n, 'm' from generate_series(1, 50) n;
             insert into parent select n, 'p' from generate_series(1, 9) n;
             insert into lost select n % 2, n from generate_series(1, 9) n",
        );
        story.install("*");
        story.mark("m");
        let at_mark = story.ask("select array_agg(parent order by id) from parent");
        story.sql("update most set v = 'n'; update parent set v = 'q'; drop table lost_1");
        let left = story.ask("select array_agg(lost order by id) from lost");
        let run = rollback(story, "m", &["--stop", "--partial"]);
        tear(story, run, "rollback.decided", "rollback");
        let parent = format!("{}.parent", story.schema);
        said(
            &recover(story).code(1),
            &format!("`emaj rollback --recover --yes` brings the rest to the mark too: {parent};"),
        );
        let done = story.emaj(&["rollback", "--recover", "--yes"]).ok();
        said(&done, "the rest of it is done, 1 table of a stopped group");
        assert_eq!(story.ask("select array_agg(parent order by id) from parent"), at_mark);
        assert_eq!(story.ask("select array_agg(lost order by id) from lost"), left);
        assert_eq!(
            story.ask("select tgrelid::regclass from pg_trigger where tgname like '%emaj%' and tgenabled <> 'D'"),
            ""
        );
        nothing_left(story);
    });
}

#[test]
fn a_session_that_was_to_stop_its_tables_and_was_not_decided_is_committed_by_hand() {
    tell(Who::Owner, |story| {
        let (at_mark, _) = changed(story);
        let run = rollback(story, "m", &["--stop"]);
        tear(story, run, "rollback.undecided", "commit");
        said(
            &recover(story).code(1),
            "mend first what `emaj drift` lists; `emaj verify` then says how it goes on",
        );
        said(&story.emaj(&["group", "stop", "g"]).code(4), "is torn");
        story.emaj(&["install", "--allow-destroy"]).ok();
        said(
            &story.emaj(&["verify"]).code(6),
            "the same once more: `emaj rollback g m --partial`",
        );
        story.emaj(&["rollback", "g", "m", "--partial", "--yes"]).ok();
        let tables = |state: &State| {
            state
                .0
                .lines()
                .filter(|line| !line.contains("_seq"))
                .collect::<Vec<_>>()
                .join("\n")
        };
        assert_eq!(tables(&story.state()), tables(&at_mark));
        nothing_left(story);
    });
}

#[test]
fn a_torn_one_of_two_groups_is_told_which_names_its_mark_has() {
    tell(Who::Owner, |story| {
        story.sql(TABLES);
        let schema = &story.schema;
        story
            .install_manifest(&format!(
                "version: 1\nroles: {{ admin: null, viewer: null }}\ngroups:\n  g: {{ tables: ['{schema}.*', '!{schema}.plain'] }}\n  h: {{ tables: [{schema}.plain] }}\n"
            ))
            .ok();
        story.sql("select emaj.emaj_set_mark_groups(array['g', 'h'], 'm')");
        let at_mark = story.state();
        change(story);
        let run = rollback(story, "m", &["--with", "h"]);
        tear(story, run, "rollback.decided", "rollback");
        recover(story).code(1);
        story.emaj(&["mark", "rename", "h", "m", "other"]).ok();
        let verify = story.emaj(&["verify"]).code(6);
        said(
            &verify,
            "`emaj mark rename h other m`, then the same once more: `emaj rollback g m --with h`",
        );
        story.emaj(&["mark", "rename", "h", "other", "m"]).ok();
        story.emaj(&["rollback", "g", "m", "--with", "h", "--yes"]).ok();
        let (at_mark, now) = (at_mark.0, story.state().0);
        let tables = |state: &str| {
            state
                .lines()
                .filter(|line| !line.contains("drawn"))
                .collect::<Vec<_>>()
                .join("\n")
        };
        assert_eq!(tables(&now), tables(&at_mark));
        nothing_left(story);
    });
}

#[test]
fn who_waits_for_a_rollback_that_broke_off_is_told_to_recover_it() {
    tell(Who::Owner, |story| {
        changed(story);
        let run = rollback(story, "m", &[]);
        story.breaks_off(run, "rollback.decided", "decided");
        let run = story.emaj(&["group", "stop", "g", "--lock-timeout", "300ms"]);
        assert_ne!(run.status, Some(0), "{run}");
        said(&run, "emaj rollback --recover");
        assert!(!run.to_string().contains("rollback prepared"), "{run}");
        recover(story).ok();
    });
}
