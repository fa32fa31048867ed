//! Which entries belong to a binding, for `emaj init --prune`.
//!
//! An entry does when it stands below the part of the name that is the same for all rows, has all object classes of the binding, and
//! its name has the form of the template. Anything else was made by somebody else, and is left alone.

use super::super::fault::{self, Fault};
use super::super::{Action, Entry, EntryChange, Existing};
use super::directory::{Live, Page, Query, Trouble};
use super::dn::{Dn, Part, Rdn, short_name, split};
use super::escape::filter_value;
use super::schema::Schema;
use crate::manifest::{self, Binding, BindingKind, Scope};

/// What the entries of a binding have in common.
#[derive(Debug)]
pub(super) struct Form {
    /// Where they stand.
    base: String,
    /// What is known of each component, the entry's own first.
    components: Vec<Component>,
    filter: String,
}

/// What is known of a component: of each of its attributes, sorted, since `cn=a+sn=b` is `sn=b+cn=a`.
#[derive(Debug, PartialEq, Eq)]
struct Component(Vec<Slot>);

#[derive(Debug, PartialEq, Eq)]
struct Slot {
    attribute: String,
    /// The attribute with its value, in the normal form, where that is the same for all rows.
    same: Option<String>,
}

/// Stands for code in the outline of a template.
const CODE: char = '\0';

impl Form {
    /// Takes the template of a binding apart.
    ///
    /// # Errors
    /// [`crate::sink::Verdict::Never`] when it is no `entry`, or when its name does not say enough.
    pub(super) fn of(binding: &Binding) -> Result<Form, Fault> {
        let BindingKind::Entry { dn, object_classes, .. } = &binding.kind else {
            return Err(Fault::never(format!(
                "`{}` makes no entries: there is nothing to list",
                binding.name.value
            )));
        };
        let (components, base) = take_apart(&dn.value.0)
            .map_err(|why| Fault::never(format!("the `dn` of `{}` {why}", binding.name.value)))?;
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
    pub(super) fn existing(&self, dn: &str, schema: &Schema) -> Option<Existing> {
        let name = Dn::parse(dn).ok().filter(|name| self.fits(name))?;
        Some(Existing {
            identity: name.identity(schema),
            remove: Action::Entry(EntryChange {
                old: Some(Entry {
                    dn: dn.to_owned(),
                    object_classes: Vec::new(),
                    attributes: Vec::new(),
                    row: None,
                }),
                new: None,
                heir: None,
                others: Vec::new(),
            }),
        })
    }

    fn fits(&self, name: &Dn) -> bool {
        let mut components = name.0.iter().zip(&self.components);
        name.0.len() == self.components.len() && components.all(|(rdn, component)| component.is(rdn))
    }
}

/// Tells whether an entry of this name may be one that `binding` makes.
pub(super) fn may_make(binding: &Binding, dn: &str) -> bool {
    if !matches!(binding.kind, BindingKind::Entry { .. }) {
        return false;
    }
    // (Where the form is not known it may be any.)
    Form::of(binding).map_or(true, |form| Dn::parse(dn).is_ok_and(|name| form.fits(&name)))
}

impl Component {
    /// `None`: the name of an attribute comes from code.
    fn of(outline: &str) -> Option<Self> {
        let slot = |part: &str| {
            let (name, _) = part.split_once('=')?;
            let same = match part.contains(CODE) {
                true => None,
                false => Some(Part::parse(part).ok()?.normal()),
            };
            (!name.contains(CODE)).then(|| Slot {
                attribute: short_name(name.trim()),
                same,
            })
        };
        let mut slots: Vec<Slot> = split(outline, '+').into_iter().map(slot).collect::<Option<_>>()?;
        slots.sort_by(|one, other| one.attribute.cmp(&other.attribute));
        Some(Component(slots))
    }

    /// Tells whether a component of a name is of this form.
    fn is(&self, rdn: &Rdn) -> bool {
        let mut parts: Vec<(String, &Part)> = rdn.parts.iter().map(|part| (short_name(&part.name), part)).collect();
        parts.sort_by(|one, other| one.0.cmp(&other.0));
        parts.len() == self.0.len()
            && parts.iter().zip(&self.0).all(|((attribute, part), slot)| {
                *attribute == slot.attribute && slot.same.as_ref().is_none_or(|same| part.normal() == *same)
            })
    }
}

/// Returns what is known of each component of a template, and the end that is the same for all rows.
///
/// # Errors
/// What it lacks, in words.
fn take_apart(template: &str) -> Result<(Vec<Component>, String), &'static str> {
    const NO_END: &str = "has no end that is the same for all rows, so that nobody knows where to look";
    if has_more_than_one_form(template) {
        return Err(
            "has a `,` or a `+` inside a statement, so that it has more than one form: nobody knows which entries are of it; \
                    make it two bindings with a `when` each",
        );
    }
    let outline = outline(template);
    let parts = split(&outline, ',');
    let last = parts.iter().rposition(|part| part.contains(CODE)).ok_or(NO_END)?;
    let base = parts[last + 1..].join(",");
    Dn::parse(&base).ok().filter(|dn| !dn.0.is_empty()).ok_or(NO_END)?;
    let components: Option<_> = parts.iter().map(|part| Component::of(part)).collect();
    let components = components
        .ok_or("takes the name of an attribute from code, or has a statement before it, so that nobody knows which entries are of its form")?;
    Ok((components, base.trim().to_owned()))
}

/// Tells whether it depends on the row how many components a name has, or attributes in one: what ends them stands between the tags of a statement.
fn has_more_than_one_form(template: &str) -> bool {
    let mut depth = 0_usize;
    manifest::parts(template).into_iter().any(|part| match part {
        manifest::Part::Text(at) => depth > 0 && template[at].contains([',', '+', '"', '\\']),
        manifest::Part::Code(block) => {
            match block.tag().map(|(tag, _)| tag) {
                None | Some("else" | "elif") => {}
                Some(tag) if tag.starts_with("end") => depth = depth.saturating_sub(1),
                Some(_) if block.is_assignment() => {}
                Some(_) => depth += 1,
            }
            false
        }
    })
}

/// Returns the template with [`CODE`] for all code in it, and without comments and what only gives a value a name.
fn outline(template: &str) -> String {
    let part = |part| match part {
        manifest::Part::Text(at) => template[at].to_owned(),
        manifest::Part::Code(block) if block.is_assignment() => String::new(),
        manifest::Part::Code(_) => CODE.to_string(),
    };
    manifest::parts(template).into_iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(template: &str) -> Form {
        let (components, base) = take_apart(template).unwrap();
        Form {
            base,
            components,
            filter: String::new(),
        }
    }

    fn fits(form: &Form, dn: &str) -> bool {
        form.fits(&Dn::parse(dn).unwrap())
    }

    #[test]
    fn the_end_without_code_is_where_to_look() {
        for (template, base) in [
            (
                r#"userid={{ row.login | replace(",", "") }},ou={{ row.unit }},ou=People\, all, dc=x"#,
                r"ou=People\, all, dc=x",
            ),
            ("uid={{ row.id + 1 }}{# , #}, dc=x", "dc=x"),
            (
                "{# who #}{% set u = row.a | lower %}\n{%- set v, w = u, 1 -%} uid={{ u }},ou=people,dc=x{% set z = 1 %}",
                "ou=people,dc=x",
            ),
        ] {
            assert_eq!(take_apart(template).unwrap().1, base);
        }
        for (template, why) in [
            ("uid={{ row.login }}", "no end"),
            ("uid={{ a }},{{ b }}", "no end"),
            ("uid=a,dc=x", "no end"), // One entry, and no row decides about it.
            ("{{ row.kind }}={{ row.name }},dc=x", "from code"),
            ("uid={{ row.login }}+{{ row.more }},dc=x", "from code"),
            (
                "{% if row.is_guest %}cn{% else %}uid{% endif %}={{ row.name }},dc=x",
                "from code",
            ),
            (
                "{% if row.b %}uid={{ row.a }}{% else %}uid={{ row.c }}{% endif %},dc=x",
                "from code, or has a statement before it",
            ),
            (
                "{% set u | replace(old='=') %}x{% endset %}uid={{ u }},dc=x",
                "a statement before it",
            ),
            (
                "uid={{ row.a }}{% if row.b %},ou=ext{% endif %},ou=people,dc=x",
                "more than one form",
            ),
            (
                "uid={{ row.a }}{% for b in row.b %}+cn={{ b }}{% endfor %},dc=x",
                "more than one form",
            ),
            (
                "{% macro m() %},ou=ext{% endmacro %}uid={{ row.a }}{{ m() }},dc=x",
                "more than one form",
            ),
        ] {
            let error = take_apart(template).unwrap_err();
            assert!(error.contains(why), "{template}: {error}");
        }
    }

    #[test]
    fn only_what_has_the_form_belongs() {
        let people = form("uid={{ row.login }},ou=people,dc=x");
        assert_eq!(
            people
                .existing("UID=Bob, ou=People,dc=x", &Schema::default())
                .unwrap()
                .identity,
            "uid=bob,ou=people,dc=x"
        );
        let named = form("{% set u = row.a | lower %}uid={{ u }},ou=people,dc=x");
        assert!(fits(&named, "uid=bob,ou=people,dc=x") && !fits(&named, "cn=bob,ou=people,dc=x"));
        for other in [
            "cn=bob,ou=people,dc=x",
            "uid=a,uid=b,ou=people,dc=x",
            "uid=a,ou=other,dc=x",
            "uid=a+cn=b,ou=people,dc=x",
        ] {
            assert!(!fits(&people, other), "{other}");
        }
    }

    #[test]
    fn a_statement_may_decide_about_a_value() {
        let either = form("{% set a = row.a %}uid={% if a %}{{ a }}{% else %}p{{ row.id }}{% endif %},dc=x");
        assert!(fits(&either, "uid=bob,dc=x") && !fits(&either, "uid=bob,ou=admins,dc=x"));
    }

    #[test]
    fn a_plus_is_a_second_attribute_only_outside_of_code() {
        for (template, own, others) in [
            (
                "uid={{ row.id + 1000 }},dc=x",
                "uid=1001,dc=x",
                &["cn=printer,dc=x", "uid=a+cn=b,dc=x"][..],
            ),
            (
                "sn={{ row.b }} + CommonName={{ row.a }},dc=x",
                "cn=a+sn=b,dc=x",
                &["cn=a,dc=x", "sn=b,dc=x", "cn=a+uid=b,dc=x"],
            ),
            (
                "cn={{ row.a }}+ou=staff,dc=x",
                "OU=Staff+cn=a,dc=x",
                &["cn=a+ou=guests,dc=x"],
            ),
            (r"cn=a\+b={{ row.a }},dc=x", r"cn=a\+b\=c,dc=x", &["cn=a+b=c,dc=x"]),
        ] {
            let form = form(template);
            assert!(fits(&form, own), "{template}");
            for other in others {
                assert!(!fits(&form, other), "{template}: {other}");
            }
        }
    }
}
