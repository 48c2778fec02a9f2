//! Messages as bytes, in one datagram or in a stream of them.
//!
//! Each frame follows its [`Header`]; there are no control frames.

use std::collections::VecDeque;

use crate::transport::header::{HEADER_BYTES, Header, MAX_FRAME_BYTES};
use crate::transport::{Frame, MAX_FRAMES, Message, max_message_bytes};

use super::packet::Malformed;
use super::rooms::{self, SEGMENTS};

/// Frames beyond this are gathered in memory of their own, which becomes the frame.
const LARGE: usize = 16 << 10;

/// What a message takes on its way, in bytes.
pub(super) fn encoded_bytes(message: &[Frame]) -> usize {
    let frames = message.iter();
    frames.map(|frame| HEADER_BYTES + frame.len()).sum()
}

/// The headers of a message's frames.
pub(super) fn headers(message: &[Frame]) -> impl Iterator<Item = ([u8; HEADER_BYTES], &Frame)> {
    let last = message.len().wrapping_sub(1);
    message
        .iter()
        .enumerate()
        .map(move |(at, frame)| (Header::message(frame.len(), at < last).to_bytes(), frame))
}

/// Writes a message.
pub(super) fn write(message: &[Frame], bytes: &mut Vec<u8>) {
    for (header, frame) in headers(message) {
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(frame);
    }
}

/// Takes one header off the front: the length of the frame, whether more follow.
fn read_header(header: [u8; HEADER_BYTES]) -> Result<(usize, bool), Malformed> {
    match Header::from_bytes(header) {
        Header { control: true, .. } => Err(Malformed::Senseless),
        Header { bytes, more, .. } => Ok((bytes, more)),
    }
}

/// Reads the one message that a datagram consists of.
pub(super) fn read(mut bytes: &[u8]) -> Result<Message, Malformed> {
    let mut message = Message::new();
    loop {
        let (header, rest) = bytes.split_first_chunk().ok_or(Malformed::Senseless)?;
        let (len, more) = read_header(*header)?;
        let (frame, rest) = rest.split_at_checked(len).ok_or(Malformed::Senseless)?;
        if message.len() == MAX_FRAMES {
            return Err(Malformed::Senseless);
        }
        message.push(Frame::from(frame));
        bytes = rest;
        match more {
            true => {}
            false if bytes.is_empty() => return Ok(message),
            false => return Err(Malformed::Senseless),
        }
    }
}

/// Why a peer's stream is not read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Breach {
    #[error(
        "it sent {0} bytes in a message, more than the limit: raise the limit or send less at once"
    )]
    TooLarge(usize),
    #[error("it sent a message of more than {MAX_FRAMES} frames")]
    TooMany,
    #[error("it sent something that is no message")]
    Senseless,
}

/// A frame that is not whole yet.
#[derive(Debug)]
struct Partial {
    bytes: Vec<u8>,
    len: usize,
    more: bool,
}

/// Takes a stream apart, in pieces of any size.
#[derive(Debug)]
pub(super) struct Decoder {
    limit: usize,
    /// Pieces that have come and were not taken apart; of the first, all before `start` was.
    pieces: VecDeque<Vec<u8>>,
    start: usize,
    /// How much that is.
    waiting: usize,
    header: Vec<u8>,
    partial: Option<Partial>,
    /// The frames of the message that is not whole yet, and their bytes.
    frames: Message,
    frames_bytes: usize,
}

impl Decoder {
    /// Frames may have at most `limit` bytes, and messages [`max_message_bytes`].
    pub(super) fn new(limit: usize) -> Decoder {
        Decoder {
            limit: limit.min(MAX_FRAME_BYTES),
            pieces: VecDeque::new(),
            start: 0,
            waiting: 0,
            header: Vec::new(),
            partial: None,
            frames: Message::new(),
            frames_bytes: 0,
        }
    }

    /// Takes in what has come.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut piece = rooms::borrow(&SEGMENTS);
        piece.extend_from_slice(bytes);
        self.waiting += piece.len();
        self.pieces.push_back(piece);
    }

    /// Bytes that have come and were not taken apart.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Bytes that are held in all.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        let partial = self.partial.as_ref();
        let partial = partial.map_or(0, |partial| partial.bytes.len());
        let frames: usize = self.frames.iter().map(|frame| frame.len()).sum();
        self.waiting + self.header.len() + partial + frames
    }

    /// The next message that is whole.
    pub(super) fn next(&mut self) -> Result<Option<Message>, Breach> {
        loop {
            let Some((len, more)) = self.partial_frame()? else {
                return Ok(None);
            };
            let Some(frame) = self.frame(len, more) else {
                return Ok(None);
            };
            if self.frames.len() == MAX_FRAMES {
                return Err(Breach::TooMany);
            }
            self.frames_bytes += frame.len();
            self.frames.push(frame);
            if !more {
                self.frames_bytes = 0;
                return Ok(Some(std::mem::take(&mut self.frames)));
            }
        }
    }

    /// Length of the frame that comes next, and whether more follow.
    fn partial_frame(&mut self) -> Result<Option<(usize, bool)>, Breach> {
        if let Some(partial) = &self.partial {
            return Ok(Some((partial.len, partial.more)));
        }
        let quick = self.rest().first_chunk::<4>().copied();
        let header = match quick {
            Some(header) if self.header.is_empty() => {
                self.skip(4);
                header
            }
            _ => match self.slow_header() {
                Some(header) => header,
                None => return Ok(None),
            },
        };
        let (len, more) = read_header(header).map_err(|_| Breach::Senseless)?;
        let bytes = self.frames_bytes + len;
        if len > self.limit || bytes > max_message_bytes(self.limit) {
            return Err(Breach::TooLarge(bytes));
        }
        Ok(Some((len, more)))
    }

    /// A header that lies in several pieces.
    fn slow_header(&mut self) -> Option<[u8; 4]> {
        while self.header.len() < 4 {
            let byte = *self.rest().first()?;
            self.header.push(byte);
            self.skip(1);
        }
        let header = self.header[..].try_into().ok();
        self.header.clear();
        header
    }

    /// The frame, once it is whole. Memory is taken as bytes come, not as they are announced.
    fn frame(&mut self, len: usize, more: bool) -> Option<Frame> {
        if self.partial.is_none()
            && len < LARGE
            && let Some(bytes) = self.rest().get(..len)
        {
            let frame = Frame::from(bytes);
            self.skip(len);
            return Some(frame);
        }
        let mut partial = self.partial.take().unwrap_or(Partial {
            bytes: Vec::new(),
            len,
            more,
        });
        loop {
            let missing = len - partial.bytes.len();
            let rest = self.rest();
            if missing == 0 || rest.is_empty() {
                break;
            }
            let taken = missing.min(rest.len());
            partial.bytes.extend_from_slice(&rest[..taken]);
            self.skip(taken);
        }
        if partial.bytes.len() == len {
            return Some(Frame::from(partial.bytes));
        }
        self.partial = Some(partial);
        None
    }

    fn rest(&self) -> &[u8] {
        match self.pieces.front() {
            Some(piece) => &piece[self.start..],
            None => &[],
        }
    }

    fn skip(&mut self, bytes: usize) {
        self.start += bytes;
        self.waiting -= bytes;
        if let Some(piece) = self.pieces.front()
            && self.start == piece.len()
        {
            let piece = self.pieces.pop_front();
            rooms::give_back(&SEGMENTS, piece.unwrap_or_default());
            self.start = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(frames: &[Vec<u8>]) -> Message {
        frames.iter().map(|frame| Frame::from(&frame[..])).collect()
    }

    fn bytes(message: &Message) -> Vec<Vec<u8>> {
        message.iter().map(|frame| frame.to_vec()).collect()
    }

    proptest! {
        #[test]
        fn a_message_in_a_datagram_is_read_as_it_was_written(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..5), cut in 0..200_usize,
        ) {
            let mut datagram = Vec::new();
            write(&message(&frames), &mut datagram);
            prop_assert_eq!(datagram.len(), encoded_bytes(&message(&frames)));
            prop_assert_eq!(bytes(&read(&datagram).unwrap()), frames);
            // Never cut, and nothing behind it.
            prop_assert!(read(&datagram[..cut.min(datagram.len() - 1)]).is_err());
            datagram.push(0);
            prop_assert!(read(&datagram).is_err());
        }

        #[test]
        fn a_stream_cut_anywhere_gives_the_same_messages(
            messages in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..4), 0..8),
            large in 0..200_000_usize, cut in 1..70_000_usize,
        ) {
            let mut messages = messages;
            messages.push(vec![vec![7; large], b"end".to_vec()]);
            let mut stream = Vec::new();
            messages.iter().for_each(|frames| write(&message(frames), &mut stream));
            let (mut decoder, mut got) = (Decoder::new(1 << 20), Vec::new());
            for piece in stream.chunks(cut) {
                decoder.feed(piece);
                while let Some(message) = decoder.next().unwrap() {
                    got.push(bytes(&message));
                }
                prop_assert_eq!(decoder.waiting(), 0);
            }
            prop_assert_eq!(got, messages);
            prop_assert_eq!(decoder.held(), 0);
        }

        #[test]
        fn rubbish_is_refused_or_waits_and_takes_no_more_memory_than_came(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let _ = read(&bytes);
            let mut decoder = Decoder::new(1 << 20);
            decoder.feed(&bytes);
            while let Ok(Some(_)) = decoder.next() {}
            prop_assert!(decoder.held() <= bytes.len());
        }
    }

    #[test]
    fn what_is_over_a_limit_is_a_breach() {
        let mut decoder = Decoder::new(10);
        decoder.feed(&11_u32.to_be_bytes());
        assert_eq!(decoder.next().unwrap_err(), Breach::TooLarge(11));
        // Together they may have somewhat more than one alone.
        let mut decoder = Decoder::new(40_000);
        let full = [&Header::message(40_000, true).to_bytes()[..], &[0; 40_000]].concat();
        decoder.feed(&[&full[..], &full, &25_537_u32.to_be_bytes()].concat());
        assert_eq!(decoder.next().unwrap_err(), Breach::TooLarge(105_537));
        let more = Header::message(0, true).to_bytes();
        let mut decoder = Decoder::new(10);
        for _ in 0..=MAX_FRAMES {
            decoder.feed(&more);
        }
        assert_eq!(decoder.next().unwrap_err(), Breach::TooMany);
        let mut decoder = Decoder::new(10);
        decoder.feed(&Header::control(0).to_bytes());
        assert_eq!(decoder.next().unwrap_err(), Breach::Senseless);
        let many: Vec<u8> = [more; MAX_FRAMES].concat();
        assert!(read(&[&many[..], &[0; 4]].concat()).is_err());
        assert!(read(&[&many[4..], &[0; 4]].concat()).is_ok());
    }
}
