//! A report as one page: nothing from elsewhere, readable on a phone, light or dark.

use std::fmt::Write as _;

use super::chart::Plot;
use super::table::{Cells, Table};

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--faint:#8882}\
body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:0 auto;padding:1rem}\
h1{font-size:1.5rem;margin:.5rem 0}h2{font-size:1.15rem;margin:2rem 0 .25rem}\
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr));gap:1rem}\
figure{margin:0}svg{width:100%;height:auto;display:block}\
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}\
th,td{padding:.2rem .6rem;text-align:right;white-space:nowrap;border-bottom:1px solid var(--faint)}\
th.name,td.name,td.excuse{text-align:left}td.excuse{white-space:normal;opacity:.75}\
tr.group>*{border-top:1px solid var(--line)}thead th{border-bottom:1px solid var(--line)}\
dl{display:grid;grid-template-columns:auto 1fr;gap:.1rem 1rem;font-size:.9rem}dt{opacity:.75}dd{margin:0;overflow-wrap:anywhere}\
.partial{border-left:.25rem solid #d55e00;padding-left:.75rem}";

/// What stands on a page, from top to bottom.
pub(crate) struct Page<'a> {
    pub(crate) title: &'a str,
    /// Why it does not say all, if so.
    pub(crate) partial: Option<String>,
    pub(crate) sentences: &'a [String],
    pub(crate) plots: &'a [Plot],
    pub(crate) tables: &'a [Table],
    /// How it came about: names and texts.
    pub(crate) facts: Vec<(&'static str, String)>,
    /// What stands above those.
    pub(crate) facts_title: &'a str,
}

impl Page<'_> {
    /// The whole page.
    pub(crate) fn html(&self) -> String {
        let mut page =
            String::from("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>");
        page.push_str("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"/>");
        let title = escaped(self.title);
        let _ = write!(
            page,
            "<title>{title}</title><style>{STYLE}</style></head>\n<body>"
        );
        let _ = writeln!(page, "<h1>{title}</h1>");
        if let Some(partial) = &self.partial {
            let _ = writeln!(page, "<p class=\"partial\">{}</p>", escaped(partial));
        }
        sentences(&mut page, self.sentences);
        plots(&mut page, self.plots);
        self.tables.iter().for_each(|each| table(&mut page, each));
        facts(&mut page, self);
        page.push_str("</body></html>\n");
        page
    }
}

fn sentences(page: &mut String, sentences: &[String]) {
    page.push_str("<ul>");
    for sentence in sentences {
        let _ = write!(page, "<li>{}</li>", escaped(sentence));
    }
    page.push_str("</ul>\n");
}

fn plots(page: &mut String, plots: &[Plot]) {
    page.push_str("<div class=\"plots\">");
    for plot in plots {
        let _ = writeln!(
            page,
            "<figure aria-label=\"{}\">{}</figure>",
            escaped(&plot.title),
            plot.svg
        );
    }
    page.push_str("</div>\n");
}

fn table(page: &mut String, table: &Table) {
    let _ = write!(
        page,
        "<h2>{}</h2><p>{}</p>",
        escaped(&table.title),
        escaped(&table.note)
    );
    page.push_str("<div class=\"wide\"><table><thead><tr>");
    for (column, head) in table.heads.iter().enumerate() {
        let class = class(column, table);
        let _ = write!(page, "<th scope=\"col\"{class}>{}</th>", escaped(head));
    }
    page.push_str("</tr></thead>\n<tbody>");
    let mut last = "";
    for line in &table.lines {
        let group = line.names[0].as_str();
        let first = table.names > 1 && group != last;
        last = group;
        page.push_str(if first {
            "<tr class=\"group\">"
        } else {
            "<tr>"
        });
        for name in &line.names {
            let _ = write!(page, "<td class=\"name\">{}</td>", escaped(name));
        }
        cells(page, &line.cells, table.heads.len() - table.names);
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div>\n");
}

fn class(column: usize, table: &Table) -> &'static str {
    match column < table.names {
        true => " class=\"name\"",
        false => "",
    }
}

fn cells(page: &mut String, cells: &Cells, columns: usize) {
    match cells {
        Cells::Values(values) => {
            for value in values {
                let _ = write!(page, "<td>{}</td>", escaped(value));
            }
        }
        Cells::Excuse(excuse) => {
            let _ = write!(
                page,
                "<td class=\"excuse\" colspan=\"{columns}\">{}</td>",
                escaped(excuse)
            );
        }
    }
}

fn facts(page: &mut String, all: &Page<'_>) {
    let _ = write!(page, "<h2>{}</h2><dl>", escaped(all.facts_title));
    for (name, text) in &all.facts {
        let _ = write!(page, "<dt>{name}</dt><dd>{}</dd>", escaped(text));
    }
    page.push_str("</dl>\n");
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_the_machine_cannot_become_markup() {
        assert_eq!(escaped("<b a=\"1\">&"), "&lt;b a=&quot;1&quot;&gt;&amp;");
    }
}
