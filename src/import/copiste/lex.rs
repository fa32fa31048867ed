//! Python's tokens, in logical lines: what stands in brackets is one line, and so is what a backslash continues.

/// A token.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Name(String),
    Text(String),
    /// A text that is made when the program runs (an f-string).
    MadeText,
    Number(String),
    /// One or two characters: `(`, `=`, `**`.
    Sign(&'static str),
}

/// A token and the line it begins in, counted from 1.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placed {
    pub token: Token,
    pub line: usize,
}

/// A logical line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    pub indent: usize,
    pub tokens: Vec<Placed>,
}

const SIGNS: [&str; 45] = [
    "**=", "//=", "<<=", ">>=", "...", "**", "//", "<<", ">>", "+=", "-=", "*=", "/=", "%=", "|=", "&=", "==", "!=",
    "<=", ">=", "->", ":=", "<>", "(", ")", "[", "]", "{", "}", ",", ":", ".", ";", "=", "+", "-", "*", "/", "%", "<",
    ">", "|", "&", "~", "@",
];

type Wrong = (usize, String);

/// Cuts a text into logical lines.
///
/// # Errors
/// A line and what is wrong in it: a text that does not end, a bracket that is not closed, a character that Python does not know.
pub(super) fn lines(text: &str) -> Result<Vec<Line>, Wrong> {
    let text = text
        .strip_prefix('\u{feff}')
        .unwrap_or(text)
        .replace("\r\n", "\n")
        .replace('\r', "\n");
    let mut lexer = Lexer { rest: &text, line: 1 };
    let mut all = Vec::new();
    let mut now = Line {
        indent: 0,
        tokens: Vec::new(),
    };
    let mut open: Vec<(&'static str, usize)> = Vec::new();
    let mut at_start = true;
    while let Some(c) = lexer.rest.chars().next() {
        if at_start && open.is_empty() {
            let blank = lexer.rest.len() - lexer.rest.trim_start_matches([' ', '\t', '\u{c}']).len();
            now.indent = lexer.rest[..blank].chars().map(|c| if c == '\t' { 8 } else { 1 }).sum();
            lexer.rest = &lexer.rest[blank..];
            at_start = false;
            continue;
        }
        match c {
            '\n' => {
                lexer.rest = &lexer.rest[1..];
                lexer.line += 1;
                if open.is_empty() {
                    if !now.tokens.is_empty() {
                        all.push(std::mem::replace(
                            &mut now,
                            Line {
                                indent: 0,
                                tokens: Vec::new(),
                            },
                        ));
                    }
                    at_start = true;
                }
            }
            ' ' | '\t' | '\u{c}' => lexer.rest = &lexer.rest[1..],
            '#' => lexer.rest = lexer.rest.find('\n').map_or("", |end| &lexer.rest[end..]),
            '\\' if lexer.rest.starts_with("\\\n") => {
                lexer.rest = &lexer.rest[2..];
                lexer.line += 1;
            }
            _ => {
                let line = lexer.line;
                let token = lexer.token(c)?;
                if let Token::Sign(sign) = token {
                    match sign {
                        "(" | "[" | "{" => open.push((sign, line)),
                        ")" | "]" | "}" => match open.pop() {
                            Some(("(", _)) if sign == ")" => {}
                            Some(("[", _)) if sign == "]" => {}
                            Some(("{", _)) if sign == "}" => {}
                            _ => return Err((line, format!("`{sign}` closes nothing"))),
                        },
                        _ => {}
                    }
                }
                now.tokens.push(Placed { token, line });
            }
        }
    }
    if let Some((sign, line)) = open.pop() {
        return Err((line, format!("`{sign}` is never closed")));
    }
    if !now.tokens.is_empty() {
        all.push(now);
    }
    Ok(all)
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
}

impl Lexer<'_> {
    fn take(&mut self, is_part: impl Fn(char) -> bool) -> String {
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken.to_owned()
    }

    fn token(&mut self, c: char) -> Result<Token, Wrong> {
        if c == '"' || c == '\'' {
            return self.text("");
        }
        if c.is_ascii_digit() || c == '.' && self.rest[1..].starts_with(|c: char| c.is_ascii_digit()) {
            return Ok(Token::Number(
                self.take(|c| c.is_ascii_alphanumeric() || c == '.' || c == '_'),
            ));
        }
        if c.is_alphabetic() || c == '_' {
            let word = self.take(|c| c.is_alphanumeric() || c == '_');
            let is_prefix = word.len() <= 2 && word.chars().all(|c| "rRbBuUfF".contains(c));
            if is_prefix && self.rest.starts_with(['"', '\'']) {
                return self.text(&word.to_ascii_lowercase());
            }
            return Ok(Token::Name(word));
        }
        match SIGNS.iter().find(|sign| self.rest.starts_with(**sign)) {
            Some(sign) => {
                self.rest = &self.rest[sign.len()..];
                Ok(Token::Sign(sign))
            }
            None => Err((self.line, format!("`{c}` is no part of Python"))),
        }
    }

    /// A text from its quote on; the prefix has been taken.
    fn text(&mut self, prefix: &str) -> Result<Token, Wrong> {
        let began = self.line;
        let quote = &self.rest[..1];
        let triple = quote.repeat(3);
        let end = if self.rest.starts_with(&triple) {
            triple
        } else {
            quote.to_owned()
        };
        self.rest = &self.rest[end.len()..];
        let is_raw = prefix.contains('r');
        let mut text = String::new();
        loop {
            if self.rest.starts_with(end.as_str()) {
                self.rest = &self.rest[end.len()..];
                break;
            }
            let Some(c) = self.rest.chars().next() else {
                return Err((began, "the text is never closed".to_owned()));
            };
            if c == '\n' {
                if end.len() == 1 {
                    return Err((began, "the text is never closed".to_owned()));
                }
                self.line += 1;
            }
            self.rest = &self.rest[c.len_utf8()..];
            if c != '\\' {
                text.push(c);
            } else if is_raw {
                text.push('\\');
                if let Some(next) = self.rest.chars().next() {
                    self.line += usize::from(next == '\n');
                    text.push(next);
                    self.rest = &self.rest[next.len_utf8()..];
                }
            } else {
                self.escape(&mut text)?;
            }
        }
        if prefix.contains('f') && text.contains('{') {
            return Ok(Token::MadeText);
        }
        Ok(Token::Text(text))
    }

    /// What stands behind a backslash.
    fn escape(&mut self, text: &mut String) -> Result<(), Wrong> {
        let Some(c) = self.rest.chars().next() else {
            return Ok(());
        };
        self.rest = &self.rest[c.len_utf8()..];
        let (digits, radix) = match c {
            '\n' => {
                self.line += 1;
                return Ok(());
            }
            'n' => {
                text.push('\n');
                return Ok(());
            }
            't' => {
                text.push('\t');
                return Ok(());
            }
            'r' => {
                text.push('\r');
                return Ok(());
            }
            '\\' | '\'' | '"' => {
                text.push(c);
                return Ok(());
            }
            'x' => (2, 16),
            'u' => (4, 16),
            'U' => (8, 16),
            '0'..='7' => {
                let more = self.rest.chars().take(2).take_while(|c| c.is_digit(8)).count();
                let octal = format!("{c}{}", &self.rest[..more]);
                self.rest = &self.rest[more..];
                let code = u32::from_str_radix(&octal, 8).unwrap_or(0);
                text.extend(char::from_u32(code));
                return Ok(());
            }
            // Python leaves what it does not know as it is.
            c => {
                text.push('\\');
                text.push(c);
                return Ok(());
            }
        };
        let code = self
            .rest
            .get(..digits)
            .and_then(|hex| u32::from_str_radix(hex, radix).ok());
        match code.and_then(char::from_u32) {
            Some(c) => {
                text.push(c);
                self.rest = &self.rest[digits..];
                Ok(())
            }
            None => Err((self.line, format!("`\\{c}` is not followed by a character's number"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<Vec<Token>> {
        let all = lines(text).unwrap();
        all.into_iter()
            .map(|line| line.tokens.into_iter().map(|placed| placed.token).collect())
            .collect()
    }

    #[test]
    fn brackets_and_backslashes_make_one_line() {
        let all = lines("a = [1,\n  2, # two\n\n 3]\nb = 1 + \\\n 2\n  c\n").unwrap();
        assert_eq!(all.len(), 3);
        assert_eq!(all[0].tokens.last().unwrap().line, 4);
        assert_eq!((all[1].tokens[0].line, all[2].indent), (5, 2));
    }

    #[test]
    fn texts_of_all_sorts() {
        let texts = r#"x = 'it\'s' "a\tb" r'\d' u"é" '''two
lines''' "\x41\u00e9\101" b'c'"#;
        let found: Vec<Token> = words(texts).remove(0).into_iter().skip(2).collect();
        let expected = ["it's", "a\tb", "\\d", "é", "two\nlines", "AéA", "c"];
        assert_eq!(found, expected.map(|text| Token::Text(text.to_owned())));
        assert_eq!(words("f'{x}'")[0], [Token::MadeText]);
    }

    #[test]
    fn what_is_no_python_is_said_with_its_line() {
        assert_eq!(
            lines("a = 1\nb = 'x").unwrap_err(),
            (2, "the text is never closed".to_owned())
        );
        assert_eq!(lines("a = (1,\n").unwrap_err(), (1, "`(` is never closed".to_owned()));
        assert_eq!(lines("a = 1]").unwrap_err(), (1, "`]` closes nothing".to_owned()));
        assert_eq!(lines("a = ?").unwrap_err(), (1, "`?` is no part of Python".to_owned()));
        assert!(lines(r"a = '\xé'").is_err());
    }
}
