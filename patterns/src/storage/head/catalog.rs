//! The records that the register names, and who is believed to have a copy of each.

use std::collections::BTreeMap;

use super::super::{Checksum, Copy, Entry, Fact, InstanceId, RecordId};

#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) length: u64,
    pub(super) checksum: Checksum,
    /// The entry that registered it: it is not known to be safe before that one is.
    pub(super) index: u64,
    /// Who had it when the register last said so.
    pub(super) places: Vec<InstanceId>,
    /// Who says so in this reign.
    pub(super) copies: Vec<InstanceId>,
}

impl Record {
    pub(super) fn copy(&self, id: RecordId) -> Copy {
        Copy {
            id,
            checksum: self.checksum,
            length: self.length,
        }
    }

    pub(super) fn is(&self, checksum: Checksum, length: u64) -> bool {
        self.checksum == checksum && self.length == length
    }
}

#[derive(Debug, Default)]
pub(super) struct Catalog {
    pub(super) records: BTreeMap<RecordId, Record>,
    /// Whose each name is.
    pub(super) names: BTreeMap<String, InstanceId>,
}

impl Catalog {
    /// Takes note of an entry of the register.
    pub(super) fn note(&mut self, index: u64, entry: &Entry) {
        match &entry.fact {
            Fact::Lead { .. } => {}
            Fact::Node { instance, name } => {
                self.names.retain(|_, owner| owner != instance);
                self.names.insert(name.clone(), *instance);
            }
            Fact::Record {
                id,
                length,
                checksum,
                places,
            } => {
                let record = Record {
                    length: *length,
                    checksum: *checksum,
                    index,
                    places: places.clone(),
                    copies: Vec::new(),
                };
                // The first one counts, as for those who asked.
                self.records.entry(*id).or_insert(record);
            }
            Fact::Places { id, places } => {
                if let Some(record) = self.records.get_mut(id) {
                    record.places.clone_from(places);
                }
            }
        }
    }

    pub(super) fn name(&self, instance: InstanceId) -> String {
        let named = self.names.iter().find(|(_, owner)| **owner == instance);
        named.map_or_else(|| instance.to_string(), |(name, _)| name.clone())
    }
}
