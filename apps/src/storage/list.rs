//! `mutirao storage list`, `status` and `verify`.

use std::io::{self, Write};

use clap::Args;
use mutirao::storage::{RecordId, StatusView, StorageClient, Verification};
use serde_json::{Value, json};

use super::ask::{AskFlags, ended};
use crate::columns;
use crate::exit::Exit;
use crate::flags::FormatFlag;

/// List the records with their lengths in bytes.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mutirao storage list --head tcp://127.0.0.1:5590")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    format: FormatFlag,

    #[command(flatten)]
    ask: AskFlags,
}

/// Show how the cluster fares: its data nodes, and records with too few copies.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mutirao storage status --head tcp://127.0.0.1:5590")]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    format: FormatFlag,

    #[command(flatten)]
    ask: AskFlags,
}

/// Have every copy of every record read, and damaged ones replaced.
///
/// Exit code 1 when a copy was damaged, a record has too few, or a data node could not be asked.
#[derive(Debug, Args)]
#[command(after_help = "Example: of a large cluster\n  mutirao storage verify --timeout 1h")]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    format: FormatFlag,

    #[command(flatten)]
    ask: AskFlags,
}

pub(crate) fn list(args: &ListArgs) -> Result<(), Exit> {
    let mut client = args.ask.client(None)?;
    let mut after = None;
    loop {
        let (records, more) = client.list(after).map_err(ended)?;
        after = records.last().map(|(id, _)| *id);
        print(&args.format, &records)?;
        if !more || after.is_none() {
            return Ok(());
        }
    }
}

/// One record to a line, in either form.
fn print(format: &FormatFlag, records: &[(RecordId, u64)]) -> Result<(), Exit> {
    for (id, bytes) in records {
        format.write(
            |out| writeln!(out, "{id}  {bytes}"),
            || json!({ "id": id.to_string(), "bytes": bytes }),
        )?;
    }
    Ok(())
}

pub(crate) fn status(args: &StatusArgs) -> Result<(), Exit> {
    let status = args.ask.client(None)?.status().map_err(ended)?;
    args.format
        .write(|out| write_status(out, &status), || as_json(&status))
}

fn as_json(status: &StatusView) -> Value {
    let mut value = json!(status);
    // As JSON they would be numbers that many a reader rounds.
    for (shown, node) in value["nodes"]
        .as_array_mut()
        .into_iter()
        .flatten()
        .zip(&status.nodes)
    {
        shown["instance"] = json!(node.instance.to_string());
    }
    value
}

fn write_status(out: &mut dyn Write, status: &StatusView) -> io::Result<()> {
    let StatusView {
        epoch,
        records,
        lacking,
        unreachable,
        ..
    } = status;
    writeln!(out, "epoch        {epoch}")?;
    writeln!(out, "records      {records}")?;
    writeln!(
        out,
        "lacking      {lacking} have fewer good copies than asked for"
    )?;
    writeln!(
        out,
        "unreachable  {unreachable} have none that can be read now"
    )?;
    if status.nodes.is_empty() {
        return writeln!(out, "no data nodes");
    }
    writeln!(out)?;
    let heads = columns::heads(["NODE", "HEALTH", "RECORDS", "BYTES", "FREE"]);
    let rows = status.nodes.iter().map(|node| {
        [
            node.name.clone(),
            node.health.clone(),
            node.records.to_string(),
            node.bytes.to_string(),
            node.free.to_string(),
        ]
    });
    let rows: Vec<_> = [heads].into_iter().chain(rows).collect();
    columns::write(out, &rows)
}

pub(crate) fn verify(args: &VerifyArgs) -> Result<(), Exit> {
    let mut client: StorageClient = args.ask.client(None)?;
    let found = client.verify().map_err(ended)?;
    let Verification {
        checked, damaged, ..
    } = found;
    args.format.write(
        |out| writeln!(out, "{checked} copies read, {damaged} damaged"),
        || json!(found),
    )?;
    match wrong(&found) {
        wrong if wrong.is_empty() => Ok(()),
        wrong => Err(Exit::SomeFailed(wrong.join("; "))),
    }
}

/// What is not as it should be.
fn wrong(found: &Verification) -> Vec<String> {
    let Verification {
        damaged,
        missing,
        lacking,
        unreachable,
        ..
    } = found;
    let mut wrong = Vec::new();
    if *damaged > 0 {
        wrong.push(format!(
            "{damaged} copies were damaged and are being replaced: verify again"
        ));
    }
    if *unreachable > 0 {
        wrong.push(format!(
            "{unreachable} records have no good copy that can be reached: start the data nodes that have one"
        ));
    }
    if lacking > unreachable && *damaged == 0 {
        let short = lacking - unreachable;
        wrong.push(format!("{short} records have fewer copies than asked for"));
    }
    if !missing.is_empty() {
        wrong.push(format!("{} could not be asked", missing.join(", ")));
    }
    wrong
}
