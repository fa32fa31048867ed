//! The two steps by which a table is captured for the first time, or anew: its log, which leaves the application alone, and its triggers.

use super::LOST_BEFORE;
use super::capture::{Capture, serde_value};
use super::triggers::own_triggers;
use minijinja::context;

use crate::install::plan::{Action, Lock, Phase, Plan, Step};
use crate::install::room;
use crate::install::wanted::WantedTable;
use crate::render::{RenderError, Renderer};
use crate::words::count;

/// Plans both.
pub(super) fn create(
    plan: &mut Plan,
    capture: &Capture<'_>,
    wanted: &WantedTable<'_>,
    because: &str,
    lost_marks: i64,
    renderer: &Renderer,
) -> Result<(), RenderError> {
    let values = || serde_value(capture);
    let mut sql = renderer.render_value("log/table", values())?;
    sql.push('\n');
    sql.push_str(&renderer.render_value("log/function", values())?);
    if capture.guard.is_some() {
        sql.push('\n');
        sql.push_str(&renderer.render_value("log/guard", values())?);
    }
    plan.names.insert(capture.log.clone());
    plan.names.extend(capture.guard.clone());
    plan.made.logs.insert(capture.log.clone());
    plan.made.functions.insert(capture.log.clone());
    plan.made.guards.extend(capture.guard.clone());
    plan.push(
        Step::new(
            Phase::Logs,
            Action::Create,
            format!("log of {}", wanted.name),
            because,
            sql,
        )
        .locking(Lock::AccessShare, capture.oid)
        .effect(if capture.guard.is_some() {
            "captured columns cannot be dropped"
        } else {
            "no guard: captured columns can be dropped, at the price of the marks before"
        }),
    );
    // A partition that was detached still has the trigger that its former parent gave it.
    let strays = own_triggers(wanted, None, renderer.triggers());
    let mut sql = String::new();
    let mut lock = Lock::ShareRowExclusive;
    if !strays.is_empty() {
        lock = Lock::AccessExclusive;
        sql = renderer.render("log/untrigger", context! { drop_triggers => strays })?;
        sql.push('\n');
    }
    // First the entry in the registry: what the triggers are like is noted there.
    sql.push_str(&renderer.render_value("log/register", values())?);
    sql.push('\n');
    sql.push_str(&renderer.render_value("log/triggers", values())?);
    let mut step = Step::new(
        Phase::Capture,
        Action::Create,
        format!("capture of {}", wanted.name),
        format!("by {}: {}", capture.mode, wanted.because),
        sql,
    )
    .locking(lock, capture.oid)
    .taking(room::to_install(1 + wanted.table.partitions.len()))
    .effect(format!(
        "writers wait; no row is read ({})",
        match wanted.table.rows {
            Some(rows) => format!("about {}", count(rows as u64, "row")),
            None => "how many there are is not known: never analyzed".to_owned(),
        }
    ));
    step.and_marks(lost_marks, LOST_BEFORE);
    plan.push(step);
    Ok(())
}
