//! What a manifest asks of this database: its patterns resolved to tables and sequences, with everything that stands in the way.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::delivery::{self, WantedBinding};
use super::obstacle::{self, Asked, Obstacle};
use super::{table, width};
use crate::catalog::{Catalog, Table};
use crate::errors::{Error, Kind};
use crate::journal::Journal;
use crate::manifest::{Capture, ContextColumn, Diagnostic, Diagnostics, Group, Located, Manifest, Place, Sequences};
use crate::names::{Pattern, QualifiedName, nearest, quote_ident};
use crate::pg::Span;
use crate::words::count;

/// How a table's changes are caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Statement,
    Row,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Mode::Statement => "statement",
            Mode::Row => "row",
        }
    }
}

pub(super) struct Wanted<'a> {
    pub groups: Vec<WantedGroup<'a>>,
    pub bindings: Vec<WantedBinding<'a>>,
    pub notes: Vec<String>,
}

pub(super) struct WantedGroup<'a> {
    pub group: &'a Group,
    pub manifest: &'a str,
    pub tables: Vec<WantedTable<'a>>,
    pub sequences: Vec<(&'a QualifiedName, u32)>,
}

impl WantedGroup<'_> {
    /// Returns its tables and sequences.
    pub fn oids(&self) -> impl Iterator<Item = u32> {
        let tables = self.tables.iter().map(|wanted| wanted.table.oid);
        tables.chain(self.sequence_oids())
    }

    pub fn sequence_oids(&self) -> Vec<u32> {
        self.sequences.iter().map(|(_, oid)| *oid).collect()
    }
}

pub(super) struct WantedTable<'a> {
    pub name: &'a QualifiedName,
    pub table: &'a Table,
    pub mode: Mode,
    /// Why this mode.
    pub because: String,
    pub priority: i32,
    pub keep_triggers: Vec<String>,
    pub guard: bool,
}

/// One thing that stands between a manifest and a database.
#[derive(Debug)]
pub struct Problem {
    pub kind: Kind,
    pub what: Diagnostic,
}

/// All that stands in the way, at once.
#[derive(Debug)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = Diagnostics(self.0.iter().map(|problem| problem.what.clone()).collect());
        if self.0.iter().all(|problem| problem.kind == Kind::Manifest) {
            return write!(f, "{all}");
        }
        let problems = count(self.0.len(), "problem");
        write!(
            f,
            "the manifest cannot be used here: {problems}\n\n{}",
            all.render(false)
        )
    }
}

impl std::error::Error for Problems {}

impl From<Problems> for Error {
    fn from(problems: Problems) -> Self {
        let kind = problems.0.first().map_or(Kind::Failed, |problem| problem.kind);
        Error::message(kind, problems)
    }
}

/// What stands in the way, and what should be said.
#[derive(Default)]
pub(super) struct Found {
    pub problems: Vec<Problem>,
    pub notes: Vec<String>,
}

impl Found {
    pub(super) fn problem(&mut self, kind: Kind, place: &Place, message: String, next: impl Into<String>) {
        self.problems.push(Problem {
            kind,
            what: Diagnostic::error(place, message).next(next),
        });
    }

    /// Refuses what another manifest has: `owner` is the one that has installed the group, the sink, the binding of that name.
    pub(super) fn check_owner(
        &mut self,
        noun: &str,
        name: &Located<String>,
        owner: Option<&String>,
        manifest: &Manifest,
    ) {
        if let Some(owner) = owner.filter(|owner| **owner != manifest.name) {
            self.problem(
                Kind::Refused,
                &name.place,
                format!(
                    "{noun} `{}` is there already and belongs to manifest `{owner}`",
                    name.value
                ),
                format!(
                    "choose another name for the {noun}; or, if this is that manifest, write `name: {owner}` at its top"
                ),
            );
        }
    }
}

/// Checks what has to be right before any table is looked at.
pub(super) fn check_server(manifest: &Manifest, catalog: &Catalog, journal: Option<&Journal>) -> Result<(), Problems> {
    let server = &catalog.server;
    let mut problems = Vec::new();
    let mut problem = |kind, message: String, next: String| {
        let place = manifest.groups.first().map(Group::place);
        let what = match place {
            Some(place) => Diagnostic::of_file(place.file(), message).next(next),
            None => Diagnostic::of_file(std::path::Path::new("manifest"), message).next(next),
        };
        problems.push(Problem { kind, what });
    };
    let schema = quote_ident(&manifest.schema);
    if let Some(extension) = &server.schema_extension {
        problem(
            Kind::Refused,
            format!("schema {schema} belongs to the extension `{extension}`"),
            "choose another one in the manifest, for example `schema: emaj2`".to_owned(),
        );
    } else if server.schema_owner.is_some() && journal.is_none() {
        problem(
            Kind::Refused,
            format!("schema {schema} is there and holds no installation of emaj"),
            "choose another one in the manifest with `schema: …`, or drop it when it is empty".to_owned(),
        );
    } else if server.schema_owner.is_none() && !server.may_create_schema {
        problem(
            Kind::Denied,
            format!(
                "role {} may not create a schema in database {}",
                quote_ident(&server.role),
                quote_ident(&server.database)
            ),
            format!(
                "grant create on database {} to {}",
                quote_ident(&server.database),
                quote_ident(&server.role)
            ),
        );
    } else if journal.is_some() && !server.owns_schema {
        let owner = server.schema_owner.clone().unwrap_or_default();
        problem(
            Kind::Denied,
            format!(
                "schema {schema} belongs to role {owner}, and {} may not act as it",
                quote_ident(&server.role)
            ),
            server.as_owner(),
        );
    }
    for right in &server.lacks {
        let role = quote_ident(&server.role);
        problem(
            Kind::Denied,
            format!("{role} lacks a right that an installation needs: {right}"),
            format!("grant {right} to {role}"),
        );
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Problems(problems))
    }
}

/// Says which tables and sequences no pattern can mean.
fn unreadable(catalog: &Catalog) -> Option<String> {
    let names = &catalog.unreadable;
    (!names.is_empty()).then(|| {
        format!(
            "passed over, for names (of columns, triggers or the owner too) that are not UTF-8, in a database without an encoding: {}",
            names.join(", ")
        )
    })
}

/// Resolves every group of the manifest.
pub(super) fn resolve<'a>(
    manifest: &'a Manifest,
    catalog: &'a Catalog,
    journal: Option<&Journal>,
) -> Result<Wanted<'a>, Problems> {
    let mut resolver = Resolver {
        manifest,
        catalog,
        journal,
        found: Found {
            problems: Vec::new(),
            notes: catalog
                .server
                .newer_than_known()
                .into_iter()
                .chain(unreadable(catalog))
                .collect(),
        },
        taken: BTreeMap::new(),
        closed: BTreeSet::new(),
    };
    resolver.check_history();
    let groups = manifest.groups.iter().map(|group| resolver.group(group)).collect();
    let bindings = delivery::resolve(manifest, catalog, journal, &mut resolver.found);
    let Found { problems, notes } = resolver.found;
    match problems.is_empty() {
        true => Ok(Wanted {
            groups,
            bindings,
            notes,
        }),
        false => Err(Problems(problems)),
    }
}

struct Resolver<'a, 'j> {
    manifest: &'a Manifest,
    catalog: &'a Catalog,
    journal: Option<&'j Journal>,
    found: Found,
    /// Relations by oid, and the group of this manifest that has taken them.
    taken: BTreeMap<u32, &'a str>,
    /// Schemas that may not be used, as far as that has been said.
    closed: BTreeSet<&'a str>,
}

impl<'a> Resolver<'a, '_> {
    /// Whether a name that leads nowhere is of emaj itself, of PostgreSQL, or temporary; that is a problem of its own.
    fn not_the_application(&mut self, kind: &str, name: &QualifiedName, place: &Place) -> bool {
        let Some(is) = self.catalog.not_the_application(name) else {
            return false;
        };
        self.found.problem(
            Kind::Manifest,
            place,
            format!("{kind} {name} {is}"),
            format!("leave it out: only a {kind} of the application can be in a group"),
        );
        true
    }

    /// There is one history for all manifests: those that say how long it is kept say the same.
    fn check_history(&mut self) {
        let Some(said) = &self.manifest.history.retention else {
            return;
        };
        let Some(kept) = self.journal.map(|journal| &journal.history_kept) else {
            return;
        };
        let Some(owner) = kept.manifests.iter().find(|owner| **owner != self.manifest.name) else {
            return;
        };
        if self.catalog.intervals.get(&said.value) != kept.retention.as_ref() {
            let there = kept.retention.as_ref().map_or("ever", Span::text);
            self.found.problem(
                Kind::Refused,
                &said.place,
                format!("manifest `{owner}` keeps the history for {there}, and there is one history for all"),
                format!(
                    "write the same here, or take it out here or there, or take that manifest out with `emaj uninstall`; \
                     or, if this is that manifest, write `name: {owner}` at its top"
                ),
            );
        }
    }

    fn group(&mut self, group: &'a Group) -> WantedGroup<'a> {
        let owner = self.journal.and_then(|journal| journal.groups.get(&group.name.value));
        let owner = owner.map(|known| &known.manifest);
        self.found.check_owner("group", &group.name, owner, self.manifest);
        self.check_context(group);
        let selection = group.select(self.catalog.tables.keys());
        let chosen: BTreeSet<&QualifiedName> = selection.chosen.iter().copied().collect();
        let oids: BTreeSet<u32> = chosen.iter().map(|name| self.catalog.tables[*name].oid).collect();
        self.check_patterns(group, &selection.idle, &chosen);
        let mut tables = Vec::new();
        for name in selection.chosen {
            let table = &self.catalog.tables[name];
            if table.ancestors.iter().any(|ancestor| oids.contains(ancestor)) {
                continue;
            }
            if let Some(extension) = &table.extension {
                self.found.notes.push(format!(
                    "table {name} is left out: it belongs to the extension `{extension}`"
                ));
                continue;
            }
            if let Some(wanted) = self.table(group, name, table) {
                tables.push(wanted);
            }
        }
        if tables.is_empty() && self.found.problems.is_empty() {
            self.found
                .notes
                .push(format!("group `{}` holds no table", group.name.value));
        }
        let sequences = self.sequences(group, &tables);
        WantedGroup {
            group,
            manifest: &self.manifest.name,
            tables,
            sequences,
        }
    }

    /// Capture runs with the rights of emaj's owner: what that one may not read would fail every write.
    fn check_context(&mut self, group: &Group) {
        let definer = &self.catalog.server.definer;
        for column in &group.context {
            let ContextColumn::Setting(name) = &column.value else {
                continue;
            };
            let Some(said) = self.catalog.unreadable_settings.get(name) else {
                continue;
            };
            self.found.problem(
                Kind::Denied,
                &column.place,
                format!(
                    "setting `{name}` may not be read by {definer}, with whose rights changes are captured: {said}"
                ),
                format!("grant pg_read_all_settings to {definer}, or take it out"),
            );
        }
    }

    /// Returns what a table is called now that was captured as `name`.
    fn called_now(&self, name: &QualifiedName) -> Option<&'a QualifiedName> {
        let known = self.journal?.relations.iter().find(|relation| relation.name == *name)?;
        self.catalog.table(known.oid).map(|(present, _)| present)
    }

    /// A name that leads nowhere is an error; a glob that matches nothing is worth a word.
    fn check_patterns(&mut self, group: &'a Group, idle: &[usize], chosen: &BTreeSet<&QualifiedName>) {
        for &at in idle {
            let Located { value: pattern, place } = &group.tables[at];
            match pattern.is_exact() {
                Some(name) if !chosen.contains(&name) => {
                    if self.not_the_application("table", &name, place) {
                        continue;
                    }
                    let what = match self.called_now(&name) {
                        Some(present) => {
                            Diagnostic::error(place, format!("there is no table {name}: it is {present} now"))
                                .next(format!("write `{present}`; its log and its marks go on"))
                        }
                        None => Diagnostic::error(
                            place,
                            format!("there is no table {name} in database {}", self.catalog.server.database),
                        )
                        .nearest(nearest(&name, self.catalog.tables.keys()))
                        .next("only tables and partitioned tables can be in a group"),
                    };
                    self.found.problems.push(Problem {
                        kind: Kind::Manifest,
                        what,
                    });
                }
                Some(_) => {}
                None => self.found.notes.push(format!(
                    "{}: pattern `{pattern}` of group `{}` matches nothing",
                    place_text(place),
                    group.name.value
                )),
            }
        }
        for options in &group.table_options {
            if !chosen.contains(&options.table.value) {
                self.found.problem(
                    Kind::Manifest,
                    &options.table.place,
                    format!(
                        "table {} has options and is not in group `{}`",
                        options.table.value, group.name.value
                    ),
                    "add it to the group's `tables`, or take the options out",
                );
            }
        }
    }

    fn table(&mut self, group: &'a Group, name: &'a QualifiedName, table: &'a Table) -> Option<WantedTable<'a>> {
        let before = self.found.problems.len();
        let options = group.options(name);
        let place = options.map_or_else(|| pattern_place(group, name), |options| &options.table.place);
        self.check_taken(group, name, table.oid, table, place);
        let own_columns = table::OWN_COLUMNS.len() + group.context.len();
        let asked = Asked {
            rollback: group.rollback.then_some(group.name.value.as_str()),
            guard: options.is_none_or(|options| options.guard),
            own_columns,
        };
        for obstacle in obstacle::of_table(name, table, &asked, self.catalog, self.journal) {
            self.in_the_way(group, name, place, obstacle);
        }
        self.check_schema(name, place);
        for partition in &table.partitions {
            self.check_schema(&partition.name, place);
        }
        if let Some(bytes) = width::too_wide(&table.columns, own_columns) {
            self.found.notes.push(format!(
                "a row of table {name} that has a value in every column takes {bytes} bytes in its log, {own_columns} columns of emaj's own with it, and 8160 fit: \
                 PostgreSQL refuses to write such a row (`row is too big`)"
            ));
        }
        let (mode, because) = self.mode(
            options.map_or(Capture::Auto, |options| options.capture),
            name,
            table,
            place,
        );
        let keep_triggers: Vec<String> = options
            .map(|options| options.keep_triggers.iter().map(|kept| kept.value.clone()).collect())
            .unwrap_or_default();
        for kept in options.iter().flat_map(|options| &options.keep_triggers) {
            if !table.triggers.iter().any(|trigger| trigger.name == kept.value) {
                let known: Vec<&str> = table.triggers.iter().map(|trigger| trigger.name.as_str()).collect();
                self.found.problem(
                    Kind::Manifest,
                    &kept.place,
                    format!("table {name} has no trigger `{}`", kept.value),
                    if known.is_empty() {
                        "it has no trigger at all".to_owned()
                    } else {
                        format!("it has: {}", known.join(", "))
                    },
                );
            }
        }
        (self.found.problems.len() == before).then(|| WantedTable {
            name,
            table,
            mode,
            because,
            priority: options.and_then(|options| options.priority).unwrap_or(i32::MAX),
            keep_triggers,
            guard: options.is_none_or(|options| options.guard),
        })
    }

    fn in_the_way(&mut self, group: &Group, name: &QualifiedName, place: &Place, obstacle: Obstacle) {
        let leave = obstacle.or_leave.then(|| out_of(group, name));
        let ways: Vec<String> = obstacle.next.into_iter().chain(leave).collect();
        self.found
            .problem(obstacle.kind, place, obstacle.what, ways.join(", or "));
    }

    /// What is in a schema that may not be used cannot be named. Said once of each.
    fn check_schema(&mut self, name: &'a QualifiedName, place: &Place) {
        if let Some(closed) = obstacle::closed(name, self.catalog)
            && self.closed.insert(&name.schema)
        {
            self.found
                .problem(closed.kind, place, closed.what, closed.next.unwrap_or_default());
        }
    }

    fn check_taken(&mut self, group: &'a Group, name: &QualifiedName, oid: u32, table: &Table, place: &Place) {
        if let Some(other) = self.taken.insert(oid, &group.name.value) {
            self.found.problem(
                Kind::Manifest,
                place,
                format!("{name} is in group `{other}` and in group `{}`", group.name.value),
                format!("a relation is in one group only: take it out of one of them (`\"!{name}\"`)"),
            );
        }
        let above = table.ancestors.iter().filter_map(|oid| self.catalog.table(*oid));
        let above = above.map(|(parent, table)| (parent, table.oid, name, parent));
        let below = table.partitions.iter();
        let below = below.map(|partition| (&partition.name, partition.oid, &partition.name, name));
        for (relative, oid, partition, parent) in above.chain(below) {
            if let Some(other) = self.taken.get(&oid) {
                self.found.problem(
                    Kind::Manifest,
                    place,
                    format!(
                        "{name} is in group `{}` and {relative} in group `{other}`: {partition} is a partition of {parent}, and captured with it",
                        group.name.value
                    ),
                    match group.implicit {
                        // (No group names it: a binding needs it.)
                        true => format!("take {partition} out of its group (`\"!{partition}\"`), or {parent} into it"),
                        false => format!("take {partition} out of its group (`\"!{partition}\"`), or {parent} out of the other"),
                    },
                );
            }
        }
        let Some(journal) = self.journal else { return };
        let mut related = std::iter::once(oid)
            .chain(table.ancestors.iter().copied())
            .chain(table.partitions.iter().map(|partition| partition.oid));
        let holder = related.find_map(|oid| {
            let holder = journal.relations.of(oid)?;
            let owner = &journal.groups.get(&holder.group)?.manifest;
            (*owner != self.manifest.name).then_some((holder, owner))
        });
        if let Some((holder, owner)) = holder {
            let (holder_name, holder_group) = (&holder.name, &holder.group);
            self.found.problem(
                Kind::Refused,
                place,
                format!("{holder_name} is in group `{holder_group}` of manifest `{owner}`: what one manifest owns another cannot take"),
                format!("take it out here (`\"!{name}\"`), or there first"),
            );
        }
    }

    fn mode(&mut self, asked: Capture, name: &QualifiedName, table: &Table, place: &Place) -> (Mode, String) {
        match (asked, needs_row(table)) {
            (Capture::Statement, Some(reason)) => {
                self.found.problem(
                    Kind::Manifest,
                    place,
                    format!(
                        "table {name} cannot be captured by statement: it is {}",
                        reason.trim_start_matches("takes part in ")
                    ),
                    "leave `capture` out, or write `capture: row`",
                );
                (Mode::Row, reason.to_owned())
            }
            (_, Some(reason)) => (Mode::Row, reason.to_owned()),
            (Capture::Row, None) => (Mode::Row, "the manifest asks for it".to_owned()),
            (Capture::Auto | Capture::Statement, None) => (Mode::Statement, "the cheapest that is right".to_owned()),
        }
    }

    fn sequences(&mut self, group: &'a Group, tables: &[WantedTable<'a>]) -> Vec<(&'a QualifiedName, u32)> {
        let owned: BTreeSet<u32> = tables
            .iter()
            .flat_map(|wanted| {
                let below = wanted
                    .table
                    .partitions
                    .iter()
                    .filter_map(|partition| self.catalog.tables.get(&partition.name));
                wanted
                    .table
                    .sequences
                    .iter()
                    .chain(below.flat_map(|table| &table.sequences))
                    .copied()
            })
            .collect();
        let schemas: BTreeSet<&str> = tables.iter().map(|wanted| wanted.name.schema.as_str()).collect();
        let all = self.catalog.sequences.iter();
        let chosen: Vec<(&QualifiedName, u32)> = match &group.sequences {
            Sequences::None => Vec::new(),
            Sequences::Owned => all
                .filter(|(_, sequence)| owned.contains(&sequence.oid))
                .map(|(name, sequence)| (name, sequence.oid))
                .collect(),
            Sequences::All => all
                .filter(|(name, sequence)| owned.contains(&sequence.oid) || schemas.contains(name.schema.as_str()))
                .map(|(name, sequence)| (name, sequence.oid))
                .collect(),
            Sequences::Listed(patterns) => self.listed(patterns),
        };
        let empty = Table::default();
        let mut kept = Vec::new();
        for (name, oid) in chosen {
            let sequence = &self.catalog.sequences[name];
            if sequence.extension.is_some() {
                continue;
            }
            if !sequence.owned {
                let (what, owner) = (format!("sequence {name}"), &sequence.owner);
                // (A column's sequence goes with its table.)
                let of = self
                    .catalog
                    .tables
                    .iter()
                    .find(|(_, table)| table.sequences.contains(&oid));
                let object = of.map_or_else(|| what.clone(), |(table, _)| format!("table {table}"));
                let role = quote_ident(&self.catalog.server.role);
                let next = self.catalog.server.to_act_for(owner, &object);
                self.found.problem(
                    Kind::Denied,
                    &group.name.place,
                    format!("{what} belongs to role {owner}, and {role} may not act for it"),
                    format!("{next}, or leave it out with `sequences: …`"),
                );
            }
            self.check_schema(name, &group.name.place);
            self.check_taken(group, name, oid, &empty, &group.name.place);
            kept.push((name, oid));
        }
        kept
    }

    fn listed(&mut self, patterns: &'a [Located<Pattern>]) -> Vec<(&'a QualifiedName, u32)> {
        let selection = crate::names::select(
            patterns.iter().map(|pattern| &pattern.value),
            self.catalog.sequences.keys(),
        );
        for at in selection.idle {
            let Located { value: pattern, place } = &patterns[at];
            if let Some(name) = pattern.is_exact() {
                if self.not_the_application("sequence", &name, place) {
                    continue;
                }
                let what = Diagnostic::error(place, format!("there is no sequence {name}"))
                    .nearest(nearest(&name, self.catalog.sequences.keys()))
                    .next("name a sequence of this database");
                self.found.problems.push(Problem {
                    kind: Kind::Manifest,
                    what,
                });
            }
        }
        selection
            .chosen
            .into_iter()
            .map(|name| (name, self.catalog.sequences[name].oid))
            .collect()
    }
}

/// Returns why a table has to be captured by row, whatever the manifest says; `None` when statement triggers are right.
pub(super) fn needs_row(table: &Table) -> Option<&'static str> {
    if table.partitioned {
        Some("partitioned: statement triggers fire only on the table that a statement names")
    } else if !table.ancestors.is_empty() {
        Some("a partition: a statement on its parent fires no statement trigger here")
    } else if table.inherits {
        Some("takes part in inheritance: a statement on a parent fires no statement trigger of its children")
    } else if table.replicated {
        Some("a target of logical replication, which fires row triggers only")
    } else {
        None
    }
}

/// Says how a table is left alone: one that no group of the manifest has is there for its bindings.
fn out_of(group: &Group, name: &QualifiedName) -> String {
    match group.implicit {
        true => format!("take what binds {name} out of the manifest"),
        false => format!("take {name} out of the group"),
    }
}

fn pattern_place<'g>(group: &'g Group, name: &QualifiedName) -> &'g Place {
    let adding = |pattern: &&Located<Pattern>| !pattern.value.excludes() && pattern.value.matches(name);
    group
        .tables
        .iter()
        .rev()
        .find(adding)
        .map_or(&group.name.place, |pattern| &pattern.place)
}

pub(super) fn place_text(place: &Place) -> String {
    format!("{}:{}:{}", place.file().display(), place.line(), place.column())
}
