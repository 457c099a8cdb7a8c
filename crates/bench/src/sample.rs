//! Measured times, and what is said of them.

use serde::Serialize;

/// Seconds, of several runs.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    pub(crate) fn push(&mut self, seconds: f64) {
        let at = self.0.partition_point(|&other| other < seconds);
        self.0.insert(at, seconds);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The middle; of an even number, the lower one of the two.
    pub(crate) fn median(&self) -> f64 {
        self.0.get(self.0.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn min(&self) -> f64 {
        self.0.first().copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn max(&self) -> f64 {
        self.0.last().copied().unwrap_or(f64::NAN)
    }
}

impl FromIterator<f64> for Sample {
    fn from_iter<I: IntoIterator<Item = f64>>(times: I) -> Self {
        let mut sample = Sample::default();
        times.into_iter().for_each(|time| sample.push(time));
        sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_one_of_the_runs() {
        let sample: Sample = [3.0, 1.0, 2.0].into_iter().collect();
        assert!((sample.median() - 2.0).abs() < 1e-9);
        let sample: Sample = [4.0, 1.0].into_iter().collect();
        assert!((sample.median() - 1.0).abs() < 1e-9);
        assert!((sample.max() - 4.0).abs() < 1e-9);
    }
}
