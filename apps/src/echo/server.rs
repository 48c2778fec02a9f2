//! The server: one thread that takes a message, writes it down and answers.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use mutirao::Endpoint;
use mutirao::reqrep::{NextError, Replier, ReplierConfig, ReplyError, Request};
use mutirao::transport::SocketOptions;

use super::record::Record;
use super::{MAX_MESSAGE_BYTES, PORT};
use crate::count::counted;
use crate::exit::Exit;
use crate::flags::{self, GuardFlags, KeyFlag, TransportFlags};
use crate::signals::Caught;

/// Answer every message, and write it down with the time and the client's address.
///
/// Stopped with Ctrl-C or SIGTERM. A client that repeats a message, since the answer was lost, gets its
/// answer again, and the message is written down once.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    mutirao echo server --transport udp &\n  \
    mutirao echo client localhost --transport udp --message hello")]
pub(crate) struct ServerArgs {
    /// Port to listen at; 0 lets the system pick one
    #[arg(long, env = "MUTIRAO_PORT", default_value_t = PORT, value_name = "PORT")]
    port: u16,

    /// Address to listen at; beyond this machine (0.0.0.0) only with --insecure or keys
    #[arg(
        long,
        env = "MUTIRAO_HOST",
        default_value = "127.0.0.1",
        value_name = "ADDRESS"
    )]
    host: String,

    /// Where every message is written down
    #[arg(
        long,
        env = "MUTIRAO_ECHO_LOG",
        default_value = "log.txt",
        value_name = "FILE"
    )]
    log: PathBuf,

    #[command(flatten)]
    transport: TransportFlags,

    #[command(flatten)]
    key: KeyFlag,

    #[command(flatten)]
    guard: GuardFlags,
}

pub(crate) fn run(args: &ServerArgs) -> Result<(), Exit> {
    let endpoint = super::endpoint(&args.host, args.port)?;
    let mut replier = listen(args, &args.transport.apply(&endpoint)?)?;
    let mut record = Record::open(&args.log)?;
    let caught = Caught::begin()?;
    let stop = replier.stop_handle();
    caught.then(move |_| stop.stop());
    log::info!(
        "listening at {}; messages go to {}",
        replier.endpoint(),
        args.log.display()
    );
    let served = serve(&mut replier, &mut record);
    let stats = replier.stats();
    log::info!(
        "stopped after {}; repeated {}, malformed {}, answers not delivered {}",
        counted(stats.requests, "message"),
        stats.repeated,
        stats.malformed,
        stats.undelivered
    );
    served
}

fn listen(args: &ServerArgs, endpoint: &Endpoint) -> Result<Replier<String, str>, Exit> {
    let config = ReplierConfig {
        socket: SocketOptions {
            max_message_bytes: MAX_MESSAGE_BYTES,
            security: flags::security(&args.key, None, Some(&args.guard))?,
            ..SocketOptions::default()
        },
        ..ReplierConfig::default()
    };
    Ok(Replier::bind(endpoint, config)?)
}

fn serve(replier: &mut Replier<String, str>, record: &mut Record) -> Result<(), Exit> {
    loop {
        let Request { value, asker } = match replier.next(Duration::MAX) {
            Ok(request) => request,
            Err(NextError::TimedOut) => continue,
            Err(NextError::Stopped) => return Ok(()),
            Err(NextError::Failed(error)) => return Err(Exit::Environment(error.to_string())),
        };
        let sender = replier.sender(&asker);
        let sender = sender.map_or_else(|| "local".into(), |ip| ip.to_string());
        if let Err(exit) = record.add(&sender, &value) {
            let _ = replier.refuse(asker, "the server cannot write it down and stops");
            return Err(exit);
        }
        match replier.reply(asker, &format!("received: {value}")) {
            Err(ReplyError::Failed(error)) => return Err(Exit::Environment(error.to_string())),
            // The others concern one client, and are counted.
            _ => continue,
        }
    }
}
