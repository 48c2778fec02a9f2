//! Every state of three members that can be reached within bounds, with the real machine.
//!
//! Breadth first over all that may happen next: a message arrives, again, as late as may be, or never; a tick
//! passes whether members were woken or not (so every pause is among the histories); a member stands
//! for election whether it is time or not and whoever would back it; a heartbeat or a question goes out;
//! a write reaches the disk; a leader resigns; a member crashes and comes back. What is not tried: that a message
//! which one says again and again arrives after a later one of its kind.
//!
//! Two states are taken for one if they differ only in when they are, or in what cannot matter any more. Clocks
//! tick together: what drift may do is for [`Timing::validate`] to rule out.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

use super::*;

const TICK: Duration = Duration::from_millis(1);

/// The present of every state, in ticks since the clock's start.
const NOW_TICKS: u32 = 1_000;

/// Longer ago than any promise or lease lasts.
const LONG_AGO_TICKS: u32 = 3;

fn at(ticks: u32) -> Time {
    Time::START + TICK * ticks
}

fn now() -> Time {
    at(NOW_TICKS)
}

/// How far the search goes.
#[derive(Clone, Debug)]
struct Bounds {
    /// No member stands in a higher epoch.
    epochs: u64,
    /// Times that members stand, in one history.
    stands: u32,
    /// Crashes in one history.
    crashes: u32,
    /// Times that a leader resigns, in one history.
    resigns: u32,
    /// States after which the search gives up.
    states: usize,
}

/// Ways to be wrong, each of which the search must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// A crash takes the ballot along, so that a member may vote twice in an epoch.
    Amnesia,
    /// The lease outlasts the promises.
    LongLease,
    /// A restarted member votes at once, whatever it may have promised.
    HastyRestart,
    /// A leader says that it resigns, and leads on.
    HollowResign,
}

/// A message on its way, by its number in the table of all that were ever sent.
type Flight = u16;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    members: [Rc<Quorum>; 3],
    disks: [Ballot; 3],
    /// In ascending order.
    flights: Vec<Flight>,
    led: BTreeMap<Epoch, MemberId>,
    stands: u32,
    crashes: u32,
    resigns: u32,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Tick,
    Arrive(Flight),
    Stand(usize, u64),
    /// A heartbeat, or the question for votes, goes out.
    Wake(usize),
    Resign(usize),
    Store(usize),
    /// With or without what was being written.
    Crash(usize, bool),
}

#[derive(Debug)]
struct Found {
    states: usize,
    is_complete: bool,
    /// States in which somebody leads: without, the search would show nothing.
    led_states: usize,
    /// What is wrong, and how it came about.
    violation: Option<String>,
}

struct Search {
    bounds: Bounds,
    flaw: Flaw,
    timing: Timing,
    table: Vec<(MemberId, MemberId, Word)>,
    numbers: HashMap<(MemberId, MemberId, Word), Flight>,
}

impl Search {
    fn new(bounds: Bounds, flaw: Flaw) -> Search {
        let timing = Timing {
            beat: TICK,
            lease: TICK * if flaw == Flaw::LongLease { 4 } else { 2 },
            timeout_min: TICK * 3,
            timeout_max: TICK * 4,
            drift_ppm: 0,
        };
        assert_eq!(timing.validate().is_ok(), flaw != Flaw::LongLease);
        Search {
            bounds,
            flaw,
            timing,
            table: Vec::new(),
            numbers: HashMap::new(),
        }
    }

    fn run(mut self) -> Found {
        let first = self.start();
        let mut found = Found {
            states: 1,
            is_complete: true,
            led_states: 0,
            violation: None,
        };
        let mut known = HashSet::from([fingerprint(&first)]);
        let mut came_by: Vec<(usize, Option<Action>)> = vec![(0, None)];
        let mut queue = VecDeque::from([(0, first)]);
        while let Some((number, world)) = queue.pop_front() {
            for action in self.actions(&world) {
                let next = match self.apply(&world, action) {
                    Ok(Some(next)) => next,
                    Ok(None) => continue,
                    Err(what) => {
                        found.violation = Some(self.story(&came_by, number, action, &what));
                        found.is_complete = false;
                        return found;
                    }
                };
                if !known.insert(fingerprint(&next)) {
                    continue;
                }
                let leaders = leaders(&next);
                if leaders > 1 {
                    let what = "two members lead at once";
                    found.violation = Some(self.story(&came_by, number, action, what));
                    found.is_complete = false;
                    return found;
                }
                found.led_states += leaders;
                found.states += 1;
                if found.states >= self.bounds.states {
                    found.is_complete = false;
                    return found;
                }
                came_by.push((number, Some(action)));
                queue.push_back((came_by.len() - 1, next));
            }
        }
        found
    }

    fn start(&self) -> World {
        let member = |id| Rc::new(self.member(id, Ballot::default()));
        let mut world = World {
            members: [member(1), member(2), member(3)],
            disks: [Ballot::default(); 3],
            flights: Vec::new(),
            led: BTreeMap::new(),
            stands: 0,
            crashes: 0,
            resigns: 0,
        };
        // They have been up for a while.
        for member in &mut world.members {
            let member = Rc::make_mut(member);
            member.promise = Promise::unknown(now());
            simplify(member);
        }
        world
    }

    fn member(&self, id: u64, ballot: Ballot) -> Quorum {
        let members = Members::new(MemberId(id), [1, 2, 3].map(MemberId)).unwrap();
        let mut member = Quorum::new(members, self.timing.clone(), ballot, now(), 0);
        if self.flaw == Flaw::HastyRestart {
            member.promise.until = now();
        }
        simplify(&mut member);
        member
    }

    fn actions(&self, world: &World) -> Vec<Action> {
        if world.stands == 0 {
            // Until then nothing happens, and one is like the other.
            let first = (1..=self.bounds.epochs).map(|epoch| Action::Stand(0, epoch));
            return first.collect();
        }
        let mut actions = vec![Action::Tick];
        actions.extend(world.flights.iter().map(|&flight| Action::Arrive(flight)));
        for i in 0..3 {
            actions.extend((1..=self.bounds.epochs).map(|epoch| Action::Stand(i, epoch)));
            actions.extend([Action::Wake(i), Action::Store(i), Action::Resign(i)]);
            actions.extend([Action::Crash(i, false), Action::Crash(i, true)]);
        }
        actions
    }

    /// The world after an action; `None` when it cannot be, or changes nothing.
    fn apply(&mut self, world: &World, action: Action) -> Result<Option<World>, String> {
        let mut next = world.clone();
        match action {
            Action::Tick => self.tick(&mut next),
            Action::Arrive(flight) => {
                let (from, to, word) = self.table[usize::from(flight)];
                let input = ElectionInput::Word { from, word };
                self.act(&mut next, to.0 as usize - 1, |member| {
                    member.handle(now(), input)
                })?;
            }
            Action::Stand(i, epoch) if world.stands < self.bounds.stands => {
                next.stands += 1;
                let before = next.members[i].ballot;
                self.act(&mut next, i, |member| stand(member, Epoch(epoch)))?;
                if next.members[i].ballot == before {
                    return Ok(None);
                }
            }
            Action::Wake(i) => self.act(&mut next, i, |member| member.wake(now()))?,
            Action::Resign(i) if world.resigns < self.bounds.resigns => {
                if world.members[i].tenure(now()).is_none() {
                    return Ok(None);
                }
                next.resigns += 1;
                let is_hollow = self.flaw == Flaw::HollowResign;
                self.act(&mut next, i, |member| resign(member, is_hollow))?;
            }
            Action::Store(i) => {
                let Some(ballot) = world.members[i].writing else {
                    return Ok(None);
                };
                next.disks[i] = ballot;
                let input = ElectionInput::Persisted(ballot);
                self.act(&mut next, i, |member| member.handle(now(), input))?;
            }
            Action::Crash(i, wrote) if world.crashes < self.bounds.crashes => {
                next.crashes += 1;
                match (wrote, world.members[i].writing) {
                    (true, None) => return Ok(None),
                    (true, Some(ballot)) => next.disks[i] = ballot,
                    (false, _) => {}
                }
                if self.flaw == Flaw::Amnesia {
                    next.disks[i] = Ballot::default();
                }
                next.members[i] = Rc::new(self.member(i as u64 + 1, next.disks[i]));
            }
            Action::Stand(..) | Action::Resign(_) | Action::Crash(..) => return Ok(None),
        }
        Ok(Some(next))
    }

    /// Lets a member do something and takes what it then wants done.
    fn act(
        &mut self,
        world: &mut World,
        i: usize,
        deed: impl FnOnce(&mut Quorum),
    ) -> Result<(), String> {
        let member = Rc::make_mut(&mut world.members[i]);
        deed(member);
        let me = member.members.me();
        while let Some(output) = member.poll() {
            match output {
                ElectionOutput::Send { to, word } if matters(&word) => {
                    let is_same = |&flight: &Flight| {
                        let (from, its_to, its_word) = self.table[usize::from(flight)];
                        (from, its_to, kind(&its_word)) == (me, to, kind(&word))
                    };
                    world.flights.retain(|flight| !is_same(flight));
                    let flight = self.number((me, to, word));
                    insert(&mut world.flights, flight);
                }
                ElectionOutput::Gained(epoch) => {
                    if let Some((last, leader)) = world.led.last_key_value()
                        && *last >= epoch
                    {
                        return Err(format!(
                            "{me} leads in epoch {epoch}, {leader} did in {last}"
                        ));
                    }
                    world.led.insert(epoch, me);
                }
                _ => {}
            }
        }
        simplify(member);
        Ok(())
    }

    fn number(&mut self, flight: (MemberId, MemberId, Word)) -> Flight {
        let table = &mut self.table;
        *self.numbers.entry(flight).or_insert_with(|| {
            table.push(flight);
            u16::try_from(table.len() - 1).expect("fewer messages")
        })
    }

    /// Instead of the present, the past moves.
    fn tick(&mut self, world: &mut World) {
        for member in &mut world.members {
            let member = Rc::make_mut(member);
            times(member, &mut |time| *time = earlier(*time));
            simplify(member);
        }
        let flights = std::mem::take(&mut world.flights);
        for flight in flights {
            let (from, to, word) = self.table[usize::from(flight)];
            if let Some(word) = aged(word) {
                let flight = self.number((from, to, word));
                insert(&mut world.flights, flight);
            }
        }
    }

    fn story(
        &self,
        came_by: &[(usize, Option<Action>)],
        mut number: usize,
        last: Action,
        what: &str,
    ) -> String {
        let mut actions = vec![last];
        while let (before, Some(action)) = came_by[number] {
            actions.push(action);
            number = before;
        }
        let lines = actions.iter().rev().map(|action| match action {
            Action::Arrive(flight) => format!("arrives {:?}", self.table[usize::from(*flight)]),
            action => format!("{action:?}"),
        });
        format!("{what}:\n{}", lines.collect::<Vec<_>>().join("\n"))
    }
}

fn leaders(world: &World) -> usize {
    let leads = |member: &&Rc<Quorum>| member.tenure(now()).is_some();
    world.members.iter().filter(leads).count()
}

/// States are remembered by 64 bits: of a million, two are confused with a chance of one in 37 million.
fn fingerprint(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

fn insert(flights: &mut Vec<Flight>, flight: Flight) {
    if let Err(place) = flights.binary_search(&flight) {
        flights.insert(place, flight);
    }
}

/// Stands, if its promises allow that; whether others would back it is not asked.
fn stand(member: &mut Quorum, epoch: Epoch) {
    member.look_at_lease(now());
    if !member.is_leading() {
        member.stand(now(), epoch);
    }
}

/// Gives up the lead, or only says so.
fn resign(member: &mut Quorum, is_hollow: bool) {
    let role = member.role.clone();
    member.handle(now(), ElectionInput::Resign);
    if is_hollow {
        member.role = role;
    }
}

/// Refusals and what concerns pre-votes change nothing but when, and in which epoch, members stand.
fn matters(word: &Word) -> bool {
    !matches!(
        word,
        Word::AskPreVote { .. } | Word::PreVote { .. } | Word::Vote { granted: false, .. }
    )
}

/// What makes two words the same, said again.
fn kind(word: &Word) -> (u8, Option<Epoch>) {
    let tag = match word {
        Word::AskVote { .. } => 0,
        Word::Vote { .. } => 1,
        Word::Beat { .. } => 2,
        Word::Resign { .. } => 3,
        _ => 4,
    };
    (tag, epoch_of(word))
}

/// The word when a tick has passed; `None` if it has come too late to matter.
fn aged(mut word: Word) -> Option<Word> {
    match &mut word {
        Word::AskVote { sent_ns, .. } | Word::Beat { sent_ns, .. } => {
            *sent_ns = earlier_ns(*sent_ns)
        }
        Word::Vote { sent_ns, .. } | Word::BeatAck { sent_ns, .. } => {
            *sent_ns = earlier_ns(*sent_ns);
            // No lease that counts from then is left.
            if *sent_ns <= nanos(long_ago()) {
                return None;
            }
        }
        _ => {}
    }
    Some(word)
}

fn long_ago() -> Time {
    at(NOW_TICKS - LONG_AGO_TICKS - 1)
}

fn earlier(time: Time) -> Time {
    Time::START + time.since(Time::START + TICK)
}

fn earlier_ns(stamp: u64) -> u64 {
    nanos(earlier(Time::START + Duration::from_nanos(stamp))).max(nanos(long_ago()))
}

/// Every moment that a member remembers.
fn times(member: &mut Quorum, act: &mut impl FnMut(&mut Time)) {
    act(&mut member.promise.until);
    member.asked_ns = earlier_ns(member.asked_ns);
    match &mut member.role {
        Role::Follower | Role::Sounding { .. } => {}
        Role::Candidate { votes, .. } => votes.values_mut().for_each(&mut *act),
        Role::Leader { heard, until, .. } => {
            heard.iter_mut().for_each(&mut *act);
            act(until);
        }
    }
}

/// Makes equal what differs without meaning.
fn simplify(member: &mut Quorum) {
    // It stands when the search says so, in whatever epoch.
    member.due = at(2 * NOW_TICKS);
    member.rng = Rng::new(0);
    member.leader = None;
    member.seen = member.ballot.epoch.max(member.led);
    if member.promise.until <= now() {
        member.promise = Promise {
            to: None,
            epoch: Epoch::default(),
            until: now(),
        };
    }
    let is_past = member.ballot == member.durable && member.promise.to != member.ballot.voted_for;
    if is_past {
        member.asked_ns = nanos(long_ago());
    }
    match &mut member.role {
        Role::Follower | Role::Sounding { .. } => {}
        Role::Candidate { ask_at, votes } => {
            *ask_at = ask_at.map(|_| now());
            votes.retain(|_, sent| *sent > long_ago());
        }
        Role::Leader {
            heard,
            until,
            beat_at,
        } => {
            *beat_at = now();
            *until = (*until).max(now());
            heard
                .iter_mut()
                .for_each(|sent| *sent = (*sent).max(long_ago()));
        }
    }
}

fn search(bounds: Bounds, flaw: Flaw) -> Found {
    let found = Search::new(bounds.clone(), flaw).run();
    println!(
        "{flaw:?}: {} states within {bounds:?}{}, {} of them with a leader",
        found.states,
        if found.is_complete {
            ", which are all"
        } else {
            ""
        },
        found.led_states
    );
    found
}

fn bounds(epochs: u64, stands: u32, crashes: u32, resigns: u32) -> Bounds {
    Bounds {
        epochs,
        stands,
        crashes,
        resigns,
        states: 400_000,
    }
}

/// How many states of a machine without flaw are looked at: `MUTIRAO_STATES=20000000` goes as far as
/// memory allows.
fn states() -> usize {
    let states = std::env::var("MUTIRAO_STATES").ok();
    states
        .and_then(|states| states.parse().ok())
        .unwrap_or(60_000)
}

#[test]
fn no_two_of_three_members_ever_lead() {
    for mut bounds in [
        bounds(1, 2, 1, 0),
        bounds(2, 2, 0, 0),
        bounds(2, 2, 0, 1),
        bounds(2, 2, 1, 0),
        bounds(3, 3, 1, 1),
    ] {
        bounds.states = states();
        let found = search(bounds, Flaw::None);
        assert_eq!(found.violation, None);
        assert!(found.led_states > 1_000, "{found:?}");
    }
}

fn violation(bounds: Bounds, flaw: Flaw) -> String {
    let violation = search(bounds, flaw).violation.expect("a split");
    println!("{violation}");
    violation
}

#[test]
fn a_member_that_votes_twice_in_an_epoch_is_found() {
    let violation = violation(bounds(1, 2, 1, 0), Flaw::Amnesia);
    assert!(violation.contains("leads in epoch 1"), "{violation}");
}

#[test]
fn a_lease_that_outlasts_the_promises_is_found() {
    let violation = violation(bounds(2, 2, 0, 0), Flaw::LongLease);
    assert!(
        violation.contains("two members lead at once"),
        "{violation}"
    );
}

#[test]
fn a_restart_that_forgets_its_promises_is_found() {
    let violation = violation(bounds(2, 2, 1, 0), Flaw::HastyRestart);
    assert!(
        violation.contains("two members lead at once"),
        "{violation}"
    );
}

#[test]
fn a_leader_that_says_it_resigns_and_leads_on_is_found() {
    let violation = violation(bounds(2, 2, 0, 1), Flaw::HollowResign);
    assert!(
        violation.contains("two members lead at once"),
        "{violation}"
    );
}
