//! Columns of every type and kind, and columns that come and go.

use crate::support::story::{Story, cases, stories};

const TYPES: &str = "
    create domain positive as numeric(10, 2) check (value > 0) not null;
    create domain word as text not null default 'w';
    create domain words as word check (length(value) < 50);
    create type mood as enum ('sad', 'ok', 'happy');
    create type pair as (a int, \"B b\" text[]);
    create table t (
      id int primary key,
      b bool, ba bytea, c \"char\", n name, i2 int2, i8 int8, tx text, o oid, js json, xm xml, jb jsonb, pt point, ls lseg, pa path, bx box,
      pg polygon, ln line, ci circle, f4 float4, f8 float8, mo money, ma macaddr, ne inet, cd cidr, bp char(5), vc varchar(9), da date, ti time,
      ts timestamp, tz timestamptz, iv interval, tt timetz, bi bit(3), vb varbit, nu numeric, n2 numeric(8,3), uu uuid, tv tsvector, tq tsquery,
      ls2 pg_lsn, r4 int4range, nr numrange, mr int4multirange, ar int[], at text[][], am mood[], e mood, p pair, pp pair[], po positive, wo words, jp jsonpath, rc regclass, cu refcursor, g int generated always as (id * 2) stored);
    insert into t (id, po, wo) values (1, 1.5, 'null'), (2, 2, '');
    insert into t values (3, true, '\\x00ff00', 'x', 'name', -32768, 9223372036854775807, E'a\\n\\\\b''\"', 4294967295, '{\"b\":  1, \"a\":1, \"a\":2}', '<a> <b/></a>',
      '{\"x\": [1, 2.00, null]}', '(1.1,-0)', '[(0,0),(1,1)]', '((0,0),(1,1))', '((0,0),(1,1))', '((0,0),(1,1),(2,0))', '{1,2,3}', '<(0,0),5>', 'nan', '-0',
      '-12.34', '08:00:2b:01:02:03', '192.168.0.1/24', '10.0.0.0/8', 'ab', 'ab ', 'infinity', '24:00', '-infinity', 'infinity', '1 year 2 mons -3 days 04:05:06.789',
      '12:34:56.789+05:30', '101', '1', '1.2300', '-0.001', gen_random_uuid(), 'a:1A b:2', 'a & !b', '16/B374D848', '[1,5)', '(1.0,2.00]', '{[1,2),[5,6)}',
      '[0:2]={1,2,NULL}', '{{a,\"b,c\"},{NULL,\"NULL\"}}', '{sad,NULL}', 'happy', '(1,\"{a,\"\"b c\"\"}\")', array['(2,{})'::pair, null], 3, 'x', '$.a[*] ? (@ > 1)', 'pg_class', 'a \"cursor\"')";

cases! {
    every_type: TYPES
        => "update t set tx = 'x', js = '{\"a\":1,\"a\":2, \"b\":1}', xm = '<a> <b></b></a>', pt = '(1.1,0)', f8 = 0, nu = 1.23, f4 = null, bp = 'ab', da = '2020-01-01', iv = '14 mons -3 days 04:05:06.789', ne = '192.168.0.1/16' where id = 3;
            update t set po = 9, wo = 'y', p = '(,)', e = 'ok' where id = 1; delete from t where id = 2",
           "insert into t (id, po, wo, xm, js, pt) values (2, 2.00, 'back', '<x/>', '[]', '(0,0)'); update t set id = id + 10; update t set at = '{}', pp = '{}', vb = '', tv = '', c = '' where id = 13",
           "delete from t; insert into t (id, po, wo) values (1, 1.50, 'null')";

    every_type_as_arrays_and_with_triggers:
        &format!("{TYPES}; create function nothing() returns trigger language plpgsql as 'begin return new; end'; create trigger nothing before insert or update on t for each row execute function nothing()")
        => "update t set tx = 'x', js = '{\"a\":1,\"a\":2, \"b\":1}', xm = '<a> <b></b></a>', pt = '(1.1,0)', f8 = 0, nu = 1.23, f4 = null, da = '2020-01-01', iv = '14 mons -3 days 04:05:06.789' where id = 3;
            update t set po = 9, wo = 'y', p = '(,)', e = 'ok' where id = 1; delete from t where id = 2",
           "insert into t (id, po, wo, xm, js, pt) values (2, 2.00, 'back', '<x/>', '[]', '(0,0)'); update t set id = id + 10; update t set at = '{}', pp = '{}', vb = '', tv = '', c = '' where id = 13; update t set id = id - 10",
           "update t set ar = null, mo = 3, f4 = '-nan', pt = null; delete from t where id = 3";

    types_with_casts_that_somebody_made:
        "create type addr as (street text, nr int);
         create function addr_text(addr) returns text language sql immutable as 'select ($1).street';
         create function text_addr(text) returns addr language plpgsql immutable as 'declare a record; begin a := row($1, 0); return a; end';
         create cast (addr as text) with function addr_text(addr); create cast (text as addr) with function text_addr(text);
         create domain home as addr; create type mood as enum ('sad', 'ok'); create domain feeling as mood;
         create function mood_text(mood) returns text language sql immutable as $$select 'x'$$; create cast (mood as text) with function mood_text(mood);
         create table t (id int primary key, a addr, h home, many addr[], m mood, f feeling);
         create table k (a addr primary key, v int);
         create table net (net mood, \"50%s\" home, last addr, primary key (net, last));
         insert into t select i, ('s', i)::addr, ('h', i)::addr, array[('m', i)::addr, null], 'sad', 'sad' from generate_series(1, 4) i;
         insert into k select ('s', i)::addr, i from generate_series(1, 4) i;
         insert into net values ('sad', ('s', 1)::addr, ('l', 1)::addr), ('ok', ('s', 1)::addr, ('l', 1)::addr)"
        => "update t set a.nr = 99 where id = 1; update t set h.nr = 98, f = 'ok' where id = 2; update t set many[1].nr = 97, m = 'ok' where id = 3; delete from t where id = 4",
           "update k set a.nr = (a).nr + 10; update k set v = 0 where v = 2; update k set a.street = null where v = 3; update t set a = null, f = null where id = 2; insert into t values (5, ('s', null), null, '{}')",
           "update net set last.nr = 2 where net = 'ok'; update net set \"50%s\".nr = 7; delete from net where net = 'sad'; insert into net values ('sad', ('s', 2), ('l', 1)); update t set a.nr = -(a).nr; update t set f = 'ok'";

    blanks_at_the_end:
        "create domain padded as bpchar; create table t (id bpchar primary key, b bpchar, d padded, c char(5)); insert into t values ('1', 'a  ', 'a  ', 'a'), ('2 ', 'b', 'b', 'b')"
        => "update t set b = 'a' where id = '1'; update t set d = 'b  ' where id = '2'", "update t set b = b || ' '; update t set id = '2' where id = '2'; update t set c = 'a' where c = 'b'";

    identity_always:
        "create table t (id int generated always as identity primary key, v text); insert into t (v) values ('a'), ('b'), ('c')"
        => "delete from t where id = 1; insert into t (v) values ('d'), ('e'); update t set v = 'x' where id = 2", "update t set id = default where v = 'c'; insert into t overriding system value values (1, 'back')";

    identity_always_beside_the_key:
        "create table t (k text primary key, id int generated always as identity unique, v int); insert into t (k) values ('a'), ('b'), ('c')"
        => "update t set id = default where k = 'a'; update t set v = 1 where k = 'b'; delete from t where k = 'c'", "update t set id = default, k = k || k; insert into t (k) values ('c')";

    identity_by_default_and_serial:
        "create table t (id int generated by default as identity primary key, n bigserial, v text); insert into t (v) values ('a'), ('b')"
        => "insert into t (v) values ('c'); insert into t (id, v) values (50, 'x'); update t set n = default", "truncate t restart identity; insert into t (v) values ('q')";

    generated_columns:
        "create table t (id int primary key, a int, b int generated always as (a * 2) stored, c text generated always as (a::text || '!') stored unique, d int);
         insert into t (id, a, d) values (1, 1, 1), (2, 2, 2)"
        => "update t set a = a + 10; insert into t (id, a) values (3, 3); delete from t where id = 2", "update t set id = id + 1, d = 0 where a > 5; update t set a = -a";

    generated_columns_within_the_key:
        "create table t (grp int, name text, slug text generated always as (lower(name)) stored, v int, primary key (grp, slug));
         insert into t (grp, name, v) values (1, 'Ada', 10), (1, 'Bob', 20), (1, 'Cy', 30), (2, 'Ada', 40)"
        => "update t set v = v + 1 where name = 'Ada' and grp = 1; delete from t where name = 'Bob'; insert into t (grp, name, v) values (1, 'Zed', 99)",
           "update t set name = 'Eve' where grp = 2; update t set name = upper(name); update t set name = name || '2' where grp = 1 and v > 50", "truncate t; insert into t (grp, name) values (1, 'ada')";

    a_key_that_is_generated:
        "create table t (a int, b int generated always as (a + 1) stored primary key, c text); insert into t (a, c) values (1, 'x'), (2, 'y'), (3, 'z')"
        => "update t set c = 'w' where a = 1; delete from t where a = 2; insert into t (a) values (9)", "update t set a = a + 1 where a > 2; update t set c = null", "delete from t";

    only_a_key_and_a_generated_column:
        "create table t (id int primary key, b int generated always as (id * 2) stored); insert into t values (1), (2)"
        => "update t set id = 3 where id = 1; insert into t values (4)", "delete from t where id < 4; insert into t values (1)";

    large_values:
        "create table t (id int primary key, v text, w bytea, x text); alter table t alter v set storage external;
         insert into t select i, repeat(md5(i::text), 5000), decode(repeat(md5(i::text), 3000), 'hex'), 'x' from generate_series(1, 5) i"
        => "update t set x = 'y'; update t set v = v || 'z' where id = 1; delete from t where id = 2", "update t set w = null; insert into t values (2, repeat('a', 100000), null, 'n')";

    columns_dropped_before:
        "create table t (gone1 int, id int primary key, gone2 text, v text, gone3 point); insert into t values (1, 1, 'x', 'a', '(1,1)'), (2, 2, 'y', 'b', '(2,2)');
         alter table t drop gone1, drop gone2; alter table t drop gone3; alter table t add w int default 7; insert into t values (3, 'c')"
        => "update t set v = 'x'; delete from t where id = 1; insert into t values (4, 'd', 4)", "update t set id = id + 10, w = null";

    domains_with_checks_that_nulls_in_the_log_would_break:
        "create domain d as int not null check (value > 0); create domain dd as d check (value < 100);
         create table t (id dd primary key, v d default 5, w dd[]); insert into t values (1, 1, '{1,2}'), (2, default, null)"
        => "update t set v = 7, w = null where id = 1; truncate t; insert into t values (9)", "update t set id = 10; insert into t values (1, 1)";

    money_and_bit_keys_with_updates:
        "create table t (m money, b bit(4), v varbit, primary key (m, b, v), n int); insert into t values (1.5, '0101', '1', 1), (-3, '1111', '', 2)"
        => "update t set n = n + 1; update t set b = '0000' where n = 2", "update t set m = m * 2; delete from t where n = 3; insert into t values (7, '0000', '11', 3)";

    other_key_types:
        "create table t (a \"char\", b name, c oid, d bool, e timetz, f macaddr8, g pg_lsn, primary key (a, b, c, d, e, f, g), n int);
         insert into t values ('x', 'n', 1, true, '12:00+01', '08:00:2b:01:02:03:04:05', '0/1', 1), ('', '', 0, false, '12:00+02', '08:00:2b:01:02:03:04:06', '0/0', 2)"
        => "update t set n = n + 1; update t set e = '11:00+00' where n = 2", "update t set d = not d; update t set g = '0/2'; delete from t where n = 3; insert into t values ('x', 'n', 1, true, '12:00+01', '08:00:2b:01:02:03:04:05', '0/1', 1)";

    array_and_tsvector_keys:
        "create table t (a int[], b tsvector, c date, d time, e timestamp, f int8range, primary key (a, b, c, d, e, f), n int);
         insert into t values ('{1,2}', 'a b', 'infinity', '10:00', '-infinity', '[1,2)', 1), ('{}', '', '2020-02-02', '24:00', 'now', 'empty', 2)"
        => "update t set n = n + 1; update t set a = a || 3", "update t set c = '2000-01-01'; delete from t where n = 3";

    hstore_and_ltree:
        "create extension hstore; create table t (id int primary key, h hstore); insert into t values (1, 'a=>1, b=>NULL'), (2, '')"
        => "update t set h = h || 'c=>3'; delete from t where id = 2", "update t set h = null";
}

/// Returns a session of the application in a transaction whose snapshot stays.
fn old_snapshot(story: &Story<'_>) -> postgres::Client {
    let mut client = match &story.role {
        Some(role) => story.db.client_as(role),
        None => story.db.client(),
    };
    client
        .batch_execute(&format!(
            "set search_path = {}; begin isolation level repeatable read; select count(*) from pg_class",
            story.schema
        ))
        .unwrap();
    client
}

stories! {
    the_declaration_of_xml_comes_back(story) {
        story.sql("create table t (id int primary key, x xml); insert into t values (1, '<?xml version=\"1.0\" encoding=\"UTF-8\"?><a/>'), (2, '<?xml version=\"1.0\"?><b/>')");
        story.install("t");
        story.mark("m");
        let texts = "select x::text from t order by id";
        let before = story.ask(texts);
        assert!(before.contains("UTF-8"), "{before}");
        // In one transaction and two statements: no order is trusted, and images are told apart by their texts.
        story.sql("begin; update t set x = '<a/>' where id = 1; update t set x = '<b/>' where id = 2; commit");
        let script = story.emaj(&["changes", "g", "--from", "m", "--what", "net", "-o", "sql"]).ok();
        assert_eq!(script.stdout.matches("set x = '").count(), 2, "{script}");
        let after = story.ask(texts);
        story.logged_rollback("m");
        assert_eq!(story.ask(texts), before);
        let script = story.emaj(&["changes", "g", "--from", "m", "-o", "sql"]).ok();
        assert!(script.stdout.contains(r#"x = '<?xml version="1.0"?><b/>'::xml"#), "{script}");
        assert_ne!(after, before);
    }

    settings_that_change_what_a_text_means(story) {
        story.sql(
            "create type \"Odd t\" as enum ('a', 'B'); create type pair as (a int);
             create table t (id int primary key, x xml, a text[], o \"Odd t\", p pair, f regproc, r regclass[], q text);
             create function nothing() returns trigger language plpgsql as 'begin return new; end';
             create trigger nothing before insert or update on t for each row execute function nothing();
             insert into t values (1, 'some <b>bold</b> text', '{NULL,\"NULL\"}', 'B', '(1)', (select max(oid) from pg_proc where proname = 'sum')::regproc, '{pg_class}', E'\\\\ \\'')",
        );
        story.sql("set array_nulls = off; set quote_all_identifiers = on; set standard_conforming_strings = off; set escape_string_warning = off; set transform_null_equals = on; set xmloption = document");
        story.install("*");
        story.back_and_forth(&[
            "update t set x = '<a/>', a = null, o = 'a', f = null, r = null, q = '' where id = 1",
            "delete from t",
            "insert into t (id) values (1)",
        ]);
    }

    a_session_that_quotes_every_name(story) {
        story.sql(
            "create domain \"Dom\" as text; create type en as enum ('a', 'B'); create domain den as en; create type pair as (a int, b text);
             create domain dpair as pair; create domain chosen as text check (value is not null); create domain short as varchar(4);
             create table t (id int primary key, a \"Dom\", b den, c dpair, d chosen, e short, f \"Dom\"[]);
             insert into t values (1, 'keep', 'a', '(1,x)', 'y', 'z', '{1}')",
        );
        story.install("*");
        story.sql("set quote_all_identifiers = on");
        story.back_and_forth(&[
            "update t set id = 1, a = 'changed', b = 'B', c = null, d = 'n', e = 'zz', f = null",
            "delete from t; insert into t (id, d) values (2, 'x')",
            "truncate t",
        ]);
        // And now everybody's.
        let database = story.db.name().to_owned();
        story.sql_as_superuser(&format!("alter database {database} set quote_all_identifiers = on"));
        assert_eq!(story.ask("select drift_problem from emaj._drift(array['g'])"), "");
        let run = story.emaj(&["drift", "emaj.yaml"]).ok();
        assert!(run.stderr.contains("no drift"), "{run}");
        story.mark("again");
        story.sql("update t set a = 'changed'");
        story.emaj(&["changes", "g", "--from", "again"]).ok();
        let then = story.emaj(&["at", "g", "again", "select a, b, c, d, e, f from t"]).ok();
        assert!(then.stdout.contains("keep"), "{then}");
        story.emaj(&["revert", "g", "--from", "again", "--key", "id=1", "--table", &format!("{}.t", story.schema), "-y"]).ok();
        assert_eq!(story.ask("select a from t"), "keep");
    }

    other_settings_of_the_session(story) {
        story.sql(TYPES);
        story.install("*");
        story.sql("set extra_float_digits = -5; set intervalstyle = 'sql_standard'; set datestyle = 'SQL, DMY'; set timezone = 'Asia/Kolkata'; set bytea_output = 'escape'; set lc_monetary = 'C'; set xmloption = document");
        story.sql("create table x (id int primary key, f float8, f4 float4, iv interval); insert into x values (1, 0.1 + 0.2, 1.1::float4, '-1 mon +2 days')");
        story.sql("create function nothing() returns trigger language plpgsql as 'begin return new; end'; create trigger nothing before insert or update on t for each row execute function nothing()");
        story.install("*");
        story.back_and_forth(&[
            "update t set tx = 'x', f8 = 0.1 + 0.2, f4 = 1.1, iv = '-1 mon +2 days', xm = '<a/>'; update x set f = f + 1; delete from t where id = 2",
            "update t set f8 = 1e-300, ts = now(), tz = now(), ba = '\\x5c00'; update x set f4 = f4 / 3, f = f / 3, iv = iv * 3.3; insert into t (id, po, wo) values (2, 1, 'x')",
        ]);
    }

    added_after_the_install_and_taken_in(story) {
        story.sql("create table t (id int primary key, v text); insert into t values (1, 'a'), (2, 'b')");
        story.install("*");
        story.mark("m0");
        story.sql("alter table t add w int default 5");
        story.sql("update t set v = 'x' where id = 1");
        story.install("*");
        story.mark("m1");
        let (before, definitions) = (story.state(), story.definitions());
        story.sql("update t set w = 9; insert into t values (3, 'c', 3); delete from t where id = 1");
        story.logged_rollback("m1");
        story.is(&before, &definitions, "the new column goes back too");
        story.sql("update t set w = 9; insert into t values (3, 'c', 3)");
        story.logged_rollback("m0");
        assert_eq!(story.ask("select (id, v)::text from t order by id"), "(1,a)\n(2,b)", "as at the mark, where the column was not");
    }

    // Rows that cannot be updated are taken out and put in again.
    a_column_that_came_later_keeps_what_it_has(story) {
        story.sql("create table t (id int primary key, v text, n int generated always as identity); create table u (id int primary key, v int unique);
                   insert into t (id, v) select i, 'a' from generate_series(1, 4) i; insert into u select i, i from generate_series(1, 4) i");
        story.install("*");
        story.mark("m");
        let states = |story: &mut Story<'_>| story.ask("select (id, v, n)::text from t union all select u::text from (select id, v from u) u order by 1");
        let before = states(story);
        story.sql("update t set v = 'x' where id < 3; delete from t where id = 3; update u set v = 9 where id = 1; update u set v = 1 where id = 2; update u set v = 2 where id = 1");
        for table in ["t", "u"] {
            story.sql(&format!("alter table {table} add ticket uuid default gen_random_uuid(), add note text default 'old', add must int not null default 7;
                                alter table {table} alter note set default 'new'"));
        }
        story.sql("alter table u alter must drop default");
        story.install("*");
        let late = "select concat('t', id, ticket, note, must) from t where id <> 3 union all select concat('u', id, ticket, note, must) from u order by 1";
        let kept = story.ask(late);
        story.logged_rollback("m");
        assert_eq!(states(story), before);
        assert_eq!(story.ask(late), kept);
        assert_eq!(story.ask("select note from t where id = 3"), "new", "a row that is put back has none but new ones");
    }

    // Its values stay, and the sequence that they are from goes on behind them; those of other columns go back.
    a_column_that_came_later_and_its_sequence(story) {
        story.sql("create sequence s; create sequence other; create table t (id int primary key, o int default nextval('other')); create table u (id int primary key);
                   insert into t select generate_series(1, 20); insert into u select generate_series(1, 20)");
        story.install("*");
        story.mark("m");
        story.sql("alter table t add n int default nextval('s') unique");
        story.install("*");
        for ways in [&[][..], &["--jobs", "2"], &["--partial"], &["--unlogged"]] {
            story.sql("delete from t where id > 10; delete from u; insert into t (id) values (99)");
            assert_eq!(story.ask("select left_relation from emaj.emaj_rollback_left(array['g'], 'm', false)"), format!("{}.s", story.schema));
            for look in ["--dry-run", "--estimate"] {
                let would = story.emaj(&[&["rollback", "g", "m", look], ways].concat()).ok();
                assert!(would.stderr.contains(&format!("warning: {}.s would be left as it is: column n of", story.schema)), "{ways:?}: {would}");
            }
            let run = story.emaj(&[&["rollback", "g", "m", "--yes", "-o", "json"], ways].concat()).ok();
            assert_eq!(run.stdout_json()["left"][0]["relation"], format!("{}.s", story.schema), "{ways:?}");
            assert!(run.stderr.contains("rolled a part of group `g` back") && run.stderr.contains("1 relation is left as it is"), "{ways:?}: {run}");
            assert_eq!(story.ask("select hist_wording like '%left as they are: %.s (column n of %' from emaj.emaj_hist where hist_function = 'ROLLBACK_GROUP' order by hist_id desc limit 1"), "t");
            assert_eq!(story.ask("select rlbk_partial from emaj.emaj_rollback order by rlbk_id desc limit 1") == "t", ways == ["--partial"]);
            let left = format!("warning: {0}.s is left as it is: column n of {0}.t came later", story.schema);
            assert!(run.stderr.contains(&left), "{ways:?}: {run}");
            assert!(!run.stderr.contains("several sessions cannot do it"), "{run}");
            assert_eq!(story.ask("select last_value from other"), "20", "{ways:?}");
            assert_eq!(story.ask("select (select count(*) from t) || ' ' || (select count(*) from u)"), "20 20", "{ways:?}");
            story.sql("begin; insert into t (id) select 100 + i from generate_series(1, 20) i; rollback");
        }
        // Two tables and the other sequence.
        assert_eq!(story.ask("select emaj.emaj_logged_rollback_group('g', 'm')"), "3");
    }

    // So also where only a partition draws from it, which has its columns in another order.
    a_column_of_a_partition_that_came_later_and_its_sequence(story) {
        story.sql("create sequence s; create table t (id int primary key, v text) partition by range (id);
                   create table t_1 (gone int, v text, id int not null); alter table t_1 drop gone; alter table t attach partition t_1 for values from (0) to (100);
                   insert into t values (1, 'a')");
        story.install("*");
        story.mark("m");
        story.sql("alter table t add n int; alter table t_1 alter n set default nextval('s')");
        story.install("*");
        story.sql("update t set n = nextval('s'), v = 'b'; insert into t_1 (id, v) values (2, 'b')");
        let left = "select format('%s: %s', left_relation, left_reason) from emaj.emaj_rollback_left(array['g'], 'm', false)";
        assert_eq!(story.ask(left), format!("{0}.s: column n of {0}.t_1 came later, and draws from it", story.schema));
        story.logged_rollback("m");
        assert_eq!(story.ask("select (t.*, last_value)::text from t, s"), "(1,a,1,2)");
    }

    // Where no identity was another, the log is not asked twice which ones were.
    an_identity_column_that_nobody_wrote_costs_nothing(story) {
        story.sql("create table t (k int primary key, n int generated always as identity, v text); insert into t (k, v) select i, 'a' from generate_series(1, 5) i;
                   create table u (k int primary key, n int, v text); insert into u select i, i, 'a' from generate_series(1, 5) i");
        story.install("*");
        story.mark("m");
        let (before, definitions) = (story.state(), story.definitions());
        story.sql("update t set v = 'b'; update u set v = 'b'; update t set v = 'c' where k = 3; update u set v = 'c' where k = 3");
        let scans = story.ask(&format!(
            "begin; select emaj.emaj_logged_rollback_group('g', 'm');
             select string_agg((seq_scan + coalesce(idx_scan, 0))::text, ' ' order by relname) from pg_stat_xact_all_tables
              where schemaname = 'emaj' and relname in ('{0}_t_log', '{0}_u_log'); commit",
            story.schema
        ));
        let (t, u) = scans.lines().last().and_then(|line| line.split_once(' ')).expect("both logs are read");
        assert_eq!(t, u, "how often the logs were read");
        story.is(&before, &definitions, "rolled back");
    }

    // An update does not write such a column: rows in which it was another are taken out and put in again, and only those. No table is made for so few.
    an_identity_column_is_written_where_it_was_another(story) {
        story.sql("create table t (k int primary key, n int generated always as identity unique, v text); insert into t (k, v) select i, 'a' from generate_series(1, 5) i;
                   create table u (k int primary key, v int unique, w text); insert into u select i, i, 'a' from generate_series(1, 3) i");
        story.install("*");
        story.mark("m");
        let (before, definitions) = (story.state(), story.definitions());
        story.sql("update t set v = 'b' where k < 3; update t set n = default, v = 'c' where k = 3; delete from t where k = 4; insert into t (k, v) values (4, 'a')");
        story.sql("update u set v = 9 where k = 1; update u set v = 1 where k = 2; update u set v = 2, w = 'b' where k = 1");
        story.sql_as_superuser(
            "create function no_table() returns event_trigger language plpgsql as $$ begin raise exception 'a table is made'; end $$;
             create event trigger no_table on ddl_command_start when tag in ('CREATE TABLE', 'CREATE TABLE AS') execute function no_table()",
        );
        story.logged_rollback("m");
        story.sql_as_superuser("drop event trigger no_table; drop function no_table");
        story.is(&before, &definitions, "rolled back");
        let done = |story: &mut Story<'_>, table: &str| {
            let log = format!("emaj.{}_{table}_log", story.schema);
            story.ask(&format!("select concat_ws(' ', k, emaj_verb) from {log} where emaj_txid = (select max(emaj_txid) from {log}) group by 1 order by 1"))
        };
        assert_eq!(done(story, "t"), "1 UPD\n2 UPD\n3 DEL\n3 INS\n4 DEL\n4 INS");
        assert_eq!(done(story, "u"), "1 DEL\n1 INS\n2 DEL\n2 INS");
        assert_eq!(story.ask("select rlbt_table || ' ' || rlbt_updated from emaj.emaj_rollback_table order by 1"), "t 4\nu 2");
    }

    // A partition that came since the install is read by name, and a snapshot that is older than the names has those of before.
    renamed_while_an_old_snapshot_writes(story) {
        story.sql("create table t (id int primary key, c text, d text) partition by range (id); create table t_low partition of t for values from (0) to (10)");
        story.install("*");
        story.sql("create table t_high (d text, id int not null, c text); alter table t attach partition t_high for values from (10) to (20); insert into t values (11, 'c', 'd'), (12, 'c', 'd')");
        story.mark("m");
        let rows = "select string_agg(concat(id, x, y), ' ' order by id) from t as t (id, x, y)";
        let before = story.ask(rows);
        let mut other = old_snapshot(story);
        story.sql("alter table t rename c to x; alter table t rename d to c; alter table t rename x to d");
        other.batch_execute("delete from t where id = 11; update t set id = 13 where id = 12; insert into t values (14, 'c', 'd'); commit").unwrap();
        story.install("*");
        story.rollback("m");
        assert_eq!(story.ask(rows), before);
    }

    a_type_changes_while_an_old_snapshot_writes(story) {
        story.sql("create table t (id int primary key, v text, k int, o varchar(5)); create table p (id int primary key, v text, k int) partition by range (id); create table p_1 partition of p default");
        story.options += &format!("    table_options: {{ {0}.t: {{ guard: false }}, {0}.p: {{ guard: false }} }}\n", story.schema);
        story.install("*, !p_1");
        let mut other = old_snapshot(story);
        story.sql("alter table t alter k type text; alter table p alter k type text; alter table t alter o type varchar(7)");
        other.batch_execute("insert into t values (1, 'a', 'b', 'c'); insert into p values (1, 'a', 'b'); update t set v = 'x'; delete from p").unwrap();
        other.batch_execute("rollback; insert into t values (1, 'a', 'b', '1234567'); insert into p values (1, 'a', 'b')").unwrap();
        // And one that is older than the install which follows the change.
        let mut other = old_snapshot(story);
        story.emaj(&["install", "--allow-destroy"]).ok();
        story.mark("m");
        let before = story.state();
        other.batch_execute("update t set v = 'new', k = 'c', o = ''; delete from p; commit").unwrap();
        other.batch_execute("update t set k = 'd'; insert into p values (2, '', '')").unwrap();
        assert_eq!(story.ask("select emaj.emaj_verify_all()"), "No error detected");
        story.rollback("m");
        assert_eq!(story.state(), before);
    }

    renamed_after_the_install(story) {
        story.sql("create table t (id int primary key, v text, w int); insert into t values (1, 'a', 1), (2, 'b', 2); create table q (id int primary key, t int references t)");
        story.install("*");
        story.mark("m0");
        story.sql("update t set v = 'x'; insert into q values (1, 1)");
        story.sql("alter table t rename v to w2; alter table t rename id to key; alter table t rename to t_new; alter table t_new rename w to v");
        story.sql("update t_new set w2 = 'y', v = v + 1; delete from t_new where key = 2; insert into t_new values (3, 'z', 3)");
        story.rollback("m0");
        assert_eq!(story.ask("select (key, w2, v)::text from t_new order by key"), "(1,a,1)\n(2,b,2)");
        assert_eq!(story.ask("select count(*) from q"), "0");
    }

    a_column_not_captured_at_the_mark_is_never_lost(story) {
        story.sql("create table t (id int primary key, v text); insert into t values (1, 'a'), (2, 'b')");
        story.install("*");
        story.sql("alter table t add w int default 5");
        story.mark("m");
        story.sql("update t set w = 77 where id = 1; delete from t where id = 1");
        let everything = story.everything();
        let refusal = story.refused("select emaj.emaj_rollback_group('g', 'm')");
        assert!(refusal.contains("columns that were not captured"), "{refusal}");
        story.unchanged(&everything);
    }

    what_a_new_column_holds_is_never_lost_with_its_row(story) {
        story.sql("create table t (id int primary key, v text); insert into t values (1, 'a'); create table u (id int primary key); insert into u values (1)");
        story.install("*");
        story.mark("m");
        story.sql("alter table t add note text; insert into t values (4, 'd', 'only here'); update t set v = 'x', note = 'and here' where id = 1");
        let (everything, after) = (story.everything(), story.state());
        let schema = story.schema.clone();
        let (hint, who) = ("`emaj install` first", story.ask("select session_user"));
        for call in ["emaj_rollback_group('g', 'm')".to_owned(), "emaj_logged_rollback_group('g', 'm')".to_owned(), "emaj_rollback_group('g', 'm', true)".to_owned(),
                     format!("emaj_check_revert_group('g', 'm', null, '{who}', null, null)"), format!("emaj_revert_group('g', 'm', null, '{who}', null, null, false)")] {
            let refusal = story.refused(&format!("select emaj.{call}"));
            assert!(refusal.contains(&format!("{schema}.t.note")) && refusal.contains(hint), "{call}: {refusal}");
            story.unchanged(&everything);
        }
        let dry = story.emaj(&["rollback", "g", "m", "--dry-run"]).code(4);
        assert!(dry.stderr.contains(hint), "{dry}");
        // What does not touch rows of that table is done.
        story.sql("delete from u");
        story.sql(&format!("select emaj.emaj_revert_group('g', 'm', null, null, '{schema}.u'::regclass, '{{\"id\": 1}}', false)"));
        story.install("*");
        story.logged_rollback("m");
        assert_eq!(story.ask("select t::text from t"), "(1,a,\"and here\")");
        let start = story.last_start_mark();
        story.logged_rollback(&start);
        assert_eq!(story.state(), after, "with all that the new column held");
    }

    nothing_but_generated_columns(story) {
        story.sql("create table t (id int primary key generated always as (7) stored, v int generated always as (8) stored); insert into t default values; create table u (id int primary key, v text); insert into u values (1, 'a')");
        story.install("*");
        story.back_and_forth(&["delete from t; update u set v = 'b'", "insert into t default values", "truncate t"]);
        story.mark("m");
        assert_eq!(story.ask("select t::text from t"), "(7,8)");
        story.sql("delete from t");
        let before = story.emaj(&["changes", "g", "--from", "m", "-o", "sql"]).ok();
        assert!(before.stdout.contains(&format!("delete from only {}.t where id = ", story.schema)), "{before}");
        story.emaj(&["revert", "g", "--from", "m", "--table", &format!("{}.t", story.schema), "--key", "id=7", "--yes"]).ok();
        assert_eq!(story.ask("select t::text from t"), "(7,8)");
        story.mark("n");
        story.sql("delete from t");
        story.mark("o");
        story.sql("insert into t default values");
        let script = story.emaj(&["changes", "g", "--from", "o", "-o", "sql"]).ok();
        assert!(script.stdout.contains(&format!("insert into {}.t default values;", story.schema)), "{script}");
        story.sql("delete from t");
        story.sql(&script.stdout);
        assert_eq!(story.ask("select t::text from t"), "(7,8)");
    }

    the_guard_keeps_captured_columns(story) {
        story.sql("create table t (id int primary key, v text, w int)");
        story.install("*");
        for change in ["alter table t drop v", "drop table t", "alter table t alter w type bigint"] {
            let code = story.fails(change);
            assert!(["2BP01", "0A000"].contains(&code.code()), "{change}: {code:?}");
        }
        story.sql("alter table t add x int; alter table t rename v to vv; insert into t values (1, 'a', 1, 1); alter table t drop x; insert into t values (2, 'b', 2)");
        story.mark("m");
        let (before, definitions) = (story.state(), story.definitions());
        story.sql("update t set vv = 'z'");
        story.rollback("m");
        story.is(&before, &definitions, "a column that was never captured came and went");
    }
}
