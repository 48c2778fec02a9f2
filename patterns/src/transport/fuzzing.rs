//! Decoders without their sockets, for the fuzz targets.

use super::tcp;

/// Reads a stream in pieces, the first byte of each of which says how long it is, and checks that no more
/// memory is taken than came.
pub fn tcp(bytes: &[u8]) {
    tcp::fuzz(bytes);
}
