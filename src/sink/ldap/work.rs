//! What a delivery is carried out with, and the fork to its kind.

use super::super::fault::{self, Fault};
use super::super::{Action, Delivery};
use super::directory::Directory;
use super::schema::Schema;
use super::taken::Taken;
use super::{entry, value};

/// Everything that carrying out a batch needs.
pub(super) struct Work<'a, D> {
    pub(super) directory: &'a D,
    pub(super) schema: &'a Schema,
    pub(super) taken: &'a Taken,
}

impl<'a, D: Directory> Work<'a, D> {
    pub(super) fn new(directory: &'a D, schema: &'a Schema, taken: &'a Taken) -> Self {
        Work {
            directory,
            schema,
            taken,
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
