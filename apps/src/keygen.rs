//! `mutirao keygen`: the keys that one installation needs.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use mutirao::security::{KeyError, keygen};

use crate::exit::Exit;

/// Make the keys for encrypted connections.
///
/// DIR will hold server.key and server.pub for ventilator and sink, client.key and client.pub for
/// workers, and allow/, the folder with the public keys of those who may connect. Keys that are
/// there already are left alone.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mutirao keygen keys\n  \
    mutirao sink       --curve-key keys/server.key --curve-allow keys/allow --bind tcp://0.0.0.0:5559 --out results\n  \
    mutirao ventilator --curve-key keys/server.key --curve-server keys/server.pub --curve-allow keys/allow …\n  \
    mutirao worker     --curve-key keys/client.key --curve-server keys/server.pub …")]
pub(crate) struct KeygenArgs {
    /// Where to put the keys; made if it is missing
    #[arg(value_name = "DIR", env = "MUTIRAO_KEYS")]
    dir: PathBuf,
}

pub(crate) fn run(args: &KeygenArgs) -> Result<(), Exit> {
    let allow = args.dir.join("allow");
    std::fs::create_dir_all(&allow).map_err(|error| unwritable(&allow, &error))?;
    for name in ["server", "client"] {
        let news = match keygen(&args.dir, name) {
            Ok(_) => "made",
            Err(KeyError::Exists { .. }) => "kept, it was there",
            Err(error) => return Err(Exit::Environment(error.to_string())),
        };
        let public = args.dir.join(format!("{name}.pub"));
        let allowed = allow.join(format!("{name}.pub"));
        std::fs::copy(&public, &allowed).map_err(|error| unwritable(&allowed, &error))?;
        let secret = args.dir.join(format!("{name}.key"));
        let _ = writeln!(std::io::stdout(), "{} ({news})", secret.display());
    }
    let _ = writeln!(std::io::stdout(), "who may connect: {}", allow.display());
    Ok(())
}

fn unwritable(path: &Path, error: &std::io::Error) -> Exit {
    Exit::Environment(format!(
        "{} cannot be written ({error}): choose another folder",
        path.display()
    ))
}
