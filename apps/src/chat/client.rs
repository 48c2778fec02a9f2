//! `mutirao chat client`: a guest behind its sockets, and a person in front of it.

use std::io::IsTerminal as _;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use mutirao::machine::{Clock, Machine as _, Time};
use mutirao::wait::{Sleeper, Waker, wait};
use mutirao::{Endpoint, OpenError, Pattern};

use super::calendar::{Calendar, Moment};
use super::command::{self, Command, HELP};
use super::guest::{Guest, GuestConfig, GuestInput, GuestOutput, News};
use super::plain::Plain;
use super::screen::Screen;
use super::talk::{self, Talk};
use super::text::check_name;
use super::ways::{self, Address, GuestWay};
use super::wire::{Letter, Session, Word};
use crate::count::counted;
use crate::exit::Exit;
use crate::flags::{self, KeyFlag, ServerFlag, TransportFlags};
use crate::signals::{Caught, Signal};

/// What was typed and has not been looked at yet; whoever types faster waits.
const TYPED: usize = 64;

/// How long goodbye may take for somebody who wants to leave now.
const GOODBYE: Duration = Duration::from_secs(2);

/// Take part in a chat.
///
/// In a terminal there are panes for messages and members, and a line to write in; /help lists the
/// commands. Otherwise every line of standard input is said, every event is a line of standard output,
/// and the end of the input, once everything is confirmed, is the end of the program.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mutirao chat client --name ana\n  \
    echo 'deployed' | mutirao chat client --name ci --room builds\n  \
    mutirao chat client --name bia --server tcp://10.0.0.2:5570 --curve-key keys/client.key --curve-server keys/server.pub")]
pub(crate) struct ClientArgs {
    /// What to be called
    #[arg(long, env = "MUTIRAO_NAME", value_name = "NAME")]
    name: String,

    /// The room to begin in; it is made if it is not there
    #[arg(
        long,
        env = "MUTIRAO_ROOM",
        default_value = "lobby",
        value_name = "ROOM"
    )]
    room: String,

    /// Where the server is
    #[arg(long, env = "MUTIRAO_SERVER", default_value = super::ENDPOINT, value_name = "ENDPOINT", value_parser = flags::endpoint)]
    server: Endpoint,

    #[command(flatten)]
    transport: TransportFlags,

    /// How messages travel, as the server has it: pub-sub, push-pull or req-rep
    #[arg(
        long,
        env = "MUTIRAO_PATTERN",
        default_value = "pub-sub",
        value_name = "PATTERN"
    )]
    pattern: Pattern,

    /// How many of the last messages to show on entering a room
    #[arg(long, env = "MUTIRAO_LAST", default_value_t = 20, value_name = "N")]
    last: u32,

    /// How long to wait for a server that does not answer; in a terminal, as long as you like
    #[arg(long, env = "MUTIRAO_TIMEOUT", default_value = "10s", value_name = "TIME", value_parser = flags::duration)]
    timeout: Duration,

    #[command(flatten)]
    key: KeyFlag,

    #[command(flatten)]
    curve_server: ServerFlag,
}

/// What comes from the person.
#[derive(Debug)]
pub(crate) enum Typed {
    /// A line, without its end.
    Line(Vec<u8>),
    /// A line that was too long to be read whole.
    LongLine,
    /// Nothing more will come.
    End,
    /// A key, a paste, another size.
    Terminal(ratatui::crossterm::event::Event),
}

/// Hands over what is typed from whichever thread.
#[derive(Clone)]
pub(crate) struct Keyboard {
    sender: SyncSender<Typed>,
    waker: Waker,
}

impl Keyboard {
    /// Waits for room; `false` when nobody listens any more.
    pub(crate) fn type_in(&self, typed: Typed) -> bool {
        let sent = self.sender.send(typed).is_ok();
        self.waker.wake();
        sent
    }
}

/// What is typed comes down to this.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// A line: a message or a command.
    Line(String),
    /// To leave when everything is said.
    LeaveWhenDone,
    /// To leave now.
    LeaveNow,
}

/// How the client shows itself.
pub(crate) trait Face {
    /// Makes sense of what was typed.
    fn typed(&mut self, typed: Typed) -> Option<Wish>;

    /// Whether it wants to hear what is typed while no more can be said.
    fn hears_when_full(&self) -> bool;

    /// Takes a line back that cannot be said for now.
    fn keep(&mut self, line: String);

    /// Shows something.
    fn show(&mut self, talk: Talk) -> Result<(), Exit>;

    /// Brings what is seen up to date; when to do so again, if that is sure.
    fn draw(&mut self, guest: &Guest, now: Time) -> Result<Option<Time>, Exit>;
}

pub(crate) fn run(args: ClientArgs) -> Result<(), Exit> {
    check_name("member", &args.name).map_err(Exit::Usage)?;
    check_name("room", &args.room).map_err(Exit::Usage)?;
    let security = flags::security(&args.key, Some(&args.curve_server), None)?;
    let session = Session(rand::random());
    let address = Address {
        pattern: args.pattern,
        endpoint: args.transport.apply(&args.server)?,
        security,
    };
    let way = ways::connect(&address, session)?;
    let caught = Caught::begin()?;
    let (sleeper, waker) = Sleeper::new().map_err(OpenError::System)?;
    let (sender, typed) = sync_channel(TYPED);
    let keyboard = Keyboard {
        sender,
        waker: waker.clone(),
    };
    // Apart from what is typed, which may have to wait.
    let (tell, signals) = channel();
    caught.then(move |signal| {
        let _ = tell.send(signal);
        waker.wake();
    });
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let clock = Clock::start();
    let config = GuestConfig {
        session,
        pattern: args.pattern,
        name: args.name,
        room: args.room,
        last: args.last,
        patient: true,
    };
    let mut client = Client {
        guest: Guest::new(config, clock.now()),
        way,
        clock,
        typed,
        signals,
        server: address.endpoint.to_string(),
        address,
        session,
        timeout: (!terminal).then_some(args.timeout),
        inside: clock.now(),
        calendar: Calendar::at(&today()),
        not_taken: 0,
        leave: Leave::No,
        signal: None,
    };
    match terminal {
        true => client.talk(Screen::open(keyboard)?, &sleeper),
        false => client.talk(Plain::open(keyboard), &sleeper),
    }
}

fn today() -> Moment {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_ms = now.unwrap_or_default().as_millis();
    Moment::local(u64::try_from(now_ms).unwrap_or(u64::MAX))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    No,
    /// When everything is said and heard.
    WhenDone,
    /// Goodbye is said; then the program ends, then at the latest.
    By(Option<Time>),
}

struct Client {
    guest: Guest,
    way: Box<dyn GuestWay>,
    clock: Clock,
    typed: Receiver<Typed>,
    signals: Receiver<Signal>,
    address: Address,
    session: Session,
    server: String,
    /// How long to wait for a server where there is no terminal, and so nobody to tire of it.
    timeout: Option<Duration>,
    /// When it was last inside, or started.
    inside: Time,
    calendar: Calendar,
    /// Messages that the server did not take.
    not_taken: u64,
    leave: Leave,
    signal: Option<Signal>,
}

impl Client {
    /// Talks until the person leaves or the server refuses.
    fn talk(&mut self, mut face: impl Face, sleeper: &Sleeper) -> Result<(), Exit> {
        loop {
            let now = self.clock.now();
            let guest = &mut self.guest;
            let more = self
                .way
                .receive(&mut |packet| guest.handle(now, GuestInput::Packet(packet)))
                .map_err(failed)?;
            self.guest.wake(now);
            self.listen_to_person(now, &mut face)?;
            self.obey(&mut face)?;
            self.way.settle(now).map_err(failed)?;
            if let Some(reason) = self.way.refusal() {
                return Err(Exit::Environment(reason));
            }
            let redraw = face.draw(&self.guest, now)?;
            if self.guest.is_over() || self.is_late(now) {
                return self.end();
            }
            if self.guest.is_inside() {
                self.inside = now;
            } else if self.tires_at().is_some_and(|tires| tires <= now) {
                return self.give_up();
            }
            if !more {
                self.wait(sleeper, redraw);
            }
        }
    }

    fn wait(&self, sleeper: &Sleeper, redraw: Option<Time>) {
        let mut sources = Vec::new();
        self.way.interests(&mut sources);
        let late = match self.leave {
            Leave::By(by) => by,
            _ => None,
        };
        let tires = self.tires_at().filter(|_| !self.guest.is_inside());
        let (guest, way) = (self.guest.deadline(), self.way.deadline());
        let due = [guest, way, redraw, late, tires];
        wait(
            &sources,
            sleeper,
            &self.clock,
            due.into_iter().flatten().min(),
        );
    }

    fn listen_to_person(&mut self, now: Time, face: &mut impl Face) -> Result<(), Exit> {
        if let Ok(signal) = self.signals.try_recv() {
            self.signal = Some(signal);
            self.leave_now(now);
        }
        while (self.guest.has_room() || face.hears_when_full())
            && let Ok(typed) = self.typed.try_recv()
        {
            match face.typed(typed) {
                Some(Wish::Line(line)) => self.take_line(now, line, face)?,
                Some(Wish::LeaveWhenDone) if self.leave == Leave::No => {
                    self.leave = Leave::WhenDone;
                }
                Some(Wish::LeaveNow) => self.leave_now(now),
                Some(Wish::LeaveWhenDone) | None => {}
            }
        }
        if self.leave == Leave::WhenDone && self.guest.has_said_and_heard_all() {
            self.say_goodbye(now, None);
        }
        Ok(())
    }

    fn leave_now(&mut self, now: Time) {
        if !matches!(self.leave, Leave::By(Some(_))) {
            self.say_goodbye(now, Some(now + GOODBYE));
        }
    }

    fn say_goodbye(&mut self, now: Time, by: Option<Time>) {
        self.leave = Leave::By(by);
        self.guest.handle(now, GuestInput::Word(Word::Leave));
    }

    /// Whether goodbye takes too long: nobody waits for a server that is not there.
    fn is_late(&self, now: Time) -> bool {
        match self.leave {
            Leave::By(Some(by)) => by <= now || !self.guest.is_inside(),
            _ => false,
        }
    }

    /// When nobody is waited for any longer.
    fn tires_at(&self) -> Option<Time> {
        self.timeout.map(|timeout| self.inside + timeout)
    }

    fn give_up(&self) -> Result<(), Exit> {
        let goodbye = u64::from(matches!(self.leave, Leave::By(_)));
        let unsaid = (self.guest.unsaid() as u64).saturating_sub(goodbye);
        if goodbye > 0 && unsaid == 0 {
            // Everything but the goodbye has been heard.
            return self.end();
        }
        Err(Exit::Environment(format!(
            "no chat server has answered at {} for {:?} ({} not sent): start one with `mutirao chat server`, or wait longer with --timeout",
            self.server,
            self.timeout.unwrap_or_default(),
            counted(unsaid, "message"),
        )))
    }

    fn take_line(&mut self, now: Time, line: String, face: &mut impl Face) -> Result<(), Exit> {
        match command::read(&line, self.guest.last()) {
            Ok(Command::Nothing) => {}
            Ok(Command::Word(Word::Leave)) => self.say_goodbye(now, Some(now + GOODBYE)),
            Ok(Command::Word(_)) if !self.guest.has_room() => face.keep(line),
            Ok(Command::Word(word)) => self.guest.handle(now, GuestInput::Word(word)),
            Ok(Command::Help) => {
                for line in HELP {
                    face.show(Talk::aside(*line))?;
                }
            }
            Ok(Command::Who) => match self.guest.members() {
                Some(members) => face.show(talk::of_members(self.guest.room(), members.iter()))?,
                None => face.show(Talk::aside("not connected yet"))?,
            },
            Err(sentence) => face.show(Talk::aside(sentence))?,
        }
        Ok(())
    }

    /// Does what the guest wants.
    fn obey(&mut self, face: &mut impl Face) -> Result<(), Exit> {
        while let Some(output) = self.guest.poll() {
            match output {
                GuestOutput::Send(up) => self.way.send(&up).map_err(failed)?,
                GuestOutput::Listen(room) => self.way.listen(&room).map_err(failed)?,
                GuestOutput::Reconnect => {
                    self.way = ways::connect(&self.address, self.session)?;
                }
                GuestOutput::Tell(News::Refused(reason)) => {
                    return Err(Exit::Environment(crate::shown::shown(&reason)));
                }
                GuestOutput::Tell(news) => {
                    let refused = matches!(news, News::Letter(Letter::NotTaken(_)));
                    self.not_taken += u64::from(refused);
                    for talk in talk::of_news(&news, &self.server) {
                        self.show(talk, face)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Shows something, after its date if that is another one.
    fn show(&mut self, talk: Talk, face: &mut impl Face) -> Result<(), Exit> {
        let date = talk.at.as_ref().and_then(|at| self.calendar.turn(at));
        if let Some(date) = date {
            face.show(Talk::aside(date))?;
        }
        face.show(talk)
    }

    fn end(&self) -> Result<(), Exit> {
        let unsaid = self.guest.unsaid().saturating_sub(1) as u64;
        match self.signal {
            _ if !self.guest.is_over() && unsaid > 0 => Err(Exit::Interrupted(format!(
                "left with {} that the server has not confirmed",
                counted(unsaid, "message")
            ))),
            Some(Signal::Interrupt) => Err(Exit::Interrupted("left".into())),
            // In a terminal somebody has read why.
            _ if self.not_taken > 0 && self.timeout.is_some() => Err(Exit::SomeFailed(format!(
                "the server has not taken {}",
                counted(self.not_taken, "message")
            ))),
            _ => Ok(()),
        }
    }
}

fn failed(error: mutirao::transport::TransportError) -> Exit {
    Exit::from(OpenError::Transport(error))
}

#[cfg(test)]
mod tests;
