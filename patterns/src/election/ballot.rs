//! The ballot on disk: one line that a person can read, replaced whole.
//!
//! ```text
//! mutirao-ballot 1 member=2 epoch=7 voted_for=3 checksum=0123456789abcdef
//! ```
//!
//! A new line is written to a file beside it and synced, then renamed over the old one, then the folder is
//! synced: after a crash there is the old ballot or the new one. A file that is damaged is refused and not
//! replaced: a member that forgot its vote could vote twice.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::fnv;

use super::{Ballot, Epoch, MemberId};

/// What the line begins with: the name of the format and its version.
const HEAD: &str = "mutirao-ballot 1";

/// No ballot is longer; of a longer file no more is read.
const MAX_FILE_BYTES: u64 = 512;

/// Why a ballot cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BallotError {
    /// Another process uses it.
    #[error("the ballot {} is in use by another process: is this member running already?", .path.display())]
    Busy {
        /// The ballot.
        path: PathBuf,
    },
    /// It is not what was written.
    #[error(
        "the ballot {} is damaged ({reason}): restore it; if that cannot be, stop every member, then remove \
         the ballots of all of them together", .path.display()
    )]
    Damaged {
        /// The ballot.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// It belongs to another member.
    #[error("the ballot {} belongs to member {found}, not to {expected}: give each member its own", .path.display())]
    Another {
        /// The ballot.
        path: PathBuf,
        /// Whose it is.
        found: MemberId,
        /// Who wants to use it.
        expected: MemberId,
    },
    /// The system does not let us; whether the new ballot replaced the old one is not known.
    #[error("the ballot {} cannot be {what}: {reason}", .path.display())]
    Failed {
        /// The ballot.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The system's reason.
        reason: io::Error,
    },
}

/// The file with a member's ballot, which no other process can open meanwhile.
#[derive(Debug)]
pub struct BallotFile {
    path: PathBuf,
    member: MemberId,
    /// Locked for as long as it is open.
    _lock: File,
}

impl BallotFile {
    /// Opens the ballot of `member`, or makes an empty one where there is none, and says what it holds.
    ///
    /// A member whose ballot was removed may vote twice in one epoch, and two may then lead in it.
    ///
    /// # Errors
    ///
    /// It is in use, damaged, another member's, or the system refuses.
    pub fn open(path: &Path, member: MemberId) -> Result<(BallotFile, Ballot), BallotError> {
        let file = BallotFile {
            path: path.to_path_buf(),
            member,
            _lock: lock(path)?,
        };
        let text = match read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let empty = Ballot::default();
                file.store(empty)?;
                return Ok((file, empty));
            }
            read => read.map_err(failed(path, "read"))?,
        };
        let (owner, ballot) = parse(&text).map_err(|reason| BallotError::Damaged {
            path: path.to_path_buf(),
            reason,
        })?;
        if owner != member {
            return Err(BallotError::Another {
                path: path.to_path_buf(),
                found: owner,
                expected: member,
            });
        }
        Ok((file, ballot))
    }

    /// Replaces the ballot. When it returns `Ok` a crash does not bring the old one back.
    ///
    /// # Errors
    ///
    /// [`BallotError::Failed`]; the old one or the new one is on disk then.
    pub fn store(&self, ballot: Ballot) -> Result<(), BallotError> {
        self.replace(&line(self.member, ballot))
            .map_err(failed(&self.path, "written"))
    }

    fn replace(&self, line: &str) -> io::Result<()> {
        let draft = beside(&self.path, ".new");
        let mut file = File::create(&draft)?;
        file.write_all(line.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, &self.path)?;
        let folder = self.path.canonicalize()?;
        folder
            .parent()
            .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }
}

fn failed<'a>(path: &'a Path, what: &'static str) -> impl Fn(io::Error) -> BallotError + 'a {
    move |reason| BallotError::Failed {
        path: path.to_path_buf(),
        what,
        reason,
    }
}

/// Another file in the same folder.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The lock is a file of its own, as the ballot is replaced.
fn lock(path: &Path) -> Result<File, BallotError> {
    let file = File::create(beside(path, ".lock")).map_err(failed(path, "locked"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(BallotError::Busy {
            path: path.to_path_buf(),
        }),
        Err(TryLockError::Error(error)) => Err(failed(path, "locked")(error)),
    }
}

fn read(path: &Path) -> io::Result<String> {
    // Opening a pipe would wait for somebody to write to it.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_FILE_BYTES)
        .read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn line(member: MemberId, ballot: Ballot) -> String {
    let Ballot { epoch, voted_for } = ballot;
    let voted_for = voted_for.map_or("nobody".into(), |member| member.to_string());
    let content = format!("{HEAD} member={member} epoch={epoch} voted_for={voted_for}");
    let checksum = fnv::hash(content.bytes());
    format!("{content} checksum={checksum:016x}\n")
}

fn parse(text: &str) -> Result<(MemberId, Ballot), &'static str> {
    const CUT: &str = "it is cut short, or not a ballot";
    const SENSE: &str = "its fields make no sense";
    let (content, checksum) = text.rsplit_once(" checksum=").ok_or(CUT)?;
    let checksum = checksum.strip_suffix('\n').ok_or(CUT)?;
    if checksum != format!("{:016x}", fnv::hash(content.bytes())) {
        return Err("its checksum does not fit");
    }
    let fields = content
        .strip_prefix(HEAD)
        .ok_or("it is of another version")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let [member, epoch, voted_for] = fields[..] else {
        return Err(SENSE);
    };
    let number = |field: &str, name: &str| field.strip_prefix(name)?.parse::<u64>().ok();
    let voted_for = match voted_for {
        "voted_for=nobody" => None,
        field => Some(MemberId(number(field, "voted_for=").ok_or(SENSE)?)),
    };
    let member = MemberId(number(member, "member=").ok_or(SENSE)?);
    let epoch = Epoch(number(epoch, "epoch=").ok_or(SENSE)?);
    Ok((member, Ballot { epoch, voted_for }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: MemberId = MemberId(2);

    const VOTED: Ballot = Ballot {
        epoch: Epoch(7),
        voted_for: Some(MemberId(3)),
    };

    #[test]
    fn what_was_stored_is_there_when_it_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ballot");
        let (file, empty) = BallotFile::open(&path, ME).unwrap();
        assert_eq!(empty, Ballot::default());
        file.store(VOTED).unwrap();
        drop(file);
        let (file, ballot) = BallotFile::open(&path, ME).unwrap();
        assert_eq!(ballot, VOTED);
        drop(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("mutirao-ballot 1 member=2 epoch=7 voted_for=3 checksum="));
        let other = BallotFile::open(&path, MemberId(1)).unwrap_err();
        assert!(other.to_string().contains("belongs to member 2"), "{other}");
    }

    #[test]
    fn a_damaged_ballot_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ballot");
        let whole = line(ME, VOTED).into_bytes();
        let cut = (0..whole.len()).map(|end| whole[..end].to_vec());
        let flipped = (0..whole.len() * 8).map(|bit| {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes
        });
        for bytes in cut.chain(flipped).chain([vec![0; 1 << 16]]) {
            fs::write(&path, &bytes).unwrap();
            let error = BallotFile::open(&path, ME).unwrap_err();
            assert!(matches!(error, BallotError::Damaged { .. }), "{error}");
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
    }

    #[test]
    fn two_processes_do_not_share_a_ballot() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ballot");
        let first = BallotFile::open(&path, ME).unwrap();
        let second = BallotFile::open(&path, ME).unwrap_err();
        assert!(matches!(second, BallotError::Busy { .. }), "{second}");
        drop(first);
        assert!(BallotFile::open(&path, ME).is_ok());
    }

    #[test]
    fn a_folder_that_is_not_there_or_a_ballot_that_is_no_file_is_a_clear_error() {
        let folder = tempfile::tempdir().unwrap();
        let missing = BallotFile::open(&folder.path().join("no/ballot"), ME).unwrap_err();
        assert!(matches!(
            missing,
            BallotError::Failed { what: "locked", .. }
        ));
        let path = folder.path().join("folder");
        fs::create_dir(&path).unwrap();
        let error = BallotFile::open(&path, ME).unwrap_err().to_string();
        assert!(error.contains("it is not a file"), "{error}");
    }

    /// Whatever a crash leaves of the draft, the ballot is the one before.
    #[test]
    fn half_a_draft_does_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ballot");
        let (file, _) = BallotFile::open(&path, ME).unwrap();
        file.store(VOTED).unwrap();
        drop(file);
        fs::write(beside(&path, ".new"), b"mutirao-ball").unwrap();
        let (file, ballot) = BallotFile::open(&path, ME).unwrap();
        assert_eq!(ballot, VOTED);
        let later = Ballot {
            epoch: Epoch(8),
            ..VOTED
        };
        file.store(later).unwrap();
        assert_eq!(parse(&read(&path).unwrap()), Ok((ME, later)));
    }
}
