//! Reads a file line by line, and goes on behind what is damaged.

use std::io::{BufRead, Read, Result};
use std::marker::PhantomData;

use super::{LineError, TextLine};

/// A line with its place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named<T> {
    /// Counted from 1, as editors do.
    pub number: u64,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How long it is, its end included, in bytes.
    pub length: u64,
    /// What it says.
    pub line: std::result::Result<T, LineError>,
}

/// The lines of a file. A [torn](LineError::Torn) one can only be the last: the file is to be cut off
/// where it begins before anything is appended.
#[derive(Debug)]
pub struct Lines<R, T> {
    file: R,
    max_line_bytes: u64,
    number: u64,
    offset: u64,
    buffer: Vec<u8>,
    kind: PhantomData<T>,
}

impl<R: BufRead, T: TextLine> Lines<R, T> {
    /// Reads lines of at most `max_line_bytes`; longer ones are passed over without taking memory.
    pub fn new(file: R, max_line_bytes: u64) -> Lines<R, T> {
        Lines {
            file,
            max_line_bytes,
            number: 0,
            offset: 0,
            buffer: Vec::new(),
            kind: PhantomData,
        }
    }

    fn read(&mut self) -> Result<Option<Named<T>>> {
        self.buffer.clear();
        let mut limited = (&mut self.file).take(self.max_line_bytes);
        let mut length = limited.read_until(b'\n', &mut self.buffer)? as u64;
        if length == 0 {
            return Ok(None);
        }
        let ends = self.buffer.ends_with(b"\n");
        let line = match ends || length < self.max_line_bytes {
            true => T::from_line(&self.buffer),
            false => {
                let (skipped, ended) = self.skip()?;
                length += skipped;
                Err(if ended {
                    LineError::TooLong
                } else {
                    LineError::Torn
                })
            }
        };
        self.number += 1;
        let (number, offset) = (self.number, self.offset);
        self.offset += length;
        Ok(Some(Named {
            number,
            offset,
            length,
            line,
        }))
    }

    /// Passes over the rest of a line; how long it was, and whether it had an end.
    fn skip(&mut self) -> Result<(u64, bool)> {
        let mut skipped = 0;
        loop {
            let bytes = self.file.fill_buf()?;
            if bytes.is_empty() {
                return Ok((skipped, false));
            }
            let end = bytes.iter().position(|&byte| byte == b'\n');
            let used = end.map_or(bytes.len(), |at| at + 1);
            self.file.consume(used);
            skipped += used as u64;
            if end.is_some() {
                return Ok((skipped, true));
            }
        }
    }
}

impl<R: BufRead, T: TextLine> Iterator for Lines<R, T> {
    type Item = Result<Named<T>>;

    fn next(&mut self) -> Option<Result<Named<T>>> {
        self.read().transpose()
    }
}
