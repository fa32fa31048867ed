//! `emaj import --from-copiste`: what a manifest of Copiste becomes, and what is said about what it cannot become.

use std::path::Path;

use crate::support::{Run, database, emaj, emaj_alone};

fn import(directory: &Path, file: &str) -> Run {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/copiste").join(file);
    std::fs::copy(from, directory.join(file)).unwrap();
    emaj_alone(directory).args(["import", "--from-copiste", file]).run()
}

/// Has `emaj validate` look at what was printed.
fn validated(directory: &Path, yaml: &str) -> Run {
    std::fs::write(directory.join("emaj.yaml"), yaml).unwrap();
    emaj_alone(directory).args(["validate", "emaj.yaml"]).run()
}

#[test]
fn a_manifest_of_all_functions_is_translated() {
    let directory = tempfile::tempdir().unwrap();
    let run = import(directory.path(), "people.py").ok();
    for secret in ["hunter2", "tiger"] {
        assert!(!run.to_string().contains(secret), "{run}");
    }
    insta::assert_snapshot!("import_people", run.stdout);
    insta::assert_snapshot!("import_people_said", run.stderr);
    let valid = validated(directory.path(), &run.stdout).ok();
    assert!(!valid.to_string().contains("warning"), "{valid}");
}

#[test]
fn what_is_no_declaration_is_said_and_never_run() {
    let directory = tempfile::tempdir().unwrap();
    let run = import(directory.path(), "beyond.py").code(3);
    insta::assert_snapshot!("import_beyond", run.stdout);
    insta::assert_snapshot!("import_beyond_said", run.stderr);
    validated(directory.path(), &run.stdout).ok();
    assert!(!Path::new("/tmp/emaj-import-ran").exists());
}

#[test]
fn a_file_is_written_once() {
    let directory = tempfile::tempdir().unwrap();
    let printed = import(directory.path(), "people.py").ok().stdout;
    let arguments = ["import", "--from-copiste", "people.py", "--to", "emaj.yaml"];
    let run = emaj_alone(directory.path()).args(arguments).run().ok();
    assert_eq!(run.stdout, "");
    assert_eq!(
        std::fs::read_to_string(directory.path().join("emaj.yaml")).unwrap(),
        printed
    );
    let again = emaj_alone(directory.path()).args(arguments).run().code(4);
    assert!(again.stderr.contains("name a file that is not there yet"), "{again}");
    // As `emaj new` says it, which can overwrite it.
    let new = emaj_alone(directory.path()).args(["new"]).run().code(4);
    assert_eq!(new.stderr, format!("{}hint: `--force` overwrites it\n", again.stderr));
    emaj_alone(directory.path()).args(["new", "--force"]).run().ok();
}

#[test]
fn what_is_no_manifest_is_one_clear_error() {
    let directory = tempfile::tempdir().unwrap();
    let cases: [(&[u8], &str); 6] = [
        (
            b"pg_credentials = {'host': 'x'\nbindings = []",
            "bad.py:1: `{` is never closed",
        ),
        (b"a = 1\nb = 'x\n", "bad.py:2: the text is never closed"),
        (
            b"version: 1\ngroups:\n  g: { tables: [a.b] }\n",
            "no binding could be translated",
        ),
        (b"", "no binding could be translated"),
        (b"a = 1\nb = '\xe9'\n", "bad.py:2: this is no UTF-8"),
        (b"bindings = make()", "no binding could be translated"),
    ];
    for (text, said) in cases {
        std::fs::write(directory.path().join("bad.py"), text).unwrap();
        let run = emaj_alone(directory.path())
            .args(["import", "--from-copiste", "bad.py"])
            .run()
            .code(65);
        assert!(run.stderr.contains(said) && run.stdout.is_empty(), "{run}");
    }
    let run = emaj_alone(directory.path())
        .args(["import", "--from-copiste", "none.py"])
        .run()
        .code(1);
    assert!(run.stderr.contains("failed to read `none.py`"), "{run}");
    emaj_alone(directory.path()).args(["import"]).run().code(64);
}

/// What keeps each binding from being translated is said, and where, without the secrets that stand beside it.
#[test]
fn all_that_keeps_a_file_from_being_translated_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let program = r#"
def make():
    return 1
pg_credentials = {
    'password': 'canary-1', 'host': ['h'], 'sslmode': 'canary-2'}
creds = {'host': 'h', 'bind_dn': 'cn=a', 'bind_pw': 'canary-3' % 1}
more = {'bind_dn': f'canary-4', 'bind_pw': 'canary-5'}
bindings = [
    'canary-6',
    Bind(WriteTrigger('public.t', 'a'), Copy2LDAP({'cn': 'name'}, None, creds)),
    Bind(WriteTrigger('public.t', 'b'), Mine(creds, 'canary-7')),
    Bind(make(), StoreIfExists(ldap_creds=more)),
]
"#;
    std::fs::write(directory.path().join("bad.py"), program).unwrap();
    let arguments = ["import", "--from-copiste", "bad.py"];
    let run = emaj_alone(directory.path()).args(arguments).run().code(65);
    assert!(run.stdout.is_empty() && !run.stderr.contains("canary"), "{run}");
    insta::assert_snapshot!("import_nothing_said", run.stderr);
}

/// What is put around a query is outside of its comments, and an apostrophe in one is no quote.
#[test]
fn a_query_with_comments_can_be_asked() {
    let db = database();
    db.psql(
        "create table person (id int primary key, login text); create table alias (id int primary key, person int, mail text, team text)",
    );
    let program = r#"
creds = {'host': 'ldap://h', 'bind_dn': 'cn=a', 'bind_pw': 'x'}
person = LDAPModel('(uid={uid})', 'ou=people', 'uid={uid},ou=people', {'objectClass': ['inetOrgPerson']})
team = LDAPModel('(cn={cn})', 'ou=teams', 'cn={cn},ou=teams')
bindings = [
    Bind(WriteTrigger('public.person', 'people'), Copy2LDAP({'uid': 'login', 'mail': 'login'}, person, creds, {
        'mail': "select lower(mail) as mail from alias where person = '{id}' -- the person's own, by {id}",
        'sn': """
            select login as sn -- it's all there is
              from person /* so it's "here */ where id = {id}; -- the end;
        """,
    })),
    Bind(WriteTrigger('public.alias', 'aliases'), AccumulateRequest2LDAPField(
        "select mail from alias -- that team's\nwhere team = '{team}';", 'member', {'cn': 'team'}, team, creds)),
]
"#;
    db.file("manifest.py", program);
    let imported = emaj(&db).args(["import", "--from-copiste", "manifest.py", "--to", "emaj.yaml"]);
    imported.run().ok();
    let plan = emaj(&db)
        .env("LDAP_PASSWORD", "x")
        .args(["plan", "emaj.yaml"])
        .run()
        .ok();
    assert!(!plan.to_string().contains("cannot be asked"), "{plan}");
    insta::assert_snapshot!(
        "import_comments",
        std::fs::read_to_string(db.dir().join("emaj.yaml")).unwrap()
    );
}

#[test]
fn hostile_texts_stay_texts() {
    let directory = tempfile::tempdir().unwrap();
    let program = r##"
creds = {'host': 'ldap://h', 'bind_dn': "cn=${env:HOME}\n: {{ x }}", 'bind_pw': 'x'}
model = LDAPModel('(uid={uid})', 'ou="a#: b', 'uid={uid},ou={{ row.x }}', {'objectClass': ['top'], 'cn': '{% raw %}', 'o': "a: 'b'\n# c\u2028"})
bindings = [
    Bind(WriteTrigger('"Odd: Table"."T#1"', "yes\n- {{x}}: "), Copy2LDAP({'uid': 'a"b\\c', 'sn': 'in'}, model, creds)),
    Bind(WriteTrigger('public.t', 'null'), LogWarn(message='true')),
]
"##;
    std::fs::write(directory.path().join("odd.py"), program).unwrap();
    let run = emaj_alone(directory.path())
        .args(["import", "--from-copiste", "odd.py"])
        .run()
        .ok();
    validated(directory.path(), &run.stdout).ok();
    insta::assert_snapshot!("import_hostile", run.stdout);
}
