//! Expressions of Python's declarative part: literals, lists, dicts, names, attributes, calls, and texts put together by `+`.

use super::lex::{Placed, Token};

/// Deeper nesting is no manifest.
const MAX_DEPTH: usize = 64;

/// More terms of one sum, or more names, items and calls behind one another, are none either. (What is made of them is as deep as they are many.)
const MAX_LINKS: usize = 500;

/// An expression and the line it begins in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Expression {
    pub line: usize,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum What {
    Text(String),
    Number(String),
    /// `a`, `a.b.c`.
    Name(String),
    /// Lists and tuples.
    List(Vec<Expression>),
    Dict(Vec<(Expression, Expression)>),
    Call {
        function: Box<Expression>,
        positional: Vec<Expression>,
        named: Vec<(String, Expression)>,
    },
    /// `a['b']`.
    Item(Box<Expression>, Box<Expression>),
    /// `.b` behind what is no name.
    Attribute(Box<Expression>, String),
    Sum(Box<Expression>, Box<Expression>),
}

/// Reads one expression that takes all of `tokens`.
///
/// # Errors
/// What stands there that is no declaration, for people.
pub(super) fn expression(tokens: &[Placed]) -> Result<Expression, String> {
    let mut parser = Parser {
        tokens,
        at: 0,
        depth: 0,
    };
    let made = parser.listed()?;
    match parser.peek() {
        None => Ok(made),
        Some(token) => Err(format!("{} is more than a declaration", shown(token))),
    }
}

fn shown(token: &Token) -> String {
    match token {
        Token::Name(name) => format!("`{name}`"),
        Token::Sign(sign) => format!("`{sign}`"),
        Token::Text(_) => "a text".to_owned(),
        Token::MadeText => "a text with `{…}` (f-string)".to_owned(),
        Token::Number(_) => "a number".to_owned(),
    }
}

fn one_more(links: usize) -> Result<usize, String> {
    if links == MAX_LINKS {
        return Err(format!("it is longer than {MAX_LINKS} terms"));
    }
    Ok(links + 1)
}

struct Parser<'a> {
    tokens: &'a [Placed],
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|placed| &placed.token)
    }

    fn line(&self) -> usize {
        let last = self.tokens.len().saturating_sub(1);
        self.tokens.get(self.at.min(last)).map_or(0, |placed| placed.line)
    }

    fn sign(&mut self, sign: &str) -> bool {
        let is_it = matches!(self.peek(), Some(Token::Sign(found)) if *found == sign);
        self.at += usize::from(is_it);
        is_it
    }

    fn expect(&mut self, sign: &str) -> Result<(), String> {
        if self.sign(sign) {
            return Ok(());
        }
        Err(match self.peek() {
            Some(token) => format!("{} is more than a declaration", shown(token)),
            None => format!("`{sign}` is missing"),
        })
    }

    /// `a`, or `a, b` without brackets, which is a tuple.
    fn listed(&mut self) -> Result<Expression, String> {
        let first = self.sum()?;
        if !matches!(self.peek(), Some(Token::Sign(","))) {
            return Ok(first);
        }
        let (line, mut all) = (first.line, vec![first]);
        while self.sign(",") {
            if self.peek().is_none() {
                break;
            }
            all.push(self.sum()?);
        }
        Ok(Expression {
            line,
            what: What::List(all),
        })
    }

    fn sum(&mut self) -> Result<Expression, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("it is nested deeper than {MAX_DEPTH}"));
        }
        let mut left = self.operand()?;
        let mut terms = 1;
        while self.sign("+") {
            terms = one_more(terms)?;
            let right = self.operand()?;
            left = Expression {
                line: left.line,
                what: What::Sum(Box::new(left), Box::new(right)),
            };
        }
        self.depth -= 1;
        Ok(left)
    }

    fn operand(&mut self) -> Result<Expression, String> {
        let mut made = self.atom()?;
        let mut links = 0;
        loop {
            links = one_more(links)?;
            let line = made.line;
            let what = if self.sign(".") {
                let Some(Token::Name(name)) = self.peek().cloned() else {
                    return Err("a name is missing behind `.`".to_owned());
                };
                self.at += 1;
                match made.what {
                    What::Name(path) => What::Name(format!("{path}.{name}")),
                    what => What::Attribute(Box::new(Expression { line, what }), name),
                }
            } else if self.sign("(") {
                self.call(made)?
            } else if self.sign("[") {
                let item = self.sum()?;
                self.expect("]")?;
                What::Item(Box::new(made), Box::new(item))
            } else {
                return Ok(made);
            };
            made = Expression { line, what };
        }
    }

    fn call(&mut self, function: Expression) -> Result<What, String> {
        let (mut positional, mut named) = (Vec::new(), Vec::new());
        while !self.sign(")") {
            let next = self.tokens.get(self.at + 1).map(|placed| &placed.token);
            match (self.peek().cloned(), next) {
                (Some(Token::Name(name)), Some(Token::Sign("="))) => {
                    self.at += 2;
                    named.push((name, self.sum()?));
                }
                _ => positional.push(self.sum()?),
            }
            if !self.sign(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(What::Call {
            function: Box::new(function),
            positional,
            named,
        })
    }

    fn atom(&mut self) -> Result<Expression, String> {
        let line = self.line();
        let Some(token) = self.peek().cloned() else {
            return Err("a value is missing".to_owned());
        };
        self.at += 1;
        let what = match token {
            Token::Text(mut text) => {
                while let Some(Token::Text(more)) = self.peek() {
                    text += more;
                    self.at += 1;
                }
                What::Text(text)
            }
            Token::Number(number) => What::Number(number),
            Token::Sign("-") => match self.peek().cloned() {
                Some(Token::Number(number)) => {
                    self.at += 1;
                    What::Number(format!("-{number}"))
                }
                _ => return Err("`-` is more than a declaration".to_owned()),
            },
            Token::Name(word) if ["lambda", "not", "await", "yield"].contains(&word.as_str()) => {
                return Err(format!("`{word}` is more than a declaration"));
            }
            Token::Name(name) => What::Name(name),
            Token::Sign("(") => return self.parenthesis(line),
            Token::Sign("[") => What::List(self.items("]")?),
            Token::Sign("{") => self.dict()?,
            other => return Err(format!("{} is more than a declaration", shown(&other))),
        };
        Ok(Expression { line, what })
    }

    /// `(a)` is `a`; `()`, `(a,)` and `(a, b)` are tuples.
    fn parenthesis(&mut self, line: usize) -> Result<Expression, String> {
        if self.sign(")") {
            return Ok(Expression {
                line,
                what: What::List(Vec::new()),
            });
        }
        let first = self.sum()?;
        if self.sign(")") {
            return Ok(first);
        }
        self.expect(",")?;
        let mut all = vec![first];
        all.extend(self.items(")")?);
        Ok(Expression {
            line,
            what: What::List(all),
        })
    }

    fn items(&mut self, end: &str) -> Result<Vec<Expression>, String> {
        let mut all = Vec::new();
        while !self.sign(end) {
            all.push(self.sum()?);
            if !self.sign(",") {
                self.expect(end)?;
                break;
            }
        }
        Ok(all)
    }

    fn dict(&mut self) -> Result<What, String> {
        let mut all = Vec::new();
        while !self.sign("}") {
            let key = self.sum()?;
            self.expect(":")?;
            all.push((key, self.sum()?));
            if !self.sign(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(What::Dict(all))
    }
}

#[cfg(test)]
mod tests {
    use super::super::lex;
    use super::*;

    fn read(text: &str) -> Result<Expression, String> {
        expression(&lex::lines(text).unwrap()[0].tokens)
    }

    #[test]
    fn declarations_are_read() {
        for good in [
            "f(1, 'a' \"b\", x=[1, 2,], y={'a': (1,), 'b': None},)",
            "a.b.c(d)['e'].f",
            "'a' + (\"b\" + c)",
            "()",
            "1, 2,",
            "-1",
        ] {
            assert!(read(good).is_ok(), "{good}: {:?}", read(good));
        }
        let What::Text(text) = read("'a' 'b'").unwrap().what else {
            panic!()
        };
        assert_eq!(text, "ab");
    }

    #[test]
    fn more_than_declarations_is_not() {
        for bad in [
            "x if y else z",
            "lambda: 1",
            "[x for x in y]",
            "a % b",
            "not a",
            "f(*a)",
            "f(**a)",
            "a < b",
            "f'{a}'",
            "a[",
        ] {
            let tokens: Vec<_> = lex::lines(&bad.replace("a[", "a[1] ["))
                .map_or_else(|_| Vec::new(), |mut lines| lines.remove(0).tokens);
            assert!(expression(&tokens).is_err(), "{bad}");
        }
        let deep = format!("{}1{}", "(".repeat(3000), ")".repeat(3000));
        assert!(read(&deep).unwrap_err().contains("nested deeper"));
        for long in [
            format!("1{}", "+1".repeat(20_000)),
            format!("f{}", "[1]".repeat(20_000)),
        ] {
            assert!(read(&long).unwrap_err().contains("longer than"));
        }
    }
}
