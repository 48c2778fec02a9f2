//! The only module with unsafe code: the calls to libzmq that the `zmq` crate lacks or panics in,
//! `poll`, many datagrams at once, and what the system knows of a connection.
//!
//! The crate's own `Context` cannot raise the limit of sockets; its `bind`, `connect` and
//! `Error::from_raw` panic on errno values that they do not know (an ipc path through a file, say).

pub(crate) mod datagrams;
pub(crate) mod stream;

use std::cell::UnsafeCell;
use std::ffi::{CString, c_char, c_int, c_void};
use std::fmt;
use std::io;
use std::mem::{MaybeUninit, offset_of, size_of};
use std::ops::Deref;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Frame, Repr, zap};
use crate::security::{KEY_BYTES, PublicKey, SecretKey};

/// libzmq's own upper limit; its default of 1023 is soon reached with monitors.
const MAX_SOCKETS: c_int = 65_535;
/// Below this many bytes, copying a frame is cheaper than counting references to it.
const COPY_BYTES: usize = 1024;

const ZMQ_XPUB_NODROP: c_int = 69;
const ZMQ_ZAP_ENFORCE_DOMAIN: c_int = 93;

/// A libzmq context. When the last socket that holds it goes, it sends what lingers and ends.
#[derive(Debug)]
pub(crate) struct Context {
    raw: *mut c_void,
    /// The thread that answers who may connect; it ends when the context does.
    zap: Mutex<Option<JoinHandle<()>>>,
}

// SAFETY: libzmq documents contexts as thread safe.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

static SHARED: Mutex<Weak<Context>> = Mutex::new(Weak::new());

impl Context {
    /// The context that all sockets of this process share, made when none lives.
    pub(crate) fn shared() -> io::Result<Arc<Context>> {
        // A panic elsewhere cannot leave a `Weak` half written.
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(context) = shared.upgrade() {
            return Ok(context);
        }
        let context = Arc::new(Context::new()?);
        *shared = Arc::downgrade(&context);
        Ok(context)
    }

    fn new() -> io::Result<Context> {
        // SAFETY: no arguments; null is checked.
        let raw = unsafe { zmq_sys::zmq_ctx_new() };
        if raw.is_null() {
            return Err(last_error());
        }
        let context = Context {
            raw,
            zap: Mutex::new(None),
        };
        let option = zmq_sys::ZMQ_MAX_SOCKETS as c_int;
        // SAFETY: `raw` is a live context.
        check(unsafe { zmq_sys::zmq_ctx_set(raw, option, MAX_SOCKETS) })?;
        Ok(context)
    }

    /// Makes sure that somebody answers who may connect.
    pub(crate) fn start_zap(&self) -> io::Result<()> {
        let mut thread = self.zap.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            *thread = Some(zap::start(self)?);
        }
        Ok(())
    }

    /// Makes a socket that does not hold the context; dropping the last `Arc` of the context waits
    /// until it is closed, and its calls fail with `ETERM` from then on.
    pub(crate) fn weak_socket(&self, kind: zmq::SocketType) -> io::Result<WeakSocket> {
        // SAFETY: `self.raw` is a live context.
        let raw = unsafe { zmq_sys::zmq_socket(self.raw, raw_kind(kind)) };
        if raw.is_null() {
            return Err(last_error());
        }
        // SAFETY: the pointer comes from zmq_socket, nobody else closes it, and the context
        // outlives it because zmq_ctx_term waits for every socket to be closed.
        let options = unsafe { zmq::Socket::from_raw(raw) };
        Ok(WeakSocket { options, raw })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: `raw` is live and not used after this; term is documented to be called again
        // after EINTR. Any other failure means that the context is gone.
        while unsafe { zmq_sys::zmq_ctx_term(self.raw) } == -1
            && last_error().kind() == io::ErrorKind::Interrupted
        {}
        let thread = self.zap.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            // It has closed its socket already, or term would not have returned.
            let _ = thread.join();
        }
    }
}

/// The constants of `zmq::SocketType` are libzmq's own, in order, but for XPUB, XSUB and STREAM,
/// whose order is the same as well; spelled out so that a change there cannot mislead us.
fn raw_kind(kind: zmq::SocketType) -> c_int {
    let raw = match kind {
        zmq::PAIR => zmq_sys::ZMQ_PAIR,
        zmq::PUB => zmq_sys::ZMQ_PUB,
        zmq::SUB => zmq_sys::ZMQ_SUB,
        zmq::REQ => zmq_sys::ZMQ_REQ,
        zmq::REP => zmq_sys::ZMQ_REP,
        zmq::DEALER => zmq_sys::ZMQ_DEALER,
        zmq::ROUTER => zmq_sys::ZMQ_ROUTER,
        zmq::PULL => zmq_sys::ZMQ_PULL,
        zmq::PUSH => zmq_sys::ZMQ_PUSH,
        zmq::XPUB => zmq_sys::ZMQ_XPUB,
        zmq::XSUB => zmq_sys::ZMQ_XSUB,
        zmq::STREAM => zmq_sys::ZMQ_STREAM,
    };
    raw as c_int
}

/// A ZeroMQ socket that does not keep its context alive.
///
/// Whoever monitors it must stop to listen only after it is dropped.
pub(crate) struct WeakSocket {
    /// Owns the socket and closes it.
    options: zmq::Socket,
    raw: *mut c_void,
}

// SAFETY: libzmq allows a socket to move between threads with a full fence, which every way of
// moving a value between threads in safe Rust has; the type is not `Sync`.
unsafe impl Send for WeakSocket {}

impl WeakSocket {
    /// The binding's view of the socket, for the options that it knows.
    pub(crate) fn options(&self) -> &zmq::Socket {
        &self.options
    }

    /// Starts to listen, or gives the system's reason why not.
    pub(crate) fn bind(&self, endpoint: &str) -> io::Result<()> {
        let endpoint = CString::new(endpoint)?;
        // SAFETY: a live socket and a NUL-terminated string that outlives the call.
        check(unsafe { zmq_sys::zmq_bind(self.raw, endpoint.as_ptr()) })
    }

    /// Starts to connect, or gives the system's reason why not.
    pub(crate) fn connect(&self, endpoint: &str) -> io::Result<()> {
        let endpoint = CString::new(endpoint)?;
        // SAFETY: a live socket and a NUL-terminated string that outlives the call.
        check(unsafe { zmq_sys::zmq_connect(self.raw, endpoint.as_ptr()) })
    }

    /// Makes a publisher refuse a message when a subscriber's queue is full, instead of dropping.
    pub(crate) fn set_xpub_nodrop(&self) -> io::Result<()> {
        self.set_int(ZMQ_XPUB_NODROP, 1)
    }

    /// Makes handshakes fail, rather than succeed, when no handler answers for the domain.
    pub(crate) fn set_zap_enforce_domain(&self) -> io::Result<()> {
        self.set_int(ZMQ_ZAP_ENFORCE_DOMAIN, 1)
    }

    fn set_int(&self, option: c_int, value: c_int) -> io::Result<()> {
        let value_ptr = (&raw const value).cast();
        // SAFETY: a live socket; pointer and size describe `value`, which outlives the call.
        check(unsafe { zmq_sys::zmq_setsockopt(self.raw, option, value_ptr, size_of::<c_int>()) })
    }

    /// Sends one frame without waiting; nothing was taken when it fails.
    pub(crate) fn send(&self, frame: &Frame, more: bool) -> io::Result<()> {
        let flags = if more {
            zmq::DONTWAIT | zmq::SNDMORE
        } else {
            zmq::DONTWAIT
        };
        retry(|| match &frame.0 {
            Repr::Shared(bytes) if bytes.len() >= COPY_BYTES => {
                self.send_buffer(Buffer::shared(bytes)?, flags)
            }
            Repr::Zmq(buffer) if buffer.len() >= COPY_BYTES => {
                self.send_buffer(buffer.share()?, flags)
            }
            _ => self.send_copy(frame, flags),
        })
    }

    fn send_copy(&self, bytes: &[u8], flags: c_int) -> io::Result<()> {
        let data = bytes.as_ptr().cast();
        // SAFETY: a live socket; libzmq copies the bytes before it returns.
        check(unsafe { zmq_sys::zmq_send(self.raw, data, bytes.len(), flags) })
    }

    fn send_buffer(&self, mut buffer: Buffer, flags: c_int) -> io::Result<()> {
        let message = buffer.0.get_mut();
        // SAFETY: a live socket and an initialised message. libzmq leaves it empty but valid when
        // it takes the content, so that the buffer's drop is right in either case.
        check(unsafe { zmq_sys::zmq_msg_send(message, self.raw, flags) })
    }

    /// Receives one frame; waits for it if told so.
    pub(crate) fn receive(&self, wait: Wait) -> io::Result<Buffer> {
        let mut buffer = Buffer::empty();
        self.receive_into(&mut buffer, wait)?;
        Ok(buffer)
    }

    /// Receives one frame in place of another; waits for it if told so.
    pub(crate) fn receive_into(&self, buffer: &mut Buffer, wait: Wait) -> io::Result<()> {
        let flags = if wait == Wait::No { zmq::DONTWAIT } else { 0 };
        let message: *mut _ = buffer.0.get_mut();
        // SAFETY: a live socket and an initialised message, whose content libzmq lets go of first;
        // it stays initialised when nothing is received.
        retry(|| check(unsafe { zmq_sys::zmq_msg_recv(message, self.raw, flags) }))
    }
}

impl Drop for WeakSocket {
    fn drop(&mut self) {
        // A closed socket lingers, and its monitor with it. A report that nobody can receive any
        // more would make libzmq's I/O thread wait for ever, and with it every connection of the
        // process; so nothing may be reported once the receiving end can go.
        // SAFETY: a live socket; null means that nobody monitors it any longer.
        unsafe { zmq_sys::zmq_socket_monitor(self.raw, std::ptr::null(), 0) };
    }
}

unsafe extern "C" {
    /// Missing from the bindings.
    fn zmq_curve_public(public_text: *mut c_char, secret_text: *const c_char) -> c_int;
}

/// The public key that belongs to a secret one; `None` where libzmq has no CURVE.
pub(crate) fn public_key(secret: &SecretKey) -> Option<PublicKey> {
    // Z85 text of a key and its final NUL.
    let (mut secret_text, mut public_text) = ([0 as c_char; 41], [0 as c_char; 41]);
    let mut public = [0; KEY_BYTES];
    // SAFETY: each buffer has the length that libzmq documents: 32 bytes for keys, 41 for texts.
    let derived = unsafe {
        let bytes = secret.as_bytes();
        zmq_sys::zmq_z85_encode(secret_text.as_mut_ptr(), bytes.as_ptr(), bytes.len());
        let rc = zmq_curve_public(public_text.as_mut_ptr(), secret_text.as_ptr());
        rc == 0 && !zmq_sys::zmq_z85_decode(public.as_mut_ptr(), public_text.as_ptr()).is_null()
    };
    std::hint::black_box(&mut secret_text).fill(0);
    derived.then(|| PublicKey::from_bytes(public))
}

/// Whether a call may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    No,
    Yes,
}

/// A ZeroMQ socket that keeps its context alive.
pub(crate) struct Socket {
    // Declared before the context, hence closed before the context may end.
    socket: WeakSocket,
    context: Arc<Context>,
    fd: RawFd,
}

impl Socket {
    /// A socket of `context`.
    pub(crate) fn new(context: Arc<Context>, kind: zmq::SocketType) -> io::Result<Socket> {
        let socket = context.weak_socket(kind)?;
        let fd = socket.options().get_fd()?;
        Ok(Socket {
            socket,
            context,
            fd,
        })
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Becomes readable when something happened since the last look at
    /// [`readiness`](Socket::readiness).
    pub(crate) fn fd(&self) -> RawFd {
        self.fd
    }

    /// Whether a message can be received and whether one can be sent, with everything taken into
    /// account that happened up to now.
    pub(crate) fn readiness(&self) -> (bool, bool) {
        match self.socket.options.get_events() {
            Ok(events) => (events.contains(zmq::POLLIN), events.contains(zmq::POLLOUT)),
            // The next call on the socket tells what is wrong.
            Err(_) => (true, true),
        }
    }
}

impl Deref for Socket {
    type Target = WeakSocket;

    fn deref(&self) -> &WeakSocket {
        &self.socket
    }
}

/// One frame in libzmq's own buffer.
pub(crate) struct Buffer(UnsafeCell<zmq_sys::zmq_msg_t>);

impl Buffer {
    /// An empty frame, to receive into.
    pub(crate) fn empty() -> Buffer {
        let mut message = zmq_sys::zmq_msg_t::default();
        // SAFETY: zmq_msg_init writes a valid empty message; it cannot fail.
        unsafe { zmq_sys::zmq_msg_init(&mut message) };
        Buffer(UnsafeCell::new(message))
    }

    /// The address of the peer that sent it, if it came from one over TCP.
    pub(crate) fn sender(&self) -> Option<std::net::IpAddr> {
        // SAFETY: the message is valid; the answer is null or a string that lives as long as the message,
        // and is read before this ends.
        let text = unsafe {
            let text = zmq_sys::zmq_msg_gets(self.0.get(), c"Peer-Address".as_ptr());
            (!text.is_null()).then(|| std::ffi::CStr::from_ptr(text))?
        };
        text.to_str().ok()?.parse().ok()
    }

    /// A frame that refers to `bytes` without copying them.
    fn shared(bytes: &Arc<[u8]>) -> io::Result<Buffer> {
        let len = bytes.len();
        let data = Arc::into_raw(bytes.clone()).cast_mut().cast::<c_void>();
        let hint = std::ptr::without_provenance_mut(len);
        let mut message = zmq_sys::zmq_msg_t::default();
        // SAFETY: the counted reference in `data` keeps the bytes alive until libzmq calls
        // `release` with the same pointer and length, once; libzmq only reads them.
        let made = check(unsafe {
            zmq_sys::zmq_msg_init_data(&mut message, data, len, Some(release), hint)
        });
        if let Err(error) = made {
            // SAFETY: init_data failed, so libzmq kept nothing and the reference is still ours.
            unsafe { release(data, hint) };
            return Err(error);
        }
        Ok(Buffer(UnsafeCell::new(message)))
    }

    /// A second frame with the same content, without copying it.
    fn share(&self) -> io::Result<Buffer> {
        let copy = Buffer::empty();
        // SAFETY: both are initialised. libzmq marks the original's content as shared in place,
        // which the cell permits and which no other thread sees, as `Buffer` is not `Sync`.
        check(unsafe { zmq_sys::zmq_msg_copy(copy.0.get(), self.0.get()) })?;
        Ok(copy)
    }

    /// Whether another frame of the same message follows.
    pub(crate) fn has_more(&self) -> bool {
        // SAFETY: an initialised message, which is only read.
        unsafe { zmq_sys::zmq_msg_more(self.0.get()) != 0 }
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Buffer {
        // Fails only for messages that are not initialised, which a `Buffer` is.
        self.share().unwrap_or_else(|_| Buffer::empty())
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let message = self.0.get();
        // SAFETY: the message is initialised; its bytes do not move and are not written while
        // `self` is borrowed: `share`, the only change through `&self`, leaves them where they are.
        unsafe {
            let data = zmq_sys::zmq_msg_data(message).cast::<u8>();
            match zmq_sys::zmq_msg_size(message) {
                0 => &[],
                len => std::slice::from_raw_parts(data, len),
            }
        }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: an initialised message that is not used again.
        unsafe { zmq_sys::zmq_msg_close(self.0.get_mut()) };
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.len())
    }
}

/// Frees one reference to the bytes of a [`Repr::Shared`] frame, on whichever thread libzmq is done.
///
/// # Safety
///
/// `data` and `len` come from one `Arc<[u8]>::into_raw`, released only here and once.
unsafe extern "C" fn release(data: *mut c_void, len: *mut c_void) {
    let bytes = std::ptr::slice_from_raw_parts(data.cast_const().cast::<u8>(), len.addr());
    // SAFETY: the caller hands over the reference that `into_raw` gave up.
    drop(unsafe { Arc::from_raw(bytes) });
}

fn last_error() -> io::Error {
    // SAFETY: no arguments; reads this thread's errno.
    io::Error::from_raw_os_error(unsafe { zmq_sys::zmq_errno() })
}

fn check(rc: c_int) -> io::Result<()> {
    if rc == -1 { Err(last_error()) } else { Ok(()) }
}

fn retry(mut call: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Waits until one of `fds` is readable, at most for `timeout`; a signal ends the wait as well.
/// Negative descriptors are passed over. Returns whether the last one is readable.
pub(crate) fn poll(fds: impl Iterator<Item = RawFd> + Clone, timeout: Option<Duration>) -> bool {
    const FEW: usize = 16;
    let entry = |fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    let len = fds.clone().count();
    if len > FEW {
        return ppoll(&mut fds.map(entry).collect::<Vec<_>>(), timeout);
    }
    let mut few = [entry(-1); FEW];
    for (slot, fd) in few.iter_mut().zip(fds) {
        *slot = entry(fd);
    }
    ppoll(&mut few[..len], timeout)
}

fn ppoll(fds: &mut [libc::pollfd], timeout: Option<Duration>) -> bool {
    let timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    let timeout_ptr = timeout
        .as_ref()
        .map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: pointer and length describe `fds`; the timeout is null or outlives the call; a null
    // signal mask is allowed. A failure is a wait that ends early, which callers expect.
    unsafe {
        libc::ppoll(
            fds.as_mut_ptr(),
            fds.len() as _,
            timeout_ptr,
            std::ptr::null(),
        )
    };
    fds.last().is_some_and(|last| last.revents != 0)
}

/// A counter in the kernel whose file descriptor is readable while it has been rung.
#[derive(Debug)]
pub(crate) struct Bell(OwnedFd);

impl Bell {
    /// A silent bell.
    pub(crate) fn new() -> io::Result<Bell> {
        // SAFETY: no pointers; the result is checked.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        check(fd)?;
        // SAFETY: a fresh descriptor that nobody else owns.
        Ok(Bell(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Makes the descriptor readable.
    pub(crate) fn ring(&self) {
        let one = 1_u64;
        // SAFETY: reads eight bytes of `one`. Failing means that it has been rung 2^64 - 2 times.
        unsafe { libc::write(self.fd(), (&raw const one).cast(), size_of::<u64>()) };
    }

    /// Makes the descriptor silent.
    pub(crate) fn silence(&self) {
        let mut rings = 0_u64;
        // SAFETY: writes eight bytes to `rings`. Failing means that it was silent already.
        unsafe { libc::read(self.fd(), (&raw mut rings).cast(), size_of::<u64>()) };
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Whether a process listens on the Unix domain socket at `path`; never waits.
///
/// The standard library's `connect` waits for ever when the listener's backlog is full.
pub(crate) fn is_listening(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    // SAFETY: all zeros is a valid sockaddr_un.
    let mut address: libc::sockaddr_un = unsafe { MaybeUninit::zeroed().assume_init() };
    if bytes.len() >= address.sun_path.len() {
        return false;
    }
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (slot, byte) in address.sun_path.iter_mut().zip(bytes) {
        *slot = *byte as libc::c_char;
    }
    let len = offset_of!(libc::sockaddr_un, sun_path) + bytes.len() + 1;
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers; the result is checked.
    let fd = unsafe { libc::socket(libc::AF_UNIX, kind, 0) };
    if fd == -1 {
        return false;
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: pointer and length describe `address`, which outlives the call.
    let rc = unsafe { libc::connect(fd.as_raw_fd(), (&raw const address).cast(), len as _) };
    rc == 0 || io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 1 << 20;

    fn frame() -> Frame {
        Frame::from(Arc::<[u8]>::from(vec![7; BYTES]))
    }

    #[test]
    fn the_last_socket_ends_the_context_when_everything_is_delivered() {
        let pull = Socket::new(Arc::new(Context::new().unwrap()), zmq::PULL).unwrap();
        pull.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = pull.options().get_last_endpoint().unwrap().unwrap();
        let context = Arc::new(Context::new().unwrap());
        context.start_zap().unwrap();
        let push = Socket::new(context.clone(), zmq::PUSH).unwrap();
        push.options().set_linger(10_000).unwrap();
        push.connect(&endpoint).unwrap();
        for _ in 0..20 {
            push.send(&frame(), false).unwrap();
        }
        let weak = Arc::downgrade(&context);
        drop(context);
        assert!(
            weak.strong_count() == 1,
            "only the socket holds the context"
        );
        drop(push);
        // Everything has left the sender; it may still be on its way through the system.
        pull.options().set_rcvtimeo(10_000).unwrap();
        for _ in 0..20 {
            assert_eq!(pull.receive(Wait::Yes).unwrap().len(), BYTES);
        }
    }

    #[test]
    fn shared_bytes_are_freed_when_they_are_sent() {
        let context = Arc::new(Context::new().unwrap());
        let [pull, push] =
            [zmq::PULL, zmq::PUSH].map(|kind| Socket::new(context.clone(), kind).unwrap());
        pull.bind("inproc://shared").unwrap();
        push.connect("inproc://shared").unwrap();
        let bytes = Arc::<[u8]>::from(vec![7; BYTES]);
        push.send(&Frame::from(bytes.clone()), false).unwrap();
        let received = pull.receive(Wait::No).unwrap();
        assert_eq!(received.as_ptr(), bytes.as_ptr(), "the bytes were copied");
        assert_eq!(Arc::strong_count(&bytes), 2);
        drop(received.clone());
        drop(received);
        assert_eq!(Arc::strong_count(&bytes), 1);
    }

    #[test]
    fn a_bell_rings_until_it_is_silenced() {
        let bell = Bell::new().unwrap();
        bell.silence();
        poll([bell.fd(), -1].into_iter(), Some(Duration::ZERO));
        bell.ring();
        bell.ring();
        poll([bell.fd()].into_iter(), None);
        poll([bell.fd(); 40].into_iter(), None);
        bell.silence();
        poll([bell.fd()].into_iter(), Some(Duration::ZERO));
    }
}
