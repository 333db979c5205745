//! Figures of interleaved rounds.
//!
//! Owns medians, percentiles and ratios. Refuses to measure.

/// Which way is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// One measurement of one contender, over all rounds.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) test: String,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) contender: String,
    /// One per round.
    pub(crate) values: Vec<f64>,
}

/// All figures of a run.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    rows: Vec<Row>,
}

impl Figures {
    /// Adds the figure of one round.
    pub(crate) fn add(
        &mut self,
        test: &str,
        unit: &'static str,
        better: Better,
        contender: &str,
        value: f64,
    ) {
        match self.rows.iter_mut().find(|row| row.test == test && row.contender == contender) {
            Some(row) => row.values.push(value),
            None => self.rows.push(Row {
                test: test.to_owned(),
                unit,
                better,
                contender: contender.to_owned(),
                values: vec![value],
            }),
        }
    }

    /// The rows of each test together, in the order in which they were first taken.
    pub(crate) fn by_test(&self) -> impl Iterator<Item = &Row> {
        let is_first = |&(index, row): &(usize, &Row)| {
            !self.rows[..index].iter().any(|earlier| earlier.test == row.test)
        };
        let tests = self.rows.iter().enumerate().filter(is_first).map(|(_, row)| &row.test);
        tests.flat_map(|test| self.rows.iter().filter(move |row| row.test == *test))
    }

    fn row(&self, test: &str, contender: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.test == test && row.contender == contender)
    }

    /// The median over the rounds.
    pub(crate) fn median(&self, test: &str, contender: &str) -> Option<f64> {
        Some(median(&self.row(test, contender)?.values))
    }

    /// The median of the ratios within each round: what both sides of a round share (a busy machine, a slow
    /// hour) drops out.
    pub(crate) fn ratio(&self, test: &str, ours: &str, peer: &str) -> Option<f64> {
        let (ours, peer) = (self.row(test, ours)?, self.row(test, peer)?);
        let ratios: Vec<f64> = ours.values.iter().zip(&peer.values).map(|(a, b)| a / b).collect();
        Some(median(&ratios))
    }
}

/// The middle value; the mean of the two middle ones of an even number.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The value below which `part` (0 to 1) of `samples` lie. Sorts them.
pub(crate) fn percentile<T: Copy + Ord>(samples: &mut [T], part: f64) -> Option<T> {
    samples.sort_unstable();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index of a list that fits in memory, times at most one"
    )]
    let index = (samples.len().saturating_sub(1) as f64 * part.clamp(0.0, 1.0)).round() as usize;
    samples.get(index).copied()
}
