//! "Did you mean": the known name that a misspelt one is nearest to.

use std::fmt::Display;

/// Returns the candidate that is near enough to `word` to be what was meant: a letter in three may be wrong, at most three, at least one.
///
/// Of several as near it is the first in their order.
pub(crate) fn nearest<T: Display + Ord>(
    word: &(impl Display + ?Sized),
    candidates: impl IntoIterator<Item = T>,
) -> Option<T> {
    let word = word.to_string();
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_string()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::QualifiedName;

    #[test]
    fn a_letter_in_three_may_be_wrong() {
        let cases = [
            ("hots", Some("host")),
            ("Host", Some("host")),
            ("pasword", Some("password")),
            ("passwd", Some("password")),
            ("pw", None),
            ("something else", None),
            ("", None),
        ];
        for (word, expected) in cases {
            assert_eq!(nearest(word, ["password", "host", "post"]), expected, "{word}");
        }
        assert_eq!(
            nearest("ost", ["post", "host"]),
            Some("host"),
            "the first in their order"
        );
        let tables = ["shop.customer", "shop.product"].map(|name| QualifiedName::parse(name).unwrap());
        assert_eq!(nearest("shop.costumer", &tables), Some(&tables[0]));
    }
}
