//! `emaj completions`: what a shell needs to complete the words of the command line.

use std::process::ExitCode;

use clap_complete::Shell;

use super::Context;
use crate::errors::Result;
use crate::ui::Format;

/// Prints the completions for a shell
///
/// Put them where that shell looks, for example `emaj completions bash > ~/.local/share/bash-completion/completions/emaj`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// `program` is the whole command line, as `cli` declares it.
pub fn run(args: Args, mut program: clap::Command, context: &Context) -> Result<ExitCode> {
    context.output.accept(&[Format::Table])?;
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, "emaj", &mut script);
    context.output.text(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
