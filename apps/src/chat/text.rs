//! Names and messages: what is accepted.

use super::wire::{MAX_NAME_CHARS, MAX_TEXT_BYTES};
use crate::shown::{is_unsafe, shown};

/// Checks the name of a member or a room; `what` says which.
///
/// # Errors
///
/// A sentence that says what is wrong with it.
pub(crate) fn check_name(what: &str, name: &str) -> Result<(), String> {
    let fault = if name.is_empty() {
        "it is empty".to_string()
    } else if name.chars().count() > MAX_NAME_CHARS {
        format!("it has more than {MAX_NAME_CHARS} characters")
    } else if name.chars().any(|c| c.is_whitespace() || is_unsafe(c)) {
        "it has a space or a character that cannot be seen".to_string()
    } else if name.starts_with('/') {
        "it begins like a command".to_string()
    } else {
        return Ok(());
    };
    // A name may be as long as a packet.
    let start: String = name.chars().take(MAX_NAME_CHARS).collect();
    Err(format!(
        "{:?} is no name for a {what}: {fault}",
        shown(&start)
    ))
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
        for good in ["ana", "李", "é", &"x".repeat(32)] {
            assert_eq!(check_name("member", good), Ok(()), "{good}");
        }
        let bad = ["", "a b", "a\u{1b}", "\u{202e}a", "/quit", "a\u{a0}"];
        for bad in bad.into_iter().chain([&*"x".repeat(33)]) {
            let sentence = check_name("member", bad).unwrap_err();
            assert!(sentence.len() < 200 && !sentence.contains('\u{1b}'));
        }
    }

    #[test]
    fn a_message_has_a_longest_length() {
        assert!(check_text(&"x".repeat(MAX_TEXT_BYTES)).is_ok());
        assert!(check_text(&"x".repeat(MAX_TEXT_BYTES + 1)).is_err());
        assert!(check_text("  ").is_err());
    }
}
