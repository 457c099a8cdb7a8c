//! `hop ns` beside `ip netns`, for one name and for a thousand.

use super::{RATIO_MANY_NAMES, RATIO_NAME, Suite};
use crate::Failure;
use crate::measure::settle;
use crate::report::Target;
use crate::sample::Sample;

/// So many are made in one call, or in a loop.
const MANY: usize = 1000;

impl Suite<'_> {
    /// Only in a /run of its own: names are for the whole machine, and so is the mount that they bring along.
    pub(super) fn names(&mut self) -> Result<(), Failure> {
        if !self.options.private_run || !self.wants("ns add, exec, delete") {
            return Ok(());
        }
        let programs = &self.programs;
        let mut times: [[Sample; 2]; 3] = Default::default();
        for _ in 0..self.runs(21) {
            let [add, exec, delete] = &mut times;
            add[0].push(programs.hop(&["ns", "add", "one"])?);
            exec[0].push(programs.hop(&["ns", "exec", "one", "/bin/true"])?);
            delete[0].push(programs.hop(&["ns", "delete", "one"])?);
            settle()?;
            add[1].push(programs.ip(&["netns", "add", "one"])?);
            exec[1].push(programs.ip(&["netns", "exec", "one", "/bin/true"])?);
            delete[1].push(programs.ip(&["netns", "delete", "one"])?);
            settle()?;
        }
        for (what, [hop, ip]) in ["add", "exec", "delete"].into_iter().zip(&times) {
            self.row(format!("ns {what}, one"), hop, ip, RATIO_NAME, "to ip netns".into())?;
        }
        let names: Vec<String> = (0..MANY).map(|n| format!("n{n}")).collect();
        let with = |words: [&'static str; 2]| -> Vec<&str> {
            words.into_iter().chain(names.iter().map(String::as_str)).collect()
        };
        let a_loop = |verb: &str| format!("for name in {}; do ip netns {verb} $name; done", names.join(" "));
        let programs = &self.programs;
        let mut times: [[Sample; 2]; 2] = Default::default();
        let mut kernel = Sample::default();
        for _ in 0..self.runs(5) {
            let [add, delete] = &mut times;
            add[0].push(programs.hop(&with(["ns", "add"]))?);
            delete[0].push(programs.hop(&with(["ns", "delete"]))?);
            settle()?;
            add[1].push(programs.other("sh", &["-c", &a_loop("add")])?);
            delete[1].push(programs.other("sh", &["-c", &a_loop("delete")])?);
            settle()?;
            kernel.push(programs.names(MANY)?);
            programs.hop(&with(["ns", "delete"]))?;
            settle()?;
        }
        let remark = "one call, to a program that makes and mounts them and does nothing else".into();
        self.row(format!("ns add, {MANY}, and the kernel"), &times[0][0], &kernel, Target::None, remark)?;
        for (what, [hop, ip]) in ["add", "delete"].into_iter().zip(&times) {
            let target = if what == "add" { RATIO_MANY_NAMES } else { Target::None };
            let remark = "one call, to a loop of ip netns".into();
            self.row(format!("ns {what}, {MANY}"), hop, ip, target, remark)?;
        }
        Ok(())
    }
}
