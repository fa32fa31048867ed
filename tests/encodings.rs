//! Databases that do not speak UTF-8.

use crate::support::receiver::{Answer, Receiver};
use crate::support::{database, emaj, emaj_alone, run_file};
use emaj::cluster::Cluster;

#[test]
fn a_database_in_latin1_is_like_any_other() {
    let db = database();
    let name = format!("{}_latin1", db.name());
    db.psql(&format!(
        "create database {name} template template0 encoding 'LATIN1' lc_collate 'C' lc_ctype 'C'"
    ));
    db.file(
        "emaj.yaml",
        "version: 1\nroles: { admin: null, viewer: null }\ngroups: { shop: { tables: [public.*] } }\n",
    );
    let emaj = |args: &[&str]| emaj(&db).env("PGDATABASE", &name).args(args);
    let mut client = postgres::Client::connect(&format!("{} dbname='{name}'", db.conninfo()), postgres::NoTls).unwrap();
    client
        .batch_execute("create table \"caf\u{e9}\" (id int primary key, \"pr\u{ea}t\" text)")
        .unwrap();
    emaj(&["install", "emaj.yaml"]).run().ok();
    client
        .batch_execute("insert into \"caf\u{e9}\" values (1, '\u{fc}ber')")
        .unwrap();
    emaj(&["mark", "set", "shop", "m\u{fc}de"]).run().ok();
    client
        .batch_execute("update \"caf\u{e9}\" set \"pr\u{ea}t\" = '\u{df}'")
        .unwrap();
    emaj(&["verify"]).run().ok();
    emaj(&["rollback", "shop", "m\u{fc}de", "--yes"]).run().ok();
    let text: String = client
        .query_one("select \"pr\u{ea}t\" from \"caf\u{e9}\"", &[])
        .unwrap()
        .get(0);
    assert_eq!(text, "\u{fc}ber");
    emaj(&["uninstall", "emaj.yaml", "--yes"]).run().ok();
    drop(client);
    db.psql(&format!("drop database {name} with (force)"));
}

#[test]
fn in_a_database_of_no_encoding_what_is_not_utf8_is_set_aside_and_the_rest_arrives() {
    let db = database();
    let name = format!("{}_bytes", db.name());
    db.psql(&format!(
        "create database {name} template template0 encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C'"
    ));
    db.file(
        "emaj.yaml",
        "version: 1\nroles: { admin: null, viewer: null }\nsinks: { lines: { file: { path: out.ndjson } } }\nbindings:\n  \
         items: { table: public.item, to: lines, message: { body: '[\"{{ event }}\", \"{{ row.name }}\"]' } }\n  olds: { table: public.old, to: lines, message: { body: '\"{{ row.id }}\"' } }\n",
    );
    let emaj = |args: &[&str]| emaj(&db).env("PGDATABASE", &name).args(args);
    let psql = |sql: &str| {
        let conninfo = format!("{} dbname='{name}'", db.conninfo());
        let mut client = postgres::Client::connect(&conninfo, postgres::NoTls).unwrap();
        client.batch_execute(sql).unwrap();
    };
    let lines = || std::fs::read_to_string(db.dir().join("out.ndjson")).unwrap_or_default();
    let drain = || emaj(&["run", "emaj.yaml", "--until-empty"]).run();
    psql("create table item (id text primary key, name text); create table old (id text primary key)");
    psql(
        "insert into old select chr(200 + n % 30) || n from generate_series(1, 1300) n; insert into old values ('first'), ('\u{ff5e}')",
    );
    emaj(&["install", "emaj.yaml"]).run().ok();
    // (A byte from 128 on is a character of its own there.)
    psql(
        "insert into item values ('1', 'fine'), ('2', 'm' || chr(252) || 'ller'), ('k' || chr(233), 'key'), ('4', '\u{fc}ber')",
    );
    psql("insert into item values ('5', 'later')");
    drain().code(3);
    let arrived = "[\"insert\", \"fine\"]\n[\"insert\", \"\u{fc}ber\"]\n[\"insert\", \"later\"]\n";
    let mut sorted: Vec<String> = lines().lines().map(str::to_owned).collect();
    sorted.sort();
    let mut wanted: Vec<&str> = arrived.lines().collect();
    wanted.sort_unstable();
    assert_eq!(sorted, wanted);
    let failures = emaj(&["failures", "list", "-o", "json"]).run().ok().stdout_json();
    let failures = failures.as_array().unwrap();
    assert_eq!(failures.len(), 2, "{failures:?}");
    let told = |key: &str| {
        let found = failures.iter().find(|failure| failure["key"] == key);
        found.unwrap_or_else(|| panic!("{key}: {failures:?}"))["reason"].to_string()
    };
    assert!(told("[\"2\"]").contains("table public.item") && told("[\"2\"]").contains("column `name`"));
    assert!(told("[\"k\u{fffd}e9\"]").contains("column `id`"));
    // Tried again it is what it was; corrected, and given up where it was not, it goes on.
    emaj(&["failures", "retry", "--all"]).run().ok();
    drain().code(3);
    assert_eq!(lines().lines().count(), 3);
    psql("update item set name = 'mueller' where id = '2'; delete from item where id like 'k%'");
    drain().code(3);
    assert_eq!(lines().lines().count(), 3, "messages wait for a person");
    for _ in 0..2 {
        let all = emaj(&["failures", "list", "-o", "json"]).run().ok().stdout_json();
        for failure in all
            .as_array()
            .unwrap()
            .iter()
            .filter(|failure| failure["state"] == "never")
        {
            emaj(&["failures", "discard", &failure["id"].to_string(), "--yes"])
                .run()
                .ok();
        }
        drain();
    }
    drain().ok();
    psql("insert into item values ('6', 'last')");
    drain().ok();
    assert!(lines().ends_with("[\"insert\", \"last\"]\n"), "{}", lines());
    // Rows that were there before: the next part begins behind a key that cannot be read.
    let before = lines().lines().count();
    emaj(&["init", "emaj.yaml", "--binding", "olds"]).run().code(3);
    assert_eq!(lines().lines().count(), before + 2, "{}", lines());
    let failures = emaj(&["failures", "list", "-o", "json"]).run().ok().stdout_json();
    assert_eq!(failures.as_array().unwrap().len(), 1_300);
    emaj(&["uninstall", "emaj.yaml", "--yes"]).run().ok();
    db.psql(&format!("drop database {name} with (force)"));
}

#[test]
fn a_byte_that_stands_for_no_character_is_captured_and_rolled_back_and_its_row_is_set_aside() {
    let db = database();
    let name = format!("{}_win1252", db.name());
    db.psql(&format!(
        "create database {name} template template0 encoding 'WIN1252' lc_collate 'C' lc_ctype 'C'"
    ));
    db.file(
        "emaj.yaml",
        "version: 1\nroles: { admin: null, viewer: null }\ngroups: { shop: { tables: [public.*] } }\nsinks: { lines: { file: { path: out.ndjson } } }\n\
         bindings:\n  items: { table: public.item, to: lines, message: { body: '[\"{{ event }}\", \"{{ row.name }}\"]' } }\n  \
         olds: { table: public.old, to: lines, message: { body: '\"{{ row.id }}\"' } }\n",
    );
    let emaj = |args: &[&str]| emaj(&db).env("PGDATABASE", &name).args(args);
    let client = || {
        let conninfo = format!("{} dbname='{name}'", db.conninfo());
        postgres::Client::connect(&conninfo, postgres::NoTls).unwrap()
    };
    let psql = |sql: &str| client().batch_execute(sql).unwrap();
    let names = || -> Vec<String> {
        let sql = "select encode(convert_to(id || '=' || name, 'WIN1252'), 'escape') from item order by id";
        client().query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
    };
    let lines = || std::fs::read_to_string(db.dir().join("out.ndjson")).unwrap_or_default();
    let drain = || emaj(&["run", "emaj.yaml", "--until-empty"]).run();
    psql("create table item (id text primary key, name text); create table old (id text primary key)");
    psql(
        "insert into old select chr(129) || n from generate_series(1, 1300) n; insert into old values ('first'), ('\u{2122}')",
    );
    emaj(&["install", "emaj.yaml"]).run().ok();
    psql(
        "insert into item values ('1', 'fine'), ('2', 'a' || chr(129) || 'b'), ('k' || chr(144), 'key'), ('4', '5 \u{20ac}')",
    );
    let before = names();
    assert_eq!(before, ["1=fine", "2=a\\201b", "4=5 \\200", "k\\220=key"]);
    drain().code(3);
    let mut arrived: Vec<String> = lines().lines().map(str::to_owned).collect();
    arrived.sort();
    assert_eq!(arrived, ["[\"insert\", \"5 \u{20ac}\"]", "[\"insert\", \"fine\"]"]);
    let failures = emaj(&["failures", "list", "-o", "json"]).run().ok().stdout_json();
    let failures = failures.as_array().unwrap();
    assert_eq!(failures.len(), 2, "{failures:?}");
    let told = |key: &str| {
        let found = failures.iter().find(|failure| failure["key"] == key);
        found.unwrap_or_else(|| panic!("{key}: {failures:?}"))["reason"].to_string()
    };
    assert!(told("[\"2\"]").contains("table public.item") && told("[\"2\"]").contains("column `name`"));
    assert!(told("[\"k<90>\"]").contains("column `id`"));
    // Marks and rollbacks have bytes as they are.
    emaj(&["mark", "set", "shop", "m"]).run().ok();
    psql(
        "update item set name = chr(141) || name; delete from item where id like 'k%'; insert into item values ('5', chr(157))",
    );
    emaj(&["verify"]).run().ok();
    emaj(&["rollback", "shop", "m", "--yes"]).run().ok();
    assert_eq!(names(), before);
    psql("truncate item");
    emaj(&["rollback", "shop", "m", "--yes"]).run().ok();
    assert_eq!(names(), before);
    // Discarded, what came later is told again as soon as it can be.
    emaj(&["failures", "discard", "--all", "--yes"]).run().ok();
    drain();
    emaj(&["failures", "discard", "--all", "--yes"]).run().ok();
    drain().ok();
    psql("update item set name = 'mended' where id = '2'");
    drain().code(3);
    emaj(&["failures", "discard", "--all", "--yes"]).run().ok();
    psql("insert into item values ('6', 'last \u{153}')");
    drain().ok();
    assert!(lines().ends_with("[\"insert\", \"last \u{153}\"]\n"), "{}", lines());
    // Rows that were there before: the next part begins behind a key that cannot be said.
    let before = lines().lines().count();
    emaj(&["init", "emaj.yaml", "--binding", "olds"]).run().code(3);
    assert_eq!(lines().lines().count(), before + 2, "{}", lines());
    assert!(lines().contains("\"\u{2122}\""));
    let failures = emaj(&["failures", "list", "-o", "json"]).run().ok().stdout_json();
    assert_eq!(failures.as_array().unwrap().len(), 1_300);
    emaj(&["uninstall", "emaj.yaml", "--yes"]).run().ok();
    db.psql(&format!("drop database {name} with (force)"));
}

#[test]
fn what_a_sink_says_in_characters_that_the_database_does_not_have_stops_nothing() {
    let db = database();
    let name = format!("{}_said", db.name());
    db.psql(&format!(
        "create database {name} template template0 encoding 'LATIN1' lc_collate 'C' lc_ctype 'C'"
    ));
    let receiver = Receiver::start(|_, request| match request.body.contains("bad") {
        true => Answer::Say(422, "", "\u{fc}ber \u{2260} 5".to_owned()),
        false => Answer::Say(204, "", String::new()),
    });
    let manifest = |path: &str| {
        format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks: {{ hook: {{ webhook: {{ url: \"{}\" }} }}, lines: {{ file: {{ path: {path}.ndjson }} }} }}\n\
             bindings:\n  items: {{ table: public.item, to: hook, message: {{ body: '{{{{ row.name }}}}' }} }}\n  \
             lines: {{ table: public.item, to: lines, message: {{ body: '{{{{ row.name }}}}' }} }}\n",
            receiver.url()
        )
    };
    db.file("emaj.yaml", &manifest("no\u{2260}where/out"));
    let emaj = |args: &[&str]| emaj(&db).env("PGDATABASE", &name).args(args);
    let mut client = postgres::Client::connect(&format!("{} dbname='{name}'", db.conninfo()), postgres::NoTls).unwrap();
    client
        .batch_execute("create table item (id int primary key, name text)")
        .unwrap();
    emaj(&["install", "emaj.yaml"]).run().ok();
    client
        .batch_execute("insert into item values (1, 'bad'), (2, 'good')")
        .unwrap();
    let hook = ["run", "emaj.yaml", "--until-empty", "--sink", "hook"];
    emaj(&hook).run().code(3);
    assert_eq!(
        receiver.got().iter().filter(|request| request.body == "good").count(),
        1
    );
    let reasons = |client: &mut postgres::Client| -> String {
        client
            .query_one("select fail_reason from emaj.emaj_failure", &[])
            .unwrap()
            .get(0)
    };
    assert!(
        reasons(&mut client).contains("\u{fc}ber ? 5"),
        "{}",
        reasons(&mut client)
    );
    emaj(&["failures", "retry", "--all"]).run().ok();
    emaj(&hook).run().code(3);
    assert!(
        reasons(&mut client).contains("\u{fc}ber ? 5"),
        "{}",
        reasons(&mut client)
    );
    // A place that is not there.
    let run = emaj(&["run", "emaj.yaml", "--until-empty", "--sink", "lines"])
        .run()
        .code(13);
    assert!(run.stderr.contains("no\u{2260}where"), "{run}");
    drop(client);
    db.psql(&format!("drop database {name} with (force)"));
}

#[test]
fn a_character_of_several_bytes_that_utf8_lacks_has_its_row_set_aside() {
    let db = database();
    for (encoding, fine, bad) in [
        ("EUC_JP", "\u{65e5}\u{672c}\u{ff71}\u{4e02}", "a2af"),
        ("EUC_TW", "\u{4e00}\u{4e42}", "a9a1"),
        ("EUC_KR", "\u{ac00}", "a2fe"),
    ] {
        let name = format!("{}_{}", db.name(), encoding.to_lowercase());
        db.psql(&format!(
            "create database {name} template template0 encoding '{encoding}' lc_collate 'C' lc_ctype 'C'"
        ));
        db.file(
            "emaj.yaml",
            &"version: 1\nroles: { admin: null, viewer: null }\nsinks: { lines: { file: { path: ENCODING } } }\nbindings:\n  \
              items: { table: public.item, to: lines, message: { body: '[\"{{ event }}\", \"{{ row.name }}\"]' } }\n"
                .replace("ENCODING", encoding),
        );
        let emaj = |args: &[&str]| emaj(&db).env("PGDATABASE", &name).args(args);
        let psql = |sql: &str| {
            let conninfo = format!("{} dbname='{name}'", db.conninfo());
            let mut client = postgres::Client::connect(&conninfo, postgres::NoTls).unwrap();
            client.batch_execute(sql).unwrap();
        };
        let drain = || emaj(&["run", "emaj.yaml", "--until-empty"]).run();
        psql("create table item (id text primary key, name text)");
        emaj(&["install", "emaj.yaml"]).run().ok();
        psql(&format!(
            "insert into item values ('1', '{fine}'), ('2', 'a' || convert_from('\\x{bad}', '{encoding}') || 'b')"
        ));
        drain().code(3);
        let lines = || std::fs::read_to_string(db.dir().join(encoding)).unwrap();
        assert_eq!(lines(), format!("[\"insert\", \"{fine}\"]\n"), "{encoding}");
        let failures = emaj(&["failures", "list", "-o", "json"]).run().ok().stdout_json();
        let failures = failures.as_array().unwrap();
        assert_eq!(failures.len(), 1, "{failures:?}");
        assert_eq!(failures[0]["key"], "[\"2\"]");
        assert!(
            failures[0]["reason"].to_string().contains("column `name`"),
            "{failures:?}"
        );
        let shown = emaj(&["failures", "show"]).run().ok().stdout;
        let marked = format!("a<{}><{}>b", &bad[..2], &bad[2..]);
        assert!(shown.contains(&marked), "{shown}");
        emaj(&["uninstall", "emaj.yaml", "--yes"]).run().ok();
        db.psql(&format!("drop database {name} with (force)"));
    }
}

#[test]
fn rows_whose_keys_sort_otherwise_than_in_utf8_all_arrive_also_after_a_kill() {
    for (encoding, letters) in [
        ("LATIN9", "\u{20ac}\u{e9}\u{160}\u{fc}az"),
        ("KOI8R", "\u{430}\u{431}\u{432}\u{446}\u{44e}\u{44f}z"),
        ("WIN1251", "\u{401}\u{451}\u{42f}\u{430}\u{44f}z"),
        ("EUC_JP", "\u{65e5}\u{6771}\u{30a2}\u{4e9c}\u{4e02}z"),
    ] {
        let db = database();
        let name = format!("{}_{}", db.name(), encoding.to_lowercase());
        db.psql(&format!(
            "create database {name} template template0 encoding '{encoding}' lc_collate 'C' lc_ctype 'C'"
        ));
        db.file(
            "emaj.yaml",
            "version: 1\nroles: { admin: null, viewer: null }\nsinks: { lines: { file: { path: out.ndjson } } }\n\
             bindings: { items: { table: public.item, to: lines, message: { body: '\"{{ row.code }}\"' } } }\n",
        );
        let emaj = |args: &[&str]| emaj(&db).env("PGDATABASE", &name).args(args);
        let lines = || {
            let text = std::fs::read_to_string(db.dir().join("out.ndjson")).unwrap_or_default();
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let mut client =
            postgres::Client::connect(&format!("{} dbname='{name}'", db.conninfo()), postgres::NoTls).unwrap();
        client
            .batch_execute("create table item (code text primary key)")
            .unwrap();
        emaj(&["install"]).run().ok();
        // More than go at once, by one statement: all at one place in the WAL.
        client
            .execute(
                "insert into item select letter || n from unnest($1::text[]) letter, generate_series(1, 200) n",
                &[&letters.chars().map(String::from).collect::<Vec<_>>()],
            )
            .unwrap();
        let mut wanted: Vec<String> = (letters.chars())
            .flat_map(|letter| (1..=200).map(move |n| format!("\"{letter}{n}\"")))
            .collect();
        wanted.sort();
        emaj(&["run", "--until-empty"]).env("EMAJ_FAIL_AT", "chunk.noted").run();
        let there = lines().len();
        assert!(0 < there && there < wanted.len(), "{encoding}: {there}");
        let lag = emaj(&["sink", "lag", "-o", "json"]).run().ok().stdout_json();
        assert_eq!(lag[0]["changes"], wanted.len() - there, "{encoding}: {lag}");
        emaj(&["run", "--until-empty"]).run().ok();
        assert_eq!(lines(), wanted, "{encoding}");
        // What one transaction did to keys that it changed stays together.
        client
            .batch_execute("update item set code = code || 'x' where code like '%1'")
            .unwrap();
        emaj(&["run", "--until-empty"]).run().ok();
        assert_eq!(lines().len(), wanted.len() + letters.chars().count() * 20, "{encoding}");
        drop(client);
        db.psql(&format!("drop database {name} with (force)"));
    }
}

#[test]
fn the_script_of_a_plan_is_read_as_it_is_written_whatever_psql_is_used_to() {
    let db = database();
    let name = format!("{}_script", db.name());
    db.psql(&format!(
        "create database {name} template template0 encoding 'LATIN1' lc_collate 'C' lc_ctype 'C'"
    ));
    db.file(
        "emaj.yaml",
        "version: 1\nroles: { admin: null, viewer: null }\ngroups: { L\u{e4}den: { tables: [public.*], comment: Gr\u{f6}\u{df}e } }\n",
    );
    let emaj = |args: &[&str]| emaj(&db).env("PGDATABASE", &name).args(args);
    let conninfo = format!("{} dbname='{name}'", db.conninfo());
    let mut client = postgres::Client::connect(&conninfo, postgres::NoTls).unwrap();
    client
        .batch_execute("create table \"caf\u{e9}\" (id int primary key)")
        .unwrap();
    let script = emaj(&["plan", "-o", "sql"]).run().ok().stdout;
    let file = db.file("plan.sql", &script);
    run_file(&conninfo, &file, &[("PGCLIENTENCODING", "LATIN1")]);
    let row = client
        .query_one("select group_name, group_comment from emaj.emaj_group", &[])
        .unwrap();
    assert_eq!((row.get(0), row.get(1)), ("L\u{e4}den", "Gr\u{f6}\u{df}e"));
    emaj(&["plan", "--detailed-exitcode"]).run().code(0);
    drop(client);
    db.psql(&format!("drop database {name} with (force)"));
}

/// A role's name is the cluster's, and each database writes it in its own encoding.
#[test]
fn a_role_whose_name_is_in_another_encoding_is_shown_as_well_as_can_be() {
    let cluster = Cluster::builder().start().unwrap();
    let connect = |database: &str| postgres::Client::connect(&cluster.conninfo(database), postgres::NoTls).unwrap();
    let mut client = connect("postgres");
    client
        .batch_execute("create database latin template template0 encoding 'LATIN1' lc_collate 'C' lc_ctype 'C'")
        .unwrap();
    connect("latin")
        .batch_execute("create role \"m\u{fc}ller\" superuser")
        .unwrap();
    let as_it = "do $$ begin execute format('set session authorization %I', (select rolname from pg_roles where rolname like 'm%ller')); end $$;";
    drop(client);
    // (Not every driver takes it that the server says who it is working for now.)
    let psql = |sql: &str| {
        let done = cluster
            .companion(&cluster.bindir().join("psql"))
            .args([
                "-X",
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-d",
                &cluster.conninfo("postgres"),
                "-c",
                sql,
            ])
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    psql(&format!(
        "create table item (id int primary key); create schema other; {as_it} create table other.t (id serial primary key)"
    ));
    let directory = tempfile::tempdir().unwrap();
    let manifest = "version: 1\nroles: { admin: null, viewer: null }\ngroups: { shop: { tables: [public.*] } }\n";
    std::fs::write(directory.path().join("emaj.yaml"), manifest).unwrap();
    let run = |words: &[&str]| {
        emaj_alone(directory.path())
            .envs(cluster.env("postgres"))
            .args(words)
            .run()
    };
    for words in [&["plan"][..], &["new", "--from-db", "-"], &["doctor"], &["install"]] {
        run(words).ok();
    }
    run(&["mark", "set", "shop", "m"]).ok();
    psql(&format!(
        "{as_it} insert into item values (1); select emaj.emaj_set_mark_group('shop', 'its')"
    ));
    for words in [
        &["stat", "shop", "--from", "m", "--detailed"][..],
        &["mark", "list", "shop"],
        &["history"],
        &["changes", "shop", "--from", "m"],
    ] {
        let said = run(words).ok().stdout;
        assert!(said.contains("m\u{fffd}ller"), "{said}");
    }
}

#[test]
fn in_a_database_of_no_encoding_a_name_that_is_not_utf8_is_passed_over_and_said() {
    let db = database();
    let name = format!("{}_names", db.name());
    db.psql(&format!(
        "create database {name} template template0 encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C'"
    ));
    db.file(
        "emaj.yaml",
        "version: 1\nroles: { admin: null, viewer: null }\ngroups: { shop: { tables: [public.*] } }\n",
    );
    let emaj = |args: &[&str]| emaj(&db).env("PGDATABASE", &name).args(args);
    let conninfo = format!("{} dbname='{name}'", db.conninfo());
    let mut client = postgres::Client::connect(&conninfo, postgres::NoTls).unwrap();
    client
        .batch_execute(
            "create table \"gro\u{df}\" (id int primary key); create schema old;
             do $$ begin execute format('create table old.%I (id serial)', 'caf' || chr(233));
                         execute format('create table old.t (%I int)', 'caf' || chr(233)); end $$",
        )
        .unwrap();
    let plan = emaj(&["plan"]).run().ok();
    assert!(plan.stdout.contains("log of public.\"gro\u{df}\""), "{plan}");
    let note = "passed over, for names (of columns, triggers or the owner too) that are not UTF-8";
    assert!(plan.stderr.contains(note), "{plan}");
    assert!(
        plan.stderr.contains("old.\"caf\u{fffd}\"") && plan.stderr.contains("old.t"),
        "{plan}"
    );
    for words in [
        &["new", "--from-db", "-"][..],
        &["install"],
        &["doctor"],
        &["drift"],
        &["uninstall", "--yes"],
    ] {
        emaj(words).run().ok();
        if words[0] == "install" {
            // (`É` ends in a byte that is a control character in Latin 1.)
            emaj(&["mark", "set", "shop", "\u{c9}t\u{e9} \u{20ac}"]).run().ok();
            emaj(&["snap", "shop", "--dir", "snap"]).run().ok();
            emaj(&["rollback", "shop", "\u{c9}t\u{e9} \u{20ac}", "--yes"])
                .run()
                .ok();
        }
    }
    drop(client);
    db.psql(&format!("drop database {name} with (force)"));
}
