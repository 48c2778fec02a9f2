//! Many datagrams in one system call, which the standard library has not.
//!
//! A call alone saves little: most of what a short datagram costs is its way through the system. So those of one
//! size that follow each other go as one piece, which the system cuts apart at the edge of the machine (`UDP_SEGMENT`;
//! within the machine, never), and the receiver is handed together what came together (`UDP_GRO`). On the wire each
//! remains a datagram of its own.

use std::io::{self, ErrorKind};
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::ops::Range;
use std::os::fd::AsRawFd;

use socket2::SockAddr;

/// Datagrams that one call sends at most.
pub(crate) const BATCH: usize = 32;

/// Pieces that one call receives at most.
pub(crate) const PIECES: usize = 32;

/// Datagrams that the system makes a piece of at most.
pub(crate) const MERGED: usize = 64;

/// More than the longest datagram has, so that none is ever cut.
const ROOM_BYTES: usize = 1 << 16;

/// Datagrams up to this length go as one piece: those that every path carries whole.
const SHORT_BYTES: usize = 1232;

/// What goes as one piece has to fit into a datagram as well.
const PIECE_BYTES: usize = 65_000;

/// Room for a note of the system that has one number.
type Note = [u64; 4];

/// Lets the system hand over together what came together; without, it comes as it came.
pub(crate) fn merge(socket: &impl AsRawFd) {
    let on: libc::c_int = 1;
    // SAFETY: the option has the size that is given, and is read only.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_GRO,
            std::ptr::from_ref(&on).cast(),
            size_of::<libc::c_int>() as _,
        )
    };
}

/// Whether the system can send several datagrams as one piece. One that cannot may take the note about it for no
/// error, and send all of them as one.
pub(crate) fn can_cut(socket: &impl AsRawFd) -> bool {
    knows(socket, libc::UDP_SEGMENT)
}

/// Whether the system knows this option of UDP.
fn knows(socket: &impl AsRawFd, option: libc::c_int) -> bool {
    let mut value: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the system writes at most as many bytes as it is told to.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            option,
            std::ptr::from_mut(&mut value).cast(),
            &raw mut len,
        )
    };
    result == 0
}

/// Datagrams as they came; its memory is touched only as far as they are long.
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    names: Box<[libc::sockaddr_storage; PIECES]>,
    pieces: [Piece; PIECES],
    count: usize,
}

/// Datagrams of one sender that came together.
#[derive(Clone, Copy, Default)]
struct Piece {
    bytes: usize,
    /// How long each is, except for the last one; never 0.
    each_bytes: usize,
}

impl Piece {
    /// Where its datagrams lie.
    fn spans(self) -> impl Iterator<Item = Range<usize>> {
        let count = self.bytes.div_ceil(self.each_bytes).max(1);
        (0..count).map(move |at| {
            let start = at * self.each_bytes;
            start..self.bytes.min(start + self.each_bytes)
        })
    }
}

impl Inbox {
    pub(crate) fn new() -> Inbox {
        Inbox {
            bytes: vec![0; PIECES * ROOM_BYTES],
            // SAFETY: plain data, for which all zeros is a value.
            names: Box::new(unsafe { zeroed() }),
            pieces: [Piece::default(); PIECES],
            count: 0,
        }
    }

    /// Receives what is there, without waiting, at most so many pieces; whether there may be more.
    ///
    /// # Errors
    ///
    /// Those of the socket; for a connected one also that the peer's machine says that nobody listens.
    pub(crate) fn receive(&mut self, socket: &UdpSocket, most: usize) -> io::Result<bool> {
        let most = most.clamp(1, PIECES);
        self.count = 0;
        let buffers = self.bytes.chunks_exact_mut(ROOM_BYTES);
        let mut slices = [libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        }; PIECES];
        let mut notes: [Note; PIECES] = Default::default();
        // SAFETY: plain data, for which all zeros is a value.
        let mut headers: [libc::mmsghdr; PIECES] = unsafe { zeroed() };
        let parts = slices.iter_mut().zip(buffers);
        let parts = parts.zip(self.names.iter_mut()).zip(&mut notes);
        for (header, (((slice, buffer), name), note)) in headers.iter_mut().zip(parts) {
            slice.iov_base = buffer.as_mut_ptr().cast();
            slice.iov_len = buffer.len();
            header.msg_hdr.msg_iov = slice;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = std::ptr::from_mut(name).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as _;
            header.msg_hdr.msg_control = std::ptr::from_mut(note).cast();
            header.msg_hdr.msg_controllen = size_of::<Note>() as _;
        }
        // SAFETY: every header points to a slice, a buffer, a name and a note of its own, all of which outlive
        // the call and have the lengths that are given; a null timeout is allowed.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                most as _,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        self.count = counted(received)?;
        for (piece, header) in self.pieces.iter_mut().zip(&headers[..self.count]) {
            piece.bytes = header.msg_len as usize;
            let each_bytes = merged_bytes(&header.msg_hdr).unwrap_or(piece.bytes);
            piece.each_bytes = each_bytes.max(1);
        }
        Ok(self.count == most)
    }

    /// The datagrams of the last [`receive`](Inbox::receive), and where each came from.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = (Option<SocketAddr>, &[u8])> {
        let buffers = self.bytes.chunks_exact(ROOM_BYTES);
        let pieces = self.pieces[..self.count].iter().zip(buffers);
        pieces
            .zip(self.names.iter())
            .flat_map(|((piece, bytes), name)| {
                let from = address(name);
                piece.spans().map(move |span| (from, &bytes[span]))
            })
    }
}

/// How long each of the datagrams is that came together, if some did.
fn merged_bytes(header: &libc::msghdr) -> Option<usize> {
    // SAFETY: the system has filled in the header and the notes that it points to, which still live.
    let note = unsafe { libc::CMSG_FIRSTHDR(header).as_ref() }?;
    if (note.cmsg_level, note.cmsg_type) != (libc::SOL_UDP, libc::UDP_GRO) {
        return None;
    }
    // SAFETY: a note of this kind is a C int, which need not be aligned.
    let bytes = unsafe { libc::CMSG_DATA(note).cast::<libc::c_int>().read_unaligned() };
    usize::try_from(bytes).ok()
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
/// the socket is connected. Those of one size go together while `together` says so, which is no longer said when the
/// system or the way does not carry that.
///
/// # Errors
///
/// Those of the first datagram, of which then nothing was sent.
pub(crate) fn send<'a>(
    socket: &UdpSocket,
    to: Option<SocketAddr>,
    datagrams: impl Iterator<Item = &'a [u8]>,
    together: &mut bool,
) -> io::Result<usize> {
    let mut slices = [EMPTY; BATCH];
    let mut count = 0;
    for (slice, bytes) in slices.iter_mut().zip(datagrams) {
        slice.iov_base = bytes.as_ptr().cast_mut().cast();
        slice.iov_len = bytes.len();
        count += 1;
    }
    let slices = &mut slices[..count];
    match send_slices(socket, to, slices, *together) {
        Err(error) if *together && count > 1 && !is_usual(&error) => {
            *together = false;
            send_slices(socket, to, slices, false)
        }
        sent => sent,
    }
}

/// Whether an error has nothing to do with how datagrams are sent.
fn is_usual(error: &io::Error) -> bool {
    let kind = error.kind();
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::ConnectionRefused)
        || error.raw_os_error() == Some(libc::ENOBUFS)
}

const EMPTY: libc::iovec = libc::iovec {
    iov_base: std::ptr::null_mut(),
    iov_len: 0,
};

/// How many of the first datagrams may go as one piece: those of one size, and one that is shorter.
fn alike(slices: &[libc::iovec]) -> usize {
    let each = slices[0].iov_len;
    if !(1..=SHORT_BYTES).contains(&each) {
        return 1;
    }
    let most = slices.len().min(PIECE_BYTES / each);
    let same = slices[..most]
        .iter()
        .take_while(|slice| slice.iov_len == each);
    let same = same.count();
    let shorter = slices[same..most].first();
    same + usize::from(shorter.is_some_and(|slice| (1..each).contains(&slice.iov_len)))
}

fn send_slices(
    socket: &UdpSocket,
    to: Option<SocketAddr>,
    slices: &mut [libc::iovec],
    together: bool,
) -> io::Result<usize> {
    let to = to.map(SockAddr::from);
    let mut notes: [Note; BATCH] = Default::default();
    let mut counts = [0; BATCH];
    // SAFETY: plain data, for which all zeros is a value.
    let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
    let (mut pieces, mut at) = (0, 0);
    while at < slices.len() {
        let count = if together { alike(&slices[at..]) } else { 1 };
        let (header, note) = (&mut headers[pieces].msg_hdr, &mut notes[pieces]);
        header.msg_iov = &raw mut slices[at];
        header.msg_iovlen = count as _;
        if let Some(to) = &to {
            header.msg_name = to.as_ptr().cast_mut().cast();
            header.msg_namelen = to.len();
        }
        if count > 1 {
            note_length(header, note, slices[at].iov_len as u16);
        }
        counts[pieces] = count;
        at += count;
        pieces += 1;
    }
    // SAFETY: the first `pieces` headers point to slices, bytes, notes and the address, which outlive the call,
    // are only read, and have the lengths that are given.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            pieces as _,
            libc::MSG_DONTWAIT as _,
        )
    };
    match counted(sent) {
        // It shall not look as if everything had been sent.
        Ok(0) if pieces > 0 => Err(ErrorKind::WouldBlock.into()),
        counted => Ok(counts[..counted?].iter().sum()),
    }
}

/// Says how long each of the datagrams is that go together.
fn note_length(header: &mut libc::msghdr, note: &mut Note, bytes: u16) {
    header.msg_control = std::ptr::from_mut(note).cast();
    // SAFETY: only computes a length.
    header.msg_controllen = unsafe { libc::CMSG_SPACE(size_of::<u16>() as _) } as _;
    // SAFETY: the note is aligned like its header and has room for it and a number, as the length says.
    unsafe {
        let first = libc::CMSG_FIRSTHDR(header);
        (*first).cmsg_level = libc::SOL_UDP;
        (*first).cmsg_type = libc::UDP_SEGMENT;
        (*first).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as _) as _;
        libc::CMSG_DATA(first).cast::<u16>().write_unaligned(bytes);
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

    fn pair() -> (UdpSocket, UdpSocket) {
        let [here, there] = [0, 1].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
        (here, there)
    }

    fn received(inbox: &Inbox) -> Vec<(Option<SocketAddr>, Vec<u8>)> {
        let datagrams = inbox.datagrams();
        datagrams
            .map(|(from, bytes)| (from, bytes.to_vec()))
            .collect()
    }

    /// Sends them to somebody who takes them together or not, and checks what comes.
    fn carry(datagrams: &[Vec<u8>], merges: bool, mut together: bool) {
        let (here, there) = pair();
        let mut inbox = Inbox::new();
        assert!(!inbox.receive(&there, PIECES).unwrap());
        assert_eq!(inbox.datagrams().count(), 0);
        if merges {
            merge(&there);
        }
        let (to, from) = (there.local_addr().unwrap(), here.local_addr().unwrap());
        let mut left = datagrams;
        while !left.is_empty() {
            let slices = left.iter().map(Vec::as_slice);
            left = &left[send(&here, Some(to), slices, &mut together).unwrap()..];
        }
        let mut got = Vec::new();
        while inbox.receive(&there, PIECES).unwrap() || inbox.datagrams().next().is_some() {
            got.extend(received(&inbox));
        }
        assert!(got.iter().all(|(sender, _)| *sender == Some(from)));
        let got: Vec<_> = got.into_iter().map(|(_, bytes)| bytes).collect();
        assert_eq!(got, datagrams);
    }

    #[test]
    fn many_datagrams_arrive_whole_with_their_sender() {
        let sizes = [
            vec![0, 1, 1200, 65_507],
            vec![0, 0, 0],
            vec![30; 100],
            vec![1200; 60],
            vec![30, 30, 29, 30, 30, 31, 31, 1, 0, 30, 30],
        ];
        for sizes in sizes {
            let numbered = sizes.iter().enumerate();
            let datagrams: Vec<_> = numbered
                .map(|(number, &len)| vec![number as u8; len])
                .collect();
            for (merges, together) in [(false, false), (false, true), (true, false), (true, true)] {
                carry(&datagrams, merges, together);
            }
        }
    }

    #[test]
    fn what_the_system_does_not_know_is_not_taken_for_granted() {
        let (here, _) = pair();
        assert!(can_cut(&here));
        assert!(!knows(&here, 12_345));
    }

    #[test]
    fn those_of_one_size_go_together_and_at_most_one_shorter_one() {
        let alike = |sizes: &[usize]| {
            let slices = sizes
                .iter()
                .map(|&iov_len| libc::iovec { iov_len, ..EMPTY });
            alike(&slices.collect::<Vec<_>>())
        };
        assert_eq!(alike(&[30, 30, 30]), 3);
        assert_eq!(alike(&[30, 30, 20, 20]), 3);
        assert_eq!(alike(&[30, 31]), 1);
        assert_eq!(alike(&[30, 0, 30]), 1);
        assert_eq!(alike(&[0, 0]), 1);
        assert_eq!(alike(&[SHORT_BYTES + 1; 2]), 1);
        assert_eq!(alike(&[SHORT_BYTES; 60]), PIECE_BYTES / SHORT_BYTES);
    }

    #[test]
    fn a_datagram_that_is_too_long_is_an_error() {
        let here = UdpSocket::bind("[::1]:0").unwrap();
        let to = here.local_addr().unwrap();
        let long = vec![0; 65_536];
        let mut together = true;
        send(&here, Some(to), [&long[..]].into_iter(), &mut together).unwrap_err();
        let sent = send(&here, Some(to), [&long[..9]].into_iter(), &mut together);
        assert_eq!((sent.unwrap(), together), (1, true));
        let mut inbox = Inbox::new();
        inbox.receive(&here, PIECES).unwrap();
        assert_eq!(received(&inbox), [(Some(to), vec![0; 9])]);
    }
}
