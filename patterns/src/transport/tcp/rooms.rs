//! Room for what is read and written, which connections borrow and give back: ten thousand that are silent
//! hold none.

use std::cell::RefCell;

/// The size of a room, in bytes.
pub(super) const ROOM_BYTES: usize = 128 << 10;

/// Rooms that a thread keeps for later.
const SPARE_ROOMS: usize = 16;

thread_local! {
    static ROOMS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty vector with room for [`ROOM_BYTES`].
pub(super) fn borrow_room() -> Vec<u8> {
    let spare = ROOMS.try_with(|rooms| rooms.borrow_mut().pop());
    let spare = spare.ok().flatten();
    spare.unwrap_or_else(|| Vec::with_capacity(ROOM_BYTES))
}

/// Takes a room back; what is smaller or larger than one is let go.
pub(super) fn give_back(mut room: Vec<u8>) {
    if room.capacity() != ROOM_BYTES {
        return;
    }
    room.clear();
    // Sockets may be dropped when the thread's own things are gone.
    let _ = ROOMS.try_with(|rooms| {
        let mut rooms = rooms.borrow_mut();
        if rooms.len() < SPARE_ROOMS {
            rooms.push(room);
        }
    });
}
