//! Text to lab and back: the topology file, the inline form, importers.
