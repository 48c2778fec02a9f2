//! Numbers as people read them: three digits, and a unit that fits.

use super::statistics::Spread;

/// What is shown for a value that there is not.
pub(super) const NONE: &str = "–";

/// `16 B`, `64 KiB`.
pub(super) fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} B"),
    }
}

/// `987`, `12.3 k`, `4.56 M`.
pub(crate) fn count(number: f64) -> String {
    match number {
        0.0..999.5 if number.fract() == 0.0 => format!("{number}"),
        0.0..999.5 => digits(number),
        0.0..999_500.0 => format!("{} k", digits(number / 1e3)),
        _ => format!("{} M", digits(number / 1e6)),
    }
}

/// `1,234,567`: every digit.
pub(crate) fn whole(number: u64) -> String {
    match number {
        0..1000 => number.to_string(),
        _ => format!("{},{:03}", whole(number / 1000), number % 1000),
    }
}

/// `87.3 µs`, `1.23 ms`, `4.56 s`.
pub(crate) fn microseconds(us: f64) -> String {
    match us {
        0.0..999.5 => format!("{} µs", digits(us)),
        0.0..999_500.0 => format!("{} ms", digits(us / 1e3)),
        _ => format!("{} s", digits(us / 1e6)),
    }
}

/// `1 %`, `0.1 %`, `12.3 %`; small ones are not made nothing.
pub(crate) fn per_cent(percent: f64) -> String {
    match percent {
        0.0 => "0 %".into(),
        0.0..0.001 => "< 0.001 %".into(),
        0.0..0.1 => format!("{} %", short(format!("{percent:.3}"))),
        0.0..10.0 => format!("{} %", short(format!("{percent:.2}"))),
        _ => format!("{} %", short(format!("{percent:.1}"))),
    }
}

/// Three digits that count.
pub(super) fn digits(number: f64) -> String {
    match number {
        0.0 => "0".into(),
        0.0..9.995 => format!("{number:.2}"),
        0.0..99.95 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}

/// Without zeros that say nothing.
fn short(number: String) -> String {
    match number.contains('.') {
        true => number.trim_end_matches('0').trim_end_matches('.').into(),
        false => number,
    }
}

/// A value, or a dash.
pub(crate) fn or_none(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| NONE.into(), show)
}

/// The median and the range behind it.
pub(super) fn spread(spread: Option<Spread>, show: impl Fn(f64) -> String) -> [String; 2] {
    match spread {
        None => [NONE.into(), String::new()],
        Some(Spread { median, min, max }) if min == max => [show(median), String::new()],
        Some(Spread { median, min, max }) => [show(median), range(&show(min), &show(max))],
    }
}

/// `1.20–1.35 M`: a unit that both share is said once.
fn range(min: &str, max: &str) -> String {
    match (min.split_once(' '), max.split_once(' ')) {
        (Some((number, unit)), Some((_, same))) if unit == same => format!("{number}–{max}"),
        _ => format!("{min}–{max}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        for (number, shown) in [
            (0.0, "0"),
            (1.234, "1.23"),
            (71.0, "71"),
            (999.4, "999"),
            (999.7, "1.00 k"),
            (12_345.0, "12.3 k"),
            (4.56e6, "4.56 M"),
            (123e6, "123 M"),
        ] {
            assert_eq!(count(number), shown);
        }
        assert_eq!(whole(1_000_034), "1,000,034");
        assert_eq!(microseconds(87.34), "87.3 µs");
        assert_eq!(microseconds(1234.0), "1.23 ms");
        assert_eq!(microseconds(2e6), "2.00 s");
    }

    #[test]
    fn per_cents_are_short_and_small_ones_do_not_become_nothing() {
        for (percent, shown) in [
            (0.0, "0 %"),
            (1.0, "1 %"),
            (0.1, "0.1 %"),
            (0.0123, "0.012 %"),
            (0.0001, "< 0.001 %"),
            (10.0, "10 %"),
            (100.0, "100 %"),
            (12.34, "12.3 %"),
        ] {
            assert_eq!(per_cent(percent), shown);
        }
    }

    #[test]
    fn sizes_are_whole_or_in_bytes() {
        assert_eq!(size(16), "16 B");
        assert_eq!(size(1024), "1 KiB");
        assert_eq!(size(65_536), "64 KiB");
        assert_eq!(size(1500), "1500 B");
        assert_eq!(size(2 << 20), "2 MiB");
    }

    #[test]
    fn a_range_of_one_value_is_left_out() {
        let one = Spread::of([2.0]);
        assert_eq!(spread(one, digits), ["2.00", ""]);
        assert_eq!(
            spread(Spread::of([1.0, 2.0, 4.0]), digits),
            ["2.00", "1.00–4.00"]
        );
        assert_eq!(spread(None, digits), [NONE, ""]);
        let rates = Spread::of([1.2e6, 1.3e6]);
        assert_eq!(spread(rates, count)[1], "1.20–1.30 M");
        let rates = Spread::of([900e3, 1.3e6]);
        assert_eq!(spread(rates, count)[1], "900 k–1.30 M");
    }
}
