//! The three candidates behind one trait, each set up as its documentation advises for many small
//! durable commits and little memory.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition};
use rusqlite::Connection;

pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Job and first task, big-endian, so that the order of bytes is the order of numbers.
pub type Key = [u8; 17];

/// What a group consists of.
pub enum Op<'a> {
    Put(Key, &'a [u8]),
    Delete(Key),
}

/// A store as the broker would use it.
pub trait Candidate {
    /// All or nothing, durable when it returns.
    fn commit(&mut self, group: &[Op]) -> Outcome<()>;

    /// Counts records and bytes, having verified their checksums.
    fn scan(&mut self) -> Outcome<(u64, u64)>;
}

/// The candidates.
pub const NAMES: [&str; 3] = ["fjall", "redb", "sqlite"];
/// The candidates beside appending to a file.
pub const COLUMNS: [&str; 4] = ["floor", "fjall", "redb", "sqlite"];

pub fn open(name: &str, folder: &Path) -> Outcome<Box<dyn Candidate>> {
    std::fs::create_dir_all(folder)?;
    Ok(match name {
        "fjall" => Box::new(Fjall::open(folder)?),
        "redb" => Box::new(Redb::open(folder)?),
        "floor" => Box::new(Floor(
            File::options()
                .append(true)
                .create(true)
                .open(folder.join("log"))?,
        )),
        _ => Box::new(Sqlite::open(folder)?),
    })
}

struct Fjall {
    db: Database,
    records: Keyspace,
}

impl Fjall {
    fn open(folder: &Path) -> Outcome<Fjall> {
        let db = Database::builder(folder)
            .cache_size(16 << 20)
            .max_journaling_size(128 << 20)
            .worker_threads(1)
            .open()?;
        let options = || {
            KeyspaceCreateOptions::default()
                .manual_journal_persist(true)
                .max_memtable_size(16 << 20)
        };
        let records = db.keyspace("records", options)?;
        Ok(Fjall { db, records })
    }
}

/// fjall has checksums of its own in journal and tables.
impl Candidate for Fjall {
    fn commit(&mut self, group: &[Op]) -> Outcome<()> {
        let mut batch = self.db.batch().durability(Some(PersistMode::SyncData));
        for op in group {
            match op {
                Op::Put(key, body) => batch.insert(&self.records, key, *body),
                Op::Delete(key) => batch.remove(&self.records, key),
            }
        }
        Ok(batch.commit()?)
    }

    fn scan(&mut self) -> Outcome<(u64, u64)> {
        let mut sums = (0, 0);
        for entry in self.records.iter() {
            let (_, value) = entry.into_inner()?;
            sums = (sums.0 + 1, sums.1 + value.len() as u64);
        }
        Ok(sums)
    }
}

const RECORDS: TableDefinition<&[u8; 17], &[u8]> = TableDefinition::new("records");

struct Redb(redb::Database);

impl Redb {
    fn open(folder: &Path) -> Outcome<Redb> {
        let db = redb::Builder::new()
            .set_cache_size(32 << 20)
            .create(folder.join("db"))?;
        Ok(Redb(db))
    }
}

/// redb checks its page checksums at repairs only: the body brings its own.
impl Candidate for Redb {
    fn commit(&mut self, group: &[Op]) -> Outcome<()> {
        let transaction = self.0.begin_write()?;
        {
            let mut records = transaction.open_table(RECORDS)?;
            for op in group {
                match op {
                    Op::Put(key, body) => {
                        let mut to = records.insert_reserve(key, body.len() + 4)?;
                        let to = to.as_mut();
                        to[..4].copy_from_slice(&crc32fast::hash(body).to_be_bytes());
                        to[4..].copy_from_slice(body);
                    }
                    Op::Delete(key) => drop(records.remove(key)?),
                }
            }
        }
        Ok(transaction.commit()?)
    }

    fn scan(&mut self) -> Outcome<(u64, u64)> {
        let transaction = self.0.begin_read()?;
        let records = match transaction.open_table(RECORDS) {
            Ok(records) => records,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok((0, 0)),
            Err(error) => return Err(error.into()),
        };
        let mut sums = (0, 0);
        for entry in records.iter()? {
            let (_, value) = entry?;
            sums = (sums.0 + 1, sums.1 + checked(value.value())?);
        }
        Ok(sums)
    }
}

struct Sqlite(Connection);

impl Sqlite {
    fn open(folder: &Path) -> Outcome<Sqlite> {
        let db = Connection::open(folder.join("db"))?;
        db.execute_batch(
            "PRAGMA page_size = 8192;
             PRAGMA locking_mode = EXCLUSIVE;
             PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA wal_autocheckpoint = 4096;
             PRAGMA journal_size_limit = 67108864;
             PRAGMA cache_size = -16384;
             CREATE TABLE IF NOT EXISTS records (key BLOB UNIQUE NOT NULL, crc INT, body BLOB);",
        )?;
        Ok(Sqlite(db))
    }
}

/// SQLite has checksums in its log only: the body brings its own.
impl Candidate for Sqlite {
    fn commit(&mut self, group: &[Op]) -> Outcome<()> {
        let transaction = self.0.transaction()?;
        {
            let put = "INSERT OR REPLACE INTO records VALUES (?1, ?2, ?3)";
            let mut put = transaction.prepare(put)?;
            let mut delete = transaction.prepare("DELETE FROM records WHERE key = ?1")?;
            for op in group {
                match op {
                    Op::Put(key, body) => put.execute((key, crc32fast::hash(body), body))?,
                    Op::Delete(key) => delete.execute((key,))?,
                };
            }
        }
        Ok(transaction.commit()?)
    }

    fn scan(&mut self) -> Outcome<(u64, u64)> {
        let query = "SELECT crc, body FROM records ORDER BY key";
        let mut query = self.0.prepare(query)?;
        let mut rows = query.query(())?;
        let mut sums = (0, 0);
        while let Some(row) = rows.next()? {
            let body = row.get_ref(1)?.as_blob()?;
            if crc32fast::hash(body) != row.get::<_, u32>(0)? {
                return Err("damaged".into());
            }
            sums = (sums.0 + 1, sums.1 + body.len() as u64);
        }
        Ok(sums)
    }
}

/// No store: what it costs to append the bytes to a file and sync it. The others cannot be faster
/// in the long run.
struct Floor(File);

impl Candidate for Floor {
    fn commit(&mut self, group: &[Op]) -> Outcome<()> {
        let mut bytes = Vec::new();
        for op in group {
            match op {
                Op::Put(key, body) => {
                    bytes.extend_from_slice(key);
                    bytes.extend_from_slice(&crc32fast::hash(body).to_be_bytes());
                    bytes.extend_from_slice(body);
                }
                Op::Delete(key) => bytes.extend_from_slice(key),
            }
        }
        self.0.write_all(&bytes)?;
        Ok(self.0.sync_data()?)
    }

    fn scan(&mut self) -> Outcome<(u64, u64)> {
        Err("nothing is kept".into())
    }
}

fn checked(value: &[u8]) -> Outcome<u64> {
    let (sum, body) = value.split_at(4);
    if crc32fast::hash(body).to_be_bytes() != sum {
        return Err("damaged".into());
    }
    Ok(body.len() as u64)
}
