//! Sets of numbers as sorted, disjoint runs.

use std::collections::BTreeMap;

/// A set of numbers, stored as runs that include both ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Runs(Vec<(u128, u128)>);

impl Runs {
    /// The union of `runs`, which can be in any order and can overlap.
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

    /// The smallest number of the set that is not below `number`.
    pub(crate) fn at_or_after(&self, number: u128) -> Option<u128> {
        let at = self.0.partition_point(|(_, end)| *end < number);
        self.0.get(at).map(|(start, _)| number.max(*start))
    }

    pub(crate) fn contains(&self, number: u128) -> bool {
        self.at_or_after(number) == Some(number)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The size of the set, at most `u128::MAX`.
    pub(crate) fn count(&self) -> u128 {
        self.0.iter().fold(0, |sum: u128, (start, end)| sum.saturating_add((end - start).saturating_add(1)))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u128, u128)> + '_ {
        self.0.iter().copied()
    }

    /// The numbers that are not in `other`. The time is linear in the number of runs.
    pub(crate) fn without(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        let mut cuts = other.iter().peekable();
        for (start, end) in self.iter() {
            let mut next = Some(start);
            while cuts.next_if(|(_, cut)| *cut < start).is_some() {}
            while let Some(from) = next
                && let Some((first, last)) = cuts.peek().copied().filter(|(first, _)| *first <= end)
            {
                if let Some(until) = first.checked_sub(1).filter(|until| from <= *until) {
                    left.push((from, until));
                }
                // After the largest number there is nothing left.
                next = last.checked_add(1).filter(|after| *after <= end);
                if next.is_some() {
                    cuts.next();
                }
            }
            left.extend(next.map(|from| (from, end)));
        }
        Self(left)
    }
}

/// A set of numbers that changes one by one. It is stored as runs that include both ends and do not touch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Growing(BTreeMap<u128, u128>);

impl Growing {
    /// Adds a number that is not in the set.
    pub(crate) fn insert(&mut self, number: u128) {
        let before = self.0.range(..number).next_back().map(|(start, end)| (*start, *end));
        let start = before.filter(|(_, end)| end.checked_add(1) == Some(number)).map_or(number, |(start, _)| start);
        let end = number.checked_add(1).and_then(|next| self.0.remove(&next)).unwrap_or(number);
        self.0.insert(start, end);
    }

    /// Removes a number of the set.
    pub(crate) fn remove(&mut self, number: u128) {
        let Some((&start, &end)) = self.0.range(..=number).next_back().filter(|(_, end)| number <= **end) else {
            return;
        };
        if start < number {
            self.0.insert(start, number - 1);
        } else {
            self.0.remove(&start);
        }
        if number < end {
            self.0.insert(number + 1, end);
        }
    }

    /// The part of the set inside `runs`. The time grows with the number of runs, not of numbers.
    pub(crate) fn within(&self, runs: &Runs) -> Runs {
        let mut inside = Vec::new();
        for (start, end) in runs.iter() {
            let before = self.0.range(..start).next_back().filter(|(_, last)| **last >= start);
            let those = before.into_iter().chain(self.0.range(start..=end));
            inside.extend(those.map(|(first, last)| (start.max(*first), end.min(*last))));
        }
        Runs(inside)
    }
}

#[cfg(test)]
mod tests {
    use super::{Growing, Runs};

    #[test]
    fn runs_are_merged_and_asked() {
        let runs = Runs::new(vec![(9, 9), (1, 3), (4, 5), (2, 2), (u128::MAX, u128::MAX)]);
        assert_eq!(runs.iter().collect::<Vec<_>>(), [(1, 5), (9, 9), (u128::MAX, u128::MAX)]);
        assert!(!runs.contains(0) && !runs.contains(6) && runs.contains(9) && runs.contains(u128::MAX));
        assert_eq!([0, 3, 6, 9, 10].map(|n| runs.at_or_after(n)), [1, 3, 9, 9, u128::MAX].map(Some));
        assert_eq!(Runs::new(vec![(1, 5)]).at_or_after(6), None);
        assert_eq!(runs.count(), 7);
    }

    #[test]
    fn what_is_left_without_others() {
        let left = |runs: &[(u128, u128)], cuts: &[(u128, u128)]| {
            Runs::new(runs.to_vec()).without(&Runs::new(cuts.to_vec())).iter().collect::<Vec<_>>()
        };
        assert_eq!(left(&[(3, 7)], &[]), [(3, 7)]);
        assert_eq!(left(&[(3, 7)], &[(3, 7)]), []);
        assert_eq!(left(&[(3, 7)], &[(0, 1), (3, 3), (5, 5), (7, 9)]), [(4, 4), (6, 6)]);
        assert_eq!(left(&[(3, 7)], &[(4, 6)]), [(3, 3), (7, 7)]);
        assert_eq!(left(&[(1, 3), (5, 7), (9, 9)], &[(3, 5), (7, 20)]), [(1, 2), (6, 6)]);
        assert_eq!(left(&[(0, u128::MAX)], &[(0, 0), (u128::MAX, u128::MAX)]), [(1, u128::MAX - 1)]);
    }

    #[test]
    fn a_set_that_changes_has_the_runs_of_its_numbers() {
        let mut random = 7_u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u128::from((random >> 33) % below)
        };
        let (mut set, mut numbers) = (Growing::default(), std::collections::BTreeSet::new());
        for step in 0..20_000 {
            // The last number of all is one of the borders.
            let number = if next(20) == 0 { u128::MAX - next(2) } else { next(60) };
            if numbers.remove(&number) {
                set.remove(number);
            } else {
                numbers.insert(number);
                set.insert(number);
            }
            let (start, whole) = (next(60), next(2) == 0);
            let inside = if whole { (0, u128::MAX) } else { (start, start + next(20)) };
            let expected = numbers.range(inside.0..=inside.1).map(|number| (*number, *number)).collect();
            assert_eq!(set.within(&Runs::new(vec![inside])), Runs::new(expected), "step {step}");
        }
    }
}
