//! A short text that stands for a long one: in ids, and where it is kept beside other things.

use sha2::{Digest, Sha256};

use crate::names::hex;

/// Returns it: the same for the same text, in every version of the program.
pub(super) fn digest(text: &str) -> String {
    hex(&digest_bytes(text))
}

/// Returns it as it takes the least room.
pub(super) fn digest_bytes(text: &str) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&Sha256::digest(text)[..16]);
    short
}
