//! `wordcount`: how often each word occurs.
//!
//! A word is a maximal run of alphanumeric characters, in lower case. Single apostrophes (`'`, `’`)
//! and hyphens inside it belong to it (`guarda-chuva`, `d'água`), and so do combining accents, so
//! that a decomposed `é` does not cut its word. No word crosses a line end, which is why a file may
//! be split there.

use std::collections::HashMap;

use super::{Declaration, Merge, OpError, Operation, Split, TaskError, no_argument, text};

/// `wordcount`.
pub(super) static DECLARATION: Declaration = Declaration {
    name: "wordcount",
    argument: "",
    takes: "UTF-8 text",
    gives: "lines of word, tab, count; sorted by word",
    split: Split::AtLineEnds,
    merge: Merge::SumCounts,
};

struct WordCount;

pub(super) fn build(
    argument: Option<&str>,
    _limit_bytes: usize,
) -> Result<Box<dyn Operation>, OpError> {
    no_argument(&DECLARATION, argument)?;
    Ok(Box::new(WordCount))
}

impl Operation for WordCount {
    fn declaration(&self) -> &'static Declaration {
        &DECLARATION
    }

    fn apply(&self, input: &[u8]) -> Result<Vec<u8>, TaskError> {
        Ok(table(count(text(input)?)))
    }
}

fn count(text: &str) -> HashMap<String, u64> {
    let mut counts = HashMap::new();
    for word in words(text) {
        // The key is copied for a new word only: texts repeat themselves.
        match counts.get_mut(word) {
            Some(count) => *count += 1,
            None => {
                counts.insert(word.to_owned(), 1);
            }
        }
    }
    in_lower_case(counts)
}

/// Lower case comes after counting: there are far fewer different words than words.
fn in_lower_case(counts: HashMap<String, u64>) -> HashMap<String, u64> {
    let mut lower = HashMap::with_capacity(counts.len());
    for (word, count) in counts {
        *lower.entry(word.to_lowercase()).or_insert(0) += count;
    }
    lower
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let start = rest.find(char::is_alphanumeric)?;
        let end = start + word_length(&rest[start..]);
        let word = &rest[start..end];
        rest = &rest[end..];
        Some(word)
    })
}

/// The length in bytes of the word that `text` starts with.
fn word_length(text: &str) -> usize {
    let mut end = 0;
    let mut joined = false;
    for (at, c) in text.char_indices() {
        if c.is_alphanumeric() || is_accent(c) && !joined {
            end = at + c.len_utf8();
            joined = false;
        } else if matches!(c, '\'' | '’' | '-') && !joined {
            joined = true;
        } else {
            break;
        }
    }
    end
}

/// The combining diacritical marks, with which a decomposed letter ends.
fn is_accent(c: char) -> bool {
    ('\u{300}'..='\u{36f}').contains(&c)
}

fn table(counts: HashMap<String, u64>) -> Vec<u8> {
    let mut rows: Vec<_> = counts.into_iter().collect();
    rows.sort_unstable();
    let mut table = Vec::with_capacity(rows.iter().map(|(word, _)| word.len() + 6).sum());
    for (word, count) in rows {
        table.extend_from_slice(word.as_bytes());
        table.push(b'\t');
        table.extend_from_slice(count.to_string().as_bytes());
        table.push(b'\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::find;

    fn wordcount(text: &str) -> String {
        let table = find("wordcount").unwrap().apply(text.as_bytes()).unwrap();
        String::from_utf8(table).unwrap()
    }

    #[test]
    fn words_are_counted_whatever_their_case() {
        assert_eq!(
            wordcount("A casa, a CASA e o cão.\nÉ a casa"),
            "a\t3\ncasa\t3\ncão\t1\ne\t1\no\t1\né\t1\n"
        );
    }

    #[test]
    fn apostrophes_and_hyphens_count_only_inside() {
        assert_eq!(
            wordcount("'guarda-chuva' -- d'água d’água a--b fim-"),
            "a\t1\nb\t1\nd'água\t1\nd’água\t1\nfim\t1\nguarda-chuva\t1\n"
        );
    }

    #[test]
    fn a_decomposed_accent_does_not_cut_its_word() {
        assert_eq!(wordcount("cafe\u{301}zinho"), "cafe\u{301}zinho\t1\n");
    }

    #[test]
    fn no_word_no_line() {
        assert_eq!(wordcount(""), "");
        assert_eq!(wordcount(" ,.\n - ' \u{301}"), "");
    }
}
