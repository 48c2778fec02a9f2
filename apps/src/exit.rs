//! How the program ends: exit codes that mean something, and one sentence that says why.

use std::io::Write as _;
use std::process::ExitCode;

use mutirao::transport::TransportError;
use mutirao::{Endpoint, OpenError};

/// Why the program ends without having done everything.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Exit {
    /// Some tasks failed; the other results stand. Exit code 1.
    #[error("{0}")]
    SomeFailed(String),
    /// The command line makes no sense. Exit code 2.
    #[error("{0}")]
    Usage(String),
    /// A file, a disk, a port or a peer is not as it must be. Exit code 3.
    #[error("{0}")]
    Environment(String),
    /// Ctrl-C; what could be reported has been. Exit code 130.
    #[error("{0}")]
    Interrupted(String),
    /// Whoever read our results has seen enough, as in `| head -1`, and wants no comment. Exit code
    /// 141, as a shell reports a program that ended by SIGPIPE.
    #[error("")]
    ReaderGone,
}

impl Exit {
    fn code(&self) -> u8 {
        match self {
            Exit::SomeFailed(_) => 1,
            Exit::Usage(_) => 2,
            Exit::Environment(_) => 3,
            Exit::Interrupted(_) => 130,
            Exit::ReaderGone => 141,
        }
    }
}

impl From<OpenError> for Exit {
    fn from(error: OpenError) -> Exit {
        match error {
            OpenError::Config(_) | OpenError::Transport(TransportError::NoEncryption { .. }) => {
                Exit::Usage(error.to_string())
            }
            // The library knows no flags, so its own advice is left out.
            OpenError::Transport(TransportError::Unfit(unfit)) => Exit::Usage(unfit.to_string()),
            OpenError::Transport(TransportError::Exposed { endpoint })
                if !endpoint.scheme().promises().encrypts =>
            {
                Exit::Usage(format!(
                    "{endpoint} would listen beyond this machine, and this transport has no encryption: add --insecure where the network is trusted, or use tcp:// with keys"
                ))
            }
            OpenError::Transport(TransportError::Exposed { endpoint }) => Exit::Usage(format!(
                "{endpoint} would listen beyond this machine without encryption: {}",
                instead(&endpoint)
            )),
            OpenError::Transport(_) | OpenError::System(_) => Exit::Environment(error.to_string()),
        }
    }
}

fn instead(endpoint: &Endpoint) -> &'static str {
    match endpoint.scheme().promises().encrypts {
        true => "add --curve-key and --curve-allow (see `mutirao keygen --help`), or --insecure",
        false => "add --insecure, or use ZeroMQ with keys",
    }
}

/// Prints the sentence, if there is one, and turns the end into an exit code.
pub(crate) fn report(ended: Result<(), Exit>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => {
            explain(&exit);
            ExitCode::from(exit.code())
        }
    }
}

/// The same for a thread that ends the whole program.
pub(crate) fn leave(exit: &Exit) -> ! {
    explain(exit);
    std::process::exit(i32::from(exit.code()))
}

/// Standard error may be closed; nobody is left to tell then.
fn explain(exit: &Exit) {
    if !matches!(exit, Exit::ReaderGone) {
        let _ = writeln!(std::io::stderr(), "mutirao: {exit}");
    }
}

/// Reports a command line that makes no sense in one sentence; prints help where it was asked for.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return ExitCode::from(2);
    }
    report(Err(Exit::Usage(one_sentence(&error.to_string()))))
}

/// clap speaks in paragraphs; the first says what is wrong, a `tip:` says what may be meant.
fn one_sentence(text: &str) -> String {
    let told = text
        .lines()
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let words = told.map(str::trim).filter(|line| !line.is_empty());
    let sentence = words.collect::<Vec<_>>().join(" ");
    let sentence = sentence
        .strip_prefix("error: ")
        .unwrap_or(&sentence)
        .to_string();
    format!("{sentence}; --help shows what there is")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exposed_endpoint_gets_one_piece_of_advice() {
        let endpoint = "tcp://0.0.0.0:1".parse().unwrap();
        let exit = Exit::from(OpenError::from(TransportError::Exposed { endpoint }));
        let sentence = exit.to_string();
        assert_eq!(sentence.matches(": ").count(), 1, "{sentence}");
        assert!(sentence.contains("--curve-key") && !sentence.contains("CURVE"));
    }

    #[test]
    fn paragraphs_become_a_sentence() {
        let text = "error: the following required arguments were not provided:\n  --op <OP>\n\nUsage: x\n\nFor more";
        assert_eq!(
            one_sentence(text),
            "the following required arguments were not provided: --op <OP>; --help shows what there is"
        );
    }
}
