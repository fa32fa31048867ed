//! The last step: a raw manifest without errors becomes a [`Manifest`].
//!
//! Reads every key of `keys` and fills the defaults in. Everything has been checked, so a `None` from here is a bug
//! and `load` says so. Sinks and bindings are in `build_delivery`.

use super::kinds::bytes_of;
use super::merge::{Item, Named, RawManifest};
use super::model::*;
use super::source::Located;
use super::text::{SecretText, Text};
use crate::names::{Pattern, QualifiedName, parse_ident};

/// Makes the manifest; `default_name` is for one that gives itself none.
pub(super) fn build(raw: &RawManifest<'_>, default_name: String) -> Option<Manifest> {
    let name = match raw.setting("name") {
        Some(item) => item.text()?.to_owned(),
        None => default_name,
    };
    Some(Manifest {
        name,
        database: raw.setting("database").map_or(Some(Database::default()), database)?,
        schema: raw.setting("schema").map_or(Some("emaj".to_owned()), ident)?,
        roles: roles(raw.setting("roles"))?,
        history: History {
            retention: raw
                .setting("history")
                .and_then(|history| interval(history, "retention")),
        },
        groups: raw.groups.iter().map(group).collect::<Option<_>>()?,
        sinks: raw
            .sinks
            .iter()
            .map(super::build_delivery::sink)
            .collect::<Option<_>>()?,
        bindings: raw
            .bindings
            .iter()
            .map(super::build_delivery::binding)
            .collect::<Option<_>>()?,
    })
}

fn group(group: &Named<'_>) -> Option<Group> {
    let item = group.item;
    let sequences = match item.get("sequences") {
        None => Sequences::Owned,
        Some(sequences) => match sequences.text() {
            Some("owned") => Sequences::Owned,
            Some("all") => Sequences::All,
            Some("none") => Sequences::None,
            Some(_) => return None,
            None => Sequences::Listed(list(Some(sequences), pattern)?),
        },
    };
    let state = match item.get("state").map(|state| state.text()) {
        None | Some(Some("logging")) => State::Logging,
        Some(Some("idle")) => State::Idle,
        _ => return None,
    };
    Some(Group {
        name: group.name.clone(),
        tables: list(item.get("tables"), pattern)?,
        sequences,
        state,
        rollback: flag(item, "rollback", true),
        comment: item
            .get("comment")
            .and_then(|comment| comment.text())
            .map(str::to_owned),
        context: list(item.get("context"), |context| {
            ContextColumn::parse(context.text()?).ok()
        })?,
        retention: interval(item, "retention"),
        keep_marks: match item.get("keep_marks") {
            None => None,
            Some(keep) => match keep.integer() {
                Some(number) => Some(KeepMarks::Number(i32::try_from(number).ok()?)),
                None => Some(KeepMarks::Time(interval(item, "keep_marks")?)),
            },
        },
        max_size: match item.get("max_size") {
            None => None,
            Some(size) => Some(bytes_of(size.text()?).ok()?),
        },
        table_options: entries(item.get("table_options"))
            .iter()
            .map(table_options)
            .collect::<Option<_>>()?,
        implicit: false,
    })
}

fn table_options(options: &Named<'_>) -> Option<TableOptions> {
    let item = options.item;
    Some(TableOptions {
        table: Located::new(QualifiedName::parse(&options.name).ok()?, options.name.place.clone()),
        capture: match item.get("capture").map(|capture| capture.text()) {
            None | Some(Some("auto")) => Capture::Auto,
            Some(Some("statement")) => Capture::Statement,
            Some(Some("row")) => Capture::Row,
            _ => return None,
        },
        priority: item
            .get("priority")
            .and_then(|priority| priority.integer())
            .and_then(|number| number.try_into().ok()),
        keep_triggers: list(item.get("keep_triggers"), ident)?,
        guard: flag(item, "guard", true),
    })
}

fn roles(item: Option<Item<'_>>) -> Option<Roles> {
    let role = |key: &str, default: &str| match item.and_then(|item| item.get(key)) {
        None => Some(Some(default.to_owned())),
        Some(role) if role.is_null() => Some(None),
        Some(role) => ident(role).map(Some),
    };
    Some(Roles {
        admin: role("admin", "emaj_adm")?,
        viewer: role("viewer", "emaj_viewer")?,
    })
}

pub(super) fn database(item: Item<'_>) -> Option<Database> {
    let setting = |keyword: &&'static str| {
        let value = item.get(keyword)?;
        // A port may be written as a number.
        let text = value.integer().map_or_else(
            || value.text().unwrap_or_default().to_owned(),
            |number| number.to_string(),
        );
        Some((*keyword, Text::parse(&text, value.place()).ok()?))
    };
    Some(Database {
        uri: secret(item, "uri"),
        password: secret(item, "password"),
        settings: super::keys::DATABASE_SETTINGS.iter().filter_map(setting).collect(),
    })
}

pub(super) fn list<T>(item: Option<Item<'_>>, read: impl Fn(Item<'_>) -> Option<T>) -> Option<Vec<Located<T>>> {
    let items = item.map(|list| list.items()).unwrap_or_default();
    items
        .into_iter()
        .map(|item| Some(Located::new(read(item)?, item.place())))
        .collect()
}

pub(super) fn entries(item: Option<Item<'_>>) -> Vec<Named<'_>> {
    item.map(|map| map.entries()).unwrap_or_default()
}

pub(super) fn ident(item: Item<'_>) -> Option<String> {
    parse_ident(item.text()?).ok()
}

fn pattern(item: Item<'_>) -> Option<Pattern> {
    Pattern::parse(item.text()?).ok()
}

pub(super) fn flag(item: Item<'_>, key: &str, default: bool) -> bool {
    item.get(key).and_then(|value| value.bool()).unwrap_or(default)
}

pub(super) fn number(item: Item<'_>, key: &str) -> Option<u32> {
    item.get(key)?.integer()?.try_into().ok()
}

pub(super) fn text(item: Item<'_>, key: &str) -> Option<Text> {
    let value = item.get(key)?;
    Text::parse(value.text()?, value.place()).ok()
}

pub(super) fn secret(item: Item<'_>, key: &str) -> Option<SecretText> {
    let value = item.get(key)?;
    SecretText::parse(value.text()?, value.place()).ok()
}

fn interval(item: Item<'_>, key: &str) -> Option<Located<String>> {
    item.text_at(key).map(|text| text.map(|text| text.trim().to_owned()))
}
