//! Tables of cases: which place wins, keyword by keyword.

use std::collections::HashMap;
use std::path::Path;

use secrecy::ExposeSecret;

use super::*;

fn given(pairs: &[(&str, &str)]) -> Given {
    let mut given = Given::default();
    for (name, value) in pairs {
        match *name {
            "uri" => given.uri = Some((*value).to_owned().into()),
            name => _ = given.settings.insert(name.to_owned(), (*value).to_owned()),
        }
    }
    given
}

fn environment(home: &Path, variables: &[(&str, &str)]) -> Environment {
    Environment {
        variables: variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect::<HashMap<_, _>>(),
        home: Some(home.to_owned()),
        os_user: Some("me".into()),
        socket_dir: Some("/run/pg".into()),
        system_dir: home.to_owned(),
    }
}

/// A home with a service file and a password file.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let services =
        "[shop]\nhost=service.host\nport=7000\ndbname=service_db\nuser=service_user\n[addr]\nhostaddr=192.0.2.7\n";
    std::fs::write(home.path().join(".pg_service.conf"), services).unwrap();
    let passwords = "localhost:*:*:*:socket secret\nflag.host:*:*:*:from file\n*:*:other:*:for other\n";
    std::fs::write(home.path().join(".pgpass"), passwords).unwrap();
    let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(home.path().join(".pgpass"), owner_only).unwrap();
    home
}

type Pairs<'a> = &'a [(&'a str, &'a str)];

#[test]
fn the_higher_place_wins_keyword_by_keyword() {
    let home = home();
    // Flags, variables, manifest, and where that leads.
    let cases: &[(Pairs<'_>, Pairs<'_>, Option<Pairs<'_>>, &str)] = &[
        (&[], &[], None, "me@/run/pg:5432/me"),
        (&[("user", "u")], &[], None, "u@/run/pg:5432/u"),
        (
            &[("host", "flag.host")],
            &[("EMAJ_HOST", "e")],
            Some(&[("host", "m")]),
            "me@flag.host:5432/me",
        ),
        (
            &[],
            &[("EMAJ_HOST", "e"), ("PGHOST", "p")],
            Some(&[("host", "m")]),
            "me@e:5432/me",
        ),
        (&[], &[("PGHOST", "p")], Some(&[("host", "m")]), "me@m:5432/me"),
        (
            &[],
            &[("PGHOST", "p"), ("PGPORT", "1"), ("PGUSER", "pu"), ("PGDATABASE", "pd")],
            None,
            "pu@p:1/pd",
        ),
        (
            &[("port", "9")],
            &[("EMAJ_DBNAME", "d"), ("PGUSER", "u")],
            Some(&[("host", "m")]),
            "u@m:9/d",
        ),
        // Empty: no setting for emaj's own places, a value for libpq's.
        (
            &[("host", "")],
            &[("EMAJ_HOST", ""), ("PGHOST", "")],
            Some(&[("host", "m")]),
            "me@m:5432/me",
        ),
        (
            &[],
            &[("PGHOST", ""), ("PGPORT", ""), ("PGDATABASE", "")],
            None,
            "me@/run/pg:5432/me",
        ),
        (
            &[("uri", "host=''")],
            &[("PGHOST", "p")],
            Some(&[("host", "m")]),
            "me@/run/pg:5432/me",
        ),
        // Connection strings.
        (
            &[("uri", "postgresql://u@h:1/d")],
            &[("EMAJ_HOST", "e")],
            None,
            "u@h:1/d",
        ),
        (
            &[("dbname", "postgresql://u@h:1/d"), ("host", "single")],
            &[],
            None,
            "u@h:1/d",
        ),
        (&[("dbname", "host=h port=2")], &[("PGDATABASE", "d")], None, "me@h:2/d"),
        (
            &[],
            &[
                ("EMAJ_DATABASE_URL", "postgres://h/d"),
                ("EMAJ_HOST", "e"),
                ("EMAJ_USER", "u"),
            ],
            None,
            "u@h:5432/d",
        ),
        (
            &[("dbname", "f")],
            &[("EMAJ_DATABASE_URL", "postgres://h/d")],
            Some(&[("port", "3")]),
            "me@h:3/f",
        ),
        (&[], &[("EMAJ_DBNAME", "host=h dbname=d")], None, "me@h:5432/d"),
        (&[], &[], Some(&[("uri", "postgres://h1:1,h2:2/d")]), "me@h1:1,h2:2/d"),
        // A service counts where it is named.
        (
            &[("service", "shop")],
            &[("PGHOST", "p")],
            None,
            "service_user@service.host:7000/service_db",
        ),
        (
            &[("service", "shop"), ("port", "1")],
            &[],
            None,
            "service_user@service.host:1/service_db",
        ),
        (
            &[("service", "shop")],
            &[("EMAJ_HOST", "e")],
            Some(&[("host", "m")]),
            "service_user@service.host:7000/service_db",
        ),
        (
            &[],
            &[("EMAJ_SERVICE", "shop")],
            Some(&[("host", "m")]),
            "service_user@service.host:7000/service_db",
        ),
        (
            &[("dbname", "f")],
            &[("PGUSER", "p")],
            Some(&[("service", "shop")]),
            "service_user@service.host:7000/f",
        ),
        (
            &[],
            &[("PGSERVICE", "shop"), ("PGHOST", "p")],
            Some(&[("port", "5")]),
            "service_user@service.host:5/service_db",
        ),
        (
            &[("service", "shop")],
            &[("PGSERVICE", "nothing")],
            Some(&[("service", "nothing")]),
            "service_user@service.host:7000/service_db",
        ),
        (
            &[("uri", "postgresql://?service=shop&user=u")],
            &[],
            None,
            "u@service.host:7000/service_db",
        ),
        // An address stays with the host it was written beside.
        (
            &[("host", "h")],
            &[],
            Some(&[("host", "m"), ("hostaddr", "192.0.2.1")]),
            "me@h:5432/me",
        ),
        (&[("host", "h")], &[], Some(&[("service", "addr")]), "me@h:5432/me"),
        (
            &[("port", "1")],
            &[],
            Some(&[("hostaddr", "192.0.2.1")]),
            "me@192.0.2.1:1/me",
        ),
    ];
    for (flags, variables, manifest, expected) in cases {
        let manifest = manifest.map(given);
        let settings = resolve(&given(flags), manifest.as_ref(), &environment(home.path(), variables));
        let found = settings.map_or_else(|error| format!("error: {error}"), |settings| settings.describe());
        assert_eq!(
            &found, expected,
            "flags {flags:?}, variables {variables:?}, manifest {manifest:?}"
        );
    }
}

#[test]
fn a_wrong_setting_says_where_it_is() {
    let home = home();
    let cases: &[(Pairs<'_>, Pairs<'_>, Pairs<'_>, Kind, &str)] = &[
        (
            &[("hots", "h")],
            &[],
            &[],
            Kind::Usage,
            "the command line: unknown connection keyword `hots` (did you mean `host`?)",
        ),
        (
            &[],
            &[],
            &[("sslmode", "required")],
            Kind::Manifest,
            "the manifest's `database:` block: `sslmode` is `required`, expected one of",
        ),
        (
            &[],
            &[("PGPORT", "many")],
            &[],
            Kind::Usage,
            "`PGPORT`: `port` is `many`, expected a port from 1 to 65535",
        ),
        (
            &[],
            &[("EMAJ_CONNECT_TIMEOUT", "soon")],
            &[],
            Kind::Usage,
            "`EMAJ_CONNECT_TIMEOUT`: `connect_timeout` is `soon`, expected a whole",
        ),
        (
            &[],
            &[("EMAJ_DATABASE_URL", "shop")],
            &[],
            Kind::Usage,
            "`EMAJ_DATABASE_URL`: expected a URI",
        ),
        (
            &[("service", "x")],
            &[],
            &[],
            Kind::Usage,
            "failed to read the service that the command line names: the service `x` is not defined in",
        ),
        (
            &[],
            &[],
            &[("service", "x")],
            Kind::Manifest,
            "the manifest's `database:` block names",
        ),
        (
            &[("gssencmode", "require")],
            &[],
            &[],
            Kind::Usage,
            "`gssencmode=require` is not supported",
        ),
        (
            &[("requirepeer", "postgres")],
            &[],
            &[],
            Kind::Usage,
            "`requirepeer` is not supported",
        ),
        (
            &[("sslpassword", "hunter2")],
            &[],
            &[],
            Kind::Usage,
            "`sslpassword` is not supported",
        ),
        (
            &[("target_session_attrs", "master")],
            &[],
            &[],
            Kind::Usage,
            "expected one of any, read-write",
        ),
        (
            &[("host", "a,b"), ("port", "1,2,3")],
            &[],
            &[],
            Kind::Usage,
            "`port` is 3 ports for 2 hosts",
        ),
        (
            &[("sslnegotiation", "direct")],
            &[],
            &[],
            Kind::Usage,
            "needs `sslmode` to be require",
        ),
        (
            &[("sslrootcert", "system"), ("sslmode", "require")],
            &[],
            &[],
            Kind::Usage,
            "too weak for `sslrootcert=system`",
        ),
        (
            &[("ssl_max_protocol_version", "TLSv1.1")],
            &[],
            &[],
            Kind::Usage,
            "TLSv1.2 is the oldest that is spoken",
        ),
        (
            &[("uri", "password='hunter2")],
            &[],
            &[],
            Kind::Usage,
            "is never closed",
        ),
    ];
    for (flags, variables, manifest, kind, expected) in cases {
        let error = resolve(
            &given(flags),
            Some(&given(manifest)),
            &environment(home.path(), variables),
        )
        .unwrap_err();
        assert_eq!(error.kind(), *kind, "{error}");
        assert!(error.to_string().contains(expected), "{error}\nhas not\n{expected}");
        assert!(
            !format!("{error} {error:?} {:?}", error.hints()).contains("hunter2"),
            "{error:?}"
        );
    }
}

#[test]
fn keywords_that_change_nothing_are_accepted() {
    let home = home();
    for pair in [
        ("gssencmode", "prefer"),
        ("krbsrvname", "x"),
        ("client_encoding", "latin1"),
        ("sslcompression", "1"),
        ("replication", "off"),
        ("max_protocol_version", "latest"),
        ("keepalives_idle", "10"),
        ("tcp_user_timeout", "100"),
    ] {
        resolve(&given(&[pair]), None, &environment(home.path(), &[])).unwrap();
    }
}

#[test]
fn passwords_are_found_and_not_shown() {
    let home = home();
    for (flags, variables, expected) in [
        (&[("host", "flag.host")][..], &[][..], Some("from file")),
        (&[], &[], Some("socket secret")),
        (&[("host", "/run/pg")], &[], Some("socket secret")),
        (&[("host", "/elsewhere")], &[], None),
        (
            &[("host", "flag.host")],
            &[("PGPASSWORD", "from variable")],
            Some("from variable"),
        ),
        (&[("host", "flag.host")], &[("PGPASSWORD", "")], Some("from file")),
        (&[("host", "flag.host")], &[("PGPASSFILE", "/nowhere")], None),
        (
            &[("uri", "postgres://u:in%20uri@flag.host")],
            &[("PGPASSWORD", "no")],
            Some("in uri"),
        ),
        (&[("host", "h"), ("dbname", "other")], &[], Some("for other")),
        (
            &[("hostaddr", "192.0.2.1"), ("host", "flag.host")],
            &[],
            Some("from file"),
        ),
        (&[("hostaddr", "192.0.2.1")], &[], None),
    ] {
        let settings = resolve(&given(flags), None, &environment(home.path(), variables)).unwrap();
        let (password, _) = settings.password_for(&settings.targets[0]);
        assert_eq!(
            password.as_ref().map(|password| password.expose_secret()),
            expected,
            "{flags:?} {variables:?}"
        );
        if let Some(password) = expected {
            assert!(!format!("{settings:?} {}", settings.describe()).contains(password));
        }
    }
    for (database, known) in [("mydb", false), ("other", true)] {
        let settings = resolve(
            &given(&[("host", "h"), ("dbname", database)]),
            None,
            &environment(home.path(), &[]),
        )
        .unwrap();
        assert_eq!(
            settings.password_for(&settings.targets[0]).0.is_some(),
            known,
            "{database}"
        );
    }
}

#[test]
fn what_libpq_sends_as_options_comes_behind_those_given() {
    let home = home();
    let variables = [("PGOPTIONS", "-c work_mem=1MB"), ("PGTZ", "Mars Time")];
    let settings = resolve(&Given::default(), None, &environment(home.path(), &variables)).unwrap();
    assert_eq!(settings.options, "-c work_mem=1MB -c timezone=Mars\\ Time");
}

#[test]
fn a_password_file_that_others_may_read_is_a_warning() {
    let home = home();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(home.path().join(".pgpass"), open).unwrap();
    let settings = resolve(&Given::default(), None, &environment(home.path(), &[])).unwrap();
    assert!(
        settings.warnings()[0].contains("(mode 0644)"),
        "{:?}",
        settings.warnings()
    );
}

#[test]
fn a_service_file_named_above_serves_the_service_named_below() {
    let home = home();
    let file = home.path().join("named");
    std::fs::write(&file, "[shop]\nhost=named.host\n").unwrap();
    let flags = given(&[("servicefile", file.to_str().unwrap())]);
    let manifest = given(&[("service", "shop")]);
    let settings = resolve(&flags, Some(&manifest), &environment(home.path(), &[])).unwrap();
    assert_eq!(settings.describe(), "me@named.host:5432/me");
}
