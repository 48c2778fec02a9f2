//! Text that comes from others, as it may be shown on a terminal or written into a log.

use std::fmt::Write as _;

use unicode_normalization::char::canonical_combining_class;
use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::UnicodeWidthChar as _;

/// Marks on one character that are shown; no script needs so many, and hundreds of them would run over the
/// lines above.
const MAX_MARKS: usize = 8;

/// Joins what stands before and behind it, such as the parts of an emoji.
const JOINER: char = '\u{200d}';

/// The combining class of signs that join consonants (a virama).
const VIRAMA: u8 = 9;

/// Whether a terminal would act on the character, or hide or turn around what stands beside it.
pub(crate) fn is_unsafe(c: char) -> bool {
    // The joiners are another matter: emoji and some scripts are written with them.
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// Whether nothing is seen of the character by itself (Unicode's `Default_Ignorable_Code_Point`, and the
/// Braille pattern without dots).
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// The text as it may be shown: escape sequences, control characters, what changes the direction of
/// writing and joiners that join nothing are spelled out, marks beyond [`MAX_MARKS`] are counted.
pub(crate) fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for cluster in text.graphemes(true) {
        show_cluster(cluster, &mut shown);
    }
    shown
}

/// What people see as one character.
fn show_cluster(cluster: &str, shown: &mut String) {
    let (mut marks, mut before) = (0, None);
    let mut chars = cluster.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\t' => shown.push_str("    "),
            '\n' => shown.push_str("\\n"),
            c if is_unsafe(c) || c == JOINER && !joins(before, chars.peek().copied()) => {
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
            }
            c if c.width() == Some(0) => {
                marks += 1;
                if marks <= MAX_MARKS {
                    shown.push(c);
                }
            }
            c => shown.push(c),
        }
        before = Some(c);
    }
    if marks > MAX_MARKS {
        let _ = write!(shown, "[{} marks more]", marks - MAX_MARKS);
    }
}

/// Whether a joiner between these, which are of one cluster, has something to join: two pictographs, or
/// consonants.
fn joins(before: Option<char>, behind: Option<char>) -> bool {
    let linked = before.is_some_and(|c| canonical_combining_class(c) == VIRAMA);
    linked || before.is_some() && behind.is_some_and(|c| c.width() > Some(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_would_act_on_is_shown_as_it_is() {
        assert_eq!(shown("\u{1b}[31mred\u{7}"), "\\u{1b}[31mred\\u{7}");
        assert_eq!(shown("a\nb\tc\r"), "a\\nb    c\\u{d}");
        assert_eq!(shown("a\r\nb"), "a\\u{d}\\nb");
        assert_eq!(shown("\u{9b}1m \u{202e}abc"), "\\u{9b}1m \\u{202e}abc");
        let fine = "olá 中文 é ی‌ن 각 각";
        assert_eq!(shown(fine), fine);
    }

    #[test]
    fn a_joiner_stays_where_it_joins() {
        // Emoji of several parts, Sinhala and Devanagari.
        for fine in ["👩‍🚀", "❤️‍🔥", "👩🏽‍🚀", "🏴‍☠️", "👨‍👩‍👧‍👦", "👩🏻‍❤️‍💋‍👨🏻", "ශ්‍රී", "क्‍ष"]
        {
            assert_eq!(shown(fine), fine);
        }
        for (text, expected) in [
            ("\u{200d}", "\\u{200d}"),
            ("a\u{200d}b", "a\\u{200d}b"),
            ("👩\u{200d}", "👩\\u{200d}"),
            ("👩\u{200d}x", "👩\\u{200d}x"),
            ("x\u{200d}👩", "x\\u{200d}👩"),
            ("👩\u{200d}\u{200d}🚀", "👩\\u{200d}\\u{200d}🚀"),
        ] {
            assert_eq!(shown(text), expected);
        }
    }

    #[test]
    fn marks_are_bounded_and_the_rest_is_counted() {
        let text = format!("a{}b", "\u{301}".repeat(100));
        let expected = format!("a{}[92 marks more]b", "\u{301}".repeat(8));
        assert_eq!(shown(&text), expected);
        let chain = "👩\u{200d}".repeat(100) + "👩";
        assert!(shown(&chain).matches('\u{200d}').count() <= MAX_MARKS);
    }
}
