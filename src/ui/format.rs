//! The formats that data can be printed in, and the options of the command line that choose among them.

use std::fmt;

use clap::{Args, ValueEnum};

use super::Output;
use crate::errors::{Error, Kind, Result};
use crate::names::listed;

/// How data is printed on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// Columns for people
    #[default]
    Table,
    /// JSON, one document
    Json,
    /// SQL statements
    Sql,
    /// A table for a review or a chat
    Markdown,
    /// Comma separated values, with a heading
    Csv,
}

/// The word of the command line.
impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

impl Format {
    /// Refuses a format that a command does not have; the message names those that it has.
    pub fn one_of(self, supported: &[Format]) -> Result<()> {
        if supported.contains(&self) {
            return Ok(());
        }
        Err(
            Error::message(Kind::Usage, format!("this command has no output format `{self}`"))
                .hint(format!("its formats are {}", listed(supported))),
        )
    }
}

/// When colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Color {
    pub(super) fn choice(self) -> anstream::ColorChoice {
        match self {
            Color::Auto => anstream::ColorChoice::Auto,
            Color::Always => anstream::ColorChoice::Always,
            Color::Never => anstream::ColorChoice::Never,
        }
    }
}

/// The options that every command has for what it prints.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Print data in this format
    #[arg(
        short = 'o',
        long = "output",
        value_enum,
        value_name = "FORMAT",
        default_value_t,
        global = true
    )]
    pub format: Format,

    /// Say nothing but data, warnings and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,

    /// Use colours
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Color::Auto, global = true)]
    pub color: Color,
}

impl OutputArgs {
    /// Returns the output that was asked for; it looks at the terminal and at `COLUMNS`.
    pub fn output(&self) -> Output {
        Output::new(self.format, self.quiet, self.color)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_that_a_command_lacks_is_a_usage_error_with_those_it_has() {
        let error = Format::Sql.one_of(&[Format::Table, Format::Json]).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        insta::assert_snapshot!(error, @"this command has no output format `sql`");
        insta::assert_snapshot!(error.hints().join("\n"), @"its formats are `table`, `json`");
        assert!(Format::Json.one_of(&[Format::Table, Format::Json]).is_ok());
    }
}
