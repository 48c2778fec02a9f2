//! Names come from the network. What they may become is decided here, and nowhere else.

use std::path::Path;

use super::JOURNAL_FOLDER;
use crate::ops::printable;

/// What file systems take for one component, and what leaves room for `--out` in a path.
const COMPONENT_BYTES: usize = 255;
const NAME_BYTES: usize = 3000;

/// The path under `--out` that an input's result gets, or why there is none.
///
/// The name must be relative and stay inside: plain components, no `..`, nothing in the journal's
/// folder. A name that the rules refuse fails its input; nothing is written anywhere.
pub(super) fn result_name(name: &str) -> Result<String, String> {
    let refuse = |why: &str| Err(format!("the name “{}” {why}", printable(name, 100)));
    let result = format!("{name}.out");
    let mut components = name.split('/');
    if name.is_empty()
        || name.starts_with('/')
        || components.any(|part| matches!(part, "" | "." | ".."))
    {
        return refuse("is no plain relative path");
    }
    if name.contains('\0') {
        return refuse("holds a NUL");
    }
    if result.len() > NAME_BYTES || result.split('/').any(|part| part.len() > COMPONENT_BYTES) {
        return refuse("is too long for a file with .out added");
    }
    // Some file systems do not tell upper from lower case.
    if name
        .split('/')
        .next()
        .is_some_and(|first| first.eq_ignore_ascii_case(JOURNAL_FOLDER))
    {
        return refuse("belongs to the journal");
    }
    Ok(result)
}

/// Looks for what must not be in the way: a link on the path, a file where a folder has to be, a
/// folder where the result has to be. Says why the result cannot be written.
pub(super) fn check_way(out: &Path, result: &str) -> Result<(), String> {
    let refuse = |path: &Path, what: &str| Err(format!("{} is {what}", path.display()));
    let mut path = out.to_owned();
    let mut parts = result.split('/').peekable();
    while let Some(part) = parts.next() {
        path.push(part);
        let Ok(metadata) = path.symlink_metadata() else {
            return Ok(());
        };
        match parts.peek() {
            None if metadata.is_dir() => {
                return refuse(&path, "a folder, not a place for a result");
            }
            // A result replaces a link itself; a link on the way could lead anywhere.
            Some(_) if metadata.is_symlink() => {
                return refuse(&path, "a link; results follow none");
            }
            Some(_) if !metadata.is_dir() => {
                return refuse(&path, "a file where a folder has to be");
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn ordinary_names_get_an_ending() {
        assert_eq!(result_name("exemplo1.txt").unwrap(), "exemplo1.txt.out");
        assert_eq!(result_name("a/ção/..x").unwrap(), "a/ção/..x.out");
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for bad in [
            "",
            "/etc/passwd",
            "..",
            "../x",
            "a/../../x",
            "a//b",
            "a/",
            ".",
            "a/./b",
            "a\0b",
        ] {
            assert!(result_name(bad).is_err(), "{bad:?}");
        }
        for journal in [".mutirao/x", ".MUTIRAO/x", ".mutirao"] {
            assert!(
                result_name(journal).unwrap_err().contains("journal"),
                "{journal:?}"
            );
        }
        assert!(
            result_name(&"x".repeat(252))
                .unwrap_err()
                .contains("too long")
        );
        assert!(result_name(&"x/".repeat(2000)).is_err());
        assert!(result_name(&"x".repeat(251)).is_ok());
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path();
        std::fs::create_dir(out.join("taken.out")).unwrap();
        std::fs::write(out.join("file"), "").unwrap();
        symlink("/", out.join("link")).unwrap();
        assert!(check_way(out, "new/sub/x.out").is_ok());
        assert!(
            check_way(out, "taken.out")
                .unwrap_err()
                .contains("a folder")
        );
        assert!(check_way(out, "file/x.out").unwrap_err().contains("a file"));
        assert!(check_way(out, "link/x.out").unwrap_err().contains("a link"));
        assert!(check_way(out, "link").is_ok());
    }
}
