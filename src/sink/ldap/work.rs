//! What a delivery is carried out with, and the fork to its kind.

use std::cell::RefCell;
use std::collections::HashSet;

use super::super::fault::{self, Fault};
use super::super::{Action, Delivery};
use super::directory::Directory;
use super::schema::Schema;
use super::{entry, value};

/// Everything that carrying out a batch needs.
pub(super) struct Work<'a, D> {
    pub(super) directory: &'a D,
    pub(super) schema: &'a Schema,
    /// Names that were given to a row before the one that had them gave them up (rows exchange their names, or the same is
    /// delivered again). What takes such a name away next means the entry that had it before.
    pub(super) taken: RefCell<HashSet<String>>,
}

impl<'a, D: Directory> Work<'a, D> {
    pub(super) fn new(directory: &'a D, schema: &'a Schema) -> Self {
        Work {
            directory,
            schema,
            taken: RefCell::default(),
        }
    }

    /// Carries out one delivery of a batch. Returns whether something was written.
    pub(super) async fn carry_out(&self, batch: &[Delivery], place: usize) -> Result<bool, Fault> {
        match &batch[place].action {
            Action::Entry(change) => entry::carry_out(self, change, batch, place).await,
            Action::Value(change) => value::change(self, change).await,
            Action::Attributes(all) => value::replace_all(self, all).await,
            Action::Message(_) | Action::Row(_) => Err(Fault::never(
                "a directory takes entries and values, no messages and no rows",
            )),
        }
    }

    /// Tells whether a refusal means that the server has another mind than we about which values are equal.
    pub(super) fn is_other_mind(&self, code: u32) -> bool {
        matches!(
            code,
            fault::NO_SUCH_ATTRIBUTE | fault::INAPPROPRIATE_MATCHING | fault::ATTRIBUTE_OR_VALUE_EXISTS
        )
    }
}
