//! The machine fed by hand: what a member does, one thing at a time.

use super::*;

const MS: Duration = Duration::from_millis(1);

fn at(ms: u32) -> Time {
    Time::START + MS * ms
}

fn ballot(epoch: u64, voted_for: u64) -> Ballot {
    Ballot {
        epoch: Epoch(epoch),
        voted_for: Some(MemberId(voted_for)),
    }
}

/// Member 2 of three, which has been up for so long that no promise of an earlier life holds.
fn member() -> Quorum {
    let members = Members::new(MemberId(2), [1, 2, 3].map(MemberId)).unwrap();
    Quorum::new(members, Timing::default(), Ballot::default(), at(0), 7)
}

fn hear(member: &mut Quorum, now: Time, from: u64, word: Word) -> Vec<ElectionOutput> {
    let from = MemberId(from);
    member.handle(now, ElectionInput::Word { from, word });
    outputs(member)
}

fn outputs(member: &mut Quorum) -> Vec<ElectionOutput> {
    std::iter::from_fn(|| member.poll()).collect()
}

fn ask(epoch: u64) -> Word {
    let (epoch, sent_ns) = (Epoch(epoch), 5);
    Word::AskVote { epoch, sent_ns }
}

fn beat(epoch: u64) -> Word {
    let (epoch, sent_ns) = (Epoch(epoch), 5);
    Word::Beat { epoch, sent_ns }
}

fn vote(epoch: u64, granted: bool, seen: u64) -> Word {
    Word::Vote {
        epoch: Epoch(epoch),
        granted,
        seen: Epoch(seen),
        sent_ns: 5,
    }
}

fn sent(to: u64, word: Word) -> ElectionOutput {
    let to = MemberId(to);
    ElectionOutput::Send { to, word }
}

/// Makes it leader in epoch 1 by the vote of member 1; when that was.
fn crown(member: &mut Quorum) -> Time {
    let now = member.deadline().unwrap();
    member.wake(now);
    let backing = Word::PreVote {
        epoch: Epoch(1),
        granted: true,
        seen: Epoch(0),
    };
    hear(member, now, 1, backing);
    member.handle(now, ElectionInput::Persisted(ballot(1, 2)));
    let sent_ns = nanos(now);
    let vote = Word::Vote {
        epoch: Epoch(1),
        granted: true,
        seen: Epoch(1),
        sent_ns,
    };
    let told = hear(member, now + 5 * MS, 1, vote);
    assert!(told.contains(&ElectionOutput::Gained(Epoch(1))), "{told:?}");
    now
}

#[test]
fn no_vote_leaves_before_it_is_on_disk() {
    let mut member = member();
    assert_eq!(
        hear(&mut member, at(200), 3, ask(1)),
        [ElectionOutput::Persist(ballot(1, 3))]
    );
    // Nor when it is asked again.
    assert_eq!(hear(&mut member, at(210), 3, ask(1)), []);
    member.handle(at(220), ElectionInput::Persisted(ballot(1, 3)));
    assert_eq!(outputs(&mut member), [sent(3, vote(1, true, 1))]);
}

#[test]
fn a_vote_that_could_not_be_written_is_given_to_nobody_and_tried_again() {
    let mut member = member();
    hear(&mut member, at(200), 3, ask(1));
    member.handle(at(220), ElectionInput::NotPersisted(ballot(1, 3)));
    assert_eq!(outputs(&mut member), []);
    assert_eq!(
        hear(&mut member, at(900), 1, ask(1)),
        [sent(1, vote(1, false, 1))]
    );
    assert_eq!(
        hear(&mut member, at(910), 3, ask(1)),
        [ElectionOutput::Persist(ballot(1, 3))]
    );
}

#[test]
fn one_vote_in_an_epoch_and_one_promise_at_a_time() {
    let mut member = member();
    hear(&mut member, at(200), 3, ask(1));
    member.handle(at(200), ElectionInput::Persisted(ballot(1, 3)));
    outputs(&mut member);
    let refused = |epoch, seen| sent(1, vote(epoch, false, seen));
    assert_eq!(
        hear(&mut member, at(349), 1, ask(2)),
        [refused(2, 2)],
        "promised"
    );
    assert_eq!(
        hear(&mut member, at(350), 1, ask(1)),
        [refused(1, 2)],
        "voted"
    );
    assert_eq!(
        hear(&mut member, at(350), 1, ask(2)),
        [ElectionOutput::Persist(ballot(2, 1))]
    );
}

#[test]
fn a_restarted_member_promises_nothing_until_what_it_promised_before_is_over() {
    let members = Members::new(MemberId(2), [1, 2, 3].map(MemberId)).unwrap();
    let mut member = Quorum::new(members, Timing::default(), ballot(4, 3), at(1000), 7);
    assert_eq!(
        hear(&mut member, at(1149), 3, ask(5)),
        [sent(3, vote(5, false, 5))]
    );
    assert_eq!(hear(&mut member, at(1149), 3, beat(9)), []);
    assert_eq!(
        hear(&mut member, at(1150), 1, ask(4)),
        [sent(1, vote(4, false, 5))],
        "voted"
    );
    assert_eq!(
        hear(&mut member, at(1150), 3, ask(5)),
        [ElectionOutput::Persist(ballot(5, 3))]
    );
}

#[test]
fn a_lease_that_has_ended_is_not_brought_back_by_a_late_answer() {
    let mut member = member();
    let since = crown(&mut member);
    let lease = Timing::default().lease;
    assert!(member.tenure(since + (lease - MS)).is_some());
    assert!(
        member.tenure(since + lease).is_none(),
        "without being woken"
    );
    outputs(&mut member);
    let ack = Word::BeatAck {
        epoch: Epoch(1),
        sent_ns: nanos(since + 5 * MS),
    };
    let told = hear(&mut member, since + lease, 1, ack);
    assert!(told.contains(&ElectionOutput::Lost(Epoch(1))), "{told:?}");
    assert!(member.tenure(since + lease).is_none());
}

#[test]
fn a_leader_does_not_vote_and_keeps_its_lease_as_long_as_one_of_two_answers() {
    let mut member = member();
    let since = crown(&mut member);
    outputs(&mut member);
    let mut now = since + 5 * MS;
    for _ in 0..100 {
        now = member.deadline().unwrap();
        member.wake(now);
        outputs(&mut member);
        let ack = Word::BeatAck {
            epoch: Epoch(1),
            sent_ns: nanos(now),
        };
        hear(&mut member, now + MS, 3, ack);
        let refusal = hear(&mut member, now + MS, 1, ask(7));
        assert_eq!(refusal, [sent(1, vote(7, false, 7))]);
    }
    assert_eq!(
        member.tenure(now).map(|tenure| tenure.epoch),
        Some(Epoch(1))
    );
}

#[test]
fn a_leader_that_resigns_has_given_up_the_lease_before_it_says_so() {
    let mut member = member();
    let now = crown(&mut member) + 5 * MS;
    outputs(&mut member);
    member.handle(now, ElectionInput::Resign);
    assert!(member.tenure(now).is_none());
    let (epoch, resign) = (Epoch(1), Word::Resign { epoch: Epoch(1) });
    let told = outputs(&mut member);
    assert_eq!(
        told,
        [
            ElectionOutput::Lost(epoch),
            ElectionOutput::Follows(None),
            sent(1, resign),
            sent(3, resign)
        ]
    );
    // Nothing brings it back, and one that does not lead has nothing to give up.
    let sent_ns = nanos(now);
    hear(&mut member, now, 1, Word::BeatAck { epoch, sent_ns });
    assert!(member.tenure(now).is_none());
    member.handle(now, ElectionInput::Resign);
    assert_eq!(outputs(&mut member), []);
}

#[test]
fn a_leader_that_resigns_is_replaced_without_waiting() {
    let mut member = member();
    hear(&mut member, at(200), 3, beat(1));
    let waits = member.deadline().unwrap();
    assert!(waits >= at(350));
    assert_eq!(
        hear(&mut member, at(210), 1, ask(2)),
        [sent(1, vote(2, false, 2))],
        "promised"
    );
    let resign = |epoch| Word::Resign {
        epoch: Epoch(epoch),
    };
    let told = hear(&mut member, at(220), 3, resign(1));
    assert_eq!(told, [ElectionOutput::Follows(None)]);
    assert!(member.deadline().unwrap() < at(350));
    assert_eq!(
        hear(&mut member, at(230), 1, ask(2)),
        [ElectionOutput::Persist(ballot(2, 1))]
    );
}

#[test]
fn a_promise_outlasts_the_resignation_of_others_and_of_an_epoch_before() {
    let mut member = member();
    let resign = |epoch| Word::Resign {
        epoch: Epoch(epoch),
    };
    hear(&mut member, at(200), 3, beat(2));
    hear(&mut member, at(210), 3, resign(1));
    hear(&mut member, at(210), 1, resign(2));
    assert_eq!(
        hear(&mut member, at(220), 1, ask(3)),
        [sent(1, vote(3, false, 3))]
    );
}

#[test]
fn answers_to_what_was_never_sent_extend_nothing() {
    let mut member = member();
    let since = crown(&mut member);
    let until = member.tenure(since + 5 * MS).unwrap().until;
    for (epoch, sent_ns) in [(1, u64::MAX), (2, nanos(since)), (1, nanos(since + 6 * MS))] {
        let epoch = Epoch(epoch);
        hear(
            &mut member,
            since + 5 * MS,
            3,
            Word::BeatAck { epoch, sent_ns },
        );
        assert_eq!(member.tenure(since + 5 * MS).unwrap().until, until);
    }
}

#[test]
fn strangers_and_epochs_from_nowhere_are_ignored() {
    let mut member = member();
    assert_eq!(hear(&mut member, at(200), 9, ask(1)), []);
    assert_eq!(hear(&mut member, at(200), 2, ask(1)), [], "itself");
    assert_eq!(hear(&mut member, at(200), 3, ask(u64::MAX)), []);
    assert_eq!(hear(&mut member, at(200), 3, vote(1, false, u64::MAX)), []);
    assert_eq!((member.refused(), member.view().epoch), (2, Epoch(0)));
}

#[test]
fn a_single_member_leads_once_its_vote_is_on_disk() {
    let members = Members::new(MemberId(1), [MemberId(1)]).unwrap();
    let mut member = Quorum::new(members, Timing::default(), Ballot::default(), at(0), 7);
    let now = member.deadline().unwrap();
    member.wake(now);
    assert_eq!(
        outputs(&mut member),
        [ElectionOutput::Persist(ballot(1, 1))]
    );
    assert!(member.tenure(now).is_none());
    member.handle(now, ElectionInput::Persisted(ballot(1, 1)));
    for _ in 0..100 {
        let now = member.deadline().unwrap();
        assert!(member.tenure(now).is_some());
        member.wake(now);
    }
}

#[test]
fn a_leader_whose_epoch_is_out_of_date_steps_down_and_leads_later_than_that() {
    let mut member = member();
    let now = crown(&mut member);
    member.handle(now + 10 * MS, ElectionInput::Seen(Epoch(7)));
    let told = outputs(&mut member);
    assert!(told.contains(&ElectionOutput::Lost(Epoch(1))), "{told:?}");
    let later = member.deadline().unwrap();
    member.wake(later);
    let asked = outputs(&mut member);
    let epoch = Epoch(8);
    assert!(
        asked.contains(&sent(1, Word::AskPreVote { epoch })),
        "{asked:?}"
    );
}
