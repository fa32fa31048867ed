//! `emaj import --from-emaj`: what the configuration of E-Maj becomes, and what is said about what it cannot become.

use std::path::Path;

use crate::support::{self, Database, Run, emaj, emaj_alone};

const GROUPS: &str = r#"{
  "_comment": "Generated on database shop with E-Maj version 4.5.0",
  "tables_groups": [
    { "group": "orders", "is_rollbackable": true, "comment": "what: #people order\nand pay",
      "tables": [
        { "schema": "app", "table": "customer", "priority": 1 },
        { "schema": "app", "table": "Order: \"x\"", "log_data_tablespace": "fast", "log_index_tablespace": "fast",
          "ignored_triggers": [ "Stamp it", { "trigger": "audit" } ] }
      ],
      "sequences": [ { "schema": "app", "sequence": "Order No" } ] },
    { "group": " odd\nname ", "is_rollbackable": false, "tables": [ { "schema": "app", "table": "*" } ] }
  ]
}"#;

const PARAMETERS: &str = r#"{ "_comment": "x", "_help": "y", "parameters": [
  { "key": "history_retention", "value": "1 year 6 mons" },
  { "key": "dblink_user_password", "value": "user=me password=hunter2" },
  { "key": "alter_log_table", "value": "ADD COLUMN who TEXT DEFAULT current_setting('app.user', true)" },
  { "key": "avg_fkey_check_duration", "value": "00:00:00.00002" },
  { "key": "brand_new", "value": "hunter2" }
] }"#;

const TABLES: &str = r#"create schema app;
    create table app.customer (id serial primary key, name text);
    create sequence app."Order No";
    create table app."Order: ""x""" (id int primary key default nextval('app."Order No"'), customer int references app.customer, seen int default 0);
    create table app."*" (note text);
    create function app.stamp() returns trigger language plpgsql as $$ begin new.seen := old.seen + 1; return new; end $$;
    create trigger "Stamp it" before update on app."Order: ""x""" for each row execute function app.stamp();
    create trigger audit before update on app."Order: ""x""" for each row execute function pg_catalog.suppress_redundant_updates_trigger();"#;

/// Roles are of the whole cluster, which other tests use too.
const NO_ROLES: &str = "\nroles: { admin: null, viewer: null }\n";

fn import(directory: &Path, args: &[&str]) -> Run {
    emaj_alone(directory).args(["import", "--from-emaj"]).args(args).run()
}

/// Installs what was printed; a second plan has nothing to do.
fn install(db: &Database, yaml: &str) {
    db.file("emaj.yaml", &format!("{yaml}{NO_ROLES}"));
    emaj(db).args(["validate"]).run().ok();
    emaj(db).args(["install"]).run().ok();
    emaj(db).args(["plan", "--detailed-exitcode"]).run().ok();
}

#[test]
fn the_exports_become_a_manifest_that_installs() {
    let db = support::database();
    db.file("groups.json", GROUPS);
    db.file("parameters.json", PARAMETERS);
    let run = import(db.dir(), &["groups.json", "parameters.json"]).code(3);
    assert!(!run.to_string().contains("hunter2"), "{run}");
    insta::assert_snapshot!("import_emaj", run.stdout);
    insta::assert_snapshot!("import_emaj_said", run.stderr);
    db.psql(TABLES);
    install(&db, &run.stdout);
    let own = "select string_agg(rel_name || ':' || rel_kind::text, ',' order by rel_name collate \"C\") from emaj.emaj_relation";
    assert_eq!(db.psql(own), "*:r,Order No:S,Order: \"x\":r,customer:r");
    // The trigger that E-Maj was told to ignore fires during a rollback, the sequence goes back, the other group is audit only.
    db.psql("insert into app.customer (name) values ('a'); insert into app.\"Order: \"\"x\"\"\" (customer) values (1)");
    emaj(&db).args(["mark", "set", "orders", "m"]).run().ok();
    db.psql("update app.\"Order: \"\"x\"\"\" set customer = null; select nextval('app.\"Order No\"')");
    emaj(&db).args(["rollback", "orders", "m", "--yes"]).run().ok();
    assert_eq!(db.psql("select customer, seen from app.\"Order: \"\"x\"\"\""), "1|2");
    assert_eq!(db.psql("select last_value from app.\"Order No\""), "1");
    emaj(&db)
        .args(["rollback", "odd_name", "EMAJ_LAST_MARK", "--yes"])
        .run()
        .code(4);
}

#[test]
fn a_file_that_powershell_wrote_is_named_as_what_it_is() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("groups.json"), b"\xff\xfe{\0}\0").unwrap();
    let run = import(directory.path(), &["groups.json"]).code(65);
    assert!(
        run.stderr.contains("UTF-16") && run.stderr.contains("iconv -f utf-16 -t utf-8"),
        "{run}"
    );
}

#[test]
fn rows_of_group_def_are_read_in_each_form() {
    let directory = tempfile::tempdir().unwrap();
    let said = |name: &str, text: &str| {
        std::fs::write(directory.path().join(name), text).unwrap();
        let run = import(directory.path(), &[name]);
        std::fs::write(directory.path().join("emaj.yaml"), &run.stdout).unwrap();
        emaj_alone(directory.path()).args(["validate"]).run().ok();
        // The first lines are the file's name and what is to be said.
        let body: String = run
            .stdout
            .lines()
            .skip_while(|line| line.starts_with('#'))
            .map(|line| format!("{line}\n"))
            .collect();
        (body, run)
    };
    let (old, run) = said("0.8.txt", "g\tapp\ta\\tb\ng\tapp\ta_id_seq\nh\tapp\tc\n");
    run.ok();
    insta::assert_snapshot!("import_emaj_rows", old);
    for (name, text) in [
        ("0.8.csv", "g,app,\"a\tb\"\ng,app,a_id_seq\nh,app,c\n"),
        ("0.9.csv", "g;app;\"a\tb\";\ng;app;a_id_seq;\nh;app;c;\n"),
        (
            "head.csv",
            "grpdef_tblseq,grpdef_group,grpdef_schema\r\n\"a\tb\",g,app\r\na_id_seq,g,app\r\nc,h,app\r\n",
        ),
    ] {
        let (body, run) = said(name, text);
        run.ok();
        assert_eq!(body, old, "{name}");
    }
    // Priority, the log's own names, tablespaces.
    let (with, run) = said(
        "1.2.txt",
        "g\tapp\ta\t7\tsuffix\tprefix\tfast\t\\N\ng\tapp\tb\t\\N\t\\N\t\\N\t\\N\t\\N\n",
    );
    assert!(with.contains("app.a:\n        priority: 7\n"), "{with}");
    let run = run.code(3);
    for part in [
        "not translated: group `g`: the tablespace `fast` of the logs of 1 table",
        "the log's name or schema of 1 table is not kept",
    ] {
        assert!(run.stderr.contains(part), "{run}");
    }
    let (body, run) = said("3.1.csv", "g,app,a,7,,\n");
    run.ok();
    assert!(body.contains("priority: 7"), "{body}");
}

#[test]
fn the_tables_of_e_maj_in_a_database_are_read() {
    let db = support::database();
    db.psql(TABLES);
    db.psql(
        "create schema emaj;
         create table emaj.emaj_group_def (grpdef_group text, grpdef_schema text, grpdef_tblseq text, grpdef_priority int,
           grpdef_log_schema_suffix text, grpdef_emaj_names_prefix text, grpdef_log_dat_tsp text, grpdef_log_idx_tsp text);
         create table emaj.emaj_group (group_name text, group_is_rollbackable bool, group_is_logging bool, group_comment text);
         create table emaj.emaj_relation (rel_schema text, rel_tblseq text, rel_time_range int8range, rel_group text, rel_kind \"char\",
           rel_priority int, rel_ignored_triggers text[]);
         create table emaj.emaj_param (param_key text, param_value_text text, param_value_numeric numeric, param_value_boolean bool,
           param_value_interval interval);
         insert into emaj.emaj_group_def values ('orders', 'app', 'customer', 2), ('orders', 'app', 'customer_id_seq', null), ('orders', 'app', 'gone', null);
         insert into emaj.emaj_relation values ('app', '*', '[3,)', 'notes', 'r', 5, '{}'), ('app', 'Order: \"x\"', '[3,9)', 'notes', 'r', null, null),
           ('app', 'customer', '[1,)', 'orders', 'r', 9, null);
         insert into emaj.emaj_group values ('orders', true, true, 'ours'), ('notes', false, false, null);
         insert into emaj.emaj_param values ('version', '3.4.0', null, null, null), ('history_retention', null, null, null, '100 years'),
           ('dblink_user_password', 'user=me password=hunter2', null, null, null)",
    );
    let before = db.psql("select count(*) from pg_depend");
    let run = emaj(&db).args(["import", "--from-emaj"]).run().ok();
    assert!(!run.to_string().contains("hunter2"), "{run}");
    for part in [
        "group `orders`, app.gone: it is not in this database",
        "schema `emaj`: E-Maj owns it",
    ] {
        assert!(run.stderr.contains(part), "{run}");
    }
    let yaml = run
        .stdout
        .lines()
        .skip_while(|line| line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect::<String>();
    insta::assert_snapshot!("import_emaj_database", yaml);
    assert_eq!(db.psql("select count(*) from pg_depend"), before);
    // Beside E-Maj, in a schema of its own.
    let yaml = yaml
        .replace("      - app.gone\n", "")
        .replacen("version: 1", "version: 1\nschema: followed", 1);
    install(&db, &yaml);
    assert_eq!(
        db.psql(
            "select string_agg(group_name || ':' || group_state, ',' order by group_name) from followed.emaj_group"
        ),
        "notes:IDLE,orders:LOGGING"
    );
    let empty = support::database();
    let run = emaj(&empty).args(["import", "--from-emaj"]).run().code(10);
    assert!(run.stderr.contains("there is no E-Maj in this database"), "{run}");
    // What is called as E-Maj's is and is not.
    empty
        .client()
        .batch_execute("create table public.t (id int primary key)")
        .unwrap();
    install(&empty, "version: 1\ngroups:\n  g: { tables: [public.t] }\n");
    let run = emaj(&empty).args(["import", "--from-emaj"]).run().code(10);
    assert!(run.stderr.contains("of an installation of this program"), "{run}");
    assert!(!run.stderr.contains("drop E-Maj"), "{run}");
}

#[test]
fn what_is_no_configuration_is_one_clear_error() {
    let directory = tempfile::tempdir().unwrap();
    let cases = [
        ("{ \"tables_groups\": [ }", "bad:1:22: this is no JSON"),
        ("{}", "this is no configuration of E-Maj: it holds nothing"),
        ("{ \"people\": 1 }", "it holds `people`"),
        (
            "{ \"tables_groups\": 7 }",
            "`tables_groups`: expected a list, found a number",
        ),
        ("{ \"tables_groups\": [] }", "no group could be translated"),
        (
            "{ \"tables_groups\": [ { \"tables\": [] } ] }",
            "`tables_groups[0]`, `group`: expected a text, found nothing",
        ),
        (
            "{ \"tables_groups\": [ { \"group\": \"g\", \"tables\": [ { \"schema\": \"s\", \"table\": 1 } ] } ] }",
            "group `g`, `tables[0]`, `table`: expected a text, found a number",
        ),
        (
            "{ \"tables_groups\": [ { \"group\": \"g\", \"tables\": [ { \"schema\": \"s\", \"table\": \"t\", \"priority\": \"high\" } ] } ] }",
            "group `g`, table s.t, `priority`: expected a whole number, found a text",
        ),
        (
            "{ \"tables_groups\": [ { \"group\": \"g\" }, { \"group\": \"g\" } ] }",
            "group `g` is there twice",
        ),
        ("{ \"parameters\": [] }", "no group could be translated"),
        ("", "bad:1: the file is empty"),
        ("version: 1", "bad:1: this is no configuration of E-Maj: `version: 1`"),
        ("a,b\n", "bad:1: a row of 2 columns"),
        ("g,s,t\ng,s\n", "bad:2: 2 columns, the first line has 3"),
        ("g,s,\n", "bad:1: `grpdef_tblseq` is empty"),
        ("g,s,t,high\n", "`grpdef_priority` is `high`"),
        ("g,s,\"t\n", "bad:1: the double quote is never closed"),
        ("g\ts\tt\\\n", "bad:1: a backslash stands at the end"),
        (
            "grpdef_group,grpdef_schema\ng,s\n",
            "the heading has not one column `grpdef_tblseq`",
        ),
        (
            "grpdef_group,grpdef_schema,grpdef_tblseq\n",
            "there is a heading and no row",
        ),
    ];
    for (text, said) in cases {
        std::fs::write(directory.path().join("bad"), text).unwrap();
        let run = import(directory.path(), &["bad"]).code(65);
        assert!(run.stderr.contains(said) && run.stdout.is_empty(), "{said}\n{run}");
    }
    // All that is wrong is told at once.
    let rows = "g,s,t,1\ng,s\ng,s,,2\ng,s,u,high\n";
    let object = r#"{ "tables_groups": [
        { "tables": [] },
        { "group": "g", "is_rollbackable": 1, "tables": [ { "schema": "s" }, { "schema": "s", "table": "t", "priority": "high" } ] },
        { "group": "g", "sequences": 1 } ], "parameters": [ 1, { "key": "k", "value": [] } ] }"#;
    for (text, problems) in [
        (
            rows,
            &["bad:2: 2 columns", "bad:3: `grpdef_tblseq`", "bad:4: `grpdef_priority`"][..],
        ),
        (
            object,
            &[
                "bad: `tables_groups[0]`, `group`",
                "bad: group `g`, `is_rollbackable`",
                "bad: group `g`, `tables[0]`, `table`",
                "bad: group `g`, table s.t, `priority`",
                "bad: group `g`, `sequences`",
                "bad: group `g` is there twice",
                "bad: `parameters[0]`",
                "bad: parameter `k`",
            ],
        ),
    ] {
        std::fs::write(directory.path().join("bad"), text).unwrap();
        let run = import(directory.path(), &["bad"]).code(65);
        let told: Vec<_> = run.stderr.lines().filter(|line| !line.starts_with("hint:")).collect();
        assert_eq!(told.len(), problems.len(), "{run}");
        for (line, problem) in told.iter().zip(problems) {
            assert!(line.trim_start_matches("error: ").starts_with(problem), "{line}");
        }
    }
    std::fs::write(directory.path().join("bad"), GROUPS).unwrap();
    let run = import(directory.path(), &["bad", "bad"]).code(65);
    assert!(run.stderr.contains("group `orders` stands in two files"), "{run}");
    import(directory.path(), &["none"]).code(1);
    emaj_alone(directory.path())
        .args(["import", "--from-emaj", "bad", "--from-copiste", "bad"])
        .run()
        .code(64);
    import(directory.path(), &["bad", "--to", "emaj.yaml"]).code(3);
    let again = import(directory.path(), &["bad", "--to", "emaj.yaml"]).code(4);
    assert!(again.stderr.contains("name a file that is not there yet"), "{again}");
}

#[test]
fn hostile_texts_stay_texts() {
    let directory = tempfile::tempdir().unwrap();
    let long = "x".repeat(70);
    let text = serde_json::json!({ "new\nthing": 1, "tables_groups": [
        { "group": "true", "comment": "a: #b\n- c\u{2028}${env:HOME}", "tables": [
            { "schema": "!a", "table": "b*\n# c: d", "ignored_triggers": ["on", "a: b", long] },
            { "schema": "s", "table": long }, { "schema": "s", "table": "a\u{0}b" }, { "schema": "s", "table": "t", "priority": 3_000_000_000_i64 },
            { "schema": "s", "table": "t" } ] },
        { "group": "taken", "tables": [ { "schema": "s", "table": "t" }, { "schema": "s", "table": "u" } ] },
        { "group": "g".repeat(70), "tables": [ { "schema": "s", "table": "v" } ] },
        { "group": "sequences", "sequences": [ { "schema": "s", "sequence": "q" } ] },
        { "group": "empty" } ] });
    std::fs::write(directory.path().join("odd.json"), text.to_string()).unwrap();
    let run = import(directory.path(), &["odd.json"]).code(3);
    insta::assert_snapshot!("import_emaj_hostile", run.stdout);
    std::fs::write(directory.path().join("emaj.yaml"), &run.stdout).unwrap();
    emaj_alone(directory.path()).args(["validate"]).run().ok();
}
