//! Each way to give the source's password, with the right one and with a wrong one, and each way to give it wrongly.

use super::Watch;
use crate::reliability::HEAD;
use crate::support::{self, Emaj, emaj_alone};

const COMMANDS: &[&[&str]] = &[
    &["status"],
    &["doctor"],
    &["history", "-o", "json"],
    &["plan", "-o", "sql"],
];

/// A server that asks for a password, and a role that has one.
struct Scene {
    db: support::Database,
    role: String,
    watch: Watch,
}

impl Scene {
    fn new() -> Self {
        let db = support::database();
        let role = format!("{}_caller", db.name());
        db.psql(&format!(
            "create role {role} login superuser; create table item (id int primary key)"
        ));
        db.file(
            "emaj.yaml",
            &format!("{HEAD}groups: {{ g: {{ tables: [public.item] }} }}\n"),
        );
        support::emaj(&db).args(["install"]).run().ok();
        Scene {
            db,
            role,
            watch: Watch::default(),
        }
    }

    fn server(&self) -> (u16, &str, &str) {
        (support::shared_cluster().port(), &self.role, self.db.name())
    }

    /// Prepares a run that knows where, and nothing that it could log in with.
    fn emaj(&self, args: &[&str]) -> Emaj {
        let (port, role, name) = self.server();
        emaj_alone(self.db.dir())
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", port.to_string())
            .env("PGUSER", role)
            .env("PGDATABASE", name)
            .args(args)
    }

    /// Lets `password` in, or, without one, nobody.
    fn let_in(&self, password: Option<&str>) {
        let password = password.unwrap_or("another");
        self.db.psql(&format!("alter role {} password '{password}'", self.role));
    }

    /// Gives a password in a way that works, and looks at what is said when it is right and when it is not.
    fn given(&mut self, what: &str, give: impl Fn(&Scene, Emaj, &str) -> Emaj) {
        let canary = self.watch.canary(what);
        for (right, code) in [(true, 0), (false, 12)] {
            self.let_in(right.then_some(canary.as_str()));
            for command in COMMANDS {
                let emaj = give(self, self.emaj(command), &canary);
                let run = self.watch.run(emaj);
                assert_eq!(run.status, Some(code), "{what}, right: {right}: {run}");
            }
        }
    }

    /// Gives one where it cannot be taken.
    fn refused(&mut self, what: &str, code: i32, give: impl Fn(&Scene, Emaj, &str) -> Emaj) {
        let canary = self.watch.canary(what);
        let emaj = give(self, self.emaj(&["status"]), &canary);
        let run = self.watch.run(emaj);
        assert_eq!(run.status, Some(code), "{what}: {run}");
        assert!(run.stderr.contains("error: "), "{what}: {run}");
    }

    /// Writes a file that only its owner may read; returns its path.
    fn closed(&self, name: &str, text: &str) -> String {
        let path = self.db.file(name, text);
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        path.display().to_string()
    }

    fn manifest(&self, database: &str) {
        let (port, role, name) = self.server();
        self.db.file(
            "emaj.yaml",
            &format!(
                "{HEAD}groups: {{ g: {{ tables: [public.item] }} }}\ndatabase: {{ host: 127.0.0.1, port: \"{port}\", user: {role}, dbname: {name}, {database} }}\n"
            ),
        );
    }
}

#[test]
fn the_password_of_the_source_is_told_by_no_way_of_giving_it() {
    let mut scene = Scene::new();
    scene.given("PGPASSWORD", |_, emaj, canary| emaj.env("PGPASSWORD", canary));
    scene.given("EMAJPASSWORD", |_, emaj, canary| emaj.env("EMAJ_PASSWORD", canary));
    scene.given("EMAJURL", |scene, emaj, canary| {
        let (port, role, name) = scene.server();
        emaj.env(
            "EMAJ_DATABASE_URL",
            format!("postgresql://{role}:{canary}@127.0.0.1:{port}/{name}"),
        )
    });
    scene.given("EMAJDBNAME", |scene, emaj, canary| {
        let (port, role, name) = scene.server();
        emaj.env(
            "EMAJ_DBNAME",
            format!("host=127.0.0.1 port={port} user={role} dbname={name} password={canary}"),
        )
    });
    scene.given("passfile", |scene, emaj, canary| {
        emaj.env("PGPASSFILE", scene.closed("pgpass", &format!("*:*:*:*:{canary}\n")))
    });
    scene.given("emajpassfile", |scene, emaj, canary| {
        emaj.env(
            "EMAJ_PASSFILE",
            scene.closed("pgpass", &format!("127.0.0.1:*:*:*:{canary}\n")),
        )
    });
    scene.given("service", |scene, emaj, canary| {
        let file = scene.closed("services", &format!("[shop]\nhost=127.0.0.1\npassword={canary}\n"));
        emaj.env("PGSERVICEFILE", file).args(["--service", "shop"])
    });
    scene.given("pgservice", |scene, emaj, canary| {
        let file = scene.closed("services", &format!("[shop]\npassword={canary}\n"));
        emaj.env("PGSERVICEFILE", file).env("PGSERVICE", "shop")
    });
    scene.given("url", |scene, emaj, canary| {
        let (port, role, name) = scene.server();
        emaj.args(["--url", &format!("postgres://{role}:{canary}@127.0.0.1:{port}/{name}")])
    });
    scene.given("parameter", |scene, emaj, canary| {
        let (port, role, name) = scene.server();
        emaj.args([
            "-d",
            &format!("postgresql://127.0.0.1:{port}/{name}?user={role}&password={canary}"),
        ])
    });
    scene.given("keyword", |scene, emaj, canary| {
        emaj.args(["-d", &format!("dbname={} password='{canary}'", scene.db.name())])
    });
    scene.given("manifestenv", |scene, emaj, canary| {
        scene.manifest("password: \"${env:SECRET}\"");
        emaj.env("SECRET", canary)
    });
    scene.given("manifestfile", |scene, emaj, canary| {
        scene.manifest("password: \"${file:secret.txt}\"");
        scene.db.file("secret.txt", canary);
        emaj
    });
    scene.given("manifesturi", |scene, emaj, canary| {
        let (port, role, name) = scene.server();
        scene.db.file(
            "emaj.yaml",
            &format!(
                "{HEAD}groups: {{ g: {{ tables: [public.item] }} }}\ndatabase: {{ uri: \"postgresql://{role}:${{env:SECRET}}@127.0.0.1:{port}/{name}\" }}\n"
            ),
        );
        emaj.env("SECRET", canary)
    });
    scene.given("manifestpassfile", |scene, emaj, canary| {
        scene.closed("pgpass", &format!("*:*:*:*:{canary}\n"));
        scene.manifest("passfile: pgpass");
        emaj
    });
    let log = std::fs::read(support::shared_cluster().log_file()).unwrap();
    scene.watch.look("the server's log", &String::from_utf8_lossy(&log));
    println!(
        "secrets, ways to connect: {} canaries, {} bytes: 0 seen",
        scene.watch.count(),
        scene.watch.bytes
    );
    scene.db.psql(&format!("drop role {}", scene.role));
}

#[test]
fn a_password_that_is_given_wrongly_is_not_repeated() {
    let mut scene = Scene::new();
    let usage = 64;
    for keyword in [
        "sslpassword",
        "oauth_client_secret",
        "scram_client_key",
        "scram_server_key",
    ] {
        let name = keyword.replace('_', "");
        scene.refused(&format!("{name}s"), usage, |_, emaj, canary| {
            emaj.args(["-d", &format!("{keyword}={canary}")])
        });
        scene.refused(&format!("{name}u"), usage, |_, emaj, canary| {
            emaj.args(["--url", &format!("postgresql://u@h/d?{keyword}={canary}")])
        });
    }
    scene.refused("sslservice", usage, |scene, emaj, canary| {
        let file = scene.closed("services", &format!("[shop]\nsslpassword={canary}\n"));
        emaj.env("PGSERVICEFILE", file).env("PGSERVICE", "shop")
    });
    scene.refused("sslvariable", usage, |_, emaj, canary| {
        emaj.env("EMAJ_SSLPASSWORD", canary)
    });
    for (what, text) in [
        ("open", "host=h password='CANARY"),
        ("typo", "pasword=CANARY"),
        ("blank", "password=half CANARY host=h"),
        ("padded", "password=half CANARY== host=h"),
        ("scheme", "postgresql:/u:CANARY@h/d"),
        ("capital", "Postgres://u:CANARY@h/d"),
        ("percent", "postgresql://u:CANARY%zz@h/d"),
        ("slash", "postgresql://u:CANARY/CANARY@h/d"),
        ("at", "postgresql://u:p@CANARY@h/d"),
        ("port", "postgresql://u:CANARY@h:port/d"),
        ("twice", "postgresql://h/d?password=CANARY=CANARY"),
    ] {
        scene.refused(&format!("{what}argument"), usage, |_, emaj, canary| {
            emaj.args(["-d", &text.replace("CANARY", canary)])
        });
        scene.refused(&format!("{what}variable"), usage, |_, emaj, canary| {
            emaj.env("EMAJ_DATABASE_URL", text.replace("CANARY", canary))
        });
    }
    scene.refused("noequals", usage, |scene, emaj, canary| {
        let file = scene.closed("services", &format!("[shop]\npassword {canary}\n"));
        emaj.env("PGSERVICEFILE", file).env("PGSERVICE", "shop")
    });
    scene.refused("openpassfile", 12, |scene, emaj, canary| {
        let file = scene.closed("pgpass", &format!("*:*:*:*:{canary}\n"));
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        emaj.env("PGPASSFILE", file)
    });
    scene.refused("nopassfile", 12, |scene, emaj, canary| {
        emaj.env(
            "PGPASSFILE",
            scene.closed("pgpass", &format!("{canary}\n:::{canary}\n")),
        )
    });
    scene.refused("sslkey", usage, |scene, emaj, canary| {
        let pem = format!("-----BEGIN ENCRYPTED PRIVATE KEY-----\n{canary}\n-----END ENCRYPTED PRIVATE KEY-----\n");
        let (key, certificate) = (
            scene.closed("key.pem", &pem),
            scene.closed("cert.pem", &support::sinks::certificate().0),
        );
        emaj.args(["-d", &format!("sslmode=require sslkey={key} sslcert={certificate}")])
    });
    println!(
        "secrets, wrong connections: {} canaries, {} bytes: 0 seen",
        scene.watch.count(),
        scene.watch.bytes
    );
    scene.db.psql(&format!("drop role {}", scene.role));
}
