//! The members of an election, and where each listens.

use std::collections::BTreeMap;

use clap::Args;
use mutirao::Endpoint;
use mutirao::election::{MAX_MEMBERS, MemberId};

use super::{TransportFlags, endpoint};
use crate::exit::Exit;

/// Members by id.
pub(crate) type Peers = BTreeMap<MemberId, Endpoint>;

/// Who takes part, and what carries the messages.
#[derive(Debug, Clone, Args)]
pub(crate) struct PeersFlags {
    /// All members and where each listens, such as 1=tcp://HOST:PORT,2=tcp://HOST:PORT; the same list for every member
    #[arg(long, env = "MUTIRAO_PEERS", value_name = "ID=ENDPOINT,…", value_parser = peers)]
    peers: Peers,

    #[command(flatten)]
    pub(crate) transport: TransportFlags,
}

impl PeersFlags {
    /// The members, by the transport that was asked for.
    pub(crate) fn peers(&self) -> Result<Peers, Exit> {
        let peers = self.peers.iter();
        peers
            .map(|(&id, endpoint)| Ok((id, self.transport.apply(endpoint)?)))
            .collect()
    }
}

/// Reads a list of members.
fn peers(text: &str) -> Result<Peers, String> {
    let mut peers = Peers::new();
    for entry in text.split(',').map(str::trim) {
        let (id, at) = peer(entry)?;
        if let Some(&other) = peers
            .iter()
            .find(|&(_, known)| *known == at)
            .map(|(id, _)| id)
        {
            return Err(format!(
                "members {other} and {id} have the same endpoint, {at}: give each its own"
            ));
        }
        if peers.insert(id, at).is_some() {
            return Err(format!(
                "member {id} is named twice: give each an id of its own"
            ));
        }
    }
    match peers.len() > MAX_MEMBERS {
        true => Err(format!(
            "there are {} members: an election takes at most {MAX_MEMBERS}",
            peers.len()
        )),
        false => Ok(peers),
    }
}

fn peer(entry: &str) -> Result<(MemberId, Endpoint), String> {
    let wrong = || format!("{entry:?} is not a member: write it like 1=tcp://127.0.0.1:5581");
    let (id, at) = entry.split_once('=').ok_or_else(wrong)?;
    let id = id.parse().map_err(|_| wrong())?;
    Ok((id, endpoint(at)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_in_any_order() {
        let read = peers("2=tcp://b:1, 1=raw+tcp://a:1").unwrap();
        let ids: Vec<u64> = read.keys().map(|id| id.0).collect();
        assert_eq!(ids, [1, 2]);
        assert_eq!(read[&MemberId(1)].to_string(), "raw+tcp://a:1");
    }

    #[test]
    fn a_wrong_list_is_refused_with_what_is_wrong() {
        for (text, part) in [
            ("", "is not a member"),
            ("tcp://a:1", "is not a member"),
            ("x=tcp://a:1", "is not a member"),
            ("-1=tcp://a:1", "is not a member"),
            ("1=tcp://a:1,", "is not a member"),
            ("1=tcp://a:1,1=tcp://b:1", "named twice"),
            ("1=tcp://a:1,2=tcp://a:1", "same endpoint"),
            ("1=inproc://a", "only this process"),
            ("1=nonsense", ""),
        ] {
            let refusal = peers(text).unwrap_err();
            assert!(refusal.contains(part), "{text:?}: {refusal}");
        }
        let many: Vec<String> = (0..65)
            .map(|id| format!("{id}=tcp://a:{}", id + 1))
            .collect();
        assert!(peers(&many.join(",")).unwrap_err().contains("at most 64"));
    }
}
