//! Elections over real sockets: members are threads of this process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use mutirao::Endpoint;
use mutirao::election::{
    Algorithm, BallotError, Callbacks, Election, ElectionError, ElectionSetup, Epoch, Lease,
    MemberId, Packet, Standing, Timing, Watcher, Word,
};
use mutirao::transport::{Frame, Role, Side, SocketOptions, open};

use crate::support::{PATIENCE, free_endpoint, send};

#[derive(Debug)]
enum Told {
    Gained(MemberId, Lease),
    Lost(MemberId, Epoch),
}

/// Members with slow times, as other tests run beside them.
struct Cluster {
    folder: tempfile::TempDir,
    peers: BTreeMap<MemberId, Endpoint>,
    members: BTreeMap<MemberId, Election>,
    tell: std::sync::mpsc::Sender<Told>,
    told: Receiver<Told>,
}

impl Cluster {
    fn start(scheme: &str) -> Cluster {
        let peers = (1..=3).map(|id| (MemberId(id), free_endpoint(scheme)));
        let (tell, told) = channel();
        let mut cluster = Cluster {
            folder: tempfile::tempdir().expect("a folder"),
            peers: peers.collect(),
            members: BTreeMap::new(),
            tell,
            told,
        };
        for id in 1..=3 {
            cluster.join(MemberId(id));
        }
        cluster
    }

    fn setup(&self, id: MemberId) -> ElectionSetup {
        let ballot = self.ballot(id);
        ElectionSetup {
            timing: Timing::stretched(3),
            ..ElectionSetup::new(id, self.peers.clone(), Some(ballot))
        }
    }

    fn ballot(&self, id: MemberId) -> PathBuf {
        self.folder.path().join(id.to_string())
    }

    fn join(&mut self, id: MemberId) {
        let (gained, lost) = (self.tell.clone(), self.tell.clone());
        let callbacks = Callbacks {
            on_gained: Box::new(move |lease| drop(gained.send(Told::Gained(id, lease)))),
            on_lost: Box::new(move |epoch| drop(lost.send(Told::Lost(id, epoch)))),
        };
        let member = Election::start(self.setup(id), callbacks);
        let member = member.unwrap_or_else(|error| panic!("{error}"));
        self.members.insert(id, member);
    }

    /// The next leader that the callbacks tell of.
    fn leader(&self) -> (MemberId, Lease) {
        loop {
            if let Told::Gained(id, lease) = self.told.recv_timeout(PATIENCE).expect("a leader") {
                return (id, lease);
            }
        }
    }

    /// Waits until `member` takes `leader` for the leader.
    fn follows(&self, member: MemberId, leader: MemberId) {
        let deadline = Instant::now() + PATIENCE;
        let member = &self.members[&member];
        while member.leader() != Some(leader) {
            let left = deadline.checked_duration_since(Instant::now());
            member.wait_for_change(member.view(), left.expect("it follows in time"));
        }
    }
}

fn a_leader_that_goes_is_followed_by_another(scheme: &str) {
    let mut cluster = Cluster::start(scheme);
    let (first, lease) = cluster.leader();
    for id in 1..=3 {
        cluster.follows(MemberId(id), first);
    }
    cluster.members.remove(&first);
    assert!(!lease.is_valid() && lease.remaining().is_zero());
    let (second, next) = cluster.leader();
    assert!(second != first && next.epoch() > lease.epoch());
    // The one that comes back follows, whatever its id.
    cluster.join(first);
    cluster.follows(first, second);
}

#[test]
fn over_tcp() {
    a_leader_that_goes_is_followed_by_another("tcp");
}

#[test]
fn over_ipc() {
    a_leader_that_goes_is_followed_by_another("ipc");
}

#[test]
fn over_raw_tcp() {
    a_leader_that_goes_is_followed_by_another("raw_tcp");
}

#[test]
fn over_raw_udp() {
    a_leader_that_goes_is_followed_by_another("raw_udp");
}

#[test]
fn each_loss_follows_its_gain() {
    let mut cluster = Cluster::start("ipc");
    let (leader, lease) = cluster.leader();
    cluster.members.remove(&leader);
    let lost = loop {
        match cluster
            .told
            .recv_timeout(PATIENCE)
            .expect("it hears of its end")
        {
            Told::Lost(id, epoch) if id == leader => break epoch,
            _ => {}
        }
    };
    assert_eq!(lost, lease.epoch());
}

#[test]
fn without_a_majority_nobody_leads_for_long() {
    let mut cluster = Cluster::start("ipc");
    let (leader, lease) = cluster.leader();
    cluster.members.retain(|&id, _| id == leader);
    let lost = loop {
        if let Told::Lost(_, epoch) = cluster.told.recv_timeout(PATIENCE).expect("it steps down") {
            break epoch;
        }
    };
    assert_eq!(lost, lease.epoch());
    assert!(cluster.members[&leader].lease().is_none() && !lease.is_valid());
}

#[test]
fn bully_elects_the_highest() {
    let peers: BTreeMap<_, _> = (1..=3)
        .map(|id| (MemberId(id), free_endpoint("ipc")))
        .collect();
    let start = |&id: &MemberId| {
        let setup = ElectionSetup {
            algorithm: Algorithm::Bully,
            timing: Timing::stretched(3),
            ..ElectionSetup::new(id, peers.clone(), None)
        };
        Election::start(setup, Callbacks::default()).expect("it starts")
    };
    let members: Vec<Election> = peers.keys().map(start).collect();
    let deadline = Instant::now() + PATIENCE;
    while members
        .iter()
        .any(|member| member.leader() != Some(MemberId(3)))
    {
        assert!(Instant::now() < deadline);
        members[0].wait_for_change(members[0].view(), Duration::from_millis(20));
    }
    assert_eq!(
        members[2].lease().map(|lease| lease.remaining()),
        Some(Duration::MAX)
    );
}

#[test]
fn a_watcher_sees_who_leads_and_who_is_away() {
    let mut cluster = Cluster::start("tcp");
    let (leader, lease) = cluster.leader();
    let away = MemberId(if leader == MemberId(1) { 2 } else { 1 });
    cluster.members.remove(&away);
    let mut watcher =
        Watcher::connect(&cluster.peers, &SocketOptions::default()).expect("it opens");
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline);
        let seen = watcher.look(Duration::from_millis(50)).expect("it looks");
        assert_eq!((seen.len(), seen[&away]), (3, None));
        let Some(sighting) = seen[&leader] else {
            continue;
        };
        if sighting.view.standing == Standing::Leader {
            assert_eq!(sighting.view.leader, Some(leader));
            assert!(sighting.lease > Duration::ZERO && sighting.lease < Duration::from_secs(1));
            assert!(sighting.view.epoch >= lease.epoch());
            break;
        }
    }
}

#[test]
fn a_ballot_that_is_damaged_or_in_use_keeps_a_member_out() {
    let mut cluster = Cluster::start("ipc");
    let refusal = |cluster: &Cluster| {
        let mut setup = cluster.setup(MemberId(1));
        setup.bind = Some(free_endpoint("ipc"));
        Election::start(setup, Callbacks::default()).expect_err("refused")
    };
    let busy = refusal(&cluster);
    assert!(
        matches!(busy, ElectionError::Ballot(BallotError::Busy { .. })),
        "{busy}"
    );
    cluster.members.remove(&MemberId(1));
    std::fs::write(
        cluster.ballot(MemberId(1)),
        "mutirao-ballot 1 member=1 epoch=0",
    )
    .unwrap();
    let damaged = refusal(&cluster);
    assert!(damaged.to_string().contains("is damaged"), "{damaged}");
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let peers = BTreeMap::from([(MemberId(1), free_endpoint("ipc"))]);
    let refusal = |setup| {
        let error = Election::start(setup, Callbacks::default()).expect_err("refused");
        error.to_string()
    };
    let stranger = ElectionSetup::new(MemberId(2), peers.clone(), None);
    assert!(refusal(stranger).contains("member 2 is not among the members"));
    let mut hasty = ElectionSetup::new(MemberId(1), peers.clone(), None);
    hasty.timing.lease = hasty.timing.timeout_min;
    assert!(refusal(hasty).contains("shorten lease"));
    let mut exposed = ElectionSetup::new(MemberId(1), peers, None);
    exposed.bind = Some("tcp://*:*".parse().unwrap());
    assert!(refusal(exposed).contains("without encryption"));
}

/// Rubbish, strangers and members with other settings change nothing for those who agree.
#[test]
fn what_is_not_for_a_member_is_dropped() {
    let cluster = Cluster::start("ipc");
    let (leader, lease) = cluster.leader();
    let options = SocketOptions::default();
    let mut stranger = open(
        Role::Dealer,
        Side::Connect,
        &cluster.peers[&leader],
        &options,
    )
    .unwrap();
    let usurper = MemberId(if leader == MemberId(1) { 2 } else { 1 });
    let packet = |cluster, to, from| {
        let (epoch, sent_ns) = (lease.epoch().next(), 0);
        let word = Word::Beat { epoch, sent_ns };
        Packet {
            cluster,
            to,
            from,
            instance: 7,
            word,
        }
        .encode()
    };
    let frames = [
        b"".to_vec(),
        b"GET / HTTP/1.1\r\n".to_vec(),
        vec![0xff; 90],
        packet(12345, leader, usurper),
        packet(0, usurper, usurper),
        packet(0, leader, leader),
    ];
    for frame in frames {
        send(&mut *stranger, &[Frame::from(frame)]);
    }
    send(
        &mut *stranger,
        &[Frame::from(vec![1]), Frame::from(vec![2])],
    );
    // It has read all of that when it answers this.
    let mut watcher = Watcher::connect(&cluster.peers, &options).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let leads = loop {
        assert!(Instant::now() < deadline);
        let seen = watcher.look(Duration::from_millis(50)).unwrap();
        if let Some(sighting) = seen[&leader] {
            break sighting;
        }
    };
    assert!(leads.view.epoch >= lease.epoch());
    assert!(cluster.members[&leader].view().epoch < Epoch(1_000));
}

#[test]
fn stopping_ends_it_and_lets_its_ballot_go() {
    let mut cluster = Cluster::start("ipc");
    let member = &cluster.members[&MemberId(2)];
    member.stop_handle().stop();
    assert_eq!(member.wait(), Ok(()));
    assert!(member.lease().is_none());
    let path: &Path = &cluster.ballot(MemberId(2));
    assert!(path.exists());
    cluster.members.remove(&MemberId(2));
    cluster.join(MemberId(2));
}
