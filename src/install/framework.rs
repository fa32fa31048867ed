//! The steps for what all groups share: the schema, the registry, the functions, the roles and their rights.

use minijinja::context;

use super::plan::{Action, Phase, Plan, Step};
use crate::catalog::Catalog;
use crate::journal::Journal;
use crate::manifest::Manifest;
use crate::names::quote_ident;
use crate::render::{RenderError, Renderer};
use crate::ui::words::count;

/// The registry's tables, in no order.
pub(super) const REGISTRY: &[&str] = &[
    "emaj_install",
    "emaj_param",
    "emaj_group",
    "emaj_relation",
    "emaj_column",
    "emaj_mark",
    "emaj_mark_sequence",
    "emaj_mark_relation",
    "emaj_hist",
    "emaj_rollback",
    "emaj_rollback_table",
    "emaj_sink",
    "emaj_binding",
    "emaj_failure",
];

/// Functions that the viewer may call.
const VIEWER_FUNCTIONS: &[&str] = &[
    "emaj_log_stat_group",
    "emaj_detailed_log_stat_group",
    "emaj_verify_all",
    "emaj_detailed_verify_all",
    "emaj_check_rollback_group",
];

pub(super) fn plan(
    plan: &mut Plan,
    manifest: &Manifest,
    catalog: &Catalog,
    journal: Option<&Journal>,
    renderer: &Renderer,
) -> Result<(), RenderError> {
    let version = env!("CARGO_PKG_VERSION");
    let wanted_retention = manifest.history.retention.as_ref().map(|text| text.value.as_str());
    let functions = renderer.functions()?;
    let Some(journal) = journal else {
        plan.push(Step::new(
            Phase::Schema,
            Action::Create,
            format!("schema {}", quote_ident(renderer.schema())),
            "nothing is installed yet",
            renderer.render("registry/tables", ())?,
        ));
        let mut sql: String = functions
            .iter()
            .map(|function| function.sql.as_str())
            .collect::<Vec<_>>()
            .join("\n");
        sql.push_str(&renderer.render(
            "registry/install",
            context! { version, retention => wanted_retention.unwrap_or("1 year") },
        )?);
        let what = count(functions.len(), "function");
        plan.push(Step::new(
            Phase::Functions,
            Action::Create,
            what,
            "marks, rollback and statistics in SQL",
            sql,
        ));
        return Ok(());
    };
    let changed: Vec<_> = functions
        .iter()
        .filter(|function| {
            journal
                .functions
                .get(&function.name)
                .is_none_or(|there| there.body != function.body)
        })
        .collect();
    if !changed.is_empty() {
        let mut sql = String::new();
        for function in &changed {
            // A changed signature cannot be replaced; nothing depends on these but each other's bodies.
            if let Some(there) = journal.functions.get(&function.name) {
                sql.push_str(&drop_function(renderer.schema(), &function.name, &there.arguments));
            }
            sql.push_str(&function.sql);
            sql.push('\n');
        }
        let because = if journal.version == version {
            "they are not what this version of emaj installs".to_owned()
        } else {
            format!("version {} is installed, this is {version}", journal.version)
        };
        plan.push(Step::new(
            Phase::Functions,
            Action::Change,
            count(changed.len(), "function"),
            because,
            sql,
        ));
    }
    let retention = match wanted_retention {
        Some(text) => catalog.intervals.get(text).cloned(),
        None => journal.history_retention.clone(),
    };
    if retention != journal.history_retention || journal.version != version {
        plan.push(Step::new(
            Phase::Functions,
            Action::Change,
            "parameters",
            format!(
                "history is kept for {}, version {version}",
                retention.as_deref().unwrap_or("ever")
            ),
            renderer.render("registry/change", context! { version, retention })?,
        ));
    }
    Ok(())
}

fn drop_function(schema: &str, name: &str, arguments: &str) -> String {
    format!(
        "drop function if exists {}.{}({arguments});\n",
        quote_ident(schema),
        quote_ident(name)
    )
}

/// The roles that are there, or will be after the plan.
pub(super) fn roles<'m>(manifest: &'m Manifest, catalog: &Catalog) -> Vec<&'m str> {
    let there = |role: &&str| catalog.server.may_create_role || catalog.roles.iter().any(|known| known == role);
    [&manifest.roles.admin, &manifest.roles.viewer]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .filter(there)
        .collect()
}

/// Plans the roles and what they may do; a role that is missing and may not be created is said, not insisted on.
pub(super) fn plan_grants(
    plan: &mut Plan,
    manifest: &Manifest,
    catalog: &Catalog,
    journal: Option<&Journal>,
    renderer: &Renderer,
) -> Result<(), RenderError> {
    let there = roles(manifest, catalog);
    for role in [&manifest.roles.admin, &manifest.roles.viewer].into_iter().flatten() {
        if catalog.roles.contains(role) {
            continue;
        }
        if !there.contains(&role.as_str()) {
            plan.notes.push(format!(
                "role `{role}` is not there and {} may not create roles: nobody but the owner can use emaj (`create role {}`, then install again)",
                quote_ident(&catalog.server.role),
                quote_ident(role),
            ));
            continue;
        }
        plan.push(Step::new(
            Phase::Functions,
            Action::Create,
            format!("role {}", quote_ident(role)),
            "the manifest names it and it is not there; nobody can log in as it",
            renderer.render("registry/role", context! { role })?,
        ));
    }
    let new_role = there
        .iter()
        .any(|role| journal.is_none_or(|journal| !journal.grantees.contains(*role)));
    let new_function = plan
        .steps
        .iter()
        .any(|step| step.phase == Phase::Functions && step.object.contains("function"));
    if !new_role && !new_function {
        return Ok(());
    }
    let functions = renderer.functions()?;
    // A snap on the server writes files there: that right is not emaj's to give.
    let for_admin = |name: &String| name.starts_with("emaj_") && name != "emaj_snap_group";
    let admin_functions: Vec<String> = functions
        .into_iter()
        .map(|function| function.name)
        .filter(for_admin)
        .collect();
    let there_is = |journal: &Journal, log: &String| journal.tables.contains_key(log);
    let logs = journal
        .iter()
        .flat_map(|journal| journal.logs.iter().filter(|log| there_is(journal, log)).cloned());
    let tables: Vec<String> = REGISTRY.iter().map(|table| (*table).to_owned()).chain(logs).collect();
    let granted = |role: &Option<String>| -> Vec<String> {
        role.iter()
            .filter(|role| there.contains(&role.as_str()))
            .cloned()
            .collect()
    };
    plan.push(Step::new(
        Phase::Functions,
        Action::Change,
        "privileges",
        if there.is_empty() {
            "closed to everybody but the owner".to_owned()
        } else {
            format!("for {}; closed to everybody else", there.join(", "))
        },
        renderer.render(
            "registry/grant",
            context! {
                admins => granted(&manifest.roles.admin),
                viewers => granted(&manifest.roles.viewer),
                tables, admin_functions, viewer_functions => VIEWER_FUNCTIONS.to_vec(),
            },
        )?,
    ));
    Ok(())
}
