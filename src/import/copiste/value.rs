//! What each name of the program stands for, as far as literals and calls go. What goes further is unknown, with the reason.

use std::collections::HashMap;

use super::Note;
use super::lex::{Line, Placed, Token};
use super::parse::{Expression, What, expression};

/// What an expression stands for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Number(String),
    Bool(bool),
    None,
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    /// A variable of the environment.
    Env(String),
    Object(Object),
    Unknown {
        line: usize,
        why: String,
    },
}

/// An object that a class makes, told by its arguments.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Object {
    pub line: usize,
    /// The last part of the class's name.
    pub class: String,
    pub positional: Vec<Value>,
    pub named: Vec<(String, Value)>,
}

impl Object {
    /// Returns an argument by its name, or by its place in `order`.
    pub(super) fn argument(&self, order: &[&str], name: &str) -> Option<&Value> {
        let named = self
            .named
            .iter()
            .find(|(given, _)| given == name)
            .map(|(_, value)| value);
        named.or_else(|| self.positional.get(order.iter().position(|place| *place == name)?))
    }
}

/// The names of a program.
#[derive(Debug, Default)]
pub(super) struct Names {
    values: HashMap<String, Value>,
    /// Where each got its value.
    lines: HashMap<String, usize>,
    /// What an import calls otherwise.
    aliases: HashMap<String, String>,
}

impl Names {
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// Returns the line in which a name got its value last; the first one, where it has none.
    pub(super) fn line(&self, name: &str) -> usize {
        self.lines.get(name).copied().unwrap_or(1)
    }
}

/// Lines that begin with these go further than declarations, and take what is indented below with them.
const BLOCKS: [&str; 13] = [
    "def", "class", "if", "elif", "else", "for", "while", "try", "except", "finally", "with", "async", "@",
];

/// Follows a program from line to line; what cannot be followed is noted.
pub(super) fn run(lines: &[Line], notes: &mut Vec<Note>) -> Names {
    let mut names = Names::default();
    let mut block: Option<usize> = None;
    for line in lines {
        if block.is_some_and(|indent| line.indent > indent) {
            continue;
        }
        block = None;
        let first = match &line.tokens[0].token {
            Token::Name(word) => word.as_str(),
            Token::Sign("@") => "@",
            _ => "",
        };
        let at = line.tokens[0].line;
        if BLOCKS.contains(&first) && !is_assignment(&line.tokens) {
            block = Some(line.indent);
            let is_main = first == "if"
                && line
                    .tokens
                    .iter()
                    .any(|placed| placed.token == Token::Name("__name__".into()));
            // `else` and its like belong to what was noted already.
            if !is_main && !["elif", "else", "except", "finally"].contains(&first) {
                notes.push(missing(at, format!("`{first} …`: only declarations can be read")));
            }
            continue;
        }
        for statement in line.tokens.split(|placed| placed.token == Token::Sign(";")) {
            if let Some(first) = statement.first()
                && let Err(why) = names.statement(statement)
            {
                notes.push(missing(first.line, why));
            }
        }
    }
    names
}

fn missing(line: usize, text: String) -> Note {
    Note {
        line,
        text,
        is_missing: true,
    }
}

fn is_assignment(tokens: &[Placed]) -> bool {
    matches!(
        tokens.get(1).map(|placed| &placed.token),
        Some(Token::Sign("=" | "." | "["))
    )
}

impl Names {
    fn statement(&mut self, tokens: &[Placed]) -> Result<(), String> {
        match &tokens[0].token {
            Token::Name(word) if word == "import" || word == "from" => {
                self.import(tokens);
                return Ok(());
            }
            Token::Name(word) if word == "pass" || word == "print" => return Ok(()),
            Token::Text(_) if tokens.len() == 1 => return Ok(()),
            _ => {}
        }
        let mut depth = 0;
        let mut parts: Vec<&[Placed]> = Vec::new();
        let (mut from, mut adds) = (0, false);
        for (at, placed) in tokens.iter().enumerate() {
            match placed.token {
                Token::Sign("(" | "[" | "{") => depth += 1,
                Token::Sign(")" | "]" | "}") => depth -= 1,
                Token::Sign(sign @ ("=" | "+=")) if depth == 0 => {
                    parts.push(&tokens[from..at]);
                    adds |= sign == "+=";
                    from = at + 1;
                }
                _ => {}
            }
        }
        let value = expression(&tokens[from..]);
        if parts.is_empty() {
            return self.call(&value?);
        }
        let line = tokens[0].line;
        let (value, wrong) = match value {
            Ok(value) => (self.value(&value), None),
            Err(why) => (Value::Unknown { line, why: why.clone() }, Some(why)),
        };
        for target in parts {
            let target = expression(target)?;
            let value = match (adds, self.place(&target)) {
                (true, Some(before)) => sum(before.clone(), value.clone(), line),
                _ => value.clone(),
            };
            self.assign(&target, value)?;
        }
        wrong.map_or(Ok(()), Err)
    }

    /// `from a.b import c as d, e`.
    fn import(&mut self, tokens: &[Placed]) {
        let name = |at: usize| match tokens.get(at).map(|placed| &placed.token) {
            Some(Token::Name(name)) => Some(name),
            _ => None,
        };
        for at in 1..tokens.len() {
            if name(at).is_some_and(|word| word == "as")
                && let (Some(real), Some(alias)) = (name(at - 1), name(at + 1))
            {
                self.aliases.insert(alias.clone(), real.clone());
            }
        }
    }

    fn place(&self, target: &Expression) -> Option<&Value> {
        match &target.what {
            What::Name(name) => self.values.get(name),
            _ => None,
        }
    }

    fn assign(&mut self, target: &Expression, value: Value) -> Result<(), String> {
        match &target.what {
            What::Name(name) if !name.contains('.') => {
                self.values.insert(name.clone(), value);
                self.lines.insert(name.clone(), target.line);
                return Ok(());
            }
            What::Item(of, key) => {
                let key = self.value(key);
                if let What::Name(name) = &of.what
                    && let Some(Value::Dict(entries)) = self.values.get_mut(name)
                {
                    entries.retain(|(known, _)| *known != key);
                    entries.push((key, value));
                    return Ok(());
                }
            }
            _ => {}
        }
        Err("something is changed here that cannot be followed".to_owned())
    }

    /// A call that stands alone: `bindings.append(…)`, `.extend(…)`, `.update(…)`.
    fn call(&mut self, statement: &Expression) -> Result<(), String> {
        let beyond = || Err("this does something: only declarations can be read".to_owned());
        let What::Call {
            function, positional, ..
        } = &statement.what
        else {
            return beyond();
        };
        let (What::Name(path), [argument]) = (&function.what, positional.as_slice()) else {
            return beyond();
        };
        let Some((name, method)) = path.rsplit_once('.') else {
            return beyond();
        };
        let argument = self.value(argument);
        match (self.values.get_mut(name), method, argument) {
            (Some(Value::List(all)), "append", argument) => all.push(argument),
            (Some(Value::List(all)), "extend", Value::List(more)) => all.extend(more),
            (Some(Value::Dict(all)), "update", Value::Dict(more)) => {
                all.retain(|(key, _)| more.iter().all(|(other, _)| other != key));
                all.extend(more);
            }
            _ => return beyond(),
        }
        Ok(())
    }

    fn value(&self, made: &Expression) -> Value {
        let line = made.line;
        match &made.what {
            What::Text(text) => Value::Text(text.clone()),
            What::Number(number) => Value::Number(number.clone()),
            What::List(all) => Value::List(all.iter().map(|one| self.value(one)).collect()),
            What::Dict(all) => {
                let mut entries: Vec<(Value, Value)> = Vec::with_capacity(all.len());
                for (key, value) in all {
                    let key = self.value(key);
                    // The last of two wins, as in Python.
                    entries.retain(|(known, _)| *known != key);
                    entries.push((key, self.value(value)));
                }
                Value::Dict(entries)
            }
            What::Sum(left, right) => sum(self.value(left), self.value(right), line),
            What::Name(name) => self.name(name, line),
            What::Item(of, key) => self.item(of, &self.value(key), line),
            What::Attribute(_, name) => unknown(line, format!("`.{name}` is known only when the program runs")),
            What::Call {
                function,
                positional,
                named,
            } => self.made(function, positional, named, line),
        }
    }

    fn name(&self, name: &str, line: usize) -> Value {
        match (name, self.values.get(name)) {
            ("True", _) => Value::Bool(true),
            ("False", _) => Value::Bool(false),
            ("None", _) => Value::None,
            (_, Some(value)) => value.clone(),
            _ => unknown(line, format!("`{name}` is not defined in this file")),
        }
    }

    fn item(&self, of: &Expression, key: &Value, line: usize) -> Value {
        if let (What::Name(name), Value::Text(variable)) = (&of.what, key)
            && (name == "os.environ" || name == "environ")
        {
            return Value::Env(variable.clone());
        }
        match (self.value(of), key) {
            (Value::Dict(all), key) => all
                .into_iter()
                .find(|(known, _)| known == key)
                .map_or_else(|| unknown(line, "there is no such item".to_owned()), |(_, value)| value),
            (Value::List(mut all), Value::Number(number)) => match number.parse::<usize>() {
                Ok(at) if at < all.len() => all.swap_remove(at),
                _ => unknown(line, "there is no such item".to_owned()),
            },
            (known @ Value::Unknown { .. }, _) => known,
            _ => unknown(line, "an item of this is known only when the program runs".to_owned()),
        }
    }

    fn made(
        &self,
        function: &Expression,
        positional: &[Expression],
        named: &[(String, Expression)],
        line: usize,
    ) -> Value {
        let What::Name(path) = &function.what else {
            let name = match &function.what {
                What::Attribute(_, name) => format!("`.{name}(…)`"),
                _ => "a call of this".to_owned(),
            };
            return unknown(line, format!("{name} is known only when the program runs"));
        };
        let positional: Vec<Value> = positional.iter().map(|one| self.value(one)).collect();
        let named: Vec<(String, Value)> = named
            .iter()
            .map(|(name, one)| (name.clone(), self.value(one)))
            .collect();
        if let ("os.environ.get" | "environ.get" | "os.getenv" | "getenv", Some(Value::Text(variable))) =
            (path.as_str(), positional.first())
        {
            return Value::Env(variable.clone());
        }
        if path == "dict" && positional.is_empty() {
            return Value::Dict(
                named
                    .into_iter()
                    .map(|(key, value)| (Value::Text(key), value))
                    .collect(),
            );
        }
        let (owner, last) = path.rsplit_once('.').unwrap_or(("", path));
        if let Some(value) = self.values.get(owner) {
            return match (value, last) {
                (Value::Object(_), "to_dict") => value.clone(),
                (Value::Dict(_), "copy") => value.clone(),
                _ => unknown(line, format!("`{path}(…)` is known only when the program runs")),
            };
        }
        let class = self.aliases.get(last).map_or(last, String::as_str).to_owned();
        Value::Object(Object {
            line,
            class,
            positional,
            named,
        })
    }
}

fn unknown(line: usize, why: String) -> Value {
    Value::Unknown { line, why }
}

fn sum(left: Value, right: Value, line: usize) -> Value {
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => Value::Text(left + &right),
        (Value::List(mut left), Value::List(right)) => {
            left.extend(right);
            Value::List(left)
        }
        (known @ Value::Unknown { .. }, _) | (_, known @ Value::Unknown { .. }) => known,
        _ => unknown(line, "`+` of these is known only when the program runs".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::lex;
    use super::*;

    fn names(text: &str) -> (Names, Vec<Note>) {
        let mut notes = Vec::new();
        let names = run(&lex::lines(text).unwrap(), &mut notes);
        (names, notes)
    }

    #[test]
    fn declarations_are_followed() {
        let (names, notes) = names(
            "from copiste.sql import WriteTrigger as W\nbase = 'dc=x'\nd = dict(a='ou=y,' + base)\nd['b'] = os.environ['B']\n\
             l = [W('t', name='n')]\nl += [d['a']]\nl.append(None); l.extend([True])\n",
        );
        assert_eq!(notes, []);
        let Some(Value::List(all)) = names.get("l") else {
            panic!()
        };
        let Value::Object(object) = &all[0] else { panic!() };
        assert_eq!((object.class.as_str(), object.line), ("WriteTrigger", 5));
        assert_eq!(
            all[1..],
            [Value::Text("ou=y,dc=x".into()), Value::None, Value::Bool(true)]
        );
        let Some(Value::Dict(d)) = names.get("d") else { panic!() };
        assert_eq!(d[1].1, Value::Env("B".into()));
    }

    #[test]
    fn what_goes_further_is_noted_with_its_line() {
        let (names, notes) = names(
            "def f():\n  x = 1\n\n  y = 2\nclass_ = 1\nz = [a for a in b]\nsend(1)\nif __name__ == 'x':\n  go()\n",
        );
        let lines: Vec<usize> = notes.iter().map(|note| note.line).collect();
        assert_eq!(lines, [1, 6, 7]);
        assert!(names.get("x").is_none());
        assert!(matches!(names.get("z"), Some(Value::Unknown { line: 6, .. })));
        assert_eq!((names.line("class_"), names.line("x")), (5, 1));
    }
}
