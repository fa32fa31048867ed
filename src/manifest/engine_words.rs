//! Filters, tests and block tags of a template or an expression: whether the engine knows them.
//!
//! The engine itself asks for a filter only when a row comes by that needs it, so that a misspelt one would be found by a sink, at
//! night. Called by `kinds` for every template and expression that compiles; pure. It goes from word to word ([`super::template_parts`]).

use std::ops::Range;

use minijinja::{Environment, context};

use super::shape::Wrong;
use super::template_parts::{Word, Words, blocks};
use crate::names::nearest;

/// The filters that somebody may have meant.
const FILTERS: [&str; 41] = [
    "abs",
    "attr",
    "batch",
    "bool",
    "capitalize",
    "default",
    "dictsort",
    "first",
    "float",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "unique",
    "upper",
];
/// The filter that is no engine's: it escapes a value for a name.
const OWN_FILTER: &str = "dn";
/// The tests that somebody may have meant.
const TESTS: [&str; 20] = [
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "even",
    "false",
    "in",
    "integer",
    "iterable",
    "lower",
    "mapping",
    "none",
    "number",
    "odd",
    "sequence",
    "startingwith",
    "string",
    "true",
    "undefined",
    "upper",
];

/// Checks the words of a template: what stands in `{{ … }}` and `{% … %}`.
pub(super) fn check_template(text: &str) -> Result<(), Wrong> {
    for block in blocks(text) {
        match block.tag() {
            Some((word @ ("include" | "import" | "from" | "extends"), at)) => {
                return Err(Wrong::new(format!("there is no other template to {word}")).at(at.start, at.end));
            }
            Some(("autoescape", at)) => {
                return Err(Wrong::new("`autoescape` has no meaning here")
                    .at(at.start, at.end)
                    .next("take it away: where a value goes says how it is escaped"));
            }
            _ => {}
        }
        let is_filter_tag = block.tag().is_some_and(|(tag, _)| tag == "filter");
        check_words(block.words, is_filter_tag)?;
    }
    Ok(())
}

/// Checks that no value of a template gets around being escaped: where a value stands in a name, a filter of a directory or a statement.
pub(super) fn check_escaped(text: &str) -> Result<(), Wrong> {
    const NEXT: &str = "take it away: a value is escaped here, and what is to stand as it is stands outside `{{ … }}`";
    for block in blocks(text) {
        let tag = block.tag();
        let mut is_filter = false;
        for word in block.words.clone() {
            match word {
                Word::Sign(sign, _) => is_filter = sign == '|',
                Word::Name(at) => {
                    if is_filter && &text[at.clone()] == "safe" {
                        let wrong = Wrong::new("`safe` would let a value stand as it is");
                        return Err(wrong.at(at.start, at.end).next(NEXT));
                    }
                    is_filter = matches!(&tag, Some(("filter", tag)) if *tag == at);
                }
            }
        }
    }
    Ok(())
}

/// Checks the words of an expression that stands without braces.
pub(super) fn check_expression(text: &str) -> Result<(), Wrong> {
    check_words(Words::of_expression(text), false)
}

/// Goes through a block. `filter` is named first in a block of that tag, without a `|`.
fn check_words(words: Words<'_>, is_filter_tag: bool) -> Result<(), Wrong> {
    let text = words.text();
    let mut wants_filter = false;
    let mut wants_test = false;
    let mut is_first_of_tag = is_filter_tag;
    let mut is_attribute = false;
    for word in words {
        match word {
            Word::Sign('|', _) => wants_filter = true,
            Word::Sign(sign, _) => {
                (wants_filter, wants_test) = (false, false);
                is_attribute = sign == '.';
            }
            Word::Name(_) if std::mem::take(&mut is_attribute) => {}
            Word::Name(name) => {
                let word = &text[name.clone()];
                if wants_filter {
                    if word != OWN_FILTER {
                        known(word, name, "filter", &mut FILTERS.iter().copied().chain([OWN_FILTER]))?;
                    }
                } else if wants_test && word != "not" {
                    known(word, name, "test", &mut TESTS.iter().copied())?;
                }
                let goes_on = wants_test && word == "not";
                wants_test = goes_on || !wants_test && !wants_filter && word == "is";
                wants_filter = std::mem::take(&mut is_first_of_tag) && word == "filter";
            }
        }
    }
    Ok(())
}

fn known(word: &str, at: Range<usize>, what: &str, names: &mut dyn Iterator<Item = &'static str>) -> Result<(), Wrong> {
    let engine = Environment::new();
    let is_known = engine
        .compile_expression(&format!("word is {what}"))
        .and_then(|asked| asked.eval(context! { word }))
        .is_ok_and(|answer| answer.is_true());
    if is_known {
        return Ok(());
    }
    let mut wrong = Wrong::new(format!("there is no {what} `{word}`")).at(at.start, at.end);
    wrong.nearest = nearest(word, names).map(str::to_owned);
    Err(wrong.next(format!(
        "the {what}s are those of minijinja (https://docs.rs/minijinja)"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> (String, String, Option<String>) {
        let wrong = check_template(text).unwrap_err();
        let at = wrong.at.clone().unwrap();
        (wrong.message.clone(), text[at].to_owned(), wrong.nearest)
    }

    #[test]
    fn the_lists_are_the_engines() {
        for name in FILTERS {
            check_template(&format!("{{{{ row.a | {name} }}}}")).unwrap_or_else(|_| panic!("no filter {name}"));
        }
        for name in TESTS {
            check_template(&format!("{{{{ row.a is {name} }}}}")).unwrap_or_else(|_| panic!("no test {name}"));
        }
    }

    #[test]
    fn a_word_that_the_engine_does_not_know_is_found_where_it_stands() {
        for (text, word, nearest) in [
            ("a {{ row.a | uper }}", "uper", Some("upper")),
            ("{{ row.a | default('| x') | lowr | trim }}", "lowr", Some("lower")),
            ("{% if row.a is not defind %}x{% endif %}", "defind", Some("defined")),
            ("{# | x #}{% filter uppr %}x{% endfilter %}", "uppr", Some("upper")),
            ("{% for x in row.a|sot %}{{ x }}{% endfor %}", "sot", Some("sort")),
            (
                "{% raw %}{{ a | b }}{% endraw %}{{ row.é | ünbekannt }}",
                "ünbekannt",
                None,
            ),
        ] {
            let (message, at, near) = wrong(text);
            assert!(message.contains(word), "{message}");
            assert_eq!((at.as_str(), near.as_deref()), (word, nearest), "{text}");
        }
        assert_eq!(wrong("{% include 'x' %}").1, "include");
        assert_eq!(
            wrong("{%- autoescape false -%}{{ row.a }}{% endautoescape %}").1,
            "autoescape"
        );
        assert!(check_expression("row.a | lengh > 3").is_err());
    }

    #[test]
    fn what_would_let_a_value_stand_as_it_is_is_found_where_it_stands() {
        for (text, word) in [
            ("{{ row.a | safe }}", "safe"),
            ("x {{- row.a | trim|safe -}}", "safe"),
            ("{% filter safe %}{{ row.a }}{% endfilter %}", "safe"),
            ("{% set x = row.a | safe %}{{ x }}", "safe"),
        ] {
            let wrong = check_escaped(text).unwrap_err();
            assert_eq!(&text[wrong.at.unwrap()], word, "{text}");
        }
        for fine in [
            "{{ row.safe }} safe {{ row.a | replace('| safe', '') }}",
            "{# {{ row.a | safe }} #}{% raw %}{{ row.a | safe }}{% endraw %}",
            "{% set x %}a = {{ row.a }}{% endset %}{{ x }}{{ {'a': {'safe': row.a}} | tojson }}",
        ] {
            assert_eq!(check_escaped(fine), Ok(()), "{fine}");
        }
    }

    #[test]
    fn texts_comments_and_what_is_outside_the_braces_are_no_words() {
        for fine in [
            "a | b is c",
            "{{ 'x | y is z' }} | {{ \"it\\\"s | y\" }}",
            "{# row.a | nothing #}",
            "{% raw %}{{ a | b is c }}{% endraw %}",
            "{{ row.a | dn }}",
            "{{ row.is }} {{ row.is if row.if }} {{ row.a is not none and row.b | upper == 'X' }}",
            "{{ row.a or row.b }} {{ row['a | b'] | default(1 | abs) }}",
            "{% set x = row.a | trim %}{{ x is string }}",
        ] {
            assert_eq!(check_template(fine), Ok(()), "{fine}");
        }
        assert_eq!(check_expression("row.a is divisibleby 3 or row.b | length > 3"), Ok(()));
    }
}
