//! The chat in a terminal: messages, members, a status line, and a line to write in.

mod line;
mod view;
mod wrap;

use std::io::stdout;
use std::time::Duration;

use mutirao::machine::Time;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{
    self, DisableBracketedPaste, EnableBracketedPaste, Event, KeyCode, KeyEvent, KeyEventKind,
    KeyModifiers,
};
use ratatui::crossterm::execute;

use super::client::{Face, Keyboard, Typed, Wish};
use super::guest::Guest;
use super::talk::Talk;
use crate::count::counted;
use crate::exit::Exit;
use view::{Status, View};

/// The screen is drawn no more often than this.
const FRAME: Duration = Duration::from_millis(33);

/// The terminal while the chat has it; dropped, it is as it was before. A panic restores it as well.
pub(crate) struct Screen {
    terminal: DefaultTerminal,
    view: View,
    /// When it was last drawn, and whether something has changed since.
    drawn: Option<Time>,
    dirty: bool,
    status: Option<Status>,
}

impl Screen {
    /// Takes the terminal over, and reads keys in a thread of its own.
    ///
    /// # Errors
    ///
    /// The terminal cannot be used.
    pub(crate) fn open(keyboard: Keyboard) -> Result<Screen, Exit> {
        let terminal = ratatui::try_init().map_err(no_terminal)?;
        // Words of the log would be written across the panes; what matters is told in them.
        log::set_max_level(log::LevelFilter::Off);
        let screen = Screen {
            terminal,
            view: View::default(),
            drawn: None,
            dirty: true,
            status: None,
        };
        execute!(stdout(), EnableBracketedPaste).map_err(no_terminal)?;
        also_when_it_panics();
        std::thread::spawn(move || read_keys(&keyboard));
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = execute!(stdout(), DisableBracketedPaste);
        ratatui::restore();
    }
}

/// ratatui restores the rest when there is a panic.
fn also_when_it_panics() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let _ = execute!(stdout(), DisableBracketedPaste);
        hook(info);
    }));
}

fn no_terminal(error: std::io::Error) -> Exit {
    Exit::Environment(format!("the terminal cannot be used: {error}"))
}

fn read_keys(keyboard: &Keyboard) {
    while let Ok(event) = event::read() {
        if !keyboard.type_in(Typed::Terminal(event)) {
            return;
        }
    }
    keyboard.type_in(Typed::End);
}

impl Face for Screen {
    fn typed(&mut self, typed: Typed) -> Option<Wish> {
        self.dirty = true;
        match typed {
            Typed::Terminal(event) => on_event(&mut self.view, event),
            Typed::End => Some(Wish::LeaveNow),
            Typed::Line(_) | Typed::LongLine => None,
        }
    }

    fn hears_when_full(&self) -> bool {
        true
    }

    fn keep(&mut self, line: String) {
        self.view.line.put_back(line);
    }

    fn show(&mut self, talk: Talk) -> Result<(), Exit> {
        self.view.push(talk);
        self.dirty = true;
        Ok(())
    }

    fn draw(&mut self, guest: &Guest, now: Time) -> Result<Option<Time>, Exit> {
        let status = Status::of(guest);
        if self.status.as_ref() != Some(&status) {
            (self.status, self.dirty) = (Some(status), true);
        }
        if !self.dirty {
            return Ok(None);
        }
        if let Some(next) = self.drawn.map(|drawn| drawn + FRAME)
            && now < next
        {
            return Ok(Some(next));
        }
        (self.drawn, self.dirty) = (Some(now), false);
        let (view, status) = (&mut self.view, &self.status);
        let drawn = self.terminal.draw(|frame| {
            if let Some(status) = status {
                view.draw(frame, status);
            }
        });
        drawn.map_err(no_terminal)?;
        Ok(None)
    }
}

/// What a key, a paste or another size of the terminal does.
fn on_event(view: &mut View, event: Event) -> Option<Wish> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => on_key(view, key),
        Event::Paste(text) => {
            write(view, &text);
            None
        }
        _ => None,
    }
}

/// Puts text into the line, and tells what finds no room there.
fn write(view: &mut View, text: &str) {
    let cut = view.line.insert(text);
    view.note = (cut > 0).then(|| {
        let cut = counted(cut as u64, "byte");
        format!("the line is full: {cut} found no room and are not in it")
    });
}

fn on_key(view: &mut View, key: KeyEvent) -> Option<Wish> {
    view.note = None;
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    let alt = key.modifiers.contains(KeyModifiers::ALT);
    let line = &mut view.line;
    match key.code {
        KeyCode::Char('c') if control => return Some(Wish::LeaveNow),
        KeyCode::Char('d') if control && line.is_empty() => return Some(Wish::LeaveNow),
        KeyCode::Enter => {
            view.scroll_to_end();
            return Some(Wish::Line(view.line.take()));
        }
        KeyCode::Char('d') if control => line.delete_right(),
        KeyCode::Char('a') if control => line.home(),
        KeyCode::Char('e') if control => line.end(),
        KeyCode::Char('w' | 'h') if control => line.delete_word(),
        KeyCode::Char('u') if control => line.delete_to_start(),
        KeyCode::Char('k') if control => line.delete_to_end(),
        KeyCode::Char('b') if alt => line.word_left(),
        KeyCode::Char('f') if alt => line.word_right(),
        KeyCode::Char(_) if control || alt => {}
        KeyCode::Char(c) => write(view, c.encode_utf8(&mut [0; 4])),
        KeyCode::Left if control || alt => line.word_left(),
        KeyCode::Right if control || alt => line.word_right(),
        KeyCode::Left => line.left(),
        KeyCode::Right => line.right(),
        KeyCode::Home => line.home(),
        KeyCode::End if control => view.scroll_to_end(),
        KeyCode::End => line.end(),
        KeyCode::Backspace if control || alt => line.delete_word(),
        KeyCode::Backspace => line.backspace(),
        KeyCode::Delete => line.delete_right(),
        KeyCode::Up => line.older(),
        KeyCode::Down => line.newer(),
        KeyCode::PageUp => view.page_up(),
        KeyCode::PageDown => view.page_down(),
        _ => {}
    }
    None
}

#[cfg(test)]
mod tests;
