//! Which interface of a namespace has which index.

use std::collections::{BTreeSet, HashMap};

use hopyard_net::{IfName, MacAddr};

/// The index of an interface in its namespace.
pub(crate) type IfIndex = u32;

/// The interfaces of one namespace by name, so that no request needs to ask for an index first.
#[derive(Debug, Default)]
pub(crate) struct LinkTable {
    entries: HashMap<IfName, Entry>,
    used: BTreeSet<IfIndex>,
    /// No index below this one is free.
    lowest: IfIndex,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    index: IfIndex,
    mac: Option<MacAddr>,
}

/// `lo` has it in every namespace.
pub(crate) const LOOPBACK: IfIndex = 1;

impl LinkTable {
    /// What a new namespace has.
    pub(crate) fn of_new_namespace() -> Self {
        [(IfName::LO, LOOPBACK, None)].into_iter().collect()
    }

    pub(crate) fn index(&self, dev: IfName) -> Option<IfIndex> {
        self.entries.get(&dev).map(|entry| entry.index)
    }

    /// Its Ethernet address, where it is known.
    pub(crate) fn mac(&self, dev: IfName) -> Option<MacAddr> {
        self.entries.get(&dev)?.mac
    }

    /// Gives an interface that is about to be made the lowest free index. `None`: the name is taken.
    pub(crate) fn assign(&mut self, dev: IfName, mac: Option<MacAddr>) -> Option<IfIndex> {
        if self.entries.contains_key(&dev) {
            return None;
        }
        let mut index = self.lowest.max(LOOPBACK + 1);
        while self.used.contains(&index) {
            index += 1;
        }
        self.lowest = index + 1;
        self.used.insert(index);
        self.entries.insert(dev, Entry { index, mac });
        Some(index)
    }
}

impl FromIterator<(IfName, IfIndex, Option<MacAddr>)> for LinkTable {
    fn from_iter<T: IntoIterator<Item = (IfName, IfIndex, Option<MacAddr>)>>(links: T) -> Self {
        let mut table = LinkTable::default();
        for (dev, index, mac) in links {
            table.used.insert(index);
            table.entries.insert(dev, Entry { index, mac });
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_index_is_assigned() {
        let name = |text: &str| -> IfName { text.parse().unwrap() };
        let mut table: LinkTable = [(IfName::LO, 1, None), (name("a"), 3, None)].into_iter().collect();
        assert_eq!(table.assign(name("b"), None), Some(2));
        assert_eq!(table.assign(name("c"), None), Some(4));
        assert_eq!(table.assign(name("a"), None), None);
        assert_eq!(table.index(name("c")), Some(4));
    }
}
