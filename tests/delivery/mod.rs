//! Stories of delivery: what an application does, and what arrives.

mod again;
mod beside;
mod changes_hands;
mod comes_again;
mod edits;
mod entry_laws;
mod failures;
mod file;
mod guards;
mod init;
mod interrupted_init;
mod keys;
mod ldap;
mod looking;
mod lost;
mod meanwhile;
mod nulls;
mod numbers;
mod of_row;
mod order;
mod outages;
mod prune;
mod queries;
mod reading;
mod replay;
mod security;
mod set_back;
mod standstill;
mod together;
mod values_and_flags;
mod waiting;
mod workers;

use crate::support::slapd::{ACCOUNT, PASSWORD, Slapd};
use crate::support::{Database, Emaj, emaj};

/// A table of people, and the binding that makes entries of them.
const PERSON: &str = "create table person (id int primary key, login text, name text, mail text, note text)";
const PEOPLE: &str = "
  people:
    table: public.person
    to: directory
    entry:
      dn: \"uid={{ row.login }},ou=people,dc=example,dc=org\"
      object_classes: [inetOrgPerson]
      attributes: { cn: \"{{ row.name }}\", sn: \"{{ row.name }}\", mail: \"{{ row.mail }}\" }
";

/// The binding that makes entries of people who have nothing but a login.
const LOGINS: &str = "
  people:
    table: public.person
    to: directory
    entry:
      dn: \"uid={{ row.login }},ou=people,dc=example,dc=org\"
      object_classes: [inetOrgPerson]
      attributes: { cn: \"{{ row.login }}\", sn: x }
";

/// Writes the manifest and installs it.
fn install(db: &Database, manifest: &str) {
    std::fs::write(db.dir().join("emaj.yaml"), manifest).expect("the test's own folder");
    prepare(db, &["install", "emaj.yaml"]).run().ok();
}

/// Prepares a run of `emaj` that knows the directory's password.
fn prepare(db: &Database, args: &[&str]) -> Emaj {
    emaj(db).env("LDAP_PASSWORD", PASSWORD).args(args)
}

/// Prepares `emaj run --until-empty`.
fn drain(db: &Database) -> Emaj {
    prepare(db, &["run", "emaj.yaml", "--until-empty"])
}

/// Prepares `emaj run`.
fn worker(db: &Database) -> Emaj {
    prepare(db, &["run", "emaj.yaml"])
}

/// A manifest that sends a message for each change of `item` to a web service.
fn items_to_hook(url: &str, body: &str) -> String {
    format!(
        "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks: {{ hook: {{ webhook: {{ url: \"{url}\" }} }} }}\n\
         bindings: {{ items: {{ table: public.item, to: hook, message: {{ body: \"{body}\" }} }} }}\n"
    )
}

/// A manifest with a sink `directory` and these bindings.
fn to_directory(slapd: &Slapd, bindings: &str) -> String {
    format!(
        "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks:\n  directory:\n    ldap: {{ url: \"{}\", bind_dn: \"{ACCOUNT}\", \
         password: \"${{env:LDAP_PASSWORD}}\", timeout: 5 }}\nbindings:{bindings}",
        slapd.url()
    )
}

/// What stands below `ou=people`: of each entry its names, then `sn` and `mail`.
fn people(slapd: &Slapd) -> Vec<String> {
    let all = slapd.names("ou=people,dc=example,dc=org");
    let mut shown: Vec<String> = all
        .iter()
        .filter(|name| name.starts_with("uid="))
        .map(|name| {
            let text = |attribute| slapd.values(name, attribute).join("+");
            format!("{} {} {}", text("uid"), text("sn"), text("mail"))
                .trim_end()
                .to_owned()
        })
        .collect();
    shown.sort();
    shown
}

/// The logins below `ou=people`, asked for at once: for many.
fn logins(slapd: &Slapd) -> Vec<String> {
    let names = slapd.names("ou=people,dc=example,dc=org");
    let login = |name: &String| Some(name.strip_prefix("uid=")?.split(',').next()?.to_owned());
    let mut all: Vec<String> = names.iter().filter_map(login).collect();
    all.sort();
    all
}

/// The first column of a query's rows.
fn column(db: &Database, query: &str) -> Vec<String> {
    db.client()
        .query(query, &[])
        .expect(query)
        .iter()
        .map(|row| row.get(0))
        .collect()
}

/// How many writes the directory was asked for.
fn writes(slapd: &Slapd) -> usize {
    ["ADD", "MOD", "MODRDN", "DEL"]
        .iter()
        .map(|kind| slapd.count(kind))
        .sum()
}

/// What is set aside: binding, key, state.
fn set_aside(db: &Database) -> Vec<String> {
    column(
        db,
        "select concat_ws(' ', fail_binding, fail_key, lower(fail_state)) from emaj.emaj_failure order by fail_id",
    )
}
