//! Any bytes in one line: plain text as it is, with line ends and backslashes escaped; all else in Base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Words;

/// Appends `text` or `base64`, a space, and the bytes so written.
pub(super) fn write(bytes: &[u8], words: &mut String) {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(is_plain) => {
            words.push_str("text ");
            text.chars().for_each(|char| escape(char, words));
        }
        _ => {
            words.push_str("base64 ");
            STANDARD.encode_string(bytes, words);
        }
    }
}

/// Whether a terminal shows it and does nothing else.
fn is_plain(char: char) -> bool {
    let turns_text_around =
        matches!(char, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    matches!(char, '\n' | '\r' | '\t') || !(char.is_control() || turns_text_around)
}

fn escape(char: char, words: &mut String) {
    match char {
        '\n' => words.push_str("\\n"),
        '\r' => words.push_str("\\r"),
        '\t' => words.push_str("\\t"),
        '\\' => words.push_str("\\\\"),
        other => words.push(other),
    }
}

/// Reads all that is left of the line.
pub(super) fn read(words: &mut Words<'_>) -> Option<Vec<u8>> {
    match words.word()? {
        "text" => unescape(words.rest()),
        "base64" => STANDARD.decode(words.rest()).ok(),
        _ => None,
    }
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next()? {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'\\' => b'\\',
                _ => return None,
            },
            other => other,
        });
    }
    Some(bytes)
}
