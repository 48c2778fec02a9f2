//! Requests that get their reply in spite of lost messages and restarted servers.
//!
//! Every attempt carries an id; the reply echoes it. An attempt without reply is followed by
//! another after a pause that doubles and is jittered, so that many requesters do not come back all
//! at once. A reply to any attempt is the reply to the request: delivery is at least once, and
//! the [`Replier`](crate::reqrep::Replier) answers a repeated request from memory where it can.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::machine::{Machine, Time};

/// What our ids begin with: no other client's eight bytes are taken for one of ours.
const MARK: [u8; 2] = [0xb5, 0x9e];

/// One attempt of one request, as it travels: mark, number of the request (5 bytes), attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    number: u64,
    attempt: u8,
}

impl RequestId {
    const MAX_NUMBER: u64 = (1 << 40) - 1;

    fn new(number: u64, attempt: u32) -> RequestId {
        let attempt = attempt.min(u32::from(u8::MAX)) as u8;
        RequestId { number, attempt }
    }

    /// The eight bytes of the frame.
    pub fn to_bytes(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..2].copy_from_slice(&MARK);
        bytes[2..7].copy_from_slice(&self.number.to_be_bytes()[3..]);
        bytes[7] = self.attempt;
        bytes
    }

    /// Reads a frame; `None` when it is not one of our ids.
    pub fn from_bytes(bytes: &[u8]) -> Option<RequestId> {
        let bytes: [u8; 8] = bytes.try_into().ok()?;
        let (mark, rest) = bytes.split_at(2);
        let (number, attempt) = rest.split_at(5);
        let number = number
            .iter()
            .fold(0, |sum, &byte| sum << 8 | u64::from(byte));
        let attempt = attempt[0];
        (mark == MARK).then_some(RequestId { number, attempt })
    }

    /// The same for all attempts of a request.
    pub fn first_attempt(self) -> RequestId {
        RequestId { attempt: 1, ..self }
    }
}

/// When and how often a request is tried again.
#[derive(Clone, Debug)]
pub struct Retry {
    /// How long an attempt may take. Somewhat above the slowest answer of a server in good health:
    /// shorter only makes it work twice.
    pub timeout: Duration,
    /// How often a request is tried in all; at least 1.
    pub attempts: u32,
    /// Longest pause before the second attempt; it doubles with each further one. The pause taken
    /// is drawn from its upper half.
    pub pause_min: Duration,
    /// Upper bound of the pauses.
    pub pause_max: Duration,
}

impl Default for Retry {
    /// Three attempts of 2.5 seconds, as the ZeroMQ guide has it.
    fn default() -> Retry {
        Retry {
            timeout: Duration::from_millis(2_500),
            attempts: 3,
            pause_min: Duration::from_millis(50),
            pause_max: Duration::from_secs(2),
        }
    }
}

impl Retry {
    /// Checks that the values fit together.
    ///
    /// # Errors
    ///
    /// A sentence that names the field.
    pub fn validate(&self) -> Result<(), String> {
        if self.timeout.is_zero() {
            return Err("timeout is 0: no reply could ever be in time".into());
        }
        if self.attempts == 0 {
            return Err("attempts is 0: nothing would ever be sent; give at least 1".into());
        }
        if self.pause_min > self.pause_max {
            return Err("pause_min is over pause_max: swap them".into());
        }
        Ok(())
    }

    fn pause(&self, attempts_made: u32, rng: &mut StdRng) -> Duration {
        let doublings = attempts_made.saturating_sub(1).min(31);
        let longest = self.pause_min.saturating_mul(1 << doublings);
        let longest = longest.min(self.pause_max);
        longest.mul_f64(rng.random_range(0.5..=1.0))
    }
}

/// The caller's name for a request.
pub type CallId = u64;

/// When a request is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveUp {
    /// When the configured number of attempts has failed.
    AfterAttempts,
    /// At that moment, with as many attempts as fit.
    At(Time),
}

/// What happens to a requester; `B` is the encoded request, `R` what a reply carries.
#[derive(Debug)]
pub enum RequestInput<B, R> {
    /// The application asks.
    Call {
        /// Its name for the request, not in use at present.
        call: CallId,
        /// The request.
        body: B,
        /// For how long.
        give_up: GiveUp,
    },
    /// The application is no longer interested.
    Cancel(CallId),
    /// A reply arrives.
    Reply {
        /// The id that it echoes.
        id: RequestId,
        /// What it says.
        reply: R,
    },
}

/// What a requester wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum RequestOutput<B, R> {
    /// Send an attempt.
    Send {
        /// Its id.
        id: RequestId,
        /// The request.
        body: B,
    },
    /// The request is answered.
    Replied {
        /// Which request.
        call: CallId,
        /// The answer.
        reply: R,
    },
    /// The request is given up; the server may have worked on it, or still do.
    GaveUp {
        /// Which request.
        call: CallId,
        /// How often it was sent.
        attempts: u32,
    },
}

#[derive(Debug)]
struct Pending<B> {
    call: CallId,
    body: B,
    give_up: GiveUp,
    attempts: u32,
    phase: Phase,
    /// When something is due; also in `timers`.
    due: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// An attempt is under way.
    Waiting,
    /// The last one failed; the next one is made when due.
    Pausing,
}

/// The requester as a machine. It holds what the caller lets it hold: bound the calls outside.
#[derive(Debug)]
pub struct RequestMachine<B, R> {
    retry: Retry,
    rng: StdRng,
    next_number: u64,
    pending: HashMap<u64, Pending<B>>,
    timers: BTreeSet<(Time, u64)>,
    outbox: VecDeque<RequestOutput<B, R>>,
    retried: u64,
    late: u64,
}

impl<B: Clone, R> RequestMachine<B, R> {
    /// A requester; `seed` must differ at every start.
    pub fn new(retry: Retry, seed: u64) -> RequestMachine<B, R> {
        let mut rng = StdRng::seed_from_u64(seed);
        RequestMachine {
            retry,
            next_number: rng.random_range(0..=RequestId::MAX_NUMBER),
            rng,
            pending: HashMap::new(),
            timers: BTreeSet::new(),
            outbox: VecDeque::new(),
            retried: 0,
            late: 0,
        }
    }

    /// Attempts after the first, over all requests.
    pub fn retried(&self) -> u64 {
        self.retried
    }

    /// Replies that were dropped because their request was answered, given up or never made.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Whether the request of this attempt still waits for its reply.
    pub fn is_pending(&self, id: RequestId) -> bool {
        self.pending.contains_key(&id.number)
    }

    fn call(&mut self, now: Time, call: CallId, body: B, give_up: GiveUp) {
        let number = self.next_number;
        self.next_number = (number + 1) & RequestId::MAX_NUMBER;
        let pending = Pending {
            call,
            body,
            give_up,
            attempts: 0,
            phase: Phase::Pausing,
            due: now,
        };
        self.attempt(now, number, pending);
    }

    fn attempt(&mut self, now: Time, number: u64, mut pending: Pending<B>) {
        pending.attempts += 1;
        pending.phase = Phase::Waiting;
        let id = RequestId::new(number, pending.attempts);
        let body = pending.body.clone();
        self.outbox.push_back(RequestOutput::Send { id, body });
        self.retried += u64::from(pending.attempts > 1);
        let due = now + self.retry.timeout;
        self.keep(number, pending, due);
    }

    fn keep(&mut self, number: u64, mut pending: Pending<B>, due: Time) {
        pending.due = match pending.give_up {
            GiveUp::At(end) => due.min(end),
            GiveUp::AfterAttempts => due,
        };
        self.timers.insert((pending.due, number));
        self.pending.insert(number, pending);
    }

    fn forget(&mut self, number: u64) -> Option<Pending<B>> {
        let pending = self.pending.remove(&number)?;
        self.timers.remove(&(pending.due, number));
        Some(pending)
    }

    fn go_on(&mut self, now: Time, number: u64, pending: Pending<B>) {
        let is_over = match pending.give_up {
            GiveUp::At(end) => now >= end,
            GiveUp::AfterAttempts => pending.attempts >= self.retry.attempts,
        };
        match pending.phase {
            Phase::Waiting if is_over => self.give_up(pending),
            Phase::Pausing if matches!(pending.give_up, GiveUp::At(end) if now >= end) => {
                self.give_up(pending);
            }
            Phase::Pausing => self.attempt(now, number, pending),
            Phase::Waiting => {
                let due = now + self.retry.pause(pending.attempts, &mut self.rng);
                let phase = Phase::Pausing;
                self.keep(number, Pending { phase, ..pending }, due);
            }
        }
    }

    fn give_up(&mut self, pending: Pending<B>) {
        let Pending { call, attempts, .. } = pending;
        self.outbox
            .push_back(RequestOutput::GaveUp { call, attempts });
    }
}

impl<B: Clone, R> Machine for RequestMachine<B, R> {
    type Input = RequestInput<B, R>;
    type Output = RequestOutput<B, R>;

    fn handle(&mut self, now: Time, input: RequestInput<B, R>) {
        match input {
            RequestInput::Call {
                call,
                body,
                give_up,
            } => self.call(now, call, body, give_up),
            RequestInput::Cancel(call) => {
                let number = self.pending.iter().find(|(_, p)| p.call == call);
                if let Some(number) = number.map(|(&number, _)| number) {
                    self.forget(number);
                }
            }
            RequestInput::Reply { id, reply } => match self.forget(id.number) {
                Some(Pending { call, .. }) => self
                    .outbox
                    .push_back(RequestOutput::Replied { call, reply }),
                None => self.late += 1,
            },
        }
    }

    fn wake(&mut self, now: Time) {
        while let Some(&(due, number)) = self.timers.first()
            && due <= now
        {
            if let Some(pending) = self.forget(number) {
                self.go_on(now, number, pending);
            }
        }
    }

    fn poll(&mut self) -> Option<RequestOutput<B, R>> {
        self.outbox.pop_front()
    }

    fn deadline(&self) -> Option<Time> {
        self.timers.first().map(|&(due, _)| due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Requests = RequestMachine<&'static str, &'static str>;

    const SECOND: Duration = Duration::from_secs(1);

    fn requests(attempts: u32) -> Requests {
        let retry = Retry {
            timeout: SECOND,
            attempts,
            pause_min: SECOND,
            pause_max: 4 * SECOND,
        };
        RequestMachine::new(retry, 7)
    }

    fn call(machine: &mut Requests, now: Time, call: CallId, give_up: GiveUp) {
        let body = "ask";
        machine.handle(
            now,
            RequestInput::Call {
                call,
                body,
                give_up,
            },
        );
    }

    fn sent(machine: &mut Requests) -> RequestId {
        match machine.poll() {
            Some(RequestOutput::Send { id, .. }) => id,
            other => panic!("{other:?}"),
        }
    }

    fn reply(machine: &mut Requests, now: Time, id: RequestId) {
        machine.handle(
            now,
            RequestInput::Reply {
                id,
                reply: "answer",
            },
        );
    }

    /// Lets time pass until the machine wants something done.
    fn until_output(machine: &mut Requests) -> (Time, RequestOutput<&'static str, &'static str>) {
        loop {
            let now = machine.deadline().expect("something to wait for");
            machine.wake(now);
            if let Some(output) = machine.poll() {
                return (now, output);
            }
        }
    }

    #[test]
    fn ids_survive_the_wire_and_others_are_not_taken_for_ours() {
        let id = RequestId::new(RequestId::MAX_NUMBER - 5, 300);
        assert_eq!(RequestId::from_bytes(&id.to_bytes()), Some(id));
        assert_eq!(id.attempt, 255);
        for other in [&b""[..], b"client-1", b"\xb5\x9e", &[0; 9]] {
            assert_eq!(RequestId::from_bytes(other), None);
        }
    }

    #[test]
    fn a_lost_reply_is_asked_for_again_until_the_attempts_are_used_up() {
        let mut machine = requests(3);
        call(&mut machine, Time::START, 1, GiveUp::AfterAttempts);
        let first = sent(&mut machine);
        let mut times = vec![];
        for attempt in 2..=3 {
            let (now, output) = until_output(&mut machine);
            let RequestOutput::Send { id, body: "ask" } = output else {
                panic!("{output:?}");
            };
            assert_eq!(id, RequestId { attempt, ..first });
            times.push(now.since(Time::START));
        }
        // One second of waiting, then a pause between half of the longest and all of it.
        assert!(times[0] >= SECOND.mul_f64(1.5) && times[0] <= SECOND * 2);
        assert!(times[1] >= times[0] + SECOND * 2 && times[1] <= times[0] + SECOND * 3);
        let (_, output) = until_output(&mut machine);
        assert_eq!(
            output,
            RequestOutput::GaveUp {
                call: 1,
                attempts: 3
            }
        );
        assert_eq!(machine.deadline(), None);
        assert_eq!(machine.retried(), 2);
    }

    #[test]
    fn a_reply_to_an_early_attempt_counts_and_its_repetition_is_late() {
        let mut machine = requests(3);
        call(&mut machine, Time::START, 1, GiveUp::AfterAttempts);
        let first = sent(&mut machine);
        let (now, _) = until_output(&mut machine);
        reply(&mut machine, now, first);
        let replied = RequestOutput::Replied {
            call: 1,
            reply: "answer",
        };
        assert_eq!(machine.poll(), Some(replied));
        reply(&mut machine, now, first);
        assert_eq!(machine.poll(), None);
        assert_eq!((machine.late(), machine.deadline()), (1, None));
    }

    #[test]
    fn a_deadline_ends_a_request_whatever_it_is_doing() {
        for end in [SECOND / 2, SECOND, SECOND.mul_f64(1.2), SECOND * 60] {
            let mut machine = requests(1);
            call(&mut machine, Time::START, 1, GiveUp::At(Time::START + end));
            sent(&mut machine);
            let (now, output) = loop {
                match until_output(&mut machine) {
                    (_, RequestOutput::Send { .. }) => {}
                    over => break over,
                }
            };
            assert!(matches!(output, RequestOutput::GaveUp { call: 1, .. }));
            assert_eq!(now, Time::START + end);
        }
    }

    #[test]
    fn replies_in_any_order_find_their_requests_and_a_cancelled_one_is_silent() {
        let mut machine = requests(1);
        let ids: Vec<_> = (0..4)
            .map(|n| {
                call(&mut machine, Time::START, n, GiveUp::AfterAttempts);
                sent(&mut machine)
            })
            .collect();
        machine.handle(Time::START, RequestInput::Cancel(2));
        for n in [3, 1, 2, 0] {
            reply(&mut machine, Time::START, ids[n]);
        }
        let calls: Vec<_> = std::iter::from_fn(|| machine.poll())
            .map(|output| match output {
                RequestOutput::Replied { call, .. } => call,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(calls, [3, 1, 0]);
        assert_eq!((machine.late(), machine.deadline()), (1, None));
    }
}
