//! The table, and the same as JSON.

use std::fmt::Write as _;
use std::io::Write;

use serde::Serialize;

use crate::Failure;
use crate::sample::Sample;

/// What a row must not exceed.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "value")]
pub(crate) enum Target {
    /// Median of `hop` by median of the other.
    Ratio(f64),
    /// Median of `hop` less median of the other, in seconds.
    Above(f64),
    /// Median of `hop`, in seconds.
    Seconds(f64),
    None,
}

/// One comparison, or one measurement on its own.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) hop: Sample,
    pub(crate) other: Sample,
    pub(crate) target: Target,
    pub(crate) remark: String,
}

impl Row {
    fn is_met(&self) -> Option<bool> {
        let (hop, other) = (self.hop.median(), self.other.median());
        match self.target {
            Target::Ratio(most) => Some(hop / other <= most),
            Target::Above(most) => Some(hop - other <= most),
            Target::Seconds(most) => Some(hop <= most),
            Target::None => None,
        }
    }

    fn cells(&self) -> [String; 6] {
        let (hop, other) = (self.hop.median(), self.other.median());
        let result = match self.target {
            Target::Above(_) => format!("+{}", seconds(hop - other)),
            _ if self.other.is_empty() => String::new(),
            _ => format!("{:.2}", hop / other),
        };
        let target = match self.target {
            Target::Ratio(most) => format!("{most:.2}"),
            Target::Above(most) => format!("+{}", seconds(most)),
            Target::Seconds(most) => seconds(most),
            Target::None => String::new(),
        };
        let verdict = match self.is_met() {
            Some(true) => target + " ok",
            Some(false) => target + " MISSED",
            None => target,
        };
        [self.what.clone(), spread(&self.hop), spread(&self.other), result, verdict, self.remark.clone()]
    }
}

/// All rows, printed as they come.
#[derive(Debug)]
pub(crate) struct Report<W: Write> {
    out: W,
    json: bool,
    rows: Vec<Row>,
    failures: usize,
}

impl<W: Write> Report<W> {
    pub(crate) fn new(mut out: W, json: bool) -> Result<Self, Failure> {
        if !json {
            writeln!(out, "| what | hop, median (min..max) | other | ratio | target | remark |")?;
            writeln!(out, "|---|---|---|---|---|---|")?;
        }
        Ok(Report { out, json, rows: Vec::new(), failures: 0 })
    }

    pub(crate) fn add(&mut self, row: Row) -> Result<(), Failure> {
        if !self.json {
            let mut line = String::new();
            for cell in row.cells() {
                write!(line, "| {cell} ").ok();
            }
            writeln!(self.out, "{line}|")?;
            self.out.flush()?;
        }
        self.rows.push(row);
        Ok(())
    }

    /// Something could not be measured, which counts as missed.
    pub(crate) fn failed(&mut self, what: &str, failure: &Failure) -> Result<(), Failure> {
        self.failures += 1;
        writeln!(std::io::stderr(), "{what}: {failure}")?;
        if !self.json {
            writeln!(self.out, "| {what} | FAILED | | | | {failure} |")?;
        }
        Ok(())
    }

    /// How many targets were missed.
    pub(crate) fn finish(mut self) -> Result<usize, Failure> {
        let missed = self.rows.iter().filter(|row| row.is_met() == Some(false)).count();
        let judged = self.rows.iter().filter(|row| row.is_met().is_some()).count();
        if self.json {
            serde_json::to_writer_pretty(&mut self.out, &self.rows)?;
            writeln!(self.out)?;
        } else {
            writeln!(self.out, "\n{} of {judged} targets met", judged - missed)?;
        }
        Ok(missed + self.failures)
    }
}

fn spread(sample: &Sample) -> String {
    if sample.is_empty() {
        return String::new();
    }
    format!("{} ({}..{})", seconds(sample.median()), seconds(sample.min()), seconds(sample.max()))
}

pub(crate) fn seconds(seconds: f64) -> String {
    if seconds.abs() < 1.0 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}
