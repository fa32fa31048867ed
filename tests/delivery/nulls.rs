//! A NULL stays a NULL, whatever a template makes of it on the way: nowhere does the word `none` arrive.

use serde_json::{Value, json};

use super::{column, drain, install, people, set_aside, to_directory};
use crate::support::database;
use crate::support::slapd::slapd;

const MEMBER: &str = "create table member (id int primary key, login text, team text, mail text, boss int)";
const BINDINGS: &str = "
  people:
    table: public.member
    to: directory
    when: row.login | lower != 'x'
    entry:
      dn: \"uid={{ row.login | lower }},ou=people,dc=example,dc=org\"
      object_classes: [inetOrgPerson]
      attributes:
        cn: \"{{ row.login | upper | default('nobody', true) }}\"
        sn: \"{{ [row.login, row.mail] | join(' ') }}\"
        mail: \"{{ row.mail | lower }}\"
        title: \"{{ row.mail ~ '!' }}\"
        employeeNumber: \"{{ row.boss | int }}\"
        description: [\"{{ row.mail | trim | replace('@', ' at ') }}\", \"{{ row.mail | tojson }}\"]
  teams:
    table: public.member
    to: directory
    value:
      dn: \"cn={{ row.team | lower }},ou=groups,dc=example,dc=org\"
      attribute: memberUid
      value: \"{{ row.login | lower }}\"
";

#[test]
fn a_directory_gets_no_word_for_it() {
    let (db, slapd) = (database(), slapd());
    db.psql(MEMBER);
    install(&db, &to_directory(&slapd, BINDINGS));
    for group in ["c1", "none"] {
        slapd.modify(&format!(
            "dn: cn={group},ou=groups,dc=example,dc=org\nchangetype: add\nobjectClass: posixGroup\ncn: {group}\ngidNumber: 1\n"
        ));
    }
    let change = |sql: &str| {
        db.psql(sql);
        drain(&db).run().ok();
    };
    let ann = |attribute: &str| slapd.values("uid=ann,ou=people,dc=example,dc=org", attribute);
    change("insert into member values (1, 'Ann', 'C1', 'Ann@Example.ORG', 7), (2, 'Bob', null, null, null)");
    assert_eq!(people(&slapd), ["ann Ann Ann@Example.ORG ann@example.org", "bob Bob"]);
    assert_eq!(ann("description"), ["\"Ann@Example.ORG\"", "Ann at Example.ORG"]);
    assert_eq!(
        (ann("title"), ann("employeeNumber")),
        (vec!["Ann@Example.ORG!".into()], vec!["7".into()])
    );
    let bob = |attribute: &str| slapd.values("uid=bob,ou=people,dc=example,dc=org", attribute);
    for attribute in ["mail", "title", "employeeNumber", "description"] {
        assert_eq!(bob(attribute), [] as [&str; 0], "{attribute}");
    }
    let members = |group: &str| slapd.values(&format!("cn={group},ou=groups,dc=example,dc=org"), "memberUid");
    assert_eq!((members("c1"), members("none")), (vec!["ann".into()], vec![]));

    // It comes later, in a condition too; and in a name there is no place for it.
    change("update member set mail = null, team = null, boss = null where id = 1; insert into member values (3, 'X')");
    assert_eq!(people(&slapd), ["ann Ann", "bob Bob"]);
    assert_eq!(
        (ann("title"), ann("description"), members("c1")),
        (vec![], vec![], vec![])
    );
    db.psql("insert into member values (4, null, 'c1', 'a', 1)");
    drain(&db).run().code(3);
    assert_eq!(
        (people(&slapd).len(), members("c1"), members("none")),
        (2, vec![], vec![])
    );
    assert_eq!(set_aside(&db), ["people [4] never"]);
    let reasons = column(&db, "select fail_reason from emaj.emaj_failure");
    assert!(reasons[0].contains("a value in the dn is null"), "{reasons:?}");
}

const LINES: &str = "
version: 1
roles: { admin: null, viewer: null }
sinks:
  lines: { file: { path: out.ndjson } }
bindings:
  rows:
    table: public.member
    to: lines
    row:
      columns:
        id: row.id
        mail: row.mail | lower
        both: row.login ~ ' ' ~ row.mail
        said: row.mail | tojson
        or_else: row.mail | upper | default('-', true)
        boss: row.boss | int
  told:
    table: public.member
    to: lines
    message: { body: \"{{ {'mail': row.mail | lower, 'of': [row.login ~ row.mail]} | tojson }}\" }
";

#[test]
fn another_table_and_a_message_get_null() {
    let db = database();
    db.psql(MEMBER);
    install(&db, LINES);
    db.psql("insert into member values (1, 'ann', null, 'A@x', 7); insert into member values (2, 'bob')");
    drain(&db).run().ok();
    let text = std::fs::read_to_string(db.dir().join("out.ndjson")).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut made: Vec<&Value> = lines.iter().map(|line| line.get("row").unwrap_or(line)).collect();
    made.sort_by_key(|line| line.to_string());
    assert_eq!(
        made,
        [
            &json!({"id": 1, "mail": "a@x", "both": "ann A@x", "said": "\"A@x\"", "or_else": "A@X", "boss": 7}),
            &json!({"id": 2, "mail": null, "both": null, "said": null, "or_else": "-", "boss": null}),
            &json!({"mail": "a@x", "of": ["annA@x"]}),
            &json!({"mail": null, "of": [null]}),
        ]
    );
}
