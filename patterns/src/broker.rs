//! The load-balancing broker: takes tasks in, keeps them until they are done, gives them to whoever
//! has room, keeps the results until they are fetched.
//!
//! ```text
//!  clients ── tasks ──▶ ┌────────┐ ── leases ──▶ workers
//!          ◀─ accepted ─│ broker │ ◀─ results ──
//!          ◀─ results ──└────────┘
//!                           │ store
//! ```
//!
//! A *service* is an operation: workers register for operations, a job names one. Tasks of a job are
//! numbered from 0 by its client, so that a client that repeats itself, after a lost confirmation or a
//! restart, adds nothing twice. A task that a worker is given is *leased*: the lease ends with its
//! results, with the worker's silence, or when it is given back; results under a lease that has
//! ended are dropped.

pub mod majordomo;
pub mod store;
