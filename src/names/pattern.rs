//! Patterns that choose tables: globs over schema and name, with `!` to take away.
//!
//! `billing.*`, `*.audit_?`, `"Odd Schema"."T*"` (between quotes `*` and `?` are plain characters). The planner calls
//! [`select`] with the patterns of a group and the tables of the catalogue.

use std::fmt;

use super::scan::{Part, Piece, scan};
use super::{NameError, Problem, QualifiedName, check_length};

/// One entry of a group's `tables`: the names it matches, and whether it adds them or takes them away.
#[derive(Clone)]
pub struct Pattern {
    excludes: bool,
    schema: Vec<Piece>,
    name: Vec<Piece>,
    text: String,
}

impl Pattern {
    /// Reads a pattern; a leading `!` makes it take away.
    ///
    /// Errors as [`QualifiedName::parse`] does.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let body = text.trim_start();
        let (excludes, body) = match body.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, body),
        };
        let shift = text.len() - body.len();
        let parts = scan(body, true).map_err(|error| NameError::new(error.at + shift, error.problem))?;
        let mut parts = parts.into_iter().map(|part| check_part(part, shift));
        match (parts.next(), parts.next(), parts.next()) {
            (Some(schema), Some(name), None) => Ok(Pattern {
                excludes,
                schema: schema?,
                name: name?,
                text: text.trim().to_owned(),
            }),
            (Some(name), None, _) => {
                let name = name?.iter().map(Piece::as_char).collect();
                Err(NameError::new(shift, Problem::NoSchema { name }))
            }
            _ => Err(NameError::new(shift, Problem::TooManyParts)),
        }
    }

    /// Tells whether the pattern takes away (`!`) instead of adding.
    pub fn excludes(&self) -> bool {
        self.excludes
    }

    /// Tells whether `name` is one of the names the pattern speaks of, to add it or to take it away.
    pub fn matches(&self, name: &QualifiedName) -> bool {
        glob(&self.schema, &name.schema) && glob(&self.name, &name.name)
    }

    /// Returns the one name an adding pattern without wildcards stands for.
    pub fn is_exact(&self) -> Option<QualifiedName> {
        let plain = |pieces: &[Piece]| -> Option<String> {
            pieces
                .iter()
                .map(|piece| if let Piece::Char(c) = piece { Some(*c) } else { None })
                .collect()
        };
        match self.excludes {
            true => None,
            false => Some(QualifiedName {
                schema: plain(&self.schema)?,
                name: plain(&self.name)?,
            }),
        }
    }
}

/// Two spellings of one pattern are equal.
impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        (self.excludes, &self.schema, &self.name) == (other.excludes, &other.schema, &other.name)
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({})", self.text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn check_part(part: Part, shift: usize) -> Result<Vec<Piece>, NameError> {
    let literal: String = part
        .pieces
        .iter()
        .filter(|piece| matches!(piece, Piece::Char(_)))
        .map(Piece::as_char)
        .collect();
    check_length(&literal, part.start + shift)?;
    Ok(part.pieces)
}

/// Matches `text` against `pieces`, in time proportional to their product at worst: on a mismatch only the last `*`
/// takes one character more.
fn glob(pieces: &[Piece], text: &str) -> bool {
    let (mut p, mut rest) = (0, text.chars());
    let mut last_star: Option<(usize, std::str::Chars<'_>)> = None;
    loop {
        match (pieces.get(p), rest.clone().next()) {
            (Some(Piece::Any), _) => {
                last_star = Some((p, rest.clone()));
                p += 1;
            }
            (Some(Piece::One), Some(_)) => {
                p += 1;
                rest.next();
            }
            (Some(Piece::Char(want)), Some(c)) if *want == c => {
                p += 1;
                rest.next();
            }
            (None, None) => return true,
            _ => {
                let Some((star, retry)) = &mut last_star else {
                    return false;
                };
                if retry.next().is_none() {
                    return false;
                }
                p = *star + 1;
                rest = retry.clone();
            }
        }
    }
}

/// What [`select`] chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection<'a> {
    /// The chosen names, in the order of the candidates.
    pub chosen: Vec<&'a QualifiedName>,
    /// Indexes of the patterns that added nothing or took nothing away.
    pub idle: Vec<usize>,
}

/// Chooses among `candidates`: each pattern in turn adds what it matches, or (`!`) takes away from what the patterns
/// before it added.
///
/// ```
/// use emaj::names::{Pattern, QualifiedName, select};
/// let patterns = ["a.*", "!a.x*"].map(|text| Pattern::parse(text).unwrap());
/// let tables = ["a.x1", "a.y"].map(|text| QualifiedName::parse(text).unwrap());
/// assert_eq!(select(&patterns, &tables).chosen, [&tables[1]]);
/// ```
pub fn select<'a, 'p>(
    patterns: impl IntoIterator<Item = &'p Pattern>,
    candidates: impl IntoIterator<Item = &'a QualifiedName>,
) -> Selection<'a> {
    let patterns: Vec<&Pattern> = patterns.into_iter().collect();
    let mut worked = vec![false; patterns.len()];
    let mut chosen = Vec::new();
    for name in candidates {
        let mut is_in = false;
        for (pattern, worked) in patterns.iter().zip(&mut worked) {
            if pattern.matches(name) && (is_in || !pattern.excludes) {
                is_in = !pattern.excludes;
                *worked = true;
            }
        }
        if is_in {
            chosen.push(name);
        }
    }
    let idle = (0..patterns.len()).filter(|i| !worked[*i]).collect();
    Selection { chosen, idle }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::parse(pattern)
            .unwrap()
            .matches(&QualifiedName::parse(name).unwrap())
    }

    #[test]
    fn globs_stand_outside_quotes() {
        let cases = [
            ("billing.*", "billing.invoice", true),
            ("billing.*", "billing2.invoice", false),
            ("billing.inv_*", "billing.inv_", true),
            ("*.audit_?", "x.audit_1", true),
            ("*.audit_?", "x.audit_12", false),
            ("*.audit_?", "x.audit_é", true),
            ("b*g.*a*b*", "billing.xaxbx", true),
            ("b*g.*a*b*", "billing.xbxa", false),
            ("Billing.*", "billing.x", true),
            (r#""Odd Schema"."T*""#, r#""Odd Schema"."T*""#, true),
            (r#""Odd Schema"."T*""#, r#""Odd Schema"."Tx""#, false),
            (r#""Odd "*."T"*"#, r#""Odd Schema"."Table""#, true),
            (r#""Odd "*."T"*"#, r#""Odd Schema".table"#, false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(matches(pattern, name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn many_stars_stay_cheap() {
        let pattern = Pattern::parse(&format!("a.{}b", "*a".repeat(30))).unwrap();
        assert!(!pattern.matches(&QualifiedName::new("a", "a".repeat(63))));
    }

    #[test]
    fn errors_count_the_exclamation_mark() {
        assert_eq!(
            Pattern::parse("!a").unwrap_err(),
            NameError::new(1, Problem::NoSchema { name: "a".into() })
        );
        assert_eq!(
            Pattern::parse("!a.b-c").unwrap_err(),
            NameError::new(4, Problem::NeedsQuotes { found: '-' })
        );
        assert_eq!(Pattern::parse("!").unwrap_err(), NameError::new(1, Problem::Empty));
    }

    #[test]
    fn later_patterns_take_away_and_give_back() {
        let tables = ["a.x1", "a.x2", "a.y", "b.z"].map(|text| QualifiedName::parse(text).unwrap());
        let chosen = |patterns: &[&str]| -> (Vec<String>, Vec<usize>) {
            let patterns: Vec<Pattern> = patterns.iter().map(|text| Pattern::parse(text).unwrap()).collect();
            let selection = select(&patterns, &tables);
            (
                selection.chosen.iter().map(ToString::to_string).collect(),
                selection.idle,
            )
        };
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(chosen(&["a.*", "!a.x*"]), (names(&["a.y"]), vec![]));
        assert_eq!(chosen(&["a.*", "!a.x*", "a.x2"]), (names(&["a.x2", "a.y"]), vec![]));
        assert_eq!(
            chosen(&["a.*", "!b.*", "c.*"]),
            (names(&["a.x1", "a.x2", "a.y"]), vec![1, 2])
        );
        assert_eq!(chosen(&[]), (vec![], vec![]));
    }
}
