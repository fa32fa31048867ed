//! Uninstall: what it says, what it does not touch, and what it stops for.

use crate::support::{self, Database, Run};

const SHOP: &str = "
    create schema s;
    create table s.a (id serial primary key, v text);
    create table s.p (id int primary key, v text) partition by range (id);
    create table s.p_1 partition of s.p for values from (0) to (10);
    create table s.p_2 partition of s.p for values from (10) to (20);
    insert into s.a (v) values ('a'), ('b');";

const MANIFEST: &str =
    "version: 1\nroles: { admin: null, viewer: null }\ngroups: { g: { tables: [s.a, s.p], sequences: none } }\n";

fn installed() -> Database {
    let db = support::database();
    db.client().batch_execute(SHOP).unwrap();
    db.file("emaj.yaml", MANIFEST);
    support::emaj(&db).args(["install"]).run().ok();
    db
}

fn uninstall(db: &Database) -> Run {
    support::emaj(db).args(["uninstall", "--all", "--yes"]).run()
}

#[test]
fn it_names_the_flag_that_it_has() {
    let db = installed();
    let shown = support::emaj(&db).args(["uninstall", "--dry-run"]).run().ok();
    assert!(
        shown
            .stderr
            .contains("2 destroy something that cannot be made again (`--yes`)"),
        "{shown}"
    );
    let asked = support::emaj(&db).args(["uninstall"]).run().code(4);
    assert!(asked.stderr.contains("repeat the command with `--yes`"), "{asked}");
    for told in [&shown, &asked] {
        assert!(!told.stderr.contains("allow-destroy"), "{told}");
    }
    uninstall(&db).ok();
}

#[test]
fn a_registry_of_another_version_is_left_alone() {
    let db = installed();
    let commands: [&[&str]; 5] = [
        &["plan"],
        &["install"],
        &["uninstall", "--yes"],
        &["drift"],
        &["doctor"],
    ];
    for (change, words, back) in [
        (
            "alter table emaj.emaj_relation rename rel_keep_triggers to rel_stays",
            "column emaj_relation.rel_keep_triggers is missing, column emaj_relation.rel_stays is unknown",
            "alter table emaj.emaj_relation rename rel_stays to rel_keep_triggers",
        ),
        (
            "alter table emaj.emaj_role rename to emaj_gone",
            "table emaj_role is missing",
            "alter table emaj.emaj_gone rename to emaj_role",
        ),
        (
            "alter table emaj.emaj_install rename install_version to install_release",
            "column emaj_install.install_version is missing",
            "alter table emaj.emaj_install rename install_release to install_version",
        ),
    ] {
        db.psql(change);
        for command in commands {
            let run = support::emaj(&db).args(command).run().code(4);
            assert!(
                run.stderr.contains("was made by another emaj (") && run.stderr.contains(words),
                "{run}"
            );
            assert!(run.stderr.contains("there is no upgrade of a registry yet"), "{run}");
        }
        db.psql(back);
    }
    support::emaj(&db).args(["plan", "--detailed-exitcode"]).run().code(0);
    uninstall(&db).ok();
}

#[test]
fn it_stops_for_every_object_of_somebody_else() {
    let db = installed();
    let log = db.psql("select rel_log from emaj.emaj_relation where rel_name = 'a'");
    let before = db.psql("select count(*) from pg_depend");
    // What is made, by what it is called, and how it goes again.
    let foreign = [
        (
            "create function emaj._hist(int) returns int language sql as 'select 1'",
            "function emaj._hist(integer)",
        ),
        (
            "create function emaj.mine(text, int[]) returns int language sql as 'select 1'",
            "function emaj.mine(text,integer[])",
        ),
        (
            "create procedure emaj.work() language sql as 'select 1'",
            "procedure emaj.work()",
        ),
        (
            "create aggregate emaj.total(int) (sfunc = int4pl, stype = int)",
            "aggregate emaj.total(integer)",
        ),
        ("create sequence emaj.numbers", "sequence emaj.numbers"),
        (
            "create materialized view emaj.sums as select 1 as n",
            "materialized view emaj.sums",
        ),
        (
            "create view emaj.today as select * from emaj.emaj_hist",
            "view emaj.today",
        ),
        (
            "create table emaj.notes (id int generated always as identity)",
            "table emaj.notes",
        ),
        (
            "create table emaj.parts (id int) partition by range (id)",
            "table emaj.parts",
        ),
        ("create type emaj.mood as enum ('low')", "type emaj.mood"),
        ("create type emaj.pair as (a int, b int)", "type emaj.pair"),
        (
            "create domain emaj.positive as int check (value > 0)",
            "type emaj.positive",
        ),
        ("create collation emaj.plain from \"C\"", "collation emaj.plain"),
        (
            "create operator emaj.### (leftarg = int, rightarg = int, function = int4pl)",
            "operator emaj.###(integer,integer)",
        ),
        (
            "create text search configuration emaj.words (copy = pg_catalog.simple)",
            "text search configuration emaj.words",
        ),
        (
            "create view public.seen as select * from emaj.emaj_hist",
            "view public.seen",
        ),
        (
            "create table public.kept (h emaj.emaj_hist)",
            "table column public.kept.h",
        ),
        (
            "create table public.named (id int default length(emaj._table_name(1)))",
            "default value for public.named.id",
        ),
        (
            "create table public.followed (g text references emaj.emaj_group)",
            "table constraint followed_g_fkey on public.followed",
        ),
        (
            "create table public.heir () inherits (emaj.emaj_param)",
            "table public.heir",
        ),
    ];
    let on_log = [
        (
            format!("create view public.changes as select * from emaj.{log}"),
            "view public.changes".to_owned(),
        ),
        (
            format!(
                "create table public.other (id int); create trigger copy after insert on public.other for each statement execute function emaj.{log}()"
            ),
            "trigger copy on public.other".to_owned(),
        ),
        (
            format!("create statistics public.together on emaj_txid, id from emaj.{log}"),
            "statistics object public.together".to_owned(),
        ),
        (
            format!("create index quick on emaj.{log} (id)"),
            "index emaj.quick".to_owned(),
        ),
        (
            format!("create publication {}_all for table emaj.{log}", db.name()),
            format!("publication relation emaj.{log} in publication"),
        ),
    ];
    let all: Vec<(String, String)> = foreign
        .iter()
        .map(|(sql, name)| ((*sql).to_owned(), (*name).to_owned()))
        .chain(on_log.clone())
        .collect();
    for (sql, name) in &all {
        db.psql(sql);
        let run = uninstall(&db).code(4);
        assert!(
            run.stderr.contains(name.as_str()),
            "{sql}\nis not named `{name}`: {run}"
        );
    }
    let run = uninstall(&db).code(4);
    for (_, name) in &all {
        assert!(run.stderr.contains(name.as_str()), "{name}: {run}");
    }
    // With another manifest's group the schema stays, and only what leans on what goes is in the way.
    db.file(
        "two.yaml",
        "version: 1\nname: two\nroles: { admin: null, viewer: null }\ngroups: { h: { tables: [s.b] } }\n",
    );
    db.psql("create table s.b (id int primary key)");
    support::emaj(&db).args(["install", "two.yaml"]).run().ok();
    let run = support::emaj(&db).args(["uninstall", "--yes"]).run().code(4);
    assert!(
        run.stderr.contains("public.changes") && run.stderr.contains("public.other"),
        "{run}"
    );
    assert!(
        !run.stderr.contains("public.seen") && !run.stderr.contains("emaj.mine"),
        "{run}"
    );
    support::emaj(&db).args(["uninstall", "two.yaml", "--yes"]).run().ok();
    db.psql(&format!(
        "drop publication {}_all; drop statistics public.together; drop index emaj.quick",
        db.name()
    ));
    db.psql("drop table public.other, public.heir, public.followed, public.named, public.kept, emaj.notes, emaj.parts;
        drop view public.changes, public.seen, emaj.today; drop materialized view emaj.sums; drop sequence emaj.numbers;
        drop aggregate emaj.total(int); drop procedure emaj.work; drop function emaj.mine; drop operator emaj.### (int, int);
        drop domain emaj.positive; drop type emaj.pair, emaj.mood; drop collation emaj.plain; drop text search configuration emaj.words; drop table s.b");
    // A function that only shares its name with one of emaj's is nobody's business in a plan, and in the way at the end.
    support::emaj(&db).args(["plan", "--detailed-exitcode"]).run().code(0);
    uninstall(&db).code(4);
    db.psql("drop function emaj._hist(int)");
    assert_eq!(db.psql("select count(*) from pg_depend"), before);
    uninstall(&db).ok();
    assert_eq!(db.psql("select count(*) from pg_namespace where nspname = 'emaj'"), "0");
}

#[test]
fn a_manifest_of_another_name_has_nothing_to_take_out() {
    let db = installed();
    let other = format!("name: other\n{MANIFEST}");
    db.file("other.yaml", &other);
    let run = support::emaj(&db)
        .args(["uninstall", "other.yaml", "--yes"])
        .run()
        .code(10);
    assert!(
        run.stderr
            .contains("nothing of manifest `other` is installed in schema emaj")
            && run.stderr.contains("installed are: `emaj`"),
        "{run}"
    );
    uninstall(&db).ok();
    // As does the same one a second time: the wrong database would look just the same.
    let run = support::emaj(&db).args(["uninstall", "--yes"]).run().code(10);
    assert!(
        run.stderr
            .contains("hint: there is nothing to take out, if that is the database"),
        "{run}"
    );
}

#[test]
fn in_a_restored_copy_it_finds_what_it_captured() {
    let db = installed();
    let copy = support::database();
    let file = copy.file("dump.sql", &db.dump(&[]));
    copy.psql(&format!("\\i {}", file.display()));
    copy.file("emaj.yaml", MANIFEST);
    let refused = support::emaj(&copy).args(["plan"]).run().code(4);
    assert!(refused.stderr.contains("`emaj verify --repair`"), "{refused}");
    // Somebody else's tables have the oids that the registry holds.
    copy.psql(
        "create table s.bystander (id int primary key); create table s.bystander_2 (id int primary key);
         create trigger \"!emaj_ins\" after insert on s.bystander for each statement execute function suppress_redundant_updates_trigger();
         update emaj.emaj_relation set rel_oid = 's.bystander'::regclass where rel_name = 'a';
         update emaj.emaj_relation set rel_oid = 's.bystander_2'::regclass where rel_name = 'p'",
    );
    let mut busy = copy.client();
    busy.batch_execute("begin; lock table s.bystander, s.bystander_2")
        .unwrap();
    let mut writer = copy.client();
    let process: i32 = writer.query_one("select pg_backend_pid()", &[]).unwrap().get(0);
    writer.batch_execute("begin; update s.a set v = 'w'").unwrap();
    let run = support::emaj(&copy)
        .args(["uninstall", "--all", "--yes", "--lock-timeout", "300ms"])
        .run()
        .code(11);
    assert!(
        run.stderr.contains(&format!("process {process} ")),
        "the table that is really captured is locked: {run}"
    );
    writer.batch_execute("rollback").unwrap();
    support::emaj(&copy)
        .args(["uninstall", "--all", "--yes", "--lock-timeout", "300ms"])
        .run()
        .ok();
    busy.batch_execute("rollback").unwrap();
    assert_eq!(
        copy.psql("select string_agg(tgrelid::regclass || ' ' || tgname, ',') from pg_trigger where not tgisinternal"),
        "s.bystander !emaj_ins"
    );
    assert_eq!(
        copy.psql("select count(*) from pg_namespace where nspname = 'emaj'"),
        "0"
    );
    support::emaj(&copy).args(["install"]).run().ok();
    uninstall(&copy).ok();
}

#[test]
fn it_says_whose_table_it_cannot_let_go_and_which_event_trigger_forbids_it() {
    let db = support::database();
    let owner = support::owner(&db);
    let (app, other) = (owner.name(), format!("{}_other", db.name()));
    owner
        .client()
        .batch_execute("create table t (id int primary key); create table u (id int primary key)")
        .unwrap();
    let manifest =
        format!("version: 1\nroles: {{ admin: null, viewer: null }}\ngroups: {{ g: {{ tables: [{app}.*] }} }}\n");
    db.file("emaj.yaml", &manifest);
    let emaj = |args: &[&str]| support::emaj(&db).user(app).args(args).run();
    emaj(&["install"]).ok();
    db.psql(&format!(
        "create role {other}; alter table {app}.t owner to {other}; alter table {app}.u owner to postgres"
    ));
    let run = emaj(&["uninstall", "--yes"]).code(12);
    for words in [
        format!(
            "table {app}.t belongs to role {other}, table {app}.u belongs to role postgres; {app}, who is emaj's owner, may not act for that role"
        ),
        format!("`alter table {app}.u owner to {app}` and `grant {other} to {app}"),
    ] {
        assert!(run.stderr.contains(&words), "{words}\n{run}");
    }
    db.psql(&format!(
        "alter table {app}.u owner to {app}; grant {other} to {app}; grant usage on schema {app} to {other}"
    ));
    db.psql(
        "create function public.\"No DDL\"() returns event_trigger language plpgsql as $$ begin raise exception 'not on a weekday'; end $$;
         create event trigger \"The guard\" on ddl_command_start execute function public.\"No DDL\"();
         create event trigger harmless on ddl_command_end execute function public.\"No DDL\"(); alter event trigger harmless disable",
    );
    let run = emaj(&["uninstall", "--yes"]).code(1);
    let words = format!(
        "event trigger \"The guard\" of role postgres forbids it (function public.\"No DDL\"()): have it let {app} pass, or switch it off meanwhile, `alter event trigger \"The guard\" disable`"
    );
    assert!(
        run.stderr.contains("not on a weekday") && run.stderr.contains(&words),
        "{words}\n{run}"
    );
    db.psql("alter event trigger \"The guard\" disable");
    emaj(&["uninstall", "--yes"]).ok();
    assert_eq!(db.psql("select count(*) from pg_trigger where not tgisinternal"), "0");
    db.psql(&format!("drop table {app}.t; drop owned by {other}; drop role {other}"));
}

#[test]
fn an_installation_that_an_event_trigger_alters_is_not_made() {
    let db = support::database();
    db.client().batch_execute(SHOP).unwrap();
    db.file("emaj.yaml", MANIFEST);
    db.psql(
        "create function public.stamp() returns event_trigger language plpgsql as $$
           declare made record;
         begin
           for made in select * from pg_event_trigger_ddl_commands() where object_type = 'table' and schema_name <> 'pg_temp' loop
             execute format('alter table %s add column if not exists created_at timestamptz', made.object_identity);
           end loop;
         end $$;
         create event trigger \"Stamp it\" on ddl_command_end when tag in ('CREATE TABLE') execute function public.stamp()",
    );
    let install = || support::emaj(&db).args(["install"]).run();
    let run = install().code(4);
    assert!(run.stderr.contains("column emaj_group.created_at is unknown"), "{run}");
    assert!(
        run.stderr.contains("an event trigger alters new tables (\"Stamp it\")"),
        "{run}"
    );
    assert_eq!(db.psql("select count(*) from pg_namespace where nspname = 'emaj'"), "0");
    db.psql("alter event trigger \"Stamp it\" disable");
    install().ok();
    uninstall(&db).ok();
}

#[test]
fn a_role_that_databases_share_goes_with_the_last_of_them() {
    let (one, two) = (support::database(), support::database());
    let role = |name: &str| format!("{}_{name}", one.name());
    let roles = || {
        one.psql(&format!(
            "select string_agg(rolname, ' ' order by rolname) from pg_roles where rolname in ('{}', '{}')",
            role("made"),
            role("own")
        ))
    };
    one.psql(&format!("create role {}", role("own")));
    for db in [&one, &two] {
        db.client().batch_execute(SHOP).unwrap();
        let shared = format!("{{ admin: {}, viewer: {} }}", role("made"), role("own"));
        db.file("emaj.yaml", &MANIFEST.replace("{ admin: null, viewer: null }", &shared));
        support::emaj(db).args(["install"]).run().ok();
    }
    let both = format!("{} {}", role("made"), role("own"));
    assert_eq!(roles(), both);
    let first = uninstall(&one).ok();
    let kept = format!("role {} is kept: something else uses it", role("made"));
    assert!(first.stderr.contains(&kept), "{first}");
    assert_eq!(roles(), both);
    uninstall(&two).ok();
    assert_eq!(roles(), role("own"));
    one.psql(&format!("drop role {}", role("own")));
}

#[test]
fn a_role_that_another_database_makes_at_the_same_moment_is_shared() {
    let (other, db) = (support::database(), support::database());
    let role = format!("{}_both", db.name());
    db.client().batch_execute(SHOP).unwrap();
    let shared = format!("{{ admin: {role}, viewer: null }}");
    db.file("emaj.yaml", &MANIFEST.replace("{ admin: null, viewer: null }", &shared));
    // Nobody sees the role before the other database's install is committed: this one goes to make it, and waits.
    let mut holder = other.client();
    holder.batch_execute(&format!("begin; create role {role}")).unwrap();
    let waiting = format!(
        "select count(*) from pg_stat_activity where datname = '{}' and wait_event = 'transactionid'",
        db.name()
    );
    let run = support::emaj(&db).args(["install"]).run_while(|_| {
        support::until("the install waits", || other.psql(&waiting) == "1");
        holder.batch_execute("commit").unwrap();
    });
    run.ok();
    let may = format!("select has_function_privilege('{role}', 'emaj.emaj_verify_all()', 'execute')");
    assert_eq!(db.psql(&may), "t");
    uninstall(&db).ok();
    db.psql(&format!("drop role if exists {role}"));
}

#[test]
fn who_waited_for_an_uninstall_is_told_that_nothing_is_installed() {
    for args in [
        &["mark", "set", "g", "x"][..],
        &["group", "stop", "g"],
        &["status"],
        &["failures", "discard", "--all", "--yes"],
    ] {
        let db = installed();
        let mut open = db.client();
        open.batch_execute("begin; lock table emaj.emaj_hist in access share mode")
            .unwrap();
        let waiting = |number: &str| {
            support::until(&format!("{number} to wait, {args:?}"), || {
                db.psql("select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'") == number
            });
        };
        std::thread::scope(|scope| {
            let leaving = scope.spawn(|| {
                let args = ["uninstall", "--all", "--yes", "--lock-timeout", "60s"];
                support::emaj(&db).args(args).run()
            });
            waiting("1");
            let told = support::emaj(&db).args(args).run_while(|_| {
                waiting("2");
                open.batch_execute("commit").unwrap();
            });
            leaving.join().unwrap().ok();
            let told = told.code(10);
            let words = "it was uninstalled meanwhile; `emaj install` installs it again";
            assert!(told.stderr.contains(words), "{told}");
        });
    }
}
