//! What a [`Configuration`] says, turned into groups of ours.

use std::collections::{BTreeMap, BTreeSet};

use super::{Configuration, Group, Imported, Kinds, Note, Relation, parameters, shown};
use crate::errors::{Error, Kind, Result};
use crate::import::yaml::{self, Yaml};
use crate::names::{MAX_NAME_BYTES, QualifiedName, quote_ident};
use crate::words::count;

/// A relation's name as SQL spells it.
pub(super) fn written(relation: &Relation) -> String {
    QualifiedName::new(&relation.schema, &relation.name).to_string()
}

pub(super) fn translate(from: &str, configuration: Configuration) -> Result<Imported> {
    let mut notes = configuration.notes;
    let made = match &configuration.parameters {
        Some(parameters) => parameters::translate(parameters, &mut notes),
        None => parameters::Made::default(),
    };
    let mut translator = Translator {
        notes,
        taken: BTreeMap::new(),
        names: BTreeSet::new(),
        tables: 0,
    };
    let mut groups = Vec::new();
    for mut group in configuration.groups {
        if made.audit_only {
            group.rollback = Some(false);
        }
        groups.extend(translator.group(&group, &made.context));
    }
    let notes = translator.notes;
    if groups.is_empty() {
        let error = Error::message(Kind::Manifest, format!("{from}: no group could be translated"));
        return Err(match notes.first() {
            Some(note) => error.hint(format!("{}: {}", note.about, note.text)),
            None => error.hint("name the file of `emaj_export_groups_configuration` too"),
        });
    }
    let said = notes.iter().map(|note| {
        let word = if note.is_missing { "not translated" } else { "look at" };
        format!("{word}: {}: {}", note.about, note.text)
    });
    let parts = [("history", made.history.as_slice()), ("groups", &groups)];
    Ok(Imported {
        yaml: yaml::write(&format!("{from}, a configuration of E-Maj"), said, &parts),
        groups: groups.len(),
        tables: translator.tables,
        notes,
    })
}

struct Translator {
    notes: Vec<Note>,
    /// The group of each relation.
    taken: BTreeMap<String, String>,
    names: BTreeSet<String>,
    tables: usize,
}

impl Translator {
    fn group(&mut self, group: &Group, context: &[Yaml]) -> Option<(String, Yaml)> {
        let name = self.name(group)?;
        let about = format!("group `{}`", shown(&group.name));
        let (mut tables, mut sequences, mut guessed) = (Vec::new(), Vec::new(), Vec::new());
        for relation in &group.relations {
            let Some(written) = self.relation(&about, relation) else {
                continue;
            };
            // The name that PostgreSQL gives to the sequence of a serial column.
            let is_guessed = relation.kind == Kinds::Unsaid && relation.name.ends_with("_seq");
            if relation.kind == Kinds::Sequence || is_guessed {
                if is_guessed {
                    guessed.push(written.clone());
                }
                sequences.push(Yaml::Text(written));
            } else {
                tables.push((written, relation));
            }
        }
        if !guessed.is_empty() {
            let text = format!(
                "{} taken for a sequence by the name: {}",
                if guessed.len() == 1 { "is" } else { "are" },
                guessed.join(", ")
            );
            self.notes.push(Note::look_at(&about, text));
        }
        if tables.is_empty() {
            let text = match sequences.len() {
                0 => "it is empty".to_owned(),
                _ => "it has sequences alone: put them into the group of the tables that draw from them".to_owned(),
            };
            self.notes.push(Note::missing(&about, text));
            return None;
        }
        self.tables += tables.len();
        self.left_out(&about, &tables);
        let options = self.options(&about, &tables);
        let mut body = vec![(
            "tables".to_owned(),
            Yaml::List(tables.into_iter().map(|(written, _)| Yaml::Text(written)).collect()),
        )];
        // E-Maj takes no sequence along that was not named.
        let sequences = match sequences.is_empty() {
            true => Yaml::text("none"),
            false => Yaml::List(sequences),
        };
        body.push(("sequences".to_owned(), sequences));
        if group.is_idle {
            body.push(("state".to_owned(), Yaml::text("idle")));
        }
        if group.rollback == Some(false) {
            body.push(("rollback".to_owned(), Yaml::Bare("false".to_owned())));
        }
        if let Some(comment) = &group.comment {
            body.push(("comment".to_owned(), Yaml::text(comment.clone())));
        }
        if !context.is_empty() {
            body.push(("context".to_owned(), Yaml::List(context.to_vec())));
        }
        if !options.is_empty() {
            body.push(("table_options".to_owned(), Yaml::Map(options)));
        }
        Some((name, Yaml::Map(body)))
    }

    /// A name that a group may have here.
    fn name(&mut self, group: &Group) -> Option<String> {
        let plain = group.name.replace(char::is_control, "_");
        let plain = plain.trim();
        let name = plain[..plain.floor_char_boundary(MAX_NAME_BYTES)].trim_end().to_owned();
        let about = format!("group `{}`", shown(&group.name));
        if name.is_empty() || !self.names.insert(name.clone()) {
            self.notes.push(Note::missing(
                about,
                "give it another name first: here it would have none, or that of another group",
            ));
            return None;
        }
        if name != group.name {
            let text = format!("its name cannot be kept; here it is `{name}`");
            self.notes.push(Note::look_at(about, text));
        }
        Some(name)
    }

    /// The name of a relation that belongs to no group yet.
    fn relation(&mut self, group: &str, relation: &Relation) -> Option<String> {
        let written = written(relation);
        let about = format!("{group}, {}", shown(&written));
        if let Err(error) = QualifiedName::parse(&written) {
            self.notes.push(Note::missing(about, error.problem.to_string()));
            return None;
        }
        match self.taken.insert(written.clone(), group.to_owned()) {
            None => Some(written),
            Some(other) if other == group => {
                self.notes.push(Note::look_at(about, "it is there twice"));
                None
            }
            Some(other) => {
                self.notes
                    .push(Note::missing(about, format!("it is in {other} already")));
                self.taken.insert(written, other);
                None
            }
        }
    }

    /// Says what of the tables has no place in a manifest.
    fn left_out(&mut self, about: &str, tables: &[(String, &Relation)]) {
        let mut of_tablespace: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (written, relation) in tables {
            for tablespace in &relation.tablespaces {
                of_tablespace.entry(tablespace).or_default().insert(written);
            }
        }
        for (tablespace, tables) in of_tablespace {
            let text = format!(
                "the tablespace `{}` of the logs of {}: logs are made in the database's default tablespace",
                shown(tablespace),
                count(tables.len(), "table")
            );
            self.notes.push(Note::missing(about, text));
        }
        let named = tables.iter().filter(|(_, relation)| relation.has_log_name).count();
        if named > 0 {
            let text = format!(
                "the log's name or schema of {} is not kept: all logs are in one schema, as `schema_table_log`",
                count(named, "table")
            );
            self.notes.push(Note::look_at(about, text));
        }
    }

    fn options(&mut self, about: &str, tables: &[(String, &Relation)]) -> Vec<(String, Yaml)> {
        let mut options = Vec::new();
        for (written, relation) in tables {
            let about = format!("{about}, {}", shown(written));
            let mut own = Vec::new();
            match relation.priority.map(i32::try_from) {
                Some(Ok(priority)) => own.push(("priority".to_owned(), Yaml::Bare(priority.to_string()))),
                Some(Err(_)) => self
                    .notes
                    .push(Note::missing(&about, "its priority has more than 32 bits")),
                None => {}
            }
            let triggers = relation.ignored_triggers.iter().filter_map(|trigger| {
                let quoted = quote_ident(trigger);
                match crate::names::parse_ident(&quoted) {
                    Ok(_) => Some(Yaml::Text(quoted)),
                    Err(error) => {
                        let text = format!("trigger `{}`: {}", shown(trigger), error.problem);
                        self.notes.push(Note::missing(&about, text));
                        None
                    }
                }
            });
            let triggers: Vec<Yaml> = triggers.collect();
            if !triggers.is_empty() {
                own.push(("keep_triggers".to_owned(), Yaml::List(triggers)));
            }
            if !own.is_empty() {
                options.push((written.clone(), Yaml::Map(own)));
            }
        }
        options
    }
}
