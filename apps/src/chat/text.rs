//! Names and messages: what is accepted.

use unicode_normalization::UnicodeNormalization as _;
use unicode_width::UnicodeWidthStr as _;

use super::wire::{MAX_NAME_CHARS, MAX_TEXT_BYTES};
use crate::shown::{is_invisible, is_unsafe, shown};

/// Checks the name of a member or a room; `what` says which.
///
/// # Errors
///
/// A sentence that says what is wrong with it.
pub(crate) fn check_name(what: &str, name: &str) -> Result<(), String> {
    let hidden = |c: char| c.is_whitespace() || is_unsafe(c) || is_invisible(c);
    let fault = if name.is_empty() {
        "it is empty".to_string()
    } else if name.chars().count() > MAX_NAME_CHARS {
        format!("it has more than {MAX_NAME_CHARS} characters")
    } else if name.chars().any(hidden) || name.width() == 0 {
        "it has a space or a character that cannot be seen".to_string()
    } else if name.starts_with('/') {
        "it begins like a command".to_string()
    } else {
        return Ok(());
    };
    // A name may be as long as a packet.
    let start: String = name.chars().take(MAX_NAME_CHARS).collect();
    Err(format!(
        "\"{}\" is no name for a {what}: {fault}",
        spelled_out(&start)
    ))
}

/// What cannot be seen is spelled out: it is what is wrong.
fn spelled_out(name: &str) -> String {
    let spell = |c: char| match is_invisible(c) {
        true => format!("\\u{{{:x}}}", u32::from(c)),
        false => c.to_string(),
    };
    shown(&name.chars().map(spell).collect::<String>())
}

/// What two names have in common that nobody could tell apart by their letters: small and capital letters,
/// and what Unicode calls compatible, such as `ﬁ` and `fi`, count as the same (NFKC of the small letters).
pub(crate) fn name_key(name: &str) -> String {
    let small = name.nfkc().flat_map(char::to_lowercase);
    small.nfkc().collect()
}

/// Checks a message.
///
/// # Errors
///
/// A sentence that says what is wrong with it.
pub(crate) fn check_text(text: &str) -> Result<(), String> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(format!(
            "a message of {} bytes was not sent: {MAX_TEXT_BYTES} is the most",
            text.len()
        ));
    }
    match text.trim().is_empty() {
        true => Err("an empty message was not sent".into()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_that_can_be_seen() {
        for good in ["ana", "李", "é", "e\u{301}", "हिन्दी", "👩", &"x".repeat(32)]
        {
            assert_eq!(check_name("member", good), Ok(()), "{good}");
        }
        let bad = ["", "a b", "a\u{1b}", "\u{202e}a", "/quit", "a\u{a0}"];
        for bad in bad.into_iter().chain([&*"x".repeat(33)]) {
            let sentence = check_name("member", bad).unwrap_err();
            assert!(sentence.len() < 200 && !sentence.contains('\u{1b}'));
        }
    }

    #[test]
    fn no_name_differs_from_another_by_what_cannot_be_seen() {
        let hidden = "\u{ad}\u{34f}\u{61c}\u{115f}\u{1160}\u{17b4}\u{180b}\u{180e}\u{180f}\u{200b}\
            \u{200c}\u{200d}\u{200e}\u{202a}\u{2060}\u{2066}\u{2800}\u{3164}\u{fe00}\u{fe0f}\u{feff}\
            \u{ffa0}\u{1d173}\u{e0020}\u{e0100}\u{e01ef}";
        for c in hidden.chars() {
            let sentence = check_name("member", &format!("an{c}a")).unwrap_err();
            assert!(sentence.contains("cannot be seen"), "{sentence}");
            let spelled = format!("\"an\\u{{{:x}}}a\"", u32::from(c));
            assert!(sentence.starts_with(&spelled), "{sentence}");
        }
        // Marks without anything to stand on.
        assert!(check_name("member", "\u{301}").is_err());
    }

    #[test]
    fn names_that_look_alike_by_rule_are_the_same() {
        for (one, other) in [
            ("Ana", "ana"),
            ("ａｎａ", "ana"),
            ("é", "e\u{301}"),
            ("ﬁm", "FIM"),
            ("①", "1"),
            ("Ω", "ω"),
            ("𝐚na", "ana"),
        ] {
            assert_eq!(name_key(one), name_key(other), "{one} {other}");
        }
        assert_ne!(name_key("ana"), name_key("aná"));
    }

    #[test]
    fn a_message_has_a_longest_length() {
        assert!(check_text(&"x".repeat(MAX_TEXT_BYTES)).is_ok());
        assert!(check_text(&"x".repeat(MAX_TEXT_BYTES + 1)).is_err());
        assert!(check_text("  ").is_err());
    }
}
