//! Text in rows of a given width, as terminals count it.

use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::UnicodeWidthStr as _;

/// Cuts a text into rows of at most so many columns, at spaces where there are any.
pub(super) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(2);
    let (mut rows, mut row, mut width) = (Vec::new(), String::new(), 0);
    for part in text.graphemes(true) {
        let part_width = part.width();
        if width + part_width > columns {
            let rest = match row.rfind(' ') {
                Some(space) if part != " " && space > 0 => row.split_off(space + 1),
                _ => String::new(),
            };
            rows.push(std::mem::replace(&mut row, rest));
            width = row.width();
            if part == " " {
                continue;
            }
        }
        row.push_str(part);
        width += part_width;
    }
    rows.push(row);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_end_at_spaces_if_they_can() {
        assert_eq!(wrap("um dois tres", 8), ["um dois ", "tres"]);
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("", 4), [""]);
        assert_eq!(wrap("中文字符", 5), ["中文", "字符"]);
    }

    #[test]
    fn no_row_is_too_wide_and_nothing_is_lost() {
        use mutirao::sim::{Rng, run_seeds};
        run_seeds(0..200, |seed| {
            let mut rng = Rng::new(seed);
            let pieces = ["a", "中", "e\u{301}", "👩‍🚀", " ", "word ", "🇧🇷"];
            let picked = (0..rng.below(60)).filter_map(|_| rng.pick(&pieces).copied());
            let text: String = picked.collect();
            let columns = 2 + rng.below(20) as usize;
            let rows = wrap(&text, columns);
            assert!(rows.iter().all(|row| row.width() <= columns), "{rows:?}");
            let squeeze = |text: &str| text.replace(' ', "");
            assert_eq!(squeeze(&rows.concat()), squeeze(&text));
        });
    }
}
