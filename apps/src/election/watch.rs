//! `mutirao election watch`: who leads, who follows, who is silent, live.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use mutirao::election::{MemberId, Sighting, Standing, View, Watcher};
use mutirao::transport::SocketOptions;
use serde_json::{Value, json};

use crate::columns;
use crate::exit::Exit;
use crate::flags::{self, FormatFlag, KeyFlag, PeersFlags, ServerFlag};
use crate::screen::Screen;

/// How long answers are waited for, and so between two looks.
const INTERVAL: Duration = Duration::from_millis(200);

/// Looks in which a member may miss a question before it counts as silent.
const PATIENCE: Duration = Duration::from_secs(1);

/// Changes that a terminal shows.
const CHANGES: usize = 10;

/// Show who leads, live, without taking part.
///
/// On a terminal one look takes the place of the other; elsewhere every change is a line, and with --format json a line
/// with all members. Stopped with Ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mutirao election watch \
    --peers 1=tcp://127.0.0.1:5581,2=tcp://127.0.0.1:5582,3=tcp://127.0.0.1:5583")]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    peers: PeersFlags,

    #[command(flatten)]
    format: FormatFlag,

    #[command(flatten)]
    key: KeyFlag,

    #[command(flatten)]
    server: ServerFlag,
}

pub(crate) fn run(args: &WatchArgs) -> Result<(), Exit> {
    let peers = args.peers.peers()?;
    let options = SocketOptions {
        security: flags::security(&args.key, Some(&args.server), None)?,
        ..SocketOptions::default()
    };
    let mut watcher = Watcher::connect(&peers, &options)?;
    let (screen, mut story) = (Screen::new(true), Story::default());
    let mut look = first_look(&mut watcher)?;
    loop {
        let changes = story.go_on(look, &now("%H:%M:%S"));
        match (args.format.is_text(), screen) {
            (true, Screen::InPlace) => {
                let text = story.text(&peers);
                args.format
                    .write(|out| screen.write(out, &text), || Value::Null)?;
            }
            _ if changes.is_empty() => {}
            _ => args.format.write(
                |out| changes.iter().try_for_each(|line| writeln!(out, "{line}")),
                || story.json(),
            )?,
        }
        look = look_once(&mut watcher)?;
    }
}

/// How the members were seen; `None` for one that is silent.
type Look = BTreeMap<MemberId, Option<View>>;

/// Connections take a moment.
fn first_look(watcher: &mut Watcher) -> Result<Look, Exit> {
    let mut look = look_once(watcher)?;
    let mut waited = INTERVAL;
    while waited < PATIENCE && look.values().any(Option::is_none) {
        look = look_once(watcher)?;
        waited += INTERVAL;
    }
    Ok(look)
}

fn look_once(watcher: &mut Watcher) -> Result<Look, Exit> {
    let sightings = watcher.look(INTERVAL);
    let sightings = sightings.map_err(|error| Exit::Environment(error.to_string()))?;
    let seen = sightings.into_iter();
    Ok(seen.map(|(id, seen)| (id, seen.and_then(fresh))).collect())
}

/// What a member has said, if it is worth something still: a leader that did not answer now may have been deposed.
fn fresh(seen: Sighting) -> Option<View> {
    let patience = match seen.view.standing {
        // Answers come when a look begins; those to the one before are older than this.
        Standing::Leader => INTERVAL * 3 / 2,
        Standing::Follower | Standing::Candidate => PATIENCE,
    };
    (seen.age <= patience).then_some(seen.view)
}

/// The last look, and what has changed before.
#[derive(Debug, Default)]
struct Story {
    look: Look,
    changes: VecDeque<String>,
}

impl Story {
    /// Takes the next look; what has changed, in a line for each member.
    fn go_on(&mut self, look: Look, at: &str) -> Vec<String> {
        let changed = look
            .iter()
            .filter(|(id, view)| self.look.get(id) != Some(view));
        let lines: Vec<String> = changed
            .map(|(&id, &view)| format!("{at}  {}", change(id, view)))
            .collect();
        self.changes.extend(lines.iter().cloned());
        self.changes
            .drain(..self.changes.len().saturating_sub(CHANGES));
        self.look = look;
        lines
    }

    fn leaders(&self) -> Vec<(MemberId, View)> {
        let seen = self.look.iter();
        let seen = seen.filter_map(|(&id, &view)| Some((id, view?)));
        seen.filter(|(_, view)| view.standing == Standing::Leader)
            .collect()
    }

    /// All of it, for a terminal.
    fn text(&self, peers: &flags::Peers) -> String {
        let answer = self.look.values().flatten().count();
        let mut text = format!(
            "{}; {answer} of {} answer\n\n",
            in_words(&self.leaders()),
            self.look.len()
        );
        let heads = columns::heads(["MEMBER", "ROLE", "EPOCH", "FOLLOWS", "ENDPOINT"]);
        let rows = self.look.iter().map(|(id, view)| row(*id, *view, peers));
        let rows: Vec<_> = [heads].into_iter().chain(rows).collect();
        let mut written = Vec::new();
        // Nothing is refused by memory.
        let _ = columns::write(&mut written, &rows);
        text += &String::from_utf8_lossy(&written);
        text.push('\n');
        for change in self.changes.iter().rev() {
            let _ = writeln!(text, "{change}");
        }
        text
    }

    /// All of it, for a program.
    fn json(&self) -> Value {
        let leaders = self.leaders();
        let leaders = leaders
            .iter()
            .map(|(id, view)| json!({"id": id.0, "epoch": view.epoch.0}));
        let members = self.look.iter().map(|(id, view)| match view {
            None => json!({"id": id.0, "role": "silent", "epoch": null, "follows": null}),
            Some(view) => json!({
                "id": id.0,
                "role": view.standing.to_string(),
                "epoch": view.epoch.0,
                "follows": view.leader.map(|leader| leader.0),
            }),
        });
        json!({
            "at": now("%Y-%m-%dT%H:%M:%S%.3f%:z"),
            "leaders": leaders.collect::<Vec<_>>(),
            "members": members.collect::<Vec<_>>(),
        })
    }
}

fn now(format: &str) -> String {
    jiff::Zoned::now().strftime(format).to_string()
}

/// The same words as in the members' logs.
fn change(id: MemberId, view: Option<View>) -> String {
    let Some(view) = view else {
        return format!("member {id} is silent");
    };
    let epoch = view.epoch;
    match (view.standing, view.leader) {
        (Standing::Leader, _) => format!("member {id} leads, epoch {epoch}"),
        (Standing::Candidate, _) => format!("member {id} seeks the lead, epoch {epoch}"),
        (Standing::Follower, Some(leader)) if leader != id => {
            format!("member {id} follows member {leader}, epoch {epoch}")
        }
        (Standing::Follower, _) => format!("member {id} knows no leader"),
    }
}

fn in_words(leaders: &[(MemberId, View)]) -> String {
    match leaders {
        [] => "nobody leads".into(),
        [(id, view)] => format!("member {id} leads, epoch {}", view.epoch),
        several => {
            let several = several.iter();
            let names = several.map(|(id, view)| format!("member {id} (epoch {})", view.epoch));
            let names: Vec<String> = names.collect();
            format!("{} say that they lead: {}", names.len(), names.join(", "))
        }
    }
}

fn row(id: MemberId, view: Option<View>, peers: &flags::Peers) -> [String; 5] {
    let dash = || "–".to_owned();
    let (role, epoch) = match view {
        Some(view) => (view.standing.to_string(), view.epoch.to_string()),
        None => ("silent".to_owned(), dash()),
    };
    let follows = view
        .and_then(|view| view.leader)
        .filter(|leader| *leader != id);
    [
        id.to_string(),
        role,
        epoch,
        follows.map_or_else(dash, |leader| leader.to_string()),
        peers.get(&id).map_or_else(dash, ToString::to_string),
    ]
}

#[cfg(test)]
mod tests {
    use mutirao::election::Epoch;

    use super::*;

    fn view(standing: Standing, epoch: u64, leader: u64) -> Option<View> {
        let (epoch, leader) = (Epoch(epoch), Some(MemberId(leader)));
        Some(View {
            standing,
            epoch,
            leader,
        })
    }

    fn look(views: [Option<View>; 2]) -> Look {
        (1..).map(MemberId).zip(views).collect()
    }

    #[test]
    fn every_change_is_a_line_and_what_stays_is_none() {
        let mut story = Story::default();
        let both = [view(Standing::Follower, 1, 2), view(Standing::Leader, 1, 2)];
        let lines = story.go_on(look(both), "at");
        assert_eq!(
            lines,
            [
                "at  member 1 follows member 2, epoch 1",
                "at  member 2 leads, epoch 1"
            ]
        );
        assert!(story.go_on(look(both), "at").is_empty());
        let alone = [view(Standing::Leader, 2, 1), None];
        let lines = story.go_on(look(alone), "at");
        assert_eq!(
            lines,
            ["at  member 1 leads, epoch 2", "at  member 2 is silent"]
        );
        let text = story.text(&flags::Peers::new());
        assert!(
            text.starts_with("member 1 leads, epoch 2; 1 of 2 answer\n"),
            "{text}"
        );
        assert_eq!(story.json()["leaders"], json!([{"id": 1, "epoch": 2}]));
    }

    #[test]
    fn two_that_say_they_lead_are_both_named() {
        let mut story = Story::default();
        story.go_on(
            look([view(Standing::Leader, 3, 1), view(Standing::Leader, 4, 2)]),
            "at",
        );
        let text = story.text(&flags::Peers::new());
        assert!(
            text.starts_with("2 say that they lead: member 1 (epoch 3), member 2 (epoch 4)"),
            "{text}"
        );
    }

    #[test]
    fn what_a_leader_said_is_worth_less_long_than_what_others_said() {
        let sighting = |standing, age| Sighting {
            view: view(standing, 1, 1).unwrap(),
            lease: Duration::ZERO,
            age,
        };
        assert!(fresh(sighting(Standing::Leader, INTERVAL)).is_some());
        assert!(fresh(sighting(Standing::Leader, 2 * INTERVAL)).is_none());
        assert!(fresh(sighting(Standing::Follower, 2 * INTERVAL)).is_some());
        assert!(fresh(sighting(Standing::Follower, 2 * PATIENCE)).is_none());
    }
}
