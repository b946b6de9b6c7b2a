//! Medians and percentiles.

use std::time::Duration;

/// Sorted durations.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<Duration>);

impl FromIterator<Duration> for Times {
    fn from_iter<T: IntoIterator<Item = Duration>>(times: T) -> Self {
        let mut times: Vec<_> = times.into_iter().collect();
        times.sort_unstable();
        Self(times)
    }
}

impl Times {
    /// Returns the smallest duration that is at least as long as `percent` of all. Zero if there are none.
    pub fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        self.0.get(rank).copied().unwrap_or_default()
    }

    /// Iterates over the durations in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Duration> {
        self.0.iter().copied()
    }

    /// Returns the 50th and the 99th percentile in milliseconds.
    pub fn half_and_most(&self) -> [f64; 2] {
        [50, 99].map(|percent| millis(self.percentile(percent)))
    }
}

/// Converts to milliseconds.
pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Returns the median. For an even number of values, returns the upper of the two middle values.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Returns the median of each position.
pub fn medians<const N: usize>(values: impl IntoIterator<Item = [f64; N]>) -> [f64; N] {
    let values: Vec<_> = values.into_iter().collect();
    std::array::from_fn(|at| median(values.iter().map(|value| value[at])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let times: Times = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!([50, 99, 100].map(|p| times.percentile(p).as_millis()), [50, 99, 100]);
        let one: Times = [Duration::from_millis(7)].into_iter().collect();
        assert_eq!(one.percentile(99).as_millis(), 7);
        assert_eq!(Times::default().percentile(50), Duration::ZERO);
        assert_eq!(format!("{:?}", times.half_and_most()), "[50.0, 99.0]");
        assert!((median([3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert_eq!(format!("{:?}", medians([[1.0, 6.0], [2.0, 4.0], [3.0, 5.0]])), "[2.0, 5.0]");
    }
}
