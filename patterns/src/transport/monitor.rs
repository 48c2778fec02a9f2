//! Link events.
