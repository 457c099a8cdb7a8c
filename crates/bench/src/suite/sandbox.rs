//! `hop sandbox` beside `unshare`, which makes the same namespaces and nothing in them.

use super::{ABOVE_UNSHARE, Suite};
use crate::Failure;
use crate::measure::settle;
use crate::report::Target;
use crate::sample::Sample;

impl Suite<'_> {
    pub(super) fn sandboxes(&mut self) -> Result<(), Failure> {
        if !self.wants("sandbox -- true") {
            return Ok(());
        }
        let mut times: [Sample; 3] = Default::default();
        let [closed, gated, bare] = &mut times;
        for _ in 0..self.runs(41) {
            closed.push(self.programs.hop(&["sandbox", "--", "true"])?);
            settle()?;
            gated.push(self.programs.hop(&["sandbox", "--allow", "any", "--", "true"])?);
            settle()?;
            bare.push(self.programs.other("unshare", &["-Urnmpf", "true"])?);
            settle()?;
        }
        let remark = "above unshare -Urnmpf true".to_owned();
        self.row("sandbox -- true".into(), closed, bare, ABOVE_UNSHARE, remark.clone())?;
        self.row("sandbox --allow any -- true".into(), gated, bare, Target::None, remark)
    }
}
