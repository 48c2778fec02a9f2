//! Tables, for the terminal and for a page.

/// A question, what it means, and its answers.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) title: String,
    /// What the numbers are; a sentence or two.
    pub(crate) note: String,
    pub(crate) heads: Vec<&'static str>,
    /// How many columns name what is measured; they stand to the left.
    pub(crate) names: usize,
    pub(crate) lines: Vec<Line>,
}

/// A line of a table.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) names: Vec<String>,
    pub(crate) cells: Cells,
}

/// What stands behind the names.
#[derive(Clone, Debug)]
pub(crate) enum Cells {
    Values(Vec<String>),
    /// Why there are none.
    Excuse(String),
}

impl Table {
    /// For a terminal of so many columns; a blank line between groups.
    pub(crate) fn text(&self, columns: usize) -> String {
        let mut text = format!("{}\n{}\n", self.title, wrap(&self.note, columns));
        let widths = self.widths();
        let heads: Vec<String> = self.heads.iter().map(|head| head.to_string()).collect();
        text.push_str(&self.row(&heads, &widths));
        let mut last = "";
        for line in &self.lines {
            let (mut cells, group) = (line.names.clone(), line.names[0].as_str());
            if self.names > 1 && group == last {
                cells[0].clear();
            } else if self.names > 1 && !last.is_empty() {
                text.push('\n');
            }
            last = group;
            match &line.cells {
                Cells::Values(values) => cells.extend(values.iter().cloned()),
                Cells::Excuse(excuse) => cells.push(self.indented(excuse, &widths, columns)),
            }
            text.push_str(&self.row(&cells, &widths));
        }
        text
    }

    /// A reason, as wide as there is room behind the names.
    fn indented(&self, excuse: &str, widths: &[usize], columns: usize) -> String {
        let before: usize = widths[..self.names].iter().map(|width| width + 2).sum();
        let room = columns.saturating_sub(before).max(20);
        wrap(excuse, room).replace('\n', &format!("\n{:before$}", ""))
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.heads.iter().map(|head| width(head)).collect();
        for line in &self.lines {
            let values = match &line.cells {
                Cells::Values(values) => values.as_slice(),
                Cells::Excuse(_) => &[],
            };
            for (most, cell) in widths.iter_mut().zip(line.names.iter().chain(values)) {
                *most = (*most).max(width(cell));
            }
        }
        widths
    }

    fn row(&self, cells: &[String], widths: &[usize]) -> String {
        let excused = cells.len() < widths.len();
        let mut line = String::new();
        for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
            let left = column < self.names || excused;
            line.push_str(&match left {
                true => format!("{cell:<width$}"),
                false => format!("{cell:>width$}"),
            });
            line.push_str("  ");
        }
        format!("{}\n", line.trim_end())
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// Breaks a text into lines of at most so many columns.
pub(crate) fn wrap(text: &str, columns: usize) -> String {
    let mut wrapped = String::new();
    let mut used = 0;
    for word in text.split(' ') {
        let needed = width(word);
        if used > 0 && used + 1 + needed > columns {
            wrapped.push('\n');
            used = 0;
        } else if used > 0 {
            wrapped.push(' ');
            used += 1;
        }
        wrapped.push_str(word);
        used += needed;
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(names: [&str; 2], cells: Cells) -> Line {
        let names = names.map(String::from).to_vec();
        Line { names, cells }
    }

    #[test]
    fn groups_stand_apart_numbers_to_the_right_and_excuses_take_the_rest() {
        let values = |a: &str, b: &str| Cells::Values(vec![a.into(), b.into()]);
        let table = Table {
            title: "T".into(),
            note: "one two".into(),
            heads: vec!["size", "name", "x", "yy"],
            names: 2,
            lines: vec![
                line(["16 B", "a"], values("1", "22")),
                line(["16 B", "bbbbb"], values("333", "4")),
                line(["1 KiB", "a"], Cells::Excuse("too large: really".into())),
            ],
        };
        let expected = "T\none two\n\
            size   name     x  yy\n\
            16 B   a        1  22\n\
            \u{20}      bbbbb  333   4\n\
            \n\
            1 KiB  a      too large: really\n";
        assert_eq!(table.text(80), expected);
    }

    #[test]
    fn a_long_reason_is_wrapped_behind_the_names() {
        let table = Table {
            title: "T".into(),
            note: "note".into(),
            heads: vec!["size", "name", "x"],
            names: 2,
            lines: vec![line(
                ["16 B", "a"],
                Cells::Excuse("failed: nobody answered within 5 s".into()),
            )],
        };
        let expected = "T\nnote\n\
            size  name  x\n\
            16 B  a     failed: nobody\n\
            \u{20}           answered within 5 s\n";
        assert_eq!(table.text(32), expected);
    }

    #[test]
    fn texts_are_wrapped_between_words() {
        assert_eq!(wrap("aa bb cc", 5), "aa bb\ncc");
        assert_eq!(wrap("aaaaaaaa b", 5), "aaaaaaaa\nb");
    }
}
