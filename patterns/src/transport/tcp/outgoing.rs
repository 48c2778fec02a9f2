//! What waits to be written to a stream, gathered so that one call writes much.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Write};

use crate::transport::Frame;

use super::wire;

/// Frames up to this many bytes are copied next to others; larger ones are written from where they are.
const COPY_BYTES: usize = 8 << 10;

/// A run of copied bytes ends when it has grown to this size.
const RUN_BYTES: usize = 64 << 10;

/// Pieces that one call writes at most.
const SLICES: usize = 32;

#[derive(Debug)]
enum Bytes {
    Run(Vec<u8>),
    Frame(Frame),
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Run(bytes) => bytes,
            Bytes::Frame(frame) => frame,
        }
    }
}

#[derive(Debug)]
struct Piece {
    bytes: Bytes,
    /// Messages that end in it.
    messages: usize,
}

/// A queue of messages on their way into a stream.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pieces: VecDeque<Piece>,
    /// How much of the first one is written.
    written: usize,
    /// How much waits.
    bytes: usize,
    messages: usize,
    /// A run that has been written, for the next one.
    spare: Vec<u8>,
}

impl Outgoing {
    /// Messages that are not written whole.
    pub(super) fn messages(&self) -> usize {
        self.messages
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a message.
    pub(super) fn push(&mut self, message: &[Frame]) {
        for (at, frame) in message.iter().enumerate() {
            self.copy(&wire::header(frame.len(), at + 1 < message.len()));
            match frame.len() <= COPY_BYTES {
                true => self.copy(frame),
                false => self.put(Bytes::Frame(frame.clone())),
            }
        }
        self.messages += 1;
        if let Some(last) = self.pieces.back_mut() {
            last.messages += 1;
        }
    }

    /// Adds bytes that belong to no message.
    pub(super) fn push_control(&mut self, bytes: &[u8]) {
        self.copy(bytes);
    }

    fn copy(&mut self, bytes: &[u8]) {
        if let Some(Piece {
            bytes: Bytes::Run(run),
            ..
        }) = self.pieces.back_mut()
            && run.len() + bytes.len() <= RUN_BYTES
        {
            run.extend_from_slice(bytes);
            self.bytes += bytes.len();
            return;
        }
        let mut run = std::mem::take(&mut self.spare);
        run.clear();
        run.extend_from_slice(bytes);
        self.put(Bytes::Run(run));
    }

    fn put(&mut self, bytes: Bytes) {
        self.bytes += bytes.as_slice().len();
        self.pieces.push_back(Piece { bytes, messages: 0 });
    }

    /// Writes as much as the stream takes; whether everything is written.
    ///
    /// # Errors
    ///
    /// Those of the stream, but that it would block.
    pub(super) fn write_to(&mut self, stream: &mut impl Write) -> io::Result<bool> {
        while self.bytes > 0 {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut count = 0;
            for (slot, piece) in slices.iter_mut().zip(&self.pieces) {
                let skip = if count == 0 { self.written } else { 0 };
                *slot = IoSlice::new(&piece.bytes.as_slice()[skip..]);
                count += 1;
            }
            match stream.write_vectored(&slices[..count]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => self.advance(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // An empty frame at the end is written with its header.
        self.advance(0);
        Ok(true)
    }

    fn advance(&mut self, written: usize) {
        self.bytes -= written;
        self.written += written;
        while let Some(first) = self.pieces.front()
            && self.written >= first.bytes.as_slice().len()
        {
            self.written -= first.bytes.as_slice().len();
            if let Some(piece) = self.pieces.pop_front() {
                self.messages -= piece.messages;
                if let Bytes::Run(run) = piece.bytes {
                    self.spare = run;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::transport::tcp::wire::{Decoder, Item};

    use super::*;

    /// Takes a few bytes at a time, and none in between.
    struct Stingy {
        taken: Vec<u8>,
        most: usize,
        blocks: bool,
    }

    impl Write for Stingy {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.blocks = !self.blocks;
            if self.blocks {
                return Err(ErrorKind::WouldBlock.into());
            }
            let taken = bytes.len().min(self.most);
            self.taken.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn everything_arrives_in_order_however_little_is_taken(
            sizes in prop::collection::vec(prop::collection::vec(0..20_000_usize, 1..4), 1..20),
            most in 1..30_000_usize,
        ) {
            let mut outgoing = Outgoing::default();
            let message = |sizes: &Vec<usize>| -> Vec<Frame> {
                sizes.iter().map(|&size| Frame::from(vec![size as u8; size])).collect()
            };
            for sizes in &sizes {
                outgoing.push(&message(sizes));
            }
            prop_assert_eq!(outgoing.messages(), sizes.len());
            let mut stream = Stingy { taken: Vec::new(), most, blocks: false };
            while !outgoing.write_to(&mut stream).unwrap() {}
            prop_assert_eq!((outgoing.messages(), outgoing.bytes()), (0, 0));
            let mut decoder = Decoder::new(1 << 20);
            decoder.feed(&stream.taken);
            for sizes in &sizes {
                let Some(Item::Message(got)) = decoder.next().unwrap() else { panic!("a message") };
                let got: Vec<usize> = got.iter().map(|frame| frame.len()).collect();
                prop_assert_eq!(&got, sizes);
            }
        }
    }
}
