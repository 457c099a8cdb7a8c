//! What each operation means: the model of the kernel on which plans are proved.

use thiserror::Error;

use crate::{NetState, Op};

/// An operation that the kernel would refuse in this state.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{op}` would be refused: {why}")]
pub struct Refused {
    /// The operation.
    pub op: Box<Op>,
    /// What is missing or in the way.
    pub why: String,
}

impl NetState {
    /// Changes the state as the kernel would.
    pub fn execute(&mut self, op: &Op) -> Result<(), Refused> {
        Err(Refused { op: Box::new(op.clone()), why: "not modelled yet".to_owned() })
    }
}
