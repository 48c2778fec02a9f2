//! What the panes show, and how far they are scrolled.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Position, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line as Row, Span};
use ratatui::widgets::{Block, Borders, Paragraph};

use super::line::Line;
use super::wrap::wrap;
use crate::chat::guest::Guest;
use crate::chat::talk::{Kind, Talk};
use crate::shown::shown;

/// Pieces of talk that can be scrolled back to.
const MAX_TALK: usize = 5_000;

/// From this width on there is a pane for the members.
const WIDE: u16 = 60;
const MEMBERS_WIDTH: u16 = 22;

/// What stands before the line to write in.
const PROMPT: &str = "> ";

const COLOURS: [Color; 6] = [
    Color::Cyan,
    Color::Green,
    Color::Yellow,
    Color::Magenta,
    Color::Blue,
    Color::Red,
];

/// How things stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) name: String,
    pub(super) room: String,
    pub(super) connected: bool,
    pub(super) unsaid: usize,
    /// Whether no more can be said for now.
    pub(super) full: bool,
    pub(super) members: Vec<String>,
}

impl Status {
    pub(super) fn of(guest: &Guest) -> Status {
        let members = guest.members().into_iter().flatten();
        Status {
            name: shown(guest.name()),
            room: shown(guest.room()),
            connected: guest.is_inside(),
            unsaid: guest.unsaid(),
            full: !guest.has_room(),
            members: members.map(|name| shown(name)).collect(),
        }
    }

    fn text(&self) -> String {
        let state = match self.connected {
            true => "connected",
            false => "not connected, trying on",
        };
        let unsaid = match self.unsaid {
            0 => String::new(),
            count if self.full => {
                format!(" · {count} wait, the line is kept")
            }
            count => format!(" · {count} on the way"),
        };
        format!(" {} in {} · {state}{unsaid}", self.name, self.room)
    }
}

/// The panes.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) line: Line,
    /// Something about the line that is written, until the next key.
    pub(super) note: Option<String>,
    talk: VecDeque<Talk>,
    /// Rows between the last row that is seen and the end.
    above_end: usize,
    /// Size of the pane of messages when it was last drawn.
    size: (usize, usize),
}

impl View {
    /// Adds something to the messages; who has scrolled up stays where they are.
    pub(super) fn push(&mut self, talk: Talk) {
        if self.above_end > 0 {
            self.above_end += rows(&talk, self.size.0).len();
        }
        self.talk.push_back(talk);
        if self.talk.len() > MAX_TALK {
            self.talk.pop_front();
        }
    }

    pub(super) fn page_up(&mut self) {
        self.above_end += self.size.1.saturating_sub(1).max(1);
    }

    pub(super) fn page_down(&mut self) {
        let page = self.size.1.saturating_sub(1).max(1);
        self.above_end = self.above_end.saturating_sub(page);
    }

    pub(super) fn scroll_to_end(&mut self) {
        self.above_end = 0;
    }

    pub(super) fn draw(&mut self, frame: &mut Frame<'_>, status: &Status) {
        let rows = Layout::vertical([
            Constraint::Min(0),
            Constraint::Length(1),
            Constraint::Length(1),
        ]);
        let [top, bar, bottom] = rows.areas(frame.area());
        let members_width = if top.width >= WIDE { MEMBERS_WIDTH } else { 0 };
        let panes = Layout::horizontal([Constraint::Min(0), Constraint::Length(members_width)]);
        let [messages, members] = panes.areas(top);
        self.draw_messages(frame, messages);
        draw_members(frame, members, status);
        self.draw_bar(frame, bar, status);
        self.draw_line(frame, bottom);
    }

    fn draw_messages(&mut self, frame: &mut Frame<'_>, area: Rect) {
        self.size = (usize::from(area.width), usize::from(area.height));
        let (width, height) = self.size;
        let wanted = self.above_end + height;
        let mut seen = VecDeque::new();
        for talk in self.talk.iter().rev() {
            for row in rows(talk, width).into_iter().rev() {
                seen.push_front(row);
            }
            if seen.len() >= wanted {
                break;
            }
        }
        self.above_end = self.above_end.min(seen.len().saturating_sub(height));
        let end = seen.len() - self.above_end;
        let start = end.saturating_sub(height);
        let rows: Vec<Row<'_>> = seen.into_iter().skip(start).take(end - start).collect();
        frame.render_widget(Paragraph::new(rows), area);
    }

    fn draw_bar(&self, frame: &mut Frame<'_>, area: Rect, status: &Status) {
        let mut text = match &self.note {
            Some(note) => format!(" {note}"),
            None => status.text(),
        };
        if self.above_end > 0 {
            text.push_str(" · scrolled back, PageDown goes on");
        }
        let style = Style::new().add_modifier(Modifier::REVERSED);
        frame.render_widget(Paragraph::new(text).style(style), area);
    }

    fn draw_line(&self, frame: &mut Frame<'_>, area: Rect) {
        let columns = area.width.saturating_sub(PROMPT.len() as u16);
        let (text, column) = self.line.view(columns);
        frame.render_widget(Paragraph::new(format!("{PROMPT}{text}")), area);
        let x = area.x + (PROMPT.len() as u16 + column).min(area.width.saturating_sub(1));
        frame.set_cursor_position(Position::new(x, area.y));
    }
}

fn draw_members(frame: &mut Frame<'_>, area: Rect, status: &Status) {
    if area.width == 0 {
        return;
    }
    let block = Block::new()
        .borders(Borders::LEFT)
        .title(format!(" {} here ", status.members.len()));
    let room = usize::from(block.inner(area).height);
    let mut rows: Vec<Row<'_>> = status
        .members
        .iter()
        .map(|name| row_of(name, status))
        .collect();
    if rows.len() > room {
        rows.truncate(room.saturating_sub(1));
        rows.push(format!(" and {} more", status.members.len() - rows.len()).into());
    }
    frame.render_widget(Paragraph::new(rows).block(block), area);
}

fn row_of<'a>(name: &str, status: &Status) -> Row<'a> {
    let style = match *name == status.name {
        true => Style::new().add_modifier(Modifier::BOLD),
        false => Style::new(),
    };
    Row::from(Span::styled(format!(" {name}"), style))
}

/// A piece of talk in rows; its beginning has colours.
fn rows(talk: &Talk, width: usize) -> Vec<Row<'static>> {
    let whole = talk.to_string();
    let mut rows: Vec<Row<'static>> = wrap(&whole, width)
        .into_iter()
        .map(|row| Row::styled(row, body(talk.kind)))
        .collect();
    if let Some(first) = rows.first_mut() {
        *first = first_row(talk, first.to_string());
    }
    rows
}

/// The first row, with the time and the name in colours of their own if they stand in it whole.
fn first_row(talk: &Talk, row: String) -> Row<'static> {
    let time = talk.at.as_ref().map_or(0, |at| at.time.len() + 1);
    let head = talk.to_string().len() - talk.text.len();
    let cut = |row: &str, at: usize| row.is_char_boundary(at) && at <= row.len();
    let Some(who) = talk
        .who
        .as_ref()
        .filter(|_| cut(&row, time) && cut(&row, head))
    else {
        return Row::styled(row, body(talk.kind));
    };
    let dim = Style::new().add_modifier(Modifier::DIM);
    let (time, name, text) = (&row[..time], &row[time..head], &row[head..]);
    Row::from(vec![
        Span::styled(time.to_string(), dim),
        Span::styled(name.to_string(), Style::new().fg(colour(who))),
        Span::styled(text.to_string(), body(talk.kind)),
    ])
}

fn body(kind: Kind) -> Style {
    match kind {
        Kind::Said => Style::new(),
        Kind::Private => Style::new().add_modifier(Modifier::ITALIC),
        Kind::Note | Kind::Aside => Style::new().add_modifier(Modifier::DIM),
    }
}

/// Everybody has a colour.
fn colour(name: &str) -> Color {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    COLOURS[(hasher.finish() % COLOURS.len() as u64) as usize]
}
