//! Names of files that are made of names of relations.

use std::collections::BTreeSet;

/// Returns a name that stays in its directory, whatever the database says, ends in `extension` and was not given before.
pub fn file_name(wanted: &str, extension: &str, taken: &mut BTreeSet<String>) -> String {
    let safe = |c: char| {
        if c == '/' || c == '\\' || c.is_control() {
            '_'
        } else {
            c
        }
    };
    let mut stem: String = wanted
        .strip_suffix(extension)
        .unwrap_or(wanted)
        .chars()
        .map(safe)
        .collect();
    if stem.starts_with('.') || stem.is_empty() {
        stem.insert(0, '_');
    }
    let mut name = format!("{stem}{extension}");
    let mut round = 2;
    // A file system may not tell cases apart.
    while !taken.insert(name.to_lowercase()) {
        name = format!("{stem}_{round}{extension}");
        round += 1;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_in_its_directory_and_is_given_once() {
        let mut taken = BTreeSet::new();
        let mut name = |wanted| file_name(wanted, ".snap", &mut taken);
        assert_eq!(name("public_a.snap"), "public_a.snap");
        assert_eq!(name("public_A"), "public_A_2.snap");
        assert_eq!(name("public_a.snap"), "public_a_3.snap");
        assert_eq!(name("../../etc/passwd"), "_.._.._etc_passwd.snap");
        assert_eq!(name(".."), "_...snap");
        assert_eq!(name(""), "_.snap");
        assert_eq!(name("a\\b\nc\0.snap"), "a_b_c_.snap");
    }
}
