//! The steps for what is no longer wanted: relations that left a group, groups that left the manifest, the whole installation.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::context;

use super::delivery::{self, Starved};
use super::foreign::Foreign;
use super::framework;
use super::plan::{Action, Lock, Phase, Plan, Step};
use super::wanted::WantedGroup;
use super::{PlanError, check_owner, check_torn, group, portions, rights, room, table};
use crate::catalog::{Catalog, Table, Trigger};
use crate::errors::Kind;
use crate::journal::{Journal, Origin, Relation, registry};
use crate::manifest::Manifest;
use crate::names::{QualifiedName, listed, quote_ident};
use crate::render::{RenderError, Renderer};
use crate::words::count;

/// Plans the end of what this manifest owns and does not declare any more.
pub(super) fn plan(
    plan: &mut Plan,
    manifest: &Manifest,
    wanted: &[WantedGroup<'_>],
    catalog: &Catalog,
    journal: Option<&Journal>,
    renderer: &Renderer,
) -> Result<(), RenderError> {
    let Some(journal) = journal else { return Ok(()) };
    tell_stranger(plan, manifest, journal);
    let kept: BTreeSet<u32> = wanted.iter().flat_map(WantedGroup::oids).collect();
    let tables = catalog.tables.iter().map(|(name, table)| (table.oid, name));
    let sequences = catalog.sequences.iter().map(|(name, sequence)| (sequence.oid, name));
    let there: BTreeMap<u32, &QualifiedName> = tables.chain(sequences).collect();
    let is_ours = |owner: &str| owner == manifest.name;
    let mut ended: Vec<&Relation> = Vec::new();
    for (name, group) in journal.groups.iter().filter(|(_, group)| is_ours(&group.manifest)) {
        let relations: Vec<&Relation> = journal
            .relations
            .iter()
            .filter(|relation| relation.group == *name)
            .collect();
        let ends: Vec<&Relation> = relations
            .iter()
            .copied()
            .filter(|relation| !kept.contains(&relation.oid))
            .collect();
        ended.extend(&ends);
        let Some(wanted) = wanted.iter().find(|wanted| wanted.group.name.value == *name) else {
            let starved = delivery::starved(&ends, &is_ours, (catalog, journal));
            let mut step = dropped_group(
                name,
                "the manifest does not declare it any more",
                &relations[..],
                ends.len(),
                &starved,
                (catalog, journal),
                renderer,
            )?
            // (Who uninstalls loses them all, however many there are by then.)
            .losing(name, group.active_marks);
            if starved.is_empty() && delivery::is_implied(manifest, name, journal) {
                step.destroys = false;
                step.effect = "its logs go, which nothing else reads".to_owned();
            }
            plan.push(step);
            continue;
        };
        for relation in &ends {
            let now = there.get(&relation.oid).copied();
            let because = match now {
                None => "it is gone from the database".to_owned(),
                Some(now) if *now == relation.name => "the manifest does not name it any more".to_owned(),
                Some(now) => format!("it was {}, and the manifest does not name {now}", relation.name),
            };
            let name = now.unwrap_or(&relation.name);
            table::end(plan, relation, name, &because, Some(group), renderer);
        }
        let stays: BTreeSet<u32> = wanted.oids().collect();
        if relations.iter().all(|relation| stays.contains(&relation.oid)) {
            continue;
        }
        plan.groups.insert(name.clone(), group.logging);
        if group.logging
            && !plan
                .steps
                .iter()
                .any(|step| step.object == format!("mark of group {name}"))
        {
            group::mark_change(plan, name, &wanted.sequence_oids(), renderer)?;
        }
    }
    delivery::tell_starved(plan, &delivery::starved(&ended, &is_ours, (catalog, journal)), journal);
    Ok(())
}

/// Says so where everything under the manifest's name is somebody else's to all appearances: two manifests may have been given one name, the default one.
fn tell_stranger(plan: &mut Plan, manifest: &Manifest, journal: &Journal) {
    let groups = manifest.groups.iter().filter(|group| !group.implicit);
    let declared: BTreeSet<String> = groups
        .map(|group| format!("group `{}`", group.name.value))
        .chain(manifest.sinks.iter().map(|sink| format!("sink `{}`", sink.name.value)))
        .chain(
            manifest
                .bindings
                .iter()
                .map(|binding| format!("binding `{}`", binding.name.value)),
        )
        .collect();
    let groups = journal
        .groups
        .iter()
        .map(|(name, known)| ("group", name, &known.manifest));
    let sinks = journal
        .sinks
        .iter()
        .map(|(name, known)| ("sink", name, &known.manifest));
    let bindings = journal.bindings.iter();
    let bindings = bindings.map(|(name, known)| ("binding", name, &known.manifest));
    let installed: Vec<String> = groups
        .chain(sinks)
        .chain(bindings)
        .filter(|(.., owner)| **owner == manifest.name)
        .map(|(noun, name, _)| format!("{noun} `{name}`"))
        .collect();
    if installed.is_empty() || declared.is_empty() || installed.iter().any(|known| declared.contains(known)) {
        return;
    }
    plan.notes.push(format!(
        "nothing that manifest `{}` declares is installed, and it declares nothing of what is installed under its name ({}): \
         if that is another manifest's, give this one a `name` of its own",
        manifest.name,
        installed.join(", ")
    ));
}

/// Makes the step that drops a group; `starved` are the bindings whose log it takes away.
fn dropped_group(
    name: &str,
    because: &str,
    relations: &[&Relation],
    ended: usize,
    starved: &Starved<'_>,
    (catalog, journal): (&Catalog, &Journal),
    renderer: &Renderer,
) -> Result<Step, RenderError> {
    let sql = renderer.render("group/remove", context! { group => name })?;
    let effect = match ended {
        0 => "its marks are lost, and what is left of its logs".to_owned(),
        _ => format!(
            "the logs and marks of {} are lost; the tables stay{}",
            count(ended, "relation"),
            delivery::unread(starved)
        ),
    };
    let mut step = Step::new(Phase::Removal, Action::Remove, format!("group {name}"), because, sql)
        .holding(name)
        .effect(effect)
        .destroying()
        .taking(room::to_drop(room::logs_of(journal, name), &room::partitions(catalog)));
    step.lock = Some(Lock::AccessExclusive);
    step.tables = captured_by(relations, catalog, journal, renderer);
    Ok(step)
}

/// Finds the tables that have the triggers of these relations. The oids in the registry do not tell: in a restored copy another table
/// may have one of them by now, and a partition that was detached keeps its trigger. One that was renamed is on the relation itself.
pub(super) fn captured_by(
    relations: &[&Relation],
    catalog: &Catalog,
    journal: &Journal,
    renderer: &Renderer,
) -> Vec<u32> {
    let functions: BTreeMap<u32, u32> = relations
        .iter()
        .filter_map(|relation| Some((journal.functions.get(relation.log.as_ref()?)?.oid, relation.oid)))
        .collect();
    let own = |table: &Table, trigger: &Trigger| {
        let of = functions.get(&trigger.function);
        !trigger.cloned && of.is_some_and(|of| *of == table.oid || renderer.triggers().contains(&trigger.name))
    };
    let tables = catalog.tables.values();
    tables
        .filter(|table| table.triggers.iter().any(|trigger| own(table, trigger)))
        .map(|table| table.oid)
        .collect()
}

/// Plans the way back: the groups of `manifest` (or of all manifests), and, when none is left, everything emaj made. Of the objects of
/// somebody else, `foreign`, nothing is dropped.
///
/// # Errors
/// Objects of somebody else that stand in the way; rights that are missing.
pub fn uninstall(
    manifest: &Manifest,
    all: bool,
    foreign: &[Foreign],
    catalog: &Catalog,
    journal: &Journal,
    renderer: &Renderer,
) -> Result<Plan, PlanError> {
    check_owner(manifest, catalog)?;
    let mut plan = Plan::new(manifest, catalog.server.schema_owner.clone(), Vec::new());
    if journal.hollow {
        drop_hollow(&mut plan, manifest, catalog, journal, renderer)?;
        check_tables(&plan, catalog)?;
        return Ok(plan.finish(renderer));
    }
    let (ours, others): (Vec<_>, Vec<_>) = journal
        .groups
        .iter()
        .partition(|(_, group)| all || group.manifest == manifest.name);
    // What was restored elsewhere is not what the tables here have been through.
    if journal
        .astray
        .as_ref()
        .is_none_or(|astray| astray.origin != Origin::Restored)
    {
        let torn = journal.torn.iter();
        check_torn(torn, |name| ours.iter().any(|(own, _)| *own == name))?;
    }
    let is_ours = |owner: &str| all || owner == manifest.name;
    let bound = delivery::of_others(&is_ours, journal);
    let stays = !others.is_empty() || !bound.is_empty();
    let own = if stays { 0 } else { room::OWN };
    let journal = &*portions::plan(&mut plan, &ours, own, (catalog, journal), renderer)?;
    let mut ended: Vec<&Relation> = Vec::new();
    for (name, group) in &ours {
        let relations: Vec<&Relation> = journal
            .relations
            .iter()
            .filter(|relation| relation.group == **name)
            .collect();
        plan.push(dropped_group(
            name,
            &format!("uninstall of manifest `{}`", group.manifest),
            &relations,
            relations.len(),
            &delivery::starved(&relations, &is_ours, (catalog, journal)),
            (catalog, journal),
            renderer,
        )?);
        ended.extend(&relations);
    }
    delivery::tell_starved(
        &mut plan,
        &delivery::starved(&ended, &is_ours, (catalog, journal)),
        journal,
    );
    delivery::uninstall(&mut plan, &is_ours, catalog, journal, renderer)?;
    check_tables(&plan, catalog)?;
    let goes = |group: &String| ours.iter().any(|(name, _)| *name == group);
    check_foreign(manifest, foreign, |foreign| {
        !stays || foreign.group.as_ref().is_some_and(goes)
    })?;
    if stays {
        let names = others.iter().map(|(name, _)| name.as_str());
        let names: Vec<&str> = names.chain(bound.iter().map(String::as_str)).collect();
        leave_to_others(&mut plan, manifest, &names, journal, renderer)?;
    } else {
        drop_schema(&mut plan, manifest, journal, renderer)?;
    }
    Ok(plan.finish(renderer))
}

/// Refuses when something that emaj did not make is `in_the_way`.
fn check_foreign(
    manifest: &Manifest,
    foreign: &[Foreign],
    in_the_way: impl Fn(&&Foreign) -> bool,
) -> Result<(), PlanError> {
    let in_the_way = foreign.iter().filter(in_the_way);
    let names: Vec<&str> = in_the_way.map(|foreign| foreign.what.as_str()).collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(PlanError::InTheWay {
        kind: Kind::Refused,
        message: format!(
            "schema {} holds, or is needed by, what emaj did not make: {}",
            quote_ident(&manifest.schema),
            names.join(", ")
        ),
        next: "drop it, or move it to another schema when it does not need this one".to_owned(),
    })
}

/// Plans what else goes with a manifest, in an installation that stays for what others have: `names`.
fn leave_to_others(
    plan: &mut Plan,
    manifest: &Manifest,
    names: &[&str],
    journal: &Journal,
    renderer: &Renderer,
) -> Result<(), PlanError> {
    plan.event = Some("UNINSTALL");
    plan.notes.push(format!(
        "schema {} stays: it holds what other manifests have ({})",
        quote_ident(&manifest.schema),
        names.join(", ")
    ));
    framework::history_without(plan, &manifest.name, journal, renderer)?;
    rights::privileges(plan, &manifest.name, &[], Some(journal), &BTreeSet::new(), renderer)?;
    match plan.is_empty() {
        true => Err(not_here(manifest, journal)),
        false => Ok(()),
    }
}

/// Plans the end of the whole installation.
fn drop_schema(
    plan: &mut Plan,
    manifest: &Manifest,
    journal: &Journal,
    renderer: &Renderer,
) -> Result<(), RenderError> {
    plan.event = None;
    let dropped = framework::functions_there(journal, renderer)?;
    let mut tables = registry::tables(renderer)?;
    tables.retain(|table| journal.tables.contains_key(table));
    let sql = renderer.render(
        "registry/drop",
        context! { functions => dropped, tables, roles => journal.roles.clone() },
    )?;
    plan.push(
        Step::new(
            Phase::Removal,
            Action::Remove,
            format!("schema {}", quote_ident(&manifest.schema)),
            "no group is left",
            sql,
        )
        .effect("nothing of emaj remains")
        .destroying()
        .taking(room::OWN),
    );
    Ok(())
}

/// The error of a manifest that has nothing in an installation where others have.
fn not_here(manifest: &Manifest, journal: &Journal) -> PlanError {
    let groups = journal.groups.values().map(|group| &group.manifest);
    let bindings = journal.bindings.values().map(|binding| &binding.manifest);
    let sinks = journal.sinks.values().map(|sink| &sink.manifest);
    let installed: BTreeSet<&String> = groups.chain(bindings).chain(sinks).collect();
    PlanError::InTheWay {
        kind: Kind::NotInstalled,
        message: format!(
            "nothing of manifest `{}` is installed in schema {}",
            manifest.name,
            quote_ident(&manifest.schema)
        ),
        next: format!(
            "installed are: {}; `name` in a manifest says which it is",
            listed(installed)
        ),
    }
}

/// Plans the end of an installation whose registry is empty: what is emaj's is told by where it is.
fn drop_hollow(
    plan: &mut Plan,
    manifest: &Manifest,
    catalog: &Catalog,
    journal: &Journal,
    renderer: &Renderer,
) -> Result<(), RenderError> {
    let functions: BTreeSet<u32> = journal.functions.values().map(|function| function.oid).collect();
    let names: Vec<String> = renderer.functions()?.into_iter().map(|own| own.name).collect();
    let values = context! { tables => registry::tables(renderer)?, functions => names };
    let own = |trigger: &Trigger| functions.contains(&trigger.function);
    let mut step = Step::new(
        Phase::Removal,
        Action::Remove,
        format!("schema {}", quote_ident(&manifest.schema)),
        "its registry is empty: it was restored from a dump without data",
        renderer.render("registry/drop_hollow", values)?,
    )
    .effect("nothing that is in it remains; refused where a table there holds rows, or something is not emaj's")
    .destroying();
    step.lock = Some(Lock::AccessExclusive);
    step.tables = catalog
        .tables
        .values()
        .filter(|table| table.triggers.iter().any(own))
        .map(|table| table.oid)
        .collect();
    plan.event = None;
    plan.push(step);
    Ok(())
}

/// Refuses when somebody's triggers would have to be dropped whose tables emaj's owner has no say in any more.
fn check_tables(plan: &Plan, catalog: &Catalog) -> Result<(), PlanError> {
    let tables = plan.tables();
    let is_lost = |table: &Table| !table.owned && tables.contains(&table.oid);
    let lost: Vec<(&QualifiedName, &Table)> = catalog.tables.iter().filter(|(_, table)| is_lost(table)).collect();
    if lost.is_empty() {
        return Ok(());
    }
    let definer = &catalog.server.definer;
    let of = |(name, table): &(&QualifiedName, &Table)| format!("table {name} belongs to role {}", table.owner);
    let said: Vec<String> = lost.iter().map(of).collect();
    let server = &catalog.server;
    let ways: BTreeSet<String> = lost
        .iter()
        .map(|(name, table)| format!("`{}`", server.to_act_for(&table.owner, &format!("table {name}"))))
        .collect();
    Err(PlanError::InTheWay {
        kind: Kind::Denied,
        message: format!(
            "{}; {definer}, who is emaj's owner, may not act for that role and cannot drop what captures the table",
            said.join(", ")
        ),
        next: format!("{}, and try again", ways.into_iter().collect::<Vec<_>>().join(" and ")),
    })
}
