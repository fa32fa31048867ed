//! Every refusal: its reason in the message, SQLSTATE EJ001, and data, registry and definitions as they were.

use crate::support::story::{Story, stories};

const SHOP: &str = "
    create table p (id int primary key, v text, w int);
    create table c (id int primary key, p_id int references p);
    create table q (id serial primary key, v text);
    insert into p select i, 'p' || i, i from generate_series(1, 5) i;
    insert into c select i, i from generate_series(1, 5) i;
    insert into q (v) values ('a'), ('b')";

/// A group that logs, with mark `m`, and changes after it.
fn begin(story: &mut Story<'_>) {
    story.sql(SHOP);
    story.install("*");
    story.mark("m");
    change(story);
}

fn change(story: &mut Story<'_>) {
    story.sql("update p set v = v || '!' where id < 3; delete from c where id = 5; insert into q (v) values ('x')");
}

/// Asserts that each call is refused with `reason`, and that nothing is different afterwards.
#[track_caller]
fn refuses(story: &mut Story<'_>, calls: &[&str], reason: &str) {
    for call in calls {
        let everything = story.everything();
        let said = story.refused(&format!("select emaj.{call}"));
        assert!(said.contains(reason), "{call}: `{said}` does not say `{reason}`");
        story.unchanged(&everything);
    }
}

const ROLLBACKS: &[&str] = &[
    "emaj_rollback_group('g', 'm')",
    "emaj_logged_rollback_group('g', 'm')",
    "emaj_rollback_and_stop_group('g', 'm')",
];

/// Changes the database behind the back of emaj (the guard is switched off) and sees start, mark and rollback answer.
#[track_caller]
fn drift(story: &mut Story<'_>, drift: &str, reason: &str) {
    story.options += &format!(
        "    table_options:\n      {0}.p: {{ guard: false }}\n      {0}.c: {{ guard: false }}\n",
        story.schema
    );
    begin(story);
    story.sql(drift);
    refuses(story, ROLLBACKS, reason);
    refuses(story, &["emaj_set_mark_group('g', 'x')"], reason);
    let verified = story.ask("select emaj.emaj_verify_all()");
    assert!(verified.contains(reason), "{verified}");
    // It is stopped, and said to have drifted; and not started then.
    let stopped = story.emaj(&["group", "stop", "g", "--mark", "stop"]).ok();
    assert!(stopped.stderr.contains(reason), "{stopped}");
    let noted = story.ask(
        "select hist_wording from emaj.emaj_hist where hist_function = 'STOP_GROUP' order by hist_id desc limit 1",
    );
    assert!(noted.contains(reason), "{noted}");
    if !reason.contains("capture triggers") {
        refuses(story, &["emaj_start_group('g', 'again')"], reason);
    }
}

stories! {
    unknown_group(story) {
        begin(story);
        refuses(story, &[
            "emaj_start_group('nobody', 'm')", "emaj_stop_group('nobody')", "emaj_set_mark_group('nobody', 'm')", "emaj_rollback_group('nobody', 'm')",
            "emaj_logged_rollback_group('nobody', 'm')", "emaj_rollback_and_stop_group('nobody', 'm')", "emaj_reset_group('nobody')",
            "emaj_delete_mark_group('nobody', 'm')", "emaj_rename_mark_group('nobody', 'm', 'n')", "emaj_protect_group('nobody')",
            "emaj_unprotect_group('nobody')", "emaj_protect_mark_group('nobody', 'm')", "emaj_unprotect_mark_group('nobody', 'm')",
            "emaj_log_stat_group('nobody', null, null)", "emaj_detailed_log_stat_group('nobody', null, null)", "emaj_drop_group('nobody')",
            "emaj_force_drop_group('nobody')", "emaj_purge_group('nobody')", "emaj_snap_group('nobody', '/tmp')",
            "emaj_set_mark_groups(array['g', 'nobody'], 'm')", "emaj_start_groups(array['nobody'])", "emaj_stop_groups(array['g', 'nobody'])",
            "emaj_comment_mark_group('nobody', 'm', 'c')", "emaj_delete_before_mark_group('nobody', 'm')",
            "emaj_get_previous_mark_group('nobody', 'm')", "emaj_get_previous_mark_group('nobody', now())",
            "emaj_rollback_tables(array['g', 'nobody'], 'm')", "emaj_estimate_rollback_group('nobody', 'm')",
            "emaj_estimate_rollback_groups(array['nobody'], 'm')", "emaj_estimate_rollback_tables(array['nobody'], 'm')",
        ], "unknown group `nobody` (known groups: `g`)");
    }

    no_group(story) {
        begin(story);
        refuses(story, &["emaj_set_mark_group(null, 'm')", "emaj_rollback_group(null, 'm')", "emaj_start_group(null, 'm')", "emaj_set_mark_group('', 'm')"], "unknown group");
    }

    no_groups(story) {
        begin(story);
        refuses(story, &[
            "emaj_rollback_tables('{}', 'm')", "emaj_rollback_tables(null, 'm')", "emaj_estimate_rollback_groups('{}', 'm')",
            "emaj_estimate_rollback_groups(null, 'm')", "emaj_estimate_rollback_tables(null, 'm')", "emaj_rollback_left('{}', 'm')",
            "emaj_check_rollback_groups('{}', 'm')",
        ], "no group given (name at least one");
    }

    unknown_mark(story) {
        begin(story);
        refuses(story, &[
            "emaj_rollback_group('g', 'nowhere')", "emaj_logged_rollback_group('g', 'nowhere')", "emaj_rollback_and_stop_group('g', 'nowhere')",
            "emaj_delete_mark_group('g', 'nowhere')", "emaj_rename_mark_group('g', 'nowhere', 'n')", "emaj_protect_mark_group('g', 'nowhere')",
            "emaj_log_stat_group('g', 'nowhere', null)", "emaj_detailed_log_stat_group('g', null, 'nowhere')",
            "emaj_comment_mark_group('g', 'nowhere', 'c')", "emaj_delete_before_mark_group('g', 'nowhere')", "emaj_get_previous_mark_group('g', 'nowhere')",
        ], "group `g` has no mark `nowhere` (its marks, the newest first: `m`");
        refuses(story, &["emaj_rollback_group('g', null)", "emaj_rollback_group('g', '')", "emaj_delete_mark_group('g', null)"], "has no mark");
    }

    names_of_marks(story) {
        begin(story);
        refuses(story, &["emaj_set_mark_group('g', 'm')", "emaj_rename_mark_group('g', 'EMAJ_LAST_MARK', 'm')"], "already has a mark `m`");
        refuses(story, &["emaj_set_mark_group('g', 'EMAJ_LAST_MARK')", "emaj_rename_mark_group('g', 'm', 'EMAJ_LAST_MARK')"], "stands for the last mark and cannot be the name of one (choose another name");
        refuses(story, &["emaj_rename_mark_group('g', 'm', '')", "emaj_rename_mark_group('g', 'm', null)"], "new name of the mark is empty (say what it is to be called");
        refuses(story, &["emaj_log_stat_group('g', 'EMAJ_LAST_MARK', (select mark_name from emaj.emaj_mark order by mark_id limit 1))"], "is later than mark");
    }

    idle_group(story) {
        begin(story);
        story.sql("select emaj.emaj_stop_group('g', 'stopped')");
        refuses(story, ROLLBACKS, "group `g` is IDLE, not LOGGING");
        refuses(story, &["emaj_set_mark_group('g', 'x')", "emaj_protect_group('g')", "emaj_protect_mark_group('g', 'm')"], "group `g` is IDLE, not LOGGING");
        refuses(story, &["emaj_rename_mark_group('g', 'EMAJ_LAST_MARK', 'n')"], "group `g` has no active mark (start it, which sets one: `emaj group start g`)");
    }

    logging_group(story) {
        begin(story);
        refuses(story, &["emaj_start_group('g', 'x')", "emaj_reset_group('g')", "emaj_drop_group('g')"], "group `g` is LOGGING, not IDLE");
    }

    audit_only_group(story) {
        story.options += "    rollback: false\n";
        begin(story);
        refuses(story, ROLLBACKS, "audit-only");
    }

    protected_group(story) {
        begin(story);
        story.sql("select emaj.emaj_protect_group('g')");
        refuses(story, ROLLBACKS, "group `g` is protected");
        story.sql("select emaj.emaj_unprotect_group('g')");
        story.rollback("m");
    }

    protected_mark(story) {
        begin(story);
        story.mark("kept");
        story.sql("select emaj.emaj_protect_mark_group('g', 'kept')");
        change_again(story);
        refuses(story, ROLLBACKS, "mark `kept` of group `g` is protected, and the rollback would go past it");
        refuses(story, &["emaj_delete_mark_group('g', 'kept')"], "is protected");
        story.rollback("kept");
        story.sql("select emaj.emaj_unprotect_mark_group('g', 'kept')");
        story.rollback("m");
    }

    a_stop_ends_protection(story) {
        begin(story);
        story.sql("select emaj.emaj_protect_mark_group('g', 'm'); select emaj.emaj_protect_group('g')");
        let protected = "select group_protected or bool_or(mark_protected) from emaj.emaj_group join emaj.emaj_mark on mark_group = group_name group by group_name";
        assert_eq!(story.ask(protected), "t");
        story.sql("select emaj.emaj_stop_group('g')");
        assert_eq!(story.ask(protected), "f");
        story.sql("select emaj.emaj_start_group('g', 'again', false)");
        assert_eq!(story.ask(protected), "f");
        let again = story.state();
        change_again(story);
        story.rollback("again");
        assert_eq!(story.state(), again);
        story.sql("select emaj.emaj_delete_mark_group('g', 'm')");
    }

    the_last_mark_is_not_deleted(story) {
        begin(story);
        story.sql("select emaj.emaj_delete_mark_group('g', (select mark_name from emaj.emaj_mark order by mark_id limit 1))");
        refuses(story, &["emaj_delete_mark_group('g', 'm')"], "the only mark");
    }

    mark_from_before_the_last_stop(story) {
        begin(story);
        story.sql("select emaj.emaj_stop_group('g', 'stopped'); delete from c; select emaj.emaj_start_group('g', 'again', false)");
        refuses(story, ROLLBACKS, "mark `m` of group `g` is from before the group was last stopped");
        refuses(story, &["emaj_rollback_group('g', 'stopped')"], "from before the group was last stopped");
    }

    table_added_after_the_mark(story) {
        story.sql(SHOP);
        story.install("*, !q");
        story.mark("m");
        change(story);
        story.install("*");
        refuses(story, ROLLBACKS, "q is captured only since a later moment");
    }

    table_removed_after_the_mark(story) {
        begin(story);
        story.install("*, !c");
        refuses(story, ROLLBACKS, "c has left the group since");
    }

    table_released_after_the_mark(story) {
        begin(story);
        assert_eq!(story.ask("select emaj.emaj_release_table('c'::regclass)"), "2", "two marks are lost");
        refuses(story, ROLLBACKS, "c has left the group since");
        refuses(story, &["emaj_release_table('c'::regclass)"], "is not captured");
        story.install("*");
        refuses(story, ROLLBACKS, "c is captured only since a later moment");
    }

    table_moved_to_another_group_and_back(story) {
        begin(story);
        story.sql("create table r (id int primary key)");
        let manifest = |story: &Story<'_>, g: &str, h: &str| {
            let schema = &story.schema;
            format!("version: 1\nname: emaj\nroles: {{ admin: null, viewer: null }}\ngroups:\n  g: {{ tables: [{schema}.p, {schema}.c{g}], sequences: none }}\n  h: {{ tables: [{schema}.r{h}], sequences: none }}\n")
        };
        let q = format!(", {}.q", story.schema);
        story.install_manifest(&manifest(story, "", &q)).ok();
        refuses(story, ROLLBACKS, "q has left the group since");
        let there = manifest(story, &q, "");
        story.install_manifest(&there).ok();
        refuses(story, ROLLBACKS, "q is captured only since a later moment");
    }

    a_mark_set_in_each_group_is_not_common(story) {
        story.sql(SHOP);
        let schema = story.schema.clone();
        story.install_manifest(&format!("version: 1\nroles: {{ admin: null, viewer: null }}\ngroups:\n  g: {{ tables: [{schema}.p, {schema}.c] }}\n  h: {{ tables: [{schema}.q] }}\n")).ok();
        story.sql("select emaj.emaj_set_mark_group('g', 'm'); select emaj.emaj_set_mark_group('h', 'm'); select emaj._put_mark(array['g', 'h'], 'both')");
        let (both, definitions) = (story.state(), story.definitions());
        change(story);
        refuses(story, &["_rollback(array['g', 'h'], 'm', true)"], "mark `m` is not one instant in groups `g`, `h`");
        // In one transaction it is two instants too: something may have been written between them.
        story.sql("begin; select emaj.emaj_set_mark_group('g', 'm2'); update q set v = 'between'; select emaj.emaj_set_mark_group('h', 'm2'); commit");
        refuses(story, &["_rollback(array['h', 'g'], 'm2', false)"], "is not one instant");
        story.sql("select emaj._rollback(array['h', 'g'], 'both', true)");
        story.is(&both, &definitions, "to the common mark");
    }

    not_in_read_committed(story) {
        begin(story);
        for level in ["repeatable read", "serializable"] {
            for call in ROLLBACKS {
                let everything = story.everything();
                let said = story.refused(&format!("begin isolation level {level}; select emaj.{call}"));
                assert!(said.contains("isolation level read committed only"), "{said}");
                story.sql("rollback");
                story.unchanged(&everything);
            }
        }
        story.sql("select emaj.emaj_set_mark_group('g', 'later')");
        for call in ["emaj_purge_group('g')", "emaj_delete_mark_group('g', 'later')", "emaj_delete_before_mark_group('g', 'later')"] {
            let everything = story.everything();
            let said = story.refused(&format!("begin isolation level repeatable read; select emaj.{call}"));
            assert!(said.contains("logs are purged in a transaction of isolation level read committed only ("), "{said}");
            story.sql("rollback");
            story.unchanged(&everything);
        }
        story.sql("select emaj.emaj_stop_group('g')");
        let said = story.refused("begin isolation level repeatable read; select emaj.emaj_start_group('g', 'x')");
        assert!(said.contains("isolation level read committed only (") && said.contains("`begin isolation level read committed`"), "{said}");
        story.sql("rollback");
    }

    a_restored_copy(story) {
        begin(story);
        for (update, problem) in [
            ("emaj.emaj_install set install_system = install_system + 1", "carried into another cluster by pg_upgrade"),
            ("emaj.emaj_install set install_database = 1", "made as a copy of another one"),
            ("emaj.emaj_seal set seal_one = true", "this database is a restored copy"),
        ] {
            story.sql(&format!("update {update}"));
            refuses(story, ROLLBACKS, problem);
            refuses(story, &["emaj_set_mark_group('g', 'x')", "emaj_purge_group('g')"], problem);
            refuses(story, &["emaj_stop_group('g')"], problem);
            assert_eq!(story.ask("select sum(stat_rows) from emaj.emaj_log_stat_group('g', 'm', null)"), "4", "history stays readable");
            assert_eq!(story.ask("select count(*) from emaj.emaj_log_gaps_group('g', 'm')"), "0", "logs stay readable");
            let run = story.emaj(&["install", "emaj.yaml"]).code(4);
            assert!(run.stderr.contains(problem), "{run}");
        }
        refuses(story, &["emaj_start_group('g', 'x')"], "this database is a restored copy");
    }

    drift_column_dropped(story) {
        drift(story, "alter table p drop w", "the captured column w is gone");
    }

    drift_column_dropped_by_cascade_through_the_guard(story) {
        begin(story);
        story.sql("alter table p drop w cascade");
        refuses(story, ROLLBACKS, "the captured column w is gone");
    }

    drift_column_type(story) {
        drift(story, "alter table p alter w type bigint", "the type of column w is now bigint and was integer");
    }

    drift_column_length(story) {
        drift(story, "alter table p alter v type varchar(40)", "the type of column v is now character varying(40) and was text");
    }

    a_type_that_goes_by_cascade_stops_no_write(story) {
        story.sql(
            "create type mood as enum ('low', 'high'); create domain dom as mood;
             create table s (id int primary key, m mood, v text, d dom); create table r (m mood, id int primary key, v text);
             create table pt (id int primary key, v text, m mood) partition by range (id); create table pt_1 partition of pt for values from (0) to (100);
             create table k (m mood primary key, v text);
             insert into s values (1, 'low', 'a', 'high'); insert into r values ('low', 1, 'a'); insert into pt values (1, 'a', 'low'); insert into k values ('low', 'a')",
        );
        story.options += &format!("    table_options:\n      {0}.r: {{ capture: row }}\n", story.schema);
        story.install("*");
        story.mark("m");
        let write = |client: &mut postgres::Client, id: i32| {
            for table in ["s", "r", "pt"] {
                let writes = format!("insert into {table} (id, v) values ({id}, 'b'); update {table} set v = 'c' where id = {id}; delete from {table} where id = {id}");
                client.batch_execute(&writes).unwrap_or_else(|error| panic!("{table}: {}", crate::support::story::described(&error)));
            }
        };
        let mut client = story.db.client();
        client.batch_execute(&format!("set search_path = {}", story.schema)).unwrap();
        let mut old = story.db.client();
        old.batch_execute(&format!("set search_path = {}; begin isolation level repeatable read; select 1 from pg_class limit 1", story.schema)).unwrap();
        // Plans are there before, and have to be made anew.
        write(&mut client, 7);
        story.sql("drop type mood cascade");
        write(&mut client, 8);
        write(&mut old, 9);
        old.batch_execute("commit").unwrap();
        client.batch_execute("insert into k (v) values ('x'); truncate s; truncate r; truncate pt").unwrap();
        for table in ["s", "r", "pt"] {
            let log = format!("emaj.{}_{table}_log", story.schema);
            // Three times an insert, an update of two images and a delete; and the row that a truncate took.
            assert_eq!(story.ask(&format!("select count(*) from {log} where id is not null and v is not null")), "13", "{table}");
            assert_eq!(story.ask(&format!("select count(*) from {log} where emaj_tuple <> ''")), "13", "{table}");
        }
        refuses(story, &["emaj_rollback_group('g', 'm')"], "the captured column m is gone");
        refuses(story, &["emaj_set_mark_group('g', 'x')"], "the captured column m is gone");
        let run = story.emaj(&["changes", "g", "--from", "m", "-o", "json"]).ok();
        assert!(run.stderr.contains("has lost column m"), "{run}");
        assert!(run.stdout.contains("\"v\":\"c\"") || run.stdout.contains("\"v\": \"c\""), "{run}");
        let run = story.emaj(&["changes", "g", "--from", "m", "--what", "net"]).code(4);
        assert!(run.stderr.contains("has lost column m"), "{run}");
        let run = story.emaj(&["at", "g", "m", "select 1 from s"]).code(4);
        assert!(run.stderr.contains("has lost column m"), "{run}");
        story.install("*, !k");
        story.emaj(&["plan", "--detailed-exitcode"]).code(0);
        story.mark("after");
        let before = story.state();
        story.sql("insert into s values (3, 'c'); insert into r values (3, 'c'); insert into pt values (3, 'c')");
        story.rollback("after");
        assert_eq!(story.state(), before);
        story.emaj(&["changes", "g", "--from", "m"]).ok();
    }

    a_former_type_that_goes_by_cascade_stops_no_write(story) {
        story.sql("create type one as enum ('a'); create type other as enum ('a'); create table t (id int primary key, e one, v text); insert into t values (1, 'a', 'x')");
        story.options += &format!("    table_options:\n      {}.t: {{ guard: false }}\n", story.schema);
        story.install("*");
        story.mark("m");
        story.sql("alter table t alter e type other using e::text::other; update t set v = 'y'; drop type one cascade");
        story.sql("insert into t values (2, 'a', 'z'); update t set v = 'w'; delete from t where id = 1; truncate t");
        let log = format!("emaj.{}_t_log", story.schema);
        assert_eq!(story.ask(&format!("select string_agg(emaj_verb || emaj_tuple || id || v, ' ' order by emaj_gid, emaj_ord, id, emaj_tuple desc) from {log} where emaj_tuple <> ''")),
            "UPDOLD1x UPDNEW1y INSNEW2z UPDOLD1y UPDNEW1w UPDOLD2z UPDNEW2w DELOLD1w TRUOLD2w");
        refuses(story, &["emaj_set_mark_group('g', 'x')", "emaj_rollback_group('g', 'm')"], "t: its log has no column e");
        let run = story.emaj(&["changes", "g", "--from", "m"]).ok();
        assert!(run.stderr.contains("has lost column e"), "{run}");
        story.install("*");
        story.mark("after");
    }

    a_released_table_leaves_a_log_with_its_types(story) {
        story.sql("create type one as enum ('a'); create type other as enum ('a'); create table t (id int primary key, e one, v text); insert into t values (1, 'a', 'x')");
        story.install("*");
        story.mark("m");
        story.sql("update t set v = 'y'");
        let table = format!("{}.t", story.schema);
        story.emaj(&["release", &table, "-y"]).ok();
        story.sql("alter table t alter e type other using e::text::other");
        for installed in [false, true] {
            if installed {
                story.install("*");
            }
            assert_eq!(story.fails("drop type one").code(), "2BP01");
        }
        story.sql("drop type one cascade; insert into t values (2, 'a', 'z')");
        assert_eq!(story.ask("select count(e) from t"), "2");
        let run = story.emaj(&["changes", "g", "--from", "m"]).ok();
        assert!(run.stderr.contains("has lost column e") && run.stdout.contains("y"), "{run}");
        story.emaj(&["plan", "--detailed-exitcode"]).code(0);
        story.mark("after");
    }

    tables_too_wide_for_a_log(story) {
        let columns = |many: usize, of: &str| (1..=many).map(|n| format!("c{n} {of}")).collect::<Vec<_>>().join(", ");
        story.sql(&format!("create table t (id int primary key, {})", columns(1593, "bool")));
        let items = format!("{}.t", story.schema);
        let run = story.install_manifest(&story.manifest(&items)).code(65);
        assert!(run.stderr.contains("would have 1601 columns, 7 of them emaj's own, and PostgreSQL allows 1600"), "{run}");
        story.sql("alter table t drop c1593");
        story.install_manifest(&story.manifest(&items)).ok();
        story.sql("insert into t (id, c1592) values (1, true)");
        // What fits the table and not the log is said before, and is what PostgreSQL refuses.
        story.sql(&format!("create table w (id int primary key, {}, a int, b int, c int)", columns(999, "bigint not null default 0")));
        story.sql("insert into w values (1); update w set a = 1, b = 1, c = 1");
        let run = story.install_manifest(&story.manifest(&format!("{items}, {}.w", story.schema))).ok();
        assert!(run.stderr.contains(".w that has a value in every column takes 82") && run.stderr.contains("`row is too big`"), "{run}");
        assert!(!run.stderr.contains(".t that"), "{run}");
        assert_eq!(story.fails("delete from w").code(), "54000");
    }

    drift_trigger_disabled(story) {
        drift(story, "alter table p disable trigger user", "p: its capture triggers are missing or disabled");
    }

    drift_triggers_of_a_state_that_misses_changes(story) {
        drift(story, "do $$ declare t record; begin for t in select tgname from pg_trigger where tgrelid = 'p'::regclass and not tgisinternal loop execute format('alter table p enable trigger %I', t.tgname); end loop; end $$",
            "p: its capture triggers are missing or disabled");
    }

    drift_trigger_dropped(story) {
        drift(story, "do $$ declare t text; begin select tgname into t from pg_trigger where tgrelid = 'c'::regclass and not tgisinternal and tgtype & 16 <> 0; execute format('drop trigger %I on c', t); end $$",
            "c: its capture triggers are missing or disabled");
    }

    drift_function_dropped(story) {
        drift(story, "do $$ begin execute format('drop function emaj.%I() cascade', (select rel_log from emaj.emaj_relation where rel_name = 'p')); end $$",
            "p: its capture triggers are missing or disabled");
    }

    drift_log_dropped(story) {
        drift(story, "do $$ begin execute format('drop table emaj.%I cascade', (select rel_log from emaj.emaj_relation where rel_name = 'p')); end $$", "its log table emaj.");
    }

    drift_log_unlogged(story) {
        drift(story, "do $$ begin execute format('alter table emaj.%I set unlogged', (select rel_log from emaj.emaj_relation where rel_name = 'p')); end $$", "is unlogged: a crash empties it");
    }

    drift_table_dropped(story) {
        drift(story, "drop table c", "the table is gone");
    }

    drift_sequence_dropped(story) {
        begin(story);
        story.sql("drop sequence q_id_seq cascade");
        refuses(story, ROLLBACKS, "the sequence is gone");
    }

    drift_primary_key_dropped(story) {
        drift(story, "alter table c drop constraint c_pkey", "its primary key is not the one that was installed");
        let repair = story.ask("select drift_repair from emaj._drift('{g}')");
        let command = repair.split('`').nth(1).unwrap_or_else(|| panic!("no command: {repair}")).to_owned();
        story.sql(&command);
        assert_eq!(story.ask("select count(*) from emaj._drift('{g}')"), "0", "{repair}");
    }

    drift_primary_key_replaced(story) {
        drift(story, "alter table c drop constraint c_pkey, add primary key (p_id)", "its primary key is not the one that was installed");
    }

    drift_became_a_partition(story) {
        drift(story, "create table parted (id int not null, p_id int) partition by range (id); alter table parted attach partition c default", "the table has become a partition");
    }

    drift_got_a_child(story) {
        drift(story, "create table child (x int) inherits (p)", "inheritance child or parent");
    }

    drift_unlogged(story) {
        drift(story, "alter table c set unlogged", "the table is unlogged now");
    }

    drift_of_a_partition(story) {
        story.sql("create table r (id int primary key, v text) partition by range (id);
             create table r1 partition of r for values from (0) to (10); create table r2 partition of r for values from (10) to (20)");
        begin(story);
        story.sql("alter table r1 disable trigger user; insert into r values (1, 'unseen'); alter table r1 enable trigger user");
        for calls in [ROLLBACKS, &["emaj_set_mark_group('g', 'x')"]] {
            refuses(story, calls, "r: its capture triggers were switched or made anew by somebody else");
        }
        story.sql("delete from r; alter table r2 set unlogged");
        let run = story.emaj(&["install", "--allow-destroy", "emaj.yaml"]);
        assert!(run.status != Some(0) && run.stderr.contains("r2 of table"), "{run}");
        refuses(story, &["emaj_set_mark_group('g', 'x')"], "r2 is unlogged now");
    }

    drift_generated(story) {
        drift(story, "alter table p drop w; alter table p add w int generated always as (id) stored", "the captured column w is gone");
    }

    drift_recreated_under_the_same_name(story) {
        drift(story, "drop table c; create table c (id int primary key, p_id int references p)", "the table is gone");
    }

    drift_trigger_disabled_on_a_partition(story) {
        story.sql("create table m (id int primary key, v int) partition by range (id); create table m_low partition of m for values from (0) to (10);
                   create table m_high partition of m for values from (10) to (20)");
        story.install("*");
        story.mark("m");
        story.sql("alter table m_high disable trigger user; insert into m values (1, 1), (11, 1)");
        refuses(story, ROLLBACKS, "m: its capture triggers are disabled on");
        refuses(story, &["emaj_set_mark_group('g', 'x')"], "m_high");
        story.sql("select emaj.emaj_stop_group('g'); select emaj.emaj_start_group('g', 'again'); insert into m values (12, 1)");
        assert_eq!(story.ask("select emaj.emaj_rollback_group('g', 'again')"), "1");
        assert_eq!(story.ask("select count(*) from m"), "2");
    }

    drift_since_a_look_that_found_none(story) {
        begin(story);
        for (at, (drift, reason)) in [
            ("alter table p disable trigger user", "p: its capture triggers are missing or disabled"),
            ("do $$ begin alter table p disable trigger user; exception when syntax_error then null; end $$", "p: its capture triggers are missing or disabled"),
            ("do $$ declare t text; begin select tgname into t from pg_trigger where tgrelid = 'c'::regclass and not tgisinternal and tgtype & 16 <> 0; execute format('drop trigger %I on c', t); create table other (id int primary key); end $$", "c: its capture triggers are missing"),
            ("do $$ begin execute format('drop table emaj.%I cascade', (select rel_log from emaj.emaj_relation where rel_name = 'p')); end $$", "its log table emaj."),
            ("alter table c drop constraint c_pkey, add primary key (p_id)", "its primary key is not the one that was installed"),
            ("create table child (primary key (id)) inherits (c)", "inheritance child or parent"),
            ("alter table c set unlogged", "the table is unlogged now"),
            ("drop table q cascade", "q: the table is gone"),
            ("do $$ begin execute format('drop view emaj.%I', (select rel_guard from emaj.emaj_relation where rel_name = 'p' and rel_ended is null)); end $$; alter table p drop w", "the captured column w is gone"),
        ].into_iter().enumerate() {
            // The first mark looks and notes it; at the second the look still holds.
            story.looks();
            story.mark(&format!("holds{at}"));
            // Committed, and beside it: in the very transaction of the mark, which then goes back as a whole.
            let said = story.refused(&format!("{drift}; select emaj.emaj_set_mark_group('g', 'x')"));
            assert!(said.contains(reason), "{drift}: `{said}` does not say `{reason}`");
            assert_eq!(story.ask("select emaj._looked('g')"), "t", "after `{drift}` was undone");
            story.sql(&format!("{drift}; create temporary table of_a_session (id int)"));
            refuses(story, &["emaj_set_mark_group('g', 'x')", &format!("emaj_rollback_group('g', 'holds{at}')")], reason);
            story.sql("drop table of_a_session; alter table c set logged");
            story.install("*");
        }
    }

    a_look_holds_while_nothing_changes(story) {
        begin(story);
        for (sql, holds) in [
            ("create temporary table aside (id int) on commit drop", "t"),
            ("analyze p; vacuum p; vacuum q", "t"),
            ("begin; alter table p disable trigger user; rollback", "t"),
            ("truncate c", "f"),
            ("create table another (id int)", "f"),
            ("alter table p add n int", "f"),
        ] {
            story.looks();
            for part in sql.split("; ") {
                story.sql(part);
            }
            assert_eq!(story.ask("select emaj._looked('g')"), holds, "after `{sql}`");
        }
        // A column that is not captured is noted at each mark, also at one for which nobody had to look.
        story.looks();
        story.mark("again");
        assert_eq!(story.ask("select count(distinct mark_name) from emaj.emaj_mark_relation join emaj.emaj_mark on mark_id = mrel_mark where mark_name = 'again'"), "1");
        story.sql("update p set n = 1");
        refuses(story, &["emaj_rollback_group('g', 'again')"], "had columns that were not captured");
    }

    a_key_that_was_replaced_and_installed(story) {
        story.sql("create table t (id int primary key, k int not null, v text); insert into t values (1, 10, 'a'), (2, 10, 'b')");
        story.install("*");
        story.mark("m");
        story.sql("update t set k = id; alter table t drop constraint t_pkey, add primary key (k)");
        story.install("*");
        // By the new key the two rows of the mark are one: going back would lose one of them.
        refuses(story, ROLLBACKS, "t is captured only since a later moment");
        story.mark("m2");
        let (before, definitions) = (story.state(), story.definitions());
        story.sql("update t set v = 'x', k = k + 1 where k = 2; delete from t where k = 1");
        story.rollback("m2");
        story.is(&before, &definitions, "by the new key");
    }

    a_key_that_was_deferrable_and_is_not_now(story) {
        story.sql("create table t (id int primary key deferrable, v text); insert into t values (1, 'a'), (2, 'b')");
        story.install("*");
        story.mark("m");
        let before = story.state();
        story.sql("update t set id = 3 - id; alter table t drop constraint t_pkey, add primary key (id)");
        story.install("*");
        story.sql("update t set v = v || '!'");
        story.rollback("m");
        assert_eq!(story.state(), before);
    }

    a_table_written_past_its_triggers(story) {
        begin(story);
        story.sql("create table parted (id int not null, p_id int) partition by range (id); alter table parted attach partition c default; insert into parted values (9, 3)");
        story.install("*, !parted");
        refuses(story, ROLLBACKS, "c is captured only since a later moment");
    }

    capture_switched_off_and_on_by_hand(story) {
        let always = |table: &str, state: &str| {
            format!("do $$ declare t record; begin for t in select tgname from pg_trigger where tgrelid = '{table}'::regclass and tgname like '!%' and not tgisinternal loop execute format('alter table {table} {state} trigger %I', t.tgname); end loop; end $$")
        };
        story.sql("create table m (id int primary key, v int) partition by range (id); create table m_low partition of m for values from (0) to (10); create table m_high partition of m for values from (10) to (20)");
        begin(story);
        let unseen = "update p set v = 'unseen' where id = 4; insert into m values (15, 5)";
        for (table, reason) in [("p", "p: its capture triggers were switched"), ("m_high", "m: its capture triggers were switched"), ("m", "m: its capture triggers were switched")] {
            story.looks();
            story.sql(&format!("{}; {unseen}; {}; delete from m", always(table, "disable"), always(table, "enable always")));
            refuses(story, ROLLBACKS, reason);
            refuses(story, &["emaj_set_mark_group('g', 'x')"], reason);
            let plan = story.emaj(&["plan"]).ok();
            assert!(plan.stdout.contains("was missing or switched off"), "{plan}");
            story.install("*");
            story.emaj(&["plan", "--detailed-exitcode"]).code(0);
            refuses(story, ROLLBACKS, "is captured only since a later moment");
            story.mark(&format!("after {table}"));
            let before = story.state();
            change(story);
            story.sql("insert into m values (1, 1), (11, 1)");
            story.rollback(&format!("after {table}"));
            assert_eq!(story.state(), before);
            // (For the next round.)
            story.sql("select emaj.emaj_delete_mark_group('g', 'm')");
            story.mark("m");
            change(story);
        }
        // A trigger that was made anew is noticed too; a rewritten catalogue and a new partition are no drift.
        story.sql("do $$ declare t record; begin select tgname, pg_get_triggerdef(oid) as text into t from pg_trigger where tgrelid = 'q'::regclass and tgname like '!%_ins';
            execute format('drop trigger %I on q', t.tgname); insert into q (v) values ('unseen'); execute t.text; execute format('alter table q enable always trigger %I', t.tgname); end $$");
        refuses(story, ROLLBACKS, "q: its capture triggers were switched or made anew");
        story.sql("select emaj.emaj_stop_group('g'); select emaj.emaj_start_group('g', 'again')");
        story.sql("create table m_more partition of m for values from (20) to (30); insert into m values (25, 1)");
        story.sql_as_superuser("vacuum (full, freeze) pg_trigger");
        story.mark("rewritten");
        story.emaj(&["install"]).ok();
        story.rollback("rewritten");
    }

    a_table_that_a_subscription_writes_to(story) {
        begin(story);
        story.looks();
        // (What `create subscription` writes about each table, without a server to subscribe to.)
        story.sql_as_superuser(&format!("set allow_system_table_mods = on; insert into pg_subscription_rel (srsubid, srrelid, srsubstate) values (4711, '{}.p'::regclass, 'r')", story.schema));
        refuses(story, &["emaj_set_mark_group('g', 'x')"], "p: the table has become a target of logical replication");
        refuses(story, ROLLBACKS, "p: the table has become a target of logical replication");
        story.install("*");
        refuses(story, ROLLBACKS, "p is captured only since a later moment");
        story.mark("after");
        story.emaj(&["plan", "--detailed-exitcode"]).code(0);
        story.sql_as_superuser("set allow_system_table_mods = on; delete from pg_subscription_rel");
    }

    a_log_that_a_subscription_writes_to(story) {
        begin(story);
        story.looks();
        story.sql_as_superuser("set allow_system_table_mods = on; insert into pg_subscription_rel (srsubid, srrelid, srsubstate)
            select 4711, format('emaj.%I', rel_log)::regclass, 'r' from emaj.emaj_relation where rel_name = 'p'");
        refuses(story, &["emaj_set_mark_group('g', 'x')"], "p: a subscription writes to its log");
        refuses(story, ROLLBACKS, "p: a subscription writes to its log");
        story.sql_as_superuser("set allow_system_table_mods = on; delete from pg_subscription_rel");
    }

    a_log_that_rows_of_another_database_were_loaded_into(story) {
        begin(story);
        story.sql("do $$ begin execute (select format('insert into emaj.%I (emaj_gid, emaj_txid, emaj_changed, emaj_verb, emaj_tuple, emaj_user, id) values (''0/1'', 9000000000, now(), ''INS'', ''NEW'', ''x'', 2)', rel_log)
            from emaj.emaj_relation where rel_name = 'p'); end $$");
        refuses(story, ROLLBACKS, "holds changes of transaction 9000000000, and none of this database has that number yet");
        // What the same transaction wrote before is its own.
        story.sql("begin; select emaj.emaj_stop_group('g'); select emaj.emaj_reset_group('g'); select emaj.emaj_start_group('g', 'm'); commit; begin; update p set v = 'x' where id = 2;
            select emaj.emaj_rollback_group('g', 'm'); commit");
        assert_eq!(story.ask("select v from p where id = 2"), "p2!");
    }

    capture_switched_off_and_on_by_an_install_of_another_mode(story) {
        begin(story);
        story.sql("alter table p disable trigger user; update p set v = 'unseen'");
        story.options += &format!("    table_options:\n      {}.p: {{ capture: row }}\n", story.schema);
        story.install("*");
        refuses(story, ROLLBACKS, "p is captured only since a later moment");
    }

    a_change_of_mode_alone_costs_no_mark(story) {
        begin(story);
        story.options += &format!("    table_options:\n      {}.p: {{ capture: row }}\n", story.schema);
        story.install("*");
        story.sql("update p set w = 7 where id in (1, 4); delete from p where id = 5");
        story.logged_rollback("m");
        assert_eq!(story.ask("select string_agg(v || w, ',' order by id) from p"), "p11,p22,p33,p44,p55");
    }

    a_mark_is_refused_on_a_group_that_has_drifted(story) {
        begin(story);
        story.sql("alter table p drop w cascade; alter table c disable trigger user");
        refuses(story, &["emaj_set_mark_group('g', 'x')"], "the captured column w is gone");
    }

    all_reasons_at_once(story) {
        begin(story);
        story.sql("alter table p drop w cascade; alter table c disable trigger user");
        refuses(story, ROLLBACKS, "the captured column w is gone");
        refuses(story, ROLLBACKS, "c: its capture triggers are missing or disabled");
    }

    a_lock_that_is_not_to_be_had(story) {
        begin(story);
        let mut other = match &story.role { Some(role) => story.db.client_as(role), None => story.db.client() };
        for call in ROLLBACKS {
            let everything = story.everything();
            other.batch_execute("begin; update p set v = 'held' where id = 1").unwrap();
            let code = story.fails(&format!("set lock_timeout = '50ms'; select emaj.{call}"));
            assert_eq!(code.code(), "55P03");
            other.batch_execute("rollback").unwrap();
            story.unchanged(&everything);
        }
    }
}

fn change_again(story: &mut Story<'_>) {
    story.sql("update p set w = 0; delete from q");
}
