//! `emaj new`: a manifest to start from.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::Context;
use super::args::schema_named;
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
    if !printed && !args.force && args.file.exists() {
        return Err(
            Error::message(Kind::Refused, format!("{} is there already", args.file.display()))
                .hint("`--force` overwrites it; another name can be given"),
        );
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
    write(&args.file, &text, args.force)?;
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

fn write(file: &Path, text: &str, force: bool) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .create_new(!force)
        .open(file)
        .and_then(|mut open| open.write_all(text.as_bytes()))
        .map_err(|error| Error::from(error).context(format!("failed to write {}", file.display())))
}
