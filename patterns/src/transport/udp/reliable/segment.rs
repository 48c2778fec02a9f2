//! What a reliable datagram holds.
//!
//! ```text
//! body     number, 8 │ credit, 8 │ flags, 1 │ ranges, 1 │ delay, 2 │ acknowledged │ segment
//! acknowledged   newest, 8 │ how many below it, 4 │ then for each further range: gap, 4 │ how many, 4
//! segment        offset, 8 │ bytes to the end
//! ```
//!
//! Every datagram that wants to be acknowledged has a number of its own, what is sent again included; others say
//! the number that comes next. The credit is the offset up to which the sender of the datagram takes the
//! other's stream. The delay is the time, in units of 8 µs, between the arrival of the newest number and this
//! datagram. Flags: 1 wants to be acknowledged, 2 has a segment.

use std::ops::Range;
use std::time::Duration;

use crate::transport::udp::packet::{Malformed, take_number};

const ELICITS: u8 = 1;
const SEGMENT: u8 = 2;

/// Ranges that an acknowledgement names at most.
pub(super) const MAX_RANGES: usize = 32;

/// Ranges that it names at most where it travels with a segment.
pub(super) const FEW_RANGES: usize = 4;

const DELAY_UNIT_US: u128 = 8;

/// The most that stands before the bytes of a segment, without the header of the datagram.
pub(in crate::transport::udp) const OVERHEAD_BYTES: usize = 20 + 12 + 8 * (FEW_RANGES - 1) + 8;

/// What has arrived, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Acknowledged {
    pub(super) delay: Duration,
    /// Neither empty nor more than [`MAX_RANGES`].
    pub(super) ranges: Vec<Range<u64>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Body<'a> {
    pub(super) number: u64,
    pub(super) credit: u64,
    /// Whether it wants to be acknowledged.
    pub(super) elicits: bool,
    pub(super) acknowledged: Option<Acknowledged>,
    pub(super) segment: Option<(u64, &'a [u8])>,
}

impl Body<'_> {
    pub(super) fn write(&self, datagram: &mut Vec<u8>) {
        let mut flags = if self.elicits { ELICITS } else { 0 };
        if self.segment.is_some() {
            flags |= SEGMENT;
        }
        datagram.extend_from_slice(&self.number.to_be_bytes());
        datagram.extend_from_slice(&self.credit.to_be_bytes());
        match &self.acknowledged {
            None => datagram.extend_from_slice(&[flags, 0, 0, 0]),
            Some(acknowledged) => acknowledged.write(flags, datagram),
        }
        if let Some((offset, bytes)) = self.segment {
            datagram.extend_from_slice(&offset.to_be_bytes());
            datagram.extend_from_slice(bytes);
        }
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Body<'_>, Malformed> {
        let (number, bytes) = take_number(bytes)?;
        let (credit, bytes) = take_number(bytes)?;
        let (&[flags, ranges, d, e], bytes) =
            bytes.split_first_chunk().ok_or(Malformed::Senseless)?;
        let delay = u16::from_be_bytes([d, e]);
        let delay = Duration::from_micros(u64::from(delay) * DELAY_UNIT_US as u64);
        let (acknowledged, bytes) = match usize::from(ranges) {
            0 => (None, bytes),
            1..=MAX_RANGES => {
                let (ranges, bytes) = read_ranges(usize::from(ranges), bytes)?;
                (Some(Acknowledged { delay, ranges }), bytes)
            }
            _ => return Err(Malformed::Senseless),
        };
        let segment = match flags {
            0 | ELICITS if bytes.is_empty() => None,
            flags if flags == ELICITS | SEGMENT => Some(take_number(bytes)?),
            _ => return Err(Malformed::Senseless),
        };
        Ok(Body {
            number,
            credit,
            elicits: flags & ELICITS != 0,
            acknowledged,
            segment,
        })
    }
}

impl Acknowledged {
    fn write(&self, flags: u8, datagram: &mut Vec<u8>) {
        let units = self.delay.as_micros() / DELAY_UNIT_US;
        let delay = u16::try_from(units).unwrap_or(u16::MAX).to_be_bytes();
        let at = datagram.len() + 1;
        datagram.extend_from_slice(&[flags, 0, delay[0], delay[1]]);
        let mut below: Option<u64> = None;
        let mut count = 0;
        for range in self.ranges.iter().take(MAX_RANGES) {
            // What is further back was acknowledged long ago.
            let len = u32::try_from(range.end - range.start - 1).unwrap_or(u32::MAX);
            let gap = below.map_or(Ok(0), |below| u32::try_from(below - range.end));
            let Ok(gap) = gap else {
                break;
            };
            match below {
                None => datagram.extend_from_slice(&(range.end - 1).to_be_bytes()),
                Some(_) => datagram.extend_from_slice(&gap.to_be_bytes()),
            }
            datagram.extend_from_slice(&len.to_be_bytes());
            below = Some(range.end - 1 - u64::from(len));
            count += 1;
        }
        datagram[at] = count;
    }
}

fn read_ranges(count: usize, bytes: &[u8]) -> Result<(Vec<Range<u64>>, &[u8]), Malformed> {
    let (newest, mut rest) = take_number(bytes)?;
    let mut end = newest.checked_add(1).ok_or(Malformed::Senseless)?;
    let mut ranges = Vec::with_capacity(count);
    for at in 0..count {
        if at > 0 {
            // At least one number lies between two ranges.
            let (gap, after) = take_small(rest)?;
            end = end.checked_sub(gap).ok_or(Malformed::Senseless)?;
            rest = after;
            if gap == 0 {
                return Err(Malformed::Senseless);
            }
        }
        let (below, after) = take_small(rest)?;
        let start = end
            .checked_sub(1)
            .and_then(|newest| newest.checked_sub(below));
        let start = start.ok_or(Malformed::Senseless)?;
        ranges.push(start..end);
        (end, rest) = (start, after);
    }
    Ok((ranges, rest))
}

fn take_small(bytes: &[u8]) -> Result<(u64, &[u8]), Malformed> {
    let (number, rest) = bytes.split_first_chunk().ok_or(Malformed::Senseless)?;
    Ok((u64::from(u32::from_be_bytes(*number)), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranges(from: u64, parts: &[(u64, u64)]) -> Vec<Range<u64>> {
        let mut end = from;
        let mut ranges = Vec::new();
        for &(gap, len) in parts {
            let start = end - gap - len;
            ranges.push(start..start + len);
            end = start;
        }
        ranges
    }

    #[test]
    fn of_a_range_too_long_to_be_written_the_newest_part_is() {
        let end = 1 << 40;
        let body = |ranges| Body {
            number: 1,
            credit: 2,
            elicits: false,
            acknowledged: Some(Acknowledged {
                delay: Duration::ZERO,
                ranges,
            }),
            segment: None,
        };
        let mut datagram = Vec::new();
        body(vec![end + 2..end + 3, 0..end]).write(&mut datagram);
        let newest = end - (1 << 32)..end;
        assert_eq!(
            Body::read(&datagram),
            Ok(body(vec![end + 2..end + 3, newest]))
        );
    }

    proptest! {
        #[test]
        fn a_body_is_read_as_it_was_written(
            number in any::<u64>(), credit in any::<u64>(), elicits in any::<bool>(), delay in 0..65_536_u64,
            from in 1_000_000..u64::MAX, parts in prop::collection::vec((1..1000_u64, 1..1000_u64), 0..32),
            segment in prop::option::of((any::<u64>(), prop::collection::vec(any::<u8>(), 0..50))),
        ) {
            let ranges = ranges(from, &parts);
            let body = Body {
                number,
                credit,
                elicits: elicits || segment.is_some(),
                acknowledged: (!ranges.is_empty()).then(|| Acknowledged {
                    delay: Duration::from_micros(8 * delay),
                    ranges,
                }),
                segment: segment.as_ref().map(|(offset, bytes)| (*offset, &bytes[..])),
            };
            let mut datagram = Vec::new();
            body.write(&mut datagram);
            prop_assert_eq!(Body::read(&datagram), Ok(body.clone()));
            if body.acknowledged.as_ref().is_none_or(|acknowledged| acknowledged.ranges.len() <= FEW_RANGES) {
                let bytes = body.segment.map_or(0, |(_, bytes)| bytes.len());
                prop_assert!(datagram.len() <= OVERHEAD_BYTES + bytes);
            }
        }

        #[test]
        fn rubbish_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), ranges in any::<u8>()) {
            let _ = Body::read(&bytes);
            let mut bytes = bytes;
            if bytes.len() > 17 {
                (bytes[16], bytes[17]) = (ranges & 3, ranges / 4);
            }
            if let Ok(Body { acknowledged: Some(acknowledged), .. }) = Body::read(&bytes) {
                prop_assert!(acknowledged.ranges.iter().all(|range| !range.is_empty()));
                prop_assert!(acknowledged.ranges.is_sorted_by(|newer, older| newer.start > older.end));
            }
        }
    }
}
