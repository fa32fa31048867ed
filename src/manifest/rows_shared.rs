//! Bindings of a sink that make rows of one table by one key: a row there is what one of them makes of it, so all of them have to write the same
//! columns.
//!
//! Pure. `validate` asks with what the manifest says, `install` with what the tables of the bindings have as well.

use std::collections::BTreeSet;

use super::delivery::{Binding, BindingKind};
use super::diagnostic::Diagnostic;
use crate::names::QualifiedName;

/// The rows that a binding makes.
#[derive(Debug)]
pub struct RowsOf<'b> {
    binding: &'b Binding,
    table: &'b QualifiedName,
    /// Empty: the primary key of the binding's table, which is not known.
    pub key: Vec<&'b str>,
    /// Empty: those of the binding's table, which are not known.
    pub columns: BTreeSet<&'b str>,
}

impl<'b> RowsOf<'b> {
    /// Returns what the manifest says of them; `None`: it makes no rows.
    pub fn said(binding: &'b Binding) -> Option<RowsOf<'b>> {
        let BindingKind::Row { table, key, columns } = &binding.kind else {
            return None;
        };
        Some(RowsOf {
            binding,
            table: &table.as_ref().unwrap_or(&binding.table).value,
            key: key.iter().map(|name| name.value.as_str()).collect(),
            columns: columns.iter().map(|(name, _)| name.value.as_str()).collect(),
        })
    }

    fn are_beside(&self, other: &RowsOf<'_>) -> bool {
        let is_one_key =
            self.key == other.key && (!self.key.is_empty() || self.binding.table.value == other.binding.table.value);
        self.to() == other.to() && self.table == other.table && is_one_key
    }

    fn differ(&self, other: &RowsOf<'_>) -> bool {
        !self.columns.is_empty() && !other.columns.is_empty() && self.columns != other.columns
    }

    fn to(&self) -> Option<&str> {
        self.binding.to.as_ref().map(|to| to.value.as_str())
    }

    fn written(&self) -> String {
        let columns: Vec<&str> = self.columns.iter().copied().collect();
        format!("`{}` writes {}", self.binding.name.value, columns.join(", "))
    }
}

/// Returns what is wrong with rows that several bindings make, all of them for sinks that keep rows.
pub fn complaints(all: &[RowsOf<'_>]) -> Vec<Diagnostic> {
    let mut complaints = Vec::new();
    for (at, rows) in all.iter().enumerate() {
        let beside = all[..at]
            .iter()
            .find(|before| rows.are_beside(before) && rows.differ(before));
        complaints.extend(beside.map(|before| {
            let (one, other) = (&before.binding.name, &rows.binding.name);
            Diagnostic::error(
                &other.place,
                format!(
                    "the bindings `{}` and `{}` make the same rows of {}, of different columns",
                    one.value, other.value, rows.table
                ),
            )
            .found(format!("{}; {}", before.written(), rows.written()))
            .expected("the same columns")
            .next(
                "a row there is what one of them makes of it: make it by one binding, or name the same columns in all of them (`none` makes NULL), \
                 or give each a table of its own",
            )
            .related(&one.place, "the other binding")
        }));
    }
    complaints
}
