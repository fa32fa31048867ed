//! The steps for who may use emaj: the manifest's roles, what they may call and read, and what is taken back from those it names no more.
//!
//! What a manifest gave is in the registry (`emaj_role`), so that only that is taken back: a right to look or to call that somebody else
//! gave to a role of their own is left alone, and so are the roles of other manifests. What is made is closed to everybody first (default
//! privileges may open it), and what nobody but the owner is to have, to write the registry or a log above all, goes wherever it is found.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::context;
use minijinja::value::{Serde, Value};
use serde::Serialize;

use super::plan::{Action, Phase, Plan, Step};
use crate::catalog::Catalog;
use crate::journal::{Grants, Held, Journal, Named, ROLE_MADE_BY_EMAJ, Right, registry};
use crate::manifest::Manifest;
use crate::names::quote_ident;
use crate::render::{Function, RenderError, Renderer};
use crate::words::count;

/// Functions that the viewer may call.
const VIEWER_FUNCTIONS: &[&str] = &[
    "_after",      // pure text: with it whoever may read a log asks for what came after a mark
    "_key_equals", // the catalogue alone: what `emaj changes` and `emaj at` compare keys by
    "_drift",      // these two only look, for `emaj drift`
    "_binding_drift",
    "_previous_mark", // behind emaj_get_previous_mark_group, which runs as its caller
    "emaj_origin",
    "emaj_log_stat_group",
    "emaj_log_stat_groups",
    "emaj_log_stat_table",
    "emaj_log_stat_sequence",
    "emaj_detailed_log_stat_group",
    "emaj_detailed_log_stat_groups",
    "emaj_log_gaps_group",
    "emaj_sequence_stat_group",
    "emaj_sequence_stat_groups",
    "emaj_interval_stat_group",
    "emaj_stat_since",
    "emaj_verify_all",
    "emaj_detailed_verify_all",
    "emaj_check_rollback_group",
    "emaj_check_rollback_groups",
    "emaj_get_previous_mark_group",
    "emaj_unfinished_rollbacks",
    "emaj_torn_rollbacks",
    "emaj_rollback_activity",
    "emaj_rollback_left",
    "emaj_rollback_tables",
    "emaj_estimate_rollback_group",
    "emaj_estimate_rollback_groups",
    "emaj_estimate_rollback_tables",
    "emaj_get_consolidable_rollbacks",
    "emaj_check_revert_group",
];

/// What a plan gives to one role and takes from it.
#[derive(Debug, Default, Serialize)]
struct Change {
    role: String,
    grant: Set,
    revoke: Set,
}

/// Rights that one role, or everybody, has on things of one kind and is not to have: to be taken away.
#[derive(Debug, Serialize)]
struct Excess {
    /// Quoted; `public` for everybody.
    role: String,
    everybody: bool,
    kind: String,
    privileges: String,
    /// Quoted, with their schema.
    objects: String,
    said: String,
}

/// Rights as the template takes them: functions with their parameters.
#[derive(Debug, Default, Serialize)]
struct Set {
    usage: bool,
    functions: Vec<(String, String)>,
    tables: Vec<String>,
}

impl Set {
    fn is_empty(&self) -> bool {
        !self.usage && self.functions.is_empty() && self.tables.is_empty()
    }

    fn of(grants: &Grants, functions: &[Function]) -> Self {
        let ours = |function: &&Function| grants.functions.contains(&function.name);
        let signature = |function: &Function| (function.name.clone(), function.arguments.clone());
        Set {
            usage: grants.usage,
            functions: functions.iter().filter(ours).map(signature).collect(),
            tables: grants.tables.iter().cloned().collect(),
        }
    }

    fn said(&self) -> String {
        format!(
            "{}, {}",
            count(self.functions.len(), "function"),
            count(self.tables.len(), "table")
        )
    }
}

/// The manifest's roles that are there, or will be after the plan. The owner needs nothing, and has all rights anyway.
fn named<'m>(manifest: &'m Manifest, catalog: &Catalog) -> Vec<(&'m str, Right)> {
    let there = |role: &str| {
        (catalog.server.may_create_role || catalog.roles.iter().any(|known| known == role))
            && quote_ident(role) != catalog.server.definer
    };
    [
        (&manifest.roles.admin, Right::Admin),
        (&manifest.roles.viewer, Right::Viewer),
    ]
    .into_iter()
    .filter_map(|(role, right)| Some((role.as_deref()?, right)))
    .filter(|(role, _)| there(role))
    .collect()
}

/// Has what the plan makes in the schema, besides functions of the framework, closed once all of it is made: to everybody but the owner,
/// logs also but the roles that read them.
pub(super) fn close(
    plan: &mut Plan,
    manifest: &Manifest,
    catalog: &Catalog,
    journal: Option<&Journal>,
    renderer: &Renderer,
) -> Result<(), RenderError> {
    let made = &plan.made;
    if made.logs.is_empty() && made.guards.is_empty() && made.functions.is_empty() {
        return Ok(());
    }
    let relations: Vec<&String> = made.logs.iter().chain(&made.guards).collect();
    let readers = readers(manifest, catalog, journal);
    let values = serde_json::json!({
        "functions": made.functions, "relations": relations, "logs": made.logs, "readers": readers,
    });
    plan.close = Some(renderer.render("registry/close_made", values)?);
    Ok(())
}

/// Returns every role that may read a new log: those of the manifest, and those of the others that share the installation.
fn readers<'m>(manifest: &'m Manifest, catalog: &Catalog, journal: Option<&'m Journal>) -> Vec<&'m str> {
    let own = named(manifest, catalog).into_iter().map(|(role, _)| role);
    let others = journal
        .iter()
        .flat_map(|journal| &journal.named)
        .filter(|named| named.there && named.manifest != manifest.name)
        .map(|named| named.role.as_str());
    own.chain(others).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Plans the roles and what they may do; a role that is missing and may not be created is said, not insisted on. `made` are the
/// functions that the plan makes, which nobody has a right on then but, by default, everybody.
pub(super) fn plan(
    plan: &mut Plan,
    manifest: &Manifest,
    catalog: &Catalog,
    journal: Option<&Journal>,
    made: &BTreeSet<String>,
    renderer: &Renderer,
) -> Result<(), RenderError> {
    let named = named(manifest, catalog);
    for role in manifest.roles.names() {
        if catalog.roles.iter().any(|there| there == role) {
            continue;
        }
        if named.iter().all(|(there, _)| *there != role) {
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
            renderer.render("registry/role", context! { role, mark => ROLE_MADE_BY_EMAJ })?,
        ));
    }
    privileges(plan, &manifest.name, &named, journal, made, renderer)
}

/// Plans the difference between the rights there are and those that the roles `named` by `manifest`, and those of all other manifests,
/// are to have.
pub(super) fn privileges(
    plan: &mut Plan,
    manifest: &str,
    named: &[(&str, Right)],
    journal: Option<&Journal>,
    made: &BTreeSet<String>,
    renderer: &Renderer,
) -> Result<(), RenderError> {
    let functions = renderer.functions()?;
    let recorded: Vec<&Named> = journal
        .iter()
        .flat_map(|journal| &journal.named)
        .filter(|named| named.manifest == manifest)
        .collect();
    let tables = tables(journal, renderer)?;
    let mut wanted: BTreeMap<&str, Grants> = BTreeMap::new();
    for known in recorded.iter().filter(|known| known.there) {
        wanted.entry(&known.role).or_default();
    }
    let others = journal.iter().flat_map(|journal| &journal.named);
    let others = others
        .filter(|other| other.manifest != manifest && other.there)
        .map(|other| (other.role.as_str(), other.right));
    for (role, right) in named.iter().copied().chain(others) {
        let grants = wanted.entry(role).or_default();
        grants.usage = true;
        grants.tables.extend(tables.iter().cloned());
        let may = functions.iter().map(|function| &function.name);
        grants
            .functions
            .extend(may.filter(|name| may_call(right, name)).cloned());
    }
    let there = |role: &str| {
        let mut grants = journal.and_then(|journal| journal.grants.get(role)).cloned();
        if let Some(grants) = &mut grants {
            grants.functions.retain(|name| !made.contains(name));
        }
        grants.unwrap_or_default()
    };
    let changes: Vec<Change> = wanted
        .iter()
        .map(|(role, wanted)| {
            let there = there(role);
            Change {
                role: (*role).to_owned(),
                grant: Set::of(&wanted.without(&there), &functions),
                revoke: Set::of(&there.within(&tables).without(wanted), &functions),
            }
        })
        .filter(|change| !change.grant.is_empty() || !change.revoke.is_empty())
        .collect();
    let excess = journal.map_or_else(Vec::new, |journal| excess(journal, &tables, &functions, made));
    // What was renamed is noted by its new name; one that went, and was made again, is another role.
    let is_noted = |known: &Named| known.there && known.role == known.noted;
    let stays = |known: &Named| is_noted(known) && named.contains(&(known.role.as_str(), known.right));
    let declared = named.iter().copied().filter(|(role, right)| {
        let mut known = recorded.iter();
        !known.any(|known| stays(known) && (known.role.as_str(), known.right) == (*role, *right))
    });
    let declared: Vec<(&str, Right)> = declared.collect();
    let forgotten = recorded.iter().filter(|known| !stays(known));
    let forgotten: Vec<(&str, Right)> = forgotten.map(|known| (known.noted.as_str(), known.right)).collect();
    if changes.is_empty() && made.is_empty() && excess.is_empty() && declared.is_empty() && forgotten.is_empty() {
        return Ok(());
    }
    let entries = |roles: &[(&str, Right)]| {
        let entry = |(role, right): &(&str, Right)| context! { role => *role, right => right.name() };
        roles.iter().map(entry).collect::<Vec<Value>>()
    };
    let sql = renderer.render_value(
        "registry/grant",
        context! {
            manifest, anew => journal.is_none(), made => made.iter().cloned().collect::<Vec<_>>(),
            excess => Value::from(Serde(&excess)), changes => Value::from(Serde(&changes)),
            declared => entries(&declared), forgotten => entries(&forgotten),
        },
    )?;
    let step = if journal.is_none() {
        let roles: Vec<&str> = wanted.keys().copied().collect();
        let because = if roles.is_empty() {
            "closed to everybody but the owner".to_owned()
        } else {
            format!("for {}; closed to everybody else", roles.join(", "))
        };
        Step::new(Phase::Functions, Action::Change, "privileges", because, sql)
    } else {
        let because = because(named, &recorded, &changes, &excess, !made.is_empty());
        Step::new(Phase::Functions, Action::Change, "privileges", because, sql).effect(effect(&changes, &excess))
    };
    plan.push(step);
    Ok(())
}

/// The registry's tables, and every log that is there; a log to come is granted when it is made.
fn tables(journal: Option<&Journal>, renderer: &Renderer) -> Result<BTreeSet<String>, RenderError> {
    let there = |journal: &Journal, log: &String| journal.tables.contains_key(log);
    let logs = journal
        .iter()
        .flat_map(|journal| journal.logs.iter().filter(|log| there(journal, log)).cloned());
    Ok(registry::tables(renderer)?.into_iter().chain(logs).collect())
}

/// Finds what nobody but the owner is to have, and what everybody has. What somebody gave by hand to a role, to look or to call what is
/// meant to be called, is no excess. Functions that are `made` now are closed anyway.
fn excess(
    journal: &Journal,
    tables: &BTreeSet<String>,
    functions: &[Function],
    made: &BTreeSet<String>,
) -> Vec<Excess> {
    let guards: BTreeSet<&String> = journal
        .relations
        .iter()
        .filter_map(|relation| relation.guard.as_ref())
        .collect();
    let internal = |name: &String| {
        let framework = functions.iter().any(|function| function.name == *name);
        journal.logs.contains(name) || framework && !name.starts_with("emaj_") && !may_call(Right::Admin, name)
    };
    let known = |name: &String| journal.logs.contains(name) || functions.iter().any(|function| function.name == *name);
    let too_much = |held: &&Held| {
        let (everybody, privilege) = (held.role.is_none(), held.privilege.as_str());
        match held.kind.as_str() {
            "schema" => everybody || privilege != "USAGE",
            "table" => tables.contains(&held.name) && (everybody || privilege != "SELECT"),
            "view" => guards.contains(&held.name),
            "sequence" => held.name.starts_with("emaj_") && (everybody || privilege != "SELECT"),
            _ if made.contains(&held.name) => false,
            _ => known(&held.name) && (everybody || internal(&held.name)),
        }
    };
    let mut of_object: BTreeMap<(Option<&str>, &str, &str), BTreeSet<String>> = BTreeMap::new();
    for held in journal.held.iter().filter(too_much) {
        let kind = if held.kind == "view" { "table" } else { &held.kind };
        of_object
            .entry((held.role.as_deref(), kind, &held.label))
            .or_default()
            .insert(held.privilege.to_lowercase());
    }
    // By role, kind and privileges.
    type Alike<'h> = (Option<&'h str>, &'h str, Vec<String>);
    let mut alike: BTreeMap<Alike<'_>, Vec<&str>> = BTreeMap::new();
    for ((role, kind, label), privileges) in of_object {
        let key = (role, kind, privileges.into_iter().collect());
        alike.entry(key).or_default().push(label);
    }
    alike
        .into_iter()
        .map(|((role, kind, privileges), labels)| Excess {
            role: role.map_or_else(|| "public".to_owned(), quote_ident),
            everybody: role.is_none(),
            kind: kind.to_owned(),
            privileges: privileges.join(", "),
            said: format!("{} on {}", privileges.join(", "), count(labels.len(), kind)),
            objects: labels.join(", "),
        })
        .collect()
}

fn may_call(right: Right, function: &str) -> bool {
    match right {
        // A snap on the server writes files there: that right is not emaj's to give.
        Right::Admin => {
            (function.starts_with("emaj_") && function != "emaj_snap_group") || VIEWER_FUNCTIONS.contains(&function)
        }
        Right::Viewer => VIEWER_FUNCTIONS.contains(&function),
    }
}

fn because(
    named: &[(&str, Right)],
    recorded: &[&Named],
    changes: &[Change],
    excess: &[Excess],
    closes: bool,
) -> String {
    let roles: BTreeSet<&str> = named
        .iter()
        .map(|known| known.0)
        .chain(recorded.iter().map(|known| known.role.as_str()))
        .chain(changes.iter().map(|change| change.role.as_str()))
        .collect();
    let mut reasons = Vec::new();
    for role in roles {
        let now = named.iter().filter(|(other, _)| *other == role);
        let now: Vec<&str> = now.map(|(_, right)| right.name()).collect();
        let mut known = recorded.iter().filter(|known| known.role == role);
        let there = known.clone().filter(|known| known.there);
        let before: Vec<&str> = there.map(|known| known.right.name()).collect();
        let is_gone = known.clone().any(|known| !known.there);
        let other_name = known.find(|known| known.noted != known.role);
        let changes = changes.iter().any(|change| change.role == role);
        let role = match other_name {
            Some(known) => format!("{}, which was {},", quote_ident(role), quote_ident(&known.noted)),
            None => quote_ident(role),
        };
        match (before.as_slice(), now.as_slice()) {
            ([], []) if is_gone => reasons.push(format!("{role} is not there any more")),
            ([], []) => reasons.push(format!("{role} lacks rights that another manifest gives it")),
            (_, []) => reasons.push(format!("{role} is not named any more")),
            ([], now) => reasons.push(format!("{role} is {} now", now.join(" and "))),
            (before, now) if before != now => reasons.push(format!(
                "{role} is {} now and was {}",
                now.join(" and "),
                before.join(" and ")
            )),
            (_, now) if other_name.is_some() => reasons.push(format!("{role} is {} still", now.join(" and "))),
            _ if changes => reasons.push(format!("{role} has not the rights it should have")),
            _ => {}
        }
    }
    let beyond = excess.iter().filter(|excess| !excess.everybody);
    for role in beyond.map(|excess| &excess.role).collect::<BTreeSet<_>>() {
        reasons.push(format!("{role} may do what only the owner is to do"));
    }
    let mut open = excess.iter().filter(|excess| excess.everybody);
    if open.clone().any(|excess| excess.kind != "function") {
        reasons.push("everybody has a right".to_owned());
    }
    if closes || open.any(|excess| excess.kind == "function") {
        reasons.push("functions are closed to everybody else".to_owned());
    }
    reasons.join("; ")
}

fn effect(changes: &[Change], excess: &[Excess]) -> String {
    let mut effects = Vec::new();
    for change in changes {
        let role = quote_ident(&change.role);
        if !change.grant.is_empty() {
            effects.push(format!("grants to {role}: {}", change.grant.said()));
        }
        if !change.revoke.is_empty() {
            effects.push(format!("revokes from {role}: {}", change.revoke.said()));
        }
    }
    for excess in excess {
        let role = if excess.everybody { "everybody" } else { &excess.role };
        effects.push(format!("revokes from {role}: {}", excess.said));
    }
    effects.join("; ")
}
