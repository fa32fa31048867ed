//! Attributes that are the result of a query over two tables, both bound.

use super::{drain, install, set_aside, to_directory};
use crate::support::database;
use crate::support::slapd::slapd;

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
