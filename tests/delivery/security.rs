//! A writer of a bound table writes, and gains nothing by it: no credentials, no log, no function in emaj's place.

use super::{PEOPLE, PERSON, column, drain, install, logins, people, prepare, to_directory, worker};
use crate::support::rows::sink_into;
use crate::support::slapd::{PASSWORD, slapd};
use crate::support::{database, owner, wait_for};

#[test]
fn a_writer_gains_nothing() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    install(&db, &to_directory(&slapd, PEOPLE));
    let writer = format!("{}_writer", db.name());
    db.psql(&format!(
        "create role {writer} login; grant usage, create on schema public to {writer};
         grant select, insert, update, delete, truncate on person to {writer}"
    ));
    let worker = worker(&db).start();
    let mut client = db.client_as(&writer);
    // Everything that emaj's functions and queries could call by a bare name, in front of the real one.
    client
        .batch_execute("create schema trap")
        .expect_err("the writer makes no schemas");
    client
        .batch_execute("create table public.caught (who text); grant insert on caught to public")
        .unwrap();
    for (name, arguments, result) in [
        ("pg_current_xact_id", "", "xid8"),
        ("pg_current_snapshot", "", "pg_snapshot"),
        ("clock_timestamp", "", "timestamptz"),
        ("row_to_json", "record", "json"),
        ("json_build_array", "variadic \"any\"", "json"),
        ("max", "pg_lsn", "pg_lsn"),
        ("concat", "variadic \"any\"", "text"),
        ("format_type", "oid, integer", "text"),
        ("pg_try_advisory_lock", "bigint", "boolean"),
        ("to_regclass", "text", "regclass"),
    ] {
        let sql = format!(
            "create function public.{name}({arguments}) returns {result} language plpgsql as
             $$begin insert into public.caught values (current_user); return null; end$$"
        );
        // (Some cannot be made at all in PL/pgSQL: all the better.)
        let _ = client.batch_execute(&sql);
    }
    client
        .batch_execute(
            "create function public.trap(text, text) returns boolean language plpgsql as
               $$begin insert into public.caught values (current_user); return true; end$$;
             create operator public.= (leftarg = text, rightarg = text, procedure = public.trap);
             create operator public.<> (leftarg = text, rightarg = text, procedure = public.trap);
             create temporary table emaj_sink (like caught); create temporary table emaj_log (like caught);
             set search_path = public, pg_temp, pg_catalog;",
        )
        .unwrap();
    client
        .batch_execute("insert into public.person values (1, 'ann', 'Ann'); update public.person set name = 'Anna'")
        .unwrap();
    wait_for("the entry", 30, || (people(&slapd) == ["ann Anna"]).then_some(()));
    client.batch_execute("truncate public.person").unwrap();
    wait_for("the end", 30, || logins(&slapd).is_empty().then_some(()));
    assert_eq!(
        column(&db, &format!("select who from caught where who <> '{writer}'")),
        [] as [&str; 0]
    );

    for sql in [
        "select * from emaj.emaj_sink",
        "select * from emaj.emaj_binding",
        "select * from emaj.emaj_failure",
        "delete from emaj.emaj_failure",
        "update emaj.emaj_sink set sink_state = 'PAUSED'",
        "select emaj._position()",
    ] {
        let error = client.batch_execute(sql).expect_err(sql);
        assert_eq!(error.code().map(|code| code.code()), Some("42501"), "{sql}");
    }
    let logs = column(
        &db,
        "select relname::text from pg_class where relnamespace = 'emaj'::regnamespace and relkind = 'r'",
    );
    for log in logs {
        let error = client
            .batch_execute(&format!("select * from emaj.\"{log}\""))
            .expect_err(&log);
        assert_eq!(error.code().map(|code| code.code()), Some("42501"), "{log}");
    }
    // Other sessions' statements are not shown to others; even to the superuser none shows the password.
    let seen = column(&db, "select query from pg_stat_activity where query is not null");
    assert!(seen.iter().all(|query| !query.contains(PASSWORD)), "{seen:?}");
    assert!(!worker.log().contains(PASSWORD), "{}", worker.log());
    assert!(!db.dump(&[]).contains(PASSWORD));
    assert_eq!(worker.stop(), Some(0));
    drain(&db).run().ok();
    db.psql(&format!("drop owned by {writer} cascade; drop role {writer}"));
}

#[test]
fn a_right_that_the_worker_lacks_is_named_with_what_gives_it() {
    let (db, copy) = (database(), database());
    let owner = owner(&db);
    let name = owner.name();
    owner
        .client()
        .batch_execute("create table thing (id int primary key, code text)")
        .unwrap();
    copy.psql("create table thing (code text primary key, id int)");
    let manifest = format!(
        "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks:\n  copy: {}\nbindings:\n  \
         codes: {{ table: {name}.thing, to: copy, row: {{ table: public.thing, key: [code], columns: {{ code: row.code, id: row.id }} }} }}\n",
        sink_into(&copy, "postgres")
    );
    std::fs::write(db.dir().join("emaj.yaml"), manifest).unwrap();
    prepare(&db, &["install", "emaj.yaml"]).user(name).run().ok();
    db.psql(&format!("revoke select on {name}.thing from {name}"));
    let change = |sql: &str| db.psql(&format!("set search_path = {name}; {sql}"));
    let deliver = || drain(&db).user(name).run();
    change("insert into thing values (1, 'a'), (2, 'b')");
    deliver().ok();
    // Whether somebody else has the code that the row gives up only the table says.
    change("update thing set code = 'c' where id = 1");
    let run = deliver().code(12);
    let grant = format!("grant select on {name}.thing to {name}");
    assert!(
        run.stderr.contains(&format!(
            "table {name}.thing has to be read to know what its other rows give, and role {name} may not: `{grant}`"
        )),
        "{run}"
    );
    assert_eq!(column(&copy, "select code from thing order by code"), ["a", "b"]);
    // Rows that are hidden are not rows that are not there.
    db.psql(&format!(
        "{grant}; alter table {name}.thing enable row level security, force row level security"
    ));
    let run = deliver().code(12);
    assert!(run.stderr.contains(&format!("`alter role {name} bypassrls`")), "{run}");
    db.psql(&format!("alter table {name}.thing disable row level security"));
    deliver().ok();
    assert_eq!(column(&copy, "select code from thing order by code"), ["b", "c"]);
}
