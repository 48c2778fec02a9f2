//! What has been read from a stream, taken apart message by message.
//!
//! Messages are decoded when they are asked for, into the memory of the one before. Room to read is borrowed
//! and given back, so that ten thousand silent peers hold none, and one that sends a frame in tiny pieces
//! holds what it has sent.

use std::io;
use std::os::fd::AsFd;

use rustix::buffer::spare_capacity;

use crate::transport::{Frame, MAX_FRAMES, Message, max_message_bytes};

use super::rooms::{ROOM_BYTES, borrow_room, give_back};
use super::wire::{self, Breach, Control, Header, MAX_FRAME_BYTES};

/// A frame that has not come whole and is larger gets memory of its own, which becomes the frame.
const LARGE_BYTES: usize = 16 << 10;

/// What a stream holds next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// It is in the message that was given.
    Message,
    Control(Control),
}

/// A frame that is not whole yet and has memory of its own.
#[derive(Debug)]
struct Large {
    bytes: Vec<u8>,
    header: Header,
}

/// The reading end of a stream.
#[derive(Debug)]
pub(super) struct Incoming {
    limit: usize,
    /// What has been read and not taken; taken up to `start`.
    bytes: Vec<u8>,
    start: usize,
    /// The frames of the message that is not whole yet.
    frames: Message,
    frames_bytes: usize,
    large: Option<Large>,
    /// Whether what is there is not enough for anything.
    is_stuck: bool,
}

impl Incoming {
    /// Frames may have at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Incoming {
        Incoming {
            limit: limit.min(MAX_FRAME_BYTES),
            bytes: Vec::new(),
            start: 0,
            frames: Message::new(),
            frames_bytes: 0,
            large: None,
            is_stuck: true,
        }
    }

    /// Reads once; how much there was, and whether there may be more.
    ///
    /// # Errors
    ///
    /// Those of the stream.
    pub(super) fn read(&mut self, stream: impl AsFd) -> io::Result<(usize, bool)> {
        let large = self.large.as_mut().filter(|large| large.missing() > 0);
        let (read, more) = match large {
            Some(large) => large.read(stream, &mut self.bytes)?,
            None => {
                self.make_room();
                let room = self.bytes.capacity() - self.bytes.len();
                let read = rustix::io::read(stream, spare_capacity(&mut self.bytes))?;
                (read, read == room)
            }
        };
        self.is_stuck &= read == 0;
        Ok((read, more))
    }

    /// Takes in what a stream would have given.
    #[cfg(feature = "fuzzing")]
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (mut near, far) = std::os::unix::net::UnixStream::pair().expect("two sockets");
            let written = std::io::Write::write(&mut near, bytes).expect("room");
            let (read, _) = self.read(&far).expect("bytes");
            bytes = &bytes[read.min(written)..];
        }
    }

    /// What is not taken moves to the front of a large room.
    fn make_room(&mut self) {
        if self.bytes.capacity() < ROOM_BYTES {
            let mut room = borrow_room();
            room.extend_from_slice(&self.bytes[self.start..]);
            self.bytes = room;
        } else {
            self.bytes.drain(..self.start);
        }
        self.start = 0;
    }

    /// Gives the room back, as nothing more is to be read for now.
    pub(super) fn settle(&mut self) {
        if let Some(large) = &mut self.large
            && large.bytes.len() < ROOM_BYTES
        {
            large.bytes.shrink_to_fit();
        }
        if self.bytes.capacity() < ROOM_BYTES || !self.is_stuck {
            return;
        }
        let rest = self.bytes[self.start..].to_vec();
        give_back(std::mem::replace(&mut self.bytes, rest));
        self.start = 0;
    }

    /// Takes the first bytes; `None` until they are there.
    pub(super) fn take_bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let Some(bytes) = self.bytes[self.start..].first_chunk::<N>() else {
            self.is_stuck = true;
            return None;
        };
        self.start += N;
        Some(*bytes)
    }

    /// Forgets what there is.
    pub(super) fn clear(&mut self) {
        *self = Incoming::new(self.limit);
    }

    /// Whether [`next_into`](Incoming::next_into) may have something.
    pub(super) fn has_item(&self) -> bool {
        !self.is_stuck
    }

    /// Takes the next message if it has one frame and is there as a whole.
    #[inline]
    pub(super) fn take_whole(&mut self, message: &mut Message) -> bool {
        let Some((header, rest)) = self.bytes[self.start..].split_first_chunk::<4>() else {
            return false;
        };
        // Neither more frames nor control, which are the highest bits.
        let bytes = u32::from_be_bytes(*header) as usize;
        let simple = bytes <= self.limit && self.frames.is_empty() && self.large.is_none();
        if !simple || bytes > rest.len() {
            return false;
        }
        match &mut message[..] {
            [frame] => frame.refill_front(rest, bytes),
            _ => replace(message, &rest[..bytes]),
        }
        self.start += 4 + bytes;
        true
    }

    /// The next thing that is whole.
    ///
    /// # Errors
    ///
    /// What the stream holds is against the protocol.
    pub(super) fn next_into(&mut self, message: &mut Message) -> Result<Option<Item>, Breach> {
        if self.large.is_some() {
            return self.finish_large(message);
        }
        loop {
            let rest = &self.bytes[self.start..];
            let Some((header, body)) = rest.split_first_chunk::<4>() else {
                return self.stick();
            };
            let header = wire::read_header(*header, self.limit)?;
            self.check_whole(header)?;
            let Some(body) = body.get(..header.bytes) else {
                return self.wait_for(header);
            };
            self.start += 4 + header.bytes;
            if header.control {
                return Ok(Some(Item::Control(wire::read_control(body[0])?)));
            }
            if self.frames.is_empty() && !header.more {
                replace(message, body);
                return Ok(Some(Item::Message));
            }
            let frame = Frame::from(body);
            if self.add(frame, header.more, message)? {
                return Ok(Some(Item::Message));
            }
        }
    }

    /// Adds a frame to the message that is not whole yet; whether it is whole now, and in `message`.
    fn add(&mut self, frame: Frame, more: bool, message: &mut Message) -> Result<bool, Breach> {
        if self.frames.len() == MAX_FRAMES {
            return Err(Breach::TooMany);
        }
        self.frames_bytes += frame.len();
        self.frames.push(frame);
        if !more {
            message.clear();
            message.append(&mut self.frames);
            self.frames_bytes = 0;
        }
        Ok(!more)
    }

    /// The frames of a message together are bounded too.
    fn check_whole(&self, header: Header) -> Result<(), Breach> {
        let bytes = self.frames_bytes + header.bytes;
        match bytes > max_message_bytes(self.limit) {
            true => Err(Breach::TooLarge(bytes)),
            false => Ok(()),
        }
    }

    fn stick(&mut self) -> Result<Option<Item>, Breach> {
        self.is_stuck = true;
        Ok(None)
    }

    /// The frame that begins here has not come whole.
    fn wait_for(&mut self, header: Header) -> Result<Option<Item>, Breach> {
        if header.bytes > LARGE_BYTES {
            let bytes = self.bytes[self.start + 4..].to_vec();
            self.bytes.clear();
            self.start = 0;
            self.large = Some(Large { bytes, header });
        }
        self.stick()
    }

    fn finish_large(&mut self, message: &mut Message) -> Result<Option<Item>, Breach> {
        let Some(large) = self.large.take_if(|large| large.missing() == 0) else {
            return self.stick();
        };
        let more = large.header.more;
        match self.add(Frame::from(large.bytes), more, message)? {
            true => Ok(Some(Item::Message)),
            false => self.next_into(message),
        }
    }

    /// Bytes of memory that are held for what is not whole.
    #[cfg(test)]
    fn held(&self) -> usize {
        let large = self
            .large
            .as_ref()
            .map_or(0, |large| large.bytes.capacity());
        self.bytes.capacity() + large
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.bytes));
    }
}

impl Large {
    fn missing(&self) -> usize {
        self.header.bytes - self.bytes.len()
    }

    /// Reads into the frame, and what comes after it into `rest`. Memory is taken as bytes come, not as they
    /// are announced.
    fn read(&mut self, stream: impl AsFd, rest: &mut Vec<u8>) -> io::Result<(usize, bool)> {
        let more = self.missing().min(self.bytes.len().max(ROOM_BYTES));
        self.bytes.reserve_exact(more);
        let room = self.bytes.capacity() - self.bytes.len();
        let read = rustix::io::read(stream, spare_capacity(&mut self.bytes))?;
        if self.bytes.len() > self.header.bytes {
            rest.extend(self.bytes.drain(self.header.bytes..));
        }
        Ok((read, read == room))
    }
}

/// Makes a message of one frame, in the memory of the one before.
#[inline]
fn replace(message: &mut Message, body: &[u8]) {
    message.truncate(1);
    match message.first_mut() {
        Some(frame) => frame.refill(body),
        None => message.push(Frame::from(body)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use proptest::prelude::*;

    use super::super::wire::{control, header};
    use super::*;

    fn encode(messages: &[Vec<Vec<u8>>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for message in messages {
            for (at, frame) in message.iter().enumerate() {
                bytes.extend(header(frame.len(), at + 1 < message.len()));
                bytes.extend(frame);
            }
            bytes.extend(control(Control::Ping));
        }
        bytes
    }

    /// Reads a piece of a stream, which fits into the system's buffers.
    fn read(incoming: &mut Incoming, piece: &[u8]) {
        let (mut near, far) = UnixStream::pair().unwrap();
        near.write_all(piece).unwrap();
        let mut left = piece.len();
        while left > 0 {
            left -= incoming.read(&far).unwrap().0;
        }
    }

    proptest! {
        #[test]
        fn a_stream_cut_anywhere_gives_the_same_messages(
            messages in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..4), 0..8),
            large in 0..200_000_usize, cut in 1..70_000_usize, settles: bool,
        ) {
            let mut messages = messages;
            messages.push(vec![vec![7; large], b"end".to_vec()]);
            messages.push(vec![vec![8; large]]);
            let (mut incoming, mut got, mut pings) = (Incoming::new(1 << 20), Vec::new(), 0);
            let mut message = Message::new();
            for piece in encode(&messages).chunks(cut.max(large / 50)) {
                read(&mut incoming, piece);
                while let Some(item) = incoming.next_into(&mut message).unwrap() {
                    match item {
                        Item::Message => got.push(message.iter().map(|frame| frame.to_vec()).collect::<Vec<_>>()),
                        Item::Control(_) => pings += 1,
                    }
                }
                if settles {
                    incoming.settle();
                }
            }
            prop_assert_eq!(pings, messages.len());
            prop_assert_eq!(got, messages);
            prop_assert_eq!(incoming.bytes.len(), incoming.start);
        }

        #[test]
        fn rubbish_is_refused_or_waits_and_takes_no_more_memory_than_came(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut incoming = Incoming::new(1 << 20);
            read(&mut incoming, &bytes);
            while let Ok(Some(_)) = incoming.next_into(&mut Message::new()) {}
            incoming.is_stuck = true;
            incoming.settle();
            prop_assert!(incoming.held() <= bytes.len());
        }
    }

    #[test]
    fn what_is_over_a_limit_is_a_breach() {
        let mut incoming = Incoming::new(10);
        read(&mut incoming, &header(11, false));
        let breach = incoming.next_into(&mut Message::new()).unwrap_err();
        assert_eq!(breach, Breach::TooLarge(11));
        let mut incoming = Incoming::new(10);
        for _ in 0..=MAX_FRAMES {
            read(&mut incoming, &header(0, true));
        }
        let breach = incoming.next_into(&mut Message::new()).unwrap_err();
        assert_eq!(breach, Breach::TooMany);
    }

    #[test]
    fn a_frame_that_is_announced_takes_memory_as_it_comes() {
        let mut incoming = Incoming::new(1 << 29);
        read(&mut incoming, &header(1 << 29, false));
        read(&mut incoming, &[7; 10]);
        assert_eq!(incoming.next_into(&mut Message::new()), Ok(None));
        read(&mut incoming, &[7; 10]);
        assert_eq!(incoming.next_into(&mut Message::new()), Ok(None));
        incoming.settle();
        assert!(incoming.held() <= 40, "{}", incoming.held());
    }
}
