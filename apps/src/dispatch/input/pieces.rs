//! One file, piece by piece. The cuts depend on nothing but the file and the two sizes, so a
//! restart makes the same pieces again.

use std::fs::File;
use std::io::{self, Read as _};

use super::{InputError, InputFile, PieceError};
use crate::dispatch::task::Place;
use crate::ops::Split;

/// An iterator over the pieces of one file; holds one piece and what was read beyond it.
///
/// The first error ends it. A file is never served in two versions: one that grew, shrank or was
/// written since it was planned ends in [`InputError::Changed`] before its last piece.
pub(crate) struct Pieces<'a> {
    plan: &'a InputFile,
    input: u32,
    split: Split,
    chunk_bytes: usize,
    limit_bytes: usize,
    file: Option<File>,
    /// Read and not yet given out.
    carry: Vec<u8>,
    /// How much of the file was read.
    read_bytes: u64,
    piece: u64,
    over: bool,
}

impl<'a> Pieces<'a> {
    /// The pieces of `plan`, which is the job's input number `input`.
    ///
    /// A piece ends at the last line end within `chunk_bytes`; a line longer than that makes its
    /// piece longer, up to `limit_bytes`, the largest payload. The file is opened at the first
    /// [`next`](Iterator::next).
    pub(crate) fn new(
        plan: &'a InputFile,
        input: u32,
        split: Split,
        chunk_bytes: usize,
        limit_bytes: usize,
    ) -> Self {
        Pieces {
            plan,
            input,
            split,
            chunk_bytes: chunk_bytes.clamp(1, limit_bytes.max(1)),
            limit_bytes,
            file: None,
            carry: Vec::new(),
            read_bytes: 0,
            piece: 0,
            over: false,
        }
    }

    fn read_piece(&mut self) -> Result<(Vec<u8>, bool), InputError> {
        let fits = self.plan.bytes <= self.limit_bytes as u64;
        match self.split {
            Split::Whole if !fits => Err(InputError::TooLarge {
                path: self.plan.path.clone(),
                bytes: self.plan.bytes,
                limit_bytes: self.limit_bytes,
            }),
            Split::Whole => self
                .read_up_to(self.limit_bytes)
                .and_then(|()| self.give_all()),
            Split::AtLineEnds => self.read_lines(),
        }
    }

    fn read_lines(&mut self) -> Result<(Vec<u8>, bool), InputError> {
        self.read_up_to(self.chunk_bytes)?;
        if self.all_is_read() && self.carry.len() <= self.chunk_bytes {
            return self.give_all();
        }
        let chunk = &self.carry[..self.chunk_bytes];
        match chunk.iter().rposition(|&byte| byte == b'\n') {
            Some(line_end) => self.give(line_end + 1),
            None => self.read_long_line(),
        }
    }

    /// Looks for the line end beyond the chunk, in steps, so that a long line costs its own length.
    fn read_long_line(&mut self) -> Result<(Vec<u8>, bool), InputError> {
        let mut searched = self.chunk_bytes;
        loop {
            let found = self.carry[searched..]
                .iter()
                .position(|&byte| byte == b'\n');
            let end = found.map(|at| searched + at + 1).or_else(|| {
                // The end of the file ends a line as well.
                self.all_is_read().then_some(self.carry.len())
            });
            match end {
                Some(end) if end <= self.limit_bytes => return self.give(end),
                None if self.carry.len() <= self.limit_bytes => {}
                _ => return Err(self.line_too_long()),
            }
            searched = self.carry.len();
            self.read_up_to(searched.saturating_add(self.chunk_bytes))?;
        }
    }

    fn line_too_long(&self) -> InputError {
        InputError::LineTooLong {
            source_name: self.plan.path.display().to_string(),
            at: format!("byte {}", self.read_bytes - self.carry.len() as u64),
            limit_bytes: self.limit_bytes,
        }
    }

    fn give_all(&mut self) -> Result<(Vec<u8>, bool), InputError> {
        self.give(self.carry.len())
    }

    fn give(&mut self, end: usize) -> Result<(Vec<u8>, bool), InputError> {
        let rest = self.carry.split_off(end);
        let data = std::mem::replace(&mut self.carry, rest);
        let last = self.all_is_read() && self.carry.is_empty();
        if last {
            self.check_unchanged()?;
        }
        Ok((data, last))
    }

    fn all_is_read(&self) -> bool {
        self.read_bytes == self.plan.bytes
    }

    /// Reads until `carry` holds `bytes`, or the file is at its planned end.
    fn read_up_to(&mut self, bytes: usize) -> Result<(), InputError> {
        let left = self.plan.bytes - self.read_bytes;
        let wanted = left.min(bytes.saturating_sub(self.carry.len()) as u64);
        self.open()?;
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        self.carry.reserve_exact(wanted as usize);
        let result = file.take(wanted).read_to_end(&mut self.carry);
        let count = result.map_err(|e| self.unreadable(e))? as u64;
        self.read_bytes += count;
        if count < wanted {
            Err(self.changed())
        } else {
            Ok(())
        }
    }

    fn open(&mut self) -> Result<(), InputError> {
        if self.file.is_none() {
            let opened = File::open(&self.plan.path);
            self.file = Some(opened.map_err(|e| self.unreadable(e))?);
        }
        Ok(())
    }

    fn check_unchanged(&self) -> Result<(), InputError> {
        let Some(mut file) = self.file.as_ref() else {
            return Ok(());
        };
        let metadata = file.metadata().map_err(|e| self.unreadable(e))?;
        let modified = metadata.modified().map_err(|e| self.unreadable(e))?;
        // The size may lie (files in /proc have none), so ask for one byte more.
        let more = file.read(&mut [0]).map_err(|e| self.unreadable(e))?;
        let same = metadata.len() == self.plan.bytes && modified == self.plan.modified;
        if same && more == 0 {
            Ok(())
        } else {
            Err(self.changed())
        }
    }

    fn changed(&self) -> InputError {
        InputError::Changed {
            path: self.plan.path.clone(),
        }
    }

    fn unreadable(&self, source: io::Error) -> InputError {
        let path = self.plan.path.clone();
        match source.kind() {
            io::ErrorKind::NotFound => InputError::Missing { path },
            _ => InputError::Unreadable { path, source },
        }
    }
}

impl Iterator for Pieces<'_> {
    type Item = Result<(Place, Vec<u8>), PieceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let result = self.read_piece();
        // A piece that cannot be read is the last one, too.
        let last = result.as_ref().map_or(true, |(_, last)| *last);
        let name = self.plan.name.clone();
        let place = Place {
            name,
            input: self.input,
            piece: self.piece,
            last,
        };
        self.piece += 1;
        self.over = last;
        Some(match result {
            Ok((data, _)) => Ok((place, data)),
            Err(reason) => Err(PieceError { place, reason }),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::dispatch::input::plan;

    fn planned(folder: &Path, text: &[u8]) -> InputFile {
        let path = folder.join("file");
        fs::write(&path, text).unwrap();
        plan(&[path]).unwrap().remove(0)
    }

    /// The pieces of `text`, or the first error.
    fn cut(text: &str, split: Split, chunk: usize, limit: usize) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = planned(folder.path(), text.as_bytes());
        let pieces: Result<Vec<_>, _> = Pieces::new(&file, 7, split, chunk, limit).collect();
        let pieces = pieces.map_err(|e| e.to_string())?;
        for (i, (place, _)) in pieces.iter().enumerate() {
            assert_eq!((place.input, place.piece), (7, i as u64));
            assert_eq!(place.last, i + 1 == pieces.len(), "{pieces:?}");
        }
        Ok(pieces
            .into_iter()
            .map(|(_, data)| String::from_utf8(data).unwrap())
            .collect())
    }

    #[test]
    fn a_file_is_cut_at_the_last_line_end_that_fits() {
        let lines = Split::AtLineEnds;
        assert_eq!(
            cut("aa\nbb\ncc\n", lines, 7, 99).unwrap(),
            ["aa\nbb\n", "cc\n"]
        );
        assert_eq!(
            cut("aa\nbb\ncc", lines, 3, 99).unwrap(),
            ["aa\n", "bb\n", "cc"]
        );
        assert_eq!(cut("aa\nbb\n", lines, 6, 99).unwrap(), ["aa\nbb\n"]);
        assert_eq!(cut("aa\nbb\n", lines, 99, 99).unwrap(), ["aa\nbb\n"]);
    }

    #[test]
    fn a_long_line_stretches_its_piece_up_to_the_limit() {
        let lines = Split::AtLineEnds;
        assert_eq!(
            cut("a\nbbbbbb\nc\n", lines, 3, 7).unwrap(),
            ["a\n", "bbbbbb\n", "c\n"]
        );
        assert_eq!(cut("bbbbbbb", lines, 3, 7).unwrap(), ["bbbbbbb"]);
        let error = cut("a\nbbbbbbb\nc\n", lines, 3, 7).unwrap_err();
        assert!(
            error.contains("starts at byte 2 is over the limit of 7"),
            "{error}"
        );
        assert!(cut("bbbbbbbb", lines, 3, 7).is_err());
    }

    #[test]
    fn an_empty_file_is_one_empty_piece() {
        assert_eq!(cut("", Split::AtLineEnds, 9, 9).unwrap(), [""]);
        assert_eq!(cut("", Split::Whole, 9, 9).unwrap(), [""]);
    }

    #[test]
    fn a_file_that_must_stay_whole_has_to_fit() {
        assert_eq!(cut("a\nb\n", Split::Whole, 1, 4).unwrap(), ["a\nb\n"]);
        let error = cut("a\nb\nc", Split::Whole, 1, 4).unwrap_err();
        assert!(error.contains("5 bytes are over the limit of 4"), "{error}");
    }

    #[test]
    fn a_file_that_changes_meanwhile_is_an_error_for_its_place() {
        for new in ["a\n", "a\nb\nc\nd\n", "x\ny\nz\n"] {
            let folder = tempfile::tempdir().unwrap();
            let mut file = planned(folder.path(), b"a\nb\nc\n");
            // What a later write leaves behind, without waiting for the clock to move on.
            file.modified -= std::time::Duration::from_secs(1);
            let mut pieces = Pieces::new(&file, 0, Split::AtLineEnds, 2, 9);
            pieces.next().unwrap().unwrap();
            fs::write(&file.path, new).unwrap();
            let error = pieces.find_map(Result::err).unwrap();
            assert!(
                matches!(error.reason, InputError::Changed { .. }),
                "{error}"
            );
            assert_eq!(error.place.name, "file");
            assert!(error.place.last && pieces.next().is_none());
        }
    }

    #[test]
    fn a_file_that_is_gone_is_an_error_for_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = planned(folder.path(), b"a\n");
        fs::remove_file(&file.path).unwrap();
        let mut pieces = Pieces::new(&file, 3, Split::Whole, 9, 9);
        let error = pieces.next().unwrap().unwrap_err();
        assert!(matches!(error.reason, InputError::Missing { .. }));
        assert_eq!((error.place.input, error.place.piece), (3, 0));
    }

    proptest! {
        #[test]
        fn pieces_put_together_are_the_file(text in "[a\n]{0,60}", chunk in 1..20usize) {
            let pieces = cut(&text, Split::AtLineEnds, chunk, 60).unwrap();
            prop_assert_eq!(pieces.concat(), text);
            let (_, before) = pieces.split_last().unwrap();
            prop_assert!(before.iter().all(|piece| piece.ends_with('\n')));
            prop_assert!(pieces.iter().all(|p| p.len() <= chunk || p.lines().count() == 1));
        }
    }
}
