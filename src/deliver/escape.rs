//! Where a value of a row stands decides how it is escaped: in a DN, in a filter, in a query, or nowhere.
//!
//! Every `{{ … }}` of a binding goes through here; what the manifest's author wrote around it stays as it is. Pure.

use minijinja::value::{Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use postgres_protocol::escape::escape_literal;

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
    /// A statement: values become literals.
    Query,
    /// A subject of NATS: a value is one token.
    Subject,
    /// Anything else: text as it is.
    Text,
}

impl Syntax {
    const ALL: [(Syntax, &'static str); 6] = [
        (Syntax::Dn, "dn"),
        (Syntax::Filter, "filter"),
        (Syntax::Attribute, "attribute"),
        (Syntax::Query, "query"),
        (Syntax::Subject, "subject"),
        (Syntax::Text, "text"),
    ];

    /// Returns the name under which a template is kept, so that the engine knows its syntax again.
    pub(super) fn name(self, number: usize) -> String {
        let word = Syntax::ALL
            .iter()
            .find(|(syntax, _)| *syntax == self)
            .map_or("text", |(_, word)| word);
        format!("{word}/{number}")
    }

    fn of(name: &str) -> Option<&'static str> {
        Syntax::ALL
            .iter()
            .map(|(_, word)| *word)
            .find(|word| name.split('/').next() == Some(*word))
    }
}

/// Makes the engine of bindings: undefined values are errors, values are escaped by syntax.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|name| AutoEscape::Custom(Syntax::of(name).unwrap_or("text").into()));
    environment.set_formatter(|out, state, value| {
        let syntax = match state.auto_escape() {
            AutoEscape::Custom(syntax) => syntax,
            _ => "text",
        };
        if value.is_undefined() {
            return Err(Error::new(ErrorKind::UndefinedError, "a value is not there"));
        }
        if value.is_safe() {
            return out.write_str(value.as_str().unwrap_or_default()).map_err(Error::from);
        }
        out.write_str(&escaped(syntax, value)?).map_err(Error::from)
    });
    environment
}

fn escaped(syntax: &str, value: &Value) -> Result<String, Error> {
    let text = match (value.kind(), syntax) {
        (ValueKind::None, "dn" | "filter" | "subject") => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("a value in the {syntax} is null"),
            ));
        }
        (ValueKind::None, "query") => return Ok("null".to_owned()),
        (ValueKind::None, _) => return Ok(String::new()),
        (ValueKind::Bool, "attribute" | "dn" | "filter") => value.to_string().to_uppercase(),
        (ValueKind::Bool, _) => value.to_string().to_lowercase(),
        (ValueKind::Seq | ValueKind::Map, _) => serde_json::to_string(&value.clone())
            .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?,
        _ => value.as_str().map_or_else(|| value.to_string(), str::to_owned),
    };
    Ok(match syntax {
        "dn" => dn_value(&text),
        "filter" => filter_value(&text),
        "query" => escape_literal(&text),
        "subject" => subject_token(&text),
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
        assert_eq!(
            render(Syntax::Query, "select {{ x }}", "O'Brien'); DROP").unwrap(),
            "select 'O''Brien''); DROP'"
        );
        assert_eq!(render(Syntax::Query, "select {{ x }}", ()).unwrap(), "select null");
        assert_eq!(render(Syntax::Subject, "a.{{ x }}", "b.>").unwrap(), "a.b%2E%3E");
        assert_eq!(render(Syntax::Attribute, "{{ x }}", true).unwrap(), "TRUE");
        assert_eq!(render(Syntax::Text, "{{ x }}", true).unwrap(), "true");
        assert_eq!(render(Syntax::Text, "{{ x }}", "<é>").unwrap(), "<é>");
    }

    #[test]
    fn null_has_no_place_in_a_name() {
        assert!(render(Syntax::Dn, "uid={{ x }}", ()).is_err());
        assert_eq!(render(Syntax::Attribute, "{{ x }}", ()).unwrap(), "");
        assert!(render(Syntax::Text, "{{ y }}", ()).is_err());
    }
}
