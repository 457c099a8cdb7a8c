//! What a user asked for.
//!
//! [`LabDoc`] is a topology as it was written, possibly nonsense, every value with its place;
//! [`LabDoc::resolve`] makes it a [`Lab`], in which every reference resolves, every name is
//! unique and every interface is named, or says all that is wrong with it.
//!
//! Pure. Knows no file format and no kernel.
#![forbid(unsafe_code)]

mod build;
mod doc;
mod domains;
mod expect;
mod lab;
mod name;
mod nat;
mod nearest;
mod problem;
mod resolve;

pub use doc::{AddressingDoc, EndDoc, FamilyDoc, LabDoc, LinkDoc, NatDoc, NatSourceDoc, NodeDoc, Spanned, SwitchDoc};
pub use domains::Domains;
pub use expect::{ExpectTarget, Expectation, Nodes};
pub use lab::{
    Addressing, AddressingMode, End, Iface, Lab, Link, LinkAddresses, LinkId, Multipath, NeighbourMode, Node, NodeId,
    Role, Routing, StaticRoute, StaticRouteKind, Switch, SwitchAddresses, SwitchId, Vertex, Via,
};
pub use name::{LabName, LabNameError, stable_hash};
pub use nat::{NatDestination, NatFloating, NatSource, NatTarget, NodeNat};
pub use nearest::{did_you_mean, nearest};
pub use problem::{Code, Problem, Severity, Span, sort_by_place};
