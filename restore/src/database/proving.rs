//! Restore tests: a database brought back for the sake of proving that it can be.
//!
//! The way is that of a restore beside the live database, up to the server that waits, read-only, where it was to stop. There it is
//! held against the commit index, answers the questions of the settings, and is checked by the engine's own means. Then
//! all of it goes: the volume, the mount, the server and the folder, also when something failed; and what a killed
//! test could not take away is taken away by the next one.
//!
//! What a test says is one of three: *proven*; *not proven*, with the reason; or nothing at all, where it could not be
//! carried out for now (the store does not answer, it was interrupted): then the command fails, and is tried again.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use strongroom_archive::ArchiveError;
use strongroom_console::Failed;
use strongroom_database::{Base, Plan, Rates, Refusal, StandsOn, Target, Wanted, windows};
use strongroom_model::{LogId, Remedy};
use tokio_util::sync::CancellationToken;

use super::RecoveryError;
use super::answer::told;
use super::beside::Beside;
use super::copy::{Asking, DatabaseCopy};
use crate::driver::Driver;

mod error;
mod moment;
mod proof;
mod scratch;

pub use error::ProvingError;
pub use proof::{Proof, Unproven};
pub(super) use scratch::Scratch;

/// A time of which the database's clock knows several is drawn again so often.
const DRAWS: usize = 8;

/// Which state is brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Aim {
    /// A random one of the newest window.
    Window,
    /// A random one since the newest base was ready: what proves this base.
    NewestBase,
    /// This one.
    At(Timestamp),
    /// The newest.
    Latest,
}

/// A restore test.
pub(super) struct Proving {
    /// The restore, into a volume of [`Scratch`].
    pub(super) beside: Beside,
    /// The newest log of the database.
    pub(super) log: LogId,
    pub(super) aim: Aim,
    pub(super) asking: Asking,
    /// What the restored database is asked. Each must hold.
    pub(super) sql: Vec<String>,
    /// Nothing of it may take longer.
    pub(super) time_limit: Duration,
}

impl Proving {
    /// Carries the test out. Whatever comes of it, nothing of it is left.
    ///
    /// # Errors
    /// When it could not be carried out for now.
    pub(super) async fn run(
        &self,
        scratch: Scratch,
        driver: &Driver,
        interrupted: &CancellationToken,
    ) -> Result<Proof, Failed> {
        let began = Instant::now();
        let mut proof = Proof::of(&self.beside, self.log, self.beside.world.clock.now());
        let stop = interrupted.child_token();
        let limit = async {
            tokio::time::sleep(self.time_limit).await;
            stop.cancel();
            // What goes on ends by the token, and says so.
            std::future::pending::<()>().await;
        };
        let tried = tokio::select! {
            tried = self.try_it(&scratch, driver, &stop, &mut proof) => tried,
            () = limit => Err(RecoveryError::Ending.into()),
        };
        let cleared = Instant::now();
        let removed = scratch.remove(driver).await;
        proof.step("clean-up", cleared);
        proof.steps.insert("total", millis(began));
        let failed = match tried {
            Ok(()) => None,
            Err(_) if interrupted.is_cancelled() => return Err(RecoveryError::Ending.into()),
            Err(_) if stop.is_cancelled() => {
                Some(ProvingError::Slow { seconds: self.time_limit.as_secs() }.into())
            }
            Err(failed) => Some(failed),
        };
        if let Err(left) = removed {
            // That says nothing of the database, and the next test comes past here.
            self.beside
                .console
                .warn(format!("what the restore test left is removed by the next one: {left}"));
        }
        match failed {
            None => proof.proven = true,
            Some(failed) if passes(&failed) => return Err(failed),
            Some(failed) => proof.failure = Some(Unproven::of(&failed)),
        }
        Ok(proof)
    }

    async fn try_it(
        &self,
        scratch: &Scratch,
        driver: &Driver,
        stop: &CancellationToken,
        proof: &mut Proof,
    ) -> Result<(), Failed> {
        let began = Instant::now();
        let beside = &self.beside;
        let plan = self.plan(proof).await?;
        let (mounted, server) = (scratch.mounted(), scratch.folder().join("server"));
        let mut copy = beside.copy(mounted.clone(), server, self.asking.clone(), stop.clone())?;
        copy.fits(&plan)?;
        proof.planned(&plan, &beside.repository.known_fold());
        let since = proof.step("plan", began);
        or_stop(stop, beside.bring_base(&plan)).await?;
        let since = proof.step("base", since);
        driver.mount(&beside.target, &mounted).await?;
        let preparing = async {
            copy.take_up(&plan).await?;
            copy.fetch(&plan).await
        };
        or_stop(stop, preparing).await?;
        let since = proof.step("log", since);
        let tried = self.hold_against(&mut *copy, &plan, began, since, proof).await;
        // In any case: what runs keeps the volume.
        let ended = copy.end().await;
        tried?;
        ended
    }

    async fn hold_against(
        &self,
        copy: &mut dyn DatabaseCopy,
        plan: &Plan,
        began: Instant,
        since: Instant,
        proof: &mut Proof,
    ) -> Result<(), Failed> {
        proof.stopped_at = copy.go_to(plan).await?;
        // From here on people could work with it.
        proof.rto_ms = Some(millis(began));
        let since = proof.step("replay", since);
        // Held against the index before anybody else asks anything: a question may do more than ask.
        let seen = copy.compare(plan).await?;
        (proof.replayed_to, proof.last_replayed_at) = (Some(seen.replayed_to), seen.last_at);
        proof.checks.push(seen.said);
        let since = proof.step("compare", since);
        for sql in &self.sql {
            let answer = copy.ask(sql).await.map_err(ProvingError::asking)?;
            if !answer.holds() {
                return Err(ProvingError::Assertion { sql: told(sql), answer: answer.told() }.into());
            }
            proof.checks.push(format!("it holds: {}", told(sql)));
        }
        let since = proof.step("sql", since);
        proof.checks.extend(copy.check().await?);
        proof.step("check", since);
        Ok(())
    }

    /// What is to be restored, and how.
    async fn plan(&self, proof: &mut Proof) -> Result<Plan, Failed> {
        let archive = &self.beside.archive;
        let catalogue = archive.catalogue();
        let newest = catalogue.lineages.newest().map(|lineage| lineage.id);
        let window = newest.and_then(|lineage| windows(catalogue, lineage).pop());
        let mut draws = 0;
        loop {
            let drawn = |from: Option<Timestamp>| {
                // A window that is not there is the planner's to refuse: it says what is there.
                let window = window.as_ref()?;
                let from = from.map_or(window.earliest.at, |from| from.max(window.earliest.at));
                Some(Target::Time(moment::between(from, window.latest.at, &*self.beside.world.entropy)))
            };
            let target = match &self.aim {
                Aim::At(at) => Target::Time(*at),
                Aim::Latest => Target::Latest,
                Aim::Window if draws < DRAWS => drawn(None).unwrap_or(Target::Latest),
                Aim::NewestBase if draws < DRAWS => {
                    let ready = catalogue.bases.iter().map(|base: &Base| base.ready_at).max();
                    drawn(ready).unwrap_or(Target::Latest)
                }
                Aim::Window | Aim::NewestBase => Target::Latest,
            };
            let is_drawn = matches!(self.aim, Aim::Window | Aim::NewestBase) && target != Target::Latest;
            proof.wanted_at = match &target {
                Target::Time(at) => Some(*at),
                _ => None,
            };
            match archive.plan(Wanted::new(target), Rates::default()).await {
                Ok(plan) => {
                    // The engine's own snapshots are restored by the driver alone, and prove nothing of the bucket.
                    let StandsOn::Point(_) = plan.base.stands_on else {
                        return Err(RecoveryError::NotAPoint.into());
                    };
                    return Ok(plan);
                }
                Err(ArchiveError::Refused(refusal))
                    if is_drawn && matches!(*refusal, Refusal::TimeIsAmbiguous { .. }) =>
                {
                    draws += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The work, unless it is stopped.
pub(super) async fn or_stop<T, E: Into<Failed>>(
    stop: &CancellationToken,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, Failed> {
    tokio::select! {
        done = work => done.map_err(Into::into),
        () = stop.cancelled() => Err(RecoveryError::Ending.into()),
    }
}

/// What passes by itself says nothing about the database.
fn passes(failed: &Failed) -> bool {
    matches!(failed.failure().remedy(), Remedy::Retry | Remedy::Wait | Remedy::Fenced)
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
