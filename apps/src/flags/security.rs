//! Encryption and authentication: each role has the flags that mean something to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use clap::builder::FalseyValueParser;
use mutirao::security::{Allow, CurveConfig, KeyError, KeyPair, PublicKey, Security};

use crate::exit::Exit;

/// Who we are; for every role that talks to others.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Encryption")]
pub(crate) struct KeyFlag {
    /// Our secret key, a file made by `mutirao keygen`; turns encryption on
    #[arg(long, env = "MUTIRAO_CURVE_KEY", value_name = "FILE")]
    curve_key: Option<PathBuf>,
}

/// Whom we trust to be the server; for roles that connect.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Encryption")]
pub(crate) struct ServerFlag {
    /// The public key of those to whom we connect: ventilator and sink, or broker
    #[arg(long, env = "MUTIRAO_CURVE_SERVER", value_name = "FILE")]
    curve_server: Option<PathBuf>,
}

/// Whom we let in; for roles that listen.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Encryption")]
pub(crate) struct GuardFlags {
    /// A folder with the public keys of those who may connect to us
    #[arg(long, env = "MUTIRAO_CURVE_ALLOW", value_name = "DIR")]
    curve_allow: Option<PathBuf>,

    /// Listen beyond this machine without encryption
    #[arg(long, env = "MUTIRAO_INSECURE", value_parser = FalseyValueParser::new(), action = clap::ArgAction::SetTrue)]
    insecure: bool,
}

/// A flag that goes with the key: its name, whether the role has it, what it was given.
type Companion<'a> = (&'static str, bool, Option<&'a Path>);

/// What the flags of a role come to: all that it has must be given, or none.
pub(crate) fn security(
    key: &KeyFlag,
    server: Option<&ServerFlag>,
    guard: Option<&GuardFlags>,
) -> Result<Security, Exit> {
    let server_key = server.and_then(|flag| flag.curve_server.as_deref());
    let allow = guard.and_then(|flags| flags.curve_allow.as_deref());
    let insecure = guard.is_some_and(|flags| flags.insecure);
    let companions = [
        ("--curve-server FILE", server.is_some(), server_key),
        ("--curve-allow DIR", guard.is_some(), allow),
    ];
    match &key.curve_key {
        None => without_key(companions, insecure),
        Some(_) if insecure => Err(Exit::Usage(
            "--insecure contradicts --curve-key: give one of the two".into(),
        )),
        Some(key) => {
            check_complete(companions)?;
            curve(key, server_key, allow)
        }
    }
}

fn without_key(companions: [Companion; 2], insecure: bool) -> Result<Security, Exit> {
    match companions.iter().find(|(_, _, given)| given.is_some()) {
        Some((flag, ..)) => Err(Exit::Usage(format!(
            "{flag} needs --curve-key FILE as well: give our secret key too"
        ))),
        None if insecure => Ok(Security::Insecure),
        None => Ok(Security::None),
    }
}

fn check_complete(companions: [Companion; 2]) -> Result<(), Exit> {
    let missing = |(_, needed, given): &&Companion| *needed && given.is_none();
    match companions.iter().find(missing) {
        Some((flag, ..)) => Err(Exit::Usage(format!(
            "--curve-key needs {flag} as well; `mutirao keygen DIR` makes both"
        ))),
        None => Ok(()),
    }
}

fn curve(key: &Path, server: Option<&Path>, allow: Option<&Path>) -> Result<Security, Exit> {
    let unusable = |error: KeyError| Exit::Environment(error.to_string());
    if let Some(folder) = allow.filter(|folder| !folder.is_dir()) {
        return Err(Exit::Environment(format!(
            "{} is not a folder: give the one that holds the public keys of those who may connect",
            folder.display()
        )));
    }
    Ok(Security::Curve(Arc::new(CurveConfig {
        keys: KeyPair::load(key).map_err(unusable)?,
        server: server.map(PublicKey::load).transpose().map_err(unusable)?,
        allow: allow.map(|folder| Allow::Folder(folder.to_path_buf())),
    })))
}
