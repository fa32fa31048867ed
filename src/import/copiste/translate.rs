//! What `bindings` holds, turned into sinks and bindings of ours.
//!
//! Copiste finds an entry by searching and makes it at a DN. A binding of the kind `entry` knows its DN; so the other kinds go to
//! an entry by its DN where a `Copy2LDAP` of this file makes it (deliveries to one entry keep their order then), and by searching otherwise.

use super::Note;
use super::template::{column, literal, plain, query};
use super::value::{Names, Object, Value};
use crate::import::yaml::Yaml;
use crate::names::{MAX_NAME_BYTES, QualifiedName};

/// The parts of a manifest.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Made {
    pub database: Vec<(String, Yaml)>,
    pub sinks: Vec<(String, Yaml)>,
    pub bindings: Vec<(String, Yaml)>,
}

/// Why something is not translated.
type Wrong = (usize, String);

pub(super) fn translate(names: &Names, notes: &mut Vec<Note>) -> Made {
    let mut translator = Translator {
        names,
        notes,
        made: Made::default(),
        directories: Vec::new(),
        made_models: Vec::new(),
        accumulated: Vec::new(),
    };
    translator.database();
    let bindings = match names.get("bindings") {
        Some(Value::List(all)) => all.clone(),
        Some(Value::Unknown { line, why }) => {
            translator.missing(*line, format!("`bindings`: {why}"));
            Vec::new()
        }
        Some(_) => {
            translator.missing(names.line("bindings"), "`bindings` is no list".to_owned());
            Vec::new()
        }
        None => Vec::new(),
    };
    // What the bindings do to one entry together, whatever their order.
    let all: Vec<&Object> = bindings.iter().filter_map(|binding| functions(binding).1).collect();
    for function in &all {
        let order: &[&str] = match function.class.as_str() {
            "Accumulate2LDAPField" => &ACCUMULATE,
            "AccumulateRequest2LDAPField" => &REQUEST,
            _ => continue,
        };
        if let (Some(model), Ok(field)) = (
            function.argument(order, "ldap_model"),
            text(function, order, "ldap_field"),
        ) {
            translator.accumulated.push((model.clone(), field));
        }
    }
    for function in all {
        if function.class == "Copy2LDAP"
            && let Some(model) = function.argument(&COPY, "ldap_model")
            && translator.entry(function).is_ok()
        {
            translator.made_models.push(model.clone());
        }
    }
    for binding in &bindings {
        if let Err((line, why)) = translator.binding(binding) {
            translator.missing(line, why);
        }
    }
    translator.made
}

const COPY: [&str; 4] = ["attrs_map", "ldap_model", "ldap_creds", "dyn_attrs_map"];
const ACCUMULATE: [&str; 4] = ["ldap_field", "keys_map", "ldap_model", "ldap_creds"];
const REQUEST: [&str; 5] = ["sql_request", "ldap_field", "keys_map", "ldap_model", "ldap_creds"];
const STORE: [&str; 6] = [
    "sql_test_attr",
    "key_map",
    "ldap_model",
    "ldap_store_key",
    "ldap_store_val",
    "ldap_creds",
];
const MODEL: [&str; 4] = ["query", "base", "dn", "static_attrs"];

/// The attributes of a `Copy2LDAP` that are queries.
fn asked(function: &Object) -> Result<Vec<(String, String)>, Wrong> {
    match function.argument(&COPY, "dyn_attrs_map") {
        None | Some(Value::None) => Ok(Vec::new()),
        Some(_) => pairs(function, &COPY, "dyn_attrs_map"),
    }
}

/// The trigger and the function of a binding.
fn functions(binding: &Value) -> (Option<&Object>, Option<&Object>) {
    let Value::Object(bind) = binding else {
        return (None, None);
    };
    let object = |name: &str| match bind.argument(&["trigger", "function"], name) {
        Some(Value::Object(object)) => Some(object),
        _ => None,
    };
    (object("trigger"), object("function"))
}

struct Translator<'a> {
    names: &'a Names,
    notes: &'a mut Vec<Note>,
    made: Made,
    /// The credentials of each sink, so that the same ones are one sink.
    directories: Vec<(Value, String)>,
    /// The models whose entries are made by bindings of this file.
    made_models: Vec<Value>,
    /// Attributes of models that other bindings add values to.
    accumulated: Vec<(Value, String)>,
}

impl Translator<'_> {
    fn missing(&mut self, line: usize, text: String) {
        self.notes.push(Note {
            line,
            text,
            is_missing: true,
        });
    }

    fn look_at(&mut self, line: usize, text: String) {
        self.notes.push(Note {
            line,
            text,
            is_missing: false,
        });
    }

    fn database(&mut self) {
        let line = self.names.line("pg_credentials");
        let entries = match self.names.get("pg_credentials") {
            Some(Value::Dict(entries)) => entries.clone(),
            Some(Value::Unknown { line, why }) => return self.missing(*line, format!("`pg_credentials`: {why}")),
            _ => return,
        };
        for (key, value) in &entries {
            let Value::Text(key) = key else { continue };
            let ours = match key.as_str() {
                "host" | "port" | "user" => key.as_str(),
                "database" | "dbname" => "dbname",
                "password" => {
                    let text = "the database's password is not taken over: give it in `~/.pgpass`, by `PGPASSWORD`, or as `database: { password: \"${env:…}\" }`";
                    self.look_at(line, text.to_owned());
                    continue;
                }
                _ => {
                    self.missing(line, format!("`{}` of `pg_credentials`", shown(key)));
                    continue;
                }
            };
            match setting(value) {
                Some(text) => self.made.database.push((ours.to_owned(), Yaml::text(text))),
                None => self.missing(line, format!("`{key}` of `pg_credentials`{}", because(value))),
            }
        }
    }

    fn binding(&mut self, binding: &Value) -> Result<(), Wrong> {
        let bind = match binding {
            Value::Object(bind) => bind,
            Value::Unknown { line, why } => return Err((*line, format!("a binding: {why}"))),
            _ => {
                return Err((
                    self.names.line("bindings"),
                    "an item of `bindings` is no binding".to_owned(),
                ));
            }
        };
        let (Some(trigger), Some(function)) = functions(binding) else {
            let arguments = ["trigger", "function"].map(|name| bind.argument(&["trigger", "function"], name));
            return Err(
                match arguments
                    .into_iter()
                    .flatten()
                    .find(|value| matches!(value, Value::Unknown { .. }))
                {
                    Some(Value::Unknown { line, why }) => (*line, format!("a binding: {why}")),
                    _ => (bind.line, "a binding without a trigger and a function".to_owned()),
                },
            );
        };
        if trigger.class != "WriteTrigger" {
            return Err((
                trigger.line,
                format!("`{}` is no trigger that is known here", shown(&trigger.class)),
            ));
        }
        let order = ["sql_table", "name", "moment"];
        let table = text(trigger, &order, "sql_table")?;
        let qualified = if table.contains('.') {
            table.clone()
        } else {
            format!("public.{table}")
        };
        if let Err(error) = QualifiedName::parse(&qualified) {
            return Err((trigger.line, format!("the table `{}`: {error}", shown(&table))));
        }
        if qualified != table {
            self.look_at(
                trigger.line,
                format!("`{}` has no schema: taken to be in `public`", shown(&table)),
            );
        }
        let wanted = text(trigger, &order, "name").unwrap_or_else(|_| table.clone());
        let (kind, body, sink) = self.function(function)?;
        let mut entries = vec![("table".to_owned(), Yaml::text(qualified))];
        entries.extend(sink.map(|sink| ("to".to_owned(), Yaml::text(sink))));
        entries.push((kind.to_owned(), body));
        let name = self.free_name(&wanted);
        self.made.bindings.push((name, Yaml::Map(entries)));
        Ok(())
    }

    /// A name that no binding has yet.
    fn free_name(&self, wanted: &str) -> String {
        let mut name: String = wanted.trim().chars().filter(|c| !c.is_control()).collect();
        while name.len() > MAX_NAME_BYTES - 4 {
            name.pop();
        }
        let name = if name.trim().is_empty() { "binding" } else { name.trim() };
        let is_free = |name: &str| self.made.bindings.iter().all(|(taken, _)| taken != name);
        (1..)
            .map(|number| {
                if number == 1 {
                    name.to_owned()
                } else {
                    format!("{name}_{number}")
                }
            })
            .find(|name| is_free(name))
            .unwrap_or_default()
    }

    /// The kind of a binding, what stands below it, and the sink.
    fn function(&mut self, function: &Object) -> Result<(&'static str, Yaml, Option<String>), Wrong> {
        match function.class.as_str() {
            "Copy2LDAP" => {
                let body = self.entry(function)?;
                for (name, _) in asked(function)? {
                    if self.is_shared(function, &name) {
                        let text = format!(
                            "the query of `{name}` is left out: another binding adds values to that attribute, see that it gives those of the query too"
                        );
                        self.look_at(function.line, text);
                    }
                }
                Ok(("entry", body, Some(self.sink(function, &COPY)?)))
            }
            "Accumulate2LDAPField" => {
                let field = attribute(function, &ACCUMULATE, "ldap_field")?;
                let mut body = self.target(function, &ACCUMULATE, "keys_map")?;
                body.push(("attribute".to_owned(), Yaml::text(&field)));
                body.push(("value".to_owned(), Yaml::text(reference(&field))));
                Ok(("value", Yaml::Map(body), Some(self.sink(function, &ACCUMULATE)?)))
            }
            "AccumulateRequest2LDAPField" => {
                let request = text(function, &REQUEST, "sql_request")?;
                let statement = query(&request).map_err(|why| (function.line, format!("`sql_request`: {why}")))?;
                let field = attribute(function, &REQUEST, "ldap_field")?;
                let mut body = self.target(function, &REQUEST, "keys_map")?;
                body.push(("attribute".to_owned(), Yaml::text(field)));
                body.push(("query".to_owned(), Yaml::text(statement)));
                Ok(("query", Yaml::Map(body), Some(self.sink(function, &REQUEST)?)))
            }
            "StoreIfExists" => {
                let field = attribute(function, &STORE, "ldap_store_key")?;
                let value = text(function, &STORE, "ldap_store_val")?;
                let mut body = self.target(function, &STORE, "key_map")?;
                body.push(("attribute".to_owned(), Yaml::text(field)));
                body.push(("value".to_owned(), Yaml::text(literal(&value))));
                Ok(("flag", Yaml::Map(body), Some(self.sink(function, &STORE)?)))
            }
            "LogWarn" | "DebugParams" => {
                let message = text(function, &[], "message").or_else(|_| text(function, &[], "msg"))?;
                if message.contains("{{") || message.contains("{%") || message.is_empty() {
                    return Err((function.line, "the message cannot be one of ours".to_owned()));
                }
                let message = if function.class == "LogWarn" {
                    message
                } else {
                    let text = "`DebugParams` shows the whole row: write the columns you want as `{{ row.column }}`";
                    self.missing(function.line, text.to_owned());
                    format!("{message} {{{{ event }}}} {{{{ table }}}}")
                };
                Ok(("warn", Yaml::map([("message", Yaml::text(message))]), None))
            }
            other => Err((
                function.line,
                format!("`{}` is no function that is known here", shown(other)),
            )),
        }
    }

    /// Tells whether other bindings add values to an attribute of the entries that a `Copy2LDAP` makes: those are theirs.
    fn is_shared(&self, function: &Object, name: &str) -> bool {
        let made_of = function.argument(&COPY, "ldap_model");
        let shared = |(model, field): &(Value, String)| Some(model) == made_of && field.eq_ignore_ascii_case(name);
        self.accumulated.iter().any(shared)
    }

    /// `Copy2LDAP`: an entry with its attributes.
    fn entry(&self, function: &Object) -> Result<Yaml, Wrong> {
        let model = model(function, &COPY)?;
        let mapped = pairs(function, &COPY, "attrs_map")?;
        let fixed = constants(model)?;
        let mut asked = asked(function)?;
        asked.retain(|(name, _)| !self.is_shared(function, name));
        let resolve = |name: &str| match mapped.iter().find(|(key, _)| key == name) {
            Some((_, sql)) => Some(reference(sql)),
            None => match fixed.iter().find(|(key, _)| key == name)?.1.as_slice() {
                [one] => Some(literal(one)),
                _ => None,
            },
        };
        let dn = text(model, &MODEL, "dn")?;
        let dn = plain(&dn, &resolve).map_err(|why| (model.line, format!("the DN of the model: {why}")))?;
        let is_class = |name: &str| name.eq_ignore_ascii_case("objectClass");
        let classes: Vec<String> = fixed
            .iter()
            .filter(|(name, _)| is_class(name))
            .flat_map(|(_, all)| all.clone())
            .collect();
        if classes.is_empty() || mapped.iter().chain(&asked).any(|(name, _)| is_class(name)) {
            let why = "an entry needs fixed object classes, as `static_attrs={'objectClass': […]}`";
            return Err((model.line, why.to_owned()));
        }
        let mut attributes: Vec<(String, Yaml)> = Vec::new();
        for (name, values) in fixed.iter().filter(|(name, _)| !is_class(name)) {
            if mapped.iter().chain(&asked).all(|(other, _)| other != name) {
                let templates: Vec<Yaml> = values.iter().map(|value| Yaml::text(literal(value))).collect();
                attributes.push((name.clone(), Yaml::List(templates)));
            }
        }
        for (name, sql) in &mapped {
            if asked.iter().any(|(other, _)| other == name) {
                continue;
            }
            let value = Yaml::text(reference(sql));
            let value = match self.is_shared(function, name) {
                true => Yaml::map([("template", value), ("mode", Yaml::text("merge"))]),
                false => value,
            };
            attributes.push((name.clone(), value));
        }
        for (name, request) in &asked {
            let of = |why: String| (function.line, format!("the query of `{name}`: {why}"));
            let mut statement = answer(&query(request).map_err(of)?, name);
            if let Some((_, sql)) = mapped.iter().find(|(other, _)| other == name) {
                // Copiste puts the column's value beside the query's.
                statement = format!("select {{{{ {} }}}}::text union {statement}", column(sql));
            }
            attributes.push((name.clone(), Yaml::map([("query", Yaml::text(statement))])));
        }
        for (name, _) in &attributes {
            check_attribute(name).map_err(|why| (function.line, why))?;
        }
        for class in &classes {
            check_attribute(class).map_err(|why| (model.line, why))?;
        }
        Ok(Yaml::map([
            ("dn", Yaml::text(dn)),
            (
                "object_classes",
                Yaml::List(classes.into_iter().map(Yaml::Text).collect()),
            ),
            ("attributes", Yaml::Map(attributes)),
        ]))
    }

    /// The entry that a row refers to: `dn`, or `search`.
    fn target(&self, function: &Object, order: &[&str], keys: &str) -> Result<Vec<(String, Yaml)>, Wrong> {
        let Some(Value::Dict(entries)) = function.argument(order, keys) else {
            return Err((
                function.line,
                format!("`{keys}` is missing{}", argument_because(function, order, keys)),
            ));
        };
        if entries.iter().any(|(_, value)| matches!(value, Value::Dict(_))) {
            let why = "the entry is found through another table: bind that one with `entry`, and write `entry_of`";
            return Err((function.line, format!("`{keys}`: {why}")));
        }
        let mapped = pairs(function, order, keys)?;
        let resolve = |name: &str| {
            mapped
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, sql)| reference(sql))
        };
        let model = model(function, order)?;
        let is_made = function
            .argument(order, "ldap_model")
            .is_some_and(|model| self.made_models.contains(model));
        if is_made && let Ok(dn) = plain(&text(model, &MODEL, "dn")?, &resolve) {
            return Ok(vec![("dn".to_owned(), Yaml::text(dn))]);
        }
        let filter = plain(&text(model, &MODEL, "query")?, &resolve)
            .map_err(|why| (model.line, format!("the query of the model: {why}")))?;
        let base = literal(&text(model, &MODEL, "base")?);
        let search = Yaml::map([("base", Yaml::text(base)), ("filter", Yaml::text(filter))]);
        Ok(vec![("search".to_owned(), search)])
    }

    /// The sink for the credentials of a function: one for each place and login.
    fn sink(&mut self, function: &Object, order: &[&str]) -> Result<String, Wrong> {
        let credentials = function.argument(order, "ldap_creds").cloned().unwrap_or(Value::None);
        if let Some((_, name)) = self.directories.iter().find(|(known, _)| *known == credentials) {
            return Ok(name.clone());
        }
        let number = self.directories.len() + 1;
        let suffix = if number == 1 {
            String::new()
        } else {
            format!("_{number}")
        };
        let name = format!("directory{suffix}");
        let variable = |what: &str| format!("${{env:LDAP_{what}{suffix}}}");
        let given = |key: &str| match &credentials {
            Value::Dict(entries) => entries
                .iter()
                .find(|(known, _)| *known == Value::Text(key.to_owned()))
                .map(|(_, value)| value),
            _ => None,
        };
        let url = given("host")
            .and_then(setting)
            .map(|host| match host.contains("://") || host.starts_with("${") {
                true => host,
                false => format!("ldap://{host}"),
            });
        let is_directory = |url: &String| {
            ["ldap://", "ldaps://", "ldapi://", "${"]
                .iter()
                .any(|begin| url.to_ascii_lowercase().starts_with(begin))
        };
        let login = given("bind_dn").and_then(setting);
        if url.as_ref().is_none_or(|url| !is_directory(url)) || login.is_none() {
            let why = match &credentials {
                Value::Unknown { why, .. } => format!(" ({why})"),
                _ => String::new(),
            };
            self.missing(
                function.line,
                format!(
                    "where the directory is, and the login there{why}: write `url` and `bind_dn` of the sink `{name}`"
                ),
            );
        }
        self.look_at(
            function.line,
            format!("the directory's password is not taken over: set the variable `LDAP_PASSWORD{suffix}`, or write another reference"),
        );
        let settings = [
            ("url", url.filter(is_directory).unwrap_or_else(|| variable("URL"))),
            ("bind_dn", login.unwrap_or_else(|| variable("BIND_DN"))),
            (
                "password",
                match given("bind_pw") {
                    Some(Value::Env(variable)) if is_variable(variable) => format!("${{env:{variable}}}"),
                    _ => variable("PASSWORD"),
                },
            ),
        ];
        let settings = settings.map(|(key, value)| (key, Yaml::text(value)));
        self.made
            .sinks
            .push((name.clone(), Yaml::map([("ldap", Yaml::map(settings))])));
        self.directories.push((credentials, name.clone()));
        Ok(name)
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A setting's text; `${` in it means itself.
fn setting(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) if !text.trim().is_empty() => Some(text.replace("${", "$${")),
        Value::Number(number) => Some(number.clone()),
        Value::Env(variable) if is_variable(variable) => Some(format!("${{env:{variable}}}")),
        _ => None,
    }
}

/// A column as a whole template.
fn reference(sql: &str) -> String {
    format!("{{{{ {} }}}}", column(sql))
}

/// A statement whose answer is the column of the attribute's name: as it is where that is all it selects.
fn answer(statement: &str, attribute: &str) -> String {
    let words: Vec<&str> = statement.split_whitespace().take(3).collect();
    let selected = words.get(1).map(|word| word.rsplit('.').next().unwrap_or(word));
    let is_plain = words.first().is_some_and(|word| word.eq_ignore_ascii_case("select"))
        && selected.is_some_and(|word| word.eq_ignore_ascii_case(attribute))
        && words.get(2).is_some_and(|word| word.eq_ignore_ascii_case("from"));
    if is_plain {
        return statement.to_owned();
    }
    // A comment at its end must not take what comes behind it.
    let end = match statement.lines().last() {
        Some(line) if line.contains("--") => "\n",
        _ => "",
    };
    format!(
        "select {} from ({statement}{end}) as answer",
        crate::names::quote_ident(attribute)
    )
}

fn check_attribute(name: &str) -> Result<(), String> {
    let mut bytes = name.bytes();
    let is_fine = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b".;_-".contains(&byte));
    match is_fine {
        true => Ok(()),
        false => Err(format!("`{}` is no attribute's name", shown(name))),
    }
}

fn attribute(object: &Object, order: &[&str], name: &str) -> Result<String, Wrong> {
    let field = text(object, order, name)?;
    check_attribute(&field).map_err(|why| (object.line, why))?;
    Ok(field)
}

fn text(object: &Object, order: &[&str], name: &str) -> Result<String, Wrong> {
    match object.argument(order, name) {
        Some(Value::Text(text)) if !text.trim().is_empty() => Ok(text.clone()),
        _ => Err((
            object.line,
            format!(
                "`{name}` of `{}` is no text{}",
                shown(&object.class),
                argument_because(object, order, name)
            ),
        )),
    }
}

/// A map of texts to texts.
fn pairs(object: &Object, order: &[&str], name: &str) -> Result<Vec<(String, String)>, Wrong> {
    let wrong = || {
        let why = argument_because(object, order, name);
        (
            object.line,
            format!("`{name}` of `{}` is no map of texts{why}", shown(&object.class)),
        )
    };
    let Some(Value::Dict(entries)) = object.argument(order, name) else {
        return Err(wrong());
    };
    entries
        .iter()
        .map(|pair| match pair {
            (Value::Text(key), Value::Text(value)) => Ok((key.clone(), value.clone())),
            _ => Err(wrong()),
        })
        .collect()
}

fn model<'a>(function: &'a Object, order: &[&str]) -> Result<&'a Object, Wrong> {
    match function.argument(order, "ldap_model") {
        Some(Value::Object(model)) if model.class == "LDAPModel" => Ok(model),
        _ => Err((
            function.line,
            format!(
                "`ldap_model` is no `LDAPModel`{}",
                argument_because(function, order, "ldap_model")
            ),
        )),
    }
}

/// The attributes that a model has by itself.
fn constants(model: &Object) -> Result<Vec<(String, Vec<String>)>, Wrong> {
    let wrong = || (model.line, "`static_attrs` of the model is no map of texts".to_owned());
    let one = |value: &Value| match value {
        Value::Text(text) if !text.trim().is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.clone()),
        _ => None,
    };
    match model.argument(&MODEL, "static_attrs") {
        None | Some(Value::None) => Ok(Vec::new()),
        Some(Value::Dict(entries)) => entries
            .iter()
            .map(|(key, value)| {
                let Value::Text(key) = key else { return Err(wrong()) };
                let values = match value {
                    Value::List(all) => all.iter().map(one).collect::<Option<Vec<_>>>(),
                    value => one(value).map(|one| vec![one]),
                };
                values
                    .filter(|all| !all.is_empty())
                    .map(|all| (key.clone(), all))
                    .ok_or_else(wrong)
            })
            .collect(),
        Some(_) => Err(wrong()),
    }
}

fn argument_because(object: &Object, order: &[&str], name: &str) -> String {
    object.argument(order, name).map_or_else(String::new, because)
}

fn because(value: &Value) -> String {
    match value {
        Value::Unknown { line, why } => format!(": {why} (line {line})"),
        _ => String::new(),
    }
}

/// A name of the file, cut so that a message stays one.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(60).collect()
}
