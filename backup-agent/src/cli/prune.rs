//! `strongroom repository prune`: retention where there is a configuration, then the sweep.

use serde::Serialize;
use strongroom_console::{Console, Exit, Failed, Size, Table};
use strongroom_model::{RecoveryPointId, VolumeName, World};
use strongroom_repository::sweep::{SweepOptions, SweepPlan, SweepReport, USUAL_GRACE};
use strongroom_settings::open_repository;

use super::repository::PruneArgs;
use crate::databases::Databases;
use crate::policy::Policies;
use crate::retention;

/// What a prune did, or would do.
#[derive(Debug, Serialize)]
struct Pruned {
    dry_run: bool,
    forgotten: Vec<Forgotten>,
    /// Sessions of writers that gave no sign of life for a day: shut out, so that the sweep need not wait for them.
    fenced: Vec<u64>,
    /// What a sweep would do now; points that are yet to be forgotten free more.
    plan: Option<SweepPlan>,
    sweep: Option<SweepReport>,
}

#[derive(Debug, Serialize)]
struct Forgotten {
    point: RecoveryPointId,
    volume: VolumeName,
    taken_at: jiff::Timestamp,
}

pub(super) async fn run(args: PruneArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let (settings, config) = args.repository.resolve_with_config()?;
    let policies = match (&config, &args.repository.config) {
        (Some(config), Some(path)) => {
            Some(Policies::new(config, path, console.time_zone(), world.clock.now())?)
        }
        _ => None,
    };
    let repository = open_repository(&settings, world).await?.repository;
    let fold = repository.fold().await?;
    let agent = settings.open_options().agent;
    let databases = config.as_ref().map_or_else(Databases::default, Databases::new);
    let rule = |fold: &strongroom_repository::Fold| {
        let mut expired =
            policies.as_ref().map_or_else(Vec::new, |all| retention::expired(fold, all, &agent));
        let anchors = databases.anchors(fold);
        expired.retain(|id| !anchors.contains(id));
        expired
    };
    let ids = if args.dry_run { rule(&fold) } else { repository.forget_by(rule, "retention").await? };
    let forgotten: Vec<Forgotten> = ids
        .iter()
        .filter_map(|id| fold.points.get(id))
        .map(|point| Forgotten {
            point: point.id,
            volume: point.volume.clone(),
            taken_at: point.info.taken_at,
        })
        .collect();
    let options = SweepOptions::default();
    let grace = if args.at_once { jiff::SignedDuration::ZERO } else { USUAL_GRACE };
    let pruned = if !repository.sweeps() {
        Pruned { dry_run: args.dry_run, forgotten, fenced: Vec::new(), plan: None, sweep: None }
    } else if args.dry_run {
        let plan = Some(repository.plan_sweep_with_grace(&options, grace).await?);
        Pruned { dry_run: true, forgotten, fenced: Vec::new(), plan, sweep: None }
    } else {
        let fenced = repository.fence_stale().await?;
        let sweep = Some(repository.sweep_with_grace(&options, grace).await?);
        Pruned { dry_run: false, forgotten, fenced, plan: None, sweep }
    };
    let unreadable = match (&pruned.plan, &pruned.sweep) {
        (Some(plan), _) => plan.unreadable.clone(),
        (_, Some(sweep)) => sweep.unreadable.clone(),
        _ => std::collections::BTreeMap::new(),
    };
    let grace_keeps = !pruned.forgotten.is_empty() && !args.at_once;
    console.result(&pruned, |text| {
        let mut table =
            Table::new([if pruned.dry_run { "WOULD FORGET" } else { "FORGOTTEN" }, "VOLUME", "TAKEN"]);
        for point in &pruned.forgotten {
            let taken = strongroom_console::local(point.taken_at, console.time_zone());
            table.row([point.point.to_string(), point.volume.to_string(), taken]);
        }
        if !table.is_empty() {
            text.table(&table).gap();
        }
        if let Some(plan) = &pruned.plan {
            let delete: u64 = plan.delete.values().sum();
            let rewrite: u64 = plan.rewrite.values().sum();
            text.line(format_args!("would delete {} objects ({})", plan.delete.len(), Size(delete)));
            text.line(format_args!("would rewrite {} packs (frees {})", plan.rewrite.len(), Size(rewrite)));
            if let Some(record) = plan.pending {
                text.line(format_args!("the sweep planned by record {record} comes first"));
            }
            waits(text, &plan.waits_for);
        }
        for session in &pruned.fenced {
            text.line(format_args!("shut out session {session}: it gave no sign of life for a day"));
        }
        if let Some(sweep) = &pruned.sweep {
            let (objects, freed) = (sweep.deleted_objects, Size(sweep.freed_bytes));
            text.line(format_args!(
                "deleted {objects} objects, rewrote {} packs, freed {freed}",
                sweep.rewritten_packs
            ));
            if sweep.retained_objects > 0 {
                text.line(format_args!(
                    "{} objects are kept by a retention lock of the store",
                    sweep.retained_objects
                ));
            }
            if sweep.no_delete_right {
                text.line("These credentials may not delete: what was planned waits for a prune by somebody who may.");
            }
            for (pack, why) in &sweep.not_rewritten {
                text.line(format_args!(
                    "{pack} could not be rewritten ({why}): run `strongroom repository check`"
                ));
            }
            waits(text, &sweep.waits_for);
        }
        if !repository.sweeps() {
            text.line("This is a key of a domain: what is not needed any more is freed by the operator's next sweep.");
        } else if grace_keeps {
            text.line("What the points above need besides is freed a day after they were forgotten (--at-once: now).");
        }
        for (point, why) in &unreadable {
            text.line(format_args!(
                "{point} cannot be read ({why}), so all that it may need stays: run `strongroom repository check`, or \
                 forget the point"
            ));
        }
    });
    Ok(if unreadable.is_empty() { Exit::Done } else { Exit::Damaged })
}

fn waits(text: &mut strongroom_console::Text<'_>, sessions: &std::collections::BTreeSet<u64>) {
    if !sessions.is_empty() {
        let names: Vec<String> = sessions.iter().map(u64::to_string).collect();
        text.line(format_args!(
            "The rest waits for backups that are under way (sessions {}); the next prune goes on.",
            names.join(", ")
        ));
    }
}
