//! Questions and answers, DEALER to ROUTER: the answering end, and what is asked to learn how long
//! connecting and recovering take.

use std::time::Duration;

use mutirao::Endpoint;
use mutirao::machine::{Clock, Time};
use mutirao::transport::{Frame, Message, Role, SendError, Side, Socket, open};
use mutirao::wait::Interest;

use super::flow::LEAST_BYTES;
use super::way::Way;
use crate::compare::control::{Control, Order};
use crate::compare::usage::monotonic_ns;

/// How long a peer that was killed may stay away.
const ABSENCE: Duration = Duration::from_secs(20);

/// Pause between two questions while nobody is known to answer.
const KNOCK: Duration = Duration::from_millis(5);

/// How soon to look for orders although nothing arrives.
const GLANCE: Duration = Duration::from_millis(20);

/// Answers until told to end.
pub(super) fn answer(
    at: &Endpoint,
    mark: Option<u64>,
    way: &Way,
    control: &Control,
    ready: impl FnOnce(&Endpoint),
) -> Result<(), String> {
    let socket = open(Role::Router, Side::Bind, at, &way.options());
    let mut socket = socket.map_err(|error| error.to_string())?;
    ready(socket.endpoint());
    let clock = Clock::start();
    let mut message = Message::new();
    while control.order() != Some(Order::End) {
        while take(&mut *socket, &mut message)? {
            if let Some(mark) = mark {
                write_mark(&mut message, mark);
            }
            give_back(&mut *socket, &message)?;
        }
        let until = clock.now() + GLANCE;
        control.wait(socket.source(), Interest::Readable, &clock, until);
    }
    Ok(())
}

fn take(socket: &mut dyn Socket, message: &mut Message) -> Result<bool, String> {
    socket
        .receive_into(message)
        .map_err(|error| error.to_string())
}

fn write_mark(message: &mut Message, mark: u64) {
    if let Some(frame) = message
        .last_mut()
        .filter(|frame| frame.len() >= LEAST_BYTES)
    {
        let mut bytes = frame.to_vec();
        bytes[8..16].copy_from_slice(&mark.to_le_bytes());
        *frame = Frame::from(bytes);
    }
}

/// An answer for which there is no room is not given; who asked will see.
fn give_back(socket: &mut dyn Socket, message: &[Frame]) -> Result<(), String> {
    let given = socket.send(message);
    socket.flush();
    match given {
        Ok(()) | Err(SendError::Full | SendError::Unroutable) => Ok(()),
        Err(SendError::Failed(error)) => Err(error.to_string()),
    }
}

/// The asking end.
pub(super) struct Asker<'a> {
    socket: Box<dyn Socket>,
    control: &'a Control,
    /// How long to wait for somebody who answers.
    connect: Duration,
    pub(super) clock: Clock,
    payload: Vec<u8>,
    next: u64,
    answer: Message,
}

/// An answer: the number of the question, and the mark of whoever answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) number: u64,
    pub(super) mark: u64,
}

impl<'a> Asker<'a> {
    pub(super) fn open(
        at: &Endpoint,
        size_bytes: usize,
        way: Way,
        control: &'a Control,
    ) -> Result<Asker<'a>, String> {
        let socket = open(Role::Dealer, Side::Connect, at, &way.options());
        Ok(Asker {
            socket: socket.map_err(|error| error.to_string())?,
            control,
            connect: way.connect(),
            clock: Clock::start(),
            payload: vec![0; size_bytes.max(LEAST_BYTES)],
            next: 0,
            answer: Message::new(),
        })
    }

    /// Asks; the number of the question, or `None` without room for it.
    pub(super) fn ask(&mut self) -> Result<Option<u64>, String> {
        let number = self.next;
        self.payload[..8].copy_from_slice(&number.to_le_bytes());
        let sent = self.socket.send(&[Frame::from(&self.payload[..])]);
        self.socket.flush();
        match sent {
            Ok(()) => {
                self.next += 1;
                Ok(Some(number))
            }
            Err(SendError::Full | SendError::Unroutable) => Ok(None),
            Err(SendError::Failed(error)) => Err(error.to_string()),
        }
    }

    /// The next answer, waited for until then.
    pub(super) fn hear(&mut self, until: Time) -> Result<Option<Answer>, String> {
        loop {
            if take(&mut *self.socket, &mut self.answer)? {
                let answer = self.answer.last().and_then(|frame| read(frame));
                if answer.is_some() {
                    return Ok(answer);
                }
                continue;
            }
            if self.clock.now() >= until {
                return Ok(None);
            }
            let source = self.socket.source();
            self.control
                .wait(source, Interest::Readable, &self.clock, until);
        }
    }

    /// Asks until somebody answers.
    pub(super) fn knock(&mut self, pause: Duration) -> Result<Answer, String> {
        let by = self.clock.now() + self.connect;
        while self.clock.now() < by {
            // Without room a look every now and then is enough: there is no connection yet.
            let pause = match self.ask()? {
                Some(_) => pause,
                None => Duration::from_micros(200),
            };
            if let Some(answer) = self.hear(self.clock.now() + pause)? {
                return Ok(answer);
            }
        }
        Err(format!(
            "nobody answered within {} s",
            self.connect.as_secs()
        ))
    }
}

fn read(frame: &[u8]) -> Option<Answer> {
    let (number, rest) = frame.split_first_chunk::<8>()?;
    Some(Answer {
        number: u64::from_le_bytes(*number),
        mark: u64::from_le_bytes(*rest.first_chunk::<8>()?),
    })
}

/// How long it takes from opening a socket to the first answer, each time with a new one; in milliseconds.
pub(super) fn connect(at: &Endpoint, times: u32, control: &Control) -> Result<Vec<f64>, String> {
    let once = |_| {
        let clock = Clock::start();
        let mut asker = Asker::open(at, LEAST_BYTES, Way::default(), control)?;
        asker.knock(Duration::from_millis(100))?;
        Ok(clock.now().since(Time::START).as_secs_f64() * 1000.0)
    };
    (0..times).map(once).collect()
}

/// Asks all the time, calls `up` at the first answer, and returns the moment at which another peer answers.
pub(super) fn watch(at: &Endpoint, control: &Control, up: impl FnOnce()) -> Result<u64, String> {
    let mut asker = Asker::open(at, LEAST_BYTES, Way::default(), control)?;
    let first = asker.knock(KNOCK)?;
    up();
    let by = asker.clock.now() + ABSENCE;
    while asker.clock.now() < by {
        asker.ask()?;
        let until = asker.clock.now() + KNOCK;
        while let Some(answer) = asker.hear(until)? {
            if answer.mark != first.mark {
                return Ok(monotonic_ns());
            }
        }
    }
    Err(format!(
        "no way back within {} s after the peer was killed",
        ABSENCE.as_secs()
    ))
}
