//! Looking at a database as it was: a shell, a question, a search, a dump, a clone.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use serde::Serialize;
use strongroom_console::{Console, Exit, Failed};
use strongroom_database::{LineageId, Plan, Rates, Target, Wanted, windows};
use strongroom_model::{VolumeName, World};
use strongroom_settings::Moment;

use super::{DbRestoreArgs, Opened, PlaceArgs, StateArgs, WhichArgs, show_plan};
use crate::database::bisect::Bisect;
use crate::database::copy::Asking;
use crate::database::dump::dump;
use crate::database::look::{Look, LookError};
use crate::database::mark::Purpose;
use crate::database::session::{self, Seen, Session, Step};
use crate::database::show::Shown;
use crate::database::{RecoveryError, workspace};

/// How the copy is asked.
#[derive(Debug, Args)]
pub(super) struct AskingArgs {
    /// In which database the copy is asked [default: postgres; with MariaDB none]
    #[arg(long, value_name = "NAME")]
    sql_database: Option<String>,
    /// PostgreSQL: a superuser of the database
    #[arg(long, value_name = "NAME", default_value = "postgres")]
    role: String,
}

impl AskingArgs {
    fn asking(&self) -> Asking {
        Asking { role: self.role.clone(), database: self.sql_database.clone() }
    }
}

/// What `db restore` does instead of restoring beside the live database.
#[derive(Debug, Args)]
pub(super) struct LookingArgs {
    /// Open psql on a copy at that state, read-only; the copy goes when it is left
    #[arg(long)]
    shell: bool,
    /// Ask the copy this instead of opening psql
    #[arg(long, value_name = "QUERY", conflicts_with = "shell")]
    sql: Option<String>,
    /// Then move the same copy forward, by +2s or to a time or a position, and open psql or ask again; may be given several times
    #[arg(long, value_name = "STEP", allow_hyphen_values = true)]
    advance: Vec<String>,
    /// Find the last commit for which this query still holds: its first column is true, or a number that is not zero
    #[arg(long, value_name = "QUERY", group = "state", conflicts_with_all = ["shell", "sql", "advance"])]
    bisect: Option<String>,
    /// With --bisect: begin to look here [default: the oldest state of the window]
    #[arg(long, value_name = "TIME", requires = "bisect")]
    from: Option<String>,
    /// With --bisect: look up to here [default: the newest state]
    #[arg(long, value_name = "TIME", requires = "bisect")]
    to: Option<String>,
    /// Keep the copy where it is at the end, as a clone in the volume --to-volume
    #[arg(long, requires = "to_volume", conflicts_with = "bisect")]
    keep: bool,
    #[command(flatten)]
    asking: AskingArgs,
}

/// What came of a look.
#[derive(Debug, Serialize)]
struct Looked {
    plan: Shown,
    seen: Vec<Seen>,
    /// The volume that was kept.
    kept: Option<VolumeName>,
    data_directory: Option<String>,
}

impl LookingArgs {
    pub(super) fn is_wanted(&self) -> bool {
        self.shell || self.sql.is_some() || self.bisect.is_some() || !self.advance.is_empty() || self.keep
    }

    pub(super) async fn run(
        &self,
        args: &DbRestoreArgs,
        console: &Console,
        world: &World,
    ) -> Result<Exit, Failed> {
        let target = match &args.to_volume {
            Some(name) if self.keep => name.clone(),
            _ => temporary(&args.which.volume, world)?,
        };
        let purpose = self.keep.then_some(Purpose::Clone);
        let opened = Opened::of(&args.which, &args.place, target, purpose, console, world).await?;
        if let Some(sql) = &self.bisect {
            return self.bisect(opened, args, sql, console, world).await;
        }
        let wanted = args.state.wanted(console, world)?;
        let step = |text: &String| Step::parse(text, console, world);
        let steps = self.advance.iter().map(step).collect::<Result<_, _>>()?;
        let (plan, shown) = opened.plan(&wanted).await?;
        if args.plan {
            show_plan(&shown, console);
            return Ok(Exit::Done);
        }
        console.talk(shown.text(console.time_zone()));
        let Opened { beside, interrupts } = opened;
        let archive = std::sync::Arc::clone(&beside.archive);
        let session = Session {
            archive: &archive,
            console,
            world,
            interrupts: &interrupts,
            sql: self.sql.as_deref(),
            steps,
            at: match wanted.target {
                Target::Time(at) => Some(at),
                _ => None,
            },
            lineage: wanted.lineage,
        };
        interrupts.listen();
        let mut look =
            Look::new(beside, plan, self.asking.asking(), !self.keep, interrupts.given_up.clone()).await?;
        let looked = async {
            look.open().await?;
            let seen = session.run(&mut look).await?;
            let data_directory = if self.keep { Some(look.keep().await?) } else { None };
            Ok::<_, Failed>((seen, data_directory))
        };
        let looked = looked.await;
        let kept = self.keep.then(|| look.own_volume().clone());
        look.close().await?;
        let (seen, data_directory) = looked?;
        let looked = Looked { plan: shown, seen, kept, data_directory };
        console.result(&looked, |page| {
            session::write(&looked.seen, page, console);
            if let (Some(volume), Some(folder)) = (&looked.kept, &looked.data_directory) {
                page.line(format_args!("The copy stays as a clone in volume {volume}, in folder {folder}."));
            }
        });
        Ok(Exit::Done)
    }

    async fn bisect(
        &self,
        opened: Opened,
        args: &DbRestoreArgs,
        sql: &str,
        console: &Console,
        world: &World,
    ) -> Result<Exit, Failed> {
        let Opened { beside, interrupts } = opened;
        let archive = std::sync::Arc::clone(&beside.archive);
        let time = |text: &String| {
            Moment::parse(text, world.clock.now(), console.time_zone()).map(|moment| Target::Time(moment.at))
        };
        let lineage = args.state.lineage.map(LineageId);
        let to = self.to.as_ref().map(time).transpose()?.unwrap_or(Target::Latest);
        let last = archive.plan(Wanted { target: to, lineage }, Rates::default()).await?;
        // On the way to the last state, whichever history was living at the first.
        let lineage = lineage.unwrap_or(last.lineage);
        let from = match &self.from {
            Some(text) => time(text)?,
            None => {
                let window = windows(archive.catalogue(), lineage)
                    .into_iter()
                    .rfind(|window| window.earliest.position <= last.cut);
                Target::Position(window.map_or(last.base.end, |window| window.earliest.position))
            }
        };
        let wanted = Wanted::new(from).in_lineage(lineage);
        let first = archive.plan(wanted, Rates::default()).await?;
        if first.cut >= last.cut {
            return Err(LookError::NoSpan.into());
        }
        let last_wanted = Wanted::new(Target::Position(last.cut)).in_lineage(lineage);
        let last: Plan = archive.plan_from(&first.base, last_wanted, Rates::default()).await?;
        let volume = args.which.volume.clone();
        let bisect = Bisect { archive: &archive, console, sql, volume: &volume, last };
        interrupts.listen();
        let mut look =
            Look::new(beside, first, self.asking.asking(), true, interrupts.given_up.clone()).await?;
        let found = async {
            look.open().await?;
            bisect.run(&mut look).await
        };
        let found = found.await;
        look.close().await?;
        let found = found?;
        console.result(&found, |page| found.write(page, console.time_zone()));
        Ok(Exit::Done)
    }
}

/// The name of a volume that is nobody's but this command's.
fn temporary(volume: &VolumeName, world: &World) -> Result<VolumeName, RecoveryError> {
    // Names end somewhere.
    let short: String = volume.as_str().chars().take(80).collect();
    format!("{short}-look-{}", workspace::short_name(world))
        .parse()
        .map_err(|cause| RecoveryError::Name { cause })
}

/// `strongroom db clone`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("state"))]
pub struct CloneArgs {
    #[command(flatten)]
    which: WhichArgs,
    #[command(flatten)]
    state: StateArgs,
    /// The new volume
    #[arg(long, value_name = "NAME")]
    to_volume: VolumeName,
    /// Only show what would be done
    #[arg(long)]
    plan: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

impl CloneArgs {
    pub(super) async fn run(&self, console: &Console, world: &World) -> Result<Exit, Failed> {
        let wanted = self.state.wanted(console, world)?;
        let purpose = Some(Purpose::Clone);
        let target = self.to_volume.clone();
        let opened = Opened::of(&self.which, &self.place, target, purpose, console, world).await?;
        let (plan, shown) = opened.plan(&wanted).await?;
        if self.plan {
            show_plan(&shown, console);
            return Ok(Exit::Done);
        }
        opened.interrupts.listen();
        let done = opened.beside.run(plan, shown).await?;
        console.result(&done, |page| {
            page.line(format_args!(
                "The clone is in volume {}, in folder {}: a database of its own, for a look. It archives nothing, and is never promoted.",
                done.target, done.data_directory
            ));
            page.line(format_args!("`strongroom volume delete {}` when it is not needed any more.", done.target));
        });
        Ok(Exit::Done)
    }
}

/// `strongroom db dump`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("state").required(true))]
pub struct DumpArgs {
    #[command(flatten)]
    which: WhichArgs,
    #[command(flatten)]
    state: StateArgs,
    /// The table, with its schema; as pg_dump takes it, with * and several times
    #[arg(long, value_name = "SCHEMA.TABLE", required = true)]
    table: Vec<String>,
    /// Write to this file, which appears when it is whole, instead of standard output
    #[arg(long, value_name = "PATH")]
    to_file: Option<PathBuf>,
    #[command(flatten)]
    asking: AskingArgs,
    #[command(flatten)]
    place: PlaceArgs,
}

/// What a dump to a file came to.
#[derive(Debug, Serialize)]
struct Dumped {
    plan: Shown,
    file: PathBuf,
}

impl DumpArgs {
    pub(super) async fn run(&self, console: &Console, world: &World) -> Result<Exit, Failed> {
        let wanted = self.state.wanted(console, world)?;
        let target = temporary(&self.which.volume, world)?;
        let opened = Opened::of(&self.which, &self.place, target, None, console, world).await?;
        let (plan, shown) = opened.plan(&wanted).await?;
        console.talk(shown.text(console.time_zone()));
        let Opened { beside, interrupts } = opened;
        interrupts.listen();
        let asking = self.asking.asking();
        let mut look = Look::new(beside, plan, asking, true, interrupts.given_up.clone()).await?;
        let dumped = async {
            look.open().await?;
            dump(&mut look, &self.table, self.to_file.as_deref()).await
        };
        let dumped = dumped.await;
        look.close().await?;
        dumped?;
        if let Some(file) = &self.to_file {
            let dumped = Dumped { plan: shown, file: file.clone() };
            console.result(&dumped, |page| {
                page.line(format_args!("Written to {}.", dumped.file.display()));
            });
        }
        Ok(Exit::Done)
    }
}
