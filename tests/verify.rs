//! Every kind of inconsistency: it is made, `emaj verify` names it, what stands behind it is done, and nothing is found any more.

use crate::support::story::{Story, Who, tell};

const TABLES: &str = "
    create table t (id int primary key, a int, b text);
    create table u (id serial primary key, v text);
    create table p (id int, r int, v text, primary key (id, r)) partition by list (r);
    create table p0 partition of p for values in (0);
    create table p1 partition of p for values in (1)";

/// How an inconsistency is mended, as `emaj verify` says it.
enum Repair {
    Install,
    /// The table is released, and taken back.
    Release,
    /// What stands there is a statement.
    Statement,
    /// What stands there names commands of `emaj`, or an act of the owner; these are done.
    Sql(&'static str),
}

use Repair::{Install, Release, Sql, Statement};

/// What is done behind the back of emaj, what is said of it, and how it is mended. `LOG`, `INTO` and `GUARD` stand for those of table `t`.
const CASES: &[(&str, &str, Repair)] = &[
    (
        "drop trigger \"!emaj_ins\" on t",
        "its capture triggers are missing or disabled",
        Install,
    ),
    (
        "alter table t disable trigger \"!emaj_upd\"",
        "its capture triggers are missing or disabled",
        Install,
    ),
    (
        "alter table t disable trigger \"!emaj_upd\"; alter table t enable always trigger \"!emaj_upd\"",
        "switched or made anew by somebody else",
        Install,
    ),
    (
        "alter table p0 disable trigger user",
        "its capture triggers are disabled on",
        Sql("select emaj.emaj_stop_group('g'); select emaj.emaj_start_group('g', 'again')"),
    ),
    ("drop table LOG cascade", "its log table LOG is gone", Install),
    ("drop view GUARD", "its guard GUARD is gone", Install),
    ("alter table LOG drop column b", "its log has no column b", Install),
    (
        "alter table LOG drop column emaj_user",
        "its log has no column emaj_user",
        Release,
    ),
    (
        "drop view GUARD; alter table t alter b type varchar(9)",
        "the type of column b is now character varying(9) and was text",
        Install,
    ),
    (
        "drop view GUARD; alter table t drop b; alter table t add b text",
        "the captured column b is gone",
        Install,
    ),
    (
        "alter table t drop constraint t_pkey, add primary key (id, a)",
        "its primary key is not the one that was installed",
        Install,
    ),
    (
        "drop table u cascade; create table u (id serial primary key, v text)",
        "the table is gone",
        Install,
    ),
    ("drop sequence u_id_seq cascade", "the sequence is gone", Install),
    (
        "do $$ begin execute format('drop index %s', (select indexrelid::regclass from pg_index where indrelid = 'LOG'::regclass)); end $$",
        "has no BRIN index",
        Statement,
    ),
    (
        "create or replace function LOG() returns trigger language plpgsql as 'begin return null; end'",
        "its capture function LOG() is not the one that belongs there",
        Install,
    ),
    (
        "create or replace function emaj._after(p emaj.emaj_position) returns text language sql as 'select ''true''::text'",
        "it is not the one that this emaj installs",
        Install,
    ),
    (
        "alter function emaj.emaj_count_group(text, text, text) reset search_path",
        "it is not the one that this emaj installs",
        Install,
    ),
    (
        "alter function emaj._after(emaj.emaj_position) volatile security definer",
        "it is not the one that this emaj installs",
        Install,
    ),
    (
        "alter function LOG() set jit = off",
        "its capture function LOG() is not the one that belongs there",
        Install,
    ),
    (
        "drop function emaj._hist(text, text, text, text)",
        "it is gone",
        Install,
    ),
    ("drop function emaj.emaj_detailed_verify_all()", "it is gone", Install),
    (
        "alter table LOG owner to OTHER",
        "it belongs to OTHER, and the schema to",
        Statement,
    ),
    (
        "alter function emaj._hist(text, text, text, text) owner to OTHER",
        "it belongs to OTHER, and the schema to",
        Statement,
    ),
    (
        "grant select, insert on LOG to public",
        "everybody has a right on it: insert, select",
        Statement,
    ),
    (
        "grant update on emaj.emaj_mark to public",
        "everybody has a right on it: update",
        Statement,
    ),
    (
        "grant execute on function emaj.emaj_rollback_group to public",
        "everybody has a right on it: execute",
        Statement,
    ),
    (
        "grant delete, insert on LOG to OTHER",
        "OTHER may do what only the owner is to do: delete, insert",
        Statement,
    ),
    (
        "alter table LOG replica identity default",
        "has no replica identity",
        Statement,
    ),
    (
        "create table emaj.other_log (x int)",
        "it belongs to no table of a group",
        Statement,
    ),
    (
        "delete from emaj.emaj_column where col_rel = (select rel_id from emaj.emaj_relation where rel_name = 't' and rel_ended is null)",
        "the registry has no column of it",
        Install,
    ),
    (
        "delete from emaj.emaj_mark",
        "it logs, and has no mark that can be rolled back to",
        Sql("select emaj.emaj_set_mark_group('g', 'new')"),
    ),
    (
        "delete from emaj.emaj_mark_sequence where seq_mark = (select max(mark_id) from emaj.emaj_mark)",
        "the state of APP.u_id_seq is missing",
        Sql(
            "select emaj.emaj_set_mark_group('g', 'z'); select emaj.emaj_delete_mark_group('g', mark_name) from emaj.emaj_mark where mark_name <> 'z'",
        ),
    ),
    (
        "update emaj.emaj_mark set mark_position.snapshot = '9000000000000:9000000000000:' where mark_id = (select max(mark_id) from emaj.emaj_mark)",
        "lies ahead of the cluster's transaction ids",
        Sql("select emaj.emaj_set_mark_group('g', 'y'); select emaj.emaj_delete_mark_group('g', 'z')"),
    ),
    (
        "insert into emaj.emaj_binding (bind_name, bind_manifest, bind_oid, bind_schema, bind_table, bind_kind, bind_fingerprint, bind_action, bind_since) values ('b', 'm', 't'::regclass, 'APP', 't', 'warn', 'x', 'gone', emaj._position())",
        "binding `b`: its trigger is missing",
        Sql("delete from emaj.emaj_binding"),
    ),
    (
        "insert into emaj.emaj_rollback (rlbk_groups, rlbk_mark, rlbk_logged, rlbk_state) values ('{g}', 'z', true, 'RUNNING')",
        "it broke off on its way to mark `z` of group `g`: it is neither done nor taken back",
        Sql("delete from emaj.emaj_rollback where rlbk_state = 'RUNNING'"),
    ),
    (
        "insert into LOG (emaj_gid, emaj_txid, emaj_changed, emaj_verb, emaj_tuple, emaj_user, id) values (pg_current_wal_insert_lsn(), 9000000000, now(), 'INS', 'NEW', 'x', 7)",
        "it holds changes of transactions that this database has not had yet",
        Sql(
            "select emaj.emaj_stop_group('g'); select emaj.emaj_reset_group('g'); select emaj.emaj_start_group('g', 'z')",
        ),
    ),
    (
        "alter table t set unlogged",
        "the table is unlogged now",
        Sql("alter table t set logged"),
    ),
    (
        "create table child () inherits (t)",
        "inheritance child or parent",
        Sql("drop table child"),
    ),
];

/// What is no inconsistency: a new name, a new column.
const NONE: &[&str] = &[
    "alter table t rename to t2; alter table t2 rename to t",
    "alter table t rename column b to c; alter table t rename column c to b",
    "alter table t add column more int; alter table t drop column more",
    "alter sequence u_id_seq restart with 77",
    "begin; insert into t (id, a) values (77, 77); savepoint s; insert into t (id, a) values (78, 78); commit",
];

fn found(story: &Story<'_>) -> Vec<(String, String)> {
    let run = story.emaj(&["verify", "-o", "json"]);
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let all = run.stdout_json();
    assert_eq!(
        run.status == Some(6),
        all.as_array().is_some_and(|all| !all.is_empty()),
        "{run}"
    );
    all.as_array()
        .unwrap()
        .iter()
        .map(|one| (text(&one["problem"]), text(&one["repair"])))
        .collect()
}

#[test]
fn everything_that_can_be_wrong_is_named_with_its_repair() {
    tell(Who::Owner, |story| {
        story.sql(TABLES);
        story.install("*");
        let other = format!("{}_other", story.db.name());
        story.sql_as_superuser(&format!("create role {other}"));
        for quiet in NONE {
            story.sql(quiet);
            assert_eq!(found(story), [], "{quiet}");
        }
        for (number, (act, problem, repair)) in CASES.iter().enumerate() {
            let names = story.ask("select concat_ws(' ', format('emaj.%I', rel_log), format('emaj.%I', rel_guard)) from emaj.emaj_relation where rel_name = 't' and rel_ended is null");
            let (log, guard) = names.split_once(' ').unwrap();
            let schema = story.schema.clone();
            let filled = |text: &str| {
                text.replace("LOG", log)
                    .replace("GUARD", guard)
                    .replace("OTHER", &other)
                    .replace("APP", &schema)
            };
            let (act, problem) = (filled(act), filled(problem));
            let role = if act.contains("owner to") {
                String::new()
            } else {
                format!("set role {schema};")
            };
            story.sql_as_superuser(&format!("set search_path = {schema}; {role} {act}"));
            let all = found(story);
            let Some((_, said)) = all.iter().find(|(said, _)| said.contains(&problem)) else {
                panic!("case {number}, `{act}`: `{problem}` is not among {all:#?}");
            };
            match repair {
                Install => {
                    assert!(
                        said.contains("emaj install") || said.contains("take it out of the manifest"),
                        "case {number}: {said}"
                    );
                    if act.contains("drop sequence") {
                        story.sql("create sequence u_id_seq owned by u.id; alter table u alter id set default nextval('u_id_seq')");
                    }
                    let first = story.emaj(&["install", "emaj.yaml"]);
                    if first.status != Some(0) {
                        // What is lost by it is named before it is done.
                        assert!(first.code(4).stderr.contains("`--allow-destroy`"));
                        story.emaj(&["install", "--allow-destroy", "emaj.yaml"]).ok();
                    }
                }
                Release => {
                    assert!(said.contains(&format!("`emaj release {schema}.t`")), "{said}");
                    story.emaj(&["release", &format!("{schema}.t"), "--yes"]).ok();
                    story.emaj(&["install", "emaj.yaml"]).ok();
                }
                Statement => {
                    for (_, statement) in &all {
                        story.sql_as_superuser(statement);
                    }
                }
                Sql(sql) => story.sql(sql),
            }
            assert_eq!(found(story), [], "case {number}, `{act}`: still there after the repair");
            story.emaj(&["plan", "--detailed-exitcode", "emaj.yaml"]).code(0);
        }
        story.mark("end");
        let (state, definitions) = (story.state(), story.definitions());
        story.sql("insert into t values (1, 1, 'x'); insert into u (v) values ('y'); insert into p values (1, 0, 'z'), (1, 1, 'z')");
        story.rollback("end");
        story.is(&state, &definitions, "after all repairs");
        story.sql_as_superuser(&format!("drop role {other}"));
    });
}
