//! Names of the objects that emaj makes beside a table: log tables, functions, triggers, views.
//!
//! They follow from the table's name, fit into 63 bytes, and stay the same from one install to the next.

use sha2::{Digest, Sha256};

use super::{MAX_NAME_BYTES, hex};

/// Joins `parts` by `_` and appends `suffix`; when the result is too long or `taken`, cuts the middle and puts a hash
/// of the parts before the suffix.
///
/// The hash depends on the parts alone (`a_b` + `c` and `a` + `b_c` differ), so a second run finds the same name.
/// When even that one is taken, it is hashed on with a counter until a free one is found.
///
/// ```
/// use emaj::names::derived_name;
/// assert_eq!(derived_name(&["public", "customer"], "_log", &|_| false), "public_customer_log");
/// ```
pub fn derived_name(parts: &[&str], suffix: &str, taken: &dyn Fn(&str) -> bool) -> String {
    let stem = parts.join("_");
    let plain = format!("{stem}{suffix}");
    if plain.len() <= MAX_NAME_BYTES && !taken(&plain) {
        return plain;
    }
    let mut round = 0_u32;
    loop {
        let tail = format!("_{}{suffix}", short_hash(parts, round));
        let name = format!("{}{tail}", cut(&stem, MAX_NAME_BYTES.saturating_sub(tail.len())));
        if !taken(&name) {
            return name;
        }
        round += 1;
    }
}

/// Returns the longest start of `text` that fits into `max` bytes and ends between characters.
fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

fn short_hash(parts: &[&str], round: u32) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    if round > 0 {
        hash.update(round.to_be_bytes());
    }
    hex(&hash.finalize()[..4])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_names_stay_readable() {
        assert_eq!(
            derived_name(&["public", "customer"], "_log", &|_| false),
            "public_customer_log"
        );
    }

    #[test]
    fn long_and_taken_names_get_a_hash() {
        let long = "x".repeat(60);
        let name = derived_name(&["public", &long], "_log", &|_| false);
        assert_eq!(name.len(), 63);
        assert!(name.starts_with("public_xxx") && name.ends_with("_log"), "{name}");
        assert_eq!(name, derived_name(&["public", &long], "_log", &|_| false));

        let first = derived_name(&["a_b", "c"], "_log", &|name| name == "a_b_c_log");
        let second = derived_name(&["a", "b_c"], "_log", &|name| name == "a_b_c_log");
        assert_ne!(first, second);
        let third = derived_name(&["a", "b_c"], "_log", &|name| name == "a_b_c_log" || name == second);
        assert_ne!(third, second);
    }

    proptest! {
        #[test]
        fn always_fits_and_is_free(parts in prop::collection::vec("\\PC{0,63}", 1..4), block in any::<bool>()) {
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            let plain = format!("{}_log", parts.join("_"));
            let name = derived_name(&parts, "_log", &|name| block && name == plain);
            prop_assert!(name.len() <= MAX_NAME_BYTES);
            prop_assert!(!block || name != plain);
        }
    }
}
