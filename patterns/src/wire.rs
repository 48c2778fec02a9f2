//! Frames as they travel: a protocol tag, a kind, header fields, then records; all MessagePack.
//!
//! ```text
//! "MUT" version   kind     header fields          records
//! 4 bytes         1 byte   MessagePack integers   MessagePack values, one after the other
//! ```
//!
//! Without its first four bytes a frame is a plain MessagePack stream, so that a peer in another
//! language feeds it to its unpacker as it is. Many small records share a frame.

mod batch;
mod extent;
mod records;

pub(crate) use batch::{Batch, single};
pub(crate) use extent::value_bytes;
pub(crate) use records::Inbox;
pub use records::{Decoder, RecordError, Records};

/// What every frame of ours begins with, followed by the version.
pub const PROTOCOL: &[u8; 3] = b"MUT";

/// The version of the frames that this library speaks, as the fourth byte.
pub const VERSION: u8 = b'1';

/// What a frame is; the byte after the version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Records from a pusher to a puller: `count`, records.
    Records = 0,
    /// Tasks from a ventilator to a worker: `job first count attempt attempts`, records.
    Tasks = 1,
    /// Results from a worker to a sink: `job worker first count`, then `true value` or
    /// `false [reason, context]` for each.
    Results = 2,
    /// One control message between ventilator, worker and sink: one value.
    Control = 3,
    /// Published records: `publisher first count`, records.
    Published = 4,
    /// Tasks from a client to a broker: `job first count`, records.
    Submitted = 5,
    /// Tasks from a broker to a worker: `lease job first count attempt attempts time_limit_ms
    /// operation`, records.
    Leased = 6,
    /// Outcomes from a worker to a broker: `lease first count busy_us`, then `true value` or
    /// `false [reason, context]` for each.
    Worked = 7,
    /// Outcomes from a broker to a client: `job first count`, then as in `Worked`.
    Outcomes = 8,
    /// A control message between a client and a broker: one value.
    Client = 9,
    /// A control message between a worker and a broker: one value.
    Worker = 10,
    /// A request from a client to a broker, whose reply is an `Outcomes`: `job attempts time_limit_ms
    /// operation`, one record.
    Asked = 11,
    /// A word between members of an election: `cluster to from word`, the word's numbers.
    Election = 12,
    /// A message between the programs of a storage cluster: one value.
    Storage = 13,
}

impl Kind {
    const ALL: [Kind; 14] = [
        Kind::Records,
        Kind::Tasks,
        Kind::Results,
        Kind::Control,
        Kind::Published,
        Kind::Submitted,
        Kind::Leased,
        Kind::Worked,
        Kind::Outcomes,
        Kind::Client,
        Kind::Worker,
        Kind::Asked,
        Kind::Election,
        Kind::Storage,
    ];
}

/// Why a frame cannot be read; the frame is dropped and nothing else changes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The peer speaks another protocol.
    #[error("the peer does not speak this protocol: check which program is at the other end")]
    Foreign,
    /// The peer speaks another version of ours.
    #[error(
        "the peer speaks version {0:?} of the protocol and this program version '1': update the older one"
    )]
    Version(char),
    /// The frame is of a kind that has no place here, as when a worker is connected to a chat.
    #[error(
        "a frame of kind {0} arrived where none is expected: check the pattern and the endpoint at both ends"
    )]
    Unexpected(u8),
    /// The frame ends early or its bytes are not what the kind requires.
    #[error("the frame is truncated or damaged")]
    Malformed,
}

/// Builds a frame.
#[derive(Debug)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Starts a frame of `kind`.
    pub fn new(kind: Kind) -> Writer {
        Writer::with_buffer(Vec::with_capacity(64), kind)
    }

    /// Starts a frame of `kind` behind what `buffer` already holds.
    pub fn with_buffer(mut buffer: Vec<u8>, kind: Kind) -> Writer {
        buffer.extend_from_slice(PROTOCOL);
        buffer.extend_from_slice(&[VERSION, kind as u8]);
        Writer(buffer)
    }

    /// Appends a header field.
    pub fn uint(mut self, value: u64) -> Writer {
        // Writing to memory cannot fail.
        let _ = rmp::encode::write_uint(&mut self.0, value);
        self
    }

    /// Appends a header field of text.
    pub fn text(mut self, text: &str) -> Writer {
        // Writing to memory cannot fail.
        let _ = rmp::encode::write_str(&mut self.0, text);
        self
    }

    /// Appends consecutive tasks: the first, and how many.
    pub fn span(self, span: crate::pipeline::Span) -> Writer {
        self.uint(span.first).uint(u64::from(span.count))
    }

    /// Appends encoded records.
    pub fn records(mut self, bytes: &[u8]) -> Writer {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Appends one value.
    ///
    /// # Errors
    ///
    /// The value cannot be serialised.
    pub fn value<T: serde::Serialize + ?Sized>(mut self, value: &T) -> Result<Writer, RecordError> {
        records::encode(&mut self.0, value)?;
        Ok(self)
    }

    /// The finished frame.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Reads the tag and the header fields of a frame.
#[derive(Clone, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Checks the tag and the version and returns the kind with a reader of what follows.
    ///
    /// # Errors
    ///
    /// [`WireError::Foreign`], [`WireError::Version`] or [`WireError::Unexpected`] for a kind that
    /// does not exist.
    #[inline]
    pub fn open(frame: &'a [u8]) -> Result<(Kind, Reader<'a>), WireError> {
        let rest = frame.strip_prefix(PROTOCOL).ok_or(WireError::Foreign)?;
        let (&version, rest) = rest.split_first().ok_or(WireError::Malformed)?;
        if version != VERSION {
            return Err(WireError::Version(version as char));
        }
        let (&kind, rest) = rest.split_first().ok_or(WireError::Malformed)?;
        match Kind::ALL.get(usize::from(kind)) {
            Some(&kind) => Ok((kind, Reader(rest))),
            None => Err(WireError::Unexpected(kind)),
        }
    }

    /// The same, for a place where only one kind is expected.
    ///
    /// # Errors
    ///
    /// As [`open`](Reader::open), and [`WireError::Unexpected`] for another kind.
    #[inline]
    pub fn expect(frame: &'a [u8], kind: Kind) -> Result<Reader<'a>, WireError> {
        match Reader::open(frame)? {
            (found, reader) if found == kind => Ok(reader),
            (found, _) => Err(WireError::Unexpected(found as u8)),
        }
    }

    /// The next header field.
    ///
    /// # Errors
    ///
    /// [`WireError::Malformed`] when there is none or it is not an unsigned integer.
    #[inline]
    pub fn uint(&mut self) -> Result<u64, WireError> {
        rmp::decode::read_int(&mut self.0).map_err(|_| WireError::Malformed)
    }

    /// The next header field as a 32-bit number.
    ///
    /// # Errors
    ///
    /// As [`uint`](Reader::uint), or the number is too large.
    pub fn uint32(&mut self) -> Result<u32, WireError> {
        self.uint()?.try_into().map_err(|_| WireError::Malformed)
    }

    /// The next header field as text.
    ///
    /// # Errors
    ///
    /// [`WireError::Malformed`] when there is none or it is not text.
    pub fn text(&mut self) -> Result<&'a str, WireError> {
        let (text, rest) =
            rmp::decode::read_str_from_slice(self.0).map_err(|_| WireError::Malformed)?;
        self.0 = rest;
        Ok(text)
    }

    /// The next header fields as consecutive tasks: the first, and how many; each takes at least a
    /// byte of what follows, so a count beyond that is a lie.
    ///
    /// # Errors
    ///
    /// [`WireError::Malformed`] when they are not.
    pub fn span(&mut self) -> Result<crate::pipeline::Span, WireError> {
        let (first, count) = (self.uint()?, self.uint32()?);
        let sound = count > 0
            && count as usize <= self.0.len()
            && first.checked_add(u64::from(count)).is_some();
        match sound {
            true => Ok(crate::pipeline::Span { first, count }),
            false => Err(WireError::Malformed),
        }
    }

    /// All that follows the fields read so far.
    #[inline]
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    /// The one value that follows.
    ///
    /// # Errors
    ///
    /// [`WireError::Malformed`] when it is not a `T`.
    pub fn value<T: serde::Deserialize<'a>>(self) -> Result<T, WireError> {
        rmp_serde::from_slice(self.0).map_err(|_| WireError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_frame_without_its_tag_is_a_plain_messagepack_stream() {
        let frame = Writer::new(Kind::Records)
            .uint(2)
            .value(&"a")
            .unwrap()
            .value(&7)
            .unwrap();
        assert_eq!(frame.finish(), b"MUT1\x00\x02\xa1a\x07");
    }

    #[test]
    fn foreign_frames_and_other_versions_are_told_apart() {
        let open = |bytes: &[u8]| Reader::open(bytes).map(|(kind, _)| kind).unwrap_err();
        assert_eq!(open(b"GET / HTTP/1.1"), WireError::Foreign);
        assert_eq!(open(b""), WireError::Foreign);
        assert_eq!(open(b"MUT"), WireError::Malformed);
        assert_eq!(open(b"MUT2\x00"), WireError::Version('2'));
        assert_eq!(open(b"MUT1\xff"), WireError::Unexpected(255));
    }

    proptest! {
        #[test]
        fn fields_survive_the_round_trip(fields in proptest::collection::vec(any::<u64>(), 0..8)) {
            let mut writer = Writer::new(Kind::Tasks);
            for &field in &fields {
                writer = writer.uint(field);
            }
            let frame = writer.finish();
            let mut reader = Reader::expect(&frame, Kind::Tasks).unwrap();
            for &field in &fields {
                prop_assert_eq!(reader.uint().unwrap(), field);
            }
            prop_assert!(reader.rest().is_empty());
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut frame = b"MUT1\x01".to_vec();
            frame.extend_from_slice(&bytes);
            if let Ok((_, mut reader)) = Reader::open(&frame) {
                while reader.uint().is_ok() {}
                let _ = reader.value::<Vec<String>>();
            }
        }
    }
}
