//! The filters that make a value safe to stand in SQL, and the formatter that refuses everything else.

use minijinja::value::{Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind};
use postgres_protocol::escape::escape_identifier;

use crate::names::quote_literal;

/// The characters that move a terminal's cursor or end a line, as a pattern. (`[[:cntrl:]]` has 128 to 159 too, and these are letters, or parts
/// of letters, where the database is in Windows' encodings or in none.)
const CONTROLS: &str = "pg_catalog.format('[%s-%s%s]', pg_catalog.chr(1), pg_catalog.chr(31), pg_catalog.chr(127))";

/// Registers filters, auto-escape and formatter.
pub(super) fn register(environment: &mut Environment<'static>) {
    environment.set_auto_escape_callback(|_| AutoEscape::Custom("sql".into()));
    environment.set_formatter(|out, _, value| {
        match value.kind() {
            ValueKind::Number | ValueKind::Bool => write!(out, "{value}")?,
            ValueKind::String if value.is_safe() => out.write_str(value.as_str().unwrap_or_default())?,
            kind => {
                let what = if kind == ValueKind::String {
                    "a bare string".to_owned()
                } else {
                    format!("a bare {kind}")
                };
                return Err(Error::new(
                    ErrorKind::BadEscape,
                    format!("{what} in SQL: pass it through `ident`, `literal` or `sql`"),
                ));
            }
        }
        Ok(())
    });
    environment.add_global("controls", Value::from_safe_string(CONTROLS.to_owned()));
    environment.add_filter("ident", |value: &str| Value::from_safe_string(escape_identifier(value)));
    environment.add_filter("literal", literal);
    environment.add_filter("sql", sql);
    environment.add_filter("texts", |values: Vec<String>| {
        array(values.iter().map(|v| quote_literal(v)), "pg_catalog.text")
    });
    environment.add_filter("attnums", |values: Vec<i64>| {
        array(values.iter().map(ToString::to_string), "smallint")
    });
    environment.add_filter("txids", |values: Vec<i64>| {
        array(values.iter().map(ToString::to_string), "bigint")
    });
    environment.add_filter("oids", |values: Vec<u32>| {
        array(values.iter().map(ToString::to_string), "pg_catalog.oid")
    });
}

/// `'text'`, or `null` for none.
fn literal(value: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::None => Ok(Value::from_safe_string("null".to_owned())),
        ValueKind::String => Ok(Value::from_safe_string(quote_literal(
            value.as_str().unwrap_or_default(),
        ))),
        kind => Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("`literal` takes a string, not a {kind}"),
        )),
    }
}

/// Text that is SQL already: quoted names, types as PostgreSQL prints them; numbers and booleans as they are.
fn sql(value: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String => Ok(Value::from_safe_string(value.as_str().unwrap_or_default().to_owned())),
        ValueKind::Number | ValueKind::Bool => Ok(Value::from_safe_string(value.to_string())),
        kind => Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("`sql` takes a string or a number, not a {kind}"),
        )),
    }
}

fn array(items: impl Iterator<Item = String>, of: &str) -> Value {
    let items: Vec<String> = items.collect();
    Value::from_safe_string(format!("array[{}]::{of}[]", items.join(", ")))
}
