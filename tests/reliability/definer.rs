//! What runs with somebody else's rights does nothing for a third: names shadowed for the worker and for the triggers, rights of PUBLIC,
//! rows that row level security would hide.

use super::{HEAD, drain, install};
use crate::support::{self, emaj};

const TABLES: &str = "
    create schema app;
    create table app.person (id varchar(20) primary key, n int, w text);
    create table app.team (a int, b smallint, w text, primary key (a, b));
    create function app.seen(who text) returns void language sql as 'select';
    insert into app.person select 'p' || n, n, 'x' from generate_series(1, 6000) n;
    insert into app.team select n, 1, 'x' from generate_series(1, 5500) n;";

const MANIFEST: &str = "
groups: { app: { tables: [app.*] } }
sinks: { out: { file: { path: out.ndjson } } }
bindings:
  person: { table: app.person, to: out, message: {} }
  team: { table: app.team, to: out, message: {} }
  told: { table: app.person, sql: { function: app.seen, arguments: ['{{ row.w }}'] } }
  sent: { table: app.person, notify: { channel: people, payload: '{{ row.id }}' } }
";

/// Functions that fit better than PostgreSQL's own, or as well, under the names of all that take anything; and operators.
fn traps(schema: &str) -> String {
    let body = "begin raise exception 'caught as %', current_user; end";
    let mut sql = String::new();
    for name in [
        "json_build_array",
        "json_build_object",
        "jsonb_build_object",
        "concat",
        "concat_ws",
        "to_json",
        "to_jsonb",
        "row_to_json",
        "array_position",
        "format",
        "array_agg",
        "string_agg",
        "count",
        "max",
        "min",
        "sum",
        "md5",
        "unnest",
        "array_to_string",
        "to_hex",
        "greatest_of",
        "make_interval",
        "json_object_agg",
        "quote_ident",
        "quote_literal",
        "quote_nullable",
        "cardinality",
        "array_length",
        "pg_notify",
        "set_config",
        "format_type",
        "to_char",
        "date_part",
        "hash_record_extended",
    ] {
        for arguments in [
            "int",
            "bigint",
            "smallint",
            "text",
            "varchar",
            "name",
            "varchar, smallint",
            "int, smallint",
            "bigint, text, numeric",
            "text, text",
            "varchar, int, text",
            "oid, tid",
            "smallint[], smallint",
            "text, text, text",
            "text, varchar",
            "oid",
            "name, name",
            "varchar, text",
            "text, name, name",
        ] {
            sql += &format!(
                "create function {schema}.{name}({arguments}) returns text language plpgsql as $trap${body}$trap$;\n"
            );
        }
    }
    sql += &format!(
        "create function {schema}.trap_op(varchar, varchar) returns boolean language plpgsql as $trap${body}$trap$;\n"
    );
    sql += &format!(
        "create function {schema}.trap_op(smallint, bigint) returns boolean language plpgsql as $trap${body}$trap$;\n"
    );
    sql += &format!(
        "create function {schema}.trap_op(name, varchar) returns boolean language plpgsql as $trap${body}$trap$;\n"
    );
    if schema != "pg_temp" {
        for operator in ["=", "<>", ">", "<", ">=", "||"] {
            for (left, right) in [("varchar", "varchar"), ("name", "varchar")] {
                sql += &format!(
                    "create operator {schema}.{operator} (leftarg = {left}, rightarg = {right}, function = {schema}.trap_op);\n"
                );
            }
        }
    }
    for table in [
        "emaj_sink",
        "emaj_binding",
        "emaj_failure",
        "emaj_relation",
        "emaj_column",
        "emaj_install",
        "pg_class",
        "pg_locks",
        "pg_index",
    ] {
        sql += &format!("create table {schema}.{table} (trap int);\n");
    }
    sql
}

#[test]
fn no_name_is_taken_for_another() {
    let db = support::database();
    db.psql(TABLES);
    let attacker = format!("{}_attacker", db.name());
    db.psql(&format!(
        "create role {attacker} login; grant create, usage on schema public to {attacker}; grant usage on schema app to {attacker};
         grant select, insert, update, delete on all tables in schema app to {attacker}; grant temporary on database {} to {attacker}",
        db.name()
    ));
    install(&db, MANIFEST);
    // A writer whose session shadows everything for the triggers.
    let mut writer = db.client_as(&attacker);
    writer.batch_execute(&traps("public")).unwrap();
    writer.batch_execute(&traps("pg_temp")).unwrap();
    writer
        .batch_execute("set search_path = pg_temp, public, pg_catalog")
        .unwrap();
    for sql in [
        "insert into app.person values ('a', 1, 'w')",
        "update app.person set n = 2, w = 'v' where n operator(pg_catalog.<) 5",
        "delete from app.person where n operator(pg_catalog.=) 7",
        "update app.team set b = 2::smallint where a operator(pg_catalog.<) 5",
    ] {
        writer
            .batch_execute(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
    // The worker, and all it does, as superuser with the usual path: what is in `public` is seen.
    emaj(&db).args(["init", "emaj.yaml"]).run().ok();
    drain(&db).run().ok();
    let lines = std::fs::read_to_string(db.dir().join("out.ndjson"))
        .unwrap()
        .lines()
        .count();
    assert!(lines > 11_500, "{lines}");
    emaj(&db).args(["sink", "list"]).run().ok();
    emaj(&db).args(["sink", "lag"]).run().ok();
    emaj(&db).args(["failures", "list"]).run().ok();
    drop(writer);
    db.psql(&format!("drop owned by {attacker}; drop role {attacker}"));
}

#[test]
fn the_public_has_no_right_on_anything() {
    let db = support::database();
    db.psql(TABLES);
    install(&db, MANIFEST);
    let anybody = format!("{}_anybody", db.name());
    db.psql(&format!("create role {anybody} login"));
    let open = format!(
        "select string_agg(what, ', ') from (
           select concat(relname, ' ', relkind) as what from pg_class where relnamespace = 'emaj'::regnamespace and relkind in ('r', 'v', 'p', 'm')
              and (has_table_privilege('{anybody}', oid, 'select, insert, update, delete, truncate, references, trigger') or has_any_column_privilege('{anybody}', oid, 'select, insert, update, references'))
           union all
           select relname::text from pg_class where relnamespace = 'emaj'::regnamespace and case relkind when 'S' then has_sequence_privilege('{anybody}', oid, 'usage, select, update') end
           union all
           select proname::text from pg_proc where pronamespace = 'emaj'::regnamespace and has_function_privilege('{anybody}', oid, 'execute')
           union all
           select 'schema' where has_schema_privilege('{anybody}', 'emaj', 'usage, create')) as o"
    );
    assert_eq!(db.psql(&open), "");
    assert_eq!(
        db.psql("select count(*) from pg_class where relnamespace = 'emaj'::regnamespace and relname in ('emaj_sink', 'emaj_binding', 'emaj_failure')"),
        "3"
    );
    // The functions that run with their owner's rights choose their own path, or name everything in full (`rights` looks at those).
    let definer = "select string_agg(proname, ', ') from pg_proc where pronamespace = 'emaj'::regnamespace and prosecdef and prorettype <> 'trigger'::regtype
        and not coalesce(proconfig @> array['search_path=pg_catalog, pg_temp'], false)";
    assert_eq!(db.psql(definer), "");
    db.psql(&format!("drop role {anybody}"));
}

#[test]
fn hidden_rows_are_an_error_and_not_fewer_rows() {
    let db = support::database();
    db.psql(TABLES);
    let worker = format!("{}_worker", db.name());
    db.psql(&format!(
        "create role {worker} login; grant create on database {} to {worker}; grant usage, create on schema app to {worker};
         grant select, insert, update, delete, trigger, references on all tables in schema app to {worker};
         create role {worker}_owner; grant {worker}_owner to {worker}; grant usage, create on schema app to {worker}_owner; alter function app.seen owner to {worker}_owner;
         alter table app.person owner to {worker}_owner; alter table app.team owner to {worker}_owner",
        db.name()
    ));
    db.file("emaj.yaml", &format!("{HEAD}{MANIFEST}"));
    emaj(&db).user(&worker).args(["install", "emaj.yaml"]).run().ok();
    // From now on the policy holds for the owner too, and shows one row in a hundred.
    db.psql("alter table app.person enable row level security; alter table app.person force row level security; create policy few on app.person using (n % 100 = 0)");
    let run = emaj(&db).user(&worker).args(["init", "emaj.yaml"]).run();
    assert!(matches!(run.status, Some(4 | 12)), "{run}");
    assert!(run.stderr.contains("row") && run.stderr.contains("security"), "{run}");
    let text = std::fs::read_to_string(db.dir().join("out.ndjson")).unwrap_or_default();
    assert!(
        !text.contains("app.person.init") && !text.contains("\"p100\""),
        "rows were sent"
    );
    let shown = emaj(&db).user(&worker).args(["init", "emaj.yaml", "--dry-run"]).run();
    assert_ne!(shown.status, Some(0), "{shown}");
    // Changes come from the log, and hide nothing. (That the `init` is not finished is said.)
    db.psql("update app.person set w = 'seen' where n = 7");
    emaj(&db)
        .user(&worker)
        .args(["run", "emaj.yaml", "--until-empty"])
        .run()
        .code(3);
    assert!(
        std::fs::read_to_string(db.dir().join("out.ndjson"))
            .unwrap()
            .contains("\"p7\"")
    );
    // Whoever may see everything sends everything.
    db.psql(&format!("alter role {worker} bypassrls"));
    emaj(&db).user(&worker).args(["init", "emaj.yaml"]).run().ok();
    emaj(&db).user(&worker).args(["uninstall", "emaj.yaml", "--yes"]).run();
    db.psql(&format!("drop schema if exists emaj cascade; drop schema app cascade; drop owned by {worker}, {worker}_owner cascade; drop role {worker}; drop role {worker}_owner"));
}
