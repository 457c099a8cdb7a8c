//! The topology file: `*.hop.yaml`.
//!
//! Read in two steps, so that all that is wrong is said at once: [`tree`] makes of the text a tree
//! of plain values, each with its place, and [`read`] takes from it what a lab can say. Every
//! scalar stays text until a key says what it is, so `no`, `1e3` and `02:00:00:00:00:01` are what
//! they look like.

mod fields;
mod read;
mod schema;
mod tree;
mod write;

pub(crate) use read::read;
pub use schema::schema;
pub use write::to_yaml;
