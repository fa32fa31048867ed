//! A short text that stands for a long one: in ids, and where it is kept beside other things.

use sha2::{Digest, Sha256};

use crate::names::hex;

/// Returns it: the same for the same text, in every version of the program.
pub(super) fn digest(text: &str) -> String {
    hex(&Sha256::digest(text)[..16])
}
