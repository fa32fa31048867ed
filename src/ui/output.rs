//! What a command prints through: one value, made from the options of the command line, handed down.

use std::io::{self, IsTerminal as _, Write};
use std::sync::OnceLock;

use anstream::{AutoStream, ColorChoice};

use super::confirm;
use super::error::{HINT, WARNING, line};
use super::table::{self, Tabular};
use super::{Color, Format, Progress};
use crate::errors::{Error, Kind, Result};

/// Where and how a command prints.
#[derive(Debug, Clone)]
pub struct Output {
    format: Format,
    quiet: bool,
    color: ColorChoice,
    /// The width of the terminal; none when stdout is no terminal.
    width: Option<u16>,
    /// Whether stdout is a terminal that can be drawn over.
    redraws: bool,
    /// Whether the talk goes to a terminal.
    talks_to_terminal: bool,
    /// Whether somebody can be asked.
    can_ask: bool,
    /// What stands behind `emaj install` in a hint.
    manifests: OnceLock<String>,
}

impl Output {
    /// Makes an output; looks at the terminal and at `COLUMNS`.
    pub fn new(format: Format, quiet: bool, color: Color) -> Output {
        // The error at the end is printed by `main`, which has no output.
        color.choice().write_global();
        let columns = std::env::var("COLUMNS").ok();
        let talks_to_terminal = io::stderr().is_terminal();
        Output {
            format,
            quiet,
            color: color.choice(),
            width: io::stdout()
                .is_terminal()
                .then(|| width(columns.as_deref(), comfy_table::Table::new().width())),
            redraws: io::stdout().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb"),
            talks_to_terminal,
            can_ask: talks_to_terminal && io::stdin().is_terminal(),
            manifests: OnceLock::new(),
        }
    }

    /// Returns the format that was asked for.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Returns whether only data and errors are wanted.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Returns the width of the terminal; none when stdout is no terminal.
    pub fn width(&self) -> Option<u16> {
        self.width
    }

    /// Refuses the format that was asked for, unless it is one of these. Commands call it before they do anything.
    pub fn accept(&self, supported: &[Format]) -> Result<()> {
        self.format.one_of(supported)
    }

    /// Prints data to stdout, in the format that was asked for.
    pub fn data(&self, data: &impl Tabular) -> Result<()> {
        out(&table::render(data, self.format, self.width)?)
    }

    /// Prints data to stdout before the end of the work that it tells of: when the reader has gone away, the program goes on.
    pub fn data_ahead(&self, data: &impl Tabular) -> Result<()> {
        match write(&table::render(data, self.format, self.width)?) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(unwritten(error).hint("nothing was changed"))
            }
            _ => Ok(()),
        }
    }

    /// Prints data to stdout as one line of JSON.
    pub fn line(&self, data: &impl serde::Serialize) -> Result<()> {
        let text = serde_json::to_string(data)
            .map_err(|error| Error::new(Kind::Failed, error).context("failed to write the output as JSON"))?;
        out(&(text + "\n"))
    }

    /// Shows data below a heading: on a terminal in the place of what was shown before, elsewhere after it, with an empty line behind.
    pub fn screen(&self, heading: &str, data: &impl Tabular) -> Result<()> {
        let table = table::render(data, self.format, self.width)?;
        // Home, and what is below is wiped.
        let (before, after) = if self.redraws { ("\x1b[H\x1b[J", "") } else { ("", "\n") };
        out(&format!("{before}{heading}\n{table}{after}"))
    }

    /// Returns how many lines a terminal that can be drawn over has; none elsewhere.
    pub fn height(&self) -> Option<usize> {
        let lines = || rustix::termios::tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_row));
        self.redraws.then(lines).filter(|lines| *lines > 0)
    }

    /// Prints text that is data (rendered SQL, a diff) to stdout; colours in it go where they are not wanted.
    pub fn text(&self, text: &str) -> Result<()> {
        let mut stream = AutoStream::new(io::stdout(), self.color).lock();
        finish(stream.write_all(text.as_bytes()).and_then(|()| stream.flush()))
    }

    /// Says a sentence, on stderr; `--quiet` leaves it out.
    pub fn say(&self, sentence: impl AsRef<str>) {
        if !self.quiet {
            self.talk(&format!("{}\n", sentence.as_ref()));
        }
    }

    /// Warns, on stderr, always.
    pub fn warn(&self, sentence: impl AsRef<str>) {
        self.talk(&line("warning", WARNING, sentence.as_ref()));
    }

    /// Says what could be done next, on stderr; `--quiet` leaves it out.
    pub fn hint(&self, sentence: impl AsRef<str>) {
        if !self.quiet {
            self.talk(&line("hint", HINT, &self.completed(sentence.as_ref())));
        }
    }

    /// Keeps how the manifests that were named follow a verb: what finds a fault far below, or in the database, does not know them.
    pub fn name_manifests(&self, named: String) {
        let _ = self.manifests.set(named);
    }

    /// Names the manifests in the hints of an error.
    pub fn complete(&self, error: Error) -> Error {
        error.with_hints(|hint| self.completed(hint))
    }

    fn completed(&self, hint: &str) -> String {
        let named = self.manifests.get().map_or("", String::as_str);
        ["install", "plan"].iter().fold(hint.to_owned(), |hint, verb| {
            hint.replace(&format!("`emaj {verb}`"), &format!("`emaj {verb}{named}`"))
        })
    }

    /// Asks before something that cannot be taken back; `yes` is the answer that was given on the command line.
    ///
    /// # Errors
    /// [`Kind::Refused`] when the answer is no, or when there is nobody to ask.
    pub fn confirm(&self, question: &str, yes: bool) -> Result<()> {
        match (yes, self.can_ask) {
            (true, _) => Ok(()),
            (false, false) => Err(confirm::nobody_to_ask(question)),
            (false, true) => confirm::ask(question, &mut io::stdin().lock(), &mut io::stderr().lock()),
        }
    }

    /// Begins to show the progress of long work on `total` things, when the total is known.
    pub fn progress(&self, what: &str, total: Option<u64>) -> Progress {
        Progress::begin(what, total, self.quiet, self.talks_to_terminal)
    }

    fn talk(&self, text: &str) {
        // When stderr is gone there is nobody left to tell; the work goes on.
        let _ = AutoStream::new(io::stderr(), self.color)
            .lock()
            .write_all(text.as_bytes());
    }
}

/// Prints text to stdout as it is.
///
/// When the reader went away (`emaj … | head`), the program ends here, quietly and well: everything that reads what
/// is printed has what it wanted. Print when the work is done, or with [`Output::data_ahead`].
pub fn out(text: &str) -> Result<()> {
    finish(write(text))
}

fn write(text: &str) -> io::Result<()> {
    let mut stream = io::stdout().lock();
    stream.write_all(text.as_bytes()).and_then(|()| stream.flush())
}

/// Standard output for data that is too much to be held: written as it comes.
///
/// As with [`out`], the program ends well when the reader has gone away.
#[derive(Debug)]
pub struct Stream(io::BufWriter<io::Stdout>);

impl Stream {
    /// Opens it; what is written is buffered until [`Write::flush`].
    pub fn open() -> Stream {
        Stream(io::BufWriter::with_capacity(1 << 16, io::stdout()))
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).inspect_err(end_without_reader)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().inspect_err(end_without_reader)
    }
}

fn end_without_reader(error: &io::Error) {
    if error.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
}

fn finish(written: io::Result<()>) -> Result<()> {
    match written {
        Ok(()) => Ok(()),
        // Rust ignores SIGPIPE, so it arrives as an error. `println!` would panic.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(unwritten(error)
            .hint("only the report is missing: if the command changed something, that stays changed (`emaj history`)")),
    }
}

fn unwritten(error: io::Error) -> Error {
    Error::new(Kind::Failed, error).context("failed to write to standard output")
}

/// Returns the width to use: what `COLUMNS` says, else the terminal, else 80; never too narrow for anything.
fn width(columns: Option<&str>, terminal: Option<u16>) -> u16 {
    columns
        .and_then(|text| text.trim().parse().ok())
        .filter(|width| *width > 0)
        .or(terminal)
        .unwrap_or(80)
        .max(20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_wins_over_the_terminal_over_80() {
        assert_eq!(width(Some("132"), Some(100)), 132);
        assert_eq!(width(Some("wide"), Some(100)), 100);
        assert_eq!(width(Some("0"), None), 80);
        assert_eq!(width(None, None), 80);
        assert_eq!(width(Some("3"), None), 20);
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let error = finish(Err(io::ErrorKind::StorageFull.into())).unwrap_err();
        assert_eq!(error.kind(), Kind::Failed);
        assert!(
            error.to_string().starts_with("failed to write to standard output: "),
            "{error}"
        );
    }

    #[test]
    fn nobody_to_ask_is_a_refusal_unless_yes_was_said() {
        let output = Output {
            format: Format::Table,
            quiet: true,
            color: ColorChoice::Never,
            width: None,
            redraws: false,
            talks_to_terminal: false,
            can_ask: false,
            manifests: OnceLock::new(),
        };
        assert!(output.confirm("drop everything?", true).is_ok());
        assert_eq!(
            output.confirm("drop everything?", false).unwrap_err().kind(),
            Kind::Refused
        );
    }
}
