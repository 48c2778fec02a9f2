//! Gives back the space of lines that do not count any more.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::super::replace::{beside, sync_folder};
use super::super::{DataLine, InstanceId, RecordId, TextLine};
use super::{Place, RecordFile};

/// A file below this length, in bytes, is left as it is.
const WORTHWHILE_BYTES: u64 = 1 << 20;

/// A file, where the records lie in it, and its length.
type Draft = (File, Vec<(RecordId, Place)>, u64);

impl RecordFile {
    /// Whether more than half of it does not count.
    pub(super) fn is_mostly_waste(&self) -> bool {
        let waste = self.end - self.places_bytes;
        self.end > WORTHWHILE_BYTES && waste > self.end / 2 && !self.too_long
    }

    /// Writes a file of what counts and puts it in the place of this one; after a crash there is the old one or the
    /// new one. When the disk has no room for it this one stays.
    pub(super) fn compact(&mut self, path: &Path, owner: InstanceId, name: &str) -> io::Result<()> {
        let draft = beside(path, ".new");
        let Ok((file, places, end)) = self.draft(&draft, owner, name) else {
            // Nothing has changed, and the draft is only in the way.
            let _ = fs::remove_file(&draft);
            return Ok(());
        };
        fs::rename(&draft, path)?;
        sync_folder(path)?;
        self.places.extend(places);
        (self.file, self.end, self.dirty) = (file, end, false);
        Ok(())
    }

    fn draft(&self, draft: &Path, instance: InstanceId, name: &str) -> io::Result<Draft> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(true);
        let mut new = BufWriter::new(options.open(draft)?);
        let name = name.to_string();
        let mut start = DataLine::Node { instance, name }.to_line();
        if let Some((epoch, head)) = self.fence {
            start += &DataLine::Epoch { epoch, head }.to_line();
        }
        new.write_all(start.as_bytes())?;
        let mut end = start.len() as u64;
        let mut places: Vec<_> = self
            .places
            .iter()
            .map(|(&id, &place)| (id, place))
            .collect();
        places.sort_unstable_by_key(|(_, place)| place.offset);
        for (_, place) in &mut places {
            // As it is: what was damaged since is found when it is read.
            let length = usize::try_from(place.length).map_err(io::Error::other)?;
            let mut line = vec![0; length];
            self.file.read_exact_at(&mut line, place.offset)?;
            new.write_all(&line)?;
            place.offset = end;
            end += place.length;
        }
        let file = new.into_inner()?;
        file.sync_all()?;
        Ok((file, places, end))
    }
}
