//! The sink `postgres`, asked directly: rows of one database in another, each once, whatever is refused or killed.

use emaj::manifest::Event;
use emaj::names::QualifiedName;
use emaj::sink::{Action, Delivery, Fault, Offset, Opener, Outcome, RowsAsText, Sink, TextColumn, Verdict};

use crate::support::rows::{delivery, manifest_of, opener_in, opener_of, row, sink_into};
use crate::support::{self, Database};

/// Makes what opens a sink into `db`, as `role`.
fn into_as(db: &Database, role: &str) -> Box<dyn Opener> {
    opener_of(db.dir(), &sink_into(db, role), &[])
}

fn into(db: &Database) -> Box<dyn Opener> {
    into_as(db, support::shared_cluster().superuser())
}

fn insert(at: usize, table: &str, json: &str) -> Delivery {
    delivery(at, Some(Event::Insert), row(table, None, Some(json)))
}

fn update(at: usize, table: &str, json: &str) -> Delivery {
    delivery(at, Some(Event::Update), row(table, None, Some(json)))
}

fn delete(at: usize, table: &str, json: &str) -> Delivery {
    delivery(at, Some(Event::Delete), row(table, Some(json), None))
}

fn rekey(at: usize, table: &str, old: &str, new: &str) -> Delivery {
    delivery(at, Some(Event::Update), row(table, Some(old), Some(new)))
}

/// Returns the outcomes, one character each: written, unchanged, later, never, down.
fn outcomes(outcomes: &[Outcome]) -> String {
    let letter = |outcome: &Outcome| match outcome {
        Outcome::Written => 'w',
        Outcome::Unchanged => '=',
        Outcome::Failed(fault) => match fault.verdict {
            Verdict::Later | Verdict::Silent | Verdict::Clash => 'L',
            Verdict::Never => 'N',
            Verdict::Down => 'D',
        },
    };
    outcomes.iter().map(letter).collect()
}

fn reason(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Failed(fault) => &fault.reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn rows_come_change_and_go() {
    let db = support::database();
    db.psql("create table t (id int primary key, v text)");
    let mut sink = into(&db).open().unwrap();
    assert_eq!(sink.resume().unwrap(), None);
    let batch = [
        insert(1, "t", r#"{"id":1,"v":"a"}"#),
        insert(2, "t", r#"{"id":2,"v":null}"#),
        insert(3, "t", r#"{"id":3,"v":"O'Brien\n\\.\t\"x\""}"#),
    ];
    assert_eq!(outcomes(&sink.deliver(&batch)), "www");
    // Once more, as after a lost answer.
    assert_eq!(outcomes(&sink.deliver(&batch)), "===");
    let batch = [
        update(4, "t", r#"{"id":1,"v":"b"}"#),
        delete(5, "t", r#"{"id":2}"#),
        rekey(6, "t", r#"{"id":3}"#, r#"{"id":4,"v":"d"}"#),
        insert(7, "t", r#"{"id":5,"v":"e"}"#),
        update(8, "t", r#"{"id":5,"v":"f"}"#),
        insert(9, "t", r#"{"id":6,"v":"g"}"#),
        delete(10, "t", r#"{"id":6}"#),
        delete(11, "t", r#"{"id":77}"#),
    ];
    assert_eq!(outcomes(&sink.deliver(&batch)), "wwwwww==");
    assert_eq!(db.psql("select * from t order by id"), "1|b\n4|d\n5|f");
    assert_eq!(sink.resume().unwrap(), Some(Offset("000000000011".into())));
    let name = db.psql("select application_name from pg_stat_activity where application_name like 'emaj%' and datname = current_database()");
    assert_eq!(name, "emaj there");
}

#[test]
fn the_first_batch_of_a_worker_that_was_passed_over_is_not_written() {
    let db = support::database();
    db.psql("create table t (id int primary key, v text)");
    let (mut old, mut new) = (into(&db).open().unwrap(), into(&db).open().unwrap());
    assert_eq!(old.resume().unwrap(), None);
    assert_eq!(new.resume().unwrap(), None);
    let batch = |v: &str| [insert(1, "t", &format!(r#"{{"id":1,"v":"{v}"}}"#))];
    assert_eq!(outcomes(&old.deliver(&batch("old"))), "D");
    assert_eq!(outcomes(&new.deliver(&batch("new"))), "w");
    assert_eq!(db.psql("select * from t"), "1|new");
}

/// Each type, a few of its values, the odd ones too.
const TYPES: &[(&str, &str)] = &[
    ("bool", "(true), (false), (null)"),
    ("smallint", "(-32768), (32767)"),
    ("bigint", "(-9223372036854775808), (9223372036854775807)"),
    (
        "numeric(30,10)",
        "(12345678901234567890.0123456789), (-0.0000000001), ('NaN')",
    ),
    ("numeric", "(1.10), ('Infinity'), (1e-300), (1e300)"),
    ("real", "(1.1), ('NaN'), ('-Infinity')"),
    ("double precision", "(0.1), (1e-300), ('-0')"),
    ("money", "('12.50'::money)"),
    (
        "text",
        "(''), ('NULL'), ('\\N'), ('\\.'), (E'a\\tb\\nc\\rd\\\\e\\b\\f\\v\\x01\"''é😀')",
    ),
    ("varchar(7)", "('1234567'), ('   ')"),
    ("char(5)", "('ab')"),
    ("\"char\"", "('x')"),
    ("name", "('n')"),
    ("bytea", "('\\x'), ('\\x00ff5c0a22')"),
    ("date", "('2024-02-29'), ('0044-03-15 BC'), ('infinity')"),
    ("time(3)", "('24:00:00'), ('12:34:56.789')"),
    ("timetz", "('12:34:56.789012+05:30')"),
    (
        "timestamp",
        "('2024-02-29 23:59:59.999999'), ('-infinity'), ('0044-03-15 01:02:03 BC')",
    ),
    (
        "timestamptz",
        "('2024-02-29 23:59:59.999999+05:30'), ('infinity'), ('0044-03-15 01:02:03+00 BC')",
    ),
    ("interval", "('1 year -2 mons 3 days -04:05:06.789')"),
    ("uuid", "('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11')"),
    ("inet", "('192.168.0.1/24'), ('::1')"),
    ("cidr", "('10.0.0.0/8')"),
    ("macaddr", "('08:00:2b:01:02:03')"),
    ("bit(5)", "('10101')"),
    ("varbit", "(''), ('101')"),
    ("point", "('(1.5,-2)')"),
    ("box", "('(1,1),(0,0)')"),
    ("polygon", "('((0,0),(1,1),(2,0))')"),
    (
        "json",
        "(E'{\"b\": [1, 2.50,  null],\\n \"a\":\"\\\\u0041\\\\n\"}'), ('\"text\"'), ('12.50')",
    ),
    ("jsonb", "('{\"k\": [1.50, {\"x\": \"\\\"\"}]}'), ('\"text\"')"),
    ("xml", "('<a b=\"c\">x &amp; y</a>'), ('two<b/>')"),
    ("tsvector", "('a:1A fat:2 ''q q'':3')"),
    ("tsquery", "('a & !b')"),
    ("int4range", "('[1,5)'), ('empty'), ('(,)')"),
    ("tstzrange", "('[2024-01-01 00:00+00,)')"),
    ("int4multirange", "('{[1,3),[5,7)}')"),
    ("oid", "(4294967295)"),
    ("regclass", "('pg_catalog.pg_class')"),
    ("pg_lsn", "('16/B374D848')"),
    ("int2vector", "('1 2 3'), ('')"),
    ("oidvector", "('1 4294967295'), ('')"),
    ("int[]", "('{}'), ('{1,NULL,3}'), ('{{1,2},{3,4}}')"),
    ("text[]", "('{\"a,b\",\"NULL\",NULL,\"q\\\"\\\\\",\"\",\" x \"}')"),
    ("numeric(12,3)[]", "('{1.100,NULL}')"),
    ("bytea[]", "(array['\\x00ff'::bytea])"),
    ("jsonb[]", "(array['{\"a\": [1]}'::jsonb, '[2]', '\"s\"'])"),
    ("box[]", "('{(1,1),(0,0);(2,2),(1,1)}')"),
    ("tstzrange[]", "(array['[2024-01-01 00:00+00,)'::tstzrange])"),
    ("mood", "('so so'), ('O''K')"),
    ("mood[]", "('{\"so so\"}')"),
    ("email", "('a@b')"),
    ("email[]", "('{a@b}')"),
    ("tags", "('{x,y}')"),
    ("tags[]", "('{\"{x,y}\",NULL,\"{\\\"a b\\\",NULL}\",\"{}\"}'), ('{}')"),
    ("hstore", "('a=>b, \"c d\"=>NULL, \"e\\\"f\"=>\"g\\\\h\"')"),
    (
        "pair",
        "(row(1,'a, (b) \"c\" \\\\')::pair), (row(null,null)::pair), (row(2,'')::pair)",
    ),
    ("pair[]", "(array[row(1,'x,y')::pair, null])"),
    (
        "nest",
        "(row(row(1,'q\"')::pair, array[row(2,null)::pair], '{\"j\": [1]}', array['a b'])::nest)",
    ),
];

#[test]
fn every_type_arrives_as_it_was() {
    let db = support::database();
    db.psql(
        "create extension hstore; create type mood as enum ('so so', 'O''K'); create domain email as text check (value ~ '@'); create domain tags as text[];
         create type pair as (n int, t text); create type nest as (p pair, l pair[], j jsonb, s text[])",
    );
    let mut client = db.client();
    let mut sink = into(&db).open().unwrap();
    let mut offset = 0;
    for (at, (sql_type, values)) in TYPES.iter().enumerate() {
        for name in ["from", "to", "staged", "moved"] {
            let table = format!("{name}_{at}");
            client
                .batch_execute(&format!(
                    "create table {table} (id int primary key generated by default as identity, v {sql_type})"
                ))
                .unwrap_or_else(|error| panic!("{sql_type}: {error:?}"));
        }
        client
            .batch_execute(&format!(
                "insert into from_{at} (v) select v::{sql_type} from (values {values}) s(v)"
            ))
            .unwrap_or_else(|error| panic!("{sql_type}: {error:?}"));
        client
            .batch_execute(&format!("insert into moved_{at} (id) select id + 100 from from_{at}"))
            .unwrap();
        let rows = client
            .query(
                &format!("select to_json(t)::text, json_build_object('id', id + 100)::text from from_{at} t"),
                &[],
            )
            .unwrap();
        // Once straight by `copy`, once through the place where changes wait, once to another key.
        for (table, event, moves) in [
            (format!("to_{at}"), None, false),
            (format!("staged_{at}"), Some(Event::Update), false),
            (format!("moved_{at}"), Some(Event::Update), true),
        ] {
            let batch: Vec<Delivery> = rows
                .iter()
                .map(|json| {
                    offset += 1;
                    let old: Option<&str> = moves.then(|| json.get(1));
                    delivery(offset, event, row(&table, old, Some(json.get(0))))
                })
                .collect();
            let done = sink.deliver(&batch);
            assert!(done.iter().all(|one| *one == Outcome::Written), "{sql_type}: {done:?}");
            let differing: i64 = client
                .query_one(
                    &format!(
                        "select count(*) from from_{at} a full join {table} b using (id)
                          where a.v::text is distinct from b.v::text or a.id is null or b.id is null"
                    ),
                    &[],
                )
                .unwrap()
                .get(0);
            assert_eq!(
                differing,
                0,
                "{sql_type} by {table}: {}",
                db.psql(&format!("select * from {table}"))
            );
            let again = sink.deliver(&batch);
            assert!(
                again.iter().all(|one| *one == Outcome::Unchanged),
                "{sql_type} by {table}: {again:?}"
            );
        }
    }
}

#[test]
fn one_bad_row_of_a_thousand_stays_out_alone() {
    let db = support::database();
    db.psql("create table t (id int primary key, v varchar(8))");
    let mut sink = into(&db).open().unwrap();
    let mut batch: Vec<Delivery> = (1..=1000)
        .map(|id| insert(id, "t", &format!(r#"{{"id":{id},"v":"x"}}"#)))
        .collect();
    batch[616] = insert(617, "t", r#"{"id":617,"v":"far too long"}"#);
    batch[900] = update(901, "t", r#"{"id":617,"v":"still too long"}"#);
    let done = sink.deliver(&batch);
    assert_eq!(
        db.psql("select count(*), count(*) filter (where id = 617) from t"),
        "998|0"
    );
    let letters = outcomes(&done);
    assert_eq!(
        (letters.matches('w').count(), &letters[616..617], &letters[900..901]),
        (998, "N", "L")
    );
    assert!(reason(&done[616]).contains("value too long"), "{:?}", done[616]);
    // Nothing after the refused one is taken as arrived: whoever is killed now gets all of it again.
    assert_eq!(sink.resume().unwrap(), Some(Offset(format!("{:012}", 616))));
    let better = update(901, "t", r#"{"id":617,"v":"better"}"#);
    assert_eq!(
        outcomes(&sink.deliver(&[batch[616].clone(), better])),
        "ww",
        "only the last state of a row is written"
    );
    assert_eq!(db.psql("select v from t where id = 617"), "better");
}

#[test]
fn a_broken_reference_waits_and_others_go_on() {
    let db = support::database();
    db.psql("create table p (id int primary key); create table c (id int primary key, p int not null references p)");
    let mut sink = into(&db).open().unwrap();
    let batch = [
        insert(1, "p", r#"{"id":1}"#),
        insert(2, "c", r#"{"id":1,"p":1}"#),
        insert(3, "c", r#"{"id":2,"p":2}"#),
        insert(4, "c", r#"{"id":3,"p":1}"#),
    ];
    assert_eq!(outcomes(&sink.deliver(&batch)), "wwLw");
    assert_eq!(
        outcomes(&sink.deliver(&[insert(5, "p", r#"{"id":2}"#), batch[2].clone()])),
        "ww"
    );
    // The child moves to another parent before its own one goes; children go before parents.
    let batch = [
        update(6, "c", r#"{"id":2,"p":1}"#),
        delete(7, "p", r#"{"id":2}"#),
        delete(8, "c", r#"{"id":1}"#),
        delete(9, "c", r#"{"id":2}"#),
        delete(10, "c", r#"{"id":3}"#),
        delete(11, "p", r#"{"id":1}"#),
    ];
    assert_eq!(outcomes(&sink.deliver(&batch)), "wwwwww");
    assert_eq!(db.psql("select count(*) from p"), "0");
}

#[test]
fn what_refers_to_a_row_that_goes_stays_where_it_has_moved_away() {
    let db = support::database();
    db.psql(
        "create table p (id int primary key, own text default 'ours');
         create table c (id int primary key, p int references p on delete cascade on update cascade);
         create table g (id int primary key, c int references c on delete cascade on update cascade);
         insert into p values (1, 'one'), (2, 'two'), (3, 'three'), (5, 'five'), (6, 'six');
         insert into c values (11, 1), (12, 2), (16, 6); insert into g values (111, 11), (112, 12), (116, 16)",
    );
    let mut sink = into(&db).open().unwrap();
    let all = "select string_agg(concat_ws(' ', g.id, c.id, p.id, p.own), ', ' order by g.id) from g join c on c.id = g.c join p on p.id = c.p";
    // A child moves to another parent, the former one goes, and one gets another key.
    let batch = [
        update(1, "c", r#"{"id":11,"p":2}"#),
        delete(2, "p", r#"{"id":1}"#),
        rekey(3, "p", r#"{"id":3}"#, r#"{"id":30}"#),
    ];
    assert_eq!(outcomes(&sink.deliver(&batch)), "www");
    assert_eq!(db.psql(all), "111 11 2 two, 112 12 2 two, 116 16 6 six");
    // A row goes, and another one gets its key, with what refers to it and what only this database has.
    let batch = [
        delete(4, "p", r#"{"id":5}"#),
        rekey(5, "p", r#"{"id":6}"#, r#"{"id":5}"#),
        update(6, "c", r#"{"id":16,"p":5}"#),
    ];
    assert_eq!(outcomes(&sink.deliver(&batch)), "ww=");
    assert_eq!(db.psql(all), "111 11 2 two, 112 12 2 two, 116 16 5 six");
    assert_eq!(db.psql("select string_agg(id::text, ' ' order by id) from p"), "2 5 30");
}

#[test]
fn a_row_that_cannot_be_moved_makes_room_for_itself() {
    let db = support::database();
    db.psql(
        "create table t (id int primary key, u text unique, own text); insert into t values (1, 'a', 'one'), (2, 'b', 'two');
         create table fixed (id int primary key generated always as identity, u text unique); insert into fixed values (default, 'a')",
    );
    let mut sink = into(&db).open().unwrap();
    let batch = [
        rekey(1, "t", r#"{"id":1}"#, r#"{"id":2,"u":"a"}"#),
        rekey(2, "fixed", r#"{"id":1}"#, r#"{"id":7,"u":"a"}"#),
    ];
    assert_eq!(outcomes(&sink.deliver(&batch)), "ww");
    assert_eq!(db.psql("select * from t"), "2|a|two");
    assert_eq!(db.psql("select * from fixed"), "7|a");
}

#[test]
fn unique_values_may_be_handed_on_and_exchanged() {
    let db = support::database();
    db.psql(
        "create table t (id int primary key, u text unique);
         create table d (id int primary key, u text, constraint u unique (u) deferrable);
         insert into t values (1, 'a'), (2, 'b'); insert into d select * from t",
    );
    let mut sink = into(&db).open().unwrap();
    // In order there is never a conflict; as a set there is one.
    let batch = [
        update(1, "t", r#"{"id":1,"u":"c"}"#),
        update(2, "t", r#"{"id":2,"u":"a"}"#),
        update(3, "t", r#"{"id":1,"u":"b"}"#),
        delete(4, "t", r#"{"id":2}"#),
        insert(5, "t", r#"{"id":3,"u":"a"}"#),
    ];
    assert_eq!(outcomes(&sink.deliver(&batch)), "wwwww");
    assert_eq!(db.psql("select * from t order by id"), "1|b\n3|a");
    let batch = [
        update(6, "d", r#"{"id":1,"u":"b"}"#),
        update(7, "d", r#"{"id":2,"u":"a"}"#),
    ];
    assert_eq!(outcomes(&sink.deliver(&batch)), "ww");
    assert_eq!(db.psql("select * from d order by id"), "1|b\n2|a");
    let taken = sink.deliver(&[
        insert(8, "t", r#"{"id":9,"u":"a"}"#),
        insert(9, "t", r#"{"id":10,"u":"z"}"#),
    ]);
    assert_eq!(outcomes(&taken), "Lw");
}

#[test]
fn of_two_spellings_of_one_key_the_later_one_is_there() {
    let db = support::database();
    db.psql(
        "create extension citext; create table t (id citext primary key, v int); create table n (id int primary key, v int);
         insert into t values ('Bob', 0); insert into n values (7, 1)",
    );
    // Nothing is deleted in these batches: each sink is a new one, which has seen no deletion either.
    for batch in [
        [
            update(1, "t", r#"{"id":"Bob","v":1}"#),
            insert(2, "t", r#"{"id":"bob","v":2}"#),
        ],
        [
            update(3, "t", r#"{"id":"Bob","v":1}"#),
            update(4, "t", r#"{"id":"bob","v":2}"#),
        ],
    ] {
        db.psql("update t set id = 'Bob', v = 0");
        assert_eq!(outcomes(&into(&db).open().unwrap().deliver(&batch)), "ww");
        assert_eq!(db.psql("table t"), "bob|2");
    }
    // The later one is what is there already.
    let batch = [
        update(5, "n", r#"{"id":"007","v":2}"#),
        update(6, "n", r#"{"id":"7","v":1}"#),
    ];
    let done = outcomes(&into(&db).open().unwrap().deliver(&batch));
    assert_eq!(db.psql("table n"), "7|1", "{done}");
}

#[test]
fn a_batch_that_is_cut_short_leaves_nothing() {
    let db = support::database();
    db.psql("create table t (id int primary key); create table slow (id int primary key)");
    // The server ends the session in the middle of the batch, behind the first table.
    db.psql(
        "create function cut() returns trigger language plpgsql as $$ begin perform pg_terminate_backend(pg_backend_pid()); return new; end $$;
         create trigger cut before insert on slow for each row execute function cut()",
    );
    let opener = into(&db);
    let mut sink = opener.open().unwrap();
    assert_eq!(outcomes(&sink.deliver(&[insert(1, "t", r#"{"id":1}"#)])), "w");
    let batch = [insert(2, "t", r#"{"id":2}"#), insert(3, "slow", r#"{"id":3}"#)];
    assert_eq!(outcomes(&sink.deliver(&batch)), "D");
    assert_eq!(outcomes(&sink.deliver(&batch)), "D", "the connection is gone");
    assert_eq!(db.psql("select count(*) from t"), "1");
    db.psql("drop trigger cut on slow");
    let mut sink = opener.open().unwrap();
    assert_eq!(sink.resume().unwrap(), Some(Offset(format!("{:012}", 1))));
    assert_eq!(outcomes(&sink.deliver(&batch)), "ww");
    assert_eq!(sink.resume().unwrap(), Some(Offset(format!("{:012}", 3))));
}

#[test]
fn what_is_wrong_with_a_table_is_said() {
    let db = support::database();
    db.psql(
        "create table customer (id int primary key, name text); create table keyless (id int);
         create table deferred (id int primary key deferrable); create table made (v int, id int primary key generated always as (v) stored)",
    );
    for (table, json, expected) in [
        (
            "custmer",
            r#"{"id":1}"#,
            "the other database has no table `public.custmer` (nearest: `public.customer`)",
        ),
        (
            "customer",
            r#"{"id":1,"nam":"x","zzz":1}"#,
            "has no columns `nam` (nearest: `name`), `zzz`",
        ),
        ("keyless", r#"{"id":1}"#, "`alter table public.keyless add unique (id)`"),
        (
            "deferred",
            r#"{"id":1}"#,
            "no unique constraint on (id) that is checked at once",
        ),
        (
            "made",
            r#"{"id":1,"v":1}"#,
            "`id` of `public.made` is part of the key, and generated",
        ),
    ] {
        let mut sink = into(&db).open().unwrap();
        let done = sink.deliver(&[insert(1, table, json)]);
        assert_eq!(outcomes(&done), "D");
        assert!(reason(&done[0]).contains(expected), "{}", reason(&done[0]));
    }
    let mut sink = into(&db).open().unwrap();
    let done = sink.deliver(&[
        insert(1, "customer", r#"{"name":"x"}"#),
        insert(2, "customer", r#"{"id":null}"#),
    ]);
    assert_eq!(outcomes(&done), "NN");
}

#[test]
fn generated_and_identity_columns_and_unnamed_ones() {
    let db = support::database();
    db.psql(
        "create table t (id int primary key generated always as identity, v int, twice int generated always as (v * 2) stored, own text default 'ours')",
    );
    let mut sink = into(&db).open().unwrap();
    assert_eq!(
        outcomes(&sink.deliver(&[insert(1, "t", r#"{"id":7,"v":2,"twice":4}"#)])),
        "w"
    );
    db.psql("update t set own = 'changed there'");
    assert_eq!(
        outcomes(&sink.deliver(&[update(2, "t", r#"{"id":7,"v":3,"twice":6}"#)])),
        "w"
    );
    assert_eq!(
        outcomes(&sink.deliver(&[update(3, "t", r#"{"id":7,"v":3,"twice":6}"#)])),
        "="
    );
    assert_eq!(db.psql("select * from t"), "7|3|6|changed there");
}

#[test]
fn an_identity_that_cannot_be_changed_is_said_of_its_row() {
    let db = support::database();
    db.psql(
        r#"create table t (id int primary key, "N" int generated always as identity, v text); insert into t values (3, default, 'c')"#,
    );
    let mut sink = into(&db).open().unwrap();
    let row = |id: u32, n: u32, v: &str| format!(r#"{{"id":{id},"N":{n},"v":"{v}"}}"#);
    let batch = [
        insert(1, "t", &row(1, 7, "a")),
        update(2, "t", &row(1, 7, "aa")),
        update(3, "t", &row(3, 9, "cc")),
        update(4, "t", &row(2, 8, "b")),
    ];
    let done = sink.deliver(&batch);
    assert_eq!(outcomes(&done), "wwNw");
    let expected = r#"`alter table public.t alter "N" set generated by default`"#;
    assert!(reason(&done[2]).contains(expected), "{}", reason(&done[2]));
    assert_eq!(db.psql("select * from t order by id"), "1|7|aa\n2|8|b\n3|1|c");
    db.psql(r#"alter table t alter "N" set generated by default"#);
    assert_eq!(outcomes(&sink.deliver(&batch[2..3])), "w");
    assert_eq!(db.psql("select * from t where id = 3"), "3|9|cc");
}

#[test]
fn a_table_may_be_altered_between_two_batches() {
    let db = support::database();
    db.psql("create table t (id int primary key, n numeric(10,2), v varchar(3))");
    let mut sink = into(&db).open().unwrap();
    let row = |n: &str, v: &str| [update(1, "t", &format!(r#"{{"id":1,"n":{n},"v":"{v}"}}"#))];
    assert_eq!(outcomes(&sink.deliver(&row("1.256", "abc"))), "w");
    assert_eq!(outcomes(&sink.deliver(&row("1.256", "abcd"))), "N");
    assert_eq!(db.psql("select n, v from t"), "1.26|abc");
    db.psql("alter table t alter n type numeric(14,4), alter v type varchar(100)");
    assert_eq!(outcomes(&sink.deliver(&row("3.1415", "longer"))), "w");
    assert_eq!(db.psql("select n, v from t"), "3.1415|longer");
    assert_eq!(outcomes(&sink.deliver(&row("3.1415", "longer"))), "=");
    db.psql("drop table t; create table t (id bigint primary key, n int, v text)");
    assert_eq!(outcomes(&sink.deliver(&row("5", "anew"))), "w");
    assert_eq!(db.psql("select id, n, v from t"), "1|5|anew");
}

#[test]
fn what_makes_rows_unique_may_go_between_two_batches() {
    let db = support::database();
    db.psql("create table t (id int primary key, v text)");
    let columns = [("id", Some("integer")), ("v", Some("text"))];
    for number in 1..=2 {
        let mut sink = into(&db).open().unwrap();
        assert_eq!(
            outcomes(&sink.deliver(&[insert(number, "t", &format!(r#"{{"id":{number},"v":"a"}}"#))])),
            "w"
        );
        db.psql("alter table t drop constraint t_pkey; insert into t values (9, 'theirs')");
        let refused = match number {
            1 => sink.deliver(&[insert(3, "t", r#"{"id":9,"v":"b"}"#)]).remove(0),
            _ => match copy(&mut *sink, "t", &columns, "9\tb\n", false) {
                Ok(None) => sink.deliver(&[insert(3, "t", r#"{"id":9,"v":"b"}"#)]).remove(0),
                other => panic!("{other:?}"),
            },
        };
        assert!(
            reason(&refused).contains("no unique constraint on (id) that is checked at once"),
            "{refused:?}"
        );
        assert_eq!(db.psql("select v from t where id = 9"), "theirs");
        db.psql("delete from t where id = 9; alter table t add primary key (id)");
    }
}

#[test]
fn attributes_of_a_type_are_those_that_come() {
    let db = support::database();
    db.psql(
        "create type addr as (street text, town text); create domain home as addr; create type person as (name text, homes home[]);
         create table t (id int primary key, a addr); create table deep (id int primary key, p person)",
    );
    let both = |at: usize, town: &str| {
        let addr = format!(r#"{{"street":"Main","{town}":"Rome"}}"#);
        [
            update(at, "t", &format!(r#"{{"id":{at},"a":{addr}}}"#)),
            update(
                at + 1,
                "deep",
                &format!(r#"{{"id":{at},"p":{{"name":"Ann","homes":[{addr}]}}}}"#),
            ),
        ]
    };
    let refused = |sink: &mut dyn Sink, one: &Delivery, attribute: &str| {
        let down = sink.deliver(std::slice::from_ref(one));
        assert_eq!(outcomes(&down), "D");
        let wanted = format!("the type addr of the other database has no attribute `{attribute}`");
        assert!(reason(&down[0]).contains(&wanted), "{down:?}");
    };
    // Renamed there while the worker is connected.
    for at in [0, 1] {
        let mut sink = into(&db).open().unwrap();
        assert_eq!(outcomes(&sink.deliver(&both(1, "town")[at..=at])), "w");
        db.psql("alter type addr rename attribute town to city");
        refused(&mut *sink, &both(3, "town")[at], "town");
        db.psql("alter type addr rename attribute city to town");
    }
    let mut sink = into(&db).open().unwrap();
    assert_eq!(outcomes(&sink.deliver(&both(3, "town"))), "ww");
    assert_eq!(
        db.psql(
            "select string_agg((t.a).town, ' '), string_agg((deep.p).homes[1].town, ' ') from t join deep using (id)"
        ),
        "Rome Rome|Rome Rome"
    );
    // What they come without is null.
    db.psql("alter type addr add attribute country text");
    assert_eq!(outcomes(&sink.deliver(&both(3, "town"))), "ww");
    assert_eq!(
        db.psql("select t.a, deep.p from t join deep using (id) where id = 3"),
        "(Main,Rome,)|(Ann,\"{\"\"(Main,Rome,)\"\"}\")"
    );
    // One that was set aside before keeps no other one back.
    for one in both(5, "city") {
        refused(&mut *into(&db).open().unwrap(), &one, "city");
        let retried = Delivery { retried: true, ..one };
        assert_eq!(outcomes(&sink.deliver(&[retried])), "N");
    }
}

#[test]
fn what_a_deferred_trigger_refuses_is_tried_with_the_rest_of_its_transaction() {
    let db = support::database();
    db.psql(
        "create table line (id int primary key, tx int, amount int check (amount < 1000));
         create function balanced() returns trigger language plpgsql as $$ begin
           if (select sum(amount) from line where tx = new.tx) <> 0 then raise exception 'not balanced'; end if; return null; end $$;
         create constraint trigger balanced after insert or update on line deferrable initially deferred for each row execute function balanced()",
    );
    let mut sink = into(&db).open().unwrap();
    let line = |id: u16, amount: i32| {
        let tx = id / 10;
        let json = format!(r#"{{"id":{id},"tx":{tx},"amount":{amount}}}"#);
        let mut delivery = insert(id.into(), "line", &json);
        delivery.offset = Offset(format!("1/{id:04}/7/{tx}/[{id}]/0/b"));
        delivery
    };
    let batch = [
        line(10, 5),
        line(11, -5),
        line(20, 5000),
        line(21, -5000),
        line(30, 5),
        line(31, -5),
        line(40, 1),
    ];
    assert_eq!(outcomes(&sink.deliver(&batch)), "wwNLwwL");
    // When they are tried again, they are tried together too.
    assert_eq!(
        outcomes(&sink.deliver(&[line(20, 7), line(40, 1), line(21, -7)])),
        "wLw"
    );
    assert_eq!(
        db.psql("select string_agg(id::text, ' ' order by id) from line"),
        "10 11 20 21 30 31"
    );
}

#[test]
fn a_row_goes_first_only_where_it_has_a_value_that_another_is_to_get() {
    let db = support::database();
    db.psql(
        "create table t (id int primary key, v text); insert into t values (1, 'a'), (2, 'b');
         create table c (id int primary key, t int references t on delete cascade, own text default 'ours'); insert into c values (11, 1, 'theirs');
         create sequence tries;
         create function f() returns trigger language plpgsql as
           $$ begin if nextval('tries') <= 2 then raise exception 'not now' using errcode = '55P03'; end if; return new; end $$;
         create trigger f before insert on t for each row execute function f()",
    );
    let mut sink = into(&db).open().unwrap();
    let batch = [
        rekey(1, "t", r#"{"id":1}"#, r#"{"id":2,"v":"a"}"#),
        update(2, "c", r#"{"id":11,"t":2}"#),
    ];
    assert_eq!(outcomes(&sink.deliver(&batch)), "Lw");
    assert_eq!(outcomes(&sink.deliver(&batch)), "w=");
    assert_eq!(
        db.psql("select t.*, c.* from t join c on c.t = t.id"),
        "2|a|11|2|theirs"
    );
}

#[test]
fn columns_may_be_called_as_ours_are() {
    let db = support::database();
    let columns = ["n", "emaj_n", "k1", "c1", "c2", "emaj_old_1"];
    let list = |with: &str| columns.map(|name| format!("{name}{with}")).join(", ");
    db.psql(&format!("create table t ({}, primary key (c2, emaj_n))", list(" int")));
    let mut sink = into(&db).open().unwrap();
    let json = |value: u8| {
        let members = columns.map(|name| format!(r#""{name}":{value}"#));
        format!("{{{}}}", members.join(","))
    };
    let action = |old: Option<u8>, new: Option<u8>| {
        let (old, new) = (old.map(json), new.map(json));
        let Action::Row(mut change) = row("t", old.as_deref(), new.as_deref()) else {
            unreachable!("a row")
        };
        change.key = vec!["c2".into(), "emaj_n".into()];
        Action::Row(change)
    };
    let all = || db.psql(&format!("select {} from t", list("")));
    for (at, (old, new)) in [(None, Some(1)), (None, Some(1)), (Some(1), Some(2)), (Some(2), None)]
        .into_iter()
        .enumerate()
    {
        let done = sink.deliver(&[delivery(at, Some(Event::Update), action(old, new))]);
        assert_eq!(outcomes(&done), ["w", "=", "w", "w"][at]);
        let wanted = new.map_or_else(String::new, |value| vec![value.to_string(); 6].join("|"));
        assert_eq!(all(), wanted);
    }
    assert_eq!(
        sink.identities(&[delivery(9, None, action(None, Some(1)))])
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn a_table_that_hides_rows_is_not_written() {
    let db = support::database();
    let role = format!("{}_writer", db.name());
    db.psql(&format!(
        "create role {role} login; create table t (id int primary key, v int); grant all on t to {role};
         grant create, temporary on database {} to {role}",
        db.name()
    ));
    let mut sink = into_as(&db, &role).open().unwrap();
    assert_eq!(outcomes(&sink.deliver(&[insert(1, "t", r#"{"id":1,"v":1}"#)])), "w");
    db.psql("alter table t enable row level security; create policy hidden on t using (id <> 1) with check (true)");
    let gone = [delete(2, "t", r#"{"id":1}"#)];
    let expected = format!("row-level security of `public.t` applies to role `{role}`");
    for mut sink in [sink, into_as(&db, &role).open().unwrap()] {
        let done = sink.deliver(&gone);
        assert_eq!(outcomes(&done), "D");
        assert!(reason(&done[0]).contains(&expected), "{}", reason(&done[0]));
    }
    db.psql(&format!("alter role {role} bypassrls"));
    let mut sink = into_as(&db, &role).open().unwrap();
    assert_eq!(outcomes(&sink.deliver(&gone)), "w");
    assert_eq!(db.psql("select count(*) from t"), "0");
    db.psql(&format!("drop owned by {role} cascade; drop role {role}"));
}

#[test]
fn a_policy_that_gives_all_rows_hides_none() {
    let db = support::database();
    let (role, group) = (format!("{}_writer", db.name()), format!("{}_writers", db.name()));
    db.psql(&format!(
        "create role {group}; create role {role} login in role {group}; create table t (id int primary key, v int); grant all on t to {role};
         grant create, temporary on database {} to {role}; alter table t enable row level security",
        db.name()
    ));
    let with_policies = |policies: &str| {
        db.psql(&format!(
            "drop policy if exists a on t; drop policy if exists b on t; {policies}"
        ));
    };
    let again = [update(9, "t", r#"{"id":3,"v":3}"#)];
    let everybody = "create policy a on t using (true) with check (true)";
    for policies in [
        everybody,
        "create policy a on t using (id = 0); create policy b on t using (true)",
        &format!("create policy a on t to {group} using (true)"),
        "create policy a on t using (true); create policy b on t as restrictive to current_user using (false)",
    ] {
        with_policies(policies);
        db.psql("truncate t");
        let mut sink = into_as(&db, &role).open().unwrap();
        let batches = [
            vec![insert(1, "t", r#"{"id":1,"v":1}"#), insert(2, "t", r#"{"id":2,"v":1}"#)],
            vec![update(3, "t", r#"{"id":2,"v":2}"#), delete(4, "t", r#"{"id":1}"#)],
            vec![insert(5, "t", r#"{"id":3,"v":2}"#)],
        ];
        for batch in &batches {
            let done = sink.deliver(batch);
            assert!(done.iter().all(|one| *one == Outcome::Written), "{policies}: {done:?}");
        }
        assert_eq!(db.psql("select id, v from t order by id"), "2|2\n3|2", "{policies}");
        let columns = [("id", Some("integer")), ("v", Some("integer"))];
        assert_eq!(copy(&mut *sink, "t", &columns, "4\t1\n", false), Ok(None));
    }
    for policies in [
        "create policy a on t using (id > 0) with check (true)",
        "create policy a on t using (true) with check (id > 0)",
        "create policy a on t with check (true)",
        "create policy a on t for select using (true); create policy b on t for update using (true)",
        "create policy a on t to current_user using (true)",
        &format!("{everybody}; create policy b on t as restrictive to {group} using (id > 0)"),
        "",
    ] {
        with_policies(everybody);
        let mut sink = into_as(&db, &role).open().unwrap();
        assert_eq!(outcomes(&sink.deliver(&[delete(1, "t", r#"{"id":7}"#)])), "=");
        with_policies(policies);
        for mut sink in [sink, into_as(&db, &role).open().unwrap()] {
            let done = sink.deliver(&again);
            assert_eq!(outcomes(&done), "D", "{policies}");
            assert!(
                reason(&done[0]).contains("row-level security"),
                "{policies}: {}",
                reason(&done[0])
            );
        }
    }
    assert_eq!(db.psql("select id, v from t order by id"), "2|2\n3|2");
    db.psql(&format!(
        "drop owned by {role}, {group} cascade; drop role {role}, {group}"
    ));
}

#[test]
fn what_is_said_of_one_row_keeps_the_others_from_nothing() {
    let db = support::database();
    db.psql(
        "create table t (id int primary key, lang regconfig, at regclass, v text);
         create function f() returns trigger language plpgsql as
           $$ begin if length(new.v) = 5 then raise exception 'not here' using errcode = new.v; end if; return new; end $$;
         create trigger f before insert or update on t for each row execute function f()",
    );
    let mut sink = into(&db).open().unwrap();
    let batch = [
        insert(1, "t", r#"{"id":1,"lang":"english","at":"pg_class","v":"a"}"#),
        insert(2, "t", r#"{"id":2,"lang":"public.shop","v":"b"}"#),
        insert(3, "t", r#"{"id":3,"at":"public.nowhere"}"#),
        insert(4, "t", r#"{"id":4,"v":"55000"}"#),
        update(5, "t", r#"{"id":5,"lang":"english","v":"0A000"}"#),
        insert(6, "t", r#"{"id":6,"v":"42P01"}"#),
        rekey(7, "t", r#"{"id":1}"#, r#"{"id":7,"lang":"none","at":null,"v":"c"}"#),
        insert(8, "t", r#"{"id":8,"v":"d"}"#),
    ];
    assert_eq!(outcomes(&sink.deliver(&batch)), "wNNNNNNw");
    assert_eq!(
        db.psql("select id, lang, at, v from t order by id"),
        "1|english|pg_class|a\n8|||d"
    );
    let batch = [
        rekey(11, "t", r#"{"id":1}"#, r#"{"id":11,"at":"public.nowhere"}"#),
        rekey(12, "t", r#"{"id":8}"#, r#"{"id":12,"at":"nowhere.shop"}"#),
        insert(13, "t", r#"{"id":13,"v":"e"}"#),
    ];
    assert_eq!(outcomes(&sink.deliver(&batch)), "NNw");
    // A table is meant by the statement.
    db.psql("create table key (at regclass primary key, v text); insert into key values ('t', 'a')");
    let by_name = |action| {
        let Action::Row(change) = action else {
            unreachable!("a row")
        };
        Action::Row(emaj::sink::RowChange {
            key: vec!["at".into()],
            ..change
        })
    };
    let gone = row("key", Some(r#"{"at":"public.nowhere"}"#), None);
    let there = row("key", Some(r#"{"at":"t"}"#), None);
    let [gone, there] = [gone, there].map(by_name);
    let batch = [
        delivery(14, Some(Event::Delete), gone),
        delivery(15, Some(Event::Delete), there.clone()),
    ];
    assert_eq!(outcomes(&sink.deliver(&batch)), "Nw");
    db.psql("drop table key");
    assert_eq!(
        outcomes(&sink.deliver(&[delivery(16, Some(Event::Delete), there)])),
        "D"
    );
    // What every row of the table would be refused for is about the place.
    db.psql("create publication p for table t; alter table t replica identity nothing");
    assert_eq!(outcomes(&sink.deliver(&[update(9, "t", r#"{"id":8,"v":"e"}"#)])), "D");
}

#[test]
fn a_role_without_rights_is_told_what_to_run() {
    let db = support::database();
    let owner = support::owner(&db);
    let name = owner.name();
    db.psql(&format!(
        "create table t (id int primary key); revoke create on database {} from {name}",
        db.name()
    ));
    let mut sink = into_as(&db, name).open().unwrap();
    let findings = sink.probe().unwrap();
    assert!(
        findings.iter().any(|finding| finding
            .problem
            .as_deref()
            .is_some_and(|problem| problem.contains("authorization"))),
        "{findings:?}"
    );
    let done = sink.deliver(&[insert(1, "t", r#"{"id":1}"#)]);
    assert_eq!(outcomes(&done), "D");
    assert!(
        reason(&done[0]).contains(&format!("create schema emaj_received authorization {name}")),
        "{done:?}"
    );
    db.psql(&format!("create schema emaj_received authorization {name}"));
    let mut sink = into_as(&db, name).open().unwrap();
    let done = sink.deliver(&[insert(1, "t", r#"{"id":1}"#)]);
    assert_eq!(outcomes(&done), "D", "no right to the table");
    assert!(reason(&done[0]).contains("permission denied"), "{done:?}");
    db.psql(&format!("grant select, insert, update, delete on t to {name}"));
    let mut sink = into_as(&db, name).open().unwrap();
    assert_eq!(outcomes(&sink.deliver(&[insert(1, "t", r#"{"id":1}"#)])), "w");
    assert!(sink.probe().unwrap().iter().all(|finding| finding.problem.is_none()));
}

#[test]
fn the_source_s_environment_does_not_lead_the_sink_and_secrets_stay_inside() {
    let db = support::database();
    let cluster = support::shared_cluster();
    let sink = format!(
        "{{ postgres: {{ host: 127.0.0.1, port: {}, dbname: {}, user: postgres, password: \"${{env:CANARY}}\" }} }}",
        cluster.port(),
        db.name()
    );
    let variables = [
        ("CANARY", "hunter2-canary"),
        ("EMAJ_DATABASE_URL", "postgresql://elsewhere/x"),
        ("PGPASSWORD", "source-canary"),
        ("PGSERVICE", "nowhere"),
    ];
    let opener = opener_of(db.dir(), &sink, &variables);
    let Err(fault) = opener.open() else {
        panic!("a wrong password got in")
    };
    assert_eq!(fault.verdict, Verdict::Down);
    let said = format!("{fault} {fault:?} {}", opener.describe());
    assert!(said.contains("password authentication failed"), "{said}");
    assert!(!said.contains("canary") && said.contains(db.name()), "{said}");
    let uri = format!(
        "{{ postgres: {{ uri: \"postgresql://postgres:uri-canary@127.0.0.1:{}/{}\" }} }}",
        cluster.port(),
        db.name()
    );
    let opener = opener_of(db.dir(), &uri, &[]);
    let Err(fault) = opener.open() else {
        panic!("a wrong password got in")
    };
    assert!(!format!("{fault:?} {}", opener.describe()).contains("canary"));
}

#[test]
fn what_is_there_can_be_listed_and_taken_away() {
    let db = support::database();
    db.psql(
        r#"create table t (id numeric(10,2), at timestamptz, "Odd" text, primary key (id, at));
         insert into t values (1.5, '2026-01-02 03:04:05+05:30', 'a'), (2, '2026-01-01', 'b')"#,
    );
    let manifest = manifest_of(
        db.dir(),
        "sinks: { there: { postgres: { dbname: x } } }
bindings: { b: { table: public.t, to: there, row: { key: [id, at] } } }",
    );
    let mut sink = into(&db).open().unwrap();
    // As another server writes it: the same key in other words.
    let mut change = row(
        "t",
        None,
        Some(r#"{"id":1.5000,"at":"2026-01-01T21:34:05+00:00","Odd":"O'K"}"#),
    );
    if let emaj::sink::Action::Row(change) = &mut change {
        change.key.push("at".into());
    }
    let there = delivery(1, None, change);
    let identity = sink
        .identities(std::slice::from_ref(&there))
        .unwrap()
        .remove(0)
        .unwrap();
    let mut found = Vec::new();
    sink.existing(manifest.binding("b").unwrap(), &mut |existing| found.push(existing))
        .unwrap();
    assert_eq!(found.len(), 2);
    let gone: Vec<_> = found
        .into_iter()
        .filter(|existing| existing.identity != identity)
        .collect();
    assert_eq!(gone.len(), 1, "{identity} is the other one");
    insta::assert_snapshot!(sink.preview(std::slice::from_ref(&there)).unwrap().join("\n"), @r#"
    insert into "public"."t" ("id", "at", "Odd")
    values ('1.5000', '2026-01-01T21:34:05+00:00', 'O''K')
    on conflict ("id", "at") do update set "Odd" = excluded."Odd";
    "#);
    let removal = delivery(2, Some(Event::Delete), gone[0].remove.clone());
    assert_eq!(outcomes(&sink.deliver(&[removal])), "w");
    assert_eq!(db.psql("select id from t"), "1.50");
}

#[test]
fn rows_of_tables_that_inherit_are_none_of_its_own_and_those_of_partitions_are() {
    for (make, rest) in [
        (
            "create table t (id numeric primary key, v text); create table kid () inherits (t);
             insert into kid values (1, 'kid'), (2, 'kid'), (3, 'kid'), (4, 'kid')",
            "1|kid\n2|kid\n3|kid\n4|kid",
        ),
        (
            "create table t (id numeric primary key, v text) partition by range (id);
             create table low partition of t for values from (0) to (3); create table high partition of t default",
            "",
        ),
        (
            &format!("create table t (id numeric primary key, v text); {ROUTED}"),
            "",
        ),
    ] {
        let db = support::database();
        db.psql(make);
        let manifest = manifest_of(
            db.dir(),
            "sinks: { there: { postgres: { dbname: x } } }
bindings: { b: { table: public.t, to: there, row: { key: [id] } } }",
        );
        let mut sink = into(&db).open().unwrap();
        let mut deliver = |batch: &[Delivery]| outcomes(&sink.deliver(batch));
        assert_eq!(
            deliver(&[
                insert(1, "t", r#"{"id":1,"v":"a"}"#),
                insert(2, "t", r#"{"id":2,"v":"kid"}"#)
            ]),
            "ww"
        );
        assert_eq!(
            deliver(&[
                update(3, "t", r#"{"id":1.0,"v":"b"}"#),
                update(4, "t", r#"{"id":2,"v":"kid"}"#)
            ]),
            "w="
        );
        assert_eq!(deliver(&[rekey(5, "t", r#"{"id":1.0}"#, r#"{"id":3,"v":"kid"}"#)]), "w");
        assert_eq!(
            deliver(&[delete(6, "t", r#"{"id":2}"#), delete(7, "t", r#"{"id":4}"#)]),
            "w="
        );
        let mut found = Vec::new();
        sink.existing(manifest.binding("b").unwrap(), &mut |existing| {
            found.push(existing.identity)
        })
        .unwrap();
        assert_eq!(found, ["[3]"], "{make}");
        let all = db.psql("select id, v from t order by id, v");
        let own = db.psql("delete from t where tableoid <> coalesce(to_regclass('kid')::oid, 0) returning id, v");
        assert_eq!(own, "3|kid");
        assert_eq!(db.psql("select id, v from t order by id"), rest, "{all}");
    }
}

/// A parent and a table that inherits from it, and a trigger before each insert that puts no row elsewhere.
const STAMPED: &str = "create table t (id int primary key, v text); create table kid (primary key (id)) inherits (t);
                       create function stamped() returns trigger language plpgsql as $$ begin return new; end $$;
                       create trigger stamped before insert on t for each row execute function stamped()";

/// What puts the rows of `t` into `below`.
const ROUTED: &str = "create table below (primary key (id)) inherits (t);
                      create function routed() returns trigger language plpgsql as $$
                      begin insert into below select new.* on conflict (id) do update set v = excluded.v; return null; end $$;
                      create trigger routed before insert on t for each row execute function routed()";

#[test]
fn rows_of_a_table_below_that_is_itself_written_are_none_of_its_own() {
    let db = support::database();
    db.psql(STAMPED);
    db.psql("create table grandkid (primary key (id)) inherits (kid)");
    for bound in ["kid", "grandkid"] {
        db.psql(&format!(
            "truncate t; insert into {bound} values (1, 'below'), (2, 'below'), (3, 'below')"
        ));
        let manifest = manifest_of(
            db.dir(),
            &format!(
                "sinks: {{ there: {} }}
bindings:
  b: {{ table: public.t, to: there, row: {{ key: [id] }} }}
  other: {{ table: public.x, to: there, row: {{ table: public.{bound}, key: [id] }} }}",
                sink_into(&db, support::shared_cluster().superuser())
            ),
        );
        let mut sink = opener_in(&manifest, "there", &[]).unwrap().open().unwrap();
        let mut deliver = |batch: &[Delivery]| outcomes(&sink.deliver(batch));
        assert_eq!(deliver(&[insert(1, "t", r#"{"id":2,"v":"below"}"#)]), "w");
        assert_eq!(deliver(&[update(2, "t", r#"{"id":1,"v":"below"}"#)]), "w");
        assert_eq!(deliver(&[rekey(3, "t", r#"{"id":1}"#, r#"{"id":3,"v":"own"}"#)]), "w");
        assert_eq!(deliver(&[delete(4, "t", r#"{"id":2}"#)]), "w");
        assert_eq!(deliver(&[delete(5, "t", r#"{"id":2}"#)]), "=");
        let mut found = Vec::new();
        sink.existing(manifest.binding("b").unwrap(), &mut |existing| {
            found.push(existing.identity)
        })
        .unwrap();
        assert_eq!(found, ["[3]"]);
        assert_eq!(
            db.psql("select id, v from t order by id, v"),
            "1|below\n2|below\n3|below\n3|own",
            "{bound}"
        );
    }
}

#[test]
fn a_table_may_begin_to_put_its_rows_below_between_two_batches() {
    let db = support::database();
    db.psql("create table t (id int primary key, v text)");
    let mut sink = into(&db).open().unwrap();
    let mut deliver = |batch: &[Delivery]| outcomes(&sink.deliver(batch));
    assert_eq!(deliver(&[insert(1, "t", r#"{"id":1,"v":"own"}"#)]), "w");
    assert_eq!(deliver(&[delete(2, "t", r#"{"id":9}"#)]), "=");
    db.psql(ROUTED);
    assert_eq!(deliver(&[insert(3, "t", r#"{"id":2,"v":"below"}"#)]), "w");
    assert_eq!(deliver(&[update(4, "t", r#"{"id":2,"v":"below"}"#)]), "=");
    assert_eq!(
        deliver(&[delete(5, "t", r#"{"id":1}"#), delete(6, "t", r#"{"id":2}"#)]),
        "ww"
    );
    assert_eq!(db.psql("select count(*) from t"), "0");
    // And to keep them.
    assert_eq!(deliver(&[insert(7, "t", r#"{"id":3,"v":"below"}"#)]), "w");
    db.psql("drop trigger routed on t");
    assert_eq!(deliver(&[update(8, "t", r#"{"id":3,"v":"own"}"#)]), "w");
    assert_eq!(deliver(&[delete(9, "t", r#"{"id":3}"#)]), "w");
    assert_eq!(db.psql("select id, v from t"), "3|below");
}

#[test]
fn a_row_without_a_key_is_not_listed() {
    let db = support::database();
    db.psql("create table t (code text unique); insert into t values (null), ('a')");
    let manifest = manifest_of(
        db.dir(),
        "sinks: { there: { postgres: { dbname: x } } }
bindings: { b: { table: public.t, to: there, row: { key: [code] } } }",
    );
    let mut found = Vec::new();
    let mut sink = into(&db).open().unwrap();
    sink.existing(manifest.binding("b").unwrap(), &mut |existing| {
        found.push(existing.identity)
    })
    .unwrap();
    assert_eq!(found, [r#"["a"]"#]);
}

/// Copies `text`, piece by piece, into columns of these types; `broken`: it ends before its end.
fn copy(
    sink: &mut dyn Sink,
    table: &str,
    columns: &[(&str, Option<&str>)],
    text: &str,
    broken: bool,
) -> Result<Option<u64>, Fault> {
    let rows = RowsAsText {
        table: QualifiedName::new("public", table),
        key: vec!["id".into()],
        columns: columns
            .iter()
            .map(|(name, sql_type)| TextColumn {
                name: (*name).into(),
                sql_type: sql_type.map(str::to_owned),
            })
            .collect(),
        offset: Offset("000000000100".into()),
    };
    let mut pieces: Vec<Vec<u8>> = text.as_bytes().chunks(3).rev().map(<[u8]>::to_vec).collect();
    sink.copy(&rows, &mut || match pieces.pop() {
        Some(piece) => Ok(Some(piece)),
        None if broken => Err(Fault::later("broken off")),
        None => Ok(None),
    })
}

#[test]
fn rows_come_as_text_all_or_none() {
    let db = support::database();
    db.psql(
        "create type mood as enum ('so so', 'fine');
         create table t (id int primary key, v varchar(9), m mood, j jsonb);
         create table made (id int primary key, v text generated always as ('x') stored);
         create table guarded (id int primary key, v text); alter table guarded enable row level security;
         create table loose (id int unique, v text)",
    );
    let columns = [
        ("id", Some("integer")),
        ("v", Some("character varying")),
        ("m", None),
        ("j", Some("jsonb")),
    ];
    let mut sink = into(&db).open().unwrap();
    let text = "1\ta\\tb\tso so\t{\"k\": 1}\n2\t\\N\tfine\t\\N\n";
    assert_eq!(copy(&mut *sink, "t", &columns, text, true), Ok(None), "broken off");
    assert_eq!(db.psql("select count(*) from t"), "0");
    assert_eq!(sink.resume().unwrap(), None, "the position comes with the rows");
    assert_eq!(copy(&mut *sink, "t", &columns, text, false), Ok(Some(2)));
    assert_eq!(
        db.psql("select id, v = e'a\\tb', m, j from t order by id"),
        "1|t|so so|{\"k\": 1}\n2||fine|"
    );
    assert_eq!(sink.resume().unwrap(), Some(Offset("000000000100".into())));
    // One of them is there, or does not fit: none of them comes.
    for text in [
        "3\ta\tfine\t\\N\n2\ta\tfine\t\\N\n",
        "3\ttoo long for it\tfine\t\\N\n",
        "4\ta\tnone such\t\\N\n",
    ] {
        assert_eq!(copy(&mut *sink, "t", &columns, text, false), Ok(None), "{text}");
    }
    // Types that may write the same value otherwise; columns that the table makes itself.
    let other = [("id", Some("bigint")), ("v", Some("text"))];
    assert_eq!(copy(&mut *sink, "t", &other, "5\ta\n", false), Ok(None));
    let both = [("id", Some("integer")), ("v", Some("text"))];
    assert_eq!(copy(&mut *sink, "made", &both, "5\ta\n", false), Ok(None));
    // A key that may be null there.
    let pair = [("id", Some("integer")), ("v", Some("text"))];
    assert_eq!(copy(&mut *sink, "loose", &pair, "\\N\ta\n", false), Ok(None));
    assert_eq!(db.psql("select count(*) from t"), "2");
    let missing = copy(&mut *sink, "nowhere", &both, "5\ta\n", false).unwrap_err();
    assert_eq!(missing.verdict, Verdict::Down);
    // It still delivers.
    assert_eq!(
        outcomes(&sink.deliver(&[insert(101, "t", r#"{"id":9,"v":"a","m":"fine","j":null}"#)])),
        "w"
    );
}

#[test]
fn a_row_that_gets_another_key_keeps_what_is_only_there() {
    let db = support::database();
    db.psql(
        "create table t (id int primary key, v text check (v <> 'bad' and (id < 100 or v like 'big%')), own text default 'ours');
         create table c (id int primary key, t int not null references t on update cascade);
         insert into t values (1, 'a', 'one'), (2, 'b', 'two'), (3, 'c', 'three'), (5, 'e', 'five'), (6, 'f', 'six');
         insert into c values (1, 1), (2, 2), (3, 3)",
    );
    let mut sink = into(&db).open().unwrap();
    let all = "select string_agg(concat_ws(' ', t.id, t.v, t.own, c.id), ', ' order by t.id) from t left join c on c.t = t.id";
    // The image is written at once: a constraint sees no state in between.
    let batch = [rekey(1, "t", r#"{"id":1}"#, r#"{"id":101,"v":"big a"}"#)];
    assert_eq!(outcomes(&sink.deliver(&batch)), "w");
    assert_eq!(
        db.psql(all),
        "2 b two 2, 3 c three 3, 5 e five, 6 f six, 101 big a one 1"
    );
    // Once more, as after a lost answer: nobody is at the old key, and the row is there.
    assert_eq!(outcomes(&sink.deliver(&batch)), "=");
    // One key to the next one, in three transactions; a key that is free; a change behind it; one that nobody has.
    let batch = [
        rekey(2, "t", r#"{"id":3}"#, r#"{"id":4,"v":"c"}"#),
        rekey(3, "t", r#"{"id":2}"#, r#"{"id":3,"v":"b"}"#),
        rekey(4, "t", r#"{"id":101}"#, r#"{"id":2,"v":"a"}"#),
        update(5, "t", r#"{"id":2,"v":"aa"}"#),
        rekey(6, "t", r#"{"id":77}"#, r#"{"id":78,"v":"new"}"#),
    ];
    assert_eq!(outcomes(&sink.deliver(&batch)), "wwwww");
    assert_eq!(
        db.psql(all),
        "2 aa one 1, 3 b two 2, 4 c three 3, 5 e five, 6 f six, 78 new ours"
    );
    // The new key is taken: who has it gets the values, and the old row goes. One that is refused keeps the others from nothing.
    let batch = [
        rekey(7, "t", r#"{"id":5}"#, r#"{"id":6,"v":"g"}"#),
        rekey(8, "t", r#"{"id":4}"#, r#"{"id":5,"v":"bad"}"#),
        rekey(9, "t", r#"{"id":3}"#, r#"{"id":9,"v":"b"}"#),
    ];
    assert_eq!(outcomes(&sink.deliver(&batch)), "wNw");
    assert_eq!(db.psql(all), "2 aa one 1, 4 c three 3, 6 g six, 9 b two 2, 78 new ours");
    insta::assert_snapshot!(sink.preview(&[rekey(10, "t", r#"{"id":4}"#, r#"{"id":5,"v":"h"}"#)]).unwrap().join(""), @r#"
    update "public"."t"
       set "id" = '5', "v" = 'h'
     where "id" = '4';
    -- where there is no such row, or one with the new key:
    insert into "public"."t" ("id", "v")
    values ('5', 'h')
    on conflict ("id") do update set "v" = excluded."v";
    delete from "public"."t"
     where "id" = '4';
    "#);
}

#[test]
fn rows_may_exchange_their_keys() {
    let db = support::database();
    db.psql(
        "create table t (id int primary key, v text, own text); insert into t values (1, 'a', 'one'), (2, 'b', 'two'), (3, 'c', 'three');
         create table fixed (id int primary key generated always as identity, v text, own text);
         insert into fixed overriding system value values (1, 'a', 'one')",
    );
    let mut sink = into(&db).open().unwrap();
    let of = |at: usize, transaction: u8, old: u8, new: u8, v: &str| {
        let mut delivery = rekey(
            at,
            "t",
            &format!(r#"{{"id":{old}}}"#),
            &format!(r#"{{"id":{new},"v":"{v}"}}"#),
        );
        delivery.offset = Offset(format!("1/{at:04}/7/{transaction}/[1]/0/b"));
        delivery
    };
    // In one transaction two change places, while another one has its own change in between; then they change back, in three transactions.
    let batch = [of(1, 1, 1, 2, "a"), of(2, 2, 3, 4, "c"), of(3, 1, 2, 1, "b")];
    assert_eq!(outcomes(&sink.deliver(&batch)), "www");
    assert_eq!(db.psql("select * from t order by id"), "1|b|one\n2|a|two\n4|c|three");
    let batch = [of(4, 3, 1, 9, "b"), of(5, 4, 2, 1, "a"), of(6, 5, 9, 2, "b")];
    assert_eq!(outcomes(&sink.deliver(&batch)), "www");
    assert_eq!(db.psql("select id, v from t order by id"), "1|a\n2|b\n4|c");
    // A key that can never be changed.
    assert_eq!(
        outcomes(&sink.deliver(&[rekey(7, "fixed", r#"{"id":1}"#, r#"{"id":2,"v":"z"}"#)])),
        "w"
    );
    assert_eq!(db.psql("select * from fixed"), "2|z|");
}

/// Types of a key, and two texts of one value of each, as JSON; the second as it is there.
const SPELLINGS: &[(&str, &str, &str, &str)] = &[
    ("numeric", "1.0", "1.00", "1.00"),
    ("text collate no_case", r#""Bob""#, r#""bob""#, "bob"),
    ("integer", r#""7""#, r#""007""#, "7"),
    ("bigint", r#""7""#, "7", "7"),
    ("float8", "100000000000000000000", r#""1e20""#, "1e+20"),
    (
        "timestamp",
        r#""2024-01-01T05:00:00+00:00""#,
        r#""2024-01-01 05:00:00.0""#,
        "2024-01-01 05:00:00",
    ),
    (
        "date",
        r#""2024-01-01T05:00:00+00:00""#,
        r#""2024-01-01T07:00:00+00:00""#,
        "2024-01-01",
    ),
    ("char(4)", r#""x""#, r#""x  ""#, "x   "),
    ("varchar(2)", r#""xy""#, r#""xy  ""#, "xy"),
    (
        "uuid",
        r#""A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11""#,
        r#""a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11""#,
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    ),
];

const NO_CASE: &str = "create collation no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)";

#[test]
fn a_key_that_is_written_in_another_way_is_the_same_row() {
    let db = support::database();
    db.psql(NO_CASE);
    let mut sink = into(&db).open().unwrap();
    for (at, (sql_type, one, other, there)) in SPELLINGS.iter().enumerate() {
        let table = format!("t{at}");
        db.psql(&format!(
            "create table {table} (id {sql_type} primary key, v int, own text default 'ours')"
        ));
        let key = |text: &str| format!(r#"{{"id":{text}}}"#);
        let with = |text: &str, v: u8| format!(r#"{{"id":{text},"v":{v}}}"#);
        let mut deliver = |batch: &[Delivery]| outcomes(&sink.deliver(batch));
        assert_eq!(deliver(&[insert(1, &table, &with(one, 1))]), "w", "{sql_type}");
        // Taken away, and put there again in other words.
        let batch = [delete(2, &table, &key(one)), insert(3, &table, &with(other, 2))];
        assert_eq!(deliver(&batch), "ww", "{sql_type}");
        let row = |v: u8, own: &str| format!("{there}|{v}|{own}");
        assert_eq!(
            db.psql(&format!("select id, v, own from {table}")),
            row(2, "ours"),
            "{sql_type}"
        );
        // As another key, as it looks to the source: the row keeps what is only there.
        db.psql(&format!("update {table} set own = 'kept'"));
        let batch = [
            rekey(4, &table, &key(other), &with(one, 3)),
            rekey(5, &table, &key(one), &with(other, 4)),
        ];
        assert_eq!(deliver(&batch), "ww", "{sql_type}");
        assert_eq!(
            db.psql(&format!("select id, v, own from {table}")),
            row(4, "kept"),
            "{sql_type}"
        );
        // The last word counts, whatever it calls the row.
        let batch = [insert(6, &table, &with(other, 5)), delete(7, &table, &key(one))];
        deliver(&batch);
        assert_eq!(db.psql(&format!("select count(*) from {table}")), "0", "{sql_type}");
    }
    // One that cannot be read does not keep the others from being known.
    let mut batch = vec![
        delete(8, "t0", r#"{"id":2.0}"#),
        insert(9, "t0", r#"{"id":"two","v":2}"#),
        insert(10, "t0", r#"{"id":2.00,"v":3}"#),
    ];
    assert_eq!(outcomes(&sink.deliver(&[insert(8, "t0", r#"{"id":2.0,"v":1}"#)])), "w");
    assert_eq!(outcomes(&sink.deliver(&batch)), "wNw");
    assert_eq!(db.psql("select id, v from t0"), "2.00|3");
    // Keys of several columns.
    db.psql("create table pairs (id numeric, \"n N\" int, v int, primary key (id, \"n N\")); insert into pairs values (1.0, 1, 1), (1.0, 2, 2)");
    batch = vec![
        delete(11, "pairs", r#"{"id":1.0,"n N":1}"#),
        insert(12, "pairs", r#"{"id":1.00,"n N":1,"v":3}"#),
        delete(13, "pairs", r#"{"id":1.000,"n N":2}"#),
    ];
    for delivery in &mut batch {
        if let emaj::sink::Action::Row(change) = &mut delivery.action {
            change.key.push("n N".into());
        }
    }
    assert_eq!(outcomes(&sink.deliver(&batch)), "www");
    assert_eq!(db.psql("select * from pairs"), "1.00|1|3");
}

#[test]
fn a_reason_has_the_constraint_and_not_the_row() {
    let db = support::database();
    db.psql(
        "create table t (id int primary key, mail text unique, other int references t, note text check (note <> 'row-value'),
                         exclude (note with =));
         insert into t values (1, 'row-value', null, 'row-values')",
    );
    let mut sink = into(&db).open().unwrap();
    for (row, verdict, name) in [
        (r#"{"id":2,"mail":"row-value"}"#, "L", "t_mail_key"),
        (r#"{"id":2,"other":987654}"#, "L", "t_other_fkey"),
        (r#"{"id":2,"note":"row-value"}"#, "N", "t_note_check"),
        (r#"{"id":2,"note":"row-values"}"#, "L", "t_note_excl"),
    ] {
        let done = sink.deliver(&[insert(1, "t", row)]);
        assert_eq!(outcomes(&done), verdict, "{row}");
        let reason = reason(&done[0]);
        assert!(reason.contains(name), "{reason}");
        assert!(!reason.contains("row-value") && !reason.contains("987654"), "{reason}");
    }
}

#[test]
fn a_key_is_written_over_only_when_it_is_spelled_otherwise() {
    let db = support::database();
    let owner = support::owner(&db);
    let name = owner.name();
    db.psql(&format!(
        "create schema emaj_received authorization {name}; create table t (id numeric primary key, v int);
         grant select, insert, delete, update (v) on t to {name}; grant temporary on database {} to {name}",
        db.name()
    ));
    let mut sink = into_as(&db, name).open().unwrap();
    let mut deliver = |batch: &[Delivery]| outcomes(&sink.deliver(batch));
    assert_eq!(deliver(&[insert(1, "t", r#"{"id":1.0,"v":1}"#)]), "w");
    let batch = [
        update(2, "t", r#"{"id":1.0,"v":2}"#),
        insert(3, "t", r#"{"id":2.0,"v":1}"#),
    ];
    assert_eq!(deliver(&batch), "ww");
    assert_eq!(deliver(&[update(4, "t", r#"{"id":1.00,"v":2}"#)]), "D");
    db.psql(&format!("grant update on t to {name}"));
    let batch = [
        update(4, "t", r#"{"id":1.00,"v":2}"#),
        update(5, "t", r#"{"id":2.00,"v":3}"#),
        insert(6, "t", r#"{"id":3.0,"v":3}"#),
        update(7, "t", r#"{"id":2.00,"v":4}"#),
    ];
    let mut sink = into_as(&db, name).open().unwrap();
    assert_eq!(outcomes(&sink.deliver(&batch)), "wwww");
    assert_eq!(db.psql("select * from t order by id"), "1.00|2\n2.00|4\n3.0|3");
}

#[test]
fn a_type_that_is_on_no_search_path_compares_its_keys_itself() {
    let db = support::database();
    db.psql(
        "create schema far; create extension citext schema far;
         create table t (id far.citext primary key, v int, own text default 'ours')",
    );
    let mut sink = into(&db).open().unwrap();
    let mut deliver = |batch: &[Delivery]| outcomes(&sink.deliver(batch));
    assert_eq!(deliver(&[insert(1, "t", r#"{"id":"Bob","v":1}"#)]), "w");
    assert_eq!(
        deliver(&[rekey(2, "t", r#"{"id":"BOB"}"#, r#"{"id":"bob","v":2}"#)]),
        "w"
    );
    assert_eq!(db.psql("select * from t"), "bob|2|ours");
    assert_eq!(
        deliver(&[rekey(3, "t", r#"{"id":"BOB"}"#, r#"{"id":"Ann","v":3}"#)]),
        "w"
    );
    db.psql("update t set own = 'kept'");
    let moved = rekey(4, "t", r#"{"id":"ANN"}"#, r#"{"id":"Cyd","v":3}"#);
    assert_eq!(deliver(&[moved, insert(5, "t", r#"{"id":"dan","v":1}"#)]), "ww");
    assert_eq!(db.psql("select * from t order by id"), "Cyd|3|kept\ndan|1|ours");
    let named = sink.identities(&[insert(6, "t", r#"{"id":"CYD"}"#), insert(7, "t", r#"{"id":"Cyd"}"#)]);
    let named = named.unwrap();
    assert_eq!(named[0], named[1]);
    assert_eq!(outcomes(&sink.deliver(&[delete(8, "t", r#"{"id":"CYD"}"#)])), "w");
    assert_eq!(db.psql("select * from t"), "dan|1|ours");
}

#[test]
fn what_is_listed_is_told_by_the_type_that_it_has_there() {
    let db = support::database();
    db.psql(NO_CASE);
    let mut sink = into(&db).open().unwrap();
    for (at, (sql_type, one, other, there)) in SPELLINGS.iter().enumerate() {
        db.psql(&format!(
            "create table t{at} (id {sql_type} primary key); insert into t{at} values ('{there}')"
        ));
        let manifest = manifest_of(
            db.dir(),
            &format!(
                "sinks: {{ there: {{ postgres: {{ dbname: x }} }} }}
bindings: {{ b: {{ table: public.t{at}, to: there, row: {{ key: [id] }} }} }}"
            ),
        );
        let mut listed = Vec::new();
        let mut list = |existing: emaj::sink::Existing| listed.push(existing.identity);
        sink.existing(manifest.binding("b").unwrap(), &mut list).unwrap();
        let batch =
            [one, other, &"\"no such key\""].map(|key| insert(1, &format!("t{at}"), &format!(r#"{{"id":{key}}}"#)));
        let names = sink.identities(&batch).unwrap();
        let known: Vec<bool> = names.iter().map(|name| name.as_ref() == listed.first()).collect();
        assert_eq!(
            (listed.len(), known),
            (1, vec![true, true, false]),
            "{sql_type}: {listed:?} {names:?}"
        );
    }
}

#[test]
fn values_are_read_as_they_were_written_whatever_the_role_is_used_to() {
    let db = support::database();
    let owner = support::owner(&db);
    let name = owner.name();
    db.psql(&format!(
        "create table t (id float8 primary key, nulls int[], span interval); grant all on t to {name};
         alter role {name} set array_nulls = off; alter role {name} set intervalstyle = 'sql_standard';
         alter role {name} set extra_float_digits = -15; alter role {name} set timezone = 'Asia/Kolkata'"
    ));
    let mut sink = into_as(&db, name).open().unwrap();
    let row = r#"{"id":0.30000000000000004,"nulls":[1,null],"span":"-1 days 02:00:00"}"#;
    assert_eq!(outcomes(&sink.deliver(&[insert(1, "t", row)])), "w");
    assert_eq!(
        db.psql("select array_position(nulls, null), span = interval '-1 day' + interval '2 hours' from t"),
        "2|t"
    );
    let manifest = manifest_of(
        db.dir(),
        "sinks: { there: { postgres: { dbname: x } } }
bindings: { b: { table: public.t, to: there, row: { key: [id] } } }",
    );
    let mut removals = Vec::new();
    sink.existing(manifest.binding("b").unwrap(), &mut |existing| {
        removals.push(delivery(2, Some(Event::Delete), existing.remove));
    })
    .unwrap();
    assert_eq!(outcomes(&sink.deliver(&removals)), "w");
    assert_eq!(db.psql("select count(*) from t"), "0");
}

#[test]
fn a_value_that_an_extension_refuses_is_set_aside_and_the_others_arrive() {
    let db = support::database();
    db.psql("create extension hstore; create table t (id int primary key, h hstore)");
    let mut sink = into(&db).open().unwrap();
    let written = sink.deliver(&[
        insert(1, "t", r#"{"id": 1, "h": {"a": "b\"=>\\", "": null}}"#),
        // (What a `text` holds goes to the type as it is.)
        insert(2, "t", r#"{"id": 2, "h": "a=>1, b=>NULL"}"#),
        insert(3, "t", r#"{"id": 3, "h": "no => hstore =>"}"#),
        insert(4, "t", r#"{"id": 4, "h": {}}"#),
    ]);
    assert!(matches!(outcomes(&written).as_str(), "wwLw" | "wwNw"), "{written:?}");
    assert_eq!(
        db.psql("select string_agg(concat(id, ' ', h), '; ' order by id) from t"),
        r#"1 ""=>NULL, "a"=>"b\"=>\\"; 2 "a"=>"1", "b"=>NULL; 4"#
    );
}
