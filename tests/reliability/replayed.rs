//! A directory is given the same stream again and again: it stays as it is, to the last operational attribute.

use std::time::Duration;

use super::{drain, install};
use crate::support::slapd::{ACCOUNT, PASSWORD, slapd};
use crate::support::{self, Chance, emaj};

#[test]
fn the_same_stream_three_times_writes_once() {
    let seed = support::seed();
    let mut chance = Chance::new(seed);
    let directory = slapd();
    let db = support::database();
    db.psql(
        "create table person (login text primary key, name text not null, mail text, active bool not null default true);
         create table member (login text, team text, primary key (login, team))",
    );
    directory.modify(&format!(
        "dn: cn=all,ou=groups,dc=example,dc=org\nchangetype: add\nobjectClass: groupOfNames\ncn: all\nmember: {ACCOUNT}\n"
    ));
    install(
        &db,
        &format!(
            r#"
groups: {{ people: {{ tables: [public.person, public.member] }} }}
sinks: {{ directory: {{ ldap: {{ url: "{}", bind_dn: "{ACCOUNT}", password: "${{env:LDAP_PASSWORD}}" }} }} }}
bindings:
  person:
    table: public.person
    to: directory
    when: row.active
    entry:
      dn: "uid={{{{ row.login }}}},ou=people,dc=example,dc=org"
      object_classes: [inetOrgPerson]
      attributes: {{ cn: "{{{{ row.name }}}}", sn: "{{{{ row.name }}}}", mail: "{{{{ row.mail }}}}" }}
  member:
    table: public.member
    to: directory
    when: row.team == "all"
    value:
      dn: "cn=all,ou=groups,dc=example,dc=org"
      attribute: member
      value: "uid={{{{ row.login }}}},ou=people,dc=example,dc=org"
"#,
            directory.url()
        ),
    );
    emaj(&db).args(["mark", "set", "people", "begin"]).run().ok();
    let mut client = db.client();
    for _ in 0..support::scale(300) {
        let login = format!("p{}", chance.below(40));
        let sql = match chance.below(8) {
            0 => format!("delete from person where login = '{login}'"),
            1 => format!("update person set active = not active where login = '{login}'"),
            2 => format!("insert into member values ('{login}', 'all') on conflict do nothing"),
            3 => format!("delete from member where login = '{login}'"),
            4 => format!("update person set mail = null where login = '{login}'"),
            _ => format!(
                "insert into person values ('{login}', 'name {0}', 'm{0}@x') on conflict (login) do update set name = excluded.name, mail = excluded.mail",
                chance.below(1000)
            ),
        };
        client.batch_execute(&sql).unwrap();
    }
    let run = || drain(&db).env("LDAP_PASSWORD", PASSWORD).run().ok();
    run();
    let (dump, entries) = (directory.dump(), directory.names("ou=people,dc=example,dc=org").len());
    assert!(entries > 10, "seed {seed}");
    let writes = || {
        ["ADD", "MOD", "MODRDN", "DEL"]
            .map(|kind| directory.count(kind))
            .iter()
            .sum::<usize>()
    };
    let mut again = Vec::new();
    for _ in 0..3 {
        // (A second of its own: times in a directory are whole seconds.)
        std::thread::sleep(Duration::from_millis(1100));
        let before = writes();
        emaj(&db)
            .args(["replay", "directory", "--from", "begin", "--yes"])
            .run()
            .ok();
        run();
        again.push(writes() - before);
        let plain = |dump: &str| -> String {
            let of_no_account = |line: &&str| {
                !["entrycsn", "modifytimestamp", "createtimestamp", "entryuuid"]
                    .iter()
                    .any(|name| line.trim_start().starts_with(name))
            };
            dump.lines()
                .filter(of_no_account)
                .fold(String::new(), |text, line| text + line + "\n")
        };
        assert!(
            plain(&directory.dump()) == plain(&dump),
            "the directory differs, seed {seed}"
        );
    }
    // A stream in which each row changes once says what is there already.
    emaj(&db).args(["mark", "set", "people", "once"]).run().ok();
    db.psql("update person set name = name || '!'; insert into member select login, 'all' from person on conflict do nothing");
    run();
    let dump = directory.dump();
    let before = writes();
    for _ in 0..3 {
        emaj(&db)
            .args(["replay", "directory", "--from", "once", "--yes"])
            .run()
            .ok();
        run();
    }
    // Each write would give an entry a new `entryCSN`. (An added value that is there already is refused by the server.)
    let asked = writes() - before;
    assert!(directory.dump() == dump, "the directory differs, seed {seed}");
    println!(
        "replayed: {entries} entries, 3 times: the same LDIF ({again:?} writes on the way through old states); each row changed once: 0 writes, {asked} refused (seed {seed})"
    );
}
