//! What waits to be written to a stream, gathered so that one call writes much.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Write};

use crate::transport::Frame;

use super::rooms::{ROOM_BYTES, borrow_room, give_back};
use super::wire;

/// Frames up to this many bytes are copied next to others; larger ones are written from where they are.
pub(super) const COPY_BYTES: usize = 8 << 10;

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
    /// What comes before the run.
    pieces: VecDeque<Piece>,
    /// What short frames are added to.
    run: Vec<u8>,
    /// Messages that end in the run.
    run_messages: usize,
    /// How much of the first piece is written, or of the run if there is none.
    written: usize,
    /// How much waits.
    bytes: usize,
    /// Messages that end in a piece.
    piece_messages: usize,
}

impl Outgoing {
    /// Messages that are not written whole.
    #[inline]
    pub(super) fn messages(&self) -> usize {
        self.piece_messages + self.run_messages
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a message.
    pub(super) fn push(&mut self, message: &[Frame]) {
        for (at, frame) in message.iter().enumerate() {
            self.copy(&wire::header(frame.len(), at + 1 < message.len()));
            match frame.len() <= COPY_BYTES {
                true => self.copy(frame),
                false => self.put(frame.clone()),
            }
        }
        self.end_message();
    }

    /// Adds a message of one short frame if the run has room for it, as it usually has.
    #[inline]
    pub(super) fn append(&mut self, frame: &[u8]) -> bool {
        let bytes = 4 + frame.len();
        if self.run.capacity() - self.run.len() < bytes {
            return false;
        }
        self.run
            .extend_from_slice(&wire::header(frame.len(), false));
        self.run.extend_from_slice(frame);
        self.run_messages += 1;
        self.bytes += bytes;
        true
    }

    /// The message whose last byte was added is whole.
    fn end_message(&mut self) {
        match self.pieces.back_mut().filter(|_| self.run.is_empty()) {
            Some(last) => {
                last.messages += 1;
                self.piece_messages += 1;
            }
            None => self.run_messages += 1,
        }
    }

    /// Adds bytes that belong to no message.
    pub(super) fn push_control(&mut self, bytes: &[u8]) {
        self.copy(bytes);
    }

    fn copy(&mut self, bytes: &[u8]) {
        if self.run.len() + bytes.len() > ROOM_BYTES {
            self.end_run();
        }
        if self.run.capacity() == 0 {
            self.run = borrow_room();
        }
        self.run.extend_from_slice(bytes);
        self.bytes += bytes.len();
    }

    fn put(&mut self, frame: Frame) {
        self.end_run();
        self.bytes += frame.len();
        self.pieces.push_back(Piece {
            bytes: Bytes::Frame(frame),
            messages: 0,
        });
    }

    /// What is added from here on has its place after what comes next.
    fn end_run(&mut self) {
        if self.run.is_empty() {
            return;
        }
        let messages = std::mem::take(&mut self.run_messages);
        self.piece_messages += messages;
        self.pieces.push_back(Piece {
            bytes: Bytes::Run(std::mem::take(&mut self.run)),
            messages,
        });
    }

    /// Writes as much as the stream takes; whether everything is written.
    ///
    /// # Errors
    ///
    /// Those of the stream, but that it would block.
    pub(super) fn write_to(&mut self, stream: &mut impl Write) -> io::Result<bool> {
        while self.bytes > 0 {
            match self.write_once(stream) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => self.advance(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.settle();
                    return Ok(false);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn write_once(&self, stream: &mut impl Write) -> io::Result<usize> {
        if self.pieces.is_empty() {
            return stream.write(&self.run[self.written..]);
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let parts = self.pieces.iter().map(|piece| piece.bytes.as_slice());
        let mut count = 0;
        for (slot, part) in slices.iter_mut().zip(parts.chain([&self.run[..]])) {
            let skip = if count == 0 { self.written } else { 0 };
            *slot = IoSlice::new(&part[skip..]);
            count += 1;
        }
        stream.write_vectored(&slices[..count])
    }

    /// Writes what waits and then a message from where it is; what the stream does not take is copied and
    /// waits. Whether everything is written.
    ///
    /// # Errors
    ///
    /// As [`write_to`](Outgoing::write_to).
    pub(super) fn write_through(
        &mut self,
        message: &[Frame],
        stream: &mut impl Write,
    ) -> io::Result<bool> {
        if !self.write_to(stream)? {
            self.push(message);
            return Ok(false);
        }
        let last = message.len() - 1;
        let headers: Vec<_> = message
            .iter()
            .enumerate()
            .map(|(at, frame)| wire::header(frame.len(), at < last))
            .collect();
        let parts = || {
            headers
                .iter()
                .zip(message)
                .flat_map(|(header, frame)| [&header[..], frame])
        };
        let slices: Vec<_> = parts().map(IoSlice::new).collect();
        let mut skip = match stream.write_vectored(&slices) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(error) if is_passing(&error) => 0,
            Err(error) => return Err(error),
        };
        for part in parts() {
            let rest = &part[skip.min(part.len())..];
            skip -= part.len() - rest.len();
            rest.chunks(ROOM_BYTES).for_each(|piece| self.copy(piece));
        }
        if self.bytes > 0 {
            self.end_message();
        }
        self.write_to(stream)
    }

    /// Takes no more room than it needs while the stream takes nothing.
    fn settle(&mut self) {
        if self.run.len() < ROOM_BYTES / 4 && self.run.capacity() >= ROOM_BYTES {
            let small = self.run.clone();
            give_back(std::mem::replace(&mut self.run, small));
        }
    }

    fn advance(&mut self, written: usize) {
        self.bytes -= written;
        self.written += written;
        while let Some(first) = self.pieces.front()
            && self.written >= first.bytes.as_slice().len()
        {
            self.written -= first.bytes.as_slice().len();
            if let Some(piece) = self.pieces.pop_front() {
                self.piece_messages -= piece.messages;
                if let Bytes::Run(run) = piece.bytes {
                    give_back(run);
                }
            }
        }
        if self.bytes == 0 {
            self.written = 0;
            self.run_messages = 0;
            give_back(std::mem::take(&mut self.run));
        }
    }
}

/// Whether trying again may help.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        for piece in self.pieces.drain(..) {
            if let Bytes::Run(run) = piece.bytes {
                give_back(run);
            }
        }
        give_back(std::mem::take(&mut self.run));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::transport::tcp::wire::read_header;

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

    /// The lengths of the frames of each message in a stream whose bytes say how long their frame is.
    fn lengths(mut stream: &[u8]) -> Vec<Vec<usize>> {
        let (mut messages, mut message) = (Vec::new(), Vec::new());
        while let Some((header, rest)) = stream.split_first_chunk::<4>() {
            let header = read_header(*header, 1 << 20).unwrap();
            let (frame, rest) = rest.split_at(header.bytes);
            assert!(frame.iter().all(|&byte| byte == header.bytes as u8));
            message.push(header.bytes);
            if !header.more {
                messages.push(std::mem::take(&mut message));
            }
            stream = rest;
        }
        messages
    }

    proptest! {
        #[test]
        fn everything_arrives_in_order_however_little_is_taken(
            sizes in prop::collection::vec(prop::collection::vec(0..20_000_usize, 1..4), 1..20),
            most in 1..30_000_usize, through: bool,
        ) {
            let mut outgoing = Outgoing::default();
            let message = |sizes: &Vec<usize>| -> Vec<Frame> {
                sizes.iter().map(|&size| Frame::from(vec![size as u8; size])).collect()
            };
            let mut stream = Stingy { taken: Vec::new(), most, blocks: false };
            for sizes in &sizes {
                match through {
                    true => { outgoing.write_through(&message(sizes), &mut stream).unwrap(); }
                    false => outgoing.push(&message(sizes)),
                }
            }
            prop_assert!(through || outgoing.messages() == sizes.len());
            while !outgoing.write_to(&mut stream).unwrap() {}
            prop_assert_eq!((outgoing.messages(), outgoing.bytes()), (0, 0));
            prop_assert_eq!(lengths(&stream.taken), sizes);
        }
    }
}
