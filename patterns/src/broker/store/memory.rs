//! A store for brokers whose tasks need not survive them.

use super::{Store, StoreError, Write};

/// Keeps nothing: what the broker knows ends with it.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryStore;

impl Store for MemoryStore {
    fn load(&mut self, _keep: &mut dyn FnMut(Write)) -> Result<(), StoreError> {
        Ok(())
    }

    fn commit(&mut self, _group: &[Write]) -> Result<(), StoreError> {
        Ok(())
    }

    fn bytes(&self) -> u64 {
        0
    }
}
