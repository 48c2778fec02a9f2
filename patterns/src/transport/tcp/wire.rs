//! Messages as a stream of bytes.
//!
//! ```text
//! preface   "MUTR" │ version, 1 byte │ role, 1 byte │ 0 0           once, each way
//! frame     header, 4 bytes, big-endian: 1 bit more, 1 bit control, 30 bits length │ bytes
//! ```
//!
//! `more` says that the message goes on with the next frame. A control frame is no part of a message: one
//! byte, 0 to ask whether the peer lives, 1 to answer.

use crate::transport::{Frame, MAX_FRAMES, Message, Role};

const MAGIC: &[u8; 4] = b"MUTR";
const VERSION: u8 = b'1';

const MORE: u32 = 1 << 31;
const CONTROL: u32 = 1 << 30;
const LENGTH: u32 = CONTROL - 1;

/// The longest frame that the header can express, in bytes.
pub(super) const MAX_FRAME_BYTES: usize = LENGTH as usize;

/// Frames beyond this are gathered in memory of their own, which becomes the frame.
const LARGE: usize = 64 << 10;

/// What a peer says first.
pub(super) const PREFACE_BYTES: usize = 8;

/// Why a peer is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Breach {
    #[error("it does not speak this protocol")]
    Foreign,
    #[error(
        "it speaks version {0:?} of the protocol and this program version '1': update the older one"
    )]
    Version(char),
    #[error("it is a {0:?} socket, which this one cannot talk to: check the pattern at both ends")]
    Role(Role),
    #[error(
        "it sent a frame of {0} bytes, more than the limit: raise the limit or send less at once"
    )]
    TooLarge(usize),
    #[error("it sent a message of more than {MAX_FRAMES} frames")]
    TooMany,
    #[error("it sent a control frame that makes no sense")]
    Control,
}

const ROLES: [Role; 6] = [
    Role::Push,
    Role::Pull,
    Role::Publish,
    Role::Subscribe,
    Role::Dealer,
    Role::Router,
];

/// What a socket of this role says first.
pub(super) fn preface(role: Role) -> [u8; PREFACE_BYTES] {
    let number = ROLES.iter().position(|other| *other == role).unwrap_or(0);
    let [m, u, t, r] = *MAGIC;
    [m, u, t, r, VERSION, number as u8, 0, 0]
}

/// Reads what a peer said first.
pub(super) fn read_preface(bytes: &[u8; PREFACE_BYTES]) -> Result<Role, Breach> {
    if &bytes[..4] != MAGIC {
        return Err(Breach::Foreign);
    }
    if bytes[4] != VERSION {
        return Err(Breach::Version(char::from(bytes[4])));
    }
    let role = ROLES.get(usize::from(bytes[5]));
    role.copied().ok_or(Breach::Foreign)
}

/// The header of a frame of a message.
pub(super) fn header(bytes: usize, more: bool) -> [u8; 4] {
    let more = if more { MORE } else { 0 };
    (bytes as u32 | more).to_be_bytes()
}

/// Asks whether the peer lives, or answers that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Control {
    Ping,
    Pong,
}

/// A control frame.
pub(super) fn control(control: Control) -> [u8; 5] {
    let [a, b, c, d] = (CONTROL | 1).to_be_bytes();
    [a, b, c, d, control as u8]
}

/// What a stream holds next.
#[derive(Debug)]
pub(super) enum Item {
    Message(Message),
    Control(Control),
}

/// Takes a stream apart, in pieces of any size.
#[derive(Debug)]
pub(super) struct Decoder {
    limit: usize,
    /// What has been read and not taken; taken up to `start`.
    bytes: Vec<u8>,
    start: usize,
    /// The frames of the message that is not whole yet.
    frames: Message,
    /// A large frame that is not whole yet: what there is, how long it will be, whether more follow.
    large: Option<(Vec<u8>, usize, bool)>,
}

impl Decoder {
    /// Frames may have at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Decoder {
        Decoder {
            limit: limit.min(MAX_FRAME_BYTES),
            bytes: Vec::new(),
            start: 0,
            frames: Message::new(),
            large: None,
        }
    }

    /// Takes in what has been read.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        if let Some((large, len, _)) = &mut self.large {
            let wanted = (*len - large.len()).min(bytes.len());
            large.extend_from_slice(&bytes[..wanted]);
            bytes = &bytes[wanted..];
        }
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next thing that is whole.
    pub(super) fn next(&mut self) -> Result<Option<Item>, Breach> {
        loop {
            if let Some((large, len, _)) = &self.large
                && large.len() < *len
            {
                return Ok(None);
            }
            if let Some((large, _, more)) = self.large.take() {
                if let Some(message) = self.add(Frame::from(large), more)? {
                    return Ok(Some(Item::Message(message)));
                }
                continue;
            }
            let rest = &self.bytes[self.start..];
            let Some((header, body)) = rest.split_first_chunk::<4>() else {
                self.compact();
                return Ok(None);
            };
            let header = u32::from_be_bytes(*header);
            let (len, more) = ((header & LENGTH) as usize, header & MORE != 0);
            if header & CONTROL != 0 {
                if len != 1 || more {
                    return Err(Breach::Control);
                }
                let Some(&byte) = body.first() else {
                    return Ok(None);
                };
                self.start += 5;
                return match byte {
                    0 => Ok(Some(Item::Control(Control::Ping))),
                    1 => Ok(Some(Item::Control(Control::Pong))),
                    _ => Err(Breach::Control),
                };
            }
            if len > self.limit {
                return Err(Breach::TooLarge(len));
            }
            if body.len() < len {
                if len > LARGE {
                    self.begin_large(len, more);
                } else {
                    self.compact();
                }
                return Ok(None);
            }
            let frame = Frame::from(&body[..len]);
            self.start += 4 + len;
            if let Some(message) = self.add(frame, more)? {
                return Ok(Some(Item::Message(message)));
            }
        }
    }

    /// Bytes that are held for what is not whole.
    pub(super) fn held(&self) -> usize {
        let large = self.large.as_ref().map_or(0, |(bytes, ..)| bytes.len());
        self.bytes.len() - self.start + large
    }

    fn add(&mut self, frame: Frame, more: bool) -> Result<Option<Message>, Breach> {
        if self.frames.len() == MAX_FRAMES {
            return Err(Breach::TooMany);
        }
        self.frames.push(frame);
        Ok((!more).then(|| std::mem::take(&mut self.frames)))
    }

    /// Memory is taken as bytes come, not as they are announced.
    fn begin_large(&mut self, len: usize, more: bool) {
        let have = self.bytes[self.start + 4..].to_vec();
        self.large = Some((have, len, more));
        self.bytes.clear();
        self.start = 0;
    }

    /// Moves what is not whole to the front.
    fn compact(&mut self) {
        self.bytes.drain(..self.start);
        self.start = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn a_stream_cut_anywhere_gives_the_same_messages(
            messages in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..4), 0..8),
            large in 0..200_000_usize, cut in 1..70_000_usize,
        ) {
            let mut messages = messages;
            messages.push(vec![vec![7; large], b"end".to_vec()]);
            let (mut decoder, mut got, mut pings) = (Decoder::new(1 << 20), Vec::new(), 0);
            for piece in encode(&messages).chunks(cut) {
                decoder.feed(piece);
                while let Some(item) = decoder.next().unwrap() {
                    match item {
                        Item::Message(message) => got.push(message.iter().map(|frame| frame.to_vec()).collect::<Vec<_>>()),
                        Item::Control(_) => pings += 1,
                    }
                }
            }
            prop_assert_eq!(pings, messages.len());
            prop_assert_eq!(got, messages);
            prop_assert_eq!(decoder.held(), 0);
        }

        #[test]
        fn rubbish_is_refused_or_waits_and_takes_no_more_memory_than_came(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut decoder = Decoder::new(1 << 20);
            decoder.feed(&bytes);
            while let Ok(Some(_)) = decoder.next() {}
            prop_assert!(decoder.held() <= bytes.len());
        }
    }

    #[test]
    fn what_is_over_a_limit_is_a_breach() {
        let mut decoder = Decoder::new(10);
        decoder.feed(&header(11, false));
        assert_eq!(decoder.next().unwrap_err(), Breach::TooLarge(11));
        let mut decoder = Decoder::new(10);
        for _ in 0..=MAX_FRAMES {
            decoder.feed(&header(0, true));
        }
        assert_eq!(decoder.next().unwrap_err(), Breach::TooMany);
    }

    #[test]
    fn a_preface_names_the_role_or_is_a_breach() {
        for role in ROLES {
            assert_eq!(read_preface(&preface(role)), Ok(role));
        }
        assert_eq!(read_preface(b"GET / HT"), Err(Breach::Foreign));
        assert_eq!(read_preface(b"MUTR2\0\0\0"), Err(Breach::Version('2')));
        assert_eq!(read_preface(b"MUTR1\x09\0\0"), Err(Breach::Foreign));
    }
}
