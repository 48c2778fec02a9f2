//! Screens as they come out, in a terminal that is none.

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;

fn status(members: &[&str]) -> Status {
    Status {
        name: "ana".into(),
        room: "sala".into(),
        connected: true,
        unsaid: 0,
        full: false,
        members: members.iter().map(|name| name.to_string()).collect(),
    }
}

struct Show {
    terminal: Terminal<TestBackend>,
    view: View,
    status: Status,
}

impl Show {
    fn new(width: u16, height: u16) -> Show {
        let terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        Show {
            terminal,
            view: View::default(),
            status: status(&["ana", "李四"]),
        }
    }

    fn say(&mut self, text: &str) {
        let mut talk = Talk::aside(text);
        (talk.kind, talk.who) = (crate::chat::talk::Kind::Said, Some("bia".into()));
        self.view.push(talk);
    }

    fn key(&mut self, code: KeyCode, modifiers: KeyModifiers) -> Option<Wish> {
        on_event(&mut self.view, Event::Key(KeyEvent::new(code, modifiers)))
    }

    fn keys(&mut self, text: &str) {
        for c in text.chars() {
            assert_eq!(self.key(KeyCode::Char(c), KeyModifiers::NONE), None);
        }
    }

    /// The rows of the screen, without the spaces at their ends.
    fn rows(&mut self) -> Vec<String> {
        let (view, status) = (&mut self.view, &self.status);
        self.terminal
            .draw(|frame| view.draw(frame, status))
            .unwrap();
        let buffer = self.terminal.backend().buffer().clone();
        let rows = buffer
            .content()
            .chunks(usize::from(buffer.area.width).max(1));
        // A wide character takes two cells, of which the second is a space that is not printed.
        rows.map(|cells| {
            let (mut row, mut skip) = (String::new(), 0);
            for cell in cells {
                if skip == 0 {
                    row.push_str(cell.symbol());
                    skip = unicode_width::UnicodeWidthStr::width(cell.symbol());
                }
                skip = skip.saturating_sub(1);
            }
            row.trim_end().to_string()
        })
        .collect()
    }

    fn cursor(&mut self) -> (u16, u16) {
        let position = self.terminal.get_cursor_position().unwrap();
        (position.x, position.y)
    }
}

#[test]
fn messages_members_status_and_line_have_their_places() {
    let mut show = Show::new(60, 6);
    show.say("olá 中文 👩‍🚀 é");
    show.keys("tudo bem");
    let rows = show.rows();
    // 38 columns, of which the message takes 18.
    assert_eq!(
        rows[0],
        format!("bia: olá 中文 👩‍🚀 é{}│ 2 here", " ".repeat(20))
    );
    assert!(rows[1].ends_with("│ ana"), "{rows:?}");
    assert!(rows[2].ends_with("│ 李四"), "{rows:?}");
    assert_eq!(rows[4], " ana in sala · connected");
    assert_eq!(rows[5], "> tudo bem");
    assert_eq!(show.cursor(), (10, 5));
}

#[test]
fn the_cursor_stands_behind_wide_and_combining_characters() {
    let mut show = Show::new(40, 4);
    show.keys("中文e\u{301}");
    assert_eq!(show.rows()[3], "> 中文e\u{301}");
    assert_eq!(show.cursor(), (7, 3));
    show.key(KeyCode::Left, KeyModifiers::NONE);
    show.rows();
    assert_eq!(show.cursor(), (6, 3));
    show.key(KeyCode::Left, KeyModifiers::NONE);
    show.rows();
    assert_eq!(show.cursor(), (4, 3));
}

#[test]
fn keys_edit_the_line_and_enter_sends_it() {
    let mut show = Show::new(40, 4);
    show.keys("um dois tres");
    show.key(KeyCode::Char('w'), KeyModifiers::CONTROL);
    show.key(KeyCode::Home, KeyModifiers::NONE);
    show.key(KeyCode::Delete, KeyModifiers::NONE);
    show.key(KeyCode::Right, KeyModifiers::NONE);
    show.key(KeyCode::Backspace, KeyModifiers::NONE);
    show.keys("á");
    let sent = show.key(KeyCode::Enter, KeyModifiers::NONE);
    assert_eq!(sent, Some(Wish::Line("á dois ".into())));
    show.key(KeyCode::Up, KeyModifiers::NONE);
    assert_eq!(show.rows()[3], "> á dois");
    let end = |show: &mut Show, c| show.key(KeyCode::Char(c), KeyModifiers::CONTROL);
    assert_eq!(end(&mut show, 'd'), None);
    end(&mut show, 'u');
    assert_eq!(end(&mut show, 'd'), Some(Wish::LeaveNow));
    assert_eq!(end(&mut show, 'c'), Some(Wish::LeaveNow));
}

#[test]
fn a_paste_that_is_too_long_is_taken_as_far_as_it_fits_and_that_is_told() {
    let mut show = Show::new(80, 4);
    on_event(&mut show.view, Event::Paste("x".repeat(5_000)));
    let rows = show.rows();
    assert_eq!(
        rows[2],
        " the line is full: 800 bytes found no room and are not in it"
    );
    assert_eq!(rows[3], format!("> {}", "x".repeat(77)));
    show.key(KeyCode::Char('y'), KeyModifiers::NONE);
    assert!(show.rows()[2].contains("1 byte found no room"));
    show.key(KeyCode::Home, KeyModifiers::NONE);
    assert!(!show.rows()[2].contains("full"));
}

#[test]
fn when_no_more_can_be_said_the_status_says_so() {
    let mut show = Show::new(80, 4);
    (show.status.unsaid, show.status.full) = (256, true);
    assert!(show.rows()[2].contains("256 wait, the line is kept"));
}

#[test]
fn who_scrolls_back_stays_there_until_the_end_is_wanted() {
    let mut show = Show::new(40, 5);
    (1..=10).for_each(|number| show.say(&format!("message {number}")));
    assert_eq!(show.rows()[2], "bia: message 10");
    show.key(KeyCode::PageUp, KeyModifiers::NONE);
    assert_eq!(
        show.rows()[..3],
        ["bia: message 6", "bia: message 7", "bia: message 8"]
    );
    show.say("message 11");
    assert_eq!(show.rows()[2], "bia: message 8");
    assert!(show.rows()[3].contains("scrolled"));
    for _ in 0..20 {
        show.key(KeyCode::PageUp, KeyModifiers::NONE);
    }
    assert_eq!(show.rows()[0], "bia: message 1");
    for _ in 0..20 {
        show.key(KeyCode::PageDown, KeyModifiers::NONE);
    }
    assert_eq!(show.rows()[2], "bia: message 11");
}

#[test]
fn another_size_is_filled_anew() {
    let mut show = Show::new(30, 5);
    show.say("as armas e os barões assinalados que da ocidental praia lusitana");
    assert_eq!(show.rows()[0], "bia: as armas e os barões");
    for (width, height) in [(20, 8), (100, 3), (1, 1), (3, 2), (0, 0), (200, 50)] {
        show.terminal.backend_mut().resize(width, height);
        show.terminal.autoresize().unwrap();
        show.rows();
    }
    let text = show.rows().concat();
    assert!(text.contains("ocidental praia lusitana"));
}

#[test]
fn many_members_are_counted_rather_than_cut_off() {
    let mut show = Show::new(80, 6);
    show.status.members = (0..1_000).map(|number| format!("m{number}")).collect();
    let rows = show.rows();
    assert!(rows[0].ends_with("1000 here"), "{rows:?}");
    assert!(rows[3].ends_with("and 998 more"), "{rows:?}");
}
