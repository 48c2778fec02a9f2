//! What happens in a chat, in words. Everything that others wrote is made harmless here.

use std::fmt;

use super::calendar::Moment;
use super::guest::News;
use super::wire::{Event, Leaving, Letter, Line};
use crate::shown::shown;

/// What a piece of talk is, for those who use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A message to everybody.
    Said,
    /// A private message.
    Private,
    /// Comings and goings.
    Note,
    /// Something between the client and its person.
    Aside,
}

/// A piece of talk, safe to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Talk {
    pub(crate) kind: Kind,
    /// The local time, where the server gave one.
    pub(crate) at: Option<Moment>,
    /// Who speaks, if anybody does.
    pub(crate) who: Option<String>,
    pub(crate) text: String,
}

impl Talk {
    /// A word from the client itself.
    pub(crate) fn aside(text: impl Into<String>) -> Talk {
        Talk {
            kind: Kind::Aside,
            at: None,
            who: None,
            text: text.into(),
        }
    }

    fn note(at: u64, text: String) -> Talk {
        Talk {
            kind: Kind::Note,
            at: Some(Moment::local(at)),
            who: None,
            text,
        }
    }

    fn said(kind: Kind, at: u64, who: String, text: &str) -> Talk {
        Talk {
            kind,
            at: Some(Moment::local(at)),
            who: Some(who),
            text: shown(text),
        }
    }
}

impl fmt::Display for Talk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = &self.at {
            write!(f, "{} ", at.time)?;
        }
        match (&self.who, self.kind) {
            (Some(who), Kind::Private) => write!(f, "[private] {who}: ")?,
            (Some(who), _) => write!(f, "{who}: ")?,
            (None, Kind::Aside) => f.write_str("-- ")?,
            (None, _) => f.write_str("* ")?,
        }
        f.write_str(&self.text)
    }
}

/// What news are worth saying; `server` is where the chat is.
pub(crate) fn of_news(news: &News, server: &str) -> Vec<Talk> {
    let aside = |text: String| vec![Talk::aside(text)];
    match news {
        News::Inside { name, again: false } => aside(format!("connected as {}", shown(name))),
        News::Inside { again: true, .. } => aside("connected again".into()),
        News::Nobody => aside(format!(
            "no chat server answers at {server}: start one with `mutirao chat server`; trying on"
        )),
        News::Lost => aside(format!("the server at {server} is silent; trying on")),
        News::Refused(_) => Vec::new(),
        News::Left => aside("left".into()),
        News::Entered(room) => aside(format!("you are in {}", shown(room))),
        News::Heard(line) => vec![of_line(line)],
        News::Missed(count) => aside(format!(
            "{count} messages or notices were missed and are not in the history any more"
        )),
        News::Behind(count) => aside(format!("{count} messages behind, catching up")),
        News::Forgotten => {
            aside("the server was started anew and has forgotten what was said".into())
        }
        News::Letter(letter) => of_letter(letter),
    }
}

fn of_line(line: &Line) -> Talk {
    let note = |text| Talk::note(line.at, text);
    match &line.event {
        Event::Said { who, text } => Talk::said(Kind::Said, line.at, shown(who), text),
        Event::Joined { who, back: false } => note(format!("{} has joined", shown(who))),
        Event::Joined { who, back: true } => note(format!("{} is back", shown(who))),
        Event::Left { who, how } => {
            let how = match how {
                Leaving::Quit => "has left",
                Leaving::Moved => "has gone to another room",
                Leaving::Vanished => "is gone: connection lost",
            };
            note(format!("{} {how}", shown(who)))
        }
        Event::Renamed { from, to } => note(format!("{} is called {} now", shown(from), shown(to))),
    }
}

fn of_letter(letter: &Letter) -> Vec<Talk> {
    match letter {
        Letter::Private { from, at, text } => {
            vec![Talk::said(Kind::Private, *at, shown(from), text)]
        }
        Letter::Told { to, at, text } => {
            vec![Talk::said(
                Kind::Private,
                *at,
                format!("to {}", shown(to)),
                text,
            )]
        }
        Letter::Rooms { rooms, .. } => rooms
            .iter()
            .map(|(room, members)| {
                let members = crate::count::counted(*members, "member");
                Talk::aside(format!("{}: {members}", shown(room)))
            })
            .collect(),
        Letter::Renamed(name) => vec![Talk::aside(format!("you are called {} now", shown(name)))],
        Letter::Notice(sentence) | Letter::NotTaken(sentence) => vec![Talk::aside(shown(sentence))],
        // The guest keeps these to itself.
        Letter::Entered { .. } | Letter::Members { .. } => Vec::new(),
    }
}

/// Who is in a room.
pub(crate) fn of_members<'a>(
    room: &str,
    members: impl ExactSizeIterator<Item = &'a String>,
) -> Talk {
    let count = crate::count::counted(members.len() as u64, "member");
    let names: Vec<String> = members.map(|name| shown(name)).collect();
    Talk::aside(format!("{} has {count}: {}", shown(room), names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_others_is_shown_as_it_came() {
        let evil = "\u{1b}[2J\u{202e}".to_string();
        let line = |event| News::Heard(Line { at: 0, event });
        let (who, text) = (evil.clone(), evil.clone());
        let news = [
            line(Event::Said { who, text }),
            line(Event::Joined {
                who: evil.clone(),
                back: true,
            }),
            line(Event::Left {
                who: evil.clone(),
                how: Leaving::Quit,
            }),
            line(Event::Renamed {
                from: evil.clone(),
                to: evil.clone(),
            }),
            News::Entered(evil.clone()),
            News::Inside {
                name: evil.clone(),
                again: false,
            },
            News::Letter(Letter::Private {
                from: evil.clone(),
                at: 0,
                text: evil.clone(),
            }),
            News::Letter(Letter::Told {
                to: evil.clone(),
                at: 0,
                text: evil.clone(),
            }),
            News::Letter(Letter::Rooms {
                rooms: vec![(evil.clone(), 1)],
                done: true,
            }),
            News::Letter(Letter::Renamed(evil.clone())),
            News::Letter(Letter::Notice(evil.clone())),
        ];
        for news in &news {
            let talk = of_news(news, "here");
            assert!(!talk.is_empty());
            for talk in talk {
                let text = talk.to_string();
                let harmless = !text.contains(['\u{1b}', '\u{202e}']);
                assert!(harmless && text.contains("\\u{1b}"), "{text:?}");
            }
        }
        let members = [evil];
        let text = of_members("r", members.iter()).to_string();
        assert!(!text.contains('\u{1b}'));
    }
}
