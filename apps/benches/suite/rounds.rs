//! Turns: every contender runs once in each round, so that they share good and bad moments.

use crate::Result;
use crate::report::Samples;

type Contender<'a> = &'a mut dyn FnMut() -> Result<f64>;

/// Runs all contenders `rounds` times in turn and returns what each measured.
pub(crate) fn interleave<const N: usize>(
    rounds: usize,
    mut contenders: [Contender<'_>; N],
) -> Result<[Samples; N]> {
    let mut samples: [Vec<f64>; N] = std::array::from_fn(|_| Vec::new());
    for _ in 0..rounds {
        for (contender, samples) in contenders.iter_mut().zip(&mut samples) {
            samples.push(contender()?);
        }
    }
    Ok(samples.map(Samples::new))
}

/// Runs one contender `rounds` times.
pub(crate) fn repeat(rounds: usize, mut contender: impl FnMut() -> Result<f64>) -> Result<Samples> {
    let [samples] = interleave(rounds, [&mut contender])?;
    Ok(samples)
}

/// The value below which `percent` of the sorted values lie.
pub(crate) fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted
        .get(last * percent / 100)
        .copied()
        .unwrap_or(f64::NAN)
}
