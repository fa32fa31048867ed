//! `emaj init --prune`: what has no row any more is listed, then limited, then taken away.

use super::{PEOPLE, PERSON, drain, install, logins, people, prepare, to_directory, worker, writes};
use crate::support::slapd::{ACCOUNT, slapd};
use crate::support::{database, wait_for};

#[test]
fn what_has_no_row_is_listed_then_limited_then_gone() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    db.psql("insert into person select n, 'p' || n, 'p' || n from generate_series(1, 30) n");
    let manifest = |limit: &str| to_directory(&slapd, &PEOPLE.replace("    entry:", &format!("{limit}    entry:")));
    install(&db, &manifest("    max_deletes: 5\n"));
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    // While nobody delivers, entries that nobody wants any more come about.
    for login in ["old1", "old2", "old3", "old4", "old5", "old6"] {
        slapd.modify(&format!("dn: uid={login},ou=people,dc=example,dc=org\nchangetype: add\nobjectClass: inetOrgPerson\nuid: {login}\ncn: x\nsn: x\n"));
    }
    slapd.modify(
        "dn: cn=not ours,ou=people,dc=example,dc=org\nchangetype: add\nobjectClass: person\ncn: not ours\nsn: x\n",
    );
    let before = writes(&slapd);
    let run = prepare(&db, &["init", "emaj.yaml", "--prune", "--dry-run"]).run().ok();
    let listed: Vec<&str> = run.stdout.lines().filter(|line| line.starts_with("dn: ")).collect();
    assert_eq!(listed.len(), 6, "{run}");
    assert!(
        run.stdout
            .contains("dn: uid=old3,ou=people,dc=example,dc=org\nchangetype: delete"),
        "{run}"
    );
    assert_eq!(writes(&slapd), before, "a dry run writes nothing");

    let run = prepare(&db, &["init", "emaj.yaml", "--prune"]).run().code(4);
    assert!(
        run.stderr.contains("would take away 6, and its `max_deletes` allows 5"),
        "{run}"
    );
    assert_eq!(logins(&slapd).len(), 36, "nothing was taken away");

    install(&db, &manifest("    max_deletes: 20%\n"));
    let worker = worker(&db).start();
    let run = prepare(&db, &["init", "emaj.yaml", "--prune"]).run().ok();
    assert!(run.stderr.contains("took away 6 things that had no row"), "{run}");
    assert_eq!(people(&slapd).len(), 30);
    assert!(
        slapd.entry("cn=not ours,ou=people,dc=example,dc=org").is_some(),
        "what is no entry of the binding stays"
    );
    db.psql("delete from person where id = 30");
    wait_for("the worker, which has the sink back", 30, || {
        (logins(&slapd).len() == 29).then_some(())
    });
    assert_eq!(worker.stop(), Some(0));
    let state = slapd.dump();
    prepare(&db, &["init", "emaj.yaml", "--prune"]).run().ok();
    assert!(slapd.dump() == state, "a second run writes nothing");
}

#[test]
fn what_the_place_refuses_to_take_away_is_named_and_the_rest_goes() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    install(&db, &to_directory(&slapd, PEOPLE));
    for login in ["old1", "old2", "old3"] {
        slapd.modify(&format!("dn: uid={login},ou=people,dc=example,dc=org\nchangetype: add\nobjectClass: inetOrgPerson\nuid: {login}\ncn: x\nsn: x\n"));
    }
    slapd.modify(
        "dn: cn=phone,uid=old2,ou=people,dc=example,dc=org\nchangetype: add\nobjectClass: person\ncn: phone\nsn: x\n",
    );
    let run = prepare(&db, &["init", "emaj.yaml", "--prune"]).run().code(3);
    assert!(run.stderr.contains("took away 2 things"), "{run}");
    assert!(
        run.stderr
            .contains("`uid=old2,ou=people,dc=example,dc=org` of binding `people` is not taken away: "),
        "{run}"
    );
    let left = slapd.names("ou=people,dc=example,dc=org");
    let left: Vec<&String> = left.iter().filter(|name| name.starts_with("uid=old")).collect();
    assert_eq!(left, ["uid=old2,ou=people,dc=example,dc=org"]);
}

#[test]
fn what_was_taken_away_before_a_lock_could_not_be_had_is_said() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    db.psql("insert into person values (1, 'p1', 'p1')");
    let manifest = to_directory(&slapd, PEOPLE).replace(
        "bindings:",
        "  second:\n    ldap: { url: \"URL\", bind_dn: \"ACCOUNT\", password: \"${env:LDAP_PASSWORD}\" }\nbindings:\n  \
         zeta: { table: public.person, to: second, entry: { dn: \"uid={{ row.login }},ou=groups,dc=example,dc=org\", object_classes: [account], attributes: { description: x } } }",
    );
    install(&db, &manifest.replace("URL", &slapd.url()).replace("ACCOUNT", ACCOUNT));
    for login in ["old1", "old2"] {
        slapd.modify(&format!("dn: uid={login},ou=people,dc=example,dc=org\nchangetype: add\nobjectClass: inetOrgPerson\nuid: {login}\ncn: x\nsn: x\n"));
    }
    let hold = db.dir().join("hold");
    let mut init = prepare(
        &db,
        &[
            "init",
            "emaj.yaml",
            "--prune",
            "--binding",
            "people",
            "--binding",
            "zeta",
        ],
    )
    .env("EMAJ_FAIL_AT", "prune.taken")
    .env("EMAJ_FAIL_HOLD", hold.to_str().unwrap())
    .start();
    wait_for("the first binding's entries", 60, || hold.exists().then_some(()));
    let id: i32 = db
        .psql("select sink_id from emaj.emaj_sink where sink_name = 'second'")
        .parse()
        .unwrap();
    let (_, claim) = emaj::journal::sink_locks("emaj", id);
    let mut other = db.client();
    other.execute("select pg_advisory_lock($1)", &[&claim]).unwrap();
    std::fs::remove_file(hold).unwrap();
    let code = wait_for("its end", 60, || init.ended());
    let said = init.log();
    assert_eq!(code, 11, "{said}");
    assert!(
        said.contains("sent 2 rows: 2 written, the others were there\ntook away 2 things that had no row\nerror: another `emaj init`"),
        "{said}"
    );
    assert_eq!(logins(&slapd), ["p1"]);
    drop(other);
    prepare(&db, &["init", "emaj.yaml", "--prune"]).run().ok();
}

#[test]
fn nothing_is_taken_away_while_it_is_not_known_what_belongs_to_a_row() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    db.psql("insert into person select n, 'p' || n, 'p' || n from generate_series(1, 3) n");
    install(
        &db,
        &to_directory(
            &slapd,
            &PEOPLE.replace("\"{{ row.mail }}\"", "\"{{ 1 // row.id }}@example.org\""),
        ),
    );
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    slapd.modify("dn: uid=old,ou=people,dc=example,dc=org\nchangetype: add\nobjectClass: inetOrgPerson\nuid: old\ncn: x\nsn: x\n");
    db.psql("update person set id = 0 where id = 2");
    drain(&db).run().code(3);
    let state = slapd.dump();
    for args in [
        &["init", "emaj.yaml", "--prune"][..],
        &["init", "emaj.yaml", "--prune", "--dry-run"],
    ] {
        let run = prepare(&db, args).run().code(3);
        assert!(
            run.stderr.contains("binding `people` takes nothing away, because it is not known what belongs to 1 of its rows, [0] the first: "),
            "{run}"
        );
        assert!(!run.stdout.contains("changetype: delete"), "{run}");
    }
    assert!(slapd.dump() == state);
    db.psql("delete from person where id = 0");
    drain(&db).run();
    prepare(&db, &["init", "emaj.yaml", "--prune"]).run().ok();
    assert_eq!(logins(&slapd), ["p1", "p3"]);
}
