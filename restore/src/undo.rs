//! Takes a restore in place back: the content that it replaced lies in a safety snapshot at the driver.
//!
//! Undo is a restore in place itself: the present content is kept in a safety snapshot of its own, so that an undo can
//! be undone. Nothing is fetched, and no repository is needed.

use jiff::tz::TimeZone;
use strongroom_console::{Failed, Text, local_and_utc};
use strongroom_model::{RunId, VolumeName, World};
use strongroom_proto::control::{BeginRestoreRequest, Snapshot, VolumeState};

use crate::driver::{Driver, Labels, RESTORES, RUN, UNDOES, fs_of_word, fs_word, safety_label};
use crate::plan::aligned;
use crate::refusal::Refusal;
use crate::report::Swapped;
use crate::restore::exchange;

/// What an undo will do.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct UndoPlan {
    /// The name of this run: it can be undone, too.
    pub run: RunId,
    /// The run that is taken back.
    pub undoes: RunId,
    /// The volume.
    pub volume: String,
    /// The driver's id of it.
    pub volume_id: String,
    /// The snapshot with the content from before that run.
    pub snapshot: String,
    /// When that content was replaced.
    pub taken_at: Option<jiff::Timestamp>,
    /// The size of the volume.
    pub bytes: u64,
    /// The label of the snapshot that keeps the present content.
    pub safety_label: String,
    /// The command that takes the undo back.
    pub undo: String,
    /// Unmount and mount again what was mounted by hand.
    pub remount: bool,
    fs: String,
}

/// What an undo did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Undone {
    /// The plan that was carried out.
    #[serde(flatten)]
    pub plan: UndoPlan,
    /// What is left.
    pub swapped: Swapped,
}

impl UndoPlan {
    /// Finds the run's safety snapshot and looks at the volume. Changes nothing.
    pub(crate) async fn make(
        driver: &Driver,
        run: &str,
        remount: bool,
        world: &World,
    ) -> Result<Self, Failed> {
        let snapshots = driver.snapshots(None).await?;
        let snapshot = find(&snapshots, run)?;
        let undoes =
            run_of(snapshot).ok_or_else(|| Refusal::DriverAnswer { what: snapshot.label.clone() })?;
        let named: VolumeName = snapshot
            .volume_name
            .parse()
            .map_err(|_| Refusal::DriverAnswer { what: snapshot.volume_name.clone() })?;
        let volume = driver.volume_with_id(&snapshot.volume_id).await?;
        let volume = volume.ok_or(Refusal::NoSuchVolume { name: named })?;
        // A killed undo goes on under its own name.
        let staged = driver.volumes(&[(RESTORES, &volume.id), (UNDOES, &undoes.to_string())]).await?;
        let begun = staged
            .iter()
            .filter(|staged| staged.state() == VolumeState::Hydrating)
            .find_map(|staged| staged.labels.get(RUN)?.parse().ok());
        let own = begun.unwrap_or_else(|| RunId::random(&*world.entropy));
        Ok(Self {
            run: own,
            undoes,
            volume: volume.name,
            volume_id: volume.id,
            snapshot: snapshot.id.clone(),
            taken_at: snapshot.created_at.and_then(|at| jiff::Timestamp::new(at.seconds, at.nanos).ok()),
            bytes: volume.bytes,
            safety_label: safety_label(own),
            undo: format!("strongroom restore undo {own}"),
            remount,
            fs: fs_word(volume.fs).to_owned(),
        })
    }

    /// Exchanges the content.
    pub(crate) async fn execute(self, driver: &Driver) -> Result<Undone, Failed> {
        let labels = Labels::from([
            (RUN.to_owned(), self.run.to_string()),
            (RESTORES.to_owned(), self.volume_id.clone()),
            (UNDOES.to_owned(), self.undoes.to_string()),
        ]);
        let name = self.run.to_string();
        let fs = fs_of_word(&self.fs);
        let begun = driver
            .begin_restore(BeginRestoreRequest {
                name,
                fs: fs.into(),
                bytes: self.bytes,
                labels: labels.into_iter().collect(),
                from_snapshot_id: self.snapshot.clone(),
                ..BeginRestoreRequest::default()
            })
            .await?;
        let labels = Labels::from([
            (RUN.to_owned(), self.run.to_string()),
            (UNDOES.to_owned(), self.undoes.to_string()),
        ]);
        let swapped =
            exchange(driver, &self.volume_id, &begun.volume_id, self.run, labels, self.remount).await?;
        Ok(Undone { plan: self, swapped })
    }

    /// The plan as a person reads it before saying yes.
    #[must_use]
    pub fn text(&self, zone: &TimeZone) -> String {
        let before = self.taken_at.map(|at| format!(" of {}", local_and_utc(at, zone))).unwrap_or_default();
        let facts = [
            ("run", self.run.to_string()),
            ("takes back", self.undoes.to_string()),
            ("volume", format!("{} ({})", self.volume, self.volume_id)),
            ("brings back", format!("the content before it{before}, kept in {}", self.snapshot)),
            ("keeps", format!("the present content as safety snapshot {}", self.safety_label)),
            ("undo", self.undo.clone()),
        ];
        aligned(&facts).join("\n")
    }
}

impl Undone {
    /// Writes what was done on a page.
    pub fn write(&self, page: &mut Text) {
        let mut facts = vec![
            ("undone", self.plan.undoes.to_string()),
            ("volume", format!("{} ({})", self.plan.volume, self.plan.volume_id)),
            (
                "before",
                format!("kept as snapshot {} ({})", self.swapped.safety_snapshot, self.swapped.safety_label),
            ),
            ("undo", self.swapped.undo.clone()),
        ];
        facts.extend(self.swapped.remounted.iter().map(|path| ("mounted again", path.clone())));
        facts.extend(self.swapped.not_remounted.iter().map(|path| ("NOT MOUNTED", path.clone())));
        page.facts(facts);
    }
}

fn run_of(snapshot: &Snapshot) -> Option<RunId> {
    snapshot.labels.get(RUN)?.parse().ok()
}

/// The safety snapshot of the run whose name begins like `text`.
fn find<'a>(snapshots: &'a [Snapshot], text: &str) -> Result<&'a Snapshot, Refusal> {
    let digits = text.strip_prefix(RunId::PREFIX).unwrap_or(text);
    // Only safety snapshots: a run's base snapshot carries its label as well.
    let safety =
        |snapshot: &&Snapshot| run_of(snapshot).is_some_and(|run| snapshot.label == safety_label(run));
    let fits = |snapshot: &&Snapshot| {
        !digits.is_empty() && run_of(snapshot).is_some_and(|run| run.hex().starts_with(digits))
    };
    let found: Vec<&Snapshot> = snapshots.iter().filter(safety).filter(fits).collect();
    match found[..] {
        [only] => Ok(only),
        [] => Err(Refusal::NoSuchRun {
            text: text.chars().take(64).collect(),
            known: snapshots
                .iter()
                .filter(safety)
                .rev()
                .filter_map(run_of)
                .take(5)
                .map(|run| run.to_string())
                .collect(),
        }),
        _ => Err(Refusal::AmbiguousRun { text: text.chars().take(64).collect(), count: found.len() }),
    }
}

#[cfg(test)]
mod tests {
    use strongroom_model::Failure as _;

    use super::*;

    fn snapshot(run: RunId, label: String) -> Snapshot {
        Snapshot { label, labels: [(RUN.to_owned(), run.to_string())].into(), ..Snapshot::default() }
    }

    #[test]
    fn a_run_is_found_by_its_name_or_the_beginning_of_it_and_only_by_its_safety_snapshot() {
        let runs = [RunId::from_bytes([0xa1; 16]), RunId::from_bytes([0xa2; 16])];
        let mut snapshots: Vec<Snapshot> = runs.iter().map(|&run| snapshot(run, safety_label(run))).collect();
        snapshots.push(snapshot(runs[0], format!("base-{}", runs[0])));
        snapshots.push(Snapshot::default());
        for text in ["a1", "run-a1", &runs[0].to_string()] {
            assert_eq!(run_of(find(&snapshots, text).unwrap()), Some(runs[0]));
        }
        assert!(matches!(find(&snapshots, "a"), Err(Refusal::AmbiguousRun { count: 2, .. })));
        for text in ["", "b", "run-"] {
            let refused = find(&snapshots, text).unwrap_err();
            assert!(refused.advice().contains(&runs[1].to_string()), "{refused}");
        }
    }
}
