//! `lowercase` and `uppercase`, by the rules of Unicode.

use super::{Declaration, Merge, OpError, Operation, Split, TaskError, no_argument, text};

/// `lowercase`.
pub(super) static LOWERCASE: Declaration = Declaration {
    name: "lowercase",
    argument: "",
    takes: "UTF-8 text",
    gives: "the text in lower case",
    split: Split::AtLineEnds,
    merge: Merge::Concatenate,
};

/// `uppercase`.
pub(super) static UPPERCASE: Declaration = Declaration {
    name: "uppercase",
    gives: "the text in upper case",
    ..LOWERCASE
};

/// One of the two.
struct Letters {
    declaration: &'static Declaration,
    convert: fn(&str) -> String,
}

pub(super) fn lowercase(
    argument: Option<&str>,
    _limit_bytes: usize,
) -> Result<Box<dyn Operation>, OpError> {
    no_argument(&LOWERCASE, argument)?;
    Ok(Box::new(Letters {
        declaration: &LOWERCASE,
        convert: str::to_lowercase,
    }))
}

pub(super) fn uppercase(
    argument: Option<&str>,
    _limit_bytes: usize,
) -> Result<Box<dyn Operation>, OpError> {
    no_argument(&UPPERCASE, argument)?;
    Ok(Box::new(Letters {
        declaration: &UPPERCASE,
        convert: str::to_uppercase,
    }))
}

impl Operation for Letters {
    fn declaration(&self) -> &'static Declaration {
        self.declaration
    }

    fn apply(&self, input: &[u8]) -> Result<Vec<u8>, TaskError> {
        Ok((self.convert)(text(input)?).into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::super::find;

    #[test]
    fn accents_have_a_case_too() {
        let lower = find("lowercase")
            .unwrap()
            .apply("ÁÉÍ Ação ΟΔΟΣ".as_bytes())
            .unwrap();
        assert_eq!(String::from_utf8(lower).unwrap(), "áéí ação οδος");
        let upper = find("uppercase")
            .unwrap()
            .apply("áéí ação straße".as_bytes())
            .unwrap();
        assert_eq!(String::from_utf8(upper).unwrap(), "ÁÉÍ AÇÃO STRASSE");
    }

    #[test]
    fn bytes_that_are_no_text_name_their_place() {
        let error = find("lowercase")
            .unwrap()
            .apply(b"abc\xff")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("not UTF-8") && error.contains("offset 3"),
            "{error}"
        );
    }

    #[test]
    fn nothing_gives_nothing() {
        assert!(find("uppercase").unwrap().apply(b"").unwrap().is_empty());
    }
}
