//! Several at once, and beside others: rollbacks of two groups, of one group, marks, writers, and servers that cannot prepare.

use std::time::Duration;

use emaj::cluster::Cluster;

use super::*;
use crate::support::emaj_alone;

/// Holds a rollback at a point while `then` runs.
fn beside_held<T>(story: &Story<'_>, point: &str, then: impl FnOnce() -> T) -> (Run, T) {
    let file = hold(story, "held");
    let mut result = None;
    let run = held(rollback(story, "m", &[]), point, &file).run_while(|_| {
        until(point, || file.exists());
        result = Some(then());
        if file.exists() {
            std::fs::remove_file(&file).unwrap();
        }
    });
    (run, result.unwrap())
}

#[test]
fn another_group_goes_its_own_way() {
    tell(Who::Owner, |story| {
        story.sql(TABLES);
        let schema = story.schema.clone();
        let manifest = format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\ngroups:\n  g:\n    tables: [{schema}.child, {schema}.parent, {schema}.plain]\n  h:\n    tables: [{schema}.counted, {schema}.parted]\n"
        );
        story.install_manifest(&manifest).ok();
        story.sql("select emaj.emaj_set_mark_group('g', 'm'), emaj.emaj_set_mark_group('h', 'm')");
        let at_mark = story.state();
        story.sql("delete from child; update parent set v = 'x'; update plain set v = 'x'; update counted set v = 0; delete from parted");
        for point in ["rollback.locked", "rollback.undecided", "rollback.decided"] {
            let changed = story.state();
            let (run, ()) = beside_held(story, point, || {
                // What goes on is not broken off.
                story.emaj(&["verify"]).ok();
                let run = story.emaj(&["rollback", "h", "m", "--yes", "--jobs", "2"]).ok();
                said(&run, "by 2 sessions");
                story.emaj(&["mark", "set", "h", &format!("beside-{point}")]).ok();
            });
            said(&run.ok(), "by 2 sessions");
            assert_eq!(story.state(), at_mark);
            for group in ["g", "h"] {
                let start = story.ask(&format!(
                    "select mark_name from emaj.emaj_mark where mark_group = '{group}' and mark_name like 'RLBK%START' order by mark_id desc limit 1"
                ));
                story.sql(&format!("select emaj.emaj_logged_rollback_group('{group}', '{start}')"));
            }
            assert_eq!(story.state(), changed);
        }
        nothing_left(story);
    });
}

#[test]
fn a_second_one_of_the_same_group_is_told_of_the_first() {
    tell(Who::Owner, |story| {
        let (at_mark, _) = changed(story);
        for point in ["rollback.locked", "rollback.decided"] {
            let (run, ()) = beside_held(story, point, || {
                let words = ["rollback", "g", "m", "--yes", "--jobs", "2", "--lock-timeout", "200ms"];
                let second = story.emaj(&words).code(11);
                said(&second, "is being rolled back by process");
                let recover = story.emaj(&["rollback", "--recover"]).ok();
                said(&recover, "is being carried out by process");
            });
            run.ok();
            assert_eq!(story.state(), at_mark);
            change_a_little(story);
        }
        rollback(story, "m", &[]).run().ok();
        assert_eq!(story.state(), at_mark);
        nothing_left(story);
    });
}

#[test]
fn a_mark_waits_until_a_decided_rollback_is_seen_whole() {
    tell(Who::Owner, |story| {
        let (at_mark, _) = changed(story);
        let mut client = story.db.client();
        let file = hold(story, "held");
        let (run, ()) = beside_held(story, "rollback.concluded", || {
            let marking = std::thread::spawn(move || {
                client
                    .batch_execute("select emaj.emaj_set_mark_group('g', 'between')")
                    .unwrap();
            });
            until("the mark waits", || story.db.waits_for_a_lock());
            std::fs::remove_file(&file).unwrap();
            marking.join().unwrap();
        });
        run.ok();
        change(story);
        story.rollback("between");
        assert_eq!(story.state(), at_mark);
        nothing_left(story);
    });
}

#[test]
fn a_writer_in_the_way_is_named_and_nothing_stays() {
    tell(Who::Owner, |story| {
        let (_, changed) = changed(story);
        let before = story.everything();
        let mut writer = story.db.client_as(story.role.as_deref().unwrap());
        writer
            .batch_execute("set application_name = 'the one'; begin; lock table plain in row exclusive mode")
            .unwrap();
        let run = rollback(story, "m", &["--lock-timeout", "5s"]).run().code(11);
        said(&run, "the one");
        assert_eq!(story.state(), changed);
        assert_eq!(story.everything(), before);
        writer.batch_execute("commit").unwrap();
        nothing_left(story);
        rollback(story, "m", &[]).run().ok();
    });
}

#[test]
fn the_time_limits_of_a_role_do_not_end_it() {
    tell(Who::Owner, |story| {
        let (at_mark, _) = changed(story);
        let role = story.role.clone().unwrap();
        let mut writer = story.db.client_as(&role);
        story
            .db
            .psql(&format!("alter role {role} set statement_timeout = '2s'"));
        writer
            .batch_execute("begin; lock table plain in row exclusive mode")
            .unwrap();
        let run = rollback(story, "m", &["--lock-timeout", "60s"]).run_while(|_| {
            until("a lane waits", || {
                story
                    .db
                    .psql("select count(*) > 0 from pg_locks l join pg_class c on c.oid = l.relation where not granted and relname = 'plain'")
                    == "t"
            });
            std::thread::sleep(Duration::from_millis(2500));
            writer.batch_execute("commit").unwrap();
        });
        assert!(
            !run.ok().stderr.contains("one session"),
            "nothing kept the lanes from it"
        );
        assert_eq!(story.state(), at_mark);
        nothing_left(story);
    });
}

#[test]
fn sessions_in_each_others_way_leave_it_to_one() {
    tell(Who::Owner, |story| {
        story.sql(TABLES);
        let schema = story.schema.clone();
        story.sql(&format!(
            "create function {schema}.draws() returns bigint language sql as $$ select nextval('{schema}.drawn') $$"
        ));
        story.install("*");
        story.mark("m");
        let at_mark = story.ask("select format('%s %s', count(*), sum(n)) from plain");
        story.sql("delete from plain; update counted set v = 0; delete from parted; select nextval('drawn')");
        // The rows that come back draw from a sequence that goes back too: what a function draws from, nobody knows.
        story.sql(&format!(
            "alter table plain add drawn bigint; alter table plain alter drawn set default {schema}.draws()"
        ));
        story.install("*");
        let run = rollback(story, "m", &["--lock-timeout", "500ms"]).run().ok();
        said(&run, "it goes on in one session");
        assert_eq!(
            story.ask("select format('%s %s', count(*), sum(n)) from plain"),
            at_mark
        );
        nothing_left(story);
    });
}

#[test]
fn a_server_that_cannot_prepare_does_it_in_one_session() {
    let cluster = Cluster::builder()
        .settings([("max_prepared_transactions", "0")])
        .start()
        .unwrap();
    let directory = tempfile::Builder::new().prefix("emaj-test-").tempdir().unwrap();
    let mut client = postgres::Client::connect(&cluster.conninfo("postgres"), postgres::NoTls).unwrap();
    client.batch_execute(TABLES).unwrap();
    std::fs::write(
        directory.path().join("emaj.yaml"),
        "version: 1\nroles: { admin: null, viewer: null }\ngroups: { g: { tables: [public.*] } }\n",
    )
    .unwrap();
    let run = |words: &[&str]| {
        emaj_alone(directory.path())
            .envs(cluster.env("postgres"))
            .args(words)
            .run()
    };
    run(&["install"]).ok();
    run(&["mark", "set", "g", "m"]).ok();
    client
        .batch_execute("update plain set v = 'x'; update counted set v = 0")
        .unwrap();
    let done = run(&["rollback", "g", "m", "--yes", "--jobs", "4"]).ok();
    said(&done, "in one session: the server's max_prepared_transactions is 0");
    let left: i64 = client
        .query_one("select count(*) from plain where v = 'x'", &[])
        .unwrap()
        .get(0);
    assert_eq!(left, 0);
}

#[test]
fn what_cannot_be_prepared_is_left_to_one_session() {
    tell(Who::Owner, |story| {
        let schema = story.schema.clone();
        story.sql(TABLES);
        // The column's default makes a temporary table, which no prepared transaction may have touched.
        story.sql(&format!(
            "create function {schema}.odd() returns int language plpgsql as
               $$ begin create temporary table if not exists odd (n int); return 1; end $$"
        ));
        story.install("*");
        story.mark("m");
        story.sql("delete from plain; update counted set v = 0; delete from parted");
        story.sql(&format!(
            "alter table plain add odd int; alter table plain alter odd set default {schema}.odd()"
        ));
        story.install("*");
        let run = rollback(story, "m", &[]).run().ok();
        said(&run, "several sessions cannot do it");
        assert_eq!(story.ask("select count(*) from plain where odd = 1"), "30");
        nothing_left(story);
    });
}

#[test]
fn an_administrator_who_owns_nothing_does_it_and_brings_it_to_its_end() {
    tell(Who::Owner, |story| {
        let admin = format!("{}_admin", story.db.name());
        story.sql_as_superuser(&format!("create role {admin} login"));
        story.sql(TABLES);
        let all = format!("{}.*", story.schema);
        let manifest = story.manifest(&all).replace("admin: null", &format!("admin: {admin}"));
        story.install_manifest(&manifest).ok();
        story.mark("m");
        let at_mark = story.state();
        change(story);
        let run = |words: &[&str]| emaj(story.db).user(&admin).args(words);
        let words = [
            "rollback",
            "g",
            "m",
            "--yes",
            "--jobs",
            "3",
            "--comment",
            "by the administrator",
        ];
        let done = run(&words).run().ok();
        said(&done, "by 3 sessions");
        assert_eq!(story.state(), at_mark);
        change_a_little(story);
        run(&words).env("EMAJ_FAIL_AT", "rollback.concluded").run();
        said(
            &run(&["rollback", "--recover"]).run().ok(),
            "was decided: done, 2 prepared sessions committed",
        );
        assert_eq!(story.state(), at_mark);
        said(&run(&["rollback", "--list"]).run().ok(), "by the administrator");
        nothing_left(story);
        story.install_manifest(&story.manifest(&all)).ok();
        story.sql_as_superuser(&format!("drop role {admin}"));
    });
}

#[test]
fn ctrl_c_takes_all_of_it_back() {
    tell(Who::Owner, |story| {
        let (_, changed) = changed(story);
        let mut writer = story.db.client_as(story.role.as_deref().unwrap());
        writer
            .batch_execute("begin; lock table plain in row exclusive mode")
            .unwrap();
        let run = rollback(story, "m", &["--lock-timeout", "100s"]).run_while(|pid| {
            until("a session waits", || {
                story.db.psql("select count(*) from pg_locks where not granted and locktype = 'relation' and database = (select oid from pg_database where datname = current_database())") == "1"
            });
            let sent = std::process::Command::new("kill").args(["-INT", &pid.to_string()]).status().unwrap();
            assert!(sent.success());
        });
        said(&run.code(130), "interrupted; nothing was changed");
        writer.batch_execute("commit").unwrap();
        assert_eq!(story.state(), changed);
        assert_eq!(story.ask("select count(*) from emaj.emaj_rollback"), "0");
        nothing_left(story);
    });
}

#[test]
fn lanes_that_wait_for_the_application_let_go_of_what_they_hold() {
    tell(Who::Owner, |story| {
        let (at_mark, _) = changed(story);
        let order = story.ask(
            "select rel_name from emaj.emaj_relation where rel_log is not null and rel_ended is null order by rel_oid",
        );
        let (first, last) = (order.lines().next().unwrap(), order.lines().last().unwrap());
        assert_ne!(first, last);
        let last_held = format!("select count(*) from pg_locks where relation = '{last}'::regclass and not granted");
        story.sql(&format!("begin; lock table {last} in row exclusive mode"));
        let mut writer = story.db.client();
        let schema = story.schema.clone();
        let run = rollback(story, "m", &["--lock-timeout", "60s"]);
        run.run_while(|_| {
            until("the rollback waits", || story.ask(&last_held) == "1");
            // It waits for the last table, and all the others are free.
            writer
                .batch_execute(&format!(
                    "begin; lock table {schema}.{first} in row exclusive mode; rollback"
                ))
                .unwrap();
            story.sql("commit");
        })
        .ok();
        assert_eq!(story.state(), at_mark);
        nothing_left(story);
    });
}
