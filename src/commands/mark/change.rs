//! `emaj mark rename`, `comment`, `delete`, `protect` and `unprotect`: one function of the database each.

use std::process::ExitCode;

use super::Several;
use crate::commands::act::{Done, act, call, connect, tell};
use crate::commands::{ActArgs, Context};
use crate::errors::Result;
use crate::journal;
use crate::words::{count, quoted};

/// Gives a mark another name
#[derive(Debug, clap::Args)]
pub(super) struct Rename {
    /// The group
    group: String,
    /// The mark
    mark: String,
    /// Its new name; `%` becomes the time
    new_name: String,
    #[command(flatten)]
    act: ActArgs,
}

pub(super) fn rename(args: &Rename, context: &Context) -> Result<ExitCode> {
    let (group, mark) = (&args.group, &args.mark);
    let (mut session, schema) = connect(context, &args.act.installation)?;
    let sql = call(&schema, "emaj_rename_mark_group($1, $2, $3)");
    let doing = format!("rename mark `{mark}` of group `{group}`");
    let (mark, name) = act(&mut session, &args.act.lock, &doing, &mut |transaction| {
        // The new name may hold a `%`: what became of it stands where the mark stood.
        let meant = journal::own_name(transaction, &schema, group, mark)?;
        let before = journal::marks(transaction, &schema, group)?;
        let place = before.iter().position(|mark| mark.mark == meant);
        transaction.execute(&sql, &[group, &meant, &args.new_name])?;
        let after = journal::marks(transaction, &schema, group)?;
        let renamed = place.and_then(|place| after.get(place));
        let name = renamed.map_or_else(|| args.new_name.clone(), |mark| mark.mark.clone());
        Ok((meant, name))
    })?;
    let done = Done {
        group: group.clone(),
        done: "renamed",
        sentence: format!("renamed mark `{mark}` of group `{group}` to `{name}`"),
        mark: Some(name),
        count: None,
    };
    tell(&context.output, &[done])?;
    Ok(ExitCode::SUCCESS)
}

/// Says something about a mark, instead of what was said before
#[derive(Debug, clap::Args)]
pub(super) struct Comment {
    /// The group
    group: String,
    /// The mark
    mark: String,
    /// What there is to say; nothing takes the comment away
    #[arg(default_value = "", hide_default_value = true)]
    text: String,
    #[command(flatten)]
    act: ActArgs,
}

pub(super) fn comment(args: &Comment, context: &Context) -> Result<ExitCode> {
    let (group, mark) = (&args.group, &args.mark);
    let (mut session, schema) = connect(context, &args.act.installation)?;
    let sql = call(&schema, "emaj_comment_mark_group($1, $2, $3)");
    let doing = format!("comment on mark `{mark}` of group `{group}`");
    let mark = act(&mut session, &args.act.lock, &doing, &mut |transaction| {
        let meant = journal::own_name(transaction, &schema, group, mark)?;
        transaction.execute(&sql, &[group, &meant, &args.text])?;
        Ok(meant)
    })?;
    let done = Done {
        group: group.clone(),
        done: "commented",
        sentence: format!("commented on mark `{mark}` of group `{group}`"),
        mark: Some(mark),
        count: None,
    };
    tell(&context.output, &[done])?;
    Ok(ExitCode::SUCCESS)
}

/// Deletes marks; nobody can roll back to them any more
#[derive(Debug, clap::Args)]
pub(super) struct Delete {
    /// The group
    group: String,
    /// Marks; all of them in one transaction
    #[arg(value_name = "MARK", required_unless_present = "before")]
    marks: Vec<String>,
    /// All marks that were set before this one
    #[arg(long, value_name = "MARK", conflicts_with = "marks")]
    before: Option<String>,
    #[command(flatten)]
    act: ActArgs,
}

pub(super) fn delete(args: Delete, context: &Context) -> Result<ExitCode> {
    let Some(mark) = args.before else {
        let several = Several {
            group: args.group,
            marks: args.marks,
            act: args.act,
        };
        return each(&several, "delete", "deleted", context);
    };
    let group = args.group;
    let (mut session, schema) = connect(context, &args.act.installation)?;
    let sql = call(&schema, "emaj_delete_before_mark_group($1, $2)");
    let doing = format!("delete the marks of group `{group}` before `{mark}`");
    let (mark, deleted): (String, i32) = act(&mut session, &args.act.lock, &doing, &mut |transaction| {
        let meant = journal::own_name(transaction, &schema, &group, &mark)?;
        let deleted = transaction.query_one(&sql, &[&group, &meant])?.get(0);
        Ok((meant, deleted))
    })?;
    let done = Done {
        done: "deleted",
        sentence: format!(
            "deleted {} of group `{group}` set before mark `{mark}`",
            count(deleted, "mark")
        ),
        group,
        mark: None,
        count: Some(deleted.into()),
    };
    tell(&context.output, &[done])?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn protect(args: &Several, on: bool, context: &Context) -> Result<ExitCode> {
    if on {
        each(args, "protect", "protected", context)
    } else {
        each(args, "unprotect", "unprotected", context)
    }
}

fn each(args: &Several, verb: &str, done_word: &'static str, context: &Context) -> Result<ExitCode> {
    let group = &args.group;
    let (mut session, schema) = connect(context, &args.act.installation)?;
    let sql = call(&schema, &format!("emaj_{verb}_mark_group($1, $2)"));
    let doing = format!("{verb} {} of group `{group}`", quoted("mark", &args.marks));
    let marks = act(&mut session, &args.act.lock, &doing, &mut |transaction| {
        let mut done = Vec::new();
        for mark in &args.marks {
            let meant = journal::own_name(transaction, &schema, group, mark)?;
            transaction.execute(&sql, &[group, &meant])?;
            done.push(meant);
        }
        Ok(done)
    })?;
    let done: Vec<Done> = marks
        .into_iter()
        .map(|mark| Done {
            group: group.clone(),
            done: done_word,
            sentence: format!("{done_word} mark `{mark}` of group `{group}`"),
            mark: Some(mark),
            count: None,
        })
        .collect();
    tell(&context.output, &done)?;
    Ok(ExitCode::SUCCESS)
}
