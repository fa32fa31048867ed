//! Which entries belong to a binding, for `emaj init --prune`.
//!
//! An entry does when it stands below the part of the name that is the same for all rows, has all object classes of the binding, and
//! its name has the form of the template. Anything else was made by somebody else, and is left alone.

use super::super::fault::{self, Fault};
use super::super::{Action, Entry, EntryChange, Existing};
use super::directory::{Live, Page, Query, Trouble};
use super::dn::{Dn, fold, short_name};
use super::escape::filter_value;
use crate::manifest::{Binding, BindingKind, Scope};

/// What the entries of a binding have in common.
#[derive(Debug)]
pub(super) struct Form {
    /// Where they stand.
    base: String,
    /// What is known of each component, the entry's own first.
    components: Vec<Component>,
    filter: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Component {
    /// Always this one, in its normal form.
    Same(String),
    /// One of this attribute.
    Of(String),
    /// Anything: the attribute too comes from the row.
    Any,
}

impl Form {
    /// Takes the template of a binding apart.
    ///
    /// # Errors
    /// [`crate::sink::Verdict::Never`] when it is no `entry`, or when nothing of the name is the same for all rows.
    pub(super) fn of(binding: &Binding) -> Result<Form, Fault> {
        let BindingKind::Entry { dn, object_classes, .. } = &binding.kind else {
            return Err(Fault::never(format!(
                "`{}` makes no entries: there is nothing to list",
                binding.name.value
            )));
        };
        let (components, base) = take_apart(&dn.value.0).ok_or_else(|| {
            Fault::never(format!(
                "the `dn` of `{}` has no end that is the same for all rows, so that nobody knows where to look",
                binding.name.value
            ))
        })?;
        let classes = object_classes
            .iter()
            .map(|class| format!("(objectClass={})", filter_value(&class.value)));
        Ok(Form {
            base,
            components,
            filter: format!("(&(objectClass=*){})", classes.collect::<String>()),
        })
    }

    /// Asks for a page of what may belong to the binding.
    pub(super) async fn page(&self, live: &Live, size: u32, cookie: Vec<u8>) -> Result<Page, Fault> {
        let query = Query {
            base: &self.base,
            scope: Scope::Sub,
            filter: &self.filter,
            attributes: &["1.1".to_owned()],
        };
        match live.search(&query, Some((size, cookie))).await {
            Ok(page) => Ok(page),
            Err(Trouble::Refused {
                code: fault::NO_SUCH_OBJECT,
                ..
            }) => Ok(Page {
                found: Vec::new(),
                cookie: Vec::new(),
            }),
            Err(trouble) => Err(trouble.into_fault(&format!("listing the entries below `{}`", self.base))),
        }
    }

    /// Returns the entry as the binding's own, when its name has the form.
    pub(super) fn existing(&self, dn: &str) -> Option<Existing> {
        let name = Dn::parse(dn).ok()?;
        let fits = name.0.len() == self.components.len()
            && name
                .0
                .iter()
                .zip(&self.components)
                .all(|(rdn, component)| match component {
                    Component::Any => true,
                    Component::Of(attribute) => rdn.parts.len() == 1 && short_name(&rdn.parts[0].name) == *attribute,
                    Component::Same(normal) => rdn.normal() == *normal,
                });
        fits.then(|| Existing {
            identity: name.normal(),
            remove: Action::Entry(EntryChange {
                old: Some(Entry {
                    dn: dn.to_owned(),
                    object_classes: Vec::new(),
                    attributes: Vec::new(),
                }),
                new: None,
                heir: None,
            }),
        })
    }
}

/// Tells whether an entry of this name may be one that `binding` makes.
pub(super) fn may_make(binding: &Binding, dn: &str) -> bool {
    let BindingKind::Entry { dn: template, .. } = &binding.kind else {
        return false;
    };
    // With statements a template may have more than one form, and an unescaped value may be several components.
    let is_of_one_form = !template.value.0.contains("{%") && !template.value.0.contains("safe");
    match Form::of(binding) {
        Ok(form) if is_of_one_form => form.existing(dn).is_some(),
        _ => true,
    }
}

/// Returns what is known of each component of a template, and the end that is the same for all rows; `None`: there is no such end.
fn take_apart(template: &str) -> Option<(Vec<Component>, String)> {
    let parts = split(template);
    let last = parts.iter().rposition(|part| has_code(part))?;
    let base = parts[last + 1..].join(",");
    let above = Dn::parse(&base).ok().filter(|dn| !dn.0.is_empty())?;
    let mut components: Vec<Component> = parts[..=last].iter().map(|part| component(part)).collect();
    components.extend(above.0.iter().map(|rdn| Component::Same(rdn.normal())));
    Some((components, base.trim().to_owned()))
}

fn component(part: &str) -> Component {
    if !has_code(part) {
        return Dn::parse(part).map_or(Component::Any, |dn| Component::Same(dn.normal()));
    }
    match part.split_once('=') {
        // `cn={{ a }}+sn={{ b }}` is left to the count of components and the object classes.
        Some((attribute, value)) if !has_code(attribute) && !value.contains('+') => {
            Component::Of(short_name(&fold(attribute)))
        }
        _ => Component::Any,
    }
}

fn has_code(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

/// Splits a template at the commas that separate components: not escaped, not inside of code.
fn split(template: &str) -> Vec<&str> {
    let (mut parts, mut from, mut at) = (Vec::new(), 0, 0);
    while at < template.len() {
        let rest = &template[at..];
        let close = [("{{", "}}"), ("{%", "%}"), ("{#", "#}")]
            .iter()
            .find_map(|(open, close)| rest.starts_with(open).then_some(*close));
        let c = rest.chars().next().unwrap_or_default();
        at += match (close, c) {
            (Some(close), _) => rest.find(close).map_or(rest.len(), |found| found + close.len()),
            (None, '\\') => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            (None, ',') => {
                parts.push(&template[from..at]);
                from = at + 1;
                1
            }
            (None, c) => c.len_utf8(),
        };
    }
    parts.push(&template[from..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_without_code_is_where_to_look() {
        let (components, base) =
            take_apart(r#"userid={{ row.login | replace(",", "") }},ou={{ row.unit }},ou=People\, all, dc=x"#).unwrap();
        assert_eq!(base, r"ou=People\, all, dc=x");
        assert_eq!(
            components,
            [
                Component::Of("uid".to_owned()),
                Component::Of("ou".to_owned()),
                Component::Same(r"ou=people\2c all".to_owned()),
                Component::Same("dc=x".to_owned()),
            ]
        );
        assert!(take_apart("uid={{ row.login }}").is_none());
        assert!(take_apart("uid={{ a }},{{ b }}").is_none());
        assert!(
            take_apart("uid=a,dc=x").is_none(),
            "one entry, and no row decides about it"
        );
    }

    #[test]
    fn only_what_has_the_form_belongs() {
        let (components, base) = take_apart("uid={{ row.login }},ou=people,dc=x").unwrap();
        let form = Form {
            base,
            components,
            filter: String::new(),
        };
        assert_eq!(
            form.existing("UID=Bob, ou=People,dc=x").unwrap().identity,
            "uid=bob,ou=people,dc=x"
        );
        for other in [
            "cn=bob,ou=people,dc=x",
            "uid=a,uid=b,ou=people,dc=x",
            "uid=a,ou=other,dc=x",
            "uid=a+cn=b,ou=people,dc=x",
        ] {
            assert!(form.existing(other).is_none(), "{other}");
        }
    }
}
