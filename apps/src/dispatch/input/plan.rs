//! Files and folders become a list that a restart finds again in the same order.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};
use walkdir::{DirEntry, WalkDir};

use super::{InputError, InputFile};
use crate::dispatch::output::JOURNAL_FOLDER;

/// The files of a job: `paths` in their order, folders by name, all the way down.
///
/// A file is named after itself, a folder's files after their path inside it. Hidden files count;
/// a folder named `.mutirao` (the journal of a results folder) does not. Symbolic links are
/// followed, except one that leads back to a folder it is in.
pub(crate) fn plan(paths: &[PathBuf]) -> Result<Vec<InputFile>, InputError> {
    let mut files = Vec::new();
    for path in paths {
        let metadata = fs::metadata(path).map_err(|e| unreadable(path, e))?;
        if metadata.is_dir() {
            walk(path, &mut files)?;
        } else {
            files.push(file(
                path,
                Path::new(path.file_name().unwrap_or_default()),
                &metadata,
            )?);
        }
    }
    distinct(&files)?;
    Ok(files)
}

/// Names the job: the same inputs, operation and cut give the same id after a restart; a file
/// that changed gives another job.
pub(crate) fn job_id(op: &str, chunk_bytes: usize, files: &[InputFile]) -> u64 {
    let mut sha = Sha256::new();
    sha.update((op.len() as u64).to_le_bytes());
    sha.update(op);
    sha.update((chunk_bytes as u64).to_le_bytes());
    for file in files {
        sha.update((file.name.len() as u64).to_le_bytes());
        sha.update(&file.name);
        sha.update(file.bytes.to_le_bytes());
        sha.update(nanoseconds(file.modified).to_le_bytes());
    }
    let digest = sha.finalize();
    u64::from_le_bytes(std::array::from_fn(|i| digest[i]))
}

fn nanoseconds(time: SystemTime) -> i128 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_nanos() as i128,
        Err(before) => -(before.duration().as_nanos() as i128),
    }
}

fn walk(folder: &Path, files: &mut Vec<InputFile>) -> Result<(), InputError> {
    let before = files.len();
    let entries = WalkDir::new(folder).follow_links(true).sort_by_file_name();
    for entry in entries.into_iter().filter_entry(|entry| !is_journal(entry)) {
        let entry = match entry {
            Ok(entry) => entry,
            // What the loop leads to is listed already.
            Err(error) if error.loop_ancestor().is_some() => continue,
            Err(error) => return Err(walk_error(folder, error)),
        };
        if !entry.file_type().is_dir() {
            let metadata = entry.metadata().map_err(|e| walk_error(folder, e))?;
            let name = entry.path().strip_prefix(folder).unwrap_or(entry.path());
            files.push(file(entry.path(), name, &metadata)?);
        }
    }
    if files.len() == before {
        return Err(InputError::EmptyFolder {
            path: folder.to_owned(),
        });
    }
    Ok(())
}

fn is_journal(entry: &DirEntry) -> bool {
    entry.depth() > 0 && entry.file_type().is_dir() && entry.file_name() == JOURNAL_FOLDER
}

fn file(path: &Path, name: &Path, metadata: &Metadata) -> Result<InputFile, InputError> {
    if !metadata.is_file() {
        return Err(InputError::NotRegular {
            path: path.to_owned(),
        });
    }
    let name = name.to_str().ok_or_else(|| InputError::NameNotUtf8 {
        path: path.to_owned(),
    })?;
    // Better to know now than after an hour of work.
    File::open(path).map_err(|e| unreadable(path, e))?;
    let modified = metadata.modified().map_err(|e| unreadable(path, e))?;
    Ok(InputFile {
        path: path.to_owned(),
        name: name.to_owned(),
        bytes: metadata.len(),
        modified,
    })
}

fn distinct(files: &[InputFile]) -> Result<(), InputError> {
    let mut seen = HashMap::with_capacity(files.len());
    for file in files {
        if let Some(first) = seen.insert(&file.name, &file.path) {
            return Err(InputError::SameName {
                name: file.name.clone(),
                first: first.clone(),
                second: file.path.clone(),
            });
        }
    }
    Ok(())
}

fn walk_error(folder: &Path, error: walkdir::Error) -> InputError {
    let path = error.path().unwrap_or(folder).to_owned();
    unreadable(&path, error.into())
}

fn unreadable(path: &Path, source: io::Error) -> InputError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => InputError::Missing { path },
        _ => InputError::Unreadable { path, source },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn names(files: &[InputFile]) -> Vec<&str> {
        files.iter().map(|file| file.name.as_str()).collect()
    }

    fn refusal(paths: &[PathBuf]) -> String {
        plan(paths).unwrap_err().to_string()
    }

    #[test]
    fn a_file_keeps_its_name_and_a_folder_its_shape() {
        let folder = folder(&[
            ("b.txt", "b"),
            ("a/x.txt", ""),
            ("a/.hidden", "h"),
            (".mutirao/j", ""),
        ]);
        let root = folder.path().to_owned();
        let files = plan(std::slice::from_ref(&root)).unwrap();
        assert_eq!(names(&files), ["a/.hidden", "a/x.txt", "b.txt"]);
        let files = plan(&[root.join("b.txt"), root.join("a")]).unwrap();
        assert_eq!(names(&files), ["b.txt", ".hidden", "x.txt"]);
        assert_eq!((files[0].bytes, files[2].bytes), (1, 0));
    }

    #[test]
    fn a_link_is_followed_but_not_in_circles() {
        let folder = folder(&[("a/x.txt", "x")]);
        symlink("x.txt", folder.path().join("a/link.txt")).unwrap();
        symlink("..", folder.path().join("a/up")).unwrap();
        let files = plan(&[folder.path().to_owned()]).unwrap();
        assert_eq!(names(&files), ["a/link.txt", "a/x.txt"]);
    }

    #[test]
    fn each_bad_input_gets_its_sentence() {
        let folder = folder(&[("a/x", "x"), ("b/x", "x"), ("only/.mutirao/j", "")]);
        let root = folder.path();
        fs::create_dir(root.join("empty")).unwrap();
        assert!(refusal(&[root.join("nope")]).contains("no such file or folder"));
        assert!(refusal(&[root.join("empty")]).contains("holds no file"));
        assert!(refusal(&[root.join("only")]).contains("holds no file"));
        assert!(refusal(&["/dev/null".into()]).contains("not a regular file"));
        assert!(refusal(&[root.join("a"), root.join("b")]).contains("both become x.out"));
        let socket = std::os::unix::net::UnixListener::bind(root.join("a/socket")).unwrap();
        assert!(refusal(&[root.join("a")]).contains("not a regular file"));
        drop(socket);
    }

    #[test]
    fn a_name_that_is_no_text_is_refused() {
        use std::os::unix::ffi::OsStrExt as _;
        let folder = folder(&[]);
        let path = folder.path().join(std::ffi::OsStr::from_bytes(b"a\xff"));
        if fs::write(&path, "x").is_err() {
            eprintln!("SKIPPED: this file system takes no such name");
            return;
        }
        assert!(refusal(&[path]).contains("not UTF-8"));
    }

    #[test]
    fn a_file_that_may_not_be_read_is_refused_before_work_starts() {
        let folder = folder(&[("secret", "x")]);
        let path = folder.path().join("secret");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        if File::open(&path).is_ok() {
            eprintln!("SKIPPED: this user may read everything");
            return;
        }
        assert!(refusal(&[path]).contains("cannot be read"));
    }

    #[test]
    fn the_job_id_is_the_same_after_a_restart_and_another_after_a_change() {
        let folder = folder(&[("a", "1"), ("b", "2")]);
        let paths = [folder.path().to_owned()];
        let files = plan(&paths).unwrap();
        let id = job_id("lowercase", 1 << 20, &files);
        assert_eq!(id, job_id("lowercase", 1 << 20, &plan(&paths).unwrap()));
        assert_ne!(id, job_id("uppercase", 1 << 20, &files));
        assert_ne!(id, job_id("lowercase", 1 << 19, &files));
        fs::write(folder.path().join("b"), "22").unwrap();
        assert_ne!(id, job_id("lowercase", 1 << 20, &plan(&paths).unwrap()));
    }
}
