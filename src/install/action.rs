//! Bindings that are done inside the transaction (`warn`, `notify`, `sql`): a function and a trigger each.
//!
//! Pure, as all of `install` but `apply`. `delivery` calls it for every binding, and enters what it made into the registry.

use minijinja::context;
use minijinja::value::Value;
use postgres_protocol::escape::escape_identifier;

use super::delivery::WantedBinding;
use super::obstacle;
use super::plan::{Lock, Step};
use super::wanted::Found;
use crate::catalog::{Catalog, Table, Trigger};
use crate::errors::Kind;
use crate::journal::{InstalledBinding, Journal};
use crate::manifest::{Binding, BindingKind, InDatabasePart, InDatabaseText};
use crate::names::{QualifiedName, derived_name};
use crate::render::{RenderError, Renderer, function};

/// A function's body is quoted with it.
const QUOTE: &str = "$emaj$";

/// What a step does for an action, beside its row in the registry.
pub(super) struct Made {
    pub function: String,
    /// Comes before the statements of the registry; empty when nothing is to be made.
    pub sql: String,
    /// Why something is to be made, where it is not the declaration that changed.
    pub because: Vec<String>,
    lock: Option<Lock>,
    tables: Vec<u32>,
}

impl Made {
    /// Says on which tables the step waits for writers.
    pub fn place(&self, mut step: Step) -> Step {
        step.lock = self.lock;
        step.tables.clone_from(&self.tables);
        step
    }
}

/// Checks what only the database can tell: whether the table may get a trigger, and whether the function is there.
pub(super) fn check(binding: &Binding, name: &QualifiedName, table: &Table, catalog: &Catalog, found: &mut Found) {
    let place = &binding.table.place;
    if let Some(extension) = &table.extension {
        found.problem(
            Kind::Manifest,
            place,
            format!("table {name} belongs to the extension `{extension}`"),
            "bind a table of your own",
        );
    } else if let Some(foreign) = obstacle::foreign(name, table, catalog) {
        found.problem(foreign.kind, place, foreign.what, foreign.next.unwrap_or_default());
    }
    let BindingKind::Sql { function, arguments } = &binding.kind else {
        return;
    };
    let Some(signatures) = catalog.functions.get(&function.value) else {
        found.problem(
            Kind::Manifest,
            &function.place,
            format!(
                "there is no function {} in database {}",
                function.value, catalog.server.database
            ),
            "create it first; procedures and aggregates cannot be called here",
        );
        return;
    };
    let takes = |signature: &crate::catalog::Signature| {
        let given = arguments.len();
        let all_text = signature
            .arguments
            .iter()
            .take(given)
            .all(|argument| argument == "text");
        all_text && given <= signature.arguments.len() && given + signature.defaults >= signature.arguments.len()
    };
    if !signatures.iter().any(takes) {
        let there: Vec<String> = signatures
            .iter()
            .map(|signature| format!("({})", signature.arguments.join(", ")))
            .collect();
        found.problem(
            Kind::Manifest,
            &function.place,
            format!(
                "function {} cannot be called with {}",
                function.value,
                texts(arguments.len())
            ),
            format!(
                "it takes {}; every argument is a text, so make one that takes ({})",
                there.join(" or "),
                vec!["text"; arguments.len()].join(", ")
            ),
        );
    }
    if function.value.to_string().contains(QUOTE) {
        found.problem(
            Kind::Manifest,
            &function.place,
            format!("`{QUOTE}` in the name of a function cannot be written down in another one"),
            "rename the function",
        );
    }
}

fn texts(number: usize) -> String {
    match number {
        0 => "no argument".to_owned(),
        1 => "one text".to_owned(),
        n => format!("{n} texts"),
    }
}

/// Plans function and trigger of a binding; `None` for one that goes to a sink and always did.
pub(super) fn plan(
    plan: &super::Plan,
    wanted: &WantedBinding<'_>,
    known: Option<&InstalledBinding>,
    catalog: &Catalog,
    journal: Option<&Journal>,
    renderer: &Renderer,
) -> Result<Option<Made>, RenderError> {
    let binding = wanted.binding;
    if !binding.kind.is_in_database() {
        // It was done inside the transaction before.
        return match (known, journal) {
            (Some(known), Some(journal)) => end(known, catalog, journal, renderer),
            _ => Ok(None),
        };
    }
    let taken = |name: &str| {
        let there =
            journal.is_some_and(|journal| journal.functions.contains_key(name) || journal.tables.contains_key(name));
        there || plan.names.contains(name)
    };
    let name = known
        .and_then(|known| known.action.clone())
        .unwrap_or_else(|| derived_name(&["action", &binding.name.value.replace(QUOTE, "_emaj_")], "", &taken));
    let rendered = function(render(wanted, &name, renderer)?);
    let trigger = trigger_name(&binding.name.value, renderer.schema());
    let there = journal.and_then(|journal| journal.functions.get(&name));
    let triggers = there.map(|there| triggers_of(there.oid, catalog)).unwrap_or_default();
    let is_right = matches!(triggers.as_slice(), [(_, table, found)]
        if table.oid == wanted.table.oid && found.name == trigger && found.state == 'O');
    let same = known.is_some_and(|known| known.fingerprint == binding.fingerprint() && known.oid == wanted.table.oid);
    let mut made = Made {
        function: name.clone(),
        sql: String::new(),
        because: Vec::new(),
        lock: None,
        tables: Vec::new(),
    };
    if same && there.is_none() {
        made.because.push("its function is gone".to_owned());
    } else if same && there.is_some_and(|there| !there.is(&rendered)) {
        made.because
            .push("its function is not the one that belongs there".to_owned());
    }
    if same && there.is_some() && !is_right {
        made.because.push("its trigger is missing or switched off".to_owned());
    }
    if same && made.because.is_empty() {
        return Ok(Some(made));
    }
    made.sql = rendered.sql;
    made.sql.push('\n');
    if same && is_right {
        return Ok(Some(made));
    }
    made.tables.push(wanted.table.oid);
    made.lock = Some(Lock::ShareRowExclusive);
    if !triggers.is_empty() {
        made.lock = Some(Lock::AccessExclusive);
        made.tables.extend(triggers.iter().map(|(_, table, _)| table.oid));
        made.sql.push_str(&drop_triggers(&triggers, None, renderer)?);
        made.sql.push('\n');
    }
    let events: Vec<&str> = binding.events.iter().map(|event| event.word()).collect();
    made.sql.push_str(&renderer.render(
        "action/trigger",
        context! { name => trigger, events => events.join(" or "), table => wanted.name.to_string(), function => name },
    )?);
    made.sql.push('\n');
    Ok(Some(made))
}

/// Plans the end of an action; `None` when the binding is none.
pub(super) fn end(
    known: &InstalledBinding,
    catalog: &Catalog,
    journal: &Journal,
    renderer: &Renderer,
) -> Result<Option<Made>, RenderError> {
    let Some(name) = &known.action else {
        return Ok(None);
    };
    let oid = journal.functions.get(name).map(|function| function.oid);
    let triggers = oid.map(|oid| triggers_of(oid, catalog)).unwrap_or_default();
    let mut sql = drop_triggers(&triggers, Some(name), renderer)?;
    sql.push('\n');
    Ok(Some(Made {
        function: name.clone(),
        sql,
        because: Vec::new(),
        lock: (!triggers.is_empty()).then_some(Lock::AccessExclusive),
        tables: triggers.iter().map(|(_, table, _)| table.oid).collect(),
    }))
}

/// Finds the triggers that call a function, clones on partitions left out: they go with their parent's.
fn triggers_of(function: u32, catalog: &Catalog) -> Vec<(&QualifiedName, &Table, &Trigger)> {
    let tables = catalog.tables.iter();
    tables
        .flat_map(|(name, table)| table.triggers.iter().map(move |trigger| (name, table, trigger)))
        .filter(|(.., trigger)| trigger.function == function && !trigger.cloned)
        .collect()
}

fn drop_triggers(
    triggers: &[(&QualifiedName, &Table, &Trigger)],
    function: Option<&str>,
    renderer: &Renderer,
) -> Result<String, RenderError> {
    let dropped: Vec<Value> = triggers
        .iter()
        .map(|(table, _, trigger)| context! { name => &trigger.name, table => table.to_string() })
        .collect();
    renderer.render("action/drop", context! { drop_triggers => dropped, function })
}

/// Sorts behind the triggers that capture a row.
fn trigger_name(binding: &str, schema: &str) -> String {
    derived_name(&[&format!("!{schema}"), "then", binding], "", &|_| false)
}

fn render(wanted: &WantedBinding<'_>, name: &str, renderer: &Renderer) -> Result<String, RenderError> {
    let binding = wanted.binding;
    let number = |column: &str| {
        let columns = &wanted.table.columns;
        columns
            .iter()
            .find(|known| known.name == column)
            .map(|known| known.attnum)
    };
    let given: Vec<&InDatabaseText> = match &binding.kind {
        BindingKind::Warn { message } => vec![&message.value],
        BindingKind::Notify { payload, .. } => payload.iter().map(|payload| &payload.value).collect(),
        BindingKind::Sql { arguments, .. } => arguments.iter().map(|argument| &argument.value).collect(),
        _ => Vec::new(),
    };
    let mut refs: Vec<i16> = Vec::new();
    let mut place = |column: &str| {
        let number = number(column)?;
        let at = refs.iter().position(|known| *known == number).unwrap_or_else(|| {
            refs.push(number);
            refs.len() - 1
        });
        Some(at + 1)
    };
    let mut parts = |text: &InDatabaseText| -> Vec<Value> {
        let mut parts = Vec::new();
        for part in &text.parts {
            match part {
                InDatabasePart::Literal(text) => parts.extend(literals(text)),
                InDatabasePart::Row(column) => parts.push(context! { row => place(column) }),
                InDatabasePart::Old(column) => parts.push(context! { old => place(column) }),
                InDatabasePart::Event => parts.push(context! { what => "event" }),
                InDatabasePart::Table => parts.push(context! { what => "table" }),
            }
        }
        parts
    };
    let texts: Vec<Vec<Value>> = given.iter().map(|text| parts(text)).collect();
    let names_table = given.iter().any(|text| text.parts.contains(&InDatabasePart::Table));
    let filter: Vec<i16> = binding
        .columns
        .iter()
        .filter_map(|column| number(&column.value))
        .collect();
    let (channel, call) = match &binding.kind {
        BindingKind::Notify { channel, .. } => (literals(&channel.value), String::new()),
        BindingKind::Sql { function, .. } => {
            let name = &function.value;
            (
                Vec::new(),
                format!("{}.{}", escape_identifier(&name.schema), escape_identifier(&name.name)),
            )
        }
        _ => (Vec::new(), String::new()),
    };
    renderer.render_value(
        "action/function",
        context! {
            function => name, action => binding.kind.word(), oid => wanted.table.oid,
            refs, filter, texts, names_table, channel, call,
        },
    )
}

/// Cuts a text in two wherever it would end the quotes of the function's body.
fn literals(text: &str) -> Vec<Value> {
    let cut = text.replace(QUOTE, "$em\0aj$");
    cut.split('\0')
        .filter(|piece| !piece.is_empty())
        .map(|piece| context! { literal => piece })
        .collect()
}
