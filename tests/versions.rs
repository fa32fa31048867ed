//! What one version of PostgreSQL has and an older one has not. Each story begins with what is new: an older server has to refuse it, and
//! there the story ends. `./test.sh --all-versions` tells them on each.

use crate::support::story::{Story, stories};

/// Runs `sql`, which PostgreSQL knows since the version `major`; on an older one it must fail. Says whether it was done.
fn since(story: &mut Story<'_>, major: i32, sql: &str) -> bool {
    let version: i32 = story
        .ask("select current_setting('server_version_num')")
        .parse()
        .unwrap();
    let is_there = version / 10_000 >= major;
    if is_there {
        story.sql(sql);
    } else {
        story.fails(sql);
    }
    is_there
}

/// All values of a captured column were computed anew: nothing goes back over that, and nothing before it is told, until `emaj install` begins anew.
fn lost(story: &mut Story<'_>, table: &str, from: &str, marks: &[&str]) {
    let reason = "were computed anew, by another expression";
    let owner = story.role.clone().unwrap_or_else(|| "postgres".to_owned());
    let everything = story.everything();
    let drift = story.emaj(&["drift", "emaj.yaml", "--detailed-exitcode"]).code(2);
    assert!(drift.stdout.contains(reason), "{drift}");
    let question = format!("select count(*) from {table}");
    for words in [
        &["mark", "set", "g", "n"] as &[&str],
        &["rollback", "g", from, "--yes"],
        &["revert", "g", "--user", &owner, "--from", from, "--yes"],
        &["at", "g", from, &question],
        &["changes", "g", "--from", from, "--what", "net"],
        &["changes", "g", "--from", from, "-o", "sql"],
    ] {
        let refused = story.emaj(words).code(4);
        // Who reads is told first of a table that was lost before.
        let is_of_another = matches!(words[0], "at" | "changes") && refused.stderr.contains("is captured only since");
        assert!(is_of_another || refused.stderr.contains(reason), "{refused}");
    }
    if let [first, .., last] = marks {
        story
            .emaj(&["changes", "g", "--from", first, "--to", last, "--what", "net"])
            .ok();
    }
    story.unchanged(&everything);
    let plan = story.emaj(&["plan"]).ok();
    assert!(plan.stdout.contains(reason), "{plan}");
    story.emaj(&["install", "--allow-destroy"]).ok();
    for mark in marks {
        let heard = story.refused(&format!("select emaj.emaj_rollback_group('g', '{mark}')"));
        assert!(
            heard.contains(
                ".{table} is captured only since a later moment"
                    .replace("{table}", table)
                    .as_str()
            ),
            "{heard}"
        );
        story.emaj(&["at", "g", mark, &question]).code(4);
    }
    let mark = format!("after_{table}");
    story.mark(&mark);
    let rows = story.ask(&format!("select t from {table} t order by 1"));
    story.sql(&format!("update {table} set a = a + 10"));
    story.rollback(&mark);
    assert_eq!(story.ask(&format!("select t from {table} t order by 1")), rows);
}

stories! {
    keys_that_take_null_as_a_value(story) {
        if !since(story, 15, "create table t (id int primary key, a int, b int, unique nulls not distinct (a, b))") {
            return;
        }
        story.sql("insert into t values (1, null, null), (2, 1, null), (3, null, 1), (4, 2, 2)");
        story.install("*");
        story.back_and_forth(&[
            "update t set a = 9 where id = 1; update t set a = null where id = 2; insert into t values (5, 1, null)",
            "update t set b = case b when 2 then null else 2 end where id in (3, 4); delete from t where id = 2",
        ]);
    }

    foreign_keys_that_clear_one_of_their_columns(story) {
        let tables = "create table p (tenant int, id int, primary key (tenant, id));
                      create table c (id int primary key, tenant int not null, p int, foreign key (tenant, p) references p on delete set null (p))";
        if !since(story, 15, tables) {
            return;
        }
        story.sql("insert into p select 1, i from generate_series(1, 9) i; insert into c select i, 1, i from generate_series(1, 9) i");
        story.install("*");
        story.back_and_forth(&["delete from p where id < 4", "update c set p = 9 where p is null; delete from p where id = 9"]);
    }

    merge(story) {
        story.sql("create table t (id int primary key, v text)");
        let merge = "merge into t using (select i as id, 'm' || i as v from generate_series(5, 15) i) s on t.id = s.id
                     when matched and s.id % 2 = 0 then delete when matched then update set v = s.v when not matched and s.id % 2 = 1 then insert values (s.id, s.v)";
        if !since(story, 15, merge) {
            return;
        }
        story.sql("truncate t; insert into t select i, 'v' || i from generate_series(1, 10) i");
        story.install("*");
        let change_of_key = "merge into t using (values (1), (40)) s(id) on t.id = s.id when matched then update set id = 41 when not matched then insert values (s.id, 'n')";
        story.back_and_forth(&[merge, change_of_key]);
    }

    set_null_of_one_column(story) {
        story.sql("create table p (a int, b int, primary key (a, b))");
        let child = "create table c (id int primary key, a int not null, b int, foreign key (a, b) references p on delete set null (b))";
        if !since(story, 15, child) {
            return;
        }
        story.sql("insert into p values (1, 1), (1, 2); insert into c values (1, 1, 1), (2, 1, 2)");
        story.install("*");
        story.back_and_forth(&["delete from p where b = 1", "delete from p"]);
    }

    merge_into_partitions(story) {
        let tables = "create table t (id int, region text, v text, primary key (id, region)) partition by list (region);
                      create table t_eu partition of t for values in ('de', 'fr'); create table t_us partition of t for values in ('us'); create table t_rest partition of t default";
        story.sql(tables);
        let merge = "merge into t using (values (4, 'de'), (5, 'fr'), (99, 'us')) as s(id, r) on t.id = s.id and t.region = s.r
                     when matched and t.id = 4 then delete when matched then update set v = 'merged', region = 'jp' when not matched then insert values (s.id, s.r, 'm')";
        if !since(story, 15, merge) {
            return;
        }
        story.sql("truncate t; insert into t select i, (array['de', 'fr', 'us', 'jp'])[1 + i % 4], 'v' || i from generate_series(1, 20) i");
        story.install("*");
        story.back_and_forth(&[merge, "update t set v = v || '!'; delete from t where id < 4"]);
    }

    a_limit_of_time_for_transactions(story) {
        let free = "check (current_setting('transaction_timeout', true) is not distinct from '0')";
        story.sql(&format!("create table t (id int primary key, free bool {free}); create table u (id int primary key, free bool {free})"));
        if !since(story, 17, "set transaction_timeout = 0") {
            return;
        }
        story.sql("insert into t values (1), (2); insert into u values (1), (2)");
        // No transaction here takes that long; what the rows say is whether the limit held.
        story.sql_as_superuser(&format!("alter database {} set transaction_timeout = '1h'", story.db.name()));
        assert_eq!(story.db.psql("show transaction_timeout"), "1h");
        story.install("*");
        for way in [&[] as &[&str], &["--jobs", "2"]] {
            story.mark("m");
            story.sql("delete from t; delete from u");
            story.emaj(&[&["rollback", "g", "m", "--yes"], way].concat()).ok();
            assert_eq!(story.ask("select (select count(*) from t) + (select count(*) from u)"), "4");
            story.sql("select emaj.emaj_delete_mark_group('g', 'm')");
        }
    }

    members_that_may_not_act_as_the_owner(story) {
        let boss = format!("{}_boss", story.db.name());
        let owner = story.role.clone().unwrap_or_else(|| "postgres".to_owned());
        story.sql("create table t (id int primary key)");
        story.install("*");
        story.sql_as_superuser(&format!("create role {boss} login"));
        let granted = story.db.client().batch_execute(&format!("grant {owner} to {boss} with set false, inherit false"));
        if story.ask("select current_setting('server_version_num')::int >= 160000") != "t" {
            granted.unwrap_err();
        } else {
            granted.unwrap();
            let run = |args: &[&str]| crate::support::emaj(story.db).user(&boss).args(args).run().code(12);
            for verb in ["plan", "install", "uninstall"] {
                let refused = run(&[verb]);
                // A superuser is nobody's to grant.
                let way = match story.role {
                    Some(_) => format!("connect as {owner}, or: grant {owner} to {boss} with set true"),
                    None => format!("connect as {owner}"),
                };
                assert!(refused.stderr.contains(&way), "{refused}");
            }
            let doctor = run(&["doctor"]);
            let way = match story.role {
                Some(_) => format!("grant {owner} to {boss} with inherit true, set true;"),
                None => format!("connect as {owner}"),
            };
            assert!(doctor.stdout.contains(&way), "{doctor}");
            story.sql_as_superuser(&format!("grant {owner} to {boss} with set true"));
            crate::support::emaj(story.db).user(&boss).args(["plan", "--detailed-exitcode"]).run().ok();
        }
        story.sql_as_superuser(&format!("drop role {boss}"));
    }

    a_right_to_maintain_is_the_owners(story) {
        story.sql("create table t (id int primary key)");
        if !since(story, 17, "grant maintain on t to public") {
            return;
        }
        let other = format!("{}_other", story.db.name());
        story.sql_as_superuser(&format!("create role {other}"));
        story.install("t");
        let log = story.ask("select format('emaj.%I', rel_log) from emaj.emaj_relation where rel_name = 't'");
        // Whoever has it may lock a log, and with it every writer of the table.
        story.sql(&format!("grant select, maintain on {log}, emaj.emaj_mark to {other}"));
        let said = story.ask("select * from emaj.emaj_verify_all()");
        assert!(said.contains(&format!("{log}: {other} may do what only the owner is to do: maintain")), "{said}");
        let plan = story.emaj(&["plan"]).ok();
        assert!(plan.stdout.contains(&format!("revokes from {other}: maintain on 2 tables")), "{plan}");
        story.emaj(&["install"]).ok();
        assert_eq!(story.ask(&format!("select not has_table_privilege('{other}', '{log}', 'maintain') and has_table_privilege('{other}', '{log}', 'select')")), "t");
        assert_eq!(story.ask("select * from emaj.emaj_verify_all()"), "No error detected");
        story.sql_as_superuser(&format!("drop owned by {other}; drop role {other}"));
    }

    members_without_the_rights_of_the_owner(story) {
        let (keeper, other) = (format!("{}_keeper", story.db.name()), format!("{}_other", story.db.name()));
        story.sql_as_superuser(&format!("create role {keeper}; create role {other} login; grant create on database {} to {other}", story.db.name()));
        let granted = story.db.client().batch_execute(&format!("grant {keeper} to {other} with inherit false, set true"));
        if story.ask("select current_setting('server_version_num')::int >= 160000") == "t" {
            granted.unwrap();
            story.sql_as_superuser(&format!("create schema kept authorization {keeper}; set role {keeper}; create table kept.t (id int primary key)"));
            story.sql_as_superuser(&format!("grant usage on schema kept to {other}"));
            story.db.file("emaj.yaml", "version: 1\nroles: { admin: null, viewer: null }\ngroups:\n  g: { tables: [kept.t] }\n");
            let run = |args: &[&str]| crate::support::emaj(story.db).user(&other).args(args).run();
            let grant = format!("grant {keeper} to {other} with inherit true, set true");
            let doctor = run(&["doctor"]).code(12);
            assert!(doctor.stdout.contains(&format!("{grant};")), "{doctor}");
            let plan = run(&["plan"]).code(12);
            assert!(plan.stderr.contains(&format!("{grant}, or run this as the owner")), "{plan}");
            // What they say mends it.
            story.sql_as_superuser(&grant);
            run(&["doctor"]).ok();
            run(&["install"]).ok();
            run(&["mark", "set", "g", "m"]).ok();
            // And so does what drift says, when it is taken back.
            story.sql_as_superuser(&format!("grant {keeper} to {other} with inherit false"));
            let drift = run(&["drift"]).code(12);
            let grant = format!("grant {keeper} to {other} with inherit true");
            assert!(drift.stdout.contains(&format!("{grant}, or give it back")), "{drift}");
            story.sql_as_superuser(&grant);
            run(&["drift", "--detailed-exitcode"]).ok();
            run(&["uninstall", "--all", "--yes"]).ok();
            story.sql_as_superuser("drop schema kept cascade");
        } else {
            granted.unwrap_err();
        }
        story.sql_as_superuser(&format!("drop owned by {other}; drop role {other}; drop role {keeper}"));
    }

    identities_of_partitioned_tables(story) {
        let tables = "create table t (id int generated always as identity, v int, primary key (id)) partition by range (id);
                      create table t1 partition of t for values from (0) to (100); create table t2 partition of t default;
                      insert into t1 (v) values (1)";
        if !since(story, 17, tables) {
            return;
        }
        story.sql("insert into t (v) select i from generate_series(1, 5) i");
        story.install("t");
        story.back_and_forth(&["insert into t (v) values (7); update t set v = v + 1 where id < 4", "delete from t where id = 2; insert into t1 (v) values (8), (9)"]);
    }

    generated_columns_with_another_expression(story) {
        story.sql("create table t (id int primary key, a int, g int generated always as (a * 2) stored);
                   create table k (a int, v text, g int generated always as (a + 1) stored, primary key (g));
                   insert into t (id, a) select i, i from generate_series(1, 5) i; insert into k (a, v) select i, 'v' || i from generate_series(1, 5) i");
        if !since(story, 17, "alter table t alter column g set expression as (a * 3)") {
            return;
        }
        story.install("t, k");
        story.mark("m0");
        // One that no row is found by is computed again, by what computes it now.
        let rows = story.ask("select (id, a) from t order by id");
        story.sql("update t set a = 0 where id = 1; delete from t where id = 2; alter table t alter column g set expression as (a * 4); update t set a = 9 where id = 3");
        let past = |story: &mut Story<'_>| {
            let at = story.emaj(&["at", "g", "m0", "select id, a from t order by id", "-o", "csv"]).ok();
            assert_eq!(at.stdout, "id,a\n1,1\n2,2\n3,3\n4,4\n5,5\n", "{at}");
            // What it was, only rows that have changed would tell.
            let unknown = story.emaj(&["at", "g", "m0", "select g from t"]).code(1);
            assert!(unknown.stderr.contains("column \"g\" does not exist"), "{unknown}");
        };
        past(story);
        let net = story.emaj(&["changes", "g", "--from", "m0", "--what", "net", "-o", "json"]).ok();
        assert!(net.stderr.contains(".t.g") && !net.stdout.contains("\"g\""), "{net}");
        story.logged_rollback("m0");
        assert_eq!(story.ask("select (id, a) from t order by id"), rows);
        let plan = story.emaj(&["plan"]).ok();
        assert!(plan.stdout.contains("column g has another expression"), "{plan}");
        story.install("t, k");
        story.emaj(&["plan", "--detailed-exitcode"]).code(0);
        past(story);
        story.rollback("m0");
        assert_eq!(story.ask("select (id, a, g) from t order by id"), "(1,1,4)\n(2,2,8)\n(3,3,12)\n(4,4,16)\n(5,5,20)");
        // By a key rows are found: the log has those of before.
        story.mark("m1");
        story.sql("update k set v = 'changed' where a = 2; delete from k where a = 5");
        story.mark("m2");
        story.sql("alter table k alter column g set expression as (6 - a)");
        lost(story, "k", "m1", &["m1", "m2"]);
        story.sql("update t set a = 7 where id = 1; alter table t alter column g set expression as (a * 5); alter table t alter column g drop expression; update t set g = 0 where id < 3");
        lost(story, "t", "m1", &["m1", "m2"]);
    }

    a_generated_column_that_is_one_no_more(story) {
        story.sql("create table t (id int primary key, a int, g int generated always as (a * 2) stored); insert into t (id, a) select i, i from generate_series(1, 5) i");
        story.install("t");
        story.mark("m");
        let rows = story.ask("select t from t order by id");
        story.sql("update t set a = a + 100 where id < 4; alter table t alter column g drop expression;
                   begin; update t set g = -id where id < 3; delete from t where id = 1; insert into t values (9, 9, 9); commit");
        if story.ask("select current_setting('server_version_num')::int >= 170000") == "t" {
            // It may have had another one before.
            lost(story, "t", "m", &["m"]);
            return;
        }
        let at = story.emaj(&["at", "g", "m", "select * from t order by id", "-o", "csv"]).ok();
        assert_eq!(at.stdout, "id,a,g\n1,1,2\n2,2,4\n3,3,6\n4,4,8\n5,5,10\n", "{at}");
        story.rollback("m");
        assert_eq!(story.ask("select t from t order by id"), rows);
        story.emaj(&["plan", "--detailed-exitcode"]).code(0);
    }

    virtual_columns(story) {
        let tables = "create table t (id int primary key, a int, twice int generated always as (a * 2), b text, kept int generated always as (a + 1) stored,
                                      whole text generated always as (b || a) virtual);
                      insert into t (id, a, b) select i, i, 'b' || i from generate_series(1, 9) i";
        if !since(story, 18, tables) {
            return;
        }
        story.sql("create table parted (id int, a int, twice int generated always as (a * 2) virtual, primary key (id)) partition by range (id);
                   create table parted1 partition of parted for values from (0) to (10);
                   create table parted2 (a int, id int not null, twice int generated always as (a * 2) virtual);
                   alter table parted attach partition parted2 for values from (10) to (20);
                   insert into parted (id, a) values (1, 1), (11, 11)");
        story.install("t, parted");
        let logged = story.ask("select string_agg(attname, ' ' order by attnum) from pg_attribute
                                 where attrelid = ('emaj.' || quote_ident(current_schema() || '_t_log'))::regclass and attnum > 0 and attname !~ '^emaj_'");
        assert_eq!(logged, "id a b kept", "what is computed when it is read is not written down");
        // What stands before a captured column holds its place; what stands behind them may come and go, and capture does not mind.
        assert_eq!(story.fails("alter table t drop column twice").code(), "2BP01");
        story.sql("alter table t drop column whole; alter table t add column thrice int generated always as (a * 3)");
        let again = story.emaj(&["install"]).ok();
        assert!(!again.stdout.contains("capture function"), "{}", again.stdout);
        story.sql("update t set b = 'still written down' where id = 9; alter table t drop column thrice; update t set b = b || '!' where id = 9; \
                   alter table t add column fourfold int generated always as (a * 4) virtual; \
                   alter table t alter column twice set expression as (a * 20)");
        story.back_and_forth(&[
            "update t set a = 100 where id < 4; delete from t where id = 5; insert into t (id, a, b) values (20, 20, 'new'); update parted set a = 0",
            "update t set id = id + 1000 where id = 1; truncate parted",
        ]);
    }

    temporal_keys(story) {
        let tables = "create extension btree_gist;
                      create table room (id int, during daterange, price int, primary key (id, during without overlaps))";
        if !since(story, 18, tables) {
            return;
        }
        story.sql("create table stay (id int primary key, room int, during daterange, foreign key (room, period during) references room (id, period during));
                   create table spell (id text, at datemultirange, v int, primary key (id, at without overlaps));
                   insert into room select i, daterange('2026-01-01', '2027-01-01'), 10 * i from generate_series(1, 5) i;
                   insert into stay values (1, 1, '[2026-03-01,2026-03-08)'), (2, 3, '[2026-05-01,2026-05-08)');
                   insert into spell values ('a', '{[2026-01-01,2026-02-01), [2026-03-01,2026-04-01)}', 1)");
        story.install("*");
        story.back_and_forth(&[
            // One row becomes two, which overlap what it was: at the mark, none of them was there.
            "update room set during = '[2026-01-01,2026-07-01)' where id = 1; insert into room values (1, '[2026-07-01,2027-01-01)', 99);
             update spell set at = '{[2026-01-01,2026-01-15)}', v = 2",
            "update room set price = 0 where id = 1; delete from stay where id = 2; delete from room where id = 3;
             insert into spell values ('a', '{[2026-02-01,2026-05-01)}', 3)",
            "insert into room values (3, '[2026-05-01,2026-06-01)', 30); insert into stay values (2, 3, '[2026-05-01,2026-05-08)'); update room set id = 50 where id = 5",
        ]);
        // A range that overlaps a row's is another key, also to who looks back.
        story.sql("insert into room values (9, '[2026-01-01,2026-03-01)', 1), (9, '[2026-06-01,2026-07-01)', 2)");
        story.mark("looked_at");
        story.sql("delete from room where price = 1; insert into room values (9, '[2026-01-01,2026-02-01)', 3)");
        story.sql("update room set price = 4 where price = 3");
        let schema = story.schema.clone();
        let past = story
            .prepare(&["at", "g", "looked_at", "select price from room where id = 9 order by 1", "-o", "csv"])
            .env("PGOPTIONS", format!("-c search_path={schema},public"))
            .run()
            .ok();
        assert_eq!(past.stdout, "price\n1\n2\n");
        let script = story.emaj(&["changes", "g", "--from", "looked_at", "--what", "net", "-o", "sql"]).ok();
        assert!(!script.stdout.contains("&&"), "{script}");
    }

    temporal_keys_across_what_a_partial_rollback_leaves(story) {
        let tables = "create extension btree_gist;
                      create table room (id int, during daterange, price int, primary key (id, during without overlaps))";
        if !since(story, 18, tables) {
            return;
        }
        story.sql("create table stay (id int primary key, room int, during daterange, foreign key (room, period during) references room (id, period during));
                   insert into room select i, daterange('2026-01-01', '2027-01-01'), 10 * i from generate_series(1, 5) i;
                   insert into stay values (1, 1, '[2026-03-01,2026-08-01)'), (2, 3, '[2026-05-01,2026-05-08)')");
        // Two rows cover now what at the mark one did; and a room that was not there yet.
        story.install("room");
        story.mark("m");
        let rooms = story.ask("select r from room r order by 1");
        story.sql("begin; delete from stay where id = 1; update room set during = '[2026-01-01,2026-07-01)' where id = 1; insert into room values (1, '[2026-07-01,2027-01-01)', 99), (6, '[2026-01-01,2026-07-01)', 6);
                   insert into stay values (1, 1, '[2026-03-01,2026-08-01)'), (3, 6, '[2026-02-01,2026-03-01)'); commit");
        story.install("room, stay");
        let everything = story.everything();
        let heard = story.refused("select emaj.emaj_rollback_group('g', 'm', true)");
        assert!(heard.contains("would not hold: its rows refer to rows of") && heard.contains("that were not there at mark `m`"), "{heard}");
        story.unchanged(&everything);
        story.sql("delete from stay where id = 3");
        story.sql("select emaj.emaj_rollback_group('g', 'm', true)");
        assert_eq!(story.ask("select r from room r order by 1"), rooms);
        story.emaj(&["uninstall", "--all", "--yes"]).ok();

        story.install("stay");
        story.mark("m");
        let stays = story.ask("select s from stay s order by 1");
        story.sql("update stay set room = 2 where id = 1; update room set during = '[2026-05-01,2027-01-01)' where id = 1");
        story.install("room, stay");
        let everything = story.everything();
        let heard = story.refused("select emaj.emaj_rollback_group('g', 'm', true)");
        assert!(heard.contains("would not hold: rows of mark `m` refer to rows of"), "{heard}");
        story.unchanged(&everything);
        story.sql("insert into room values (1, '[2026-01-01,2026-05-01)', 0)");
        story.sql("select emaj.emaj_rollback_group('g', 'm', true)");
        assert_eq!(story.ask("select s from stay s order by 1"), stays);
    }

    foreign_keys_that_are_not_enforced(story) {
        let tables = "create table p (id int primary key, v int);
                      create table c (id int primary key, p int constraint loose references p not enforced)";
        if !since(story, 18, tables) {
            return;
        }
        story.sql("comment on constraint loose on c is 'for those who read'; insert into p values (1, 1), (2, 2); insert into c values (1, 1), (7, 7)");
        story.install("*");
        story.back_and_forth(&["delete from p where id = 1; insert into c values (8, 8)", "update p set id = 3 where id = 2; update c set p = 2; insert into p values (1, 10)"]);
    }

    a_foreign_key_from_outside_that_is_not_enforced_is_in_nobodys_way(story) {
        let tables = "create table p (id int primary key, v int);
                      create table outside (id int primary key, p int references p on delete set null not enforced)";
        if !since(story, 18, tables) {
            return;
        }
        story.sql("insert into p values (1, 1); insert into outside values (1, 1), (2, 2)");
        story.install("p");
        story.back_and_forth(&["insert into p values (2, 2)", "delete from p where id = 1; update p set v = 7"]);
        assert_eq!(story.ask("select string_agg(p::text, ',' order by id) from outside"), "1,2");
    }
}

stories! {
    a_virtual_column_is_computed_of_what_was(story) {
        let columns = "twice bigint generated always as (a * 2), a int, first varchar(1) collate \"C\" generated always as (left(v, 1)), v text collate \"C\"";
        let tables = format!("create table t (id int primary key, {columns});
                              create table p (id int primary key, {columns}) partition by range (id);
                              create table p0 partition of p for values from (0) to (100);
                              create table o (id int primary key, twice int)");
        if !since(story, 18, &tables) {
            return;
        }
        story.sql("insert into t (id, a, v) values (1, 1, 'a'), (2, 2, null), (3, null, 'c'); insert into p (id, a, v) select id, a, v from t; insert into o values (1, 777), (2, 2)");
        story.install("*");
        story.mark("m");
        let all = "select t::text || pg_typeof(twice) || pg_typeof(first) as x from t union all select p::text from p order by 1";
        let then = story.ask(all);
        let at = |story: &mut Story<'_>, query: &str| {
            let run = story.emaj(&["at", "g", "m", query, "-o", "csv"]).ok();
            let lines: Vec<String> = run.stdout.lines().skip(1).map(|line| line.trim_matches('"').replace("\"\"", "\"")).collect();
            lines.join("\n")
        };
        for change in [
            "select",
            "update t set a = a + 7, v = 'x' || v; update p set a = a + 7 where id < 3; delete from t where id = 3; insert into p (id, a) values (9, 9)",
            "alter table t add column later int default 5, add column sum int generated always as (a + later), add column half int generated always as (a / 2)",
        ] {
            story.sql(change);
            story.install("*");
            if !change.contains("later") {
                assert_eq!(at(story, all), then, "{change}");
            }
            // Of `o` it would be another question.
            assert_eq!(at(story, "select id from o where twice in (select twice from t)"), "2", "{change}");
        }
        // What came later is not there; nor what needs it, or what the row's table was.
        story.sql("alter table p add column part oid generated always as (tableoid)");
        story.install("*");
        for (query, answer) in [("select * from t where id = 2", "2,4,2,,,1"), ("select * from p where id = 2", "2,4,2,,")] {
            assert_eq!(at(story, query), answer);
        }
    }
}

#[test]
fn a_binding_cannot_read_a_virtual_column() {
    let db = crate::support::database();
    let mut client = db.client();
    let tables =
        "create schema app; create table app.t (id int primary key, a int, twice int generated always as (a * 2))";
    let version: i32 = db.psql("show server_version_num").parse().unwrap();
    if version < 180_000 {
        client.batch_execute(tables).unwrap_err();
        return;
    }
    client.batch_execute(tables).unwrap();
    let manifest = |body: &str| {
        format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks:\n  out: {{ file: {{ path: out.json }} }}\nbindings:\n  \
             t: {{ table: app.t, to: out, message: {{ body: '{body}' }} }}\n"
        )
    };
    db.file("emaj.yaml", &manifest("{{ row.twice }}"));
    let refused = crate::support::emaj(&db).args(["plan"]).run().code(65);
    assert!(
        refused.stderr.contains("column `twice` of table app.t is virtual"),
        "{refused}"
    );
    db.file("emaj.yaml", &manifest("{{ row.a * 2 }}"));
    crate::support::emaj(&db).args(["install"]).run().ok();
    client
        .batch_execute("insert into app.t (id, a) values (1, 21)")
        .unwrap();
    crate::support::emaj(&db)
        .args(["run", "emaj.yaml", "--until-empty"])
        .run()
        .ok();
    let said = std::fs::read_to_string(db.dir().join("out.json")).unwrap();
    assert!(said.contains("42"), "{said}");
}

#[test]
fn a_table_with_virtual_columns_only_is_as_one_without_columns() {
    let db = crate::support::database();
    let tables = "create schema app; create table app.t (id int primary key); create table app.bare ();
                  create table app.v (five int generated always as (5) virtual)";
    let version: i32 = db.psql("show server_version_num").parse().unwrap();
    if version < 180_000 {
        db.client().batch_execute(tables).unwrap_err();
        return;
    }
    db.client().batch_execute(tables).unwrap();
    let new = ["new", "--from-db", "emaj.yaml", "--schema-name", "app"];
    crate::support::emaj(&db).args(new).run().ok();
    let drafted = std::fs::read_to_string(db.dir().join("emaj.yaml")).unwrap();
    for left_out in [
        "# left out: table app.bare has no column\n",
        "# left out: table app.v has no column but virtual ones\n",
    ] {
        assert!(drafted.contains(left_out), "{drafted}");
    }
    assert!(!drafted.contains("- app.v\n"), "{drafted}");
    db.file(
        "audit.yaml",
        "version: 1\ngroups: { audit: { tables: [app.v], rollback: false } }\n",
    );
    for command in ["plan", "install"] {
        let refused = crate::support::emaj(&db).args([command, "audit.yaml"]).run().code(65);
        let reason = "table app.v has no column but virtual ones";
        assert!(refused.stderr.contains(reason), "{refused}");
    }
}
