//! Encryption and authentication: who may connect, and to whom.
//!
//! With CURVE ([RFC 26](https://rfc.zeromq.org/spec/26/)) each side has a key pair. Whoever connects
//! knows the public key of the server; whoever listens knows the public keys that it lets in.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use crate::transport::sys;

/// Length of a key as text, in characters.
const KEY_CHARS: usize = 40;
/// Length of a key, in bytes.
pub(crate) const KEY_BYTES: usize = 32;
/// No key file is longer; a longer file is not read.
const MAX_FILE_BYTES: u64 = 4096;

/// How a socket is protected.
#[derive(Clone, Debug, Default)]
pub enum Security {
    /// Neither encryption nor authentication; listens on this machine only.
    #[default]
    None,
    /// Neither encryption nor authentication, and yet open to other machines, because the user
    /// said so.
    Insecure,
    /// CURVE: both sides prove who they are, and everything is encrypted. It has no effect on
    /// `inproc` and `memory` endpoints, which nobody outside the process can reach.
    Curve(Arc<CurveConfig>),
}

/// The keys of one side, and whom it trusts.
#[derive(Clone, Debug)]
pub struct CurveConfig {
    /// Our own keys.
    pub keys: KeyPair,
    /// The key that a server must prove to have; needed by sockets that connect.
    pub server: Option<PublicKey>,
    /// Who may connect; needed by sockets that listen.
    pub allow: Option<Allow>,
}

/// The clients that a listening socket lets in.
#[derive(Clone, Debug)]
pub enum Allow {
    /// Those whose public keys lie in this folder, as `NAME.pub`. Keys may be added and removed
    /// while sockets listen; connections that stand are not cut.
    Folder(PathBuf),
    /// Those with these keys.
    Keys(HashSet<PublicKey>),
}

/// Why a text is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyTextError {
    /// It has another length.
    #[error("a key has 40 characters, this has {0}")]
    Length(usize),
    /// A character does not belong to Z85.
    #[error("{0:?} does not occur in keys")]
    Character(char),
    /// The characters are right, but a group of five stands for more than four bytes can hold.
    #[error("the text is no key (a character may have been mistyped)")]
    Range,
}

/// Why a key file could not be read or made; nothing was left behind.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There is no such file.
    #[error("{} does not exist: make keys with `mutirao keygen`", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file exists and cannot be read.
    #[error("{} cannot be read: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
    /// The file holds something else.
    #[error("{} holds no key: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with the text.
        reason: KeyTextError,
    },
    /// A public key is wanted and the file holds a secret one.
    #[error("{} is a secret key: give the public one, which ends in .pub", path.display())]
    Secret {
        /// The file.
        path: PathBuf,
    },
    /// A secret key is wanted and the file holds a public one.
    #[error("{} is a public key: give the secret one, which ends in .key", path.display())]
    Public {
        /// The file.
        path: PathBuf,
    },
    /// The two keys in the file do not belong together.
    #[error("the public and the secret key in {} do not belong together", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
    },
    /// A key file of that name is there already.
    #[error("{} exists already: choose another name or delete it first", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be written.
    #[error("{} cannot be written: {reason}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
    /// A name that no key file can have.
    #[error("{name:?} cannot name a key: use letters, digits, `-`, `_` and `.`")]
    Name {
        /// The name.
        name: String,
    },
    /// The linked libzmq cannot make keys.
    #[error(
        "the linked libzmq was built without CURVE: link the system's library (Debian: libzmq3-dev)"
    )]
    NoCurve,
}

/// Says who somebody is; may be known to all.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; KEY_BYTES]);

impl PublicKey {
    /// The key with these bytes.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> PublicKey {
        PublicKey(bytes)
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Reads a `.pub` file, as [`keygen`] makes it.
    ///
    /// # Errors
    ///
    /// The file is missing, unreadable, no key, or a secret key.
    pub fn load(path: impl AsRef<Path>) -> Result<PublicKey, KeyError> {
        let path = path.as_ref();
        let text = read(path)?;
        if text.lines().any(|line| line.starts_with(SECRET)) {
            return Err(KeyError::Secret {
                path: path.to_path_buf(),
            });
        }
        let key = text.trim().parse();
        key.map_err(|reason| KeyError::Malformed {
            path: path.to_path_buf(),
            reason,
        })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = KeyTextError;

    fn from_str(text: &str) -> Result<PublicKey, KeyTextError> {
        decode(text).map(PublicKey)
    }
}

/// Proves who somebody is; to be known to nobody else. It is never printed, and its bytes are
/// wiped when it goes, as far as the compiler's copies allow.
#[derive(Clone)]
pub struct SecretKey([u8; KEY_BYTES]);

impl SecretKey {
    /// The key's bytes.
    pub(crate) fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

impl FromStr for SecretKey {
    type Err = KeyTextError;

    fn from_str(text: &str) -> Result<SecretKey, KeyTextError> {
        decode(text).map(SecretKey)
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.0 = [0; KEY_BYTES];
        // Keeps the compiler from leaving out a write that nobody reads.
        std::hint::black_box(&self.0);
    }
}

/// A public key and the secret one that belongs to it.
#[derive(Clone, Debug)]
pub struct KeyPair {
    public: PublicKey,
    secret: SecretKey,
}

/// What the lines of a `.key` file begin with.
const PUBLIC: &str = "public ";
const SECRET: &str = "secret ";

impl KeyPair {
    /// Makes a new pair.
    ///
    /// # Errors
    ///
    /// [`KeyError::NoCurve`].
    pub fn generate() -> Result<KeyPair, KeyError> {
        if !has_curve() {
            return Err(KeyError::NoCurve);
        }
        let pair = zmq::CurveKeyPair::new().map_err(|_| KeyError::NoCurve)?;
        Ok(KeyPair {
            public: PublicKey(pair.public_key),
            secret: SecretKey(pair.secret_key),
        })
    }

    /// Reads a `.key` file, as [`keygen`] makes it; warns in the log if others can read it.
    ///
    /// # Errors
    ///
    /// The file is missing, unreadable, no key, a public key, or holds two keys that do not belong
    /// together.
    pub fn load(path: impl AsRef<Path>) -> Result<KeyPair, KeyError> {
        let path = path.as_ref();
        let text = read(path)?;
        let line = |name| {
            text.lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
        };
        let (public, secret) = (line(PUBLIC), line(SECRET));
        let malformed = |reason| KeyError::Malformed {
            path: path.to_path_buf(),
            reason,
        };
        let (Some(public), Some(secret)) = (public, secret) else {
            return match PublicKey::from_str(text.trim()) {
                Ok(_) => Err(KeyError::Public {
                    path: path.to_path_buf(),
                }),
                Err(reason) => Err(malformed(reason)),
            };
        };
        let public = public.parse().map_err(malformed)?;
        let pair = KeyPair {
            public,
            secret: secret.parse().map_err(malformed)?,
        };
        if sys::public_key(&pair.secret).is_some_and(|derived| derived != public) {
            return Err(KeyError::Mismatch {
                path: path.to_path_buf(),
            });
        }
        warn_if_exposed(path);
        Ok(pair)
    }

    /// The key that others may know.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    pub(crate) fn secret(&self) -> &SecretKey {
        &self.secret
    }
}

/// The two files that [`keygen`] made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFiles {
    /// `NAME.key`: both keys, readable only by its owner.
    pub secret: PathBuf,
    /// `NAME.pub`: the public key, to be given to those who shall know us.
    pub public: PathBuf,
}

/// Makes a key pair in `folder`, which it creates if need be: `NAME.key` and `NAME.pub`.
///
/// # Errors
///
/// One of the files exists or cannot be written, or `name` is not the name of a file; no file is
/// left behind then.
pub fn keygen(folder: impl AsRef<Path>, name: &str) -> Result<KeyFiles, KeyError> {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(fits) {
        return Err(KeyError::Name {
            name: name.to_string(),
        });
    }
    let folder = folder.as_ref();
    let pair = KeyPair::generate()?;
    fs::create_dir_all(folder).map_err(|error| unwritable(folder, &error))?;
    let files = KeyFiles {
        secret: folder.join(format!("{name}.key")),
        public: folder.join(format!("{name}.pub")),
    };
    let public = pair.public.to_string();
    let secret = encode(pair.secret.as_bytes());
    create(
        &files.secret,
        0o600,
        &format!("{PUBLIC}{public}\n{SECRET}{secret}\n"),
    )?;
    if let Err(error) = create(&files.public, 0o644, &format!("{public}\n")) {
        let _ = fs::remove_file(&files.secret);
        return Err(error);
    }
    Ok(files)
}

/// Whether the linked libzmq has CURVE.
pub(crate) fn has_curve() -> bool {
    zmq::has("curve") == Some(true)
}

/// Makes a file that appears complete or not at all, and replaces none.
fn create(path: &Path, mode: u32, text: &str) -> Result<(), KeyError> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}.tmp", std::process::id()));
    let draft = PathBuf::from(draft);
    let created = write_new(&draft, mode, text).and_then(|()| {
        let linked = fs::hard_link(&draft, path);
        let exists = |error: &io::Error| error.kind() == io::ErrorKind::AlreadyExists;
        match linked {
            // Some file systems know no links: better a file that is seen half written than none.
            Err(error) if !exists(&error) => write_new(path, mode, text),
            linked => linked,
        }
    });
    let _ = fs::remove_file(&draft);
    created.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => KeyError::Exists {
            path: path.to_path_buf(),
        },
        _ => unwritable(path, &error),
    })
}

fn write_new(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn unwritable(path: &Path, error: &io::Error) -> KeyError {
    KeyError::Unwritable {
        path: path.to_path_buf(),
        reason: error.to_string(),
    }
}

fn read(path: &Path) -> Result<String, KeyError> {
    let attempt = || {
        // Opening a pipe would wait for somebody to write to it.
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        let mut bytes = Vec::new();
        File::open(path)?
            .take(MAX_FILE_BYTES)
            .read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    attempt().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => KeyError::Missing {
            path: path.to_path_buf(),
        },
        _ => KeyError::Unreadable {
            path: path.to_path_buf(),
            reason: error.to_string(),
        },
    })
}

fn warn_if_exposed(path: &Path) {
    let exposed = fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o077 != 0);
    if exposed {
        let path = path.display();
        log::warn!("others can read the secret key {path}: run `chmod 600 {path}`");
    }
}

/// The digits of Z85 ([RFC 32](https://rfc.zeromq.org/spec/32/)): five of them hold four bytes.
const DIGITS: &[u8; 85] =
    b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

fn encode(key: &[u8; KEY_BYTES]) -> String {
    let mut text = String::with_capacity(KEY_CHARS);
    for group in key.as_chunks::<4>().0 {
        let number = u32::from_be_bytes(*group);
        for power in [85_u32.pow(4), 85_u32.pow(3), 85_u32.pow(2), 85, 1] {
            text.push(char::from(DIGITS[(number / power % 85) as usize]));
        }
    }
    text
}

/// Refuses what libzmq's own decoder turns into zeros.
fn decode(text: &str) -> Result<[u8; KEY_BYTES], KeyTextError> {
    let length = text.chars().count();
    if length != KEY_CHARS {
        return Err(KeyTextError::Length(length));
    }
    let digit = |c: char| {
        let found = DIGITS.iter().position(|digit| char::from(*digit) == c);
        found
            .map(|digit| digit as u32)
            .ok_or(KeyTextError::Character(c))
    };
    let digits = text.chars().map(digit).collect::<Result<Vec<u32>, _>>()?;
    let mut key = [0; KEY_BYTES];
    for (group, digits) in key.as_chunks_mut::<4>().0.iter_mut().zip(digits.chunks(5)) {
        let number = digits.iter().try_fold(0_u32, |number, digit| {
            number.checked_mul(85)?.checked_add(*digit)
        });
        *group = number.ok_or(KeyTextError::Range)?.to_be_bytes();
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 32, twice over.
    const BYTES: [u8; 8] = [0x86, 0x4F, 0xD2, 0x6F, 0xB5, 0x59, 0xF7, 0x5B];

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder")
    }

    fn sentence(error: impl fmt::Display) -> String {
        error.to_string()
    }

    #[test]
    fn z85_follows_the_rfc() {
        let key: Vec<u8> = BYTES.repeat(4);
        let key = PublicKey::from_bytes(key.try_into().unwrap());
        assert_eq!(key.to_string(), "HelloWorld".repeat(4));
        assert_eq!("HelloWorld".repeat(4).parse(), Ok(key));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let parse = |text: &str| text.parse::<PublicKey>();
        assert_eq!(parse(""), Err(KeyTextError::Length(0)));
        assert_eq!(parse(&"a".repeat(41)), Err(KeyTextError::Length(41)));
        assert_eq!(parse(&"é".repeat(40)), Err(KeyTextError::Character('é')));
        assert_eq!(
            parse(&format!("{}\0", "a".repeat(39))),
            Err(KeyTextError::Character('\0'))
        );
        assert_eq!(parse(&"#".repeat(40)), Err(KeyTextError::Range));
    }

    #[test]
    fn keys_survive_the_way_through_their_files() {
        let folder = folder();
        let files = keygen(folder.path().join("new"), "worker-1").unwrap();
        let pair = KeyPair::load(&files.secret).unwrap();
        assert_eq!(PublicKey::load(&files.public).unwrap(), *pair.public());
        let mode = fs::metadata(&files.secret).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path().join("new")).unwrap().count(), 2);
    }

    #[test]
    fn keys_are_never_replaced() {
        let folder = folder();
        let files = keygen(&folder, "a").unwrap();
        let before = fs::read(&files.secret).unwrap();
        assert!(matches!(keygen(&folder, "a"), Err(KeyError::Exists { .. })));
        assert_eq!(fs::read(&files.secret).unwrap(), before);
        fs::remove_file(&files.secret).unwrap();
        assert!(matches!(keygen(&folder, "a"), Err(KeyError::Exists { .. })));
        assert!(!files.secret.exists());
    }

    #[test]
    fn a_key_has_a_plain_name() {
        for name in ["", ".", "..", "a/b", "a b", "a\0"] {
            assert!(
                matches!(keygen("/nowhere", name), Err(KeyError::Name { .. })),
                "{name:?}"
            );
        }
    }

    #[test]
    fn bad_files_get_one_sentence() {
        let folder = folder();
        let files = keygen(&folder, "a").unwrap();
        let missing = KeyPair::load(folder.path().join("b.key")).unwrap_err();
        assert!(sentence(missing).contains("does not exist"));
        let swapped = KeyPair::load(&files.public).unwrap_err();
        assert!(sentence(swapped).contains("is a public key"));
        let swapped = PublicKey::load(&files.secret).unwrap_err();
        assert!(sentence(swapped).contains("is a secret key"));
        let no_file = PublicKey::load(folder.path()).unwrap_err();
        assert!(sentence(no_file).contains("it is not a file"));
        fs::write(&files.public, vec![0xff; 10_000]).unwrap();
        let long = PublicKey::load(&files.public).unwrap_err();
        assert!(sentence(long).contains("a key has 40 characters"));
    }

    #[test]
    fn two_keys_must_belong_together() {
        let folder = folder();
        let [one, other] = ["a", "b"].map(|name| keygen(&folder, name).unwrap());
        let public = fs::read_to_string(&other.public).unwrap();
        let text = fs::read_to_string(&one.secret).unwrap();
        let secret = text.lines().nth(1).unwrap();
        fs::write(&one.secret, format!("{PUBLIC}{public}{secret}\n")).unwrap();
        assert!(matches!(
            KeyPair::load(&one.secret),
            Err(KeyError::Mismatch { .. })
        ));
    }

    #[test]
    fn a_secret_key_is_not_printed() {
        let pair = KeyPair::generate().unwrap();
        let text = format!("{pair:?}");
        assert!(!text.contains(&encode(pair.secret.as_bytes())), "{text}");
    }
}
