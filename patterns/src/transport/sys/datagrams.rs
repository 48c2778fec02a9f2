//! Many datagrams in one system call, which the standard library has not.

use std::io::{self, ErrorKind};
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;

use socket2::SockAddr;

/// Datagrams that one call sends or receives at most.
pub(crate) const BATCH: usize = 32;

/// More than the longest datagram has, so that none is ever cut.
const ROOM_BYTES: usize = 1 << 16;

/// Datagrams as they came; its memory is touched only as far as they are long.
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    names: Box<[libc::sockaddr_storage; BATCH]>,
    lengths: [usize; BATCH],
}

impl Inbox {
    pub(crate) fn new() -> Inbox {
        Inbox {
            bytes: vec![0; BATCH * ROOM_BYTES],
            // SAFETY: plain data, for which all zeros is a value.
            names: Box::new(unsafe { zeroed() }),
            lengths: [0; BATCH],
        }
    }

    /// Receives what is there, without waiting; how many datagrams, 0 for none.
    ///
    /// # Errors
    ///
    /// Those of the socket; for a connected one also that the peer's machine says that nobody listens.
    pub(crate) fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        let buffers = self.bytes.chunks_exact_mut(ROOM_BYTES);
        let mut slices = [libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        }; BATCH];
        // SAFETY: plain data, for which all zeros is a value.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
        let parts = slices.iter_mut().zip(buffers).zip(self.names.iter_mut());
        for (header, ((slice, buffer), name)) in headers.iter_mut().zip(parts) {
            slice.iov_base = buffer.as_mut_ptr().cast();
            slice.iov_len = buffer.len();
            header.msg_hdr.msg_iov = slice;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = std::ptr::from_mut(name).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as _;
        }
        // SAFETY: every header points to a slice, a buffer and a name of its own, all of which outlive the
        // call and have the lengths that are given; a null timeout is allowed.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as _,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let count = counted(received)?;
        for (length, header) in self.lengths.iter_mut().zip(&headers[..count]) {
            *length = header.msg_len as usize;
        }
        Ok(count)
    }

    /// A datagram of the last [`receive`](Inbox::receive), and where it came from.
    pub(crate) fn get(&self, at: usize) -> (Option<SocketAddr>, &[u8]) {
        let bytes = &self.bytes[at * ROOM_BYTES..][..self.lengths[at]];
        (address(&self.names[at]), bytes)
    }
}

fn address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that it is a sockaddr_in, which is no longer than the storage and
            // has no stricter alignment.
            let name = unsafe { &*std::ptr::from_ref(name).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from_bits(u32::from_be(name.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(name.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above, for a sockaddr_in6.
            let name = unsafe { &*std::ptr::from_ref(name).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            let port = u16::from_be(name.sin6_port);
            Some(SocketAddrV6::new(ip, port, 0, name.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// Sends datagrams, at most [`BATCH`] of them, without waiting; how many the system took. `to` is `None` where
/// the socket is connected.
///
/// # Errors
///
/// Those of the first datagram, of which then nothing was sent.
pub(crate) fn send<'a>(
    socket: &UdpSocket,
    to: Option<SocketAddr>,
    datagrams: impl Iterator<Item = &'a [u8]>,
) -> io::Result<usize> {
    let to = to.map(SockAddr::from);
    let mut slices = [libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    }; BATCH];
    // SAFETY: plain data, for which all zeros is a value.
    let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
    let mut count = 0;
    for ((header, slice), bytes) in headers.iter_mut().zip(&mut slices).zip(datagrams) {
        slice.iov_base = bytes.as_ptr().cast_mut().cast();
        slice.iov_len = bytes.len();
        header.msg_hdr.msg_iov = slice;
        header.msg_hdr.msg_iovlen = 1;
        if let Some(to) = &to {
            header.msg_hdr.msg_name = to.as_ptr().cast_mut().cast();
            header.msg_hdr.msg_namelen = to.len();
        }
        count += 1;
    }
    // SAFETY: the first `count` headers point to slices, bytes and the address, which outlive the call, are
    // only read, and have the lengths that are given.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            count as _,
            libc::MSG_DONTWAIT as _,
        )
    };
    match counted(sent) {
        // It shall not look as if everything had been sent.
        Ok(0) if count > 0 => Err(ErrorKind::WouldBlock.into()),
        counted => counted,
    }
}

/// How many, where the call says so; 0 where it would have to wait for the first.
fn counted(result: libc::c_int) -> io::Result<usize> {
    if let Ok(count) = usize::try_from(result) {
        return Ok(count);
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(0),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_datagrams_arrive_whole_with_their_sender() {
        let there = UdpSocket::bind("127.0.0.1:0").unwrap();
        let here = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut inbox = Inbox::new();
        assert_eq!(inbox.receive(&there).unwrap(), 0);
        let datagrams: Vec<Vec<u8>> = [0, 1, 1200, 65_507].map(|len| vec![7; len]).into();
        let to = there.local_addr().unwrap();
        let sent = send(&here, Some(to), datagrams.iter().map(Vec::as_slice)).unwrap();
        assert_eq!(sent, 4);
        assert_eq!(inbox.receive(&there).unwrap(), 4);
        for (at, datagram) in datagrams.iter().enumerate() {
            let (from, bytes) = inbox.get(at);
            assert_eq!(from, here.local_addr().ok());
            assert_eq!(bytes, datagram);
        }
    }

    #[test]
    fn a_datagram_that_is_too_long_is_an_error() {
        let here = UdpSocket::bind("[::1]:0").unwrap();
        let to = here.local_addr().unwrap();
        let long = vec![0; 65_536];
        send(&here, Some(to), [&long[..]].into_iter()).unwrap_err();
        assert_eq!(send(&here, Some(to), [&long[..9]].into_iter()).unwrap(), 1);
        let mut inbox = Inbox::new();
        assert_eq!(inbox.receive(&here).unwrap(), 1);
        assert_eq!(inbox.get(0).0, Some(to));
    }
}
