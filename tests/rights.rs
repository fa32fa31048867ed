//! Who may do what: an owner who is no superuser everything; a writer of a captured table nothing but write; the administrator
//! marks and rolls back without any right on the tables; the viewer looks.

use postgres::Client;

use crate::support::story::{Story, Who, described, stories, tell};
use crate::support::{self, Database, emaj};

const TABLES: &str = "
    create table t (id int primary key, v text, secret text);
    create table c (id serial primary key, t int references t);
    insert into t select i, 'v' || i, 's' || i from generate_series(1, 6) i; insert into c (t) values (1), (2)";

/// Makes roles of this test alone: those of the manifest, and one that may write; returns the names of the three.
fn roles(story: &mut Story<'_>) -> [String; 3] {
    let names = ["adm", "viewer", "writer"].map(|role| format!("{}_{role}", story.db.name()));
    for name in &names {
        story.sql_as_superuser(&format!("create role {name} login"));
    }
    names
}

/// Captures the tables with roles of this test's own, and lets the writer write.
fn install(story: &mut Story<'_>) -> [String; 3] {
    let names = roles(story);
    story.sql(TABLES);
    let (schema, writer) = (&story.schema, &names[2]);
    let manifest = story.manifest(&format!("{schema}.t, {schema}.c")).replace(
        "admin: null, viewer: null",
        &format!("admin: {}, viewer: {}", names[0], names[1]),
    );
    story.install_manifest(&manifest).ok();
    let grants = format!(
        "grant usage, create on schema {schema} to {writer}; grant select, insert, update, delete, truncate, references, trigger on {schema}.t, {schema}.c to {writer}; grant usage on sequence {schema}.c_id_seq to {writer}"
    );
    story.sql(&grants);
    names
}

/// Asks for what `role` may look at and call in emaj's schema, and for all else it may do there.
fn looks_of(role: &str) -> String {
    format!(
        "select format('%s: %s', o.label, a.privilege_type)
           from (select relname::text, relacl from pg_class where relnamespace = 'emaj'::regnamespace
                 union all select proname, proacl from pg_proc where pronamespace = 'emaj'::regnamespace
                 union all select nspname, nspacl from pg_namespace where nspname = 'emaj') as o(label, acl)
          cross join lateral aclexplode(o.acl) as a
          where a.grantee in (0, '{role}'::regrole) order by 1"
    )
}

/// Returns what of emaj `role` may do besides what the manifest lets it do: for the viewer and the administrator to look and to call.
fn open_to(story: &mut Story<'_>, role: &str) -> String {
    let named = story.ask(&format!(
        "select exists (select from emaj.emaj_role where role_name = '{role}')"
    )) == "t";
    let rights = story.ask(&looks_of(role));
    let given = |right: &&str| {
        named
            && (right.ends_with(": SELECT") && !right.contains("_guard:")
                || right.ends_with(": EXECUTE")
                    && [
                        "emaj_",
                        "_after:",
                        "_drift:",
                        "_binding_drift:",
                        "_previous_mark:",
                        "_key_equals:",
                    ]
                    .iter()
                    .any(|name| right.starts_with(name))
                || right.ends_with(": USAGE"))
    };
    rights
        .lines()
        .filter(|right| !given(right))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Opens a session as `role`, in the story's schema.
fn session(story: &Story<'_>, role: &str) -> Client {
    let mut client = story.db.client_as(role);
    client
        .batch_execute(&format!("set search_path = {}, public", story.schema))
        .expect("a path");
    client
}

#[track_caller]
fn runs(client: &mut Client, sql: &str) {
    if let Err(error) = client.batch_execute(sql) {
        panic!("{}\n{sql}", described(&error));
    }
}

#[track_caller]
fn denied(client: &mut Client, sql: &str) {
    match client.batch_execute(sql) {
        Ok(()) => panic!("not denied: {sql}"),
        Err(error) => assert_eq!(
            error.code().map(|code| code.code()),
            Some("42501"),
            "{}\n{sql}",
            described(&error)
        ),
    }
}

stories! {
    nobody_else_has_any_right(story) {
        let [admin, viewer, writer] = install(story);
        assert_eq!(story.ask(&format!("select has_schema_privilege('{writer}', 'emaj', 'usage')")), "f");
        let open = format!(
            "select proname from pg_proc where pronamespace = 'emaj'::regnamespace and has_function_privilege('{writer}', oid, 'execute')
             union all
             select relname from pg_class where relnamespace = 'emaj'::regnamespace and relkind in ('r', 'v', 'p')
                and has_any_column_privilege('{writer}', oid, 'select, insert, update, references')
             union all
             select relname from pg_class where relnamespace = 'emaj'::regnamespace and case relkind when 'S' then has_sequence_privilege('{writer}', oid, 'usage, select, update') end"
        );
        assert_eq!(story.ask(&open), "");
        // Neither of the two may write a table of emaj, call what is internal (but for pure text, and what only looks), or make anything in its schema.
        for role in [&admin, &viewer] {
            let more = format!(
                "select relname from pg_class where relnamespace = 'emaj'::regnamespace and relkind in ('r', 'v')
                    and has_table_privilege('{role}', oid, 'insert, update, delete, truncate, references, trigger')
                 union all
                 select proname from pg_proc where pronamespace = 'emaj'::regnamespace and proname like '\\_%' and proname not in ('_after', '_key_equals', '_drift', '_binding_drift', '_previous_mark') and has_function_privilege('{role}', oid, 'execute')
                 union all
                 select 'create' where has_schema_privilege('{role}', 'emaj', 'create')"
            );
            assert_eq!(story.ask(&more), "");
        }
        let definer = "select proname from pg_proc where pronamespace = 'emaj'::regnamespace and prosecdef and prorettype <> 'trigger'::regtype
            and not coalesce(proconfig @> array['search_path=pg_catalog, pg_temp'], false)";
        assert_eq!(story.ask(definer), "", "security definer with a search path of the caller's");
        // A cast, a comparison or an output of the caller's own types would be code of the caller's.
        let takes = "select p.proname, t.typname from pg_proc p cross join unnest(p.proargtypes) as a(type) join pg_type t on t.oid = a.type
            where p.pronamespace = 'emaj'::regnamespace and p.prosecdef and (t.typtype <> 'b' or t.typnamespace <> 'pg_catalog'::regnamespace)";
        assert_eq!(story.ask(takes), "", "security definer with a parameter that is of no type of PostgreSQL itself");
        // Capture functions do without, for speed: every operator and function in them has to be qualified.
        let bare = "select proname, m[1] from pg_proc, regexp_matches(prosrc, '(?<![.\\w\"])(\\w+)\\(', 'g') as m
            where pronamespace = 'emaj'::regnamespace and prorettype = 'trigger'::regtype and m[1] not in ('r', 'all', 'over', 'operator')
            union select proname, m[1] from pg_proc, regexp_matches(prosrc, '\\s([=<>+*|~]+)\\s', 'g') as m
            where pronamespace = 'emaj'::regnamespace and prorettype = 'trigger'::regtype";
        assert_eq!(story.ask(bare), "", "not qualified in a capture function");
    }

    default_privileges_open_nothing(story) {
        let [admin, viewer, writer] = roles(story);
        story.sql(TABLES);
        let schema = story.schema.clone();
        for (rights, of) in [("usage, create", "schemas"), ("all", "tables"), ("all", "sequences"), ("execute", "functions")] {
            story.sql(&format!("alter default privileges grant {rights} on {of} to {writer}, {viewer} with grant option"));
        }
        story.sql("alter default privileges grant insert, select on tables to public");
        let manifest = |story: &Story<'_>, tables: &str| {
            story.manifest(tables).replace("admin: null, viewer: null", &format!("admin: {admin}, viewer: {viewer}"))
        };
        let two = manifest(story, &format!("{schema}.t, {schema}.c"));
        story.install_manifest(&two).ok();
        assert_eq!(open_to(story, &writer), "");
        assert_eq!(open_to(story, &viewer), "");
        assert_eq!(story.ask(&format!("select has_table_privilege('{viewer}', 'emaj.emaj_mark', 'select') and has_function_privilege('{viewer}', 'emaj.emaj_verify_all()', 'execute')")), "t");
        let updatable = "select relname from pg_class where relnamespace = 'emaj'::regnamespace and relkind = 'v' and pg_relation_is_updatable(oid, false) <> 0";
        assert_eq!(story.ask(updatable), "", "a guard is no way into its table");
        story.emaj(&["plan", "--detailed-exitcode"]).code(0);

        story.sql("create procedure emaj.mine() language sql as 'select 1'; select emaj._close(null, null); drop procedure emaj.mine()");

        // Whatever is made later is closed as well: the part of a log, a guard, a function, a log of a table that comes.
        story.sql("alter default privileges in schema emaj grant all on tables to public; alter default privileges in schema emaj grant execute on functions to public");
        story.mark("m");
        story.sql("select emaj._rotate(r) from emaj.emaj_relation r where rel_name = 't'; insert into t values (7, 'v', 's')");
        assert_eq!(story.ask("select count(*) from pg_inherits where inhparent::regclass::text like 'emaj.%'"), "1");
        let guard = story.ask("select rel_guard from emaj.emaj_relation where rel_name = 'c'");
        story.sql(&"drop view emaj.GUARD; drop function emaj._hist(text, text, text, text); drop function emaj.emaj_verify_all(); create table later (id int primary key)".replace("GUARD", &guard));
        let three = manifest(story, &format!("{schema}.t, {schema}.c, {schema}.later"));
        let three = format!("{three}bindings: {{ note: {{ table: {schema}.later, warn: {{ message: '{{{{ row.id }}}}' }} }} }}\n");
        story.install_manifest(&three).ok();
        assert_eq!(story.ask("select count(*) from pg_class where relnamespace = 'emaj'::regnamespace and relkind = 'v'"), "3");
        assert_eq!((open_to(story, &writer), open_to(story, &viewer)), (String::new(), String::new()));
        story.emaj(&["plan", "--detailed-exitcode"]).code(0);
        story.emaj(&["drift"]).ok();
    }

    a_context_that_capture_may_not_read_is_refused(story) {
        story.sql(TABLES);
        let schema = story.schema.clone();
        story.options += "    context: [\"setting:app.user_id\", \"setting:data_directory\", \"setting:work_mem\"]\n";
        let run = story.install_manifest(&story.manifest(&format!("{schema}.t, {schema}.c")));
        if let Some(role) = &story.role {
            let told = run.code(12).stderr.clone();
            assert!(told.contains(&format!("setting `data_directory` may not be read by {role}, with whose rights changes are captured")), "{told}");
            assert!(told.contains("emaj.yaml:7:38") && told.contains(&format!("grant pg_read_all_settings to {role}")), "{told}");
            assert!(!told.contains("app.user_id` may"), "{told}");
            story.sql_as_superuser(&format!("grant pg_read_all_settings to {role}"));
            story.install_manifest(&story.manifest(&format!("{schema}.t, {schema}.c"))).ok();
        } else {
            run.ok();
        }
        story.sql("insert into t values (8, 'v', 's'); set app.user_id = 'me'; insert into t values (9, 'v', 's')");
        let log = story.ask("select format('emaj.%I', rel_log) from emaj.emaj_relation where rel_name = 't'");
        assert_eq!(story.ask(&format!("select coalesce(emaj_app_user_id, '-') || (emaj_data_directory <> '') from {log}")), "-true\nmetrue");
    }

    types_that_may_not_be_used_are_told_before(story) {
        let app = story.schema.clone();
        let types = format!("{app}_types");
        story.sql_as_superuser(&format!(
            "create schema {types}; create type {types}.mood as enum ('well', 'bad'); create schema {types}_open; grant usage on schema {types}_open to public;
             create type {types}_open.\"Odd one\" as (a int); revoke usage on type {types}_open.\"Odd one\" from public;
             create domain {types}_open.short as text; revoke usage on type {types}_open.short from public;
             create table {app}.t (id int primary key, m {types}.mood, ms {types}.mood[]); create table {app}.u (id int primary key, o {types}_open.\"Odd one\"[], s {types}_open.short);
             create table {app}.plain (id int primary key)"));
        let Some(role) = story.role.clone() else {
            return story.install("*");
        };
        story.sql_as_superuser(&format!("alter table {app}.t owner to {role}; alter table {app}.u owner to {role}; alter table {app}.plain owner to {role}"));
        story.db.file("emaj.yaml", &story.manifest(&format!("{app}.*")));
        let told = story.emaj(&["plan"]).code(12).stderr;
        for (table, lacking, columns) in [
            ("t", format!("schema {types}"), "m, ms"),
            ("u", format!("type {types}_open.\"Odd one\""), "o"),
            ("u", format!("type {types}_open.short"), "s"),
        ] {
            let wanted = format!("the log of table {app}.{table} cannot be made: {role} may not use {lacking}, of {columns}\n");
            assert!(told.contains(&wanted) && told.contains(&format!("grant usage on {lacking} to {role}")), "{wanted}\n{told}");
        }
        assert!(!told.contains(&format!("{app}.plain")), "{told}");
        // Without a guard nothing has the domain itself.
        let without = story.manifest(&format!("{app}.u")) + &format!("    table_options: {{ {app}.u: {{ guard: false }} }}\n");
        story.db.file("emaj.yaml", &without);
        story.sql_as_superuser(&format!("grant usage on type {types}_open.\"Odd one\" to {role}"));
        story.emaj(&["install"]).ok();
        // What the hints say is enough, and what is captured is not asked again.
        story.sql_as_superuser(&format!("grant usage on schema {types} to {role}; grant usage on type {types}_open.short to {role}"));
        story.install("*");
        story.sql_as_superuser(&format!("revoke usage on type {types}_open.short from {role}"));
        story.emaj(&["plan", "--detailed-exitcode"]).code(0);
        story.sql(&format!("insert into t values (1, 'well', '{{bad}}'); insert into u values (1, array[row(1)::{types}_open.\"Odd one\"], 's')"));
    }

    schemas_that_may_not_be_used_are_told_before(story) {
        let app = story.schema.clone();
        story.sql_as_superuser(&format!(
            "create schema {app}_closed; create table {app}_closed.t (id int primary key); create table {app}_closed.u (id int primary key);
             create table {app}.p (id int primary key) partition by range (id); create schema {app}_parts; create table {app}_parts.p1 partition of {app}.p for values from (0) to (9);
             create schema {app}_numbers; create sequence {app}_numbers.s"));
        let Some(role) = story.role.clone() else { return };
        for table in ["_closed.t", "_closed.u", ".p", "_parts.p1", "_numbers.s"] {
            story.sql_as_superuser(&format!("alter table {app}{table} owner to {role}"));
        }
        story.options = format!("    sequences: [{app}_numbers.s]\n");
        story.db.file("emaj.yaml", &story.manifest(&format!("{app}_closed.*, {app}.p")));
        let told = story.emaj(&["plan"]).code(12).stderr;
        for (schema, first) in [("closed", "t"), ("parts", "p1"), ("numbers", "s")] {
            let wanted = format!("{role}, with whose rights changes are captured, may not use schema {app}_{schema}, and {app}_{schema}.{first} is in it\n");
            let grant = format!("grant usage on schema {app}_{schema} to {role}");
            assert!(told.contains(&wanted) && told.contains(&grant), "{wanted}\n{told}");
            story.sql_as_superuser(&grant);
        }
        // Once each, and what the hints say is enough.
        assert_eq!(told.matches("grant usage").count(), 3, "{told}");
        story.emaj(&["install"]).ok();
    }

    what_is_open_is_found_and_closed(story) {
        let [admin, viewer, writer] = install(story);
        let (log, guard) = (
            story.ask("select format('emaj.%I', rel_log) from emaj.emaj_relation where rel_name = 't'"),
            story.ask("select format('emaj.%I', rel_guard) from emaj.emaj_relation where rel_name = 't'"),
        );
        // To look, and to call what is meant to be called, may be given by hand.
        story.sql(&format!("grant usage on schema emaj to {writer}; grant select on emaj.emaj_mark, {log} to {writer}; grant execute on function emaj.emaj_verify_all() to {writer}"));
        let allowed = story.ask(&looks_of(&writer));
        story.emaj(&["plan", "--detailed-exitcode"]).code(0);
        story.emaj(&["drift"]).ok();
        for (opened, found, planned) in [
            (format!("grant delete, insert on {log} to {writer}"), format!("{log}: {writer} may do what only the owner is to do: delete, insert"), "delete, insert on 1 table"),
            (format!("grant update on emaj.emaj_group, emaj.emaj_mark to {writer}"), format!("emaj.emaj_group: {writer} may do what only the owner is to do: update"), "update on 2 tables"),
            (format!("grant truncate on emaj.emaj_hist to {viewer}"), format!("emaj.emaj_hist: {viewer} may do what only the owner is to do: truncate"), "truncate on 1 table"),
            (format!("grant select on {guard} to {writer}"), format!("{guard}: {writer} may do what only the owner is to do: select"), "select on 1 table"),
            (format!("grant create on schema emaj to {writer}"), format!("emaj: {writer} may do what only the owner is to do: create"), "create on 1 schema"),
            (format!("grant update on sequence emaj.emaj_mark_mark_id_seq to {writer}"), format!("emaj.emaj_mark_mark_id_seq: {writer} may do what only the owner is to do: update"), "update on 1 sequence"),
            (format!("grant execute on function {log}() to {writer}"), format!("{log}(): {writer} may do what only the owner is to do: execute"), "execute on 1 function"),
            (format!("grant execute on function emaj._hist to {writer}"), format!("p_wording text): {writer} may do what only the owner is to do: execute"), "execute on 1 function"),
            (format!("grant select on {log} to public"), format!("{log}: everybody has a right on it: select"), "revokes from everybody: select on 1 table"),
        ] {
            story.sql(&opened);
            let said = story.ask("select * from emaj.emaj_verify_all()");
            assert!(said.contains(&found), "{opened}\n{said}");
            assert!(story.emaj(&["drift"]).ok().stdout.contains("may do what only") || opened.contains("public"));
            let plan = story.emaj(&["plan", "-o", "json"]).ok().stdout_json();
            assert_eq!(plan["steps"].as_array().unwrap().len(), 1, "{plan}");
            let effect = plan["steps"][0]["effect"].as_str().unwrap();
            assert!(effect.contains(planned), "{opened}\n{plan}");
            story.emaj(&["install"]).ok();
            assert_eq!(story.ask(&looks_of(&writer)), allowed, "{opened}");
            assert_eq!(open_to(story, &viewer), "", "{opened}");
            story.emaj(&["plan", "--detailed-exitcode"]).code(0);
            assert_eq!(story.ask("select * from emaj.emaj_verify_all()"), "No error detected");
        }
        assert_eq!(open_to(story, &admin), "");
    }

    a_writer_writes_and_reads_nothing_of_emaj(story) {
        let [_, _, writer] = install(story);
        story.mark("m");
        let (before, definitions) = (story.state(), story.definitions());
        let mut client = session(story, &writer);
        runs(&mut client, "update t set v = 'w' where id = 1; insert into c (t) values (3); delete from c where id = 1; truncate c; insert into c (t) values (5)");
        for attempt in [
            "select * from emaj.emaj_mark", "select emaj.emaj_set_mark_group('g', 'x')", "select emaj.emaj_rollback_group('g', 'm')",
            "select emaj.emaj_log_stat_group('g', null, null)", "select emaj.emaj_verify_all()", "select emaj._position()", "select emaj._set_capture(1, false)",
            "create table emaj.mine (n int)", "set session_replication_role = replica", "alter table t disable trigger all",
            "drop table t", "select emaj.emaj_release_table('t'::regclass)", "select emaj.emaj_stop_group('g')",
        ] {
            denied(&mut client, attempt);
        }
        let log = story.ask("select format('emaj.%I', rel_log) from emaj.emaj_relation where rel_name = 't'");
        for attempt in [format!("select * from {log}"), format!("insert into {log} default values"), format!("select {log}()"), format!("delete from {log}"), format!("truncate {log}")] {
            denied(&mut client, &attempt);
        }
        // The capture function behind a trigger on a table of one's own would write into the log of another.
        denied(&mut client, &format!("create temp table mine (id int, v text, secret text); create trigger x after insert on mine for each row execute function {log}()"));
        assert_eq!(story.ask(&format!("select distinct emaj_user from {log}")), writer);
        story.rollback("m");
        story.is(&before, &definitions, "what the writer did is undone");
    }

    a_writer_cannot_hijack_what_runs_with_the_owners_rights(story) {
        let [admin, _, writer] = install(story);
        story.sql_as_superuser(&format!("grant create on schema public to {writer}; grant create on schema public to {admin}; grant temporary on database {} to {writer}", story.db.name()));
        story.sql("create table loot (who text); insert into t values (50, 'to be truncated', 's')");
        story.mark("m");
        let (before, definitions) = (story.state(), story.definitions());
        let app = story.schema.clone();
        let trap = |schema: &str| {
            let mut sql = String::new();
            let body = "begin raise exception 'caught by % as %', 'trap', current_user; end";
            for (signature, returns) in [
                ("pg_current_wal_insert_lsn()", "pg_lsn"), ("txid_current()", "bigint"), ("clock_timestamp()", "timestamptz"), ("pg_current_snapshot()", "pg_snapshot"),
                ("format(text, text)", "text"), ("format(text, name, name)", "text"), ("quote_ident(text)", "text"), ("set_config(text, text, boolean)", "text"), ("to_char(timestamptz, text)", "text"),
                ("current_setting(text)", "text"), ("hash_record_extended(record, bigint)", "bigint"), ("unnest(oid[])", "oid"), ("array_agg(text)", "text"),
                ("trap(regclass, text)", "text"), ("trap_eq(text, text)", "boolean"), ("trap_eq(oid, oid)", "boolean"), ("trap_eq(name, text)", "boolean"), ("trap_eq(integer, integer)", "boolean"), ("trap_eq(bigint, bigint)", "boolean"),
            ] {
                sql += &format!("create function {schema}.{signature} returns {returns} language plpgsql as $trap${body}$trap$;\n");
            }
            if schema != "pg_temp" {
                sql += &format!("create operator {schema}.|| (leftarg = regclass, rightarg = text, function = {schema}.trap);\n");
                for kind in ["text, rightarg = text", "oid, rightarg = oid", "name, rightarg = text", "integer, rightarg = integer", "bigint, rightarg = bigint"] {
                    sql += &format!("create operator {schema}.= (leftarg = {kind}, function = {schema}.trap_eq);\n");
                }
            }
            for table in ["emaj_new", "emaj_old", "emaj_mark", "emaj_group", "emaj_relation", "pg_class", "pg_trigger", "pg_attribute", "pg_constraint", "pg_namespace", "pg_settings", "l", "r", "work_1_1"] {
                sql += &format!("create table {schema}.{table} (id int, v text, secret text, trap int);\n");
            }
            let log = format!("{app}_t_log");
            sql += &format!("create table {schema}.{log} (id int);\n");
            sql + &format!("create domain {schema}.bigint as text; create domain {schema}.pg_lsn as text; create type {schema}.emaj_position as (a int);\n")
        };
        for (role, schema) in [(&writer, "pg_temp"), (&writer, "public"), (&admin, "pg_temp")] {
            if *role == admin {
                story.sql_as_superuser(&format!("grant temporary on database {} to {admin}", story.db.name()));
            }
            let mut client = session(story, role);
            runs(&mut client, &trap(schema));
            runs(&mut client, "set search_path = pg_temp, public, pg_catalog; set row_security = off; set check_function_bodies = off");
            if *role == writer {
                runs(&mut client, "set row_security = on");
                runs(&mut client, &format!("update {app}.t set v = 'w', id = id + 100 where id operator(pg_catalog.=) 6; insert into {app}.c (t) values (3); delete from {app}.c where id operator(pg_catalog.=) 1; truncate {app}.c; insert into {app}.t values (99, 'x', 'y') on conflict do nothing; delete from {app}.t where id operator(pg_catalog.=) 4; insert into {app}.t values (4, 'again', '!')"));
            } else {
                runs(&mut client, "select emaj.emaj_set_mark_group('g', 'by_admin')");
                runs(&mut client, "select emaj.emaj_logged_rollback_group('g', 'm')");
                runs(&mut client, "select emaj.emaj_log_stat_group('g', 'm', null); select emaj.emaj_verify_all(); select emaj.emaj_detailed_log_stat_group('g', 'm', null)");
                runs(&mut client, "select emaj.emaj_rollback_group('g', 'm'); select emaj.emaj_stop_group('g', 's'); select emaj.emaj_start_group('g', 'again', false)");
            }
        }
        assert_eq!(story.ask("select count(*) from loot"), "0");
        story.is(&before, &definitions, "no trap was sprung");
        story.sql_as_superuser(&format!("alter database {} set search_path = public, pg_catalog", story.db.name()));
        for args in [
            &["status"][..], &["doctor"], &["plan", "emaj.yaml"], &["drift", "emaj.yaml"], &["verify"], &["history"], &["mark", "set", "g", "by_program"], &["mark", "list", "g"],
            &["group", "list"], &["group", "show", "g"], &["stat", "g", "--from", "by_program"], &["changes", "g", "--from", "by_program"], &["at", "g", "by_program", "select 1"],
            &["rollback", "g", "by_program", "--dry-run"], &["rollback", "g", "by_program", "--yes"], &["sink", "list"], &["group", "purge"], &["group", "stop", "g"], &["group", "start", "g"],
        ] {
            story.emaj(args).ok();
        }
    }

    a_cast_that_somebody_made_never_runs_with_the_owners_rights(story) {
        let [_, viewer, writer] = install(story);
        story.sql("create table loot (who text)");
        let schema = story.schema.clone();
        let thief = format!("language plpgsql as $$ begin insert into {schema}.loot values (current_user)");
        let mut client = session(story, &viewer);
        story.sql_as_superuser(&format!("grant temporary on database {} to {viewer}; grant usage on schema {schema} to {viewer}; grant insert on {schema}.loot to {viewer}, {writer}", story.db.name()));
        story.mark("m");
        runs(&mut client, &format!("
            create type pg_temp.trap as (a int);
            create function pg_temp.trap(pg_temp.trap) returns text {thief}; return 'EMAJ_LAST_MARK'; end $$;
            create cast (pg_temp.trap as text) with function pg_temp.trap(pg_temp.trap);
            select emaj.emaj_get_previous_mark_group('g', row(1)::pg_temp.trap)"));
        assert_eq!(story.ask("select who from loot"), viewer, "the cast runs, as its caller");

        // A type that a captured table has from somebody else.
        runs(&mut session(story, &writer), &format!("
            create type kind as enum ('a', 'b');
            create function trap(kind) returns json {thief}; return '1'; end $$;
            create function trap_text(kind) returns text {thief}; return 'a'; end $$;
            create function trap_back(text) returns kind {thief}; return enum_first(null::kind); end $$;
            create cast (kind as json) with function trap(kind); create cast (kind as text) with function trap_text(kind); create cast (text as kind) with function trap_back(text)"));
        story.sql("truncate loot; create table k (id int, kind kind, kinds kind[], primary key (id, kind, kinds)); insert into k values (1, 'a', '{a}')");
        let manifest = story.manifest(&format!("{schema}.t, {schema}.c, {schema}.k")).replace("viewer: null", &format!("viewer: {viewer}"));
        story.install_manifest(&manifest).ok();
        story.mark("n");
        story.sql("update k set kind = 'b', kinds = '{b,a}'");
        let log = story.ask("select rel_log from emaj.emaj_relation where rel_name = 'k'");
        let txid = story.ask(&format!("select max(emaj_txid) from emaj.{log}"));
        let planned = client
            .query(&format!("select plan_action, plan_key from emaj.emaj_check_revert_group('g', 'n', {txid}, null, null, null) order by 1"), &[])
            .unwrap_or_else(|error| panic!("{}", described(&error)));
        let planned: Vec<(String, String)> = planned.iter().map(|row| (row.get(0), row.get(1))).collect();
        assert_eq!(planned, [
            ("delete".to_owned(), r#"{"id" : 1, "kind" : "b", "kinds" : "{b,a}"}"#.to_owned()),
            ("insert".to_owned(), r#"{"id" : 1, "kind" : "a", "kinds" : "{a}"}"#.to_owned()),
        ]);
        let (oid, key) = (story.ask("select 'k'::regclass::oid"), r#"{"id": 1, "kind": "b", "kinds": "{b,a}"}"#);
        runs(&mut client, &format!("select emaj.emaj_check_revert_group('g', 'n', null, null, {oid}, '{key}')"));
        story.sql(&format!("select emaj.emaj_revert_group('g', 'n', {txid}, null, null, null, false)"));
        assert_eq!(story.ask("select row(k)::text from k"), r#"("(1,a,{a})")"#);
        story.sql("select emaj.emaj_rollback_group('g', 'n')");
        assert_eq!(story.ask("select count(*) from loot"), "0");
    }

    a_trigger_of_somebody_else_that_is_called_as_emajs_are(story) {
        let [_, _, writer] = install(story);
        story.mark("m");
        let definitions = story.definitions();
        let before = story.state();
        story.sql("update t set v = 'w'");
        let app = story.schema.clone();
        runs(&mut session(story, &writer), &format!(
            "set search_path = {app};
             create function spy() returns trigger language plpgsql as $$ begin new.v := 'seen by ' || current_user; return new; end $$;
             create trigger \"!emaj_row\" before insert or update on t for each row execute function spy()"
        ));
        for call in ["emaj_set_mark_group('g', 'x')", "emaj_rollback_group('g', 'm')"] {
            let said = story.refused(&format!("select emaj.{call}"));
            assert!(said.contains(&format!(r#"trigger "!emaj_row" on {app}.t is called as emaj's are, and is somebody else's"#)), "{said}");
            assert!(said.contains(&format!(r#"drop trigger "!emaj_row" on {app}.t"#)), "{said}");
        }
        story.sql("drop trigger \"!emaj_row\" on t");
        story.rollback("m");
        story.is(&before, &definitions, "nobody's trigger took part");
    }

    the_administrator_needs_no_right_on_the_tables(story) {
        let [admin, _, writer] = install(story);
        let mut client = session(story, &admin);
        let table = format!("select * from {}.t", story.schema);
        denied(&mut client, &table);
        runs(&mut client, "select emaj.emaj_set_mark_group('g', 'm')");
        let (before, definitions) = (story.state(), story.definitions());
        runs(&mut session(story, &writer), "update t set v = 'x'; delete from c; delete from t where id = 6; insert into c (t) values (2)");
        runs(&mut client, "select emaj.emaj_logged_rollback_group('g', 'm')");
        story.is(&before, &definitions, "logged, by the administrator");
        runs(&mut client, "select emaj.emaj_rollback_group('g', 'm')");
        story.is(&before, &definitions, "unlogged, by the administrator");
        assert_eq!(story.ask("select distinct rlbk_user from emaj.emaj_rollback"), admin);
        runs(&mut client, "select * from emaj.emaj_hist; select emaj.emaj_protect_group('g'); select emaj.emaj_unprotect_group('g'); select emaj.emaj_rename_mark_group('g', 'm', 'n');
            select emaj.emaj_protect_mark_group('g', 'n'); select emaj.emaj_unprotect_mark_group('g', 'n'); select emaj.emaj_purge_group('g');
            select emaj.emaj_set_mark_group('g', 'o'); select emaj.emaj_delete_mark_group('g', 'n'); select emaj.emaj_stop_group('g'); select emaj.emaj_reset_group('g');
            select emaj.emaj_start_group('g', 'p'); select emaj.emaj_rollback_and_stop_group('g', 'p'); select emaj.emaj_drop_group('g')");
        for attempt in ["update emaj.emaj_group set group_protected = true", "delete from emaj.emaj_hist", "select emaj.emaj_snap_group('g', '/tmp')", "select emaj._rollback(array['g'], 'm', true)"] {
            denied(&mut client, attempt);
        }
    }

    the_viewer_looks_and_counts_and_nothing_else(story) {
        let [admin, viewer, _] = install(story);
        let drift = |story: &Story<'_>, role: &str| emaj(story.db).user(role).args(["drift", "emaj.yaml"]).run().ok();
        for role in [&admin, &viewer] {
            let run = drift(story, role);
            assert!(run.stderr.contains("no drift was found") && run.stderr.contains("shown to the owner of emaj's schema"), "{run}");
        }
        story.mark("m");
        story.sql("update t set v = 'x'");
        let mut client = session(story, &viewer);
        let log = story.ask("select format('emaj.%I', rel_log) from emaj.emaj_relation where rel_name = 't'");
        runs(&mut client, &format!("select * from emaj.emaj_mark; select * from emaj.emaj_hist; select * from {log}; select * from emaj.emaj_log_stat_group('g', 'm', null); select * from emaj.emaj_detailed_log_stat_group('g', null, null); select * from emaj.emaj_verify_all(); select emaj.emaj_get_previous_mark_group('g', 'm')"));
        let everything = story.everything();
        for attempt in [
            "select emaj.emaj_set_mark_group('g', 'x')", "select emaj.emaj_rollback_group('g', 'm')", "select emaj.emaj_logged_rollback_group('g', 'm')", "select emaj.emaj_stop_group('g')",
            "select emaj.emaj_start_group('g', 'm')", "select emaj.emaj_reset_group('g')", "select emaj.emaj_delete_mark_group('g', 'm')", "select emaj.emaj_rename_mark_group('g', 'm', 'n')",
            "select emaj.emaj_protect_group('g')", "select emaj.emaj_drop_group('g')", "select emaj.emaj_force_drop_group('g')", "select emaj.emaj_purge_group('g')",
            "select emaj.emaj_set_mark_groups(array['g'], 'x')", "select emaj.emaj_start_groups(array['g'])", "select emaj.emaj_stop_groups(array['g'])",
            "select emaj.emaj_comment_mark_group('g', 'm', 'c')", "select emaj.emaj_delete_before_mark_group('g', 'm')", "select emaj.emaj_release_table(1)", "update emaj.emaj_mark set mark_name = 'x'", "select emaj._hist('a', 'b', 'c', 'd')", "create table emaj.x ()",
        ] {
            denied(&mut client, attempt);
        }
        story.unchanged(&everything);
        story.sql("alter table t disable trigger user");
        let run = drift(story, &viewer);
        assert!(run.stdout.contains("its capture triggers are missing or disabled"), "{run}");
    }

    roles_follow_the_manifest(story) {
        let [admin, viewer, writer] = install(story);
        story.mark("m");
        let schema = story.schema.clone();
        let manifest = |roles: &str| {
            let tables = format!("{schema}.t, {schema}.c");
            story.manifest(&tables).replace("{ admin: null, viewer: null }", &format!("{{ {roles} }}"))
        };
        // Rights that a role has in emaj's schema: to use it, functions that change something, functions that look, tables.
        let rights = |role: &str| {
            story.db.psql(&format!(
                "select has_schema_privilege('{role}', 'emaj', 'usage')::int
                        || ' ' || count(*) filter (where proname like 'emaj\\_%' and proname !~ 'stat|verify|check|previous|unfinished|torn|activity|estimate|consolidable|origin|left|gaps|rollback_tables') || ' ' || count(*) filter (where proname ~ 'emaj.*(stat|verify|check|previous|unfinished|torn|activity|estimate|consolidable|origin|left|gaps|rollback_tables)')
                        || ' ' || (select count(*) from pg_class where relnamespace = 'emaj'::regnamespace and relkind = 'r' and has_table_privilege('{role}', oid, 'select'))
                   from pg_proc where pronamespace = 'emaj'::regnamespace and has_function_privilege('{role}', oid, 'execute')"))
        };
        let acls = || story.db.psql("select string_agg(x, ' ' order by x) from (select proname || proacl::text from pg_proc where pronamespace = 'emaj'::regnamespace union all select relname || relacl::text from pg_class where relnamespace = 'emaj'::regnamespace) as a(x)");
        let install = |roles: &str, expected: &[&str]| {
            story.db.file("emaj.yaml", &manifest(roles));
            let plan = story.emaj(&["plan", "-o", "json"]).ok().stdout_json();
            let steps = plan["steps"].as_array().unwrap();
            assert_eq!(steps.len(), 1, "{plan}");
            let shown = format!("{} {}", steps[0]["because"], steps[0]["effect"]);
            for words in expected {
                assert!(shown.contains(words), "`{words}` is not in {shown}");
            }
            // (Without leave to destroy: nothing of the kind is needed.)
            story.emaj(&["install"]).ok();
            story.emaj(&["plan", "--detailed-exitcode"]).code(0);
        };
        let (full, look, none) = (rights(&admin), rights(&viewer), rights(&writer));
        assert_eq!(none, "0 0 0 0");
        assert!(look.starts_with("1 0 ") && full != look, "{look}, {full}");
        let as_installed = acls();

        install(&format!("admin: {viewer}, viewer: {admin}"), &[&format!("{admin} is viewer now and was admin"), &format!("revokes from {admin}"), &format!("grants to {viewer}")]);
        assert_eq!((rights(&admin), rights(&viewer)), (look.clone(), full.clone()), "they have changed places");
        denied(&mut session(story, &admin), "select emaj.emaj_set_mark_group('g', 'x')");
        runs(&mut session(story, &viewer), "select emaj.emaj_set_mark_group('g', 'by_the_other')");
        install(&format!("admin: {viewer}, viewer: null"), &[&format!("{admin} is not named any more")]);
        assert_eq!((rights(&admin), rights(&viewer)), (none.clone(), full.clone()));
        install("admin: null, viewer: null", &[&format!("{viewer} is not named any more")]);
        assert_eq!((rights(&admin), rights(&viewer)), (none.clone(), none.clone()));
        install(&format!("admin: {admin}, viewer: {viewer}"), &[&format!("{admin} is admin now"), &format!("{viewer} is viewer now")]);
        assert_eq!(acls(), as_installed);

        // What somebody took by hand comes back, what somebody gave by hand to another stays.
        let mut owner = story.db.client();
        runs(&mut owner, &format!("grant usage on schema emaj to {writer}; grant select on emaj.emaj_mark to {writer}; revoke execute on function emaj.emaj_verify_all() from {viewer}; grant execute on function emaj.emaj_verify_all() to public"));
        install(&format!("admin: {admin}, viewer: {viewer}"), &[&format!("{viewer} has not the rights it should have"), "closed to everybody else"]);
        assert_eq!(rights(&viewer), look);
        assert_eq!(rights(&writer), "1 0 0 1");

        // Another manifest's roles see every log, also those that come later, and go with it.
        let two = |tables: &str| format!("version: 1\nname: two\nroles: {{ admin: null, viewer: {writer} }}\ngroups: {{ h: {{ tables: [{tables}] }} }}\n");
        runs(&mut session(story, &story.role.clone().unwrap_or("postgres".to_owned())), &format!("create table {schema}.d (id int primary key); create table {schema}.e (id int primary key)"));
        story.db.file("two.yaml", &two(&format!("{schema}.d")));
        story.emaj(&["install", "two.yaml"]).ok();
        let looks = rights(&writer);
        assert_eq!(looks, rights(&viewer));
        story.db.file("emaj.yaml", &manifest(&format!("admin: {admin}, viewer: {viewer}")).replace(&format!("{schema}.c"), &format!("{schema}.c, {schema}.e")));
        story.emaj(&["install"]).ok();
        story.emaj(&["plan", "two.yaml", "--detailed-exitcode"]).code(0);
        assert_eq!(rights(&writer), rights(&viewer));
        story.emaj(&["uninstall", "two.yaml", "--yes"]).ok();
        assert_eq!(rights(&writer), none);
        story.emaj(&["plan", "--detailed-exitcode"]).code(0);
    }

    capture_cannot_be_passed_by(story) {
        install(story);
        story.mark("m");
        let (before, definitions) = (story.state(), story.definitions());
        // Not even a replica's role passes by: the triggers fire always.
        story.sql_as_superuser(&format!("set session_replication_role = replica; update {0}.t set v = 'x'; delete from {0}.c; delete from {0}.t where id < 3; truncate {0}.c", story.schema));
        story.rollback("m");
        story.is(&before, &definitions, "what a replica did is undone too");
    }

    row_level_security(story) {
        let [admin, _, writer] = install(story);
        story.sql(&format!("alter table t enable row level security; create policy own on t to {writer} using (id < 4 or id > 100); create policy few on c to {writer} using (true)"));
        story.mark("m");
        let (before, definitions) = (story.state(), story.definitions());
        let mut client = session(story, &writer);
        runs(&mut client, "update t set v = 'x'; delete from c; delete from t where id = 3; update t set id = id + 100 where id = 2; insert into t values (103, 'n', 'n')");
        assert_eq!(story.ask("select count(*) from t where v = 'x'"), "2", "the policy holds");
        runs(&mut client, "truncate t, c");
        runs(&mut session(story, &admin), "set row_security = on; select emaj.emaj_logged_rollback_group('g', 'm')");
        story.is(&before, &definitions, "rows that the writer does not see come back too");
        assert_eq!(story.ask("select count(*) from t"), "6");
    }

    row_level_security_forced_later(story) {
        let [_, _, writer] = install(story);
        story.mark("m");
        let before = story.state();
        story.sql("alter table t enable row level security; alter table t force row level security; create policy few on t using (id < 3)");
        let definitions = story.definitions();
        let mut client = session(story, &writer);
        runs(&mut client, "update t set v = 'x' where id = 1");
        let everything = story.everything();
        if story.role.is_none() {
            runs(&mut client, "truncate t, c");
            assert_eq!(client.query_one("show row_security", &[]).unwrap().get::<_, String>(0), "on");
            story.rollback("m");
        } else {
            // The owner does not see every row: better no TRUNCATE and no rollback than one with a gap.
            denied(&mut client, "truncate t, c");
            assert_eq!(story.fails("select emaj.emaj_rollback_group('g', 'm')").code(), "42501");
            story.unchanged(&everything);
            story.sql_as_superuser(&format!("alter role {} bypassrls", story.role.clone().unwrap()));
            runs(&mut client, "truncate t, c");
            story.rollback("m");
        }
        story.is(&before, &definitions, "by who sees every row");
    }

    row_level_security_forced_before(story) {
        story.sql(TABLES);
        story.sql("alter table t enable row level security; alter table t force row level security; create policy few on t using (id < 3)");
        let schema = story.schema.clone();
        let run = story.install_manifest(&story.manifest(&format!("{schema}.t, {schema}.c")));
        if story.role.is_none() {
            run.ok();
            story.back_and_forth(&["update t set v = 'x'; delete from c", "truncate t, c"]);
        } else {
            assert!(run.code(12).stderr.contains("forces row level security on its owner"));
        }
    }
}

/// Each right of emaj's owner that a TRUNCATE or a rollback needs goes, after a look that still held, and comes back.
#[test]
fn rights_that_went_are_drift() {
    tell(Who::Owner, |story| {
        story.sql(TABLES);
        story.sql("create table p (id int primary key) partition by range (id); create table p_low partition of p for values from (0) to (10)");
        story.install("*");
        let (owner, other) = (story.schema.clone(), format!("{}_other", story.db.name()));
        story.sql_as_superuser(&format!(
            "create role {other}; grant {other} to {owner}; grant create, usage on schema {owner} to {other}"
        ));
        story.mark("m");
        let cases = [
            (
                format!("revoke {other} from {owner}; alter table {owner}.t owner to {other}"),
                format!("t: it belongs to {other}"),
                format!("grant {other} to {owner}"),
            ),
            (
                format!("revoke {other} from {owner}"),
                format!("t: it belongs to {other}"),
                format!("alter table {owner}.t owner to {owner}"),
            ),
            (
                format!("alter table {owner}.p_low owner to {other}"),
                format!("p: {owner}.p_low belongs to {other}"),
                format!("alter table {owner}.p_low owner to {owner}"),
            ),
            (
                format!(
                    "alter table {owner}.c alter id drop default; alter sequence {owner}.c_id_seq owned by none; alter sequence {owner}.c_id_seq owner to {other}"
                ),
                format!("c_id_seq: it belongs to {other}"),
                format!(
                    "alter sequence {owner}.c_id_seq owner to {owner}; alter table {owner}.c alter id set default nextval('{owner}.c_id_seq')"
                ),
            ),
            (
                format!("revoke select, delete on {owner}.t from {owner}"),
                format!("t: emaj's owner {owner} has no right to select, delete it"),
                format!("grant select, delete on {owner}.t to {owner}"),
            ),
            (
                format!("revoke usage on schema {owner} from {owner}"),
                format!("emaj's owner {owner} has no right to use its schema"),
                format!("grant usage on schema {owner} to {owner}"),
            ),
        ];
        for (at, (goes, reason, comes)) in cases.iter().enumerate() {
            story.looks();
            story.sql_as_superuser(goes);
            for call in ["emaj_set_mark_group('g', 'x')", "emaj_rollback_group('g', 'm')"] {
                let said = story.refused(&format!("select emaj.{call}"));
                assert!(said.contains(reason), "{goes}: `{said}` does not say `{reason}`");
            }
            let run = story.emaj(&["drift", "emaj.yaml"]);
            assert!(
                run.stdout
                    .contains(reason.split_once(": ").map_or(reason.as_str(), |(_, reason)| reason)),
                "{goes}: {run}"
            );
            story.sql_as_superuser(comes);
            story.mark(&format!("after {at}"));
        }
        story.sql("delete from c; update t set v = 'x'; truncate t cascade");
        story.rollback("m");
        assert_eq!(story.ask("select count(*) from t where v like 'v%'"), "6");
        let drop = format!("drop owned by {other} cascade; drop role {other}");
        story.sql_as_superuser(&drop);
    });
}

/// Does what `emaj doctor` says until it finds nothing missing; returns all that it said to do.
fn heed(db: &Database, role: &str) -> Vec<String> {
    let mut heeded = Vec::new();
    loop {
        let run = emaj(db).user(role).args(["doctor", "-o", "json"]).run();
        let checks = run.stdout_json();
        let missing = checks
            .as_array()
            .unwrap()
            .iter()
            .filter(|check| check["level"] == "missing");
        let todo: Vec<String> = missing
            .map(|check| {
                check["todo"]
                    .as_str()
                    .unwrap()
                    .split(", or ")
                    .next()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        if todo.is_empty() {
            run.ok();
            return heeded;
        }
        for words in todo {
            assert!(!heeded.contains(&words), "`{words}` was done already: {run}");
            db.psql(&words);
            heeded.push(words);
        }
    }
}

/// A manifest with this group's tables, for nobody but the owner.
fn manifest_of(db: &Database, tables: &str) {
    let text = format!("version: 1\nroles: {{ admin: null, viewer: null }}\ngroups: {{ g: {{ tables: {tables} }} }}\n");
    db.file("emaj.yaml", &text);
}

/// Makes a role that owns a table.
fn owner_of_a_table(db: &Database) -> support::Owner<'_> {
    let owner = support::owner(db);
    owner
        .client()
        .batch_execute("create table t (id int primary key)")
        .expect("a table");
    owner
}

/// Writes a manifest with these roles, and installs it.
fn install_roles(db: &Database, role: &str, roles: &str) -> support::Run {
    let text = format!("version: 1\nroles: {{ {roles} }}\ngroups: {{ g: {{ tables: [\"{role}.*\"] }} }}\n");
    db.file("emaj.yaml", &text);
    emaj(db).user(role).args(["install"]).run().ok()
}

#[test]
fn the_owner_needs_no_right_by_the_manifest() {
    let db = support::database();
    let owner = owner_of_a_table(&db);
    let app = owner.name();
    for roles in [
        format!("admin: {app}, viewer: null"),
        format!("admin: null, viewer: {app}"),
    ] {
        install_roles(&db, app, &roles);
        let again = emaj(&db).user(app).args(["plan", "--detailed-exitcode"]).run();
        assert_eq!(again.code(0).stderr.matches("note").count(), 0);
        emaj(&db).user(app).args(["drift", "--detailed-exitcode"]).run().code(0);
    }
}

#[test]
fn a_role_that_was_renamed_loses_what_it_was_given() {
    let db = support::database();
    let owner = owner_of_a_table(&db);
    let app = owner.name();
    let (old, new) = (format!("{}_adm", db.name()), format!("{}_ex", db.name()));
    db.psql(&format!("create role {old} login"));
    let plan = || emaj(&db).user(app).args(["plan", "-o", "json"]).run().ok().stdout;
    let may = |role: &str| {
        db.psql(&format!(
            "select count(*) from pg_proc where pronamespace = 'emaj'::regnamespace and has_function_privilege('{role}', oid, 'execute')"
        )) != "0"
    };
    let rests = || emaj(&db).user(app).args(["plan", "--detailed-exitcode"]).run().code(0);
    let rename = |from: &str, to: &str| db.psql(&format!("alter role {from} rename to {to}"));
    install_roles(&db, app, &format!("admin: {old}, viewer: null"));
    // Named by its new name it keeps all.
    rename(&old, &new);
    install_roles(&db, app, &format!("admin: {new}, viewer: null"));
    rests();
    assert!(may(&new));
    // Named no more.
    rename(&new, &old);
    install_roles(&db, app, "admin: null, viewer: null");
    rests();
    assert!(!may(&old));
    // Named by the name that it had.
    install_roles(&db, app, &format!("admin: {old}, viewer: null"));
    rename(&old, &new);
    let said = plan();
    assert!(
        said.contains(&format!("{new}, which was {old}, is not named any more")),
        "{said}"
    );
    install_roles(&db, app, &format!("admin: {old}, viewer: null"));
    rests();
    assert!(!may(&new));
    // Dropped, and another one made by that name.
    install_roles(&db, app, &format!("admin: {new}, viewer: null"));
    db.psql(&format!("drop owned by {new}; drop role {new}"));
    let said = plan();
    assert!(said.contains(&format!("{new} is not there any more")), "{said}");
    db.psql(&format!("create role {new} login"));
    let said = plan();
    assert!(said.contains(&format!("{new} is admin now")), "{said}");
    install_roles(&db, app, &format!("admin: {new}, viewer: null"));
    rests();
    assert!(may(&new));
    db.psql(&format!("drop owned by {new}; drop role {new}"));
}

#[test]
fn an_owner_may_be_called_anything() {
    let db = support::database();
    let owner = format!("O.wner X@{}", db.name());
    db.psql(&format!(
        "create role \"{owner}\" login; grant create on database \"{0}\" to \"{owner}\";
         create schema shop authorization \"{owner}\"; set role \"{owner}\"; create table shop.t (id serial primary key)",
        db.name()
    ));
    manifest_of(&db, "[shop.t]");
    for args in [
        &["plan"][..],
        &["install"],
        &["install"],
        &["drift"],
        &["mark", "set", "g", "m"],
        &["rollback", "g", "m", "--yes"],
        &["doctor"],
        &["uninstall", "--yes"],
    ] {
        emaj(&db).user(&owner).args(args).run().ok();
    }
}

#[test]
fn a_superuser_is_granted_to_nobody() {
    let db = support::database();
    let owner = support::owner(&db);
    let app = owner.name();
    db.psql(&format!(
        "create schema shop; grant usage on schema shop to {app}; create table shop.t (id serial primary key);
         create sequence shop.free; create role {0}_root; grant postgres to {0}_root;
         create table shop.u (id int primary key); alter table shop.u owner to {0}_root",
        db.name()
    ));
    manifest_of(&db, "[shop.t, shop.u], sequences: all");
    let told = emaj(&db).user(app).args(["plan"]).run().code(12).stderr;
    assert!(
        told.contains(&format!("alter table shop.t owner to {app}, or run this as the owner")),
        "{told}"
    );
    let heeded = heed(&db, app).concat();
    for words in [
        "alter table shop.t owner",
        "alter table shop.u owner",
        "alter sequence shop.free owner",
    ] {
        assert!(heeded.contains(words), "{heeded}");
    }
    assert!(!heeded.contains("grant"), "{heeded}");
    emaj(&db).user(app).args(["install"]).run().ok();
    db.psql("alter table shop.t owner to postgres; alter sequence shop.free owner to postgres");
    let told = emaj(&db).user(app).args(["drift"]).run().stdout;
    for words in ["alter table shop.t owner to", "alter sequence shop.free owner to"] {
        assert!(told.contains(&format!("{words} {app}")), "{told}");
    }
    assert!(
        !told.contains("grant") && !told.contains("alter sequence shop.t_id_seq"),
        "{told}"
    );
}

#[test]
fn what_doctor_advises_is_enough() {
    let db = support::database();
    let owner = support::owner(&db);
    let (app, other) = (owner.name(), format!("{}_other", db.name()));
    // (The rights of a language are the database's own.)
    db.psql(&format!(
        "create role {other}; alter role {app} noinherit; revoke usage on language sql, plpgsql from public;
         grant usage on schema {app} to {other};
         create table {app}.theirs (id int primary key); alter table {app}.theirs owner to {other};
         create table {app}.own (id int primary key); alter table {app}.own owner to {app}; revoke trigger, update on {app}.own from {app};
         create table {app}.p (id int primary key) partition by range (id); alter table {app}.p owner to {app};
         create table {app}.p1 partition of {app}.p for values from (0) to (9); alter table {app}.p1 owner to {app}; revoke trigger on {app}.p1 from {app};
         create table {app}.p2 partition of {app}.p for values from (9) to (19); alter table {app}.p2 owner to {other}"
    ));
    manifest_of(&db, &format!("[{app}.*]"));
    let heeded = heed(&db, app);
    for words in [
        "grant usage on language sql to".to_owned(),
        "grant usage on language plpgsql to".to_owned(),
        format!("grant {other} to {app}"),
        format!("grant update, trigger on {app}.own to"),
        format!("grant trigger on {app}.p1 to"),
    ] {
        assert!(heeded.iter().any(|done| done.contains(&words)), "{words}: {heeded:#?}");
    }
    emaj(&db).user(app).args(["install"]).run().ok();
}

#[test]
fn a_draft_has_only_what_a_plan_accepts() {
    let db = support::database();
    let owner = support::owner(&db);
    let (app, other) = (owner.name(), format!("{}_other", db.name()));
    db.psql(&format!(
        "create role {other}; create type public.mood as enum ('a'); revoke usage on type public.mood from public; set role {app};
         create table {app}.good (id int primary key);
         create table {app}.parted (id int primary key) partition by range (id);
         create unlogged table {app}.parted_1 partition of {app}.parted for values from (0) to (9);
         create table {app}.shared (id int primary key) partition by range (id);
         create table {app}.shared_1 partition of {app}.shared for values from (0) to (9); reset role;
         alter table {app}.shared_1 owner to {other};
         create table {app}.moody (id int primary key, m public.mood); alter table {app}.moody owner to {app}"
    ));
    let run = emaj(&db).user(app).args(["new", "--from-db"]).run().ok();
    assert!(run.stderr.contains("2 tables in 2 groups, 2 left out"), "{run}");
    let text = std::fs::read_to_string(db.dir().join("emaj.yaml")).unwrap();
    for words in [
        format!("# left out: the log of table {app}.moody cannot be made: {app} may not use type public.mood, of m\n"),
        format!(
            "# left out: partition {app}.shared_1 of table {app}.shared belongs to role {other}, and {app} may not act for it\n"
        ),
        format!(
            "_audit:\n    rollback: false     # audit only: no primary key, or unlogged\n    tables:\n      - {app}.parted\n"
        ),
    ] {
        assert!(text.contains(&words), "{words}\n{text}");
    }
    db.file(
        "emaj.yaml",
        &text.replace("version: 1", "version: 1\nroles: { admin: null, viewer: null }"),
    );
    emaj(&db).user(app).args(["plan"]).run().ok();
}

#[test]
fn sinks_are_for_the_owner_and_the_administrator_is_told_so() {
    let db = support::database();
    let owner = support::owner(&db);
    let (app, admin) = (owner.name(), format!("{}_adm", db.name()));
    db.psql(&format!("create role {admin} login noinherit"));
    owner
        .client()
        .batch_execute("create table t (id int primary key)")
        .unwrap();
    let text = format!(
        "version: 1\nroles: {{ admin: {admin}, viewer: null }}\ngroups: {{ g: {{ tables: [{app}.t] }} }}\nsinks: {{ feed: {{ file: {{ path: feed }} }} }}\n\
         bindings: {{ b: {{ table: {app}.t, to: feed, message: {{ body: '{{{{ row.id }}}}' }} }} }}\n"
    );
    db.file("emaj.yaml", &text);
    emaj(&db).user(app).args(["install"]).run().ok();
    emaj(&db).user(&admin).args(["mark", "set", "g", "m"]).run().ok();
    let pause: &[&str] = &["sink", "pause", "feed", "--because", "disks"];
    let acts: &[&[&str]] = &[
        pause,
        &["sink", "resume", "feed"],
        &["failures", "retry", "--all"],
        &["failures", "discard", "--all", "--yes"],
        &["init"],
        &["run", "--until-empty"],
        &["replay", "feed", "--from", "m", "--yes"],
    ];
    let said = format!("schema emaj belongs to role {app}, and {admin} has not that role's rights");
    let mut grant = String::new();
    for words in acts {
        let told = emaj(&db).user(&admin).args(*words).run().code(12).stderr;
        let (_, next) = told.split_once(&format!("hint: connect as {app}, or: ")).expect(&told);
        assert!(told.contains(&said), "{words:?}: {told}");
        next.lines().next().unwrap().clone_into(&mut grant);
    }
    emaj(&db).user(app).args(pause).run().ok();
    let told = emaj(&db).user(&admin).args(["doctor"]).run().code(12).stdout;
    assert!(
        told.contains("sink feed") && told.contains("it is paused: disks"),
        "{told}"
    );
    // What the hint says is enough.
    db.psql(&grant);
    for words in acts {
        emaj(&db).user(&admin).args(*words).run().ok();
    }
}

/// Whoever gave away the schema alone is told what puts it back, whoever they are and whatever they ask for.
#[test]
fn a_schema_that_was_given_away_without_what_is_in_it_is_said_by_every_command() {
    tell(Who::Owner, |story| {
        story.sql(TABLES);
        story.install("*");
        let (owner, other) = (story.schema.clone(), format!("{}_other", story.db.name()));
        story.sql_as_superuser(&format!(
            "create role {other} login; alter schema emaj owner to {other}"
        ));
        for user in [&owner, &other] {
            for words in [
                &["status"][..],
                &["mark", "set", "g", "x"],
                &["verify"],
                &["plan"],
                &["install"],
                &["uninstall", "--yes"],
            ] {
                let run = emaj(story.db).user(user).args(words).run().code(4);
                assert!(
                    run.stderr.contains(&format!(
                        "the schema `emaj` belongs to `{other}`, and emaj's tables in it to `{owner}`"
                    )) && run
                        .stderr
                        .contains(&format!("`alter schema emaj owner to {owner}` puts it back")),
                    "{user} {words:?}: {run}"
                );
            }
        }
        story.sql_as_superuser(&format!("alter schema emaj owner to {owner}"));
        story.mark("m");
        story.sql_as_superuser(&format!("drop role {other}"));
    });
}
