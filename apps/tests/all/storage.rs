//! The storage cluster as its users start it: processes that are killed and stopped, disks that fill and rot.

mod bad_input;
mod cluster;
mod copies;
mod doors;
mod files;
mod heads;
mod kills;
mod partition;
mod records;
