//! Majordomo bodies as records: one frame is a MessagePack `bin`, several are an array of `bin`s.

use std::sync::Arc;

use crate::transport::Frame;

use super::majordomo::MAX_BODY_FRAMES;
use super::piece::Slice;

/// Reads the frames of a body into a record.
pub(super) fn record(body: &[Frame]) -> Slice {
    let bytes = body.iter().map(|frame| frame.len() + 8).sum();
    let mut record = Vec::with_capacity(bytes);
    // Writing to memory cannot fail.
    if body.len() != 1 {
        let _ = rmp::encode::write_array_len(&mut record, body.len() as u32);
    }
    for frame in body {
        let _ = rmp::encode::write_bin(&mut record, frame);
    }
    Slice::from(Arc::from(record), 0)
}

/// The frames that a record stands for. One that is neither `bin`, nor `str`, nor an array of so many
/// of them as a body may have, is a frame as it is, in MessagePack.
pub(super) fn frames(record: &[u8]) -> Vec<Frame> {
    let read = text(record).map(|one| vec![one]).or_else(|| many(record));
    let parts = read.unwrap_or_else(|| vec![record]);
    parts.into_iter().map(Frame::from).collect()
}

/// A `bin` or `str` that takes all of the bytes.
fn text(bytes: &[u8]) -> Option<&[u8]> {
    let (part, rest) = next(bytes)?;
    rest.is_empty().then_some(part)
}

fn many(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut rest = bytes;
    let count = rmp::decode::read_array_len(&mut rest).ok()?;
    let mut parts = Vec::new();
    for _ in 0..count.min(MAX_BODY_FRAMES as u32 + 1) {
        let (part, left) = next(rest)?;
        parts.push(part);
        rest = left;
    }
    (rest.is_empty() && (1..=MAX_BODY_FRAMES).contains(&parts.len())).then_some(parts)
}

/// The `bin` or `str` at the beginning, and what follows it.
fn next(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut rest = bytes;
    let len = match rmp::decode::read_bin_len(&mut rest) {
        Ok(len) => len,
        Err(_) => {
            rest = bytes;
            rmp::decode::read_str_len(&mut rest).ok()?
        }
    };
    rest.split_at_checked(len as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_body_survives_as_a_record(
            body in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..5)
        ) {
            let sent: Vec<Frame> = body.iter().map(|bytes| Frame::from(&bytes[..])).collect();
            let read = frames(record(&sent).bytes());
            let read: Vec<Vec<u8>> = read.iter().map(|frame| frame.to_vec()).collect();
            prop_assert_eq!(read, body);
        }

        #[test]
        fn random_records_are_some_body(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert!(!frames(&bytes).is_empty());
        }
    }

    #[test]
    fn what_is_no_text_goes_as_it_is() {
        for record in [&[0x07][..], &[0x90], &[0x92, 0xc0, 0x01]] {
            let frames = frames(record);
            assert_eq!(frames.len(), 1);
            assert_eq!(&frames[0][..], record);
        }
        assert_eq!(&frames(&[0xa2, b'h', b'i'])[0][..], b"hi");
    }
}
