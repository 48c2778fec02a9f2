//! Memory for what is sent and read, which peers borrow and give back: thousands that are silent hold none.

use std::cell::RefCell;
use std::thread::LocalKey;

/// Memory that a thread keeps for later.
pub(super) struct Rooms {
    spare: RefCell<Vec<Vec<u8>>>,
    /// How many rooms at most, and of how many bytes.
    most: usize,
    most_bytes: usize,
}

impl Rooms {
    const fn new(most: usize, most_bytes: usize) -> Rooms {
        Rooms {
            spare: RefCell::new(Vec::new()),
            most,
            most_bytes,
        }
    }
}

thread_local! {
    /// For the pieces of streams.
    pub(super) static SEGMENTS: Rooms = const { Rooms::new(64, 64 << 10) };
    /// For the datagrams that one call sends.
    pub(super) static LINES: Rooms = const { Rooms::new(4, 512 << 10) };
}

/// An empty vector, perhaps with room.
pub(super) fn borrow(rooms: &'static LocalKey<Rooms>) -> Vec<u8> {
    let spare = rooms.try_with(|rooms| rooms.spare.borrow_mut().pop());
    spare.ok().flatten().unwrap_or_default()
}

/// Takes a room back, or lets it go where there are enough or it is too large.
pub(super) fn give_back(rooms: &'static LocalKey<Rooms>, mut room: Vec<u8>) {
    room.clear();
    // Sockets may be dropped when the thread's own things are gone.
    let _ = rooms.try_with(|rooms| {
        let mut spare = rooms.spare.borrow_mut();
        let fits = (1..=rooms.most_bytes).contains(&room.capacity());
        if fits && spare.len() < rooms.most {
            spare.push(room);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_is_borrowed_again_unless_it_is_too_large() {
        assert_eq!(borrow(&LINES).capacity(), 0);
        give_back(&LINES, vec![7; 100]);
        let room = borrow(&LINES);
        assert!(room.is_empty() && room.capacity() >= 100);
        give_back(&LINES, vec![7; 1 << 20]);
        give_back(&LINES, Vec::new());
        assert_eq!(borrow(&LINES).capacity(), 0);
        for _ in 0..100 {
            give_back(&LINES, vec![7]);
        }
        let kept =
            std::iter::from_fn(|| Some(borrow(&LINES))).take_while(|room| room.capacity() > 0);
        assert_eq!(kept.count(), 4);
    }
}
