//! Numbers keep every digit, wherever they stand.

use super::{column, drain, install, set_aside};
use crate::reliability::named_points::uri;
use crate::support::database;

#[test]
fn a_number_within_json_keeps_its_digits() {
    let (db, there) = (database(), database());
    db.psql("create table item (id int primary key, j jsonb, js json)");
    there.psql("create table item (id int primary key, j jsonb, js json, amount numeric, serial numeric, word text)");
    install(
        &db,
        &format!(
            "version: 1
roles: {{ admin: null, viewer: null }}
sinks: {{ copy: {{ postgres: {{ uri: \"{}\" }} }}, lines: {{ file: {{ path: out.ndjson }} }} }}
bindings:
  items:
    table: public.item
    to: copy
    when: row.j.amount > 1
    row: {{ columns: {{ id: row.id, j: row.j, js: row.js, amount: row.j.amount, serial: 'row.js.list[0]', word: row.js.list | last | string }} }}
  said: {{ table: public.item, to: lines, message: {{ body: '{{{{ row.j | tojson }}}}' }} }}
",
            uri(&there)
        ),
    );
    db.psql(
        r#"insert into item values
             (1, '{"amount": 12345678901234567.89, "n": 1.5}', '{"list": [18446744073709551617, 0.10000000000000000001]}'),
             (2, '{"amount": 1e400}', '{"list": [1e400,  1.10]}'),
             (3, '{"amount": 1}', '{"list": [1]}')"#,
    );
    drain(&db).run().ok();
    assert_eq!(set_aside(&db), [] as [&str; 0]);
    assert_eq!(
        column(
            &there,
            "select concat_ws(' ', id, j ->> 'amount' = amount::text, js, trim_scale(amount) = (j ->> 'amount')::numeric, serial = (js -> 'list' ->> 0)::numeric, word)
               from item order by 1"
        ),
        [
            r#"1 t {"list": [18446744073709551617, 0.10000000000000000001]} t t 0.10000000000000000001"#,
            r#"2 t {"list": [1e400,  1.10]} t t 1.1"#,
        ]
    );
    let lines = std::fs::read_to_string(db.dir().join("out.ndjson")).unwrap();
    assert!(
        lines.contains(r#"{"n": 1.5, "amount": "12345678901234567.89"}"#)
            || lines.contains(r#"{"amount": "12345678901234567.89", "n": 1.5}"#),
        "{lines}"
    );
}
