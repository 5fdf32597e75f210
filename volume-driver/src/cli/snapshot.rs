//! `strongroom snapshot`: snapshots by hand, and what differs between two.

use clap::Subcommand;
use serde::Serialize;
use strongroom_console::{Console, Exit, Failed, Size, Table};
use strongroom_model::{Failure, Remedy, World};
use strongroom_proto::control::{CreateSnapshotRequest, ListSnapshotsRequest};
use strongroom_proto::csi::{BlockMetadata, DeleteSnapshotRequest, GetMetadataDeltaRequest};
use strongroom_proto::{CallError, Clients};

use super::group::{self, GroupCommand};
use super::reach::{self, EndpointArgs, given, named};
use super::views::{SnapshotView, snapshot_table};

/// What can be done with snapshots.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Take a snapshot of a volume, in use or not
    Create {
        /// The volume's name, or its id
        volume: String,
        /// What to call it, unique for the volume; the same again changes nothing [default: the time]
        #[arg(long, value_name = "LABEL")]
        name: Option<String>,
        /// A label of the snapshot; may be given again
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = reach::label)]
        labels: Vec<(String, String)>,
        #[command(flatten)]
        at: EndpointArgs,
    },
    /// List snapshots, oldest first
    List {
        /// Only those of this volume
        volume: Option<String>,
        #[command(flatten)]
        at: EndpointArgs,
    },
    /// Delete a snapshot; volumes made from it stay
    Delete {
        /// Its id
        id: String,
        #[command(flatten)]
        at: EndpointArgs,
    },
    /// Snapshots of several volumes at one moment
    #[command(subcommand)]
    Group(GroupCommand),
    /// Tell which bytes differ between two snapshots of a volume, without reading them
    Diff {
        /// The id of the older snapshot
        base: String,
        /// The id of the newer snapshot
        target: String,
        /// List at most this many ranges; the totals count all of them
        #[arg(long, value_name = "COUNT", default_value_t = 1000)]
        limit: usize,
        #[command(flatten)]
        at: EndpointArgs,
    },
}

/// There is no snapshot of this id.
#[derive(Debug, thiserror::Error)]
#[error("there is no snapshot {id:?}")]
struct NoSnapshot {
    id: String,
}

impl Failure for NoSnapshot {
    fn code(&self) -> &'static str {
        "driver.not-found"
    }

    fn remedy(&self) -> Remedy {
        Remedy::FixRequest
    }

    fn advice(&self) -> String {
        "look at `strongroom snapshot list`".into()
    }
}

#[derive(Debug, Serialize)]
struct OneSnapshot {
    snapshot: SnapshotView,
    /// False: it was there already.
    created: bool,
}

#[derive(Debug, Serialize)]
struct AllSnapshots {
    snapshots: Vec<SnapshotView>,
}

#[derive(Debug, Serialize)]
struct Deleted {
    id: String,
}

/// A range of bytes that differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Range {
    offset_bytes: u64,
    length_bytes: u64,
}

/// What differs between two snapshots.
#[derive(Debug, Default, Serialize)]
struct Diff {
    base: String,
    target: String,
    volume_bytes: u64,
    changed_bytes: u64,
    /// How many ranges there are.
    ranges_total: u64,
    /// The first of them, up to the limit.
    ranges: Vec<Range>,
}

pub(super) async fn run(command: SnapshotCommand, console: &Console, world: &World) -> Result<Exit, Failed> {
    match command {
        SnapshotCommand::Create { volume, name, labels, at } => {
            // To the millisecond, so that two in a second are two.
            let label =
                name.unwrap_or_else(|| world.clock.now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string());
            let request = CreateSnapshotRequest {
                volume: Some(named(&volume)),
                label,
                owner: "user".into(),
                labels: labels.into_iter().collect(),
            };
            create(request, &mut at.connect().await?, console).await?;
        }
        SnapshotCommand::List { volume, at } => list(volume, &mut at.connect().await?, console).await?,
        SnapshotCommand::Delete { id, at } => delete(id, &mut at.connect().await?, console).await?,
        SnapshotCommand::Group(command) => group::run(command, console, world).await?,
        SnapshotCommand::Diff { base, target, limit, at } => {
            diff(base, target, limit, &mut at.connect().await?, console).await?;
        }
    }
    Ok(Exit::Done)
}

async fn create(
    request: CreateSnapshotRequest,
    clients: &mut Clients,
    console: &Console,
) -> Result<(), Failed> {
    let answer = clients.driver.create_snapshot(request).await.map_err(CallError::from)?.into_inner();
    let snapshot: SnapshotView = given(answer.snapshot, "the snapshot")?.into();
    let said = format!(
        "{} {} of {}",
        snapshot.id,
        if answer.existed { "was there already: snapshot" } else { "is the snapshot" },
        snapshot.volume
    );
    console.result(&OneSnapshot { snapshot, created: !answer.existed }, |text| {
        text.line(said);
    });
    Ok(())
}

async fn list(volume: Option<String>, clients: &mut Clients, console: &Console) -> Result<(), Failed> {
    let request = ListSnapshotsRequest { volume: volume.as_deref().map(named), owner: String::new() };
    let answer = clients.driver.list_snapshots(request).await.map_err(CallError::from)?.into_inner();
    let snapshots: Vec<SnapshotView> = answer.snapshots.into_iter().map(SnapshotView::from).collect();
    let table = snapshot_table(&snapshots, console);
    console.result(&AllSnapshots { snapshots }, |text| {
        if table.is_empty() {
            text.line("there are no snapshots");
        } else {
            text.table(&table);
        }
    });
    Ok(())
}

async fn delete(id: String, clients: &mut Clients, console: &Console) -> Result<(), Failed> {
    // CSI is content with deleting what is not there; a person who mistyped an id is not.
    let all =
        clients.driver.list_snapshots(ListSnapshotsRequest::default()).await.map_err(CallError::from)?;
    if !all.into_inner().snapshots.iter().any(|snapshot| snapshot.id == id) {
        return Err(NoSnapshot { id }.into());
    }
    let request = DeleteSnapshotRequest { snapshot_id: id.clone(), ..DeleteSnapshotRequest::default() };
    clients.controller.delete_snapshot(request).await.map_err(CallError::from)?;
    let said = format!("{id} is deleted");
    console.result(&Deleted { id }, |text| {
        text.line(said);
    });
    Ok(())
}

async fn diff(
    base: String,
    target: String,
    limit: usize,
    clients: &mut Clients,
    console: &Console,
) -> Result<(), Failed> {
    let request = GetMetadataDeltaRequest {
        base_snapshot_id: base.clone(),
        target_snapshot_id: target.clone(),
        ..GetMetadataDeltaRequest::default()
    };
    let mut pieces =
        clients.snapshot_metadata.get_metadata_delta(request).await.map_err(CallError::from)?.into_inner();
    let mut diff = Diff { base, target, ..Diff::default() };
    while let Some(piece) = pieces.message().await.map_err(CallError::from)? {
        diff.volume_bytes = u64::try_from(piece.volume_capacity_bytes).unwrap_or_default();
        diff.add(&piece.block_metadata, limit);
    }
    console.result(&diff, |text| {
        if diff.ranges_total == 0 {
            text.line("nothing differs");
            return;
        }
        let mut table = Table::new(["OFFSET", "BYTES"]).right([0, 1]);
        for range in &diff.ranges {
            table.row([range.offset_bytes, range.length_bytes]);
        }
        text.table(&table);
        if diff.ranges_total > diff.ranges.len() as u64 {
            text.line("…");
        }
        text.line(format_args!(
            "{} of {} differ, in {} ranges",
            Size(diff.changed_bytes),
            Size(diff.volume_bytes),
            diff.ranges_total
        ));
    });
    Ok(())
}

impl Diff {
    /// Counts blocks, and keeps the first of them.
    fn add(&mut self, blocks: &[BlockMetadata], limit: usize) {
        for block in blocks {
            let offset = u64::try_from(block.byte_offset).unwrap_or_default();
            let bytes = u64::try_from(block.size_bytes).unwrap_or_default();
            self.changed_bytes = self.changed_bytes.saturating_add(bytes);
            self.ranges_total += 1;
            if self.ranges.len() < limit {
                self.ranges.push(Range { offset_bytes: offset, length_bytes: bytes });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_totals_count_what_the_list_leaves_out() {
        let mut diff = Diff::default();
        let block = |byte_offset| BlockMetadata { byte_offset, size_bytes: 4096 };
        diff.add(&[block(0), block(8192)], 1);
        diff.add(&[block(16384)], 1);
        assert_eq!((diff.changed_bytes, diff.ranges_total), (3 * 4096, 3));
        assert_eq!(diff.ranges, [Range { offset_bytes: 0, length_bytes: 4096 }]);
    }
}
