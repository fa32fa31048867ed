//! `emaj man`: the manual pages.

use std::path::PathBuf;
use std::process::ExitCode;

use super::Context;
use crate::errors::{Error, Result};
use crate::ui::Format;
use crate::words::count;

/// Prints the manual page, or writes all of them
///
/// With `--dir`, one page for `emaj` and one for every verb, also for those of two words (`emaj-mark-set.1`).
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write all pages (`emaj.1`, `emaj-install.1`, …) into this folder; it is made when it is not there
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// `program` is the whole command line, as `cli` declares it.
pub fn run(args: Args, program: clap::Command, context: &Context) -> Result<ExitCode> {
    context.output.accept(&[Format::Table])?;
    let Some(dir) = args.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(program).render(&mut page)?;
        context.output.text(&String::from_utf8_lossy(&page))?;
        return Ok(ExitCode::SUCCESS);
    };
    let pages = pages(&program);
    std::fs::create_dir_all(&dir)
        .and_then(|()| clap_mangen::generate_to(program, &dir))
        .map_err(|error| Error::from(error).context(format!("failed to write manual pages into {}", dir.display())))?;
    context
        .output
        .say(format!("{} written into {}", count(pages, "page"), dir.display()));
    Ok(ExitCode::SUCCESS)
}

/// Returns how many pages a command makes: its own, and those of its verbs.
fn pages(command: &clap::Command) -> usize {
    1 + command.get_subcommands().map(pages).sum::<usize>()
}
