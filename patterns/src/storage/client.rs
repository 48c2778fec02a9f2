//! The client: asks whoever leads, again and again until there is an answer, and writes down what was
//! confirmed.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::machine::{Machine, Time};

use super::{
    ClientAsks, ClientLine, Epoch, HeadId, HeadTells, Payload, RecordId, Refusal, StatusView,
    Verification,
};

/// Whom a client asks, and how patiently.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The heads; at least one.
    pub heads: Vec<HeadId>,
    /// After how long a question is asked again, of another head if there is one.
    pub resend: Duration,
    /// After how long it is given up.
    pub patience: Duration,
}

/// What a client can ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Keep this under a new random id; asking again under the same id stores nothing twice.
    Put(RecordId, Payload),
    /// Give back what was kept.
    Get(RecordId),
    /// Name records behind this one.
    List(Option<RecordId>),
    /// Say how the cluster fares.
    Status,
    /// Read every copy and replace those that are damaged.
    Verify,
}

/// Bytes of a record that are on their way in a second at least, from here to the disks of all that keep it.
const SLOW_BYTES_PER_SECOND: u64 = 2 << 20;

/// Why nobody serves.
const NONE_LEADS: &str =
    "no head that was asked leads: name all of them, and see that most are running";

impl Request {
    /// Bytes of a record that it carries.
    fn bytes(&self) -> u64 {
        match self {
            Request::Put(_, bytes) => bytes.len() as u64,
            _ => 0,
        }
    }
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// The record is safe; the second part says whether the client's own register could be written.
    Stored(ClientLine, Result<(), String>),
    /// The record.
    Found(RecordId, Payload),
    /// There is no such record.
    Unknown(RecordId),
    /// It cannot be done, and trying again does not help.
    Refused(RecordId, Refusal),
    /// No answer in time; for this reason, if one was heard. A record may be stored all the same.
    TimedOut(Request, Option<Refusal>),
    /// Records with their lengths, and whether there are others behind them.
    Records(Vec<(RecordId, u64)>, bool),
    /// How the cluster fares.
    Status(StatusView),
    /// What came of reading every copy.
    Verified(Verification),
}

/// What happens to a client.
#[derive(Debug)]
pub enum ClientInput {
    /// The program wants something. A request for what is already asked for takes its place.
    Do(Request),
    /// A head answers.
    Head(HeadId, HeadTells),
    /// A connection to this head stands: what it cannot have heard is asked again at once.
    Reached(HeadId),
    /// The line of this record is on disk, or why it is not.
    Kept(RecordId, Result<(), String>),
}

/// What a client wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientOutput {
    /// Ask a head.
    ToHead(HeadId, ClientAsks),
    /// Append the line to the client's register and sync it; answered by [`Kept`](ClientInput::Kept).
    Keep(ClientLine),
    /// Tell the program.
    Done(Done),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Put(RecordId),
    Get(RecordId),
    List,
    Status,
    Verify,
}

#[derive(Debug)]
struct Open {
    request: Request,
    next_send: Time,
    expires: Time,
    /// Whether nothing was heard since it was sent.
    silent: bool,
    last_refusal: Option<Refusal>,
}

/// The client as a machine.
#[derive(Debug)]
pub struct ClientMachine {
    config: ClientConfig,
    /// Which head is asked.
    at: usize,
    open: BTreeMap<Key, Open>,
    /// Confirmed records whose line is on its way to disk.
    noting: BTreeMap<RecordId, ClientLine>,
    outbox: VecDeque<ClientOutput>,
}

impl ClientMachine {
    /// A client that has not asked anything.
    pub fn new(config: ClientConfig) -> ClientMachine {
        ClientMachine {
            config,
            at: 0,
            open: BTreeMap::new(),
            noting: BTreeMap::new(),
            outbox: VecDeque::new(),
        }
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.open.is_empty() && self.noting.is_empty()
    }

    fn begin(&mut self, now: Time, request: Request) {
        let key = match &request {
            Request::Put(id, _) => Key::Put(*id),
            Request::Get(id) => Key::Get(*id),
            Request::List(_) => Key::List,
            Request::Status => Key::Status,
            Request::Verify => Key::Verify,
        };
        let open = Open {
            request,
            next_send: now,
            expires: now + self.config.patience,
            silent: true,
            last_refusal: None,
        };
        self.open.insert(key, open);
        self.send(now, key);
    }

    /// How long all that is under way may take on a slow path.
    fn slack(&self) -> Duration {
        let bytes: u64 = self.open.values().map(|open| open.request.bytes()).sum();
        Duration::from_micros(bytes.saturating_mul(1_000_000) / SLOW_BYTES_PER_SECOND)
    }

    fn send(&mut self, now: Time, key: Key) {
        let slack = self.slack();
        let Some(open) = self.open.get_mut(&key) else {
            return;
        };
        open.next_send = now + self.config.resend + slack;
        open.silent = true;
        let asks = match &open.request {
            Request::Put(id, bytes) => ClientAsks::Put {
                id: *id,
                checksum: bytes.checksum(),
                bytes: bytes.clone(),
            },
            Request::Get(id) => ClientAsks::Get { id: *id },
            Request::List(after) => ClientAsks::List { after: *after },
            Request::Status => ClientAsks::Status {},
            Request::Verify => ClientAsks::Verify {},
        };
        let head = self.head();
        self.outbox.push_back(ClientOutput::ToHead(head, asks));
    }

    fn send_all(&mut self, now: Time) {
        let keys: Vec<Key> = self.open.keys().copied().collect();
        keys.into_iter().for_each(|key| self.send(now, key));
    }

    fn head(&self) -> HeadId {
        let heads = &self.config.heads;
        heads
            .get(self.at % heads.len().max(1))
            .copied()
            .unwrap_or_default()
    }

    fn hear(&mut self, now: Time, from: HeadId, message: HeadTells) {
        match message {
            HeadTells::Confirmed { id, epoch, places } => self.confirmed(id, epoch, places),
            HeadTells::Found {
                id,
                checksum,
                bytes,
            } => {
                // What was damaged on its way is asked for again.
                if bytes.checksum() == checksum {
                    self.finish(Key::Get(id), Done::Found(id, bytes));
                }
            }
            HeadTells::Unknown { id } => self.finish(Key::Get(id), Done::Unknown(id)),
            HeadTells::Refused { id, why } => self.refused(now, id, why),
            HeadTells::NotLeading { leader } => self.turn(now, from, leader),
            HeadTells::Records {
                after,
                records,
                more,
            } => {
                let asked = self.open.get(&Key::List).map(|open| &open.request);
                // A page that was asked for twice comes twice.
                if asked == Some(&Request::List(after)) {
                    self.finish(Key::List, Done::Records(records, more));
                }
            }
            HeadTells::Status(status) => self.finish(Key::Status, Done::Status(status)),
            HeadTells::Verified(found) => self.finish(Key::Verify, Done::Verified(found)),
        }
    }

    fn confirmed(&mut self, id: RecordId, epoch: Epoch, places: Vec<String>) {
        let Some(open) = self.open.remove(&Key::Put(id)) else {
            return;
        };
        let Request::Put(_, bytes) = open.request else {
            return;
        };
        let line = ClientLine {
            id,
            epoch,
            length: bytes.len() as u64,
            checksum: bytes.checksum(),
            places,
        };
        self.noting.insert(id, line.clone());
        self.outbox.push_back(ClientOutput::Keep(line));
    }

    fn finish(&mut self, key: Key, done: Done) {
        if self.open.remove(&key).is_some() {
            self.outbox.push_back(ClientOutput::Done(done));
        }
    }

    fn refused(&mut self, now: Time, id: RecordId, why: Refusal) {
        for key in [Key::Put(id), Key::Get(id)] {
            let Some(open) = self.open.get_mut(&key) else {
                continue;
            };
            if why.may_pass() {
                open.next_send = now + self.config.resend;
                open.silent = false;
                open.last_refusal = Some(why);
            } else {
                self.finish(key, Done::Refused(id, why));
            }
            return;
        }
    }

    /// Asks another head: the leader at once, and after a pause whoever is next.
    fn turn(&mut self, now: Time, from: HeadId, leader: Option<HeadId>) {
        if from != self.head() {
            return;
        }
        let heads = &self.config.heads;
        let known = heads.iter().position(|head| Some(*head) == leader);
        match known.filter(|_| leader != Some(from)) {
            Some(at) => {
                self.at = at;
                self.send_all(now);
            }
            None => {
                self.at += 1;
                for open in self.open.values_mut() {
                    // It has answered: the next one is asked in its turn, and none passed over.
                    open.silent = false;
                    open.last_refusal = Some(Refusal::Unavailable(NONE_LEADS.into()));
                }
            }
        }
    }

    fn expire(&mut self, key: Key) {
        if let Some(open) = self.open.remove(&key) {
            let done = Done::TimedOut(open.request, open.last_refusal);
            self.outbox.push_back(ClientOutput::Done(done));
        }
    }
}

impl Machine for ClientMachine {
    type Input = ClientInput;
    type Output = ClientOutput;

    fn handle(&mut self, now: Time, input: ClientInput) {
        match input {
            ClientInput::Do(request) => self.begin(now, request),
            ClientInput::Head(from, message) => self.hear(now, from, message),
            ClientInput::Reached(head) if head == self.head() => self.send_all(now),
            ClientInput::Reached(_) => {}
            ClientInput::Kept(id, result) => {
                if let Some(line) = self.noting.remove(&id) {
                    let done = Done::Stored(line, result);
                    self.outbox.push_back(ClientOutput::Done(done));
                }
            }
        }
    }

    fn wake(&mut self, now: Time) {
        let overdue = |open: &Open| open.next_send.min(open.expires) <= now;
        let due = self.open.iter().filter(|(_, open)| overdue(open));
        let due = due.map(|(&key, open)| (key, open.silent, open.expires <= now));
        let due: Vec<(Key, bool, bool)> = due.collect();
        if due.iter().any(|(_, silent, _)| *silent) {
            // Perhaps another one hears us.
            self.at += 1;
        }
        for (key, _, expired) in due {
            match expired {
                true => self.expire(key),
                false => self.send(now, key),
            }
        }
    }

    fn poll(&mut self) -> Option<ClientOutput> {
        self.outbox.pop_front()
    }

    fn deadline(&self) -> Option<Time> {
        let times = self.open.values();
        times.map(|open| open.next_send.min(open.expires)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whom the client has asked since it was last looked at.
    fn asked(client: &mut ClientMachine) -> Vec<HeadId> {
        let outputs = std::iter::from_fn(|| client.poll());
        let heads = outputs.filter_map(|output| match output {
            ClientOutput::ToHead(head, _) => Some(head),
            _ => None,
        });
        heads.collect()
    }

    #[test]
    fn heads_that_name_no_leader_are_asked_one_after_the_other() {
        let heads: Vec<HeadId> = [1, 2, 3].map(HeadId).into();
        let mut client = ClientMachine::new(ClientConfig {
            heads: heads.clone(),
            resend: Duration::from_millis(500),
            patience: Duration::from_secs(30),
        });
        client.handle(Time::START, ClientInput::Do(Request::Status));
        let mut seen = asked(&mut client);
        for _ in 0..2 {
            let head = *seen.last().unwrap();
            let now = client.deadline().unwrap();
            let tells = HeadTells::NotLeading { leader: None };
            client.handle(now, ClientInput::Head(head, tells));
            client.wake(now);
            seen.extend(asked(&mut client));
        }
        assert_eq!(seen, heads);
        // One that is silent is passed over as well.
        client.wake(client.deadline().unwrap());
        assert_eq!(asked(&mut client), [HeadId(1)]);
    }
}
