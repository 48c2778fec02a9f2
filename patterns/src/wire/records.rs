//! Records: typed values laid end to end, encoded once and decoded one by one.

use std::io::Cursor;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use super::extent::value_bytes;

/// Why a record could not be encoded or decoded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The value refuses to be serialised; nothing was written.
    #[error("the value cannot be encoded: {0}")]
    Encode(#[from] rmp_serde::encode::Error),
    /// The bytes are not a value of the expected type; the next record can still be read.
    #[error("a record is not of the expected type: {0}")]
    Type(rmp_serde::decode::Error),
    /// The bytes are not MessagePack, or end early; nothing after them can be read.
    #[error("the records are truncated or damaged")]
    Damaged,
}

#[inline]
pub(super) fn encode<T: Serialize + ?Sized>(
    bytes: &mut Vec<u8>,
    value: &T,
) -> Result<(), RecordError> {
    let start = bytes.len();
    rmp_serde::encode::write(bytes, value).map_err(|error| {
        bytes.truncate(start);
        RecordError::Encode(error)
    })
}

/// Encoded records with their boundaries.
#[derive(Clone, Debug, Default)]
pub struct Records {
    bytes: Vec<u8>,
    /// Where each record ends in `bytes`.
    ends: Vec<u32>,
}

impl Records {
    /// The most bytes that one collection holds.
    pub const MAX_BYTES: usize = u32::MAX as usize;

    /// Appends a record.
    ///
    /// # Errors
    ///
    /// The value cannot be serialised, in which case nothing changes.
    pub fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), RecordError> {
        encode(&mut self.bytes, value)?;
        self.mark();
        Ok(())
    }

    /// Appends a record that is already encoded.
    pub fn push_encoded(&mut self, record: &[u8]) {
        self.bytes.extend_from_slice(record);
        self.mark();
    }

    /// Takes the last record away.
    pub fn pop(&mut self) {
        self.ends.pop();
        self.bytes.truncate(self.start(self.len()));
    }

    fn mark(&mut self) {
        debug_assert!(self.bytes.len() <= Self::MAX_BYTES);
        self.ends.push(self.bytes.len() as u32);
    }

    /// The number of records.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All records, end to end.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The records `from..to`, end to end.
    pub fn slice(&self, from: usize, to: usize) -> &[u8] {
        &self.bytes[self.start(from)..self.start(to)]
    }

    /// The greatest `to` for which `from..to` holds at most `max_records` records of at most
    /// `max_bytes` together; at least one record where there is one.
    pub fn fit(&self, from: usize, max_records: usize, max_bytes: usize) -> usize {
        let end = self.len().min(from.saturating_add(max_records.max(1)));
        let limit = self.start(from).saturating_add(max_bytes);
        let fitting = self.ends[from..end].partition_point(|&stop| stop as usize <= limit);
        (from + fitting.max(1)).min(self.len())
    }

    /// Forgets all records and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    fn start(&self, index: usize) -> usize {
        if index == 0 {
            0
        } else {
            self.ends[index - 1] as usize
        }
    }
}

/// Reads the values of a frame one by one.
///
/// A value of the wrong type is reported and skipped; damaged bytes end the reading.
pub struct Decoder<'a, T> {
    /// The values that `reader` reads, from the first on.
    values: &'a [u8],
    /// How many of them it has read.
    read: usize,
    reader: rmp_serde::Deserializer<rmp_serde::decode::ReadRefReader<'a, [u8]>>,
    left: u64,
    record: PhantomData<T>,
}

impl<'a, T> Decoder<'a, T> {
    /// Reads `count` records from `bytes`; a count that the bytes do not hold ends in
    /// [`RecordError::Damaged`].
    pub fn new(bytes: &'a [u8], count: u64) -> Decoder<'a, T> {
        let reader = rmp_serde::Deserializer::from_read_ref(bytes);
        Decoder {
            values: bytes,
            read: 0,
            reader,
            left: count,
            record: PhantomData,
        }
    }

    /// The number of records not read yet, as the frame claims.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Reads the next value as a `V`, whatever the records are; does not count as a record.
    ///
    /// # Errors
    ///
    /// [`RecordError::Type`] when it is something else, which is then skipped;
    /// [`RecordError::Damaged`] when nothing more can be read.
    pub fn value<V: Deserialize<'a>>(&mut self) -> Result<V, RecordError> {
        match V::deserialize(&mut self.reader) {
            Ok(value) => {
                self.read += 1;
                Ok(value)
            }
            Err(error) => self
                .skip_to(self.read + 1)
                .and(Err(RecordError::Type(error))),
        }
    }

    /// Starts to read afresh behind the first `values` values.
    fn skip_to(&mut self, values: usize) -> Result<(), RecordError> {
        let mut skipper = rmp_serde::Deserializer::new(Cursor::new(self.values));
        for _ in 0..values {
            if IgnoredAny::deserialize(&mut skipper).is_err() {
                self.left = 0;
                return Err(RecordError::Damaged);
            }
        }
        let left = self.left;
        *self = Decoder::new(&self.values[skipper.position() as usize..], left);
        Ok(())
    }
}

impl<T: DeserializeOwned> Iterator for Decoder<'_, T> {
    type Item = Result<T, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some(self.value())
    }
}

impl<T> std::fmt::Debug for Decoder<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Decoder({} records left)", self.left)
    }
}

/// How far the records of a frame have been read. The frame stays where it arrived and is given
/// to every call, as moving it about would cost as much as decoding a small record.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    /// Where the next record begins.
    at: usize,
    left: u64,
    /// Whether there may be something to read or to complain about.
    open: bool,
}

impl Inbox {
    /// Goes on with a frame that holds `count` records from `at` on.
    pub(crate) fn fill(&mut self, at: usize, count: u64) {
        *self = Inbox {
            at,
            left: count,
            open: true,
        };
    }

    /// Records that were not read yet, as the frame claims.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// The next record of `frame`, or `None` when all have been read.
    ///
    /// # Errors
    ///
    /// [`RecordError::Type`], after which the next record can be read, and
    /// [`RecordError::Damaged`], after which there is none.
    #[inline]
    pub(crate) fn next<T: DeserializeOwned>(
        &mut self,
        frame: &[u8],
    ) -> Option<Result<T, RecordError>> {
        if !self.open {
            return None;
        }
        if self.left == 0 {
            self.open = false;
            return (self.at < frame.len()).then_some(Err(RecordError::Damaged));
        }
        Some(
            self.step(frame)
                .and_then(|record| rmp_serde::from_slice(record).map_err(RecordError::Type)),
        )
    }

    /// Skips the next `count` records of `frame`.
    ///
    /// # Errors
    ///
    /// [`RecordError::Damaged`], after which there is none left.
    pub(crate) fn skip(&mut self, frame: &[u8], count: u64) -> Result<(), RecordError> {
        for _ in 0..count.min(self.left) {
            self.step(frame)?;
        }
        Ok(())
    }

    fn step<'a>(&mut self, frame: &'a [u8]) -> Result<&'a [u8], RecordError> {
        let values = &frame[self.at..];
        let Some(bytes) = value_bytes(values) else {
            *self = Inbox::default();
            return Err(RecordError::Damaged);
        };
        self.left -= 1;
        self.at += bytes;
        Ok(&values[..bytes])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode<T: DeserializeOwned>(records: &Records) -> Vec<Result<T, RecordError>> {
        Decoder::new(records.bytes(), records.len() as u64).collect()
    }

    #[test]
    fn a_record_of_another_type_is_skipped_and_the_next_one_read() {
        let mut records = Records::default();
        records.push("text").unwrap();
        records.push(&(1, "pair", [2.5])).unwrap();
        records.push("more").unwrap();
        let read = decode::<String>(&records);
        assert_eq!(read[0].as_deref().unwrap(), "text");
        assert!(matches!(read[1], Err(RecordError::Type(_))));
        assert_eq!(read[2].as_deref().unwrap(), "more");
    }

    #[test]
    fn a_claimed_length_beyond_the_frame_is_damage_and_takes_no_memory() {
        let claims_4_gib = [0xc6, 0xff, 0xff, 0xff, 0xff, 1, 2, 3];
        let read: Vec<_> = Decoder::<serde_bytes::ByteBuf>::new(&claims_4_gib, 3).collect();
        assert!(matches!(read.as_slice(), [Err(RecordError::Damaged)]));
    }

    fn unpack<T: DeserializeOwned>(bytes: &[u8], count: u64) -> Vec<Result<T, RecordError>> {
        let mut inbox = Inbox::default();
        inbox.fill(0, count);
        std::iter::from_fn(|| inbox.next(bytes)).collect()
    }

    #[test]
    fn an_inbox_skips_what_is_of_another_type_and_ends_at_damage() {
        let read = unpack::<String>(b"\xa1a\x07\xa1b\xa9c", 4);
        assert_eq!(read[0].as_deref().unwrap(), "a");
        assert!(matches!(read[1], Err(RecordError::Type(_))));
        assert_eq!(read[2].as_deref().unwrap(), "b");
        assert!(matches!(read[3..], [Err(RecordError::Damaged)]));
        assert!(matches!(
            unpack::<u8>(b"\x07\x08", 1)[..],
            [Ok(7), Err(RecordError::Damaged)]
        ));
    }

    #[test]
    fn fit_stops_at_either_limit_but_never_below_one() {
        let mut records = Records::default();
        for _ in 0..10 {
            records.push("1234").unwrap();
        }
        assert_eq!(records.fit(0, 3, 1000), 3);
        assert_eq!(records.fit(2, 100, 12), 4);
        assert_eq!(records.fit(9, 100, 1), 10);
        assert_eq!(records.fit(0, 100, 1), 1);
        assert_eq!(records.slice(9, 10), b"\xa41234");
    }

    proptest! {
        #[test]
        fn what_was_pushed_is_decoded(values in proptest::collection::vec(any::<(u64, String, Vec<i16>)>(), 0..20)) {
            let mut records = Records::default();
            for value in &values {
                records.push(value).unwrap();
            }
            let read: Vec<(u64, String, Vec<i16>)> = decode(&records).into_iter().map(Result::unwrap).collect();
            prop_assert_eq!(read, values);
        }

        #[test]
        fn an_inbox_reads_as_the_decoder_does(values in proptest::collection::vec(any::<(u64, String)>(), 0..20)) {
            let mut records = Records::default();
            for value in &values {
                records.push(value).unwrap();
            }
            let read: Vec<(u64, String)> =
                unpack(records.bytes(), values.len() as u64).into_iter().map(Result::unwrap).collect();
            prop_assert_eq!(read, values);
        }

        #[test]
        fn random_bytes_end_an_inbox_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), count in any::<u64>()) {
            let read = unpack::<(u64, Option<String>)>(&bytes, count);
            prop_assert!(read.len() <= bytes.len() + 1);
        }

        #[test]
        fn random_bytes_end_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), count in any::<u64>()) {
            for record in Decoder::<(u64, Option<String>)>::new(&bytes, count).take(1000) {
                let _ = record;
            }
        }
    }
}
