//! The parts of a template: its texts, its code, and the words of that.
//!
//! Whoever has to know what of a template is code asks here: what checks the words and where the values of a query stand, and in `deliver` what
//! looks for columns and for `~`. Pure, and no parser: only the engine knows what the words mean.

use std::ops::Range;

/// A part of a template. Comments are none.
pub(crate) enum Part<'a> {
    /// It stands for itself, as what stands between `raw` and `endraw` does.
    Text(Range<usize>),
    Code(Block<'a>),
}

/// A `{{ … }}` or `{% … %}` of a template.
pub(crate) struct Block<'a> {
    /// Where it stands, with its braces.
    pub at: Range<usize>,
    pub words: Words<'a>,
    is_tag: bool,
}

impl<'a> Block<'a> {
    /// Returns the word that says what a `{% … %}` is, and where it stands.
    pub(crate) fn tag(&self) -> Option<(&'a str, Range<usize>)> {
        match self.words.clone().next() {
            Some(Word::Name(at)) if self.is_tag => Some((&self.words.text[at.clone()], at)),
            _ => None,
        }
    }

    /// Tells whether it is a `{% set name = … %}`, which gives no text. (`{% set name | filter %}` takes what stands behind it.)
    pub(crate) fn is_assignment(&self) -> bool {
        let is_set = self.tag().is_some_and(|(tag, _)| tag == "set");
        let mut names = self.words.clone().written().take_while(|word| *word != "|");
        is_set && names.any(|word| word == "=")
    }
}

/// Returns what of a template is code.
pub(crate) fn blocks(text: &str) -> impl Iterator<Item = Block<'_>> {
    parts(text).into_iter().filter_map(|part| match part {
        Part::Code(block) => Some(block),
        Part::Text(_) => None,
    })
}

/// Cuts a template into its parts.
pub(crate) fn parts(text: &str) -> Vec<Part<'_>> {
    let (mut parts, mut at) = (Vec::new(), 0);
    while let Some((start, open)) = next_block(text, at) {
        parts.push(Part::Text(at..start));
        let close = match open {
            "{{" => "}}",
            "{%" => "%}",
            _ => {
                at = text[start..].find("#}").map_or(text.len(), |end| start + end + 2);
                continue;
            }
        };
        let words = Words::of(text, start + 2, close);
        let mut all = words.clone();
        all.by_ref().for_each(drop);
        at = all.at;
        let block = Block {
            at: start..at,
            words,
            is_tag: open == "{%",
        };
        let is_raw = block.tag().is_some_and(|(tag, _)| tag == "raw");
        parts.push(Part::Code(block));
        if is_raw {
            let end = end_of_raw(text, at);
            parts.push(Part::Text(at..end));
            at = end;
        }
    }
    parts.push(Part::Text(at..text.len()));
    parts
}

fn next_block(text: &str, from: usize) -> Option<(usize, &'static str)> {
    ["{{", "{%", "{#"]
        .into_iter()
        .filter_map(|open| text[from..].find(open).map(|found| (from + found, open)))
        .min()
}

/// Returns where the `{% endraw %}` stands.
fn end_of_raw(text: &str, from: usize) -> usize {
    let mut tags = text[from..].match_indices("{%");
    let end = tags.find(|(at, open)| {
        let tag = &text[from + at + open.len()..];
        let tag = tag.strip_prefix(['-', '+']).unwrap_or(tag);
        tag.trim_start().starts_with("endraw")
    });
    end.map_or(text.len(), |(at, _)| from + at)
}

/// A word of a block.
pub(crate) enum Word {
    Name(Range<usize>),
    /// A sign, the first of a number, or the quote of a text; and where all of that stands.
    Sign(char, Range<usize>),
}

/// The words of a block, without the signs for blanks around it (`{{-`, `-}}`).
#[derive(Clone)]
pub(crate) struct Words<'a> {
    text: &'a str,
    at: usize,
    /// Ends the block; empty: the text's end does.
    close: &'static str,
    /// How many brackets are open: what would end the block does not in there.
    depth: usize,
}

impl<'a> Words<'a> {
    /// Returns the words of an expression that stands without braces.
    pub(crate) fn of_expression(text: &'a str) -> Self {
        Words::of(text, 0, "")
    }

    fn of(text: &'a str, at: usize, close: &'static str) -> Self {
        let is_sign = !close.is_empty() && text[at..].starts_with(['-', '+']);
        Words {
            text,
            at: at + usize::from(is_sign),
            close,
            depth: 0,
        }
    }

    /// Returns the text that the places of words are places of.
    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    /// Returns the words as they are written.
    pub(crate) fn written(self) -> impl Iterator<Item = &'a str> {
        let text = self.text;
        self.map(move |word| match word {
            Word::Name(at) | Word::Sign(_, at) => &text[at],
        })
    }

    /// The length of what ends the block, if it does here.
    fn closes(&self, rest: &str) -> Option<usize> {
        let end = rest.strip_prefix(['-', '+']).unwrap_or(rest);
        let is_end = !self.close.is_empty() && self.depth == 0 && end.starts_with(self.close);
        is_end.then(|| rest.len() - end.len() + self.close.len())
    }
}

impl Iterator for Words<'_> {
    type Item = Word;

    fn next(&mut self) -> Option<Word> {
        loop {
            let rest = &self.text[self.at..];
            let first = rest.chars().next()?;
            if let Some(length) = self.closes(rest) {
                self.at += length;
                // Nothing follows, however often it is asked.
                self.text = &self.text[..self.at];
                self.close = "";
                return None;
            }
            let is_name = |c: char| c.is_alphanumeric() || c == '_';
            let length = match first {
                '"' | '\'' => text_length(rest, first),
                c if is_name(c) => rest.find(|c| !is_name(c)).unwrap_or(rest.len()),
                c => c.len_utf8(),
            };
            let found = self.at..self.at + length;
            self.at = found.end;
            match first {
                '(' | '[' | '{' => self.depth += 1,
                ')' | ']' | '}' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            match first {
                c if c.is_whitespace() => {}
                c if is_name(c) && !c.is_ascii_digit() => return Some(Word::Name(found)),
                c => return Some(Word::Sign(c, found)),
            }
        }
    }
}

/// The length of a text in quotes, with them.
fn text_length(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::{Part, parts};

    #[test]
    fn a_template_is_cut_into_texts_and_code() {
        for (template, cut) in [
            ("a {{ row.a }} b", &["a ", "<row . a>", " b"][..]),
            ("{{- f({'a': {'b': '}}'}}) -}}", &["<f ( { 'a' : { 'b' : '}}' } } )>"]),
            ("{# {{ a }} #}x{% if a %}y", &["x", "<if a>", "y"]),
            (
                "{%- raw -%}{{ endraw }} {% {%- endraw %}.",
                &["<raw>", "{{ endraw }} {% ", "<endraw>", "."],
            ),
        ] {
            let found: Vec<String> = parts(template)
                .into_iter()
                .map(|part| match part {
                    Part::Text(at) => template[at].to_owned(),
                    Part::Code(block) => format!("<{}>", block.words.written().collect::<Vec<_>>().join(" ")),
                })
                .filter(|part| !part.is_empty())
                .collect();
            assert_eq!(found, cut, "{template}");
        }
    }
}
