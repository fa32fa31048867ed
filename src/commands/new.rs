//! `emaj new`: a manifest to start from.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::args::schema_named;
use super::{Context, new_file};
use crate::errors::{Error, Kind, Result};
use crate::install::{self, draft};
use crate::manifest;
use crate::ui::Format;
use crate::words::count;

/// Writes a manifest to start from
///
/// It is a commented example, or, with `--from-db`, one for the tables that the database has.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to write it; `-` prints it
    #[arg(value_name = "FILE", default_value = "emaj.yaml")]
    file: PathBuf,
    /// Declare what is in the database: one group a schema, and one more for its tables without a primary key
    #[arg(long)]
    from_db: bool,
    /// Only this schema; may be given several times
    #[arg(long, value_name = "SCHEMA", requires = "from_db")]
    schema_name: Vec<String>,
    /// Schema for emaj's own objects, as SQL spells it, with `--from-db`
    #[arg(long, env = "EMAJ_SCHEMA", default_value = "emaj")]
    schema: String,
    /// Overwrite a file that is there
    #[arg(long)]
    force: bool,
}

/// The manifest that knows no database.
const STARTER: &str = include_str!("new.yaml");

pub fn run(args: Args, context: &Context) -> Result<ExitCode> {
    context.output.accept(&[Format::Table])?;
    let printed = args.file == Path::new("-");
    let or_force = |error: Error| match error.kind() {
        Kind::Refused => error.hint("`--force` overwrites it"),
        _ => error,
    };
    if !printed && !args.force {
        new_file::check(&args.file).map_err(or_force)?;
    }
    let text = if args.from_db {
        from_database(&args, context)?
    } else {
        STARTER.to_owned()
    };
    // What is written must be read again: a name that gets out of its quotes would show here.
    let name = if printed { Path::new("emaj.yaml") } else { &args.file };
    manifest::parse(name, &text)?;
    if printed {
        context.output.text(&text)?;
        return Ok(ExitCode::SUCCESS);
    }
    new_file::write(&args.file, &text, args.force).map_err(or_force)?;
    context.output.say(format!("wrote {}", args.file.display()));
    context.output.hint(format!(
        "look it through, then `emaj plan {0}` and `emaj install {0}`",
        args.file.display()
    ));
    Ok(ExitCode::SUCCESS)
}

fn from_database(args: &Args, context: &Context) -> Result<String> {
    let schema = schema_named(&args.schema)?;
    let mut session = context.connect(None)?;
    let (catalog, journal) = install::survey(&mut session, &schema, &[])?;
    let draft = draft::draft(&catalog, journal.as_ref(), &schema, &args.schema_name)?;
    context.output.say(format!(
        "{} in {}, {} left out{}",
        count(draft.tables, "table"),
        count(draft.groups, "group"),
        draft.left_out,
        match draft.free_sequences {
            0 => String::new(),
            free => format!(
                "; {} that no column owns not taken: the file says how",
                count(free, "sequence")
            ),
        }
    ));
    Ok(draft.text)
}
