//! The real binary, as its users start it: processes, files, signals, and whatever comes in.

mod bad_input;
mod broker;
mod broker_kills;
mod broker_trio;
mod chat;
mod compare;
mod curve;
mod echo;
mod election;
mod expect;
mod failures;
mod flags;
mod garbage;
mod harness;
mod interrupts;
mod json;
mod kills;
mod memory;
mod netns;
mod output;
mod pipeline;
mod queue_memory;
mod request_reply;
mod storage;
mod transports;
mod trio;
