//! What a set says of a key, as its kinds in the kernel do (`nft_set_hash.c`, `nft_set_rbtree.c`,
//! `nft_set_pipapo.c`).

use hopyard_net::{Element, Set};

/// The element that a key leads to.
pub(super) fn find<'s>(set: &'s Set, key: &[u8]) -> Option<&'s Element> {
    let found = match (set.intervals, set.parts.len()) {
        (false, _) => set.elements.iter().find(|it| it.key.as_deref() == Some(key)),
        (true, 0 | 1) => at_or_below(set, key),
        (true, _) => set.elements.iter().find(|it| is_within(set, it, key)),
    };
    // What is not found leads to the element for all others.
    found.or_else(|| set.elements.iter().find(|it| it.key.is_none()))
}

/// Of one range, elements are where an interval begins and what comes behind it.
fn at_or_below<'s>(set: &'s Set, key: &[u8]) -> Option<&'s Element> {
    let below = set.elements.iter().filter(|it| it.key.as_deref().is_some_and(|start| start <= key));
    // Where one interval ends and another one begins, the beginning counts.
    let last = below.max_by_key(|it| (it.key.as_deref(), !it.ends))?;
    (!last.ends).then_some(last)
}

/// Of a concatenation, each part is compared on its own.
fn is_within(set: &Set, element: &Element, key: &[u8]) -> bool {
    let Some(first) = &element.key else { return false };
    let last = element.last.as_ref().unwrap_or(first);
    let mut at = 0;
    set.parts.iter().all(|length| {
        let length = *length as usize;
        let part = at..at + length;
        at += length.next_multiple_of(4);
        let (first, last, key) = (first.get(part.clone()), last.get(part.clone()), key.get(part));
        key.is_some_and(|key| first.is_some_and(|first| first <= key) && last.is_some_and(|last| key <= last))
    })
}

/// The bytes of a key in registers.
pub(super) fn key_bytes(set: &Set) -> usize {
    match set.parts.as_slice() {
        [one] => *one as usize,
        parts => parts.iter().map(|length| (*length as usize).next_multiple_of(4)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(parts: &[u32], intervals: bool, elements: Vec<Element>) -> Set {
        Set {
            family: "inet".to_owned(),
            table: "t".to_owned(),
            name: "s".to_owned(),
            anonymous: false,
            intervals,
            dynamic: false,
            parts: parts.to_vec(),
            value_bytes: 0,
            elements,
        }
    }

    fn start(key: &[u8]) -> Element {
        Element { key: Some(key.to_vec()), ..Element::default() }
    }

    fn end(key: &[u8]) -> Element {
        Element { ends: true, ..start(key) }
    }

    #[test]
    fn an_interval_ends_before_its_end() {
        let set = set(&[2], true, vec![end(&[0, 0]), start(&[0, 80]), end(&[0, 90]), start(&[0, 90]), end(&[1, 0])]);
        let has = |key: u16| find(&set, &key.to_be_bytes()).is_some();
        assert_eq!([79, 80, 89, 90, 255, 256].map(has), [false, true, true, true, true, false]);
    }

    #[test]
    fn the_parts_of_a_concatenation_are_compared_one_by_one() {
        let both = Element { last: Some(vec![10, 0, 0, 9, 0, 90, 0, 0]), ..start(&[10, 0, 0, 4, 0, 80, 0, 0]) };
        let set = set(&[4, 2], true, vec![both]);
        let has = |addr: u8, port: u8| find(&set, &[10, 0, 0, addr, 0, port, 0, 0]).is_some();
        assert!(has(4, 80) && has(9, 90) && has(5, 81));
        assert!(!has(3, 85) && !has(10, 85) && !has(5, 79) && !has(5, 91));
        assert_eq!(key_bytes(&set), 8);
    }

    #[test]
    fn the_element_for_all_others_is_the_last_to_be_found() {
        let set = set(&[1], false, vec![Element::default(), start(&[1])]);
        assert_eq!(find(&set, &[1]), Some(&set.elements[1]));
        assert_eq!(find(&set, &[2]), Some(&set.elements[0]));
    }
}
