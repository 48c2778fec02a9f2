//! Sequence numbers of published records: what was missed, what came twice, who started anew.
//!
//! A publisher numbers the records of each topic from 0. The tracker compares the numbers of every
//! frame with what it expects. It is bounded: beyond its limit it forgets the topic that has been
//! silent for longest, and a gap across that moment goes unnoticed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// One start of a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PublisherId(pub u64);

/// Publishers remembered for one topic; the one that has been silent for longest is forgotten.
const MAX_PUBLISHERS: usize = 8;

/// What the numbers of a frame say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The frame's topic.
    pub topic: Arc<str>,
    /// What happened before the frame's first new record.
    pub before: Before,
    /// How many of the frame's records, from its first on, came before.
    pub duplicates: u64,
}

/// What happened between the last record of a topic and the ones that have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nothing; or the topic is new to us, and we cannot know.
    Nothing,
    /// That many records were lost.
    Missed(u64),
    /// The topic was known, and now another publisher speaks, which had published that many
    /// records there before.
    Restarted(u64),
}

#[derive(Debug)]
struct Track {
    /// Publishers and the next number of each, the last one to speak at the end.
    publishers: Vec<(PublisherId, u64)>,
    last_heard: u64,
}

/// Tracks the sequence numbers of topics.
#[derive(Debug)]
pub struct Tracker {
    max_topics: usize,
    tracks: HashMap<Arc<str>, Track>,
    /// Topics by when they were last heard, in frames.
    by_age: BTreeMap<u64, Arc<str>>,
    frames: u64,
    forgotten: u64,
}

impl Tracker {
    /// A tracker of at most `max_topics` topics, at least one.
    pub fn new(max_topics: usize) -> Tracker {
        Tracker {
            max_topics: max_topics.max(1),
            tracks: HashMap::new(),
            by_age: BTreeMap::new(),
            frames: 0,
            forgotten: 0,
        }
    }

    /// How many topics were forgotten to keep the limit.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Takes note of a frame of `count` records, the first of which has the number `first`; without
    /// records, it says that `first` is the number of the next one.
    pub fn arrive(
        &mut self,
        topic: &str,
        publisher: PublisherId,
        first: u64,
        count: u64,
    ) -> Arrival {
        let (topic, is_new) = self.hear(topic);
        let publishers = match self.tracks.get_mut(&topic) {
            Some(track) => &mut track.publishers,
            None => unreachable!("hear has made it"),
        };
        let known = publishers.iter().position(|(id, _)| *id == publisher);
        let expected = known.map(|i| publishers.remove(i).1);
        let before = match expected {
            None if is_new => Before::Nothing,
            None => Before::Restarted(first),
            Some(expected) if first > expected => Before::Missed(first - expected),
            Some(_) => Before::Nothing,
        };
        let duplicates = expected.map_or(0, |expected| expected.saturating_sub(first).min(count));
        let next = first.saturating_add(count).max(expected.unwrap_or(0));
        if publishers.len() == MAX_PUBLISHERS {
            publishers.remove(0);
        }
        publishers.push((publisher, next));
        Arrival {
            topic,
            before,
            duplicates,
        }
    }

    /// Makes the topic the one heard last; whether it is new.
    fn hear(&mut self, topic: &str) -> (Arc<str>, bool) {
        self.frames += 1;
        let frames = self.frames;
        if let Some((name, track)) = self.tracks.get_key_value(topic) {
            let name = name.clone();
            self.by_age.remove(&track.last_heard);
            self.by_age.insert(frames, name.clone());
            if let Some(track) = self.tracks.get_mut(topic) {
                track.last_heard = frames;
            }
            return (name, false);
        }
        if self.tracks.len() == self.max_topics
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.tracks.remove(&oldest);
            self.forgotten += 1;
        }
        let name: Arc<str> = topic.into();
        let track = Track {
            publishers: Vec::new(),
            last_heard: frames,
        };
        self.tracks.insert(name.clone(), track);
        self.by_age.insert(frames, name.clone());
        (name, true)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: PublisherId = PublisherId(1);
    const B: PublisherId = PublisherId(2);

    fn arrive(
        tracker: &mut Tracker,
        publisher: PublisherId,
        first: u64,
        count: u64,
    ) -> (Before, u64) {
        let arrival = tracker.arrive("t", publisher, first, count);
        (arrival.before, arrival.duplicates)
    }

    #[test]
    fn who_joins_late_misses_nothing() {
        let mut tracker = Tracker::new(9);
        assert_eq!(arrive(&mut tracker, A, 100, 5), (Before::Nothing, 0));
        assert_eq!(arrive(&mut tracker, A, 105, 5), (Before::Nothing, 0));
    }

    #[test]
    fn gaps_and_duplicates_are_counted() {
        let mut tracker = Tracker::new(9);
        arrive(&mut tracker, A, 0, 10);
        assert_eq!(arrive(&mut tracker, A, 13, 2), (Before::Missed(3), 0));
        assert_eq!(arrive(&mut tracker, A, 10, 3), (Before::Nothing, 3));
        assert_eq!(arrive(&mut tracker, A, 14, 3), (Before::Nothing, 1));
        assert_eq!(arrive(&mut tracker, A, 17, 1), (Before::Nothing, 0));
    }

    #[test]
    fn a_mark_reveals_the_loss_of_the_last_records() {
        let mut tracker = Tracker::new(9);
        arrive(&mut tracker, A, 0, 10);
        assert_eq!(arrive(&mut tracker, A, 10, 0), (Before::Nothing, 0));
        assert_eq!(arrive(&mut tracker, A, 12, 0), (Before::Missed(2), 0));
        assert_eq!(arrive(&mut tracker, A, 12, 0), (Before::Nothing, 0));
    }

    #[test]
    fn another_publisher_is_announced_once_and_the_first_one_not_forgotten() {
        let mut tracker = Tracker::new(9);
        arrive(&mut tracker, A, 0, 10);
        assert_eq!(arrive(&mut tracker, B, 4, 1), (Before::Restarted(4), 0));
        assert_eq!(arrive(&mut tracker, B, 5, 1), (Before::Nothing, 0));
        assert_eq!(arrive(&mut tracker, A, 11, 1), (Before::Missed(1), 0));
    }

    #[test]
    fn the_topic_silent_for_longest_is_forgotten() {
        let mut tracker = Tracker::new(2);
        for topic in ["a", "b", "a", "c"] {
            tracker.arrive(topic, A, 0, 1);
        }
        assert_eq!(tracker.forgotten(), 1);
        assert_eq!(tracker.arrive("a", A, 5, 1).before, Before::Missed(4));
        assert_eq!(tracker.arrive("b", A, 5, 1).before, Before::Nothing);
    }

    proptest! {
        /// Whatever is lost and repeated: what is delivered and what is missed adds up.
        #[test]
        fn every_record_is_delivered_or_missed_once(frames in proptest::collection::vec((1..5_u64, 0..3_usize), 1..40)) {
            let mut tracker = Tracker::new(1);
            let (mut first, mut accounted) = (0, 0);
            tracker.arrive("t", A, 0, 0);
            for (count, copies) in frames {
                for _ in 0..copies {
                    let arrival = tracker.arrive("t", A, first, count);
                    if let Before::Missed(missed) = arrival.before {
                        accounted += missed;
                    }
                    accounted += count - arrival.duplicates;
                }
                first += count;
            }
            if let Before::Missed(missed) = tracker.arrive("t", A, first, 0).before {
                accounted += missed;
            }
            prop_assert_eq!(accounted, first);
        }

        #[test]
        fn any_numbers_stay_within_the_limits(frames in proptest::collection::vec(("[a-d]", any::<u64>(), any::<u64>(), any::<u64>()), 0..60)) {
            let mut tracker = Tracker::new(3);
            for (topic, publisher, first, count) in frames {
                let arrival = tracker.arrive(&topic, PublisherId(publisher % 20), first, count);
                prop_assert!(arrival.duplicates <= count);
                prop_assert!(tracker.tracks.len() <= 3 && tracker.by_age.len() == tracker.tracks.len());
                prop_assert!(tracker.tracks.values().all(|track| track.publishers.len() <= MAX_PUBLISHERS));
            }
        }
    }
}
