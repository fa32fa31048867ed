//! Rows in the formats that every table has: columns, Markdown, CSV; JSON comes from serde.
//!
//! On a terminal a table has a rule below its headings and folds long cells between words; where even the words are too wide for it, each
//! row becomes a block of lines, a cell a line. Elsewhere each row is one line, never folded, so that `grep` and `awk` find what they
//! look for.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, Table, Width, presets};
use serde::Serialize;
use unicode_width::UnicodeWidthStr;

use super::Format;
use crate::errors::{Error, Kind, Result};

/// Where the cells of a column stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Left,
    /// For numbers.
    Right,
}

/// The heading of a column, and where its cells stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub title: String,
    pub align: Align,
}

impl Column {
    /// Returns a column of words.
    pub fn left(title: impl Into<String>) -> Column {
        Column {
            title: title.into(),
            align: Align::Left,
        }
    }

    /// Returns a column of numbers.
    pub fn right(title: impl Into<String>) -> Column {
        Column {
            title: title.into(),
            align: Align::Right,
        }
    }
}

/// Data that a command prints: rows for people, and itself (through serde) for programs.
///
/// `rows` have as many cells as there are `columns`. What JSON shows is the value's own business; it may hold more.
pub trait Tabular: Serialize {
    /// Returns the headings.
    fn columns(&self) -> Vec<Column>;

    /// Returns the rows.
    fn rows(&self) -> Vec<Vec<String>>;

    /// Returns the data as SQL statements, where that means something.
    fn sql(&self) -> Option<String> {
        None
    }
}

/// Things of one kind, a row each; as JSON a list.
#[derive(Serialize)]
#[serde(transparent)]
pub struct List<'a, T, F> {
    things: &'a [T],
    #[serde(skip)]
    columns: Vec<Column>,
    #[serde(skip)]
    row: F,
}

impl<'a, T: Serialize, F: Fn(&T) -> Vec<String>> List<'a, T, F> {
    /// Returns `things` under `columns`; `row` makes as many cells of each.
    pub fn new(things: &'a [T], columns: impl Into<Vec<Column>>, row: F) -> Self {
        List {
            things,
            columns: columns.into(),
            row,
        }
    }
}

impl<T: Serialize, F: Fn(&T) -> Vec<String>> Tabular for List<'_, T, F> {
    fn columns(&self) -> Vec<Column> {
        self.columns.clone()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        self.things.iter().map(&self.row).collect()
    }
}

/// Returns `data` as text that ends with a line end; `width` is that of the terminal, when there is one.
pub(super) fn render(data: &impl Tabular, format: Format, width: Option<u16>) -> Result<String> {
    match format {
        Format::Table => Ok(columns(data, width)),
        Format::Markdown => Ok(markdown(data)),
        Format::Csv => Ok(csv(data)),
        Format::Json => {
            let text = serde_json::to_string_pretty(data)
                .map_err(|error| Error::new(Kind::Failed, error).context("failed to write the output as JSON"))?;
            Ok(text + "\n")
        }
        Format::Sql => data.sql().map(with_line_end).ok_or_else(|| {
            Error::message(Kind::Usage, "this output has no form in SQL")
                .hint("choose another format: `-o table`, `-o json`")
        }),
    }
}

fn with_line_end(text: String) -> String {
    if text.is_empty() || text.ends_with('\n') {
        text
    } else {
        text + "\n"
    }
}

/// The blank between two columns.
const GAP: u16 = 2;

fn columns(data: &impl Tabular, width: Option<u16>) -> String {
    let columns = data.columns();
    let titles = columns
        .iter()
        .map(|column| printable(&column.title))
        .collect::<Vec<_>>();
    let rows = data.rows();
    let rows = rows
        .iter()
        .map(|row| row.iter().map(|cell| printable(cell)).collect::<Vec<_>>())
        .collect::<Vec<_>>();
    // No column may be narrower than its longest word.
    let words = (0..columns.len())
        .map(|at| {
            let cells = rows.iter().filter_map(|row| row.get(at)).chain(&titles[at..=at]);
            cells
                .flat_map(|cell| cell.split(' '))
                .map(UnicodeWidthStr::width)
                .max()
                .unwrap_or(0)
        })
        .collect::<Vec<_>>();
    let least = words.iter().map(|word| word + usize::from(GAP)).sum::<usize>();
    if !rows.is_empty() && width.is_some_and(|width| least > usize::from(width) + usize::from(GAP)) {
        return blocks(&titles, &rows);
    }
    let mut table = Table::new();
    match width {
        Some(width) => {
            table
                .set_content_arrangement(ContentArrangement::Dynamic)
                .set_width(width);
            table.load_style(presets::NOTHING.header_separator(LineStyle::none().fill('─').junction('─')));
        }
        None => {
            table
                .set_content_arrangement(ContentArrangement::Disabled)
                .load_style(presets::NOTHING);
        }
    }
    table.set_header(titles);
    table.add_rows(rows);
    let last = columns.len().saturating_sub(1);
    for (at, column) in columns.iter().enumerate() {
        if let Some(shown) = table.column_mut(at) {
            // Where there is a rule, it leaves one blank between columns by itself.
            let gap = if at == last {
                0
            } else {
                GAP - u16::from(width.is_some())
            };
            let least = u16::try_from(words[at]).unwrap_or(u16::MAX).saturating_add(gap);
            shown.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(least)));
            shown.set_padding((0, gap));
            shown.set_cell_alignment(match column.align {
                Align::Left => CellAlignment::Left,
                Align::Right => CellAlignment::Right,
            });
        }
    }
    table
        .to_string()
        .lines()
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect()
}

/// Returns each row as lines of a heading and a cell, with an empty line between rows.
fn blocks(titles: &[String], rows: &[Vec<String>]) -> String {
    let widest = titles.iter().map(|title| title.width()).max().unwrap_or(0) + usize::from(GAP);
    let line = |(title, cell): (&String, &String)| {
        let blank = " ".repeat(widest - title.width());
        format!("{title}{blank}{cell}").trim_end().to_owned() + "\n"
    };
    let block = |row: &Vec<String>| titles.iter().zip(row).map(line).collect::<String>();
    rows.iter().map(block).collect::<Vec<_>>().join("\n")
}

/// Returns `text` with control characters written out: a value may not break the line, nor speak to the terminal.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default())
        } else {
            shown.push(c)
        }
    }
    shown
}

fn markdown(data: &impl Tabular) -> String {
    let columns = data.columns();
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let cell = |text: &str| printable(text).replace('|', "\\|");
    let titles = line(columns.iter().map(|column| cell(&column.title)).collect());
    let rule = columns
        .iter()
        .map(|column| if column.align == Align::Right { "---:" } else { "---" }.to_owned());
    let rows = data
        .rows()
        .into_iter()
        .map(|row| line(row.iter().map(|text| cell(text)).collect()));
    titles + &line(rule.collect()) + &rows.collect::<String>()
}

/// Returns comma separated values as RFC 4180 has them, with plain line ends.
fn csv(data: &impl Tabular) -> String {
    let cell = |text: &String| {
        let quoted = text.contains(['"', ',', '\n', '\r']);
        if quoted {
            format!("\"{}\"", text.replace('"', "\"\""))
        } else {
            text.clone()
        }
    };
    let line = |cells: Vec<String>| cells.iter().map(cell).collect::<Vec<_>>().join(",") + "\n";
    let titles = data.columns().into_iter().map(|column| column.title).collect();
    line(titles) + &data.rows().into_iter().map(line).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Stat {
        table: &'static str,
        rows: u64,
    }

    #[derive(Serialize)]
    #[serde(transparent)]
    struct Stats(Vec<Stat>);

    impl Tabular for Stats {
        fn columns(&self) -> Vec<Column> {
            vec![Column::left("table"), Column::right("rows")]
        }

        fn rows(&self) -> Vec<Vec<String>> {
            self.0
                .iter()
                .map(|stat| vec![stat.table.to_owned(), stat.rows.to_string()])
                .collect()
        }
    }

    fn some() -> Stats {
        Stats(vec![
            Stat {
                table: "billing.invoice",
                rows: 12,
            },
            Stat {
                table: "public.\"od|d, \"\"one",
                rows: 1_000,
            },
        ])
    }

    fn shown(format: Format, width: Option<u16>) -> String {
        render(&some(), format, width).unwrap()
    }

    #[test]
    fn a_pipe_gets_one_line_a_row_however_long() {
        insta::assert_snapshot!(shown(Format::Table, None), @r#"
        table                rows
        billing.invoice        12
        public."od|d, ""one  1000
        "#);
    }

    #[test]
    fn a_terminal_gets_a_rule() {
        insta::assert_snapshot!(shown(Format::Table, Some(80)), @r#"
        table                rows
        ─────────────────────────
        billing.invoice        12
        public."od|d, ""one  1000
        "#);
    }

    #[test]
    fn a_narrow_terminal_folds_between_words() {
        insta::assert_snapshot!(shown(Format::Table, Some(21)), @r#"
        table            rows
        ─────────────────────
        billing.invoice    12
        public."od|d,    1000
        ""one
        "#);
    }

    #[test]
    fn a_terminal_too_narrow_for_the_words_gets_a_block_a_row() {
        insta::assert_snapshot!(shown(Format::Table, Some(20)), @r#"
        table  billing.invoice
        rows   12

        table  public."od|d, ""one
        rows   1000
        "#);
    }

    #[test]
    fn json_is_what_serde_says() {
        insta::assert_snapshot!(shown(Format::Json, None), @r#"
        [
          {
            "table": "billing.invoice",
            "rows": 12
          },
          {
            "table": "public.\"od|d, \"\"one",
            "rows": 1000
          }
        ]
        "#);
    }

    #[test]
    fn markdown_cells_stay_in_their_column() {
        insta::assert_snapshot!(shown(Format::Markdown, None), @r#"
        | table | rows |
        | --- | ---: |
        | billing.invoice | 12 |
        | public."od\|d, ""one | 1000 |
        "#);
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        insta::assert_snapshot!(shown(Format::Csv, None), @r#"
        table,rows
        billing.invoice,12
        "public.""od|d, """"one",1000
        "#);
    }

    #[test]
    fn no_sql_is_an_error_not_silence() {
        assert_eq!(render(&some(), Format::Sql, None).unwrap_err().kind(), Kind::Usage);
    }

    #[test]
    fn no_rows_leave_the_headings() {
        assert_eq!(render(&Stats(vec![]), Format::Table, None).unwrap(), "table  rows\n");
        assert_eq!(render(&Stats(vec![]), Format::Csv, None).unwrap(), "table,rows\n");
        assert_eq!(render(&Stats(vec![]), Format::Json, None).unwrap(), "[]\n");
    }

    #[test]
    fn a_value_cannot_speak_to_the_terminal() {
        let evil = Stats(vec![Stat {
            table: "a\u{1b}[31m\nb",
            rows: 1,
        }]);
        insta::assert_snapshot!(render(&evil, Format::Table, None).unwrap(), @r"
        table           rows
        a\u{1b}[31m\nb     1
        ");
    }
}
