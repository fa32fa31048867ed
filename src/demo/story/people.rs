//! The second part: a directory that follows two tables, through changes, an outage and a rollback.

use super::{Act, Chapter, Follow};

/// The name that commands look for when none is given.
const MANIFEST: (&str, &str) = ("emaj.yaml", include_str!("people.yaml"));

/// The tables, and the rows that are there from the start.
const PEOPLE: &str = include_str!("people.sql");

/// What the directory holds before emaj writes to it: the places, and two groups. (A group must have a member; theirs stays.)
pub(in crate::demo) const ENTRIES: &str = include_str!("directory.ldif");

/// What the directory must hold of people and groups, made from the tables alone: entry, attribute, value.
pub(in crate::demo) const TABLES_SAY: &str = "
select format('uid=%s,ou=people,dc=example,dc=org', p.login), a.name, a.value
  from hr.person as p
 cross join lateral (values ('objectClass', 'inetOrgPerson'), ('uid', p.login), ('cn', p.given || ' ' || p.family),
                            ('sn', p.family), ('mail', p.mail), ('telephoneNumber', p.phone)) as a(name, value)
 where a.value is not null
 union all
select format('cn=%s,ou=teams,dc=example,dc=org', team), 'member', format('uid=%s,ou=people,dc=example,dc=org', login)
  from hr.membership
 union all
select format('cn=%s,ou=teams,dc=example,dc=org', team), a.name, a.value
  from (values ('analysis'), ('compilers')) as g(team)
 cross join lateral (values ('objectClass', 'groupOfNames'), ('cn', team), ('member', 'cn=emaj,dc=example,dc=org')) as a(name, value)";

pub(super) const CHAPTERS: &[Chapter] = &[
    Chapter {
        title: "A directory",
        told: "The company's people are in two tables. Its LDAP directory is to say the same, and knows nobody yet.",
        acts: &[
            Act::Load("people.sql", PEOPLE),
            Act::Sql("select login, given, family, mail, phone from hr.person order by login"),
            Act::Directory(Follow::Start),
            Act::Directory(Follow::Search(&["-b", "ou=people,dc=example,dc=org", "dn"])),
            Act::Dump,
        ],
    },
    Chapter {
        title: "Two bindings",
        told: "A person is an entry, a membership is a value of a group. The password stays in the environment.",
        acts: &[Act::Show(MANIFEST.0, MANIFEST.1), Act::Emaj(&["install"])],
    },
    Chapter {
        title: "Those who are there already",
        told: "A binding delivers what happens from now on; `init` sends the rows that were there before.",
        acts: &[
            Act::Emaj(&["init"]),
            Act::Directory(Follow::Search(&["(uid=murray)"])),
            Act::Directory(Follow::Same),
            Act::Directory(Follow::Note("uid=murray")),
        ],
    },
    Chapter {
        title: "What happens from now on",
        told: "One comes, one goes, one marries. `emaj run` delivers after the commit; here it ends when nothing is left.",
        acts: &[
            Act::Sql(
                "insert into hr.person (login, given, family, mail) values ('kat', 'Katherine', 'Johnson', 'kat@example.org')",
            ),
            Act::Sql("delete from hr.person where login = 'alan' /* his memberships go with him */"),
            Act::Sql(
                "update hr.person set login = 'hopper', family = 'Hopper', mail = 'hopper@example.org' where login = 'murray'",
            ),
            Act::Emaj(&["run", "--until-empty"]),
            Act::Directory(Follow::Search(&["(|(uid=hopper)(cn=compilers))"])),
            Act::Directory(Follow::Same),
            Act::Directory(Follow::Noted("uid=hopper")),
        ],
    },
    Chapter {
        title: "The directory is down",
        told: "The application does not notice: what is not delivered stays in the log.",
        acts: &[
            Act::Directory(Follow::Stop),
            Act::Sql("insert into hr.membership values ('analysis', 'kat'), ('compilers', 'edsger')"),
            Act::Sql("update hr.person set phone = '+1 757 555 0126' where login = 'kat'"),
            Act::Fails(13, &["run", "--until-empty"]),
            Act::Emaj(&["sink", "lag"]),
        ],
    },
    Chapter {
        title: "It is back",
        told: "Everything arrives, in its order. A worker without `--until-empty` would have tried again by itself.",
        acts: &[
            Act::Directory(Follow::Start),
            Act::Emaj(&["run", "--until-empty"]),
            Act::Emaj(&["sink", "lag"]),
            Act::Directory(Follow::Same),
        ],
    },
    Chapter {
        title: "A value that the directory refuses",
        told: "LDAP takes no umlaut in `mail`. That one change is set aside; the others do not wait for it.",
        acts: &[
            Act::Sql("update hr.person set mail = 'büro@example.org' where login = 'edsger'"),
            Act::Sql("update hr.person set mail = 'countess@example.org' where login = 'ada'"),
            Act::Fails(3, &["run", "--until-empty"]),
            Act::Emaj(&["failures", "list"]),
            Act::Directory(Follow::SameBut("uid=edsger")),
            Act::Sql(
                "update hr.person set mail = 'office@example.org' where login = 'edsger' /* put right where it was wrong */",
            ),
            Act::Emaj(&["run", "--until-empty"]),
            Act::Directory(Follow::Same),
        ],
    },
    Chapter {
        title: "A mistake, delivered",
        told: "An update without its `where`. It is committed, and it is in the directory.",
        acts: &[
            Act::Emaj(&["mark", "set", "people", "monday"]),
            Act::Remember("monday"),
            Act::Sql("update hr.person set given = 'Nobody', mail = null"),
            Act::Sql("delete from hr.membership"),
            Act::Differs("monday"),
            Act::Emaj(&["run", "--until-empty"]),
            Act::Directory(Follow::Search(&["(uid=ada)", "cn", "mail"])),
            Act::Directory(Follow::Same),
        ],
    },
    Chapter {
        title: "And taken back",
        told: "A rollback is a change like any other: the directory follows.",
        acts: &[
            Act::Emaj(&["rollback", "people", "monday", "--yes"]),
            Act::Same("monday"),
            Act::Emaj(&["run", "--until-empty"]),
            Act::Directory(Follow::Search(&["(uid=ada)", "cn", "mail"])),
            Act::Directory(Follow::Same),
        ],
    },
    Chapter {
        title: "No trace",
        told: "The directory keeps its entries, the tables their rows; the schema is what it was.",
        acts: &[
            Act::Emaj(&["uninstall", "--yes"]),
            Act::Same("monday"),
            Act::Directory(Follow::Same),
            Act::SameDump,
        ],
    },
];
