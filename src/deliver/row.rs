//! A row as the server printed it: JSON, kept as text, so that nothing is lost on the way.
//!
//! Where its columns stand in the text is looked up once, when the first is asked for. Templates see values ([`Row::value`]), each made when
//! it is asked for; messages and rows of another table get the text itself.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use minijinja::Value;
use minijinja::value::{Enumerator, Object};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::raw::{self, Texts};

/// A row: the names of its columns and their values.
#[derive(Debug, Clone)]
pub struct Row {
    /// The whole object.
    pub json: Arc<str>,
    /// Where its columns are, by name; made at the first look.
    spans: OnceLock<Arc<[Column]>>,
    /// It holds what cannot be said in UTF-8: its text is for people only.
    is_unreadable: bool,
}

/// A column's name and where its value stands.
#[derive(Debug)]
struct Column {
    name: Name,
    value: Range<usize>,
}

#[derive(Debug)]
enum Name {
    /// As it stands in the text.
    At(Range<usize>),
    /// With something that JSON writes in another way.
    Escaped(Box<str>),
}

impl Row {
    pub fn new(json: impl Into<Arc<str>>) -> Self {
        Row {
            json: json.into(),
            spans: OnceLock::new(),
            is_unreadable: false,
        }
    }

    /// Reads a row off an answer of the server.
    pub(super) fn read(row: &postgres::Row, at: usize, texts: &Texts) -> Self {
        let (json, is_readable) = texts.text(row, at);
        Row {
            is_unreadable: !is_readable,
            ..Row::new(json)
        }
    }

    /// Makes it one of which no delivery can be made.
    pub(super) fn unreadable(self) -> Self {
        Row {
            is_unreadable: true,
            ..self
        }
    }

    /// Tells whether it holds bytes that cannot be said in UTF-8.
    pub(super) fn is_unreadable(&self) -> bool {
        self.is_unreadable
    }

    /// Returns the names of the columns that hold such bytes.
    pub(super) fn unreadable_columns(&self) -> Vec<&str> {
        self.columns()
            .filter(|(_, value)| raw::is_marked(value))
            .map(|(name, _)| name)
            .collect()
    }

    /// Returns each column with its value as JSON text, by name.
    fn columns(&self) -> impl Iterator<Item = (&str, &str)> {
        self.spans()
            .iter()
            .map(|column| (column.name(&self.json), &self.json[column.value.clone()]))
    }

    /// Returns its values that are not null, in the order of the columns: what stays of a row that others have not changed when a column gets another
    /// name, or one is added.
    pub(super) fn content(&self) -> String {
        let values = self
            .in_order()
            .into_iter()
            .map(|column| &self.json[column.value.clone()]);
        let known: Vec<&str> = values.filter(|value| *value != "null").collect();
        known.join(",")
    }

    fn in_order(&self) -> Vec<&Column> {
        let mut columns: Vec<&Column> = self.spans().iter().collect();
        columns.sort_by_key(|column| column.value.start);
        columns
    }

    /// Returns the row under other names of its columns, which `name` says; without those of which it says none.
    pub(super) fn renamed<'r>(&'r self, name: impl Fn(&'r str) -> Option<&'r str>) -> Row {
        let named = |column: &'r Column| Some((name(column.name(&self.json))?, &self.json[column.value.clone()]));
        self.written_anew(self.in_order().into_iter().filter_map(named))
    }

    /// Returns the row with other values (JSON texts) in some of its columns.
    pub(super) fn with<'r>(&'r self, value: impl Fn(&str) -> Option<&'r str>) -> Row {
        let valued = |column: &'r Column| {
            let name = column.name(&self.json);
            (name, value(name).unwrap_or(&self.json[column.value.clone()]))
        };
        self.written_anew(self.in_order().into_iter().map(valued))
    }

    fn written_anew<'r>(&self, columns: impl Iterator<Item = (&'r str, &'r str)>) -> Row {
        let mut json = String::with_capacity(self.json.len() + 32);
        for (name, value) in columns {
            json.push(if json.is_empty() { '{' } else { ',' });
            json.push_str(&serde_json::Value::from(name).to_string());
            json.push(':');
            json.push_str(value);
        }
        json.push_str(if json.is_empty() { "{}" } else { "}" });
        Row {
            is_unreadable: self.is_unreadable,
            ..Row::new(json)
        }
    }

    /// Returns the row as templates see it: `row.login`.
    pub fn value(&self) -> Value {
        // (Looked through before it is copied: so the copies have what was found.)
        self.spans();
        Value::from_object(Values {
            row: self.clone(),
            number: number_or_text,
        })
    }

    /// Returns the row as conditions see it: every number is one, for what is asked is how it compares. Of one with more digits than a float
    /// has it is the float next to it on its side of what the float is written as: so it is above 100 when it is `100.00000000000000001`.
    pub fn compared(&self) -> Value {
        self.spans();
        Value::from_object(Values {
            row: self.clone(),
            number: number_beside,
        })
    }

    /// Returns the JSON text of one column.
    pub fn column(&self, name: &str) -> Option<&str> {
        let spans = self.spans();
        let at = spans
            .binary_search_by(|column| column.name(&self.json).cmp(name))
            .ok()?;
        Some(&self.json[spans[at].value.clone()])
    }

    fn spans(&self) -> &[Column] {
        self.spans.get_or_init(|| spans(&self.json))
    }
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.json == other.json
    }
}

impl Eq for Row {}

/// Looks up where the columns stand. A text that is no object has none.
fn spans(json: &str) -> Arc<[Column]> {
    let Ok(Pairs(pairs)) = serde_json::from_str(json) else {
        return Arc::new([]);
    };
    // (The parser lends parts of the text.)
    let at = |part: &str| {
        let from = part.as_ptr().addr() - json.as_ptr().addr();
        from..from + part.len()
    };
    let column = |(name, value): (&str, &str)| Column {
        name: match name.contains('\\') {
            true => Name::Escaped(serde_json::from_str(name).unwrap_or_default()),
            false => Name::At(at(&name[1..name.len() - 1])),
        },
        value: at(value),
    };
    let mut columns: Vec<Column> = pairs.into_iter().map(column).collect();
    columns.sort_by(|a, b| a.name(json).cmp(b.name(json)));
    columns.into()
}

impl Column {
    fn name<'a>(&'a self, json: &'a str) -> &'a str {
        match &self.name {
            Name::At(range) => &json[range.clone()],
            Name::Escaped(name) => name,
        }
    }
}

/// A row to the engine of templates, in place of a map of all its values: most templates look at a few columns.
#[derive(Debug)]
struct Values {
    row: Row,
    /// What a number is to be that neither an integer nor a float can hold exactly.
    number: fn(&str) -> Value,
}

impl Object for Values {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        self.row.column(key).map(|json| value(json, self.number))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.row.columns().map(|(name, _)| Value::from(name)).collect())
    }
}

/// How deep values may lie in each other; what is deeper is its text.
const DEPTH: usize = 127;

/// The value of a JSON text; `number` makes those of numbers, wherever in it, that neither an integer nor a float can hold exactly.
fn value(json: &str, number: fn(&str) -> Value) -> Value {
    nested(json, number, DEPTH).unwrap_or_else(|| Value::from(json))
}

fn nested(json: &str, number: fn(&str) -> Value, depth: usize) -> Option<Value> {
    let within = |json: &str| nested(json, number, depth.checked_sub(1)?);
    Some(match json.as_bytes().first()? {
        b'-' | b'0'..=b'9' => exact_number(json).unwrap_or_else(|| number(json)),
        b'n' => Value::from(()),
        b't' | b'f' => Value::from(json == "true"),
        b'"' => Value::from(serde_json::from_str::<String>(json).ok()?),
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(json).ok()?;
            let items: Option<Vec<Value>> = items.into_iter().map(|item| within(item.get())).collect();
            Value::from(items?)
        }
        _ => {
            let Pairs(pairs) = serde_json::from_str(json).ok()?;
            let pair = |(name, value)| Some((serde_json::from_str::<String>(name).ok()?, within(value)?));
            let pairs: Option<BTreeMap<String, Value>> = pairs.into_iter().map(pair).collect();
            Value::from(pairs?)
        }
    })
}

fn exact_number(text: &str) -> Option<Value> {
    if let Ok(whole) = text.parse::<i64>() {
        return Some(Value::from(whole));
    }
    if let Ok(whole) = text.parse::<i128>() {
        return Some(Value::from(whole));
    }
    let float = text.parse::<f64>().ok()?;
    let is_exact = float.is_finite() && Decimal::of(text)? == Decimal::of(&format!("{float:e}"))?;
    is_exact.then(|| Value::from(float))
}

/// Numbers that are printed keep their value: they stay text.
fn number_or_text(text: &str) -> Value {
    Value::from(text)
}

/// The float beside a number, on the side where the number is.
fn number_beside(text: &str) -> Value {
    let Ok(float) = text.parse::<f64>() else {
        return Value::from(text);
    };
    let order = match (Decimal::of(text), Decimal::of(&format!("{float:e}"))) {
        (Some(number), Some(beside)) => number.order(&beside),
        // What is too large for a float is infinite.
        _ => Ordering::Equal,
    };
    Value::from(match order {
        Ordering::Greater => float.next_up(),
        Ordering::Less => float.next_down(),
        Ordering::Equal => float,
    })
}

/// A number as it is written: the digits that count, behind a point that is moved.
#[derive(Debug, PartialEq, Eq)]
struct Decimal {
    is_negative: bool,
    point: i64,
    digits: String,
}

impl Decimal {
    /// `None`: it is no number, or its exponent is beyond all that can be compared.
    fn of(text: &str) -> Option<Self> {
        let (text, is_negative) = match text.strip_prefix('-') {
            Some(text) => (text, true),
            None => (text, false),
        };
        let (decimal, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, part) = decimal.split_once('.').unwrap_or((decimal, ""));
        let all = [whole, part].concat();
        if !all.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let digits = all.trim_start_matches('0');
        let point = whole.len() as i64 - (all.len() - digits.len()) as i64;
        let digits = digits.trim_end_matches('0');
        Some(Decimal {
            is_negative,
            point: match digits {
                "" => i64::MIN,
                _ => point.checked_add(exponent.parse().ok()?)?,
            },
            digits: digits.to_owned(),
        })
    }

    /// How it compares with one of the same sign.
    fn order(&self, other: &Self) -> Ordering {
        let size = |number: &Self, other: &Self| (number.point, &number.digits).cmp(&(other.point, &other.digits));
        match self.is_negative {
            true => size(other, self),
            false => size(self, other),
        }
    }
}

/// Names, in their quotes, and values, both as they stand in the text.
struct Pairs<'a>(Vec<(&'a str, &'a str)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a row")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some((name, value)) = map.next_entry::<&'de RawValue, &'de RawValue>()? {
                    pairs.push((name.get(), value.get()));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_value() {
        let row = Row::new(
            r#"{"a":1,"b":10.50,"c":123456789012345678901234567890.25,"d":170141183460469231731687303715884105727,"e":1e300,"f":"x","g":null,"h":[1,2],"i":true,"j":0.1}"#,
        );
        assert_eq!(row.columns().count(), 10);
        let value = row.value();
        let text = |name: &str| value.get_attr(name).unwrap().to_string();
        assert_eq!(text("a"), "1");
        assert_eq!(text("b"), "10.5");
        assert_eq!(text("c"), "123456789012345678901234567890.25");
        assert_eq!(text("d"), "170141183460469231731687303715884105727");
        assert_eq!(text("j"), "0.1");
        assert!(value.get_attr("g").unwrap().is_none());
        assert!(value.get_attr("i").unwrap().is_true());
        assert_eq!(row.column("b"), Some("10.50"));
    }

    #[test]
    fn numbers_within_json_keep_their_value() {
        let row = Row::new(concat!(
            r#"{"j":{"a":12345678901234567.89,"b":18446744073709551617,"c":1e400,"d":1.10,"e":[1.5e3,-1E-400,{"f":0.30000000000000001}],"#,
            r#""g":null,"h":true,"i":"\u00e4 1e400","k":2.5E+300,"l":-7,"m":0.0,"n":18446744073709551615}}"#
        ));
        let mut engine = minijinja::Environment::new();
        engine.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
        let made = |source: &str| engine.render_str(source, minijinja::context! { row => row.value() });
        for (source, text) in [
            (
                "{{ row.j.a }} {{ row.j.b }} {{ row.j.c }}",
                "12345678901234567.89 18446744073709551617 1e400",
            ),
            (
                "{{ row.j.d }} {{ row.j.e[0] }} {{ row.j.e[1] }} {{ row.j.e[2].f }}",
                "1.1 1500.0 -1E-400 0.30000000000000001",
            ),
            (
                "{{ row.j.g }} {{ row.j.h }} {{ row.j.i }} {{ row.j.k == 2.5e300 }}",
                "None True ä 1e400 True",
            ),
            (
                "{{ row.j.l + 1 }} {{ row.j.m }} {{ row.j.n }}",
                "-6 0.0 18446744073709551615",
            ),
            (
                "{{ row.j | tojson }}",
                concat!(
                    r#"{"a": "12345678901234567.89", "b": 18446744073709551617, "c": "1e400", "d": 1.1, "e": [1500.0, "-1E-400", "#,
                    r#"{"f": "0.30000000000000001"}], "g": null, "h": true, "i": "ä 1e400", "k": 2.5e+300, "l": -7, "m": 0.0, "#,
                    r#""n": 18446744073709551615}"#
                ),
            ),
        ] {
            assert_eq!(made(source).unwrap(), text, "{source}");
        }
        let compared = |condition: &str| {
            let expression = engine.compile_expression(condition).unwrap();
            let row = row.compared();
            expression.eval(minijinja::context! { row }).unwrap().is_true()
        };
        for condition in [
            "row.j.a > 12345678901234560 and row.j.a < 12345678901234570",
            "row.j.b > 1e19",
            "row.j.c > 1e300",
            "row.j.e[1] < 0 and row.j.e[1] > -1",
            "row.j.e[0] == 1500",
        ] {
            assert!(compared(condition), "{condition}");
        }
    }

    #[test]
    fn json_that_is_nested_too_deep_is_its_text() {
        let json = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        let text = |depth: usize| {
            let value = Row::new(format!(r#"{{"j":{}}}"#, json(depth)))
                .value()
                .get_attr("j")
                .unwrap();
            value.as_str().map(str::to_owned)
        };
        assert_eq!(text(DEPTH), None);
        assert_eq!(text(5000), Some(json(5000)));
    }

    #[test]
    fn conditions_compare_numbers_as_numbers() {
        let mut engine = minijinja::Environment::new();
        engine.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
        let holds = |number: &str, condition: &str| {
            let row = Row::new(format!(r#"{{"n":{number},"m":7}}"#)).compared();
            let expression = engine.compile_expression(condition).unwrap();
            expression.eval(minijinja::context! { row }).unwrap().is_true()
        };
        for (number, below, above) in [
            ("3.3333333333333333", "3.3", "3.4"),
            ("-0.66666666666666666667", "-1", "0"),
            ("10.12345678901234567890", "10", "11"),
            ("50.10000000000000001", "50.1", "50.11"),
            ("100.00000000000000001", "100", "101"),
            ("99.99999999999999999999", "99", "100"),
            ("-100.00000000000000001", "-101", "-100"),
            ("0.00000000000000000000000000000000001", "0", "1"),
            ("-0.0000000000000000000000000000000000123456789012345678901", "-1", "0"),
            ("170141183460469231731687303715884105729", "100", "1e39"),
            ("123456789012345678901234567890.25", "1e29", "1e30"),
            ("10.50", "10.4", "10.6"),
            ("9007199254740993", "9007199254740992", "9007199254740994"),
            ("1.00000000000000000001e2", "100", "101"),
            ("-1.00000000000000000001E+2", "-101", "-100"),
        ] {
            let says = |condition: &str| {
                let condition = condition
                    .replace('<', &format!("< {above}"))
                    .replace('>', &format!("> {below}"));
                assert!(holds(number, &condition), "{number}: {condition}");
            };
            says("row.n <");
            says("row.n >");
            for wrong in [
                format!("row.n < {below}"),
                format!("row.n > {above}"),
                format!("row.n == {above}"),
            ] {
                assert!(!holds(number, &wrong), "{number}: {wrong}");
            }
        }
        let tiny = format!("0.{}1", "0".repeat(400));
        assert!(holds(&tiny, "row.n > 0 and row.n < 1 and row.n != 0"));
        let huge = format!("{}.5", "9".repeat(400));
        assert!(holds(&huge, "row.n > 1e300") && holds(&format!("-{huge}"), "row.n < -1e300"));
        assert!(holds(
            "3.3333333333333333",
            "row.n * 3 > 9 and row.n + row.m < 11 and row.n in [row.n]"
        ));
    }

    #[test]
    fn names_of_every_kind() {
        let row = Row::new(r#" { "b" : 1 , "":2,"a\"\\\u00e9\n":3,"ä.\ud83d\ude00": {"b":"}"}, "z" : "x" } "#);
        for (name, json) in [
            ("b", "1"),
            ("", "2"),
            ("a\"\\é\n", "3"),
            ("ä.😀", r#"{"b":"}"}"#),
            ("z", r#""x""#),
        ] {
            assert_eq!(row.column(name), Some(json), "{name}");
        }
        for name in ["a", "B", "ä", r#"a\"#, "b "] {
            assert_eq!(row.column(name), None, "{name}");
        }
        for no_row in ["", "[1]", "null", "{\"a\":1", "{\"a\":1}x"] {
            assert_eq!(Row::new(no_row).columns().count(), 0, "{no_row}");
        }
    }

    #[test]
    fn columns_get_other_names_and_keep_their_values() {
        let row = Row::new(r#"{"b":1.50,"d":2,"a":{"b": null},"f":3,"\u00e9":"x"}"#);
        let new = |name| match name {
            "b" => Some("a"),
            "a" => Some("c"),
            "é" => Some("\"e\""),
            "d" => None,
            same => Some(same),
        };
        assert_eq!(
            &*row.renamed(new).json,
            r#"{"a":1.50,"c":{"b": null},"f":3,"\"e\"":"x"}"#
        );
        assert_eq!(&*row.renamed(|_| None).json, "{}");
        assert!(row.clone().unreadable().renamed(new).is_unreadable());
    }

    /// As wide as PostgreSQL lets a table be.
    #[test]
    fn a_wide_row_is_looked_through_once() {
        let json = (0..1600)
            .map(|n| format!("\"c{n}\":\"v{n}\""))
            .collect::<Vec<_>>()
            .join(",");
        let row = Row::new(format!("{{{json}}}"));
        let first = row.spans().as_ptr();
        for n in 0..1600 {
            assert_eq!(row.column(&format!("c{n}")), Some(format!("\"v{n}\"").as_str()));
        }
        let copy = row.clone();
        assert_eq!(copy.column("c1599"), Some("\"v1599\""));
        assert!(std::ptr::eq(first, row.spans().as_ptr()) && std::ptr::eq(first, copy.spans().as_ptr()));
        assert_eq!((&copy, copy.column("c")), (&Row::new(&*row.json), None));
    }

    #[test]
    fn templates_see_a_map_in_the_order_of_names() {
        let row = Row::new(r#"{"b":[1,{"x":"y"}],"a":1.50,"c":null}"#);
        let mut engine = minijinja::Environment::new();
        engine.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
        let render = |source: &str| engine.render_str(source, minijinja::context! { row => row.value() });
        for (source, made) in [
            ("{{ row.a }} {{ row['a'] }} {{ row.b[1].x }}", "1.5 1.5 y"),
            ("{{ row | tojson }}", r#"{"a": 1.5, "b": [1, {"x": "y"}], "c": null}"#),
            (
                "{% for name, value in row | items %}{{ name }}={{ value is none }} {% endfor %}",
                "a=false b=false c=true ",
            ),
            (
                "{{ row | length }}{{ 'a' in row }}{{ 'd' in row }}{{ row is mapping }}{{ row == row }}{{ row is true or row is not none }}",
                "3TrueFalseTrueTrueTrue",
            ),
            ("{{ row.d is defined }}{{ row.d | default('-') }}", "False-"),
        ] {
            let said = render(source).unwrap();
            assert_eq!(said.to_lowercase(), made.to_lowercase(), "{source}");
        }
        assert!(render("{{ row.d }}").is_err());
        assert!(render("{{ row[0] }}").is_err());
    }
}
