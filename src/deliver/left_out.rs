//! What `emaj init` had to leave out: the first of it in words, and how much it is.

use super::prune::Unknown;
use crate::manifest::{Binding, Sink};
use crate::sink::Fault;
use crate::words::count;

/// How much of it is told.
const TOLD: u64 = 20;

/// What was left out.
#[derive(Debug, Default)]
pub struct LeftOut {
    number: u64,
    told: Vec<String>,
    kept: Vec<String>,
}

impl LeftOut {
    /// Returns how much it is.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns the first of it, a sentence each.
    pub fn told(&self) -> &[String] {
        &self.told
    }

    /// Returns, a sentence each, what stays as it is to: that is no fault.
    pub fn kept(&self) -> &[String] {
        &self.kept
    }

    /// Notes a binding to a sink that cannot list what it holds.
    pub(super) fn unlisted(&mut self, binding: &Binding, sink: &Sink) {
        self.kept.push(format!(
            "binding `{}` takes nothing away: sink `{}` is of the kind {}, which cannot list what it holds",
            binding.name.value,
            sink.name.value,
            sink.kind.word()
        ));
    }

    /// Notes a binding that leaves what was made of rows that go.
    pub(super) fn keeps(&mut self, binding: &Binding) {
        self.kept.push(format!(
            "binding `{}` takes nothing away: there is no `delete` in its `events`",
            binding.name.value
        ));
    }

    /// Notes a binding that leaves what another one may have made, which takes nothing away.
    pub(super) fn kept_by(&mut self, binding: &Binding, other: &Binding, things: usize) {
        self.kept.push(format!(
            "binding `{}` leaves {} that binding `{}` may have made: there is no `delete` in the `events` of that one",
            binding.name.value,
            count(things as u64, "thing"),
            other.name.value
        ));
    }

    /// Notes what stays because a change that has not arrived may give it another name.
    pub(super) fn waiting(&mut self, binding: &Binding, names: &[String]) {
        let Some(first) = names.first() else { return };
        self.kept.push(format!(
            "binding `{}` leaves {} to which a change that has not arrived gives another name, `{first}` the first: \
             prune again when it has (`emaj failures list` shows what is set aside)",
            binding.name.value,
            count(names.len() as u64, "thing")
        ));
    }

    /// Notes a row of which no delivery can be made, or that the place would refuse.
    pub(super) fn row(&mut self, binding: &Binding, key: &str, fault: &Fault) {
        self.note(|| {
            format!(
                "row {key} of binding `{}` is left out: {}",
                binding.name.value,
                without_name(binding, fault)
            )
        });
    }

    /// Notes something that has no row any more and was not taken away.
    pub(super) fn thing(&mut self, binding: &Binding, name: &str, fault: &Fault) {
        self.note(|| {
            format!(
                "`{name}` of binding `{}` is not taken away: {}",
                binding.name.value, fault.reason
            )
        });
    }

    /// Notes a binding that takes nothing away, because it is not known what belongs to some of its rows.
    pub(super) fn binding(&mut self, binding: &Binding, unknown: &Unknown) {
        let Unknown { rows, key, fault } = unknown;
        self.note(|| {
            format!(
                "binding `{}` takes nothing away, because it is not known what belongs to {rows} of its rows, {key} the first: {}",
                binding.name.value,
                without_name(binding, fault)
            )
        });
    }

    /// Notes a binding that takes nothing away, because it is not known what belongs to some rows of another one.
    pub(super) fn other(&mut self, binding: &Binding, other: &Binding, unknown: &Unknown) {
        let Unknown { rows, key, fault } = unknown;
        self.note(|| {
            format!(
                "binding `{}` takes nothing away, because it is not known what belongs to {rows} of the rows of binding `{}`, {key} the first: {}",
                binding.name.value,
                other.name.value,
                without_name(other, fault)
            )
        });
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        self.number += 1;
        if self.number <= TOLD {
            self.told.push(text());
        }
    }
}

/// The reason of a template's fault begins with the name of its binding, which is said already.
fn without_name<'a>(binding: &Binding, fault: &'a Fault) -> &'a str {
    let name = format!("binding `{}`: ", binding.name.value);
    fault.reason.strip_prefix(&name).unwrap_or(&fault.reason)
}
