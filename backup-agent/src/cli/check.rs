//! `strongroom repository check`, `scrub` and `repair`: is all there and right, and what can be made right again?

mod places;

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use strongroom_console::{Console, Exit, Failed, Size, Text, local};
use strongroom_model::{ByteRange, World};
use strongroom_repository::check::{CheckReport, Damage, LeftHold, Proof, RepairPlan, RepairReport};
use strongroom_repository::scrub::{self, POSITIONS, ScrubRange, ScrubReport};
use strongroom_settings::{Interval, RepositoryArgs, Share, Size as SizeArg, open_repository, open_store};

pub(super) use places::check;

use super::repository::report;
use crate::copies::Copy;

/// `strongroom repository check`
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    #[command(flatten)]
    repository: RepositoryArgs,
    /// Check this copy instead of the repository: its name in the configuration, or a URL
    #[arg(long, value_name = "COPY")]
    place: Option<String>,
    /// Check the repository and every copy that the configuration names
    #[arg(long, conflicts_with = "place")]
    all_places: bool,
    /// Read data, decrypt it and compare it with its ids: all of it, or a part that begins with what was verified
    /// longest ago
    #[arg(long)]
    read_data: bool,
    #[command(flatten)]
    part: PartArgs,
    /// Do not note in the journal what was read: then a part begins at the same place the next time, and backups go on
    /// referring to what is damaged
    #[arg(long)]
    no_note: bool,
}

/// How much is read; all without any of these.
#[derive(Debug, clap::Args)]
#[group(multiple = false, requires = "read_data")]
struct PartArgs {
    /// Read this part of all data, such as 10%
    #[arg(long, value_name = "PERCENT")]
    share: Option<Share>,
    /// Read about so much, such as 50GiB
    #[arg(long, value_name = "SIZE")]
    bytes: Option<SizeArg>,
    /// Read so many packs
    #[arg(long, value_name = "NUMBER")]
    packs: Option<u64>,
    /// Read for so long, such as 30m
    #[arg(long = "for", value_name = "TIME")]
    time: Option<Interval>,
}

/// `strongroom repository scrub`
#[derive(Debug, clap::Args)]
pub struct ScrubArgs {
    /// Where the repository is: s3://bucket/prefix, file:///path or a path
    #[arg(long, value_name = "URL", env = "STRONGROOM_REPOSITORY")]
    repository: Option<String>,
    /// The configuration file; flags and environment come before it
    #[arg(long, value_name = "FILE", env = "STRONGROOM_CONFIG")]
    config: Option<PathBuf>,
    /// Read only this part of the packs, such as 10%
    #[arg(long, value_name = "PERCENT")]
    share: Option<Share>,
    /// Where the part begins: what the scrub before this one printed, four hexadecimal digits. Without it somewhere
    #[arg(long, value_name = "POSITION", requires = "share", value_parser = position)]
    from: Option<u32>,
}

/// `strongroom repository repair`
#[derive(Debug, clap::Args)]
pub struct RepairArgs {
    #[command(flatten)]
    repository: RepositoryArgs,
    /// Take damaged packs from this copy: its name in the configuration, or a URL. Without it: from all that the
    /// configuration names
    #[arg(long, value_name = "COPY")]
    from: Option<String>,
    /// Do it, without asking
    #[arg(long)]
    yes: bool,
}

fn position(text: &str) -> Result<u32, String> {
    let digits = text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parsed = digits.then(|| u32::from_str_radix(text, 16).ok()).flatten();
    parsed.ok_or_else(|| "a position has four hexadecimal digits, like 3f00".to_owned())
}

fn tell(text: &mut Text<'_>, console: &Console, checked: &CheckReport) {
    damages(text, &checked.damages);
    for hold in &checked.holds {
        text.line(left_hold(hold, console));
    }
    if checked.orphans.objects > 0 {
        let (objects, bytes) = (checked.orphans.objects, Size(checked.orphans.total_bytes));
        text.line(format_args!(
            "{objects} objects ({bytes}) belong to no published point: backups at work, or garbage for the next prune"
        ));
    }
    if let Some(why) = &checked.not_noted {
        text.line(format_args!("What was read is not noted in the journal: {why}"));
    }
    text.line(proof(&checked.proof, console));
    let how = match checked.read_packs {
        0 => String::new(),
        packs => format!(", {packs} packs read ({})", Size(checked.read_bytes)),
    };
    let verdict = match checked.damages.len() {
        0 => "everything is there and right".to_owned(),
        1 => "1 object is damaged or missing".to_owned(),
        many => format!("{many} objects are damaged or missing"),
    };
    text.line(format_args!("{} points, {} packs{how}: {verdict}", checked.points, checked.packs));
}

fn damages(text: &mut Text<'_>, damages: &[Damage]) {
    for damage in damages {
        text.line(damage);
        for loss in &damage.loses {
            let bytes: u64 = loss.ranges.iter().map(ByteRange::len).sum();
            let what = if loss.ranges.is_empty() { "all of it".into() } else { Size(bytes).to_string() };
            text.line(format_args!("  {} of {} loses {what}", loss.point, loss.volume));
        }
    }
}

/// How far the data is proved, in a sentence.
pub(super) fn proof(proof: &Proof, console: &Console) -> String {
    let oldest = match (proof.never_packs, proof.oldest_at) {
        (0, Some(at)) => format!("all data was read and verified since {}", local(at, console.time_zone())),
        (never, _) if never == proof.packs => {
            return "none of the data was ever read and verified: `strongroom repository check --read-data`"
                .to_owned();
        }
        (never, _) => format!(
            "{never} of {} packs ({} of {}) were never read and verified",
            proof.packs,
            Size(proof.never_bytes),
            Size(proof.total_bytes)
        ),
    };
    match proof.damaged_packs {
        0 => oldest,
        packs => format!("{oldest}; {packs} packs have damaged entries"),
    }
}

/// A hold that a restore left, and how to take it off.
pub(super) fn left_hold(hold: &LeftHold, console: &Console) -> String {
    let since = hold
        .held_at
        .map_or_else(|| "long ago".to_owned(), |at| format!("since {}", local(at, console.time_zone())));
    format!(
        "{} of {} is held {since} by {:?}: if that restore no longer runs, resume it, or `{}`",
        hold.point, hold.volume, hold.hold, hold.release
    )
}

/// What a scrub saw, and what that proves.
#[derive(Debug, Serialize)]
struct Scrubbed {
    location: String,
    #[serde(flatten)]
    report: ScrubReport,
    from: String,
    next: String,
    proves: &'static str,
    does_not_prove: &'static str,
}

pub(super) async fn scrub(args: ScrubArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let named = RepositoryArgs {
        repository: args.repository.clone(),
        config: args.config.clone(),
        ..RepositoryArgs::default()
    };
    let store = open_store(&named.resolve_without_key()?, world).await?;
    let range = match args.share {
        None => ScrubRange::ALL,
        Some(share) => {
            let mut drawn = [0; 2];
            world.entropy.fill(&mut drawn);
            let from = args.from.unwrap_or_else(|| u16::from_le_bytes(drawn).into());
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a share is above 0 and at most 1"
            )]
            let count = (f64::from(POSITIONS) * share.fraction()).ceil() as u32;
            ScrubRange { from, count }
        }
    };
    let progress = Arc::new(console.progress("scrubbing", None));
    let scrubbed = scrub::scrub(&store, range, &report(&progress)).await;
    progress.finish();
    let scrubbed = Scrubbed {
        location: store.location(),
        report: scrubbed.map_err(|cause| strongroom_repository::SweepError::Store {
            object: "packs/ and maps/".to_owned(),
            cause,
        })?,
        from: format!("{:04x}", range.from),
        next: format!("{:04x}", range.next()),
        proves: "each pack that was read is, byte for byte, what was written under its name",
        does_not_prove: "that no object is missing or was put back to an older state, and anything of journal, checkpoints, \
                         index and keys: their chain is sealed. `repository check`, with the key, says that",
    };
    console.result(&scrubbed, |text| {
        for damage in &scrubbed.report.damages {
            text.line(format_args!("{}: {}", damage.object, damage.what));
        }
        let (packs, bytes) = (scrubbed.report.packs, Size(scrubbed.report.read_bytes));
        let verdict = match scrubbed.report.damages.len() {
            0 => "all are what was written".to_owned(),
            many => format!("{many} are NOT what was written"),
        };
        text.line(format_args!("{packs} packs read ({bytes}): {verdict}"));
        text.line(format_args!("proved: {}", scrubbed.proves));
        text.line(format_args!("not proved: {}", scrubbed.does_not_prove));
        if args.share.is_some() {
            text.line(format_args!("the next part begins with --from {}", scrubbed.next));
        }
    });
    Ok(if scrubbed.report.damages.is_empty() { Exit::Done } else { Exit::Damaged })
}

/// What a repair found and did.
#[derive(Debug, Serialize)]
struct Repaired {
    plan: RepairPlan,
    done: Option<RepairReport>,
}

pub(super) async fn repair(args: RepairArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let settings = args.repository.resolve()?;
    let mut copies = Vec::new();
    match &args.from {
        Some(from) => copies.push(settings.of_place(from).open_counted(world).await?.store),
        None => copies.extend(Copy::all(&settings, None, world).await?.into_iter().map(|copy| copy.store)),
    }
    let repository = open_repository(&settings, world).await?.repository;
    repository.may_check(false).await?;
    let progress = Arc::new(console.progress("looking", None));
    let planned = repository.plan_repair(&copies, &report(&progress)).await;
    progress.finish();
    let plan = planned?;
    let mut done = None;
    if !plan.does_nothing() {
        for line in steps(&plan) {
            console.talk(line);
        }
        console.confirm("Do this?", args.yes)?;
        let progress = Arc::new(console.progress("repairing", None));
        let repaired = repository.repair(&plan, &copies, &report(&progress)).await;
        progress.finish();
        done = Some(repaired?);
    }
    let failed = done.as_ref().is_some_and(|done: &RepairReport| !done.not_put_back.is_empty());
    let exit = if plan.leaves_damage() || failed { Exit::Damaged } else { Exit::Done };
    let repaired = Repaired { plan, done };
    console.result(&repaired, |text| outcome(text, console, &repaired));
    Ok(exit)
}

fn steps(plan: &RepairPlan) -> Vec<String> {
    let mut steps = Vec::new();
    for (run, why) in &plan.index {
        steps.push(format!("{run}: {why}"));
    }
    for pack in &plan.put_back {
        steps.push(format!("{}: {}", pack.object, pack.what));
        steps.push(format!("- put it back from {} ({})", pack.from, Size(pack.bytes)));
    }
    if !plan.index.is_empty() {
        steps.push("- make the index again from the footers of all packs".to_owned());
    }
    for number in &plan.wrong_checkpoints {
        steps.push(format!("- remove checkpoint {number}: it does not say what the journal says"));
    }
    if plan.write_checkpoint {
        steps.push("- write a checkpoint of the journal as it reads from its first record".to_owned());
    }
    steps
}

fn outcome(text: &mut Text<'_>, console: &Console, repaired: &Repaired) {
    if let Some(done) = &repaired.done {
        if done.put_back > 0 {
            text.line(format_args!("put back {} packs", done.put_back));
        }
        for (object, why) in &done.not_put_back {
            text.line(format_args!("{object} could not be put back: {why}"));
        }
        if let Some(index) = done.index {
            text.line(format_args!("{} entries of {} packs are in the index", index.entries, index.packs));
        }
        if let Some(number) = done.checkpoint {
            let removed = done.removed_checkpoints;
            text.line(format_args!("wrote a checkpoint at record {number}, removed {removed} wrong ones"));
        }
    }
    let plan = &repaired.plan;
    for damage in &plan.damages {
        text.line(damage);
    }
    for loss in &plan.losses {
        let taken = local(loss.taken_at, console.time_zone());
        text.line(format_args!(
            "{} of {} ({taken}) has lost {} of its bytes:",
            loss.point,
            loss.volume,
            Size(loss.lost_bytes)
        ));
        for range in &loss.ranges {
            text.line(format_args!("  bytes {} to {}", range.start(), range.end()));
        }
    }
    if plan.leaves_damage() {
        text.line(
            "What is lost comes back only from elsewhere: the next backup of a volume stores anew what it still holds; a \
             copy that has it whole is named with --from; `restore --keep-going` brings back the \
             rest of a damaged point.",
        );
    } else if plan.does_nothing() {
        text.line("There is nothing to repair. Data that was not read yet: `strongroom repository check --read-data`.");
    }
}
