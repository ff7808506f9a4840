//! Compares rows within each round, because the machine's speed changes from one to the next.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

/// A row's value in every round.
#[derive(Clone, Debug)]
pub(crate) struct Series(Vec<Point>);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub(crate) value: f64,
    pub(crate) disturbed: bool,
}

/// One series divided by another, round by round.
#[derive(Debug, Serialize)]
pub(crate) struct Ratio {
    pub(crate) median: f64,
    least: f64,
    most: f64,
    rounds: usize,
    /// Rounds in which no turn of the rows that are compared was disturbed.
    undisturbed: usize,
}

impl Series {
    pub(crate) fn new(points: impl Iterator<Item = Point>) -> Self {
        Self(points.collect())
    }

    pub(crate) fn times(&self, factor: f64) -> Self {
        Self::new(self.0.iter().map(|point| Point { value: factor * point.value, ..*point }))
    }

    pub(crate) fn plus(&self, other: &Self) -> Self {
        self.with(other, |one, other| one + other)
    }

    pub(crate) fn by(&self, other: &Self) -> Ratio {
        Ratio::of(self.with(other, |one, other| one / other))
    }

    fn with(&self, other: &Self, join: fn(f64, f64) -> f64) -> Self {
        Self::new(self.0.iter().zip(&other.0).map(|(one, other)| Point {
            value: join(one.value, other.value),
            disturbed: one.disturbed || other.disturbed,
        }))
    }
}

impl Ratio {
    fn of(Series(points): Series) -> Self {
        let mut values: Vec<f64> = points.iter().map(|point| point.value).collect();
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
        let rounds = values.len();
        Self {
            median: (at(rounds.saturating_sub(1) / 2) + at(rounds / 2)) / 2.0,
            least: at(0),
            most: at(rounds.saturating_sub(1)),
            rounds,
            undisturbed: points.iter().filter(|point| !point.disturbed).count(),
        }
    }
}

/// Without the median.
impl Display for Ratio {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { least, most, rounds, undisturbed, .. } = self;
        write!(f, "{least:.2} to {most:.2}, {undisturbed} of {rounds} rounds undisturbed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[f64]) -> Series {
        Series::new(values.iter().map(|value| Point { value: *value, disturbed: *value > 100.0 }))
    }

    #[test]
    fn each_round_is_divided_by_its_own_reference() {
        // The machine was half as fast in the second and the third round.
        let ratio = series(&[30.0, 60.0, 62.0]).by(&series(&[20.0, 40.0, 40.0]));
        assert_eq!((ratio.least, ratio.median, ratio.most), (1.5, 1.5, 1.55));
    }

    #[test]
    fn the_median_of_two_rounds_is_between_them() {
        assert_eq!(series(&[1.0, 3.0]).by(&series(&[1.0, 1.0])).median, 2.0);
    }

    #[test]
    fn a_sum_is_made_round_by_round() {
        let floor = series(&[5.0, 7.0]).times(2.0).plus(&series(&[8.0, 13.0]));
        let ratio = series(&[36.0, 54.0]).by(&floor);
        assert_eq!((ratio.least, ratio.most), (2.0, 2.0));
    }

    #[test]
    fn a_round_is_disturbed_if_one_of_its_turns_was() {
        let ratio = series(&[1.0, 101.0, 1.0]).by(&series(&[1.0, 1.0, 101.0]));
        assert_eq!((ratio.rounds, ratio.undisturbed), (3, 1));
    }

    #[test]
    fn no_rounds_give_no_number() {
        assert!(series(&[]).by(&series(&[])).median.is_nan());
    }
}
