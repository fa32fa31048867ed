//! Attributes that are the result of a query over two tables, both bound.

use super::{drain, install, set_aside, to_directory};
use crate::support::slapd::slapd;
use crate::support::{database, said};

const BINDINGS: &str = "
  people:
    table: public.person
    to: directory
    entry:
      dn: \"uid={{ row.login }},ou=people,dc=example,dc=org\"
      object_classes: [inetOrgPerson]
      attributes:
        cn: \"{{ row.login }}\"
        sn: \"{{ row.login }}\"
        employeeNumber: \"{{ row.id }}\"
        mail: { query: \"select mail from address where person = {{ row.id }} and domain <> 'O''Hara'\" }
  addresses:
    table: public.address
    to: directory
    query:
      search: { base: \"ou=people,dc=example,dc=org\", filter: \"(employeeNumber={{ row.person }})\" }
      attribute: mail
      query: \"select a.mail from address a join person p on p.id = a.person where p.id = {{ row.person }}\"
";

#[test]
fn an_attribute_from_a_query_follows_both_tables() {
    let (db, slapd) = (database(), slapd());
    db.psql(
        "create table person (id int primary key, login text);
         create table address (id int primary key, person int, domain text default 'example.org', mail text)",
    );
    install(&db, &to_directory(&slapd, BINDINGS));
    let change = |sql: &str| {
        db.psql(sql);
        drain(&db).run().ok();
    };
    let mails = |login: &str| slapd.values(&format!("uid={login},ou=people,dc=example,dc=org"), "mail");
    change(
        "insert into address values (1, 1, 'a', 'a@x'), (2, 1, 'b', 'b@x'), (3, null, 'c', 'c@x'); insert into person values (1, 'ann'), (2, 'bob')",
    );
    assert_eq!((mails("ann"), mails("bob")), (vec!["a@x".into(), "b@x".into()], vec![]));
    change("update address set mail = 'z@x' where id = 2");
    assert_eq!(mails("ann"), ["a@x", "z@x"]);
    // The old owner loses it, the new one has it.
    change("update address set person = 2 where id = 1");
    assert_eq!((mails("ann"), mails("bob")), (vec!["z@x".into()], vec!["a@x".into()]));
    change("update address set person = 2 where id = 3; update address set person = null where id = 2");
    assert_eq!((mails("ann"), mails("bob")), (vec![], vec!["a@x".into(), "c@x".into()]));
    change("update address set mail = null where id = 1");
    assert_eq!(mails("bob"), ["c@x"]);
    // The person is renamed while an address changes.
    change(
        "begin; update person set login = 'rob' where id = 2; insert into address values (4, 2, 'd', 'd@x'); commit",
    );
    assert_eq!(mails("rob"), ["c@x", "d@x"]);
    change("delete from address where id = 3");
    assert_eq!(mails("rob"), ["d@x"]);
    // Nobody is there any more whom it could concern.
    change("begin; delete from person where id = 2; delete from address; commit");
    assert_eq!(slapd.names("ou=people,dc=example,dc=org").len(), 2);
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

#[test]
fn a_query_shows_the_row_as_it_is_now() {
    let (db, slapd) = (database(), slapd());
    db.psql("create table person (id int primary key, login text, mail text, room int)");
    let bindings = "
  people:
    table: public.person
    to: directory
    entry: { dn: \"uid={{ row.login }},ou=people,dc=example,dc=org\", object_classes: [inetOrgPerson], attributes: { cn: x, sn: x } }
  post:
    table: public.person
    to: directory
    query: { dn: \"uid={{ row.login }},ou=people,dc=example,dc=org\", attribute: mail, query: \"select {{ row.mail }}::text || '@' || {{ row.room }}::text\" }
";
    install(&db, &to_directory(&slapd, bindings));
    for (sql, mail) in [
        ("insert into person values (1, 'ann', 'a', 1)", "a@1"),
        ("update person set mail = 'b', room = 2", "b@2"),
    ] {
        db.psql(sql);
        drain(&db).run().ok();
        assert_eq!(
            slapd.values("uid=ann,ou=people,dc=example,dc=org", "mail"),
            [mail],
            "{sql}"
        );
    }
}

#[test]
fn a_query_that_fails_sets_only_its_rows_aside() {
    let (db, slapd) = (database(), slapd());
    db.psql(
        "create table person (id int primary key, login text); create table address (id int primary key, person int, domain text, mail text);
         create function secret_of(id int) returns text language plpgsql as $$begin if id = 2 then raise exception 'no secret'; end if; return 's' || id; end$$",
    );
    let bindings = BINDINGS.split("  addresses:").next().unwrap().replace(
        "select mail from address where person = {{ row.id }} and domain <> 'O''Hara'",
        "select secret_of({{ row.id }})",
    );
    install(&db, &to_directory(&slapd, &bindings));
    db.psql("insert into person values (1, 'ann'), (2, 'bob'), (3, 'cid')");
    drain(&db).run().code(3);
    assert_eq!(set_aside(&db), ["people [2] never"]);
    let reasons = super::column(&db, "select fail_reason from emaj.emaj_failure");
    assert!(
        reasons[0].starts_with("binding `people`: query: no secret (emaj.yaml:") && reasons[0].ends_with(')'),
        "{reasons:?}"
    );
    assert_eq!(slapd.names("ou=people,dc=example,dc=org").len(), 3);
    db.psql("create or replace function secret_of(id int) returns text language sql as $$select 's' || id$$");
    super::prepare(&db, &["failures", "retry", "--all"]).run().ok();
    drain(&db).run().ok();
    assert_eq!(slapd.values("uid=bob,ou=people,dc=example,dc=org", "mail"), ["s2"]);
    // A query must not write.
    db.psql("create or replace function secret_of(id int) returns text language sql as $$delete from address returning mail$$; update person set login = 'x' where id = 1");
    drain(&db).run().code(3);
}

#[test]
fn a_query_that_fits_no_table_has_the_sink_wait() {
    let (db, slapd) = (database(), slapd());
    db.psql("create table person (id int primary key, login text); create table address (id int primary key, person int, domain text, mail text)");
    let bindings = BINDINGS.split("  addresses:").next().unwrap();
    install(&db, &to_directory(&slapd, bindings));
    db.psql("alter table address rename mail to email; insert into person values (1, 'ann'); insert into address values (1, 1, 'x', 'a@x')");
    let run = drain(&db).run().code(1);
    said(&run, "binding `people`: query: column");
    assert_eq!(set_aside(&db), [] as [&str; 0]);
    // Who plans is told before anything waits, and has the query looked at as the worker asks it.
    let words = "the query of binding `people` cannot be asked by postgres: column \"mail\" does not exist; its sink would wait";
    said(&super::prepare(&db, &["plan", "emaj.yaml"]).run().ok(), words);
    let mut other = db.client();
    other.batch_execute("begin; lock table address").unwrap();
    let plan = super::prepare(&db, &["plan", "emaj.yaml"]).run().ok();
    assert!(!plan.stderr.contains("cannot be asked"), "{plan}");
    other
        .batch_execute("alter table address rename email to mail; commit")
        .unwrap();
    let plan = super::prepare(&db, &["plan", "emaj.yaml"]).run().ok();
    assert!(!plan.stderr.contains("cannot be asked"), "{plan}");
    drain(&db).run().ok();
    assert_eq!(slapd.values("uid=ann,ou=people,dc=example,dc=org", "mail"), ["a@x"]);
    // Where the text may be another one for each row, only the row is set aside.
    let query = "select mail from address where person = {{ row.id }} and domain <> 'O''Hara'";
    let other = "select {% if row.id > 1 %}none{% else %}mail{% endif %} from address where person = {{ row.id }}";
    install(&db, &to_directory(&slapd, &bindings.replace(query, other)));
    let plan = super::prepare(&db, &["plan", "emaj.yaml"]).run().ok();
    assert!(!plan.stderr.contains("cannot be asked"), "{plan}");
    db.psql("insert into person values (2, 'bob'), (3, 'cid'); update person set login = 'eve' where id = 1");
    drain(&db).run().code(3);
    assert_eq!(set_aside(&db), ["people [2] never", "people [3] never"]);
}

#[test]
fn a_value_of_a_query_is_a_value_whatever_it_holds() {
    let (db, slapd) = (database(), slapd());
    db.psql(
        "create table person (id int primary key, login text, note text, tags jsonb, since date, works boolean);
         create table m (login text, mail text); create table secret (s text); insert into secret values ('s3cret');
         insert into m values ('ann', 'ann@x'), ('a''b', 'ab@x')",
    );
    let notes = |query: &str| {
        format!(
            "
  people:
    table: public.person
    to: directory
    entry:
      dn: \"uid={{{{ row.id }}}},ou=people,dc=example,dc=org\"
      object_classes: [inetOrgPerson]
      attributes:
        cn: x
        sn: x
        description: {{ query: \"{query}\" }}
"
        )
    };
    std::fs::write(
        db.dir().join("emaj.yaml"),
        to_directory(&slapd, &notes("select mail from m where login = '{{ row.note }}'")),
    )
    .unwrap();
    let run = super::prepare(&db, &["validate"]).run().code(65);
    assert!(
        run.stdout.contains("a value stands in a literal") && run.stdout.contains("--> emaj.yaml:16:66"),
        "{run}"
    );

    let query = "select mail from m where login = {{ row.note }} union all select 'of ' || {{ row.login }} where {{ row.id }} + 1 > 0 \
                 and {{ row.note }} is not null and date {{ row.since }} > '1999-01-01' union all select format('%s', {{ row.works }}) where {{ row.works }} is not null -- all";
    let query = query.replace("date {{ row.since }}", "{{ row.since }}::date");
    install(&db, &to_directory(&slapd, &notes(&query)));
    db.psql(
        "insert into person values (1, 'ann', 'ann', '[]', '2020-01-01', true), (2, 'bob', 'a''b', '[]', '2020-01-01', false),
           (3, 'cid', ' union all select s from secret --', '[]', '2020-01-01', true),
           (4, 'dan', $$' union all select s from secret --$$, '[]', '2020-01-01', true), (5, 'eve', null, '[]', '2020-01-01', null)",
    );
    drain(&db).run().ok();
    let given = |id: u8| slapd.values(&format!("uid={id},ou=people,dc=example,dc=org"), "description");
    assert_eq!(given(1), ["ann@x", "of ann", "true"]);
    assert_eq!(given(2), ["ab@x", "false", "of bob"]);
    for (id, login) in [(3, "cid"), (4, "dan")] {
        assert_eq!(given(id), [format!("of {login}"), "true".to_owned()]);
    }
    assert_eq!(set_aside(&db), [] as [&str; 0]);
    // A value that is of no use where it stands sets its row aside, and the next query is asked as ever.
    let query = "select mail from m where length(mail) > {{ row.note }}::int";
    install(&db, &to_directory(&slapd, &notes(query)));
    db.psql("update person set note = '5' where id = 1; update person set note = 'x' where id = 2; update person set note = '4' where id = 3");
    drain(&db).run().code(3);
    assert_eq!(set_aside(&db), ["people [2] never"]);
    assert_eq!((given(1), given(3)), (vec![], vec!["ann@x".to_owned()]));
}

#[test]
fn blanks_that_a_query_gives_are_no_value() {
    let (db, slapd) = (database(), slapd());
    db.psql("create table person (id int primary key, login text); create table address (id int primary key, person int, domain text default 'x', mail text)");
    install(
        &db,
        &to_directory(
            &slapd,
            &BINDINGS
                .replace("mail: {", "title: {")
                .replace("attribute: mail", "attribute: title"),
        ),
    );
    let titles = |login: &str| slapd.values(&format!("uid={login},ou=people,dc=example,dc=org"), "title");
    db.psql("insert into address (id, person, mail) values (1, 1, ''), (2, 1, 'a'), (3, 1, ' '), (4, 2, '')");
    db.psql("insert into person values (1, 'ann'), (2, 'bob')");
    drain(&db).run().ok();
    assert_eq!((titles("ann"), titles("bob")), (vec!["a".to_owned()], vec![]));
    db.psql("update address set mail = '  ' where id = 2; update address set mail = 'b' where id = 4");
    drain(&db).run().ok();
    assert_eq!((titles("ann"), titles("bob")), (vec![], vec!["b".to_owned()]));
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

#[test]
fn json_in_a_query_is_a_parameter_too() {
    let (db, slapd) = (database(), slapd());
    db.psql(
        "create table person (id int primary key, login text, note text, doc jsonb);
         create table account (id int primary key, doc jsonb, pwhash text); insert into account values (1, '{\"a\": \"o''b\"}', 'geheim')",
    );
    let bindings = "
  people:
    table: public.person
    to: directory
    entry:
      dn: \"uid={{ row.login }},ou=people,dc=example,dc=org\"
      object_classes: [inetOrgPerson]
      attributes:
        cn: x
        sn: x
        description: { query: \"select coalesce({{ row.note | tojson }}) from account where id = {{ row.id }}\" }
        title: { query: \"select 'here' from account where doc = {{ row.doc | tojson }}\" }
";
    install(&db, &to_directory(&slapd, bindings));
    db.psql("insert into person values (1, 'ann', 'pwhash', '{\"a\": \"o''b\"}')");
    drain(&db).run().ok();
    assert_eq!(set_aside(&db), [] as [&str; 0]);
    let ann = |attribute: &str| slapd.values("uid=ann,ou=people,dc=example,dc=org", attribute);
    assert_eq!(
        (ann("description"), ann("title")),
        (vec!["\"pwhash\"".into()], vec!["here".into()])
    );
}

#[test]
fn the_time_limits_of_a_role_are_none_of_a_query() {
    let (db, slapd) = (database(), slapd());
    db.psql("create table person (id int primary key, login text); create table address (id int primary key, person int, domain text, mail text)");
    let bindings = BINDINGS.split("  addresses:").next().unwrap().replace(
        "select mail from address where person = {{ row.id }} and domain <> 'O''Hara'",
        "select concat_ws(' ', current_setting('statement_timeout'), current_setting('lock_timeout'), \
         current_setting('idle_in_transaction_session_timeout'), current_setting('idle_session_timeout'))",
    );
    install(&db, &to_directory(&slapd, &bindings));
    db.psql("insert into person values (1, 'ann')");
    drain(&db)
        .env(
            "PGOPTIONS",
            "-c statement_timeout=1h -c lock_timeout=1h -c idle_in_transaction_session_timeout=1h -c idle_session_timeout=1h",
        )
        .run()
        .ok();
    assert_eq!(slapd.values("uid=ann,ou=people,dc=example,dc=org", "mail"), ["0 0 0 0"]);
}
