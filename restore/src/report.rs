//! What a restore came to.

use strongroom_console::{Console, Exit, Size, Text};
use strongroom_model::{RecoveryPointId, RunId, VolumeName};

use crate::hydrate::Hydrated;
use crate::plan::{RestorePlan, Target};
use crate::verify::Verified;

/// The result of `restore run`.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Report {
    /// The run.
    pub run: RunId,
    /// The point.
    pub point: RecoveryPointId,
    /// Whose content.
    pub volume: VolumeName,
    /// Where to.
    pub target: Target,
    /// The same in a few words.
    pub target_text: String,
    /// What was done.
    pub hydrated: Hydrated,
    /// Bytes that needed nothing: there already, or done by an earlier run.
    pub present_bytes: u64,
    /// What was read back.
    pub verified: Option<Verified>,
    /// The exchange, for a restore in place.
    pub swapped: Option<Swapped>,
}

/// What an exchange of content left.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Swapped {
    /// The snapshot with the content from before.
    pub safety_snapshot: String,
    /// Its label.
    pub safety_label: String,
    /// Where the volume was mounted again.
    pub remounted: Vec<String>,
    /// Where it could not be mounted again, and why.
    pub not_remounted: Vec<String>,
    /// The command that takes the exchange back.
    pub undo: String,
}

impl Report {
    pub(crate) fn new(plan: &RestorePlan, hydrated: Hydrated, verified: Option<Verified>) -> Self {
        Self {
            run: plan.run,
            point: plan.point.id,
            volume: plan.point.volume.clone(),
            target: plan.target.clone(),
            target_text: plan.target.describe(),
            hydrated,
            present_bytes: plan.totals.present_bytes + plan.totals.done_bytes,
            verified,
            swapped: None,
        }
    }

    /// 3 when something is lost: the target is not what the volume was.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.hydrated.lost.is_empty() { Exit::Done } else { Exit::Damaged }
    }

    /// Says it.
    pub fn say(&self, console: &Console) {
        console.result(self, |page| self.write(page));
    }

    fn write(&self, page: &mut Text) {
        let size = |bytes: u64| Size(bytes).to_string();
        let done = &self.hydrated;
        let mut facts = vec![
            ("restored", format!("{} of {} to {}", self.point, self.volume, self.target_text)),
            ("run", self.run.to_string()),
            (
                "written",
                format!(
                    "{} ({} fetched in {} requests)",
                    size(done.written_bytes),
                    size(done.fetched_bytes),
                    done.requests
                ),
            ),
        ];
        for (name, bytes) in [
            ("there already", self.present_bytes),
            ("copied", done.copied_bytes),
            ("made zero", done.zeroed_bytes),
        ] {
            if bytes > 0 {
                facts.push((name, size(bytes)));
            }
        }
        if let Some(verified) = &self.verified {
            facts.push(("verified", format!("{} read back and right", size(verified.right_bytes))));
        }
        if let Some(swapped) = &self.swapped {
            facts.push((
                "before",
                format!("kept as snapshot {} ({})", swapped.safety_snapshot, swapped.safety_label),
            ));
            facts.push(("undo", swapped.undo.clone()));
            facts.extend(swapped.remounted.iter().map(|path| ("mounted again", path.clone())));
            facts.extend(swapped.not_remounted.iter().map(|path| ("NOT MOUNTED", path.clone())));
        }
        page.facts(facts);
        for lost in &done.lost {
            page.line(format!("lost: bytes {}..{}: {}", lost.start, lost.end, lost.why));
        }
    }
}
