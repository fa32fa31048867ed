//! The verbs that look at an installation: `status`, `drift`, `doctor`.

use crate::support::{self, Database, emaj};

const MANIFEST: &str = "version: 1
roles: { admin: null, viewer: null }
groups:
  shop:
    tables: [public.item]
  notes:
    tables: [public.note]
    rollback: false
";

fn installed() -> Database {
    let db = support::database();
    db.client()
        .batch_execute(
            "create table public.item (id int generated always as identity primary key, name text);
             create table public.note (t text); insert into public.item (name) select n::text from generate_series(1, 10) as n",
        )
        .unwrap();
    db.file("emaj.yaml", MANIFEST);
    emaj(&db).args(["install", "-q"]).run().ok();
    db
}

#[test]
fn status_tells_what_has_changed_since_the_last_mark() {
    let db = installed();
    let mut client = db.client();
    client
        .batch_execute(
            "select emaj.emaj_set_mark_group('shop', 'noon'); select emaj.emaj_protect_group('shop');
             update public.item set name = 'x' where id <= 4; delete from public.item where id = 9; insert into public.note values ('a')",
        )
        .unwrap();
    let run = emaj(&db).args(["status", "-o", "json"]).run().ok();
    let groups = run.stdout_json()["groups"].take();
    let shop = &groups[1];
    assert_eq!(
        (&shop["group"], &shop["manifest"], &shop["last_mark"]),
        (&"shop".into(), &"emaj".into(), &"noon".into())
    );
    assert_eq!(
        (
            &shop["tables"],
            &shop["sequences"],
            &shop["active_marks"],
            &shop["changes_since"]
        ),
        (&1.into(), &1.into(), &2.into(), &5.into())
    );
    assert_eq!(
        (&shop["protected"], &shop["rollback"], &groups[0]["rollback"]),
        (&true.into(), &true.into(), &false.into())
    );
    assert_eq!(groups[0]["changes_since"], 1);
    assert!(shop["log_bytes"].as_i64().unwrap() > 8192, "{run}");
    let table = emaj(&db).args(["status", "emaj.yaml"]).run().ok();
    assert!(
        table.stdout.contains("logging, protected") && table.stdout.contains("logging, audit only"),
        "{table}"
    );
    let csv = emaj(&db).args(["status", "-o", "csv"]).run().ok();
    let lines: Vec<&str> = csv.stdout.lines().collect();
    assert_eq!(
        lines[0],
        "group,manifest,state,tables,sequences,marks,last mark,set,changes since,log"
    );
    assert_eq!(lines.len(), 3, "a line for each group: {csv}");
    assert!(lines[1].starts_with("notes,emaj,\"logging, audit only\",1,0,"), "{csv}");
    assert!(
        lines[2].starts_with("shop,emaj,\"logging, protected\",1,1,2,noon,"),
        "{csv}"
    );
    client
        .batch_execute("select emaj.emaj_unprotect_group('shop'); select emaj.emaj_stop_group('shop', 'end')")
        .unwrap();
    let idle = emaj(&db).args(["status", "-o", "json"]).run().ok().stdout_json();
    assert_eq!(
        (&idle["groups"][1]["logging"], &idle["groups"][1]["changes_since"]),
        (&false.into(), &serde_json::Value::Null)
    );
}

#[test]
fn status_and_drift_say_where_nothing_is_installed() {
    let db = support::database();
    db.file("emaj.yaml", MANIFEST);
    for verb in ["status", "drift"] {
        let run = emaj(&db).args([verb]).run().code(10);
        assert!(run.stderr.contains("emaj is not installed in schema `emaj`"), "{run}");
    }
    // An installation would not go there.
    let run = emaj(&db)
        .env("EMAJ_SCHEMA", "elsewhere")
        .args(["status"])
        .run()
        .code(10);
    support::said(&run, "installs into the manifest's, which is `emaj`");
    assert!(!run.stderr.contains("installs it"), "{run}");
}

#[test]
fn what_an_installation_does_not_repair_is_not_said_to_be_repaired_by_it() {
    let db = installed();
    db.psql("create table emaj.mine_log (i int)");
    let run = emaj(&db).args(["drift"]).run().ok();
    support::said(
        &run,
        "hint: 1 problem found, and nothing that `emaj install` would do about it",
    );
}

#[test]
fn drift_finds_what_was_changed_behind_our_back_and_install_repairs_it() {
    let db = installed();
    let clean = emaj(&db).args(["drift", "--detailed-exitcode"]).run().ok();
    assert_eq!(clean.stderr, "no drift: 3 relations as installed\n");
    db.client()
        .batch_execute("alter table public.item disable trigger user; alter table public.note add column author text")
        .unwrap();
    let run = emaj(&db).args(["drift", "--detailed-exitcode"]).run().code(2);
    insta::assert_snapshot!("drift", run.snapshot());
    // Typed as it is said, the repair is of the same manifest, and destroys nothing by itself.
    std::fs::create_dir(db.dir().join("etc")).unwrap();
    db.file("etc/emaj.yaml", MANIFEST);
    let named = emaj(&db).args(["drift", "etc/emaj.yaml"]).run().ok();
    assert!(
        named.stderr.contains(": `emaj install etc/emaj.yaml`")
            && named.stdout.contains("  emaj install etc/emaj.yaml (DESTROYS: "),
        "{named}"
    );
    emaj(&db).args(["drift"]).run().ok();
    let json = emaj(&db).args(["drift", "-o", "json"]).run().ok().stdout_json();
    assert_eq!(json["findings"][0]["relation"], "public.item");
    assert!(json["plan"]["steps"].as_array().unwrap().len() >= 2);
    emaj(&db).args(["install", "--allow-destroy"]).run().ok();
    emaj(&db).args(["drift", "--detailed-exitcode"]).run().ok();
}

#[test]
fn drift_tells_of_a_table_that_is_gone() {
    let db = installed();
    db.client().batch_execute("drop table public.note cascade").unwrap();
    let run = emaj(&db).args(["drift"]).run().code(65);
    assert!(run.stdout.contains("the table is gone"), "{run}");
    assert!(run.stderr.contains("there is no table public.note"), "{run}");
    let status = emaj(&db).args(["status"]).run().ok();
    assert!(
        status
            .stderr
            .contains("1 inconsistency found; `emaj verify` names them"),
        "{status}"
    );
    let told = emaj(&db).args(["status", "-o", "json"]).run().ok().stdout_json();
    assert_eq!(told["inconsistencies"][0]["problem"], "the table is gone", "{told}");
    let repair = || db.psql("select verify_repair from emaj.emaj_detailed_verify_all()");
    assert_eq!(
        repair(),
        "run `emaj install`; where the manifest names it, take it out first"
    );
    db.client()
        .batch_execute("create table public.note (id int primary key)")
        .unwrap();
    assert_eq!(
        repair(),
        "another one has its name now: run `emaj install`, which captures that"
    );
    emaj(&db).args(["install", "--allow-destroy"]).run().ok();
    let status = emaj(&db).args(["status"]).run().ok();
    assert!(!status.stderr.contains("inconsistenc"), "{status}");
}

#[test]
fn what_the_doctor_prescribes_helps() {
    let db = support::database();
    let owner = support::owner(&db);
    let (name, landlord, role) = (
        owner.name(),
        format!("{}_landlord", db.name()),
        format!("{}_adm", db.name()),
    );
    db.client()
        .batch_execute(&format!(
            "create role {landlord}; grant create on schema public to {landlord};
             set role {landlord}; create table public.theirs (id int primary key); reset role;
             revoke create on database {0} from {name};
             set role {name}; create table {name}.own (id int primary key);
             alter table {name}.own enable row level security; alter table {name}.own force row level security",
            db.name()
        ))
        .unwrap();
    db.file(
        "emaj.yaml",
        &format!(
            "version: 1\nroles: {{ admin: {role}, viewer: null }}\ngroups: {{ g: {{ tables: [public.theirs, {name}.own] }} }}\n"
        ),
    );
    let doctor = || emaj(&db).user(name).args(["doctor", "-o", "json"]).run();
    emaj(&db).user(name).args(["install"]).run().code(12);
    let sick = doctor().code(12).stdout_json();
    let missing: Vec<(String, String)> = sick
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| {
            check["level"] == "missing" || check["what"].as_str().is_some_and(|what| what.starts_with("role "))
        })
        .map(|check| {
            (
                check["what"].as_str().unwrap().to_owned(),
                check["todo"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    let since_16 = db.psql("select current_setting('server_version_num')::int >= 160000") == "t";
    let acting = if since_16 { " with inherit true, set true" } else { "" };
    let expected = [
        (
            "schema emaj".to_owned(),
            format!("grant create on database {} to {name};", db.name()),
        ),
        (format!("role {role}"), format!("create role {role} nologin;")),
        ("tables".to_owned(), format!("grant {landlord} to {name}{acting};")),
        ("row level security".to_owned(), format!("alter role {name} bypassrls;")),
    ];
    assert_eq!(missing, expected);
    for (_, sql) in &missing {
        db.client().batch_execute(sql).unwrap();
    }
    let well = doctor().ok();
    assert!(well.stdout.contains("`emaj install` would take"), "{well}");
    emaj(&db).user(name).args(["install"]).run().ok();
    let after = doctor().ok();
    assert!(after.stdout.contains("the database is as the manifest says"), "{after}");
    emaj(&db).user(name).args(["uninstall", "--yes"]).run().ok();
    db.client()
        .batch_execute(&format!(
            "drop role {role}; drop owned by {landlord} cascade; drop role {landlord}"
        ))
        .unwrap();
}

#[test]
fn the_doctor_needs_no_manifest_and_knows_what_is_in_the_way() {
    let db = support::database();
    let run = emaj(&db).args(["doctor"]).run().ok();
    assert!(
        run.stdout.contains("name a manifest to have its tables checked"),
        "{run}"
    );
    db.client().batch_execute("create schema emaj").unwrap();
    let occupied = emaj(&db).args(["doctor"]).run().code(12);
    assert!(occupied.stdout.contains("holds no installation of emaj"), "{occupied}");
    let stranger = support::owner(&db);
    let strange = emaj(&db)
        .user(stranger.name())
        .args(["doctor", "-o", "json"])
        .run()
        .code(12);
    assert_eq!(strange.stdout_json()[1]["todo"], "connect as postgres");
    db.psql(&format!(
        "alter database {} set default_transaction_read_only = on",
        db.name()
    ));
    let still = emaj(&db).args(["doctor"]).run().code(12);
    assert!(still.stdout.contains("default_transaction_read_only is on"), "{still}");
}

#[test]
fn the_doctor_knows_a_restored_copy_and_a_table_without_a_key() {
    let db = installed();
    db.client()
        .batch_execute("update emaj.emaj_seal set seal_one = true")
        .unwrap();
    let copy = emaj(&db).args(["doctor"]).run().code(12);
    assert!(copy.stdout.contains("a restored copy"), "{copy}");
    let other = support::database();
    other
        .client()
        .batch_execute("create table public.note (t text)")
        .unwrap();
    other.file(
        "emaj.yaml",
        "version: 1\nroles: { admin: null, viewer: null }\ngroups: { g: { tables: [public.note] } }\n",
    );
    let keyless = emaj(&other).args(["doctor"]).run().code(12);
    assert!(keyless.stdout.contains("has no primary key"), "{keyless}");
}

#[test]
fn a_stopped_group_is_only_started_again() {
    let db = installed();
    emaj(&db).args(["group", "stop", "shop"]).run().ok();
    let steps = || {
        let plan = emaj(&db).args(["plan", "-o", "json"]).run().ok().stdout_json();
        let steps = plan["steps"].as_array().unwrap().clone();
        steps
            .iter()
            .map(|step| format!("{}: {}", step["object"], step["because"]))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        steps(),
        [r#""group shop": "its state is to be logging, and it is idle""#]
    );
    emaj(&db).args(["install"]).run().ok();
    assert_eq!(steps(), [] as [&str; 0]);

    // What is broken meanwhile is mended with it.
    emaj(&db).args(["group", "stop", "shop"]).run().ok();
    db.psql("drop trigger \"!emaj_ins\" on item");
    assert_eq!(steps().len(), 2, "{:?}", steps());
    emaj(&db).args(["install"]).run().ok();
    db.psql("insert into item (name) values ('again')");
    assert_eq!(
        db.psql("select count(*) from emaj.public_item_log where name = 'again'"),
        "1"
    );
    assert_eq!(steps(), [] as [&str; 0]);
}

#[test]
fn a_group_that_is_to_be_idle_and_logs_goes_on_and_is_named() {
    let db = installed();
    db.file(
        "emaj.yaml",
        &MANIFEST.replace("[public.item]", "[public.item]\n    state: idle"),
    );
    for verb in ["plan", "install"] {
        let run = emaj(&db).args([verb]).run().ok();
        assert!(
            run.stderr.contains("group `shop` logs, though its state here is idle"),
            "{run}"
        );
        assert!(run.stderr.contains("`emaj group stop shop`"), "{run}");
    }
    assert_eq!(
        db.psql("select group_state from emaj.emaj_group where group_name = 'shop'"),
        "LOGGING"
    );
    emaj(&db).args(["group", "stop", "shop"]).run().ok();
    let run = emaj(&db).args(["install"]).run().ok();
    assert!(!run.stderr.contains("idle"), "{run}");
    assert_eq!(
        db.psql("select group_state from emaj.emaj_group where group_name = 'shop'"),
        "IDLE"
    );
}

#[test]
fn times_are_those_of_the_person_where_they_are_shown_and_where_they_are_said() {
    let db = installed();
    db.client()
        .batch_execute(
            "update public.item set name = 'x' where id = 1; update emaj.public_item_log set emaj_changed = '2026-01-15 12:00+00';
             update emaj.emaj_mark set mark_datetime = '2026-01-15 12:00+00' where mark_group = 'shop';
             insert into emaj.emaj_hist (hist_datetime, hist_function)
             values ('2026-01-15 12:00+00', 'WINTER'), ('2025-07-15 12:00+00', 'SUMMER')",
        )
        .unwrap();
    let zone = "CET-1CEST,M3.5.0,M10.5.0/3";
    let said = |zone: &str, words: &[&str]| emaj(&db).env("TZ", zone).args(words).run().ok().stdout;
    assert!(said(zone, &["changes", "shop"]).contains("2026-01-15 13:00:00+01:00"));
    let cases = [
        (zone, "2026-01-15 12:59", "WINTER", true),
        (zone, "2026-01-15 13:01", "WINTER", false),
        (zone, "2025-07-15 13:59", "SUMMER", true),
        (zone, "2025-07-15 14:01", "SUMMER", false),
        // Who names a zone means that one.
        (zone, "2026-01-15 11:59+00", "WINTER", true),
        (zone, "2026-01-15 12:01+00", "WINTER", false),
        ("UTC0", "2026-01-15 12:01", "WINTER", false),
        ("EST5EDT", "2026-01-15 06:59", "WINTER", true),
        ("EST5EDT", "2026-01-15 07:01", "WINTER", false),
    ];
    for (zone, since, what, shown) in cases {
        let history = said(zone, &["history", "--since", since, "-o", "csv"]);
        assert_eq!(history.contains(what), shown, "{zone} {since}: {history}");
        if what == "WINTER" {
            let changes = said(zone, &["changes", "shop", "--since", since, "-o", "csv"]);
            assert_eq!(changes.lines().count() > 1, shown, "{zone} {since}: {changes}");
            let mark = said(zone, &["mark", "previous", "shop", since]);
            assert_eq!(mark.is_empty(), shown, "{zone} {since}: {mark}");
        }
    }
    assert!(said(zone, &["history", "--since", "yesterday", "-o", "csv"]).contains("INSTALL"));
    assert!(!said(zone, &["history", "--since", "tomorrow", "-o", "csv"]).contains("INSTALL"));
    let refused = emaj(&db).args(["history", "--since", "nothing"]).run().code(64);
    assert!(refused.stderr.contains("`nothing` is no time"), "{refused}");
    let refused = emaj(&db).args(["history", "--since", "infinity"]).run().code(64);
    assert!(refused.stderr.contains("`infinity` is no time"), "{refused}");
    // What the server cannot do is no mistake of the person.
    db.psql("alter function pg_catalog.make_interval rename to no_interval");
    let failed = emaj(&db).args(["history", "--since", "90min"]).run().code(1);
    assert!(failed.stderr.contains("failed to read the time `90min`"), "{failed}");
}

#[test]
fn a_schema_is_spelt_as_sql_does_everywhere() {
    let db = support::database();
    db.client()
        .batch_execute("create table public.item (id int primary key)")
        .unwrap();
    db.file(
        "odd.yaml",
        "version: 1\nschema: '\"Odd One\"'\nroles: { admin: null, viewer: null }\ngroups: { odds: { tables: [public.item] } }\n",
    );
    let said = |words: &[&str]| {
        emaj(&db)
            .env("EMAJ_SCHEMA", "\"Odd One\"")
            .args(words)
            .run()
            .ok()
            .stdout
    };
    let drafted = said(&["new", "--from-db", "-"]);
    assert!(drafted.contains("Odd One") && !drafted.contains("\"\"Odd"), "{drafted}");
    emaj(&db).args(["install", "odd.yaml", "-q"]).run().ok();
    assert!(said(&["status"]).contains("odds"));
    assert!(said(&["doctor"]).contains("is installed, owner"));
    let refused = emaj(&db).args(["doctor", "--schema", "Odd One"]).run().code(64);
    assert!(refused.stderr.contains("is not the name of a schema"), "{refused}");
}

#[test]
fn a_doctor_says_when_changes_go_by_unlogged() {
    let db = support::database();
    db.psql("create schema s; create table s.t (id int primary key)");
    db.file(
        "emaj.yaml",
        "version: 1\nroles: { admin: null, viewer: null }\ngroups: { g: { tables: [s.t] } }\n",
    );
    support::emaj(&db).args(["install"]).run().ok();
    support::emaj(&db).args(["doctor"]).run().ok();
    db.psql("alter table s.t disable trigger user");
    let unlogged = "its capture triggers are missing or disabled";
    let doctor = support::emaj(&db).args(["doctor"]).run().code(12);
    support::said(&doctor, unlogged);
}

#[test]
fn what_else_is_missing_does_not_hide_that_changes_go_by_unlogged() {
    let db = support::database();
    let owner = support::owner(&db);
    let (name, other) = (owner.name(), format!("{}_other", db.name()));
    let table = |name: &str| format!("create table {}.{name} (id int primary key)", owner.name());
    db.psql(&format!("create role {other}"));
    owner.client().batch_execute(&table("t")).unwrap();
    let manifest = |tables: &str| {
        let roles = format!("{{ admin: {0}_adm, viewer: {0}_see }}", db.name());
        db.file(
            "emaj.yaml",
            &format!("version: 1\nroles: {roles}\ngroups: {{ g: {{ tables: {tables} }} }}\n"),
        );
    };
    let doctor = || emaj(&db).user(name).args(["doctor"]).run();
    let unlogged = "its capture triggers are missing or disabled";
    manifest(&format!("[{name}.t]"));
    let installed = emaj(&db).user(name).args(["install"]).run().ok();
    support::said(&installed, "nobody but the owner can use emaj");
    // What an installation does without is a warning, and no more.
    let well = doctor().ok();
    support::said(&well, "nobody but the owner can use emaj");
    db.psql(&format!("alter table {name}.t disable trigger user"));
    support::said(&doctor().code(12), unlogged);
    db.psql(&format!(
        "{}; alter table {name}.theirs owner to {other}",
        table("theirs")
    ));
    manifest(&format!("[{name}.t, {name}.theirs]"));
    let sick = doctor().code(12);
    support::said(&sick, "may not act for the owner of");
    support::said(&sick, unlogged);
    db.psql(&format!("drop owned by {other}; drop role {other}"));
}

#[test]
fn a_plan_does_not_count_rows_of_a_table_that_nobody_has_counted() {
    let db = support::database();
    db.psql("create table t (id int primary key)");
    db.file("emaj.yaml", "version: 1\ngroups: { g: { tables: [public.t] } }\n");
    let plan = support::emaj(&db).args(["plan"]).run().ok();
    support::said(&plan, "how many there are is not known: never analyzed");
    db.psql("insert into t values (1), (2); analyze t");
    let plan = support::emaj(&db).args(["plan"]).run().ok();
    support::said(&plan, "about 2 rows");
}

/// Runs a command while another session has done `beside` and not committed yet, which it does once the command waits.
fn run_beside(db: &Database, beside: &str, args: &[&str]) -> support::Run {
    let mut open = db.client();
    open.batch_execute(&format!("begin; {beside}")).unwrap();
    emaj(db).args(args).run_while(|_| {
        support::until(&format!("{args:?} waits"), || db.waits_for_a_lock());
        open.batch_execute("commit").unwrap();
    })
}

#[test]
fn who_waits_for_a_log_that_goes_looks_again() {
    let rollback = ["rollback", "shop", "m", "--with", "notes", "--yes"];
    for (args, code) in [
        (&["status"][..], 0),
        (&["sink", "lag"], 0),
        (&["plan"], 0),
        (&["drift"], 0),
        (&["doctor"], 0),
        (&["stat", "notes"], 4),
        (&rollback, 4),
        (&[&rollback[..], &["--dry-run"]].concat(), 4),
        (&[&rollback[..], &["--jobs", "2"]].concat(), 4),
    ] {
        let db = installed();
        db.psql("alter table note add primary key (t)");
        let delivered = "sinks: { lines: { file: { path: out.ndjson } } }\nbindings: { notes: { table: public.note, to: lines, message: {} } }\n";
        db.file(
            "emaj.yaml",
            &format!("{}{delivered}", MANIFEST.replace("    rollback: false\n", "")),
        );
        emaj(&db).args(["install", "-q", "--allow-destroy"]).run().ok();
        db.psql("select emaj.emaj_set_mark_groups('{shop,notes}', 'm'); insert into note values ('a'); insert into item (name) values ('a')");
        let run = run_beside(&db, "select emaj.emaj_force_drop_group('notes')", args).code(code);
        let known = [
            "unknown group `notes`",
            "group `notes` does not exist",
            "have just changed",
        ];
        assert!(
            code == 0 || known.iter().any(|words| run.stderr.contains(words)),
            "{args:?}: {run}"
        );
    }
}
