//! Results of standard input's lines to standard output, in the order of the lines.

use std::io::Write;

use super::lines::{LineStream, Tally};
use super::ranges::Runs;
use super::reorder::Held;
use super::{Accepted, Committed, Counts, Failure, HELD_LIMIT_BYTES, Outcome, Output, OutputError};

/// So much is gathered before it is written, if no commit comes first.
const BUFFER_BYTES: usize = 256 * 1024;

/// Writes results of lines to `W`. What a commit names has been written and flushed; no more can
/// be promised about somebody else's pipe.
#[derive(Debug)]
pub(crate) struct StdoutWriter<W> {
    to: W,
    stream: LineStream,
    held: Held,
    ids: Runs,
    failures: Vec<Failure>,
    counts: Counts,
    broken: bool,
}

impl<W: Write + Send> StdoutWriter<W> {
    /// Writes to `to`, from this line on, counted from 0.
    pub(crate) fn new(to: W, from: u64) -> Self {
        StdoutWriter {
            to,
            stream: LineStream::resume(from),
            held: Held {
                bytes: 0,
                limit_bytes: HELD_LIMIT_BYTES,
            },
            ids: Runs::default(),
            failures: Vec::new(),
            counts: Counts::default(),
            broken: false,
        }
    }

    fn write(&mut self) -> Result<(), OutputError> {
        let result = self.to.write_all(&self.stream.text);
        self.stream.text.clear();
        self.check(result)
    }

    fn check(&mut self, result: std::io::Result<()>) -> Result<(), OutputError> {
        self.broken |= result.is_err();
        result.map_err(|source| OutputError::Stdout { source })
    }
}

impl<W: Write + Send> Output for StdoutWriter<W> {
    fn accept(&mut self, id: u64, outcome: Outcome) -> Result<Accepted, OutputError> {
        if self.broken {
            return Err(OutputError::Broken);
        }
        let name = match &outcome {
            Ok(piece) => &piece.place.name,
            Err((place, _)) => &place.name,
        };
        if !name.is_empty() {
            // Before anything is confirmed, so that nothing is lost.
            return Err(OutputError::FilesToStdout);
        }
        let accepted = self.stream.accept(
            id,
            outcome,
            Tally {
                held: &mut self.held,
                ids: &mut self.ids,
                failures: &mut self.failures,
                counts: &mut self.counts,
            },
        );
        if self.stream.text.len() >= BUFFER_BYTES {
            self.write()?;
        }
        Ok(accepted)
    }

    fn commit(&mut self) -> Result<Committed, OutputError> {
        if self.broken {
            return Err(OutputError::Broken);
        }
        if self.ids.is_empty() {
            return Ok(Committed::default());
        }
        self.write()?;
        let flushed = self.to.flush();
        self.check(flushed)?;
        Ok(Committed {
            ids: self.ids.take(),
            failures: std::mem::take(&mut self.failures),
        })
    }

    fn finish(mut self: Box<Self>) -> Result<Counts, OutputError> {
        if self.stream.is_waiting() {
            return Err(OutputError::Unfinished { inputs: 1 });
        }
        self.commit()?;
        Ok(self.counts)
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // A range of ids is meant.
mod tests {
    use super::*;
    use crate::dispatch::task::{Piece, Place};
    use crate::ops::Merge;

    fn place(piece: u64) -> Place {
        Place {
            name: String::new(),
            input: 0,
            piece,
            last: false,
        }
    }

    fn line(piece: u64, text: &str) -> Outcome {
        let data = text.as_bytes().to_vec();
        Ok(Piece {
            place: place(piece),
            merge: Merge::Concatenate,
            data,
        })
    }

    #[test]
    fn lines_come_out_in_order_and_ended() {
        let mut writer = StdoutWriter::new(Vec::new(), 0);
        writer.accept(12, line(2, "c\n")).unwrap();
        assert_eq!(writer.commit().unwrap(), Committed::default());
        writer
            .accept(11, Err((place(1), "no\tgood".into())))
            .unwrap();
        writer.accept(10, line(0, "a")).unwrap();
        writer.accept(13, line(3, "")).unwrap();
        let committed = writer.commit().unwrap();
        assert_eq!(committed.ids, [10..14]);
        assert_eq!(committed.failures[0].reason, "no\\tgood");
        assert_eq!(writer.to, b"a\nc\n\n");
        let counts = Box::new(writer).finish().unwrap();
        assert_eq!(
            counts,
            Counts {
                written: 3,
                failed: 1,
                bytes_out: 5
            }
        );
    }

    #[test]
    fn too_much_that_waits_is_deferred_but_never_the_next_one() {
        let mut writer = StdoutWriter::new(Vec::new(), 0);
        writer.held.limit_bytes = 1000;
        let long = "x".repeat(500);
        assert_eq!(writer.accept(1, line(1, &long)).unwrap(), Accepted::Taken);
        assert_eq!(
            writer.accept(2, line(2, &long)).unwrap(),
            Accepted::Deferred
        );
        assert_eq!(writer.accept(0, line(0, &long)).unwrap(), Accepted::Taken);
        assert_eq!(writer.accept(2, line(2, &long)).unwrap(), Accepted::Taken);
        assert_eq!(writer.commit().unwrap().ids, [0..3]);
        assert_eq!(writer.held.bytes, 0);
    }

    #[test]
    fn what_was_written_before_is_not_waited_for() {
        let mut writer = StdoutWriter::new(Vec::new(), 2);
        writer.accept(3, line(3, "d")).unwrap();
        writer.accept(2, line(2, "c")).unwrap();
        assert_eq!(writer.commit().unwrap().ids, [2..4]);
        assert_eq!(writer.to, b"c\nd\n");
    }

    #[test]
    fn a_reader_that_is_gone_ends_it() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let mut writer = StdoutWriter::new(Gone, 0);
        writer.accept(0, line(0, "a")).unwrap();
        assert!(matches!(writer.commit(), Err(OutputError::Stdout { .. })));
        assert!(matches!(
            writer.accept(1, line(1, "b")),
            Err(OutputError::Broken)
        ));
    }

    #[test]
    fn a_file_has_no_place_here() {
        let mut writer = StdoutWriter::new(Vec::new(), 0);
        let mut outcome = line(0, "a").unwrap();
        outcome.place.name = "x".into();
        let refused = writer.accept(0, Ok(outcome));
        assert!(matches!(refused, Err(OutputError::FilesToStdout)));
        assert_eq!(writer.commit().unwrap(), Committed::default());
    }
}
