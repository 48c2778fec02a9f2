//! How messages to and from a broker are written.

use clap::{Args, ValueEnum};
use mutirao::broker::Codec;

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CodecName {
    /// Compact
    Messagepack,
    /// Every message one JSON object
    Json,
}

/// What is spoken with the broker; a broker understands either, unless it is told json.
#[derive(Debug, Clone, Args)]
pub(crate) struct CodecFlag {
    /// How messages to and from the broker are written: messagepack, or json, each a readable object. A
    /// broker understands either and answers as it is spoken to; told json, it refuses all else
    #[arg(
        long,
        env = "MUTIRAO_CODEC",
        default_value = "messagepack",
        value_name = "CODEC"
    )]
    codec: CodecName,
}

impl CodecFlag {
    pub(crate) fn codec(&self) -> Codec {
        match self.codec {
            CodecName::Messagepack => Codec::MessagePack,
            CodecName::Json => Codec::Json,
        }
    }

    /// The flag as it is typed, for a command that somebody shall repeat; empty where the default does.
    pub(crate) fn typed(&self) -> &'static str {
        match self.codec {
            CodecName::Messagepack => "",
            CodecName::Json => " --codec json",
        }
    }
}
