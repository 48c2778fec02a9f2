//! Messages as a stream of bytes.
//!
//! ```text
//! preface   "MUTR" │ version, 1 byte │ role, 1 byte │ 0 0           once, each way
//! frame     header, 4 bytes, big-endian: 1 bit more, 1 bit control, 30 bits length │ bytes
//! ```
//!
//! `more` says that the message goes on with the next frame. A control frame is no part of a message: one
//! byte, 0 to ask whether the peer lives, 1 to answer.

pub(super) use crate::transport::header::{Header, MAX_FRAME_BYTES};
use crate::transport::{MAX_FRAMES, Role};

const MAGIC: &[u8; 4] = b"MUTR";
const VERSION: u8 = b'1';

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
        "it sent {0} bytes in a message, more than the limit: raise the limit or send less at once"
    )]
    TooLarge(usize),
    #[error("it sent a message of more than {MAX_FRAMES} frames")]
    TooMany,
    #[error("it sent a control frame that makes no sense")]
    Control,
}

/// What a socket of this role says first.
pub(super) fn preface(role: Role) -> [u8; PREFACE_BYTES] {
    let [m, u, t, r] = *MAGIC;
    [m, u, t, r, VERSION, role.number(), 0, 0]
}

/// Reads what a peer said first.
pub(super) fn read_preface(bytes: &[u8; PREFACE_BYTES]) -> Result<Role, Breach> {
    if &bytes[..4] != MAGIC {
        return Err(Breach::Foreign);
    }
    if bytes[4] != VERSION {
        return Err(Breach::Version(char::from(bytes[4])));
    }
    Role::from_number(bytes[5]).ok_or(Breach::Foreign)
}

/// The header of a frame of a message.
#[inline]
pub(super) fn header(bytes: usize, more: bool) -> [u8; 4] {
    Header::message(bytes, more).to_bytes()
}

/// Asks whether the peer lives, or answers that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Control {
    Ping,
    Pong,
}

/// A control frame.
pub(super) fn control(control: Control) -> [u8; 5] {
    let [a, b, c, d] = Header::control(1).to_bytes();
    [a, b, c, d, control as u8]
}

/// Reads the header of a frame, which may have at most `limit` bytes.
pub(super) fn read_header(header: [u8; 4], limit: usize) -> Result<Header, Breach> {
    match Header::from_bytes(header) {
        header if header.control && (header.bytes != 1 || header.more) => Err(Breach::Control),
        header if header.bytes > limit => Err(Breach::TooLarge(header.bytes)),
        header => Ok(header),
    }
}

/// Reads the byte of a control frame.
pub(super) fn read_control(byte: u8) -> Result<Control, Breach> {
    match byte {
        0 => Ok(Control::Ping),
        1 => Ok(Control::Pong),
        _ => Err(Breach::Control),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preface_names_the_role_or_is_a_breach() {
        for role in Role::ALL {
            assert_eq!(read_preface(&preface(role)), Ok(role));
        }
        assert_eq!(read_preface(b"GET / HT"), Err(Breach::Foreign));
        assert_eq!(read_preface(b"MUTR2\0\0\0"), Err(Breach::Version('2')));
        assert_eq!(read_preface(b"MUTR1\x09\0\0"), Err(Breach::Foreign));
    }

    #[test]
    fn a_header_says_what_it_was_given_or_is_a_breach() {
        let read = |bytes, more| read_header(header(bytes, more), 100);
        assert_eq!(read(100, false), Ok(Header::message(100, false)));
        assert_eq!(read(0, true), Ok(Header::message(0, true)));
        assert_eq!(read(101, false), Err(Breach::TooLarge(101)));
        assert_eq!(read_header([0x40, 0, 0, 2], 100), Err(Breach::Control));
        assert_eq!(read_control(7), Err(Breach::Control));
    }
}
