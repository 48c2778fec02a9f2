//! The chat without a terminal: lines in, lines out.

use std::io::{BufRead, Read as _, Write as _};

use mutirao::machine::Time;

use super::client::{Face, Keyboard, Typed, Wish};
use super::guest::Guest;
use super::talk::Talk;
use crate::exit::Exit;
use crate::shown::shown;

/// The longest line that is read whole; longer ones could not be said anyway.
const MAX_LINE_BYTES: u64 = 16 << 10;

/// Lines on standard input and output.
pub(crate) struct Plain {
    /// What is to be said about lines that were no good.
    asides: Vec<Talk>,
    not_text: u64,
}

impl Plain {
    /// Reads lines in a thread of its own.
    pub(crate) fn open(keyboard: Keyboard) -> Plain {
        std::thread::spawn(move || read_lines(&mut std::io::stdin().lock(), &keyboard));
        Plain {
            asides: Vec::new(),
            not_text: 0,
        }
    }
}

fn read_lines(input: &mut impl BufRead, keyboard: &Keyboard) {
    while let Ok(Some(typed)) = read_line(input) {
        if !keyboard.type_in(typed) {
            return;
        }
    }
    keyboard.type_in(Typed::End);
}

/// The next line, if there is one. Of a line that is too long, the rest is passed over.
fn read_line(input: &mut impl BufRead) -> std::io::Result<Option<Typed>> {
    let (mut line, mut long) = (Vec::new(), false);
    loop {
        line.clear();
        let read = input.take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(long.then_some(Typed::LongLine));
        }
        let whole = line.last() == Some(&b'\n') || (read as u64) < MAX_LINE_BYTES;
        if !whole {
            long = true;
            continue;
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        return Ok(Some(match long {
            true => Typed::LongLine,
            false => Typed::Line(line),
        }));
    }
}

impl Face for Plain {
    fn typed(&mut self, typed: Typed) -> Option<Wish> {
        match typed {
            Typed::Line(line) => match String::from_utf8(line) {
                Ok(line) => return Some(Wish::Line(line)),
                Err(_) => {
                    self.not_text += 1;
                    self.asides.push(Talk::aside(format!(
                        "a line that is not UTF-8 was not sent ({} so far)",
                        self.not_text
                    )));
                }
            },
            Typed::LongLine => self.asides.push(Talk::aside(format!(
                "a line of more than {MAX_LINE_BYTES} bytes was not sent"
            ))),
            Typed::End => return Some(Wish::LeaveWhenDone),
            Typed::Terminal(_) => {}
        }
        None
    }

    /// Lines wait in their pipe.
    fn hears_when_full(&self) -> bool {
        false
    }

    fn keep(&mut self, line: String) {
        let sentence = format!("not sent, too much is on the way: {}", shown(&line));
        self.asides.push(Talk::aside(sentence));
    }

    fn show(&mut self, talk: Talk) -> Result<(), Exit> {
        writeln!(std::io::stdout().lock(), "{talk}").map_err(|error| match error.kind() {
            std::io::ErrorKind::BrokenPipe => Exit::ReaderGone,
            _ => Exit::Environment(format!("standard output cannot be written: {error}")),
        })
    }

    fn draw(&mut self, _guest: &Guest, _now: Time) -> Result<Option<Time>, Exit> {
        for talk in std::mem::take(&mut self.asides) {
            self.show(talk)?;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_whole_or_not_at_all() {
        let long = "x".repeat(3 * MAX_LINE_BYTES as usize);
        let text = format!("olá\n{long}\n\nlast");
        let mut input = text.as_bytes();
        let mut lines = Vec::new();
        while let Some(typed) = read_line(&mut input).unwrap() {
            lines.push(match typed {
                Typed::Line(line) => String::from_utf8(line).unwrap(),
                _ => "long".into(),
            });
        }
        assert_eq!(lines, ["olá", "long", "", "last"]);
    }
}
