//! φ: how improbable it is that a heartbeat comes even later.

use std::f64::consts::{LN_2, LN_10, SQRT_2};

/// -log10 of the probability that a normally distributed value lies more than so many standard deviations
/// above the mean.
///
/// Right to seven digits, also where the probability itself is too small for a number: φ of 100 deviations is
/// 2174, not infinite.
pub fn phi(deviations: f64) -> f64 {
    let tail = |deviations: f64| ln_erfc(deviations / SQRT_2) - LN_2;
    let ln_probability = match deviations < 0.0 {
        true => (-tail(-deviations).exp()).ln_1p(),
        false => tail(deviations),
    };
    -ln_probability / LN_10
}

/// The logarithm of the complementary error function, for x of at least 0.
///
/// Press, Teukolsky, Vetterling, Flannery: Numerical Recipes, 2nd edition, §6.2, whose rational Chebyshev
/// fit is a product with exp(-x²) and can be taken as a sum of logarithms.
fn ln_erfc(x: f64) -> f64 {
    const FIT: [f64; 10] = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    let t = 1.0 / (1.0 + 0.5 * x);
    let fit = FIT.iter().rev().fold(0.0, |sum, term| sum * t + term);
    t.ln() - x * x + fit
}

/// How many standard deviations above the mean φ reaches `threshold`, from 0 on.
pub(super) fn deviations(threshold: f64) -> f64 {
    let (mut low, mut high) = (0.0, 64.0);
    // Halved often enough for every bit.
    for _ in 0..64 {
        let middle = (low + high) / 2.0;
        match phi(middle) < threshold {
            true => low = middle,
            false => high = middle,
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_the_tables_far_into_the_tail() {
        let known = [
            (-3.0, 0.000_586_65),
            (0.0, std::f64::consts::LOG10_2),
            (1.0, 0.799_546_3),
            (5.612_001_2, 8.0),
            (10.0, 23.118_05),
            (40.0, 349.437_0),
            (100.0, 2_173.871_5),
        ];
        for (deviations, expected) in known {
            let found: f64 = phi(deviations);
            let error = (found - expected).abs() / expected;
            assert!(error < 1e-5, "φ({deviations}) is {found}, not {expected}");
        }
    }

    #[test]
    fn it_grows_without_end_and_is_never_infinite() {
        let mut last = 0.0;
        for step in -80..100_000 {
            let phi = phi(f64::from(step) / 10.0);
            assert!(phi.is_finite() && phi > last, "at {step}");
            last = phi;
        }
    }

    #[test]
    fn the_inverse_is_the_inverse() {
        for threshold in [0.31, 1.0, 8.0, 16.0, 300.0] {
            assert!((phi(deviations(threshold)) - threshold).abs() < 1e-9);
        }
    }
}
