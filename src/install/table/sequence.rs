//! The step for one sequence of a group: nothing captures it, its state is noted at every mark.

use minijinja::context;

use super::capture::serde_value;
use super::{LOST_BEFORE, Setting, can_go_back, end};
use crate::install::plan::{Action, Phase, Plan, Step};
use crate::journal::Journal;
use crate::names::QualifiedName;
use crate::render::{RenderError, Renderer};

/// Plans one sequence: it only has to be known.
pub(in crate::install) fn plan_sequence(
    plan: &mut Plan,
    setting: &Setting<'_>,
    name: &QualifiedName,
    oid: u32,
    journal: Option<&Journal>,
    renderer: &Renderer,
) -> Result<(), RenderError> {
    let group = &setting.group.name.value;
    let known = journal.and_then(|journal| journal.relations.of(oid));
    match known {
        Some(known) if known.group == *group && known.name == *name => plan.unchanged += 1,
        Some(known) if known.group == *group => {
            let sql = renderer.render(
                "sequence/rename",
                context! { id => known.id, name => serde_value(name) },
            )?;
            plan.push(Step::new(
                Phase::Groups,
                Action::Change,
                format!("sequence {name}"),
                format!("it was {}", known.name),
                sql,
            ));
        }
        _ => {
            let lost = setting.lost_marks();
            if let Some(known) = known {
                let group = journal.and_then(|journal| can_go_back(journal, known));
                end(plan, known, name, "it moves to another group", group, renderer);
            }
            let sql = renderer.render("sequence/register", context! { group, oid, name => serde_value(name) })?;
            let mut step = Step::new(
                Phase::Capture,
                Action::Create,
                format!("sequence {name}"),
                "in the group, and not noted yet",
                sql,
            )
            .effect("its state is noted at every mark");
            step.and_marks(lost, LOST_BEFORE);
            plan.push(step);
        }
    }
    Ok(())
}
