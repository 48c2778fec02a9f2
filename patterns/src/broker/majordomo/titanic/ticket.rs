//! The UUID by which a kept request is known.

use std::fmt;

use crate::transport::Frame;

/// The UUID of a kept request.
///
/// It is also what entitles a client to the reply, so it is drawn at random and not counted up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u128);

impl Ticket {
    /// A ticket of 122 random bits; the others say that it is a UUID of version 4.
    #[must_use]
    pub fn from_random(bits: u128) -> Ticket {
        let bits = bits & !(0xf << 76) | 0x4 << 76;
        Ticket(bits & !(0x3 << 62) | 0x2 << 62)
    }

    /// Reads 32 hexadecimal digits, large or small, or the usual 36 characters with dashes.
    ///
    /// RFC 9 wants the 32; its C implementation writes large ones, the Python one small ones. The dashes
    /// are what a UUID library makes of them when a client keeps its tickets as such.
    #[must_use]
    pub fn read(text: &[u8]) -> Option<Ticket> {
        let dashed = match text.len() {
            32 => false,
            36 => true,
            _ => return None,
        };
        let mut bits = 0;
        for (at, &byte) in text.iter().enumerate() {
            if dashed && matches!(at, 8 | 13 | 18 | 23) {
                if byte != b'-' {
                    return None;
                }
                continue;
            }
            let digit = char::from(byte).to_digit(16)?;
            bits = bits << 4 | u128::from(digit);
        }
        Some(Ticket(bits))
    }

    /// The 128 bits.
    #[must_use]
    pub fn bits(self) -> u128 {
        self.0
    }

    /// The frame that carries it: 32 small hexadecimal digits.
    #[must_use]
    pub fn frame(self) -> Frame {
        Frame::from(self.to_string().as_bytes())
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({self})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_ticket_is_read_in_every_common_form() {
        let ticket = Ticket::read(b"0123456789abcdef0123456789abcdef");
        assert_eq!(
            ticket.map(Ticket::bits),
            Some(0x0123456789abcdef0123456789abcdef)
        );
        assert_eq!(Ticket::read(b"0123456789ABCDEF0123456789ABCDEF"), ticket);
        assert_eq!(
            Ticket::read(b"01234567-89ab-cdef-0123-456789abcdef"),
            ticket
        );
        let frame = ticket.map(Ticket::frame).unwrap();
        assert_eq!(&*frame, b"0123456789abcdef0123456789abcdef");
    }

    #[test]
    fn what_is_not_a_uuid_is_none() {
        let bad: [&[u8]; 7] = [
            b"",
            b"../../../../../../../etc/passwd\0",
            b"0123456789abcdef0123456789abcde",
            b"0123456789abcdef0123456789abcdeg",
            b"+123456789abcdef0123456789abcdef",
            b"0123-4567-89ab-cdef-0123456789abcdef",
            b"01234567-89ab-cdef-0123-456789abcde-",
        ];
        for text in bad {
            assert_eq!(Ticket::read(text), None);
        }
    }

    #[test]
    fn a_random_ticket_is_a_uuid_of_version_4() {
        assert_eq!(
            Ticket::from_random(0).to_string(),
            "00000000000040008000000000000000"
        );
        assert_eq!(
            Ticket::from_random(u128::MAX).to_string(),
            "ffffffffffff4fffbfffffffffffffff"
        );
    }

    proptest! {
        #[test]
        fn tickets_survive_the_round_trip(bits in any::<u128>()) {
            let ticket = Ticket(bits);
            prop_assert_eq!(Ticket::read(&ticket.frame()), Some(ticket));
        }

        #[test]
        fn noise_never_panics(text in prop::collection::vec(any::<u8>(), 30..40)) {
            let _ = Ticket::read(&text);
        }
    }
}
