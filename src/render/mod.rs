//! The only module that puts names and values into SQL: templates and values in, statements out. Pure: no connection, no clock.
//!
//! Templates live in `templates/<noun>/<verb>.sql.j2` and are embedded when the program is built; [`templates`] lists them.
//! Nothing reaches SQL bare: a string that no filter has made safe is an error, and so is an undefined value. The filters are
//! `ident`, `literal`, `sql` (for text this module's callers have already quoted), `texts`, `attnums` and `oids` (arrays).

mod filters;
mod templates;

use std::collections::BTreeSet;

use minijinja::value::{Serde, Value};
use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;

use crate::names::derived_name;

/// A template that could not be rendered: a fault of the program, or of a template directory given on the command line.
#[derive(Debug, thiserror::Error)]
#[error("failed to render template {template}")]
pub struct RenderError {
    template: String,
    source: minijinja::Error,
}

impl From<RenderError> for crate::errors::Error {
    fn from(error: RenderError) -> Self {
        crate::errors::Error::new(crate::errors::Kind::Failed, error)
            .hint("this is a fault of emaj, not of your database: please report it")
    }
}

/// The names of emaj's triggers on a captured table; they sort before every other name an application is likely to choose.
#[derive(Debug, Clone, Serialize)]
pub struct TriggerNames {
    pub insert: String,
    pub update: String,
    pub delete: String,
    pub row: String,
    pub truncate: String,
}

impl TriggerNames {
    /// Returns the names used by an installation in `schema`, so that two installations never share one.
    pub fn of(schema: &str) -> Self {
        // A name that PostgreSQL cuts would be the same for all five.
        let name = |verb: &str| derived_name(&[&format!("!{schema}")], &format!("_{verb}"), &|_| false);
        TriggerNames {
            insert: name("ins"),
            update: name("upd"),
            delete: name("del"),
            row: name("row"),
            truncate: name("tru"),
        }
    }

    /// Returns all of them.
    pub fn all(&self) -> [&str; 5] {
        [&self.insert, &self.update, &self.delete, &self.row, &self.truncate]
    }

    /// Returns whether `name` is one of them.
    pub fn contains(&self, name: &str) -> bool {
        self.all().contains(&name)
    }
}

/// One function of the framework: its name, its rendered definition, and its body as `pg_proc.prosrc` keeps it.
#[derive(Debug, Clone)]
pub struct Function {
    pub name: String,
    /// Names and types of its parameters, as `drop` and `grant` take them: no defaults.
    pub arguments: String,
    pub sql: String,
    pub head: Head,
    pub body: String,
}

/// What `alter function` changes of a function without touching its body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// It runs with the rights of its owner (`security definer`).
    pub is_definer: bool,
    /// As in `pg_proc.provolatile`: `i`, `s` or `v`.
    pub volatility: char,
    /// Its `set` clauses as `pg_proc.proconfig` keeps them, their names in small letters: `jit=off`.
    pub settings: BTreeSet<String>,
}

impl Head {
    /// Makes one of what `pg_proc` says.
    pub fn new(is_definer: bool, volatility: char, settings: &[String]) -> Self {
        let small = |setting: &String| match setting.split_once('=') {
            Some((name, value)) => format!("{}={value}", name.to_lowercase()),
            None => setting.clone(),
        };
        Head {
            is_definer,
            volatility,
            settings: settings.iter().map(small).collect(),
        }
    }

    /// Reads what stands before the body of a template: each clause is a line.
    fn read(text: &str) -> Self {
        let volatility = |line: &str| match line {
            "immutable" => Some('i'),
            "stable" => Some('s'),
            _ => None,
        };
        let setting = |line: &str| {
            let (name, value) = line.strip_prefix("set ")?.split_once(" = ")?;
            Some(format!("{name}={}", value.trim_matches('\'')))
        };
        let settings: Vec<String> = text.lines().filter_map(setting).collect();
        let volatility = text.lines().find_map(volatility).unwrap_or('v');
        Head::new(
            text.lines().any(|line| line == "security definer"),
            volatility,
            &settings,
        )
    }
}

/// Renders templates for one installation schema.
#[derive(Debug)]
pub struct Renderer {
    environment: Environment<'static>,
    schema: String,
    triggers: TriggerNames,
}

impl Renderer {
    /// Makes a renderer for an installation in `schema`. A template is compiled when it is wanted: a command needs a few of them.
    pub fn new(schema: &str) -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        filters::register(&mut environment);
        environment.set_loader(|name| Ok(templates::source(name).map(str::to_owned)));
        Renderer {
            environment,
            schema: schema.to_owned(),
            triggers: TriggerNames::of(schema),
        }
    }

    pub fn schema(&self) -> &str {
        &self.schema
    }

    pub fn triggers(&self) -> &TriggerNames {
        &self.triggers
    }

    /// Renders the template `name` (`noun/verb`) with `values`; `schema` and `trigger` are there in every template.
    pub fn render(&self, name: &str, values: impl Serialize) -> Result<String, RenderError> {
        self.render_value(name, Value::from(Serde(values)))
    }

    /// Renders the template `name` with a context that is a template value already.
    pub fn render_value(&self, name: &str, values: Value) -> Result<String, RenderError> {
        let failed = |source| RenderError {
            template: name.to_owned(),
            source,
        };
        let template = self.environment.get_template(name).map_err(failed)?;
        let trigger = minijinja::context! { all => Value::from(Serde(self.triggers.all())), ..Value::from(Serde(&self.triggers)) };
        let base = minijinja::context! { schema => &self.schema, trigger };
        let values = minijinja::context! { ..values, ..base };
        template.render(values).map_err(failed)
    }

    /// Renders every function of the framework, in a fixed order.
    pub fn functions(&self) -> Result<Vec<Function>, RenderError> {
        templates::functions()
            .map(|name| Ok(function(self.render(name, ())?)))
            .collect()
    }
}

/// Reads name, head and body off a rendered `create function` statement.
pub fn function(sql: String) -> Function {
    let head = sql.split('(').next().unwrap_or_default();
    let name = head
        .rsplit('.')
        .next()
        .unwrap_or_default()
        .trim()
        .trim_matches('"')
        .to_owned();
    let arguments = sql[head.len()..]
        .split_once(")\nreturns ")
        .map_or("", |(arguments, _)| arguments.trim_start_matches('('));
    let plain = |argument: &str| argument.split(" default ").next().unwrap_or_default().trim().to_owned();
    let arguments: Vec<String> = arguments.split(',').map(plain).collect();
    let mut parts = sql.split("$emaj$");
    let head = Head::read(parts.next().unwrap_or_default());
    let body = parts.next().unwrap_or_default().to_owned();
    Function {
        name,
        arguments: arguments.join(", "),
        sql,
        head,
        body,
    }
}

/// Returns the names of parameters, given as `a integer, b text`.
pub fn parameter_names(arguments: &str) -> Vec<&str> {
    arguments
        .split(',')
        .filter_map(|argument| argument.split_whitespace().next())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_compiles_and_every_function_renders() {
        let renderer = Renderer::new("emaj");
        for function in renderer.functions().unwrap() {
            assert!(
                function.sql.starts_with("create or replace function \"emaj\"."),
                "{}",
                function.sql
            );
            assert!(function.body.trim().len() > 10, "{} has no body", function.name);
        }
    }

    /// Such a plan costs so much that it would be compiled with every optimisation, however few rows it reads.
    #[test]
    fn what_is_planned_without_nested_loops_is_not_compiled() {
        for function in Renderer::new("emaj").functions().unwrap() {
            let settings = function.sql.split("$emaj$").next().unwrap_or_default();
            if settings.contains("enable_nestloop = off") {
                assert!(settings.contains("jit = off"), "{}", function.name);
            }
        }
    }

    #[test]
    fn a_bare_string_is_an_error() {
        let mut renderer = Renderer::new("emaj");
        renderer
            .environment
            .add_template("bad/bare.sql.j2", "drop table {{ schema }}")
            .unwrap();
        let error = renderer.render("bad/bare.sql.j2", ()).unwrap_err();
        assert!(format!("{:#}", anyhow::Error::new(error)).contains("bare string"));
    }

    #[test]
    fn every_template_compiles() {
        let renderer = Renderer::new("emaj");
        for (name, _) in templates::TEMPLATES {
            let compiled = renderer.environment.get_template(name);
            assert!(compiled.is_ok(), "{name}: {:?}", compiled.err());
        }
    }

    #[test]
    fn an_undefined_value_is_an_error() {
        let mut renderer = Renderer::new("emaj");
        renderer
            .environment
            .add_template("bad/undefined.sql.j2", "{{ nothing | ident }}")
            .unwrap();
        assert!(renderer.render("bad/undefined.sql.j2", ()).is_err());
    }

    #[test]
    fn trigger_names_fit_and_differ_whatever_the_schema() {
        assert_eq!(TriggerNames::of("emaj").insert, "!emaj_ins");
        let (long, other) = ("x".repeat(63), "x".repeat(62) + "y");
        let names = [TriggerNames::of(&long), TriggerNames::of(&other)];
        let mut all: Vec<&str> = names.iter().flat_map(TriggerNames::all).collect();
        assert!(all.iter().all(|name| name.len() <= 63), "{all:?}");
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 10);
    }

    #[test]
    fn odd_schema_names_stay_quoted() {
        let renderer = Renderer::new("O'dd \"x\"");
        for function in renderer.functions().unwrap() {
            assert!(function.sql.contains("\"O'dd \"\"x\"\"\""), "{}", function.name);
        }
    }
}
