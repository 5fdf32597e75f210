//! `strongroom repository domain`: tenants who share a repository, and see nothing of each other.

use clap::Subcommand;
use serde::Serialize;
use strongroom_console::{Console, Exit, Failed, Table, local_and_utc};
use strongroom_model::World;
use strongroom_repository::keys::PassphraseCost;
use strongroom_settings::RepositoryArgs;

use super::key::{NewKeyArgs, hex};
use super::repository::open;

/// `strongroom repository domain …`
#[derive(Debug, Subcommand)]
pub enum DomainCommand {
    /// Share the repository with one more domain, and give it its first key
    Add(AddArgs),
    /// List the domains that share the repository
    List(RepositoryArgs),
    /// Take the journal away from a domain; with --forget-points, forget its points
    Close(CloseArgs),
}

/// `strongroom repository domain add`
#[derive(Debug, clap::Args)]
pub struct AddArgs {
    #[command(flatten)]
    repository: RepositoryArgs,
    /// What to call it: only the operator sees that
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    new: NewKeyArgs,
    /// What to call its first key; whoever can list the bucket sees it
    #[arg(long, value_name = "TEXT", default_value = "first key of a domain")]
    label: String,
}

/// `strongroom repository domain close`
#[derive(Debug, clap::Args)]
pub struct CloseArgs {
    #[command(flatten)]
    repository: RepositoryArgs,
    /// Its number or name, as `domain list` shows them
    #[arg(value_name = "DOMAIN")]
    which: String,
    /// Forget its points that are not held, too; a later prune frees their space
    #[arg(long)]
    forget_points: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(command: DomainCommand, console: &Console, world: &World) -> Result<Exit, Failed> {
    match command {
        DomainCommand::Add(args) => add(args, console, world).await,
        DomainCommand::List(args) => list(args, console, world).await,
        DomainCommand::Close(args) => close(args, console, world).await,
    }
}

async fn add(args: AddArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    #[derive(Debug, Serialize)]
    struct Added {
        domain: u32,
        name: String,
        slot: String,
    }
    let repository = open(&args.repository, world).await?;
    let keys = [(args.new.take(world)?, args.label)];
    let (domain, slots) = repository.add_domain(&args.name, &keys, PassphraseCost::DEFAULT).await?;
    let slot = slots.first().map(|slot| hex(&slot.id())).unwrap_or_default();
    let added = Added { domain, name: args.name, slot };
    console.result(&added, |text| {
        text.line(format_args!(
            "added domain {} ({}); its first key opens slot {}",
            added.domain, added.name, added.slot
        ));
        text.line("Give that key away and keep no copy: whoever has it reads everything of the domain.");
    });
    Ok(Exit::Done)
}

/// A domain as results show it.
#[derive(Debug, Serialize)]
struct Shown {
    domain: u32,
    name: Option<String>,
    own: bool,
    added_at: Option<jiff::Timestamp>,
    points: u64,
    newest: Option<jiff::Timestamp>,
}

#[derive(Debug, Serialize)]
struct Domains {
    domains: Vec<Shown>,
}

async fn list(args: RepositoryArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let repository = open(&args, world).await?;
    let domains = repository.list_domains().await?.into_iter().map(|domain| Shown {
        domain: domain.number,
        name: domain.name,
        own: domain.own,
        added_at: domain.added_at,
        points: domain.points,
        newest: domain.newest,
    });
    let domains = Domains { domains: domains.collect() };
    console.result(&domains, |text| {
        let mut table =
            Table::new(["DOMAIN", "NAME", "KEY", "POINTS", "NEWEST RECORD", "ADDED"]).right([0, 3]);
        for domain in &domains.domains {
            let name = match (&domain.name, domain.domain) {
                (_, 0) => "(the operator)",
                (Some(name), _) => name,
                (None, _) => "(sealed)",
            };
            let time = |time: Option<jiff::Timestamp>| {
                time.map_or_else(|| "-".to_owned(), |time| local_and_utc(time, console.time_zone()))
            };
            table.row([
                domain.domain.to_string().as_str(),
                name,
                if domain.own { "this" } else { "" },
                &domain.points.to_string(),
                &time(domain.newest),
                &time(domain.added_at),
            ]);
        }
        text.table(&table);
    });
    Ok(Exit::Done)
}

async fn close(args: CloseArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    #[derive(Debug, Serialize)]
    struct Closed {
        domain: u32,
        epoch: u32,
        forgotten: u64,
    }
    let repository = open(&args.repository, world).await?;
    let domain = repository.find_domain(&args.which).await?;
    let question = match args.forget_points {
        true => format!("Close domain {} and forget its {} points?", domain.number, domain.points),
        false => format!("Close domain {}? Its {} points stay.", domain.number, domain.points),
    };
    console.confirm(&question, args.yes)?;
    let rotated = repository.close_domain(domain.number, false).await?;
    let forgotten = match args.forget_points {
        true => repository.forget_domain(domain.number, "its domain was closed").await?,
        false => 0,
    };
    let closed = Closed { domain: domain.number, epoch: rotated.epoch, forgotten };
    console.result(&closed, |text| {
        text.line(format_args!(
            "domain {} is closed: its keys read nothing of the journal from here on (epoch {})",
            closed.domain, closed.epoch
        ));
        if args.forget_points {
            text.line(format_args!(
                "forgot {} points; `repository prune` frees their space",
                closed.forgotten
            ));
        }
    });
    Ok(Exit::Done)
}
