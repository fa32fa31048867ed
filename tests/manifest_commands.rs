//! The verbs about manifests: `validate`, `schema`, `new`. What `new` writes is valid, installs, and is as it says.

use std::path::Path;

use crate::support::{self, Database, Run, emaj, emaj_alone};

const SHOP: &str = include_str!("../manifests/shop.sql");
/// Roles are of the whole cluster, which other tests use too.
const NO_ROLES: &str = "\nroles: { admin: null, viewer: null }\n";

fn validate(directory: &Path, args: &[&str]) -> Run {
    emaj_alone(directory).args(["validate"]).args(args).run()
}

#[test]
fn validate_shows_all_problems_and_says_how_many() {
    let directory = tempfile::tempdir().unwrap();
    let bad = "version: 1\ngroups:\n  shop:\n    tabels: [shop.*]\n    rollback: maybe\n";
    std::fs::write(directory.path().join("emaj.yaml"), bad).unwrap();
    let run = validate(directory.path(), &[]).code(65);
    insta::assert_snapshot!("validate", run.snapshot());
    let json = validate(directory.path(), &["-o", "json"]).code(65).stdout_json();
    assert_eq!(json["valid"], false);
    assert_eq!(json["problems"].as_array().unwrap().len(), 3);
    assert_eq!(
        (&json["problems"][1]["line"], &json["problems"][1]["nearest"]),
        (&4.into(), &"tables".into())
    );
    validate(directory.path(), &["-o", "sql"]).code(64);
    validate(directory.path(), &["missing.yaml"]).code(65);
}

#[test]
fn validate_passes_over_warnings_and_shows_them() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifest/good/warnings.yaml");
    let directory = tempfile::tempdir().unwrap();
    std::fs::copy(manifest, directory.path().join("emaj.yaml")).unwrap();
    let run = validate(directory.path(), &[]).ok();
    assert_eq!(run.stdout.matches("warning: ").count(), 4, "{run}");
    assert_eq!(
        run.stderr,
        "manifest `emaj` is valid: 1 group, 2 sinks, 1 binding; 4 warnings\n"
    );
    let json = validate(directory.path(), &["-o", "json"]).ok().stdout_json();
    assert_eq!((&json["valid"], &json["manifest"]), (&true.into(), &"emaj".into()));
}

#[test]
fn the_printed_schema_takes_the_gallery() {
    let directory = tempfile::tempdir().unwrap();
    let schema = emaj_alone(directory.path()).args(["schema"]).run().ok().stdout_json();
    assert_eq!(schema["title"], "emaj manifest, version 1");
    let validator = jsonschema::validator_for(&schema).unwrap();
    let good = serde_json::json!({ "version": 1, "groups": { "g": { "tables": ["shop.*"] } } });
    assert!(validator.is_valid(&good));
    assert!(!validator.is_valid(&serde_json::json!({ "version": 1, "gropus": {} })));
}

#[test]
fn new_writes_a_manifest_that_is_valid_and_overwrites_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let new = |args: &[&str]| emaj_alone(directory.path()).args(["new"]).args(args).run();
    new(&[]).ok();
    validate(directory.path(), &[]).ok();
    let refused = new(&[]).code(4);
    assert!(refused.stderr.contains("`--force`"), "{refused}");
    std::fs::write(directory.path().join("emaj.yaml"), "mine").unwrap();
    new(&[]).code(4);
    assert_eq!(
        std::fs::read_to_string(directory.path().join("emaj.yaml")).unwrap(),
        "mine"
    );
    new(&["--force"]).ok();
    let printed = new(&["-"]).ok();
    assert_eq!(
        printed.stdout,
        std::fs::read_to_string(directory.path().join("emaj.yaml")).unwrap()
    );
    new(&["no/such/folder.yaml"]).code(1);
    new(&["--schema-name", "shop"]).code(64);
}

/// Writes a manifest from the database, installs it without its roles, and returns its text.
fn from_db(db: &Database, role: &str, args: &[&str]) -> String {
    emaj(db).user(role).args(["new", "--from-db"]).args(args).run().ok();
    let text = std::fs::read_to_string(db.dir().join("emaj.yaml")).unwrap();
    db.file("emaj.yaml", &(text.clone() + NO_ROLES));
    emaj(db).user(role).args(["validate"]).run().ok();
    emaj(db).user(role).args(["install"]).run().ok();
    let again = emaj(db).user(role).args(["plan", "--detailed-exitcode"]).run().ok();
    assert!(!again.stderr.contains("warning"), "{again}");
    text
}

#[test]
fn new_from_the_shop_declares_what_is_there() {
    let db = support::database();
    db.client().batch_execute(SHOP).unwrap();
    let text = from_db(&db, "postgres", &[]);
    insta::assert_snapshot!("new_from_the_shop", support::redact(&text));
}

#[test]
fn new_from_odd_names_installs() {
    let db = support::database();
    let odd = r#"create schema "a.b"; create schema "on"; create schema "with
line"; create schema "it's "" odd ";
        create table "a.b"."*" (id int primary key); create table "a.b"."!x: #y" (id int primary key, "k k" text);
        create table "on"."off" ("null" int primary key); create table "with
line"."a
b" (id int primary key); create table "with
line".plain (t text);
        create table "it's "" odd "."ü\n'" (id int generated always as identity primary key);
        create unlogged table public.scratch (id int primary key)"#;
    db.client().batch_execute(odd).unwrap();
    let text = from_db(&db, "postgres", &[]);
    let status = emaj(&db).args(["status", "-o", "json"]).run().ok().stdout_json();
    let mut groups: Vec<(String, i64)> = status["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| {
            (
                group["group"].as_str().unwrap().to_owned(),
                group["tables"].as_i64().unwrap(),
            )
        })
        .collect();
    groups.sort();
    let expected = [
        ("a.b", 2),
        ("it's \" odd", 1),
        ("on", 1),
        ("public_audit", 1),
        ("with_line", 1),
        ("with_line_audit", 1),
    ];
    assert_eq!(
        groups,
        expected.map(|(name, tables)| (name.to_owned(), tables)),
        "{text}"
    );
}

#[test]
fn new_takes_only_what_the_role_may_capture_and_what_was_asked_for() {
    let db = support::database();
    db.client().batch_execute(SHOP).unwrap();
    let owner = support::owner(&db);
    owner
        .client()
        .batch_execute("create table own (id int primary key)")
        .unwrap();
    let text = from_db(&db, owner.name(), &[]);
    let groups = text.split_once("groups:\n").unwrap().1;
    assert!(
        groups.contains("# left out: table shop.orders belongs to role postgres, and "),
        "{text}"
    );
    assert!(groups.contains(&format!("- {}.own", owner.name())), "{text}");
    // What one manifest has, another one leaves out.
    let refused = emaj(&db)
        .args(["new", "--from-db", "--schema-name", owner.name(), "other.yaml"])
        .run()
        .code(4);
    assert!(
        refused.stderr.contains("has no table that role") && refused.stderr.contains(".own is in group"),
        "{refused}"
    );
    let one = emaj(&db)
        .args(["new", "--from-db", "--schema-name", "Odd Schema", "-"])
        .run()
        .ok();
    assert!(
        one.stdout.contains("Odd Name") && !one.stdout.contains("shop.orders"),
        "{one}"
    );
    let missing = emaj(&db)
        .args(["new", "--from-db", "--schema-name", "shoop", "-"])
        .run()
        .code(64);
    assert!(missing.stderr.contains("hint: schemas with tables: "), "{missing}");
}

#[test]
fn a_hint_names_the_manifest_that_was_named() {
    let db = support::database();
    db.client()
        .batch_execute("create table public.a (id int primary key)")
        .unwrap();
    db.file(
        "the shop.yaml",
        "version: 1\nroles: { admin: null, viewer: null }\ngroups: { g: { tables: [public.a] } }\n",
    );
    let run = emaj(&db).args(["drift", "the shop.yaml"]).run().code(10);
    assert!(
        run.stderr
            .ends_with("\nhint: `emaj install 'the shop.yaml'` installs it\n"),
        "{run}"
    );
    emaj(&db).args(["install", "the shop.yaml"]).run().ok();
    // What only the database knows of.
    db.psql("alter table public.a disable trigger user");
    let mark = ["mark", "set", "g", "m"];
    let run = emaj(&db).args(mark).args(["-f", "the shop.yaml"]).run().code(4);
    assert!(
        run.stderr
            .contains("`emaj install 'the shop.yaml'`; changes made meanwhile"),
        "{run}"
    );
    let run = emaj(&db).args(mark).run().code(4);
    assert!(run.stderr.contains("`emaj install`; changes made meanwhile"), "{run}");
}

#[test]
fn a_sequence_that_leaves_its_group_leaves_no_log() {
    let db = support::database();
    db.client()
        .batch_execute("create table public.a (id serial primary key)")
        .unwrap();
    let manifest = "version: 1\nroles: { admin: null, viewer: null }\ngroups: { g: { tables: [public.*] } }\n";
    db.file("emaj.yaml", manifest);
    emaj(&db).args(["install"]).run().ok();
    db.psql("alter sequence public.a_id_seq owned by none");
    let plan = emaj(&db).args(["plan"]).run().ok();
    assert!(plan.stdout.contains("sequence public.a_id_seq"), "{plan}");
    assert!(!plan.stdout.contains("its log stays"), "{plan}");
    db.client()
        .batch_execute("create table public.b (id int primary key)")
        .unwrap();
    let without = manifest.replace("public.*", "public.b");
    db.file("emaj.yaml", &without);
    let plan = emaj(&db).args(["plan"]).run().ok();
    assert!(plan.stdout.contains("its log stays"), "{plan}");
}

#[test]
fn the_history_is_kept_for_ever_or_as_long_as_a_manifest_says() {
    let db = support::database();
    db.client()
        .batch_execute("create table public.a (id int primary key); create table public.b (id int primary key)")
        .unwrap();
    let file = |name: &str, table: &str, history: &str| {
        db.file(
            &format!("{name}.yaml"),
            &format!("version: 1\nname: {name}\nroles: {{ admin: null, viewer: null }}\ngroups: {{ {table}: {{ tables: [public.{table}] }} }}\n{history}"),
        );
        let manifest = format!("{name}.yaml");
        emaj(&db).args(["install", &manifest]).run().ok();
        emaj(&db).args(["plan", &manifest, "--detailed-exitcode"]).run().code(0);
    };
    let kept = || {
        db.psql("select coalesce(param_value_interval::text, 'ever') from emaj.emaj_param where param_key = 'history_retention'")
    };
    file("one", "a", "");
    assert_eq!(kept(), "ever");
    // Where no manifest says it, it may be set by hand.
    db.psql("update emaj.emaj_param set param_value_interval = '3 months' where param_key = 'history_retention'");
    file("one", "a", "");
    file("two", "b", "");
    assert_eq!(kept(), "3 mons");
    emaj(&db).args(["uninstall", "two.yaml", "--yes"]).run().ok();
    assert_eq!(kept(), "3 mons");
    db.psql("update emaj.emaj_param set param_value_interval = null where param_key = 'history_retention'");
    db.psql("insert into emaj.emaj_hist (hist_datetime, hist_function) values (now() - interval '13 months', 'OLD')");
    let old = || db.psql("select count(*) from emaj.emaj_hist where hist_function = 'OLD'");
    emaj(&db).args(["group", "purge"]).run().ok();
    assert_eq!(old(), "1");
    file("one", "a", "history: { retention: 1 month }\n");
    // Another manifest that does not say leaves it so, and goes without changing it.
    file("two", "b", "");
    assert_eq!(kept(), "1 mon");
    // Another may say the same, and it holds until none says it.
    file("two", "b", "history: { retention: 1 month }\n");
    file("one", "a", "history: { retention: 1 month }\n");
    assert_eq!(
        db.psql("select param_manifests from emaj.emaj_param where param_key = 'history_retention'"),
        "{one,two}"
    );
    // The same said otherwise is the same.
    for same in ["30 days", "720 hours", "1 month"] {
        file("two", "b", &format!("history: {{ retention: {same} }}\n"));
        file("one", "a", &format!("history: {{ retention: {same} }}\n"));
        assert_eq!(kept(), "1 mon", "{same}");
    }
    file("two", "b", "");
    // One that says something else is refused: they would take turns.
    db.file(
        "rival.yaml",
        "version: 1\nname: two\nroles: { admin: null, viewer: null }\nhistory: { retention: 1 year }\ngroups: { b: { tables: [public.b] } }\n",
    );
    for verb in ["plan", "install"] {
        let run = emaj(&db).args([verb, "rival.yaml"]).run().code(4);
        assert!(run.stderr.contains("rival.yaml:4:23"), "{run}");
        assert!(
            run.stderr.contains("manifest `one` keeps the history for 1 mon, "),
            "{run}"
        );
        assert!(run.stderr.contains("`emaj uninstall`"), "{run}");
    }
    assert_eq!(kept(), "1 mon");
    file("one", "a", "");
    assert_eq!(kept(), "ever");
    file("two", "b", "history: { retention: 1 year }\n");
    file("one", "a", "history: { retention: 12 months }\n");
    file("one", "a", "");
    assert_eq!(kept(), "1 year");
    file("one", "a", "history: { retention: 12 months }\n");
    emaj(&db).args(["uninstall", "two.yaml", "--yes"]).run().ok();
    assert_eq!(kept(), "1 year");
    file("two", "b", "history: { retention: 1 year }\n");
    file("one", "a", "");
    emaj(&db).args(["group", "purge"]).run().ok();
    assert_eq!(old(), "0");
    emaj(&db).args(["uninstall", "two.yaml", "--yes"]).run().ok();
    assert_eq!(kept(), "ever");
}
