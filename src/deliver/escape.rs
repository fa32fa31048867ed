//! Where a value of a row stands decides what becomes of it: it is escaped in a DN and in a filter, a parameter in a query, and else itself.
//!
//! Every `{{ … }}` of a binding goes through here; what the manifest's author wrote around it stays as it is. Pure.

use minijinja::value::{Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Template, UndefinedBehavior};

use super::nulls;
use crate::sink::ldap::{dn_value, filter_value};

/// What a template makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syntax {
    /// A distinguished name, RFC 4514.
    Dn,
    /// A search filter, RFC 4515.
    Filter,
    /// A value of a directory: booleans are `TRUE` and `FALSE`.
    Attribute,
    /// One value of an attribute, which a null is none of.
    Value,
    /// A statement: values are parameters ([`statement`]).
    Query,
    /// A subject of NATS: a value is one token.
    Subject,
    /// One JSON value, as a column of another table is given.
    Json,
    /// Anything else: text as it is.
    Text,
}

impl Syntax {
    /// Returns the name under which a template is kept, so that the engine knows its syntax again.
    pub(super) fn name(self, number: usize) -> String {
        format!("{}/{number}", self.word())
    }

    /// Returns the syntax of the template with this name; `None`: nobody knows how its values are to be escaped.
    pub(super) fn of(name: &str) -> Option<Syntax> {
        let (word, _) = name.split_once('/')?;
        Some(match word {
            "dn" => Syntax::Dn,
            "filter" => Syntax::Filter,
            "attribute" => Syntax::Attribute,
            "value" => Syntax::Value,
            "query" => Syntax::Query,
            "subject" => Syntax::Subject,
            "json" => Syntax::Json,
            "text" => Syntax::Text,
            _ => return None,
        })
    }

    fn word(self) -> &'static str {
        match self {
            Syntax::Dn => "dn",
            Syntax::Filter => "filter",
            Syntax::Attribute => "attribute",
            Syntax::Value => "value",
            Syntax::Query => "query",
            Syntax::Subject => "subject",
            Syntax::Json => "json",
            Syntax::Text => "text",
        }
    }
}

/// Makes the engine of bindings: undefined values are errors, values are escaped by syntax, and null stays null. What has been through that stands as it
/// is: a part of the same template (`{% set %}…{% endset %}`, a macro). No filter makes such a text of a value.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::Custom("syntax".into()));
    nulls::keep(&mut environment);
    environment.add_filter("dn", in_dn);
    environment.set_formatter(|out, state, value| {
        // (By the name: `{% autoescape %}` changes nothing.)
        let syntax = Syntax::of(state.name())
            .ok_or_else(|| Error::new(ErrorKind::BadEscape, format!("`{}` has no known syntax", state.name())))?;
        if value.is_undefined() {
            return Err(Error::new(ErrorKind::UndefinedError, "a value is not there"));
        }
        if value.is_safe() {
            return out.write_str(value.as_str().unwrap_or_default()).map_err(Error::from);
        }
        if syntax == Syntax::Query {
            let text = match value.kind() {
                ValueKind::None => None,
                _ => Some(escaped(syntax, value)?),
            };
            let Parameters(parameters) = state.get_or_insert_extension_with(Parameters::default);
            parameters.push(text);
            // Blanks: what stands beside it must not become a part of it.
            return out.write_str(&format!(" ${} ", parameters.len())).map_err(Error::from);
        }
        out.write_str(&escaped(syntax, value)?).map_err(Error::from)
    });
    environment
}

/// The values of a query while it is rendered.
#[derive(Default)]
struct Parameters(Vec<Option<String>>);

/// A statement with numbered parameters, and the values of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    pub text: String,
    pub values: Vec<Option<String>>,
}

/// Renders the template of a query.
///
/// # Errors
/// A template that fails with these values.
pub(super) fn statement(template: &Template<'_, '_>, context: &Value) -> Result<Statement, Error> {
    let mut rendered = template.render_captured(context.clone())?;
    let values = rendered.with_state_mut(|state| state.get_extension_mut::<Parameters>().map(std::mem::take));
    Ok(Statement {
        text: rendered.into_output(),
        values: values.unwrap_or_default().0,
    })
}

/// A null stands where it can be no part of a text.
#[derive(Debug, thiserror::Error)]
#[error("it is null")]
struct IsNull;

/// Tells whether a template failed because a null would have to be shown.
pub(super) fn is_null(error: &Error) -> bool {
    let mut error: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(one) = error {
        if one.is::<IsNull>() {
            return true;
        }
        error = one.source();
    }
    false
}

/// The filter for a value that becomes a part of a name in another place than a name: where names are made it is escaped anyway.
fn in_dn(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    let stays = value.is_none() || value.is_undefined() || Syntax::of(state.name()) == Some(Syntax::Dn);
    if stays {
        return Ok(value);
    }
    Ok(Value::from(escaped(Syntax::Dn, &value)?))
}

fn escaped(syntax: Syntax, value: &Value) -> Result<String, Error> {
    use Syntax::{Attribute, Dn, Filter, Subject, Value as OneValue};
    let text = match (value.kind(), syntax) {
        (ValueKind::None, Dn | Filter | Subject | OneValue) => {
            let detail = format!("a value in the {} is null", syntax.word());
            return Err(Error::new(ErrorKind::InvalidOperation, detail).with_source(IsNull));
        }
        (ValueKind::None, _) => return Ok(String::new()),
        (ValueKind::Bool, Attribute | OneValue | Dn | Filter) => value.to_string().to_uppercase(),
        (ValueKind::Bool, _) => value.to_string().to_lowercase(),
        (ValueKind::Seq | ValueKind::Map, _) => serde_json::to_string(&value.clone())
            .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?,
        _ => value.as_str().map_or_else(|| value.to_string(), str::to_owned),
    };
    Ok(match syntax {
        Dn => dn_value(&text),
        Filter => filter_value(&text),
        Subject => subject_token(&text),
        _ => text,
    })
}

/// Makes one token of a subject out of any value: what would end or widen the token is percent-encoded.
pub(super) fn subject_token(text: &str) -> String {
    let mut token = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '.' | '*' | '>' | '%' => token.push_str(&format!("%{:02X}", c as u32)),
            c if c.is_whitespace() || c.is_control() => {
                let mut bytes = [0; 4];
                for byte in c.encode_utf8(&mut bytes).bytes() {
                    token.push_str(&format!("%{byte:02X}"));
                }
            }
            c => token.push(c),
        }
    }
    if token.is_empty() { "%".to_owned() } else { token }
}

#[cfg(test)]
mod tests {
    use minijinja::context;

    use super::*;

    fn render(syntax: Syntax, source: &str, value: impl Into<Value>) -> Result<String, Error> {
        let mut environment = environment();
        environment.add_template_owned(syntax.name(0), source.to_owned())?;
        environment
            .get_template(&syntax.name(0))?
            .render(context! { x => value.into() })
    }

    #[test]
    fn values_stay_values() {
        let dn = |text: &str| render(Syntax::Dn, "uid={{ x }},ou=people", text).unwrap();
        assert_eq!(dn("x,ou=admins"), r"uid=x\2cou\3dadmins,ou=people");
        assert_eq!(dn(" a#\n"), r"uid=\20a#\0a,ou=people");
        assert_eq!(dn("#é"), r"uid=\23é,ou=people");
        assert_eq!(
            render(Syntax::Filter, "(uid={{ x }})", "a*)(uid=*").unwrap(),
            r"(uid=a\2a\29\28uid=\2a)"
        );
        assert_eq!(render(Syntax::Subject, "a.{{ x }}", "b.>").unwrap(), "a.b%2E%3E");
        assert_eq!(render(Syntax::Attribute, "{{ x }}", true).unwrap(), "TRUE");
        assert_eq!(render(Syntax::Text, "{{ x }}", true).unwrap(), "true");
        assert_eq!(render(Syntax::Text, "{{ x }}", "<é>").unwrap(), "<é>");
    }

    #[test]
    fn a_name_tells_the_syntax_or_nothing_is_made() {
        use Syntax::{Attribute, Dn, Filter, Json, Query, Subject, Text, Value as OneValue};
        for syntax in [Dn, Filter, Attribute, OneValue, Query, Subject, Json, Text] {
            assert_eq!(Syntax::of(&syntax.name(7)), Some(syntax));
        }
        let mut environment = environment();
        for name in ["name/0", "dn", "<string>"] {
            environment.add_template(name, "cn={{ x }}").unwrap();
            let made = environment.get_template(name).unwrap().render(context! { x => "a,b" });
            assert_eq!(made.unwrap_err().kind(), ErrorKind::BadEscape, "{name}");
        }
    }

    #[test]
    fn a_name_within_a_value_is_escaped_once() {
        let value = |syntax, x: &str| render(syntax, "cn={{ x | dn }},ou=people", x).unwrap();
        assert_eq!(value(Syntax::Value, "Lee+sn=x"), r"cn=Lee\2bsn\3dx,ou=people");
        assert_eq!(value(Syntax::Attribute, "Smith, John"), r"cn=Smith\2c John,ou=people");
        assert_eq!(value(Syntax::Filter, "a*, b"), r"cn=a\2a\5c2c b,ou=people");
        for way in ["cn={{ x | dn }},ou=people", "{% set y = x | dn %}cn={{ y }},ou=people"] {
            let made = render(Syntax::Dn, way, "Smith, John").unwrap();
            assert_eq!(made, r"cn=Smith\2c John,ou=people", "{way}");
        }
        assert!(is_null(&render(Syntax::Value, "cn={{ x | dn }}", ()).unwrap_err()));
    }

    #[test]
    fn no_filter_lets_a_value_stand_as_it_is() {
        for way in [
            "{{ x | safe }}",
            "{{ x | e }}",
            "{% autoescape false %}{{ x }}{% endautoescape %}",
            "{% filter safe %}{{ x }}{% endfilter %}",
            "{{ [x] | map('safe') | join }}",
        ] {
            assert_eq!(render(Syntax::Dn, way, "x,ou=a").unwrap(), r"x\2cou\3da", "{way}");
            assert_eq!(render(Syntax::Filter, way, "a*").unwrap(), r"a\2a", "{way}");
            assert_eq!(render(Syntax::Subject, way, "b.>").unwrap(), "b%2E%3E", "{way}");
            assert_eq!(
                asked(way, "x".into()),
                (" $1 ".to_owned(), vec![Some("x".to_owned())]),
                "{way}"
            );
        }
        assert_eq!(render(Syntax::Dn, "{{ x | tojson }}", "a,b").unwrap(), r"\22a\2cb\22");
        assert_eq!(render(Syntax::Filter, "{{ x | tojson }}", "a*").unwrap(), r#""a\2a""#);
        assert_eq!(
            render(Syntax::Subject, "{{ x | tojson }}", "a.b").unwrap(),
            r#""a%2Eb""#
        );
        let own = Some(r#""pwhash""#.to_owned());
        assert_eq!(
            asked("{{ x | tojson }}", "pwhash".into()),
            (" $1 ".to_owned(), vec![own])
        );
        let body = r#"{"x": {{ x | tojson }}, "y": {{ [x, none] | tojson | safe }}}"#;
        assert_eq!(
            render(Syntax::Text, body, "a\"").unwrap(),
            r#"{"x": "a\"", "y": ["a\"", null]}"#
        );
    }

    /// What a query is asked with, and the values of its parameters.
    fn asked(source: &str, x: Value) -> (String, Vec<Option<String>>) {
        let mut environment = environment();
        environment
            .add_template_owned(Syntax::Query.name(0), source.to_owned())
            .unwrap();
        let template = environment.get_template(&Syntax::Query.name(0)).unwrap();
        let made = statement(&template, &context! { x => x }).unwrap();
        (made.text, made.values)
    }

    #[test]
    fn values_of_a_query_are_parameters() {
        let own = |text: &str| Some(text.to_owned());
        assert_eq!(
            asked(
                "select {{ x }}::text, '{x}', {{ x | upper }}5",
                Value::from("o'b'); drop")
            ),
            (
                "select  $1 ::text, '{x}',  $2 5".to_owned(),
                vec![own("o'b'); drop"), own("O'B'); DROP")]
            )
        );
        assert_eq!(
            asked("select {{ x }}", Value::from(())),
            ("select  $1 ".to_owned(), vec![None])
        );
        assert_eq!(asked("select {{ x }}", Value::from(true)).1, [own("true")]);
        assert_eq!(asked("select 1", Value::from(1)), ("select 1".to_owned(), vec![]));
        // Also what goes through a variable of the template.
        assert_eq!(
            asked("{% set y %}a = {{ x }}{% endset %}select {{ y }}", Value::from(1)),
            ("select a =  $1 ".to_owned(), vec![own("1")])
        );
    }

    #[test]
    fn null_has_no_place_in_a_name() {
        assert!(is_null(&render(Syntax::Dn, "uid={{ x }}", ()).unwrap_err()));
        assert!(is_null(
            &render(Syntax::Value, "uid={{ x }},ou=people", ()).unwrap_err()
        ));
        assert!(is_null(
            &render(Syntax::Filter, "{% macro m() %}{{ x }}{% endmacro %}{{ m() }}", ()).unwrap_err()
        ));
        assert!(!is_null(&render(Syntax::Dn, "uid={{ 1 // 0 }}", ()).unwrap_err()));
        assert_eq!(render(Syntax::Value, "{{ x | default('b', true) }}", ()).unwrap(), "b");
        assert_eq!(render(Syntax::Attribute, "{{ x }}", ()).unwrap(), "");
        assert!(render(Syntax::Text, "{{ y }}", ()).is_err());
    }
}
