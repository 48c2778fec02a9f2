//! Standard input: each line is a task.

use std::io::{self, BufRead, Read as _};

use super::{InputError, PieceError};
use crate::dispatch::task::Place;

/// An iterator over lines, without their ends (`\n` or `\r\n`). Gives a line as soon as it is
/// there, so it cannot know which is the last: [`Place::last`] is never true.
///
/// A line over the limit is an error for its place, and the next lines follow; an input that
/// breaks is an error and the end.
pub(crate) struct Lines<R> {
    reader: R,
    limit_bytes: usize,
    line: u64,
    over: bool,
}

impl<R: BufRead> Lines<R> {
    /// The lines of `reader`, each of at most `limit_bytes` without its end.
    pub(crate) fn new(reader: R, limit_bytes: usize) -> Self {
        Lines {
            reader,
            limit_bytes,
            line: 0,
            over: false,
        }
    }

    /// The next line, `None` at the end.
    fn read(&mut self) -> Result<Option<Vec<u8>>, InputError> {
        let mut line = Vec::new();
        // Room for the line end: `\r\n` is two bytes.
        let most = self.limit_bytes.saturating_add(2) as u64;
        let count = (&mut self.reader).take(most).read_until(b'\n', &mut line);
        if count.map_err(|e| self.broken(e))? == 0 {
            return Ok(None);
        }
        let ended = line.last() == Some(&b'\n');
        strip_end(&mut line);
        if line.len() <= self.limit_bytes {
            return Ok(Some(line));
        }
        if !ended {
            self.reader.skip_until(b'\n').map_err(|e| self.broken(e))?;
        }
        Err(InputError::LineTooLong {
            source_name: "standard input".to_owned(),
            at: format!("line {}", self.line + 1),
            limit_bytes: self.limit_bytes,
        })
    }

    fn broken(&self, source: io::Error) -> InputError {
        InputError::Stdin {
            line: self.line + 1,
            source,
        }
    }
}

/// Only a line with an end can lose a carriage return: without one, it may be data.
fn strip_end(line: &mut Vec<u8>) {
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<(Place, Vec<u8>), PieceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let result = self.read().transpose();
        self.over = matches!(result, None | Some(Err(InputError::Stdin { .. })));
        let place = Place {
            name: String::new(),
            input: 0,
            piece: self.line,
            last: false,
        };
        self.line += 1;
        Some(match result? {
            Ok(line) => Ok((place, line)),
            Err(reason) => Err(PieceError { place, reason }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, limit_bytes: usize) -> Vec<Result<String, String>> {
        Lines::new(text.as_bytes(), limit_bytes)
            .enumerate()
            .map(|(i, line)| match line {
                Ok((place, data)) => {
                    assert_eq!((place.piece, place.last), (i as u64, false));
                    Ok(String::from_utf8(data).unwrap())
                }
                Err(error) => {
                    assert_eq!(error.place.piece, i as u64);
                    Err(error.to_string())
                }
            })
            .collect()
    }

    #[test]
    fn each_line_is_a_task_without_its_end() {
        let texts: Vec<_> = lines("a\n\nb\r\nc", 9)
            .into_iter()
            .map(Result::unwrap)
            .collect();
        assert_eq!(texts, ["a", "", "b", "c"]);
        assert!(lines("", 9).is_empty());
    }

    #[test]
    fn a_line_over_the_limit_fails_alone() {
        let result = lines("abc\nabcd\nabcdefghi\r\nabc\r\nabcd", 3);
        assert_eq!(result[0].as_deref(), Ok("abc"));
        let error = result[1].as_deref().unwrap_err();
        assert!(
            error.contains("starts at line 2 is over the limit of 3"),
            "{error}"
        );
        assert!(result[2].is_err());
        assert_eq!(result[3].as_deref(), Ok("abc"));
        assert!(result[4].is_err());
        assert_eq!(result.len(), 5);
    }

    #[test]
    fn an_input_that_breaks_is_an_error_and_the_end() {
        struct Broken;
        impl io::Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("gone"))
            }
        }
        let mut lines = Lines::new(io::BufReader::new(Broken), 9);
        assert!(
            lines
                .next()
                .unwrap()
                .unwrap_err()
                .to_string()
                .contains("at line 1: gone")
        );
        assert!(lines.next().is_none());
    }
}
