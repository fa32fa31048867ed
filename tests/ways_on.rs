//! What an error says: where it happened, what was found, and the way on. (What is refused by the functions in SQL is in `refusals`.)

use crate::support::{Database, database, emaj, emaj_alone, owner};

const ACCOUNTS: &str = "create table account (id int primary key, holder text); insert into account select n, 'h' || n from generate_series(1, 9) n";

/// A manifest of table `account`, which goes to `sink`.
fn manifest(db: &Database, sink: &str) {
    let text = format!(
        "version: 1\nroles: {{ admin: null, viewer: null }}\ngroups: {{ bank: {{ tables: [public.account] }} }}\nsinks: {{ out: {sink} }}\n\
         bindings: {{ accounts: {{ table: public.account, to: out, row: {{}} }} }}\n"
    );
    std::fs::write(db.dir().join("emaj.yaml"), text).unwrap();
}

fn feed(db: &Database) {
    db.psql(ACCOUNTS);
    manifest(db, "{ file: { path: out.ndjson } }");
    let text = std::fs::read_to_string(db.dir().join("emaj.yaml")).unwrap();
    std::fs::write(db.dir().join("emaj.yaml"), text.replace("row: {}", "message: {}")).unwrap();
}

#[test]
fn an_install_that_fails_at_a_function_names_it_and_what_uses_it() {
    let db = database();
    feed(&db);
    emaj(&db).args(["install"]).run().ok();
    db.psql("create view mine as select * from emaj.emaj_log_stat_group('bank', '', '')");
    // As if another version had been installed.
    db.psql("update pg_proc set prosrc = prosrc || ' ' where oid = 'emaj.emaj_log_stat_group'::regproc");
    let run = emaj(&db).args(["install"]).run().code(1);
    assert!(
        run.stderr
            .contains("failed to replace function emaj.emaj_log_stat_group"),
        "{run}"
    );
    assert!(run.stderr.contains("view public.mine depends on"), "{run}");
    assert!(
        run.stderr
            .contains("hint: nothing was changed; drop what depends on it"),
        "{run}"
    );
    assert!(
        !run.stderr.contains("CASCADE"),
        "the server's hint would take the view away: {run}"
    );
    db.psql("drop view mine");
    emaj(&db).args(["install"]).run().ok();
    emaj(&db).args(["plan", "--detailed-exitcode"]).run().code(0);
}

#[test]
fn a_log_that_cannot_be_read_is_named_with_its_table_and_group() {
    let db = database();
    feed(&db);
    emaj(&db).args(["install"]).run().ok();
    let log = db.psql("select rel_log from emaj.emaj_relation where rel_name = 'account'");
    db.psql(&format!(
        "insert into account values (10, 'h'); alter table emaj.{log} rename column holder to keeper"
    ));
    let run = emaj(&db).args(["run", "--until-empty"]).run();
    assert!(run.status != Some(0), "{run}");
    assert!(
        run.stderr
            .contains("failed to read the logs of public.account (group `bank`)"),
        "{run}"
    );
    assert!(run.stderr.contains("hint: `emaj verify` says"), "{run}");
}

#[test]
fn a_role_that_may_not_read_a_table_is_told_which_grant_it_lacks() {
    let db = database();
    feed(&db);
    let role = owner(&db);
    let name = role.name();
    db.psql(&format!("alter table account owner to {name}"));
    emaj(&db).user(name).args(["install"]).run().ok();
    db.psql(&format!("revoke select on account from {name}"));
    let run = emaj(&db).user(name).args(["init"]).run().code(12);
    assert!(run.stderr.contains("permission denied for table account"), "{run}");
    assert!(run.stderr.contains("grant select on public.account to"), "{run}");
    assert!(!run.stderr.contains("row level security"), "{run}");
    db.psql(&format!(
        "grant select on account to {name}; alter table account enable row level security, force row level security; create policy few on account using (id < 3)"
    ));
    let run = emaj(&db).user(name).args(["init"]).run().code(12);
    assert!(run.stderr.contains("row level security must not hide rows"), "{run}");
    assert!(!run.stderr.contains("grant select"), "{run}");
    // Nobody knows the statement that was ours: no place in it is told.
    let elsewhere = database();
    let stranger = owner(&elsewhere);
    let run = emaj(&db).user(stranger.name()).args(["plan"]).run().code(12);
    assert!(
        run.stderr
            .starts_with("error: permission denied for schema emaj\nhint: "),
        "{run}"
    );
}

#[test]
fn rows_for_a_sink_out_of_reach_say_how_to_go_on() {
    let db = database();
    db.psql(ACCOUNTS);
    manifest(
        &db,
        "{ postgres: { uri: \"postgresql://nobody@127.0.0.1:1/nowhere?connect_timeout=2\" } }",
    );
    emaj(&db).args(["install"]).run().ok();
    let run = emaj(&db).args(["init", "--dry-run"]).run().code(13);
    assert!(run.stderr.contains("sink `out`"), "{run}");
    assert!(run.stderr.contains("hint: `emaj sink test --sink out`"), "{run}");
}

#[test]
fn a_manifest_stands_where_nothing_else_is_named() {
    let db = database();
    feed(&db);
    let there = db.dir().join("shop.yaml");
    std::fs::rename(db.dir().join("emaj.yaml"), &there).unwrap();
    emaj(&db).args(["install", "shop.yaml"]).run().ok();
    for verb in ["status", "verify", "history", "group list", "sink list", "sink lag"] {
        let words: Vec<&str> = verb.split(' ').collect();
        emaj(&db).args(&words).args(["shop.yaml"]).run().ok();
        emaj(&db).args(&words).args(["-f", "shop.yaml"]).run().ok();
        emaj(&db)
            .args(&words)
            .args(["shop.yaml", "-f", "shop.yaml"])
            .run()
            .code(64);
    }
    // Where changes or groups are named, it goes behind `-f`.
    let run = emaj(&db).args(["failures", "list", "shop.yaml"]).run().code(64);
    assert!(run.stderr.contains("a manifest is named with `-f`"), "{run}");
    emaj(&db).args(["failures", "list", "-f", "shop.yaml"]).run().ok();
    let run = emaj(&db).args(["group", "show", "shop.yaml"]).run().code(4);
    assert!(run.stderr.contains("hint: a manifest is named with `-f`"), "{run}");
}

#[test]
fn who_says_no_database_is_told_which_one_it_came_to() {
    let db = database();
    let elsewhere: Vec<(String, String)> = emaj(&db)
        .variables()
        .into_iter()
        .filter(|(name, _)| name != "PGDATABASE")
        .collect();
    let user = elsewhere.iter().find(|(name, _)| name == "PGUSER").unwrap().1.clone();
    db.psql("select");
    // (libpq takes the database that is called like the role.)
    let run = emaj_alone(db.dir()).envs(elsewhere).args(["sink", "list"]).run();
    assert!(run.status == Some(10) || run.status == Some(13), "{run}");
    assert!(
        run.stderr.contains(&format!("`{user}`")) || run.stderr.contains(&format!("/{user}`")),
        "{run}"
    );
    assert!(
        run.stderr
            .contains("name a manifest with `-f`, or the database with `-d`"),
        "{run}"
    );
    let run = emaj(&db).args(["sink", "list"]).run().code(10);
    assert!(!run.stderr.contains("with `-d`"), "{run}");
}
