//! `strongroom points`: what there is to go back to.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Subcommand;
use jiff::Timestamp;
use serde::Serialize;
use strongroom_console::{Console, Exit, Failed, Size, Table, local_and_utc};
use strongroom_model::{Failure, RecoveryPointId, Remedy, VolumeName, World};
use strongroom_repository::{DomainError, Fold, Point, PointInfo};
use strongroom_settings::{RepositoryArgs, open_repository, open_repository_to_read};

/// The name of a hold that is put on without one.
const USUAL_HOLD: &str = "by hand";

/// `strongroom points …`
#[derive(Debug, Subcommand)]
pub enum PointsCommand {
    /// List recovery points, oldest first
    List(PointsArgs),
    /// Show one recovery point
    Show(PointArgs),
    /// Hold a point: nobody forgets it until it is released
    Hold(HoldArgs),
    /// Take a hold off a point
    Release(HoldArgs),
    /// Forget a point; its space is freed by the next prune
    Forget(PointArgs),
}

/// Which points.
#[derive(Debug, clap::Args)]
pub struct PointsArgs {
    #[command(flatten)]
    repository: RepositoryArgs,
    /// Only the points of this volume
    #[arg(long, value_name = "NAME")]
    volume: Option<VolumeName>,
}

/// Which point.
#[derive(Debug, clap::Args)]
pub struct PointArgs {
    /// The id of the point, or as many of its first characters as are needed to tell it from the others
    #[arg(value_name = "ID")]
    point: String,
    #[command(flatten)]
    points: PointsArgs,
}

/// Which hold of which point.
#[derive(Debug, clap::Args)]
pub struct HoldArgs {
    #[command(flatten)]
    point: PointArgs,
    /// The name of the hold
    #[arg(long, value_name = "NAME", default_value = USUAL_HOLD)]
    name: String,
}

/// No point, or several, are meant.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WhichPoint {
    #[error("there is no recovery point {given:?}")]
    None { given: String },
    #[error("{given:?} is the beginning of {count} recovery points")]
    Several { given: String, count: usize },
    #[error(transparent)]
    Others(#[from] DomainError),
}

impl Failure for WhichPoint {
    fn code(&self) -> &'static str {
        match self {
            Self::None { .. } => "point.none",
            Self::Several { .. } => "point.several",
            Self::Others(cause) => cause.code(),
        }
    }

    fn remedy(&self) -> Remedy {
        Remedy::FixRequest
    }

    fn advice(&self) -> String {
        match self {
            Self::None { .. } => "`strongroom points list` shows the points that there are.".into(),
            Self::Several { .. } => "Write more of its characters.".into(),
            Self::Others(cause) => cause.advice(),
        }
    }
}

/// A point as results show it.
#[derive(Debug, Serialize)]
struct Shown {
    id: RecoveryPointId,
    volume: VolumeName,
    taken_at: Timestamp,
    parent: Option<RecoveryPointId>,
    record: u64,
    held: BTreeSet<String>,
    info: PointInfo,
}

#[derive(Debug, Serialize)]
struct List {
    points: Vec<Shown>,
    /// In a shared repository: how many points this key does not open.
    #[serde(skip_serializing_if = "is_zero")]
    sealed_points: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over like this")]
const fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// What was done to a point.
#[derive(Debug, Serialize)]
struct Changed {
    id: RecoveryPointId,
    volume: VolumeName,
    taken_at: Timestamp,
    done: &'static str,
}

impl From<&Point> for Shown {
    fn from(point: &Point) -> Self {
        Self {
            id: point.id,
            volume: point.volume.clone(),
            taken_at: point.info.taken_at,
            parent: point.parent,
            record: point.number,
            held: point.held.clone(),
            info: point.info.clone(),
        }
    }
}

pub(super) async fn run(command: PointsCommand, console: &Console, world: &World) -> Result<Exit, Failed> {
    match command {
        PointsCommand::List(args) => list(args, console, world).await,
        PointsCommand::Show(args) => show(args, console, world).await,
        PointsCommand::Hold(args) => change(args.point, Verb::Hold(args.name), console, world).await,
        PointsCommand::Release(args) => change(args.point, Verb::Release(args.name), console, world).await,
        PointsCommand::Forget(args) => change(args, Verb::Forget, console, world).await,
    }
}

async fn list(args: PointsArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let repository = open_repository_to_read(&args.repository.resolve()?, world).await?.repository;
    let fold = repository.fold().await?;
    let mut points: Vec<&Point> = fold
        .points
        .values()
        .filter(|point| args.volume.as_ref().is_none_or(|name| point.volume == *name))
        .collect();
    points.sort_by_key(|point| (&point.volume, point.info.taken_at, point.number));
    let sealed_points = fold.foreign_points();
    let list = List { points: points.into_iter().map(Shown::from).collect(), sealed_points };
    console.result(&list, |text| {
        let mut table = Table::new(["POINT", "VOLUME", "TAKEN", "SIZE", "CHANGED", "NEW", "SENT", "HELD"])
            .right([3, 4, 5, 6])
            .short([0]);
        for point in &list.points {
            let held: Vec<&str> = point.held.iter().map(String::as_str).collect();
            table.row([
                point.id.to_string(),
                point.volume.to_string(),
                strongroom_console::local(point.taken_at, console.time_zone()),
                Size(point.info.volume_bytes).to_string(),
                Size(point.info.changed_bytes).to_string(),
                Size(point.info.new_bytes).to_string(),
                Size(point.info.sent_bytes).to_string(),
                held.join(", "),
            ]);
        }
        if table.is_empty() {
            text.line("There are no recovery points.");
        } else {
            text.table(&table);
        }
        if list.sealed_points > 0 {
            text.line(format_args!("{} points of other domains are sealed.", list.sealed_points));
        }
    });
    Ok(Exit::Done)
}

async fn show(args: PointArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let repository = open_repository_to_read(&args.points.repository.resolve()?, world).await?.repository;
    let fold = repository.fold().await?;
    let shown = Shown::from(find(&fold, &args.point, args.points.volume.as_ref())?);
    let map = repository.map(find(&fold, &args.point, args.points.volume.as_ref())?).await?;
    console.result(&shown, |text| {
        let info = &shown.info;
        let source = match &info.source {
            strongroom_repository::Source::Driver { node, volume, snapshot } => {
                format!("{snapshot} of {volume} on {node}")
            }
            strongroom_repository::Source::Image { path } => PathBuf::from(path).display().to_string(),
        };
        let labels: Vec<String> = info.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let held: Vec<&str> = shown.held.iter().map(String::as_str).collect();
        text.facts([
            ("point", shown.id.to_string()),
            ("volume", shown.volume.to_string()),
            ("taken", local_and_utc(shown.taken_at, console.time_zone())),
            ("published", local_and_utc(info.published_at, console.time_zone())),
            ("record", shown.record.to_string()),
            ("parent", shown.parent.map_or_else(|| "-".into(), |parent| parent.to_string())),
            ("size", Size(info.volume_bytes).to_string()),
            ("stored chunks", map.head().stored_chunks().to_string()),
            ("filesystem", info.fs.clone().unwrap_or_else(|| "-".into())),
            ("labels", labels.join(", ")),
            ("from", source),
            ("by", info.agent.clone()),
            ("scanned", Size(info.scanned_bytes).to_string()),
            ("changed", Size(info.changed_bytes).to_string()),
            ("new", Size(info.new_bytes).to_string()),
            ("sent", Size(info.sent_bytes).to_string()),
            ("requests", info.requests.to_string()),
            (
                "took",
                strongroom_console::TimeSpan(std::time::Duration::from_millis(info.duration_ms)).to_string(),
            ),
            ("held", held.join(", ")),
        ]);
    });
    Ok(Exit::Done)
}

enum Verb {
    Hold(String),
    Release(String),
    Forget,
}

async fn change(args: PointArgs, verb: Verb, console: &Console, world: &World) -> Result<Exit, Failed> {
    let repository = open_repository(&args.points.repository.resolve()?, world).await?.repository;
    let fold = repository.fold().await?;
    let point = find(&fold, &args.point, args.points.volume.as_ref())?;
    let done = match verb {
        Verb::Hold(name) => {
            repository.hold(point.id, &name).await?;
            "held"
        }
        Verb::Release(name) => {
            repository.release(point.id, &name).await?;
            "released"
        }
        Verb::Forget => {
            repository.forget(point.id, "by hand").await?;
            "forgotten"
        }
    };
    let changed = Changed { id: point.id, volume: point.volume.clone(), taken_at: point.info.taken_at, done };
    console.result(&changed, |text| {
        let taken = local_and_utc(changed.taken_at, console.time_zone());
        text.line(format_args!("{} {} of {} ({taken})", changed.done, changed.id, changed.volume));
        if changed.done == "forgotten" {
            text.line("Its space is freed by `strongroom repository prune`, or by the agent's next sweep.");
        }
    });
    Ok(Exit::Done)
}

/// The point that is meant: its id or the beginning of it, with or without the `rp-`.
pub(crate) fn find<'a>(
    fold: &'a Fold,
    given: &str,
    volume: Option<&VolumeName>,
) -> Result<&'a Point, WhichPoint> {
    let digits = given.strip_prefix(RecoveryPointId::PREFIX).unwrap_or(given);
    let of_volume = |point: &&Point| volume.is_none_or(|name| point.volume == *name);
    let mut found = fold.points.values().filter(of_volume).filter(|point| point.id.hex().starts_with(digits));
    match (found.next(), found.count()) {
        (Some(point), 0) if !digits.is_empty() => Ok(point),
        (Some(_), others) if !digits.is_empty() => {
            Err(WhichPoint::Several { given: given.to_owned(), count: others + 1 })
        }
        _ => {
            let mut others = fold.sealed.values().filter(|point| !fold.points.contains_key(&point.id));
            match others.find(|point| digits.len() >= 8 && point.id.hex().starts_with(digits)) {
                Some(point) => Err(DomainError::OthersPoint { point: point.id, domain: point.domain }.into()),
                None => Err(WhichPoint::None { given: given.to_owned() }),
            }
        }
    }
}
