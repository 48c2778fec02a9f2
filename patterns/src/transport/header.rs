//! What stands before each frame where a transport of our own makes bytes of messages.
//!
//! ```text
//! header   4 bytes, big-endian: 1 bit more, 1 bit control, 30 bits length
//! ```
//!
//! `more` says that the message goes on with the next frame. A control frame is no part of a message.

const MORE: u32 = 1 << 31;
const CONTROL: u32 = 1 << 30;
const LENGTH: u32 = CONTROL - 1;

/// What a header takes, in bytes.
pub(super) const HEADER_BYTES: usize = 4;

/// The longest frame that the header can express, in bytes.
pub(super) const MAX_FRAME_BYTES: usize = LENGTH as usize;

/// What the header of a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Length of the frame, at most [`MAX_FRAME_BYTES`].
    pub(super) bytes: usize,
    /// Whether the message goes on with the next frame.
    pub(super) more: bool,
    pub(super) control: bool,
}

impl Header {
    /// The header of a control frame.
    pub(super) fn control(bytes: usize) -> Header {
        Header {
            bytes,
            more: false,
            control: true,
        }
    }

    /// The header of a frame of a message.
    #[inline]
    pub(super) fn message(bytes: usize, more: bool) -> Header {
        Header {
            bytes,
            more,
            control: false,
        }
    }

    #[inline]
    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let more = if self.more { MORE } else { 0 };
        let control = if self.control { CONTROL } else { 0 };
        (self.bytes as u32 & LENGTH | more | control).to_be_bytes()
    }

    #[inline]
    pub(super) fn from_bytes(bytes: [u8; HEADER_BYTES]) -> Header {
        let header = u32::from_be_bytes(bytes);
        Header {
            bytes: (header & LENGTH) as usize,
            more: header & MORE != 0,
            control: header & CONTROL != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_what_it_was_given() {
        for bytes in [0, 1, 65_536, MAX_FRAME_BYTES] {
            for header in [
                Header::message(bytes, false),
                Header::message(bytes, true),
                Header::control(bytes),
            ] {
                assert_eq!(Header::from_bytes(header.to_bytes()), header);
            }
        }
        assert_eq!(Header::message(0x102, true).to_bytes(), [0x80, 0, 1, 2]);
        assert_eq!(Header::control(1).to_bytes(), [0x40, 0, 0, 1]);
    }
}
