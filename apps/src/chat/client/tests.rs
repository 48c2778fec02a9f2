//! A client without a server, whose person types more than can wait.

use std::sync::mpsc::Sender;

use mutirao::security::Security;
use mutirao::transport::{Source, TransportError};
use mutirao::wait::Interest;

use super::*;
use crate::chat::guest::MAX_WORDS;
use crate::chat::wire::{Down, Up};

/// Sockets of which nothing ever comes.
struct Nowhere;

impl GuestWay for Nowhere {
    fn receive(&mut self, _take: &mut dyn FnMut(Down)) -> Result<bool, TransportError> {
        Ok(false)
    }

    fn send(&mut self, _up: &Up) -> Result<(), TransportError> {
        Ok(())
    }

    fn listen(&mut self, _room: &str) -> Result<(), TransportError> {
        Ok(())
    }

    fn settle(&mut self, _now: Time) -> Result<(), TransportError> {
        Ok(())
    }

    fn deadline(&self) -> Option<Time> {
        None
    }

    fn interests<'a>(&'a self, _sources: &mut Vec<(Source<'a>, Interest)>) {}

    fn refusal(&mut self) -> Option<String> {
        None
    }
}

/// A face that shows nothing.
struct Blank {
    terminal: bool,
    kept: Vec<String>,
    shown: Vec<String>,
}

impl Blank {
    fn new(terminal: bool) -> Blank {
        Blank {
            terminal,
            kept: Vec::new(),
            shown: Vec::new(),
        }
    }
}

impl Face for Blank {
    fn typed(&mut self, typed: Typed) -> Option<Wish> {
        match typed {
            Typed::Line(line) => Some(Wish::Line(String::from_utf8(line).unwrap())),
            _ => None,
        }
    }

    fn hears_when_full(&self) -> bool {
        self.terminal
    }

    fn keep(&mut self, line: String) {
        self.kept.push(line);
    }

    fn show(&mut self, talk: Talk) -> Result<(), Exit> {
        self.shown.push(talk.to_string());
        Ok(())
    }

    fn draw(&mut self, _guest: &Guest, _now: Time) -> Result<Option<Time>, Exit> {
        Ok(None)
    }
}

/// A client with the ends of its channels.
fn client() -> (Client, SyncSender<Typed>, Sender<Signal>) {
    let (sender, typed) = sync_channel(2 * MAX_WORDS);
    let (tell, signals) = channel();
    let clock = Clock::start();
    let (session, pattern) = (Session(1), Pattern::PubSub);
    let config = GuestConfig {
        session,
        pattern,
        name: "ana".into(),
        room: "lobby".into(),
        last: 20,
        patient: true,
    };
    let address = Address {
        pattern,
        endpoint: crate::chat::ENDPOINT.parse().unwrap(),
        security: Security::None,
    };
    let client = Client {
        guest: Guest::new(config, clock.now()),
        way: Box::new(Nowhere),
        clock,
        typed,
        signals,
        server: address.endpoint.to_string(),
        address,
        session,
        timeout: None,
        inside: Time::START,
        calendar: Calendar::at(&today()),
        not_taken: 0,
        leave: Leave::No,
        signal: None,
    };
    (client, sender, tell)
}

#[test]
fn in_a_terminal_everything_is_heard_and_what_finds_no_room_is_kept() {
    let (mut client, sender, _signals) = client();
    let mut face = Blank::new(true);
    for number in 0..MAX_WORDS + 2 {
        sender
            .send(Typed::Line(format!("{number}").into()))
            .unwrap();
    }
    sender.send(Typed::Line("/help".into())).unwrap();
    sender.send(Typed::Line("/quit".into())).unwrap();
    client.listen_to_person(Time::START, &mut face).unwrap();
    assert_eq!(face.kept, ["256", "257"]);
    assert!(
        face.shown
            .iter()
            .any(|line| line.contains("/msg NAME TEXT"))
    );
    assert!(matches!(client.leave, Leave::By(Some(_))));
}

#[test]
fn a_pipe_waits_and_a_signal_does_not() {
    let (mut client, sender, signals) = client();
    let mut face = Blank::new(false);
    for number in 0..MAX_WORDS + 2 {
        sender
            .send(Typed::Line(format!("{number}").into()))
            .unwrap();
    }
    client.listen_to_person(Time::START, &mut face).unwrap();
    assert_eq!((client.guest.unsaid(), face.kept.len()), (MAX_WORDS, 0));
    assert_eq!(client.leave, Leave::No);
    signals.send(Signal::Terminate).unwrap();
    client.listen_to_person(Time::START, &mut face).unwrap();
    assert_eq!(client.signal, Some(Signal::Terminate));
    assert!(matches!(client.leave, Leave::By(Some(_))));
}

#[test]
fn a_line_of_another_day_comes_after_its_date() {
    let (mut client, _sender, _signals) = client();
    let mut face = Blank::new(false);
    let hour_ms = 3_600_000;
    for hour in [12, 13, 36] {
        let event = crate::chat::wire::Event::Said {
            who: "bia".into(),
            text: format!("hour {hour}"),
        };
        let line = crate::chat::wire::Line {
            at: hour * hour_ms,
            event,
        };
        for talk in talk::of_news(&News::Heard(line), "here") {
            client.show(talk, &mut face).unwrap();
        }
    }
    let dates = face
        .shown
        .iter()
        .map(|line| line.contains("-- ") && line.contains("1970-"));
    assert_eq!(dates.collect::<Vec<_>>(), [true, false, false, true, false]);
}
