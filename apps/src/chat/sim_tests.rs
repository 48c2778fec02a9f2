//! Hall and guests in virtual time, on a network that loses, repeats and reorders.

mod nodes;

use std::time::Duration;

use mutirao::machine::Time;
use mutirao::sim::{Link, NodeId, Rng, run_seeds};

use super::guest::News;
use super::hall::Limits;
use super::wire::{Down, Event, Leaving, Letter, Line, Word};
use nodes::{Crowd, HALL, HallNode, World, knock, word};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn at(second: u64) -> Time {
    Time::START + seconds(second)
}

/// A bad network, more or less.
fn bad_link(rng: &mut Rng) -> Link {
    Link {
        delay: Duration::from_millis(1)..Duration::from_millis(2 + rng.below(150)),
        loss: rng.below(30) as f64 / 100.0,
        duplication: rng.below(30) as f64 / 100.0,
        fifo: false,
    }
}

/// Ends all faults, and gives everybody the time to come back and catch up.
fn calm_down(world: &mut World, end: u64) {
    let ids: Vec<NodeId> = world.sim.ids().collect();
    for &id in &ids {
        world.sim.resume(id);
        world.sim.heal(id, HALL);
    }
    world.restart_hall_if_gone();
    world.sim.set_links(Link::default());
    world.run_until(at(end));
}

/// What goes wrong now and then.
fn trouble(world: &mut World, guests: &[NodeId]) {
    let kind = world.sim.rng().below(6);
    let guest = *world.sim.rng().pick(guests).unwrap();
    match kind {
        0 => world.crash_hall(),
        1 | 2 => world.restart_hall_if_gone(),
        3 => world.sim.partition(guest, HALL),
        4 => world.sim.pause(guest),
        _ => {
            for &guest in guests {
                world.sim.resume(guest);
                world.sim.heal(guest, HALL);
            }
        }
    }
}

#[test]
fn every_message_reaches_everybody_once_and_in_order_whoever_is_killed() {
    run_seeds(0..60, |seed| {
        let mut world = World::new(seed, Limits::default());
        let link = bad_link(world.sim.rng());
        world.sim.set_links(link);
        let guests: Vec<NodeId> = (0..4).map(|n| world.add_guest(&format!("g{n}"))).collect();
        for &guest in &guests {
            let texts = (0..20).map(|n| Word::Say(format!("{} {n}", guest.0)));
            world.script(guest, Duration::from_millis(300), texts);
        }
        for second in 2..30 {
            trouble(&mut world, &guests);
            world.run_until(at(second));
        }
        calm_down(&mut world, 60);

        let log = world.log("lobby");
        for &guest in &guests {
            let prefix = format!("{} ", guest.0);
            let said = texts(&log).filter(|text| text.starts_with(&prefix));
            let expected: Vec<_> = (0..20).map(|n| format!("{prefix}{n}")).collect();
            assert_eq!(said.collect::<Vec<_>>(), expected, "{guest:?} said");
            let heard = world.heard(guest);
            assert!(
                log.ends_with(&heard),
                "{guest:?} heard {heard:#?} of {log:#?}"
            );
            let missed = world.news(guest, |news| {
                matches!(news, News::Missed(_) | News::Forgotten).then_some(())
            });
            assert!(
                missed.is_empty() && !heard.is_empty(),
                "{guest:?} missed some"
            );
            assert_eq!(world.members(guest), world.members_in_hall("lobby"));
        }
    });
}

fn texts(lines: &[Line]) -> impl Iterator<Item = &str> {
    lines.iter().filter_map(|line| match &line.event {
        Event::Said { text, .. } => Some(&**text),
        _ => None,
    })
}

#[test]
fn who_vanishes_is_seen_as_gone_within_five_seconds() {
    run_seeds(0..40, |seed| {
        let mut world = World::new(seed, Limits::default());
        let guests: Vec<NodeId> = (0..5).map(|n| world.add_guest(&format!("g{n}"))).collect();
        let when = Duration::from_millis(5_000 + world.sim.rng().below(2_000));
        world.run_until(Time::START + when);
        assert_eq!(world.members(guests[1]).len(), 5);
        world.sim.crash(guests[0]);
        world.run_until(Time::START + when + seconds(5));
        for &guest in &guests[1..] {
            let gone = world.heard(guest).into_iter().any(|line| {
                matches!(line.event, Event::Left { who, how: Leaving::Vanished } if who == "g0")
            });
            assert!(gone && world.members(guest).len() == 4, "{guest:?}");
        }
    });
}

#[test]
fn nobody_is_taken_for_gone_who_is_there() {
    run_seeds(0..20, |seed| {
        let mut world = World::new(seed, Limits::default());
        let link = Link {
            delay: Duration::from_millis(1)..Duration::from_millis(200),
            ..Link::default()
        };
        world.sim.set_links(link);
        let guest = world.add_guest("ana");
        world.add_guest("bia");
        world.run_until(at(120));
        let left = |line: &Line| matches!(line.event, Event::Left { .. });
        assert!(!world.heard(guest).iter().any(left));
    });
}

#[test]
fn rooms_and_names_come_out_the_same_everywhere() {
    run_seeds(0..60, |seed| {
        // In every other of the worlds old comings and goings are soon forgotten.
        let limits = Limits {
            room_lines: if seed % 2 == 0 { 1_000 } else { 12 },
            ..Limits::default()
        };
        let mut world = World::new(seed, limits);
        let link = bad_link(world.sim.rng());
        world.sim.set_links(link);
        let guests: Vec<NodeId> = (0..5).map(|n| world.add_guest(&format!("g{n}"))).collect();
        for &guest in &guests {
            let rng = world.sim.rng();
            let words: Vec<Word> = (0..15).map(|n| some_word(rng, guest, n)).collect();
            world.script(guest, Duration::from_millis(500), words);
        }
        for second in 2..20 {
            if second % 4 == 0 {
                trouble(&mut world, &guests);
            }
            world.run_until(at(second));
        }
        calm_down(&mut world, 60);
        for &guest in &guests {
            let room = world.room(guest);
            assert_eq!(
                world.members(guest),
                world.members_in_hall(&room),
                "{guest:?} in {room}"
            );
            assert!(world.members(guest).contains(&world.name(guest)));
        }
    });
}

fn some_word(rng: &mut Rng, guest: NodeId, number: u64) -> Word {
    match rng.below(3) {
        0 => Word::Nick(format!("g{}-{}", guest.0, number)),
        1 => Word::Enter {
            room: format!("r{}", rng.below(3)),
            last: rng.below(10) as u32,
        },
        _ => Word::Say(format!("{} {number}", guest.0)),
    }
}

#[test]
fn private_messages_arrive_once_and_in_order_and_nowhere_else() {
    run_seeds(0..60, |seed| {
        let mut world = World::new(seed, Limits::default());
        let link = Link {
            // So much that beats get through.
            loss: 0.15,
            ..bad_link(world.sim.rng())
        };
        world.sim.set_links(link);
        let [ana, bia, eva] = ["ana", "bia", "eva"].map(|name| world.add_guest(name));
        let private = |n| Word::Tell {
            to: "Bia".into(),
            text: format!("{n}"),
        };
        world.run_until(at(10));
        world.script(ana, Duration::from_millis(100), (0..30).map(private));
        calm_down_later(&mut world, 30, 50);
        let got: Vec<String> = world.letters(bia, |letter| match letter {
            Letter::Private { from, text, .. } if from == "ana" => Some(text.clone()),
            _ => None,
        });
        let numbers: Vec<u32> = got.iter().map(|text| text.parse().unwrap()).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        // Who was taken for gone meanwhile may lack some, and their sender was told.
        let vanished = |line: &Line| matches!(line.event, Event::Left { .. });
        if !world.log("lobby").iter().any(vanished) {
            assert_eq!(numbers, (0..30).collect::<Vec<_>>());
        }
        assert!(
            world
                .letters(eva, |letter| matches!(letter, Letter::Private { .. })
                    .then_some(()))
                .is_empty()
        );
        assert_eq!(texts(&world.heard(eva)).count(), 0);
    });
}

fn calm_down_later(world: &mut World, later: u64, end: u64) {
    world.run_until(at(later));
    calm_down(world, end);
}

#[test]
fn what_history_has_forgotten_is_counted() {
    run_seeds(0..40, |seed| {
        let limits = Limits {
            room_lines: 20,
            ..Limits::default()
        };
        let mut world = World::new(seed, limits);
        let [ana, bia] = ["ana", "bia"].map(|name| world.add_guest(name));
        world.run_until(at(3));
        let before = world.heard(bia).len();
        world.sim.partition(bia, HALL);
        let texts = (0..100).map(|n| Word::Say(format!("{n}")));
        world.script(ana, Duration::from_millis(50), texts);
        world.run_until(at(20));
        calm_down(&mut world, 40);
        let heard = world.heard(bia).len() - before;
        let missed = world.news(bia, |news| match news {
            News::Missed(count) => Some(*count as usize),
            _ => None,
        });
        let since = world.log("lobby").len() - before - world.skipped(bia);
        assert_eq!(heard + missed.iter().sum::<usize>(), since);
        assert!(heard < 60 && missed.len() == 1, "{heard} {missed:?}");
    });
}

#[test]
fn a_flood_is_refused_and_told_of_and_disturbs_nobody() {
    let mut world = World::new(1, Limits::default());
    let flooder = world.add_impatient_guest("flood");
    let [ana, bia] = ["ana", "bia"].map(|name| world.add_guest(name));
    world.run_until(at(3));
    let flood = (0..5_000).map(|n| Word::Say(format!("spam {n}")));
    world.script(flooder, Duration::from_micros(500), flood);
    let calm = (0..10).map(|n| Word::Say(format!("calm {n}")));
    world.script(ana, Duration::from_millis(100), calm);
    world.run_until(at(8));
    let heard = world.heard(bia);
    let calm: Vec<_> = texts(&heard)
        .filter(|text| text.starts_with("calm"))
        .collect();
    assert_eq!(
        calm,
        (0..10).map(|n| format!("calm {n}")).collect::<Vec<_>>()
    );
    let spam = texts(&heard)
        .filter(|text| text.starts_with("spam"))
        .count();
    assert!((100..=400).contains(&spam), "{spam}");
    let told = world.letters(flooder, |letter| match letter {
        Letter::Notice(text) if text.contains("too much") => Some(()),
        _ => None,
    });
    assert!((1..10).contains(&told.len()), "{}", told.len());
    assert_eq!(world.hall().hall.stats().refused as usize, 5_000 - spam);
}

#[test]
fn a_patient_guest_is_never_refused() {
    let mut world = World::new(1, Limits::default());
    let [ana, bia] = ["ana", "bia"].map(|name| world.add_guest(name));
    world.run_until(at(3));
    let words = (0..200).map(|n| Word::Say(format!("{n}")));
    world.script(ana, Duration::ZERO, words);
    world.run_until(at(20));
    let heard = world.heard(bia);
    assert_eq!(texts(&heard).count(), 200);
    assert_eq!(world.hall().hall.stats().refused, 0);
}

#[test]
fn a_taken_name_is_refused_and_a_guest_takes_its_own_back_at_once() {
    let mut world = World::new(1, Limits::default());
    let ana = world.add_guest("ana");
    world.run_until(at(2));
    let other = world.add_guest("Ana");
    world.run_until(at(3));
    let refused = world.news(other, |news| match news {
        News::Refused(reason) => Some(reason.clone()),
        _ => None,
    });
    assert!(refused[0].contains("Ana is taken"), "{refused:?}");
    for name in ["Ａｎａ", "𝐚𝐧𝐚", "an\u{200d}a", "ana\u{fe0f}"] {
        let other = world.add_guest(name);
        world.run_until(world.sim.now() + seconds(1) / 4);
        let refused = world.news(other, |news| matches!(news, News::Refused(_)).then_some(()));
        assert_eq!(refused.len(), 1, "{name}");
    }
    // The hall does not notice the absence, the guest does.
    world.crash_hall();
    world.restart_hall_if_gone();
    world.run_until(at(6));
    assert_eq!(world.members(ana), ["ana"]);
    let back = |line: &Line| matches!(line.event, Event::Joined { back: true, .. });
    assert_eq!(world.heard(ana).iter().filter(|line| back(line)).count(), 1);
}

#[test]
fn nothing_that_strangers_send_breaks_the_hall() {
    run_seeds(0..60, |seed| {
        let limits = Limits {
            members: 8,
            rooms: 4,
            ..Limits::default()
        };
        let mut rng = Rng::new(seed);
        let mut hall = HallNode::new(limits, 1, Vec::new());
        for step in 0..3_000 {
            let now = Time::START + Duration::from_millis(step * 20);
            let from = rng.below(100);
            hall.take(now, from, nodes::some_packet(&mut rng));
            hall.check(now);
        }
    });
}

#[test]
fn nothing_that_a_hall_sends_breaks_a_guest() {
    run_seeds(0..60, |seed| {
        let mut rng = Rng::new(seed);
        let mut guest = nodes::GuestNode::new("ana", true, Time::START, 1);
        for step in 0..3_000 {
            let now = Time::START + Duration::from_millis(step * 20);
            guest.take(now, nodes::some_answer(&mut rng));
        }
        // Let in once, so that it was not all in vain.
        assert!(guest.was_inside());
    });
}

/// What somebody causes to be kept who does something so often in five seconds.
fn kept_after(times: u64, mut step: impl FnMut(&mut HallNode, Time, u64)) -> HallNode {
    let mut hall = HallNode::new(Limits::default(), 1, Vec::new());
    for number in 1..=times {
        let now = Time::START + seconds(5) / times as u32 * number as u32;
        step(&mut hall, now, number);
    }
    hall
}

#[test]
fn who_comes_and_goes_without_end_is_soon_not_let_in() {
    let hall = kept_after(10_000, |hall, now, session| {
        hall.take(now, 7, knock(session, 1, "eva"));
        hall.take(now, 7, word(session, 1, Word::Leave));
    });
    let kept = hall.disk().len();
    assert!((40..=100).contains(&kept), "{kept}");
    assert_eq!(hall.hall.stats().knocks_refused as usize, 10_000 - kept / 2);
}

#[test]
fn who_knocks_again_is_not_announced_and_knocking_has_its_measure() {
    let mut hall = kept_after(5_000, |hall, now, attempt| {
        hall.take(now, 7, knock(1, attempt as u32, "eva"));
    });
    let events: Vec<_> = hall
        .disk()
        .iter()
        .map(|record| &record.line.event)
        .collect();
    let [Event::Joined { back: false, .. }] = &events[..] else {
        panic!("{events:?}");
    };
    assert!(hall.hall.stats().knocks_refused > 4_900);
    // Each time that it is let in it is told where it is, in two letters.
    let numbers = hall.sent().into_iter().filter_map(|down| match down {
        Down::Letter { number, .. } => Some(number),
        _ => None,
    });
    let letters = numbers.max().unwrap_or(0);
    assert!((2..=100).contains(&letters), "{letters}");
}

#[test]
fn who_knocks_under_ever_new_sessions_takes_no_memory() {
    let hall = kept_after(10_000, |hall, now, session| {
        hall.take(now, 7, knock(session, 1, &format!("e{session}")));
    });
    assert!(hall.hall.stats().knocks_refused > 9_900);
    assert_eq!(hall.known(), hall.hall.len());
}

#[test]
fn who_wrote_to_somebody_who_is_gone_is_told_once() {
    let mut world = World::new(1, Limits::default());
    let [ana, bia] = ["ana", "bia"].map(|name| world.add_guest(name));
    world.run_until(at(3));
    world.sim.pause(bia);
    let tell = |number| Word::Tell {
        to: "bia".into(),
        text: format!("private {number}"),
    };
    world.script(ana, Duration::ZERO, (0..90).map(tell));
    world.run_until(at(15));
    let notices = world.letters(ana, |letter| match letter {
        Letter::Notice(sentence) => Some(sentence.clone()),
        _ => None,
    });
    let expected = "bia has left and may not have read your last 90 messages";
    assert_eq!(notices, [expected]);
}

#[test]
fn who_changes_names_without_end_is_soon_not_obeyed() {
    let hall = kept_after(10_000, |hall, now, number| {
        if number == 1 {
            hall.take(now, 7, knock(1, 1, "eva"));
        }
        hall.take(now, 7, word(1, number, Word::Nick(format!("e{number}"))));
    });
    let kept = hall.disk().len();
    assert!((100..=360).contains(&kept), "{kept}");
    assert!(hall.hall.stats().refused as usize >= 10_000 - kept);
}

#[test]
fn another_pattern_is_refused_by_its_name() {
    let mut hall = HallNode::new(Limits::default(), 1, Vec::new());
    let mut up = knock(1, 1, "ana");
    if let super::wire::Says::Knock(knock) = &mut up.says {
        knock.pattern = "req-rep".into();
    }
    hall.take(Time::START, 7, up);
    let [Down::Refused { reason, .. }] = &hall.sent()[..] else {
        panic!("it was let in");
    };
    assert!(reason.contains("speaks pub-sub") && reason.contains("--pattern pub-sub"));
    assert_eq!(hall.hall.len(), 0);
}

#[test]
fn what_a_full_disk_does_not_take_is_refused_and_heard_by_nobody() {
    run_seeds(0..40, |seed| {
        let mut world = World::new(seed, Limits::default());
        let [ana, bia] = ["ana", "bia"].map(|name| world.add_guest(name));
        world.run_until(at(3));
        let say = |text: &str| [Word::Say(text.into())];
        world.fill_disk(true);
        world.script(
            ana,
            Duration::ZERO,
            (0..5).map(|n| Word::Say(format!("lost {n}"))),
        );
        world.run_until(at(5));
        // Who comes and goes is announced all the same.
        let eva = world.add_guest("eva");
        world.run_until(at(7));
        world.fill_disk(false);
        world.script(ana, Duration::ZERO, say("kept"));
        world.run_until(at(10));
        let refused = world.letters(ana, |letter| match letter {
            Letter::NotTaken(sentence) => Some(sentence.clone()),
            _ => None,
        });
        assert_eq!(refused.len(), 5);
        assert!(refused[0].contains("\"lost 0\" was not taken: the disk is full"));
        assert_eq!(world.hall().hall.stats().unkept, 5);
        for guest in [ana, bia, eva] {
            let heard = world.heard(guest);
            assert_eq!(texts(&heard).collect::<Vec<_>>(), ["kept"]);
            assert_eq!(world.members(guest), ["ana", "bia", "eva"]);
            assert!(world.is_at_rest(guest));
        }
        // What was not kept leaves a gap in the numbers, which a start anew gets over.
        world.crash_hall();
        world.restart_hall_if_gone();
        world.script(bia, Duration::ZERO, say("after"));
        world.run_until(at(20));
        for guest in [ana, bia, eva] {
            let heard = world.heard(guest);
            assert_eq!(texts(&heard).collect::<Vec<_>>(), ["kept", "after"]);
        }
    });
}

#[test]
fn a_thousand_members_hear_the_same() {
    let mut crowd = Crowd::new();
    for _ in 0..20 {
        (0..50).for_each(|_| crowd.add_guest());
        crowd.rounds(1);
    }
    crowd.rounds(20);
    let texts: Vec<String> = (0..10).map(|n| format!("message {n}")).collect();
    for (number, text) in texts.iter().enumerate() {
        crowd.say(number * 100, text.clone());
        crowd.rounds(3);
    }
    crowd.rounds(20);
    for (guest, (said, members)) in crowd.heard().enumerate() {
        assert_eq!(said, texts, "guest {guest}");
        assert_eq!(members, 1_000, "guest {guest}");
    }
}
