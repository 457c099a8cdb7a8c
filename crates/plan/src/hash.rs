//! The hash from which addresses are chosen.
//!
//! Its values are a promise: a running lab keeps its addresses only as long as they do not change.

use hopyard_model::stable_hash;

/// A well-mixed 64-bit hash of a sequence of texts; `["ab", "c"]` and `["a", "bc"]` differ.
pub(crate) fn hash<'a>(parts: impl IntoIterator<Item = &'a str>) -> u64 {
    // 0xff never occurs in UTF-8, so it separates.
    let bytes: Vec<u8> = parts.into_iter().flat_map(|part| part.bytes().chain([0xff])).collect();
    mix(stable_hash(&bytes))
}

/// The next of a sequence of values that a hash stands for: where to look when a place is taken.
pub(crate) fn rehash(hash: u64) -> u64 {
    mix(hash.wrapping_add(0x9e37_79b9_7f4a_7c15))
}

/// The finaliser of splitmix64 (Steele, Lea, Flood 2014): FNV alone leaves the upper bits poor.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_stay() {
        assert_eq!(hash(["link", "a", "b"]), 16_195_564_699_165_235_750);
        assert_eq!(rehash(hash(["link", "a", "b"])), 7_189_524_437_917_647_943);
        assert_ne!(hash(["ab", "c"]), hash(["a", "bc"]));
    }
}
