//! Which of many connections have news, as one descriptor.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::time::Timespec;

/// Connections that are looked at in one go.
const EVENTS: usize = 256;

/// What a descriptor is registered for: news once, until something was read or written in vain.
const BOTH: EventFlags = EventFlags::IN
    .union(EventFlags::OUT)
    .union(EventFlags::RDHUP)
    .union(EventFlags::ET);

/// News of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct News {
    pub(super) key: u64,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// Nothing more comes after what is there: no further news will say so.
    pub(super) ended: bool,
}

#[derive(Debug)]
pub(super) struct Poll {
    epoll: OwnedFd,
}

impl Poll {
    pub(super) fn new() -> io::Result<Poll> {
        Ok(Poll {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
        })
    }

    /// Readable when there may be news.
    pub(super) fn fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    pub(super) fn add(&self, fd: impl AsFd, key: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, EventData::new_u64(key), BOTH)?)
    }

    /// Gives a descriptor another key; what is new about it is told again.
    pub(super) fn rename(&self, fd: impl AsFd, key: u64) -> io::Result<()> {
        Ok(epoll::modify(
            &self.epoll,
            fd,
            EventData::new_u64(key),
            BOTH,
        )?)
    }

    /// What is new, a bounded number at a time; whether there may be more.
    pub(super) fn news(&self, take: &mut Vec<News>) -> io::Result<bool> {
        let mut room = [const { MaybeUninit::<Event>::uninit() }; EVENTS];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let (events, _) = epoll::wait(&self.epoll, &mut room, Some(&now))?;
        take.extend(events.iter().map(|event| {
            let flags = event.flags;
            let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
            News {
                key: event.data.u64(),
                readable: broken || flags.intersects(EventFlags::IN | EventFlags::RDHUP),
                writable: broken || flags.contains(EventFlags::OUT),
                ended: broken || flags.contains(EventFlags::RDHUP),
            }
        }));
        Ok(events.len() == EVENTS)
    }
}
