//! The line in which a message is written.

use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::UnicodeWidthStr as _;

/// Bytes that a line may have: a message and a command before it.
const MAX_BYTES: usize = 4_200;

/// Lines that are remembered.
const MAX_HISTORY: usize = 200;

/// Text with a cursor, which stands between characters as people see them.
#[derive(Debug, Default)]
pub(super) struct Line {
    text: String,
    /// In bytes, at a boundary of grapheme clusters.
    cursor: usize,
    history: Vec<String>,
    /// Which line of the history is shown, and what was being written before.
    shown: Option<(usize, String)>,
}

impl Line {
    /// Puts text where the cursor is, as much as there is room for. Line ends become spaces. How many
    /// bytes found no room.
    pub(super) fn insert(&mut self, text: &str) -> usize {
        let text = text.replace("\r\n", " ").replace(['\n', '\r'], " ");
        let room = MAX_BYTES.saturating_sub(self.text.len());
        let ends = text
            .grapheme_indices(true)
            .map(|(at, part)| at + part.len());
        let fits = ends.take_while(|&end| end <= room).last().unwrap_or(0);
        self.text.insert_str(self.cursor, &text[..fits]);
        self.cursor += fits;
        // A combining character joins what stands before it, and perhaps what stands behind.
        self.snap();
        text.len() - fits
    }

    /// Writes a line again that was taken in vain.
    pub(super) fn put_back(&mut self, line: String) {
        self.text = line;
        self.end();
    }

    /// Ends the line: it is remembered, and the next one is empty.
    pub(super) fn take(&mut self) -> String {
        let line = std::mem::take(&mut self.text);
        (self.cursor, self.shown) = (0, None);
        if !line.trim().is_empty() && self.history.last() != Some(&line) {
            self.history.push(line.clone());
            if self.history.len() > MAX_HISTORY {
                self.history.remove(0);
            }
        }
        line
    }

    pub(super) fn left(&mut self) {
        self.cursor = self.before(self.cursor);
    }

    pub(super) fn right(&mut self) {
        self.cursor = self.after(self.cursor);
    }

    pub(super) fn home(&mut self) {
        self.cursor = 0;
    }

    pub(super) fn end(&mut self) {
        self.cursor = self.text.len();
    }

    /// To the beginning of the word.
    pub(super) fn word_left(&mut self) {
        self.cursor = self.word_start();
    }

    /// Behind the end of the word.
    pub(super) fn word_right(&mut self) {
        let rest = &self.text[self.cursor..];
        let word = rest
            .find(|c: char| !c.is_whitespace())
            .unwrap_or(rest.len());
        let end = rest[word..].find(char::is_whitespace);
        self.cursor += end.map_or(rest.len(), |end| word + end);
        self.snap();
    }

    /// Deletes the character before the cursor.
    pub(super) fn backspace(&mut self) {
        let start = self.before(self.cursor);
        self.delete(start, self.cursor);
    }

    /// Deletes the character behind the cursor.
    pub(super) fn delete_right(&mut self) {
        let end = self.after(self.cursor);
        self.delete(self.cursor, end);
    }

    /// Deletes back to the beginning of the word.
    pub(super) fn delete_word(&mut self) {
        let start = self.word_start();
        self.delete(start, self.cursor);
    }

    /// Deletes all before the cursor.
    pub(super) fn delete_to_start(&mut self) {
        self.delete(0, self.cursor);
    }

    /// Deletes all behind the cursor.
    pub(super) fn delete_to_end(&mut self) {
        self.delete(self.cursor, self.text.len());
    }

    /// An older line of the history.
    pub(super) fn older(&mut self) {
        let at = self
            .shown
            .as_ref()
            .map_or(self.history.len(), |(at, _)| *at);
        if at > 0 {
            let draft = match self.shown.take() {
                Some((_, draft)) => draft,
                None => std::mem::take(&mut self.text),
            };
            self.text.clone_from(&self.history[at - 1]);
            self.shown = Some((at - 1, draft));
            self.end();
        }
    }

    /// A newer line of the history, and at last what was being written.
    pub(super) fn newer(&mut self) {
        let Some((at, draft)) = self.shown.take() else {
            return;
        };
        match self.history.get(at + 1) {
            Some(line) => {
                self.text.clone_from(line);
                self.shown = Some((at + 1, draft));
            }
            None => self.text = draft,
        }
        self.end();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// What is visible in so many columns, and the column of the cursor.
    pub(super) fn view(&self, columns: u16) -> (String, u16) {
        // One column is for the cursor at the end.
        let room = usize::from(columns.saturating_sub(1));
        // Back from the cursor as far as there is room, and from there on.
        let (mut start, mut column) = (self.cursor, 0);
        for part in self.text[..self.cursor].graphemes(true).rev() {
            let width = visible(part).width();
            if column + width > room {
                break;
            }
            (start, column) = (start - part.len(), column + width);
        }
        let (mut text, mut width) = (String::new(), 0);
        for part in self.text[start..].graphemes(true).map(visible) {
            width += part.width();
            if width > usize::from(columns) {
                break;
            }
            text.push_str(&part);
        }
        (text, u16::try_from(column).unwrap_or(u16::MAX))
    }

    fn delete(&mut self, start: usize, end: usize) {
        self.text.replace_range(start..end, "");
        self.cursor = start;
        // What is left and right may have joined.
        self.snap();
    }

    fn word_start(&self) -> usize {
        let before = self.text[..self.cursor].trim_end();
        let space = before.char_indices().rev().find(|(_, c)| c.is_whitespace());
        let start = space.map_or(0, |(at, c)| at + c.len_utf8());
        match self.is_boundary(start) {
            true => start,
            false => self.before(start),
        }
    }

    /// Puts the cursor behind the character in whose middle it stands.
    fn snap(&mut self) {
        if !self.is_boundary(self.cursor) {
            self.cursor = self.after(self.cursor);
        }
    }

    fn boundaries(&self) -> impl DoubleEndedIterator<Item = usize> + '_ {
        let starts = self.text.grapheme_indices(true).map(|(at, _)| at);
        starts.chain([self.text.len()])
    }

    fn is_boundary(&self, at: usize) -> bool {
        self.boundaries().any(|boundary| boundary == at)
    }

    fn before(&self, at: usize) -> usize {
        let before = self.boundaries().rev().find(|&boundary| boundary < at);
        before.unwrap_or(0)
    }

    fn after(&self, at: usize) -> usize {
        let after = self.boundaries().find(|&boundary| boundary > at);
        after.unwrap_or(self.text.len())
    }
}

/// Pasted text may hold what no terminal should see.
fn visible(text: &str) -> String {
    crate::shown::shown(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Line {
        let mut line = Line::default();
        line.insert(text);
        line
    }

    #[test]
    fn the_cursor_moves_over_what_people_see_as_one() {
        // Two wide characters, an e with a combining accent, a family of one cluster.
        let mut line = written("中文e\u{301}👩‍👩‍👧");
        let mut columns = vec![line.view(80).1];
        for _ in 0..4 {
            line.left();
            columns.push(line.view(80).1);
        }
        assert_eq!(columns, [7, 5, 4, 2, 0]);
        line.end();
        line.backspace();
        line.backspace();
        assert_eq!(line.view(80), ("中文".to_string(), 4));
    }

    #[test]
    fn characters_typed_one_by_one_join() {
        let mut line = Line::default();
        for c in "e\u{301}x".chars() {
            line.insert(&c.to_string());
        }
        line.left();
        line.backspace();
        assert_eq!(line.take(), "x");
    }

    #[test]
    fn words_and_ends_are_deleted() {
        let mut line = written("um dois três");
        line.delete_word();
        assert_eq!(line.view(80).0, "um dois ");
        line.word_left();
        line.delete_to_end();
        assert_eq!(line.view(80).0, "um ");
        line.home();
        line.delete_right();
        line.word_right();
        line.delete_to_start();
        assert_eq!(line.take(), " ");
    }

    #[test]
    fn a_long_line_moves_with_the_cursor() {
        let mut line = written(&"中".repeat(50));
        let (text, column) = line.view(11);
        assert_eq!((text.width(), column), (10, 10));
        line.home();
        assert_eq!(line.view(11), ("中".repeat(5), 0));
        assert_eq!(line.view(0).1, 0);
    }

    #[test]
    fn history_goes_back_and_forth_and_keeps_the_draft() {
        let mut line = written("one");
        line.take();
        line.insert("two");
        line.take();
        line.insert("draft");
        let mut seen = Vec::new();
        for step in [
            Line::older,
            Line::older,
            Line::older,
            Line::newer,
            Line::newer,
        ] {
            step(&mut line);
            seen.push(line.view(80).0);
        }
        assert_eq!(seen, ["two", "one", "one", "two", "draft"]);
    }

    #[test]
    fn a_paste_is_one_line_and_harmless() {
        let line = written("a\r\nb\nc\u{1b}[2J");
        assert_eq!(line.view(80).0, "a b c\\u{1b}[2J");
    }

    #[test]
    fn of_what_is_too_long_the_beginning_is_taken() {
        let mut line = written("começo ");
        let room = MAX_BYTES - line.text.len();
        // Three bytes each, which do not fill the line to the last byte.
        let cut = line.insert(&"中".repeat(MAX_BYTES));
        assert_eq!(cut, 3 * MAX_BYTES - room / 3 * 3);
        assert_eq!(line.text.len(), MAX_BYTES - room % 3);
        let full = line.text.clone();
        assert_eq!(line.insert("中文"), 6);
        assert_eq!(line.text, full);
        line.put_back("de novo".into());
        assert_eq!(line.view(80), ("de novo".to_string(), 7));
    }

    #[test]
    fn no_sequence_of_keys_breaks_it() {
        use mutirao::sim::{Rng, run_seeds};
        run_seeds(0..50, |seed| {
            let mut rng = Rng::new(seed);
            let mut line = Line::default();
            let pieces = ["a", " ", "中", "\u{301}", "\u{200d}", "👩", "🇧", "🇷", "é"];
            let steps = [
                Line::left,
                Line::right,
                Line::home,
                Line::end,
                Line::word_left,
                Line::word_right,
                Line::backspace,
                Line::delete_right,
                Line::delete_word,
                Line::older,
                Line::newer,
            ];
            for _ in 0..300 {
                match rng.below(3) {
                    0 => rng.pick(&steps).unwrap()(&mut line),
                    1 if rng.chance(0.05) => drop(line.take()),
                    _ => drop(line.insert(rng.pick(&pieces).unwrap())),
                }
                assert!(line.is_boundary(line.cursor));
                let columns = rng.below(20) as u16;
                let (text, column) = line.view(columns);
                assert!(text.width() <= usize::from(columns));
                assert!(column <= columns);
            }
        });
    }
}
