//! Lifetimes of labs: the keeper, records, locks, exec, probes.
