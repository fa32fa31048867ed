//! Texts as the story shows them: an answer in columns; what a program said, set off by a line at its left; long lines folded.

use postgres::SimpleQueryMessage;

use crate::words::count;

/// What stands at the left of what a program said.
const EDGE: &str = "  │ ";

/// Returns an answer in columns; of a statement without one, the number of its rows.
pub(super) fn table(answers: &[SimpleQueryMessage]) -> String {
    let mut lines: Vec<Vec<String>> = Vec::new();
    let mut rows = 0;
    for answer in answers {
        match answer {
            SimpleQueryMessage::RowDescription(columns) => {
                lines.push(columns.iter().map(|column| column.name().to_owned()).collect());
            }
            SimpleQueryMessage::Row(row) => {
                let cells = (0..row.len()).map(|at| row.get(at).unwrap_or_default().to_owned());
                lines.push(cells.collect());
            }
            SimpleQueryMessage::CommandComplete(number) => rows = *number,
            _ => {}
        }
    }
    let Some(heading) = lines.first() else {
        return count(rows, "row");
    };
    let widths: Vec<usize> = (0..heading.len())
        .map(|at| {
            lines
                .iter()
                .map(|line| line[at].chars().count())
                .max()
                .unwrap_or_default()
        })
        .collect();
    let line = |cells: &Vec<String>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

pub(super) fn indented(text: &str) -> String {
    text.lines().map(|line| format!("{EDGE}{line}\n")).collect()
}

/// Folds lines that are longer than `width`, between words; what was set off stays set off.
pub(super) fn folded(text: &str, width: usize) -> String {
    text.split_inclusive('\n')
        .map(|line| folded_line(line, width))
        .collect()
}

fn folded_line(line: &str, width: usize) -> String {
    let edge = if line.starts_with(EDGE) { EDGE } else { "" };
    // (What is told begins at the margin, and goes on there.)
    let lead = match line.starts_with(' ') {
        true => format!("{}    ", if edge.is_empty() { "  " } else { edge }),
        false => String::new(),
    };
    let (mut folded, mut rest) = (String::new(), line.to_owned());
    while rest.trim_end().chars().count() > width {
        let end = rest.char_indices().nth(width + 1).map_or(rest.len(), |(at, _)| at);
        let start = rest.len() - rest[edge.len()..].trim_start().len();
        // A word that is longer than a line stays whole.
        let Some(at) = rest[..end]
            .rfind(' ')
            .filter(|at| *at > start)
            .or_else(|| rest[start..].find(' ').map(|at| start + at))
        else {
            break;
        };
        folded.push_str(rest[..at].trim_end());
        folded.push('\n');
        rest = format!("{lead}{}", rest[at..].trim_start());
    }
    folded + &rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_folded_between_words_behind_their_edge() {
        let text = "short\n  │ one two   three four\none two three four five\n  $ one two three\n";
        insta::assert_snapshot!(folded(text, 14), @r"
        short
          │ one two
          │     three
          │     four
        one two three
        four five
          $ one two
              three
        ");
    }

    #[test]
    fn words_longer_than_a_line_and_lines_without_words_stay() {
        for text in ["  │ abcdefghijklmnop\n", "                    \n", "", "äöüäöüäöü\n"] {
            assert_eq!(folded(text, 10), text);
        }
        assert_eq!(
            folded("  │ abcdefghijklmnop end\n", 10),
            "  │ abcdefghijklmnop\n  │     end\n"
        );
    }
}
