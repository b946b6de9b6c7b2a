//! Sorted, disjoint runs of numbers.

/// A set of numbers held as runs, both ends included; built once, then asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Runs(Vec<(u128, u128)>);

impl Runs {
    /// The union of `runs`, which may come in any order and overlap.
    pub(crate) fn new(mut runs: Vec<(u128, u128)>) -> Self {
        runs.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(runs.len());
        for (start, end) in runs {
            match merged.last_mut() {
                Some((_, last)) if start <= last.saturating_add(1) => *last = end.max(*last),
                _ => merged.push((start, end)),
            }
        }
        Self(merged)
    }

    /// The end of the run that holds `number`, if one does.
    pub(crate) fn end_of(&self, number: u128) -> Option<u128> {
        let after = self.0.partition_point(|(start, _)| *start <= number);
        let (_, end) = after.checked_sub(1).and_then(|at| self.0.get(at))?;
        (number <= *end).then_some(*end)
    }

    pub(crate) fn contains(&self, number: u128) -> bool {
        self.end_of(number).is_some()
    }

    /// How many numbers; saturates.
    pub(crate) fn count(&self) -> u128 {
        self.0.iter().fold(0, |sum: u128, (start, end)| sum.saturating_add((end - start).saturating_add(1)))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u128, u128)> + '_ {
        self.0.iter().copied()
    }

    /// What lies between `first` and `last`, both included, and in none of the runs.
    pub(crate) fn gaps(&self, first: u128, last: u128) -> Vec<(u128, u128)> {
        let mut gaps = Vec::new();
        let mut next = Some(first);
        for (start, end) in self.iter() {
            let Some(from) = next else { break };
            if let Some(until) = start.checked_sub(1).filter(|until| from <= *until) {
                gaps.push((from, until.min(last)));
            }
            // Past the largest number there is nothing left.
            next = end.checked_add(1).map(|after| after.max(from)).filter(|after| *after <= last);
        }
        gaps.extend(next.map(|from| (from, last)));
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::Runs;

    #[test]
    fn runs_are_merged_and_asked() {
        let runs = Runs::new(vec![(9, 9), (1, 3), (4, 5), (2, 2), (u128::MAX, u128::MAX)]);
        assert_eq!(runs.iter().collect::<Vec<_>>(), [(1, 5), (9, 9), (u128::MAX, u128::MAX)]);
        assert_eq!(runs.end_of(3), Some(5));
        assert!(!runs.contains(0) && !runs.contains(6) && runs.contains(9) && runs.contains(u128::MAX));
        assert_eq!(runs.count(), 7);
    }

    #[test]
    fn gaps_are_what_is_left() {
        let gaps = |runs: &[(u128, u128)], first, last| Runs::new(runs.to_vec()).gaps(first, last);
        assert_eq!(gaps(&[], 3, 7), [(3, 7)]);
        assert_eq!(gaps(&[(3, 7)], 3, 7), []);
        assert_eq!(gaps(&[(3, 3), (5, 5), (7, 7)], 3, 7), [(4, 4), (6, 6)]);
        assert_eq!(gaps(&[(4, 6)], 3, 7), [(3, 3), (7, 7)]);
        assert_eq!(gaps(&[(0, 0), (u128::MAX, u128::MAX)], 0, u128::MAX), [(1, u128::MAX - 1)]);
    }
}
