//! Who may connect: the handler that libzmq asks about every CURVE handshake
//! ([RFC 27](https://rfc.zeromq.org/spec/27/)).
//!
//! One thread per context answers at `inproc://zeromq.zap.01`. Each listening socket has a domain of its
//! own, under which its [`Admission`] is looked up; whatever is not known to be allowed is refused.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use super::sys::{Buffer, Context, Wait, WeakSocket};
use super::{Frame, MAX_FRAMES};
use crate::security::{Allow, PublicKey};

const ENDPOINT: &str = "inproc://zeromq.zap.01";
/// Two changes of a file within this time may leave it with the same time stamp.
const TIMESTAMP_GRAIN: Duration = Duration::from_secs(2);
/// Refusals that wait for the socket to ask for them; older ones go.
const MAX_REFUSALS: usize = 64;

static ADMISSIONS: Mutex<BTreeMap<String, Arc<Desk>>> = Mutex::new(BTreeMap::new());

/// Nothing that these locks guard can be left half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets the allowed clients of one listening socket in, for as long as it lives.
pub(crate) struct Admission {
    domain: String,
    desk: Arc<Desk>,
}

impl Admission {
    /// Opens a domain for the clients that `allow` names.
    pub(crate) fn open(allow: Allow) -> Admission {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let domain = format!("mutirao-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let desk = Arc::new(Desk {
            list: Mutex::new(List::new(allow)),
            refusals: Mutex::default(),
        });
        lock(&ADMISSIONS).insert(domain.clone(), desk.clone());
        Admission { domain, desk }
    }

    /// The domain that the socket must name.
    pub(crate) fn domain(&self) -> &str {
        &self.domain
    }

    /// The next refusal of a client, as a sentence for the person who holds the keys.
    pub(crate) fn next_refusal(&self) -> Option<String> {
        lock(&self.desk.refusals).pop_front()
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        lock(&ADMISSIONS).remove(&self.domain);
    }
}

/// Where the handler's thread and the socket meet.
struct Desk {
    list: Mutex<List>,
    refusals: Mutex<VecDeque<String>>,
}

impl Desk {
    /// The name of the client with this key, if it is allowed.
    fn admit(&self, key: &PublicKey, address: &str) -> Option<String> {
        let mut list = lock(&self.list);
        if let Some(name) = list.find(key) {
            return Some(name);
        }
        let reason = format!(
            "the client at {address} with the public key {key} is not allowed: {}",
            list.remedy()
        );
        drop(list);
        let mut refusals = lock(&self.refusals);
        if refusals.len() == MAX_REFUSALS {
            refusals.pop_front();
        }
        log::warn!("{reason}");
        refusals.push_back(reason);
        None
    }
}

/// The allowed keys with the names of their owners.
enum List {
    Fixed(Allow),
    Folder {
        path: std::path::PathBuf,
        seen: Listing,
        keys: HashMap<PublicKey, String>,
    },
}

/// What tells one state of a folder from another.
type Listing = Vec<(OsString, SystemTime, u64)>;

impl List {
    fn new(allow: Allow) -> List {
        match allow {
            Allow::Folder(path) => List::Folder {
                path,
                seen: Vec::new(),
                keys: HashMap::new(),
            },
            keys @ Allow::Keys(_) => List::Fixed(keys),
        }
    }

    fn find(&mut self, key: &PublicKey) -> Option<String> {
        match self {
            List::Fixed(Allow::Keys(keys)) => keys.contains(key).then(|| key.to_string()),
            List::Fixed(Allow::Folder(_)) => None,
            List::Folder { path, seen, keys } => {
                refresh(path, seen, keys);
                keys.get(key).cloned()
            }
        }
    }

    fn remedy(&self) -> String {
        match self {
            List::Fixed(_) => "add it to the allowed keys".to_string(),
            List::Folder { path, .. } => format!("copy its .pub file into {}", path.display()),
        }
    }
}

/// Reads the keys again if the folder has changed.
fn refresh(path: &Path, seen: &mut Listing, keys: &mut HashMap<PublicKey, String>) {
    let listing = list(path).unwrap_or_else(|error| {
        log::warn!(
            "nobody is allowed in, as {} cannot be read: {error}",
            path.display()
        );
        Listing::new()
    });
    let settled = |(_, changed, _): &(_, SystemTime, _)| {
        changed.elapsed().is_ok_and(|age| age > TIMESTAMP_GRAIN)
    };
    if listing == *seen && listing.iter().all(settled) {
        return;
    }
    keys.clear();
    for (name, ..) in &listing {
        match PublicKey::load(path.join(name)) {
            Ok(key) => drop(keys.insert(key, stem(name))),
            Err(error) => log::warn!("{error}"),
        }
    }
    *seen = listing;
}

fn stem(name: &OsString) -> String {
    Path::new(name)
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn list(path: &Path) -> io::Result<Listing> {
    let mut listing = Listing::new();
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        let file = path.join(&name);
        if file.extension().is_none_or(|extension| extension != "pub") {
            continue;
        }
        // A file that has just been deleted is not there; Kubernetes mounts links, so follow them.
        let Ok(metadata) = fs::metadata(&file) else {
            continue;
        };
        listing.push((name, metadata.modified()?, metadata.len()));
    }
    listing.sort();
    Ok(listing)
}

/// Starts the thread that answers for `context`; it ends when the context does.
pub(crate) fn start(context: &Context) -> io::Result<JoinHandle<()>> {
    let socket = context.weak_socket(zmq::REP)?;
    socket.options().set_linger(0)?;
    socket.bind(ENDPOINT)?;
    std::thread::Builder::new()
        .name("zap".to_string())
        .spawn(move || serve(&socket))
}

/// Answers until the context ends.
fn serve(socket: &WeakSocket) {
    while let Ok(request) = receive(socket) {
        let reply = answer(&request);
        let last = reply.len() - 1;
        for (i, frame) in reply.iter().enumerate() {
            // The client may be gone; then nobody waits for the answer.
            if socket.send(frame, i < last).is_err() {
                break;
            }
        }
    }
}

fn receive(socket: &WeakSocket) -> io::Result<Vec<Buffer>> {
    let mut request = Vec::new();
    loop {
        let frame = socket.receive(Wait::Yes)?;
        let more = frame.has_more();
        if request.len() < MAX_FRAMES {
            request.push(frame);
        }
        if !more {
            return Ok(request);
        }
    }
}

/// Version, request id, status, its meaning, user id, metadata.
fn answer<B: AsRef<[u8]>>(request: &[B]) -> [Frame; 6] {
    let frame = |i: usize| request.get(i).map_or(&[][..], |frame| frame.as_ref());
    let (status, meaning, user) = match judge(request.len(), frame) {
        Ok(user) => ("200", "OK", user),
        Err(Denial { status, meaning }) => (status, meaning, String::new()),
    };
    let id = frame(1).to_vec();
    [
        "1.0".into(),
        id,
        status.into(),
        meaning.into(),
        user.into_bytes(),
        Vec::new(),
    ]
    .map(Frame::from)
}

/// Why a client does not get in.
struct Denial {
    status: &'static str,
    meaning: &'static str,
}

fn judge<'a>(frames: usize, frame: impl Fn(usize) -> &'a [u8]) -> Result<String, Denial> {
    let deny = |status, meaning| Err(Denial { status, meaning });
    if frames < 6 || frame(0) != b"1.0" {
        return deny("500", "Not a request of ZAP 1.0");
    }
    let key: Option<[u8; 32]> = frame(6).try_into().ok();
    let (b"CURVE", 7, Some(key)) = (frame(5), frames, key) else {
        return deny("400", "Only CURVE with one public key is accepted");
    };
    let domain = String::from_utf8_lossy(frame(2));
    let Some(desk) = lock(&ADMISSIONS).get(&*domain).cloned() else {
        return deny("400", "Unknown domain");
    };
    let address = String::from_utf8_lossy(frame(3));
    match desk.admit(&PublicKey::from_bytes(key), &address) {
        Some(user) => Ok(user),
        None => deny("400", "The public key is not allowed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(request: &[&[u8]]) -> String {
        let reply = answer(request);
        assert_eq!(&*reply[0], b"1.0");
        assert_eq!(&*reply[1], request.get(1).copied().unwrap_or_default());
        String::from_utf8_lossy(&reply[2]).into_owned()
    }

    fn request<'a>(domain: &'a str, key: &'a [u8]) -> [&'a [u8]; 7] {
        [
            b"1.0",
            b"7",
            domain.as_bytes(),
            b"10.0.0.1",
            b"",
            b"CURVE",
            key,
        ]
    }

    #[test]
    fn only_listed_keys_get_in() {
        let keys = [PublicKey::from_bytes([7; 32])].into();
        let admission = Admission::open(Allow::Keys(keys));
        let domain = admission.domain().to_string();
        assert_eq!(status(&request(&domain, &[7; 32])), "200");
        assert_eq!(admission.next_refusal(), None);
        assert_eq!(status(&request(&domain, &[8; 32])), "400");
        let refusal = admission.next_refusal().unwrap();
        assert!(
            refusal.contains("10.0.0.1") && refusal.contains("not allowed"),
            "{refusal}"
        );
        drop(admission);
        assert_eq!(status(&request(&domain, &[7; 32])), "400");
    }

    #[test]
    fn malformed_requests_get_an_answer_and_nobody_in() {
        let admission = Admission::open(Allow::Keys([PublicKey::from_bytes([7; 32])].into()));
        let good = request(admission.domain(), &[7; 32]);
        for frames in 0..6 {
            assert_eq!(status(&good[..frames]), "500");
        }
        assert_eq!(status(&good[..6]), "400");
        for (i, bad) in [
            (0, &b"2.0"[..]),
            (2, b""),
            (5, b"NULL"),
            (5, b"PLAIN"),
            (6, b"short"),
        ] {
            let mut request = good;
            request[i] = bad;
            assert_ne!(status(&request), "200");
        }
        assert_ne!(status(&[&good[..], &[b"more"]].concat()), "200");
    }

    #[test]
    fn a_folder_may_change_while_it_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ana.pub");
        let key = PublicKey::from_bytes([7; 32]);
        let mut list = List::new(Allow::Folder(folder.path().to_path_buf()));
        assert_eq!(list.find(&key), None);
        fs::write(folder.path().join("other.txt"), key.to_string()).unwrap();
        fs::write(folder.path().join("bad.pub"), "bad").unwrap();
        assert_eq!(list.find(&key), None);
        fs::write(&file, key.to_string()).unwrap();
        assert_eq!(list.find(&key).as_deref(), Some("ana"));
        fs::write(&file, PublicKey::from_bytes([8; 32]).to_string()).unwrap();
        assert_eq!(list.find(&key), None);
        fs::remove_dir_all(folder.path()).unwrap();
        assert_eq!(list.find(&PublicKey::from_bytes([8; 32])), None);
    }
}
