//! Networks on one machine.
