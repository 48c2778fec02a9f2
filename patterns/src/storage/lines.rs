//! The four files as lines of text that a person can read and a program can trust.
//!
//! Every line is words between single spaces, then ` #` and the CRC-32 of what stands before it in eight
//! hexadecimal digits. A line that was cut short or changed is therefore never taken for another.

mod body;
mod files;
mod reader;

use std::fmt::Write as _;

use super::Checksum;

pub use files::{BeatLine, ClientLine, DataLine, NodeBeat, RegisterLine};
pub use reader::{Lines, Named};

/// The longest name of a data node.
pub const MAX_NAME_BYTES: usize = 64;

/// Why a line cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// The last line has no end: the program died while it wrote it. Nothing that was confirmed is lost.
    #[error("the last line is cut short")]
    Torn,
    /// The line is not what was written, or was written by another program.
    #[error("the line is damaged: its checksum does not fit")]
    Damaged,
    /// The line is longer than any that is written.
    #[error("the line is too long")]
    TooLong,
}

/// A kind of line: what it says, written and read side by side.
pub trait TextLine: Sized {
    /// Appends the words.
    fn write_words(&self, words: &mut String);

    /// Reads the words; `None` when they make no sense.
    fn read_words(words: &mut Words<'_>) -> Option<Self>;

    /// The line with its checksum and its end.
    fn to_line(&self) -> String {
        let mut line = String::new();
        self.write_words(&mut line);
        let sum = Checksum::of(line.as_bytes());
        // Writing to memory cannot fail.
        let _ = writeln!(line, " #{sum}");
        line
    }

    /// Reads a line, its end included.
    ///
    /// # Errors
    ///
    /// The line is torn or damaged.
    fn from_line(line: &[u8]) -> Result<Self, LineError> {
        let line = line.strip_suffix(b"\n").ok_or(LineError::Torn)?;
        let line = std::str::from_utf8(line).map_err(|_| LineError::Damaged)?;
        let (words, sum) = line.rsplit_once(" #").ok_or(LineError::Damaged)?;
        if sum != Checksum::of(words.as_bytes()).to_string() {
            return Err(LineError::Damaged);
        }
        Self::read_words(&mut Words(words)).ok_or(LineError::Damaged)
    }
}

/// What is left of a line.
#[derive(Debug)]
pub struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    /// The next word.
    pub fn word(&mut self) -> Option<&'a str> {
        if self.0.is_empty() {
            return None;
        }
        let (word, rest) = self.0.split_once(' ').unwrap_or((self.0, ""));
        self.0 = rest;
        Some(word)
    }

    fn number<T: std::str::FromStr>(&mut self) -> Option<T> {
        self.word()?.parse().ok()
    }

    fn hex(&mut self) -> Option<u64> {
        crate::hex::read(self.word()?)
    }

    fn checksum(&mut self) -> Option<Checksum> {
        Some(Checksum(self.hex()?.try_into().ok()?))
    }

    /// All that is left.
    fn rest(&mut self) -> &'a str {
        std::mem::take(&mut self.0)
    }
}

/// Checks the name of a data node: 1 to 64 letters, digits, dots, dashes and underscores.
///
/// # Errors
///
/// A sentence that says what is wrong.
pub fn check_name(name: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(fits) {
        return Err(format!(
            "{name:?} is no name for a data node: give 1 to {MAX_NAME_BYTES} letters, digits, dots, dashes or underscores"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
