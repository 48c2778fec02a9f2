//! The lines of each file.

use std::fmt::Write as _;

use super::super::{
    Checksum, Entry, Epoch, Fact, HeadId, InstanceId, Payload, Position, RecordId, Stamp,
};
use super::{TextLine, Words, body, check_name};

/// A line of a data node's `data.txt`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataLine {
    /// `node INSTANCE NAME`: whose file this is; the first line.
    Node {
        /// Chosen at random with the file.
        instance: InstanceId,
        /// The name, which may change later.
        name: String,
    },
    /// `epoch EPOCH HEAD`: orders of earlier reigns are refused from here on.
    Epoch {
        /// The reign.
        epoch: Epoch,
        /// Whose.
        head: HeadId,
    },
    /// `record ID EPOCH SEQ LENGTH CHECKSUM text|base64 BYTES`: the last such line of an id counts.
    Record {
        /// Which record.
        id: RecordId,
        /// By which order.
        stamp: Stamp,
        /// Of the bytes.
        checksum: Checksum,
        /// The bytes.
        bytes: Payload,
    },
    /// `dropped ID EPOCH SEQ`: the copy above does not count any more.
    Dropped {
        /// Which record.
        id: RecordId,
        /// By which order.
        stamp: Stamp,
    },
    /// `damaged ID EPOCH SEQ`: a check has found that the copy above is not what was written.
    Damaged {
        /// Which record.
        id: RecordId,
        /// By which order it was stored.
        stamp: Stamp,
    },
}

impl TextLine for DataLine {
    // Writing to memory cannot fail.
    fn write_words(&self, words: &mut String) {
        match self {
            DataLine::Node { instance, name } => {
                let _ = write!(words, "node {instance} {name}");
            }
            DataLine::Epoch { epoch, head } => {
                let _ = write!(words, "epoch {epoch} {}", head.0);
            }
            DataLine::Record {
                id,
                stamp: Stamp { epoch, seq },
                checksum,
                bytes,
            } => {
                let length = bytes.len();
                let _ = write!(words, "record {id} {epoch} {seq} {length} {checksum} ");
                body::write(bytes, words);
            }
            DataLine::Dropped { id, stamp } => {
                let _ = write!(words, "dropped {id} {} {}", stamp.epoch, stamp.seq);
            }
            DataLine::Damaged { id, stamp } => {
                let _ = write!(words, "damaged {id} {} {}", stamp.epoch, stamp.seq);
            }
        }
    }

    fn read_words(words: &mut Words<'_>) -> Option<DataLine> {
        Some(match words.word()? {
            "node" => DataLine::Node {
                instance: InstanceId(words.hex()?),
                name: read_name(words)?,
            },
            "epoch" => DataLine::Epoch {
                epoch: words.number()?,
                head: HeadId(words.number()?),
            },
            "record" => read_record(words)?,
            "dropped" => DataLine::Dropped {
                id: RecordId(words.hex()?),
                stamp: read_stamp(words)?,
            },
            "damaged" => DataLine::Damaged {
                id: RecordId(words.hex()?),
                stamp: read_stamp(words)?,
            },
            _ => return None,
        })
    }
}

/// A record's line is only good when the bytes are those that the client sent.
fn read_record(words: &mut Words<'_>) -> Option<DataLine> {
    let (id, stamp) = (RecordId(words.hex()?), read_stamp(words)?);
    let (length, checksum) = (words.number::<usize>()?, words.checksum()?);
    let bytes = Payload::from(body::read(words)?);
    let good = bytes.len() == length && bytes.checksum() == checksum;
    good.then_some(DataLine::Record {
        id,
        stamp,
        checksum,
        bytes,
    })
}

fn read_stamp(words: &mut Words<'_>) -> Option<Stamp> {
    Some(Stamp {
        epoch: words.number()?,
        seq: words.number()?,
    })
}

fn read_name(words: &mut Words<'_>) -> Option<String> {
    let name = words.word()?;
    check_name(name).ok()?;
    Some(name.to_string())
}

/// A line of a head's `registro_server.txt`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegisterLine {
    /// `promise EPOCH HEAD`: nothing is taken from earlier reigns from here on.
    Promise {
        /// The reign.
        epoch: Epoch,
        /// Whose.
        head: HeadId,
    },
    /// `entry INDEX EPOCH FACT`, where the fact is `lead HEAD`, `node INSTANCE NAME`,
    /// `record ID LENGTH CHECKSUM at INSTANCE …` or `places ID at INSTANCE …`.
    Entry {
        /// Its place.
        index: u64,
        /// What it says.
        entry: Entry,
    },
    /// `cut INDEX`: entries above from this index on were never confirmed and do not count.
    Cut {
        /// The first that does not count.
        index: u64,
    },
}

impl TextLine for RegisterLine {
    fn write_words(&self, words: &mut String) {
        match self {
            RegisterLine::Promise { epoch, head } => {
                let _ = write!(words, "promise {epoch} {}", head.0);
            }
            RegisterLine::Entry { index, entry } => {
                let _ = write!(words, "entry {index} {} ", entry.epoch);
                write_fact(&entry.fact, words);
            }
            RegisterLine::Cut { index } => {
                let _ = write!(words, "cut {index}");
            }
        }
    }

    fn read_words(words: &mut Words<'_>) -> Option<RegisterLine> {
        Some(match words.word()? {
            "promise" => RegisterLine::Promise {
                epoch: words.number()?,
                head: HeadId(words.number()?),
            },
            "entry" => RegisterLine::Entry {
                index: words.number()?,
                entry: Entry {
                    epoch: words.number()?,
                    fact: read_fact(words)?,
                },
            },
            "cut" => RegisterLine::Cut {
                index: words.number()?,
            },
            _ => return None,
        })
    }
}

fn write_fact(fact: &Fact, words: &mut String) {
    let _ = match fact {
        Fact::Lead { head } => write!(words, "lead {}", head.0),
        Fact::Node { instance, name } => write!(words, "node {instance} {name}"),
        Fact::Record {
            id,
            length,
            checksum,
            ..
        } => write!(words, "record {id} {length} {checksum} at"),
        Fact::Places { id, .. } => write!(words, "places {id} at"),
    };
    if let Fact::Record { places, .. } | Fact::Places { places, .. } = fact {
        for place in places {
            let _ = write!(words, " {place}");
        }
    }
}

fn read_fact(words: &mut Words<'_>) -> Option<Fact> {
    Some(match words.word()? {
        "lead" => Fact::Lead {
            head: HeadId(words.number()?),
        },
        "node" => Fact::Node {
            instance: InstanceId(words.hex()?),
            name: read_name(words)?,
        },
        "record" => Fact::Record {
            id: RecordId(words.hex()?),
            length: words.number()?,
            checksum: words.checksum()?,
            places: read_places(words)?,
        },
        "places" => Fact::Places {
            id: RecordId(words.hex()?),
            places: read_places(words)?,
        },
        _ => return None,
    })
}

fn read_places(words: &mut Words<'_>) -> Option<Vec<InstanceId>> {
    if words.word()? != "at" {
        return None;
    }
    let places = words.rest().split(' ').filter(|word| !word.is_empty());
    places
        .map(|word| crate::hex::read(word).map(InstanceId))
        .collect()
}

/// A line of a client's `registro_cliente.txt`: `stored ID EPOCH LENGTH CHECKSUM at NAME …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientLine {
    /// Which record.
    pub id: RecordId,
    /// In whose reign it was confirmed.
    pub epoch: Epoch,
    /// Of its bytes.
    pub length: u64,
    /// Of its bytes.
    pub checksum: Checksum,
    /// The data nodes that had it then.
    pub places: Vec<String>,
}

impl TextLine for ClientLine {
    fn write_words(&self, words: &mut String) {
        let ClientLine {
            id,
            epoch,
            length,
            checksum,
            places,
        } = self;
        let _ = write!(words, "stored {id} {epoch} {length} {checksum} at");
        for name in places {
            let _ = write!(words, " {name}");
        }
    }

    fn read_words(words: &mut Words<'_>) -> Option<ClientLine> {
        let is_stored = words.word()? == "stored";
        let line = ClientLine {
            id: RecordId(words.hex()?),
            epoch: words.number()?,
            length: words.number()?,
            checksum: words.checksum()?,
            places: {
                let at = words.word()? == "at";
                let names = words.rest().split(' ').filter(|name| !name.is_empty());
                let names: Vec<String> = names.map(ToString::to_string).collect();
                at.then_some(names)?
            },
        };
        is_stored.then_some(line)
    }
}

/// A line of `hearbeat_server.txt`: `round ROUND EPOCH`, then `NAME up|silent RECORDS BYTES FREE`
/// for each data node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeatLine {
    /// Counted by the head.
    pub round: u64,
    /// The reign.
    pub epoch: Epoch,
    /// Who is known, and what each said last.
    pub nodes: Vec<NodeBeat>,
}

/// How a data node fared in a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeBeat {
    /// Its name.
    pub name: String,
    /// Whether it answered in time.
    pub answered: bool,
    /// Copies that it held when it was last heard.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Bytes that it had room for.
    pub free: u64,
}

impl TextLine for BeatLine {
    fn write_words(&self, words: &mut String) {
        let _ = write!(words, "round {} {}", self.round, self.epoch);
        for node in &self.nodes {
            let answer = if node.answered { "up" } else { "silent" };
            let NodeBeat {
                name,
                records,
                bytes,
                free,
                ..
            } = node;
            let _ = write!(words, " {name} {answer} {records} {bytes} {free}");
        }
    }

    fn read_words(words: &mut Words<'_>) -> Option<BeatLine> {
        if words.word()? != "round" {
            return None;
        }
        let (round, epoch) = (words.number()?, words.number()?);
        let mut nodes = Vec::new();
        while let Some(name) = words.word() {
            nodes.push(NodeBeat {
                name: name.to_string(),
                answered: match words.word()? {
                    "up" => true,
                    "silent" => false,
                    _ => return None,
                },
                records: words.number()?,
                bytes: words.number()?,
                free: words.number()?,
            });
        }
        Some(BeatLine {
            round,
            epoch,
            nodes,
        })
    }
}

impl RegisterLine {
    /// The place of the entry, if it is one.
    pub fn position(&self) -> Option<Position> {
        match self {
            RegisterLine::Entry { index, entry } => Some(Position {
                epoch: entry.epoch,
                index: *index,
            }),
            _ => None,
        }
    }
}
