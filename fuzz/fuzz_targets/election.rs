//! Anything that a member of an election may receive, from strangers and from other members.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use mutirao::election::{
    Algorithm, Ballot, ElectionInput, ElectionMachine, ElectionOutput, MemberId, Members, Packet,
    Timing,
};
use mutirao::machine::{Machine, Time};

fuzz_target!(|bytes: &[u8]| play(bytes));

/// Lets a member live through frames, each with its length and the milliseconds before it.
fn play(bytes: &[u8]) {
    let Some((&first, mut rest)) = bytes.split_first() else {
        return;
    };
    let algorithm = match first & 1 {
        0 => Algorithm::Quorum,
        _ => Algorithm::Bully,
    };
    let members = Members::new(MemberId(2), [1, 2, 3].map(MemberId)).expect("one of them");
    let (timing, ballot) = (Timing::default(), Ballot::default());
    let mut now = Time::START;
    let mut member = ElectionMachine::new(algorithm, members, timing, ballot, now, 7);
    while let [length, millis, tail @ ..] = rest {
        let (frame, after) = tail.split_at(tail.len().min(usize::from(*length)));
        rest = after;
        now = now + Duration::from_millis(u64::from(*millis));
        let frame = [b"MUT1\x0c", frame].concat();
        if let Ok(Packet { from, word, .. }) = Packet::decode(&frame) {
            member.handle(now, ElectionInput::Word { from, word });
        }
        member.wake(now);
        while let Some(output) = member.poll() {
            match output {
                ElectionOutput::Persist(ballot) => {
                    member.handle(now, ElectionInput::Persisted(ballot));
                }
                ElectionOutput::Send { to, .. } => assert_ne!(to, MemberId(2)),
                _ => {}
            }
        }
        assert!(member.deadline().is_some_and(|deadline| deadline > now));
    }
}
