//! What datagrams mean: of strangers that would be peers, of peers, of a group.

use std::net::SocketAddr;

use crate::machine::Time;
use crate::transport::LinkEvent;
use crate::transport::routing::Pipe as _;
use crate::transport::udp::caller::Answer;
use crate::transport::udp::listener::{Greeted, Known};
use crate::transport::udp::packet::{Header, Kind, Malformed, bare};
use crate::transport::udp::pipe::UdpPipe;

use super::{Place, State};

impl State {
    /// A datagram that has come.
    pub(super) fn handle(&mut self, now: Time, from: Option<SocketAddr>, datagram: &[u8]) {
        let (header, body) = match Header::read(datagram) {
            Ok(read) => read,
            Err(malformed) => return self.note_malformed(from, datagram, malformed),
        };
        let Some(from) = from else { return };
        let handled = match &self.place {
            Place::Listener(_) if header.kind == Kind::Hello => {
                self.greet(now, from, &header, body)
            }
            Place::Caller { caller, .. } if caller.is_greeting() => {
                self.hear_answer(now, from, &header, body)
            }
            Place::Ear { .. } => self.hear_group(now, from, &header, body),
            _ => self.hear_peer(now, from, &header, body),
        };
        match handled {
            Ok(true) => self.around.tally.received.add(1),
            Ok(false) => self.around.tally.strangers.add(1),
            Err(malformed) => self.note_malformed(Some(from), datagram, malformed),
        }
    }

    fn note_malformed(&mut self, from: Option<SocketAddr>, datagram: &[u8], malformed: Malformed) {
        self.around.tally.malformed.add(1);
        let bytes = datagram.len();
        let what = format_args!("a datagram of {bytes} bytes is dropped: {malformed}");
        self.complaints.add(&self.endpoint, &what);
        // A hello of another version is told so.
        let is_hello = datagram.get(5) == Some(&(Kind::Hello as u8));
        if let (Place::Listener(listener), Some(from), Malformed::Version(_), true) =
            (&self.place, from, malformed, is_hello)
        {
            let answer = listener.other_version(Header::session_of(datagram));
            if answer.len() <= datagram.len() {
                self.answer_stranger(from, &answer);
            }
        }
    }

    /// Sends a datagram to somebody who is no peer; it may get lost.
    fn answer_stranger(&self, to: SocketAddr, datagram: &[u8]) {
        let sent = match &self.place {
            Place::Listener(listener) => listener.socket.send_to(datagram, to),
            Place::Caller { caller, .. } => match caller.socket() {
                Some(socket) => socket.send(datagram),
                None => return,
            },
            _ => return,
        };
        self.around.tally.sent.add(u64::from(sent.is_ok()));
    }

    fn greet(
        &mut self,
        now: Time,
        from: SocketAddr,
        header: &Header,
        body: &[u8],
    ) -> Result<bool, Malformed> {
        let Place::Listener(listener) = &self.place else {
            return Ok(false);
        };
        match listener.greet(now, from, header, body) {
            Greeted::Senseless => return Err(Malformed::Senseless),
            Greeted::Answer(answer) => self.answer_stranger(from, &answer),
            Greeted::Refused(answer, reason) => {
                self.answer_stranger(from, &answer);
                self.refuse(reason);
            }
            Greeted::New { instead } => self.welcome(from, header.session, instead),
        }
        Ok(true)
    }

    /// Somebody is a peer from now on, in the place of the one that was at its address.
    fn welcome(&mut self, from: SocketAddr, theirs: u64, instead: Option<u32>) {
        if let Some(pipe) = instead.and_then(|number| self.exchange.pipe_mut(number)) {
            pipe.give_up("another peer is at its address");
            self.exchange.suspect();
        }
        let Place::Listener(listener) = &self.place else {
            return;
        };
        let socket = listener.socket.clone();
        let ours = rand::random();
        self.answer_stranger(from, &listener.welcome(theirs, ours));
        let pipe = UdpPipe::new(socket, from, false, ours, self.mode, &self.around);
        let number = self.attach(pipe);
        if let Place::Listener(listener) = &mut self.place {
            let known = Known {
                number,
                theirs,
                ours,
            };
            listener.peers.insert(from, known);
        }
    }

    fn attach(&mut self, pipe: UdpPipe) -> u32 {
        let number = self.exchange.attach(pipe);
        if let Some(pipe) = self.exchange.pipe_mut(number) {
            // A subscriber has something to say at once.
            pipe.flush();
        }
        self.touch(number);
        self.report(LinkEvent::Connected);
        number
    }

    fn hear_answer(
        &mut self,
        now: Time,
        from: SocketAddr,
        header: &Header,
        body: &[u8],
    ) -> Result<bool, Malformed> {
        let Place::Caller { caller, .. } = &mut self.place else {
            return Ok(false);
        };
        let answer = caller.handle(now, header, body);
        match answer {
            Answer::NotYet => {}
            Answer::Stranger => return Ok(false),
            Answer::Refused(reason) => self.refuse(reason),
            Answer::Connected { theirs } => {
                let ours = caller.session();
                let Some(socket) = caller.socket().cloned() else {
                    return Ok(false);
                };
                self.fit_window(&socket);
                let pipe = UdpPipe::new(socket, from, true, ours, self.mode, &self.around);
                let number = self.attach(pipe);
                if let Place::Caller { ours: known, .. } = &mut self.place {
                    *known = Some(Known {
                        number,
                        theirs,
                        ours,
                    });
                }
            }
        }
        Ok(true)
    }

    fn hear_group(
        &mut self,
        now: Time,
        from: SocketAddr,
        header: &Header,
        body: &[u8],
    ) -> Result<bool, Malformed> {
        let Place::Ear {
            publishers, number, ..
        } = &mut self.place
        else {
            return Ok(false);
        };
        let number = *number;
        let heard = publishers.handle(now, from, header, body, &self.around.tally)?;
        if heard.left {
            self.report(LinkEvent::Disconnected);
        }
        if heard.came {
            self.report(LinkEvent::Connected);
        }
        if let (Some(message), Some(pipe)) = (heard.message, self.exchange.pipe_mut(number)) {
            pipe.hear(message);
            self.exchange.stir(number);
        }
        Ok(true)
    }

    /// A datagram of a peer, or of somebody who would be one; whether it is.
    fn hear_peer(
        &mut self,
        now: Time,
        from: SocketAddr,
        header: &Header,
        body: &[u8],
    ) -> Result<bool, Malformed> {
        let known = match &self.place {
            Place::Listener(listener) => listener.peers.get(&from),
            Place::Caller { ours, .. } => ours.as_ref(),
            _ => None,
        };
        let known = known.copied();
        let pipe = known.and_then(|known| self.exchange.pipe_mut(known.number));
        match (header.kind, known.zip(pipe)) {
            (Kind::Unknown, Some((known, pipe))) if header.session == known.ours => {
                pipe.give_up("the peer has restarted, or given us up");
                self.touch(known.number);
            }
            // An answer that came twice.
            (Kind::Cookie | Kind::Welcome, Some((known, _))) if header.session == known.ours => {}
            (kind, Some((known, pipe))) if header.session == known.theirs => {
                if self.touched.last() != Some(&known.number) {
                    self.touched.push(known.number);
                }
                return pipe.handle(now, kind, body).map(|()| true);
            }
            // What is a farewell need not be answered.
            (Kind::Bye, _) => {}
            (Kind::Message | Kind::Topics | Kind::Ping | Kind::Pong | Kind::Data, _) => {
                self.answer_stranger(from, &bare(Kind::Unknown, header.session));
                return Ok(false);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The peer's machine says that nobody listens there.
    pub(super) fn note_refused(&mut self, now: Time) {
        let Place::Caller { caller, ours } = &mut self.place else {
            return;
        };
        caller.refuse(now);
        if let Some(known) = ours
            && let Some(pipe) = self.exchange.pipe_mut(known.number)
        {
            pipe.give_up("nobody listens there any more");
            self.exchange.suspect();
        }
    }
}
