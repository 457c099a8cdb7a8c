//! From a topology as written to a valid lab, or all that is wrong with it.

use crate::{Lab, LabDoc, Problem};

impl LabDoc {
    /// Checks everything that can be known without choosing an address, and names every interface.
    ///
    /// # Errors
    /// All problems, errors and warnings, in the order of their places.
    pub fn resolve(&self) -> Result<(Lab, Vec<Problem>), Vec<Problem>> {
        Err(vec![Problem::error("unimplemented", None, "not there yet")])
    }
}
