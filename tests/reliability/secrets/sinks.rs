//! The secrets of a working installation, of its sinks and of its source: at whatever verbosity, in plans, errors, the database, on the command line.

use std::process::Command;

use serde_json::json;

use crate::reliability::{HEAD, worker};
use crate::support::nats::Nats;
use crate::support::receiver::{Receiver, status};
use crate::support::slapd::{ACCOUNT, PASSWORD, slapd};
use crate::support::{self, Database, Emaj, Run, emaj, wait_for};

const CANARIES: &[(&str, &str)] = &[
    ("C_HOOK_SECRET", "canary-hooksecret-81f3"),
    ("C_HOOK_TOKEN", "canary-hooktoken-22ab"),
    ("C_HOOK_PATH", "canary-hookpath-5c0d"),
    ("C_NATS_TOKEN", "canary-natstoken-9e1e"),
    ("C_DB_PASSWORD", "canary-dbpassword-77aa"),
    ("C_LDAP_PASSWORD", PASSWORD),
];
/// Of the source's own connection: in a password file, and in the environment.
const PASSFILE: &str = "canary-passfile-6b6b";
const PGPASSWORD: &str = "canary-pgpassword-4d4d";
const FILE: &str = "canary-infile-3333";

struct Scene {
    db: Database,
    said: String,
}

impl Scene {
    fn emaj(&self, args: &[&str]) -> Emaj {
        let variables = CANARIES
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        emaj(&self.db)
            .args(args.iter().copied())
            .envs(variables)
            .env("EMAJ_LOG", "trace")
            .env("RUST_BACKTRACE", "full")
            .env("RUST_LOG", "trace")
    }

    fn keep(&mut self, run: Run) -> Run {
        self.said += &run.to_string();
        run
    }

    fn run(&mut self, args: &[&str]) -> Run {
        let run = self.emaj(args).run();
        self.keep(run)
    }
}

fn all() -> Vec<&'static str> {
    CANARIES
        .iter()
        .map(|(_, value)| *value)
        .chain([PASSFILE, PGPASSWORD, FILE])
        .collect()
}

#[track_caller]
fn nothing_told(text: &str, place: &str) {
    for canary in all() {
        // (Base64 of it as well: that is how some protocols write it.)
        let encoded = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, canary);
        for form in [canary, encoded.as_str(), &encoded[..encoded.len() - 4]] {
            if let Some(at) = text.find(form) {
                let from = text[..at].rfind('\n').map_or(0, |line| line + 1);
                let line: String = text[from..]
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .chars()
                    .take(600)
                    .collect();
                panic!("{place} tells {canary}: {line}");
            }
        }
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
    let mut scene = Scene {
        db,
        said: String::new(),
    };
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
    nothing_told(&String::from_utf8_lossy(&cmdline), "the command line");
    scene.said += &running.log();
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
    let run = scene
        .emaj(&["sink", "test", "emaj.yaml"])
        .env("C_NATS_TOKEN", "canary-natstoken-9e1e-wrong")
        .run();
    scene.keep(run);
    let run = scene
        .emaj(&["run", "emaj.yaml", "--until-empty"])
        .env("C_NATS_TOKEN", "canary-natstoken-9e1e-wrong")
        .run();
    assert_ne!(run.status, Some(0));
    scene.keep(run);
    scene.db.psql(&format!("alter role {role} password 'other'"));
    scene.run(&["status", "emaj.yaml"]);
    let run = scene
        .emaj(&["run", "emaj.yaml", "--until-empty"])
        .env("PGPASSWORD", PGPASSWORD)
        .run();
    scene.keep(run);
    let run = scene
        .emaj(&[
            "status",
            "-d",
            &format!("postgresql://{role}:{PGPASSWORD}@127.0.0.1:{port}/{}", scene.db.name()),
        ])
        .run();
    // (Its own arguments are the caller's.)
    scene.said += &run.stdout;
    scene.said += &run.stderr;
    // Literal secrets in a manifest with other mistakes.
    scene.db.file(
        "bad.yaml",
        &format!("{HEAD}sinks:\n  hook: {{ webhook: {{ url: \"http://x\", secret: {FILE}, nonsense: 1 }} }}\n  copy: {{ postgres: {{ uri: \"postgresql://u:{PGPASSWORD}@h:port/d\", password: [\"{PASSFILE}\"] }} }}\n"),
    );
    scene.run(&["validate", "bad.yaml"]);
    nothing_told(&scene.said, "the program");

    let dump = Command::new(cluster.bindir().join("pg_dump"))
        .args(["-d", &scene.db.conninfo()])
        .output()
        .unwrap();
    assert!(dump.status.success());
    nothing_told(&String::from_utf8_lossy(&dump.stdout), "the database");
    println!(
        "secrets of an installation: {} canaries, {} bytes said at full verbosity: 0 seen",
        all().len(),
        scene.said.len() + dump.stdout.len()
    );
    let (db, name) = (&scene.db, role);
    db.psql(&format!("drop owned by {name} cascade"));
    db.psql("drop schema if exists emaj cascade");
    db.psql(&format!("reassign owned by {name} to current_user; drop role {name}"));
    copy.psql(&format!(
        "reassign owned by {name}_copy to current_user; drop owned by {name}_copy; drop role {name}_copy"
    ));
}
