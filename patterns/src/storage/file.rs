//! `data.txt` on a real disk: lines appended and synced, records read where they lie.

mod compact;

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::{
    DataLine, Epoch, HeadId, InstanceId, LineError, Lines, Named, Payload, ReadFailure, RecordId,
    Stamp, TextLine,
    replace::{lock, sync_folder},
};

/// Bytes of a line beyond those of its record in Base64.
const LINE_OVERHEAD_BYTES: u64 = 256;

/// The file of a data node, which no other program can open meanwhile.
#[derive(Debug)]
pub struct RecordFile {
    file: File,
    /// Locked for as long as it is open.
    _lock: File,
    /// Where the line of each record lies that counts.
    places: HashMap<RecordId, Place>,
    /// Bytes of these lines together.
    places_bytes: u64,
    /// The latest reign that is written down.
    fence: Option<(Epoch, HeadId)>,
    end: u64,
    /// Bytes to cut off before anything else is appended.
    dirty: bool,
    damaged: u64,
    /// Whether there are records that a larger limit would show.
    too_long: bool,
}

/// A line of the file.
#[derive(Clone, Copy, Debug)]
struct Place {
    offset: u64,
    length: u64,
    stamp: Stamp,
}

impl RecordFile {
    /// Opens the file or makes it, with `fresh` and `name` in its first line. What it says is given to
    /// `replay` line by line; a torn last line is cut off. Returns whose file it is.
    ///
    /// When most of the file is lines that do not count any more it is written anew without them, if the disk has
    /// room for that.
    ///
    /// # Errors
    ///
    /// Another program has it open, it cannot be opened, read or written, or its first line does not say whose it is.
    pub fn open(
        path: &Path,
        (fresh, name): (InstanceId, &str),
        record_bytes: u64,
        mut replay: impl FnMut(DataLine),
    ) -> io::Result<(RecordFile, InstanceId)> {
        let locked = lock(path)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let mut opened = RecordFile {
            file,
            _lock: locked,
            places: HashMap::new(),
            places_bytes: 0,
            fence: None,
            end: 0,
            dirty: false,
            damaged: 0,
            too_long: false,
        };
        let longest = record_bytes.saturating_mul(2) + LINE_OVERHEAD_BYTES;
        let reader = BufReader::new(opened.file.try_clone()?);
        let mut owner = None;
        for named in Lines::<_, DataLine>::new(reader, longest) {
            opened.take(named?, &mut owner, &mut replay);
        }
        if opened.end == 0 && opened.is_ours()? {
            let (instance, name) = (fresh, name.to_string());
            opened.append(&DataLine::Node { instance, name })?;
            opened.sync()?;
            sync_folder(path)?;
            owner = Some(fresh);
        }
        let owner = owner.ok_or_else(|| {
            let path = path.display();
            let reason = format!("{path} does not begin with a sound `node` line: move it away, and its records come back from the other data nodes");
            io::Error::new(io::ErrorKind::InvalidData, reason)
        })?;
        if opened.is_mostly_waste() {
            opened.compact(path, owner, name)?;
        }
        Ok((opened, owner))
    }

    /// Whether the file is empty, or its only line was being written when the program died.
    fn is_ours(&self) -> io::Result<bool> {
        let mut start = [0; 5];
        let count = self.file.read_at(&mut start, 0)?;
        Ok(b"node ".starts_with(&start[..count]))
    }

    fn take(
        &mut self,
        named: Named<DataLine>,
        owner: &mut Option<InstanceId>,
        replay: &mut impl FnMut(DataLine),
    ) {
        let Named { offset, length, .. } = named;
        match named.line {
            Ok(line) => {
                self.end = offset + length;
                if let DataLine::Node { instance, .. } = line {
                    *owner = owner.or(Some(instance));
                }
                self.note(&line, offset, length);
                replay(line);
            }
            Err(LineError::Torn) => self.dirty = true,
            Err(error @ (LineError::Damaged | LineError::TooLong)) => {
                self.end = offset + length;
                self.damaged += 1;
                self.too_long |= error == LineError::TooLong;
            }
        }
    }

    /// The open file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// How long the file is.
    pub(super) fn bytes(&self) -> u64 {
        self.end
    }

    /// What counts changes in the same way as in the data node itself.
    fn note(&mut self, line: &DataLine, offset: u64, length: u64) {
        match *line {
            DataLine::Node { .. } => {}
            DataLine::Epoch { epoch, head } => self.fence = self.fence.max(Some((epoch, head))),
            DataLine::Record { id, stamp, .. } => {
                self.forget_if(id, |_| true);
                let place = Place {
                    offset,
                    length,
                    stamp,
                };
                self.places.insert(id, place);
                self.places_bytes += length;
            }
            DataLine::Dropped { id, stamp } => self.forget_if(id, |place| place.stamp < stamp),
            DataLine::Damaged { id, stamp } => self.forget_if(id, |place| place.stamp == stamp),
        }
    }

    fn forget_if(&mut self, id: RecordId, goes: impl Fn(&Place) -> bool) {
        if self.places.get(&id).is_some_and(goes)
            && let Some(place) = self.places.remove(&id)
        {
            self.places_bytes -= place.length;
        }
    }

    /// Lines that were passed over when the file was opened.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Appends a line; it is not safe before [`sync`](RecordFile::sync).
    ///
    /// # Errors
    ///
    /// The disk does not take it, and nothing of it counts; the next line can be tried.
    pub fn append(&mut self, line: &DataLine) -> io::Result<()> {
        if self.dirty {
            self.file.set_len(self.end)?;
            self.dirty = false;
        }
        let bytes = line.to_line().into_bytes();
        self.dirty = true;
        self.file.write_all_at(&bytes, self.end)?;
        self.dirty = false;
        let length = bytes.len() as u64;
        self.note(line, self.end, length);
        self.end += length;
        Ok(())
    }

    /// Waits until all lines are on disk.
    ///
    /// # Errors
    ///
    /// The disk has lost some of them, nobody knows which: the program must end and open the file again.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Reads the last line of a record.
    ///
    /// # Errors
    ///
    /// It is damaged, or the disk does not answer.
    pub fn read(&self, id: RecordId) -> Result<Payload, ReadFailure> {
        let place = self.places.get(&id).ok_or(ReadFailure::Damaged)?;
        let length = usize::try_from(place.length).map_err(|_| ReadFailure::Unreadable)?;
        let mut line = vec![0; length];
        let read = self.file.read_exact_at(&mut line, place.offset);
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ReadFailure::Damaged,
            _ => ReadFailure::Unreadable,
        })?;
        match DataLine::from_line(&line) {
            Ok(DataLine::Record {
                id: found, bytes, ..
            }) if found == id => Ok(bytes),
            _ => Err(ReadFailure::Damaged),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: InstanceId = InstanceId(7);

    fn record(id: u64, bytes: &[u8]) -> DataLine {
        let bytes = Payload::from(bytes);
        DataLine::Record {
            id: RecordId(id),
            stamp: Stamp::default(),
            checksum: bytes.checksum(),
            bytes,
        }
    }

    fn open(path: &Path) -> (RecordFile, Vec<DataLine>) {
        let mut lines = Vec::new();
        let other = InstanceId(path.as_os_str().len() as u64);
        let fresh = if path.exists() { other } else { HERE };
        let opened = RecordFile::open(path, (fresh, "norte"), 1 << 20, |line| lines.push(line));
        let (file, owner) = opened.unwrap();
        assert_eq!(owner, HERE);
        (file, lines)
    }

    #[test]
    fn what_was_synced_is_there_again_and_what_was_torn_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.txt");
        let (mut file, _) = open(&path);
        file.append(&record(1, b"one")).unwrap();
        file.append(&record(2, &[0, 255])).unwrap();
        file.sync().unwrap();
        drop(file);
        let whole = std::fs::read(&path).unwrap();
        for torn in 1..40 {
            std::fs::write(&path, &whole[..whole.len() - torn]).unwrap();
            let (mut file, lines) = open(&path);
            assert_eq!(lines.len(), 2, "the first line and one record");
            assert_eq!(&file.read(RecordId(1)).unwrap()[..], b"one");
            assert_eq!(file.read(RecordId(2)), Err(ReadFailure::Damaged));
            let epoch = DataLine::Epoch {
                epoch: 1,
                head: HeadId(1),
            };
            file.append(&epoch).unwrap();
            file.append(&record(2, b"again")).unwrap();
            drop(file);
            let (file, lines) = open(&path);
            assert_eq!((lines.len(), file.damaged()), (4, 0));
            assert_eq!(&file.read(RecordId(2)).unwrap()[..], b"again");
        }
    }

    #[test]
    fn a_flipped_bit_is_found_by_reading_and_passed_over_by_opening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.txt");
        let (mut file, _) = open(&path);
        file.append(&record(1, b"one")).unwrap();
        file.append(&record(2, b"two")).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(3).position(|part| part == b"one").unwrap();
        bytes[at] ^= 4;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(file.read(RecordId(1)), Err(ReadFailure::Damaged));
        drop(file);
        let (file, lines) = open(&path);
        assert_eq!((lines.len(), file.damaged()), (2, 1));
        assert_eq!(&file.read(RecordId(2)).unwrap()[..], b"two");
    }

    #[test]
    fn no_other_program_can_open_it_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.txt");
        let first = open(&path);
        let again = RecordFile::open(&path, (HERE, "norte"), 1_000, |_| {});
        let reason = again.unwrap_err().to_string();
        assert!(reason.contains("in use by another program"), "{reason}");
        drop(first);
        open(&path);
    }

    #[test]
    fn a_file_that_is_mostly_waste_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.txt");
        let (mut file, _) = open(&path);
        let epoch = |epoch| DataLine::Epoch {
            epoch,
            head: HeadId(1),
        };
        let long = vec![b'x'; 400_000];
        for line in [epoch(3), epoch(4)] {
            file.append(&line).unwrap();
        }
        for id in 1..=5 {
            file.append(&record(id, &long)).unwrap();
        }
        file.append(&record(6, b"six")).unwrap();
        drop(file);
        let whole = std::fs::metadata(&path).unwrap().len();
        let (mut file, _) = open(&path);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), whole, "all counts");
        for id in 1..=4 {
            let (id, stamp) = (RecordId(id), Stamp { epoch: 4, seq: 1 });
            file.append(&DataLine::Dropped { id, stamp }).unwrap();
        }
        drop(file);
        // A draft that a crash has left does no harm.
        std::fs::write(folder.path().join("data.txt.new"), "draft").unwrap();
        let (mut file, _) = open(&path);
        let left = std::fs::metadata(&path).unwrap().len();
        assert!(left < whole / 4, "{left} of {whole}");
        assert_eq!(&file.read(RecordId(5)).unwrap()[..], &long[..]);
        file.append(&record(7, b"seven")).unwrap();
        drop(file);
        let (file, lines) = open(&path);
        assert_eq!(
            lines[1..],
            [
                epoch(4),
                record(5, &long),
                record(6, b"six"),
                record(7, b"seven")
            ]
        );
        assert_eq!(file.damaged(), 0);
        assert_eq!(&file.read(RecordId(7)).unwrap()[..], b"seven");
    }

    #[test]
    fn a_file_that_is_none_of_ours_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.txt");
        for foreign in ["something else\n", "without an end"] {
            std::fs::write(&path, foreign).unwrap();
            let error = RecordFile::open(&path, (HERE, "norte"), 1_000, |_| {}).unwrap_err();
            assert!(error.to_string().contains("move it away"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), foreign);
        }
    }
}
