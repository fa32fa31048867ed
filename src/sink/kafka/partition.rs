//! Which partition a key belongs to: as Kafka's own Java client decides it, so that a key lands where others look for it.

/// Returns the partition of `key` in a topic of `partitions`, which is at least 1.
pub(super) fn partition(key: &[u8], partitions: usize) -> usize {
    // (The sign is taken off, not turned round, as in Java's `Utils.toPositive`.)
    (murmur2(key) & 0x7fff_ffff) as usize % partitions
}

/// MurmurHash2, 32 bits, with the seed that Kafka uses.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_java_client() {
        // The values of the client's own test (`UtilsTest.testMurmur2`).
        let known: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, hash) in known {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
        assert_eq!(
            partition(b"foobar", 12),
            ((-790_332_482_i32) & 0x7fff_ffff) as usize % 12
        );
        assert_eq!(partition(b"anything", 1), 0);
    }
}
