//! `a ~ b` in templates and expressions: the engine makes the text `None` of a null on either side, and cannot be told otherwise. So it gets another
//! spelling of the same: `[a, b] | emaj_joined`, a filter that makes a null of it ([`super::nulls`]).
//!
//! Pure, and no parser: it goes from word to word and knows what binds less than `~`. Lines stay lines, so places in errors stay what they are.

use std::ops::Range;

use super::nulls::JOINED;
use crate::manifest::{Word, blocks};

/// Returns the template with each `~` in the other spelling.
pub(super) fn joined(template: &str) -> String {
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    for block in blocks(template) {
        let tag = block.tag().map(|(_, at)| at);
        let mut levels = vec![Level::default()];
        let mut before = Before::Nothing;
        for word in block.words {
            let (place, means) = match word {
                Word::Name(at) if tag.as_ref() == Some(&at) => (at, Means::Less),
                Word::Name(at) => {
                    let means = before.name(&template[at.clone()]);
                    (at, means)
                }
                Word::Sign(sign, at) => (at, before.sign(sign)),
            };
            let Some(level) = levels.last_mut() else { break };
            match means {
                Means::Joins => level.joins.push(place.clone()),
                Means::Less => std::mem::take(level).end(&mut edits),
                Means::Part | Means::Opens | Means::Closes => {}
            }
            match means {
                Means::Opens => {
                    level.reach(&place);
                    levels.push(Level::default());
                }
                Means::Closes => {
                    levels.pop().unwrap_or_default().end(&mut edits);
                    if let Some(level) = levels.last_mut() {
                        level.reach(&place);
                    }
                }
                Means::Part => level.reach(&place),
                Means::Joins | Means::Less => {}
            }
            before = before.next(&template[place], means);
        }
        levels.into_iter().for_each(|level| level.end(&mut edits));
    }
    edits.sort_by_key(|(at, _)| at.start);
    let (mut out, mut from) = (String::with_capacity(template.len()), 0);
    for (at, text) in edits {
        out.push_str(&template[from..at.start]);
        out.push_str(&text);
        from = at.end;
    }
    out.push_str(&template[from..]);
    out
}

/// What stands between two brackets, or between two words there that bind less than `~`.
#[derive(Default)]
struct Level {
    /// From its first word to its last.
    reaches: Option<Range<usize>>,
    joins: Vec<Range<usize>>,
}

impl Level {
    fn reach(&mut self, place: &Range<usize>) {
        let from = self.reaches.as_ref().map_or(place.start, |reaches| reaches.start);
        self.reaches = Some(from..place.end);
    }

    fn end(self, edits: &mut Vec<(Range<usize>, String)>) {
        let Some(reaches) = self.reaches.filter(|_| !self.joins.is_empty()) else {
            return;
        };
        edits.push((reaches.start..reaches.start, "[".to_owned()));
        edits.extend(self.joins.into_iter().map(|join| (join, ",".to_owned())));
        edits.push((reaches.end..reaches.end, format!("] | {JOINED}")));
    }
}

/// What a word is to `~`.
#[derive(Clone, Copy, PartialEq)]
enum Means {
    /// A part of what is joined.
    Part,
    Opens,
    Closes,
    Joins,
    /// It binds less, so what is joined ends there.
    Less,
}

/// What stood before a word.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    /// Nothing that a sign could count from: `-` is the sign of a number.
    Nothing,
    /// Something that has a value.
    Value,
    /// `.` or `|`: a name follows, whatever it is called.
    Dot,
    /// `is`, or `is not`: a test follows.
    Is,
}

impl Before {
    fn name(self, name: &str) -> Means {
        let is_word = matches!(name, "and" | "or" | "not" | "in" | "if" | "else" | "recursive");
        match self {
            Before::Nothing | Before::Value if is_word => Means::Less,
            _ => Means::Part,
        }
    }

    fn sign(self, sign: char) -> Means {
        match sign {
            '(' | '[' | '{' => Means::Opens,
            ')' | ']' | '}' => Means::Closes,
            '~' => Means::Joins,
            '+' | '-' if self == Before::Value => Means::Less,
            '=' | '!' | '<' | '>' | ',' | ':' => Means::Less,
            _ => Means::Part,
        }
    }

    /// What stands before the word behind this one.
    fn next(self, word: &str, means: Means) -> Before {
        let is_name = word.starts_with(|c: char| c.is_alphabetic() || c == '_');
        let is_number = word.starts_with(|c: char| c.is_ascii_digit());
        match (self, means) {
            (_, Means::Closes) => Before::Value,
            // (What a test is held against may have a sign.)
            (Before::Is, Means::Part) if word == "not" => Before::Is,
            (Before::Is, Means::Part) => Before::Nothing,
            (Before::Nothing | Before::Value, Means::Part) if word == "is" => Before::Is,
            // (Half of a number, `1e-5`.)
            (_, Means::Part) if is_number && word.ends_with(['e', 'E']) && !word.starts_with("0x") => Before::Nothing,
            (_, Means::Part) if is_number || is_name || word.starts_with(['"', '\'']) => Before::Value,
            (_, Means::Part) if [".", "|"].contains(&word) => Before::Dot,
            _ => Before::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use minijinja::{Environment, context};

    use super::joined;

    #[test]
    fn it_gets_the_other_spelling_and_nothing_else_does() {
        for (template, other) in [
            ("~ {{ row.a ~ row.b }} ~", "~ {{ [row.a , row.b] | emaj_joined }} ~"),
            ("{{- row['~'] ~ \"~\" -}}", "{{- [row['~'] , \"~\"] | emaj_joined -}}"),
            (
                "{# a ~ b #}{% raw %}{{ a ~ b }}{% endraw %}{{ a }}",
                "{# a ~ b #}{% raw %}{{ a ~ b }}{% endraw %}{{ a }}",
            ),
            ("{%- if not a ~ b == c -%}", "{%- if not [a , b] | emaj_joined == c -%}"),
            (
                "{{ f(a ~ b, k=c ~ d)[e ~ 1] ~ g }}",
                "{{ [f([a , b] | emaj_joined, k=[c , d] | emaj_joined)[[e , 1] | emaj_joined] , g] | emaj_joined }}",
            ),
        ] {
            assert_eq!(joined(template), other);
        }
    }

    /// Without nulls the engine's own spelling and ours make the same.
    #[test]
    fn it_binds_as_the_engines_own_does() {
        let engine = {
            let mut engine = Environment::new();
            crate::deliver::nulls::keep(&mut engine);
            engine
        };
        for code in [
            "a ~ b",
            "a ~ b ~ n",
            "a ~ n * 2 ~ b",
            "n - 2 ~ a | length",
            "-n ~ a",
            "a ~ -n",
            "a ~ -n ~ +n if 0 else a ~ b",
            "a ~ 1e-5 ~ 0x1e",
            "2 ** 3 ~ a",
            "a ~ n // 2 % 2",
            "not a ~ b",
            "a ~ b == 'ab' and b ~ a != 'x'",
            "a ~ b in ['ab'] or a",
            "a ~ b not in [a ~ b]",
            "(a ~ b) ~ c.if ~ c['in']",
            "a ~ b | upper ~ b",
            "(a ~ b) | upper | replace('A' ~ 'B', n ~ n)",
            "a ~ x is none ~ b",
            "a ~ n is eq -7 ~ b",
            "a ~ n is not divisibleby 2 ~ b",
            "a ~ 'a' is in ['a'] ~ b",
            "[a ~ b, a, {'k' ~ a: b ~ 'v', 'l': {'m': a ~ b}}]",
            "l[0 ~ '' | int:n ~ 1 | int] ~ l[1]",
            "a ~ 'b' 'c' ~ \"d~\"",
            "dict(k=a ~ b).k",
            "a ~ (b, n)",
            "a ~ range(2)[1]",
            "a if b ~ a == 'ba' else b",
            "true ~ a",
        ] {
            for template in [
                format!("{{{{ {code} }}}}"),
                format!("{{%- if {code} -%}}y{{%- else -%}}n{{%- endif -%}}"),
                format!("{{% set v = {code} %}}{{{{- v -}}}}"),
                format!("{{% for v in [{code}] if a ~ b %}}{{{{ v ~ a }}}}{{% endfor %}}"),
            ] {
                let made = |source: &str| {
                    engine.render_str(source, context! {
                        a => "a", b => "b", n => 7, x => (), l => ["p", "q", "r"], c => context! { if => "i", in => "j" },
                    })
                };
                let ours = joined(&template);
                let (theirs, ours) = (made(&template).map_err(|e| e.kind()), made(&ours).map_err(|e| e.kind()));
                assert!(ours.is_ok() || ours == theirs, "{template}: {ours:?}");
                assert_eq!(ours, theirs, "{template}");
            }
        }
    }
}
