//! A null stays a null: what a filter makes of it is one too, and not the text `None` that the engine would make of it.
//!
//! `default` and the tests see it, `join` leaves it out, and `tojson` writes it where the whole text is JSON. Filters that need a list take it for an
//! empty one, as the engine has it. What `~` and `in` make of a null is the business of [`super::operators`] too. Called by `escape` for the engine of bindings.

use std::borrow::Cow;
use std::sync::Arc;

use minijinja::value::{Kwargs, Object, Rest, Value, ValueOrKwargs, from_args};
use minijinja::{Environment, Error, ErrorKind, State, args, filters, tests};

use super::escape::Syntax;

/// The filter that puts texts together: a null among them makes a null of all.
pub(super) const JOINED: &str = "emaj_joined";
/// The filter for what `in` looks into: no null is in a text, and nothing is in a null.
pub(super) const WITHIN: &str = "emaj_within";
/// The filter that makes JSON of whatever it is.
pub(super) const JSON: &str = "emaj_json";

/// Has an engine keep nulls.
pub(super) fn keep(environment: &mut Environment<'_>) {
    for (name, filter) in [
        ("abs", Value::from_function(filters::abs)),
        ("capitalize", Value::from_function(filters::capitalize)),
        ("e", Value::from_function(filters::escape)),
        ("escape", Value::from_function(filters::escape)),
        ("indent", Value::from_function(filters::indent)),
        ("lines", Value::from_function(filters::lines)),
        ("lower", Value::from_function(filters::lower)),
        ("pprint", Value::from_function(filters::pprint)),
        ("reverse", Value::from_function(filters::reverse)),
        ("round", Value::from_function(filters::round)),
        ("split", Value::from_function(filters::split)),
        ("string", Value::from_function(filters::string)),
        ("title", Value::from_function(filters::title)),
        ("trim", Value::from_function(filters::trim)),
        ("upper", Value::from_function(filters::upper)),
    ] {
        add(environment, name, move |state, value, rest| match value.is_none() {
            true => Ok(value),
            false => filter.call(state, &with(value, rest)),
        });
    }
    // A null in the place of a text that is put in is one too.
    for (name, filter) in [
        ("format", Value::from_function(filters::format)),
        ("replace", Value::from_function(filters::replace)),
    ] {
        add(environment, name, move |state, value, rest| {
            match value.is_none() || rest.iter().any(holds_null) {
                true => Ok(Value::from(())),
                false => filter.call(state, &with(value, rest)),
            }
        });
    }
    for (name, filter) in [
        ("float", Value::from_function(filters::float)),
        ("int", Value::from_function(filters::int)),
    ] {
        add(environment, name, move |state, value, rest| match value.is_none() {
            true => given_default(&rest),
            false => filter.call(state, &with(value, rest)),
        });
    }
    add(environment, "join", join);
    add(environment, "safe", |_, value, _| {
        Ok(match value.as_str() {
            Some(text) if !value.is_safe() => Value::from(text),
            _ => value,
        })
    });
    add(environment, "tojson", |state, value, rest| {
        match value.is_none() && Syntax::of(state.name()) != Some(Syntax::Text) {
            true => Ok(value),
            false => json(state, &with(value, rest)),
        }
    });
    add(environment, JSON, |state, value, rest| json(state, &with(value, rest)));
    add(environment, JOINED, |_, texts, _| together(&texts));
    add(environment, WITHIN, |_, sought, _| {
        Ok(within(sought.get_item_by_index(0)?))
    });
    environment.add_test("startingwith", |value: &Value, other: &Value| {
        Ok::<_, Error>(are_there(value, other)? && tests::is_startingwith(text(value), text(other)))
    });
    environment.add_test("endingwith", |value: &Value, other: &Value| {
        Ok::<_, Error>(are_there(value, other)? && tests::is_endingwith(text(value), text(other)))
    });
    environment.add_test("in", |state: &State<'_, '_>, value: &Value, other: &Value| {
        tests::is_in(state, value, &within(other.clone()))
    });
}

/// What looks like a text to `in`, and has no null in it.
#[derive(Debug)]
struct Within(Value);

impl Object for Within {
    fn get_value(self: &Arc<Self>, sought: &Value) -> Option<Value> {
        let is_there = !sought.is_none() && text(&self.0).contains(&*text(sought));
        is_there.then(|| Value::from(true))
    }
}

fn within(value: Value) -> Value {
    match value.as_str() {
        Some(_) => Value::from_object(Within(value)),
        None if value.is_none() => Value::from(Vec::<Value>::new()),
        None => value,
    }
}

/// Tells whether neither value is null; one that is not there at all is an error, as in any other expression.
fn are_there(value: &Value, other: &Value) -> Result<bool, Error> {
    if value.is_undefined() || other.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    Ok(!value.is_none() && !other.is_none())
}

fn add<F>(environment: &mut Environment<'_>, name: &'static str, filter: F)
where
    F: Fn(&mut State<'_, '_>, Value, Vec<Value>) -> Result<Value, Error> + Send + Sync + 'static,
{
    environment.add_filter(
        name,
        move |state: &mut State<'_, '_>, value: Value, rest: Rest<ValueOrKwargs>| {
            filter(state, value, rest.into_values())
        },
    );
}

fn with(value: Value, rest: Vec<Value>) -> Vec<Value> {
    [value].into_iter().chain(rest).collect()
}

/// Tells whether an argument is null, or one of those with a name.
fn holds_null(argument: &Value) -> bool {
    let named = || {
        let names = argument.try_iter().into_iter().flatten();
        names
            .map(|name| argument.get_item(&name))
            .any(|value| value.is_ok_and(|value| value.is_none()))
    };
    argument.is_none() || argument.is_kwargs() && named()
}

/// Returns what `int` and `float` were told to make of what is no number.
fn given_default(rest: &[Value]) -> Result<Value, Error> {
    let (default, _, named): (Option<Value>, Option<Value>, Kwargs) = from_args(rest)?;
    Ok(match default {
        Some(default) => default,
        None => named.get::<Option<Value>>("default")?.unwrap_or(Value::from(())),
    })
}

/// Joins what is there.
fn join(state: &mut State<'_, '_>, value: Value, rest: Vec<Value>) -> Result<Value, Error> {
    if value.is_none() {
        return Ok(value);
    }
    let (joiner, attribute, named): (Option<Value>, Option<Value>, Kwargs) = from_args(&rest)?;
    let joiner = joiner.or(named.get("d")?);
    let attribute: Option<Value> = attribute.or(named.get("attribute")?);
    named.assert_all_used()?;
    let items = match attribute {
        Some(attribute) => Value::from_function(filters::map).call(state, args!(value, attribute => attribute))?,
        None => value,
    };
    let there = match items.try_iter() {
        Ok(all) => Value::from(all.filter(|item| !item.is_none()).collect::<Vec<_>>()),
        Err(_) => items,
    };
    Value::from_function(filters::join).call(state, args!(there, joiner))
}

/// Makes JSON, which is a text like any other: it is escaped where values are.
fn json(state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
    let json = Value::from_function(filters::tojson).call(state, args)?;
    Ok(Value::from(text(&json).as_ref()))
}

/// Makes one text of several values.
fn together(values: &Value) -> Result<Value, Error> {
    let mut all = String::new();
    let mut holds_null = false;
    for value in values.try_iter()? {
        if value.is_undefined() {
            return Err(Error::new(ErrorKind::UndefinedError, "a value is not there"));
        }
        holds_null |= value.is_none();
        all.push_str(&text(&value));
    }
    Ok(match holds_null {
        true => Value::from(()),
        false => Value::from(all),
    })
}

fn text(value: &Value) -> Cow<'_, str> {
    value.as_str().map_or_else(|| value.to_string().into(), Into::into)
}

#[cfg(test)]
mod kept {
    use minijinja::context;

    use crate::deliver::escape::{Syntax, environment};
    use crate::deliver::operators::respelled;

    fn render(syntax: Syntax, source: &str) -> String {
        let mut environment = environment();
        environment
            .add_template_owned(syntax.name(0), respelled(source))
            .unwrap();
        let made = environment.get_template(&syntax.name(0)).unwrap().render(context! {
            x => (), a => "Ann", n => 7, list => [Some("b"), None, Some("c")], docs => [context! { m => "d" }, context! { m => () }],
        });
        made.unwrap_or_else(|error| panic!("{source}: {error:#}"))
    }

    #[test]
    fn by_every_filter_of_one_value_and_by_what_puts_texts_together() {
        for made in [
            "x | abs",
            "x | capitalize",
            "x | e",
            "x | escape",
            "x | float",
            "x | format(1)",
            "x | indent",
            "x | indent(width=2)",
            "x | int",
            "x | int(base=16)",
            "x | join(' ')",
            "x | lines",
            "x | lower",
            "x | pprint",
            "x | replace('o', 'a')",
            "x | reverse",
            "x | round(2)",
            "x | safe",
            "x | split(',')",
            "x | string",
            "x | title",
            "x | trim",
            "x | trim('N')",
            "x | upper",
            "x | lower | upper",
            "x ~ 'x'",
            "'x' ~ x",
            "a ~ ' ' ~ x",
            "(a ~ x) | upper",
            "x ~ 'x' | upper",
            "a | replace('n', x)",
            "'%s %s' | format(a, x)",
            "'%(k)s' | format(k=x)",
            "x | tojson",
        ] {
            let said = render(
                Syntax::Json,
                &format!("{{{{ ({made}) is none }}}} {{{{ ({made}) | default('-', true) }}}}"),
            );
            assert_eq!(said, "true -", "{made}");
        }
    }

    #[test]
    fn what_sees_them_still_does() {
        for (source, made) in [
            (
                "{{ x is none }} {{ x == none }} {{ x | default('-', true) }} {{ x | d('-', true) }}",
                "true true - -",
            ),
            (
                "{{ (x | lower) == 'none' }} {{ (x | upper) != 'NONE' }} {{ 'y' if x | trim else 'n' }}",
                "false true n",
            ),
            (
                "{{ x is startingwith 'N' }} {{ x is endingwith('e') }} {{ a is startingwith 'A' }}",
                "false false true",
            ),
            (
                "{{ x in 'None none' }} {{ x not in 'None' }} {{ a in x }} {{ x is in 'None' }} {{ x is not in x }}",
                "false true false false true",
            ),
            (
                "{{ x in list }} {{ x in ['None'] }} {{ a in 'Anna' and 7 in '17' }} {{ ['None', x] | select('in', 'None') | join }}",
                "true false true None",
            ),
            (
                "{{ x | int(default=5) }} {{ x | int(6) }} {{ x | float(default=1.5) }} {{ x | bool }}",
                "5 6 1.5 false",
            ),
            (
                "{{ list | join('-') }} {{ [a, x] | join(' ') }} {{ docs | join(',', attribute='m') }}",
                "b-c Ann d",
            ),
            (
                "{{ list | map('upper') | join(d='/') }} {{ 'ab' | join('.') }} {{ x | list | length }}",
                "B/C a.b 0",
            ),
            (
                "{{ a | lower }} {{ a | replace('n', '') }} {{ '%s %d' | format(a, n) }} {{ n ~ a ~ 1.5 }}",
                "ann A Ann 7 7Ann1.5",
            ),
            (
                "{\"m\": {{ x | lower | tojson }}, \"l\": {{ list | tojson }}}",
                r#"{"m": null, "l": ["b", null, "c"]}"#,
            ),
            ("<{{ x | lower }}>", "<>"),
        ] {
            assert_eq!(render(Syntax::Text, source), made, "{source}");
        }
    }
}
