//! A frame of records that is still growing; its count is filled in last.

use serde::Serialize;

use super::records::{RecordError, encode};
use super::{Kind, PROTOCOL, VERSION, Writer};

/// MessagePack's marker of a 32-bit unsigned integer, used whatever the value, so that the count
/// can be written when it is known.
const UINT32: u8 = 0xce;
const COUNT_BYTES: usize = 4;

/// A frame: what precedes it, tag, kind, header fields, `count`, records.
#[derive(Debug)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    /// Where the records begin, right behind the count.
    start: usize,
    /// Where the last whole record ends; what lies behind it was left by a panic in `serialize`.
    end: usize,
    count: u32,
}

impl Batch {
    /// Starts a frame behind `prefix`, in memory that may be reused.
    pub(crate) fn start(buffer: Vec<u8>, prefix: &[u8], kind: Kind, fields: &[u64]) -> Batch {
        let mut buffer = buffer;
        buffer.clear();
        buffer.extend_from_slice(prefix);
        let mut writer = Writer::with_buffer(buffer, kind);
        for &field in fields {
            writer = writer.uint(field);
        }
        let mut bytes = writer.finish();
        bytes.extend_from_slice(&[UINT32, 0, 0, 0, 0]);
        let start = bytes.len();
        Batch {
            bytes,
            start,
            end: start,
            count: 0,
        }
    }

    /// Appends a record.
    ///
    /// # Errors
    ///
    /// The value cannot be serialised, in which case nothing changes.
    pub(crate) fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), RecordError> {
        self.bytes.truncate(self.end);
        encode(&mut self.bytes, value)?;
        self.end = self.bytes.len();
        self.count += 1;
        Ok(())
    }

    /// Moves the last record, which begins at `from`, to the empty batch `to`.
    pub(crate) fn move_last(&mut self, from: usize, to: &mut Batch) {
        to.bytes.extend_from_slice(&self.bytes[from..self.end]);
        to.end = to.bytes.len();
        to.count = 1;
        self.cut_last(from);
    }

    /// Takes the last record, which begins at `from`, out again.
    pub(crate) fn cut_last(&mut self, from: usize) {
        self.bytes.truncate(from);
        self.end = from;
        self.count -= 1;
    }

    /// Bytes of the frame up to now.
    pub(crate) fn len(&self) -> usize {
        self.end
    }

    /// Records up to now.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// The finished frame.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes.truncate(self.end);
        self.bytes[self.start - COUNT_BYTES..self.start].copy_from_slice(&self.count.to_be_bytes());
        self.bytes
    }
}

/// Makes a frame of one record in memory that may be reused.
///
/// # Errors
///
/// The value cannot be serialised.
pub(crate) fn single<T: Serialize + ?Sized>(
    buffer: &mut Vec<u8>,
    value: &T,
) -> Result<(), RecordError> {
    buffer.clear();
    buffer.extend_from_slice(PROTOCOL);
    // The count, 1, is a MessagePack integer in one byte.
    buffer.extend_from_slice(&[VERSION, Kind::Records as u8, 1]);
    encode(buffer, value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Decoder, Reader};

    fn read(frame: &[u8]) -> Vec<String> {
        let mut reader = Reader::expect(frame, Kind::Records).unwrap();
        let count = reader.uint().unwrap();
        Decoder::new(reader.rest(), count)
            .map(Result::unwrap)
            .collect()
    }

    #[test]
    fn a_single_record_is_a_frame_like_any_other() {
        let mut frame = vec![1, 2, 3];
        single(&mut frame, "alone").unwrap();
        assert_eq!(read(&frame), ["alone"]);
    }

    #[test]
    fn the_last_record_moves_to_the_next_frame() {
        let mut first = Batch::start(vec![1, 2, 3], b"", Kind::Records, &[]);
        first.push("a").unwrap();
        let from = first.len();
        first.push("b").unwrap();
        let mut second = Batch::start(Vec::new(), b"", Kind::Records, &[]);
        first.move_last(from, &mut second);
        assert_eq!(read(&first.finish()), ["a"]);
        assert_eq!(read(&second.finish()), ["b"]);
    }

    #[test]
    fn a_value_that_panics_while_it_is_encoded_leaves_no_trace() {
        struct Panics;
        impl Serialize for Panics {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeTuple;
                serializer.serialize_tuple(2)?.serialize_element(&1)?;
                panic!("on purpose");
            }
        }
        let mut batch = Batch::start(Vec::new(), b"", Kind::Records, &[]);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ = batch.push(&Panics);
        }));
        assert!(panicked.is_err());
        batch.push("after").unwrap();
        assert_eq!(read(&batch.finish()), ["after"]);
    }
}
