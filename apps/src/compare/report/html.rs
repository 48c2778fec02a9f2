//! The report as one page: nothing from elsewhere, readable on a phone, light or dark.

use std::fmt::Write as _;

use super::Report;
use crate::compare::show::digits;
use crate::compare::tables::{Cells, Table};

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

/// The whole page.
pub(super) fn page(report: &Report<'_>) -> String {
    let mut page =
        String::from("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"/>");
    let _ = write!(
        page,
        "<title>TCP, UDP and ZeroMQ compared</title><style>{STYLE}</style></head>\n<body>"
    );
    page.push_str("<h1>TCP, UDP and ZeroMQ compared</h1>\n");
    partial(&mut page, report);
    sentences(&mut page, report);
    plots(&mut page, report);
    report.tables.iter().for_each(|each| table(&mut page, each));
    facts(&mut page, report);
    page.push_str("</body></html>\n");
    page
}

fn partial(page: &mut String, report: &Report<'_>) {
    let facts = report.facts;
    if facts.is_partial() {
        let _ = writeln!(
            page,
            "<p class=\"partial\">It was ended after {} of {} measurements: what follows is partial.</p>",
            facts.done, facts.planned
        );
    }
}

fn sentences(page: &mut String, report: &Report<'_>) {
    page.push_str("<ul>");
    for sentence in report.sentences {
        let _ = write!(page, "<li>{}</li>", escaped(sentence));
    }
    page.push_str("</ul>\n");
}

fn plots(page: &mut String, report: &Report<'_>) {
    page.push_str("<div class=\"plots\">");
    for plot in report.plots {
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

fn facts(page: &mut String, report: &Report<'_>) {
    let facts = report.facts;
    let machine = &facts.machine;
    let rows = [
        ("command", facts.command.clone()),
        ("seed", facts.seed.to_string()),
        (
            "rounds",
            format!(
                "{} of {} s for each measurement{}; medians, with the range over the rounds",
                facts.rounds,
                facts.seconds,
                facts.over_path()
            ),
        ),
        ("mutirao", facts.version.to_string()),
        (
            "processor",
            format!("{}, {} cores", machine.processor, machine.cores),
        ),
        (
            "memory",
            format!("{} GB", digits(machine.memory_bytes as f64 / 1e9)),
        ),
        ("system", machine.system.clone()),
    ];
    page.push_str("<h2>How it was measured</h2><dl>");
    for (name, text) in rows {
        let _ = write!(page, "<dt>{name}</dt><dd>{}</dd>", escaped(&text));
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
