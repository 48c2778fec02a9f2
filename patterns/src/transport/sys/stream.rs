//! What the system knows of a connection.

use std::mem::size_of_val;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

/// How often something may have been sent again before that means something: an answer may be just under way.
const USUAL: u8 = 1;

/// Whether the peer's system acknowledges what it is sent. It tells something only of a connection on which something
/// is sent now and then.
pub(crate) fn is_answered(stream: &TcpStream) -> bool {
    // The beginning of the system's `tcp_info`: state, state of congestion control, how often the oldest segment
    // has been sent again, and how often a peer without room was asked for some, both since the last answer.
    let mut info = [0_u8; 4];
    let mut len = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the system writes at most as many bytes as it is told to.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    let [_, _, repeated, probed] = info;
    result == 0 && repeated <= USUAL && probed <= USUAL
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_connection_that_nobody_reads_is_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(is_answered(&stream));
        std::io::Write::write_all(&mut &stream, b"hello").unwrap();
        assert!(is_answered(&stream));
    }
}
