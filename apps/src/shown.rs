//! Text that comes from others, as it may be shown on a terminal or written into a log.

use std::fmt::Write as _;

/// Whether a terminal would act on the character, or hide or turn around what stands beside it.
pub(crate) fn is_unsafe(c: char) -> bool {
    // The joiners stay: emoji and some scripts are written with them.
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// The text as it may be shown: escape sequences, control characters and what changes the direction of
/// writing are spelled out.
pub(crate) fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => shown.push_str("    "),
            '\n' => shown.push_str("\\n"),
            c if is_unsafe(c) => {
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
            }
            c => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_would_act_on_is_shown_as_it_is() {
        assert_eq!(shown("\u{1b}[31mred\u{7}"), "\\u{1b}[31mred\\u{7}");
        assert_eq!(shown("a\nb\tc\r"), "a\\nb    c\\u{d}");
        assert_eq!(shown("\u{9b}1m \u{202e}abc"), "\\u{9b}1m \\u{202e}abc");
        let fine = "olá 中文 👩‍🚀 é ی‌ن";
        assert_eq!(shown(fine), fine);
    }
}
