//! Where a MessagePack value ends, without decoding it.

/// The number of bytes that the first value of `bytes` takes, or `None` when it is damaged or ends
/// early. Takes no memory and no stack, whatever the value claims.
#[inline]
pub(crate) fn value_bytes(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut values_left = 1_u64;
    while values_left > 0 {
        let marker = *bytes.get(at)?;
        at += 1;
        let (payload_bytes, inner_values) = match marker {
            0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => (0, 0),
            0x80..=0x8f => (0, 2 * u64::from(marker & 0x0f)),
            0x90..=0x9f => (0, u64::from(marker & 0x0f)),
            0xa0..=0xbf => (u64::from(marker & 0x1f), 0),
            0xc1 => return None,
            0xc4 | 0xd9 => (length(bytes, &mut at, 1)?, 0),
            0xc5 | 0xda => (length(bytes, &mut at, 2)?, 0),
            0xc6 | 0xdb => (length(bytes, &mut at, 4)?, 0),
            // Extensions carry one more byte, their type.
            0xc7 => (length(bytes, &mut at, 1)? + 1, 0),
            0xc8 => (length(bytes, &mut at, 2)? + 1, 0),
            0xc9 => (length(bytes, &mut at, 4)? + 1, 0),
            0xd4..=0xd8 => (1 + (1 << (marker - 0xd4)), 0),
            0xcc..=0xcf => (1 << (marker - 0xcc), 0),
            0xd0..=0xd3 => (1 << (marker - 0xd0), 0),
            0xca => (4, 0),
            0xcb => (8, 0),
            0xdc => (0, length(bytes, &mut at, 2)?),
            0xdd => (0, length(bytes, &mut at, 4)?),
            0xde => (0, 2 * length(bytes, &mut at, 2)?),
            0xdf => (0, 2 * length(bytes, &mut at, 4)?),
        };
        if payload_bytes > (bytes.len() - at) as u64 {
            return None;
        }
        at += payload_bytes as usize;
        values_left += inner_values;
        values_left -= 1;
    }
    Some(at)
}

/// Reads a length of `size` bytes at `at` and steps over it.
fn length(bytes: &[u8], at: &mut usize, size: usize) -> Option<u64> {
    let digits = bytes.get(*at..*at + size)?;
    *at += size;
    Some(
        digits
            .iter()
            .fold(0, |sum, &digit| sum << 8 | u64::from(digit)),
    )
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;
    use serde::Deserialize;
    use serde::de::IgnoredAny;

    use super::*;

    fn extent_by_decoding(bytes: &[u8]) -> Option<usize> {
        let mut reader = rmp_serde::Deserializer::new(Cursor::new(bytes));
        IgnoredAny::deserialize(&mut reader).ok()?;
        Some(reader.position() as usize)
    }

    #[test]
    fn every_marker_ends_where_the_decoder_ends() {
        for marker in 0..=u8::MAX {
            // Lengths of 2 in every width, then enough to fill them.
            for length in [&[2][..], &[0, 2], &[0, 0, 0, 2]] {
                let bytes = [&[marker], length, &[1; 64]].concat();
                if let Some(extent) = extent_by_decoding(&bytes) {
                    assert_eq!(value_bytes(&bytes), Some(extent), "{marker:#x} {length:?}");
                }
            }
        }
    }

    #[test]
    fn claims_beyond_the_bytes_are_damage() {
        for bytes in [
            &b""[..],
            b"\xc1",
            b"\xdd\xff\xff\xff\xff\x01",
            b"\xc6\xff\xff\xff\xff\x01",
            b"\xa2a",
        ] {
            assert_eq!(value_bytes(bytes), None, "{bytes:?}");
        }
        let nested = vec![0x91; 1 << 20];
        assert_eq!(value_bytes(&nested), None);
    }

    proptest! {
        #[test]
        fn a_value_that_decodes_ends_where_its_decoder_ends(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Some(extent) = extent_by_decoding(&bytes) {
                prop_assert_eq!(value_bytes(&bytes), Some(extent));
            }
        }
    }
}
