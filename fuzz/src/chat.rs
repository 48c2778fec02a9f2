//! The packets of the chat, whose decoder lives in the binary: the file stands alone, so that it is
//! compiled here once more.

#[allow(dead_code, unreachable_pub)]
#[path = "../../apps/src/chat/wire.rs"]
mod wire;

use serde::Serialize;
use serde::de::DeserializeOwned;
use wire::{Down, Event, Knock, Leaving, Letter, Line, Place, Says, Session, Up, Welcome, Word};

/// Reads a packet as the hall and as a guest would. Without what every packet begins with, which a fuzzer
/// would have to find out first, it is put before it.
pub fn read(bytes: &[u8]) {
    let tagged = [b"CHT1", bytes].concat();
    for packet in [bytes, &tagged] {
        comes_back::<Up>(packet);
        comes_back::<Down>(packet);
    }
}

/// What can be read can be written, and says the same.
fn comes_back<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(packet: &[u8]) {
    if let Ok(read) = wire::decode::<T>(packet) {
        let again = wire::encode(&read);
        // What took a detour may be longer when it is written straight.
        if again.len() <= wire::MAX_PACKET_BYTES {
            assert_eq!(wire::decode::<T>(&again).as_ref(), Ok(&read));
        }
    }
}

fn text(text: &str) -> String {
    text.to_owned()
}

/// One packet of each kind.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let ups = ups().into_iter().map(|says| {
        let (session, lane, heard) = (Session(7), 1, 2);
        let up = Up {
            session,
            lane,
            heard,
            says,
        };
        wire::encode(&up)
    });
    let downs = downs().into_iter().map(|down| wire::encode(&down));
    let named = |kind: &'static str| move |(n, bytes): (usize, _)| (format!("{kind}-{n}"), bytes);
    let ups = ups.enumerate().map(named("up"));
    ups.chain(downs.enumerate().map(named("down"))).collect()
}

fn ups() -> Vec<Says> {
    let place = Place {
        story: 5,
        number: 9,
    };
    let knock = Knock {
        pattern: text("pub-sub"),
        attempt: 1,
        name: text("ana"),
        room: text("sala"),
        last: 20,
        after: Some(place),
        next_word: 3,
    };
    let words = [
        Word::Say(text("olá")),
        Word::Tell {
            to: text("bia"),
            text: text("só para você"),
        },
        Word::Nick(text("李")),
        Word::Enter {
            room: text("praça"),
            last: 5,
        },
        Word::Rooms,
        Word::Who,
        Word::Leave,
    ];
    let words = (1..)
        .zip(words)
        .map(|(number, word)| Says::Word { number, word });
    let room = text("sala");
    let others = [Says::Knock(knock), Says::Fetch { room, from: 4 }, Says::Beat];
    words.chain(others).collect()
}

fn downs() -> Vec<Down> {
    let room = || text("sala");
    let (who, back, how) = (text("ana"), true, Leaving::Vanished);
    let said = Event::Said {
        who: who.clone(),
        text: text("olá"),
    };
    let joined = Event::Joined {
        who: who.clone(),
        back,
    };
    let renamed = Event::Renamed {
        from: who.clone(),
        to: text("bia"),
    };
    let events = [said, joined, Event::Left { who, how }, renamed];
    let lines = events.map(|event| Line { at: 1, event });
    let welcome = Welcome {
        attempt: 1,
        incarnation: 2,
        lane: 3,
        word: 4,
        name: text("ana"),
        rate: 50,
        burst: 100,
    };
    let letters = letters().into_iter().zip(1..);
    let letters = letters.map(|(letter, number)| Down::Letter {
        lane: 1,
        number,
        letter,
    });
    let others = [
        Down::Welcome(welcome),
        Down::Refused {
            attempt: 1,
            reason: text("no"),
        },
        Down::Stranger,
        Down::Confirmed {
            lane: 1,
            word: 2,
            room: room(),
            latest: 3,
            letter: 4,
        },
        Down::Lines {
            room: room(),
            story: 1,
            oldest: 1,
            first: 2,
            next: 9,
            lines: (2..).zip(lines).collect(),
        },
        Down::Beat {
            incarnation: 1,
            room: room(),
            story: 2,
            latest: 3,
        },
        Down::Door(text("5572")),
    ];
    letters.chain(others).collect()
}

fn letters() -> Vec<Letter> {
    let private = (text("bia"), 1, text("só para você"));
    let (from, at, said) = private.clone();
    let (to, _, told) = private;
    vec![
        Letter::Entered {
            room: text("sala"),
            story: 1,
            first: 2,
            latest: 3,
            anew: true,
        },
        Letter::Members {
            room: text("sala"),
            as_of: 3,
            names: vec![text("ana"), text("bia")],
            done: true,
        },
        Letter::Rooms {
            rooms: vec![(text("sala"), 2)],
            done: true,
        },
        Letter::Private {
            from,
            at,
            text: said,
        },
        Letter::Told {
            to,
            at,
            text: told,
        },
        Letter::Renamed(text("ana")),
        Letter::Notice(text("no")),
        Letter::NotTaken(text("full")),
    ]
}
