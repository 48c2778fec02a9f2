//! Messages as frames: one MessagePack value each.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::wire::{Kind, Reader, RecordError, WireError, Writer};

/// A message as a frame.
///
/// # Errors
///
/// The message cannot be written, which does not happen with those of this module.
pub fn write_frame<T: Serialize>(message: &T) -> Result<Vec<u8>, RecordError> {
    Ok(Writer::new(Kind::Storage).value(message)?.finish())
}

/// Reads a message. Memory follows the bytes that are there, whatever lengths they claim.
///
/// # Errors
///
/// The frame is foreign, of another kind, or damaged.
pub fn read_frame<T: DeserializeOwned>(frame: &[u8]) -> Result<T, WireError> {
    Reader::expect(frame, Kind::Storage)?.value()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{
        Checksum, ClientAsks, DataSays, Deed, HeadAsks, HeadId, HeadSays, HeadTells, InstanceId,
        Payload, RecordId, Stamp,
    };
    use super::*;

    proptest! {
        #[test]
        fn any_bytes_come_through(bytes: Vec<u8>, id: u64, seq: u64) {
            let (id, bytes) = (RecordId(id), Payload::from(bytes));
            let deed = Deed::Store { id, checksum: bytes.checksum(), bytes };
            let (to, head) = (InstanceId(5), HeadId(1));
            let order = HeadAsks::Order { to, head, stamp: Stamp { epoch: 3, seq }, deed };
            let frame = write_frame(&order).unwrap();
            prop_assert_eq!(read_frame::<HeadAsks>(&frame).unwrap(), order);
        }

        #[test]
        fn damaged_frames_are_refused_without_a_panic(
            bytes: Vec<u8>,
            at in any::<prop::sample::Index>(),
            with: u8,
        ) {
            let put = ClientAsks::Put {
                id: RecordId(1), checksum: Checksum::of(&bytes), bytes: Payload::from(bytes),
            };
            let mut frame = write_frame(&put).unwrap();
            let at = 5 + at.index(frame.len() - 5);
            frame[at] = with;
            let _ = read_frame::<ClientAsks>(&frame);
            let _ = read_frame::<HeadTells>(&frame);
            let _ = read_frame::<HeadAsks>(&frame);
            let _ = read_frame::<HeadSays>(&frame);
            let _ = read_frame::<DataSays>(&frame[..at]);
        }
    }

    #[test]
    fn a_claimed_length_takes_no_memory() {
        // bin32 of 4 GiB, without the bytes.
        let mut frame = write_frame(&()).unwrap();
        frame.pop();
        frame.extend_from_slice(&[0xc6, 0xff, 0xff, 0xff, 0xff, 1, 2]);
        assert!(read_frame::<Payload>(&frame).is_err());
    }
}
