//! How rows are written to a table: the statements for each set of columns that rows come with, prepared once a session.
//!
//! `write` carries them out. What they say is worked out by [`Texts`], which is pure.

use std::collections::HashMap;

use postgres::error::SqlState;
use postgres::{Client, Statement};
use serde::Serialize;
use serde_json::{Value, json};

use super::fold::{Item, Row};
use super::shape::{Column, Shape};
use super::spelling::Spelling;
use super::text::Kind;
use crate::names::{QualifiedName, quote_ident};
use crate::render::Renderer;
use crate::sink::Fault;

/// All that was prepared.
#[derive(Debug, Default)]
pub(super) struct Plans {
    pub(super) upserts: Vec<Upsert>,
    deletes: Vec<Delete>,
    pub(super) keys: Vec<Keys>,
}

/// How to write rows of certain columns to a table.
#[derive(Debug)]
pub(super) struct Upsert {
    pub(super) table: QualifiedName,
    key: Vec<String>,
    /// As the rows have them, with how each is written; `None`: the table makes this one itself.
    pub(super) columns: Vec<(String, Option<Kind>)>,
    /// What they are called where rows wait, or are told as JSON.
    pub(super) staged: HashMap<String, String>,
    pub(super) copy: String,
    pub(super) copy_staged: String,
    pub(super) empty: String,
    pub(super) unchanged: Statement,
    /// Only where a key can be written in several ways.
    pub(super) respell: Option<Respell>,
    /// Only where columns can be given once and never changed.
    pub(super) fixed: Option<Fixed>,
    pub(super) write: Statement,
    /// Moves rows to other keys; `None`: a key that can never be changed.
    pub(super) moves: Option<Statement>,
    /// The place where rows wait may hold some of this transaction.
    pub(super) used: bool,
}

/// Rows that are there under another spelling of their key get the one that comes. What writes keys wants more rights and stronger locks, so it is
/// asked before whether there are such rows.
#[derive(Debug)]
pub(super) struct Respell {
    pub(super) is_needed: Statement,
    pub(super) sql: String,
}

/// Columns that are `generated always as identity`: a row that is there with other values of them cannot get those that come.
#[derive(Debug)]
pub(super) struct Fixed {
    columns: Vec<String>,
    pub(super) is_other: Statement,
}

#[derive(Debug)]
struct Delete {
    table: QualifiedName,
    key: Vec<String>,
    statement: Statement,
}

/// How to tell which texts are one key of a table.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) table: QualifiedName,
    pub(super) key: Vec<String>,
    /// Of the key's columns.
    pub(super) spellings: Vec<Spelling>,
    /// `None`: the key's type has no order by which that could be told.
    pub(super) same: Option<Statement>,
}

impl Plans {
    /// Tells whether everything is prepared that an item needs.
    pub(super) fn are_there_for(&self, item: &Item<'_>) -> bool {
        let (table, key) = (&item.change.table, &item.change.key);
        let mut written = item.heir.iter().chain(&item.upsert);
        (item.delete.is_none() || self.delete(table, key).is_ok())
            && written.all(|row| self.upsert(table, key, row).is_ok())
            && self.keys_of(table, key).is_some()
    }

    /// Prepares what an item needs, for a table that is like `shape`.
    pub(super) fn prepare(
        &mut self,
        client: &mut Client,
        renderer: &Renderer,
        shape: &Shape,
        item: &Item<'_>,
    ) -> Result<(), Fault> {
        let (table, key) = (&item.change.table, &*item.change.key);
        let target = Target { table, key, shape };
        if item.delete.is_some() && self.delete(table, key).is_err() {
            self.deletes.push(Delete::prepare(client, renderer, &target)?);
        }
        for row in item.heir.iter().chain(&item.upsert) {
            if self.upsert(table, key, row).is_err() {
                let stage = format!("emaj_rows_{}", self.upserts.len() + 1);
                self.upserts
                    .push(Upsert::prepare(client, renderer, &target, &stage, row)?);
            }
        }
        if self.keys_of(table, key).is_none() {
            self.keys.push(Keys::prepare(client, renderer, &target)?);
        }
        Ok(())
    }

    /// Returns the number of the plan by which a row is written.
    pub(super) fn upsert(&self, table: &QualifiedName, key: &[String], row: &Row<'_>) -> Result<usize, Fault> {
        let is_it = |plan: &Upsert| {
            plan.columns.len() == row.members.len()
                && plan.table == *table
                && plan.key == key
                && plan
                    .columns
                    .iter()
                    .zip(&row.members)
                    .all(|(column, member)| column.0 == member.0)
        };
        self.upserts.iter().position(is_it).ok_or_else(not_prepared)
    }

    /// Returns the statement that deletes rows.
    pub(super) fn delete(&self, table: &QualifiedName, key: &[String]) -> Result<&Statement, Fault> {
        let mut deletes = self.deletes.iter();
        let found = deletes.find(|plan| plan.table == *table && plan.key == key);
        found.map(|plan| &plan.statement).ok_or_else(not_prepared)
    }

    /// Returns how to tell which texts are one key of a table.
    pub(super) fn keys_of(&self, table: &QualifiedName, key: &[String]) -> Option<&Keys> {
        self.keys.iter().find(|keys| keys.table == *table && keys.key == key)
    }
}

fn not_prepared() -> Fault {
    Fault::down("a statement was not prepared")
}

/// A table, and the columns by which its rows are known.
struct Target<'t> {
    table: &'t QualifiedName,
    key: &'t [String],
    shape: &'t Shape,
}

impl<'t> Target<'t> {
    fn key(&self) -> Vec<Described<'t>> {
        described(self.shape, self.key.iter().map(String::as_str))
    }

    fn check<'c>(&self, columns: impl IntoIterator<Item = &'c str>) -> Result<(), Fault> {
        self.shape.complaint(self.table, self.key, columns).map_or(Ok(()), Err)
    }
}

impl Delete {
    fn prepare(client: &mut Client, renderer: &Renderer, target: &Target<'_>) -> Result<Delete, Fault> {
        target.check(target.key.iter().map(String::as_str))?;
        let values = json!({ "table": target.shape.named(target.table), "columns": target.key() });
        let delete = renderer.render("row/delete", &values).map_err(Fault::down)?;
        Ok(Delete {
            table: target.table.clone(),
            key: target.key.to_vec(),
            statement: client.prepare(&delete)?,
        })
    }
}

impl Keys {
    /// (Of a table and a key that were looked at.)
    fn prepare(client: &mut Client, renderer: &Renderer, target: &Target<'_>) -> Result<Keys, Fault> {
        let columns = target.key();
        let values = json!({ "table": target.table, "columns": columns });
        let same = renderer.render("row/same", &values).map_err(Fault::down)?;
        let same = match client.prepare(&same) {
            Ok(same) => Some(same),
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_FUNCTION) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Keys {
            table: target.table.clone(),
            key: target.key.to_vec(),
            spellings: columns.iter().map(|column| column.spelling).collect(),
            same,
        })
    }
}

impl Upsert {
    fn prepare(
        client: &mut Client,
        renderer: &Renderer,
        target: &Target<'_>,
        stage: &str,
        row: &Row<'_>,
    ) -> Result<Upsert, Fault> {
        let names: Vec<&str> = row.members.iter().map(|(name, _)| name.as_ref()).collect();
        target.check(names.iter().copied())?;
        let sorted = Sorted::of(target, &names);
        let texts = Texts::render(renderer, target, stage, &sorted)?;
        client.batch_execute(&texts.stage)?;
        let unchanged = client.prepare(&texts.unchanged)?;
        let respell = match texts.respell {
            Some([is_needed, sql]) => Some(Respell {
                is_needed: client.prepare(&is_needed)?,
                sql,
            }),
            None => None,
        };
        let fixed = match texts.is_other {
            Some(is_other) => Some(Fixed {
                columns: sorted.fixed.iter().map(|name| (*name).to_owned()).collect(),
                is_other: client.prepare(&is_other)?,
            }),
            None => None,
        };
        let columns = names.iter().filter_map(|name| target.shape.column(name));
        let staged = described(target.shape, sorted.written.iter().copied());
        Ok(Upsert {
            table: target.table.clone(),
            key: target.key.to_vec(),
            columns: columns
                .map(|column| (column.name.clone(), (!column.generated).then(|| column.kind.clone())))
                .collect(),
            staged: staged
                .into_iter()
                .map(|column| (column.name.to_owned(), column.staged))
                .collect(),
            copy: texts.copy,
            copy_staged: texts.copy_staged,
            empty: texts.empty,
            unchanged,
            respell,
            fixed,
            write: client.prepare(&texts.write)?,
            moves: texts.moves.map(|moves| client.prepare(&moves)).transpose()?,
            used: false,
        })
    }
}

/// The columns that rows come with, by what may be done with them.
struct Sorted<'n> {
    /// Those that the table does not make itself.
    written: Vec<&'n str>,
    /// Those of them that may be changed, too.
    changeable: Vec<&'n str>,
    /// Those of these that are not in the key.
    changed: Vec<&'n str>,
    /// Those that can be given once and never changed, and are not in the key.
    fixed: Vec<&'n str>,
}

impl<'n> Sorted<'n> {
    fn of(target: &Target<'_>, names: &[&'n str]) -> Sorted<'n> {
        let column = |name: &str| target.shape.column(name);
        let is_key = |name: &str| target.key.iter().any(|column| column == name);
        let is_written = |name: &&str| column(name).is_some_and(|column| !column.generated);
        let written: Vec<&str> = names.iter().copied().filter(is_written).collect();
        let is_fixed = |name: &&str| column(name).is_some_and(|column| column.identity_always);
        let (fixed, changeable): (Vec<&str>, Vec<&str>) = written.iter().copied().partition(is_fixed);
        Sorted {
            changed: changeable.iter().copied().filter(|name| !is_key(name)).collect(),
            fixed: fixed.into_iter().filter(|name| !is_key(name)).collect(),
            written,
            changeable,
        }
    }
}

/// The statements of an upsert.
struct Texts {
    /// Makes the place where rows wait.
    stage: String,
    copy: String,
    copy_staged: String,
    empty: String,
    unchanged: String,
    /// Asks whether there are such rows, and changes them.
    respell: Option<[String; 2]>,
    is_other: Option<String>,
    write: String,
    moves: Option<String>,
}

impl Texts {
    fn render(renderer: &Renderer, target: &Target<'_>, stage: &str, sorted: &Sorted<'_>) -> Result<Texts, Fault> {
        let render = |name: &str, values: &Value| renderer.render(name, values).map_err(Fault::down);
        let (table, key) = (target.shape.named(target.table), target.key());
        let with = |names: &[&str]| {
            let columns = described(target.shape, names.iter().copied());
            json!({ "stage": stage, "table": table, "key": key, "columns": columns })
        };
        let (written, changeable) = (with(&sorted.written), with(&sorted.changeable));
        let staged = described(target.shape, sorted.written.iter().copied());
        let staged: Vec<&str> = ["n"]
            .into_iter()
            .chain(staged.iter().map(|column| column.staged.as_str()))
            .collect();
        let respell = match key.iter().any(|column| column.spelling == Spelling::Free) {
            true => Some([
                render("row/respelled", &changeable)?,
                render("row/respell", &changeable)?,
            ]),
            false => None,
        };
        let is_other = match sorted.fixed.as_slice() {
            [] => None,
            fixed => Some(render("row/fixed", &with(fixed))?),
        };
        let moves = match target.key.iter().all(|name| sorted.changeable.contains(&&**name)) {
            true => Some(render("row/move", &changeable)?),
            false => None,
        };
        Ok(Texts {
            stage: render("row/stage", &written)?,
            copy: render(
                "row/copy",
                &json!({ "table": target.table.to_string(), "columns": sorted.written }),
            )?,
            copy_staged: render(
                "row/copy",
                &json!({ "table": format!("pg_temp.{stage}"), "columns": staged }),
            )?,
            empty: render("row/empty", &json!({ "stage": stage }))?,
            unchanged: render("row/unchanged", &written)?,
            respell,
            is_other,
            write: render(
                "row/upsert",
                &json!({
                    "stage": stage, "table": target.table, "key": target.key, "changed": sorted.changed, "columns": written["columns"],
                }),
            )?,
            moves,
        })
    }
}

impl Fixed {
    pub(super) fn fault(&self, table: &QualifiedName) -> Fault {
        let columns = self
            .columns
            .iter()
            .map(|name| quote_ident(name))
            .collect::<Vec<_>>()
            .join(", ");
        let alter: Vec<String> = self
            .columns
            .iter()
            .map(|name| format!("alter {} set generated by default", quote_ident(name)))
            .collect();
        Fault::never(format!(
            "{columns} of `{table}` is `generated always as identity` in the other database, and the row there has another value, which cannot be changed: \
             `alter table {table} {}`, or name the columns to be written under `row.columns`, without it",
            alter.join(", ")
        ))
    }
}

/// Columns as the templates take them.
#[derive(Debug, Serialize)]
pub(super) struct Described<'a> {
    name: &'a str,
    /// What it is called where rows wait: no name of the table's own is ever beside ours.
    staged: String,
    sql_type: &'a str,
    collation: Option<&'a [String; 2]>,
    equal: &'a str,
    #[serde(skip)]
    spelling: Spelling,
}

pub(super) fn described<'s, 'n>(shape: &'s Shape, names: impl IntoIterator<Item = &'n str>) -> Vec<Described<'s>> {
    names
        .into_iter()
        .filter_map(|name| {
            let is_it = |column: &Column| column.name == name;
            let at = shape.columns.iter().position(is_it)?;
            Some((at + 1, &shape.columns[at]))
        })
        .map(|(number, column)| Described {
            name: &column.name,
            staged: format!("c{number}"),
            sql_type: &column.sql_type,
            collation: column.collation.as_ref(),
            equal: &column.equal,
            spelling: column.spelling,
        })
        .collect()
}
