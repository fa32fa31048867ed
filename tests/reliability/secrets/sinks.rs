//! The secrets of a working installation, of its sinks and of its source: at whatever verbosity, in plans, errors, the database, on the command line.

use serde_json::json;

use super::Watch;
use crate::reliability::{HEAD, worker};
use crate::support::kafka::Kafka;
use crate::support::nats::Nats;
use crate::support::receiver::{Receiver, status};
use crate::support::slapd::{ACCOUNT, PASSWORD, slapd};
use crate::support::{self, Database, Emaj, Run, emaj, wait_for};

const CANARIES: &[(&str, &str)] = &[
    ("C_HOOK_SECRET", "canaryhooksecret81f3a91"),
    ("C_HOOK_TOKEN", "canaryhooktoken22ab491"),
    ("C_HOOK_PATH", "canaryhookpath5c0d491"),
    ("C_NATS_TOKEN", "canarynatstoken9e1e491"),
    ("C_DB_PASSWORD", "canarydbpassword77aa491"),
    ("C_LDAP_PASSWORD", PASSWORD),
];
/// Of the source's own connection: in a password file, and in the environment.
const PASSFILE: &str = "canarypassfile6b6b491";
const PGPASSWORD: &str = "canarypgpassword4d4d491";
const FILE: &str = "canaryinfile3333491";

struct Scene {
    db: Database,
    watch: Watch,
}

impl Scene {
    fn emaj(&self, args: &[&str]) -> Emaj {
        let variables = CANARIES
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        emaj(&self.db).args(args.iter().copied()).envs(variables)
    }

    #[track_caller]
    fn run(&mut self, args: &[&str]) -> Run {
        let emaj = self.emaj(args);
        self.watch.run(emaj)
    }
}

#[test]
fn no_canary_is_seen_anywhere() {
    let (db, copy) = (support::database(), support::database());
    for database in [&db, &copy] {
        database.psql("create table item (id int primary key, name text)");
    }
    db.psql("insert into item values (1, 'there before')");
    let role = format!("{}_worker", db.name());
    db.psql(&format!("create role {role} login superuser password '{PASSFILE}'"));
    copy.psql(&format!(
        "create role {role}_copy login superuser password '{}'",
        CANARIES[4].1
    ));
    let receiver = Receiver::start(|_, request| {
        // It quotes back what it was sent.
        let token = request
            .headers
            .iter()
            .find(|(name, _)| name == "authorization")
            .map(|(_, value)| value.clone())
            .unwrap_or_default();
        match request.body.contains("poison") {
            true => crate::support::receiver::Answer::Say(
                422,
                "",
                format!("no: {token} {} {}", request.path, CANARIES[0].1),
            ),
            false => status(204),
        }
    });
    let nats = Nats::with(
        &format!("authorization {{ token: \"{}\" }}\n", CANARIES[3].1),
        json!({ "auth_token": CANARIES[3].1 }),
    );
    nats.stream("ITEMS", &["items.>"], json!({}));
    let directory = slapd();
    let cluster = support::shared_cluster();
    let name = db.name().to_owned();
    let manifest = |hook: u16, bus: u16, ldap: &str, port: u16| {
        format!(
            r#"{HEAD}
database: {{ host: 127.0.0.1, port: "{port}", user: {role}, dbname: {name} }}
groups: {{ g: {{ tables: [public.item] }} }}
sinks:
  hook: {{ webhook: {{ url: "http://127.0.0.1:{hook}/${{env:C_HOOK_PATH}}", secret: "${{env:C_HOOK_SECRET}}", headers: {{ authorization: "Bearer ${{env:C_HOOK_TOKEN}}", x-file: "${{file:secret.txt}}" }} }} }}
  bus: {{ nats: {{ url: "nats://127.0.0.1:{bus}", token: "${{env:C_NATS_TOKEN}}", stream: ITEMS, timeout: 3 }} }}
  people: {{ ldap: {{ url: "{ldap}", bind_dn: "{ACCOUNT}", password: "${{env:C_LDAP_PASSWORD}}", timeout: 3 }} }}
  copy: {{ postgres: {{ uri: "postgresql://{role}_copy:${{env:C_DB_PASSWORD}}@127.0.0.1:{port}/{copy}?connect_timeout=3" }} }}
bindings:
  to_hook: {{ table: public.item, to: hook, message: {{}} }}
  to_bus: {{ table: public.item, to: bus, message: {{ subject: "items.{{{{ row.id }}}}" }} }}
  to_people: {{ table: public.item, to: people, entry: {{ dn: "uid={{{{ row.id }}}},ou=people,dc=example,dc=org", object_classes: [inetOrgPerson], attributes: {{ cn: x, sn: "{{{{ row.name }}}}" }} }} }}
  to_copy: {{ table: public.item, to: copy, row: {{ table: public.item }} }}
"#,
            copy = copy.name(),
        )
    };
    let mut watch = Watch::default();
    for canary in CANARIES
        .iter()
        .map(|(_, value)| *value)
        .chain([PASSFILE, PGPASSWORD, FILE])
    {
        watch.keep(canary.to_owned());
    }
    let mut scene = Scene { db, watch };
    let port = cluster.port();
    scene.db.file("secret.txt", FILE);
    let passfile = scene
        .db
        .file("no-passwords", &format!("127.0.0.1:{port}:*:{role}:{PASSFILE}\n"));
    std::fs::set_permissions(&passfile, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let good = manifest(receiver.port, nats.port, &directory.url(), port);
    scene.db.file("emaj.yaml", &good);
    for args in [
        &["validate", "emaj.yaml"][..],
        &["plan", "emaj.yaml"],
        &["plan", "emaj.yaml", "-o", "json"],
        &["plan", "emaj.yaml", "-o", "markdown"],
        &["install", "emaj.yaml"],
        &["init", "emaj.yaml", "--dry-run"],
        &["init", "emaj.yaml"],
        &["sink", "test", "emaj.yaml"],
        &["plan", "emaj.yaml", "-o", "sql"],
        &["drift", "emaj.yaml"],
        &["doctor", "emaj.yaml"],
    ] {
        let run = scene.run(args);
        assert!(
            run.status.is_some_and(|code| [0, 64].contains(&code)),
            "{args:?}: {}",
            run.snapshot()
        );
    }
    assert_eq!(nats.count("ITEMS"), 1, "init reached it");
    // A worker with everything switched on, with something that is refused and quoted.
    scene.db.psql("insert into item values (2, 'fine'), (3, 'poison')");
    let running = worker(&scene.db)
        .envs(CANARIES.iter().copied())
        .env("EMAJ_LOG", "trace")
        .env("RUST_LOG", "trace")
        .args(["--log-format", "json"])
        .start();
    wait_for("a refusal and the rest", 60, || {
        let refused = scene.db.psql("select count(*) from emaj.emaj_failure") != "0";
        (refused
            && nats.count("ITEMS") >= 3
            && copy.psql("select count(*) from item") == "3"
            && directory.names("ou=people,dc=example,dc=org").len() == 4)
            .then_some(())
    });
    let cmdline = std::fs::read(format!("/proc/{}/cmdline", running.id())).unwrap();
    scene.watch.look("the command line", &String::from_utf8_lossy(&cmdline));
    let activity = [&scene.db, &copy].map(|db| db.psql("select * from pg_stat_activity"));
    scene.watch.look("the activity", &activity.concat());
    scene.watch.look("the log", &running.log());
    assert!(running.log().contains("delivering to"), "no log: {}", running.log());
    drop(running);
    scene.run(&["sink", "list"]);
    scene.run(&["failures", "list"]);
    scene.run(&["failures", "list", "-o", "json"]);
    scene.run(&["history"]);
    // Everything out of reach, and everything refused.
    let dead = crate::support::sinks::free_port();
    scene.db.file(
        "emaj.yaml",
        &manifest(dead, dead, &format!("ldap://127.0.0.1:{dead}"), port),
    );
    scene.run(&["install", "emaj.yaml"]).ok();
    scene.run(&["sink", "test", "emaj.yaml"]);
    scene.run(&["run", "emaj.yaml", "--until-empty"]);
    scene.db.file("emaj.yaml", &good);
    scene.run(&["install", "emaj.yaml"]).ok();
    directory.modify(&format!(
        "dn: {ACCOUNT}\nchangetype: modify\nreplace: userPassword\nuserPassword: other\n"
    ));
    copy.psql(&format!("alter role {role}_copy password 'other'"));
    for args in [
        &["sink", "test", "emaj.yaml"][..],
        &["run", "emaj.yaml", "--until-empty"],
    ] {
        let wrong = scene.emaj(args).env("C_NATS_TOKEN", "canarynatstoken9e1e491wrong");
        assert_ne!(scene.watch.run(wrong).status, Some(0));
    }
    scene.db.psql(&format!("alter role {role} password 'other'"));
    scene.run(&["status", "emaj.yaml"]);
    let given = scene
        .emaj(&["run", "emaj.yaml", "--until-empty"])
        .env("PGPASSWORD", PGPASSWORD);
    scene.watch.run(given);
    let url = format!("postgresql://{role}:{PGPASSWORD}@127.0.0.1:{port}/{}", scene.db.name());
    scene.run(&["status", "-d", &url]);
    // Literal secrets in a manifest with other mistakes.
    scene.db.file(
        "bad.yaml",
        &format!("{HEAD}sinks:\n  hook: {{ webhook: {{ url: \"http://x\", secret: {FILE}, nonsense: 1 }} }}\n  copy: {{ postgres: {{ uri: \"postgresql://u:{PGPASSWORD}@h:port/d\", password: [\"{PASSFILE}\"] }} }}\n"),
    );
    scene.run(&["validate", "bad.yaml"]);
    scene.watch.look("the database", &scene.db.dump(&[]));
    println!(
        "secrets of an installation: {} canaries, {} bytes said at full verbosity: 0 seen",
        scene.watch.count(),
        scene.watch.bytes
    );
    let (db, name) = (&scene.db, role);
    db.psql(&format!("drop owned by {name} cascade"));
    db.psql("drop schema if exists emaj cascade");
    db.psql(&format!("reassign owned by {name} to current_user; drop role {name}"));
    copy.psql(&format!(
        "reassign owned by {name}_copy to current_user; drop owned by {name}_copy; drop role {name}_copy"
    ));
}

/// A login that is refused: what is said has the name, where there is one, and never the password.
#[test]
fn the_login_at_a_sink_is_told_by_no_error() {
    let db = support::database();
    db.psql("create table item (id int primary key, name text)");
    let mut watch = Watch::default();
    let bus = Nats::with(
        "authorization { user: emaj, password: another }\n",
        json!({ "user": "emaj", "pass": "another" }),
    );
    let kafka = Kafka::start();
    kafka.topic("items");
    kafka.rule(|rules| rules.login = Some(b"\0emaj\0another".to_vec()));
    let hook = Receiver::start(|_, _| status(401));
    let port = support::shared_cluster().port();
    let database = db.name();
    let sinks = [
        (
            format!(
                "nats: {{ url: \"nats://127.0.0.1:{}\", stream: S, timeout: 2, user: emaj, password: \"${{env:SECRET}}\" }}",
                bus.port
            ),
            "message: { subject: a }",
        ),
        (
            format!(
                "kafka: {{ brokers: [\"127.0.0.1:{}\"], timeout: 2, user: emaj, password: \"${{env:SECRET}}\" }}",
                kafka.port
            ),
            "message: { topic: items }",
        ),
        (
            format!(
                "webhook: {{ url: \"http://emaj:${{env:SECRET}}@127.0.0.1:{}/\" }}",
                hook.port
            ),
            "message: {}",
        ),
        (
            format!(
                "webhook: {{ url: \"http://127.0.0.1:{}/?key=${{env:SECRET}}\" }}",
                hook.port
            ),
            "message: {}",
        ),
        (
            format!(
                "webhook: {{ url: \"http://127.0.0.1:{}/a\", headers: {{ x-key: \"${{env:SECRET}}\" }} }}",
                hook.port
            ),
            "message: {}",
        ),
        (
            format!(
                "postgres: {{ host: 127.0.0.1, port: {port}, user: nobody_here, dbname: {database}, password: \"${{env:SECRET}}\" }}"
            ),
            "row: { table: public.copy }",
        ),
        (
            "ldap: { url: \"ldap://127.0.0.1:1\", bind_dn: \"cn=a\", password: \"${env:SECRET}\", timeout: 2 }"
                .to_owned(),
            "value: { dn: \"cn=b\", attribute: sn, value: x }",
        ),
    ];
    for (at, (sink, binding)) in sinks.into_iter().enumerate() {
        let canary = watch.canary(&format!("login{at}"));
        db.file(
            "emaj.yaml",
            &format!("{HEAD}sinks: {{ out: {{ {sink} }} }}\nbindings: {{ item: {{ table: public.item, to: out, {binding} }} }}\n"),
        );
        for (args, code) in [
            (&["validate", "emaj.yaml"][..], 0),
            (&["install", "emaj.yaml"], 0),
            // (The directory is away; the others refuse.)
            (
                &["sink", "test", "emaj.yaml"],
                if sink.starts_with("ldap") { 13 } else { 12 },
            ),
            (&["init", "emaj.yaml"], 13),
            (&["run", "emaj.yaml", "--until-empty"], 13),
            (&["sink", "list", "-o", "json"], 0),
            (&["history", "-o", "json"], 0),
            (&["uninstall", "--yes"], 0),
        ] {
            if matches!(args[0], "init" | "run") {
                db.psql("insert into item select coalesce(max(id), 0) + 1, 'a' from item");
            }
            let run = watch.run(emaj(&db).args(args.iter().copied()).env("SECRET", &canary));
            assert_eq!(run.status, Some(code), "{sink}: {run}");
        }
    }
    println!(
        "secrets, logins at sinks: {} canaries, {} bytes: 0 seen",
        watch.count(),
        watch.bytes
    );
}
