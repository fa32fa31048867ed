//! `a ~ b` and `a in b` in templates and expressions: the engine takes a null for the text `None` there, and cannot be told otherwise. So it gets another
//! spelling of the same, with filters that know nulls ([`super::nulls`]): `[a, b] | emaj_joined`, and `a in [b] | emaj_within`.
//!
//! Pure, and no parser: it goes from word to word and knows what binds less than they do. Lines stay lines, so places in errors stay what they are.

use std::ops::Range;

use super::nulls::{JOINED, WITHIN};
use crate::manifest::{Word, blocks};

/// Returns the template with each `~` and `in` in the other spelling.
pub(super) fn respelled(template: &str) -> String {
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    for block in blocks(template) {
        let (tag, mut is_for) = match block.tag() {
            Some((tag, at)) => (Some(at), tag == "for"),
            None => (None, false),
        };
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
            // (The first `in` of a `for` stands between what it names and what it goes through.)
            let means = match means {
                Means::Seeks if levels.len() == 1 && std::mem::take(&mut is_for) => Means::Less,
                means => means,
            };
            let Some(level) = levels.last_mut() else { break };
            match means {
                Means::Joins => level.joins.push(place.clone()),
                Means::Adds => level.end_of_joined(&mut edits),
                Means::Compares | Means::Seeks => {
                    level.end_of_joined(&mut edits);
                    // (One of several comparisons in a row: what it is held against is held against something else as well.)
                    level.sought = None;
                    level.seeks = means == Means::Seeks;
                }
                Means::Less => level.end(&mut edits),
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
                Means::Joins | Means::Adds | Means::Compares | Means::Seeks | Means::Less => {}
            }
            before = before.next(&template[place], means);
        }
        levels.iter_mut().for_each(|level| level.end(&mut edits));
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

/// What stands between two brackets, or between two words there that bind less.
#[derive(Default)]
struct Level {
    /// What `~` may join, from its first word to its last.
    reaches: Option<Range<usize>>,
    joins: Vec<Range<usize>>,
    /// An `in` came by, and what stands behind it.
    seeks: bool,
    sought: Option<Range<usize>>,
}

impl Level {
    fn reach(&mut self, place: &Range<usize>) {
        let longer =
            |so_far: &Option<Range<usize>>| so_far.as_ref().map_or(place.start, |so_far| so_far.start)..place.end;
        self.reaches = Some(longer(&self.reaches));
        if self.seeks {
            self.sought = Some(longer(&self.sought));
        }
    }

    fn end_of_joined(&mut self, edits: &mut Vec<(Range<usize>, String)>) {
        let (reaches, joins) = (self.reaches.take(), std::mem::take(&mut self.joins));
        if let Some(reaches) = reaches.filter(|_| !joins.is_empty()) {
            edits.extend(joins.into_iter().map(|join| (join, ",".to_owned())));
            enclose(reaches, JOINED, edits);
        }
    }

    fn end(&mut self, edits: &mut Vec<(Range<usize>, String)>) {
        self.end_of_joined(edits);
        if let Some(sought) = std::mem::take(self).sought {
            enclose(sought, WITHIN, edits);
        }
    }
}

fn enclose(place: Range<usize>, filter: &str, edits: &mut Vec<(Range<usize>, String)>) {
    edits.push((place.start..place.start, "[".to_owned()));
    edits.push((place.end..place.end, format!("] | {filter}")));
}

/// What a word is to `~` and to `in`.
#[derive(Clone, Copy, PartialEq)]
enum Means {
    /// A part of what is joined.
    Part,
    Opens,
    Closes,
    Joins,
    /// `+` and `-` between two values: it binds less than `~`.
    Adds,
    /// It binds less than these, as `in` does.
    Compares,
    /// `in`.
    Seeks,
    /// It binds less than all of them.
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
        match (self, name) {
            (Before::Dot | Before::Is, _) => Means::Part,
            (_, "in") => Means::Seeks,
            // (`a not in b`)
            (Before::Value, "not") => Means::Compares,
            (_, "and" | "or" | "not" | "if" | "else" | "recursive") => Means::Less,
            _ => Means::Part,
        }
    }

    fn sign(self, sign: char) -> Means {
        match sign {
            '(' | '[' | '{' => Means::Opens,
            ')' | ']' | '}' => Means::Closes,
            '~' => Means::Joins,
            '+' | '-' if self == Before::Value => Means::Adds,
            '=' | '!' | '<' | '>' => Means::Compares,
            ',' | ':' => Means::Less,
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

    use super::respelled;

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
                "{% for a in b if a not in c ~ d + e %}{{ a in b and a is in c }}",
                "{% for a in b if a not in [[c , d] | emaj_joined + e] | emaj_within %}{{ a in [b] | emaj_within and a is in c }}",
            ),
            (
                "{{ a.in in b in c(d in e) }}",
                "{{ a.in in b in [c(d in [e] | emaj_within)] | emaj_within }}",
            ),
            (
                "{{ f(a ~ b, k=c ~ d)[e ~ 1] ~ g }}",
                "{{ [f([a , b] | emaj_joined, k=[c , d] | emaj_joined)[[e , 1] | emaj_joined] , g] | emaj_joined }}",
            ),
        ] {
            assert_eq!(respelled(template), other);
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
            "a in 'xa' and a not in b",
            "not a in b ~ 'a'",
            "'ab' in a + b or a in b",
            "'b' in a + b if n in l else n not in [n]",
            "'q' in l and 'k' in {'k': 1}",
            "-n in [-7] == true",
            "a in 'ab' in ['ab']",
            "a in 'ab' == 'ab'",
            "a is in 'ab' and a is not in b",
            "'n' in (a in 'ab' and 'in')",
            "dict(k=a in b, v=n in l)",
            "l | select('in', 'pq') | join",
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
                let ours = respelled(&template);
                let (theirs, ours) = (made(&template).map_err(|e| e.kind()), made(&ours).map_err(|e| e.kind()));
                assert!(ours.is_ok() || ours == theirs, "{template}: {ours:?}");
                assert_eq!(ours, theirs, "{template}");
            }
        }
    }
}
